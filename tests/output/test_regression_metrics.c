/* The metrics of a regression against the independent reference
 * (tests/reference/regression_metrics_reference.py), the bootstrap against resampling done the long
 * way, and the report of prediction rows. */
#include "support/reports.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "output/gaussian_metrics.h"
#include "pipeline/report_job.h"

/* relative; 1.1e-15 was observed */
static const double TOLERANCE = 4e-15;

typedef struct gaussian {
    double label, mean, variance;
} gaussian;

/* The caller frees both arrays. */
static la_metric_rows metric_rows(int64_t n, const gaussian *rows) {
    double *values = calloc((size_t)n + 1, 2 * sizeof *values);
    la_metric_rows out = {.n = n, .n_classes = 1, .values = values};
    out.labels.kind = LA_LABEL_NUMBER;
    out.labels.numbers = calloc((size_t)n + 1, sizeof *out.labels.numbers);
    for (int64_t i = 0; i < n; i++) {
        values[2 * i] = rows[i].mean;
        values[2 * i + 1] = rows[i].variance;
        out.labels.numbers[i] = rows[i].label;
    }
    return out;
}

static void free_rows(la_metric_rows *rows) {
    free((void *)(uintptr_t)rows->values);
    la_label_list_free(&rows->labels);
}

static la_status compute(int64_t n, const gaussian *rows, double *value, la_error *err) {
    la_metric_rows all = metric_rows(n, rows);
    la_metrics metrics;
    la_status status = la_metrics_compute(&la_gaussian_metrics, &all, &metrics, err);
    memcpy(value, metrics.value, LA_GAUSSIAN_METRICS * sizeof *value);
    free_rows(&all);
    return status;
}

static la_status intervals_of(la_team team, int64_t n, const gaussian *rows, int64_t resamples,
                              uint64_t seed, la_interval *intervals, la_error *err) {
    la_metric_rows all = metric_rows(n, rows);
    la_status status =
        la_metrics_intervals(team, &la_gaussian_metrics, &all, resamples, seed, intervals, err);
    free_rows(&all);
    return status;
}

static gaussian *rows_of(const json_t *list, int64_t *n) {
    size_t i;
    const json_t *row;
    *n = (int64_t)json_array_size(list);
    gaussian *rows = calloc((size_t)*n, sizeof *rows);
    json_array_foreach(list, i, row) rows[i] = (gaussian){.label = number_at(row, "label"),
                                                          .mean = number_at(row, "prediction"),
                                                          .variance = number_at(row, "variance")};
    return rows;
}

static double deviation(double found, const json_t *expected) {
    if (json_is_null(expected) || isnan(found))
        return json_is_null(expected) && isnan(found) ? 0 : INFINITY;
    return fabs(found - json_number_value(expected)) / fabs(json_number_value(expected));
}

static void reference_cases(void **state) {
    json_t *cases = load_json(fixture("metrics/regression_cases.json")), *one;
    double worst = 0;
    size_t i;
    (void)state;
    assert_int_equal(json_array_size(cases), 9);
    json_array_foreach(cases, i, one) {
        int64_t n;
        double value[LA_GAUSSIAN_METRICS];
        la_error err = {0};
        gaussian *rows = rows_of(at(one, "rows"), &n);
        const char *name = json_string_value(at(one, "name"));
        assert_int_equal(json_object_size(at(one, "metrics")), LA_GAUSSIAN_METRICS);
        assert_int_equal(compute(n, rows, value, &err), LA_OK);
        for (int m = 0; m < la_gaussian_metrics.n; m++) {
            const json_t *want =
                json_object_get(at(one, "metrics"), la_gaussian_metrics.list[m].name);
            assert_non_null(want);
            double off = deviation(value[m], want);
            if (off > TOLERANCE)
                print_message("%s: %s is off by %g\n", name, la_gaussian_metrics.list[m].name, off);
            worst = fmax(worst, off);
        }
        free(rows);
    }
    json_decref(cases);
    check_within("relative deviation from the reference", worst, TOLERANCE);
}

static void no_rows(void **state) {
    double value[LA_GAUSSIAN_METRICS];
    la_interval intervals[LA_GAUSSIAN_METRICS];
    la_error err = {0};
    (void)state;
    assert_int_equal(compute(0, NULL, value, &err), LA_BAD_INPUT);
    err = (la_error){0};
    assert_int_equal(intervals_of(la_team_of(2), 0, NULL, 10, 1, intervals, &err), LA_BAD_INPUT);
}

enum { ROWS = 40, RESAMPLES = 60 };

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Order by mean, label and variance, from which resamples draw. */
static int compare_gaussians(const void *a, const void *b) {
    const gaussian *x = a, *y = b;
    int order = compare_numbers(&x->mean, &y->mean);
    order = order ? order : compare_numbers(&x->label, &y->label);
    return order ? order : compare_numbers(&x->variance, &y->variance);
}

/* Every resample written out as rows, ties and all. */
static void bootstrap_the_long_way(void **state) {
    gaussian rows[ROWS], drawn[ROWS];
    la_interval found[LA_GAUSSIAN_METRICS], four[LA_GAUSSIAN_METRICS];
    double values[LA_GAUSSIAN_METRICS][RESAMPLES], value[LA_GAUSSIAN_METRICS], worst = 0;
    la_error err = {0};
    (void)state;
    for (int64_t i = 0; i < ROWS; i++) {
        double number = (double)la_random_below(3, 1, (uint64_t)i, 9);
        rows[i] = (gaussian){.label = number,
                             .mean = number + (double)la_random_below(3, 2, (uint64_t)i, 5) - 2,
                             .variance = 0.5 + 0.1 * (double)i};
    }
    qsort(rows, ROWS, sizeof *rows, compare_gaussians);
    for (int r = 0; r < RESAMPLES; r++) {
        for (int64_t i = 0; i < ROWS; i++)
            drawn[i] = rows[la_random_below(5, (uint64_t)r, (uint64_t)i, ROWS)];
        assert_int_equal(compute(ROWS, drawn, value, &err), LA_OK);
        for (int m = 0; m < LA_GAUSSIAN_METRICS; m++)
            values[m][r] = value[m];
    }
    assert_int_equal(compute(ROWS, rows, value, &err), LA_OK);
    assert_int_equal(intervals_of(la_team_of(1), ROWS, rows, RESAMPLES, 5, found, &err), LA_OK);
    assert_int_equal(intervals_of(la_team_of(4), ROWS, rows, RESAMPLES, 5, four, &err), LA_OK);
    assert_memory_equal(found, four, sizeof found);
    for (int m = 0; m < LA_GAUSSIAN_METRICS; m++) {
        const double ends[] = {found[m].lo, found[m].hi}, shares[] = {0.025, 0.975};
        qsort(values[m], RESAMPLES, sizeof values[m][0], compare_numbers);
        for (int end = 0; end < 2; end++) {
            double place = shares[end] * (RESAMPLES - 1);
            int below = (int)place;
            double want =
                values[m][below] + (place - below) * (values[m][below + 1] - values[m][below]);
            want = end ? fmax(want, value[m]) : fmin(want, value[m]);
            worst = fmax(worst, relative(ends[end], want, 1e-12));
        }
    }
    check_within("bootstrap against written-out resamples", worst, 1.2e-15);
}

/* Not in the last digit, and neither do the intervals, which hold their metric. */
static void order_does_not_matter(void **state) {
    gaussian rows[ROWS], turned[ROWS];
    la_interval found[LA_GAUSSIAN_METRICS], again[LA_GAUSSIAN_METRICS];
    double value[LA_GAUSSIAN_METRICS], other[LA_GAUSSIAN_METRICS];
    la_error err = {0};
    (void)state;
    for (int64_t i = 0; i < ROWS; i++) {
        double number = 0.1 * (double)la_random_below(3, 1, (uint64_t)i, 9);
        rows[i] =
            (gaussian){number, number + 0.3 * (double)(i % 3) - 0.3, 0.1 + 0.01 * (double)(i % 7)};
    }
    for (int64_t i = 0; i < ROWS; i++)
        turned[(7 * i + 3) % ROWS] = rows[i];
    assert_int_equal(compute(ROWS, rows, value, &err), LA_OK);
    assert_int_equal(compute(ROWS, turned, other, &err), LA_OK);
    assert_memory_equal(value, other, sizeof value);
    assert_int_equal(intervals_of(la_team_of(2), ROWS, rows, RESAMPLES, 5, found, &err), LA_OK);
    assert_int_equal(intervals_of(la_team_of(2), ROWS, turned, RESAMPLES, 5, again, &err), LA_OK);
    assert_memory_equal(found, again, sizeof found);
    for (int64_t n = 1; n <= ROWS; n += 13) {
        assert_int_equal(compute(n, rows, value, &err), LA_OK);
        assert_int_equal(intervals_of(la_team_of(2), n, rows, RESAMPLES, 5, found, &err), LA_OK);
        for (int m = 0; m < LA_GAUSSIAN_METRICS; m++)
            assert_true(isnan(value[m]) ? isnan(found[m].lo)
                                        : found[m].lo <= value[m] && value[m] <= found[m].hi);
    }
}

/* ---- reports ---- */

static const char three_rows[] =
    "{\"index\":0,\"label\":1,\"prediction\":1.5,\"variance\":0.5,\"noise_variance\":0.25,"
    "\"confidence_kind\":\"laplace-gaussian\"}\n"
    "{\"index\":1,\"label\":-2.5,\"prediction\":-2,\"variance\":0.5,\"noise_variance\":0.25,"
    "\"confidence_kind\":\"laplace-gaussian\"}\n"
    "{\"index\":2,\"prediction\":4,\"variance\":1,\"noise_variance\":0.25,"
    "\"confidence_kind\":\"laplace-gaussian\"}\n"
    "{\"index\":3,\"label\":0.25,\"prediction\":0.25,\"variance\":1.5,\"map_variance\":0.5,"
    "\"noise_variance\":0.25,\"map_prediction\":0.75,\"confidence_kind\":\"laplace-gaussian\"}\n";

static void report_json(void **state) {
    static const char *const max[] = {"nll=0.5", "coverage_90=1"}, *const min[] = {"pearson=0.9"};
    char *text;
    int failed;
    la_error err;
    (void)state;
    la_gate_options gates = {.max = max, .n_max = 2, .min = min, .n_min = 1};
    assert_int_equal(write_report(three_rows, "json", gates, &text, &failed, &err), LA_OK);
    json_t *root = json_loads(text, 0, NULL);
    assert_int_equal(failed, 1);
    assert_string_equal(json_string_value(at(root, "task")), "regression");
    assert_int_equal((int)number_at(root, "n"), 3);
    assert_null(json_object_get(root, "bins"));
    assert_int_equal(json_object_size(at(root, "metrics")), LA_GAUSSIAN_METRICS);
    assert_int_equal(json_object_size(at(root, "ci")), LA_GAUSSIAN_METRICS);
    double nll = 0.5 * log(2 * M_PI) + (log(0.5) + log(1.5) / 2 + 0.5) / 3;
    /* rows 0 and 1 miss by 0.5 under 0.25, row 3 by 0.5 under 0.5 */
    double map_nll = 0.5 * log(2 * M_PI) + (log(0.25) + log(0.5) / 2 + 1 + 0.25) / 3;
    assert_true(relative(number_at(root, "metrics/nll"), nll, 1) < 1e-15);
    assert_true(relative(number_at(root, "map_metrics/nll"), map_nll, 1) < 1e-15);
    assert_true(relative(number_at(root, "map_metrics/mae"), 0.5, 1) < 1e-15);
    assert_true(relative(number_at(root, "metrics/mae"), 1 / 3.0, 1) < 1e-15);
    assert_true(number_at(root, "provenance/n_unlabelled") == 1);
    json_decref(root);
    free(text);
}

static void report_forms(void **state) {
    static const char *const max[] = {"crps=9"};
    static const struct {
        const char *format, *pieces[4];
    } forms[] = {
        {"text",
         {"3 rows, a regression, confidence: laplace-gaussian", "coverage_90", "PASS  crps"}},
        {"markdown", {"| `spearman` | ", "| `crps <= 9` |", "a regression"}},
        {"html", {"<th scope=\"row\">sharpness</th>", "a regression", "crps &lt;= 9"}},
        {"junit", {"<property name=\"rmse\" value=\"", "name=\"crps &lt;= 9\" time=\"0\"/>"}},
    };
    (void)state;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        char *text;
        int failed;
        la_error err;
        la_gate_options gates = {.max = max, .n_max = 1};
        assert_int_equal(write_report(three_rows, forms[f].format, gates, &text, &failed, &err),
                         LA_OK);
        for (int i = 0; forms[f].pieces[i]; i++)
            if (!strstr(text, forms[f].pieces[i]))
                fail_msg("%s: no \"%s\" in %s", forms[f].format, forms[f].pieces[i], text);
        assert_null(strstr(text, "eliability"));
        assert_null(strstr(text, "accuracy"));
        free(text);
    }
}

/* A metric of one task is no metric of the other. */
static void gates_of_the_other_task(void **state) {
    static const char *const ece[] = {"ece=1"}, *const rmse[] = {"rmse=1"};
    char *text;
    int failed;
    la_error err;
    (void)state;
    la_gate_options gates = {.max = ece, .n_max = 1};
    assert_int_equal(write_report(three_rows, "json", gates, &text, &failed, &err), LA_USAGE);
    assert_non_null(strstr(err.message, "--max ece"));
    assert_non_null(strstr(err.message, "rmse, mae"));
    gates.max = rmse;
    assert_int_equal(write_report("{\"index\":0,\"label\":1,\"probs\":[0.5,0.5]}\n", "json", gates,
                                  &text, &failed, &err),
                     LA_USAGE);
    assert_non_null(strstr(err.message, "--max rmse"));
    assert_non_null(strstr(err.message, "of classes"));
}

static void regression_against_a_baseline(void **state) {
    static const char *const limit[] = {"rmse=0.1", "crps=0"};
    char baseline[4096]; /* scratch's buffers are used again */
    char *text;
    int failed;
    la_error err;
    (void)state;
    snprintf(baseline, sizeof baseline, "%s", scratch("baseline.json"));
    assert_int_equal(write_report(three_rows, "json", (la_gate_options){0}, &text, &failed, &err),
                     LA_OK);
    write_file(baseline, text, strlen(text));
    free(text);
    /* every miss is twice as large */
    static const char worse[] = "{\"label\":1,\"prediction\":2,\"variance\":0.5}\n"
                                "{\"label\":-2.5,\"prediction\":-1.5,\"variance\":0.5}\n"
                                "{\"label\":0.25,\"prediction\":0.25,\"variance\":1.5}\n";
    la_gate_options gates = {.baseline = baseline, .max_worse = limit, .n_max_worse = 2};
    assert_int_equal(write_report(three_rows, "json", gates, &text, &failed, &err), LA_OK);
    assert_int_equal(failed, 0);
    free(text);
    assert_int_equal(write_report(worse, "json", gates, &text, &failed, &err), LA_OK);
    assert_int_equal(failed, 2);
    json_t *root = json_loads(text, 0, NULL);
    assert_int_equal(json_object_size(at(root, "map_metrics")), 0);
    json_decref(root);
    free(text);
    assert_int_equal(write_report("{\"label\":1,\"probs\":[0.5,0.5]}\n", "json",
                                  (la_gate_options){.baseline = baseline}, &text, &failed, &err),
                     LA_BAD_INPUT);
}

static void bad_rows(void **state) {
#define GOOD_ROW "{\"label\":1,\"prediction\":2,\"variance\":0.5}\n"
    static const struct {
        const char *rows, *pieces[2];
    } bad[] = {
        {GOOD_ROW "{\"label\":1,\"prediction\":2,\"variance\":0}\n", {":2", "variance"}},
        {GOOD_ROW "{\"label\":1,\"prediction\":2,\"variance\":-1}\n", {":2", "-1"}},
        {GOOD_ROW "{\"label\":1,\"prediction\":\"2\",\"variance\":1}\n", {":2", "prediction"}},
        {GOOD_ROW "{\"label\":\"1\",\"prediction\":2,\"variance\":1}\n", {":2", "label"}},
        {GOOD_ROW "{\"label\":1,\"probs\":[0.5,0.5]}\n", {":2", "regression"}},
        {GOOD_ROW "{\"label\":1,\"prediction\":2}\n", {":2", "variance"}},
        {GOOD_ROW "{\"label\":1,\"prediction\":2,\"variance\":1,\"noise_variance\":0}\n",
         {":2", "noise_variance"}},
        {"{\"label\":1,\"probs\":[0.5,0.5]}\n" GOOD_ROW, {":2", "probs"}},
        {"{\"prediction\":2,\"variance\":1}\n", {"no row to measure", "variance"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text;
        int failed;
        la_error err;
        assert_int_equal(
            write_report(bad[i].rows, "json", (la_gate_options){0}, &text, &failed, &err),
            LA_BAD_INPUT);
        for (int k = 0; k < 2; k++)
            if (!strstr(err.message, bad[i].pieces[k]))
                fail_msg("no \"%s\" in: %s", bad[i].pieces[k], err.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_cases),
        cmocka_unit_test(no_rows),
        cmocka_unit_test(bootstrap_the_long_way),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(report_json),
        cmocka_unit_test(report_forms),
        cmocka_unit_test(gates_of_the_other_task),
        cmocka_unit_test(regression_against_a_baseline),
        cmocka_unit_test(bad_rows),
    };
    return cmocka_run_group_tests_name("regression metrics", tests, NULL, NULL);
}
