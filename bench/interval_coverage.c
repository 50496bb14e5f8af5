/* Coverage and width of bootstrap intervals of the report's metrics: how often the interval holds
 * the metric of the whole population, by way of making intervals, on simulated models whose
 * population values are known.
 *
 *     make build/interval_coverage && build/interval_coverage [REPETITIONS [RESAMPLES]]
 *
 * Resampling is done the long way, with la_metrics_compute on copied rows. Every way is cut to the
 * metric's range and widened to hold the metric of the rows themselves, as the report's is; the
 * last column is the share of sets where the report's own interval (la_metrics_intervals) holds the
 * population's value. */
#include "output/softmax_metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS_MAX = 100, POPULATION = 4000000 };

static uint64_t at = 88172645463325252u;

/* xorshift64* */
static double uniform(void) {
    at ^= at >> 12;
    at ^= at << 25;
    at ^= at >> 27;
    return (double)((at * 0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
}

/* A model of two classes: its confidences, and how often it is right at each. */
typedef struct world {
    const char *name;
    double (*confidence)(void);
    double (*right)(double confidence);
} world;

static double spread(void) {
    return 1 - 0.5 * uniform() * uniform();
}

static double sure(void) {
    return 1 - 0.5 * uniform() * uniform() * uniform() * uniform();
}

static double calibrated(double confidence) {
    return confidence;
}

static double over(double confidence) {
    return 0.5 + 0.7 * (confidence - 0.5);
}

static double slightly_over(double confidence) {
    return 0.5 + 0.93 * (confidence - 0.5);
}

static const world worlds[] = {{"calibrated", spread, calibrated},
                               {"slightly over-confident", spread, slightly_over},
                               {"over-confident", spread, over},
                               {"calibrated, 97 % right", sure, calibrated}};

typedef struct rows {
    int64_t n;
    double *probs;
    int64_t *labels;
} rows;

static rows rows_of(int64_t n) {
    rows set = {n, calloc((size_t)n, 2 * sizeof(double)), calloc((size_t)n, sizeof(int64_t))};
    if (!set.probs || !set.labels)
        exit(5);
    return set;
}

static void draw_world(const world *w, rows *set) {
    for (int64_t i = 0; i < set->n; i++) {
        double confidence = w->confidence();
        set->probs[2 * i] = confidence;
        set->probs[2 * i + 1] = 1 - confidence;
        set->labels[i] = uniform() >= w->right(confidence);
    }
}

static void copy_row(const rows *from, int64_t i, rows *to, int64_t j) {
    memcpy(&to->probs[2 * j], &from->probs[2 * i], 2 * sizeof *to->probs);
    to->labels[j] = from->labels[i];
}

static la_metrics measure(const rows *set) {
    la_metrics metrics;
    la_error err = {0};
    la_metric_rows all = {set->n, 2, set->probs, {.classes = set->labels}};
    if (la_metrics_compute(&la_softmax_metrics, &all, &metrics, &err) != LA_OK)
        exit(5);
    return metrics;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int64_t n, double share) {
    double place = share * (double)(n - 1);
    int64_t below = (int64_t)place;
    if (!(place > 0))
        return sorted[0];
    if (below >= n - 1)
        return sorted[n - 1];
    return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

static double normal_cdf(double z) {
    return 0.5 * erfc(-z / sqrt(2));
}

/* By bisection: nothing here is in a hurry. */
static double normal_quantile(double share) {
    double lo = -9, hi = 9;
    for (int i = 0; i < 80; i++)
        *(normal_cdf((lo + hi) / 2) < share ? &lo : &hi) = (lo + hi) / 2;
    return (lo + hi) / 2;
}

/* Skewness of the leave-a-group-out values: BCa's acceleration. */
static double acceleration(const double *left_out, int n) {
    double mean = 0, square = 0, cube = 0;
    for (int g = 0; g < n; g++)
        mean += left_out[g] / n;
    for (int g = 0; g < n; g++) {
        double off = mean - left_out[g];
        square += off * off;
        cube += off * off * off;
    }
    return square > 0 ? cube / (6 * pow(square, 1.5)) : 0;
}

enum { PERCENTILE, BASIC, BC, BCA, CENTRED, REPORT, WAYS };
static const char *const ways[WAYS] = {"percentile", "basic",   "BC",
                                       "BCa",        "centred", "the report's"};

static la_interval interval(int way, const double *sorted, int64_t n, double value, double a) {
    double lo = quantile(sorted, n, 0.025), hi = quantile(sorted, n, 0.975);
    double middle = quantile(sorted, n, 0.5), below = 0;
    if (way == BASIC)
        return (la_interval){2 * value - hi, 2 * value - lo};
    if (way == CENTRED)
        return (la_interval){value - (middle - lo), value + (hi - middle)};
    if (way == PERCENTILE)
        return (la_interval){lo, hi};
    for (int64_t r = 0; r < n; r++)
        below += sorted[r] < value ? 1 : sorted[r] == value ? 0.5 : 0;
    double z0 =
        normal_quantile(fmin(fmax(below / (double)n, 0.5 / (double)n), 1 - 0.5 / (double)n));
    double skew = way == BCA ? a : 0, ends[2];
    for (int end = 0; end < 2; end++) {
        double z = z0 + (end ? 1.959964 : -1.959964);
        ends[end] = quantile(sorted, n, normal_cdf(z0 + z / (1 - skew * z)));
    }
    return (la_interval){ends[0], ends[1]};
}

static const la_metric shown[] = {LA_METRIC_ACCURACY, LA_METRIC_NLL,        LA_METRIC_BRIER,
                                  LA_METRIC_ECE,      LA_METRIC_MCE,        LA_METRIC_ECE_EM,
                                  LA_METRIC_AUROC,    LA_METRIC_AUPR_ERROR, LA_METRIC_AURC,
                                  LA_METRIC_EAURC,    LA_METRIC_FPR95};
enum { SHOWN = sizeof shown / sizeof *shown };

typedef struct counts {
    double covered[SHOWN][WAYS], width[SHOWN][WAYS], outside[SHOWN];
    int64_t defined[SHOWN];
} counts;

static void count_one(counts *c, int m, int way, la_interval i, double value, double truth) {
    bool outside = way == PERCENTILE && (value < i.lo || value > i.hi);
    bool unbounded = shown[m] == LA_METRIC_NLL;
    i.lo = fmin(fmax(i.lo, 0), value);
    i.hi = fmax(unbounded ? i.hi : fmin(i.hi, shown[m] == LA_METRIC_BRIER ? 2 : 1), value);
    c->outside[m] += outside;
    c->covered[m][way] += i.lo <= truth && truth <= i.hi;
    c->width[m][way] += i.hi - i.lo;
}

static void one_set(const world *w, int64_t n, int64_t resamples, const double *truth,
                    uint64_t seed, counts *c) {
    rows set = rows_of(n), drawn = rows_of(n);
    double *values = calloc((size_t)resamples * SHOWN, sizeof *values);
    double left_out[SHOWN][GROUPS_MAX];
    int groups = n < GROUPS_MAX ? (int)n : GROUPS_MAX;
    la_interval own[LA_METRIC_COUNT];
    la_error err = {0};
    draw_world(w, &set);
    la_metrics metrics = measure(&set);
    for (int64_t r = 0; r < resamples; r++) {
        for (int64_t i = 0; i < n; i++)
            copy_row(&set, (int64_t)(uniform() * (double)n), &drawn, i);
        la_metrics m = measure(&drawn);
        for (int k = 0; k < SHOWN; k++)
            values[k * resamples + r] = m.value[shown[k]];
    }
    for (int g = 0; g < groups; g++) {
        drawn.n = 0;
        for (int64_t i = 0; i < n; i++)
            if (i % groups != g)
                copy_row(&set, i, &drawn, drawn.n++);
        la_metrics m = measure(&drawn);
        for (int k = 0; k < SHOWN; k++)
            left_out[k][g] = m.value[shown[k]];
    }
    la_metric_rows all_rows = {n, 2, set.probs, {.classes = set.labels}};
    if (la_metrics_intervals(la_team_of(1), &la_softmax_metrics, &all_rows, resamples, seed, own,
                             &err) != LA_OK)
        exit(5);
    for (int k = 0; k < SHOWN; k++) {
        double *column = values + k * resamples, value = metrics.value[shown[k]];
        int64_t defined = 0;
        for (int64_t r = 0; r < resamples; r++)
            if (!isnan(column[r]))
                column[defined++] = column[r];
        if (isnan(value) || !defined)
            continue;
        qsort(column, (size_t)defined, sizeof *column, by_value);
        double a = acceleration(left_out[k], groups);
        c->defined[k]++;
        for (int way = 0; way < REPORT; way++)
            count_one(c, k, way, interval(way, column, defined, value, isnan(a) ? 0 : a), value,
                      truth[shown[k]]);
        count_one(c, k, REPORT, own[shown[k]], value, truth[shown[k]]);
    }
    free(values);
    free(set.probs);
    free(set.labels);
    free(drawn.probs);
    free(drawn.labels);
}

int main(int argc, char **argv) {
    static const int64_t sizes[] = {100, 400, 2000};
    int64_t repetitions = argc > 1 ? atoll(argv[1]) : 400,
            resamples = argc > 2 ? atoll(argv[2]) : 500;
    for (size_t w = 0; w < sizeof worlds / sizeof *worlds; w++) {
        rows all = rows_of(POPULATION);
        draw_world(&worlds[w], &all);
        la_metrics population = measure(&all);
        if (worlds[w].right == calibrated)
            population.value[LA_METRIC_ECE] = population.value[LA_METRIC_MCE] =
                population.value[LA_METRIC_ECE_EM] = 0;
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            counts c = {0};
            for (int64_t r = 0; r < repetitions; r++)
                one_set(&worlds[w], sizes[s], resamples, population.value, (uint64_t)r + 1, &c);
            printf("\n%s, %lld rows: coverage / mean width (nominal 0.95)\n%-10s %8s %8s",
                   worlds[w].name, (long long)sizes[s], "metric", "value", "outside");
            for (int way = 0; way < WAYS; way++)
                printf(" %16s", ways[way]);
            for (int k = 0; k < SHOWN; k++) {
                double n = (double)c.defined[k];
                printf("\n%-10s %8.4f %8.3f", la_softmax_metrics.list[shown[k]].name,
                       population.value[shown[k]], c.outside[k] / n);
                for (int way = 0; way < WAYS; way++)
                    printf("    %.3f / %.4f", c.covered[k][way] / n, c.width[k][way] / n);
            }
            printf("\n");
            fflush(stdout);
        }
        free(all.probs);
        free(all.labels);
    }
    return 0;
}
