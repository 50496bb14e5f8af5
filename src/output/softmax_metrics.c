#include "output/softmax_metrics.h"
#include "base/memory.h"
#include "base/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A row as metrics see it. Small: every resample walks over all of them. */
typedef struct scored_row {
    double confidence, nll, brier;
    bool right;
    uint8_t bin;
} scored_row;

typedef struct ranked {
    int64_t n;
    scored_row rows[]; /* [n] by confidence */
} ranked;

/* Rows that are averaged together. right: a share of each row where ties are shared out. */
typedef struct tally {
    int64_t n;
    double right, confidence;
} tally;

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
                        .right = best == label,
                        .bin = (uint8_t)la_metric_bin_of(probs[best])};
}

static int compare_numbers(double a, double b) {
    return (a > b) - (a < b);
}

/* Order by confidence, ties by all else that is measured of a row: rows that compare equal are
 * alike, so that no number depends on the order in which the file has them, not in its last digit.
 */
static int compare_rows(const void *a, const void *b) {
    const scored_row *x = a, *y = b;
    int order = compare_numbers(x->confidence, y->confidence);
    order = order ? order : (int)x->right - (int)y->right;
    order = order ? order : compare_numbers(x->nll, y->nll);
    return order ? order : compare_numbers(x->brier, y->brier);
}

static la_status prepare(const la_metric_rows *rows, void **prepared, la_error *err) {
    ranked *all = la_alloc(1, sizeof *all + (size_t)rows->n * sizeof *all->rows, err);
    if (!all)
        return err->status;
    all->n = rows->n;
    for (int64_t i = 0; i < rows->n; i++)
        all->rows[i] =
            score_row(rows->n_classes, rows->values + i * rows->n_classes, rows->labels.classes[i]);
    qsort(all->rows, (size_t)rows->n, sizeof *all->rows, compare_rows);
    *prepared = all;
    return LA_OK;
}

static void add(tally *t, double confidence, double right, int64_t count) {
    t->n += count;
    t->right += right;
    t->confidence += confidence * (double)count;
}

static double gap(const tally *t) {
    return fabs(t->confidence / (double)t->n - t->right / (double)t->n);
}

/* count NULL: every row once. The counts add up to n. */
static int64_t count_of(const uint32_t *count, int64_t i) {
    return count ? count[i] : 1;
}

/* One past the last row of the tie group that begins at from; counts its right and wrong rows. */
static int64_t group_up(const scored_row *rows, const uint32_t *count, int64_t n, int64_t from,
                        int64_t *right, int64_t *wrong) {
    int64_t i = from;
    *right = *wrong = 0;
    for (; i < n && rows[i].confidence == rows[from].confidence; i++)
        *(rows[i].right ? right : wrong) += count_of(count, i);
    return i;
}

/* Means over rows: accuracy, nll, brier, confidence. */
static void compute_means(const scored_row *rows, const uint32_t *count, int64_t n, double *value,
                          int64_t *n_right) {
    double nll = 0, brier = 0, confidence = 0;
    int64_t right = 0;
    for (int64_t i = 0; i < n; i++) {
        double weight = (double)count_of(count, i);
        right += rows[i].right * count_of(count, i);
        nll += rows[i].nll * weight;
        brier += rows[i].brier * weight;
        confidence += rows[i].confidence * weight;
    }
    *n_right = right;
    value[LA_METRIC_ACCURACY] = (double)right / (double)n;
    value[LA_METRIC_NLL] = nll / (double)n;
    value[LA_METRIC_BRIER] = brier / (double)n;
    value[LA_METRIC_CONFIDENCE] = confidence / (double)n;
}

static void compute_equal_width(const scored_row *rows, const uint32_t *count, int64_t n,
                                double *value, tally bins[LA_METRIC_BINS]) {
    double ece = 0, mce = 0;
    memset(bins, 0, LA_METRIC_BINS * sizeof *bins);
    for (int64_t i = 0; i < n; i++) {
        int64_t copies = count_of(count, i);
        add(&bins[rows[i].bin], rows[i].confidence, (double)(rows[i].right * copies), copies);
    }
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        if (!bins[b].n)
            continue;
        ece += (double)bins[b].n / (double)n * gap(&bins[b]);
        mce = fmax(mce, gap(&bins[b]));
    }
    value[LA_METRIC_ECE] = ece;
    value[LA_METRIC_MCE] = mce;
}

/* Cut like numpy.array_split: the first n % 15 bins hold one row more. The rows of a tie group may
 * fall into several bins: each brings the group's accuracy, its expectation over all orders. */
static void compute_equal_mass(const scored_row *rows, const uint32_t *count, int64_t n,
                               double *value) {
    double ece = 0;
    int64_t size = n / LA_METRIC_BINS, longer = n % LA_METRIC_BINS, bin = 0;
    tally t = {0};
    for (int64_t i = 0, taken = 0; taken < n;) {
        int64_t right, wrong;
        double confidence = rows[i].confidence;
        i = group_up(rows, count, n, i, &right, &wrong);
        int64_t group = right + wrong, left = group;
        taken += group;
        while (left) {
            int64_t space = size + (bin < longer) - t.n, take = left < space ? left : space;
            add(&t, confidence, (double)take * (double)right / (double)group, take);
            left -= take;
            if (take == space) {
                ece += (double)t.n / (double)n * gap(&t);
                t = (tally){0};
                bin++;
            }
        }
    }
    value[LA_METRIC_ECE_EM] = ece;
}

/* From the least confident up: auroc and aupr_error. */
static void compute_error_ranking(const scored_row *rows, const uint32_t *count, int64_t n,
                                  int64_t n_right, double *value) {
    int64_t n_wrong = n - n_right, wrong = 0, flagged = 0;
    uint64_t pairs = 0; /* twice the pairs with the right row above the wrong one */
    double precision = 0;
    for (int64_t i = 0; i < n;) {
        int64_t new_right, new_wrong;
        i = group_up(rows, count, n, i, &new_right, &new_wrong);
        pairs += (uint64_t)new_right * (uint64_t)(2 * wrong + new_wrong);
        wrong += new_wrong;
        flagged += new_right + new_wrong;
        if (new_wrong)
            precision += (double)new_wrong * ((double)wrong / (double)flagged);
    }
    if (n_wrong)
        value[LA_METRIC_AUPR_ERROR] = precision / (double)n_wrong;
    if (n_wrong && n_right)
        value[LA_METRIC_AUROC] = (double)pairs / (2.0 * (double)n_right * (double)n_wrong);
}

/* From the most confident down: aurc, eaurc and fpr95. */
static void compute_selective_risk(const scored_row *rows, const uint32_t *count, int64_t n,
                                   int64_t n_right, double *value) {
    int64_t n_wrong = n - n_right, taken = 0, right = 0;
    double risk = 0, oracle = 0;
    for (int64_t end = n; end;) {
        int64_t from = end, new_right, new_wrong;
        while (from && rows[from - 1].confidence == rows[end - 1].confidence)
            from--;
        group_up(rows, count, end, from, &new_right, &new_wrong);
        end = from;
        int64_t size = new_right + new_wrong, wrong = taken - right;
        /* inside a tie group: the expected risk under a random order */
        for (int64_t j = 1; j <= size; j++)
            risk += ((double)wrong + (double)(j * new_wrong) / (double)size) / (double)(taken + j);
        taken += size;
        right += new_right;
        /* integers, because 0.95 is no double; the first group that gets there is the threshold */
        if (n_right && n_wrong && isnan(value[LA_METRIC_FPR95]) && 20 * right >= 19 * n_right)
            value[LA_METRIC_FPR95] = (double)(taken - right) / (double)n_wrong;
    }
    for (int64_t k = n_right + 1; k <= n; k++)
        oracle += (double)(k - n_right) / (double)k;
    value[LA_METRIC_AURC] = risk / (double)n;
    value[LA_METRIC_EAURC] = fmax(risk - oracle, 0) / (double)n;
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

static void measure(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *bins) {
    const ranked *all = prepared;
    tally tallies[LA_METRIC_BINS];
    int64_t n_right;
    (void)work;
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        value[m] = NAN;
    compute_means(all->rows, count, all->n, value, &n_right);
    compute_equal_width(all->rows, count, all->n, value, tallies);
    compute_equal_mass(all->rows, count, all->n, value);
    compute_error_ranking(all->rows, count, all->n, n_right, value);
    compute_selective_risk(all->rows, count, all->n, n_right, value);
    if (bins)
        show_bins(tallies, bins);
}

static void redraw(void *prepared, uint64_t seed, uint64_t stream) {
    ranked *all = prepared;
    for (int64_t i = 0; i < all->n; i++)
        all->rows[i].right = la_random_uniform(seed, stream, (uint64_t)i) < all->rows[i].confidence;
}

static const la_metric_info list[LA_METRIC_COUNT] = {
    [LA_METRIC_ACCURACY] = {"accuracy", 1}, [LA_METRIC_NLL] = {"nll", -1},
    [LA_METRIC_BRIER] = {"brier", -1},      [LA_METRIC_ECE] = {"ece", -1, true},
    [LA_METRIC_MCE] = {"mce", -1, true},    [LA_METRIC_ECE_EM] = {"ece_em", -1, true},
    [LA_METRIC_AUROC] = {"auroc", 1},       [LA_METRIC_AUPR_ERROR] = {"aupr_error", 1},
    [LA_METRIC_AURC] = {"aurc", -1},        [LA_METRIC_EAURC] = {"eaurc", -1},
    [LA_METRIC_FPR95] = {"fpr95", -1},      [LA_METRIC_CONFIDENCE] = {"confidence", 0},
};

static void judge(const la_metric_rows *rows, int64_t i, la_row_outcome *outcome) {
    const double *probs = rows->values + i * rows->n_classes;
    scored_row row = score_row(rows->n_classes, probs, rows->labels.classes[i]);
    *outcome =
        (la_row_outcome){.loss = !row.right, .confidence = row.confidence, .missed = !row.right};
}

const la_metric_set la_softmax_metrics = {.rows = "classes",
                                          .list = list,
                                          .n = LA_METRIC_COUNT,
                                          .bin_rows = "rows",
                                          .bin_share = "accuracy",
                                          .bin_mean = "confidence",
                                          .prepare = prepare,
                                          .measure = measure,
                                          .redraw = redraw,
                                          .outcome = judge};

/* ---- the noise of the ECE ---- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double la_ece_noise(int64_t n, double *confidence, int64_t draws, uint64_t seed) {
    enum { MOST = 1000 };
    double found[MOST];
    draws = draws < 1 ? 1 : draws > MOST ? MOST : draws;
    qsort(confidence, (size_t)n, sizeof *confidence, by_value);
    for (int64_t d = 0; d < draws; d++) {
        double excess[LA_METRIC_BINS] = {0}, sum = 0; /* confidences less hits */
        for (int64_t i = 0; i < n; i++) {
            int bin = (int)ceil(confidence[i] * LA_METRIC_BINS) - 1;
            bin = bin < 0 ? 0 : bin >= LA_METRIC_BINS ? LA_METRIC_BINS - 1 : bin;
            double number = la_random_uniform(seed, (uint64_t)d, (uint64_t)i);
            excess[bin] += confidence[i] - (number < confidence[i]);
        }
        for (int b = 0; b < LA_METRIC_BINS; b++)
            sum += fabs(excess[b]);
        found[d] = sum / (double)n;
    }
    qsort(found, (size_t)draws, sizeof *found, by_value);
    return found[(draws * 95 + 99) / 100 - 1];
}
