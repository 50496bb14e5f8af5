/* Regressions (one output, a Gaussian likelihood) against the float64 reference
 * (tests/reference/laplace_reference.py): outputs, likelihoods, noise variance and prior at their
 * joint maximum and at a given noise, variances of test rows, for every structure of curvature.
 * Then sampled networks, the choice by held-out rows, and files.
 *
 * Largest deviations over both cases, all structures and priors are printed; limits are at most
 * four times these. */
#include "likelihood/selection.h"
#include "base/random.h"
#include "output/posterior_file.h"
#include "support/parity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const cases[] = {"bert-regression",       "roberta-regression",
                                    "electra-regression",    "distilbert-regression",
                                    "modernbert-regression", "deberta-regression"};

typedef struct structure {
    const char *name; /* in expected.json */
    la_curvature curvature;
    la_kron kron;
} structure;

static const structure structures[] = {{"expand", LA_CURVATURE_KRON, LA_KRON_EXPAND},
                                       {"reduce", LA_CURVATURE_KRON, LA_KRON_REDUCE},
                                       {"ekfac", LA_CURVATURE_EKFAC, LA_KRON_EXPAND},
                                       {"diag", LA_CURVATURE_DIAG, LA_KRON_EXPAND},
                                       {"exact", LA_CURVATURE_EXACT, LA_KRON_EXPAND},
                                       {"last-layer", LA_CURVATURE_LAST_LAYER, LA_KRON_EXPAND}};
static const char *const sets[] = {"lora", "lora+head", "head"};
static const char *const prior_names[] = {"fixed", "global", "module"};
static const la_prior_kind priors[] = {LA_PRIOR_FIXED, LA_PRIOR_GLOBAL, LA_PRIOR_MODULE};
static const double given_noise = 0.5;

typedef struct gaps {
    double outputs, likelihood, noise, prior, variance, trace;
} gaps;

static void compare_fit(const la_fit_summary *f, const json_t *part, const json_t *want,
                        bool traces, gaps *worst) {
    assert_int_equal(f->n_classes, 1);
    assert_int_equal(f->n_tokens, (int64_t)number_at(part, "n_tokens"));
    assert_int_equal(f->n_blocks, (int64_t)number_at(part, "n_modules"));
    parity_raise(&worst->likelihood,
                 relative(f->log_likelihood, number_at(want, "log_likelihood"), 1));
    parity_raise(&worst->likelihood, relative(f->log_marginal_likelihood,
                                              number_at(want, "log_marginal_likelihood"), 1));
    parity_raise(&worst->noise,
                 relative(f->noise_variance, number_at(want, "noise_variance"), 1e-12));
    const json_t *precisions = at(want, "prior_precisions");
    for (int64_t b = 0; b < f->n_blocks; b++) {
        const json_t *value = json_object_get(precisions, f->blocks[b].name);
        if (!value)
            value = json_object_get(precisions, "all");
        assert_non_null(value);
        parity_raise(&worst->prior,
                     relative(f->blocks[b].prior_precision, json_number_value(value), 1e-12));
    }
    const json_t *blocks = at(part, "blocks");
    for (int64_t b = 0; b < f->n_blocks && traces; b++) {
        const json_t *block = json_array_get(blocks, (size_t)b);
        assert_string_equal(json_string_value(at(block, "name")), f->blocks[b].name);
        parity_raise(&worst->trace,
                     relative(f->blocks[b].trace_in, number_at(block, "trace_in"), 1e-12));
        /* the reference's are of noise 1 */
        parity_raise(&worst->trace, relative(f->blocks[b].trace_out * f->noise_variance,
                                             number_at(block, "trace_out"), 1e-12));
    }
}

static void compare_answers(const parity_case *s, const parity_inputs *in, const json_t *want,
                            gaps *worst) {
    parity_answers *a = parity_new_answers();
    parity_predict(s, (la_predict_options){.run.device = "cpu", .samples = 5}, in, a);
    const json_t *variances = at(want, "model_variances"), *outputs = at(s->expected, "logits");
    assert_int_equal(json_array_size(variances), in->n);
    for (size_t i = 0; i < (size_t)in->n; i++) {
        const la_prediction *p = &a->rows[i];
        double output = json_number_value(json_array_get(json_array_get(outputs, i), 0));
        double variance = json_number_value(json_array_get(variances, i));
        double noise = number_at(want, "noise_variance");
        parity_raise(&worst->outputs, relative(p->mean, output, 1));
        parity_raise(&worst->variance, relative(p->model_variance, variance, 1e-12));
        parity_raise(&worst->noise, relative(p->noise_variance, noise, 1e-12));
        assert_true(*p->variance == p->model_variance + p->noise_variance);
        assert_true(p->map_mean == p->mean && *p->logits == p->mean);
        assert_true(p->map_variance == p->noise_variance && *p->logit_cov == p->model_variance);
        assert_true(isnan(*p->probs) && isnan(*p->map_probs) && isnan(p->confidence));
    }
    free(a);
}

static void compare(const parity_case *s, const parity_inputs *in, int set, const structure *how,
                    gaps *worst) {
    const json_t *part = json_object_get(json_object_get(s->expected, sets[set]), how->name);
    bool kron = how->curvature == LA_CURVATURE_KRON;
    for (int joint = 0; part && joint < 2; joint++)
        for (int p = 0; p < 3; p++) {
            const json_t *want =
                json_object_get(json_object_get(part, joint ? "joint" : "given"), prior_names[p]);
            if (!want || (p == 2 && json_object_get(at(want, "prior_precisions"), "all")))
                continue;
            la_fit_options options = {.run.device = "cpu",
                                      .curvature = la_curvature_names[how->curvature],
                                      .kron = how->kron,
                                      .prior = priors[p],
                                      .prior_value = 1,
                                      .params = (la_params)set,
                                      .noise = joint ? 0 : given_noise};
            la_fit_summary *f = parity_fit(s, options);
            compare_fit(f, part, want, kron, worst);
            la_fit_summary_free(f);
            compare_answers(s, in, want, worst);
        }
}

static void check_gaps(const char *what, const gaps *worst, const gaps *limit) {
    print_message("    %s\n", what);
    check_within("outputs, relative", worst->outputs, limit->outputs);
    check_within("log (marginal) likelihood, relative", worst->likelihood, limit->likelihood);
    check_within("noise variance, relative", worst->noise, limit->noise);
    check_within("prior precision, relative", worst->prior, limit->prior);
    check_within("variance of the model, relative", worst->variance, limit->variance);
    if (limit->trace > 0) /* Kronecker factors alone */
        check_within("factor traces, relative", worst->trace, limit->trace);
}

/* The last layer's H is the worst conditioned: variances are what it says little of. */
static const gaps limits[LA_CURVATURES_FITTED] = {
    [LA_CURVATURE_KRON] = {1.4e-6, 1.4e-6, 3.6e-6, 2.2e-6, 5.4e-6, 1.8e-6},
    [LA_CURVATURE_EKFAC] = {1.4e-6, 4.4e-7, 9.6e-7, 7e-7, 5.6e-6, 0},
    [LA_CURVATURE_DIAG] = {1.4e-6, 3e-7, 7e-7, 9e-7, 6e-6, 0},
    [LA_CURVATURE_EXACT] = {1.4e-6, 1.1e-6, 7e-7, 3.8e-7, 1.8e-5, 0},
    [LA_CURVATURE_LAST_LAYER] = {1.4e-6, 4.8e-6, 5e-6, 1.1e-6, 1.1e-4, 0},
};

static void against_the_reference(void **state) {
    gaps worst[LA_CURVATURES_FITTED] = {{0}};
    int compared = 0;
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        parity_case s = parity_open(cases[c]);
        parity_inputs in = parity_read_inputs(s.test);
        assert_string_equal(json_string_value(at(s.expected, "task")), "regression");
        for (int set = 0; set < 3; set++)
            for (size_t i = 0; i < sizeof structures / sizeof *structures; i++) {
                compared += at(s.expected, sets[set]) &&
                            json_object_get(at(s.expected, sets[set]), structures[i].name);
                compare(&s, &in, set, &structures[i], &worst[structures[i].curvature]);
            }
        parity_free_inputs(&in);
        parity_close(&s);
    }
    /* expand and reduce of three sets, three structures of the adapter, the last layer */
    assert_int_equal(compared, sizeof cases / sizeof *cases * (2 * 3 + 3 + 1));
    for (int k = 0; k < LA_CURVATURES_FITTED; k++)
        check_gaps(la_curvature_names[k], &worst[k], &limits[k]);
}

/* ---- predictives ---- */

/* Last layer alone: its output is linear, so mean and variance over networks are those of the
 * closed form, within their own error. */
static void networks(void **state) {
    enum { NETWORKS = 4000 };
    parity_case s = parity_open("bert-regression");
    parity_inputs in = parity_read_inputs(s.test);
    parity_answers *closed = parity_new_answers(), *drawn = parity_new_answers();
    la_predict_options options = {.run.device = "cpu"};
    double worst_mean = 0, worst_variance = 0;
    (void)state;
    la_fit_summary_free(parity_fit(
        &s, (la_fit_options){.run.device = "cpu", .curvature = "last-layer", .noise = 0.2}));
    parity_predict(&s, options, &in, closed);
    options.predictive = "weights";
    options.samples = NETWORKS;
    options.seed = 3;
    parity_predict(&s, options, &in, drawn);
    for (int64_t i = 0; i < in.n; i++) {
        const la_prediction *a = &closed->rows[i], *b = &drawn->rows[i];
        /* in standard errors */
        double of_mean = sqrt(a->model_variance / NETWORKS);
        double of_variance = a->model_variance * sqrt(2.0 / NETWORKS);
        worst_mean = fmax(worst_mean, fabs(b->mean - a->mean) / of_mean);
        worst_variance =
            fmax(worst_variance, fabs(b->model_variance - a->model_variance) / of_variance);
        assert_true(b->map_mean == a->mean && b->mean != a->mean);
        assert_true(*b->variance == b->model_variance + 0.2);
    }
    check_within("mean over networks, in standard errors", worst_mean, 3.5);
    check_within("variance over networks, in standard errors", worst_variance, 3.5);
    free(closed);
    free(drawn);
    parity_free_inputs(&in);
    parity_close(&s);
}

static void other_predictives(void **state) {
    static const char *const refused[] = {"probit", "scalar", "bridge", "temperature"};
    parity_case s = parity_open("bert-regression");
    parity_inputs in = parity_read_inputs(s.test);
    parity_answers *a = parity_new_answers(), *few = parity_new_answers();
    la_predict_options options = {.run.device = "cpu",
                                  .posterior = s.posterior,
                                  .base = s.base,
                                  .adapter = s.adapter,
                                  .predictive = "map"};
    la_predictor *predictor;
    la_error err;
    (void)state;
    la_fit_summary_free(parity_fit(&s, (la_fit_options){.run.device = "cpu"}));
    parity_predict(&s, options, &in, a);
    for (int64_t i = 0; i < in.n; i++)
        assert_true(a->rows[i].model_variance == 0 &&
                    *a->rows[i].variance == a->rows[i].noise_variance && *a->rows[i].variance > 0);
    /* nothing is drawn: samples and seed change nothing */
    options.predictive = "mc";
    options.samples = 1000;
    parity_predict(&s, options, &in, a);
    options.samples = 0;
    options.seed = 99;
    parity_predict(&s, options, &in, few);
    assert_memory_equal(a->memory, few->memory, sizeof a->memory);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        options.predictive = refused[i];
        assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_UNSUPPORTED);
        assert_non_null(strstr(err.message, "regression"));
    }
    options.predictive = NULL;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_OK);
    assert_true(la_predictor_regresses(predictor));
    assert_int_equal(la_predictor_classes(predictor), 1);
    assert_null(la_predictor_label(predictor, 0));
    la_predictor_close(predictor);
    free(a);
    free(few);
    parity_free_inputs(&in);
    parity_close(&s);
}

/* ---- held-out rows ---- */

enum { HELD = 60, SCALES = 3 };

static double nll_at(const la_held_out *rows, int scale, double factor) {
    double sum = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        double cov = scale < 0 ? 0 : rows->cov[scale * rows->n + i];
        double variance = factor * (cov + rows->noise_variance);
        double miss = (double)rows->logits[i] - rows->labels.numbers[i];
        sum += 0.5 * (log(2 * M_PI * variance) + miss * miss / variance);
    }
    return sum / (double)rows->n;
}

typedef struct held_out {
    float outputs[HELD];
    double targets[HELD], cov[SCALES * HELD];
    la_held_out rows;
} held_out;

static const double held_scales[SCALES] = {0.1, 1, 10};

/* Misses of variance spread[i % 3] + 0.1, covariances of the middle scale those times `right`,
 * others the same for all rows. */
static void make_held_out(held_out *h, const double spread[3], double right) {
    double z[2];
    for (int64_t i = 0; i < HELD; i++) {
        la_random_normal(5, 1, (uint64_t)i * 2, 2, z);
        h->outputs[i] = (float)z[0];
        h->targets[i] = (double)h->outputs[i] + sqrt(spread[i % 3] + 0.1) * z[1];
        h->cov[i] = 1.5;
        h->cov[HELD + i] = right * spread[i % 3];
        h->cov[2 * HELD + i] = 0.01;
    }
    h->rows = (la_held_out){.n = HELD,
                            .n_scales = SCALES,
                            .n_classes = 1,
                            .logits = h->outputs,
                            .labels = {.kind = LA_LABEL_NUMBER, .numbers = h->targets},
                            .scales = held_scales,
                            .cov = h->cov,
                            .noise_variance = right * 0.1};
}

static void choice_by_held_out_rows(void **state) {
    static const double apart[3] = {0.01, 1, 9}, equal[3] = {0.5, 0.5, 0.5};
    held_out h;
    la_choice choice;
    la_error err = {0};
    (void)state;
    /* the covariances are right but four times too large, and so is the noise: factor about 1/4 */
    make_held_out(&h, apart, 4);
    assert_int_equal(la_select_number(la_team_of(1), &h.rows, &choice, &err), LA_OK);
    const la_candidate *laplace = &choice.candidates[LA_METHOD_LAPLACE];
    const la_candidate *map = &choice.candidates[LA_METHOD_MAP];
    double factor = laplace->noise_variance / h.rows.noise_variance;
    assert_int_equal(choice.method, LA_METHOD_LAPLACE);
    assert_int_equal(choice.guarded, 1);
    assert_true(factor > 0.15 && factor < 0.4);
    /* a scale of 1 of the middle covariances, brought to that noise */
    assert_true(relative(laplace->prior_scale * factor, 1, 1) < 1e-14);
    assert_true(relative(laplace->nll, nll_at(&h.rows, 1, factor), 1) < 1e-14);
    /* no other setting is better */
    double map_factor = map->noise_variance / h.rows.noise_variance;
    for (int scale = -1; scale < SCALES; scale++)
        for (double other = 1e-3; other < 1e3; other *= 1.05)
            assert_true(nll_at(&h.rows, scale, other) >=
                        (scale < 0 ? map->nll : laplace->nll) - 1e-12);
    assert_true(relative(map->nll, nll_at(&h.rows, -1, map_factor), 1) < 1e-14);
    assert_true(map->gap > map->gap_error && laplace->gap == 0);
    assert_true(relative(map->gap, map->nll - laplace->nll, 1) < 1e-13);
    assert_true(isnan(choice.candidates[LA_METHOD_TEMPERATURE].nll));
    /* a given noise stays, the scale is chosen */
    h.rows.noise_given = true;
    assert_int_equal(la_select_number(la_team_of(1), &h.rows, &choice, &err), LA_OK);
    assert_true(choice.candidates[LA_METHOD_LAPLACE].noise_variance == h.rows.noise_variance);
    assert_true(choice.candidates[LA_METHOD_MAP].noise_variance == h.rows.noise_variance);
    /* rows that are all alike: a constant variance says the same with a number less */
    make_held_out(&h, equal, 1);
    assert_int_equal(la_select_number(la_team_of(1), &h.rows, &choice, &err), LA_OK);
    assert_int_equal(choice.method, LA_METHOD_MAP);
    /* exact on all rows */
    for (int64_t i = 0; i < HELD; i++)
        h.targets[i] = (double)h.outputs[i];
    assert_int_equal(la_select_number(la_team_of(1), &h.rows, &choice, &err), LA_NUMERICAL);
}

static double own_nll(const parity_answers *a, const json_t *rows) {
    double sum = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *label = json_object_get(json_array_get(rows, i), "label");
        double target =
            json_is_string(label) ? atof(json_string_value(label)) : json_number_value(label);
        double variance = *a->rows[i].variance, miss = a->rows[i].mean - target;
        sum += 0.5 * (log(2 * M_PI * variance) + miss * miss / variance);
    }
    return sum / (double)json_array_size(rows);
}

/* Likelihood of held-out rows by the fit, equal to that of predictions; the file keeps it. */
static void fit_with_held_out_rows(void **state) {
    parity_case s = parity_open("bert-regression");
    parity_inputs in = parity_read_inputs(s.test);
    parity_answers *a = parity_new_answers();
    json_t *rows = load_lines(s.test);
    static const char *const curvatures[] = {"kron", "exact"};
    double worst = 0;
    (void)state;
    for (int k = 0; k < 2; k++) {
        la_fit_summary *f = parity_fit(&s, (la_fit_options){.run.device = "cpu",
                                                            .curvature = curvatures[k],
                                                            .prior = LA_PRIOR_GLOBAL,
                                                            .val = s.test});
        assert_true(f->choice.record->guarded && !f->choice.record->cross);
        assert_int_equal(f->choice.record->n, in.n);
        la_predict_options options = {.run.device = "cpu", .predictive = "map"};
        parity_predict(&s, options, &in, a);
        parity_raise(&worst,
                     fabs(own_nll(a, rows) - f->choice.record->candidates[LA_METHOD_MAP].nll));
        options.predictive = "mc";
        parity_predict(&s, options, &in, a);
        parity_raise(&worst,
                     fabs(own_nll(a, rows) - f->choice.record->candidates[LA_METHOD_LAPLACE].nll));
        assert_true(a->rows[0].map_variance ==
                    f->choice.record->candidates[LA_METHOD_MAP].noise_variance);
        assert_true(a->rows[0].noise_variance == f->noise_variance);
        options.predictive = NULL;
        parity_predict(&s, options, &in, a);
        parity_raise(&worst, fabs(own_nll(a, rows) -
                                  f->choice.record->candidates[f->choice.record->method].nll));
        la_fit_summary_free(f);
    }
    check_within("NLL of the held-out rows, as chosen and as predicted", worst, 5.6e-8);
    json_decref(rows);
    parity_free_inputs(&in);
    parity_close(&s);
    free(a);
}

/* Cross-fitting at a noise that is given finds what fits without each part say; here: that it runs
 * for every structure, keeps the noise, and its MAP candidate is the constant variance. */
static void cross_fitted(void **state) {
    parity_case s = parity_open("roberta-regression");
    json_t *rows = load_lines(s.calib);
    (void)state;
    for (int k = 0; k < LA_CURVATURES_FITTED; k++) {
        la_fit_options options = {.run.device = "cpu",
                                  .curvature = la_curvature_names[k],
                                  .prior = LA_PRIOR_GLOBAL,
                                  .heldout = 1};
        la_fit_summary *f = parity_fit(&s, options);
        assert_true(f->choice.record->guarded && f->choice.record->cross);
        assert_int_equal(f->choice.record->n, json_array_size(rows));
        const la_candidate *map = &f->choice.record->candidates[LA_METHOD_MAP];
        /* the likelihood of a Gaussian at its own variance */
        assert_true(relative(map->nll, 0.5 * (log(2 * M_PI * map->noise_variance) + 1), 1) < 1e-13);
        assert_true(isfinite(f->choice.record->candidates[LA_METHOD_LAPLACE].nll));
        la_fit_summary_free(f);
        options.noise = 0.3;
        f = parity_fit(&s, options);
        assert_true(f->noise_variance == 0.3);
        assert_true(f->choice.record->candidates[LA_METHOD_MAP].noise_variance == 0.3);
        la_fit_summary_free(f);
    }
    json_decref(rows);
    parity_close(&s);
}

/* ---- files ---- */

static void posterior_file(void **state) {
    parity_case s = parity_open("bert-regression");
    la_posterior p;
    la_error err = {0};
    (void)state;
    la_fit_summary *f = parity_fit(&s, (la_fit_options){.run.device = "cpu", .val = s.test});
    assert_int_equal(la_posterior_load(s.posterior, &p, &err), LA_OK);
    assert_true(p.noise_variance == f->noise_variance && p.noise_variance > 0);
    assert_int_equal(p.n_classes, 1);
    assert_int_equal(p.choice.method, f->choice.record->method);
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *a = &p.choice.candidates[k], *b = &f->choice.record->candidates[k];
        assert_int_equal(isnan(a->nll), isnan(b->nll));
        assert_true(isnan(a->accuracy));
        if (isnan(a->nll))
            continue;
        assert_true(a->nll == b->nll && a->noise_variance == b->noise_variance &&
                    a->prior_scale == b->prior_scale);
    }
    /* a model that misses nothing has no best noise; a given one is taken */
    p.square_error = 0;
    assert_int_equal(la_noise_choose(&p, LA_PRIOR_GLOBAL, 0, 0, &err), LA_NUMERICAL);
    assert_non_null(strstr(err.message, "--noise"));
    err = (la_error){0};
    assert_int_equal(la_noise_choose(&p, LA_PRIOR_GLOBAL, 0, 0.25, &err), LA_OK);
    assert_true(p.noise_variance == 0.25);
    assert_true(relative(p.log_likelihood, -0.5 * (double)p.n_rows * log(0.5 * M_PI), 1) < 1e-15);
    la_posterior_free(&p);
    la_fit_summary_free(f);
    parity_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_the_reference),  cmocka_unit_test(networks),
        cmocka_unit_test(other_predictives),      cmocka_unit_test(choice_by_held_out_rows),
        cmocka_unit_test(fit_with_held_out_rows), cmocka_unit_test(cross_fitted),
        cmocka_unit_test(posterior_file),
    };
    return cmocka_run_group_tests_name("regression", tests, NULL, NULL);
}
