/* Damaged rows, each into one line and one exit code, or one error in its place. */
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALIB .file = "calib.jsonl"
#define TEST .file = "test.jsonl"
#define GOOD "{\"input_ids\":[5,6,7],\"label\":1}\n"
#define FIT_CSV "fit --base @/base --adapter @/adapter --data @/rows.csv --out @/out --quiet"
#define FIT_TSV "fit --base @/base --adapter @/adapter --data @/rows.tsv --out @/out --quiet"
#define CSV .file = "rows.csv"
#define REPORT "report @/p.jsonl --out @/out --format json --quiet"
#define P .file = "p.jsonl"

/* Row 731 of 800 is a. */
static void bad_line_731(const fault *f, const char *folder) {
    FILE *file = fopen(in_case(folder, f->file), "wb");
    for (int i = 1; i <= 800; i++)
        fputs(i == 731 ? f->a : GOOD, file);
    fclose(file);
}

/* In the file, every $ becomes a NUL byte and every # the byte 0xff. */
static void put_bytes(const fault *f, const char *folder) {
    size_t length = strlen(f->a);
    char *text = strdup(f->a);
    for (size_t i = 0; i < length; i++)
        text[i] = text[i] == '$' ? 0 : text[i] == '#' ? '\xff' : text[i];
    write_file(in_case(folder, f->file), text, length);
    free(text);
}

static void deep_row(const fault *f, const char *folder) {
    nest_deeply(f, folder);
    append_text(&(fault){CALIB, .a = "\n" GOOD}, folder);
}

/* A tokenizer, and the file := a. */
static void rows_with_tokenizer(const fault *f, const char *folder) {
    use_tokenizer(f, folder);
    put_file(f, folder);
}

/* A row of a tokens, all of id b. */
static void long_row(const fault *f, const char *folder) {
    FILE *file = fopen(in_case(folder, f->file), "wb");
    fputs("{\"input_ids\":[", file);
    for (int i = 0; i < atoi(f->a); i++)
        fprintf(file, "%s%s", i ? "," : "", f->b);
    fputs("],\"label\":1}\n", file);
    fclose(file);
}

#define SETS .damage = put_file, CALIB, .fixture = "bert-multilabel"

static const fault faults[] = {
    /* ---- sets of classes ---- */
    {"a set with another name",
     3,
     {"calib.jsonl:1:", "label \"spam\" is no class", "names sport, "},
     SETS,
     .a = "{\"input_ids\":[5,6],\"label\":[\"sport\",\"spam\"]}"},
    {"a set with another index",
     3,
     {"calib.jsonl:1:", "label 4, expected 0 to 3"},
     SETS,
     .a = "{\"input_ids\":[5,6],\"label\":[0,4]}"},
    {"shares for a set",
     3,
     {"calib.jsonl:1:", "label 0.5 is no whole number"},
     SETS,
     .a = "{\"input_ids\":[5,6],\"label\":[0.5,0,0,1]}"},
    {"no set",
     3,
     {"calib.jsonl:2:", "no label", "\"label\""},
     SETS,
     .a = "{\"input_ids\":[5,6],\"labels\":[]}\n{\"input_ids\":[5,6]}"},
    /* ---- rows ---- */
    {"45 empty data file", 3, {"calib.jsonl"}, NULL, put_file, CALIB, .a = ""},
    {"45 only blank lines", 3, {"calib.jsonl"}, NULL, put_file, CALIB, .a = "\n \n\n"},
    {"45 header only", 3, {"rows.csv"}, FIT_CSV, put_file, CSV, .a = "input_ids,label\n"},
    {"45 empty CSV", 3, {"rows.csv"}, FIT_CSV, put_file, CSV, .a = ""},
    {"45 nothing to predict", 3, {"test.jsonl"}, PREDICT, put_file, TEST, .a = ""},
    {"45 no predictions to report", 3, {"p.jsonl"}, REPORT, put_file, P, .a = ""},
    {"45 no such data file", 3, {"calib.jsonl"}, NULL, remove_file, CALIB},
    {"45 data is a folder",
     3,
     {"/base", "directory"},
     .command = "fit --base @/base --adapter @/adapter --data @/base --out @/out --quiet"},
    {"46 malformed line 731",
     3,
     {"calib.jsonl:731:", "JSON"},
     NULL,
     bad_line_731,
     CALIB,
     .a = "{\"input_ids\":[5,6,7],\"label\":}\n"},
    {"46 line 731 is an array",
     3,
     {"calib.jsonl:731:", "array"},
     NULL,
     bad_line_731,
     CALIB,
     .a = "[5,6,7]\n"},
    {"46 line 731 is cut off",
     3,
     {"calib.jsonl:731:", "JSON"},
     NULL,
     bad_line_731,
     CALIB,
     .a = "{\"input_ids\":[5,6\n"},
    {"46 two objects in line 731",
     3,
     {"calib.jsonl:731:", "JSON"},
     NULL,
     bad_line_731,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":1}{\"input_ids\":[5],\"label\":1}\n"},
    {"46 label of line 731 beyond the classes",
     3,
     {"calib.jsonl:731:", "label 3", "0 to 2"},
     NULL,
     bad_line_731,
     CALIB,
     .a = "{\"input_ids\":[5,6,7],\"label\":3}\n"},
    {"46 a byte-order mark is passed over",
     0,
     {NULL},
     NULL,
     put_file,
     CALIB,
     .a = "\xef\xbb\xbf" GOOD GOOD},
    {"46 CRLF line ends are line ends",
     0,
     {NULL},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5,6,7],\"label\":1}\r\n{\"input_ids\":[5],\"label\":0}\r\n"},
    {"46 no newline at the end",
     0,
     {NULL},
     NULL,
     put_file,
     CALIB,
     .a = GOOD "{\"input_ids\":[5],\"label\":0}"},
    {"46 a NUL byte",
     3,
     {"calib.jsonl:2:"},
     NULL,
     put_bytes,
     CALIB,
     .a = GOOD "{\"input_ids\":[5],$\"label\":0}\n"},
    {"46 a line of NUL bytes",
     3,
     {"calib.jsonl:2:"},
     NULL,
     put_bytes,
     CALIB,
     .a = GOOD "$$$$$$$$\n" GOOD},
    {"46 invalid UTF-8",
     3,
     {"calib.jsonl:3:", "0xff"},
     NULL,
     put_bytes,
     CALIB,
     .a = GOOD GOOD "{\"input_ids\":[5],\"x\":\"#\",\"label\":0}\n"},
    {"46 a lone surrogate",
     3,
     {"calib.jsonl:1:"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"x\":\"\\ud800\",\"label\":0}\n"},
    {"6 deep row", 3, {"calib.jsonl:1:", "depth"}, NULL, deep_row, CALIB},
    {"47 a quote that is never closed",
     3,
     {"rows.csv:3:", "quote"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label\n\"1 2\",0\n\"3 4,1\n5 6,2\n"},
    {"47 ragged row",
     3,
     {"rows.csv:3:", "3", "2"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label\n1 2,0\n3 4,1,7\n"},
    {"47 short row",
     3,
     {"rows.csv:3:", "1", "2"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label\n1 2,0\n3 4\n"},
    {"47 text after a closing quote",
     3,
     {"rows.csv:2:", "quote"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label\n\"1 2\"x,0\n"},
    {"47 line numbers count quoted newlines",
     3,
     {"rows.csv:5:", "label 9"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label,note\n1 2,0,\"a\nb\nc\"\n3 4,9,x\n"},
    {"47 invalid UTF-8 in a cell",
     3,
     {"rows.csv:2:", "UTF-8"},
     FIT_CSV,
     put_bytes,
     CSV,
     .a = "input_ids,label\n1 2#,0\n"},
    {"47 a NUL byte in a cell",
     3,
     {"rows.csv:2:"},
     FIT_CSV,
     put_bytes,
     CSV,
     .a = "input_ids,label\n1 2$ 99,0\n"},
    {"47 CSV with CRLF and BOM",
     0,
     {NULL},
     FIT_CSV,
     put_file,
     CSV,
     .a = "\xef\xbb\xbfinput_ids,label\r\n1 2,0\r\n3 4,1\r\n"},
    {"47 ragged TSV row",
     3,
     {"rows.tsv:2:"},
     FIT_TSV,
     put_file,
     .file = "rows.tsv",
     .a = "input_ids\tlabel\n1 2\t0\t5\n"},
    {"48 no column with text",
     3,
     {"calib.jsonl:1:", "body", "label"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"body\":\"x\",\"label\":0}\n"},
    {"48 the text field that was asked for",
     3,
     {"calib.jsonl:1:", "body", "text"},
     FIT " --text-field body",
     rows_with_tokenizer,
     CALIB,
     .a = "{\"text\":\"a\",\"label\":0}\n"},
    {"48 the pair field that was asked for",
     3,
     {"calib.jsonl:1:", "second", "text"},
     FIT " --pair-field second",
     rows_with_tokenizer,
     CALIB,
     .a = "{\"text\":\"a\",\"label\":0}\n"},
    {"48 the label field that was asked for",
     3,
     {"calib.jsonl:1:", "gold"},
     FIT " --label-field gold",
     put_file,
     CALIB,
     .a = GOOD},
    {"48 column twice",
     3,
     {"rows.csv:1:", "label"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label,label\n1 2,0,1\n"},
    {"48 text is a number",
     3,
     {"calib.jsonl:1:", "text", "integer"},
     NULL,
     rows_with_tokenizer,
     CALIB,
     .a = "{\"text\":5,\"label\":0}\n"},
    {"48 text is null",
     3,
     {"calib.jsonl:1:", "text", "null"},
     NULL,
     rows_with_tokenizer,
     CALIB,
     .a = "{\"text\":null,\"label\":0}\n"},
    {"49 unknown label name",
     3,
     {"calib.jsonl:2:", "maybe"},
     FIT " --labels no,yes,other",
     put_file,
     CALIB,
     .a = GOOD "{\"input_ids\":[5],\"label\":\"maybe\"}\n"},
    {"49 label name without names",
     3,
     {"calib.jsonl:1:", "yes", "--labels"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":\"yes\"}\n"},
    {"49 label name with a line break",
     3,
     {"calib.jsonl:1:"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":\"a\\nlaplora: error: b\\u001b[31m\"}\n"},
    {"49 fraction as a label",
     3,
     {"calib.jsonl:1:", "label 1.5", "0 to 2"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":1.5}\n"},
    {"49 whole number with a point as a label",
     0,
     {NULL},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":1.0}\n"},
    {"49 negative label",
     3,
     {"calib.jsonl:1:", "label -2"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":-2}\n"},
    {"49 label -1 is none",
     3,
     {"calib.jsonl:1:", "label"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":-1}\n"},
    {"49 label beyond int64",
     3,
     {"calib.jsonl:1:", "99999999999999999999"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":99999999999999999999}\n"},
    {"49 label of 2^32",
     3,
     {"calib.jsonl:1:", "4294967296"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":4294967296}\n"},
    {"49 label beyond int64 in CSV",
     3,
     {"rows.csv:2:"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label\n1 2,18446744073709551617\n"},
    {"49 missing label",
     3,
     {"calib.jsonl:2:", "label"},
     NULL,
     put_file,
     CALIB,
     .a = GOOD "{\"input_ids\":[5]}\n"},
    {"49 null label",
     3,
     {"calib.jsonl:1:", "label"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":null}\n"},
    {"49 label is a list",
     3,
     {"calib.jsonl:1:", "label", "array"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5],\"label\":[1]}\n"},
    {"49 bad label in predict",
     3,
     {"test.jsonl:1:", "label 3"},
     PREDICT,
     put_file,
     TEST,
     .a = "{\"input_ids\":[5],\"label\":3}\n"},
    {"51 one class in the calibration",
     0,
     {"classes", "\"log_likelihood\""},
     "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/out --json",
     put_file,
     CALIB,
     .a = GOOD GOOD GOOD},
    {"51 one calibration row",
     0,
     {"rows", "\"log_likelihood\""},
     "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/out --json",
     put_file,
     CALIB,
     .a = GOOD},
    {"input_ids is empty",
     3,
     {"calib.jsonl:1:", "input_ids", "empty"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[],\"label\":0}\n"},
    {"input_ids is text",
     3,
     {"calib.jsonl:1:", "input_ids"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":\"five six\",\"label\":0}\n"},
    {"input_ids ends in text",
     3,
     {"calib.jsonl:1:", "input_ids"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":\"5 six\",\"label\":0}\n"},
    {"input_ids holds a float",
     3,
     {"calib.jsonl:1:", "input_ids[1]"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[5,6.5],\"label\":0}\n"},
    {"input_ids holds a negative",
     3,
     {"calib.jsonl:1:", "input_ids[0]"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[-1],\"label\":0}\n"},
    {"input_ids holds 2^32",
     3,
     {"calib.jsonl:1:", "input_ids[1]"},
     NULL,
     put_file,
     CALIB,
     .a = "{\"input_ids\":[1,4294967296],\"label\":0}\n"},
    {"input_ids holds 2^32 as text",
     3,
     {"rows.csv:2:", "input_ids[1]"},
     FIT_CSV,
     put_file,
     CSV,
     .a = "input_ids,label\n1 4294967296,0\n"},
    {"token id beyond the vocabulary",
     3,
     {"calib.jsonl:2:", "97", "96"},
     NULL,
     put_file,
     CALIB,
     .a = GOOD "{\"input_ids\":[5,97],\"label\":0}\n"},
    {"token id beyond the vocabulary in predict",
     3,
     {"test.jsonl:1:", "5000"},
     PREDICT,
     put_file,
     TEST,
     .a = "{\"input_ids\":[5,5000]}\n"},
    {"more token ids than positions",
     3,
     {"calib.jsonl:1:", "65", "64"},
     NULL,
     long_row,
     CALIB,
     .a = "65",
     .b = "7"},
    {"as many token ids as positions", 0, {NULL}, NULL, long_row, CALIB, .a = "64", .b = "7"},

};

/* The cut of a long message must not fall into a character, wherever it falls. */
static void long_label(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    for (int shift = 0; shift < 2; shift++) {
        FILE *file = fopen(in_case(folder, "calib.jsonl"), "wb");
        fprintf(file, "{\"input_ids\":[5],\"label\":\"%s", shift ? "x" : "");
        for (int i = 0; i < 100000; i++)
            fputs("\xc3\xa9", file);
        fputs("\"}\n", file);
        fclose(file);
        command done = run_line(folder, FIT, NULL);
        const char *pieces[] = {"calib.jsonl:1:", "label"};
        check_message(&done, 3, pieces, 2);
        check_nothing_written(folder);
        json_t *text = json_stringn(done.err, strlen(done.err));
        if (!text)
            fail_msg("the message is not UTF-8");
        json_decref(text);
        command_free(&done);
    }
}

static json_t *line_of(const char *text, int number) {
    for (; number > 0 && text; number--)
        text = strchr(text, '\n') + 1;
    json_t *row = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(row);
    return row;
}

/* A bad row in the middle of a batch: its error in its place, the other answers as without it. */
static void skip_bad(void **state) {
    (void)state;
    static const char good[] = "{\"input_ids\":[5,6,7],\"id\":\"a\"}\n"
                               "{\"input_ids\":[8,9],\"id\":\"b\",\"label\":1}\n";
    static const char mixed[] = "{\"input_ids\":[5,6,7],\"id\":\"a\"}\n"
                                "{\"input_ids\":[5,97]}\n"
                                "nonsense\n"
                                "{\"input_ids\":[8,9],\"label\":\"x\"}\n"
                                "{\"input_ids\":[]}\n"
                                "{\"input_ids\":[8,9],\"id\":\"b\",\"label\":1}\n";
    const char *folder = open_case("bert");
    fit_case(folder);
    write_file(in_case(folder, "good.jsonl"), good, strlen(good));
    write_file(in_case(folder, "mixed.jsonl"), mixed, strlen(mixed));
    command clean = run_line(
        folder, "predict --posterior @/posterior --data @/good.jsonl --emit logits,cov --quiet",
        NULL);
    assert_int_equal(clean.code, 0);
    command done = run_line(folder,
                            "predict --posterior @/posterior --data @/mixed.jsonl --emit "
                            "logits,cov --skip-bad",
                            NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.err, "4 rows"));
    for (int i = 0; i < 6; i++) {
        json_t *row = line_of(done.out, i);
        assert_int_equal(json_integer_value(json_object_get(row, "index")), i);
        bool bad = i > 0 && i < 5;
        const char *error = json_string_value(json_object_get(row, "error"));
        assert_int_equal(error != NULL, bad);
        char where[32];
        snprintf(where, sizeof where, "mixed.jsonl:%d:", i + 1);
        if (bad) {
            assert_non_null(strstr(error, where));
        } else {
            json_t *same = line_of(clean.out, i ? 1 : 0);
            json_object_set_new(same, "index", json_integer(i));
            assert_true(json_equal(row, same));
            json_decref(same);
        }
        json_decref(row);
    }
    command_free(&clean);
    command_free(&done);
    done =
        run_line(folder, "predict --posterior @/posterior --data @/mixed.jsonl --out @/out", NULL);
    const char *pieces[] = {"mixed.jsonl:2:", "97"};
    check_message(&done, 3, pieces, 2);
    check_nothing_written(folder);
    command_free(&done);
}

/* --skip-bad in CSV: a ragged row is one row. */
static void skip_bad_csv(void **state) {
    (void)state;
    static const char csv[] = "input_ids,id\n1 2,a\n3 4,b,extra\n5 6,c\n7 8\n9 10,e\n";
    const char *folder = open_case("bert");
    fit_case(folder);
    write_file(in_case(folder, "rows.csv"), csv, strlen(csv));
    command done = run_line(
        folder, "predict --posterior @/posterior --data @/rows.csv --skip-bad --quiet", NULL);
    assert_int_equal(done.code, 0);
    for (int i = 0; i < 5; i++) {
        json_t *row = line_of(done.out, i);
        assert_int_equal(json_integer_value(json_object_get(row, "index")), i);
        assert_int_equal(json_object_get(row, "error") != NULL, i % 2);
        json_decref(row);
    }
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest more[] = {
        cmocka_unit_test(long_label),
        cmocka_unit_test(skip_bad),
        cmocka_unit_test(skip_bad_csv),
    };
    int failed = run_faults("faulty rows", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("faulty rows, more", more, NULL, NULL);
}
