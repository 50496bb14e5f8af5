/* predict --class-shares: rows re-weighted from the calibration rows' shares to others, what rows
 * and thresholds say of that, and what is refused. */
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"
#include "support/seal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK "predict --data @/test.jsonl --quiet --posterior @/"
#define RUN ASK "posterior "
/* the fixture has 6, 6 and 12 calibration rows of its classes */
static const double training[3] = {0.25, 0.25, 0.5};

static const char *open_fitted(void) {
    const char *folder = open_case("bert");
    case_sharpen(folder, "adapter", 20);
    fit_case(folder);
    return folder;
}

static json_t *rows_of(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code || *done.err)
        fail_msg("%s: exit %d: %s", line, done.code, done.err);
    write_file(in_case(folder, "rows"), done.out, strlen(done.out));
    command_free(&done);
    return load_lines(in_case(folder, "rows"));
}

static double entry(const json_t *row, const char *key, size_t c) {
    return json_number_value(json_array_get(json_object_get(row, key), c));
}

/* Rows are those without shares, times the ratio over the sum, and all else of them follows or is
 * as it was. */
static void check_rows(const json_t *plain, const json_t *moved, const double *shares) {
    static const char *const same[] = {
        "index",           "label", "map_probs", "variance", "mutual_information",
        "confidence_kind", "logits"};
    size_t i, changed = 0;
    json_t *row;
    double worst = 0;
    assert_int_equal(json_array_size(plain), json_array_size(moved));
    json_array_foreach(moved, i, row) {
        const json_t *before = json_array_get(plain, i);
        double q[3], sum = 0, entropy = 0;
        size_t top = 0;
        for (size_t c = 0; c < 3; c++)
            sum += q[c] = entry(before, "probs", c) * shares[c] / training[c];
        for (size_t c = 0; c < 3; c++) {
            double p = entry(row, "probs", c);
            worst = fmax(worst, fabs(p - q[c] / sum));
            entropy -= p > 0 ? p * log(p) : 0;
            top = p > entry(row, "probs", top) ? c : top;
        }
        assert_int_equal(number_at(row, "prediction"), top);
        assert_true(fabs(number_at(row, "confidence") - entry(row, "probs", top)) < 1e-9);
        assert_true(fabs(number_at(row, "entropy") - entropy) < 1e-6);
        changed += number_at(before, "prediction") != number_at(row, "prediction");
        for (size_t k = 0; k < sizeof same / sizeof *same; k++)
            assert_true(
                json_equal(json_object_get(before, same[k]), json_object_get(row, same[k])) ||
                !json_object_get(before, same[k]));
    }
    assert_true(changed > 0);
    check_within("probability", worst, 1e-8);
}

static void reweighs(void **state) {
    static const struct {
        const char *text;
        double shares[3];
    } cases[] = {{"0.05,0.9,0.05", {0.05, 0.9, 0.05}},
                 {"0.8005,0.1,0.1", {0.8005, 0.1, 0.1}}, /* rounded: divided by the sum */
                 {"1e-300,0.5,0.5", {1e-300, 0.5, 0.5}}};
    const char *folder = open_fitted();
    (void)state;
    for (int predictive = 0; predictive < 3; predictive++) {
        static const char *const by[] = {"", "--predictive map ", "--emit logits,cov "};
        char line[300];
        snprintf(line, sizeof line, RUN "%s", by[predictive]);
        json_t *plain = rows_of(folder, line);
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            snprintf(line, sizeof line, RUN "%s--class-shares %s", by[predictive], cases[k].text);
            json_t *moved = rows_of(folder, line);
            check_rows(plain, moved, cases[k].shares);
            json_decref(moved);
        }
        json_decref(plain);
    }
    /* training's own change nothing */
    json_t *plain = rows_of(folder, RUN), *moved = rows_of(folder, RUN "--class-shares .25,.25,.5");
    size_t i;
    json_t *row;
    json_array_foreach(moved, i, row) for (size_t c = 0; c < 3; c++) assert_true(
        fabs(entry(row, "probs", c) - entry(json_array_get(plain, i), "probs", c)) < 1e-9);
    json_decref(plain);
    json_decref(moved);
}

/* Tables, single rows, and one row at a time say the same. */
static void same_everywhere(void **state) {
    const char *folder = open_fitted();
    (void)state;
    command done = run_shell(
        folder,
        "r=\"$L predict --posterior $D/posterior --quiet --class-shares 0.1,0.2,0.7\"\n"
        "$r --data $D/test.jsonl >$D/a && $r --data - <$D/test.jsonl >$D/b && cmp $D/a $D/b &&\n"
        "$r --stdin <$D/test.jsonl >$D/c && $r --data $D/test.jsonl --batch-tokens 1 >$D/d &&\n"
        "cmp $D/c $D/d && $r --data $D/test.jsonl --format csv --keep label >$D/e");
    if (done.code)
        fail_msg("exit %d: %s%s", done.code, done.out, done.err);
    command_free(&done);
}

/* What a threshold promises is of rows with the shares of those that it was made from. */
static void thresholds(void **state) {
    const char *folder = open_fitted();
    static const char warning[] = "for other class shares";
    (void)state;
    for (int made = 0; made < 2; made++) {
        static const char *const lines[] = {RUN "--out @/p.jsonl",
                                            RUN "--out @/p.jsonl --class-shares 0.1,0.2,0.7"};
        command done = run_line(folder, lines[made], NULL);
        assert_int_equal(done.code, 0);
        command_free(&done);
        done = run_line(folder,
                        "threshold @/p.jsonl --target-error 0.9 --delta 0.5 --out @/t.json "
                        "--quiet",
                        NULL);
        assert_int_equal(done.code, 0);
        command_free(&done);
        static const char *const uses[] = {
            "predict --data @/test.jsonl --posterior @/posterior --threshold @/t.json",
            "predict --data @/test.jsonl --posterior @/posterior --threshold @/t.json "
            "--class-shares 0.1,0.2,0.7",
            "predict --data @/test.jsonl --posterior @/posterior --threshold @/t.json "
            "--class-shares 0.1,0.3,0.6"};
        for (int used = 0; used < 3; used++) {
            done = run_line(folder, uses[used], NULL);
            assert_int_equal(done.code, 0);
            assert_non_null(strstr(done.out, "\"action\":"));
            assert_true((strstr(done.err, warning) != NULL) == (used != made));
            command_free(&done);
        }
    }
}

static void refused(void **state) {
    static const struct {
        const char *shares, *piece;
    } cases[] = {{"0.5,0.5", "2 shares, expected 3"},
                 {"0.25,0.25,0.25,0.25", "4 shares, expected 3"},
                 {"0.5,0.5,0", "class 2 has share 0"},
                 {"0.5,0.6,-0.1", "class 2 has share -0.1"},
                 {"0.5,0.6,0.1", "sum to 1.2"},
                 {"0.3,0.3,0.3", "sum to 0.9"},
                 {"nan,0.5,0.5", "\"nan\" is no number"},
                 {"inf,0.5,0.5", "\"inf\" is no number"},
                 {"1e300,0.5,0.5", "class 0 has share 1e+300"},
                 {"0.5,,0.5", "--class-shares"},
                 {"a,b,c", "\"a\" is no number"},
                 {"0x1p-1,0.25,0.25", "is no number"},
                 {",", "--class-shares"}};
    const char *folder = open_fitted();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[300];
        snprintf(line, sizeof line, RUN "--out @/out --class-shares %s", cases[i].shares);
        command done = run_line(folder, line, NULL);
        check_message(&done, 2, (const char *const[]){"--class-shares", cases[i].piece}, 2);
        check_nothing_written(folder);
        command_free(&done);
    }
}

/* A class without calibration rows has no share but 0, and then no probability. */
static void absent_class(void **state) {
    const char *folder = open_fitted();
    (void)state;
    la_posterior p = case_load(folder, "posterior");
    assert_non_null(p.class_rows);
    for (int c = 0; c < 3; c++)
        assert_true(p.class_rows[c] == 24 * training[c]);
    p.class_rows[0] = 0;
    case_save(&p, folder, "lacking");
    la_posterior_free(&p);
    command done = run_line(folder, ASK "lacking --class-shares 0.1,0.5,0.4", NULL);
    check_message(&done, 2, (const char *const[]){"class 0", "no calibration row"}, 2);
    command_free(&done);
    json_t *rows = rows_of(folder, ASK "lacking --class-shares 0,0.5,0.5"), *row;
    size_t i;
    json_array_foreach(rows, i, row) assert_true(entry(row, "probs", 0) == 0);
    json_decref(rows);
}

static void older_file(void **state) {
    const char *folder = open_fitted();
    la_error err = {0};
    (void)state;
    la_posterior p = case_load(folder, "posterior");
    p.class_rows = NULL;
    case_save(&p, folder, "older");
    la_posterior_free(&p);
    hid_t file = H5Fopen(in_case(folder, "older"), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Lexists(file, "class_rows", H5P_DEFAULT) == 0);
    set_count(file, "schema_minor", 6);
    H5Fclose(file);
    assert_int_equal(seal_file(in_case(folder, "older"), &err), LA_OK);
    json_decref(rows_of(folder, ASK "older"));
    command done = run_line(folder, ASK "older --class-shares 0.5,0.2,0.3", NULL);
    check_message(&done, 2, (const char *const[]){"older", "does not hold", "fit again"}, 3);
    command_free(&done);
    /* rows of no class at all */
    p = case_load(folder, "posterior");
    for (int c = 0; c < 3; c++)
        p.class_rows[c] = 0;
    case_save(&p, folder, "none");
    la_posterior_free(&p);
    done = run_line(folder, ASK "none --class-shares 0.5,0.2,0.3", NULL);
    check_message(&done, 3, (const char *const[]){"none", "class_rows"}, 2);
    command_free(&done);
}

/* Rows have class shares only where each is of one class. */
static void other_tasks(void **state) {
    static const char *const cases[][2] = {{"bert-regression", "a regression"},
                                           {"bert-multilabel", "sets of classes"}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        const char *folder = open_case(cases[k][0]);
        fit_case(folder);
        command done = run_line(folder, RUN "--class-shares 0.5,0.5", NULL);
        check_message(&done, 4, (const char *const[]){"--class-shares", cases[k][1]}, 2);
        command_free(&done);
    }
    /* tokens are rows of the likelihood, and have shares */
    const char *folder = open_case("bert-token");
    fit_case(folder);
    json_decref(rows_of(folder, RUN "--class-shares 0.5,0.2,0.3"));
}

/* ---- the library ---- */

static void from_c(void **state) {
    const char *folder = open_fitted();
    static const double shares[3] = {0.7, 0.2, 0.1};
    la_predict_options options = {.posterior = in_case(folder, "posterior"), .samples = 50};
    la_error err;
    la_predictor *predictor;
    row_file rows = rows_random(3, 10);
    char posterior[600];
    (void)state;
    snprintf(posterior, sizeof posterior, "%s", options.posterior);
    options.posterior = posterior;
    row_answers *plain = rows_answer(&rows, options);
    options.class_shares = shares;
    options.n_class_shares = 3;
    row_answers *moved = rows_answer(&rows, options);
    for (int64_t i = 0; i < rows.n; i++) {
        double sum = 0;
        for (int c = 0; c < 3; c++)
            sum += plain->rows[i].probs[c] * shares[c] / training[c];
        for (int c = 0; c < 3; c++) {
            double q = plain->rows[i].probs[c] * shares[c] / training[c] / sum;
            assert_true(fabs(moved->rows[i].probs[c] - q) < 1e-12);
            assert_true(moved->rows[i].map_probs[c] == plain->rows[i].map_probs[c]);
        }
    }
    options.n_class_shares = 2;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.n_class_shares = -1;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.n_class_shares = 3;
    options.class_shares = NULL;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.class_shares = (const double[3]){NAN, 0.5, 0.5};
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    free(plain);
    free(moved);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reweighs),     cmocka_unit_test(same_everywhere),
        cmocka_unit_test(thresholds),   cmocka_unit_test(refused),
        cmocka_unit_test(absent_class), cmocka_unit_test(older_file),
        cmocka_unit_test(other_tasks),  cmocka_unit_test(from_c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
