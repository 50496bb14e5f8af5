/* Class shares: the estimate against numpy (tests/reference/shares_reference.py), what it makes of
 * few, many and degenerate rows, and re-weighting. */
#include "base/random.h"
#include "likelihood/shares.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 8 };

static double *numbers(const json_t *list, size_t *n) {
    *n = json_array_size(list);
    double *out = calloc(*n + 1, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < *n; i++)
        out[i] = json_number_value(json_array_get(list, i)); /* null: 0 */
    return out;
}

static void reference(void **state) {
    json_t *cases = load_json(fixture("likelihood/shares.json")), *one, *row;
    double worst = 0, worst_error = 0;
    size_t i, k, n, absent = 0;
    (void)state;
    json_array_foreach(cases, i, one) {
        la_error err = {0};
        la_class_shares s;
        double *rows = numbers(json_object_get(one, "rows"), &n);
        json_t *told = json_object_get(one, "answers");
        double *answers = json_is_array(told) ? numbers(told, &n) : NULL;
        double *means = numbers(json_object_get(one, "means"), &n);
        double *shares = numbers(json_object_get(one, "shares"), &n);
        double *errors = numbers(json_object_get(one, "errors"), &n);
        la_share_rows all = la_share_rows_of((int64_t)n);
        assert_int_equal(la_class_shares_open((int64_t)n, rows, means, answers, "p", &s, &err),
                         LA_OK);
        json_array_foreach(json_object_get(one, "probs"), k, row) {
            double *p = numbers(row, &n);
            assert_int_equal(la_share_rows_add(&all, p, &err), LA_OK);
            free(p);
        }
        assert_int_equal(la_class_shares_estimate(&s, &all, &err), LA_OK);
        assert_true(s.is_set && s.is_estimate && s.n_rows == all.seen);
        for (size_t c = 0; c < n; c++) {
            worst = fmax(worst, fabs(s.shares[c] - shares[c]));
            absent += rows[c] == 0;
            if (rows[c] > 0)
                worst_error = fmax(worst_error, fabs(s.errors[c] - errors[c]));
            else
                assert_true(isnan(s.errors[c]) && s.shares[c] == 0 && s.ratio[c] > 0);
        }
        la_class_shares_free(&s);
        la_share_rows_free(&all);
        free(rows), free(means), free(answers), free(shares), free(errors);
    }
    json_decref(cases);
    assert_int_equal(absent, 2);
    check_within("share", worst, 1e-6);
    check_within("standard error", worst_error, 1e-6);
}

static la_class_shares open_equal(int64_t classes) {
    double rows[MOST];
    la_class_shares s;
    la_error err = {0};
    for (int c = 0; c < MOST; c++)
        rows[c] = 5;
    assert_int_equal(la_class_shares_open(classes, rows, NULL, NULL, "p", &s, &err), LA_OK);
    return s;
}

/* Estimate from n rows, each one of the classes with that probability, by turns of a list. */
static la_class_shares estimate(int64_t classes, int64_t n, double sure, const int *turns,
                                int n_turns) {
    la_class_shares s = open_equal(classes);
    la_share_rows rows = la_share_rows_of(classes);
    la_error err = {0};
    for (int64_t i = 0; i < n; i++) {
        double p[MOST];
        for (int c = 0; c < classes; c++)
            p[c] = c == turns[i % n_turns] ? sure : (1 - sure) / (double)(classes - 1);
        assert_int_equal(la_share_rows_add(&rows, p, &err), LA_OK);
    }
    assert_int_equal(la_class_shares_estimate(&s, &rows, &err), LA_OK);
    la_share_rows_free(&rows);
    return s;
}

static void few_and_many(void **state) {
    static const int one[] = {0}, both[] = {0, 1}, most[] = {0, 0, 0, 1};
    (void)state;
    /* one row, however sure, moves little; none moves nothing */
    la_class_shares s = estimate(2, 1, 1, one, 1);
    assert_true(s.shares[0] > 0.5 && s.shares[0] < 0.55);
    assert_true(s.errors[0] > 0.02);
    la_class_shares_free(&s);
    s = estimate(3, 0, 1, one, 1);
    for (int c = 0; c < 3; c++)
        assert_true(fabs(s.shares[c] - 1.0 / 3) < 1e-12 && fabs(s.ratio[c] - 1) < 1e-12);
    la_class_shares_free(&s);
    /* shares that stayed are found exactly, those that moved nearly */
    s = estimate(2, 1000, 0.9, both, 2);
    assert_true(fabs(s.shares[0] - 0.5) < 1e-6);
    assert_true(s.errors[0] < 0.1);
    la_class_shares_free(&s);
    s = estimate(2, 1000, 1, most, 4);
    assert_true(s.shares[0] > 0.53 && s.shares[0] < 0.75);
    assert_true(s.errors[0] > 0.05 && s.errors[0] < 0.12);
    la_class_shares_free(&s);
    /* the same rows many times over: every second, fourth, .. says the same */
    s = estimate(2, 700001, 1, most, 4);
    assert_true(s.n_rows == 700001);
    la_class_shares_free(&s);
    /* rows of one class alone, without doubt: the others stay possible */
    s = estimate(6, 500, 1, one, 1);
    for (int c = 1; c < 6; c++)
        assert_true(s.shares[c] > 0 && s.ratio[c] > 0 && isfinite(s.errors[c]));
    assert_true(s.shares[0] > 0.75);
    la_class_shares_free(&s);
}

/* Rows of which nothing is known say nothing. */
static void uninformed(void **state) {
    static const int turns[] = {0};
    (void)state;
    la_class_shares s = estimate(4, 300, 0.25, turns, 1);
    for (int c = 0; c < 4; c++)
        assert_true(fabs(s.shares[c] - 0.25) < 1e-9);
    la_class_shares_free(&s);
}

/* More classes than have standard errors, and one class alone. */
static void many_classes(void **state) {
    enum { CLASSES = 300 };
    double *rows = calloc(CLASSES, sizeof *rows), *p = calloc(CLASSES, sizeof *p), sum = 0;
    la_error err = {0};
    la_class_shares s;
    la_share_rows all = la_share_rows_of(CLASSES);
    (void)state;
    for (int c = 0; c < CLASSES; c++)
        rows[c] = 1 + c % 5;
    assert_int_equal(la_class_shares_open(CLASSES, rows, NULL, NULL, "p", &s, &err), LA_OK);
    for (int i = 0; i < 400; i++) {
        memset(p, 0, CLASSES * sizeof *p);
        p[i % 20] = 1;
        assert_int_equal(la_share_rows_add(&all, p, &err), LA_OK);
    }
    assert_int_equal(la_class_shares_estimate(&s, &all, &err), LA_OK);
    for (int c = 0; c < CLASSES; c++) {
        sum += s.shares[c];
        assert_true(s.shares[c] > 0 && isnan(s.errors[c]));
        assert_true((s.shares[c] > s.training[c]) == (c < 20));
    }
    assert_true(fabs(sum - 1) < 1e-9);
    la_class_shares_free(&s);
    la_share_rows_free(&all);
    all = la_share_rows_of(CLASSES);
    memset(rows, 0, CLASSES * sizeof *rows);
    rows[7] = 3;
    assert_int_equal(la_class_shares_open(CLASSES, rows, NULL, NULL, "p", &s, &err), LA_OK);
    assert_int_equal(la_share_rows_add(&all, p, &err), LA_OK);
    assert_int_equal(la_class_shares_estimate(&s, &all, &err), LA_OK);
    assert_true(s.shares[7] == 1);
    la_class_shares_apply(&s, p);
    for (int c = 0; c < CLASSES; c++)
        assert_true(p[c] >= 0 && p[c] <= 1);
    la_class_shares_free(&s);
    la_share_rows_free(&all);
    free(rows);
    free(p);
}

static void applies(void **state) {
    double p[3] = {0, 1, 0}, tiny[3] = {1e-320, 0, 1};
    static const double rows[3] = {1e-300, 1e300, 1e300}, wide[3] = {0, 0.5, 0.5};
    la_error err = {0};
    la_class_shares s;
    (void)state;
    /* what is sure of a class that never occurs: nothing is known but the shares */
    assert_int_equal(la_class_shares_open(3, (const double[3]){1, 0, 1}, NULL, NULL, "p", &s, &err),
                     LA_OK);
    assert_int_equal(la_class_shares_set(&s, "shares", (const double[3]){0.25, 0, 0.75}, 3, &err),
                     LA_OK);
    la_class_shares_apply(&s, p);
    assert_true(p[0] == 0.25 && p[1] == 0 && p[2] == 0.75);
    la_class_shares_free(&s);
    /* counts that no file of laplora has */
    assert_int_equal(la_class_shares_open(3, rows, NULL, NULL, "p", &s, &err), LA_OK);
    assert_int_equal(la_class_shares_set(&s, "shares", wide, 3, &err), LA_OK);
    la_class_shares_apply(&s, tiny);
    assert_true(tiny[0] == 0 && tiny[2] == 1);
    la_class_shares_free(&s);
    assert_int_equal(la_class_shares_open(3, wide, (const double[3]){1, 0, 0}, NULL, "p", &s, &err),
                     LA_BAD_INPUT);
    la_class_shares_free(&s);
}

/* Random worlds whose probabilities are right: estimates are nearer to the shares than training's
 * where those have moved, and as good where they have not. */
static void simulation(void **state) {
    enum { CLASSES = 3, WORLDS = 60, ROWS = 200 };
    double gain = 0, harm = 0;
    (void)state;
    for (int w = 0; w < WORLDS; w++) {
        bool moved = w % 2;
        double truth[CLASSES] = {1.0 / 3, 1.0 / 3, 1.0 / 3}, before = 0, after = 0;
        double z[CLASSES * ROWS];
        la_class_shares s = open_equal(CLASSES);
        la_share_rows rows = la_share_rows_of(CLASSES);
        la_error err = {0};
        if (moved)
            truth[w % 3] = 0.7, truth[(w + 1) % 3] = truth[(w + 2) % 3] = 0.15;
        la_random_normal(11, (uint64_t)w, 0, CLASSES * ROWS, z);
        for (int i = 0; i < ROWS; i++) {
            double at = la_random_uniform(12, (uint64_t)w, (uint64_t)i), p[CLASSES], sum = 0;
            int y = at < truth[0] ? 0 : at < truth[0] + truth[1] ? 1 : 2;
            /* x ~ N(1.5 e_y, I): log p(x | c) = 1.5 x_c + const */
            for (int c = 0; c < CLASSES; c++)
                sum += p[c] = exp(1.5 * (z[i * CLASSES + c] + 1.5 * (c == y)));
            for (int c = 0; c < CLASSES; c++)
                p[c] /= sum;
            assert_int_equal(la_share_rows_add(&rows, p, &err), LA_OK);
        }
        assert_int_equal(la_class_shares_estimate(&s, &rows, &err), LA_OK);
        for (int c = 0; c < CLASSES; c++) {
            before += fabs(truth[c] - s.training[c]);
            after += fabs(truth[c] - s.shares[c]);
            assert_true(s.errors[c] > 0 && s.errors[c] < 0.2);
        }
        if (moved)
            gain += (before - after) / (WORLDS / 2);
        else
            harm += (after - before) / (WORLDS / 2);
        la_class_shares_free(&s);
        la_share_rows_free(&rows);
    }
    check_within("distance where shares stayed", harm, 0.06);
    assert_true(gain > 0.1); /* of 0.733 */
}

/* The same worlds, whose probabilities are far too sure: what held-out rows are answered mends it.
 * Returns the mean distance of the estimate from the true shares. */
static double overconfident(int64_t held, bool moved) {
    enum { CLASSES = 3, WORLDS = 30, ROWS = 300 };
    double distance = 0, z[CLASSES * ROWS];
    for (uint64_t w = 0; w < WORLDS; w++) {
        double answers[CLASSES * CLASSES] = {0}, means[CLASSES] = {0}, rows[] = {5, 5, 5};
        double truth[CLASSES] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
        la_class_shares s;
        la_share_rows all = la_share_rows_of(CLASSES);
        la_error err = {0};
        if (moved)
            truth[0] = 0.7, truth[1] = truth[2] = 0.15;
        for (uint64_t part = 0; part < 2; part++) { /* held out, and in use */
            la_random_normal(21 + part, w, 0, CLASSES * ROWS, z);
            for (int i = 0; i < (part ? ROWS : held); i++) {
                double at = la_random_uniform(23 + part, w, (uint64_t)i), p[CLASSES], sum = 0;
                int y = !part ? i % CLASSES : at < truth[0] ? 0 : at < truth[0] + truth[1] ? 1 : 2;
                for (int c = 0; c < CLASSES; c++)
                    sum += p[c] = exp(6 * (z[i * CLASSES + c] + 1.5 * (c == y)) + 2 * c);
                for (int c = 0; c < CLASSES; c++) {
                    p[c] /= sum;
                    answers[y * CLASSES + c] += part ? 0 : p[c];
                    means[c] += part ? 0 : p[c];
                }
                if (part)
                    assert_int_equal(la_share_rows_add(&all, p, &err), LA_OK);
            }
        }
        assert_int_equal(la_class_shares_open(CLASSES, rows, held ? means : NULL,
                                              held ? answers : NULL, "p", &s, &err),
                         LA_OK);
        assert_int_equal(la_class_shares_estimate(&s, &all, &err), LA_OK);
        for (int c = 0; c < CLASSES; c++)
            distance += fabs(truth[c] - s.shares[c]) / WORLDS;
        la_class_shares_free(&s);
        la_share_rows_free(&all);
    }
    return distance;
}

static void answered(void **state) {
    (void)state;
    check_within("distance where shares stayed, 300 held-out rows", overconfident(300, false),
                 0.05);
    check_within("likewise 12", overconfident(12, false), 0.05);
    /* of 0.733; the fewer rows have told, the nearer the estimate stays to training's shares */
    double many = overconfident(300, true), few = overconfident(12, true);
    check_within("distance where shares moved, 300 held-out rows", many, 0.4);
    assert_true(few > many + 0.2 && few < 0.733);
    assert_true(overconfident(0, true) > many + 0.1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),  cmocka_unit_test(few_and_many),
        cmocka_unit_test(uninformed), cmocka_unit_test(many_classes),
        cmocka_unit_test(applies),    cmocka_unit_test(simulation),
        cmocka_unit_test(answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
