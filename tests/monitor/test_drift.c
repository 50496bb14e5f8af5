/* laplora drift: false alarms, the interval of the estimated accuracy and the advice on simulated
 * rows; the command's output, its stream, and bad input. */
#include "base/random.h"
#include "monitor/drift.h"
#include "monitor/drift_sets.h"
#include "support/process.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLASSES = 4, LINE = 400, REFERENCE = 1500, CURRENT = 700 };

static uint64_t drawn;
static size_t n_read; /* bytes of a file */

static double uniform(void) {
    return la_random_uniform(41, 0, drawn++);
}

/* Confidence 1 - 0.75 u^sharp, stated as 1 - (1 - confidence)^overstated; right that often, less
 * gap; where shuffled, as often whatever the confidence. Class 0 with a probability of share. */
typedef struct world {
    double sharp, overstated, gap, share;
    bool shuffled, labelled;
    double far; /* ood is u^(1 / far) */
} world;

static la_drift_row draw(const world *w) {
    double u = uniform(), truth = 1 - 0.75 * pow(u, w->sharp);
    double confidence = 1 - pow(1 - truth, w->overstated);
    la_drift_row row = {.label = -1, .labelled = w->labelled};
    row.scores[LA_DRIFT_CONFIDENCE] = confidence;
    row.scores[LA_DRIFT_ENTROPY] = 1 - confidence + 0.01 * uniform();
    row.scores[LA_DRIFT_MUTUAL_INFORMATION] = NAN;
    row.scores[LA_DRIFT_OOD] = pow(uniform(), 1 / w->far);
    row.class = uniform() < w->share ? 0 : 1 + (int)(3 * uniform());
    row.right = uniform() < (w->shuffled ? 1 - 0.75 / (1 + w->sharp) : truth) - w->gap;
    row.right &= w->labelled;
    if (w->labelled)
        row.label = row.right ? row.class : (row.class + 1) % CLASSES;
    return row;
}

static la_drift_rows draw_rows(const world *w, int64_t n) {
    la_drift_rows rows = {
        .list = calloc((size_t)n, sizeof *rows.list), .n = n, .n_classes = CLASSES};
    assert_non_null(rows.list);
    for (int64_t i = 0; i < n; i++)
        rows.list[i] = draw(w);
    return rows;
}

static la_drift compare(const world *from, int64_t n, const world *to, int64_t m, double alpha) {
    la_drift_rows a = draw_rows(from, n), b = draw_rows(to, m);
    return drift_of_sets(&a, &b, alpha);
}

static const world usual = {3, 1, 0, 0.4, false, true, 1};
static const world unlabelled = {3, 1, 0, 0.4, false, false, 1};
static const world off = {3, 1.4, 0, 0.4, false, true, 1};

static void false_alarms(void **state) {
    enum { PAIRS = 400 };
    static const int64_t sizes[][2] = {{40, 25}, {600, 300}};
    const double alpha = 0.1;
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        const world *w = kind % 3 == 2 ? &off : &usual, *to = kind % 3 == 1 ? &unlabelled : w;
        int alarms = 0;
        drawn = (uint64_t)kind << 32;
        for (int i = 0; i < PAIRS; i++)
            alarms += compare(w, sizes[kind / 3][0], to, sizes[kind / 3][1], alpha).alarm;
        check_within("share of pairs that alarm", (double)alarms / PAIRS,
                     alpha + 2 * sqrt(alpha * (1 - alpha) / PAIRS));
        assert_true(alarms > 0);
    }
}

/* The interval holds the accuracy that labels show: with confidences that are right, with ones that
 * are off as the reference's are, under a shift that leaves them as they are. */
static void interval(void **state) {
    enum { PAIRS = 500 };
    static const world harder = {2, 1, 0, 0.4, false, true, 1},
                       harder_off = {2, 1.4, 0, 0.4, false, true, 1};
    static const struct {
        const world *from, *to;
    } cases[] = {{&usual, &usual},
                 {&off, &off},
                 {&usual, &harder},
                 {&off, &harder_off},
                 {&unlabelled, &usual}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int held = 0;
        drawn = (uint64_t)(100 + c) << 32;
        for (int i = 0; i < PAIRS; i++) {
            la_drift d = compare(cases[c].from, 600, cases[c].to, 300, 0.01);
            held += d.measured >= d.interval[0] && d.measured <= d.interval[1];
            assert_true(d.interval[0] <= d.estimated && d.estimated <= d.interval[1]);
        }
        check_within("share of intervals that miss", 1 - (double)held / PAIRS,
                     0.05 + 2 * sqrt(0.05 * 0.95 / PAIRS));
    }
}

static void advice(void **state) {
    static const world sharpened = {3, 2, 0, 0.4, false, true, 1},
                       shuffled = {3, 1, 0, 0.4, true, true, 1},
                       worse = {3, 1, 0.15, 0.4, false, true, 1},
                       far = {3, 1, 0, 0.4, false, false, 4},
                       blind = {3, 2, 0, 0.4, false, false, 1},
                       doubtful = {1.5, 1, 0, 0.4, false, false, 1},
                       shares = {3, 1, 0, 0.7, false, true, 1};
    static const struct {
        const world *to;
        la_drift_kind alarm;
        la_drift_advice advice;
    } cases[] = {{&sharpened, LA_DRIFT_CALIBRATION, LA_ADVICE_RECALIBRATE},
                 {&shuffled, LA_DRIFT_CALIBRATION, LA_ADVICE_RETRAIN},
                 {&worse, LA_DRIFT_ERROR_RATE, LA_ADVICE_RETRAIN},
                 {&far, LA_DRIFT_OOD, LA_ADVICE_RETRAIN},
                 {&blind, LA_DRIFT_CONFIDENCE, LA_ADVICE_RECALIBRATE},
                 {&doubtful, LA_DRIFT_ENTROPY, LA_ADVICE_RETRAIN},
                 {&shares, LA_DRIFT_PREDICTED_CLASS, LA_ADVICE_NONE}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        drawn = (uint64_t)(200 + c) << 32;
        la_drift d = compare(&usual, 4000, cases[c].to, 4000, 0.01);
        if (!d.tests[cases[c].alarm].alarm || d.advice != cases[c].advice)
            fail_msg("case %d: p %g, advice %d: %s", (int)c, d.tests[cases[c].alarm].adjusted,
                     d.advice, d.reason);
        assert_int_equal(d.advice, cases[c].advice);
    }
    la_drift same = compare(&usual, 1000, &usual, 1000, 1e-6);
    assert_false(same.alarm);
    assert_int_equal(same.advice, LA_ADVICE_NONE);
}

/* ---- the command ---- */

static void append(char *text, const world *w, int i, const char *extra) {
    la_drift_row row = draw(w);
    double c = row.scores[LA_DRIFT_CONFIDENCE], rest = (1 - c) / 3, p[CLASSES];
    char label[24] = "";
    for (int k = 0; k < CLASSES; k++)
        p[k] = k == row.class ? c : rest;
    if (row.labelled)
        snprintf(label, sizeof label, "\"label\":%d,", row.label);
    snprintf(text + strlen(text), LINE,
             "{\"index\":%d,%s\"prediction\":%d,\"confidence\":%.9f,\"probs\":[%.9f,%.9f,%.9f,%.9f]"
             ",\"entropy\":%.9f,\"mutual_information\":null,\"ood\":%.6f%s}\n",
             i, label, row.class, c, p[0], p[1], p[2], p[3], row.scores[LA_DRIFT_ENTROPY],
             row.scores[LA_DRIFT_OOD], extra);
}

static char *rows_text(const world *w, int n, const char *extra) {
    char *text = calloc((size_t)n + 1, LINE);
    size_t used = 0;
    assert_non_null(text);
    for (int i = 0; i < n; i++) {
        append(text + used, w, i, extra);
        used += strlen(text + used);
    }
    return text;
}

static char reference_path[300], same_path[300], shifted_path[300];
static const world shifted = {1.5, 1, 0, 0.4, false, false, 1};

static void make_file(char *path, const char *name, const world *w, int n) {
    char *text = rows_text(w, n, "");
    snprintf(path, 300, "%s", scratch(name));
    write_file(path, text, strlen(text));
    free(text);
}

static int make_files(void **state) {
    (void)state;
    drawn = (uint64_t)300 << 32;
    make_file(reference_path, "reference.jsonl", &usual, REFERENCE);
    make_file(same_path, "same.jsonl", &usual, CURRENT);
    make_file(shifted_path, "shifted.jsonl", &shifted, CURRENT);
    return 0;
}

/* laplora drift --reference REFERENCE --current CURRENT OPTIONS; the options are split at blanks.
 */
static command run_drift(const char *reference, const char *current, const char *options,
                         const char *input) {
    char copy[200], *rest = copy;
    const char *argv[24] = {program(), "drift", "--reference", reference, "--current", current};
    int n = 6;
    snprintf(copy, sizeof copy, "%s", options);
    for (char *word; (word = strsep(&rest, " "));)
        if (*word)
            argv[n++] = word;
    argv[n] = NULL;
    return run_command(argv, input);
}

static json_t *drift_json(const char *current, const char *options, const char *input, int code) {
    command done = run_drift(reference_path, current, options, input);
    if (done.code != code)
        fail_msg("exit %d: %s", done.code, done.err);
    json_t *root = json_loads(done.out, 0, NULL);
    assert_non_null(root);
    command_free(&done);
    return root;
}

static const json_t *test_named(const json_t *root, const char *name) {
    const json_t *list = json_object_get(root, "tests"), *entry;
    size_t i;
    json_array_foreach(
        list, i,
        entry) if (!strcmp(json_string_value(json_object_get(entry, "name")), name)) return entry;
    return NULL;
}

static void file_of_the_contract(void **state) {
    static const char *const names[] = {"confidence", "entropy",     "ood",  "predicted_class",
                                        "error_rate", "calibration", "label"};
    (void)state;
    json_t *root = drift_json(same_path, "--json", NULL, 0);
    assert_string_equal(json_string_value(at(root, "schema")), "laplora.drift/1");
    assert_int_equal(number_at(root, "n_reference"), REFERENCE);
    assert_int_equal(number_at(root, "n_current"), CURRENT);
    assert_true(number_at(root, "alpha") == 0.01);
    assert_true(json_is_false(at(root, "alarm")));
    assert_int_equal(json_array_size(at(root, "tests")), 7);
    for (size_t i = 0; i < 7; i++) {
        const json_t *test = test_named(root, names[i]);
        assert_non_null(test);
        assert_true(number_at(test, "p_value") <= number_at(test, "adjusted"));
        assert_true(number_at(test, "adjusted") <= 1);
        assert_true(json_is_number(at(test, "statistic")));
        assert_true(json_is_false(at(test, "alarm")));
    }
    double low = number_at(root, "accuracy/estimated_ci/0");
    double high = number_at(root, "accuracy/estimated_ci/1");
    assert_true(low < number_at(root, "accuracy/measured"));
    assert_true(high > number_at(root, "accuracy/measured"));
    assert_true(json_is_number(at(root, "accuracy/reference")));
    assert_string_equal(json_string_value(at(root, "advice")), "none");
    json_decref(root);

    root = drift_json(shifted_path, "--format json --alpha 0.001", NULL, 1);
    assert_true(json_is_true(at(root, "alarm")));
    assert_true(json_is_true(at(test_named(root, "confidence"), "alarm")));
    assert_int_equal(json_array_size(at(root, "tests")), 4); /* those of labels are left out */
    assert_true(json_is_null(at(root, "accuracy/measured")));
    assert_string_equal(json_string_value(at(root, "advice")), "retrain");
    json_decref(root);
}

static void forms(void **state) {
    char *text = read_file(shifted_path, &n_read);
    (void)state;
    command done = run_drift(reference_path, "-", "", text);
    assert_int_equal(done.code, 1);
    assert_non_null(strstr(done.out, "drift: alarm: 1500 reference rows, 700 current ones"));
    command_free(&done);
    done = run_drift("-", same_path, "--format markdown", text);
    assert_int_equal(done.code, 1);
    assert_non_null(strstr(done.out, "| confidence | "));
    assert_string_equal(done.err, "");
    command_free(&done);
    char *held_out = rows_text(&usual, 30, ",\"held_out\":true,\"calibration\":true");
    done = run_drift("-", same_path, "", held_out);
    assert_non_null(strstr(done.err, "30 of 30 rows chose the guard's settings, 30 of 30 rows are "
                                     "calibration rows"));
    command_free(&done);
    free(held_out);
    char options[320];
    snprintf(options, sizeof options, "--json --out %s", scratch("drift.json"));
    done = run_drift(reference_path, same_path, options, NULL);
    assert_int_equal(done.code, 0);
    assert_string_equal(done.out, "");
    json_decref(load_json(scratch("drift.json")));
    command_free(&done);
    free(text);
    /* one row, and rows with an error, are fine */
    json_t *root = drift_json("-", "--json",
                              "{\"index\":0,\"error\":\"no tokens\"}\n"
                              "{\"prediction\":1,\"confidence\":0.7,\"probs\":[0.1,0.7,0.1,0.1]}\n",
                              0);
    assert_int_equal(number_at(root, "n_current"), 1);
    assert_int_equal(json_array_size(at(root, "tests")), 2);
    json_decref(root);
    root = drift_json("-", "--json", "{\"probs\":[0.1,0.7,0.1,0.1],\"label\":1}\n", 0);
    assert_true(number_at(root, "accuracy/measured") == 1);
    json_decref(root);
}

/* A row without a confidence leaves its tests to the others, and is counted. */
static void rows_without_a_confidence(void **state) {
    static const char *const bare =
        "{\"prediction\":1,\"confidence\":null,\"probs\":[0.1,0.7,0.1,0.1],\"label\":1}\n";
    char *text = read_file(shifted_path, &n_read);
    char *more = calloc(strlen(text) + 2 * strlen(bare) + 1, 1);
    (void)state;
    assert_non_null(more);
    sprintf(more, "%s%s%s", bare, text, bare);
    json_t *root = drift_json("-", "--json", more, 1);
    const json_t *test = test_named(root, "confidence");
    assert_true(json_is_true(at(test, "alarm")));
    assert_int_equal(number_at(test, "n_reference"), REFERENCE);
    assert_int_equal(number_at(test, "n_current"), CURRENT);
    assert_int_equal(number_at(test_named(root, "predicted_class"), "n_current"), CURRENT + 2);
    assert_int_equal(number_at(test_named(root, "error_rate"), "n_current"), 2);
    assert_null(test_named(root, "calibration")); /* no labelled row has a confidence */
    assert_true(number_at(root, "accuracy/estimated") > 0.5);
    json_t *whole = drift_json(shifted_path, "--json", NULL, 1);
    assert_true(number_at(root, "accuracy/estimated") == number_at(whole, "accuracy/estimated"));
    assert_true(number_at(test, "p_value") ==
                number_at(test_named(whole, "confidence"), "p_value"));
    json_decref(whole);
    json_decref(root);
    for (int way = 0; way < 2; way++) {
        command done = run_drift(reference_path, "-", way ? "--follow" : "", more);
        assert_int_equal(done.code, 1);
        assert_non_null(strstr(done.err, "standard input: 2 of 702 rows have no \"confidence\""));
        assert_non_null(strstr(done.out, way ? "\"confidence\"" : "700 current ones that have it"));
        command_free(&done);
    }
    /* of the reference */
    command done = run_drift("-", same_path, "--json", more);
    assert_int_equal(done.code, 1);
    root = json_loads(done.out, 0, NULL);
    test = test_named(root, "confidence");
    assert_int_equal(number_at(test, "n_reference"), CURRENT);
    assert_true(json_is_number(at(root, "accuracy/estimated")));
    json_decref(root);
    command_free(&done);
    free(more);
    free(text);
}

/* ---- the stream ---- */

static void expect_rows(const char *out, int64_t n_rows, int at_least) {
    char copy[20000], *rest = copy, *line;
    int n = 0;
    double last = 0;
    snprintf(copy, sizeof copy, "%s", out);
    while ((line = strsep(&rest, "\n")) && *line) {
        json_t *root = json_loads(line, 0, NULL);
        assert_non_null(root);
        assert_string_equal(json_string_value(at(root, "schema")), "laplora.drift-alarm/1");
        assert_true(number_at(root, "row") > last && number_at(root, "row") <= (double)n_rows);
        last = number_at(root, "row");
        assert_true(json_array_size(at(root, "tests")) > 0);
        assert_true(number_at(root, "e_value") >= 4 / 0.01);
        json_decref(root);
        n++;
    }
    assert_true(n >= at_least);
}

/* An alarm comes while the stream goes on, whatever pieces the rows come in. */
static void alarms_as_rows_come(void **state) {
    const char *argv[] = {"laplora",   "drift", "--reference", reference_path,
                          "--current", "-",     "--follow",    NULL};
    char *text = read_file(shifted_path, &n_read), out[4096] = "";
    size_t length = strlen(text), used = 0;
    (void)state;
    process p = process_start(argv);
    for (size_t i = 0; i < length; i += 777) {
        size_t n = length - i < 777 ? length - i : 777;
        assert_int_equal(write(p.in, text + i, n), n);
    }
    while (!strchr(out, '\n')) {
        ssize_t n = read(p.out, out + used, sizeof out - 1 - used);
        assert_true(n > 0);
        used += (size_t)n;
    }
    assert_non_null(strstr(out, "\"laplora.drift-alarm/1\""));
    close(p.in);
    p.in = -1;
    assert_int_equal(process_finish(&p, 20), 1);
    process_close(&p);
    /* the same rows as a file: the same alarms */
    command done = run_drift(reference_path, shifted_path, "--follow", NULL);
    assert_int_equal(done.code, 1);
    assert_memory_equal(done.out, out, used < strlen(done.out) ? used : strlen(done.out));
    expect_rows(done.out, CURRENT, 2);
    command_free(&done);
    free(text);
}

static void ends_of_streams(void **state) {
    char *text = read_file(shifted_path, &n_read), *same = read_file(same_path, &n_read);
    (void)state;
    command whole = run_drift(reference_path, "-", "--follow", text);
    text[strlen(text) - 1] = 0; /* the last row without its line's end is one */
    command ended = run_drift(reference_path, "-", "--follow", text);
    assert_int_equal(ended.code, 1);
    assert_string_equal(ended.out, whole.out);
    command_free(&ended);
    text[strlen(text) - 20] = 0; /* half a row is an error, behind all that was read before */
    ended = run_drift(reference_path, "-", "--follow", text);
    assert_int_equal(ended.code, 3);
    assert_non_null(strstr(ended.err, "standard input:700: "));
    expect_rows(ended.out, CURRENT, 2);
    assert_memory_equal(ended.out, whole.out, strlen(ended.out));
    command_free(&ended);
    command_free(&whole);
    ended = run_drift(reference_path, "-", "--follow", same);
    assert_int_equal(ended.code, 0);
    assert_string_equal(ended.out, "");
    command_free(&ended);
    free(text);
    free(same);
}

/* ---- bad input ---- */

static void expect(const char *current, const char *options, const char *input, int code,
                   const char *said) {
    command done = run_drift(reference_path, current, options, input);
    if (done.code != code || !strstr(done.err, said))
        fail_msg("exit %d, expected %d and \"%s\": %s", done.code, code, said, done.err);
    const char *end = strchr(done.err, '\n');
    assert_true(end && !end[1]);
    assert_string_equal(done.out, "");
    command_free(&done);
}

static void bad_input(void **state) {
    static const char *const ways[] = {"", "--follow"};
    (void)state;
    for (int way = 0; way < 2; way++) {
        const char *o = ways[way];
        expect("-", o, "", 3, "standard input");
        expect("/nowhere.jsonl", o, NULL, 3, "/nowhere.jsonl");
        expect("-", o, "{\"probs\":[0.2,0.8]}\n", 3, reference_path);
        expect("-", o, "{\"probs\":[0.2,0.8]}\n", 3, "standard input: rows of 2");
        expect("-", o, "{\"prediction\":[1],\"confidence\":0.9,\"probs\":[0.1,0.9,0.1,0.2]}\n", 3,
               "list");
        expect("-", o, "{\"probs\":[0.1,0.7,0.1,0.1],\"confidence\":7}\n", 3, "\"confidence\"");
        expect("-", o, "{\"probs\":[0.1,0.7,0.1,0.1],\"label\":9}\n", 3, "\"label\"");
        expect("-", o, "{\"index\":0,\"error\":\"no tokens\"}\n", 3, "no predictions");
        expect("-", o, "{\"text\":\"good\"}\n", 3, "probs");
    }
    expect("-", "", "{\"prediction\":1.5,\"variance\":1,\"noise_variance\":1}\n", 3,
           "standard input: a number");
    expect(same_path, "--alpha 1", NULL, 2, "--alpha");
    expect(same_path, "--alpha 0", NULL, 2, "--alpha");
    expect(same_path, "--json --format text", NULL, 2, "--format");
    expect(same_path, "--follow --format markdown", NULL, 2, "--follow");
    expect(same_path, "--follow --out /tmp/x", NULL, 2, "--out");
    expect(same_path, "more", NULL, 2, "more");
    command done = run_drift("-", "-", "", "");
    assert_int_equal(done.code, 2);
    command_free(&done);
    const char *argv[] = {NULL, "drift", "--current", same_path, NULL};
    done = run_command(argv, NULL);
    assert_int_equal(done.code, 2);
    assert_non_null(strstr(done.err, "--reference"));
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(false_alarms),
                                       cmocka_unit_test(interval),
                                       cmocka_unit_test(advice),
                                       cmocka_unit_test(file_of_the_contract),
                                       cmocka_unit_test(forms),
                                       cmocka_unit_test(alarms_as_rows_come),
                                       cmocka_unit_test(ends_of_streams),
                                       cmocka_unit_test(bad_input),
                                       cmocka_unit_test(rows_without_a_confidence)};
    return cmocka_run_group_tests(tests, make_files, NULL);
}
