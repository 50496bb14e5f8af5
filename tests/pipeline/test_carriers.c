/* Fits whose sums are carried: away and back in the midst of a pass, and between fits of parts of
 * the rows, in memory. */
#include "output/posterior_file.h"
#include "pipeline/fit.h"
#include "support/parity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PASSES = 2, ARRAYS = 256 };

/* Sums of a pass, as a carrier keeps them. */
typedef struct kept {
    int64_t at; /* rows before this one are in them; 0: nothing is kept */
    int n;
    struct {
        char name[96];
        size_t count;
        double *data;
    } arrays[ARRAYS];
} kept;

typedef struct store {
    enum { STOPS, RESUMES, GIVES, TAKES } mode;
    kept passes[PASSES];
    int64_t left, pauses; /* STOPS: pauses before the fit is stopped; their number so far */
} store;

static la_status keep(void *user, const la_array *array, la_error *err) {
    kept *k = user;
    size_t count = (size_t)(array->rows * array->cols);
    (void)err;
    assert_true(k->n < ARRAYS);
    snprintf(k->arrays[k->n].name, sizeof k->arrays->name, "%s", array->name);
    k->arrays[k->n].count = count;
    k->arrays[k->n].data = malloc(count * sizeof(double));
    memcpy(k->arrays[k->n++].data, array->data, count * sizeof(double));
    return LA_OK;
}

static la_status add(void *user, const la_array *array, la_error *err) {
    const kept *k = user;
    for (int i = 0; i < k->n; i++) {
        if (strcmp(k->arrays[i].name, array->name) ||
            k->arrays[i].count != (size_t)(array->rows * array->cols))
            continue;
        for (size_t j = 0; j < k->arrays[i].count; j++)
            array->data[j] += k->arrays[i].data[j];
        return LA_OK;
    }
    return la_fail(err, LA_MISMATCH, "%s: is not among the sums", array->name);
}

static void forget(kept *k) {
    for (int i = 0; i < k->n; i++)
        free(k->arrays[i].data);
    *k = (kept){0};
}

static void forget_all(store *s) {
    for (int p = 0; p < PASSES; p++)
        forget(&s->passes[p]);
}

static la_status keep_all(kept *k, la_fit_state *fit, la_error *err) {
    la_array_visitor to = {keep, k};
    forget(k);
    k->at = fit->at;
    return la_fit_state_visit(fit, false, &to, err);
}

static la_status carry(void *user, la_moment moment, la_fit_state *fit, la_error *err) {
    store *s = user;
    kept *k = &s->passes[fit->pass % PASSES];
    la_array_visitor from = {add, k};
    if (moment == LA_PASS_BEGINS && s->mode == RESUMES && k->at) {
        fit->at = k->at;
        return la_fit_state_visit(fit, true, &from, err);
    }
    if (moment == LA_PASS_PAUSES && s->mode == STOPS) {
        bool stops = s->pauses++ == s->left;
        if (stops || fit->at == fit->to)
            LA_TRY(keep_all(k, fit, err));
        return stops ? la_fail(err, LA_INTERRUPTED, "stopped") : LA_OK;
    }
    if (moment == LA_PASS_PAUSES)
        s->pauses++;
    if (moment == LA_PASS_ENDS && s->mode == GIVES) {
        LA_TRY(keep_all(k, fit, err));
        fit->ended = true;
        return LA_OK;
    }
    return moment == LA_PASS_ENDS && s->mode == TAKES ? la_fit_state_visit(fit, true, &from, err)
                                                      : LA_OK;
}

static la_status fit(const parity_case *c, const char *curvature, const char *out, la_carrier how,
                     la_fit_summary **summary, la_error *err) {
    la_carriers carriers = {.list = &how, .n = how.carry != NULL};
    la_fit_options options = {.run = {.device = "cpu", .batch_tokens = 64},
                              .base = c->base,
                              .adapter = c->adapter,
                              .data = c->calib,
                              .out = out,
                              .curvature = curvature,
                              .prior = LA_PRIOR_GLOBAL,
                              .select = LA_SELECT_NONE};
    unlink(out);
    *err = (la_error){0};
    la_status status = la_fit_carried(&options, &carriers, summary, err);
    assert_true(carriers.ended == (status == LA_OK && !*summary));
    return status;
}

static void check_same_bytes(const char *a, const char *b) {
    size_t n, m;
    char *x = read_file(a, &n), *y = read_file(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static const char *const summed[] = {"kron", "ekfac", "diag"};
enum { SUMMED = sizeof summed / sizeof *summed };

/* Stopped after any batch of any pass and gone on with in another fit: the same file. */
static void stopped_and_resumed(void **state) {
    (void)state;
    parity_case c = parity_open("bert");
    char whole[512], part[512];
    snprintf(whole, sizeof whole, "%s", scratch("carriers-whole.h5"));
    snprintf(part, sizeof part, "%s", scratch("carriers-part.h5"));
    la_fit_summary *summary;
    la_error err;
    for (int i = 0; i < SUMMED; i++) {
        store all = {.left = -1};
        assert_int_equal(
            fit(&c, summed[i], whole, (la_carrier){carry, &all, 0, 0, NULL}, &summary, &err),
            LA_OK);
        la_fit_summary_free(summary);
        assert_true(all.pauses >= 4);
        for (int64_t at = 0; at < all.pauses; at += 1 + all.pauses / 6) {
            store s = {.left = at};
            la_carrier how = {carry, &s, 0, 0, NULL};
            assert_int_equal(fit(&c, summed[i], part, how, &summary, &err), LA_INTERRUPTED);
            assert_int_equal(access(part, F_OK), -1);
            s.mode = RESUMES;
            assert_int_equal(fit(&c, summed[i], part, how, &summary, &err), LA_OK);
            la_fit_summary_free(summary);
            /* every batch was run once */
            assert_int_equal(s.pauses, all.pauses);
            check_same_bytes(whole, part);
            forget_all(&s);
        }
        forget_all(&all);
    }
    parity_close(&c);
}

/* A fit of every second row ends with its sums; that of the others adds them, and knows how many
 * rows they are of. */
static void parts_add_up(void **state) {
    (void)state;
    parity_case c = parity_open("bert");
    const char *const kinds[] = {"kron", "diag"};
    double worst = 0;
    for (int i = 0; i < 2; i++) {
        la_fit_summary *all, *none, *sum;
        la_error err;
        store s = {.mode = GIVES};
        const char *out = scratch("carriers-sum.h5");
        assert_int_equal(fit(&c, kinds[i], out, (la_carrier){0}, &all, &err), LA_OK);
        assert_int_equal(fit(&c, kinds[i], out, (la_carrier){carry, &s, 1, 2, NULL}, &none, &err),
                         LA_OK);
        assert_null(none);
        assert_int_equal(access(out, F_OK), -1);
        assert_true(s.passes[0].at == all->n_rows / 2);
        s.mode = TAKES;
        assert_int_equal(fit(&c, kinds[i], out, (la_carrier){carry, &s, 0, 2, NULL}, &sum, &err),
                         LA_OK);
        assert_int_equal(sum->n_rows, all->n_rows);
        assert_int_equal(sum->n_tokens, all->n_tokens);
        worst = fmax(worst, relative(sum->log_likelihood, all->log_likelihood, 1));
        worst =
            fmax(worst, relative(sum->log_marginal_likelihood, all->log_marginal_likelihood, 1));
        la_fit_summary_free(all);
        la_fit_summary_free(sum);
        forget_all(&s);
    }
    check_within("evidence of two parts against all rows, relative", worst, 3.6e-7);
    parity_close(&c);
}

/* Sums of other blocks, and a structure that keeps rows. */
static void refused(void **state) {
    (void)state;
    parity_case c = parity_open("bert"), other = parity_open("bert-all-linear");
    const char *out = scratch("carriers-none.h5");
    la_fit_summary *summary;
    la_error err;
    store s = {.mode = GIVES};
    la_carrier how = {carry, &s, 0, 0, NULL};
    assert_int_equal(fit(&c, "exact", out, how, &summary, &err), LA_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--curvature exact"));
    assert_int_equal(fit(&c, "kron", out, how, &summary, &err), LA_OK);
    s.mode = TAKES;
    assert_int_equal(fit(&other, "kron", out, how, &summary, &err), LA_MISMATCH);
    assert_null(summary);
    assert_int_equal(access(out, F_OK), -1);
    forget_all(&s);
    parity_close(&c);
    parity_close(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_and_resumed),
        cmocka_unit_test(parts_add_up),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
