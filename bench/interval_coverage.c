/* Coverage and width of intervals: how often they hold what is so of the whole population, on
 * simulated models of which that is known.
 *
 *     make build/interval_coverage && build/interval_coverage [REPETITIONS [RESAMPLES]]
 *     build/interval_coverage REPETITIONS RESAMPLES ways
 *     build/interval_coverage REPETITIONS RESAMPLES against
 *
 * The first is of the intervals that laplora reports: of every metric of report
 * (la_metrics_intervals, which slices have too: a slice is a set of few rows), and of the cost and
 * the cheapest threshold of threshold --cost-error (la_selection_by_cost). That of drift's
 * estimated accuracy is in drift_promise.c.
 *
 * The second compares ways of making intervals of the metrics that do not take long. Resampling is
 * done the long way, with la_metrics_compute on copied rows. Every way is cut to the metric's range
 * and widened to hold the metric of the rows themselves, as the report's is, which is the last
 * column.
 *
 * The third is of the differences between two files of the same rows (report --against), and how
 * often one is called better. */
#include "base/selective.h"
#include "output/report_against.h"
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

/* Those of the other ways. */
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

static la_metrics population_of(const world *w) {
    rows all = rows_of(POPULATION);
    draw_world(w, &all);
    la_metrics population = measure(&all);
    for (int m = 0; m < LA_METRIC_COUNT && w->right == calibrated; m++)
        if (la_softmax_metrics.list[m].gap)
            population.value[m] = 0;
    free(all.probs);
    free(all.labels);
    return population;
}

static void compare_ways(const world *w, const la_metrics *population, int64_t n,
                         int64_t repetitions, int64_t resamples) {
    counts c = {0};
    for (int64_t r = 0; r < repetitions; r++)
        one_set(w, n, resamples, population->value, (uint64_t)r + 1, &c);
    printf("\n%s, %lld rows: coverage / mean width (nominal 0.95)\n%-10s %8s %8s", w->name,
           (long long)n, "metric", "value", "outside");
    for (int way = 0; way < WAYS; way++)
        printf(" %16s", ways[way]);
    for (int k = 0; k < SHOWN; k++) {
        double defined = (double)c.defined[k];
        printf("\n%-10s %8.4f %8.3f", la_softmax_metrics.list[shown[k]].name,
               population->value[shown[k]], c.outside[k] / defined);
        for (int way = 0; way < WAYS; way++)
            printf("    %.3f / %.4f", c.covered[k][way] / defined, c.width[k][way] / defined);
    }
    printf("\n");
    fflush(stdout);
}

/* ---- the intervals of laplora ---- */

enum { SIZES = 5 };
static const int64_t sizes[SIZES] = {50, 100, 200, 400, 2000};

typedef struct held {
    double n, covered, width;
} held;

static void count_held(held *h, double lo, double hi, double truth) {
    if (isnan(lo) || isnan(truth))
        return;
    h->n++;
    h->covered += lo <= truth && truth <= hi;
    h->width += hi - lo;
}

static void print_held(const held *h) {
    printf(" %8.3f / %6.4f", h->covered / h->n, h->width / h->n);
}

static void print_heading(const char *world_name, const char *what) {
    printf("\n%s: coverage / mean width (nominal 0.95)\n%-22s %8s", world_name, what, "value");
    for (int s = 0; s < SIZES; s++)
        printf(" %12lld rows", (long long)sizes[s]);
}

static void reported(const world *w, const la_metrics *population, int64_t repetitions,
                     int64_t resamples) {
    held found[SIZES][LA_METRIC_COUNT] = {0};
    for (int s = 0; s < SIZES; s++) {
        rows set = rows_of(sizes[s]);
        for (int64_t r = 0; r < repetitions; r++) {
            la_interval own[LA_METRIC_COUNT];
            la_error err = {0};
            draw_world(w, &set);
            la_metric_rows all = {set.n, 2, set.probs, {.classes = set.labels}};
            if (la_metrics_intervals(la_team_of(1), &la_softmax_metrics, &all, resamples,
                                     (uint64_t)r + 1, own, &err) != LA_OK)
                exit(5);
            for (int m = 0; m < LA_METRIC_COUNT; m++)
                count_held(&found[s][m], own[m].lo, own[m].hi, population->value[m]);
        }
        free(set.probs);
        free(set.labels);
    }
    print_heading(w->name, "metric");
    for (int m = 0; m < LA_METRIC_COUNT; m++) {
        printf("\n%-22s %8.4f", la_softmax_metrics.list[m].name, population->value[m]);
        for (int s = 0; s < SIZES; s++)
            print_held(&found[s][m]);
    }
    printf("\n");
    fflush(stdout);
}

/* Expected costs of thresholds at the quantiles of the confidence, from the population. */
enum { COST_POINTS = 4000 };
static const la_costs costs = {5, 1};

typedef struct cost_curve {
    double score[COST_POINTS], cost[COST_POINTS]; /* of thresholds, the highest first */
    double cheapest;                              /* the threshold */
} cost_curve;

static la_ranked *ranked_of(const world *w, int64_t n) {
    la_ranked *list = calloc((size_t)n, sizeof *list);
    if (!list)
        exit(5);
    for (int64_t i = 0; i < n; i++) {
        double confidence = w->confidence();
        list[i] = (la_ranked){-confidence, uniform() >= w->right(confidence)};
    }
    la_ranked_sort(list, n);
    return list;
}

static void trace_costs(const world *w, cost_curve *curve) {
    la_ranked *all = ranked_of(w, POPULATION);
    int64_t errors = 0;
    double least = INFINITY;
    for (int64_t i = 0, k = 0; i < POPULATION; i++) {
        errors += all[i].wrong;
        if ((i + 1) % (POPULATION / COST_POINTS))
            continue;
        curve->score[k] = -all[i].key;
        curve->cost[k] =
            (costs.error * (double)errors + costs.review * (double)(POPULATION - i)) / POPULATION;
        if (curve->cost[k] < least) {
            least = curve->cost[k];
            curve->cheapest = curve->score[k];
        }
        k++;
    }
    free(all);
}

static double cost_at(const cost_curve *curve, double score) {
    int k = 0;
    while (k < COST_POINTS && curve->score[k] >= score)
        k++;
    return k ? curve->cost[k - 1] : costs.review;
}

static void by_cost(const world *w, int64_t repetitions) {
    static cost_curve curve;
    held of_cost[SIZES] = {0}, of_threshold[SIZES] = {0};
    trace_costs(w, &curve);
    for (int s = 0; s < SIZES; s++)
        for (int64_t r = 0; r < repetitions; r++) {
            la_ranked *list = ranked_of(w, sizes[s]);
            la_cost_point p;
            la_error err = {0};
            if (la_selection_by_cost(list, sizes[s], costs, (uint64_t)r + 1, &p, &err) != LA_OK)
                exit(5);
            /* as la_threshold has it, but that one which accepts all rows may be any below */
            int64_t fewest = p.accepted_interval[0], most = p.accepted_interval[1];
            double chosen = p.n_accepted ? -list[p.n_accepted - 1].key : INFINITY;
            double high = fewest ? -list[fewest - 1].key : 1;
            double low = most < sizes[s] ? -list[most].key : 0.5;
            count_held(&of_cost[s], p.cost_interval[0], p.cost_interval[1],
                       cost_at(&curve, chosen));
            count_held(&of_threshold[s], low, high, curve.cheapest);
            free(list);
        }
    print_heading(w->name, "an error 5, a review 1");
    printf("\n%-22s %8.4f", "cost of the threshold", cost_at(&curve, curve.cheapest));
    for (int s = 0; s < SIZES; s++)
        print_held(&of_cost[s]);
    printf("\n%-22s %8.4f", "cheapest threshold", curve.cheapest);
    for (int s = 0; s < SIZES; s++)
        print_held(&of_threshold[s]);
    printf("\n");
    fflush(stdout);
}

/* ---- differences between two models of the same rows ---- */

/* A row is of the second class with the probability sigmoid(z), z ~ N(0, 3^2). A model sees z and
 * noise of its own. */
typedef struct pair_world {
    const char *name;
    double noise[2], factor[2];
} pair_world;

static const pair_world pairs[] = {{"two equally good models", {1, 1}, {1, 1}},
                                   {"the same answers, confidence stretched", {0, 0}, {1, 1.5}},
                                   {"one that sees more", {0.5, 1.5}, {1, 1}}};
enum { PAIR_POPULATION = 1000000 };

static double normal(void) {
    return sqrt(-2 * log(1 - uniform())) * cos(2 * acos(-1) * uniform());
}

static void draw_pair(const pair_world *w, rows sets[2]) {
    for (int64_t i = 0; i < sets[0].n; i++) {
        double z = 3 * normal();
        int64_t label = uniform() < 1 / (1 + exp(-z));
        for (int k = 0; k < 2; k++) {
            double seen = w->factor[k] * (z + w->noise[k] * normal());
            sets[k].probs[2 * i + 1] = 1 / (1 + exp(-seen));
            sets[k].probs[2 * i] = 1 / (1 + exp(seen));
            sets[k].labels[i] = label;
        }
    }
}

static void differences(const pair_world *w, int64_t repetitions, int64_t resamples) {
    held found[SIZES][LA_METRIC_COUNT] = {0};
    double called[SIZES][LA_METRIC_COUNT] = {0}, truth[LA_METRIC_COUNT];
    rows all[2] = {rows_of(PAIR_POPULATION), rows_of(PAIR_POPULATION)};
    draw_pair(w, all);
    la_metrics own = measure(&all[0]), other = measure(&all[1]);
    bool equal = w->noise[0] == w->noise[1] && w->factor[0] == w->factor[1];
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        truth[m] = equal ? 0 : own.value[m] - other.value[m];
    for (int s = 0; s < SIZES; s++) {
        rows sets[2] = {rows_of(sizes[s]), rows_of(sizes[s])};
        int64_t *partner = calloc((size_t)sizes[s], sizeof *partner);
        la_predictions files[2];
        if (!partner)
            exit(5);
        for (int64_t i = 0; i < sizes[s]; i++)
            partner[i] = i;
        for (int k = 0; k < 2; k++)
            files[k] = (la_predictions){.kind = la_row_kind_of(&la_softmax_likelihood),
                                        .n = sizes[s],
                                        .n_classes = 2,
                                        .values = sets[k].probs,
                                        .labels = {.classes = sets[k].labels}};
        for (int64_t r = 0; r < repetitions; r++) {
            la_against against = {0};
            la_error err = {0};
            draw_pair(w, sets);
            if (la_against_compare(la_team_of(1), &files[0], &files[1], partner, resamples,
                                   (uint64_t)r + 1, &against, &err) != LA_OK)
                exit(5);
            for (int m = 0; m < LA_METRIC_COUNT; m++) {
                count_held(&found[s][m], against.intervals[m].lo, against.intervals[m].hi,
                           truth[m]);
                called[s][m] += la_against_better(&against, &la_softmax_metrics, m) != 0;
            }
        }
        for (int k = 0; k < 2; k++) {
            free(sets[k].probs);
            free(sets[k].labels);
        }
        free(partner);
    }
    print_heading(w->name, "difference");
    for (int m = 0; m < LA_METRIC_COUNT; m++) {
        printf("\n%-22s %8.4f", la_softmax_metrics.list[m].name, truth[m]);
        for (int s = 0; s < SIZES; s++)
            print_held(&found[s][m]);
        printf("\n%-31s", "  one is called better");
        for (int s = 0; s < SIZES; s++)
            printf(" %8.3f         ", called[s][m] / (double)repetitions);
    }
    printf("\n");
    fflush(stdout);
    for (int k = 0; k < 2; k++) {
        free(all[k].probs);
        free(all[k].labels);
    }
}

int main(int argc, char **argv) {
    int64_t repetitions = argc > 1 ? atoll(argv[1]) : 400,
            resamples = argc > 2 ? atoll(argv[2]) : 500;
    if (argc > 3 && !strcmp(argv[3], "against")) {
        for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++)
            differences(&pairs[k], repetitions, resamples);
        return 0;
    }
    for (size_t k = 0; k < sizeof worlds / sizeof *worlds; k++) {
        la_metrics population = population_of(&worlds[k]);
        for (int s = 1; s < SIZES && argc > 3; s++)
            compare_ways(&worlds[k], &population, sizes[s], repetitions, resamples);
        if (argc > 3)
            continue;
        reported(&worlds[k], &population, repetitions, resamples);
        by_cost(&worlds[k], repetitions);
    }
    return 0;
}
