/* Reports for other programs, several of one reading, and tasks for people to label. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pipeline/report_job.h"

enum { ROWS = 40 };
static char rows_path[256];

/* Rows whose confidence falls with their number, every fifth without a label. */
static int write_rows(void **state) {
    (void)state;
    snprintf(rows_path, sizeof rows_path, "%s", scratch("rows.jsonl"));
    FILE *file = fopen(rows_path, "w");
    assert_non_null(file);
    for (int i = 0; i < ROWS; i++) {
        double p = 0.99 - i / 100.0;
        fprintf(file, "{\"index\":%d,\"id\":\"r%d\",", i, i);
        if (i % 5)
            fprintf(file, "\"label\":%d,", i % 3 == 0);
        fprintf(file,
                "\"prediction\":0,\"prediction_label\":\"no\\u202e\",\"confidence\":%.2f,\"probs\":"
                "[%.2f,%.2f],\"map_probs\":[1,0],\"fields\":{\"text\":\"t%d\",\"tag\":null}}\n",
                p, p, 1 - p, i);
    }
    return fclose(file);
}

static la_status run(la_report_options options, la_error *err) {
    int failed;
    *err = (la_error){0};
    return la_report_run(&options, &failed, err);
}

/* One report by --write; the caller frees it. */
static char *report_of(const char *rows, const char *format) {
    char write[320];
    const char *to = scratch("report"), *wishes[] = {write};
    la_error err;
    size_t length;
    snprintf(write, sizeof write, "%s=%s", format, to);
    la_report_options options = {.predictions = rows, .write = wishes, .n_write = 1};
    if (run(options, &err) != LA_OK)
        fail_msg("%s", err.message);
    return read_file(to, &length);
}

static json_t *json_of(const char *rows, const char *format) {
    char *text = report_of(rows, format);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!root)
        fail_msg("no JSON: %s", text);
    free(text);
    return root;
}

/* Number of samples, each with HELP and TYPE before it and the value that the report has. */
static int check_samples(char *text, const json_t *report) {
    char family[64] = "";
    int n = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char name[64], model[32];
        double value;
        if (!strcmp(line, "# EOF")) {
            assert_null(strtok(NULL, "\n"));
            return n;
        }
        if (sscanf(line, "# HELP %63s", family) == 1)
            continue;
        if (*line == '#') {
            char type[160];
            snprintf(type, sizeof type, "# TYPE %s gauge", family);
            assert_string_equal(line, type);
            continue;
        }
        if (sscanf(line, "laplora_rows %lf", &value) == 1) {
            assert_true(value == number_at(report, "n"));
            continue;
        }
        assert_int_equal(
            sscanf(line, "laplora_%63[a-z0-9_]{model=\"%31[a-z]\"} %lf", name, model, &value), 3);
        assert_string_equal(name, family + strlen("laplora_"));
        assert_true(value ==
                    number_at(at(report, strcmp(model, "map") ? "metrics" : "map_metrics"), name));
        n++;
    }
    return n;
}

static int count_defined(const json_t *metrics) {
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach((json_t *)(uintptr_t)metrics, key, value) n += !json_is_null(value);
    return n;
}

static void monitoring(void **state) {
    (void)state;
    json_t *report = json_of(rows_path, "json");
    int defined = count_defined(at(report, "metrics")) + count_defined(at(report, "map_metrics"));
    char *plain = report_of(rows_path, "prometheus"), *open = report_of(rows_path, "gitlab");
    assert_int_equal(strlen(open), strlen(plain) + strlen("# EOF\n"));
    assert_string_equal(open + strlen(plain), "# EOF\n");
    assert_memory_equal(open, plain, strlen(plain));
    assert_int_equal(check_samples(plain, report), defined);
    assert_int_equal(check_samples(open, report), defined);
    free(plain);
    free(open);
    json_decref(report);
    /* a metric that is undefined has neither sample nor family */
    const char *one = scratch("one.jsonl"), row[] = "{\"label\":1,\"probs\":[0.25,0.75]}\n";
    write_file(one, row, strlen(row));
    report = json_of(one, "json");
    plain = report_of(one, "prometheus");
    assert_null(strstr(plain, "auroc"));
    assert_null(strstr(plain, "nan"));
    assert_null(strstr(plain, "\"map\""));
    assert_int_equal(check_samples(plain, report), count_defined(at(report, "metrics")));
    free(plain);
    json_decref(report);
}

static void tracking(void **state) {
    (void)state;
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    setenv("MLFLOW_RUN_ID", "run\xff", 1);
    json_t *report = json_of(rows_path, "json"), *body = json_of(rows_path, "mlflow"), *metric;
    size_t i, n_map = 0;
    json_array_foreach(at(body, "metrics"), i, metric) {
        const char *key = json_string_value(at(metric, "key"));
        bool map = !strncmp(key, "map_", 4);
        n_map += map;
        assert_true(number_at(metric, "value") ==
                    number_at(at(report, map ? "map_metrics" : "metrics"), key + 4 * map));
        assert_true(json_integer_value(at(metric, "timestamp")) == 1700000000000);
        assert_int_equal(json_integer_value(at(metric, "step")), 0);
    }
    assert_int_equal(i - n_map, count_defined(at(report, "metrics")));
    assert_int_equal(n_map, count_defined(at(report, "map_metrics")));
    assert_string_equal(json_string_value(at(body, "run_id")), "run\xef\xbf\xbd");
    json_decref(body);
    json_decref(report);
    unsetenv("MLFLOW_RUN_ID");
    static const char *const bad[] = {"soon", "1e9", "-1", "99999999999999999999",
                                      "9223372036854775807"};
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++) {
        la_error err;
        const char *out = scratch("refused"), *wishes[2] = {"csv=", NULL};
        char csv[300], mlflow[300];
        snprintf(csv, sizeof csv, "csv=%s", out);
        snprintf(mlflow, sizeof mlflow, "mlflow=%s.mlflow", out);
        wishes[0] = csv;
        wishes[1] = mlflow;
        setenv("SOURCE_DATE_EPOCH", bad[b], 1);
        la_report_options options = {.predictions = rows_path, .write = wishes, .n_write = 2};
        assert_int_equal(run(options, &err), LA_USAGE);
        assert_non_null(strstr(err.message, "SOURCE_DATE_EPOCH"));
        assert_int_not_equal(access(out, F_OK), 0); /* no other report of the run either */
    }
    unsetenv("SOURCE_DATE_EPOCH");
    body = json_of(rows_path, "mlflow");
    assert_true(json_integer_value(at(body, "metrics/0/timestamp")) > 1700000000000);
    assert_null(json_object_get(body, "run_id"));
    json_decref(body);
}

static void table(void **state) {
    (void)state;
    json_t *report = json_of(rows_path, "json");
    char *text = report_of(rows_path, "csv");
    int n = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), n++) {
        char name[64], model[32], path[80];
        double value, lo, hi;
        long long rows;
        if (!n) {
            assert_string_equal(line, "metric,model,value,low,high,n,field,slice");
            continue;
        }
        int found =
            sscanf(line, "%63[^,],%31[^,],%lf,%lf,%lf,%lld", name, model, &value, &lo, &hi, &rows);
        bool map = !strcmp(model, "map");
        if (map) { /* no intervals, and values that may be undefined */
            assert_true(found >= 2 && strstr(line, ",,,32"));
            continue;
        }
        assert_int_equal(found, 6);
        assert_true(rows == 32);
        assert_true(value == number_at(at(report, "metrics"), name));
        snprintf(path, sizeof path, "ci/%s/0", name);
        assert_true(lo == number_at(report, path));
        snprintf(path, sizeof path, "ci/%s/1", name);
        assert_true(hi == number_at(report, path));
    }
    assert_int_equal(n, 1 + 2 * json_object_size(at(report, "metrics")));
    free(text);
    json_decref(report);
}

static void tasks(void **state) {
    (void)state;
    json_t *list = json_of(rows_path, "label-studio"), *task;
    size_t i;
    assert_int_equal(json_array_size(list), ROWS); /* rows without a label too */
    json_array_foreach(list, i, task) {
        char text[16];
        int row = ROWS - 1 - (int)i; /* the least certain first */
        snprintf(text, sizeof text, "t%d", row);
        assert_int_equal(number_at(task, "data/index"), row);
        assert_string_equal(json_string_value(at(task, "data/text")), text);
        assert_true(json_is_null(at(task, "data/tag")));
        assert_int_equal(json_array_size(at(task, "predictions")), 1);
        assert_true(number_at(task, "predictions/0/score") == strtod("0.99", NULL) - row / 100.0 ||
                    fabs(number_at(task, "predictions/0/score") - 0.99 + row / 100.0) < 1e-9);
        assert_string_equal(json_string_value(at(task, "predictions/0/result/0/value/choices/0")),
                            "no\xe2\x80\xae");
    }
    assert_string_equal(json_string_value(at(list, "0/predictions/0/model_version")),
                        "laplora " LAPLORA_VERSION);
    static const char *const fixed[][2] = {
        {"type", "choices"}, {"from_name", "label"}, {"to_name", "text"}};
    for (i = 0; i < 3; i++)
        assert_string_equal(
            json_string_value(json_object_get(at(list, "0/predictions/0/result/0"), fixed[i][0])),
            fixed[i][1]);
    json_decref(list);
    char *raw = report_of(rows_path, "label-studio");
    assert_null(strstr(raw, "\xe2\x80\xae"));
    free(raw);
}

/* Tasks of rows (JSONL). */
static json_t *tasks_of(const char *rows) {
    const char *path = scratch("tasks.jsonl");
    write_file(path, rows, strlen(rows));
    return json_of(path, "label-studio");
}

static void tasks_of_other_rows(void **state) {
    (void)state;
    /* none has a label: there is nothing to measure, and much to label */
    json_t *list = tasks_of("{\"index\":0,\"prediction\":1,\"confidence\":0.75,"
                            "\"probs\":[0.25,0.75]}\n"
                            "{\"index\":1,\"error\":\"no\"}\n"
                            "{\"index\":2,\"prediction\":0,\"confidence\":0.75,"
                            "\"probs\":[0.75,0.25]}\n");
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(number_at(list, "0/data/index"), 0); /* ties in the order of the file */
    assert_string_equal(json_string_value(at(list, "0/predictions/0/result/0/value/choices/0")),
                        "1");
    json_decref(list);
    /* regression: the widest first */
    list = tasks_of("{\"index\":0,\"label\":1,\"prediction\":1.5,\"variance\":1,\"std\":1}\n"
                    "{\"index\":1,\"label\":1,\"prediction\":2.5,\"variance\":4,\"std\":2}\n");
    assert_int_equal(number_at(list, "0/data/index"), 1);
    assert_true(number_at(list, "0/predictions/0/result/0/value/number") == 2.5);
    assert_string_equal(json_string_value(at(list, "0/predictions/0/result/0/type")), "number");
    json_decref(list);
    /* tokens: each a task, with its row's index and its own place */
    list = tasks_of("{\"index\":7,\"tokens\":[{\"token\":1,\"word\":0,\"prediction\":0,"
                    "\"confidence\":0.9,\"probs\":[0.9,0.1]},{\"token\":2,\"word\":1,"
                    "\"prediction\":1,\"confidence\":0.6,\"probs\":[0.4,0.6]}]}\n");
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(number_at(list, "0/data/index"), 7);
    assert_int_equal(number_at(list, "0/data/token"), 2);
    json_decref(list);
    /* sets: every class of the set is a choice */
    list = tasks_of("{\"index\":0,\"label\":[0],\"prediction\":[0,2],\"prediction_label\":[\"a\","
                    "\"c\"],\"confidence\":0.5,\"probs\":[0.9,0.1,0.8]}\n");
    assert_int_equal(json_array_size(at(list, "0/predictions/0/result/0/value/choices")), 2);
    json_decref(list);
}

/* Refused, with the status and the piece, and nothing is written. */
static void check_refused(const char *rows, const char *const *write, int n, la_status expected,
                          const char *piece) {
    la_error err;
    la_report_options options = {.predictions = rows, .write = write, .n_write = n};
    la_status status = run(options, &err);
    if (status != expected || !strstr(err.message, piece))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", (int)status, err.message, (int)expected,
                 piece);
    assert_int_not_equal(access(scratch("first"), F_OK), 0);
}

static void refusals(void **state) {
    char first[300], again[320], missing[300], rows[300], folder[300];
    (void)state;
    snprintf(first, sizeof first, "csv=%s", scratch("first"));
    snprintf(again, sizeof again, "json=%s", scratch("./first"));
    snprintf(missing, sizeof missing, "json=%s", scratch("none/second"));
    snprintf(folder, sizeof folder, "json=%s", scratch(""));
    snprintf(rows, sizeof rows, "json=%s", rows_path);
    const char *const cases[][2] = {
        {first, again},    {"csv=-", "json=-"}, {first, missing}, {first, folder}, {first, rows},
        {first, "yaml=x"}, {first, "csv"},      {first, "csv="},  {first, "=x"},   {first, "cs=x"},
    };
    static const la_status statuses[] = {LA_USAGE, LA_USAGE, LA_RESOURCE, LA_RESOURCE, LA_USAGE,
                                         LA_USAGE, LA_USAGE, LA_USAGE,    LA_USAGE,    LA_USAGE};
    static const char *const pieces[] = {"for csv and for json",
                                         "standard output: is named for",
                                         "none",
                                         "directory",
                                         "would replace the predictions",
                                         "there is no format \"yaml\"; expected one of text, json",
                                         "expected FORMAT=FILE",
                                         "expected FORMAT=FILE",
                                         "no format \"\"",
                                         "no format \"cs\""};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(rows_path, cases[i], 2, statuses[i], pieces[i]);
    /* the plain report and --write of the same place */
    la_error err;
    const char *const one[] = {first};
    la_report_options options = {
        .predictions = rows_path, .out = scratch("first"), .write = one, .n_write = 1};
    assert_int_equal(run(options, &err), LA_USAGE);
    assert_non_null(strstr(err.message, "for text and for csv"));
    /* rows that no task can be made of */
    static const char *const bad[][2] = {
        {"{\"label\":0,\"prediction\":0,\"probs\":[0.5,0.5]}\n", "bad.jsonl:1: no number \"confid"},
        {"{\"label\":0,\"confidence\":0.5,\"probs\":[0.5,0.5]}\n", "bad.jsonl:1: no \"prediction"}};
    snprintf(first, sizeof first, "label-studio=%s", scratch("first"));
    for (size_t i = 0; i < 2; i++) {
        const char *path = scratch("bad.jsonl");
        write_file(path, bad[i][0], strlen(bad[i][0]));
        check_refused(path, one, 1, LA_BAD_INPUT, bad[i][1]);
    }
}

/* All formats of one reading, from a pipe as well, are what each is alone. */
static void together(void **state) {
    char texts[LA_REPORT_FORMATS][300];
    const char *wishes[LA_REPORT_FORMATS];
    la_error err;
    size_t length;
    (void)state;
    setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
    for (int i = 0; i < LA_REPORT_FORMATS; i++) {
        char name[64];
        snprintf(name, sizeof name, "all.%s", la_report_formats[i].name);
        snprintf(texts[i], sizeof texts[i], "%s=%s", la_report_formats[i].name, scratch(name));
        wishes[i] = texts[i];
    }
    la_report_options options = {
        .predictions = rows_path, .write = wishes, .n_write = LA_REPORT_FORMATS};
    assert_int_equal(run(options, &err), LA_OK);
    for (int i = 0; i < LA_REPORT_FORMATS; i++) {
        char *alone = report_of(rows_path, la_report_formats[i].name);
        char *found = read_file(strchr(texts[i], '=') + 1, &length);
        assert_true(length > 0);
        assert_string_equal(found, alone);
        free(found);
        free(alone);
    }
    unsetenv("SOURCE_DATE_EPOCH");
}

/* ---- the summary of a step ---- */

static la_status summarise(la_error *err) {
    la_report_options options = {
        .predictions = rows_path, .out = scratch("plain"), .summary = true};
    return run(options, err);
}

static void summaries(void **state) {
    char path[300];
    la_error err;
    size_t length, before;
    (void)state;
    unsetenv("GITHUB_STEP_SUMMARY");
    assert_int_equal(summarise(&err), LA_USAGE);
    assert_non_null(strstr(err.message, "GITHUB_STEP_SUMMARY is not set"));
    setenv("GITHUB_STEP_SUMMARY", "", 1);
    assert_int_equal(summarise(&err), LA_USAGE);
    assert_int_not_equal(access(scratch("plain"), F_OK), 0);
    snprintf(path, sizeof path, "%s", scratch("summary.md"));
    setenv("GITHUB_STEP_SUMMARY", path, 1);
    write_file(path, "before\n", 7);
    char *markdown = report_of(rows_path, "markdown");
    for (int time = 1; time <= 2; time++) { /* behind what is there */
        assert_int_equal(summarise(&err), LA_OK);
        char *found = read_file(path, &length);
        assert_int_equal(length, 7 + (size_t)time * strlen(markdown));
        assert_memory_equal(found, "before\n", 7);
        assert_string_equal(found + length - strlen(markdown), markdown);
        free(found);
    }
    /* near the limit: whole lines and a note; full: nothing */
    size_t most = 1024 * 1024, room = strlen(markdown) - 1;
    char *big = malloc(most);
    memset(big, 'x', most);
    for (int full = 0; full <= 1; full++) {
        before = full ? most : most - room;
        write_file(path, big, before);
        assert_int_equal(summarise(&err), LA_OK);
        char *found = read_file(path, &length);
        assert_true(length <= most && (length > before) == !full);
        if (!full) {
            const char *end = strstr(found + before, "\n\n\nThe rest is left out");
            assert_non_null(end);
            assert_memory_equal(found + before, markdown, (size_t)(end - found) + 1 - before);
            assert_true(found[length - 1] == '\n');
        }
        free(found);
    }
    free(big);
    free(markdown);
    /* refused: a folder, the file of another output, the predictions */
    setenv("GITHUB_STEP_SUMMARY", scratch(""), 1);
    assert_int_equal(summarise(&err), LA_RESOURCE);
    setenv("GITHUB_STEP_SUMMARY", scratch("plain"), 1);
    assert_int_equal(summarise(&err), LA_USAGE);
    assert_non_null(strstr(err.message, "for text and for --summary"));
    setenv("GITHUB_STEP_SUMMARY", rows_path, 1);
    assert_int_equal(summarise(&err), LA_USAGE);
    unsetenv("GITHUB_STEP_SUMMARY");
}

static void warn(void *user, const char *message) {
    snprintf(user, 300, "%s", message);
}

/* Rows that the posterior has seen flatter it: every form says so, and one that people do not read
 * has a warning beside it. Rows without a label do not count. */
static void bias(void **state) {
    static const char *const formats[] = {"text", "markdown", "html", "json", "junit"};
    static const char said[] = "6 of 9 rows chose the guard's settings, 5 of 9 rows are "
                               "calibration rows, which the posterior was fitted on: expect worse";
    char path[256], table[256];
    snprintf(path, sizeof path, "%s", scratch("seen.jsonl"));
    snprintf(table, sizeof table, "%s", scratch("seen.csv"));
    FILE *file = fopen(path, "w"), *csv = fopen(table, "w");
    char warning[300] = "";
    la_error err;
    (void)state;
    fputs("index,label,held_out,calibration,prob_0,prob_1\n", csv);
    for (int i = 0; i < 10; i++) {
        const char *held = i % 3 ? "true" : "", *fitted = i % 2 ? "true" : "";
        fprintf(file, "{\"index\":%d,%s%s%s\"confidence_kind\":\"map\",\"probs\":[0.75,0.25]}\n", i,
                i ? "\"label\":0," : "", *held || !i ? "\"held_out\":true," : "",
                *fitted || !i ? "\"calibration\":true," : "");
        fprintf(csv, i ? "%d,0,%s,%s,0.75,0.25\n" : "%d,,true,true,0.75,0.25\n", i, held, fitted);
    }
    fclose(file);
    fclose(csv);
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        char *text = report_of(f % 2 ? table : path, formats[f]);
        char *found = strstr(text, f < 3 ? "6 of 9" : said);
        if (!found)
            fail_msg("%s: %s", formats[f], text);
        free(text);
        text = report_of(rows_path, formats[f]);
        assert_null(strstr(text, "calibration rows"));
        free(text);
    }
    json_t *root = json_of(path, "json");
    assert_int_equal(number_at(root, "provenance/n_held_out"), 6);
    assert_int_equal(number_at(root, "provenance/n_calibration"), 5);
    assert_non_null(strstr(json_string_value(at(root, "warnings/0")), said));
    json_decref(root);
    root = json_of(rows_path, "json");
    assert_null(json_object_get(root, "warnings"));
    json_decref(root);
    char write[300];
    const char *wishes[] = {write};
    snprintf(write, sizeof write, "prometheus=%s", scratch("seen.prom"));
    la_report_options options = {
        .predictions = path, .write = wishes, .n_write = 1, .log = {.warn = warn, .user = warning}};
    if (run(options, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_non_null(strstr(warning, said));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monitoring), cmocka_unit_test(tracking),
        cmocka_unit_test(table),      cmocka_unit_test(tasks),
        cmocka_unit_test(refusals),   cmocka_unit_test(tasks_of_other_rows),
        cmocka_unit_test(together),   cmocka_unit_test(summaries),
        cmocka_unit_test(bias),
    };
    return cmocka_run_group_tests(tests, write_rows, NULL);
}
