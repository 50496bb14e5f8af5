/* laplora threshold from the command line: the file it writes, every way to give it rows, and bad
 * input. */
#include "base/random.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 900, CLASSES = 3, TEXT = 1 << 20 };

typedef struct made {
    double confidence, ood;
    int prediction, label;
} made;

static made row_of(uint64_t i) {
    double u = la_random_uniform(3, 1, i), p = 1 - 0.6 * u * u;
    made m = {.ood = la_random_uniform(3, 4, i), .prediction = (int)(i % CLASSES)};
    m.confidence = floor(p * 1e6) / 1e6;
    m.label = la_random_uniform(3, 2, i) < p ? m.prediction : (m.prediction + 1) % CLASSES;
    return m;
}

/* A row as predict writes it; extra: members behind it, with their comma. */
static void append(char *text, uint64_t i, bool labelled, const char *extra) {
    made m = row_of(i);
    double rest = (1 - m.confidence) / 2, probs[CLASSES] = {rest, rest, rest};
    char label[24] = "";
    probs[m.prediction] = m.confidence;
    if (labelled)
        snprintf(label, sizeof label, "\"label\":%d,", m.label);
    snprintf(text + strlen(text), 500,
             "{\"index\":%d,\"id\":\"r%d\",%s\"prediction\":%d,\"prediction_label\":\"c%d\","
             "\"confidence\":%.10g,\"probs\":[%.10g,%.10g,%.10g],\"confidence_kind\":\"map\"%s}\n",
             (int)i, (int)i, label, m.prediction, m.prediction, m.confidence, probs[0], probs[1],
             probs[2], extra);
}

static void write_rows(const char *path, uint64_t from, uint64_t to, int step, const char *extra) {
    char *text = calloc(TEXT, 1);
    assert_non_null(text);
    for (uint64_t i = from; i != to; i += (uint64_t)step)
        append(text, i, true, extra);
    write_file(path, text, strlen(text));
    free(text);
}

/* Paths of files that stay: scratch's buffers are few. */
static const char *kept(const char *name) {
    static char paths[8][300];
    static int used;
    char *path = paths[used++ % 8];
    snprintf(path, sizeof paths[0], "%s", scratch(name));
    return path;
}

/* laplora threshold FILE OPTIONS; the options are split at blanks. */
static command threshold(const char *file, const char *options, const char *input) {
    char copy[300], *rest = copy;
    const char *argv[24] = {NULL, "threshold", file};
    int n = 3;
    snprintf(copy, sizeof copy, "%s", options);
    for (char *word; (word = strsep(&rest, " "));)
        if (*word)
            argv[n++] = word;
    argv[n] = NULL;
    if (!argv[0])
        argv[0] = getenv("LAPLORA") ? getenv("LAPLORA") : "build/laplora";
    return run_command(argv, input);
}

static json_t *threshold_json(const char *file, const char *options) {
    command done = threshold(file, options, NULL);
    if (done.code)
        fail_msg("%s: exit %d: %s", options, done.code, done.err);
    json_t *root = json_loads(done.out, 0, NULL);
    assert_non_null(root);
    command_free(&done);
    return root;
}

static void file_of_the_contract(void **state) {
    static const char *const keys[] = {
        "schema",      "kind",    "score",      "threshold",       "accept",   "target_error",
        "delta",       "n",       "n_accepted", "errors_accepted", "coverage", "error_rate",
        "error_upper", "classes", "warnings",   "provenance"};
    const char *path = kept("p.jsonl"), *out = kept("t.json");
    char options[300];
    int64_t accepted = 0, errors = 0;
    (void)state;
    write_rows(path, 0, ROWS, 1, "");
    json_t *root = threshold_json(path, "--target-error 0.1 --json");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_non_null(json_object_get(root, keys[i]));
    double t = number_at(root, "threshold");
    for (uint64_t i = 0; i < ROWS; i++) {
        made m = row_of(i);
        accepted += m.confidence >= t;
        errors += m.confidence >= t && m.label != m.prediction;
    }
    assert_int_equal(number_at(root, "n"), ROWS);
    assert_int_equal(number_at(root, "n_accepted"), accepted);
    assert_int_equal(number_at(root, "errors_accepted"), errors);
    assert_true(accepted > ROWS / 3 && accepted < ROWS);
    assert_true(fabs(number_at(root, "error_rate") - (double)errors / (double)accepted) < 1e-9);
    assert_true(number_at(root, "error_upper") <= 0.1);
    assert_true(number_at(root, "error_upper") > number_at(root, "error_rate"));
    assert_int_equal(json_array_size(at(root, "classes")), 0);
    assert_string_equal(json_string_value(at(root, "accept")), ">=");
    /* --out writes the same, and text goes to stdout */
    snprintf(options, sizeof options, "--target-error 0.1 --out %s", out);
    command done = threshold(path, options, NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.out, "accept answers whose confidence is at least"));
    command_free(&done);
    json_t *file = load_json(out);
    assert_true(json_equal(file, root));
    json_decref(file);
    json_decref(root);
    /* a stricter target accepts less */
    root = threshold_json(path, "--target-error 0.05 --delta 0.1 --json");
    assert_true(number_at(root, "n_accepted") < (double)accepted);
    json_decref(root);
}

/* Numbers without what depends on the bytes. */
static json_t *numbers_of(const char *path, const char *options) {
    json_t *root = threshold_json(path, options);
    json_object_del(root, "provenance");
    return root;
}

/* Rows in another order, with fields that are parsed in full, as a table, on standard input, give
 * the same numbers. */
static void forms_of_rows(void **state) {
    const char *path = kept("p.jsonl"), *other = kept("q.jsonl"), *table = kept("q.csv");
    static const char options[] = "--target-error 0.1 --by-class --json";
    char *text = calloc(TEXT, 1), *lines;
    size_t length;
    (void)state;
    write_rows(path, 0, ROWS, 1, "");
    json_t *expected = numbers_of(path, options);
    assert_int_equal(json_array_size(at(expected, "classes")), CLASSES);
    write_rows(other, ROWS - 1, (uint64_t)-1, -1, "");
    json_t *found = numbers_of(other, options);
    assert_true(json_equal(found, expected));
    json_decref(found);
    write_rows(other, 0, ROWS, 1, ",\"fields\":{\"text\":\"a \\\"b\\\" \xc3\xa4\"}");
    found = numbers_of(other, options);
    assert_true(json_equal(found, expected));
    json_decref(found);
    strcpy(text, "index,id,label,prediction,prediction_label,confidence,prob_c0,prob_c1,prob_c2\n");
    for (uint64_t i = 0; i < ROWS; i++) {
        made m = row_of(i);
        snprintf(text + strlen(text), 200, "%d,r%d,%d,%d,c%d,%.10g,0.2,0.3,0.5\n", (int)i, (int)i,
                 m.label, m.prediction, m.prediction, m.confidence);
    }
    write_file(table, text, strlen(text));
    found = numbers_of(table, options);
    assert_true(json_equal(found, expected));
    json_decref(found);
    lines = read_file(path, &length);
    command done = threshold("-", options, lines);
    assert_int_equal(done.code, 0);
    found = json_loads(done.out, 0, NULL);
    json_object_del(found, "provenance");
    assert_true(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
    command_free(&done);
    free(lines);
    free(text);
}

static void classes_at_once(void **state) {
    const char *path = kept("p.jsonl");
    double accepted = 0, errors = 0;
    (void)state;
    write_rows(path, 0, ROWS, 1, "");
    json_t *root = threshold_json(path, "--target-error 0.1 --by-class --json");
    json_t *list = json_object_get(root, "classes"), *class;
    size_t c;
    assert_true(json_is_null(at(root, "threshold")));
    json_array_foreach(list, c, class) {
        char name[8];
        snprintf(name, sizeof name, "c%d", (int)c);
        assert_int_equal(number_at(class, "class"), c);
        assert_string_equal(json_string_value(at(class, "label")), name);
        assert_int_equal(number_at(class, "n"), ROWS / CLASSES);
        /* three independent promises that hold together: (1 - d)^3 = 1 - D */
        assert_true(fabs(pow(1 - number_at(class, "delta"), CLASSES) - 0.95) < 1e-9);
        accepted += number_at(class, "n_accepted");
        errors += number_at(class, "errors_accepted");
    }
    assert_true(accepted > 0);
    assert_true(number_at(root, "n_accepted") == accepted);
    assert_true(number_at(root, "errors_accepted") == errors);
    json_decref(root);
}

static void two_scores(void **state) {
    const char *path = kept("p.jsonl");
    char *text = calloc(TEXT, 1);
    int64_t accepted = 0;
    (void)state;
    for (uint64_t i = 0; i < ROWS; i++) {
        char extra[40];
        snprintf(extra, sizeof extra, ",\"ood\":%.6f", row_of(i).ood);
        append(text, i, true, extra);
    }
    write_file(path, text, strlen(text));
    free(text);
    json_t *root =
        threshold_json(path, "--target-error 0.1 --score confidence+ood --ood-limit 0.8 --json");
    double t = number_at(root, "threshold");
    for (uint64_t i = 0; i < ROWS; i++)
        accepted += row_of(i).confidence >= t && floor(row_of(i).ood * 1e6 + 0.5) <= 8e5;
    assert_int_equal(number_at(root, "n_accepted"), accepted);
    assert_int_equal(number_at(root, "n"), ROWS);
    assert_true(number_at(root, "coverage") < 0.85);
    assert_string_equal(json_string_value(at(root, "score")), "confidence+ood");
    assert_string_equal(json_string_value(at(root, "limit/score")), "ood");
    assert_string_equal(json_string_value(at(root, "limit/accept")), "<=");
    assert_true(number_at(root, "limit/value") == 0.8);
    json_decref(root);
    root = threshold_json(path, "--target-error 0.3 --score ood --json");
    assert_string_equal(json_string_value(at(root, "accept")), "<=");
    assert_true(number_at(root, "n_accepted") > 0);
    json_decref(root);
}

static void by_cost(void **state) {
    const char *path = kept("p.jsonl");
    double best = HUGE_VAL;
    (void)state;
    write_rows(path, 0, ROWS, 1, "");
    json_t *root = threshold_json(path, "--cost-error 5 --cost-review 1 --json");
    assert_string_equal(json_string_value(at(root, "kind")), "cost");
    for (uint64_t j = 0; j < ROWS; j++) {
        double cost = 0, t = row_of(j).confidence;
        for (uint64_t i = 0; i < ROWS; i++) {
            made m = row_of(i);
            cost += m.confidence < t ? 1 : m.label != m.prediction ? 5 : 0;
        }
        best = fmin(best, cost / ROWS);
    }
    double cost = number_at(root, "cost"), t = number_at(root, "threshold");
    assert_true(fabs(cost - best) < 1e-9);
    assert_true(number_at(root, "cost_ci/0") < cost && number_at(root, "cost_ci/1") > cost);
    assert_true(number_at(root, "threshold_ci/0") <= t && number_at(root, "threshold_ci/1") >= t);
    assert_true(json_is_null(at(root, "target_error")));
    json_decref(root);
}

static void warnings(void **state) {
    const char *path = kept("p.jsonl");
    char *text = calloc(TEXT, 1);
    (void)state;
    for (uint64_t i = 0; i < 400; i++)
        append(text, i, i % 100 != 7,
               i % 4   ? ""
               : i % 8 ? ",\"held_out\":true"
                       : ",\"held_out\":true,\"calibration\":true");
    strcat(text, "{\"index\":400,\"error\":\"p:1: bad\"}\n");
    write_file(path, text, strlen(text));
    free(text);
    json_t *root = threshold_json(path, "--target-error 0.1 --json --quiet");
    const char *first = json_string_value(at(root, "warnings/0"));
    assert_non_null(strstr(first, "100 of 396 rows chose the guard's settings or temperature"));
    assert_int_equal(number_at(root, "provenance/n_held_out"), 100);
    assert_non_null(strstr(json_string_value(at(root, "warnings/1")),
                           "50 of 396 rows are calibration rows of the posterior"));
    assert_int_equal(number_at(root, "provenance/n_calibration"), 50);
    assert_int_equal(number_at(root, "provenance/n_unlabelled"), 4);
    assert_int_equal(number_at(root, "provenance/n_errors"), 1);
    assert_int_equal(json_array_size(at(root, "warnings")), 4);
    json_decref(root);
}

/* No threshold can be promised: an answer, and exit 0. */
static void nothing_promised(void **state) {
    static const char right[] = "{\"id\":%d,\"label\":0,\"prediction\":0,\"confidence\":0.9}\n",
                      wrong[] = "{\"id\":%d,\"label\":1,\"prediction\":0,\"confidence\":0.9}\n";
    const char *path = kept("n.jsonl");
    char text[20000] = "";
    (void)state;
    snprintf(text, sizeof text, right, 0);
    write_file(path, text, strlen(text));
    json_t *root = threshold_json(path, "--target-error 0.05 --json");
    assert_true(json_is_null(at(root, "threshold")));
    assert_true(number_at(root, "coverage") == 0);
    assert_true(json_is_null(at(root, "error_rate")) && json_is_null(at(root, "error_upper")));
    assert_true(number_at(root, "rows_needed") >= 59 && number_at(root, "rows_needed") < 300);
    assert_non_null(strstr(json_string_value(at(root, "warnings/0")), "labelled rows like these"));
    json_decref(root);
    *text = 0;
    for (int i = 0; i < 200; i++)
        snprintf(text + strlen(text), 80, wrong, i);
    write_file(path, text, strlen(text));
    root = threshold_json(path, "--target-error 0.05 --json");
    assert_true(json_is_null(at(root, "threshold")) && json_is_null(at(root, "rows_needed")));
    assert_non_null(strstr(json_string_value(at(root, "warnings/0")), "would not change that"));
    json_decref(root);
    *text = 0;
    for (int i = 0; i < 200; i++)
        snprintf(text + strlen(text), 80, right, i);
    write_file(path, text, strlen(text));
    root = threshold_json(path, "--target-error 0.05 --json");
    assert_true(number_at(root, "threshold") == 0.9 && number_at(root, "coverage") == 1);
    json_decref(root);
}

/* n rows of three predicted classes: four in five of class 0, all right; the others of class 2, all
 * wrong; none of class 1. */
static void write_two_classes(const char *path, int n) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < n; i++)
        fprintf(file, "{\"id\":%d,\"label\":0,\"prediction\":%d,\"confidence\":0.9}\n", i,
                i % 5 ? 0 : 2);
    fclose(file);
}

/* By class as well: with how many rows there would be a threshold, and then there is. */
static void nothing_of_any_class(void **state) {
    static const char options[] = "--target-error 0.1 --by-class";
    const char *path = kept("n.jsonl");
    (void)state;
    write_two_classes(path, 25);
    json_t *root = threshold_json(path, "--target-error 0.1 --by-class --json");
    double needed = number_at(root, "rows_needed"), own = number_at(root, "classes/0/rows_needed");
    assert_true(number_at(root, "n_accepted") == 0 && own > 20 && own < 200);
    assert_true(needed == ceil(own * 25 / 20));
    assert_true(json_is_null(at(root, "classes/1/rows_needed")));
    assert_true(json_is_null(at(root, "classes/2/rows_needed")));
    char piece[100];
    snprintf(piece, sizeof piece, "no threshold of any class can be promised; with about %.0f ",
             needed);
    assert_non_null(strstr(json_string_value(at(root, "warnings/0")), piece));
    json_decref(root);
    command done = threshold(path, options, NULL);
    assert_non_null(strstr(done.out, piece));
    snprintf(piece, sizeof piece, " 0  needs about %.0f rows\n", own);
    assert_non_null(strstr(done.out, piece));
    assert_non_null(strstr(done.out, " 0  too often wrong\n"));
    command_free(&done);
    write_two_classes(path, (int)needed);
    root = threshold_json(path, "--target-error 0.1 --by-class --json");
    assert_true(number_at(root, "n_accepted") >= own - 1);
    assert_true(json_is_null(at(root, "rows_needed")));
    assert_int_equal(json_array_size(at(root, "warnings")), 0);
    json_decref(root);
    /* none ever */
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 200; i++)
        fprintf(file, "{\"id\":%d,\"label\":1,\"prediction\":0,\"confidence\":0.9}\n", i);
    fclose(file);
    root = threshold_json(path, "--target-error 0.1 --by-class --json");
    assert_true(json_is_null(at(root, "rows_needed")));
    assert_non_null(strstr(json_string_value(at(root, "warnings/0")), "would not change that"));
    json_decref(root);
}

static void expect(const char *file, const char *options, const char *input, int code,
                   const char *piece) {
    command done = threshold(file, options, input);
    if (done.code != code || !strstr(done.err, piece))
        fail_msg("%s %s: exit %d, expected %d; %s, expected \"%s\"", options, input ? input : "",
                 done.code, code, done.err, piece);
    const char *line = strchr(done.err, '\n');
    assert_true(!line || !line[1]); /* one line */
    command_free(&done);
}

#define ROW "{\"id\":1,\"label\":1,\"prediction\":1,\"confidence\":0.9,\"probs\":[0.1,0.9]"
static void bad_input(void **state) {
    static const struct {
        const char *input;
        int code;
        const char *piece;
    } cases[] = {
        {"", 3, "standard input"},
        {"{}\n", 3, ":1: no field \"probs\""},
        {"{\"prediction\":1,\"confidence\":0.9}\n", 3, "no row with a label: 1 without one"},
        {"{\"index\":0,\"error\":\"x\"}\n", 3, "1 with an error"},
        {ROW "}\n" ROW "}\n", 3, ":2: the row has the \"id\" of line 1"},
        {ROW "}\n{\"id\":2,\"lab", 3, ":2: not valid JSON"},
        {ROW ",\"model\":\"00ff\"}\n{\"id\":2,\"label\":1,\"prediction\":1,\"confidence\":0.9,"
             "\"model\":\"00fe\"}\n",
         3, ":2: \"model\" is 00fe, expected that of the rows before"},
        {"{\"label\":1,\"prediction\":1,\"confidence\":NaN,\"probs\":[0.1,0.9]}\n", 3,
         ":1: \"confidence\" is null, expected a number"},
        {"{\"label\":1,\"prediction\":1,\"confidence\":1.5}\n", 3, "\"confidence\" is 1.5"},
        {"{\"label\":1,\"prediction\":1,\"confidence\":\"high\"}\n", 3, "\"confidence\" is high"},
        {"{\"label\":1.5,\"prediction\":1,\"confidence\":0.9}\n", 3, "\"label\" is 1.5"},
        {"{\"label\":\"\\u00e4\",\"prediction\":1,\"confidence\":0.9}\n", 3,
         "\"label\" is \xc3\xa4, expected"},
        {"{\"id\":\"a\xc3\xa4\",\"label\":1,\"prediction\":1,\"confidence\":0.9}\n"
         "{\"id\":\"\\u0061\\u00e4\",\"label\":1,\"prediction\":1,\"confidence\":0.9}\n",
         3, ":2: the row has the \"id\" of line 1"},
        {"{\"label\":-1,\"prediction\":1,\"confidence\":0.9}\n", 3, "\"label\" is -1"},
        {"{\"label\":2,\"prediction\":1,\"confidence\":0.9,\"probs\":[0.1,0.9]}\n", 3,
         "\"label\" is 2, expected 0 to 1"},
        {ROW "}\n{\"label\":1,\"prediction\":1,\"confidence\":0.9,\"probs\":[0.1,0.2,0.7]}\n", 3,
         ":2: \"probs\" has 3 entries, expected 2"},
        {"{\"label\":1.5,\"prediction\":1.25,\"variance\":1,\"noise_variance\":1}\n", 4,
         "regression"},
        {"{\"label\":[0],\"prediction\":[0,\"x\"],\"confidence\":0.9,\"probs\":[0.1,0.9]}\n", 3,
         "expected a list of class indices"},
    };
    const char *path = kept("p.jsonl");
    char options[300];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect("-", "--target-error 0.1", cases[i].input, cases[i].code, cases[i].piece);
    write_rows(path, 0, 50, 1, "");
    expect(path, "--target-error 0.1 --score ood", NULL, 3, "no field \"ood\"");
    expect(path, "--target-error 0.1 --score confidence+ood", NULL, 3, "no field \"ood\"");
    expect(path, "--target-error 0.1 --score adue", NULL, 3, "no field \"adue\"");
    expect(path, "", NULL, 2, "--target-error");
    expect(path, "--target-error 0.1 --cost-error 1 --cost-review 1", NULL, 2, "--cost-error");
    expect(path, "--cost-error 1", NULL, 2, "go together");
    expect(path, "--cost-error 1 --cost-review 1 --by-class", NULL, 2, "--by-class");
    expect(path, "--target-error 1", NULL, 2, "--target-error");
    expect(path, "--target-error 0.1 --delta 1.5", NULL, 2, "--delta");
    expect(path, "--target-error 0.1 --ood-limit 0.5", NULL, 2, "--ood-limit");
    expect(path, "--target-error 0.1 --min-coverage 2", NULL, 2, "--min-coverage");
    expect("a b", "--target-error 0.1", NULL, 3, "a b");
    expect(path, "--target-error 0.1 --out /nowhere/t.json", NULL, 5, "/nowhere");
    snprintf(options, sizeof options, "--target-error 0.1 --out %s", path);
    expect(path, options, NULL, 2, "predictions");
    expect(path, "--target-error 0.02 --min-coverage 0.5", NULL, 1, "below --min-coverage");
    expect(path, "--target-error 0.4 --min-coverage 0.1", NULL, 0, "");
}

/* A set of classes is right when it is the label's, in any order. */
static void sets(void **state) {
    char text[30000] = "";
    (void)state;
    for (int i = 0; i < 200; i++)
        snprintf(text + strlen(text), 120,
                 "{\"id\":%d,\"label\":[%s],\"prediction\":[0,2],\"confidence\":%.3f,"
                 "\"probs\":[0.9,0.1,0.8]}\n",
                 i, i < 120 ? "2,0" : "0", 1 - i / 1000.0);
    command done = threshold("-", "--target-error 0.1 --json", text);
    assert_int_equal(done.code, 0);
    json_t *root = json_loads(done.out, 0, NULL);
    assert_true(number_at(root, "n_accepted") >= 120 && number_at(root, "n_accepted") < 140);
    assert_int_equal(number_at(root, "errors_accepted"), number_at(root, "n_accepted") - 120);
    json_decref(root);
    command_free(&done);
    expect("-", "--target-error 0.1 --by-class", text, 4, "--by-class");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(file_of_the_contract),
                                       cmocka_unit_test(forms_of_rows),
                                       cmocka_unit_test(classes_at_once),
                                       cmocka_unit_test(two_scores),
                                       cmocka_unit_test(by_cost),
                                       cmocka_unit_test(warnings),
                                       cmocka_unit_test(nothing_promised),
                                       cmocka_unit_test(nothing_of_any_class),
                                       cmocka_unit_test(bad_input),
                                       cmocka_unit_test(sets)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
