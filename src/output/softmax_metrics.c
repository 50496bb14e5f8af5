#include "output/softmax_metrics.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "output/coverage_interval.h"
#include "output/lanes.h"
#include "output/rare_intervals.h"
#include "output/resampling.h"
#include "output/softmax_ranked.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const int64_t la_selective_coverages[LA_SELECTIVE_LEVELS] = {80, 90, 95};
const double la_selective_risks[LA_SELECTIVE_LEVELS] = {0.01, 0.02, 0.05};

typedef la_scored_row scored_row;
typedef la_ranked_rows ranked;

static scored_row score_row(int64_t n_classes, const double *probs, int64_t label) {
    int64_t best = 0;
    double brier = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double miss = probs[c] - (c == label);
        brier += miss * miss;
        if (probs[c] > probs[best])
            best = c;
    }
    return (scored_row){.confidence = probs[best],
                        .nll = -log(fmax(probs[label], DBL_MIN)),
                        .brier = brier,
                        .probs = probs,
                        .prediction = (int32_t)best,
                        .label = (int32_t)label};
}

static int compare_numbers(double a, double b) {
    return (a > b) - (a < b);
}

/* Order by confidence, ties by all else that is measured of a row: rows that compare equal are
 * alike, so that no number depends on the order in which the file has them, not in its last digit.
 */
static int compare_rows(const void *a, const void *b, void *n_classes) {
    const scored_row *x = a, *y = b;
    int order = compare_numbers(x->confidence, y->confidence);
    order = order ? order : (int)la_scored_right(x) - (int)la_scored_right(y);
    order = order ? order : compare_numbers(x->nll, y->nll);
    order = order ? order : compare_numbers(x->brier, y->brier);
    order = order ? order : x->label - y->label;
    for (int64_t c = 0; !order && c < *(const int64_t *)n_classes; c++)
        order = compare_numbers(x->probs[c], y->probs[c]);
    return order;
}

/* The scored rows in that order: by confidence, then each run of one confidence by the rest. */
static la_status sort_rows(const scored_row *from, int64_t n, int64_t n_classes, scored_row *to,
                           la_error *err) {
    uint32_t *order = la_alloc((size_t)n, sizeof *order, err);
    if (!order)
        return err->status;
    la_status status = la_doubles_rank(&from->confidence, sizeof *from, (uint32_t)n, order, err);
    for (int64_t i = 0; status == LA_OK && i < n; i++)
        to[i] = from[order[i]];
    free(order);
    for (int64_t i = 0, end; status == LA_OK && i < n; i = end) {
        for (end = i + 1; end < n && to[end].confidence == to[i].confidence;)
            end++;
        if (end > i + 1)
            qsort_r(to + i, (size_t)(end - i), sizeof *to, compare_rows, &n_classes);
    }
    return status;
}

static void add_rows(const void *rows, const la_smoother *smoother, double *sums) {
    const ranked *all = rows;
    for (int64_t i = 0; i < all->n; i++) {
        double confidence = all->rows[i].confidence;
        la_smooth_add(smoother, sums, confidence, confidence - la_scored_right(&all->rows[i]), 1);
    }
}

static void widen(la_interval *interval, la_interval other) {
    *interval = (la_interval){fmin(interval->lo, other.lo), fmax(interval->hi, other.hi)};
}

/* Losses of the rows if they were wrong, in the classes that their probabilities would have it. */
static void widen_losses(const ranked *all, const double *value, la_interval *nll,
                         la_interval *brier) {
    double sums[2] = {0, 0}, squares[2] = {0, 0}, unseen[2] = {0, 0}, size = (double)all->n;
    double unseen_squares[2] = {0, 0};
    for (int64_t i = 0; i < all->n; i++) {
        const scored_row *row = &all->rows[i];
        double own[2] = {row->nll, row->brier}, doubt = fmax(1 - row->confidence, DBL_MIN);
        double second = 0, wrong[2];
        for (int64_t c = 0; c < all->n_classes; c++)
            second = c == row->prediction ? second : fmax(second, row->probs[c]);
        wrong[0] = -log(fmax(second, DBL_MIN));
        wrong[1] = row->confidence * row->confidence + doubt * doubt;
        for (int k = 0; k < 2; k++) {
            sums[k] += own[k];
            squares[k] += own[k] * own[k];
            unseen[k] += wrong[k] / size;
            unseen_squares[k] += wrong[k] * wrong[k] / size;
        }
    }
    for (int k = 0; k < 2; k++) {
        double variance = fmax(0, squares[k] - sums[k] * sums[k] / size) / (size * size);
        la_interval wide = la_loss_interval(all->n, value[k ? LA_METRIC_BRIER : LA_METRIC_NLL],
                                            variance, unseen[k], unseen_squares[k]);
        wide.hi = k ? fmin(wide.hi, 2) : wide.hi;
        widen(k ? brier : nll, wide);
    }
}

/* Those that know few errors, or none: shares of rows as such, and what is made of them at least as
 * wide. */
static void set_shares(const ranked *all, int64_t n_wrong, const double *value,
                       la_interval *intervals) {
    intervals[LA_METRIC_ACCURACY] = la_exact_share(all->n, all->n - n_wrong);
    for (int l = 0; l < LA_SELECTIVE_LEVELS; l++) {
        int m = LA_METRIC_RISK_AT_COVERAGE_80 + l;
        int64_t rows = (la_selective_coverages[l] * all->n + 99) / 100;
        widen(&intervals[m], la_exact_share(rows, (int64_t)llrint(value[m] * (double)rows)));
    }
    if (!n_wrong)
        return;
    la_interval *aupr = &intervals[LA_METRIC_AUPR_ERROR];
    double sd = (aupr->hi - aupr->lo) / (2 * 1.959963984540054);
    *aupr = la_uneven_share_interval(value[LA_METRIC_AUPR_ERROR], sd * sd, n_wrong);
    if (n_wrong < all->n)
        widen(&intervals[LA_METRIC_FPR95],
              la_exact_share(n_wrong, (int64_t)llrint(value[LA_METRIC_FPR95] * (double)n_wrong)));
}

static la_status exact(const void *prepared, const double *value, la_interval *intervals,
                       la_error *err) {
    const ranked *all = prepared;
    la_ranked *rows = la_alloc((size_t)all->n, sizeof *rows, err);
    la_rank_intervals ranks;
    int64_t n_wrong = 0;
    for (int64_t i = 0; rows && i < all->n; i++) {
        const scored_row *row = &all->rows[all->n - 1 - i];
        rows[i] = (la_ranked){-row->confidence, !la_scored_right(row)};
        n_wrong += rows[i].wrong;
    }
    if (rows && la_rank_intervals_of(rows, all->n, &ranks, err) == LA_OK) {
        intervals[LA_METRIC_AUROC] = ranks.auroc;
        intervals[LA_METRIC_AURC] = ranks.aurc;
        intervals[LA_METRIC_EAURC] = ranks.eaurc;
        set_shares(all, n_wrong, value, intervals);
        widen_losses(all, value, &intervals[LA_METRIC_NLL], &intervals[LA_METRIC_BRIER]);
        for (int l = 0; l < LA_SELECTIVE_LEVELS; l++)
            intervals[LA_METRIC_COVERAGE_AT_RISK_1 + l] =
                la_coverage_interval(rows, all->n, la_selective_risks[l]);
    }
    free(rows);
    return err->status;
}

static la_status prepare(const la_metric_rows *from, uint32_t *order, void **prepared,
                         la_error *err) {
    size_t n = (size_t)from->n, c = (size_t)from->n_classes;
    double *sums = la_alloc(la_smooth_sums(), sizeof *sums, err);
    ranked *all = la_alloc(1,
                           sizeof *all + la_smoother_bytes(from->n) + n * sizeof *all->rows +
                               n * c * (sizeof *all->probs + 1),
                           err);
    scored_row *scored = la_alloc(n, sizeof *scored, err);
    la_status status = LA_OK;
    LA_TRY_DONE(err->status);
    *all = (ranked){.n = from->n, .n_classes = from->n_classes};
    all->smoother = (la_smoother *)(all + 1);
    all->rows = (scored_row *)((char *)all->smoother + la_smoother_bytes(from->n));
    all->probs = (double *)(all->rows + n);
    all->bins = (uint8_t *)(all->probs + n * c);
    for (size_t i = 0; i < n; i++)
        scored[i] = score_row(from->n_classes, from->values + i * c, from->labels.classes[i]);
    LA_TRY_DONE(sort_rows(scored, from->n, from->n_classes, all->rows, err));
    for (size_t i = 0; order && i < n; i++)
        order[i] = (uint32_t)((size_t)(all->rows[i].probs - from->values) / c);
    for (size_t i = 0; i < n; i++) {
        memcpy(all->probs + i * c, all->rows[i].probs, c * sizeof *all->probs);
        all->rows[i].probs = all->probs + i * c;
        for (size_t k = 0; k < c; k++)
            all->bins[i * c + k] = (uint8_t)la_metric_bin_of(all->probs[i * c + k]);
    }
    la_smoother_fit(all->smoother, add_rows, all, sums);
    *prepared = all;
    all = NULL;
done:
    free(scored);
    free(sums);
    free(all);
    return status;
}

/* Rows of one confidence are accepted together, and are one point. */
static int trace(const void *prepared, la_metric_point points[LA_METRIC_POINTS]) {
    const ranked *all = prepared;
    int64_t n_wrong = 0, taken = 0, wrong = 0, n_step = 0, wrong_step = 0;
    int n_points = 0;
    for (int64_t i = 0; i < all->n; i++)
        n_wrong += !la_scored_right(&all->rows[i]);
    for (int64_t i = all->n - 1; i >= 0; i--) {
        taken++;
        wrong += !la_scored_right(&all->rows[i]);
        if (i && all->rows[i - 1].confidence == all->rows[i].confidence)
            continue;
        int64_t n_now = taken * 100 / all->n, wrong_now = n_wrong ? wrong * 100 / n_wrong : 0;
        if (n_now == n_step && wrong_now == wrong_step)
            continue;
        n_step = n_now;
        wrong_step = wrong_now;
        points[n_points++] = (la_metric_point){all->rows[i].confidence, taken, wrong};
    }
    return n_points;
}

static size_t workspace_bytes(const void *prepared) {
    return la_resampling_here()->softmax_workspace(prepared);
}

static void measure(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *bins) {
    la_resampling_here()->softmax(prepared, work, count, value, bins);
}

static void measure_drawn(const void *prepared, void *work, uint64_t seed, uint64_t stream,
                          double *value) {
    la_resampling_here()->softmax_drawn(prepared, work, seed, stream, value);
}

static int64_t take_chances(const la_metric_rows *rows, double *chances) {
    for (int64_t i = 0; i < rows->n; i++)
        chances[i] = score_row(rows->n_classes, rows->values + i * rows->n_classes, 0).confidence;
    return rows->n;
}

#define NEEDS_BOTH .undefined = "needs both right and wrong answers"
static const la_metric_info list[LA_METRIC_COUNT] = {
    [LA_METRIC_ACCURACY] = {"accuracy", 1, .way = "Clopper-Pearson"},
    [LA_METRIC_NLL] = {"nll", -1},
    [LA_METRIC_BRIER] = {"brier", -1},
    [LA_METRIC_ECE] = {"ece", -1, .gap = true},
    [LA_METRIC_MCE] = {"mce", -1, .gap = true},
    [LA_METRIC_ECE_EM] = {"ece_em", -1, .gap = true},
    [LA_METRIC_ECE_DEBIASED] = {"ece_debiased", -1, .gap = true},
    [LA_METRIC_ECE_SMOOTH] = {"ece_smooth", -1, .gap = true},
    [LA_METRIC_ECE_CLASSWISE] = {"ece_classwise", -1, .gap = true},
    [LA_METRIC_AUROC] = {"auroc", 1, .way = "score", NEEDS_BOTH},
    [LA_METRIC_AUPR_ERROR] = {"aupr_error", 1, .way = "Wilson",
                              .undefined = "needs a wrong answer"},
    [LA_METRIC_AURC] = {"aurc", -1, .way = "gamma"},
    [LA_METRIC_EAURC] = {"eaurc", -1, .way = "gamma"},
    [LA_METRIC_FPR95] = {"fpr95", -1, NEEDS_BOTH},
    [LA_METRIC_RISK_AT_COVERAGE_80] = {"risk_at_coverage_80", -1},
    [LA_METRIC_RISK_AT_COVERAGE_90] = {"risk_at_coverage_90", -1},
    [LA_METRIC_RISK_AT_COVERAGE_95] = {"risk_at_coverage_95", -1},
    [LA_METRIC_COVERAGE_AT_RISK_1] = {"coverage_at_risk_1", 1, .way = "by tests"},
    [LA_METRIC_COVERAGE_AT_RISK_2] = {"coverage_at_risk_2", 1, .way = "by tests"},
    [LA_METRIC_COVERAGE_AT_RISK_5] = {"coverage_at_risk_5", 1, .way = "by tests"},
    [LA_METRIC_CONFIDENCE] = {"confidence", 0},
};

static void judge(const la_metric_rows *rows, int64_t i, la_row_outcome *outcome) {
    const double *probs = rows->values + i * rows->n_classes;
    scored_row row = score_row(rows->n_classes, probs, rows->labels.classes[i]);
    bool wrong = !la_scored_right(&row);
    *outcome = (la_row_outcome){.loss = wrong, .confidence = row.confidence, .missed = wrong};
}

const la_metric_set la_softmax_metrics = {.rows = "classes",
                                          .list = list,
                                          .n = LA_METRIC_COUNT,
                                          .bin_rows = "rows",
                                          .bin_share = "accuracy",
                                          .bin_mean = "confidence",
                                          .prepare = prepare,
                                          .at_once = LA_LANES_AT_ONCE,
                                          .measure = measure,
                                          .workspace = workspace_bytes,
                                          .exact = exact,
                                          .trace = trace,
                                          .measure_drawn = measure_drawn,
                                          .outcome = judge,
                                          .chances = take_chances};
