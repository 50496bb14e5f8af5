#include "baselines/adue.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/stop.h"
#include "baselines/scores.h"
#include "likelihood/softmax_sum.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const la_adue_options la_adue_defaults = {.smooth = 100,
                                          .alpha = 0.1,
                                          .beta = 0.01,
                                          .rate = 3e-4,
                                          .batch = 256,
                                          .epochs = 50,
                                          .patience = 5};

const char *const la_adue_outcome_names[LA_ADUE_OUTCOMES] = {
    "trained", "training-all-right", "training-all-wrong", "validation-all-right",
    "validation-all-wrong"};

static const double CLIP = 1e-8;

/* 1 - 1/C: what 1 - max p is at most */
static double span(int64_t n_classes) {
    return 1 - 1 / (double)n_classes;
}

/* out[C] = W h + b; the order of the sums is fixed when this is compiled */
static void find_logits(const la_adue *head, const float *state, double *out) {
    for (int64_t c = 0; c < head->n_classes; c++) {
        const double *row = head->weight + c * head->width;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < head->width; j++)
            sum += row[j] * (double)state[j];
        out[c] = head->bias[c] + sum;
    }
}

/* sum of exp(lambda (p_c - p_top)) over the classes other than top */
static double smooth_others(const la_adue *head, const double *p, int64_t top) {
    double sum = 0;
    for (int64_t c = 0; c < head->n_classes; c++)
        sum += c == top ? 0 : exp(head->smooth * (p[c] - p[top]));
    return sum;
}

/* u before it is clipped. 1 - s from the small probabilities: nothing cancels. */
static double uncertainty(const la_adue *head, la_softmax_sum sum, double others) {
    return (sum.rest - log1p(others) / head->smooth) / span(head->n_classes);
}

static double clip(double u) {
    return fmin(fmax(u, CLIP), 1 - CLIP);
}

double la_adue_score(const la_adue *head, const float *state, double *workspace) {
    find_logits(head, state, workspace);
    la_softmax_sum sum = la_softmax(head->n_classes, workspace);
    return clip(uncertainty(head, sum, smooth_others(head, workspace, sum.top)));
}

/* p[C] becomes factor * du / d logits: with q = softmax(lambda p), so that ds/dp = q,
 *   du / dz_j = -p_j (q_j - q.p) / (1 - 1/C) */
static void logit_gradient(const la_adue *head, la_softmax_sum sum, double others, double factor,
                           double *p) {
    double q_top = 1 / (1 + others), p_top = p[sum.top], below = 0; /* q.p without the top class */
    factor /= span(head->n_classes);
    for (int64_t c = 0; c < head->n_classes; c++)
        below += c == sum.top ? 0 : q_top * exp(head->smooth * (p[c] - p_top)) * p[c];
    for (int64_t c = 0; c < head->n_classes; c++) {
        double q = q_top * exp(head->smooth * (p[c] - p_top));
        /* q_top - q_top p_top without cancellation */
        double gap = c == sum.top ? q_top * sum.rest : q - q_top * p_top;
        p[c] *= -factor * (gap - below);
    }
}

static int64_t row_of(const la_adue_batch *batch, int64_t i) {
    return batch->rows ? batch->rows[i] : i;
}

/* Row i's part of the mean loss; out[C]: its gradient over the logits. */
static double row_loss(const la_adue_options *options, const la_adue *head,
                       const la_adue_batch *batch, int64_t i, double *out) {
    int64_t row = row_of(batch, i);
    find_logits(head, batch->states + row * head->width, out);
    la_softmax_sum sum = la_softmax(head->n_classes, out);
    double others = smooth_others(head, out, sum.top), share = 1 / (double)batch->n;
    double raw = uncertainty(head, sum, others), u = clip(raw), off = u - batch->base[row];
    double slope = (batch->wrong[row] ? -1 / u : 1 / (1 - u)) + 2 * options->alpha * off;
    logit_gradient(head, sum, others, raw == u ? slope * share : 0, out);
    return share * (-log(batch->wrong[row] ? u : 1 - u) + options->alpha * off * off);
}

/* gradient[C, d] = sum over rows of by_logit[i, C] state^T, every element in row order */
static void add_rows(const la_adue *head, const la_adue_batch *batch, const double *by_logit,
                     double *gradient) {
    enum { STRIP = 256 }; /* columns whose sums stay in the first-level cache */
    int64_t n_classes = head->n_classes, d = head->width;
    for (int64_t from = 0; from < d; from += STRIP) {
        int64_t to = from + STRIP < d ? from + STRIP : d;
        for (int64_t i = 0; i < batch->n; i++) {
            const float *state = batch->states + row_of(batch, i) * d;
            for (int64_t c = 0; c < n_classes; c++) {
                double weight = by_logit[i * n_classes + c];
                for (int64_t j = from; j < to; j++)
                    gradient[c * d + j] += weight * (double)state[j];
            }
        }
    }
}

double la_adue_loss(const la_adue_options *options, const la_adue *head, const double *start,
                    const la_adue_batch *batch, double *workspace, double *gradient) {
    int64_t n_classes = head->n_classes, weights = n_classes * head->width;
    double *by_logit = workspace, *losses = workspace + batch->n * n_classes;
    double loss = 0, moved = 0;
    for (int64_t i = 0; i < batch->n; i++)
        losses[i] = row_loss(options, head, batch, i, by_logit + i * n_classes);
    for (int64_t i = 0; i < batch->n; i++)
        loss += losses[i];
    for (int64_t k = 0; k < weights + n_classes; k++) {
        double off = head->weight[k] - start[k];
        moved += off * off;
        if (gradient)
            gradient[k] = 2 * options->beta * off;
    }
    if (gradient) {
        add_rows(head, batch, by_logit, gradient);
        for (int64_t i = 0; i < batch->n; i++)
            for (int64_t c = 0; c < n_classes; c++)
                gradient[weights + c] += by_logit[i * n_classes + c];
    }
    return loss + options->beta * moved;
}

/* ---- training ---- */

typedef struct trainer {
    const la_adue_options *options;
    la_adue *head;
    int64_t size; /* C d + C */
    bool has_bias;
    double *start, *best, *first, *second, *gradient; /* [size]; Adam's two moments */
    double *workspace;                                /* [batch, C + 1] */
    int64_t *order;                                   /* [n] wrong rows, then right ones */
    int64_t *drawn;                                   /* [n] */
    int64_t n_wrong, step, n_steps;
} trainer;

/* wrong[n] and base[n] of the untouched head */
static int64_t judge(const la_adue *head, const la_adue_rows *rows, bool *wrong, double *base,
                     double *workspace) {
    int64_t n_wrong = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        find_logits(head, rows->states + i * head->width, workspace);
        la_softmax_sum sum = la_softmax(head->n_classes, workspace);
        wrong[i] = sum.top != rows->labels[i];
        base[i] = sum.rest / span(head->n_classes);
        n_wrong += wrong[i];
    }
    return n_wrong;
}

static double cosine(double from, double to, double share) {
    return to + (from - to) / 2 * (1 + cos(M_PI * share));
}

/* Rate and beta1 of a step, as torch.optim.lr_scheduler.OneCycleLR with pct_start 0.1, div_factor
 * 25, final_div_factor 1e4 and its default momenta. */
static void one_cycle(double most, int64_t step, int64_t n_steps, double *rate, double *beta1) {
    double peak = 0.1 * (double)n_steps - 1, last = (double)(n_steps - 1), at = (double)step;
    double least = most / 25;
    if (at <= peak && peak > 0) {
        *rate = cosine(least, most, at / peak);
        *beta1 = cosine(0.95, 0.85, at / peak);
    } else {
        double share = last > peak ? (at - peak) / (last - peak) : 1;
        *rate = cosine(most, least / 1e4, share);
        *beta1 = cosine(0.85, 0.95, share);
    }
}

static void adam_step(trainer *t) {
    const double beta2 = 0.999, epsilon = 1e-8;
    double rate, beta1, *theta = t->head->weight;
    one_cycle(t->options->rate, t->step, t->n_steps, &rate, &beta1);
    t->step++;
    double unbias1 = 1 - pow(beta1, (double)t->step), unbias2 = 1 - pow(beta2, (double)t->step);
    int64_t size = t->has_bias ? t->size : t->size - t->head->n_classes;
    for (int64_t k = 0; k < size; k++) {
        double g = t->gradient[k];
        t->first[k] += (1 - beta1) * (g - t->first[k]);
        t->second[k] = beta2 * t->second[k] + (1 - beta2) * g * g;
        theta[k] -= rate / unbias1 * t->first[k] / (sqrt(t->second[k] / unbias2) + epsilon);
    }
}

static la_status run_epoch(trainer *t, int64_t epoch, int64_t n, const la_adue_batch *all,
                           la_error *err) {
    uint64_t seed = t->options->seed, stream = (uint64_t)epoch;
    for (int64_t i = 0; i < n; i++) {
        bool wrong = la_random_below(seed, stream, 2 * (uint64_t)i, 2) == 0;
        int64_t from = wrong ? 0 : t->n_wrong, count = wrong ? t->n_wrong : n - t->n_wrong;
        t->drawn[i] = t->order[from + (int64_t)la_random_below(seed, stream, 2 * (uint64_t)i + 1,
                                                               (uint64_t)count)];
    }
    for (int64_t from = 0; from < n; from += t->options->batch) {
        la_adue_batch batch = *all;
        batch.n = n - from < t->options->batch ? n - from : t->options->batch;
        batch.rows = t->drawn + from;
        double loss =
            la_adue_loss(t->options, t->head, t->start, &batch, t->workspace, t->gradient);
        if (!isfinite(loss))
            return la_fail(err, LA_NUMERICAL, "AdUE: the loss is %g in epoch %lld; lower its rate",
                           loss, (long long)epoch);
        adam_step(t);
    }
    return la_check_interrupt(err);
}

static la_status validate(const la_adue *head, const la_adue_rows *rows, const bool *wrong,
                          double *scores, double *workspace, double *auroc, la_error *err) {
    for (int64_t i = 0; i < rows->n; i++)
        scores[i] = la_adue_score(head, rows->states + i * head->width, workspace);
    *auroc = la_auroc(rows->n, scores, wrong, err);
    return err->status;
}

static la_status check(const la_adue_options *o, int64_t n_classes, int64_t width,
                       const float *weight, const float *bias, const la_adue_rows *training,
                       const la_adue_rows *validation, la_error *err) {
    if (!(o->smooth > 0 && o->alpha >= 0 && o->beta >= 0 && o->rate > 0) || o->batch < 1 ||
        o->epochs < 0 || o->patience < 1)
        return la_fail(err, LA_USAGE,
                       "AdUE: smooth %g, alpha %g, beta %g, rate %g, batch %lld, epochs %lld, "
                       "patience %lld; expected positive numbers",
                       o->smooth, o->alpha, o->beta, o->rate, (long long)o->batch,
                       (long long)o->epochs, (long long)o->patience);
    if (n_classes < 2)
        return la_fail(err, LA_BAD_INPUT, "AdUE: %lld classes, expected at least 2",
                       (long long)n_classes);
    LA_TRY(la_rows_check("weight", n_classes, width, weight, 0, NULL, err));
    if (bias)
        LA_TRY(la_rows_check("bias", 1, n_classes, bias, 0, NULL, err));
    LA_TRY(la_rows_check("training states", training->n, width, training->states, n_classes,
                         training->labels, err));
    return la_rows_check("validation states", validation->n, width, validation->states, n_classes,
                         validation->labels, err);
}

static la_adue_outcome outcome_of(int64_t n, int64_t n_wrong, int64_t validation_n,
                                  int64_t validation_wrong) {
    if (!n_wrong)
        return LA_ADUE_TRAINING_ALL_RIGHT;
    if (n_wrong == n)
        return LA_ADUE_TRAINING_ALL_WRONG;
    if (!validation_wrong)
        return LA_ADUE_VALIDATION_ALL_RIGHT;
    if (validation_wrong == validation_n)
        return LA_ADUE_VALIDATION_ALL_WRONG;
    return LA_ADUE_TRAINED;
}

static la_status open_head(int64_t n_classes, int64_t width, const float *weight, const float *bias,
                           double smooth, la_adue *head, la_error *err) {
    int64_t weights = n_classes * width;
    *head = (la_adue){.n_classes = n_classes, .width = width, .smooth = smooth};
    head->weight = la_alloc((size_t)(weights + n_classes), sizeof *head->weight, err);
    if (!head->weight)
        return err->status;
    head->bias = head->weight + weights;
    for (int64_t k = 0; k < weights; k++)
        head->weight[k] = (double)weight[k];
    for (int64_t c = 0; bias && c < n_classes; c++)
        head->bias[c] = (double)bias[c];
    return LA_OK;
}

/* Epochs until the patience ends; leaves the best head in t->head. */
static la_status train(trainer *t, const la_adue_batch *all, const la_adue_rows *validation,
                       const bool *validation_wrong, double *scores, la_error *err) {
    la_adue *head = t->head;
    double highest = -INFINITY, auroc;
    size_t bytes = (size_t)t->size * sizeof *t->best;
    for (int64_t waited = 0; head->epochs < t->options->epochs && waited < t->options->patience;) {
        LA_TRY(run_epoch(t, ++head->epochs, all->n, all, err));
        LA_TRY(validate(head, validation, validation_wrong, scores, t->workspace, &auroc, err));
        waited = auroc > highest ? 0 : waited + 1;
        highest = fmax(highest, auroc);
        if (auroc > head->auroc_after) {
            head->auroc_after = auroc;
            head->best_epoch = head->epochs;
            memcpy(t->best, head->weight, bytes);
        }
    }
    memcpy(head->weight, t->best, bytes);
    return LA_OK;
}

la_status la_adue_train(const la_adue_options *options, int64_t n_classes, int64_t width,
                        const float *weight, const float *bias, const la_adue_rows *training,
                        const la_adue_rows *validation, la_adue *out, la_error *err) {
    la_status status = LA_OK;
    la_pool pool = {0};
    int64_t n = training->n, size, validation_errors, next_wrong = 0, next_right;
    trainer t = {.options = options, .head = out, .has_bias = bias != NULL};
    *out = (la_adue){0};
    LA_TRY(check(options, n_classes, width, weight, bias, training, validation, err));
    LA_TRY(open_head(n_classes, width, weight, bias, options->smooth, out, err));
    t.size = size = n_classes * width + n_classes;
    int64_t batch = options->batch < n ? options->batch : n;
    bool *wrong = la_pool_take(&pool, (size_t)n, sizeof *wrong, err);
    bool *validation_wrong = la_pool_take(&pool, (size_t)validation->n, sizeof *wrong, err);
    double *base = la_pool_take(&pool, (size_t)n, sizeof *base, err);
    double *scores = la_pool_take(&pool, (size_t)validation->n, sizeof *scores, err);
    double **of_head[] = {&t.start, &t.best, &t.first, &t.second, &t.gradient};
    for (size_t i = 0; i < sizeof of_head / sizeof *of_head; i++)
        *of_head[i] = la_pool_take(&pool, (size_t)size, sizeof(double), err);
    t.workspace = la_pool_take(&pool, (size_t)batch, (size_t)(n_classes + 1) * sizeof(double), err);
    t.order = la_pool_take(&pool, (size_t)n, sizeof *t.order, err);
    t.drawn = la_pool_take(&pool, (size_t)n, sizeof *t.drawn, err);
    LA_TRY_DONE(err->status);
    memcpy(t.start, out->weight, (size_t)size * sizeof *t.start);
    memcpy(t.best, out->weight, (size_t)size * sizeof *t.best);
    t.n_wrong = judge(out, training, wrong, base, t.workspace);
    validation_errors = judge(out, validation, validation_wrong, scores, t.workspace);
    next_right = t.n_wrong;
    for (int64_t i = 0; i < n; i++)
        t.order[wrong[i] ? next_wrong++ : next_right++] = i;
    t.n_steps = options->epochs * ((n + batch - 1) / batch);
    out->outcome = outcome_of(n, t.n_wrong, validation->n, validation_errors);
    LA_TRY_DONE(
        validate(out, validation, validation_wrong, scores, t.workspace, &out->auroc_before, err));
    out->auroc_after = out->auroc_before;
    if (out->outcome == LA_ADUE_TRAINED) {
        la_adue_batch all = {.n = n, .states = training->states, .wrong = wrong, .base = base};
        LA_TRY_DONE(train(&t, &all, validation, validation_wrong, scores, err));
    }
done:
    la_pool_free(&pool);
    if (status != LA_OK)
        la_adue_free(out);
    return status;
}

void la_adue_free(la_adue *head) {
    free(head->weight);
    *head = (la_adue){0};
}

la_adue_summary la_adue_summarise(const la_adue *head) {
    if (!head->weight)
        return (la_adue_summary){.auroc_before = NAN, .auroc_after = NAN};
    return (la_adue_summary){.outcome = la_adue_outcome_names[head->outcome],
                             .auroc_before = head->auroc_before,
                             .auroc_after = head->auroc_after,
                             .epochs = head->epochs};
}
