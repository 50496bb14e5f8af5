/* Metrics against torchmetrics and MAPIE, which tests/reference/rivals_reference.py asked about the
 * rows of the other fixtures. Where a definition differs (the script says how, and why ours is as
 * it is) the number has to be another one. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output/gaussian_metrics.h"
#include "output/sigmoid_metrics.h"
#include "output/softmax_metrics.h"

/* Rows of a case; its arrays are borrowed from data. */
typedef struct case_rows {
    const la_metric_set *set;
    la_metric_rows rows;
    double *values, *numbers;
    int64_t *classes;
    unsigned char *sets;
} case_rows;

static void *zeroed(size_t n, size_t size) {
    void *memory = calloc(n + 1, size);
    assert_non_null(memory);
    return memory;
}

static void fill_values(const json_t *row, double *values, int64_t width) {
    const json_t *probs = json_object_get(row, "probs");
    for (int64_t k = 0; probs && k < width; k++)
        values[k] = json_number_value(json_array_get(probs, (size_t)k));
    if (!probs) {
        values[0] = number_at(row, "prediction");
        values[1] = number_at(row, "variance");
    }
}

static case_rows rows_of(const json_t *one) {
    const json_t *list = at(one, "rows"), *first = json_array_get(list, 0), *row;
    bool of_numbers = !json_object_get(first, "probs");
    bool of_sets = json_is_array(at(first, "label"));
    size_t n = json_array_size(list), i;
    int64_t c = of_numbers ? 1 : (int64_t)json_array_size(at(first, "probs"));
    int64_t width = of_numbers ? 2 : c;
    case_rows out = {.values = zeroed(n * (size_t)width, sizeof(double)),
                     .numbers = zeroed(n, sizeof(double)),
                     .classes = zeroed(n, sizeof(int64_t)),
                     .sets = zeroed(n * (size_t)c, 1)};
    out.rows = (la_metric_rows){.n = (int64_t)n, .n_classes = c, .values = out.values};
    json_array_foreach(list, i, row) {
        const json_t *label = at(row, "label");
        fill_values(row, out.values + i * (size_t)width, width);
        out.numbers[i] = json_number_value(label);
        out.classes[i] = json_integer_value(label);
        for (int64_t k = 0; of_sets && k < c; k++)
            out.sets[(int64_t)i * c + k] =
                json_integer_value(json_array_get(label, (size_t)k)) == 1;
    }
    out.rows.labels = of_numbers ? (la_label_list){LA_LABEL_NUMBER, 0, {.numbers = out.numbers}}
                      : of_sets  ? (la_label_list){LA_LABEL_SET, c, {.sets = out.sets}}
                                 : (la_label_list){.classes = out.classes};
    out.set = of_numbers ? &la_gaussian_metrics
              : of_sets  ? &la_sigmoid_metrics
                         : &la_softmax_metrics;
    return out;
}

static void free_rows(case_rows *rows) {
    free(rows->values);
    free(rows->numbers);
    free(rows->classes);
    free(rows->sets);
}

static const json_t *case_of(const json_t *cases, const json_t *entry) {
    size_t i;
    json_t *one;
    json_array_foreach(cases, i, one) {
        if (json_equal(at(one, "name"), at(entry, "case")))
            return one;
    }
    fail_msg("no case %s", json_string_value(at(entry, "case")));
    return NULL;
}

/* Distance of ours from theirs: 0 where both are undefined, infinite where one is. */
static double distance(double ours, const json_t *theirs) {
    if (isnan(ours) || json_is_null(theirs))
        return isnan(ours) && json_is_null(theirs) ? 0 : INFINITY;
    return fabs(ours - json_number_value(theirs)) / fmax(1, fabs(ours));
}

/* Checks the entries of one file; returns their number. */
static int compare(const json_t *entries, const char *file) {
    char path[64];
    snprintf(path, sizeof path, "metrics/%s", file);
    json_t *cases = load_json(fixture(path)), *entry;
    double worst = 0;
    int n = 0;
    size_t i;
    json_array_foreach(entries, i, entry) {
        if (strcmp(json_string_value(at(entry, "file")), file) != 0)
            continue;
        case_rows rows = rows_of(case_of(cases, entry));
        const char *metric = json_string_value(at(entry, "metric"));
        int m = la_metric_find(rows.set, metric);
        la_metrics metrics;
        la_error err = {0};
        assert_true(m >= 0);
        assert_int_equal(la_metrics_compute(rows.set, &rows.rows, &metrics, &err), LA_OK);
        double off = distance(metrics.value[m], at(entry, "value"));
        double tolerance = number_at(entry, "tolerance");
        bool differs = json_object_get(entry, "differs");
        if ((off > tolerance) != differs)
            fail_msg("%s: %s of %s is %.17g, ours %.17g", json_string_value(at(entry, "case")),
                     json_string_value(at(entry, "name")), json_string_value(at(entry, "package")),
                     json_number_value(at(entry, "value")), metrics.value[m]);
        if (!differs)
            worst = fmax(worst, off / tolerance);
        free_rows(&rows);
        n++;
    }
    json_decref(cases);
    check_within("deviation from the packages, tolerances", worst, 1);
    return n;
}

static void test_packages(void **state) {
    json_t *entries = load_json(fixture("metrics/rivals.json"));
    (void)state;
    assert_true(compare(entries, "cases.json") > 100);
    assert_true(compare(entries, "sigmoid_cases.json") > 20);
    assert_true(compare(entries, "regression_cases.json") > 20);
    json_decref(entries);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
