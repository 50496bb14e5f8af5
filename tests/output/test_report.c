/* Gates, and every form of the report. */
#include "support/markup.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output/report.h"
#include "output/softmax_metrics.h"
#include "pipeline/report_job.h"

/* scratch() lends its buffers for a while only */
static char baseline_path[256], refused_path[256];

static int name_paths(void **state) {
    (void)state;
    snprintf(baseline_path, sizeof baseline_path, "%s", scratch("baseline.json"));
    snprintf(refused_path, sizeof refused_path, "%s", scratch("refused.out"));
    return 0;
}

static const char GOOD_ROW[] = "{\"index\":0,\"label\":1,\"probs\":[0.25,0.75]}";

static void write_text(const char *path, const char *text) {
    write_file(path, text, strlen(text));
}

/* n rows of two classes, 4 of 5 right, with MAP probabilities that are more confident. Valid until
 * the next call. */
static const char *good_file(const char *name, int n) {
    static char path[512];
    snprintf(path, sizeof path, "%s", scratch(name));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < n; i++) {
        double p = 0.51 + 0.48 * (i * 7 % 97) / 97, q = p + (1 - p) * 0.6;
        fprintf(file,
                "{\"index\":%d,\"label\":%d,\"prediction\":0,\"probs\":[%.10g,%.10g],"
                "\"map_probs\":[%.10g,%.10g],\"confidence_kind\":\"laplace-mc\"}\n",
                i, i % 5 == 2, p, 1 - p, q, 1 - q);
    }
    fclose(file);
    return path;
}

static const la_report_format *format_of(const char *name) {
    for (int i = 0; i < LA_REPORT_FORMATS; i++)
        if (!strcmp(la_report_formats[i].name, name))
            return &la_report_formats[i];
    fail_msg("no format %s", name);
    return NULL;
}

/* The report in `format`; fails unless it is written and `failed` gates fail. The caller frees it.
 */
static char *report_of(const la_report_options *options, const char *format, int failed) {
    la_report_options own = *options;
    la_error err = {0};
    int gates_failed = -1;
    size_t length;
    own.format = format_of(format);
    own.out = scratch("report.out");
    if (la_report_run(&own, &gates_failed, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(gates_failed, failed);
    return read_file(own.out, &length);
}

static json_t *json_of(const la_report_options *options, int failed) {
    char *text = report_of(options, "json", failed);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

static void check_keys(const json_t *object, const char *keys) {
    char found[512] = "";
    size_t used = 0;
    const char *key;
    json_t *value;
    assert_true(json_is_object(object));
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%s", used ? " " : "", key);
    }
    assert_string_equal(found, keys);
}

static const char METRIC_KEYS[] =
    "accuracy nll brier ece mce ece_em ece_debiased ece_smooth ece_classwise auroc aupr_error aurc "
    "eaurc fpr95 risk_at_coverage_80 risk_at_coverage_90 risk_at_coverage_95 coverage_at_risk_1 "
    "coverage_at_risk_2 coverage_at_risk_5 confidence";

static void test_json_schema(void **state) {
    static const char *const max[] = {"ece=0.5"};
    la_report_options options = {.predictions = good_file("p.jsonl", 300),
                                 .gates = {.max = max, .n_max = 1}};
    json_t *root = json_of(&options, 0);
    (void)state;
    check_keys(root, "schema n n_classes metrics map_metrics ci noise_floor bins gates provenance");
    assert_string_equal(json_string_value(at(root, "schema")), "laplora.report/1");
    assert_int_equal(json_integer_value(at(root, "n")), 300);
    assert_int_equal(json_integer_value(at(root, "n_classes")), 2);
    check_keys(at(root, "metrics"), METRIC_KEYS);
    check_keys(at(root, "map_metrics"), METRIC_KEYS);
    check_keys(at(root, "ci"), METRIC_KEYS);
    for (int m = 0; m < LA_METRIC_COUNT; m++) {
        char path[64];
        snprintf(path, sizeof path, "ci/%s/0", la_softmax_metrics.list[m].name);
        double lo = number_at(root, path);
        path[strlen(path) - 1] = '1';
        assert_true(lo <= number_at(root, path));
        assert_true(
            json_is_real(json_object_get(at(root, "metrics"), la_softmax_metrics.list[m].name)));
    }
    assert_int_equal(json_array_size(at(root, "bins")), LA_METRIC_BINS);
    check_keys(at(root, "noise_floor"), "ece ece_95 ratio p_value");
    double noise = number_at(root, "noise_floor/ece");
    assert_true(0 < noise && noise < number_at(root, "noise_floor/ece_95"));
    double ratio = number_at(root, "metrics/ece") / noise;
    assert_true(fabs(number_at(root, "noise_floor/ratio") - ratio) < 1e-12);
    assert_true(number_at(root, "noise_floor/p_value") >= 1.0 / 1001);
    assert_true(number_at(root, "noise_floor/p_value") <= 1);
    json_int_t rows = 0;
    for (size_t b = 0; b < LA_METRIC_BINS; b++) {
        const json_t *bin = json_array_get(at(root, "bins"), b);
        check_keys(bin, "lo hi n confidence accuracy");
        rows += json_integer_value(at(bin, "n"));
        assert_int_equal(json_is_null(at(bin, "accuracy")), !json_integer_value(at(bin, "n")));
    }
    assert_int_equal(rows, 300);
    check_keys(at(root, "gates/0"), "metric kind bound value pass");
    check_keys(at(root, "provenance"), "version predictions xxh3 confidence_kind n_errors "
                                       "n_unlabelled n_held_out n_calibration baseline bootstrap");
    assert_string_equal(json_string_value(at(root, "provenance/version")), LAPLORA_VERSION);
    assert_int_equal(json_string_length(at(root, "provenance/xxh3")), 32);
    json_decref(root);
}

static void test_same_file_same_bytes(void **state) {
    la_report_options options = {.predictions = good_file("p.jsonl", 300)};
    char *one = report_of(&options, "json", 0), *two = report_of(&options, "json", 0);
    (void)state;
    assert_string_equal(one, two);
    free(one);
    free(two);
}

static void test_without_map(void **state) {
    const char *path = scratch("nomap.jsonl");
    la_report_options options = {.predictions = path};
    (void)state;
    write_text(path, GOOD_ROW);
    json_t *root = json_of(&options, 0);
    check_keys(at(root, "map_metrics"), "");
    assert_true(json_is_null(at(root, "metrics/auroc")));
    assert_true(json_is_null(at(root, "ci/auroc")));
    assert_true(json_is_null(at(root, "provenance/confidence_kind")));
    json_decref(root);
    char *text = report_of(&options, "text", 0);
    assert_non_null(strstr(text, "1 row, 2 classes"));
    assert_null(strstr(text, "ahead"));
    assert_non_null(strstr(text, "Model"));
    free(text);
}

static void test_unlabelled(void **state) {
    const char *path = scratch("unlabelled.jsonl");
    la_report_options options = {.predictions = path, .out = scratch("unlabelled.out")};
    la_error err = {0};
    int failed;
    (void)state;
    write_text(path, "{\"probs\":[0.25,0.75]}\n{\"index\":1,\"error\":\"no\"}\n");
    assert_int_equal(la_report_run(&options, &failed, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "1 without a label, 1 with an error"));
    assert_int_not_equal(access(options.out, F_OK), 0);
}

/* ---- gates ---- */

static void check_gate(const json_t *root, int i, const char *metric, const char *kind, int pass) {
    char path[16];
    snprintf(path, sizeof path, "gates/%d", i);
    const json_t *gate = at(root, path);
    assert_string_equal(json_string_value(at(gate, "metric")), metric);
    assert_string_equal(json_string_value(at(gate, "kind")), kind);
    assert_true(pass ? json_is_true(at(gate, "pass")) : json_is_false(at(gate, "pass")));
}

static void test_limits(void **state) {
    static const char *const max[] = {"ece=0.9", "ece=0", "nll=1e9", "nll=-1"};
    static const char *const min[] = {"accuracy=0.79", "accuracy=0.81", "accuracy=.8", "auroc=+0"};
    la_report_options options = {
        .predictions = good_file("p.jsonl", 300),
        .gates = {.max = max, .n_max = 4, .min = min, .n_min = 4, .min_samples = 301}};
    json_t *root = json_of(&options, 4);
    (void)state;
    check_gate(root, 0, "ece", "max", 1);
    check_gate(root, 1, "ece", "max", 0);
    check_gate(root, 2, "nll", "max", 1);
    check_gate(root, 3, "nll", "max", 0);
    check_gate(root, 4, "accuracy", "min", 1);
    check_gate(root, 5, "accuracy", "min", 0);
    check_gate(root, 6, "accuracy", "min", 1); /* just 0.8 */
    check_gate(root, 7, "auroc", "min", 1);
    check_gate(root, 8, "n", "min", 0);
    assert_true(number_at(root, "gates/0/value") == number_at(root, "metrics/ece"));
    assert_true(number_at(root, "gates/0/bound") == 0.9);
    assert_int_equal(json_integer_value(at(root, "gates/8/value")), 300);
    json_decref(root);
    options.gates = (la_gate_options){.min_samples = 300};
    json_decref(json_of(&options, 0));
}

static void test_undefined_metric_fails(void **state) {
    static const char *const limits[] = {"auroc=0.5"};
    const char *path = scratch("right.jsonl");
    la_report_options options = {.predictions = path,
                                 .gates = {.max = limits, .n_max = 1, .min = limits, .n_min = 1}};
    (void)state;
    write_text(path, GOOD_ROW);
    json_t *root = json_of(&options, 2);
    check_gate(root, 0, "auroc", "max", 0);
    check_gate(root, 1, "auroc", "min", 0);
    assert_true(json_is_null(at(root, "gates/0/value")));
    json_decref(root);
    char *text = report_of(&options, "junit", 2);
    assert_non_null(strstr(text, "auroc is undefined"));
    free(text);
}

static void write_baseline(const char *path, const char *metric, double value) {
    char text[256];
    snprintf(text, sizeof text, "{\"schema\":\"laplora.report/1\",\"metrics\":{\"%s\":%.17g}}",
             metric, value);
    write_text(path, text);
}

/* One --max-regression gate against a baseline of one metric. Found: the file's value. */
static void check_regression(const char *metric, double better_by, const char *bound, int pass) {
    char limit[64];
    const char *limits[] = {limit};
    la_report_options options = {.predictions = good_file("p.jsonl", 300)};
    json_t *root = json_of(&options, 0);
    double now = number_at(at(root, "metrics"), metric);
    json_decref(root);
    int direction = la_softmax_metrics.list[la_metric_find(&la_softmax_metrics, metric)].direction;
    snprintf(limit, sizeof limit, "%s=%s", metric, bound);
    options.gates =
        (la_gate_options){.max_worse = limits, .n_max_worse = 1, .baseline = baseline_path};
    write_baseline(options.gates.baseline, metric, now - (direction ? direction : 1) * better_by);
    root = json_of(&options, !pass);
    check_gate(root, 0, metric, "max-regression", pass);
    assert_true(number_at(root, "gates/0/value") == now);
    json_decref(root);
}

static void test_regression(void **state) {
    (void)state;
    check_regression("nll", 0, "0", 1);
    check_regression("nll", 0.2, "0", 1);
    check_regression("nll", -0.02, "0.01", 0);
    check_regression("nll", -0.02, "0.03", 1);
    check_regression("accuracy", 0.1, "0", 1);
    check_regression("accuracy", -0.02, "0.01", 0);
    /* the difference is a little more than 0.1 in doubles */
    check_regression("accuracy", -0.1, "0.1", 1);
    /* a bound below zero asks for an improvement */
    check_regression("ece", 0.05, "-0.04", 1);
    check_regression("ece", 0.05, "-0.06", 0);
    /* no better direction: moving away counts */
    check_regression("confidence", 0.02, "0.01", 0);
    check_regression("confidence", -0.02, "0.01", 0);
    check_regression("confidence", -0.02, "0.03", 1);
}

static void test_regression_without_value(void **state) {
    static const char *const limits[] = {"nll=100"};
    la_report_options options = {
        .predictions = good_file("p.jsonl", 30),
        .gates = {.max_worse = limits, .n_max_worse = 1, .baseline = baseline_path}};
    (void)state;
    write_baseline(options.gates.baseline, "ece", 1);
    json_t *root = json_of(&options, 1);
    check_gate(root, 0, "nll", "max-regression", 0);
    assert_true(json_is_null(at(root, "gates/0/baseline")));
    json_decref(root);
    write_text(options.gates.baseline,
               "{\"schema\":\"laplora.report/1\",\"n_classes\":2,\"metrics\":{\"nll\":null}}");
    char *text = report_of(&options, "text", 1);
    assert_non_null(strstr(text, "FAIL  the baseline has no nll"));
    free(text);
    /* a report is its own baseline */
    options.gates.n_max_worse = 0;
    char *report = report_of(&options, "json", 0);
    write_text(options.gates.baseline, report);
    free(report);
    static const char *const none[] = {"nll=0", "auroc=0", "mce=0", "fpr95=0", "confidence=0"};
    options.gates.max_worse = none;
    options.gates.n_max_worse = 5;
    json_decref(json_of(&options, 0));
}

/* Fails unless the options are refused with the status and `what`, and nothing is written. */
static void check_options(const la_report_options *options, la_status expected, const char *what) {
    la_report_options own = *options;
    la_error err = {0};
    int failed;
    if (!own.out)
        own.out = refused_path;
    la_status status = la_report_run(&own, &failed, &err);
    if (status != expected || !strstr(err.message, what))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", (int)status, err.message, (int)expected,
                 what);
    assert_int_not_equal(access(refused_path, F_OK), 0);
}

static void test_bad_options(void **state) {
    static const char *const bad[] = {
        "foo=1",   "=1",        "ece",     "ece=",     "ece=x", "ece=1x", "ece= 1",  "ece=nan",
        "ece=inf", "ece=1e999", "ECE=0.1", "ece =0.1", "n=3",   "",       "ece=0,1", "ece=0x1p-3"};
    la_report_options options = {.predictions = good_file("p.jsonl", 30)};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options.gates = (la_gate_options){.max = &bad[i], .n_max = 1};
        check_options(&options, LA_USAGE, "--max ");
        options.gates = (la_gate_options){.min = &bad[i], .n_min = 1};
        check_options(&options, LA_USAGE, "--min ");
        options.gates =
            (la_gate_options){.max_worse = &bad[i], .n_max_worse = 1, .baseline = "nowhere"};
        check_options(&options, LA_USAGE, "--max-regression ");
    }
    static const char *const good[] = {"ece=1"};
    options.gates = (la_gate_options){.max_worse = good, .n_max_worse = 1};
    check_options(&options, LA_USAGE, "--baseline");
    options.gates = (la_gate_options){0};
    options.gates = (la_gate_options){0};
    options.out = options.predictions;
    check_options(&options, LA_USAGE, "would replace the predictions");
    options.out = "/nonexistent/folder/out";
    check_options(&options, LA_RESOURCE, "/nonexistent/folder");
    options.out = scratch("");
    check_options(&options, LA_RESOURCE, "is a directory");
    options.out = NULL;
    options.predictions = NULL;
    check_options(&options, LA_USAGE, "PREDICTIONS.jsonl");
}

static void test_bad_baselines(void **state) {
    static const char *const bad[][2] = {
        {"{\"schema\":\"laplora.fit/1\",\"metrics\":{}}", "\"laplora.fit/1\", expected"},
        {"{\"schema\":\"laplora.report/2\",\"metrics\":{}}", "\"laplora.report/2\", expected"},
        {"{\"metrics\":{}}", "\"schema\" is missing"},
        {"{\"schema\":1,\"metrics\":{}}", "\"schema\" is an integer"},
        {"{\"schema\":\"laplora.report/1\"}", "\"metrics\" is nothing"},
        {"{\"schema\":\"laplora.report/1\",\"metrics\":[]}", "\"metrics\" is an array"},
        {"{\"schema\":\"laplora.report/1\",\"metrics\":{\"nll\":\"0\"}}", "\"nll\" is a string"},
        {"{\"schema\":\"laplora.report/1\",\"n_classes\":3,\"metrics\":{}}", "has 3 classes"},
        {"[]", "holds an array"},
        {"", "not valid JSON"},
    };
    la_report_options options = {.predictions = good_file("p.jsonl", 30),
                                 .gates = {.baseline = baseline_path}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(options.gates.baseline, bad[i][0]);
        check_options(&options, LA_BAD_INPUT, bad[i][1]);
    }
    options.gates.baseline = scratch("no such baseline");
    check_options(&options, LA_BAD_INPUT, "no such baseline");
}

/* ---- forms ---- */

static void test_markup(void **state) {
    static const char *const max[] = {"ece=0.9", "nll=0"};
    const char *nasty = good_file("<b a='x'>&amp;\"\x1b[31m`|\xff\xe2\x80\xae.jsonl", 60);
    la_report_options options = {.predictions = nasty, .gates = {.max = max, .n_max = 2}};
    (void)state;
    for (int gates = 0; gates <= 2; gates += 2) {
        options.gates.n_max = gates;
        char *html = report_of(&options, "html", gates / 2);
        check_markup(html);
        assert_non_null(strstr(html, "&lt;b a=&#39;x&#39;&gt;&amp;amp;&quot;\\x1b[31m`|"));
        assert_null(strstr(html, "<script"));
        assert_null(strstr(html, "http"));
        free(html);
        char *junit = report_of(&options, "junit", gates / 2);
        check_markup(junit);
        assert_non_null(strstr(junit, gates ? "name=\"nll &lt;= 0\"" : "name=\"report\""));
        assert_non_null(strstr(junit, gates ? "tests=\"2\" failures=\"1\"" : "tests=\"1\" fail"));
        assert_int_equal(strstr(junit, "<failure type=\"gate\" message=\"nll 0.") != NULL,
                         gates > 0);
        free(junit);
    }
    char *text = report_of(&options, "text", 1), *json = report_of(&options, "json", 1);
    assert_null(strchr(text, '\x1b'));
    json_t *root = json_loads(json, 0, NULL);
    assert_non_null(root);
    json_decref(root);
    free(text);
    free(json);
}

static void test_markdown(void **state) {
    static const char *const max[] = {"ece=0.9", "nll=0"};
    la_report_options options = {.predictions = good_file("a`b.jsonl", 60),
                                 .gates = {.max = max, .n_max = 2}};
    char *text = report_of(&options, "markdown", 1);
    int rows = 0;
    (void)state;
    assert_non_null(strstr(text, "a'b.jsonl`: 60 rows, 2 classes, confidence: laplace-mc\n"));
    assert_non_null(strstr(text, "| metric | MAP | Laplace | 95 % interval | ahead |\n"));
    assert_non_null(strstr(text, "\n\n" LA_REPORT_AHEAD ".\n"));
    assert_non_null(strstr(text, "| `ece <= 0.9` |"));
    assert_non_null(strstr(text, "**FAIL**"));
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        int bars = 0;
        for (const char *c = line; *c != '\n'; c++)
            bars += *c == '|';
        assert_true(bars == 0 || bars == 6 || bars == 4);
        rows += bars == 6;
    }
    assert_int_equal(rows, LA_METRIC_COUNT + 2);
    free(text);
}

/* Characters, as a terminal counts them. */
static size_t widest_line(const char *text) {
    size_t widest = 0, width = 0;
    for (; *text; text++) {
        width = *text == '\n' ? 0 : width + ((*text & 0xc0) != 0x80);
        widest = width > widest ? width : widest;
    }
    return widest;
}

static void test_text(void **state) {
    static const char *const max[] = {"ece=0.9", "nll=0"}, *const regression[] = {"nll=0"};
    char name[300];
    memset(name, 'x', sizeof name);
    strcpy(name + 150, ".jsonl");
    la_report_options options = {.predictions = good_file(name, 300),
                                 .colour = true,
                                 .gates = {.max = max,
                                           .n_max = 2,
                                           .max_worse = regression,
                                           .n_max_worse = 1,
                                           .baseline = baseline_path}};
    (void)state;
    write_baseline(options.gates.baseline, "nll", 0.123456789);
    for (int utf8 = 0; utf8 <= 1; utf8++) {
        setenv("LC_ALL", utf8 ? "de_DE.UTF-8" : "C", 1);
        char *text = report_of(&options, "text", 2);
        assert_in_range(widest_line(text), 70, 80);
        assert_null(strchr(text, '\x1b')); /* a file is no terminal */
        assert_non_null(strstr(text, "metric                     MAP     Laplace"));
        assert_non_null(strstr(text, "300 rows, 2 classes, confidence: laplace-mc"));
        assert_non_null(strstr(text, "PASS  ece 0."));
        assert_non_null(strstr(text, "FAIL  nll 0."));
        assert_non_null(strstr(text, "worse, allowed 0\n"));
        assert_non_null(strstr(text, "2 of 3 gates failed"));
        bool ascii = true;
        for (const char *c = text; *c; c++)
            ascii &= !(*c & 0x80);
        assert_int_equal(ascii, !utf8);
        free(text);
    }
    unsetenv("LC_ALL");
}

static void test_colour(void **state) {
    la_predictions predictions;
    la_report report;
    la_error err = {0};
    const char *path = good_file("p.jsonl", 300);
    char *text;
    size_t length;
    (void)state;
    assert_int_equal(la_predictions_read(path, &predictions, &err), LA_OK);
    assert_int_equal(
        la_report_build(la_team_of(2), path, &predictions, NULL, NULL, 0, &report, &err), LA_OK);
    for (int colour = 0; colour <= 1; colour++) {
        la_report_style style = {.colour = colour};
        FILE *stream = open_memstream(&text, &length);
        assert_int_equal(la_report_text(&report, &style, stream, &err), LA_OK);
        fclose(stream);
        assert_int_equal(strchr(text, '\x1b') != NULL, colour);
        free(text);
    }
    la_report_free(&report);
    la_predictions_free(&predictions);
}

static void test_titles(void **state) {
    static const char *const kinds[][2] = {
        {"laplace-mc", "| Laplace |"},  {"temperature", "| Temperature |"},
        {"map", "| metric | MAP | 95"}, {"ensemble-of-5", "| Ensemble |"},
        {"mixed", "| Model |"},         {"averyveryverylongname", "| Averyveryve |"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char row[256];
        la_report_options options = {.predictions = scratch("kind.jsonl")};
        snprintf(row, sizeof row,
                 "{\"label\":0,\"probs\":[1,0],\"map_probs\":[1,0],\"confidence_kind\":\"%s\"}",
                 kinds[i][0]);
        write_text(options.predictions, row);
        char *text = report_of(&options, "markdown", 0);
        if (!strstr(text, kinds[i][1]))
            fail_msg("%s: no \"%s\" in %s", kinds[i][0], kinds[i][1], text);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_schema), cmocka_unit_test(test_same_file_same_bytes),
        cmocka_unit_test(test_without_map), cmocka_unit_test(test_unlabelled),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_undefined_metric_fails),
        cmocka_unit_test(test_regression),  cmocka_unit_test(test_regression_without_value),
        cmocka_unit_test(test_bad_options), cmocka_unit_test(test_bad_baselines),
        cmocka_unit_test(test_markup),      cmocka_unit_test(test_markdown),
        cmocka_unit_test(test_text),        cmocka_unit_test(test_colour),
        cmocka_unit_test(test_titles),
    };
    return cmocka_run_group_tests(tests, name_paths, NULL);
}
