#include "output/sigmoid_metrics.h"
#include "base/memory.h"
#include "base/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows sorted, so that no number depends on the order in which the file has them. The arrays lie
 * behind the struct. */
typedef struct prepared_rows {
    int64_t n, c;
    double *p;         /* [n, c] */
    unsigned char *in; /* [n, c] the class is in the row's set */
} prepared_rows;

/* Counts of decisions. */
typedef struct confusion {
    int64_t hits, extra, missed;
} confusion;

/* ---- sorting ---- */

typedef struct row_key {
    const double *p;
    const unsigned char *in;
    int64_t c;
} row_key;

static int compare_rows(const void *a, const void *b) {
    const row_key *x = a, *y = b;
    for (int64_t k = 0; k < x->c; k++)
        if (x->p[k] != y->p[k])
            return x->p[k] < y->p[k] ? -1 : 1;
    return memcmp(x->in, y->in, (size_t)x->c);
}

static la_status prepare(const la_metric_rows *rows, uint32_t *order, void **prepared,
                         la_error *err) {
    size_t n = (size_t)rows->n, c = (size_t)rows->n_classes;
    row_key *keys = la_alloc(n, sizeof *keys, err);
    prepared_rows *all = la_alloc(1, sizeof *all + n * c * (sizeof *all->p + 1), err);
    if (err->status != LA_OK) {
        free(keys);
        free(all);
        return err->status;
    }
    *all = (prepared_rows){.n = rows->n, .c = rows->n_classes, .p = (double *)(all + 1)};
    all->in = (unsigned char *)(all->p + n * c);
    for (size_t i = 0; i < n; i++)
        keys[i] = (row_key){rows->values + i * c, rows->labels.sets + i * c, rows->n_classes};
    qsort(keys, n, sizeof *keys, compare_rows);
    for (size_t i = 0; i < n; i++) {
        memcpy(all->p + i * c, keys[i].p, c * sizeof *all->p);
        memcpy(all->in + i * c, keys[i].in, c);
        if (order)
            order[i] = (uint32_t)((size_t)(keys[i].p - rows->values) / c);
    }
    free(keys);
    *prepared = all;
    return LA_OK;
}

/* ---- measuring ---- */

/* NaN where there is nothing to find and nothing was found. */
static double f1_of(const confusion *k) {
    int64_t all = 2 * k->hits + k->extra + k->missed;
    return all ? 2 * (double)k->hits / (double)all : NAN;
}

/* One class over all rows; value: sums of nll and brier. */
static confusion measure_class(const prepared_rows *all, int64_t k, const uint32_t *count,
                               double *value, la_metric_bin *bins) {
    confusion found = {0};
    for (int64_t i = 0; i < all->n; i++) {
        double p = all->p[i * all->c + k], copies = count ? count[i] : 1;
        bool in = all->in[i * all->c + k];
        la_metric_bin *bin = &bins[la_metric_bin_of(p)];
        int64_t times = count ? count[i] : 1;
        found.hits += in && p > 0.5 ? times : 0;
        found.extra += !in && p > 0.5 ? times : 0;
        found.missed += in && p <= 0.5 ? times : 0;
        value[LA_SIGMOID_NLL] -= copies * log(fmax(in ? p : 1 - p, DBL_MIN));
        value[LA_SIGMOID_BRIER] += copies * (p - in) * (p - in);
        bin->n += times;
        bin->confidence += copies * p;
        bin->accuracy += in ? copies : 0;
    }
    return found;
}

static int64_t exact_rows(const prepared_rows *all, const uint32_t *count) {
    int64_t exact = 0;
    for (int64_t i = 0; i < all->n; i++) {
        bool right = true;
        for (int64_t k = 0; k < all->c; k++)
            right &= (all->p[i * all->c + k] > 0.5) == all->in[i * all->c + k];
        exact += right ? (count ? count[i] : 1) : 0;
    }
    return exact;
}

static double finish_bins(la_metric_bin bins[LA_METRIC_BINS], double decisions) {
    double ece = 0;
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        double n = (double)bins[b].n;
        bins[b].lo = la_metric_bin_edge(b);
        bins[b].hi = la_metric_bin_edge(b + 1);
        bins[b].confidence = bins[b].n ? bins[b].confidence / n : NAN;
        bins[b].accuracy = bins[b].n ? bins[b].accuracy / n : NAN;
        if (bins[b].n)
            ece += n / decisions * fabs(bins[b].confidence - bins[b].accuracy);
    }
    return ece;
}

static void measure(const void *prepared, void *work, const uint32_t *count, double *value,
                    la_metric_bin *shown) {
    const prepared_rows *all = prepared;
    la_metric_bin bins[LA_METRIC_BINS] = {0};
    double decisions = (double)all->n * (double)all->c, sum = 0;
    confusion total = {0};
    int64_t n_classes = 0;
    (void)work;
    for (int m = 0; m < LA_SIGMOID_METRICS; m++)
        value[m] = 0;
    for (int64_t k = 0; k < all->c; k++) {
        confusion one = measure_class(all, k, count, value, bins);
        double f1 = f1_of(&one);
        total.hits += one.hits;
        total.extra += one.extra;
        total.missed += one.missed;
        n_classes += !isnan(f1);
        sum += isnan(f1) ? 0 : f1;
    }
    value[LA_SIGMOID_F1_MICRO] = f1_of(&total);
    value[LA_SIGMOID_F1_MACRO] = n_classes ? sum / (double)n_classes : NAN;
    value[LA_SIGMOID_EXACT_MATCH] = (double)exact_rows(all, count) / (double)all->n;
    value[LA_SIGMOID_HAMMING] = (double)(total.extra + total.missed) / decisions;
    value[LA_SIGMOID_NLL] /= decisions;
    value[LA_SIGMOID_BRIER] /= decisions;
    value[LA_SIGMOID_ECE] = finish_bins(bins, decisions);
    if (shown)
        memcpy(shown, bins, sizeof bins);
}

static size_t workspace_bytes(const void *prepared) {
    const prepared_rows *all = prepared;
    return (size_t)(all->n * all->c) * sizeof *all->in;
}

static void measure_drawn(const void *prepared, void *work, uint64_t seed, uint64_t stream,
                          double *value) {
    prepared_rows drawn = *(const prepared_rows *)prepared;
    drawn.in = work;
    for (int64_t i = 0; i < drawn.n * drawn.c; i++)
        drawn.in[i] = la_random_uniform(seed, stream, (uint64_t)i) < drawn.p[i];
    measure(&drawn, NULL, NULL, value, NULL);
}

static int64_t take_chances(const la_metric_rows *rows, double *chances) {
    int64_t n = rows->n * rows->n_classes;
    memcpy(chances, rows->values, (size_t)n * sizeof *chances);
    return n;
}

/* ---- of one class ---- */

static const la_metric_info class_list[] = {
    [0] = {"f1", 1}, [1] = {"nll", -1}, [2] = {"brier", -1}, [3] = {"ece", -1, .gap = true}};

static void measure_one(const void *prepared, int64_t class, double *value, int64_t *n) {
    const prepared_rows *all = prepared;
    la_metric_bin bins[LA_METRIC_BINS] = {0};
    double sums[LA_SIGMOID_METRICS] = {0}, rows = (double)all->n;
    confusion found = measure_class(all, class, NULL, sums, bins);
    value[0] = f1_of(&found);
    value[1] = sums[LA_SIGMOID_NLL] / rows;
    value[2] = sums[LA_SIGMOID_BRIER] / rows;
    value[3] = finish_bins(bins, rows);
    *n = found.hits + found.missed;
}

#define NEEDS_CLASS .undefined = "needs a class that is labelled or predicted"
static const la_metric_info list[LA_SIGMOID_METRICS] = {
    [LA_SIGMOID_F1_MICRO] = {"f1_micro", 1, NEEDS_CLASS},
    [LA_SIGMOID_F1_MACRO] = {"f1_macro", 1, NEEDS_CLASS},
    [LA_SIGMOID_EXACT_MATCH] = {"exact_match", 1},
    [LA_SIGMOID_HAMMING] = {"hamming", -1},
    [LA_SIGMOID_NLL] = {"nll", -1},
    [LA_SIGMOID_BRIER] = {"brier", -1},
    [LA_SIGMOID_ECE] = {"ece", -1, .gap = true},
};

/* Wrong: a set that differs in any class. */
static void judge(const la_metric_rows *rows, int64_t i, la_row_outcome *outcome) {
    const double *p = rows->values + i * rows->n_classes;
    const unsigned char *in = rows->labels.sets + i * rows->n_classes;
    *outcome = (la_row_outcome){.confidence = 1};
    for (int64_t c = 0; c < rows->n_classes; c++) {
        outcome->confidence *= fmax(p[c], 1 - p[c]);
        outcome->missed |= (p[c] > 0.5) != (in[c] == 1);
    }
    outcome->loss = outcome->missed;
}

const la_metric_set la_sigmoid_metrics = {.rows = "sets of classes",
                                          .list = list,
                                          .n = LA_SIGMOID_METRICS,
                                          .bin_rows = "decisions",
                                          .bin_share = "frequency",
                                          .bin_mean = "probability",
                                          .prepare = prepare,
                                          .at_once = 1,
                                          .measure = measure,
                                          .workspace = workspace_bytes,
                                          .measure_drawn = measure_drawn,
                                          .outcome = judge,
                                          .chances = take_chances,
                                          .class_list = class_list,
                                          .n_class = sizeof class_list / sizeof *class_list,
                                          .measure_class = measure_one};
