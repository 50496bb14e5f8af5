/* Identities that hold whatever the numbers: results do not depend on batches, threads or order;
 * contrasts replace classes; the Kronecker form is exact where it should be; low rank meets full
 * rank. */
#include "base/machine.h"
#include "bayes/structure.h"
#include "likelihood/answer.h"
#include "likelihood/likelihood.h"
#include "pipeline/session.h"
#include "support/parity.h"
#include "support/row_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- fit and predict through the public interface ---- */

typedef struct model {
    char base[512], adapter[512], calib[512], test[512], posterior[512];
    char adapters[128]; /* names, "" where there is one */
    const char *choice_ids;
} model;

static model open_model(const char *name) {
    bool small = !strcmp(name, "prompt-tuning") || !strcmp(name, "prefix-tuning") ||
                 !strcmp(name, "union-llama");
    model m = {.choice_ids = !strcmp(name, "llama-gqa") ? "41,7,93,20,64" : NULL};
    char path[256];
    if (small)
        m.choice_ids = "12,50,33";
    snprintf(path, sizeof path, "parity/%s", name);
    const char *root = fixture(path);
    snprintf(m.base, sizeof m.base, "%.400s/base", root);
    snprintf(m.adapter, sizeof m.adapter, "%.400s/adapter", root);
    parity_adapter_names(m.adapter, m.adapters);
    snprintf(m.calib, sizeof m.calib, "%.400s/calib.jsonl", root);
    snprintf(m.test, sizeof m.test, "%.400s/test.jsonl", root);
    snprintf(m.posterior, sizeof m.posterior, "%s", scratch("identity.h5"));
    return m;
}

static la_fit_summary *fit(const model *m, la_fit_options options) {
    la_fit_summary *summary;
    la_error err;
    options.base = m->base;
    options.adapter = m->adapter;
    options.data = options.data ? options.data : m->calib;
    options.out = m->posterior;
    options.choice_ids = m->choice_ids;
    options.run.adapter_name = *m->adapters ? m->adapters : NULL;
    if (la_fit(&options, &summary, &err) != LA_OK)
        fail_msg("%s", err.message);
    return summary;
}

static int64_t predict(const model *m, given_rows *r, la_predict_options options) {
    la_predictor *predictor;
    la_error err;
    options.posterior = m->posterior;
    if (la_predictor_open(&options, &predictor, &err) != LA_OK ||
        la_predictor_run(predictor, r->in, r->n, r->out, &err) != LA_OK)
        fail_msg("%s", err.message);
    int64_t classes = la_predictor_classes(predictor);
    la_predictor_close(predictor);
    return classes;
}

static double cov_gap(const la_prediction *a, const la_prediction *b, int64_t c) {
    double gap = 0, norm = 0;
    for (int64_t i = 0; i < c * c; i++) {
        gap += (a->logit_cov[i] - b->logit_cov[i]) * (a->logit_cov[i] - b->logit_cov[i]);
        norm += b->logit_cov[i] * b->logit_cov[i];
    }
    return sqrt(gap / norm);
}

static double prob_gap(const la_prediction *a, const la_prediction *b, int64_t c) {
    double gap = 0;
    for (int64_t i = 0; i < c; i++)
        gap = fmax(gap, fabs(a->probs[i] - b->probs[i]));
    return gap;
}

typedef struct invariance_limits {
    double covariance, probabilities, evidence;
} invariance_limits;

static void check_invariance(const char *name, const invariance_limits *limits) {
    model m = open_model(name);
    given_rows *a = rows_read(m.test), *b = rows_read(m.test), *reversed = rows_read(m.test);
    la_fit_summary *one = fit(&m, (la_fit_options){.prior = LA_PRIOR_GLOBAL});
    double cov = 0, probs = 0, evidence = 0;
    la_predict_options plain = {.samples = 500, .seed = 4};
    int64_t c = predict(&m, a, plain);
    /* batches: one row at a time, a few, all; threads: 1 and 2; order */
    for (int64_t i = 0; i < a->n; i++) {
        la_input swap = reversed->in[i];
        if (i < a->n / 2) {
            reversed->in[i] = reversed->in[a->n - 1 - i];
            reversed->in[a->n - 1 - i] = swap;
        }
    }
    static const int64_t batches[] = {1, 23, 60, 4096};
    for (int i = 0; i < 4; i++)
        for (int threads = 1; threads <= 2; threads++) {
            la_predict_options options = plain;
            options.run.batch_tokens = batches[i];
            options.run.threads = threads;
            predict(&m, b, options);
            predict(&m, reversed, options);
            for (int64_t j = 0; j < a->n; j++) {
                const la_prediction *back = &reversed->out[a->n - 1 - j];
                cov = fmax(cov,
                           fmax(cov_gap(&b->out[j], &a->out[j], c), cov_gap(back, &a->out[j], c)));
                probs = fmax(probs, fmax(prob_gap(&b->out[j], &a->out[j], c),
                                         prob_gap(back, &a->out[j], c)));
            }
            la_fit_options again = {.prior = LA_PRIOR_GLOBAL};
            again.run.batch_tokens = batches[i];
            again.run.threads = threads;
            char keep[512];
            strcpy(keep, m.posterior);
            snprintf(m.posterior, sizeof m.posterior, "%s", scratch("other.h5"));
            la_fit_summary *two = fit(&m, again);
            strcpy(m.posterior, keep);
            evidence = fmax(
                evidence, relative(two->log_marginal_likelihood, one->log_marginal_likelihood, 1));
            evidence = fmax(evidence, relative(two->prior_precision, one->prior_precision, 1));
            la_fit_summary_free(two);
        }
    check_within("covariance, relative", cov, limits->covariance);
    check_within("probabilities, same draw", probs, limits->probabilities);
    check_within("evidence and prior, relative", evidence, limits->evidence);
    la_fit_summary_free(one);
    free(a), free(b), free(reversed);
}

static const invariance_limits plain_limits = {1.6e-5, 2e-6, 7e-6};
/* logits of ten and more: rounding weighs more */
static const invariance_limits large_limits = {5e-5, 4e-6, 5e-6};

static void invariance_encoder(void **state) {
    (void)state;
    check_invariance("bert-all-linear", &plain_limits);
}

static void invariance_decoder(void **state) {
    (void)state;
    check_invariance("llama-gqa", &plain_limits);
}

static void invariance_prompt(void **state) {
    (void)state;
    check_invariance("prompt-tuning", &plain_limits);
}

static void invariance_prefix(void **state) {
    (void)state;
    check_invariance("prefix-tuning", &plain_limits);
}

static void invariance_embedding(void **state) {
    (void)state;
    check_invariance("lora-embedding-bert", &plain_limits);
}

static void invariance_several(void **state) {
    (void)state;
    check_invariance("union-bert", &plain_limits);
    check_invariance("union-llama", &plain_limits);
    check_invariance("mixed-bert", &plain_limits);
}

static void invariance_bottleneck(void **state) {
    (void)state;
    check_invariance("pfeiffer-bert", &plain_limits);
}

/* A row's answer does not change when the same rows come again, or another seed is not asked for.
 */
/* windows, fused projections, frequencies by length, distances, pooling by mean */
static void invariance_others(void **state) {
    (void)state;
    static const char *const names[] = {"deberta-v2",         "modernbert-mean", "gemma2-seq",
                                        "phi3-longrope-long", "gemma3-v4",       "roberta"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        printf("    %s\n", names[i]);
        check_invariance(names[i], &large_limits);
    }
}

static void same_seed_same_bytes(void **state) {
    (void)state;
    model m = open_model("bert");
    given_rows *a = rows_read(m.test), *b = rows_read(m.test);
    la_fit_summary_free(fit(&m, (la_fit_options){0}));
    la_predict_options options = {.samples = 100, .seed = 9};
    int64_t c = predict(&m, a, options);
    predict(&m, b, options);
    assert_memory_equal(a->memory, b->memory, sizeof a->memory);
    options.seed = 10;
    predict(&m, b, options);
    double gap = 0;
    for (int64_t i = 0; i < a->n; i++)
        gap = fmax(gap, prob_gap(&a->out[i], &b->out[i], c));
    assert_true(gap > 1e-4);
    free(a), free(b);
}

/* calibration rows in another order give the same evidence */
static void calibration_order(void **state) {
    (void)state;
    model m = open_model("bert");
    la_fit_summary *one = fit(&m, (la_fit_options){.prior = LA_PRIOR_GLOBAL});
    size_t length;
    char *text = read_file(m.calib, &length), *lines[ROWS_MOST], *next = text;
    int n = 0;
    while (*next) {
        lines[n++] = next;
        next += strcspn(next, "\n");
        *next++ = 0;
    }
    FILE *file = fopen(scratch("reversed.jsonl"), "w");
    while (n--)
        fprintf(file, "%s\n", lines[n]);
    fclose(file);
    free(text);
    la_fit_summary *two =
        fit(&m, (la_fit_options){.prior = LA_PRIOR_GLOBAL, .data = scratch("reversed.jsonl")});
    check_within("evidence, relative",
                 relative(two->log_marginal_likelihood, one->log_marginal_likelihood, 1), 1e-7);
    la_fit_summary_free(one);
    la_fit_summary_free(two);
}

/* One row, one token a block (a dense head): the Kronecker form is the exact Gauss-Newton matrix
 * Lambda (x) x x^T, so with s = |x|^2 the covariance of that row's logits is s (s Lambda + lambda
 * I)^-1. */
static void kronecker_is_dense_for_one_token(void **state) {
    (void)state;
    model m = open_model("bert");
    given_rows *r = rows_read(m.calib);
    r->n = 1;
    FILE *file = fopen(scratch("one.jsonl"), "w");
    fprintf(file, "{\"input_ids\":[");
    for (int64_t i = 0; i < r->in[0].n_ids; i++)
        fprintf(file, "%s%d", i ? "," : "", r->in[0].ids[i]);
    fprintf(file, "],\"label\":1}\n");
    fclose(file);
    const double lambda = 0.37;
    la_fit_summary *f = fit(&m, (la_fit_options){.prior = LA_PRIOR_FIXED,
                                                 .prior_value = lambda,
                                                 .params = LA_PARAMS_HEAD,
                                                 .data = scratch("one.jsonl")});
    assert_int_equal(f->n_blocks, 1);
    double s = f->blocks[0].trace_in;
    int64_t c = predict(&m, r, (la_predict_options){.samples = 0});
    assert_int_equal(c, 3);
    /* the inverse by Gauss-Jordan, then centred */
    double a[3][6] = {{0}}, centred[3][3] = {{0}};
    const double *p = r->out[0].map_probs;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++)
            a[i][j] = s * ((i == j ? p[i] : 0) - p[i] * p[j]) + (i == j ? lambda : 0);
        a[i][3 + i] = s;
    }
    for (int i = 0; i < 3; i++) {
        double pivot = a[i][i];
        for (int j = 0; j < 6; j++)
            a[i][j] /= pivot;
        for (int k = 0; k < 3; k++) {
            double factor = k == i ? 0 : a[k][i];
            for (int j = 0; j < 6; j++)
                a[k][j] -= factor * a[i][j];
        }
    }
    double gap = 0, norm = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            for (int k = 0; k < 3; k++)
                for (int l = 0; l < 3; l++)
                    centred[i][j] += ((i == k) - 1.0 / 3) * a[k][3 + l] * ((l == j) - 1.0 / 3);
            double d = centred[i][j] - r->out[0].logit_cov[i * 3 + j];
            gap += d * d;
            norm += centred[i][j] * centred[i][j];
        }
    check_within("covariance against the dense inverse", sqrt(gap / norm), 4e-7);
    la_fit_summary_free(f);
    free(r);
}

/* a rank that leaves nothing out is the full posterior; leaving more out only adds variance */
static void low_rank(void **state) {
    (void)state;
    model m = open_model("llama-seq");
    given_rows *full = rows_read(m.test), *cut = rows_read(m.test);
    la_fit_options options = {.prior = LA_PRIOR_FIXED, .prior_value = 2};
    la_fit_summary_free(fit(&m, options));
    int64_t c = predict(&m, full, (la_predict_options){0});
    double gap = 0, before = INFINITY;
    options.rank = 1000;
    la_fit_summary_free(fit(&m, options));
    predict(&m, cut, (la_predict_options){0});
    for (int64_t i = 0; i < full->n; i++)
        gap = fmax(gap, cov_gap(&cut->out[i], &full->out[i], c));
    assert_true(gap == 0);
    for (int64_t rank = 4; rank <= 28; rank += 8) {
        options.rank = rank;
        la_fit_summary_free(fit(&m, options));
        predict(&m, cut, (la_predict_options){0});
        double variance = 0;
        for (int64_t i = 0; i < full->n; i++)
            for (int64_t j = 0; j < c; j++) {
                variance += cut->out[i].logit_cov[j * c + j];
                assert_true(cut->out[i].logit_cov[j * c + j] >=
                            full->out[i].logit_cov[j * c + j] * (1 - 1e-5));
            }
        assert_true(variance < before);
        before = variance;
    }
    free(full), free(cut);
}

/* ---- C - 1 contrasts carry what C columns carry ---- */

typedef struct sums {
    la_backend *be;
    double *output[64];
} sums;

static void add_sum(void *user, int64_t block, const la_block_io *io) {
    sums *s = user;
    if (!s->output[block])
        s->output[block] = calloc((size_t)(io->g->cols * io->g->cols), sizeof(double));
    s->be->ops->factor_add(s->be, 1, io->g, s->output[block]);
}

/* sums over a batch of the output factors; columns: C of sqrt(p_c) (e_c - p), or the C - 1 of
 * la_fisher_factor */
static sums factor_sums(la_session *session, const la_batch *batch, bool contrasts,
                        bool recompute) {
    la_worker *worker = &session->workers[0];
    int64_t c = worker->model.n_classes, m = contrasts ? c - 1 : c, n = batch->n_rows;
    la_run run;
    la_error err = {0};
    sums s = {.be = &worker->backend};
    float *logits = calloc((size_t)(n * c), sizeof *logits);
    float *columns = calloc((size_t)(m * n * c), sizeof *columns);
    double *factor = calloc((size_t)(c * c), sizeof *factor);
    la_run_shape shape = {.max_rows = n,
                          .max_tokens = batch->n_tokens,
                          .n_rhs = m,
                          .all_inputs = true,
                          .recompute = recompute};
    assert_int_equal(la_run_open(&worker->model, &shape, &run, &err), LA_OK);
    assert_int_equal(la_run_forward(&run, batch, logits, &err), LA_OK);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        if (contrasts)
            la_softmax_likelihood.fisher_factor(c, logits + i * c, factor);
        for (int64_t j = 0; j < c; j++)
            sum += exp((double)logits[i * c + j]);
        for (int64_t k = 0; k < m && !contrasts; k++)
            for (int64_t j = 0; j < c; j++)
                factor[j * m + k] = sqrt(exp((double)logits[i * c + k]) / sum) *
                                    ((j == k) - exp((double)logits[i * c + j]) / sum);
        for (int64_t k = 0; k < m; k++)
            for (int64_t j = 0; j < c; j++)
                columns[(k * n + i) * c + j] = (float)factor[j * m + k];
    }
    la_block_visitor visitor = {add_sum, &s};
    assert_int_equal(la_run_backward(&run, columns, &visitor, &err), LA_OK);
    la_run_close(&run);
    free(logits), free(columns), free(factor);
    return s;
}

static void contrasts_equal_classes(void **state) {
    (void)state;
    model m = open_model("bert-all-linear");
    la_session session;
    la_error err = {0};
    la_session_options options = {.run.device = "cpu",
                                  .base = m.base,
                                  .adapter = m.adapter,
                                  .params = LA_PARAMS_LORA_HEAD,
                                  .all_inputs = true,
                                  .kind = &la_structure_kron};
    assert_int_equal(la_session_open(&options, &session, &err), LA_OK);
    given_rows *r = rows_read(m.test);
    la_batch batch;
    assert_int_equal(la_batch_open(ROWS_MOST, 4096, &batch, &err), LA_OK);
    for (int64_t i = 0; i < r->n; i++)
        la_batch_add(&batch, &session.workers[0].model, r->in[i].ids, NULL, r->in[i].n_ids, 0);
    sums few = factor_sums(&session, &batch, true, false);
    sums all = factor_sums(&session, &batch, false, false);
    double worst = 0;
    int compared = 0;
    for (int64_t b = 0; b < session.workers[0].model.n_blocks; b++) {
        int64_t d = session.workers[0].model.blocks[b].out;
        double gap = 0, trace = 0;
        assert_non_null(few.output[b]);
        for (int64_t i = 0; i < d; i++)
            for (int64_t j = 0; j <= i; j++) {
                gap = fmax(gap, fabs(few.output[b][i * d + j] - all.output[b][i * d + j]));
                trace += i == j ? all.output[b][i * d + j] : 0;
            }
        worst = fmax(worst, gap / trace);
        compared++;
        free(few.output[b]), free(all.output[b]);
    }
    assert_int_equal(compared, 27);
    check_within("output factors, C - 1 against C", worst, 1.1e-5);
    la_batch_free(&batch);
    la_session_close(&session);
    free(r);
}

/* ---- layers computed again in the backward give the same bits as layers kept ---- */

static void check_recompute(const char *name, la_params params) {
    static const int32_t choices[] = {12, 50, 33};
    model m = open_model(name);
    la_session session;
    la_error err = {0};
    la_session_options options = {
        .run = {.device = "cpu", .adapter_name = *m.adapters ? m.adapters : NULL},
        .base = m.base,
        .adapter = m.adapter,
        .params = params,
        .choice_ids = m.choice_ids ? choices : NULL,
        .n_choices = m.choice_ids ? 3 : 0,
        .all_inputs = true,
        .kind = &la_structure_kron};
    if (la_session_open(&options, &session, &err) != LA_OK)
        fail_msg("%s", err.message);
    const la_model *bound = &session.workers[0].model;
    given_rows *r = rows_read(m.test);
    la_batch batch;
    assert_int_equal(la_batch_open(ROWS_MOST, 4096, &batch, &err), LA_OK);
    for (int64_t i = 0; i < r->n; i++)
        la_batch_add(&batch, bound, r->in[i].ids, NULL, r->in[i].n_ids, 0);
    la_run_shape shape = {.max_rows = r->n,
                          .max_tokens = batch.n_tokens,
                          .n_rhs = bound->n_classes - 1,
                          .all_inputs = true};
    size_t kept_bytes, again_bytes;
    la_sizes sizes;
    assert_int_equal(la_run_plan(&session.workers[0].model, &shape, &kept_bytes, &sizes, &err),
                     LA_OK);
    shape.recompute = true;
    assert_int_equal(la_run_plan(&session.workers[0].model, &shape, &again_bytes, &sizes, &err),
                     LA_OK);
    /* the last, pruned layer of two keeps its state anyway */
    assert_true(bound->config.layers == 2 || again_bytes < kept_bytes);
    sums kept = factor_sums(&session, &batch, true, false);
    sums again = factor_sums(&session, &batch, true, true);
    int compared = 0;
    for (int64_t b = 0; b < bound->n_blocks; b++) {
        int64_t d = bound->blocks[b].out;
        assert_non_null(kept.output[b]);
        assert_memory_equal(kept.output[b], again.output[b], (size_t)(d * d) * sizeof(double));
        compared++;
        free(kept.output[b]), free(again.output[b]);
    }
    assert_true(compared > 0);
    la_batch_free(&batch);
    la_session_close(&session);
    free(r);
}

static void recompute_encoder(void **state) {
    (void)state;
    check_recompute("bert", LA_PARAMS_LORA_HEAD);
}

static void recompute_prefix(void **state) {
    (void)state;
    check_recompute("prefix-tuning", LA_PARAMS_LORA);
}

static void recompute_bottleneck(void **state) {
    (void)state;
    check_recompute("houlsby-bert", LA_PARAMS_LORA_HEAD);
}

static void recompute_several(void **state) {
    (void)state;
    check_recompute("union-bert", LA_PARAMS_LORA_HEAD);
    check_recompute("union-llama", LA_PARAMS_LORA);
    check_recompute("mixed-bert", LA_PARAMS_LORA_HEAD);
}

static void recompute_decoder(void **state) {
    (void)state;
    check_recompute("llama-seq", LA_PARAMS_LORA_HEAD);
}

static void recompute_others(void **state) {
    (void)state;
    check_recompute("deberta-v2", LA_PARAMS_LORA_HEAD);
    check_recompute("modernbert", LA_PARAMS_LORA_HEAD);
    check_recompute("gemma3-v4", LA_PARAMS_LORA_HEAD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invariance_encoder),
        cmocka_unit_test(invariance_decoder),
        cmocka_unit_test(invariance_prompt),
        cmocka_unit_test(invariance_prefix),
        cmocka_unit_test(invariance_embedding),
        cmocka_unit_test(invariance_bottleneck),
        cmocka_unit_test(invariance_several),
        cmocka_unit_test(same_seed_same_bytes),
        cmocka_unit_test(calibration_order),
        cmocka_unit_test(kronecker_is_dense_for_one_token),
        cmocka_unit_test(low_rank),
        cmocka_unit_test(contrasts_equal_classes),
        cmocka_unit_test(recompute_encoder),
        cmocka_unit_test(recompute_bottleneck),
        cmocka_unit_test(recompute_decoder),
        cmocka_unit_test(recompute_prefix),
        cmocka_unit_test(recompute_several),
        cmocka_unit_test(invariance_others),
        cmocka_unit_test(recompute_others),
    };
    return cmocka_run_group_tests_name("identities", tests, NULL, NULL);
}
