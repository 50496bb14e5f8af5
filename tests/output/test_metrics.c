/* Metrics against the independent reference (tests/reference/metrics_reference.py), the bootstrap
 * against resampling done the long way, and the noise of the ECE against a simulation. */
#include "support/support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/threads.h"
#include "output/metrics.h"

static const double TOLERANCE = 4e-15; /* relative; sums are taken in another order than numpy's */

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

static la_metrics metrics_of(const data_set *set) {
    la_metrics metrics;
    la_error err = {0};
    assert_int_equal(
        la_metrics_compute(set->n, set->n_classes, set->probs, set->labels, &metrics, &err), LA_OK);
    return metrics;
}

static int threads = 2;

static void intervals_of(const data_set *set, int64_t resamples, uint64_t seed,
                         la_interval out[LA_METRIC_COUNT]) {
    la_error err = {0};
    assert_int_equal(la_metrics_intervals(la_team_of(threads), set->n, set->n_classes, set->probs,
                                          set->labels, resamples, seed, out, &err),
                     LA_OK);
}

/* Relative deviation; 0 when both are undefined; infinite when one is. */
static double deviation(double found, const json_t *expected) {
    if (json_is_null(expected) || isnan(found))
        return json_is_null(expected) && isnan(found) ? 0 : INFINITY;
    double value = json_number_value(expected), off = fabs(found - value);
    /* what is zero in the reference may be a rounding error here */
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
    assert_int_equal(json_array_size(cases), 14);
    json_array_foreach(cases, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const json_t *expected = json_object_get(one, "metrics");
        data_set set = set_of_case(json_object_get(one, "rows"),
                                   json_integer_value(json_object_get(one, "n_classes")));
        la_metrics metrics = metrics_of(&set);
        assert_int_equal(json_object_size(expected), LA_METRIC_COUNT);
        for (int m = 0; m < LA_METRIC_COUNT; m++) {
            const json_t *value = json_object_get(expected, la_metric_table[m].name);
            assert_non_null(value);
            double off = deviation(metrics.value[m], value);
            if (off > TOLERANCE)
                print_message("%s: %s is off by %g\n", name, la_metric_table[m].name, off);
            worst = fmax(worst, off);
        }
        check_bins(json_object_get(one, "bins"), metrics.bins, &worst);
        free_set(&set);
    }
    json_decref(cases);
    check_within("relative deviation from the reference", worst, TOLERANCE);
}

static void test_names(void **state) {
    (void)state;
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        assert_int_equal(la_metric_find(la_metric_table[m].name), m);
    assert_int_equal(la_metric_find("ece_"), -1);
    assert_int_equal(la_metric_find(""), -1);
    assert_int_equal(la_metric_table[LA_METRIC_AUROC].direction, 1);
    assert_int_equal(la_metric_table[LA_METRIC_EAURC].direction, -1);
    assert_int_equal(la_metric_table[LA_METRIC_CONFIDENCE].direction, 0);
}

static void test_no_rows(void **state) {
    la_metrics metrics;
    la_interval intervals[LA_METRIC_COUNT];
    la_error err = {0};
    (void)state;
    assert_int_equal(la_metrics_compute(0, 2, NULL, NULL, &metrics, &err), LA_BAD_INPUT);
    err = (la_error){0};
    assert_int_equal(la_metrics_intervals(la_team_of(2), 0, 2, NULL, NULL, 10, 1, intervals, &err),
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

/* Puts rows in order of class 0's probability, which is the confidence here: resamples draw from
 * that order. */
static void sort_set(data_set *set) {
    for (int64_t i = 1; i < set->n; i++)
        for (int64_t j = i; j && set->probs[2 * j] < set->probs[2 * (j - 1)]; j--) {
            double p = set->probs[2 * j], q = set->probs[2 * j + 1];
            int64_t label = set->labels[j];
            memcpy(&set->probs[2 * j], &set->probs[2 * (j - 1)], 2 * sizeof p);
            set->labels[j] = set->labels[j - 1];
            set->probs[2 * (j - 1)] = p;
            set->probs[2 * (j - 1) + 1] = q;
            set->labels[j - 1] = label;
        }
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
        if (!levels)
            sort_set(&drawn);
        la_metrics metrics = metrics_of(&drawn);
        for (int m = 0; m < LA_METRIC_COUNT; m++)
            if (!isnan(metrics.value[m]))
                values[m][defined[m]++] = metrics.value[m];
    }
    intervals_of(&set, RESAMPLES, SEED, found);
    for (int m = 0; m < LA_METRIC_COUNT; m++) {
        /* among ties, the order in which this test draws is not the order of the counts */
        if (!defined[m] || (levels && m == LA_METRIC_ECE_EM))
            continue;
        double lo = quantile(values[m], defined[m], 0.025);
        double hi = quantile(values[m], defined[m], 0.975);
        worst = fmax(worst, fmax(fabs(found[m].lo - lo), fabs(found[m].hi - hi)));
    }
    check_within("deviation from resampling the long way", worst, 1.5e-15);
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
    for (int64_t n = 200; n <= 20000; n *= 10) {
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
    assert_true(intervals[LA_METRIC_ACCURACY].lo == 1);
    assert_true(intervals[LA_METRIC_AURC].hi == 0);
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

/* Of models whose labels are drawn from their confidences, 95 % have an ECE (that of
 * la_metrics_compute) below the noise: as many as chance allows. */
static void test_noise_against_simulation(void **state) {
    static const int64_t sizes[] = {1, 3, 20, 100, 500};
    enum { DRAWS = 1000, SIMULATED = 2000 };
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s], below = 0, at = 0;
        double *confidence = confidences(n), noise = la_ece_noise(n, confidence, DRAWS, 3);
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

/* As 1 / sqrt(n): the same confidences four times as often, half the noise. */
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
        double noise = la_ece_noise(n, many, 500, 1), scaled = noise * sqrt((double)n);
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
    assert_true(la_ece_noise(50, sure, 500, 1) == 0);
    assert_true(la_ece_noise(50, unsure, 500, 1) == 0);
    /* one unsure row among them: half right or wrong */
    sure[7] = 0.5;
    assert_true(fabs(la_ece_noise(50, sure, 500, 1) - 0.5 / 50) < 1e-15);
    /* of its arguments alone, and of all of them */
    double *some = confidences(50), first = la_ece_noise(50, some, 100, 1);
    assert_true(la_ece_noise(50, some, 100, 1) == first);
    assert_true(la_ece_noise(50, some, 100, 2) != first);
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
        cmocka_unit_test(test_intervals_are_deterministic),
        cmocka_unit_test(test_intervals_have_the_right_width),
        cmocka_unit_test(test_undefined),
        cmocka_unit_test(test_noise_against_simulation),
        cmocka_unit_test(test_noise_of_more_rows),
        cmocka_unit_test(test_noise_of_sure_models),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
