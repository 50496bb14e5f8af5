/* The structures of curvature beyond the Kronecker product, against a float64 reference
 * (tests/reference/dense_reference.py) and against each other: rows held in parts, several scales
 * of the prior, files, ranks.
 *
 * Largest relative deviations from the reference over all cases, sets of parameters and priors, on
 * the CPU, over the kernels of several processors and both levels of optimisation that tests are
 * built with; limits are at most four times these. Leverages are relative to the largest of a case.
 *
 *                log marginal    prior        centred logit   leverage
 *                likelihood      precision    covariance
 *   exact        1.4e-6          1.5e-5       1.5e-5          8.6e-5
 *   diag         4.4e-6          1.3e-5       5.1e-6          6.7e-6
 *   ekfac        2.2e-6          1.0e-5       5.3e-6          6.9e-6
 *   last-layer   4.8e-7          1.2e-6       3.2e-6          4.9e-6
 *
 * The largest are those of bert-all-linear and llama-gqa, whose curvatures are the worst
 * conditioned. */
#include "bayes/exact.h"
#include "likelihood/answer.h"
#include "likelihood/likelihood.h"
#include "output/posterior_file.h"
#include "pipeline/passes.h"
#include "support/parity.h"
#include "support/seal.h"

#include <hdf5.h>
#include <lapacke.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- against the reference ---- */

typedef struct structure {
    const char *name; /* in dense.json */
    la_curvature curvature;
    bool by_module;
    double likelihood, prior, covariance, leverage; /* limits */
} structure;

enum { EXACT, DIAG, EKFAC, LAST, STRUCTURES };
static const structure structures[STRUCTURES] = {
    [EXACT] = {"exact", LA_CURVATURE_EXACT, false, 2.4e-6, 4.8e-5, 3.6e-5, 2.8e-4},
    [DIAG] = {"diag", LA_CURVATURE_DIAG, true, 9e-6, 2.4e-5, 1.8e-5, 2.4e-5},
    [EKFAC] = {"ekfac", LA_CURVATURE_EKFAC, true, 5e-6, 2.4e-5, 2e-5, 2.5e-5},
    [LAST] = {"exact", LA_CURVATURE_LAST_LAYER, false, 1.9e-6, 4.6e-6, 1.2e-5, 1.2e-5},
};
static const char *const titles[STRUCTURES] = {"exact", "diag", "ekfac", "last-layer"};
static const char *const figures[] = {"global", "at_1", "module"};
static const la_prior_kind priors[] = {LA_PRIOR_GLOBAL, LA_PRIOR_FIXED, LA_PRIOR_MODULE};

static json_t *open_dense(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "parity/%s/dense.json", name);
    return load_json(fixture(path));
}

/* "lora", "lora+head" or "last-layer" of a structure; NULL where the case has none. */
static const json_t *figures_of(const json_t *dense, const char *set, int kind) {
    const json_t *found = json_object_get(dense, set);
    return json_object_get(found, structures[kind].name);
}

static double precision_gap(const json_t *want, const la_fit_summary *f) {
    double worst = 0;
    if (json_is_number(want))
        return relative(f->prior_precision, json_number_value(want), 1e-12);
    assert_int_equal(json_object_size(want), f->n_blocks);
    for (int64_t b = 0; b < f->n_blocks; b++) {
        const json_t *value = json_object_get(want, f->blocks[b].name);
        if (!value)
            fail_msg("no block %s in the reference", f->blocks[b].name);
        parity_raise(&worst,
                     relative(f->blocks[b].prior_precision, json_number_value(value), 1e-12));
    }
    return worst;
}

static void compare(const parity_case *s, const json_t *dense, const char *set, la_params params,
                    int kind, const parity_inputs *in, parity_answers *a, deviations *seen) {
    const json_t *root = json_object_get(dense, set), *want = figures_of(dense, set, kind);
    for (int p = 0; want && p < (structures[kind].by_module ? 3 : 2); p++) {
        const json_t *one = json_object_get(want, figures[p]);
        la_fit_options options = {.run.device = "cpu",
                                  .curvature = la_curvature_names[structures[kind].curvature],
                                  .params = params,
                                  .prior = priors[p],
                                  .prior_value = 1,
                                  .prior_given = priors[p] == LA_PRIOR_FIXED};
        la_fit_summary *f = parity_fit(s, options);
        assert_int_equal(f->n_parameters, (int64_t)number_at(root, "n_parameters"));
        parity_raise(&seen->likelihood,
                     relative(f->log_likelihood, number_at(root, "log_likelihood"), 1));
        parity_raise(&seen->likelihood, relative(f->log_marginal_likelihood,
                                                 number_at(one, "log_marginal_likelihood"), 1));
        parity_raise(&seen->prior, precision_gap(json_object_get(one, "prior_precision"), f));
        la_fit_summary_free(f);
        parity_predict(s, (la_predict_options){.run.device = "cpu"}, in, a);
        const json_t *cov = json_object_get(one, "centred_logit_cov");
        assert_true(json_array_size(cov) > 0 && (int64_t)json_array_size(cov) <= in->n);
        parity_raise(&seen->covariance, parity_covariance_gap(cov, a));
    }
}

static void check_within_of(const char *title, const char *what, double worst, double limit) {
    char text[128];
    snprintf(text, sizeof text, "%s: %s", title, what);
    check_within(text, worst, limit);
}

static void check_dense(const char *name) {
    parity_case s = parity_open(name);
    parity_inputs in = parity_read_inputs(s.test);
    parity_answers *a = parity_new_answers();
    json_t *dense = open_dense(name);
    deviations seen[STRUCTURES] = {0};
    /* its rows are the first ones */
    const json_t *rows = json_object_get(dense, "test_rows");
    for (size_t i = 0; i < json_array_size(rows); i++)
        assert_int_equal(json_integer_value(json_array_get(rows, i)), i);
    for (int i = EXACT; i <= EKFAC; i++) {
        compare(&s, dense, "lora", LA_PARAMS_LORA, i, &in, a, &seen[i]);
        compare(&s, dense, "lora+head", LA_PARAMS_LORA_HEAD, i, &in, a, &seen[i]);
    }
    compare(&s, dense, "last-layer", LA_PARAMS_LORA, LAST, &in, a, &seen[LAST]);
    for (int i = 0; i < STRUCTURES; i++) {
        const structure *limit = &structures[i];
        if (i == LAST && !json_object_get(dense, "last-layer"))
            continue;
        check_within_of(titles[i], "log (marginal) likelihood", seen[i].likelihood,
                        limit->likelihood);
        check_within_of(titles[i], "prior precision", seen[i].prior, limit->prior);
        check_within_of(titles[i], "covariance", seen[i].covariance, limit->covariance);
    }
    json_decref(dense);
    parity_free_inputs(&in);
    parity_close(&s);
    free(a);
}

#define CASE(function, folder)                                                                     \
    static void dense_##function(void **state) {                                                   \
        (void)state;                                                                               \
        check_dense(folder);                                                                       \
    }

PARITY_CASES_DENSE(CASE)
#undef CASE

/* ---- several structures at once, in the library ---- */

static const la_log quiet;

typedef struct table {
    parity_case files;
    la_session session;
    la_row_set calib, test;
} table;

static void read_set(table *t, const char *path, la_row_set *set) {
    la_error err = {0};
    la_run_options run = {.device = "cpu"};
    if (la_row_set_read(&t->session, &run, path, NULL, "calibration", set, &err) != LA_OK)
        fail_msg("%s", err.message);
}

/* Static: backends are pointed at. */
static table *open_table(const char *name, la_params params) {
    static table t;
    la_error err = {0};
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    t = (table){.files = parity_open(name)};
    if (*t.files.choice_ids)
        assert_int_equal(la_choice_ids_parse(t.files.choice_ids, &ids, &n_ids, &err), LA_OK);
    la_session_options options = {.run.device = "cpu",
                                  .base = t.files.base,
                                  .adapter = t.files.adapter,
                                  .params = params,
                                  .choice_ids = ids,
                                  .n_choices = n_ids,
                                  .all_inputs = true,
                                  .kind = &la_structure_kron};
    if (la_session_open(&options, &t.session, &err) != LA_OK)
        fail_msg("%s", err.message);
    free(ids);
    read_set(&t, t.files.calib, &t.calib);
    read_set(&t, t.files.test, &t.test);
    return &t;
}

static void close_table(table *t) {
    la_row_set_free(&t->calib);
    la_row_set_free(&t->test);
    la_session_close(&t->session);
    parity_close(&t->files);
}

static void fit_all(table *t, la_structure *fits, int n) {
    la_error err = {0};
    la_row_job job = la_row_job_all(&t->calib, &quiet);
    if (la_structures_fit(&t->session, fits, n, &job, NULL, &err) != LA_OK)
        fail_msg("%s", err.message);
}

static void choose(la_structure *fit, la_prior_kind prior, double value) {
    la_error err = {0};
    if (la_prior_choose(&fit->posterior, prior, value, &err) != LA_OK)
        fail_msg("%s", err.message);
}

static la_evaluation evaluate(table *t, const la_structure *fits, int n, const la_row_set *set,
                              int64_t n_scales, const double *scales) {
    la_evaluation e;
    la_error err = {0};
    la_row_job job = la_row_job_all(set, &quiet);
    if (la_structures_evaluate(&t->session, fits, n, &job, n_scales, scales, false, &e, &err) !=
        LA_OK)
        fail_msg("%s", err.message);
    return e;
}

static const double one = 1;

/* Largest relative Frobenius distance of n matrices [side, side]. */
static double matrices_gap(const double *got, const double *want, int64_t n, int64_t side) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double gap = 0, norm = 0;
        for (int64_t j = i * side * side; j < (i + 1) * side * side; j++) {
            gap += (got[j] - want[j]) * (got[j] - want[j]);
            norm += want[j] * want[j];
        }
        parity_raise(&worst, sqrt(gap / norm));
    }
    return worst;
}

/* Largest distance of eigenvalues, beside the largest of them. Where one list is longer, the
 * other's are 0. */
static bool is_joint(const la_posterior *p) {
    return la_structure_of(p->curvature)->joint;
}

static double spectrum_gap(const la_directions *a, const la_directions *b, double scale) {
    double worst = 0;
    for (int64_t i = 0; i < a->rank || i < b->rank; i++)
        parity_raise(&worst, fabs((i < a->rank ? a->values[i] : 0) -
                                  (i < b->rank ? b->values[i] : 0) * scale) /
                                 a->values[0]);
    return worst;
}

/* ---- leverage ---- */

/* The largest eigenvalue of S^T cov S for a row's logit covariance, given in the contrasts'
 * basis. */
static double leverage(int64_t c, const float *logits, const double *cov) {
    int64_t m = c - 1;
    double basis[64], s[64], sb[64] = {0}, t[64] = {0}, a[64] = {0}, values[8];
    la_softmax_likelihood.contrast_basis(c, basis);
    la_softmax_likelihood.fisher_factor(c, logits, s);
    for (int64_t k = 0; k < m; k++)
        for (int64_t j = 0; j < m; j++)
            for (int64_t i = 0; i < c; i++)
                sb[k * m + j] += basis[i * m + k] * s[i * m + j];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < m; j++)
            for (int64_t k = 0; k < m; k++)
                t[i * m + j] += cov[i * m + k] * sb[k * m + j];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < m; j++)
            for (int64_t k = 0; k < m; k++)
                a[i * m + j] += sb[k * m + i] * t[k * m + j];
    assert_int_equal(
        LAPACKE_dsyev(LAPACK_ROW_MAJOR, 'N', 'U', (lapack_int)m, a, (lapack_int)m, values), 0);
    return values[m - 1];
}

/* A structure of a case with the reference's figures of it. */
typedef struct expected_fit {
    int kind;
    const json_t *figures;
} expected_fit;

static int list_fits(const json_t *dense, la_structure *fits, expected_fit *expected) {
    static const char *const sets[] = {"lora", "lora+head", "last-layer"};
    static const la_params params[] = {LA_PARAMS_LORA, LA_PARAMS_LORA_HEAD, LA_PARAMS_LAST};
    int n = 0;
    for (int set = 0; set < 3; set++)
        for (int i = set < 2 ? EXACT : LAST; i <= (set < 2 ? EKFAC : LAST); i++) {
            const json_t *found = figures_of(dense, sets[set], i);
            if (!found)
                continue;
            expected[n] = (expected_fit){i, found};
            fits[n++] = (la_structure){.kind = la_structure_of(structures[i].curvature),
                                       .params = params[set]};
        }
    return n;
}

static double worst_leverage[STRUCTURES], most_exact;

static void compare_leverage(table *t, const la_structure *fit, const expected_fit *expected,
                             const char *prior) {
    const json_t *list = at(json_object_get(expected->figures, prior), "leverage");
    la_evaluation e = evaluate(t, fit, 1, &t->calib, 1, &one);
    int64_t c = e.n_classes, m = c - 1;
    double top = number_at(json_object_get(expected->figures, prior), "leverage_max");
    assert_int_equal(json_array_size(list), e.n);
    for (int64_t i = 0; i < e.n; i++) {
        double got = leverage(c, e.logits + i * c, e.cov[0] + i * m * m);
        double want = json_number_value(json_array_get(list, (size_t)i));
        parity_raise(&worst_leverage[expected->kind], fabs(got - want) / top);
        if (fit->kind == &la_structure_exact || fit->kind == &la_structure_last_layer)
            parity_raise(&most_exact, got);
    }
    la_evaluation_free(&e);
}

static void check_leverage(const char *name) {
    enum { MOST = 8 };
    la_structure fits[MOST] = {{0}};
    expected_fit expected[MOST];
    json_t *dense = open_dense(name);
    bool head = json_object_get(dense, "last-layer");
    table *t = open_table(name, head ? LA_PARAMS_LORA_HEAD : LA_PARAMS_LORA);
    int n = list_fits(dense, fits, expected);
    /* all of them share their passes */
    fit_all(t, fits, n);
    for (int i = 0; i < n; i++)
        for (int p = 0; p < (structures[expected[i].kind].by_module ? 3 : 2); p++) {
            choose(&fits[i], priors[p], 1);
            compare_leverage(t, &fits[i], &expected[i], figures[p]);
        }
    la_structures_free(fits, n);
    close_table(t);
    json_decref(dense);
}

/* No row can move the logits by more than it says of them, where its own curvature is in the
 * posterior. */
static void leverages(void **state) {
    (void)state;
#define CASE(function, folder) folder,
    static const char *const cases[] = {PARITY_CASES_DENSE(CASE)};
#undef CASE
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_leverage(cases[i]);
    for (int i = 0; i < STRUCTURES; i++)
        check_within_of(titles[i], "leverage", worst_leverage[i], structures[i].leverage);
    check_within("largest leverage of an exact curvature", most_exact, 1 + 1e-6);
}

/* ---- memory for some of the rows ---- */

static struct {
    const la_ops *inner;
    size_t available;
    int asked, passes;
} machine;

static void little_memory(la_backend *be, size_t *available, size_t *total) {
    machine.inner->memory(be, available, total);
    machine.asked++;
    if (machine.available)
        *available = machine.available;
}

static la_status counted_next(la_structure_fit *fit, la_posterior *posterior, la_fit_pass *pass,
                              la_error *err) {
    LA_TRY(la_structure_exact.fit->next(fit, posterior, pass, err));
    machine.passes += pass->more;
    return LA_OK;
}

/* Exact in parts as memory asks for, with others that want other passes. */
enum { HELD_FITS = 3 };

static la_status fit_held(table *t, const la_structure_kind *counted, la_structure *fits,
                          la_error *err) {
    fits[0] = (la_structure){.kind = counted};
    fits[1] = (la_structure){.kind = &la_structure_ekfac};
    fits[2] = (la_structure){.kind = &la_structure_exact, .rank = 5};
    machine.passes = 0;
    la_row_job job = la_row_job_all(&t->calib, &quiet);
    LA_TRY(la_structures_fit(&t->session, fits, HELD_FITS, &job, NULL, err));
    for (int i = 0; i < HELD_FITS; i++)
        choose(&fits[i], LA_PRIOR_GLOBAL, 0);
    return LA_OK;
}

static void check_held(const char *name) {
    table *t = open_table(name, LA_PARAMS_LORA);
    la_backend *be = &t->session.workers[0].backend;
    la_structure_kind counted = la_structure_exact;
    la_fit_kind fit = *counted.fit;
    la_ops ops = *be->ops;
    la_structure whole[HELD_FITS], part[HELD_FITS];
    la_error err = {0};
    machine.inner = be->ops;
    machine.available = 0;
    counted.fit = &fit;
    fit.next = counted_next;
    ops.memory = little_memory;
    be->ops = &ops;
    t->session.batch_rows = 2;
    assert_int_equal(fit_held(t, &counted, whole, &err), LA_OK);
    assert_int_equal(machine.passes, 1);
    la_evaluation want = evaluate(t, whole, HELD_FITS, &t->test, 1, &one);
    double values = 0, covariances = 0, evidence = 0;
    int changes = 0, parts = 1;
    machine.available = 8 << 20;
    while (fit_held(t, &counted, part, &err) == LA_OK) {
        /* a pass to hold each part, one for the rows behind it unless there are none, and one more
         * for the directions */
        assert_true(machine.passes == 1 || machine.passes % 2 == 0);
        int now = machine.passes == 1 ? 1 : machine.passes / 2;
        assert_true(now >= parts);
        changes += now > parts;
        parts = now;
        la_evaluation got = evaluate(t, part, HELD_FITS, &t->test, 1, &one);
        for (int i = 0; i < HELD_FITS; i++) {
            const la_posterior *p = &part[i].posterior, *q = &whole[i].posterior;
            parity_raise(&evidence,
                         relative(p->log_marginal_likelihood, q->log_marginal_likelihood, 1));
            parity_raise(&covariances,
                         matrices_gap(got.cov[i], want.cov[i], got.n, got.n_classes - 1));
            if (is_joint(q))
                parity_raise(&values,
                             spectrum_gap(la_exact_directions(p), la_exact_directions(q), 1));
        }
        la_evaluation_free(&got);
        la_structures_free(part, HELD_FITS);
        machine.available = machine.available * 14 / 15;
    }
    la_structures_free(part, HELD_FITS);
    assert_int_equal(err.status, LA_RESOURCE);
    assert_non_null(strstr(err.message, "--rank"));
    print_message("    %s: up to %d parts\n", name, parts);
    assert_int_equal(parts, t->calib.n / t->session.batch_rows);
    assert_true(changes >= 4);
    check_within("eigenvalues, in parts and at once", values, 1e-5);
    check_within("log marginal likelihood", evidence, 1e-5);
    check_within("covariance", covariances, 1e-5);
    la_evaluation_free(&want);
    la_structures_free(whole, HELD_FITS);
    be->ops = machine.inner;
    close_table(t);
}

static void held_in_parts(void **state) {
    (void)state;
    check_held("bert");
    check_held("llama-gqa");
}

/* With every row three times there are more rows of G than parameters, and H itself is summed:
 * three times what the dual form finds of every row once, with a third of the covariance. */
static void primal_is_dual(void **state) {
    (void)state;
    table *t = open_table("bert", LA_PARAMS_LAST);
    la_backend *be = &t->session.workers[0].backend;
    la_ops ops = *be->ops;
    int64_t list[3 * PARITY_ROWS], n = t->calib.n;
    la_structure dual = {.kind = &la_structure_last_layer, .params = LA_PARAMS_LAST}, primal = dual;
    la_error err = {0};
    for (int64_t i = 0; i < 3 * n; i++)
        list[i] = i % n;
    machine.inner = be->ops;
    machine.available = 0;
    machine.asked = 0;
    ops.memory = little_memory;
    be->ops = &ops;
    fit_all(t, &dual, 1);
    assert_int_equal(machine.asked, 1);
    la_row_job job = la_row_job_list(&t->calib, list, 3 * n, &quiet);
    assert_int_equal(la_structures_fit(&t->session, &primal, 1, &job, NULL, &err), LA_OK);
    /* it holds no rows */
    assert_int_equal(machine.asked, 1);
    choose(&dual, LA_PRIOR_FIXED, 0.5);
    choose(&primal, LA_PRIOR_FIXED, 1.5);
    la_evaluation a = evaluate(t, &dual, 1, &t->test, 1, &one);
    la_evaluation b = evaluate(t, &primal, 1, &t->test, 1, &one);
    int64_t m = a.n_classes - 1;
    double *third = calloc((size_t)(a.n * m * m), sizeof *third);
    for (int64_t i = 0; i < a.n * m * m; i++)
        third[i] = a.cov[0][i] / 3;
    check_within("eigenvalues",
                 spectrum_gap(la_exact_directions(&primal.posterior),
                              la_exact_directions(&dual.posterior), 3),
                 2.2e-7);
    check_within("covariance", matrices_gap(b.cov[0], third, a.n, m), 5e-6);
    free(third);
    la_evaluation_free(&a);
    la_evaluation_free(&b);
    la_structures_free(&dual, 1);
    la_structures_free(&primal, 1);
    be->ops = machine.inner;
    close_table(t);
}

/* ---- every kind of posterior ---- */

enum { KINDS = 10 };
static const la_structure every_kind[KINDS] = {
    {.kind = &la_structure_kron},
    {.kind = &la_structure_kron, .kron = LA_KRON_REDUCE, .params = LA_PARAMS_LORA_HEAD},
    {.kind = &la_structure_kron, .rank = 8},
    {.kind = &la_structure_kron, .kron = LA_KRON_REDUCE, .rank = 8},
    {.kind = &la_structure_ekfac},
    {.kind = &la_structure_ekfac, .rank = 8, .params = LA_PARAMS_LORA_HEAD},
    {.kind = &la_structure_diag},
    {.kind = &la_structure_exact, .params = LA_PARAMS_LORA_HEAD},
    {.kind = &la_structure_exact, .rank = 7},
    {.kind = &la_structure_last_layer, .params = LA_PARAMS_LAST},
};

/* centred[C, C] = B cov B^T */
static void centre(int64_t c, const double *cov, double *centred) {
    int64_t m = c - 1;
    double basis[64];
    la_softmax_likelihood.contrast_basis(c, basis);
    for (int64_t i = 0; i < c; i++)
        for (int64_t j = 0; j < c; j++) {
            centred[i * c + j] = 0;
            for (int64_t k = 0; k < m; k++)
                for (int64_t l = 0; l < m; l++)
                    centred[i * c + j] += basis[i * m + k] * cov[k * m + l] * basis[j * m + l];
        }
}

/* One pass answers for several scales of the prior what as many fits say. */
static void several_scales(void **state) {
    (void)state;
    static const double scales[] = {0.1, 1, 10};
    table *t = open_table("llama-seq", LA_PARAMS_LORA_HEAD);
    parity_inputs in = parity_read_inputs(t->files.test);
    parity_answers *a = parity_new_answers();
    la_structure fits[KINDS];
    double worst = 0;
    memcpy(fits, every_kind, sizeof fits);
    fit_all(t, fits, KINDS);
    for (int i = 0; i < KINDS; i++)
        choose(&fits[i], LA_PRIOR_FIXED, 1);
    la_evaluation e = evaluate(t, fits, KINDS, &t->test, 3, scales);
    int64_t c = e.n_classes, m = c - 1;
    assert_int_equal(e.n, in.n);
    for (int i = 0; i < KINDS; i++)
        for (int g = 0; g < 3; g++) {
            la_fit_options options = {.run.device = "cpu",
                                      .curvature = la_structure_name(fits[i].kind),
                                      .kron = fits[i].kron,
                                      .params = fits[i].params,
                                      .rank = fits[i].rank,
                                      .prior = LA_PRIOR_FIXED,
                                      .prior_value = scales[g],
                                      .prior_given = 1};
            la_fit_summary_free(parity_fit(&t->files, options));
            parity_predict(&t->files, (la_predict_options){.run.device = "cpu"}, &in, a);
            for (int64_t j = 0; j < e.n; j++) {
                double centred[64];
                centre(c, e.cov[i] + (g * e.n + j) * m * m, centred);
                parity_raise(&worst, matrices_gap(centred, a->rows[j].logit_cov, 1, c));
            }
        }
    check_within("covariance, scales against fits", worst, 1e-6);
    la_evaluation_free(&e);
    la_structures_free(fits, KINDS);
    parity_free_inputs(&in);
    free(a);
    close_table(t);
}

/* Precisions of groups are scaled like one precision is. */
static void scaled_groups(void **state) {
    (void)state;
    static const double scales[] = {0.1, 1, 10};
    table *t = open_table("llama-seq", LA_PARAMS_LORA_HEAD);
    la_structure fits[KINDS];
    memcpy(fits, every_kind, sizeof fits);
    fit_all(t, fits, KINDS);
    for (int i = 0; i < KINDS; i++)
        choose(&fits[i], is_joint(&fits[i].posterior) ? LA_PRIOR_GLOBAL : LA_PRIOR_KIND, 0);
    la_evaluation all = evaluate(t, fits, KINDS, &t->test, 3, scales);
    size_t m = (size_t)all.n_classes - 1, count = (size_t)all.n * m * m;
    double before = 1;
    for (size_t g = 0; g < 3; g++) {
        la_error err = {0};
        double worst = 0;
        for (int i = 0; i < KINDS; i++)
            assert_int_equal(la_prior_scale(&fits[i].posterior, scales[g] / before, &err), LA_OK);
        before = scales[g];
        la_evaluation one_scale = evaluate(t, fits, KINDS, &t->test, 1, &one);
        for (int i = 0; i < KINDS; i++)
            parity_raise(&worst,
                         matrices_gap(one_scale.cov[i], all.cov[i] + g * count, all.n, (int64_t)m));
        check_within("covariance, scaled prior", worst, 1e-6);
        la_evaluation_free(&one_scale);
    }
    la_evaluation_free(&all);
    la_structures_free(fits, KINDS);
    close_table(t);
}

/* ---- files ---- */

static void expect_refused(const char *path, const char *piece) {
    la_posterior p;
    la_error err = {0};
    if (la_posterior_load(path, &p, &err) != LA_BAD_INPUT)
        fail_msg("status %d, expected %d: %s", err.status, LA_BAD_INPUT, err.message);
    if (!strstr(err.message, path) || !strstr(err.message, piece))
        fail_msg("the message does not name the file and say \"%s\": %s", piece, err.message);
}

/* Calls the posterior another kind, whose parts it does not hold. */
static void rename_kind(const char *path, const char *kind) {
    la_error err = {0};
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0 && H5Adelete(file, "curvature") >= 0);
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(kind) + 1);
    hid_t attribute = H5Acreate2(file, "curvature", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attribute >= 0 && H5Awrite(attribute, type, kind) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
    H5Fclose(file);
    assert_int_equal(seal_file(path, &err), LA_OK);
}

static void check_damage(const char *path, la_curvature curvature) {
    static const char *const others[LA_CURVATURES][3] = {
        [LA_CURVATURE_KRON] = {"ekfac", "diag", "exact"},
        [LA_CURVATURE_EKFAC] = {"diag", "exact", "last-layer"},
        [LA_CURVATURE_DIAG] = {"kron", "ekfac", "exact"},
        [LA_CURVATURE_EXACT] = {"kron", "ekfac", "diag"},
        [LA_CURVATURE_LAST_LAYER] = {"kron", "ekfac", "diag"},
    };
    size_t length;
    char *data = read_file(path, &length), cut[512];
    snprintf(cut, sizeof cut, "%s", scratch("cut.h5"));
    const size_t lengths[] = {length - 1, length / 2, 600, 100};
    for (int i = 0; i < 4; i++) {
        write_file(cut, data, lengths[i]);
        expect_refused(cut, "truncated");
    }
    for (int i = 0; i < 3; i++) {
        write_file(cut, data, length);
        rename_kind(cut, others[curvature][i]);
        expect_refused(cut, "damaged");
    }
    write_file(cut, data, length);
    rename_kind(cut, "dense");
    expect_refused(cut, "\"curvature\" has an unknown value");
    free(data);
}

/* A posterior read from a file answers with the same bytes as the one written to it. */
static void saved_and_loaded(void **state) {
    (void)state;
    table *t = open_table("llama-seq", LA_PARAMS_LORA_HEAD);
    la_structure fits[KINDS];
    char path[512];
    snprintf(path, sizeof path, "%s", scratch("kind.h5"));
    memcpy(fits, every_kind, sizeof fits);
    fit_all(t, fits, KINDS);
    for (int i = 0; i < KINDS; i++) {
        la_posterior *p = &fits[i].posterior;
        la_structure loaded = every_kind[i];
        la_error err = {0};
        choose(&fits[i], is_joint(p) ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE, 0);
        p->temperature = 1.25;
        p->provenance.base_path = t->files.base;
        p->provenance.adapter_path = t->files.adapter;
        la_evaluation want = evaluate(t, &fits[i], 1, &t->test, 1, &one);
        if (la_posterior_save(p, path, &err) != LA_OK ||
            la_posterior_load(path, &loaded.posterior, &err) != LA_OK)
            fail_msg("%s", err.message);
        const la_posterior *q = &loaded.posterior;
        assert_int_equal(q->curvature, p->curvature);
        assert_int_equal(q->kron, p->kron);
        assert_int_equal(q->params, p->params);
        assert_int_equal(q->rank_asked, p->rank_asked);
        if (is_joint(p)) {
            assert_int_equal(la_exact_directions(q)->rank, la_exact_directions(p)->rank);
            assert_int_equal(la_exact_directions(q)->width, la_exact_directions(p)->width);
        }
        assert_true(q->temperature == 1.25 &&
                    q->log_marginal_likelihood == p->log_marginal_likelihood);
        la_evaluation got = evaluate(t, &loaded, 1, &t->test, 1, &one);
        size_t m = (size_t)got.n_classes - 1;
        assert_memory_equal(got.cov[0], want.cov[0], (size_t)got.n * m * m * sizeof(double));
        la_evaluation_free(&want);
        la_evaluation_free(&got);
        la_structures_free(&loaded, 1);
        check_damage(path, p->curvature);
    }
    la_structures_free(fits, KINDS);
    close_table(t);
}

/* ---- rank ---- */

/* The largest eigenpairs of the exact curvature are kept: a direction that is cut is as uncertain
 * as the prior. */
static void exact_of_low_rank(void **state) {
    (void)state;
    static const int64_t ranks[] = {1, 4, 12, 40, 1000};
    enum { N = sizeof ranks / sizeof *ranks };
    table *t = open_table("llama-seq", LA_PARAMS_LORA);
    la_structure full = {.kind = &la_structure_exact}, cut[N] = {{0}};
    fit_all(t, &full, 1);
    choose(&full, LA_PRIOR_FIXED, 2);
    for (int i = 0; i < N; i++)
        cut[i] = (la_structure){.kind = &la_structure_exact, .rank = ranks[i]};
    fit_all(t, cut, N);
    la_evaluation want = evaluate(t, &full, 1, &t->test, 1, &one);
    for (int i = 0; i < N; i++)
        choose(&cut[i], LA_PRIOR_FIXED, 2);
    la_evaluation got = evaluate(t, cut, N, &t->test, 1, &one);
    const la_directions *all = la_exact_directions(&full.posterior);
    int64_t m = want.n_classes - 1;
    double before = INFINITY;
    for (int i = 0; i < N; i++) {
        const la_directions *few = la_exact_directions(&cut[i].posterior);
        assert_int_equal(few->rank, ranks[i] < all->rank ? ranks[i] : all->rank);
        assert_memory_equal(few->values, all->values, (size_t)few->rank * sizeof(double));
        double variance = 0;
        for (int64_t j = 0; j < want.n; j++)
            for (int64_t k = 0; k < m; k++) {
                int64_t place = (j * m + k) * m + k;
                variance += got.cov[i][place];
                assert_true(got.cov[i][place] >= want.cov[0][place] * (1 - 1e-6));
            }
        assert_true(variance < before);
        before = variance;
    }
    /* nothing is left out of the last */
    assert_memory_equal(got.cov[N - 1], want.cov[0], (size_t)(want.n * m * m) * sizeof(double));
    la_evaluation_free(&want);
    la_evaluation_free(&got);
    la_structures_free(&full, 1);
    la_structures_free(cut, N);
    close_table(t);
}

/* Few of many eigenpairs are sketched where the rows do not fit the memory. With every row four
 * times G has half as many directions as the sketch may have columns. */
enum { COPIES = 4 };

typedef struct sketching {
    table *t;
    la_ops ops;
    la_structure_kind counted;
    la_fit_kind fit;
    int64_t list[COPIES * PARITY_ROWS];
} sketching;

/* Little memory: not all rows can be held. */
static void fit_few(sketching *s, int64_t rank, bool little, la_structure *fit) {
    la_error err = {0};
    *fit = (la_structure){.kind = &s->counted, .rank = rank};
    machine.passes = 0;
    machine.available = little ? 7 << 20 : 0;
    la_row_job job = la_row_job_list(&s->t->calib, s->list, COPIES * s->t->calib.n, &quiet);
    if (la_structures_fit(&s->t->session, fit, 1, &job, NULL, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(machine.passes, little ? 3 : 1);
    machine.available = 0;
    choose(fit, LA_PRIOR_GLOBAL, 0);
}

static double sum_of(const la_directions *d) {
    double sum = 0;
    for (int64_t i = 0; i < d->rank; i++)
        sum += d->values[i];
    return sum;
}

static double covariance_gap(sketching *s, const la_structure *a, const la_structure *b) {
    la_structure both[] = {*a, *b};
    la_evaluation e = evaluate(s->t, both, 2, &s->t->test, 1, &one);
    double worst = matrices_gap(e.cov[0], e.cov[1], e.n, e.n_classes - 1);
    la_evaluation_free(&e);
    return worst;
}

static void compare_few(sketching *s, const la_structure *few, const la_structure *all,
                        const char *title, double values, double evidence, double covariance,
                        double trace) {
    const la_posterior *p = &few->posterior, *q = &all->posterior;
    print_message("    %s: %lld and %lld directions\n", title,
                  (long long)la_exact_directions(p)->rank, (long long)la_exact_directions(q)->rank);
    check_within("eigenvalues", spectrum_gap(la_exact_directions(q), la_exact_directions(p), 1),
                 values);
    check_within("log marginal likelihood",
                 relative(p->log_marginal_likelihood, q->log_marginal_likelihood, 1), evidence);
    check_within("covariance", covariance_gap(s, few, all), covariance);
    check_within("trace", relative(la_exact_directions(p)->trace, la_exact_directions(q)->trace, 1),
                 trace);
}

static void sketched(void **state) {
    (void)state;
    sketching s = {.t = open_table("llama-gqa", LA_PARAMS_LORA),
                   .counted = la_structure_exact,
                   .fit = *la_structure_exact.fit};
    la_backend *be = &s.t->session.workers[0].backend;
    int64_t n = s.t->calib.n, directions = n * s.t->session.n_rhs;
    la_structure all, as_many, few, cut, other;
    machine.inner = be->ops;
    s.ops = *be->ops;
    s.ops.memory = little_memory;
    s.counted.fit = &s.fit;
    s.fit.next = counted_next;
    s.t->session.batch_rows = 8;
    be->ops = &s.ops;
    for (int64_t i = 0; i < COPIES * n; i++)
        s.list[i] = i % n;
    /* nothing is cut */
    fit_few(&s, 0, false, &all);
    fit_few(&s, directions + 2, true, &as_many);
    compare_few(&s, &as_many, &all, "as many as there are", 2.6e-6, 5e-7, 1.4e-5, 6e-8);
    check_within("trace that is lost",
                 fabs(1 - sum_of(la_exact_directions(&as_many.posterior)) /
                              la_exact_directions(&as_many.posterior)->trace),
                 9e-7);
    /* the largest, beside the whole matrix's */
    fit_few(&s, 12, false, &cut);
    fit_few(&s, 12, true, &few);
    assert_true(sum_of(la_exact_directions(&few.posterior)) <
                0.999 * la_exact_directions(&few.posterior)->trace);
    compare_few(&s, &few, &cut, "the largest", 2.3e-6, 1.9e-8, 1e-4, 6e-8);
    /* in other batches */
    s.t->session.batch_rows = 3;
    fit_few(&s, 12, true, &other);
    compare_few(&s, &other, &few, "in batches of 3 rows", 1.3e-5, 1.3e-7, 8e-7, 6e-6);
    la_structure *fits[] = {&all, &as_many, &few, &cut, &other};
    for (int i = 0; i < 5; i++)
        la_structures_free(fits[i], 1);
    be->ops = machine.inner;
    close_table(s.t);
}

#define TEST(function, folder) cmocka_unit_test(dense_##function),

int main(void) {
    const struct CMUnitTest tests[] = {
        PARITY_CASES_DENSE(TEST) cmocka_unit_test(leverages),
        cmocka_unit_test(held_in_parts),
        cmocka_unit_test(primal_is_dual),
        cmocka_unit_test(several_scales),
        cmocka_unit_test(scaled_groups),
        cmocka_unit_test(saved_and_loaded),
        cmocka_unit_test(exact_of_low_rank),
        cmocka_unit_test(sketched),
    };
    return cmocka_run_group_tests_name("dense", tests, NULL, NULL);
}
