#include "support/parity.h"

#include <math.h>
#include <stdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Options of the check that is running. */
static la_run_options run;
static int64_t samples;

static const char *const kron_names[] = {"expand", "reduce"};

void parity_raise(double *worst, double value) {
    /* a NaN stays */
    if (!isnan(*worst) && !(value <= *worst))
        *worst = value;
}

parity_inputs parity_read_inputs(const char *path) {
    parity_inputs in = {0};
    json_t *lines = load_lines(path), *row;
    size_t index;
    json_array_foreach(lines, index, row) {
        const json_t *ids = json_object_get(row, "input_ids");
        size_t n = json_array_size(ids);
        int32_t *copy = calloc(n, sizeof *copy);
        for (size_t i = 0; i < n; i++)
            copy[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        const json_t *labels = json_object_get(row, "labels");
        int64_t first = in.n;
        for (size_t i = 0; i < (labels ? n : 1); i++)
            if (!labels || json_integer_value(json_array_get(labels, i)) >= 0)
                in.rows[in.n++] = (la_input){.ids = copy, .n_ids = (int64_t)n, .place = (int64_t)i};
        in.owner[first] = true;
        assert_true(in.n > first && in.n <= PARITY_ROWS);
    }
    json_decref(lines);
    return in;
}

void parity_free_inputs(parity_inputs *in) {
    for (int64_t i = 0; i < in->n; i++)
        if (in->owner[i])
            free((void *)(uintptr_t)in->rows[i].ids);
}

parity_answers *parity_new_answers(void) {
    parity_answers *a = calloc(1, sizeof *a);
    for (int i = 0; i < PARITY_ROWS; i++)
        a->rows[i] = (la_prediction){.probs = a->memory[i],
                                     .map_probs = a->memory[i] + PARITY_CLASSES,
                                     .logits = a->memory[i] + 2 * PARITY_CLASSES,
                                     .variance = a->memory[i] + 3 * PARITY_CLASSES,
                                     .logit_cov = a->memory[i] + 4 * PARITY_CLASSES};
    return a;
}

void parity_adapter_names(const char *adapter, char names[128]) {
    char path[600];
    snprintf(path, sizeof path, "%s/adapters.txt", adapter);
    FILE *file = fopen(path, "r");
    *names = 0;
    if (!file)
        return;
    assert_int_equal(fscanf(file, "%127s", names), 1);
    fclose(file);
}

parity_case parity_open(const char *name) {
    parity_case s = {.name = name};
    char path[512];
#define PATH(field, tail) snprintf(s.field, sizeof s.field, "%s/" tail, fixture(path))
    snprintf(path, sizeof path, "parity/%s", name);
    PATH(base, "base");
    PATH(adapter, "adapter");
    PATH(calib, "calib.jsonl");
    PATH(test, "test.jsonl");
#undef PATH
    parity_adapter_names(s.adapter, s.adapter_names);
    snprintf(s.posterior, sizeof s.posterior, "%s", scratch("parity.h5"));
    snprintf(path, sizeof path, "parity/%s/expected.json", name);
    s.expected = load_json(fixture(path));
    snprintf(path, sizeof path, "parity/%s/expected_extra.json", name);
    s.extra = json_load_file(fixture(path), 0, NULL);
    const json_t *ids = json_object_get(s.expected, "choice_ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        char one[32];
        snprintf(one, sizeof one, "%s%lld", i ? "," : "",
                 (long long)json_integer_value(json_array_get(ids, i)));
        strcat(s.choice_ids, one);
    }
    return s;
}

void parity_close(parity_case *s) {
    json_decref(s->expected);
    json_decref(s->extra);
}

la_fit_summary *parity_fit(const parity_case *s, la_fit_options options) {
    la_fit_summary *summary;
    la_error err;
    options.base = s->base;
    options.adapter = s->adapter;
    options.run.adapter_name = *s->adapter_names ? s->adapter_names : NULL;
    options.data = s->calib;
    options.out = s->posterior;
    options.choice_ids = *s->choice_ids ? s->choice_ids : NULL;
    if (la_fit(&options, &summary, &err) != LA_OK)
        fail_msg("%s: %s", s->name, err.message);
    return summary;
}

void parity_predict(const parity_case *s, la_predict_options options, const parity_inputs *in,
                    parity_answers *out) {
    la_predictor *predictor;
    la_error err;
    options.posterior = s->posterior;
    options.base = s->base;
    options.adapter = s->adapter;
    if (la_predictor_open(&options, &predictor, &err) != LA_OK ||
        la_predictor_run(predictor, in->rows, in->n, out->rows, &err) != LA_OK)
        fail_msg("%s: %s", s->name, err.message);
    la_predictor_close(predictor);
}

static la_fit_summary *fit(const parity_case *s, la_kron kron, la_prior_kind prior, double value,
                           la_params params) {
    return parity_fit(
        s, (la_fit_options){
               .run = run, .kron = kron, .prior = prior, .prior_value = value, .params = params});
}

static void predict(const parity_case *s, int64_t draws, parity_answers *out,
                    const parity_inputs *in) {
    parity_predict(s, (la_predict_options){.run = run, .samples = draws, .seed = 7}, in, out);
}

static double logit_deviation(const json_t *expected, const parity_answers *a,
                              const parity_inputs *in) {
    double worst = 0;
    int64_t c = (int64_t)json_array_size(json_array_get(expected, 0));
    for (int64_t i = 0; i < in->n; i++)
        for (int64_t j = 0; j < c; j++) {
            double want =
                json_number_value(json_array_get(json_array_get(expected, (size_t)i), (size_t)j));
            double gap = relative(a->rows[i].logits[j], want, 1);
            worst = gap > worst ? gap : worst;
        }
    return worst;
}

double parity_covariance_gap(const json_t *expected, const parity_answers *a) {
    double worst = 0;
    for (size_t i = 0; i < json_array_size(expected); i++) {
        const json_t *row = json_array_get(expected, i);
        size_t c = json_array_size(row);
        double gap = 0, norm = 0;
        for (size_t j = 0; j < c; j++)
            for (size_t k = 0; k < c; k++) {
                double want = json_number_value(json_array_get(json_array_get(row, j), k));
                double got = a->rows[i].logit_cov[j * c + k];
                gap += (got - want) * (got - want);
                norm += want * want;
            }
        parity_raise(&worst, sqrt(gap / norm));
    }
    return worst;
}

static double probability_deviation(const json_t *expected, const parity_answers *a,
                                    const parity_inputs *in) {
    double worst = 0;
    for (int64_t i = 0; i < in->n; i++) {
        const json_t *row = json_array_get(expected, (size_t)i);
        for (size_t j = 0; j < json_array_size(row); j++) {
            double gap = fabs(a->rows[i].probs[j] - json_number_value(json_array_get(row, j)));
            worst = gap > worst ? gap : worst;
        }
    }
    return worst;
}

static deviations total;
static double worst_mc;

/* The traces of the given cases are keyed by PEFT's own names, the new ones' by block. */
static double trace_deviation(const json_t *want, const la_fit_summary *summary) {
    double worst = 0;
    for (int64_t b = 0; b < summary->n_blocks; b++) {
        const la_block_summary *block = &summary->blocks[b];
        char key[512];
        snprintf(key, sizeof key, "base_model.model.%s.default", block->name);
        const json_t *pair = json_object_get(json_object_get(want, "trace"), key);
        if (!json_is_array(pair) && !json_is_object(pair))
            continue;
        double in = json_number_value(json_is_array(pair) ? json_array_get(pair, 0)
                                                          : json_object_get(pair, "in"));
        double out = json_number_value(json_is_array(pair) ? json_array_get(pair, 1)
                                                           : json_object_get(pair, "out"));
        parity_raise(&worst, relative(block->trace_in, in, 1e-12));
        /* sums that cancel to rounding in the reference are 0 here */
        parity_raise(&worst, relative(block->trace_out, out, 1e-6));
    }
    return worst;
}

static void compare(const parity_case *s, la_kron kron, la_params params, const json_t *want,
                    parity_inputs *in) {
    parity_answers *a = parity_new_answers();
    la_fit_summary *f = fit(s, kron, LA_PRIOR_GLOBAL, 0, params);
    parity_raise(&total.likelihood,
                 relative(f->log_likelihood, number_at(want, "log_likelihood"), 1));
    parity_raise(&total.likelihood, relative(f->log_marginal_likelihood,
                                             number_at(want, "log_marginal_likelihood"), 1));
    parity_raise(&total.prior,
                 relative(f->prior_precision, number_at(want, "prior_precision"), 1e-12));
    assert_int_equal(f->n_tokens, (int64_t)number_at(want, "n_tokens"));
    assert_int_equal(f->n_blocks, (int64_t)number_at(want, "n_modules"));
    parity_raise(&total.trace, trace_deviation(want, f));
    la_fit_summary_free(f);
    predict(s, samples, a, in);
    parity_raise(&total.logits, logit_deviation(at(s->expected, "logits"), a, in));
    parity_raise(&total.covariance, parity_covariance_gap(at(want, "centred_logit_cov"), a));
    parity_raise(&worst_mc, probability_deviation(at(want, "mc_probs"), a, in));

    f = fit(s, kron, LA_PRIOR_FIXED, 1, params);
    parity_raise(&total.likelihood, relative(f->log_marginal_likelihood,
                                             number_at(want, "log_marginal_likelihood_at_1"), 1));
    la_fit_summary_free(f);
    predict(s, 0, a, in);
    parity_raise(&total.covariance, parity_covariance_gap(at(want, "centred_logit_cov_at_1"), a));
    free(a);
}

/* Under reduce the row sums of a key projection's cotangents are zero (softmax does not see a shift
 * of all keys), so its block has no curvature and its likelihood no maximum: the reference runs
 * down to rounding. */
#define FLAT 1e-9

static bool has_flat_block(const json_t *precisions) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)precisions, name, value) {
        if (json_number_value(value) < FLAT)
            return true;
    }
    return false;
}

/* Flat blocks share one sensible precision; the others are as the reference has them. */
static void check_flat_blocks(const json_t *precisions, const la_fit_summary *f) {
    double shared = 0;
    for (int64_t b = 0; b < f->n_blocks; b++) {
        double want = json_number_value(json_object_get(precisions, f->blocks[b].name));
        double got = f->blocks[b].prior_precision;
        if (want >= FLAT) {
            parity_raise(&total.prior, relative(got, want, 1e-12));
            continue;
        }
        assert_true(got > 1e-3 && got < 1e3);
        assert_true(!shared || shared == got);
        shared = got;
    }
    assert_true(shared > 0);
}

static void compare_modules(const parity_case *s, la_kron kron, la_params params,
                            const json_t *want, parity_inputs *in) {
    const json_t *module = at(want, "module");
    if (!module)
        return;
    parity_answers *a = parity_new_answers();
    la_fit_summary *f = fit(s, kron, LA_PRIOR_MODULE, 0, params);
    const json_t *precisions = at(module, "prior_precision_per_module");
    assert_int_equal(json_object_size(precisions), f->n_blocks);
    if (has_flat_block(precisions)) {
        check_flat_blocks(precisions, f);
        la_fit_summary_free(f);
        free(a);
        return;
    }
    for (int64_t b = 0; b < f->n_blocks; b++) {
        const json_t *value = json_object_get(precisions, f->blocks[b].name);
        if (!value)
            fail_msg("%s: no block %s in the reference", s->name, f->blocks[b].name);
        parity_raise(&total.prior,
                     relative(f->blocks[b].prior_precision, json_number_value(value), 1e-12));
    }
    parity_raise(&total.likelihood,
                 relative(f->log_marginal_likelihood,
                          number_at(module, "log_marginal_likelihood_per_module"), 1));
    la_fit_summary_free(f);
    predict(s, 0, a, in);
    parity_raise(&total.covariance,
                 parity_covariance_gap(at(module, "centred_logit_cov_per_module"), a));
    free(a);
}

void check_parity(const char *name, const char *device, const char *precision,
                  const parity_limits *limits) {
    samples = limits->samples;
    /* the emulated device is slow under sanitizers */
    bool brief = limits->brief || getenv("LA_TESTS_BRIEF");
    run = (la_run_options){
        .device = device, .precision = precision, .batch_tokens = limits->batch_tokens};
    parity_case s = parity_open(name);
    parity_inputs in = parity_read_inputs(s.test);
    static const char *const sets[] = {NULL, "lora+head", "head", "lora+magnitude",
                                       "lora+magnitude+head"};
    total = (deviations){0};
    worst_mc = 0;
    for (int set = 0; set < (brief ? 1 : 5); set++) {
        const json_t *root = s.expected, *extra = s.extra ? s.extra : s.expected;
        if (set) {
            root = at(extra, sets[set]);
            extra = root;
        }
        for (int kron = 0; root && kron < 2; kron++) {
            compare(&s, (la_kron)kron, (la_params)set, at(root, kron_names[kron]), &in);
            if (!brief)
                compare_modules(&s, (la_kron)kron, (la_params)set, at(extra, kron_names[kron]),
                                &in);
        }
    }
    check_within("logits, relative", total.logits, limits->logits);
    check_within("log (marginal) likelihood, relative", total.likelihood, limits->likelihood);
    check_within("prior precision, relative", total.prior, limits->prior);
    check_within("covariance, relative Frobenius", total.covariance, limits->covariance);
    check_within("factor traces, relative", total.trace, limits->trace);
    check_within("probabilities", worst_mc, limits->probabilities);
    parity_free_inputs(&in);
    parity_close(&s);
}
