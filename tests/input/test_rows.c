/* Reading rows: fields, labels and pairs from JSONL, CSV and TSV, and prompt templates. */
#include "input/row_label.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static la_row_reader *open_text(const char *name, const char *text, const la_row_fields *fields) {
    la_row_reader *reader;
    la_error err = {0};
    la_row_fields none = {0};
    write_file(scratch(name), text, strlen(text));
    if (la_row_reader_open(scratch(name), fields ? fields : &none, &reader, &err) != LA_OK)
        fail_msg("%s", err.message);
    return reader;
}

/* Text and pair of the next row; NULL where missing. */
static void expect(la_row_reader *reader, int64_t line, const char *text, const char *pair) {
    la_row row;
    bool more;
    la_error err = {0};
    if (la_row_reader_next(reader, &row, &more, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_true(more);
    assert_int_equal(row.line, line);
    assert_int_equal(row.text_length, strlen(text));
    assert_string_equal(row.text, text);
    if (pair)
        assert_string_equal(row.pair, pair);
    else
        assert_null(row.pair);
}

static void expect_end(la_row_reader *reader) {
    la_row row;
    bool more;
    la_error err = {0};
    assert_int_equal(la_row_reader_next(reader, &row, &more, &err), LA_OK);
    assert_false(more);
    la_row_reader_close(reader);
}

static void expect_error(la_row_reader *reader, const char *part) {
    la_row row;
    bool more;
    la_error err = {0};
    assert_int_equal(la_row_reader_next(reader, &row, &more, &err), LA_BAD_INPUT);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static void json_lines(void **state) {
    (void)state;
    la_row_reader *r = open_text("a.jsonl",
                                 "\xef\xbb\xbf{\"text\":\"one\"}\r\n"
                                 "\n"
                                 "{\"premise\":\"two\",\"hypothesis\":\"pair\",\"label\":1}\n"
                                 "{\"sentence1\":\"three\",\"sentence2\":null}\n"
                                 "{\"text\":\"first\",\"sentence\":\"second\"}",
                                 NULL);
    expect(r, 1, "one", NULL);
    expect(r, 3, "two", "pair");
    expect(r, 4, "three", NULL);
    expect(r, 5, "first", NULL);
    expect_end(r);
}

static void bad_lines_name_their_line(void **state) {
    (void)state;
    la_row_reader *r = open_text("b.jsonl",
                                 "{\"text\":\"one\"}\n{\"text\":\n[1]\n{\"other\":1}\n"
                                 "{\"text\":5}\n{\"input_ids\":[]}\n{\"input_ids\":[1,-2]}\n"
                                 "{\"text\":\"last\"}\n",
                                 NULL);
    expect(r, 1, "one", NULL);
    expect_error(r, "b.jsonl:2:");
    expect_error(r, "b.jsonl:3:");
    expect_error(r, "b.jsonl:4:");
    expect_error(r, "\"text\" is an integer");
    expect_error(r, "empty");
    expect_error(r, "input_ids[1]");
    /* and the reader goes on */
    expect(r, 8, "last", NULL);
    expect_end(r);
}

static void csv_quoting(void **state) {
    (void)state;
    la_row_reader *r = open_text("a.csv",
                                 "\xef\xbb\xbfid,text,label\r\n"
                                 "1,plain,0\r\n"
                                 "2,\"with, comma and \"\"quotes\"\"\",1\r\n"
                                 "3,\"two\n\n lines\",0\r\n"
                                 "4,\"\",1\r\n",
                                 NULL);
    expect(r, 2, "plain", NULL);
    expect(r, 3, "with, comma and \"quotes\"", NULL);
    expect(r, 4, "two\n\n lines", NULL);
    expect(r, 7, "", NULL);
    expect_end(r);
}

static void csv_faults(void **state) {
    (void)state;
    la_row_reader *r =
        open_text("b.csv", "text,label\na,1,2\n\"x\"y,1\nb,1\n\"open,1\nc,2\n", NULL);
    expect_error(r, "b.csv:2: 3 cells");
    expect_error(r, "b.csv:3:");
    expect(r, 4, "b", NULL);
    expect_error(r, "b.csv:5: a quote is opened");
    la_row_reader_close(r);
    la_error err = {0};
    la_row_fields none = {0};
    write_file(scratch("c.csv"), "text,text\n", 10);
    assert_int_equal(la_row_reader_open(scratch("c.csv"), &none, &r, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "twice"));
}

/* GLUE's TSV files have stray quotes; others quote cells that hold a tab */
static void tsv_quotes(void **state) {
    (void)state;
    la_row_reader *r = open_text("a.tsv",
                                 "sentence\tlabel\n"
                                 "\"a stray quote\t1\n"
                                 "the \"inner\" ones\t0\n"
                                 "\"a cell\twith a tab\"\t1\n",
                                 NULL);
    expect(r, 2, "\"a stray quote", NULL);
    expect(r, 3, "the \"inner\" ones", NULL);
    expect(r, 4, "a cell\twith a tab", NULL);
    expect_end(r);
}

static void token_ids(void **state) {
    (void)state;
    static const char *const texts[] = {"{\"input_ids\":[5,6,7],\"text\":\"not used\"}\n",
                                        "input_ids\n\"[5, 6, 7]\"\n", "input_ids\n5 6 7\n"};
    static const char *const names[] = {"i.jsonl", "i.csv", "j.csv"};
    for (int i = 0; i < 3; i++) {
        la_row_reader *r = open_text(names[i], texts[i], NULL);
        la_row row;
        bool more;
        la_error err = {0};
        assert_int_equal(la_row_reader_next(r, &row, &more, &err), LA_OK);
        assert_int_equal(row.n_ids, 3);
        assert_int_equal(row.ids[0], 5);
        assert_int_equal(row.ids[2], 7);
        la_row_reader_close(r);
    }
}

static void named_fields_and_labels(void **state) {
    (void)state;
    la_row_fields fields = {.text = "body", .pair = "title", .label = "y", .id = "key"};
    la_row_reader *r = open_text(
        "n.jsonl",
        "{\"body\":\"b\",\"title\":\"t\",\"y\":\"spam\",\"key\":7}\n{\"body\":\"b\",\"title\":"
        "\"t\","
        "\"y\":1}\n{\"body\":\"b\",\"title\":\"t\",\"y\":\"0\"}\n{\"body\":\"b\",\"title\":\"t\","
        "\"y\":-1}\n{\"body\":\"b\",\"title\":\"t\"}\n{\"body\":\"b\",\"title\":\"t\",\"y\":2}\n"
        "{\"body\":\"b\",\"title\":\"t\",\"y\":\"eggs\"}\n{\"body\":\"b\",\"title\":\"t\",\"y\":0."
        "5}\n",
        &fields);
    la_labels labels;
    la_error err = {0};
    assert_int_equal(la_labels_parse("--labels", "ham,spam", &labels, &err), LA_OK);
    la_label_rule rule = {.names = &labels, .n_classes = 2, .reading = LA_READING_EITHER};
    static const int64_t want[] = {1, 1, 0, -1, -1};
    la_row row;
    bool more;
    for (int i = 0; i < 5; i++) {
        la_label label;
        assert_int_equal(la_row_reader_next(r, &row, &more, &err), LA_OK);
        assert_string_equal(row.pair, "t");
        if (!i)
            assert_int_equal(json_integer_value(row.id), 7);
        assert_int_equal(la_row_label(r, &row, &rule, &label, &err), LA_OK);
        assert_int_equal(label.class, want[i]);
    }
    static const char *const messages[] = {"label 2, expected 0 to 1", "\"eggs\"",
                                           "no whole number"};
    for (int i = 0; i < 3; i++) {
        la_label label;
        err = (la_error){0};
        assert_int_equal(la_row_reader_next(r, &row, &more, &err), LA_OK);
        assert_int_equal(la_row_label(r, &row, &rule, &label, &err), LA_BAD_INPUT);
        assert_non_null(strstr(err.message, messages[i]));
    }
    la_labels_free(&labels);
    la_row_reader_close(r);
}

static void templates(void **state) {
    (void)state;
    la_template *prompt;
    la_error err = {0};
    const char *text = "Q: {question} {{n={n}}}\nAnswer:";
    assert_int_equal(la_template_parse("t.txt", text, strlen(text), &prompt, &err), LA_OK);
    la_row_fields fields = {.prompt = prompt};
    la_row_reader *r =
        open_text("t.jsonl", "{\"question\":\"why?\",\"n\":3}\n{\"n\":1}\n", &fields);
    expect(r, 1, "Q: why? {n=3}\nAnswer:", NULL);
    expect_error(r, "\"question\" is missing");
    la_row_reader_close(r);
    la_template_free(prompt);
    static const char *const wrong[] = {"{open", "close}", "{}", "{a{b}"};
    for (int i = 0; i < 4; i++) {
        err = (la_error){0};
        assert_int_equal(la_template_parse("t.txt", wrong[i], strlen(wrong[i]), &prompt, &err),
                         LA_BAD_INPUT);
    }
}

static char warnings[2000];

static void keep_warning(void *user, const char *message) {
    (void)user;
    snprintf(warnings + strlen(warnings), sizeof warnings - strlen(warnings), "%s\n", message);
}

/* The pair of a known data set is used; other columns with text are named in a note, once. */
static void no_column_is_dropped_unsaid(void **state) {
    (void)state;
    static const la_log log = {.warn = keep_warning};
    static const struct {
        const char *row, *text, *pair, *note;
    } list[] = {
        {"{\"question\":\"a b\",\"sentence\":\"c d\",\"idx\":1}", "a b", "c d",
         "with \"sentence\""},
        {"{\"passage\":\"c d\",\"question\":\"a b\",\"label\":1}", "a b", "c d",
         "with \"passage\""},
        {"{\"title\":\"a b\",\"content\":\"c d\"}", "a b", "c d", "with \"content\""},
        {"{\"text\":\"a b\",\"question\":\"c d\",\"passage\":\"e f\"}", "a b", NULL,
         "columns not read: question, passage"},
        {"{\"premise\":\"a b\",\"hypothesis\":\"c d\",\"sentence\":\"e f\"}", "e f", "c d",
         "columns not read: premise"},
        {"{\"text\":\"a b\",\"label\":\"c d\",\"id\":\"e f\",\"label_text\":\"g h\",\"url\":\"x\"}",
         "a b", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[500];
        la_row_fields fields = {.log = &log};
        *warnings = 0;
        snprintf(text, sizeof text, "%s\n%s\n", list[i].row, list[i].row);
        la_row_reader *r = open_text("k.jsonl", text, &fields);
        expect(r, 1, list[i].text, list[i].pair);
        size_t once = strlen(warnings);
        expect(r, 2, list[i].text, list[i].pair);
        assert_int_equal(strlen(warnings), once);
        expect_end(r);
        if (list[i].note ? !strstr(warnings, list[i].note) : *warnings)
            fail_msg("%s: \"%s\"", list[i].row, warnings);
    }
    *warnings = 0;
    la_row_fields chosen = {.text = "question", .log = &log};
    la_row_reader *r =
        open_text("k.jsonl", "{\"question\":\"a b\",\"sentence\":\"c d\"}\n", &chosen);
    expect(r, 1, "a b", NULL);
    expect_end(r);
    assert_string_equal(warnings, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines),
        cmocka_unit_test(bad_lines_name_their_line),
        cmocka_unit_test(csv_quoting),
        cmocka_unit_test(csv_faults),
        cmocka_unit_test(tsv_quotes),
        cmocka_unit_test(token_ids),
        cmocka_unit_test(named_fields_and_labels),
        cmocka_unit_test(templates),
        cmocka_unit_test(no_column_is_dropped_unsaid),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
