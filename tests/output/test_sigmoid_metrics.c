/* The metrics of sets of classes against the independent reference
 * (tests/reference/sigmoid_metrics_reference.py), their intervals, and reports of such rows. */
#include "support/reports.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "output/sigmoid_metrics.h"
#include "pipeline/report_job.h"

/* relative; sums are taken in another order than the reference's: 3.4e-15 was observed */
static const double TOLERANCE = 1e-14;

typedef struct data_set {
    double *probs;
    unsigned char *sets;
    la_metric_rows rows;
} data_set;

static data_set new_set(int64_t n, int64_t c) {
    data_set set = {.probs = calloc((size_t)(n * c), sizeof(double)),
                    .sets = calloc((size_t)(n * c), 1)};
    assert_non_null(set.probs);
    assert_non_null(set.sets);
    set.rows = (la_metric_rows){n, c, set.probs, {LA_LABEL_SET, c, {.sets = set.sets}}};
    return set;
}

static void free_set(data_set *set) {
    free(set->probs);
    free(set->sets);
}

static data_set set_of(const json_t *one) {
    const json_t *rows = at(one, "rows"), *row;
    int64_t c = (int64_t)number_at(one, "n_classes");
    data_set set = new_set((int64_t)json_array_size(rows), c);
    size_t i;
    json_array_foreach(rows, i, row) {
        for (int64_t k = 0; k < c; k++) {
            size_t to = i * (size_t)c + (size_t)k;
            set.probs[to] = json_number_value(json_array_get(at(row, "probs"), (size_t)k));
            set.sets[to] = json_integer_value(json_array_get(at(row, "label"), (size_t)k)) == 1;
        }
    }
    return set;
}

static double deviation(double found, const json_t *expected) {
    if (json_is_null(expected) || isnan(found))
        return json_is_null(expected) && isnan(found) ? 0 : INFINITY;
    double value = json_number_value(expected), off = fabs(found - value);
    return off < 1e-16 ? 0 : off / fabs(value);
}

static void reference_cases(void **state) {
    json_t *cases = load_json(fixture("metrics/sigmoid_cases.json")), *one;
    double worst = 0;
    size_t i;
    (void)state;
    assert_int_equal(json_array_size(cases), 8);
    json_array_foreach(cases, i, one) {
        const la_metric_set *set = &la_sigmoid_metrics;
        data_set data = set_of(one);
        int64_t c = data.rows.n_classes, *n = calloc((size_t)c, sizeof *n);
        double *values = calloc((size_t)(c * set->n_class), sizeof *values);
        la_metrics metrics;
        la_error err = {0};
        assert_int_equal(la_metrics_compute(set, &data.rows, &metrics, &err), LA_OK);
        assert_int_equal(json_object_size(at(one, "metrics")), set->n);
        for (int m = 0; m < set->n; m++) {
            double off = deviation(metrics.value[m], at(at(one, "metrics"), set->list[m].name));
            if (off > TOLERANCE)
                print_message("%s: %s is off by %g\n", json_string_value(at(one, "name")),
                              set->list[m].name, off);
            worst = fmax(worst, off);
        }
        assert_int_equal(la_class_metrics(set, &data.rows, values, n, &err), LA_OK);
        for (int64_t k = 0; k < c; k++) {
            const json_t *want = json_array_get(at(one, "classes"), (size_t)k);
            assert_int_equal(n[k], (int64_t)number_at(want, "n"));
            for (int m = 0; m < set->n_class; m++)
                worst = fmax(worst, deviation(values[k * set->n_class + m],
                                              at(want, set->class_list[m].name)));
        }
        free(values);
        free(n);
        free_set(&data);
    }
    json_decref(cases);
    check_within("relative deviation from the reference", worst, TOLERANCE);
}

/* Rows whose classes have random probabilities, and are in the set about that often. */
static data_set random_set(int64_t n, int64_t c, uint64_t seed) {
    data_set set = new_set(n, c);
    for (int64_t i = 0; i < n * c; i++) {
        set.probs[i] = la_random_uniform(seed, 1, (uint64_t)i);
        set.sets[i] = la_random_uniform(seed, 2, (uint64_t)i) < set.probs[i];
    }
    return set;
}

/* Not in the last digit; intervals hold their metric, whatever the threads. */
static void order_does_not_matter(void **state) {
    enum { N = 61, C = 3 };
    data_set set = random_set(N, C, 9), turned = new_set(N, C);
    la_metrics one, other;
    la_interval found[LA_SIGMOID_METRICS], again[LA_SIGMOID_METRICS];
    la_error err = {0};
    (void)state;
    for (int64_t i = 0; i < N; i++) {
        int64_t j = (7 * i + 3) % N;
        memcpy(turned.probs + j * C, set.probs + i * C, C * sizeof(double));
        memcpy(turned.sets + j * C, set.sets + i * C, C);
    }
    assert_int_equal(la_metrics_compute(&la_sigmoid_metrics, &set.rows, &one, &err), LA_OK);
    assert_int_equal(la_metrics_compute(&la_sigmoid_metrics, &turned.rows, &other, &err), LA_OK);
    assert_memory_equal(one.value, other.value, sizeof one.value);
    assert_int_equal(
        la_metrics_intervals(la_team_of(1), &la_sigmoid_metrics, &set.rows, 100, 5, found, &err),
        LA_OK);
    assert_int_equal(
        la_metrics_intervals(la_team_of(4), &la_sigmoid_metrics, &turned.rows, 100, 5, again, &err),
        LA_OK);
    assert_memory_equal(found, again, sizeof found);
    for (int m = 0; m < LA_SIGMOID_METRICS; m++)
        assert_true(found[m].lo <= one.value[m] && one.value[m] <= found[m].hi);
    /* calibrated as they are, an ECE of 0 is among the possible ones */
    assert_true(found[LA_SIGMOID_ECE].lo == 0 && one.value[LA_SIGMOID_ECE] > 0);
    free_set(&set);
    free_set(&turned);
}

/* ---- reports ---- */

static const char three_rows[] =
    "{\"index\":0,\"label\":[0,2],\"prediction\":[0],\"probs\":[0.75,0.25,0.5]}\n"
    "{\"index\":1,\"label\":[],\"prediction\":[],\"probs\":[0.25,0.25,0.25]}\n"
    "{\"index\":2,\"prediction\":[1],\"probs\":[0.25,0.75,0.25]}\n";

static void report_formats(void **state) {
    static const char *const max[] = {"hamming=0.1", "nll=9"}, *const min[] = {"f1_macro=0.5"};
    static const struct {
        const char *format, *pieces[4];
    } formats[] = {
        {"text", {"2 rows, 3 labels", "f1_micro", "FAIL  hamming", "label           rows"}},
        {"markdown", {"| `exact_match` | ", "| label | rows | f1 |", "| 0 | 1 | 1.0000 |"}},
        {"html", {"<td>hamming</td>", "<h2>Labels</h2>", "f1_macro &gt;= 0.5"}},
        {"junit", {"<property name=\"f1_micro\" value=\"", "name=\"nll &lt;= 9\" time=\"0\"/>"}},
        {"json", {"\"task\": \"multi_label\"", "\"labels\": [", "\"n_unlabelled\": 1", "\"bins\""}},
    };
    (void)state;
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        char *text;
        int failed;
        la_error err;
        la_gate_options gates = {.max = max, .n_max = 2, .min = min, .n_min = 1};
        if (write_report(three_rows, formats[f].format, gates, &text, &failed, &err) != LA_OK)
            fail_msg("%s", err.message);
        assert_int_equal(failed, 1);
        for (int i = 0; i < 4 && formats[f].pieces[i]; i++)
            if (!strstr(text, formats[f].pieces[i]))
                fail_msg("%s: no \"%s\" in %s", formats[f].format, formats[f].pieces[i], text);
        free(text);
    }
}

static void bad_rows(void **state) {
#define GOOD_ROW "{\"label\":[1],\"prediction\":[],\"probs\":[0.25,0.5]}\n"
    static const char *const bad[][2] = {
        {"{\"label\":[2],\"prediction\":[],\"probs\":[0.25,0.5]}\n", ":2: \"label\" is 2"},
        {"{\"label\":1,\"prediction\":[],\"probs\":[0.25,0.5]}\n", "list of class indices"},
        {"{\"label\":[null],\"prediction\":[],\"probs\":[0.25,0.5]}\n", "\"label\" is null"},
        {"{\"label\":[1],\"prediction\":[],\"probs\":[0.25,1.5]}\n", "\"probs\"[1] is 1.5"},
        {"{\"label\":[1],\"prediction\":[],\"probs\":[0.25]}\n", "1 entries, expected 2"},
        {"{\"label\":1,\"prediction\":1,\"probs\":[0.25,0.75]}\n", ":2: is no row of sets"},
        {"{\"label\":1,\"prediction\":1.5,\"variance\":1}\n", ":2: is no row of sets"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[400], *out;
        int failed;
        la_error err;
        snprintf(text, sizeof text, GOOD_ROW "%s", bad[i][0]);
        assert_int_equal(write_report(text, "json", (la_gate_options){0}, &out, &failed, &err),
                         LA_BAD_INPUT);
        if (!strstr(err.message, bad[i][1]))
            fail_msg("no \"%s\" in: %s", bad[i][1], err.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_cases),
        cmocka_unit_test(order_does_not_matter),
        cmocka_unit_test(report_formats),
        cmocka_unit_test(bad_rows),
    };
    return cmocka_run_group_tests_name("metrics of sets", tests, NULL, NULL);
}
