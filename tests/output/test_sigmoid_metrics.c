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
        {"text", {"mean probability, gap: frequency - probability", " decisions 0"}},
        {"markdown", {"| `exact_match` | ", "| label | rows | f1 |", "| 0 | 1 | 1.0000 |"}},
        {"html",
         {"<th scope=\"row\">hamming</th>", "<h2 id=\"labels\">Labels</h2>", "f1_macro &gt;= 0.5",
          "number of decisions above"}},
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

/* ---- labels by name ---- */

/* c: neither named by the rows nor predicted */
#define NAMED_ROWS                                                                                 \
    "{\"label\":[0,2],\"prediction\":[0],\"prediction_label\":[\"a|b=@\"],"                        \
    "\"probs\":[0.75,0.25,0.5]}\n"                                                                 \
    "{\"label\":[1],\"prediction\":[0,1],\"prediction_label\":[\"a|b=@\",\"\\u001b[1m<b>\"],"      \
    "\"probs\":[0.75,0.75,0.5]}\n"

static const char *report_with(const char *format, const char *labels, la_gate_options gates,
                               int failed) {
    static char *text;
    int found;
    la_error err;
    free(text);
    if (write_named_report(NAMED_ROWS, format, labels, gates, &text, &found, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(found, failed);
    return text;
}

static void check_piece(const char *text, const char *piece) {
    if (!strstr(text, piece))
        fail_msg("no \"%s\" in %s", piece, text);
}

/* f1 of the three classes: 2/3, 1, 0 */
static void labels_have_names(void **state) {
    static const char *const min[] = {"f1@a|b=@=0.7", "f1@\\x1b[1m<b>=1", "f1@2=0", "brier@2=0.26"};
    static const char *const max[] = {"ece@third=0.5", "nll@2=0.6"};
    static const char long_name[] = "a name, of more than the thirty characters of a column";
    la_gate_options gates = {.min = min, .n_min = 4};
    (void)state;
    const char *text = report_with("text", NULL, gates, 2);
    check_piece(text, "\na|b=@              1    0.6667 ");
    check_piece(text, "\n\\x1b[1m<b>         1    1.0000 ");
    check_piece(text, "\n2                  1    0.0000 ");
    check_piece(text, "FAIL  f1@a|b=@ 0.666667 < 0.7\n");
    check_piece(text, "PASS  f1@\\x1b[1m<b> 1 >= 1\nPASS  f1@2 0 >= 0\nFAIL  brier@2 0.25 < 0.26");
    text = report_with("markdown", NULL, gates, 2);
    check_piece(text, "\n| a\\|b=\\@ | 1 | 0.6667 |");
    check_piece(text, "| `f1@a\\|b=@ >= 0.7` | `f1@a\\|b=@ 0.666667 < 0.7` | **FAIL** |");
    check_piece(report_with("html", NULL, gates, 2),
                "<tr><th scope=\"row\">\\x1b[1m&lt;b&gt;</th><td");
    check_piece(report_with("junit", NULL, gates, 2), "message=\"f1@a|b=@ 0.666667 &lt; 0.7\"");
    text = report_with("json", NULL, gates, 2);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(at(root, "labels/0/name")), "a|b=@");
    assert_null(json_object_get(at(root, "labels/2"), "name"));
    assert_string_equal(json_string_value(at(root, "gates/0/metric")), "f1@a|b=@");
    assert_true(number_at(root, "gates/0/value") == number_at(root, "labels/0/f1"));
    json_decref(root);
    gates = (la_gate_options){.max = max, .n_max = 2};
    text = report_with("text", "a name\\, of more than the thirty characters of a column,x,third",
                       gates, 1);
    check_piece(text, "\na name, of more than the th...       1 ");
    check_piece(text, "\nx                                    1 ");
    check_piece(text, "PASS  ece@third ");
    assert_null(strstr(text, long_name));
}

static void baseline_of_a_label(void **state) {
    static const char *const worse[] = {"f1@2=0.1", "f1@1=0.1", "nll@0=0"};
    const char *before = scratch("before.json");
    la_gate_options gates = {.max_worse = worse, .n_max_worse = 3, .baseline = before};
    (void)state;
    json_t *root = json_loads(report_with("json", NULL, (la_gate_options){0}, 0), 0, NULL);
    assert_int_equal(
        json_object_set_new((json_t *)(uintptr_t)at(root, "labels/2"), "f1", json_real(0.5)), 0);
    assert_int_equal(json_object_del((json_t *)(uintptr_t)at(root, "labels/1"), "f1"), 0);
    assert_int_equal(json_dump_file(root, before, 0), 0);
    json_decref(root);
    const char *text = report_with("text", NULL, gates, 2);
    check_piece(text, "FAIL  f1@2 0, baseline 0.5: 0.5 worse, allowed 0.1");
    check_piece(text, "FAIL  the baseline has no f1@1");
    check_piece(text, "PASS  nll@0 ");
}

static void bad_labels(void **state) {
    char long_gate[200];
    const char *const bad[][3] = {
        {"f1@x=1", NULL, "no label \"x\"; expected a number from 0 to 2 or one of the names a|b"},
        {"f1@3=1", NULL, "no label \"3\""},
        {"f1@=1", NULL, "no label \"\""},
        {"f1@ 1=1", NULL, "no label \" 1\""},
        {"f1@1e0=1", NULL, "no label \"1e0\""},
        {"f1@0=x", NULL, "\"x\" is no finite number"},
        {"hamming@0=1", NULL, "no metric \"hamming\" of one label; expected one of f1, nll"},
        {"@0=1", NULL, "no metric \"\""},
        {"f1=1", NULL, "no metric \"f1\"; expected"},
        {long_gate, NULL, "more than 124 bytes; give its number"},
        {"f1@0=1", "a,b", "--labels: has 2 names, expected 3"},
        {"f1@0=1", "a,b,a", "--labels"},
        {"f1@a|b=@=1", "a,b,c",
         "no label \"a|b=@\"; expected a number from 0 to 2 or one of the na"},
    };
    (void)state;
    memset(long_gate, 'x', sizeof long_gate);
    memcpy(long_gate, "f1@", 3);
    memcpy(long_gate + sizeof long_gate - 3, "=1", 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *out;
        int failed;
        la_error err;
        la_gate_options gates = {.max = bad[i], .n_max = 1};
        assert_int_equal(
            write_named_report(NAMED_ROWS, "json", bad[i][1], gates, &out, &failed, &err),
            LA_USAGE);
        check_piece(err.message, bad[i][2]);
        /* names and numbers of rows that are not sets */
        if (!i) {
            static const char classes[] = "{\"label\":1,\"prediction\":1,\"probs\":[0.25,0.75]}\n";
            static const char *const on_label[] = {"nll@0=1"};
            gates.max = on_label;
            assert_int_equal(write_report(classes, "json", gates, &out, &failed, &err), LA_USAGE);
            check_piece(err.message, "predictions are of classes, which have no such metric");
            assert_int_equal(write_named_report(classes, "json", "a,b", (la_gate_options){0}, &out,
                                                &failed, &err),
                             LA_USAGE);
            check_piece(err.message, "--labels: the predictions are of classes");
        }
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
        cmocka_unit_test(labels_have_names),
        cmocka_unit_test(baseline_of_a_label),
        cmocka_unit_test(bad_labels),
        cmocka_unit_test(bad_rows),
    };
    return cmocka_run_group_tests_name("metrics of sets", tests, NULL, NULL);
}
