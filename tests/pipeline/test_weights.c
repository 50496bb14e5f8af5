/* Networks sampled from a posterior: their logits have the covariance of the linearised model where
 * that is exact, for every kind of curvature; they depend on seed and number alone; and the MAP
 * network is there again afterwards. Then TFB, which samples another way. */
#include "base/random.h"
#include "base/machine.h"
#include "bayes/draw.h"
#include "likelihood/answer.h"
#include "likelihood/likelihood.h"
#include "model/weights.h"
#include "output/posterior_file.h"
#include "pipeline/sampler.h"
#include "pipeline/tfb_job.h"
#include "support/parity.h"
#include "support/row_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NETWORKS = 1500, NETWORKS_BRIEF = 60 };

/* ---- a fixture, its posterior, and a session on it ---- */

typedef struct fixture_paths {
    char base[512], adapter[512], calib[512], test[512], posterior[512];
    char adapters[128]; /* names, "" where there is one */
} fixture_paths;

static fixture_paths paths_of(const char *name) {
    fixture_paths p;
    char path[256];
    snprintf(path, sizeof path, "parity/%s", name);
    const char *root = fixture(path);
    snprintf(p.base, sizeof p.base, "%.400s/base", root);
    snprintf(p.adapter, sizeof p.adapter, "%.400s/adapter", root);
    snprintf(p.calib, sizeof p.calib, "%.400s/calib.jsonl", root);
    snprintf(p.test, sizeof p.test, "%.400s/test.jsonl", root);
    snprintf(p.posterior, sizeof p.posterior, "%s", scratch("weights.h5"));
    parity_adapter_names(p.adapter, p.adapters);
    return p;
}

static void succeed(la_status status, const la_error *err) {
    if (status != LA_OK)
        fail_msg("%s", err->message);
}

/* A posterior with exactly that prior precision. */
static void fit(const fixture_paths *p, la_fit_options options) {
    la_fit_summary *summary;
    la_error err;
    options.run.device = "cpu";
    options.run.threads = 1;
    options.run.adapter_name = *p->adapters ? p->adapters : NULL;
    options.base = p->base;
    options.adapter = p->adapter;
    options.data = p->calib;
    options.out = p->posterior;
    options.prior = LA_PRIOR_FIXED;
    options.prior_given = 1;
    succeed(la_fit(&options, &summary, &err), &err);
    la_fit_summary_free(summary);
}

static void predict(const fixture_paths *p, given_rows *a, la_predict_options options) {
    la_predictor *predictor;
    la_error err;
    options.run.device = "cpu";
    options.run.threads = options.run.threads ? options.run.threads : 1;
    options.posterior = p->posterior;
    succeed(la_predictor_open(&options, &predictor, &err), &err);
    succeed(la_predictor_run(predictor, a->in, a->n, a->out, &err), &err);
    a->classes = la_predictor_classes(predictor);
    la_predictor_close(predictor);
}

typedef struct opened {
    la_posterior posterior;
    la_session session;
    la_batch batch;
} opened;

/* All rows of `a` as one batch for a session that is forward only. */
static void open_all(const fixture_paths *p, const given_rows *a, opened *o) {
    la_error err = {0};
    bool changed;
    succeed(la_posterior_load(p->posterior, &o->posterior, &err), &err);
    la_session_options options = {.run = {.device = "cpu",
                                          .threads = 1,
                                          .adapter_name = o->posterior.provenance.adapter_name},
                                  .base = p->base,
                                  .adapter = p->adapter,
                                  .params = o->posterior.params,
                                  .forward_only = true,
                                  .kind = la_structure_of(o->posterior.curvature),
                                  .posterior = &o->posterior};
    succeed(la_session_open(&options, &o->session, &err), &err);
    succeed(la_batch_open(ROWS_MOST, 4096, &o->batch, &err), &err);
    for (int64_t i = 0; i < a->n; i++)
        la_batch_add(&o->batch, &o->session.workers[0].model, a->in[i].ids, NULL, a->in[i].n_ids,
                     0);
    succeed(
        la_session_reserve(&o->session, &o->session.workers[0], o->batch.n_tokens, &changed, &err),
        &err);
}

static void close_all(opened *o) {
    la_batch_free(&o->batch);
    la_session_close(&o->session);
    la_posterior_free(&o->posterior);
}

static void forward(opened *o, float *logits) {
    la_error err = {0};
    succeed(la_run_forward(&o->session.workers[0].run, &o->batch, logits, &err), &err);
}

static la_weights *open_weights(opened *o) {
    la_error err = {0};
    la_weights *weights;
    la_model *model = &o->session.workers[0].model;
    bool *wanted = calloc((size_t)model->n_blocks, sizeof *wanted);
    for (int64_t b = 0; b < model->n_blocks; b++)
        wanted[b] = model->blocks[b].wanted;
    succeed(la_weights_open(model, wanted, &weights, &err), &err);
    free(wanted);
    return weights;
}

/* ---- the covariance of sampled networks' logits ---- */

/* Lower Cholesky factor in place, then x = L^-1 x. */
static void factor(int64_t m, double *a) {
    for (int64_t j = 0; j < m; j++) {
        for (int64_t k = 0; k < j; k++)
            a[j * m + j] -= a[j * m + k] * a[j * m + k];
        assert_true(a[j * m + j] > 0);
        a[j * m + j] = sqrt(a[j * m + j]);
        for (int64_t i = j + 1; i < m; i++) {
            for (int64_t k = 0; k < j; k++)
                a[i * m + j] -= a[i * m + k] * a[j * m + k];
            a[i * m + j] /= a[j * m + j];
        }
    }
}

static void solve(int64_t m, const double *l, double *x) {
    for (int64_t i = 0; i < m; i++) {
        for (int64_t k = 0; k < i; k++)
            x[i] -= l[i * m + k] * x[k];
        x[i] /= l[i * m + i];
    }
}

/* factors[n, m, m] of the rows' covariances of the contrasts */
static void factor_rows(const given_rows *a, const double *basis, double *factors) {
    int64_t c = a->classes, m = c - 1;
    for (int64_t i = 0; i < a->n; i++) {
        double *f = factors + i * m * m;
        memset(f, 0, (size_t)(m * m) * sizeof *f);
        for (int64_t k = 0; k < m; k++)
            for (int64_t l = 0; l < m; l++)
                for (int64_t u = 0; u < c; u++)
                    for (int64_t v = 0; v < c; v++)
                        f[k * m + l] +=
                            basis[u * m + k] * a->out[i].logit_cov[u * c + v] * basis[v * m + l];
        factor(m, f);
    }
}

static double trace_of(const given_rows *a) {
    double trace = 0;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t j = 0; j < a->classes; j++)
            trace += a->out[i].logit_cov[j * a->classes + j];
    return trace;
}

/* Deviation of the second moments of whitened numbers, in standard deviations of sampling: for the
 * worst entry of any row, and for the mean of all squares (whose deviation is at most that of one
 * row: rows share their networks). */
typedef struct excess {
    double entry, mean;
} excess;

static excess measure_excess(int64_t n, int64_t m, int64_t networks, const double *moments) {
    excess worst = {0};
    double count = (double)networks, sum = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < m; k++)
            for (int64_t l = 0; l <= k; l++) {
                double value = moments[(i * m + k) * m + l] / count;
                double sigmas = (value - (k == l)) / sqrt((k == l ? 2 : 1) / count);
                worst.entry = fmax(worst.entry, fabs(sigmas));
                sum += k == l ? value : 0;
            }
    worst.mean = fabs(sum / (double)(n * m) - 1) / sqrt(2 / (count * (double)m));
    return worst;
}

/* Networks map + t eps with t so small that the model is linear there; their contrasts, over t and
 * whitened by the linearised model's covariance, have the identity for a covariance. */
static excess sample(const fixture_paths *p, const given_rows *a, double lambda, int64_t networks) {
    opened o;
    la_draw *draw;
    la_error err = {0};
    int64_t c = a->classes, m = c - 1, n = a->n;
    double t = fmin(1, 1e-3 * sqrt(lambda)), x[ROW_CLASSES];
    double basis[ROW_CLASSES * ROW_CLASSES];
    double *factors = calloc((size_t)(n * m * m), sizeof *factors);
    double *moments = calloc((size_t)(n * m * m), sizeof *moments);
    float *at_map = calloc((size_t)(n * c), sizeof *at_map);
    float *logits = calloc((size_t)(n * c), sizeof *logits);
    la_softmax_likelihood.contrast_basis(c, basis);
    factor_rows(a, basis, factors);
    open_all(p, a, &o);
    la_weights *weights = open_weights(&o);
    size_t width = (size_t)la_weights_count(weights);
    assert_int_equal(width, la_posterior_width(&o.posterior));
    float *map = calloc(width, sizeof *map), *theta = calloc(width, sizeof *theta);
    succeed(la_weights_read(weights, map, &err), &err);
    succeed(la_draw_open(la_team_of(2), &o.posterior, 5, &draw, &err), &err);
    forward(&o, at_map);
    for (int64_t s = 0; s < networks; s++) {
        la_draw_network(draw, s, map, theta);
        for (size_t i = 0; i < width; i++)
            theta[i] = (float)((double)map[i] + t * ((double)theta[i] - (double)map[i]));
        la_weights_put(weights, theta);
        forward(&o, logits);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t k = 0; k < m; k++) {
                x[k] = 0;
                for (int64_t u = 0; u < c; u++)
                    x[k] += basis[u * m + k] *
                            ((double)logits[i * c + u] - (double)at_map[i * c + u]) / t;
            }
            solve(m, factors + i * m * m, x);
            for (int64_t k = 0; k < m; k++)
                for (int64_t l = 0; l < m; l++)
                    moments[(i * m + k) * m + l] += x[k] * x[l];
        }
    }
    la_draw_close(draw);
    la_weights_close(weights);
    close_all(&o);
    excess worst = measure_excess(n, m, networks, moments);
    free(factors), free(moments), free(at_map), free(logits), free(map), free(theta);
    return worst;
}

typedef struct form {
    const char *name, *folder;
    const char *curvature;
    la_kron kron;
    la_params params;
    int64_t rank;
    double lambda; /* where the data say about as much as the prior */
} form;

static const form forms[] = {
    {"kron", "bert-all-linear", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"kron reduce", "bert", "kron", LA_KRON_REDUCE, LA_PARAMS_LORA, 0, 0.1},
    {"kron of rank 6", "bert-all-linear", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA, 6, 0.1},
    {"kron with head", "bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"kron with head, rank 6", "llama-seq", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 6, 0.1},
    {"ekfac", "bert-all-linear", "ekfac", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"ekfac of rank 6", "bert", "ekfac", LA_KRON_EXPAND, LA_PARAMS_LORA, 6, 0.1},
    {"diag", "bert-all-linear", "diag", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"exact", "bert", "exact", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"exact of rank 8", "bert-all-linear", "exact", LA_KRON_EXPAND, LA_PARAMS_LORA, 8, 0.1},
    {"last-layer", "bert", "last-layer", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"embedding", "lora-embedding-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"embedding, exact", "lora-embedding-bert", "exact", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"prompt, ekfac", "prompt-tuning-bert", "ekfac", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"bottleneck", "parallel-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"f16 head", "bert-f16-head", "kron", LA_KRON_EXPAND, LA_PARAMS_HEAD, 0, 0.1},
    {"DoRA", "dora-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"DoRA, magnitudes, head", "dora-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA_MAGNITUDE_HEAD,
     0, 0.1},
    {"AdaLoRA", "adalora", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"IA3", "ia3-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"IA3, ekfac", "ia3-bert", "ekfac", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"IA3, diag", "ia3-bert", "diag", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"VeRA", "vera-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"a union", "union-bert", "kron", LA_KRON_EXPAND, LA_PARAMS_LORA_HEAD, 0, 0.1},
    {"one inside the other", "mixed-bert", "ekfac", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
    {"IA3, exact", "ia3-bert", "exact", LA_KRON_EXPAND, LA_PARAMS_LORA, 0, 0.1},
};

static void check_form(const form *f, double lambda, bool curved, excess *worst) {
    fixture_paths p = paths_of(f->folder);
    given_rows *a = rows_read(p.test);
    int64_t networks = getenv("LA_TESTS_BRIEF") ? NETWORKS_BRIEF : NETWORKS;
    la_fit_options options = {
        .curvature = f->curvature, .kron = f->kron, .params = f->params, .rank = f->rank};
    double trace[2];
    for (int i = 0; i < 2; i++) {
        options.prior_value = i ? lambda : 1e8;
        fit(&p, options);
        predict(&p, a, (la_predict_options){.samples = 0});
        trace[i] = trace_of(a) * options.prior_value;
    }
    excess e = sample(&p, a, lambda, networks);
    printf("    %-24s lambda %g: prior alone %.3g times the covariance; %.2f, %.2f sigmas\n",
           f->name, lambda, trace[0] / trace[1], e.entry, e.mean);
    if (curved)
        assert_true(trace[0] > 1.2 * trace[1]);
    worst->entry = fmax(worst->entry, e.entry);
    worst->mean = fmax(worst->mean, e.mean);
    free(a);
}

static void covariance_of_logits(void **state) {
    (void)state;
    excess worst = {0};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        check_form(&forms[i], forms[i].lambda, true, &worst);
    check_within("an entry of a row's whitened covariance, sigmas", worst.entry, 4.5);
    check_within("the mean square, sigmas", worst.mean, 3);
}

/* No scaling of eps here: the networks are what predict uses. */
static void covariance_under_a_tight_prior(void **state) {
    (void)state;
    excess worst = {0};
    check_form(&forms[0], 1e6, false, &worst);
    check_form(&forms[4], 1e6, false, &worst);
    check_form(&forms[8], 1e6, false, &worst);
    check_within("an entry of a row's whitened covariance, sigmas", worst.entry, 4.5);
    check_within("the mean square, sigmas", worst.mean, 3);
}

/* ---- predicting with them ---- */

static void huge_prior_is_map(void **state) {
    (void)state;
    fixture_paths p = paths_of("bert-all-linear");
    given_rows *a = rows_read(p.test);
    double gap = 0, spread = 0;
    fit(&p, (la_fit_options){.prior_value = 1e14, .params = LA_PARAMS_LORA_HEAD});
    predict(&p, a, (la_predict_options){.predictive = "weights", .samples = 20});
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t c = 0; c < a->classes; c++) {
            gap = fmax(gap, fabs(a->out[i].probs[c] - a->out[i].map_probs[c]));
            spread = fmax(spread, fmax(a->out[i].variance[c], a->out[i].mutual_information));
        }
    check_within("probabilities against MAP", gap, 2e-6);
    check_within("variance, mutual information", spread, 1e-10);
    free(a);
}

/* One network's logits say what the row says: softmax over the temperature, entropy, variance. */
static void means_of_networks(void **state) {
    (void)state;
    fixture_paths p = paths_of("bert");
    given_rows *a = rows_read(p.test), *map = rows_read(p.test);
    fit(&p, (la_fit_options){.prior_value = 5});
    predict(&p, map, (la_predict_options){.predictive = "map"});
    predict(&p, a, (la_predict_options){.predictive = "weights", .samples = 3, .seed = 2});
    opened o;
    open_all(&p, a, &o);
    la_draw *draw;
    la_error err = {0};
    la_weights *weights = open_weights(&o);
    size_t width = (size_t)la_weights_count(weights);
    int64_t c = a->classes;
    float *theta = calloc(2 * width, sizeof *theta), logits[ROWS_MOST * ROW_CLASSES];
    double probs[3][ROWS_MOST][ROW_CLASSES], gap = 0, moved = 0;
    succeed(la_weights_read(weights, theta, &err), &err);
    succeed(la_draw_open(la_team_of(2), &o.posterior, 2, &draw, &err), &err);
    for (int s = 0; s < 3; s++) {
        la_draw_network(draw, s, theta, theta + width);
        la_weights_put(weights, theta + width);
        forward(&o, logits);
        for (int64_t i = 0; i < a->n; i++) {
            double sum = 0;
            for (int64_t j = 0; j < c; j++)
                sum += probs[s][i][j] = exp((double)logits[i * c + j]);
            for (int64_t j = 0; j < c; j++)
                probs[s][i][j] /= sum;
        }
    }
    for (int64_t i = 0; i < a->n; i++) {
        double total = 0, conditional = 0;
        for (int64_t j = 0; j < c; j++) {
            double mean = (probs[0][i][j] + probs[1][i][j] + probs[2][i][j]) / 3, variance = 0;
            for (int s = 0; s < 3; s++) {
                variance += (probs[s][i][j] - mean) * (probs[s][i][j] - mean) / 3;
                conditional -= probs[s][i][j] * log(probs[s][i][j]) / 3;
            }
            total -= mean * log(mean);
            gap = fmax(gap, fabs(a->out[i].probs[j] - mean));
            gap = fmax(gap, fabs(a->out[i].variance[j] - variance));
            gap = fmax(gap, fabs(a->out[i].logits[j] - map->out[i].logits[j]));
            gap = fmax(gap, fabs(a->out[i].map_probs[j] - map->out[i].map_probs[j]));
            moved = fmax(moved, fabs(mean - map->out[i].probs[j]));
        }
        gap = fmax(gap, fabs(a->out[i].entropy - total));
        gap = fmax(gap, fabs(a->out[i].mutual_information - (total - conditional)));
    }
    check_within("a row's numbers", gap, 1e-6);
    assert_true(moved > 0.01);
    la_draw_close(draw);
    la_weights_close(weights);
    close_all(&o);
    free(theta), free(a), free(map);
}

static double prob_gap(const given_rows *a, const given_rows *b) {
    double gap = 0;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t c = 0; c < a->classes; c++)
            gap = fmax(gap, fabs(a->out[i].probs[c] - b->out[i].probs[c]));
    return gap;
}

static void invariance(void **state) {
    (void)state;
    fixture_paths p = paths_of("bert-all-linear");
    given_rows *a = rows_read(p.test), *b = rows_read(p.test);
    la_predict_options options = {.predictive = "weights", .samples = 7, .seed = 3};
    fit(&p, (la_fit_options){.prior_value = 30, .params = LA_PARAMS_LORA_HEAD});
    predict(&p, a, options);
    predict(&p, b, options);
    assert_memory_equal(a->memory, b->memory, sizeof a->memory);
    static const int64_t batches[] = {1, 23, 4096};
    double gap = 0;
    for (int i = 0; i < 3; i++)
        for (int threads = 1; threads <= 2; threads++) {
            options.run.batch_tokens = batches[i];
            options.run.threads = threads;
            predict(&p, b, options);
            gap = fmax(gap, prob_gap(a, b));
        }
    /* products of OpenBLAS depend on how many rows there are, own ones do not */
    check_within("probabilities, batches and threads", gap, 1.8e-6);
    options.seed = 4;
    predict(&p, b, options);
    assert_true(prob_gap(a, b) > 1e-3);
    free(a), free(b);
}

static void draw_networks(const la_posterior *posterior, int threads, const float *map,
                          float *out) {
    la_draw *draw;
    la_error err = {0};
    succeed(la_draw_open(la_team_of(threads), posterior, 8, &draw, &err), &err);
    /* in any order */
    la_draw_network(draw, threads == 2 ? 1 : 0, map,
                    out + (threads == 2 ? 1 : 0) * la_posterior_width(posterior));
    la_draw_network(draw, threads == 2 ? 0 : 1, map,
                    out + (threads == 2 ? 0 : 1) * la_posterior_width(posterior));
    la_draw_close(draw);
}

/* The weights themselves are the same bytes whatever the threads; samples differ. */
static void same_network_same_bytes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const form *f = &forms[i];
        fixture_paths p = paths_of(f->folder);
        la_posterior posterior;
        la_error err = {0};
        fit(&p, (la_fit_options){.curvature = f->curvature,
                                 .kron = f->kron,
                                 .params = f->params,
                                 .rank = f->rank,
                                 .prior_value = 10});
        succeed(la_posterior_load(p.posterior, &posterior, &err), &err);
        size_t width = (size_t)la_posterior_width(&posterior);
        float *map = calloc(width, sizeof *map);
        float *one = calloc(2 * width, sizeof *one), *two = calloc(2 * width, sizeof *two);
        draw_networks(&posterior, 1, map, one);
        draw_networks(&posterior, 2, map, two);
        assert_memory_equal(one, two, 2 * width * sizeof *one);
        assert_memory_not_equal(one, one + width, width * sizeof *one);
        free(map), free(one), free(two);
        la_posterior_free(&posterior);
    }
}

/* Kept in memory or drawn again for every batch; and the MAP network afterwards. */
static void map_is_put_back(void **state) {
    (void)state;
    static const char *const folders[] = {"bert-all-linear", "llama-seq", "bert-f16-head"};
    for (int f = 0; f < 3; f++) {
        fixture_paths p = paths_of(folders[f]);
        given_rows *a = rows_read(p.test);
        opened o;
        la_sampler *sampler;
        la_error err = {0};
        fit(&p, (la_fit_options){.prior_value = 30, .params = LA_PARAMS_LORA_HEAD});
        open_all(&p, a, &o);
        size_t c = (size_t)o.session.workers[0].model.n_classes, n = (size_t)a->n * c;
        size_t n_means = (size_t)a->n * (2 * c + 1);
        float *before = calloc(n, sizeof *before), *after = calloc(n, sizeof *after);
        double *means[3];
        forward(&o, before);
        for (int i = 0; i < 3; i++) {
            means[i] = calloc(n_means, sizeof **means);
            succeed(la_sampler_open(&o.session, &o.posterior, 5, 1, i == 1 ? 0 : LA_SAMPLER_BUDGET,
                                    &sampler, &err),
                    &err);
            succeed(la_sampler_run(sampler, 0, &o.batch, before, 1, means[i], &err), &err);
            forward(&o, after);
            assert_memory_equal(before, after, n * sizeof *before);
            la_sampler_close(sampler);
            forward(&o, after);
            assert_memory_equal(before, after, n * sizeof *before);
        }
        assert_memory_equal(means[0], means[1], n_means * sizeof **means);
        assert_memory_equal(means[0], means[2], n_means * sizeof **means);
        /* the MAP network, put as if it were a sample */
        la_weights *weights = open_weights(&o);
        float *map = calloc((size_t)la_weights_count(weights), sizeof *map);
        succeed(la_weights_read(weights, map, &err), &err);
        la_weights_put(weights, map);
        forward(&o, after);
        double gap = 0;
        for (size_t i = 0; i < n; i++)
            gap = fmax(gap, fabs((double)before[i] - (double)after[i]));
        check_within("logits of the MAP network in the samples' place", gap, 2e-6);
        la_weights_close(weights);
        for (int i = 0; i < 3; i++)
            free(means[i]);
        free(map), free(before), free(after), free(a);
        close_all(&o);
    }
}

static command run_predict(const fixture_paths *p, const char *samples) {
    const char *argv[] = {NULL,
                          "predict",
                          "--posterior",
                          p->posterior,
                          "--data",
                          p->test,
                          "--device",
                          "cpu",
                          "--threads",
                          "1",
                          "--predictive",
                          "weights",
                          samples ? "--samples" : NULL,
                          samples,
                          NULL};
    return run_command(argv, NULL);
}

static void command_line(void **state) {
    (void)state;
    fixture_paths p = paths_of("bert");
    fit(&p, (la_fit_options){.prior_value = 10});
    command plain = run_predict(&p, NULL), twenty = run_predict(&p, "20");
    command fewer = run_predict(&p, "19"), none = run_predict(&p, "0");
    assert_int_equal(plain.code, 0);
    assert_non_null(strstr(plain.out, "\"confidence_kind\":\"laplace-weights\""));
    assert_string_equal(plain.out, twenty.out);
    assert_string_not_equal(plain.out, fewer.out);
    assert_int_equal(none.code, LA_USAGE);
    assert_non_null(strstr(none.err, "--samples 0"));
    command_free(&plain), command_free(&twenty), command_free(&fewer), command_free(&none);
}

/* ---- TFB ---- */

/* NLL 1 + sigma^2: the bound is at sqrt(share). */
static la_status rising(void *user, double sigma, double *nll, la_error *err) {
    (void)err;
    ++*(int *)user;
    *nll = 1 + sigma * sigma;
    return LA_OK;
}

static void tfb_search(void **state) {
    (void)state;
    la_tfb_options options = la_tfb_defaults;
    la_tfb_choice choice;
    la_error err = {0};
    int calls = 0;
    double step = (options.most - options.least) / 1024, bound = sqrt(options.share);
    succeed(la_tfb_search(&options, rising, &calls, &choice, &err), &err);
    assert_int_equal(calls, 13);
    assert_true(choice.sigma <= bound && choice.refused > bound);
    check_within("the bracket left, in steps", (choice.refused - choice.sigma) / step, 1.0001);
    assert_true(choice.map_nll == 1 && choice.nll == 1 + choice.sigma * choice.sigma);
    options.share = 1;
    succeed(la_tfb_search(&options, rising, &calls, &choice, &err), &err);
    assert_true(choice.sigma == options.most && choice.refused == 0);
    options.share = 1e-9;
    succeed(la_tfb_search(&options, rising, &calls, &choice, &err), &err);
    assert_true(choice.sigma == 0 && choice.refused == options.least && choice.nll == 1);
    options.networks = 0;
    assert_int_equal(la_tfb_search(&options, rising, &calls, &choice, &err), LA_USAGE);
}

/* B' A' is B A; the noise B' E is sigma times a projection of standard normal numbers. */
static void check_factor(int64_t out, int64_t rank, int64_t in, int64_t independent) {
    float *b = calloc((size_t)(out * rank), sizeof *b), *a = calloc((size_t)(rank * in), sizeof *a);
    float *noisy = calloc((size_t)(rank * in), sizeof *noisy);
    double *product = calloc((size_t)(out * in), sizeof *product), *d = calloc((size_t)rank, 8);
    double *numbers = calloc((size_t)((out + in) * rank), sizeof *numbers);
    la_error err = {0};
    la_random_normal(1, 2, 0, (size_t)((out + in) * rank), numbers);
    for (int64_t i = 0; i < out * rank; i++)
        /* columns of B repeat */
        b[i] = (float)numbers[i / rank * rank + i % rank % independent];
    for (int64_t i = 0; i < rank * in; i++)
        a[i] = (float)numbers[out * rank + i];
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t k = 0; k < rank; k++)
                product[o * in + i] += (double)b[o * rank + k] * (double)a[k * in + i];
    succeed(la_tfb_factor(out, rank, in, b, a, d, &err), &err);
    int64_t kept = 0;
    for (int64_t k = 0; k < rank; k++)
        kept += d[k] > 0;
    assert_int_equal(kept, independent < out ? independent : out);
    const double sigma = 0.3;
    la_tfb_noise(rank, in, a, d, sigma, 4, 0, 0, noisy);
    double gap = 0, square = 0;
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++) {
            double without = 0, with = 0;
            for (int64_t k = 0; k < rank; k++) {
                without += (double)b[o * rank + k] * (double)a[k * in + i];
                with += (double)b[o * rank + k] * (double)noisy[k * in + i];
            }
            gap = fmax(gap, fabs(without - product[o * in + i]));
            square += (with - without) * (with - without);
        }
    check_within("B' A' against B A", gap, 2e-5);
    double expected = sigma * sigma * (double)(kept * in);
    check_within("squares of the noise, sigmas",
                 fabs(square / expected - 1) / sqrt(2 / (double)(kept * in)), 4);
    free(b), free(a), free(noisy), free(product), free(d), free(numbers);
}

static void tfb_factor(void **state) {
    (void)state;
    check_factor(40, 6, 300, 6);
    check_factor(40, 6, 300, 4);
    check_factor(3, 5, 300, 5);
}

static double nll_of(const la_row_set *set, const double *probs, int64_t c) {
    double nll = 0;
    for (int64_t i = 0; i < set->n; i++)
        nll -= log(probs[i * c + set->labels.classes[i]]) / (double)set->n;
    return nll;
}

/* limit: of logits without noise, relative */
static void check_tfb(const char *folder, bool own_answers, double limit) {
    fixture_paths p = paths_of(folder);
    given_rows *a = rows_read(p.calib);
    opened o;
    la_row_set set;
    la_error err = {0};
    la_log silent = {0};
    la_tfb_options options = la_tfb_defaults;
    la_tfb_choice choice;
    options.own_answers = own_answers;
    options.seed = 6;
    fit(&p, (la_fit_options){.prior_value = 30});
    open_all(&p, a, &o);
    la_run_options run = {0};
    succeed(la_row_set_read(&o.session, &run, p.calib, NULL, "anchor", &set, &err), &err);
    la_row_job job = la_row_job_all(&set, &silent);
    size_t c = (size_t)o.session.workers[0].model.n_classes, n = (size_t)set.n * c;
    float *before = calloc(n, sizeof *before), *after = calloc(n, sizeof *after);
    double *probs = calloc(n, sizeof *probs), gap = 0;
    forward(&o, before);
    /* without noise it is the adapter's network */
    succeed(la_tfb_predict(&o.session, &job, 0, 10, 6, probs, &err), &err);
    for (int64_t i = 0; i < set.n; i++) {
        double sum = 0;
        for (size_t j = 0; j < c; j++)
            sum += exp((double)before[(size_t)i * c + j]);
        for (size_t j = 0; j < c; j++)
            gap = fmax(gap, relative(log(probs[(size_t)i * c + j] * sum),
                                     (double)before[(size_t)i * c + j], 1));
        if (own_answers)
            for (size_t j = set.labels.classes[i] = 0; j < c; j++)
                if (before[(size_t)i * c + j] > before[i * (int64_t)c + set.labels.classes[i]])
                    set.labels.classes[i] = (int64_t)j;
    }
    check_within("logits with sigma 0 against the adapter's, relative", gap, limit);
    double map_nll = nll_of(&set, probs, (int64_t)c);
    succeed(la_tfb_fit(&o.session, &job, &options, &choice, &err), &err);
    printf("    %s%s: sigma %.5f, next %.5f; NLL %.5f to %.5f\n", folder,
           own_answers ? ", own answers" : "", choice.sigma, choice.refused, choice.map_nll,
           choice.nll);
    assert_true(choice.sigma > 0);
    check_within("NLL without noise", fabs(choice.map_nll - map_nll), 1e-12);
    succeed(la_tfb_predict(&o.session, &job, choice.sigma, 10, 6, probs, &err), &err);
    double nll = nll_of(&set, probs, (int64_t)c);
    check_within("NLL with sigma", fabs(choice.nll - nll), 1e-12);
    assert_true(nll <= map_nll * (1 + options.share));
    if (choice.refused > 0) {
        succeed(la_tfb_predict(&o.session, &job, choice.refused, 10, 6, probs, &err), &err);
        assert_true(nll_of(&set, probs, (int64_t)c) > map_nll * (1 + options.share));
        assert_true(choice.refused - choice.sigma <= (options.most - options.least) / 1023);
    } else {
        assert_true(choice.sigma == options.most);
    }
    forward(&o, after);
    assert_memory_equal(before, after, n * sizeof *before);
    la_row_set_free(&set);
    close_all(&o);
    free(before), free(after), free(probs), free(a);
}

static void tfb_on_rows(void **state) {
    (void)state;
    check_tfb("bert", false, 1e-5);
    check_tfb("llama-seq", true, 1e-5);
    /* a row of it is ill-conditioned: smaller batches move its logits by 4e-6 */
    check_tfb("bert-all-linear", false, 4e-5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covariance_of_logits), cmocka_unit_test(covariance_under_a_tight_prior),
        cmocka_unit_test(huge_prior_is_map),    cmocka_unit_test(means_of_networks),
        cmocka_unit_test(invariance),           cmocka_unit_test(same_network_same_bytes),
        cmocka_unit_test(map_is_put_back),      cmocka_unit_test(command_line),
        cmocka_unit_test(tfb_search),           cmocka_unit_test(tfb_factor),
        cmocka_unit_test(tfb_on_rows),
    };
    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
