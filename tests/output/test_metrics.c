/* Metrics against the independent reference (tests/reference/metrics_reference.py), the bootstrap
 * against resampling done the long way, and the noise of the ECE against a simulation. */
#include "support/support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/machine.h"
#include "output/coverage_interval.h"
#include "output/ece_noise.h"
#include "output/smooth_ece.h"
#include "output/softmax_metrics.h"

static const double TOLERANCE = 4e-15; /* relative; sums are taken in another order than numpy's */

/* Larger where a metric adds up more terms, or is the root of a difference that may be near 0. */
static double tolerance_of(int metric) {
    return metric == LA_METRIC_ECE_SMOOTH     ? 1e-13
           : metric == LA_METRIC_ECE_DEBIASED ? 1e-8
                                              : TOLERANCE;
}

typedef struct data_set {
    int64_t n, n_classes;
    double *probs;
    int64_t *labels;
} data_set;

static data_set new_set(int64_t n, int64_t n_classes) {
    data_set set = {n, n_classes, calloc((size_t)(n * n_classes), sizeof(double)),
                    calloc((size_t)n, sizeof(int64_t))};
    assert_non_null(set.probs);
    assert_non_null(set.labels);
    return set;
}

static void free_set(data_set *set) {
    free(set->probs);
    free(set->labels);
}

static double uniform(uint64_t stream, int64_t i) {
    return (double)la_random_below(99, stream, (uint64_t)i, 1u << 30) / (double)(1u << 30);
}

/* Rows whose class 0 has a random confidence and is right about that often. */
static data_set random_set(int64_t n, int64_t levels) {
    data_set set = new_set(n, 2);
    for (int64_t i = 0; i < n; i++) {
        double p = 0.5 + 0.5 * uniform(1, i);
        if (levels)
            p = 0.5 + floor((p - 0.5) * 2 * (double)levels) / (double)levels / 2;
        set.probs[2 * i] = p;
        set.probs[2 * i + 1] = 1 - p;
        set.labels[i] = uniform(2, i) > p;
    }
    return set;
}

static la_metric_rows rows_of(const data_set *set) {
    return (la_metric_rows){set->n, set->n_classes, set->probs, {.classes = set->labels}};
}

static la_metrics metrics_of(const data_set *set) {
    la_metrics metrics;
    la_error err = {0};
    la_metric_rows rows = rows_of(set);
    assert_int_equal(la_metrics_compute(&la_softmax_metrics, &rows, &metrics, &err), LA_OK);
    return metrics;
}

static int threads = 2;

static void intervals_of(const data_set *set, int64_t resamples, uint64_t seed,
                         la_interval out[LA_METRIC_COUNT]) {
    la_error err = {0};
    la_metric_rows rows = rows_of(set);
    assert_int_equal(la_metrics_intervals(la_team_of(threads), &la_softmax_metrics, &rows,
                                          resamples, seed, out, &err),
                     LA_OK);
}

/* Relative deviation; 0 when both are undefined; infinite when one is. */
static double deviation(double found, const json_t *expected) {
    if (json_is_null(expected) || isnan(found))
        return json_is_null(expected) && isnan(found) ? 0 : INFINITY;
    double value = json_number_value(expected), off = fabs(found - value);
    /* zeros of the reference may be rounding errors here */
    return off < 1e-16 ? 0 : off / fabs(value);
}

static data_set set_of_case(const json_t *rows, int64_t n_classes) {
    data_set set = new_set((int64_t)json_array_size(rows), n_classes);
    size_t i, c;
    const json_t *row, *p;
    json_array_foreach(rows, i, row) {
        set.labels[i] = json_integer_value(json_object_get(row, "label"));
        json_array_foreach(json_object_get(row, "probs"), c, p)
            set.probs[i * (size_t)n_classes + c] = json_number_value(p);
    }
    return set;
}

static void check_bins(const json_t *expected, const la_metric_bin *bins, double *worst) {
    size_t b;
    const json_t *bin;
    assert_int_equal(json_array_size(expected), LA_METRIC_BINS);
    json_array_foreach(expected, b, bin) {
        assert_int_equal(bins[b].n, json_integer_value(json_object_get(bin, "n")));
        assert_true(bins[b].lo == json_number_value(json_object_get(bin, "lo")));
        assert_true(bins[b].hi == json_number_value(json_object_get(bin, "hi")));
        *worst = fmax(*worst, deviation(bins[b].confidence, json_object_get(bin, "confidence")));
        *worst = fmax(*worst, deviation(bins[b].accuracy, json_object_get(bin, "accuracy")));
    }
}

static void test_reference_cases(void **state) {
    json_t *cases = load_json(fixture("metrics/cases.json")), *one;
    double worst = 0;
    size_t i;
    (void)state;
    assert_int_equal(json_array_size(cases), 18);
    json_array_foreach(cases, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const json_t *expected = json_object_get(one, "metrics");
        data_set set = set_of_case(json_object_get(one, "rows"),
                                   json_integer_value(json_object_get(one, "n_classes")));
        la_metrics metrics = metrics_of(&set);
        assert_int_equal(json_object_size(expected), LA_METRIC_COUNT);
        for (int m = 0; m < LA_METRIC_COUNT; m++) {
            const json_t *value = json_object_get(expected, la_softmax_metrics.list[m].name);
            assert_non_null(value);
            double off = deviation(metrics.value[m], value);
            if (off > tolerance_of(m))
                print_message("%s: %s is off by %g\n", name, la_softmax_metrics.list[m].name, off);
            worst = fmax(worst, off / tolerance_of(m));
        }
        double bins = 0;
        check_bins(json_object_get(one, "bins"), metrics.bins, &bins);
        worst = fmax(worst, bins / TOLERANCE);
        free_set(&set);
    }
    json_decref(cases);
    check_within("relative deviation from the reference, tolerances", worst, 1);
}

/* Share of 400 draws of n rows whose interval holds the share of answers that may be accepted at a
 * risk of 0.05. The error rate at the share u from the best is least + slope u^2. */
static double share_held(int64_t n, int64_t levels, double least, double slope, double truth) {
    enum { DRAWS = 400, MOST = 600 };
    la_ranked rows[MOST];
    int64_t held = 0;
    for (int d = 0; d < DRAWS; d++) {
        for (int64_t i = 0; i < n; i++) {
            double u = uniform((uint64_t)(100 + 2 * d), i);
            bool wrong = uniform((uint64_t)(101 + 2 * d), i) < least + slope * u * u;
            rows[i] = (la_ranked){levels ? ceil(u * (double)levels) : u, wrong};
        }
        la_ranked_sort(rows, n);
        la_interval found = la_coverage_interval(rows, n, 0.05);
        assert_true(0 <= found.lo && found.lo <= found.hi && found.hi <= 1);
        held += found.lo <= truth && truth <= found.hi;
    }
    return (double)held / DRAWS;
}

static void test_coverage_intervals(void **state) {
    static const int64_t sizes[] = {30, 200, 600};
    la_ranked rows[600] = {{0}};
    (void)state;
    for (int s = 0; s < 3; s++) {
        double met = share_held(sizes[s], 0, 0, 0.4, sqrt(3 * 0.05 / 0.4));
        double none = share_held(sizes[s], 0, 0.051, 0.2, 0);
        double all = share_held(sizes[s], 0, 0.02, 0.05, 1);
        double tied = share_held(sizes[s], 5, 0, 0.4, sqrt(3 * 0.05 / 0.4));
        print_message("    %3d rows: %.3f, none %.3f, all %.3f, tied %.3f\n", (int)sizes[s], met,
                      none, all, tied);
        assert_true(met >= 0.93 && none >= 0.93 && all >= 0.93 && tied >= 0.93);
    }
    /* as narrow as rows allow: without an error, and with nothing else */
    la_interval right = la_coverage_interval(rows, 600, 0.05);
    for (int i = 0; i < 600; i++)
        rows[i].wrong = true;
    la_interval wrong = la_coverage_interval(rows, 600, 0.05);
    assert_true(right.lo > 0.99 && right.hi == 1);
    assert_true(wrong.lo == 0 && wrong.hi == 1); /* of one confidence: all rows or none */
    for (int i = 0; i < 600; i++)
        rows[i].key = i;
    wrong = la_coverage_interval(rows, 600, 0.05);
    assert_true(wrong.lo == 0 && wrong.hi < 0.02);
    assert_true(la_coverage_interval(rows, 1, 0.05).hi == 1);
}

static void test_names(void **state) {
    (void)state;
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        assert_int_equal(la_metric_find(&la_softmax_metrics, la_softmax_metrics.list[m].name), m);
    assert_int_equal(la_metric_find(&la_softmax_metrics, "ece_"), -1);
    assert_int_equal(la_metric_find(&la_softmax_metrics, ""), -1);
    assert_int_equal(la_softmax_metrics.list[LA_METRIC_AUROC].direction, 1);
    assert_int_equal(la_softmax_metrics.list[LA_METRIC_EAURC].direction, -1);
    assert_int_equal(la_softmax_metrics.list[LA_METRIC_CONFIDENCE].direction, 0);
}

static void test_no_rows(void **state) {
    la_metrics metrics;
    la_interval intervals[LA_METRIC_COUNT];
    la_error err = {0};
    (void)state;
    la_metric_rows none = {.n_classes = 2};
    assert_int_equal(la_metrics_compute(&la_softmax_metrics, &none, &metrics, &err), LA_BAD_INPUT);
    err = (la_error){0};
    assert_int_equal(
        la_metrics_intervals(la_team_of(2), &la_softmax_metrics, &none, 10, 1, intervals, &err),
        LA_BAD_INPUT);
}

/* The least and the greatest double, and the neighbours of every edge. */
static void test_bin_edges(void **state) {
    (void)state;
    for (int k = 1; k <= LA_METRIC_BINS; k++) {
        double edge = k / 15.0, at[3] = {nextafter(edge, 0), edge, nextafter(edge, 2)};
        for (int j = 0; j < 3 && at[j] <= 1; j++) {
            /* many classes, so that a small probability can be the largest */
            data_set set = new_set(1, 400);
            set.probs[0] = at[j];
            la_metrics metrics = metrics_of(&set);
            assert_int_equal(metrics.bins[j < 2 ? k - 1 : k].n, 1);
            free_set(&set);
        }
    }
    data_set zero = new_set(1, 2);
    la_metrics metrics = metrics_of(&zero);
    assert_int_equal(metrics.bins[0].n, 1);
    assert_true(metrics.value[LA_METRIC_NLL] == -log(DBL_MIN));
    free_set(&zero);
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, int64_t n, double share) {
    double at = share * (double)(n - 1), below = floor(at);
    double next = values[(int64_t)fmin(below + 1, (double)(n - 1))];
    qsort(values, (size_t)n, sizeof *values, compare_numbers);
    next = values[(int64_t)fmin(below + 1, (double)(n - 1))];
    return values[(int64_t)below] + (at - below) * (next - values[(int64_t)below]);
}

/* Puts rows in order of class 0's probability, which is the confidence here, wrong ones first among
 * ties: resamples draw from that order. */
static void sort_set(data_set *set) {
    for (int64_t i = 1; i < set->n; i++)
        for (int64_t j = i; j; j--) {
            double *p = &set->probs[2 * j], *q = p - 2, kept[2] = {p[0], p[1]};
            int64_t label = set->labels[j], before = set->labels[j - 1];
            if (*p > *q || (*p == *q && label <= before))
                break;
            memcpy(p, q, sizeof kept);
            memcpy(q, kept, sizeof kept);
            set->labels[j] = before;
            set->labels[j - 1] = label;
        }
}

static bool is_gap(int metric) {
    return metric >= LA_METRIC_ECE && metric <= LA_METRIC_ECE_CLASSWISE;
}

static double next_uniform(uint64_t *at);

/* Share of sets with these confidences and labels drawn from them that show as much of a metric. */
static double share_as_much(const data_set *set, int metric, double value) {
    enum { DRAWS = 2000 };
    data_set drawn = new_set(set->n, 2);
    uint64_t random = 4101842887655102017u;
    int64_t as_much = 0;
    memcpy(drawn.probs, set->probs, (size_t)set->n * 2 * sizeof *drawn.probs);
    for (int d = 0; d < DRAWS; d++) {
        for (int64_t i = 0; i < set->n; i++)
            drawn.labels[i] = next_uniform(&random) >= set->probs[2 * i];
        as_much += metrics_of(&drawn).value[metric] >= value;
    }
    free_set(&drawn);
    return (double)as_much / DRAWS;
}

/* The interval as output/bootstrap.h has it, from sorted resamples; found is only asked where
 * chance decides. */
static la_interval expected_interval(const data_set *set, int metric, double value, double *values,
                                     int64_t n, const la_interval *found) {
    double lo = quantile(values, n, 0.025), hi = quantile(values, n, 0.975);
    if (!is_gap(metric))
        return (la_interval){fmin(lo, value), fmax(hi, value)};
    double above = fmax(value - lo, hi - quantile(values, n, 0.5));
    la_interval basic = {fmin(fmax(2 * value - hi, 0), value), fmin(value + above, 1)};
    double share = share_as_much(set, metric, value);
    if (share > 0.07 || (share > 0.004 && found->lo == 0))
        basic.lo = 0;
    return basic;
}

static void check_resampling(int64_t n, int64_t levels) {
    enum { RESAMPLES = 60, SEED = 7 };
    double values[LA_METRIC_COUNT][RESAMPLES];
    int64_t defined[LA_METRIC_COUNT] = {0};
    la_interval found[LA_METRIC_COUNT];
    double worst = 0;
    data_set set = random_set(n, levels), drawn = new_set(n, 2);
    sort_set(&set);
    for (int64_t r = 0; r < RESAMPLES; r++) {
        for (int64_t i = 0; i < n; i++) {
            int64_t j = (int64_t)la_random_below(SEED, (uint64_t)r, (uint64_t)i, (uint64_t)n);
            memcpy(&drawn.probs[2 * i], &set.probs[2 * j], 2 * sizeof *drawn.probs);
            drawn.labels[i] = set.labels[j];
        }
        la_metrics metrics = metrics_of(&drawn);
        for (int m = 0; m < LA_METRIC_COUNT; m++)
            if (!isnan(metrics.value[m]))
                values[m][defined[m]++] = metrics.value[m];
    }
    la_metrics own = metrics_of(&set);
    intervals_of(&set, RESAMPLES, SEED, found);
    for (int m = 0; m < LA_METRIC_COUNT; m++) {
        if (!defined[m] || isnan(own.value[m])) {
            assert_true(isnan(found[m].lo) && isnan(found[m].hi));
            continue;
        }
        if (m == LA_METRIC_ECE_SMOOTH) /* resamples keep the bandwidth: test_smooth_ece */
            continue;
        if (la_softmax_metrics.list[m].way)
            continue; /* test_coverage_intervals, test_rare_intervals.c */
        la_interval want =
            expected_interval(&set, m, own.value[m], values[m], defined[m], &found[m]);
        if (m == LA_METRIC_NLL || m == LA_METRIC_BRIER || m == LA_METRIC_FPR95 ||
            (m >= LA_METRIC_RISK_AT_COVERAGE_80 && m <= LA_METRIC_RISK_AT_COVERAGE_95)) {
            /* at least as wide: resamples do not show errors that were not seen */
            assert_true(found[m].lo <= want.lo + 1e-15 && found[m].hi >= want.hi - 1e-15);
            continue;
        }
        double off = fmax(fabs(found[m].lo - want.lo), fabs(found[m].hi - want.hi));
        worst = fmax(worst, m == LA_METRIC_ECE_DEBIASED ? off / 1e7 : off);
    }
    check_within("deviation from resampling the long way", worst, 2e-15);
    free_set(&set);
    free_set(&drawn);
}

static void test_intervals_are_resampling(void **state) {
    (void)state;
    check_resampling(97, 0);
    check_resampling(97, 8);
    check_resampling(9, 0);
    check_resampling(2, 1);
    check_resampling(1, 0);
}

/* Rows of a smoother. */
typedef struct smooth_rows {
    int n;
    const double *confidence, *hit, *weight;
} smooth_rows;

static void add_smooth(const void *rows, const la_smoother *smoother, double *sums) {
    const smooth_rows *all = rows;
    for (int i = 0; i < all->n; i++)
        la_smooth_add(smoother, sums, all->confidence[i], all->confidence[i] - all->hit[i],
                      all->weight[i]);
}

static double gauss(double x, double sigma) {
    return exp(-0.5 * x * x / sigma / sigma) / sigma / sqrt(2 * M_PI);
}

/* The integral of the definition, |sum of residuals times the kernel and its reflections| over that
 * of the kernels, at a bandwidth below 0.1, where the kernel ends within 1; by a sum over points as
 * far apart as relplot's. */
static double integrate(const smooth_rows *rows, double sigma) {
    int points = (int)fmax(200, rint(10 / sigma));
    double error = 0, density = 0;
    for (int k = 0; k < points; k++) {
        double t = (double)k / (points - 1), sum = 0;
        for (int i = 0; i < rows->n; i++) {
            double x = rows->confidence[i];
            double kernel = gauss(t - x, sigma) + (x > 0 ? gauss(t + x, sigma) : 0) +
                            (x < 1 ? gauss(t + x - 2, sigma) : 0);
            sum += rows->weight[i] * (x - rows->hit[i]) * kernel;
            density += rows->weight[i] * kernel;
        }
        error += fabs(sum);
    }
    return error / density;
}

/* The smooth ECE is the integral at its bandwidth, which it is a fixed point of; other hits and
 * other counts of the same rows are measured at that bandwidth. */
static void test_smooth_ece(void **state) {
    enum { N = 60 };
    double confidence[N], hit[N], weight[N], *sums = calloc(la_smooth_sums(), sizeof *sums);
    smooth_rows rows = {N, confidence, hit, weight};
    la_smoother *smoother = calloc(1, la_smoother_bytes(N));
    (void)state;
    assert_non_null(sums);
    assert_non_null(smoother);
    for (int i = 0; i < N; i++) {
        confidence[i] = i == 0 ? 1 : i == 1 ? 0 : 0.4 + 0.6 * uniform(11, i);
        hit[i] = uniform(12, i) < confidence[i];
        weight[i] = 1;
    }
    la_smoother_fit(smoother, add_smooth, &rows, sums);
    double sigma = la_smoother_bandwidth(smoother);
    print_message("    bandwidth %.4f\n", sigma);
    assert_true(sigma < 0.1 && sigma * 1024 == floor(sigma * 1024));
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < N && turn; i++) {
            hit[i] = turn == 1 ? 1 - hit[i] : hit[i];
            weight[i] = turn == 2 ? (double)(i % 3) : 1;
        }
        la_smooth_clear(smoother, sums);
        add_smooth(&rows, smoother, sums);
        double found = la_smooth_ece(smoother, sums), want = integrate(&rows, sigma);
        check_within("smooth ECE against its integral, relative", fabs(found / want - 1), 1e-3);
        if (!turn)
            check_within("distance of the fixed point", fabs(found - sigma), 1.0 / 512);
    }
    free(smoother);
    free(sums);
}

static void test_risks_and_coverages(void **state) {
    /* confidences 0.99, 0.98, .. : rows 40 and 90 of 100 are wrong */
    data_set set = new_set(100, 2);
    (void)state;
    for (int64_t i = 0; i < 100; i++) {
        set.probs[2 * i] = 0.995 - 0.004 * (double)i;
        set.probs[2 * i + 1] = 1 - set.probs[2 * i];
        set.labels[i] = i == 39 || i == 89;
    }
    la_metrics m = metrics_of(&set);
    assert_true(m.value[LA_METRIC_RISK_AT_COVERAGE_80] == 1.0 / 80);
    assert_true(m.value[LA_METRIC_RISK_AT_COVERAGE_90] == 2.0 / 90);
    assert_true(m.value[LA_METRIC_RISK_AT_COVERAGE_95] == 2.0 / 95);
    assert_true(m.value[LA_METRIC_COVERAGE_AT_RISK_1] == 0.39);
    assert_true(m.value[LA_METRIC_COVERAGE_AT_RISK_2] == 1);
    assert_true(m.value[LA_METRIC_COVERAGE_AT_RISK_5] == 1);
    /* all tied: two errors in a random order */
    for (int64_t i = 0; i < 100; i++) {
        set.probs[2 * i] = 0.75;
        set.probs[2 * i + 1] = 0.25;
    }
    m = metrics_of(&set);
    assert_true(fabs(m.value[LA_METRIC_RISK_AT_COVERAGE_80] - 0.02) < 1e-15);
    assert_true(m.value[LA_METRIC_COVERAGE_AT_RISK_1] == 0);
    assert_true(m.value[LA_METRIC_COVERAGE_AT_RISK_5] == 1);
    free_set(&set);
}

/* Of calibrated rows the squared error that is debiased is 0 on average, the plain one is not. */
static void test_debiased_of_calibrated_rows(void **state) {
    enum { N = 150, SETS = 400 };
    double plain = 0, kept = 0;
    uint64_t random = 2463534242u;
    int above = 0;
    (void)state;
    for (int s = 0; s < SETS; s++) {
        data_set set = new_set(N, 2);
        for (int64_t i = 0; i < N; i++) {
            double p = 0.5 + 0.5 * next_uniform(&random);
            set.probs[2 * i] = p;
            set.probs[2 * i + 1] = 1 - p;
            set.labels[i] = next_uniform(&random) >= p;
        }
        la_metrics m = metrics_of(&set);
        plain += m.value[LA_METRIC_ECE_EM];
        kept += m.value[LA_METRIC_ECE_DEBIASED];
        above += m.value[LA_METRIC_ECE_DEBIASED] > 0;
        free_set(&set);
    }
    print_message("    mean of ece_em %.4f, of ece_debiased %.4f, above 0 in %d of %d\n",
                  plain / SETS, kept / SETS, above, (int)SETS);
    assert_true(kept < 0.5 * plain);
    assert_in_range(above, SETS * 35 / 100, SETS * 55 / 100);
}

/* The rows of a set in another order. */
static data_set shuffled(const data_set *set, uint64_t seed) {
    data_set other = new_set(set->n, set->n_classes);
    size_t classes = (size_t)set->n_classes;
    for (int64_t i = 0; i < set->n; i++) {
        int64_t j = (int64_t)la_random_below(seed, 0, (uint64_t)i, (uint64_t)i + 1);
        memcpy(&other.probs[(size_t)i * classes], &other.probs[(size_t)j * classes],
               classes * sizeof *other.probs);
        memcpy(&other.probs[(size_t)j * classes], &set->probs[(size_t)i * classes],
               classes * sizeof *other.probs);
        other.labels[i] = other.labels[j];
        other.labels[j] = set->labels[i];
    }
    return other;
}

/* Not in the last digit, with ties and without, and neither do the intervals. */
static void test_order_does_not_matter(void **state) {
    static const int64_t levels[] = {0, 8, 2};
    (void)state;
    for (int l = 0; l < 3; l++) {
        data_set set = random_set(331, levels[l]);
        la_metrics first = metrics_of(&set);
        la_interval one[LA_METRIC_COUNT], other[LA_METRIC_COUNT];
        double *confidence = calloc(331, sizeof *confidence);
        intervals_of(&set, 50, 1, one);
        for (int64_t i = 0; i < set.n; i++)
            confidence[i] = set.probs[2 * i];
        double noise = la_ece_noise(set.n, confidence, NAN, 50, 1).ece_95;
        for (uint64_t seed = 1; seed <= 5; seed++) {
            data_set turned = shuffled(&set, seed);
            la_metrics again = metrics_of(&turned);
            assert_memory_equal(again.value, first.value, sizeof first.value);
            intervals_of(&turned, 50, 1, other);
            assert_memory_equal(one, other, sizeof one);
            for (int64_t i = 0; i < set.n; i++)
                confidence[i] = turned.probs[2 * i];
            assert_true(la_ece_noise(set.n, confidence, NAN, 50, 1).ece_95 == noise);
            free_set(&turned);
        }
        free(confidence);
        free_set(&set);
    }
}

/* 300 rows with confidence 0.7, 210 of them right: whatever the order, nothing is off. Half of the
 * rows with another confidence: only theirs is. */
static void test_ties_are_shared_out(void **state) {
    data_set set = new_set(300, 2);
    (void)state;
    for (int64_t i = 0; i < 300; i++) {
        set.probs[2 * i] = 0.7;
        set.probs[2 * i + 1] = 0.3;
        set.labels[i] = i >= 210;
    }
    assert_true(metrics_of(&set).value[LA_METRIC_ECE_EM] < 1e-12);
    for (int64_t i = 0; i < 150; i++) {
        set.probs[2 * i] = 0.9;
        set.probs[2 * i + 1] = 0.1;
    }
    /* 150 right at 0.9, and at 0.7 60 of 150; bin 8 of 15 has 10 of each */
    double want = (7 * 20 * 0.1 + 7 * 20 * 0.3 + 20 * fabs(0.8 - 0.7)) / 300;
    assert_true(fabs(metrics_of(&set).value[LA_METRIC_ECE_EM] - want) < 1e-12);
    free_set(&set);
}

/* All rows right, all wrong, all alike, one row, few rows, many: the interval holds the metric and
 * stays where the metric can be. */
static void check_holds(const data_set *set) {
    la_interval intervals[LA_METRIC_COUNT];
    la_metrics metrics = metrics_of(set);
    intervals_of(set, 200, 1, intervals);
    for (int m = 0; m < LA_METRIC_COUNT; m++) {
        double value = metrics.value[m], lo = intervals[m].lo, hi = intervals[m].hi;
        double most = m == LA_METRIC_NLL ? INFINITY : m == LA_METRIC_BRIER ? 2 : 1;
        if (isnan(value)) {
            assert_true(isnan(lo) && isnan(hi));
            continue;
        }
        if (!(0 <= lo && lo <= value && value <= hi && hi <= most))
            fail_msg("%lld rows: %s is %.17g, its interval [%.17g, %.17g]", (long long)set->n,
                     la_softmax_metrics.list[m].name, value, lo, hi);
    }
}

static void test_intervals_hold_their_metric(void **state) {
    static const int64_t sizes[] = {1, 2, 3, 15, 40, 300};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int64_t levels = 0; levels < 4; levels++) {
            data_set set = random_set(sizes[s], levels);
            check_holds(&set);
            for (int kind = 0; kind < 4; kind++) { /* all right or wrong, then all sure as well */
                for (int64_t i = 0; i < set.n; i++) {
                    set.labels[i] = kind % 2;
                    set.probs[2 * i] = kind < 2 ? set.probs[2 * i] : 1;
                    set.probs[2 * i + 1] = 1 - set.probs[2 * i];
                }
                check_holds(&set);
            }
            free_set(&set);
        }
}

/* Coverage of the ECE's interval: the population's ECE is 0 for calibrated models, known for
 * over-confident ones. 95 % are intended; bench/interval_coverage.c measures it at length.
 * Percentiles hold 0 of 200 of the former. */
static void test_coverage_of_the_ece(void **state) {
    enum { N = 200, SETS = 200 };
    uint64_t random = 88172645463325252u;
    (void)state;
    for (int over = 0; over < 2; over++) {
        int64_t held = 0;
        for (int s = 0; s < SETS; s++) {
            la_interval intervals[LA_METRIC_COUNT];
            data_set set = new_set(N, 2);
            for (int64_t i = 0; i < N; i++) {
                /* confidence 0.6, 0.7, 0.8, 0.9; over-confident: right 0.15 less often */
                double p = 0.6 + 0.1 * (double)(i % 4);
                set.probs[2 * i] = p;
                set.probs[2 * i + 1] = 1 - p;
                set.labels[i] = next_uniform(&random) >= p - 0.15 * over;
            }
            intervals_of(&set, 200, 1, intervals);
            double truth = 0.15 * over;
            held += intervals[LA_METRIC_ECE].lo <= truth && truth <= intervals[LA_METRIC_ECE].hi;
            free_set(&set);
        }
        print_message("    %s: %lld of %d intervals hold the ECE\n",
                      over ? "over-confident" : "calibrated", (long long)held, (int)SETS);
        assert_in_range(held, over ? 175 : 180, SETS);
    }
}

static void test_intervals_are_deterministic(void **state) {
    la_interval one[LA_METRIC_COUNT], four[LA_METRIC_COUNT], other[LA_METRIC_COUNT];
    data_set set = random_set(500, 0);
    (void)state;
    threads = 1;
    intervals_of(&set, 1000, 1, one);
    threads = 4;
    intervals_of(&set, 1000, 1, four);
    threads = 2;
    intervals_of(&set, 1000, 2, other);
    assert_memory_equal(one, four, sizeof one);
    assert_memory_not_equal(one, other, sizeof one);
    free_set(&set);
}

/* The interval of a mean is known: 1.96 standard errors to both sides. */
static void test_intervals_have_the_right_width(void **state) {
    (void)state;
    for (int64_t n = 200; n <= 200000; n *= 10) { /* the last are drawn in order */
        la_interval intervals[LA_METRIC_COUNT];
        data_set set = random_set(n, 0);
        la_metrics metrics = metrics_of(&set);
        intervals_of(&set, 1000, 1, intervals);
        double p = metrics.value[LA_METRIC_ACCURACY];
        double half = 1.96 * sqrt(p * (1 - p) / (double)n);
        double lo = p - intervals[LA_METRIC_ACCURACY].lo, hi = intervals[LA_METRIC_ACCURACY].hi - p;
        print_message("n = %5lld: half width %.5f and %.5f, expected %.5f\n", (long long)n, lo, hi,
                      half);
        assert_in_range((int)(100 * lo / half), 85, 115);
        assert_in_range((int)(100 * hi / half), 85, 115);
        for (int m = 0; m < LA_METRIC_COUNT; m++)
            assert_true(intervals[m].lo < intervals[m].hi);
        free_set(&set);
    }
}

static void test_undefined(void **state) {
    la_interval intervals[LA_METRIC_COUNT];
    data_set set = random_set(30, 0);
    (void)state;
    memset(set.labels, 0, 30 * sizeof *set.labels);
    la_metrics metrics = metrics_of(&set);
    intervals_of(&set, 100, 1, intervals);
    static const la_metric undefined[] = {LA_METRIC_AUROC, LA_METRIC_AUPR_ERROR, LA_METRIC_FPR95};
    for (int i = 0; i < 3; i++) {
        assert_true(isnan(metrics.value[undefined[i]]));
        assert_true(isnan(intervals[undefined[i]].lo));
        assert_true(isnan(intervals[undefined[i]].hi));
    }
    /* no error in 30 rows is no proof that there is none */
    assert_true(intervals[LA_METRIC_ACCURACY].lo > 0.88 && intervals[LA_METRIC_ACCURACY].lo < 0.89);
    assert_true(intervals[LA_METRIC_AURC].lo == 0 && intervals[LA_METRIC_AURC].hi > 0.1);
    assert_true(intervals[LA_METRIC_RISK_AT_COVERAGE_80].hi > 0.1);
    /* one error in 30 rows: about a third of the resamples do not have it, and are left out */
    set.labels[3] = 1;
    intervals_of(&set, 100, 1, intervals);
    assert_false(isnan(intervals[LA_METRIC_AUROC].lo));
    free_set(&set);
}

/* ---- ece_noise ---- */

/* Confidences between a half and 1, more of them near 1. */
static double *confidences(int64_t n) {
    double *confidence = calloc((size_t)n, sizeof *confidence);
    assert_non_null(confidence);
    for (int64_t i = 0; i < n; i++)
        confidence[i] = 1 - 0.5 * uniform(5, i) * uniform(6, i);
    return confidence;
}

/* A generator of its own (xorshift64*). */
static double next_uniform(uint64_t *at) {
    *at ^= *at >> 12;
    *at ^= *at << 25;
    *at ^= *at >> 27;
    return (double)((*at * 0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
}

/* Models whose labels are drawn from their confidences: 95 % have an ECE (by la_metrics_compute)
 * below the noise, as many as chance allows. */
static double noise_of(int64_t n, double *confidence, int64_t draws, uint64_t seed) {
    return la_ece_noise(n, confidence, NAN, draws, seed).ece_95;
}

static void test_noise_against_simulation(void **state) {
    static const int64_t sizes[] = {1, 3, 20, 100, 500};
    enum { DRAWS = 1000, SIMULATED = 2000 };
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s], below = 0, at = 0;
        double *confidence = confidences(n), noise = noise_of(n, confidence, DRAWS, 3);
        data_set set = new_set(n, 2);
        uint64_t random = 88172645463325252u + (uint64_t)n;
        for (int64_t r = 0; r < SIMULATED; r++) {
            for (int64_t i = 0; i < n; i++) {
                set.probs[2 * i] = confidence[i];
                set.probs[2 * i + 1] = 1 - confidence[i];
                set.labels[i] = next_uniform(&random) >= confidence[i];
            }
            double ece = metrics_of(&set).value[LA_METRIC_ECE];
            below += ece < noise - 1e-12;
            at += fabs(ece - noise) <= 1e-12;
        }
        /* Both sides are drawn. With few rows many models have the very same ECE: the quantile lies
         * somewhere among them. */
        double least = (double)below / SIMULATED, most = (double)(below + at) / SIMULATED;
        double error = sqrt(0.95 * 0.05 * (1.0 / DRAWS + 1.0 / SIMULATED));
        double off = fmax(least - 0.95, 0.95 - most);
        print_message("    n = %3lld: noise %.4f, %.4f are below, %.4f with it\n", (long long)n,
                      noise, least, most);
        check_within("share below against 95 %, standard errors", fmax(off, 0) / error, 4);
        free(confidence);
        free_set(&set);
    }
}

/* Falls as 1 / sqrt(n): the same confidences four times as often, half the noise. */
/* The floor of the rows' own ECE: mean, 95 %, ratio and p-value by a simulation of another kind. */
static void check_floor(int64_t n, double over) {
    enum { SIMULATED = 2000 };
    double *confidence = confidences(n), mean = 0;
    double *found = calloc(SIMULATED, sizeof *found);
    uint64_t random = 362436069u + (uint64_t)n;
    data_set set = new_set(n, 2);
    la_noise_floor floor;
    la_error err = {0};
    int64_t as_much = 0;
    assert_non_null(found);
    for (int64_t r = 0; r <= SIMULATED; r++) {
        for (int64_t i = 0; i < n; i++) {
            set.probs[2 * i] = confidence[i];
            set.probs[2 * i + 1] = 1 - confidence[i];
            set.labels[i] = next_uniform(&random) >= confidence[i] - (r == SIMULATED ? over : 0);
        }
        double ece = 0;
        int64_t hits[LA_METRIC_BINS] = {0};
        double sums[LA_METRIC_BINS] = {0};
        for (int64_t i = 0; i < n; i++) {
            int bin = la_metric_bin_of(confidence[i]);
            sums[bin] += confidence[i];
            hits[bin] += !set.labels[i];
        }
        for (int b = 0; b < LA_METRIC_BINS; b++)
            ece += fabs(sums[b] - (double)hits[b]) / (double)n;
        if (r < SIMULATED) {
            found[r] = ece;
            mean += ece / SIMULATED;
            continue;
        }
        la_metric_rows rows = rows_of(&set);
        for (int64_t k = 0; k < SIMULATED; k++)
            as_much += found[k] >= ece - 1e-12;
        assert_int_equal(la_metrics_noise(&la_softmax_metrics, &rows, ece, 1, &floor, &err), LA_OK);
        assert_true(fabs(floor.ratio - ece / floor.ece) < 1e-12);
    }
    qsort(found, SIMULATED, sizeof *found, compare_numbers);
    double p = (double)as_much / SIMULATED;
    print_message("    n = %lld: mean %.5f (%.5f), 95 %% %.5f (%.5f), p %.4f (%.4f)\n",
                  (long long)n, floor.ece, mean, floor.ece_95, found[SIMULATED * 95 / 100],
                  floor.p_value, p);
    assert_true(fabs(floor.ece / mean - 1) < 0.08);
    assert_true(fabs(floor.ece_95 / found[SIMULATED * 95 / 100] - 1) < 0.1);
    /* 5 standard errors of both */
    assert_true(fabs(floor.p_value - p) <= 5 * sqrt(p * (1 - p) * 1.5 / 1000) + 0.003);
    assert_true(floor.p_value >= 1.0 / 1001 && floor.p_value <= 1);
    free(found);
    free(confidence);
    free_set(&set);
}

/* Rows few and many, the latter with bins whose hits are one normal number. */
static void test_noise_floor(void **state) {
    la_noise_floor floor;
    la_error err = {0};
    (void)state;
    check_floor(400, 0);
    check_floor(400, 0.05);
    check_floor(20000, 0);
    check_floor(20000, 0.1);
    /* sure and right: no noise, no ratio, and nothing that shows more */
    data_set sure = new_set(7, 3);
    for (int64_t i = 0; i < 7; i++)
        sure.probs[3 * i] = 1;
    la_metric_rows rows = rows_of(&sure);
    assert_int_equal(la_metrics_noise(&la_softmax_metrics, &rows, 0, 1, &floor, &err), LA_OK);
    assert_true(floor.ece == 0 && floor.ece_95 == 0 && isnan(floor.ratio) && floor.p_value == 1);
    sure.labels[3] = 1;
    assert_int_equal(la_metrics_noise(&la_softmax_metrics, &rows, 1.0 / 7, 1, &floor, &err), LA_OK);
    assert_true(floor.ece == 0 && isnan(floor.ratio) && floor.p_value == 1.0 / 1001);
    free_set(&sure);
}

static void test_noise_of_more_rows(void **state) {
    enum { N = 100, STEPS = 4 };
    double *confidence = confidences(N), *many = calloc(N << 2 * STEPS, sizeof *many);
    double before = INFINITY, least = INFINITY, most = 0;
    (void)state;
    assert_non_null(many);
    for (int step = 0; step < STEPS; step++) {
        int64_t n = (int64_t)N << 2 * step;
        for (int64_t i = 0; i < n; i++)
            many[i] = confidence[i % N];
        double noise = noise_of(n, many, 500, 1), scaled = noise * sqrt((double)n);
        print_message("    n = %4lld: noise %.5f, times sqrt(n) %.4f\n", (long long)n, noise,
                      scaled);
        assert_true(noise < before);
        before = noise;
        least = fmin(least, scaled);
        most = fmax(most, scaled);
    }
    check_within("noise times sqrt(n), largest over least - 1", most / least - 1, 0.06);
    free(confidence);
    free(many);
}

static void test_noise_of_sure_models(void **state) {
    double sure[50], unsure[50];
    (void)state;
    for (int i = 0; i < 50; i++) {
        sure[i] = 1;
        unsure[i] = 0;
    }
    assert_true(noise_of(50, sure, 500, 1) == 0);
    assert_true(noise_of(50, unsure, 500, 1) == 0);
    /* one unsure row among them: half right or wrong */
    sure[7] = 0.5;
    assert_true(fabs(noise_of(50, sure, 500, 1) - 0.5 / 50) < 1e-15);
    /* depends on its arguments alone, and on all of them */
    double *some = confidences(50), first = noise_of(50, some, 100, 1);
    assert_true(noise_of(50, some, 100, 1) == first);
    assert_true(noise_of(50, some, 100, 2) != first);
    free(some);
}

static void test_time(void **state) {
    la_interval intervals[LA_METRIC_COUNT];
    data_set set = random_set(10000, 0);
    double start = la_seconds();
    (void)state;
    intervals_of(&set, 1000, 1, intervals);
    print_message("1000 resamples of 10000 rows: %.3f s on %d threads\n", la_seconds() - start,
                  threads);
    free_set(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_cases),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_bin_edges),
        cmocka_unit_test(test_intervals_are_resampling),
        cmocka_unit_test(test_smooth_ece),
        cmocka_unit_test(test_coverage_intervals),
        cmocka_unit_test(test_risks_and_coverages),
        cmocka_unit_test(test_debiased_of_calibrated_rows),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_ties_are_shared_out),
        cmocka_unit_test(test_intervals_hold_their_metric),
        cmocka_unit_test(test_coverage_of_the_ece),
        cmocka_unit_test(test_intervals_are_deterministic),
        cmocka_unit_test(test_intervals_have_the_right_width),
        cmocka_unit_test(test_undefined),
        cmocka_unit_test(test_noise_against_simulation),
        cmocka_unit_test(test_noise_floor),
        cmocka_unit_test(test_noise_of_more_rows),
        cmocka_unit_test(test_noise_of_sure_models),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
