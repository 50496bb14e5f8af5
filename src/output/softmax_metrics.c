#include "output/softmax_metrics.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/statistics.h"
#include "output/coverage_interval.h"
#include "output/smooth_ece.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Coverages in percent at which the risk is shown, and risks at which the coverage is. */
enum { LEVELS = 3 };
static const int64_t coverages[LEVELS] = {80, 90, 95};
static const double risks[LEVELS] = {0.01, 0.02, 0.05};

/* A row as metrics see it. */
typedef struct scored_row {
    double confidence, nll, brier;
    const double *probs; /* [n_classes] */
    int32_t prediction, label;
} scored_row;

typedef struct ranked {
    int64_t n, n_classes;
    scored_row *rows; /* [n] by confidence */
    double *probs;    /* [n, n_classes] in that order */
    uint8_t *bins;    /* [n, n_classes] bin of each */
    la_smoother *smoother;
} ranked;

/* Rows that are averaged together. right: a share of each row where ties are shared out. */
typedef struct tally {
    int64_t n;
    double right, confidence;
} tally;

/* Copies of rows of one confidence. */
typedef struct tie {
    double confidence;
    uint32_t right, n;
} tie;

/* Workspace of a measurement; ties behind it. */
typedef struct workspace {
    double *sums;   /* of the smoother */
    double *excess; /* [n_classes, LA_METRIC_BINS] probabilities less rows of the class */
    tie *ties;      /* [n_ties] from the least confident up */
    int64_t n_ties;
} workspace;

static bool is_right(const scored_row *row) {
    return row->prediction == row->label;
}

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
    order = order ? order : (int)is_right(x) - (int)is_right(y);
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
        la_smooth_add(smoother, sums, confidence, confidence - is_right(&all->rows[i]), 1);
    }
}

/* coverage_at_risk_1, _2, _5 */
static la_status exact(const void *prepared, la_interval *intervals, la_error *err) {
    const ranked *all = prepared;
    la_ranked *rows = la_alloc((size_t)all->n, sizeof *rows, err);
    for (int64_t i = 0; rows && i < all->n; i++) {
        const scored_row *row = &all->rows[all->n - 1 - i];
        rows[i] = (la_ranked){-row->confidence, !is_right(row)};
    }
    for (int l = 0; rows && l < LEVELS; l++)
        intervals[LA_METRIC_COVERAGE_AT_RISK_1 + l] = la_coverage_interval(rows, all->n, risks[l]);
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

static size_t workspace_bytes(const void *prepared) {
    const ranked *all = prepared;
    size_t excess = (size_t)all->n_classes * LA_METRIC_BINS;
    return sizeof(workspace) + (la_smooth_sums() + excess) * sizeof(double) +
           (size_t)all->n * sizeof(tie);
}

static void add(tally *t, double confidence, double right, int64_t count) {
    t->n += count;
    t->right += right;
    t->confidence += confidence * (double)count;
}

static double gap(const tally *t) {
    return fabs(t->confidence / (double)t->n - t->right / (double)t->n);
}

/* Adds copies of a row to the last group of ties, or to a new one. */
static void add_tie(workspace *work, double confidence, bool right, uint32_t copies) {
    if (!copies)
        return;
    if (!work->n_ties || work->ties[work->n_ties - 1].confidence != confidence)
        work->ties[work->n_ties++] = (tie){.confidence = confidence};
    tie *last = &work->ties[work->n_ties - 1];
    last->n += copies;
    last->right += right ? copies : 0;
}

/* The one pass over rows: means (accuracy, nll, brier, confidence), and what the rest is made of.
 * count NULL: every row once. The counts add up to n. */
static void visit_rows(const ranked *all, const uint32_t *count, workspace *work, double *value,
                       tally bins[LA_METRIC_BINS], int64_t *n_right) {
    double nll = 0, brier = 0, confidence = 0, n = (double)all->n;
    int64_t right = 0;
    for (int64_t i = 0; i < all->n; i++) {
        const scored_row *row = &all->rows[i];
        const uint8_t *bin = all->bins + i * all->n_classes;
        uint32_t copies = count ? count[i] : 1;
        double weight = copies;
        bool ok = is_right(row);
        right += ok ? copies : 0;
        nll += row->nll * weight;
        brier += row->brier * weight;
        confidence += row->confidence * weight;
        add(&bins[bin[row->prediction]], row->confidence, ok ? weight : 0, copies);
        add_tie(work, row->confidence, ok, copies);
        for (int64_t c = 0; c < all->n_classes; c++)
            work->excess[c * LA_METRIC_BINS + bin[c]] += weight * row->probs[c];
        work->excess[row->label * LA_METRIC_BINS + bin[row->label]] -= weight;
    }
    *n_right = right;
    value[LA_METRIC_ACCURACY] = (double)right / n;
    value[LA_METRIC_NLL] = nll / n;
    value[LA_METRIC_BRIER] = brier / n;
    value[LA_METRIC_CONFIDENCE] = confidence / n;
}

static void compute_smooth(const ranked *all, const workspace *work, double *value) {
    for (const tie *group = work->ties; group < work->ties + work->n_ties; group++)
        la_smooth_add(all->smoother, work->sums, group->confidence,
                      group->confidence - (double)group->right / group->n, group->n);
    value[LA_METRIC_ECE_SMOOTH] = la_smooth_ece(all->smoother, work->sums);
}

static void compute_equal_width(const tally bins[LA_METRIC_BINS], int64_t n, double *value) {
    double ece = 0, mce = 0;
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        if (!bins[b].n)
            continue;
        ece += (double)bins[b].n / (double)n * gap(&bins[b]);
        mce = fmax(mce, gap(&bins[b]));
    }
    value[LA_METRIC_ECE] = ece;
    value[LA_METRIC_MCE] = mce;
}

/* Rows in the first `bins` of n rows cut like numpy.array_split: the first n % all of them hold one
 * row more. */
static int64_t cut_at(int64_t n, int64_t all, int64_t bins) {
    return bins * (n / all) + (bins < n % all ? bins : n % all);
}

/* The rows of a tie group may fall into several bins: each brings the group's accuracy, its
 * expectation over all orders. */
static void compute_equal_mass(const workspace *work, int64_t n, double *value) {
    double ece = 0;
    int64_t bin = 0, taken = 0;
    tally t = {0};
    for (const tie *group = work->ties; group < work->ties + work->n_ties; group++)
        for (int64_t left = group->n; left;) {
            int64_t space = cut_at(n, LA_METRIC_BINS, bin + 1) - taken;
            int64_t take = left < space ? left : space;
            add(&t, group->confidence, (double)take * (double)group->right / (double)group->n,
                take);
            left -= take;
            taken += take;
            if (take == space) {
                ece += (double)t.n / (double)n * gap(&t);
                t = (tally){0};
                bin++;
            }
        }
    value[LA_METRIC_ECE_EM] = ece;
}

/* The debiased L2 error of Kumar, Liang and Ma, "Verified Uncertainty Calibration", 2019, section
 * 4.1, over min(15, n) equal-mass bins, where a tie group lies in the first that it reaches. */
static void compute_debiased(const workspace *work, int64_t n, double *value) {
    int64_t bins = n < LA_METRIC_BINS ? n : LA_METRIC_BINS, bin = 0, taken = 0;
    double square = 0;
    tally t = {0};
    for (const tie *group = work->ties; group < work->ties + work->n_ties; group++) {
        add(&t, group->confidence, group->right, group->n);
        taken += group->n;
        if (taken < cut_at(n, bins, bin + 1))
            continue;
        while (bin < bins && cut_at(n, bins, bin + 1) <= taken)
            bin++;
        double size = (double)t.n, accuracy = t.right / size;
        if (t.n > 1)
            square +=
                size / (double)n * (gap(&t) * gap(&t) - accuracy * (1 - accuracy) / (size - 1));
        t = (tally){0};
    }
    value[LA_METRIC_ECE_DEBIASED] = sqrt(fmax(square, 0));
}

static void compute_classwise(const ranked *all, const workspace *work, double *value) {
    double sum = 0;
    for (int64_t k = 0; k < all->n_classes * LA_METRIC_BINS; k++)
        sum += fabs(work->excess[k]);
    value[LA_METRIC_ECE_CLASSWISE] = sum / (double)all->n / (double)all->n_classes;
}

/* From the least confident up: auroc and aupr_error. */
static void compute_error_ranking(const workspace *work, int64_t n, int64_t n_right,
                                  double *value) {
    int64_t n_wrong = n - n_right, wrong = 0, flagged = 0;
    uint64_t pairs = 0; /* twice the pairs with the right row above the wrong one */
    double precision = 0;
    for (const tie *group = work->ties; group < work->ties + work->n_ties; group++) {
        int64_t new_wrong = group->n - group->right;
        pairs += (uint64_t)group->right * (uint64_t)(2 * wrong + new_wrong);
        wrong += new_wrong;
        flagged += group->n;
        if (new_wrong)
            precision += (double)new_wrong * ((double)wrong / (double)flagged);
    }
    if (n_wrong)
        value[LA_METRIC_AUPR_ERROR] = precision / (double)n_wrong;
    if (n_wrong && n_right)
        value[LA_METRIC_AUROC] = (double)pairs / (2.0 * (double)n_right * (double)n_wrong);
}

/* From the most confident down: aurc, eaurc, fpr95, risks at coverages and coverages at risks. */
static void compute_selective_risk(const workspace *work, int64_t n, int64_t n_right,
                                   double *value) {
    int64_t n_wrong = n - n_right, taken = 0, right = 0, covered[LEVELS] = {0};
    double total = 0, oracle = 0;
    for (const tie *group = work->ties + work->n_ties; group-- > work->ties;) {
        int64_t new_wrong = group->n - group->right, wrong = taken - right;
        /* inside a tie group: the expected risk under a random order */
        for (int64_t j = 1; j <= group->n; j++) {
            double risk =
                ((double)wrong + (double)(j * new_wrong) / (double)group->n) / (double)(taken + j);
            total += risk;
            for (int l = LEVELS - 1; l >= 0 && risk <= risks[l]; l--)
                covered[l] = taken + j;
        }
        for (int l = 0; l < LEVELS; l++) {
            int64_t rows = (coverages[l] * n + 99) / 100, j = rows - taken;
            if (j >= 1 && j <= group->n)
                value[LA_METRIC_RISK_AT_COVERAGE_80 + l] =
                    ((double)wrong + (double)(j * new_wrong) / (double)group->n) / (double)rows;
        }
        taken += group->n;
        right += group->right;
        /* integers, because 0.95 is no double; the first group that gets there is the threshold */
        if (n_right && n_wrong && isnan(value[LA_METRIC_FPR95]) && 20 * right >= 19 * n_right)
            value[LA_METRIC_FPR95] = (double)(taken - right) / (double)n_wrong;
    }
    for (int64_t k = n_right + 1; k <= n; k++)
        oracle += (double)(k - n_right) / (double)k;
    value[LA_METRIC_AURC] = total / (double)n;
    value[LA_METRIC_EAURC] = fmax(total - oracle, 0) / (double)n;
    for (int l = 0; l < LEVELS; l++)
        value[LA_METRIC_COVERAGE_AT_RISK_1 + l] = (double)covered[l] / (double)n;
}

/* Rows of one confidence are accepted together, and are one point. */
static int trace(const void *prepared, la_metric_point points[LA_METRIC_POINTS]) {
    const ranked *all = prepared;
    int64_t n_wrong = 0, taken = 0, wrong = 0, n_step = 0, wrong_step = 0;
    int n_points = 0;
    for (int64_t i = 0; i < all->n; i++)
        n_wrong += !is_right(&all->rows[i]);
    for (int64_t i = all->n - 1; i >= 0; i--) {
        taken++;
        wrong += !is_right(&all->rows[i]);
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

static void show_bins(const tally tallies[LA_METRIC_BINS], la_metric_bin *bins) {
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        const tally *t = &tallies[b];
        double count = (double)t->n;
        bins[b] = (la_metric_bin){.lo = la_metric_bin_edge(b),
                                  .hi = la_metric_bin_edge(b + 1),
                                  .n = t->n,
                                  .confidence = t->n ? t->confidence / count : NAN,
                                  .accuracy = t->n ? t->right / count : NAN};
    }
}

static void measure(const void *prepared, void *memory, const uint32_t *count, double *value,
                    la_metric_bin *bins) {
    const ranked *all = prepared;
    size_t n_excess = (size_t)all->n_classes * LA_METRIC_BINS;
    workspace *work = memory;
    tally tallies[LA_METRIC_BINS] = {0};
    int64_t n_right;
    *work = (workspace){.sums = (double *)(work + 1)};
    work->excess = work->sums + la_smooth_sums();
    work->ties = (tie *)(work->excess + n_excess);
    memset(work->excess, 0, n_excess * sizeof *work->excess);
    la_smooth_clear(all->smoother, work->sums);
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        value[m] = NAN;
    visit_rows(all, count, work, value, tallies, &n_right);
    compute_equal_width(tallies, all->n, value);
    compute_equal_mass(work, all->n, value);
    compute_debiased(work, all->n, value);
    compute_smooth(all, work, value);
    compute_classwise(all, work, value);
    compute_error_ranking(work, all->n, n_right, value);
    compute_selective_risk(work, all->n, n_right, value);
    if (bins)
        show_bins(tallies, bins);
}

/* The prediction where the number lies below the confidence, else another class, each by its
 * probability. */
static int32_t draw_label(const scored_row *row, int64_t n_classes, double number) {
    int32_t drawn = row->prediction;
    number -= row->confidence;
    for (int32_t c = 0; c < n_classes && number >= 0; c++)
        if (c != row->prediction) {
            number -= row->probs[c];
            drawn = c;
        }
    return drawn;
}

static void redraw(void *prepared, uint64_t seed, uint64_t stream) {
    ranked *all = prepared;
    for (int64_t i = 0; i < all->n; i++) {
        double number = la_random_uniform(seed, stream, (uint64_t)i);
        all->rows[i].label = draw_label(&all->rows[i], all->n_classes, number);
    }
}

static int64_t take_chances(const la_metric_rows *rows, double *chances) {
    for (int64_t i = 0; i < rows->n; i++)
        chances[i] = score_row(rows->n_classes, rows->values + i * rows->n_classes, 0).confidence;
    return rows->n;
}

#define NEEDS_BOTH .undefined = "needs both right and wrong answers"
static const la_metric_info list[LA_METRIC_COUNT] = {
    [LA_METRIC_ACCURACY] = {"accuracy", 1},
    [LA_METRIC_NLL] = {"nll", -1},
    [LA_METRIC_BRIER] = {"brier", -1},
    [LA_METRIC_ECE] = {"ece", -1, .gap = true},
    [LA_METRIC_MCE] = {"mce", -1, .gap = true},
    [LA_METRIC_ECE_EM] = {"ece_em", -1, .gap = true},
    [LA_METRIC_ECE_DEBIASED] = {"ece_debiased", -1, .gap = true},
    [LA_METRIC_ECE_SMOOTH] = {"ece_smooth", -1, .gap = true},
    [LA_METRIC_ECE_CLASSWISE] = {"ece_classwise", -1, .gap = true},
    [LA_METRIC_AUROC] = {"auroc", 1, NEEDS_BOTH},
    [LA_METRIC_AUPR_ERROR] = {"aupr_error", 1, .undefined = "needs a wrong answer"},
    [LA_METRIC_AURC] = {"aurc", -1},
    [LA_METRIC_EAURC] = {"eaurc", -1},
    [LA_METRIC_FPR95] = {"fpr95", -1, NEEDS_BOTH},
    [LA_METRIC_RISK_AT_COVERAGE_80] = {"risk_at_coverage_80", -1},
    [LA_METRIC_RISK_AT_COVERAGE_90] = {"risk_at_coverage_90", -1},
    [LA_METRIC_RISK_AT_COVERAGE_95] = {"risk_at_coverage_95", -1},
    [LA_METRIC_COVERAGE_AT_RISK_1] = {"coverage_at_risk_1", 1, .exact = true},
    [LA_METRIC_COVERAGE_AT_RISK_2] = {"coverage_at_risk_2", 1, .exact = true},
    [LA_METRIC_COVERAGE_AT_RISK_5] = {"coverage_at_risk_5", 1, .exact = true},
    [LA_METRIC_CONFIDENCE] = {"confidence", 0},
};

static void judge(const la_metric_rows *rows, int64_t i, la_row_outcome *outcome) {
    const double *probs = rows->values + i * rows->n_classes;
    scored_row row = score_row(rows->n_classes, probs, rows->labels.classes[i]);
    bool wrong = !is_right(&row);
    *outcome = (la_row_outcome){.loss = wrong, .confidence = row.confidence, .missed = wrong};
}

const la_metric_set la_softmax_metrics = {.rows = "classes",
                                          .list = list,
                                          .n = LA_METRIC_COUNT,
                                          .bin_rows = "rows",
                                          .bin_share = "accuracy",
                                          .bin_mean = "confidence",
                                          .prepare = prepare,
                                          .measure = measure,
                                          .workspace = workspace_bytes,
                                          .exact = exact,
                                          .trace = trace,
                                          .redraw = redraw,
                                          .outcome = judge,
                                          .chances = take_chances};
