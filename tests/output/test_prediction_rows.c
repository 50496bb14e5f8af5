/* Prediction rows written and read. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output/row_kind.h"

static const char GOOD_ROW[] = "{\"index\":0,\"label\":1,\"probs\":[0.25,0.75]}";

/* ---- reading ---- */

/* Fails unless the text is refused with the status and a message that holds `what`. */
static void check_refused(const char *text, size_t length, la_status expected, const char *what) {
    const char *path = scratch("bad.jsonl");
    la_predictions predictions;
    la_error err = {0};
    write_file(path, text, length);
    la_status status = la_predictions_read(path, &predictions, &err);
    if (status != expected)
        fail_msg("status %d for %.80s (%s)", (int)status, text, err.message);
    if (!strstr(err.message, what))
        fail_msg("\"%s\" is not in \"%s\"", what, err.message);
    assert_non_null(strstr(err.message, "bad.jsonl"));
    assert_null(predictions.values);
}

static void refuse(const char *second_row, const char *what) {
    char text[512];
    snprintf(text, sizeof text, "%s\n%s\n", GOOD_ROW, second_row);
    check_refused(text, strlen(text), LA_BAD_INPUT, what);
    assert_true(strlen(what) > 0);
}

static void test_bad_rows(void **state) {
    static const char *const rows[][2] = {
        {"{\"label\":1,\"probs\":[0.3,0.75]}", ":2: \"probs\" adds up to 1.05, expected 1"},
        {"{\"label\":1,\"probs\":[0.249998,0.75]}", ":2: \"probs\" adds up to 0.999998"},
        {"{\"label\":2,\"probs\":[0.25,0.75]}", ":2: \"label\" is 2, expected 0 to 1"},
        {"{\"label\":-1,\"probs\":[0.25,0.75]}", ":2: \"label\" is -1, expected 0 to 1"},
        {"{\"label\":\"pos\",\"probs\":[0.25,0.75]}", ":2: \"label\" is a string"},
        {"{\"label\":1.0,\"probs\":[0.25,0.75]}", ":2: \"label\" is a real number"},
        {"{\"label\":1,\"probs\":[0.25,0.25,0.5]}", ":2: \"probs\" has 3 entries, expected 2"},
        {"{\"label\":1,\"probs\":[]}", ":2: \"probs\" has 0 entries, expected 2"},
        {"{\"label\":1,\"probs\":0.5}", ":2: \"probs\" is a real number, expected a list"},
        {"{\"label\":1,\"probs\":[\"a\",1]}", ":2: \"probs\"[0] is a string, expected a number"},
        {"{\"label\":1,\"probs\":[null,1]}", ":2: \"probs\"[0] is null"},
        {"{\"label\":1,\"probs\":[-0.5,1.5]}", ":2: \"probs\"[0] is -0.5, expected a number"},
        {"{\"label\":1,\"probs\":[0,1.5]}", ":2: \"probs\"[1] is 1.5, expected a number from 0"},
        {"{\"label\":1,\"probs\":[0,1e999]}", ":2: \"probs\"[1] is a string, expected a"},
        {"{\"label\":1,\"probs\":[NaN,1]}", ":2: \"probs\"[0] is null, expected a number"},
        {"{\"label\":1,\"probs\":[0,1],\"probs\":[1,0]}", ":2: not valid JSON: duplicate"},
        {"{\"label\":1,\"probs\":[0,1],\"map_probs\":[1]}", ":2: \"map_probs\" has 1 entries"},
        {"{\"label\":1,\"probs\":[0,1],\"map_probs\":{}}", ":2: \"map_probs\" is an object"},
        {"{\"label\":1,\"probs\":[0,1],\"confidence_kind\":3}", "\"confidence_kind\" is an int"},
        {"{\"label\":1,\"text\":\"a\"}", ":2: no field \"probs\""},
        {"{\"label\":1,\"probs\":[0,1]", ":2: not valid JSON"},
        {"[0,1]", ":2: the row is an array"},
        {"{\"id\":\"\xff\",\"label\":1,\"probs\":[0,1]}", ":2: not valid JSON"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refuse(rows[i][0], rows[i][1]);
}

static void test_bad_files(void **state) {
    char *text = calloc(1, 20000);
    (void)state;
    assert_non_null(text);
    check_refused("", 0, LA_BAD_INPUT, "is empty");
    check_refused("\n \t\r\n\n", 6, LA_BAD_INPUT, "is empty");
    check_refused("{\"probs\":[1]}", 13, LA_BAD_INPUT, ":1: \"probs\" has 1 entries, expected one");
    check_refused("{\"a\":\"\0\"}", 9, LA_BAD_INPUT, ":1: not valid JSON");
    check_refused("[\n{\"probs\":[0,1]},\n{\"probs\":1}]", 31, LA_BAD_INPUT, ":3: \"probs\" is an");
    check_refused("[\n{\"probs\":[0,1]},\n{\"probs\":", 27, LA_BAD_INPUT, ":3: not valid JSON");
    check_refused("[0,1]", 5, LA_BAD_INPUT, ":1: not valid JSON");
    /* line numbers count blank lines, and lines with errors; CRLF and a byte order mark are no
     * matter */
    snprintf(text, 20000,
             "\xef\xbb\xbf%s\r\n\r\n%s\n%s\n{\"index\":3,\"error\":\"no\"}\n%s\n{oops\n", GOOD_ROW,
             GOOD_ROW, GOOD_ROW, GOOD_ROW);
    check_refused(text, strlen(text), LA_BAD_INPUT, "bad.jsonl:7: not valid JSON");
    memset(text, '[', 10000);
    text[10000] = 0;
    check_refused(text, 10000, LA_BAD_INPUT, ":1: not valid JSON");
    memset(text + 5000, ']', 5000);
    check_refused(text, 10000, LA_BAD_INPUT, ":1: not valid JSON: maximum parsing depth");
    free(text);

    la_predictions predictions;
    la_error err = {0};
    assert_int_equal(la_predictions_read(scratch("nothing here"), &predictions, &err),
                     LA_BAD_INPUT);
    err = (la_error){0};
    assert_int_equal(la_predictions_read(scratch(""), &predictions, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "is a directory"));
}

static la_predictions read_good(const char *text) {
    const char *path = scratch("good.jsonl");
    la_predictions predictions;
    la_error err = {0};
    write_file(path, text, strlen(text));
    if (la_predictions_read(path, &predictions, &err) != LA_OK)
        fail_msg("%s", err.message);
    return predictions;
}

static void test_counts(void **state) {
    (void)state;
    la_predictions p =
        read_good("{\"label\":1,\"probs\":[0.25,0.75],\"map_probs\":[0,1]}\n"
                  "{\"index\":1,\"error\":\"too long\"}\n"
                  "{\"probs\":[0.25,0.75],\"map_probs\":[0,1],\"confidence_kind\":\"map\"}\n"
                  "{\"label\":null,\"probs\":[0.25,0.75],\"map_probs\":[0,1]}\n"
                  "{\"label\":0,\"probs\":[1,0],\"map_probs\":[0.5,0.5],\"error\":null}");
    assert_int_equal(p.n, 2);
    assert_int_equal(p.n_classes, 2);
    assert_int_equal(p.n_errors, 1);
    assert_int_equal(p.n_unlabelled, 2);
    assert_int_equal(p.n_without_map, 0);
    assert_string_equal(p.confidence_kind, "map");
    assert_int_equal(strlen(p.digest), 32);
    assert_true(p.values[2] == 1 && p.map_values[2] == 0.5 && p.labels.classes[1] == 0);
    la_predictions_free(&p);

    p = read_good("{\"label\":1,\"probs\":[0.25,0.75],\"map_probs\":[0,1],"
                  "\"confidence_kind\":\"laplace-mc\"}\n"
                  "{\"label\":1,\"probs\":[0.25,0.75],\"confidence_kind\":\"map\"}\n");
    assert_int_equal(p.n_without_map, 1);
    assert_null(p.map_values);
    assert_string_equal(p.confidence_kind, "mixed");
    la_predictions_free(&p);

    p = read_good("{\"label\":1,\"probs\":[0.25,0.75],\"confidence_kind\":"
                  "\"<b>\\u001b[31m|`& and so on, much longer than a kind is\"}\n");
    assert_string_equal(p.confidence_kind, "?b???31m????and?so?on??much?lon");
    la_predictions_free(&p);

    /* rows of before there was a variance, with one, and of a predictive that has none */
    p = read_good("{\"label\":1,\"probs\":[0.25,0.75]}\n"
                  "{\"label\":1,\"probs\":[0.25,0.75],\"variance\":[0.01,0.01]}\n"
                  "{\"label\":0,\"probs\":[0.25,0.75],\"variance\":null}\n");
    assert_int_equal(p.n, 3);
    la_predictions_free(&p);
}

/* ---- writing ---- */

typedef struct answer {
    double probs[3], map_probs[3], logits[3], cov[9], variance[3];
    la_prediction prediction;
    la_row_shape shape;
    la_prediction_row row;
} answer;

static answer *new_answer(void) {
    answer *a = calloc(1, sizeof *a);
    assert_non_null(a);
    *a = (answer){.probs = {1.0 / 3, 0.5, 1.0 / 6},
                  .map_probs = {0.1, 0.9 - 1e-17, 0},
                  .logits = {-1.5, 1e-9, 12345.678901234},
                  .cov = {1, -0.0, 3, 4, 5, 6, 7, 8, 1e-300},
                  .variance = {NAN, NAN, NAN}};
    a->prediction = (la_prediction){.probs = a->probs,
                                    .map_probs = a->map_probs,
                                    .logits = a->logits,
                                    .logit_cov = a->cov,
                                    .variance = a->variance,
                                    .prediction = 1,
                                    .confidence = 0.5,
                                    .entropy = 1.0114042647,
                                    .mutual_information = NAN,
                                    .adue = NAN};
    a->shape =
        (la_row_shape){.kind = &la_softmax_rows, .n_classes = 3, .confidence_kind = "laplace-mc"};
    a->row = (la_prediction_row){
        .shape = &a->shape, .index = 7, .label.class = -1, .prediction = &a->prediction};
    return a;
}

static void set_variance(answer *a, double first, double second, double third) {
    a->variance[0] = first;
    a->variance[1] = second;
    a->variance[2] = third;
}

/* The line written, without a newline; NULL when it is refused. The caller frees it. */
static char *line_of(const la_prediction_row *row, la_error *err) {
    char *text;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    *err = (la_error){0};
    la_status status = la_prediction_write(&la_row_format_jsonl, stream, row, err);
    fclose(stream);
    if (status != LA_OK) {
        free(text);
        return NULL;
    }
    assert_true(length > 0 && text[length - 1] == '\n');
    text[length - 1] = 0;
    assert_null(strchr(text, '\n'));
    return text;
}

static void check_line(const la_prediction_row *row, const char *expected) {
    la_error err;
    char *text = line_of(row, &err);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_written_rows(void **state) {
    answer *a = new_answer();
    (void)state;
    check_line(&a->row,
               "{\"index\":7,\"prediction\":1,\"prediction_label\":\"1\",\"confidence\":0.5,"
               "\"probs\":[0.3333333333,0.5,0.1666666667],\"map_probs\":[0.1,0.9,0],"
               "\"entropy\":1.011404265,\"mutual_information\":null,\"variance\":null,"
               "\"confidence_kind\":\"laplace-mc\"}");
    static const char *const names[] = {"no", "a\"\\\n\x01\xc3\xa9\xff", "x"};
    a->shape.labels = names;
    a->row.label.class = 0;
    a->row.id_json = "{\n \"a\": 1}";
    a->shape.emit_logits = a->shape.emit_cov = true;
    a->prediction.mutual_information = 0;
    a->prediction.adue = 0.12345678901;
    set_variance(a, 1.0 / 16, 1e-17, -0.0);
    check_line(&a->row,
               "{\"index\":7,\"id\":{  \"a\": 1},\"label\":0,\"prediction\":1,\"prediction_label\":"
               "\"a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd\",\"confidence\":0.5,"
               "\"probs\":[0.3333333333,0.5,0.1666666667],\"map_probs\":[0.1,0.9,0],"
               "\"entropy\":1.011404265,\"mutual_information\":0,\"variance\":[0.0625,1e-17,0],"
               "\"adue\":0.123456789,\"confidence_kind\":\"laplace-mc\",\"logits\":[-1.5,1e-09,"
               "12345.6789],"
               "\"logit_cov\":[[1,0,3],[4,5,6],[7,8,1e-300]]}");
    a->shape.has_errors = true;
    la_prediction_row bad = {
        .shape = &a->shape, .index = 3, .label.class = -1, .error = "line\n\"5\" \xc3"};
    check_line(&bad, "{\"index\":3,\"error\":\"line\\n\\\"5\\\" \xef\xbf\xbd\"}");
    free(a);
}

static void check_numerical(answer *a, double *number, double value, const char *what) {
    double kept = *number;
    la_error err;
    *number = value;
    assert_null(line_of(&a->row, &err));
    assert_int_equal(err.status, LA_NUMERICAL);
    if (!strstr(err.message, "row 7") || !strstr(err.message, what))
        fail_msg("\"%s\" is not in \"%s\"", what, err.message);
    *number = kept;
}

static void test_rows_that_are_not_written(void **state) {
    answer *a = new_answer();
    (void)state;
    a->shape.emit_logits = a->shape.emit_cov = true;
    check_numerical(a, &a->probs[1], NAN, "probs[1] is nan");
    check_numerical(a, &a->probs[1], 0.6, "probs adds up to 1.1");
    check_numerical(a, &a->probs[1], -0.1, "probs[1] is -0.1");
    check_numerical(a, &a->map_probs[2], INFINITY, "map_probs[2] is inf");
    check_numerical(a, &a->prediction.entropy, NAN, "entropy");
    check_numerical(a, &a->prediction.confidence, NAN, "confidence");
    check_numerical(a, &a->prediction.mutual_information, INFINITY, "mutual_information");
    check_numerical(a, &a->prediction.adue, 1.5, "adue is 1.5, expected 0 to 1");
    check_numerical(a, &a->prediction.adue, -1e-9, "adue is -1e-09");
    set_variance(a, 0.1, 0, 0.2);
    check_numerical(a, &a->variance[0], NAN, "variance[0] is nan");
    check_numerical(a, &a->variance[2], NAN, "variance[2] is nan");
    check_numerical(a, &a->variance[1], INFINITY, "variance[1] is inf");
    check_numerical(a, &a->variance[1], -1e-9, "variance[1] is -1e-09, expected 0 or more");
    check_numerical(a, &a->logits[0], -INFINITY, "logits[0] is -inf");
    check_numerical(a, &a->cov[8], NAN, "logit_cov[8] is nan");
    a->shape.emit_logits = a->shape.emit_cov = false;
    a->logits[0] = a->cov[8] = NAN;
    la_error err;
    free(line_of(&a->row, &err));
    assert_int_equal(err.status, LA_OK);
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        setvbuf(full, NULL, _IONBF, 0);
        assert_int_equal(la_prediction_write(&la_row_format_jsonl, full, &a->row, &err),
                         LA_RESOURCE);
        fclose(full);
    }
    free(a);
}

/* A written row can be read, and has the same numbers to ten digits. */
static void test_round_trip(void **state) {
    enum { ROWS = 200 };
    static const char *const names[] = {"\xe2\x80\xa8 \"", "\xf0\x9f\x98\x80\\",
                                        "\t\x7f\xed\xa0\x80"};
    const char *path = scratch("round.jsonl");
    answer *a = new_answer();
    double sent[ROWS][3], worst = 0;
    la_predictions p;
    la_error err = {0};
    FILE *file = fopen(path, "w");
    (void)state;
    assert_non_null(file);
    a->shape.labels = names;
    a->row.id_json = "\"\\u0000\\u2028 \\\"\"";
    for (int i = 0; i < ROWS; i++) {
        double small = pow(10, -i), middle = 0.3 / (i + 1);
        a->row.index = i;
        a->row.label.class = i % 3;
        a->prediction.prediction = i % 3;
        sent[i][0] = a->probs[0] = small * 0.1;
        sent[i][1] = a->probs[1] = middle;
        sent[i][2] = a->probs[2] = 1 - small * 0.1 - middle;
        set_variance(a, i % 2 ? small : NAN, i % 2 ? middle : NAN, i % 2 ? 0 : NAN);
        a->prediction.adue = i % 3 ? small : NAN;
        assert_int_equal(la_prediction_write(&la_row_format_jsonl, file, &a->row, &err), LA_OK);
    }
    fclose(file);
    if (la_predictions_read(path, &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(p.n, ROWS);
    assert_string_equal(p.confidence_kind, "laplace-mc");
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(p.labels.classes[i], i % 3);
        for (int c = 0; c < 3; c++)
            worst = fmax(worst, relative(p.values[3 * i + c], sent[i][c], 1e-300));
    }
    check_within("relative deviation after writing and reading", worst, 5e-10);
    la_predictions_free(&p);
    free(a);
}

/* ---- tables ---- */

static char *csv_of(const la_row_shape *shape, const la_prediction_row *rows, int n) {
    char *text;
    size_t length;
    la_error err = {0};
    FILE *stream = open_memstream(&text, &length);
    assert_non_null(stream);
    assert_int_equal(la_prediction_header(&la_row_format_csv, stream, shape, &err), LA_OK);
    for (int i = 0; i < n; i++)
        assert_int_equal(la_prediction_write(&la_row_format_csv, stream, &rows[i], &err), LA_OK);
    fclose(stream);
    return text;
}

static void test_table(void **state) {
    static const char *const names[] = {"no, \"never\"", "x", "x"};
    answer *a = new_answer();
    (void)state;
    assert_string_equal(la_row_format_of("a.csv")->name, "csv");
    assert_string_equal(la_row_format_of("a.csv.jsonl")->name, "jsonl");
    assert_string_equal(la_row_format_of("csv")->name, "jsonl");
    a->shape.labels = names;
    a->shape.has_errors = a->shape.emit_logits = true;
    a->row.id_json = "\"a,\\n\\\"b\\\"\"";
    la_prediction_row rows[] = {
        a->row, {.shape = &a->shape, .index = 8, .error = "f:8: no, \"sorry\""}, a->row};
    rows[2].id_json = "{\"k\": 1}";
    rows[2].label.class = 2;
    char *text = csv_of(&a->shape, rows, 3);
    assert_string_equal(
        text,
        "index,error,id,label,prediction,prediction_label,confidence,"
        "\"prob_no, \"\"never\"\"\",prob_1,prob_2,\"map_prob_no, \"\"never\"\"\",map_prob_1,"
        "map_prob_2,entropy,mutual_information,\"variance_no, \"\"never\"\"\",variance_1,"
        "variance_2,adue,confidence_kind,\"logit_no, \"\"never\"\"\",logit_1,logit_2\n"
        "7,,\"a,\n\"\"b\"\"\",,1,x,0.5,0.3333333333,0.5,0.1666666667,0.1,0.9,0,1.011404265,,"
        ",,,,laplace-mc,-1.5,1e-09,12345.6789\n"
        "8,\"f:8: no, \"\"sorry\"\"\",,,,,,,,,,,,,,,,,,,,,\n"
        "7,,\"{\"\"k\"\": 1}\",2,1,x,0.5,0.3333333333,0.5,0.1666666667,0.1,0.9,0,1.011404265,,"
        ",,,,laplace-mc,-1.5,1e-09,12345.6789\n");
    const char *path = scratch("good.csv");
    la_predictions p;
    la_error err = {0};
    write_file(path, text, strlen(text));
    if (la_predictions_read(path, &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.n_unlabelled, 1);
    assert_int_equal(p.n_errors, 1);
    assert_int_equal(p.n_classes, 3);
    assert_int_equal(p.labels.classes[0], 2);
    assert_true(p.values[1] == 0.5 && p.map_values[1] == 0.9);
    assert_string_equal(p.confidence_kind, "laplace-mc");
    la_predictions_free(&p);
    free(text);
    free(a);
}

static void test_bad_tables(void **state) {
    static const char *const tables[][2] = {
        {"index,prob_a,prob_b\n0,0.5,0.6\n", ":2: \"probs\" adds up to 1.1"},
        {"index,prob_a,prob_b\n0,0.5,0.5\n1,0.5,\n", ":3: \"probs\" has 1 entries, expected 2"},
        {"index,prob_a,prob_b\n0,0.5,half\n", ":2: \"probs\"[1] is a string"},
        {"prob_a,prob_b,label\n0.5,0.5,2\n", ":2: \"label\" is 2, expected 0 to 1"},
        {"prob_a,prob_b,label\n0.5,0.5,b\n", ":2: \"label\" is a string"},
        {"prob_a,prob_a\n0.5,0.5\n", "\"prob_a\" appears twice"},
        {"index,label\n0,1\n", ":2: no field \"probs\""},
        {"prob_a,prob_b\n0.5\n", ":2: 1 cells, expected the 2"},
        {"prob_a,prob_b\n", "is empty, expected prediction rows"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const char *path = scratch("bad.csv");
        la_predictions p;
        la_error err = {0};
        write_file(path, tables[i][0], strlen(tables[i][0]));
        assert_int_equal(la_predictions_read(path, &p, &err), LA_BAD_INPUT);
        if (!strstr(err.message, tables[i][1]))
            fail_msg("\"%s\" is not in \"%s\"", tables[i][1], err.message);
    }
}

/* ---- sets of classes ---- */

static void test_sets(void **state) {
    static const char *const names[] = {"x", "y, z", "w"};
    static const unsigned char set[] = {1, 0, 1};
    answer *a = new_answer();
    la_label label = {.kind = LA_LABEL_SET, .set = set};
    (void)state;
    a->shape.kind = &la_sigmoid_rows;
    a->row.label = label;
    check_line(&a->row, "{\"index\":7,\"label\":[0,2],\"prediction\":[],\"prediction_label\":[],"
                        "\"confidence\":0.5,\"probs\":[0.3333333333,0.5,0.1666666667],"
                        "\"map_probs\":[0.1,0.9,0],\"entropy\":1.011404265,"
                        "\"mutual_information\":null,\"variance\":null,"
                        "\"confidence_kind\":\"laplace-mc\"}");
    a->shape.labels = names;
    a->probs[0] = a->probs[1] = 0.75;
    set_variance(a, 0, 0.25, 0.5);
    a->row.label = la_label_none(LA_LABEL_SET);
    check_line(&a->row, "{\"index\":7,\"prediction\":[0,1],\"prediction_label\":[\"x\",\"y, z\"],"
                        "\"confidence\":0.5,\"probs\":[0.75,0.75,0.1666666667],"
                        "\"map_probs\":[0.1,0.9,0],\"entropy\":1.011404265,"
                        "\"mutual_information\":null,\"variance\":[0,0.25,0.5],"
                        "\"confidence_kind\":\"laplace-mc\"}");
    check_numerical(a, &a->probs[1], 1.5, "probs[1] is 1.5, expected 0 to 1");
    a->row.label = label;
    char *text = csv_of(&a->shape, &a->row, 1);
    assert_non_null(
        strstr(text, "\n7,,\"[0,2]\",\"[0,1]\",\"[\"\"x\"\",\"\"y, z\"\"]\",0.5,0.75,0.75,"));
    const char *path = scratch("sets.csv");
    la_predictions p;
    la_error err = {0};
    write_file(path, text, strlen(text));
    if (la_predictions_read(path, &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_ptr_equal(p.kind, &la_sigmoid_rows);
    assert_int_equal(p.n, 1);
    assert_memory_equal(p.labels.sets, set, 3);
    la_predictions_free(&p);
    free(text);
    free(a);
}

static bool same_numbers(const double *a, const double *b, size_t n) {
    return (!a && !b) || (a && b && !memcmp(a, b, n * sizeof *a));
}

/* Each line an object, with a first field that has it parsed where that is wanted. */
static void write_lines(const char *const *lines, int n, bool parsed) {
    char text[4096];
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        size_t brace = strcspn(lines[i], "{") + 1;
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%.*s%s%s\n", (int)brace, lines[i],
                             parsed ? "\"deep\":[[[[[[[[[[1]]]]]]]]]]," : "", lines[i] + brace);
    }
    write_file(scratch("scanned.jsonl"), text, used);
}

/* Rows are taken from their text where nothing is odd about them. Those with lists in lists are
 * parsed: both have the same values, or the same message. */
static void test_scanned_rows_are_parsed_rows(void **state) {
    static const char *const rows[] = {
        "{\"label\":0,\"probs\":[0.125,0.875],\"map_probs\":[1,0],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[1.25e-1,8.75E-1],\"map_probs\":[1e-300,1.0],"
        "\"confidence_kind\":\"map\"}",
        " { \"label\" : 1 , \"probs\" : [ 0.3333333333333333 , 0.66666666666666674 ] , "
        "\"map_probs\":[0,1],\"confidence_kind\":\"map\"} ",
        "{\"label\":1,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1],\"map_probs\":null,\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1],\"map_probs\":[0,1],\"confidence_kind\":\"laplace-mc\"}",
        "{\"label\":1,\"probs\":[0,1],\"map_probs\":[0,1],\"confidence_kind\":null}",
        "{\"label\":null,\"probs\":[0,1],\"map_probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"probs\":[0,1],\"map_probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"error\":\"x\",\"probs\":[7],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"error\":null,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":-0,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":2,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1.0,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1e0,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":12345678901234567890,\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1.1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[-1e-9,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0.1,0.1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0.5,0.5000009],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1,0],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[[0],[1]],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,\"1\"],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,NaN],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1e999],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,01],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1],\"probs\":[1,0],\"confidence_kind\":\"map\"}",
        "{\"label\":[1],\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"prediction\":[1],\"probs\":[0,1],\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"prediction\":1,\"variance\":1,\"confidence_kind\":\"map\"}",
        "{\"label\":1,\"probs\":[0,1],\"confidence_kind\":\"map\",\"text\":\"\\u00e9\"}",
        "{\"label\":1,\"probs\":[0,1],\"confidence_kind\":\"map\",\"text\":\"\xff\"}",
        "{\"label\":1,\"probs\":[0,1],\"confidence_kind\":\"map\"",
        "{\"label\":1,\"probs\":[0,1],\"confidence_kind\":\"map\"} x",
    };
    int refused = 0;
    (void)state;
    size_t n_rows = sizeof rows / sizeof *rows;
    /* behind rows that say a kind, and behind rows that say none */
    for (size_t r = 0; r < 2 * n_rows; r++) {
        const char *usual =
            r < n_rows ? rows[0] : "{\"label\":0,\"probs\":[0.125,0.875],\"map_probs\":[1,0]}";
        const char *lines[] = {usual, rows[1], rows[r % n_rows], usual};
        la_predictions p[2];
        la_error err[2] = {{0}, {0}};
        la_status status[2];
        for (int parsed = 0; parsed < 2; parsed++) {
            write_lines(lines, 4, parsed);
            status[parsed] =
                la_predictions_read(scratch("scanned.jsonl"), &p[parsed], &err[parsed]);
            err[parsed].message[strcspn(err[parsed].message, "(")] = 0; /* of a column */
        }
        assert_int_equal(status[0], status[1]);
        assert_string_equal(err[0].message, err[1].message);
        refused += status[0] != LA_OK;
        if (status[0] != LA_OK)
            continue;
        size_t n = (size_t)p[0].n;
        assert_int_equal(p[0].n, p[1].n);
        assert_int_equal(p[0].n_errors, p[1].n_errors);
        assert_int_equal(p[0].n_unlabelled, p[1].n_unlabelled);
        assert_int_equal(p[0].n_without_map, p[1].n_without_map);
        assert_string_equal(p[0].confidence_kind, p[1].confidence_kind);
        assert_true(same_numbers(p[0].values, p[1].values, 2 * n));
        assert_true(same_numbers(p[0].map_values, p[1].map_values, 2 * n));
        assert_memory_equal(p[0].labels.classes, p[1].labels.classes, n * sizeof(int64_t));
        la_predictions_free(&p[0]);
        la_predictions_free(&p[1]);
    }
    assert_int_equal(refused, 2 * 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_rows),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_written_rows),
        cmocka_unit_test(test_rows_that_are_not_written),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_bad_tables),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_scanned_rows_are_parsed_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
