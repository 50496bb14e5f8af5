/* Slices of a report: values, metrics, and tests that do not cry wolf. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/statistics.h"
#include "output/slice_tests.h"
#include "pipeline/report_job.h"

static void exact_errors(void **state) {
    (void)state;
    /* 3 errors among 12 rows, all in a slice of 4: C(4,3) of C(12,3) ways; and none in it:
     * C(8,3) / C(12,3) */
    la_row_outcome rows[12];
    int32_t slice[12];
    double p[2 * LA_SLICE_FLAGS];
    la_error err = {0};
    for (int i = 0; i < 12; i++) {
        rows[i] = (la_row_outcome){.loss = i < 3, .confidence = 0.75, .missed = i < 3};
        slice[i] = i < 4 ? 0 : 1;
    }
    assert_int_equal(la_slice_tests(12, rows, slice, 2, p, &err), LA_OK);
    assert_true(fabs(p[LA_SLICE_MORE_ERRORS] - 4.0 / 220) < 1e-15);
    /* of 4 at 0.75, one is right: by confidence 4 / 4^3 * 3 / 4 + 1 / 4^4 = 13 / 256 */
    assert_true(fabs(p[LA_SLICE_OVER_CONFIDENT] - 13.0 / 256) < 1e-15);
    assert_true(p[LA_SLICE_UNDER_CONFIDENT] > 0.99);
    /* of 8 all are right: by confidence 0.75^8 */
    assert_true(fabs(p[LA_SLICE_FLAGS + LA_SLICE_UNDER_CONFIDENT] - pow(0.75, 8)) < 1e-15);
    assert_true(fabs(p[LA_SLICE_FLAGS + LA_SLICE_MORE_ERRORS] - 1) < 1e-14);
    /* all rows are in the slice: there is no rest */
    memset(slice, 0, sizeof slice);
    assert_int_equal(la_slice_tests(12, rows, slice, 1, p, &err), LA_OK);
    for (int f = 0; f < LA_SLICE_FLAGS; f++)
        assert_true(p[f] == 1);
}

enum { STRATA_ROWS = 300 };

/* Against draws: misses are shuffled among rows of the same confidence. */
static void strata(void **state) {
    (void)state;
    la_row_outcome rows[STRATA_ROWS];
    int32_t slice[STRATA_ROWS];
    double p[LA_SLICE_FLAGS];
    la_error err = {0};
    int found = 0, above = 0, draws = 20000;
    for (int i = 0; i < STRATA_ROWS; i++) {
        double confidence = 0.5 + 0.1 * (i % 4);
        bool in = la_random_uniform(5, 0, (uint64_t)i) < 0.1 + 0.2 * (i % 4);
        bool missed = la_random_uniform(5, 1, (uint64_t)i) < 1 - confidence + (in ? 0.15 : 0);
        rows[i] = (la_row_outcome){missed, confidence, missed};
        slice[i] = in ? 0 : -1;
        found += in && missed;
    }
    assert_int_equal(la_slice_tests(STRATA_ROWS, rows, slice, 1, p, &err), LA_OK);
    for (int d = 0; d < draws; d++) {
        int misses = 0;
        for (int s = 0; s < 4; s++) {
            bool left[STRATA_ROWS / 4];
            for (int k = 0; k < STRATA_ROWS / 4; k++)
                left[k] = rows[4 * k + s].missed;
            for (int k = STRATA_ROWS / 4 - 1; k >= 0; k--) { /* Fisher-Yates */
                uint64_t j =
                    la_random_below(9, (uint64_t)d, (uint64_t)(s * 100 + k), (uint64_t)k + 1);
                misses += left[j] && slice[4 * k + s] == 0;
                left[j] = left[k];
            }
        }
        above += misses >= found;
    }
    double expected = (double)above / draws;
    assert_true(expected > 0.001 && expected < 0.5);
    assert_true(fabs(p[LA_SLICE_OVER_CONFIDENT] - expected) <
                4 * sqrt(expected * (1 - expected) / draws));
}

static void holm(void **state) {
    (void)state;
    /* statsmodels.stats.multitest.multipletests(.., method="holm") */
    double p[] = {0.01, 0.04, 0.03, 0.005, 0.9};
    static const double expected[] = {0.04, 0.09, 0.09, 0.025, 0.9};
    la_error err = {0};
    assert_int_equal(la_holm(p, 5, &err), LA_OK);
    for (int i = 0; i < 5; i++)
        assert_true(fabs(p[i] - expected[i]) < 1e-15);
}

/* ---- what is flagged in the long run ---- */

enum { ROWS = 600, SLICES = 12, DRAWS = 400 };

/* Shares of draws in which any slice, or slice 1, has the flag (LA_SLICE_FLAGS: any). Slices are of
 * very different sizes. off: by how much confidence is too high everywhere; off_one: in slice 1
 * besides; alike: no slice is easier than another, whatever it says. */
static void simulate(uint64_t seed, double off, double off_one, bool alike, double any[],
                     double one[]) {
    static la_row_outcome rows[ROWS];
    static int32_t slice[ROWS];
    for (int f = 0; f <= LA_SLICE_FLAGS; f++)
        any[f] = one[f] = 0;
    for (uint64_t d = 0; d < DRAWS; d++) {
        double p[SLICES * LA_SLICE_FLAGS];
        bool flagged[LA_SLICE_FLAGS + 1] = {false}, first[LA_SLICE_FLAGS + 1] = {false};
        la_error err = {0};
        for (uint64_t i = 0; i < ROWS; i++) {
            double u = la_random_uniform(seed + d, 0, i), v = la_random_uniform(seed + d, 1, i);
            int s = (int)(SLICES * u * u);
            double level = alike ? 0 : 0.4 * (s % 3) / 2;
            double confidence = 0.55 + level + v * (0.44 - level);
            double right = confidence - off - (s == 1 ? off_one : 0);
            bool missed = la_random_uniform(seed + d, 2, i) >= right;
            rows[i] = (la_row_outcome){missed, confidence, missed};
            slice[i] = s;
        }
        assert_int_equal(la_slice_tests(ROWS, rows, slice, SLICES, p, &err), LA_OK);
        assert_int_equal(la_holm(p, SLICES * LA_SLICE_FLAGS, &err), LA_OK);
        for (int s = 0; s < SLICES; s++)
            for (int f = 0; f < LA_SLICE_FLAGS; f++) {
                bool flag = p[s * LA_SLICE_FLAGS + f] <= LA_SLICE_LEVEL;
                flagged[f] |= flag;
                flagged[LA_SLICE_FLAGS] |= flag;
                first[f] |= flag && s == 1;
            }
        for (int f = 0; f <= LA_SLICE_FLAGS; f++) {
            any[f] += flagged[f] / (double)DRAWS;
            one[f] += first[f] / (double)DRAWS;
        }
    }
}

static void false_alarms(void **state) {
    double any[LA_SLICE_FLAGS + 1], one[LA_SLICE_FLAGS + 1];
    const double most = LA_SLICE_LEVEL + 2 * sqrt(LA_SLICE_LEVEL * (1 - LA_SLICE_LEVEL) / DRAWS);
    (void)state;
    /* nothing differs: no flag of any kind in 95 of 100 */
    simulate(1000, 0, 0, true, any, one);
    printf("    alike: %.4f of draws with any flag, at most %.4f\n", any[LA_SLICE_FLAGS], most);
    assert_true(any[LA_SLICE_FLAGS] <= most);
    /* confidence is too high everywhere: no slice is worse than the rest */
    simulate(2000, 0.15, 0, true, any, one);
    printf("    alike and over-confident: %.4f\n", any[LA_SLICE_FLAGS]);
    assert_true(any[LA_SLICE_FLAGS] <= most);
    /* slices are of different difficulty, and their confidence says so: more errors are real, too
     * much confidence is not */
    simulate(3000, 0, 0, false, any, one);
    printf("    difficulty that confidence shows: over %.4f, under %.4f, more errors %.4f\n",
           any[LA_SLICE_OVER_CONFIDENT], any[LA_SLICE_UNDER_CONFIDENT], any[LA_SLICE_MORE_ERRORS]);
    assert_true(any[LA_SLICE_OVER_CONFIDENT] + any[LA_SLICE_UNDER_CONFIDENT] <= most);
    assert_true(any[LA_SLICE_MORE_ERRORS] > 0.3);
}

static void power(void **state) {
    double any[LA_SLICE_FLAGS + 1], one[LA_SLICE_FLAGS + 1];
    (void)state;
    simulate(4000, 0, 0.4, true, any, one);
    printf("    40 points worse in 70 rows of 600: errors %.4f, over %.4f of draws\n",
           one[LA_SLICE_MORE_ERRORS], one[LA_SLICE_OVER_CONFIDENT]);
    assert_true(one[LA_SLICE_MORE_ERRORS] > 0.9 && one[LA_SLICE_OVER_CONFIDENT] > 0.9);
    simulate(5000, 0, -0.3, true, any, one);
    printf("    23 points better: under %.4f of draws\n", one[LA_SLICE_UNDER_CONFIDENT]);
    assert_true(one[LA_SLICE_UNDER_CONFIDENT] > 0.9);
    /* confidence that is right is neither too low where the rest's is too high, nor too high where
     * the rest's is too low */
    simulate(6000, 0.3, -0.3, true, any, one);
    double under = one[LA_SLICE_UNDER_CONFIDENT];
    simulate(7000, -0.3, 0.3, true, any, one);
    printf("    confidence right here alone: under %.4f, over %.4f of draws\n", under,
           one[LA_SLICE_OVER_CONFIDENT]);
    assert_true(under <= LA_SLICE_LEVEL && one[LA_SLICE_OVER_CONFIDENT] <= LA_SLICE_LEVEL);
}

/* ---- in a report ---- */

static la_status report_by(const char *rows, const char *const *by, int n_by, const char *format,
                           char **out, la_error *err) {
    const char *from = scratch("rows.jsonl"), *to = scratch("out"), *wishes[1];
    char write[300];
    size_t length;
    int failed;
    if (rows)
        write_file(from, rows, strlen(rows));
    snprintf(write, sizeof write, "%s=%s", format, to);
    wishes[0] = write;
    la_report_options options = {
        .predictions = from, .write = wishes, .n_write = 1, .by = by, .n_by = n_by};
    *err = (la_error){0};
    *out = NULL;
    remove(to);
    la_status status = la_report_run(&options, &failed, err);
    if (status == LA_OK)
        *out = read_file(to, &length);
    return status;
}

static json_t *json_by(const char *rows, const char *const *by, int n_by) {
    la_error err;
    char *text;
    if (report_by(rows, by, n_by, "json", &text, &err) != LA_OK)
        fail_msg("%s", err.message);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

#define ROW(label, fields) "{\"label\":" #label ",\"probs\":[0.75,0.25]," fields "}\n"

static void values(void **state) {
    static const char *const by[] = {"k", "label"};
    static const char rows[] =
        ROW(0, "\"fields\":{\"k\":\"3\"},\"k\":\"no\"") ROW(1, "\"fields\":{\"k\":3}")
            ROW(0, "\"fields\":{\"k\":0.1}") ROW(0, "\"fields\":{\"k\":null}")
                ROW(0, "\"fields\":{\"other\":1}") ROW(1, "\"fields\":{\"k\":\"(none)\"}")
                    ROW(0, "\"k\":true") ROW(0, "\"fields\":{\"k\":[1,{\"a\":2}]}")
                        ROW(0, "\"k\":\"3\"") ROW(null, "\"k\":\"unlabelled\"");
    static const struct {
        const char *field, *value;
        int n;
    } expected[] = {{"k", "3", 3},     {"k", "((none))", 2},      {"k", "(none)", 1},
                    {"k", "0.1", 1},   {"k", "[1,{\"a\":2}]", 1}, {"k", "true", 1},
                    {"label", "0", 7}, {"label", "1", 2}};
    json_t *root = json_by(rows, by, 2), *slice;
    size_t i;
    (void)state;
    assert_int_equal(json_array_size(at(root, "slices")), sizeof expected / sizeof *expected);
    json_array_foreach(at(root, "slices"), i, slice) {
        assert_string_equal(json_string_value(at(slice, "field")), expected[i].field);
        assert_string_equal(json_string_value(at(slice, "value")), expected[i].value);
        assert_int_equal(number_at(slice, "n"), expected[i].n);
        assert_int_equal(json_array_size(at(slice, "flags")), 0);
        assert_int_equal(json_object_size(at(slice, "metrics")),
                         json_object_size(at(root, "metrics")));
        assert_int_equal(json_object_size(at(slice, "ci")), json_object_size(at(root, "ci")));
    }
    assert_true(fabs(number_at(root, "slices/0/metrics/accuracy") - 2.0 / 3) < 1e-15);
    assert_true(number_at(root, "slices/0/ci/accuracy/0") <= 2.0 / 3);
    assert_true(number_at(root, "slices/7/metrics/accuracy") == 0);
    assert_int_equal(json_array_size(at(root, "slices_left_out")), 0);
    json_decref(root);
}

/* The metrics of a slice are those of its rows alone. */
static void same_as_alone(void **state) {
    static const char *const by[] = {"k"};
    char *all = NULL, *alone = NULL;
    size_t length;
    (void)state;
    FILE *a = open_memstream(&all, &length), *b = open_memstream(&alone, &length);
    for (uint64_t i = 0; i < 200; i++) {
        double p = 0.5 + 0.5 * la_random_uniform(3, 0, i);
        int label = la_random_uniform(3, 1, i) > p;
        for (int k = 0; k < 1 + (i % 3 == 0); k++)
            fprintf(k ? b : a, "{\"label\":%d,\"probs\":[%.6f,%.6f],\"k\":%d}\n", label, p, 1 - p,
                    i % 3 == 0);
    }
    fclose(a);
    fclose(b);
    json_t *whole = json_by(all, by, 1), *part = json_by(alone, NULL, 0);
    assert_int_equal(number_at(whole, "slices/1/n"), 67);
    assert_string_equal(json_string_value(at(whole, "slices/1/value")), "1");
    assert_true(json_equal(at(whole, "slices/1/metrics"), at(part, "metrics")));
    assert_true(json_equal(at(whole, "slices/1/ci"), at(part, "ci")));
    assert_null(json_object_get(part, "slices"));
    json_decref(whole);
    json_decref(part);
    free(all);
    free(alone);
}

static void many_values(void **state) {
    static const char *const by[] = {"k"};
    static const char *const formats[] = {"text", "markdown", "html"};
    char *rows = NULL, *text;
    size_t length;
    la_error err;
    (void)state;
    FILE *file = open_memstream(&rows, &length);
    for (int i = 0; i < 130; i++)
        for (int twice = 0; twice < 1 + (i >= 100); twice++)
            fprintf(file, "{\"label\":0,\"probs\":[0.75,0.25],\"k\":\"v|%d\"}\n", i);
    fclose(file);
    json_t *root = json_by(rows, by, 1);
    assert_int_equal(json_array_size(at(root, "slices")), LA_SLICES_MOST);
    assert_int_equal(number_at(root, "slices/29/n"), 2);
    assert_int_equal(number_at(root, "slices/30/n"), 1);
    assert_int_equal(number_at(root, "slices_left_out/0/values"), 30);
    assert_int_equal(number_at(root, "slices_left_out/0/n"), 30);
    json_decref(root);
    for (int f = 0; f < 3; f++) {
        assert_int_equal(report_by(rows, by, 1, formats[f], &text, &err), LA_OK);
        assert_non_null(strstr(text, "30 more values, 30 rows"));
        assert_non_null(strstr(text, f == 1 ? "| `v\\|129` | 2 | 1.0000 |" : "v|129"));
        free(text);
    }
    free(rows);
}

/* A slice that is worse is named in every form, and its value is made safe there. */
static void flags(void **state) {
    static const char *const by[] = {"k"};
    static const struct {
        const char *format, *piece;
    } pieces[] = {
        {"text", "  FLAG  more_errors (p < 0.001), over_confident (p < 0.001)\n"},
        {"markdown", "**more_errors (p < 0.001), over_confident (p < 0.001)**"},
        {"html", "more_errors (p &lt; 0.001), over_confident"},
        {"json", "\"more_errors\",\n"},
        {"prometheus", "{model=\"posterior\",field=\"k\",value=\"a\\\"\\\\\\nb<\"} 0\n"},
        {"gitlab", "laplora_slice_rows{field=\"k\",value=\"(none)\"} 150\n"},
        /* none of 50 is right: up to 1 - 0.025^(1/50) */
        {"csv", "accuracy,posterior,0,0,0.07112"},
        {"csv", ",50,k,\"a\"\"\\\nb<\"\n"},
    };
    char *rows = NULL, *text;
    size_t length;
    la_error err;
    (void)state;
    FILE *file = open_memstream(&rows, &length);
    for (int i = 0; i < 200; i++)
        fprintf(file, "{\"label\":%d,\"probs\":[0.75,0.25]%s}\n", i < 50 || i % 5 == 0,
                i < 50 ? ",\"k\":\"a\\\"\\\\\\nb<\"" : "");
    fclose(file);
    for (size_t f = 0; f < sizeof pieces / sizeof *pieces; f++) {
        assert_int_equal(report_by(rows, by, 1, pieces[f].format, &text, &err), LA_OK);
        if (!strstr(text, pieces[f].piece))
            fail_msg("%s: no %s in %s", pieces[f].format, pieces[f].piece, text);
        free(text);
    }
    free(rows);
}

/* Regressions are judged by their 90 % intervals, sets by whether all of them is right. */
static void other_kinds(void **state) {
    static const char *const by[] = {"k"};
    static const char *const kinds[][2] = {
        {"{\"label\":9,\"prediction\":0,\"variance\":1,\"k\":\"%s\"}\n",
         "{\"label\":0.5,\"prediction\":0,\"variance\":1,\"k\":\"%s\"}\n"},
        {"{\"label\":[0],\"prediction\":[1],\"probs\":[0.1,0.9],\"k\":\"%s\"}\n",
         "{\"label\":[1],\"prediction\":[1],\"probs\":[0.1,0.9],\"k\":\"%s\"}\n"}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        char *rows = NULL;
        size_t length;
        FILE *file = open_memstream(&rows, &length);
        for (int i = 0; i < 200; i++) {
            char row[128];
            snprintf(row, sizeof row, kinds[k][i >= 30], i < 30 ? "bad" : "good");
            fputs(row, file);
        }
        fclose(file);
        json_t *root = json_by(rows, by, 1);
        assert_string_equal(json_string_value(at(root, "slices/1/value")), "bad");
        assert_string_equal(json_string_value(at(root, "slices/1/flags/0")), "more_errors");
        assert_string_equal(json_string_value(at(root, "slices/1/flags/1")), "over_confident");
        assert_int_equal(number_at(root, "slices/1/n"), 30);
        json_decref(root);
        free(rows);
    }
}

static void refusals(void **state) {
    static const char *const none[] = {"region"}, *const twice[] = {"k", "k"};
    char *text;
    la_error err;
    (void)state;
    assert_int_equal(report_by(ROW(0, "\"k\":1"), none, 1, "json", &text, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "\"region\" of --by"));
    assert_int_equal(report_by(ROW(0, "\"k\":1"), twice, 2, "json", &text, &err), LA_USAGE);
    assert_non_null(strstr(err.message, "--by k: is given twice"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_errors),  cmocka_unit_test(strata),      cmocka_unit_test(holm),
        cmocka_unit_test(false_alarms),  cmocka_unit_test(power),       cmocka_unit_test(values),
        cmocka_unit_test(same_as_alone), cmocka_unit_test(many_values), cmocka_unit_test(flags),
        cmocka_unit_test(other_kinds),   cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
