/* predict --threshold and --keep: what rows say may be done with them, and what they carry. */
#include "support/faults.h"
#include "support/row_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN "predict --posterior @/posterior --data @/test.jsonl --quiet "

static const char *open_fitted(void) {
    const char *folder = open_case("bert");
    case_sharpen(folder, "adapter", 40);
    fit_case(folder);
    return folder;
}

static json_t *rows_of(const char *folder, const char *line, const char *input) {
    command done = run_line(folder, line, input);
    if (done.code)
        fail_msg("%s: exit %d: %s", line, done.code, done.err);
    write_file(in_case(folder, "rows"), done.out, strlen(done.out));
    command_free(&done);
    return load_lines(in_case(folder, "rows"));
}

static const char *text_at(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

/* A threshold file; the rest: members behind the provenance's first brace. */
static void put_threshold(const char *folder, const char *members, const char *origin) {
    char text[1000];
    snprintf(text, sizeof text,
             "{\"schema\":\"laplora.threshold/1\",\"kind\":\"risk\",%s,\"provenance\":{%s}}\n",
             members, origin);
    write_file(in_case(folder, "t.json"), text, strlen(text));
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void actions(void **state) {
    const char *folder = open_fitted();
    char members[300];
    double values[200];
    size_t i, n, accepted = 0;
    json_t *row;
    (void)state;
    json_t *plain = rows_of(folder, RUN, NULL);
    n = json_array_size(plain);
    assert_true(n >= 10 && n < 200);
    json_array_foreach(plain, i, row) {
        values[i] = number_at(row, "confidence");
        assert_null(json_object_get(row, "action"));
        assert_null(json_object_get(row, "fields"));
    }
    qsort(values, n, sizeof *values, by_value);
    assert_true(values[n / 2] > values[0]);
    snprintf(members, sizeof members,
             "\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":%.10g,\"classes\":[]",
             values[n / 2]);
    put_threshold(folder, members, "\"model\":null");
    json_t *found = rows_of(folder, RUN "--threshold @/t.json", NULL);
    assert_int_equal(json_array_size(found), n);
    json_array_foreach(found, i, row) {
        int accept = number_at(row, "confidence") >= values[n / 2];
        assert_string_equal(text_at(row, "action"), accept ? "accept" : "review");
        if (accept)
            assert_null(json_object_get(row, "reason"));
        else
            assert_string_equal(text_at(row, "reason"), "confidence");
        accepted += (size_t)accept;
        /* everything else is as it was */
        json_object_del(row, "action");
        json_object_del(row, "reason");
        assert_true(json_equal(row, json_array_get(plain, i)));
    }
    assert_true(accepted > 0 && accepted < n);
    json_decref(found);
    put_threshold(folder,
                  "\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":null,\"classes\":["
                  "{\"class\":0,\"threshold\":null},{\"class\":1,\"threshold\":0}]",
                  "\"model\":null");
    found = rows_of(folder, RUN "--threshold @/t.json", NULL);
    json_array_foreach(found, i, row) {
        int accept = json_integer_value(json_object_get(row, "prediction")) == 1;
        assert_string_equal(text_at(row, "action"), accept ? "accept" : "review");
        if (!accept)
            assert_string_equal(text_at(row, "reason"), "no-threshold");
    }
    json_decref(found);
    put_threshold(folder,
                  "\"score\":\"confidence+entropy\",\"accept\":\">=\",\"threshold\":0,"
                  "\"limit\":{\"value\":0}",
                  "\"model\":null");
    found = rows_of(folder, RUN "--threshold @/t.json", NULL);
    json_array_foreach(found, i, row) assert_string_equal(text_at(row, "reason"), "entropy");
    json_decref(found);
    json_decref(plain);
}

static void expect_said(const char *folder, const char *line, int code, const char *piece,
                        bool there) {
    command done = run_line(folder, line, NULL);
    if (done.code != code || !strstr(done.err, piece) == there)
        fail_msg("%s: exit %d, %s, %s \"%s\"", line, done.code, done.err,
                 there ? "expected" : "not", piece);
    command_free(&done);
}

/* How many answers were accepted; a field that no row has; a file that is no threshold. */
static void said_at_the_end(void **state) {
#define ASK "predict --posterior @/posterior --data @/test.jsonl --out @/p.jsonl "
    const char *folder = open_fitted();
    char piece[100];
    size_t n, accepted = 0, i;
    json_t *row;
    (void)state;
    put_threshold(folder,
                  "\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":null,\"classes\":["
                  "{\"class\":0,\"threshold\":null},{\"class\":1,\"threshold\":0}]",
                  "\"model\":null");
    json_t *rows = rows_of(folder, RUN "--threshold @/t.json", NULL);
    n = json_array_size(rows);
    json_array_foreach(rows, i, row) accepted += !strcmp(text_at(row, "action"), "accept");
    json_decref(rows);
    snprintf(piece, sizeof piece, "%zu answers accepted, %zu to be reviewed\n", accepted,
             n - accepted);
    expect_said(folder, ASK "--threshold @/t.json", 0, piece, true);
    expect_said(folder, ASK "--threshold @/t.json --quiet", 0, "accepted", false);
    expect_said(folder, ASK, 0, "accepted", false);
    command done = run_line(folder, ASK "--threshold @/t.json --json --quiet", NULL);
    json_t *summary = json_loads(done.out, 0, NULL);
    assert_int_equal(number_at(summary, "n_accepted"), accepted);
    assert_int_equal(number_at(summary, "n_review"), n - accepted);
    json_decref(summary);
    command_free(&done);
    expect_said(folder, ASK "--keep label,txet", 0, "--keep txet: no row of ", true);
    expect_said(folder, ASK "--keep label,txet", 0, "--keep label", false);
    expect_said(folder, ASK "--keep label", 0, "--keep", false);
    static const char *const files[] = {"test.jsonl", "posterior", "base/config.json", "none"};
    for (i = 0; i < sizeof files / sizeof *files; i++) {
        char line[200];
        snprintf(line, sizeof line, ASK "--threshold @/%s", files[i]);
        expect_said(folder, line, i == 1 ? 4 : 3, "laplora threshold --out writes", true);
    }
}

/* The file that threshold writes of a posterior's predictions is for that posterior. */
static void another_model(void **state) {
    const char *folder = open_fitted();
    static const char *const lines[] = {
        "predict --posterior @/posterior --data @/test.jsonl --out @/p.jsonl --quiet",
        "threshold @/p.jsonl --target-error 0.9 --delta 0.5 --out @/t.json --quiet",
        "predict --posterior @/posterior --data @/test.jsonl --threshold @/t.json --out @/q.jsonl "
        "--quiet",
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/other --prior 7 "
        "--quiet"};
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        command done = run_line(folder, lines[i], NULL);
        if (done.code)
            fail_msg("%s: exit %d: %s", lines[i], done.code, done.err);
        command_free(&done);
    }
    json_t *rows = load_lines(in_case(folder, "p.jsonl")), *row;
    const char *model = text_at(json_array_get(rows, 0), "model");
    size_t i;
    assert_int_equal(strlen(model), 16);
    json_array_foreach(rows, i, row) assert_string_equal(text_at(row, "model"), model);
    json_t *file = load_json(in_case(folder, "t.json"));
    assert_string_equal(json_string_value(at(file, "provenance/model")), model);
    json_decref(file);
    json_decref(rows);
    command done = run_line(
        folder, "predict --posterior @/other --data @/test.jsonl --threshold @/t.json --quiet",
        NULL);
    check_message(&done, 7, (const char *const[]){"t.json", "posterior"}, 2);
    assert_string_equal(done.out, "");
    command_free(&done);
    done = run_line(folder, RUN "--threshold @/t.json --predictive map", NULL);
    check_message(&done, 7, (const char *const[]){"t.json", "\"map\""}, 2);
    command_free(&done);
    /* rows of both posteriors in one file are refused */
    done = run_shell(folder, "\"$L\" predict --posterior $D/other --data $D/test.jsonl --quiet "
                             ">>$D/p.jsonl && \"$L\" threshold $D/p.jsonl --target-error 0.5");
    check_message(&done, 3, (const char *const[]){"\"model\"", "that of the rows before"}, 2);
    command_free(&done);
}

static void bad_thresholds(void **state) {
    static const struct {
        const char *members, *origin;
        int code;
        const char *piece;
    } cases[] = {
        {"\"score\":\"ood\",\"accept\":\"<=\",\"threshold\":0.5", "", 7, "\"ood\""},
        {"\"score\":\"adue\",\"accept\":\"<=\",\"threshold\":0.5", "", 7, "--adue"},
        {"\"score\":\"confidence\",\"accept\":\"<=\",\"threshold\":0.5", "", 3, "\"accept\""},
        {"\"score\":\"height\",\"accept\":\"<=\",\"threshold\":0.5", "", 3, "\"score\""},
        {"\"score\":\"confidence\",\"accept\":\">=\"", "", 3, "\"threshold\""},
        {"\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":\"high\"", "", 3, "threshold"},
        {"\"score\":\"confidence+ood\",\"accept\":\">=\",\"threshold\":0.5", "", 3, "\"limit\""},
        {"\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":0.5,\"classes\":[7]", "", 3,
         "\"classes\""},
        {"\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":0.5",
         "\"confidence_kind\":\"map\"", 7, "\"map\""},
        {"\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":0.5", "\"model\":\"00ff\"", 7,
         "00ff"},
    };
    const char *folder = open_fitted();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_threshold(folder, cases[i].members, cases[i].origin);
        command done = run_line(folder, RUN "--threshold @/t.json", NULL);
        check_message(&done, cases[i].code, (const char *const[]){"t.json", cases[i].piece}, 2);
        command_free(&done);
    }
    write_file(in_case(folder, "t.json"), "{\"schema\":\"laplora.threshold/2\"}", 32);
    command done = run_line(folder, RUN "--threshold @/t.json", NULL);
    check_message(&done, 4, (const char *const[]){"t.json", "schema"}, 2);
    command_free(&done);
    done = run_line(folder, RUN "--threshold @/adapter/adapter_config.json", NULL);
    check_message(&done, 3, (const char *const[]){"adapter_config.json", "schema"}, 2);
    command_free(&done);
    done = run_line(folder, RUN "--threshold @/nothing", NULL);
    check_message(&done, 3, (const char *const[]){"nothing"}, 1);
    command_free(&done);
    done = run_line(folder, RUN "--keep a,a", NULL);
    check_message(&done, 2, (const char *const[]){"--keep"}, 1);
    command_free(&done);
}

/* Values are those of the input, digit by digit. */
static void kept_fields(void **state) {
    static const char input[] =
        "{\"input_ids\":[5,6],\"n\":1.50,\"big\":123456789012345678901234567890,"
        "\"o\":{\"a\": [1,\n 2]},\"s\":\"x\\u00e4\\\"\",\"none\":null}\n"
        "{\"input_ids\":[6,5],\"n\":NaN,\"s\":7}\n";
    static const char table[] = "input_ids,n,s\n\"[5, 6]\",1.50,\"a,b\"\n\"[6, 5]\",,c\n";
    const char *folder = open_fitted();
    (void)state;
    char *text = strdup(input), *at_line = strstr(text, "\n 2");
    memmove(at_line, at_line + 1, strlen(at_line)); /* a row is one line */
    command done = run_line(
        folder, "predict --posterior @/posterior --data - --quiet --keep n,big,o,s,none,other",
        text);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.out,
                           "\"fields\":{\"n\":1.50,\"big\":123456789012345678901234567890,"
                           "\"o\":{\"a\": [1, 2]},\"s\":\"x\\u00e4\\\"\",\"none\":null,"
                           "\"other\":null}"));
    assert_non_null(strstr(done.out, "\"fields\":{\"n\":null,\"big\":null,\"o\":null,\"s\":7,"
                                     "\"none\":null,\"other\":null}"));
    command_free(&done);
    free(text);
    write_file(in_case(folder, "t.csv"), table, strlen(table));
    json_t *rows = rows_of(
        folder, "predict --posterior @/posterior --data @/t.csv --quiet --keep n,s,other", NULL);
    json_t *expected = json_pack("{s:s,s:s,s:n}", "n", "1.50", "s", "a,b", "other");
    assert_true(json_equal(json_object_get(json_array_get(rows, 0), "fields"), expected));
    json_decref(expected);
    json_decref(rows);
    done = run_line(folder,
                    "predict --posterior @/posterior --data @/t.csv --quiet --format csv --keep s",
                    NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.out, ",fields,"));
    assert_non_null(strstr(done.out, "\"{\"\"s\"\":\"\"a,b\"\"}\""));
    command_free(&done);
}

/* A line in, a line out: an empty one has an action as well, and one that cannot be used. */
static void every_line(void **state) {
    static const char input[] = "{\"input_ids\":[5,6],\"k\":1}\n\n{\"input_ids\":[-5,6]}\nfilm\n";
    const char *folder = open_case("bert");
    (void)state;
    use_tokenizer(NULL, folder);
    fit_case(folder);
    put_threshold(folder, "\"score\":\"confidence\",\"accept\":\">=\",\"threshold\":0", "");
    json_t *rows = rows_of(folder,
                           "predict --posterior @/posterior --stdin --quiet --skip-bad --threshold "
                           "@/t.json --keep k,text",
                           input);
    assert_int_equal(json_array_size(rows), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(text_at(json_array_get(rows, i), "action"),
                            i == 2 ? "review" : "accept");
    assert_int_equal(number_at(json_array_get(rows, 0), "fields/k"), 1);
    assert_string_equal(json_string_value(at(json_array_get(rows, 1), "fields/text")), "");
    assert_non_null(text_at(json_array_get(rows, 2), "error"));
    assert_string_equal(text_at(json_array_get(rows, 2), "reason"), "error");
    assert_string_equal(json_string_value(at(json_array_get(rows, 3), "fields/text")), "film");
    json_decref(rows);
    command done = run_line(folder,
                            "predict --posterior @/posterior --stdin --quiet --skip-bad "
                            "--threshold @/t.json --keep k --format csv",
                            input);
    assert_int_equal(done.code, 0);
    size_t lines = 0;
    for (const char *c = done.out; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 5);
    assert_non_null(strstr(done.out, ",review,error,"));
    command_free(&done);
}

/* The report and the threshold of a file say how many of its rows the posterior has seen. */
static void check_bias(const char *folder, const char *file, const char *seen, const char *other) {
    static const char *const lines[] = {"threshold @/%s --target-error 0.2",
                                        "report @/%s --format text"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char line[100];
        snprintf(line, sizeof line, lines[i], file);
        command done = run_line(folder, line, NULL);
        assert_int_equal(done.code, 0);
        assert_non_null(strstr(done.out, seen));
        assert_null(strstr(done.out, other));
        command_free(&done);
    }
}

/* Rows that chose the guard's settings say so, and those that the posterior was fitted on; others
 * do not. A row with another label is none of them. */
static void rows_that_chose(void **state) {
    const char *folder = open_case("bert");
    static const char *const lines[] = {
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --val @/test.jsonl --out "
        "@/posterior --quiet",
        "predict --posterior @/posterior --data @/test.jsonl --out @/p.jsonl --quiet",
        "predict --posterior @/posterior --data @/calib.jsonl --out @/q.jsonl --quiet"};
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        command done = run_line(folder, lines[i], NULL);
        if (done.code)
            fail_msg("%s: exit %d: %s", lines[i], done.code, done.err);
        command_free(&done);
    }
    json_t *rows = load_lines(in_case(folder, "p.jsonl")), *row;
    json_t *others = load_lines(in_case(folder, "q.jsonl"));
    size_t i;
    json_array_foreach(rows, i, row) assert_true(json_is_true(json_object_get(row, "held_out")));
    json_array_foreach(rows, i, row) assert_null(json_object_get(row, "calibration"));
    json_array_foreach(others, i, row) {
        assert_null(json_object_get(row, "held_out"));
        assert_true(json_is_true(json_object_get(row, "calibration")));
    }
    char piece[100];
    size_t n = json_array_size(rows), n_others = json_array_size(others);
    snprintf(piece, sizeof piece, "%zu of %zu rows chose the guard's settings", n, n);
    check_bias(folder, "p.jsonl", piece, "calibration rows");
    snprintf(piece, sizeof piece, "%zu of %zu rows are calibration rows", n_others, n_others);
    check_bias(folder, "q.jsonl", piece, "chose the guard");
    /* with class shares of their own, and in a table; without a label nothing is known */
    command done = run_line(folder,
                            "predict --posterior @/posterior --data @/calib.jsonl --class-shares "
                            "auto --out @/q.csv --quiet",
                            NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    check_bias(folder, "q.csv", piece, "chose the guard");
    json_t *calib = load_lines(in_case(folder, "calib.jsonl"));
    json_t *first = json_array_get(calib, 0), *second = json_array_get(calib, 1);
    json_object_set_new(first, "label",
                        json_integer(!json_integer_value(json_object_get(first, "label"))));
    json_object_del(second, "label");
    FILE *file = fopen(in_case(folder, "more.jsonl"), "w");
    json_array_foreach(calib, i, row) {
        json_dumpf(row, file, 0);
        fputc('\n', file);
    }
    fclose(file);
    json_decref(calib);
    calib = rows_of(folder, "predict --posterior @/posterior --data @/more.jsonl --quiet", NULL);
    json_array_foreach(calib, i, row)
        assert_int_equal(json_is_true(json_object_get(row, "calibration")), i > 1);
    json_decref(calib);
    json_decref(rows);
    json_decref(others);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actions),        cmocka_unit_test(said_at_the_end),
        cmocka_unit_test(another_model),  cmocka_unit_test(bad_thresholds),
        cmocka_unit_test(kept_fields),    cmocka_unit_test(every_line),
        cmocka_unit_test(rows_that_chose)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
