/* Labels as tools write them, each into the class it means or an error that says what was
 * expected. */
#include "input/row_label.h"
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = -1, BAD = -2 };

static char warned[4096];

static void keep_warning(void *user, const char *message) {
    (void)user;
    snprintf(warned + strlen(warned), sizeof warned - strlen(warned), "%s\n", message);
}

static const la_log log_here = {.warn = keep_warning};

/* The first row's class, in the file's reading; BAD leaves the message in err. */
static int64_t class_in(const char *file, const char *text, const char *names, int64_t n_classes,
                        la_error *err) {
    la_row_fields fields = {.tagged = true, .log = &log_here};
    la_labels labels = {0};
    la_label_rule rule = {.names = &labels, .n_classes = n_classes};
    la_label label;
    la_row_reader *reader;
    la_row row;
    bool more;
    int64_t class = BAD;
    *warned = 0;
    write_file(scratch(file), text, strlen(text));
    if (names)
        assert_int_equal(la_labels_parse("--labels", names, &labels, err), LA_OK);
    assert_int_equal(la_label_reading_find(scratch(file), &fields, &rule, err), LA_OK);
    assert_int_equal(la_row_reader_open(scratch(file), &fields, &reader, err), LA_OK);
    assert_int_equal(la_row_reader_next(reader, &row, &more, err), LA_OK);
    assert_true(more);
    if (la_row_label(reader, &row, &rule, &label, err) == LA_OK)
        class = label.class;
    else
        assert_int_equal(err->status, LA_BAD_INPUT);
    la_row_reader_close(reader);
    la_labels_free(&labels);
    return class;
}

typedef struct spelling {
    const char *label; /* JSON, or a cell */
    const char *names;
    int64_t n_classes, class;
    const char *piece; /* part that the message must have */
} spelling;

static void check(const char *file, const char *format, const spelling *s) {
    char text[512];
    la_error err = {0};
    snprintf(text, sizeof text, format, s->label);
    int64_t got = class_in(file, text, s->names, s->n_classes, &err);
    if (got != s->class)
        fail_msg("%s: label %s of %d (%s) is %d, expected %d; %s", file, s->label,
                 (int)s->n_classes, s->names ? s->names : "no names", (int)got, (int)s->class,
                 err.message);
    if (s->piece && !strstr(err.message, s->piece))
        fail_msg("\"%s\" does not say \"%s\"", err.message, s->piece);
}

static void json_labels(void **state) {
    (void)state;
    static const spelling list[] = {
        {"1", NULL, 3, 1, NULL},
        {"1.0", NULL, 3, 1, NULL},
        {"2e0", NULL, 3, 2, NULL},
        {"-0.0", NULL, 3, 0, NULL},
        {"\"1\"", NULL, 3, 1, NULL},
        {"\"1.0\"", NULL, 3, 1, NULL},
        {"\" 2 \"", NULL, 3, 2, NULL},
        {"null", NULL, 3, NONE, NULL},
        {"NaN", NULL, 3, NONE, NULL},
        {"\"\"", NULL, 3, NONE, NULL},
        {"\"  \"", NULL, 3, NONE, NULL},
        {"\"nan\"", NULL, 3, NONE, NULL},
        {"-1", NULL, 3, NONE, NULL},
        {"-1.0", NULL, 3, NONE, NULL},
        {"true", NULL, 2, 1, NULL},
        {"false", NULL, 2, 0, NULL},
        {"true", "yes,no", 2, 1, NULL},
        {"true", "true,false", 2, 0, NULL},
        {"false", "True,False", 2, 1, NULL},
        {"true", "False,Unknown,True", 3, 2, NULL},
        {"true", NULL, 3, BAD, "label is true"},
        {"1.5", NULL, 3, BAD, "label 1.5 is no whole number, expected 0 to 2"},
        {"0.9999999999", NULL, 3, BAD, "no whole number"},
        {"-2", NULL, 3, BAD, "label -2, expected 0 to 2"},
        {"3", NULL, 3, BAD, "label 3, expected 0 to 2"},
        {"3.0", "a,b,c", 3, BAD, "label 3, expected 0 to 2 or one of the class names a, b, c"},
        {"4294967296", NULL, 3, BAD, "label 4294967296, expected 0 to 2"},
        {"1e300", NULL, 3, BAD, "expected 0 to 2"},
        {"18446744073709551616", NULL, 3, BAD, "18446744073709551616"},
        {"1e999", NULL, 3, BAD, "1e999"},
        {"\"b\"", "a,b,c", 3, 1, NULL},
        {"\" b\"", "a,b,c", 3, 1, NULL},
        {"\"B\"", "a,b,c", 3, BAD, "\"B\" is no class, expected 0 to 2 or one of the class names"},
        {"\"yes\"", NULL, 2, BAD, "--labels"},
        {"\"nan\"", "nan,b", 2, 0, NULL},
        {"\"None\"", "None,Some", 2, 0, NULL},
        {"\"None\"", "a,b", 2, NONE, NULL},
        {"[1]", NULL, 3, BAD, "an array"},
        {"\"1\\u0000\"", NULL, 3, BAD, "is no class"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        check("l.jsonl", "{\"text\":\"x\",\"label\":%s}\n", &list[i]);
}

static void table_labels(void **state) {
    (void)state;
    static const spelling list[] = {
        {"1.0", NULL, 3, 1, NULL},
        {"1", NULL, 3, 1, NULL},
        {"\"2\"", NULL, 3, 2, NULL},
        {"", NULL, 3, NONE, NULL},
        {"nan", NULL, 3, NONE, NULL},
        {"NaN", NULL, 3, NONE, NULL},
        {"NA", NULL, 3, NONE, NULL},
        {"<NA>", NULL, 3, NONE, NULL},
        {"True", NULL, 2, 1, NULL},
        {"FALSE", NULL, 2, 0, NULL},
        {"NA", "EU,NA", 2, 1, NULL},
        {"True", NULL, 3, BAD, "True"},
        {"1.5", NULL, 3, BAD, "no whole number"},
        {"0x1", NULL, 3, BAD, "is no class"},
        {"inf", NULL, 3, BAD, "is no class"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        check("l.csv", "text,label\nx,%s\n", &list[i]);
}

typedef struct numbers {
    const char *text, *names;
    int64_t n_classes, class; /* class of the first row */
    const char *note, *piece;
} numbers;

#define ROW(label) "{\"text\":\"x\",\"label\":" label "}\n"

/* One to five stars: whether 2 is the second or the third class is the same for all of a file. */
static void names_that_are_numbers(void **state) {
    (void)state;
    static const numbers list[] = {
        {"text,label\nx,2\n", "1,2,3", 3, 1, "read as class names", NULL},
        {"text,label\nx,2\nx,3\n", "1,2,3", 3, 1, "read as class names", NULL},
        {"text,label\nx,2\nx,0\n", "1,2,3", 3, 2, "read as numbers of classes", NULL},
        {"text,label\nx,2.0\nx,3.0\n", "1,2,3", 3, 1, "read as class names", NULL},
        {"text,label\nx,2\nx,0\nx,3\n", "1,2,3", 3, 1, "read as class names", NULL},
        {"text,label\nx,0\nx,3\n", "1,2,3", 3, BAD, NULL, "one of the class names 1, 2, 3"},
        {"text,label\nx,\nx,2\n", "1,2,3", 3, NONE, NULL, NULL},
        {"text,label\nx,-1\nx,2\n", "1,2,3", 3, NONE, NULL, NULL},
        {"text,label\nx,-1\nx,1\n", "-1,0,1", 3, 0, "read as class names", NULL},
        {"text,label\nx,2\nx,-1\n", "-1,0,1", 3, 2, "read as numbers of classes", NULL},
        {"text,label\nx,1.5\n", "0.5,1.0,1.5", 3, 2, "read as class names", NULL},
        {"text,label\nx,1\n", "1,0", 2, 0, "read as class names", NULL},
        {"text,label\nx,1\n", "0,1", 2, 1, NULL, NULL},
        {"text,label\nx,10\n", "10,20", 2, 0, "read as class names", NULL},
        {"text,label\nx,1\n", "a,b", 2, 1, NULL, NULL},
    };
    static const numbers json[] = {
        {ROW("2"), "1,2,3", 3, 1, "read as class names", NULL},
        {ROW("2") ROW("0"), "1,2,3", 3, 2, "read as numbers of classes", NULL},
        {ROW("2") ROW("3"), "1,2,3", 3, 1, "read as class names", NULL},
        /* a string names a class */
        {ROW("\"2\"") ROW("\"1\""), "1,2,3", 3, 1, "read as class names", NULL},
        {"nonsense\n" ROW("0"), "1,2,3", 3, BAD, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list + sizeof json / sizeof *json - 1; i++) {
        size_t tables = sizeof list / sizeof *list;
        const numbers *n = i < tables ? &list[i] : &json[i - tables];
        la_error err = {0};
        int64_t got =
            class_in(i < tables ? "n.csv" : "n.jsonl", n->text, n->names, n->n_classes, &err);
        if (got != n->class)
            fail_msg("%s among %s is %d, expected %d; %s", n->text, n->names, (int)got,
                     (int)n->class, err.message);
        if (n->note && !strstr(warned, n->note))
            fail_msg("%s among %s: \"%s\" does not say \"%s\"", n->text, n->names, warned, n->note);
        if (n->piece && !strstr(err.message, n->piece))
            fail_msg("\"%s\" does not say \"%s\"", err.message, n->piece);
        if (n->class >= 0 && !n->note)
            assert_string_equal(warned, "");
    }
}

static void targets(void **state) {
    (void)state;
    static const struct {
        const char *label;
        double number; /* NAN: none; -9: refused */
    } list[] = {{"1.5", 1.5},    {"-1", -1},      {"\"0.25\"", 0.25}, {"\" 3 \"", 3},
                {"null", NAN},   {"\"\"", NAN},   {"\"nan\"", NAN},   {"\"NaN\"", NAN},
                {"\"inf\"", -9}, {"\"0x1\"", -9}, {"\"good\"", -9},   {"[1]", -9},
                {"1e999", -9},   {"true", -9},    {"NaN", NAN},       {"Infinity", -9}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[200];
        la_row_fields fields = {.tagged = true};
        la_label_rule number = {.kind = LA_LABEL_NUMBER};
        la_row_reader *reader;
        la_row row;
        la_error err = {0};
        bool more;
        la_label label;
        snprintf(text, sizeof text, ROW("%s"), list[i].label);
        write_file(scratch("t.jsonl"), text, strlen(text));
        assert_int_equal(la_row_reader_open(scratch("t.jsonl"), &fields, &reader, &err), LA_OK);
        if (la_row_reader_next(reader, &row, &more, &err) != LA_OK)
            fail_msg("%s", err.message);
        la_status status = la_row_label(reader, &row, &number, &label, &err);
        if ((status != LA_OK) != (list[i].number == -9))
            fail_msg("label %s: status %d; %s", list[i].label, (int)status, err.message);
        if (status == LA_OK && !(isnan(label.number) && isnan(list[i].number)))
            assert_true(label.number == list[i].number);
        la_row_reader_close(reader);
    }
}

/* Sets of three classes a, b, c: "101" are a and c, "-" is none, "!" is refused. */
static void sets(void **state) {
    (void)state;
    static const struct {
        const char *file, *row, *set, *piece;
    } list[] = {
        {"s.jsonl", "{\"label\":[\"a\",\"c\"]}", "101", NULL},
        {"s.jsonl", "{\"labels\":[\"b\"]}", "010", NULL},
        {"s.jsonl", "{\"label\":[2,0]}", "101", NULL},
        {"s.jsonl", "{\"label\":[0,\"b\"]}", "110", NULL},
        {"s.jsonl", "{\"label\":[1,0,0]}", "100", NULL},
        {"s.jsonl", "{\"label\":[0.0,1.0,1.0]}", "011", NULL},
        {"s.jsonl", "{\"label\":[false,true,false]}", "010", NULL},
        {"s.jsonl", "{\"label\":[0,1]}", "110", NULL},
        {"s.jsonl", "{\"label\":[]}", "000", NULL},
        {"s.jsonl", "{\"label\":\"b\"}", "010", NULL},
        {"s.jsonl", "{\"label\":2}", "001", NULL},
        {"s.jsonl", "{\"label\":null,\"labels\":[2]}", "-", NULL},
        {"s.jsonl", "{\"text\":\"x\"}", "-", NULL},
        {"s.jsonl", "{\"label\":\"\"}", "-", NULL},
        {"s.jsonl", "{\"label\":[\"d\"]}", "!", "\"d\" is no class"},
        {"s.jsonl", "{\"label\":[3]}", "!", "label 3, expected 0 to 2"},
        {"s.jsonl", "{\"label\":[0,2,2,null]}", "!", "label[3] is missing"},
        {"s.jsonl", "{\"label\":[0.5,1,0]}", "!", "no whole number"},
        {"s.jsonl", "{\"label\":{\"a\":1}}", "!", "an object"},
        {"s.csv", "label,text\n\"[\"\"a\"\", \"\"b\"\"]\",x", "110", NULL},
        {"s.csv", "label,text\n\"[0, 0, 1]\",x", "001", NULL},
        {"s.csv", "label,text\nc,x", "001", NULL},
        {"s.csv", "label,text\n,x", "-", NULL},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char got[4] = "-";
        la_row_fields fields = {.tagged = true};
        la_labels names;
        la_row_reader *reader;
        la_row row;
        la_error err = {0};
        bool more;
        la_label label;
        write_file(scratch(list[i].file), list[i].row, strlen(list[i].row));
        assert_int_equal(la_labels_parse("--labels", "a,b,c", &names, &err), LA_OK);
        la_label_rule rule = {
            .kind = LA_LABEL_SET, .names = &names, .n_classes = 3, .reading = LA_READING_EITHER};
        assert_int_equal(la_row_reader_open(scratch(list[i].file), &fields, &reader, &err), LA_OK);
        assert_int_equal(la_row_reader_next(reader, &row, &more, &err), LA_OK);
        la_status status = la_row_label(reader, &row, &rule, &label, &err);
        for (int c = 0; c < 3 && status == LA_OK && !la_label_is_none(label); c++)
            snprintf(got + c, 2, "%d", label.set[c]);
        if (strcmp(status == LA_OK ? got : "!", list[i].set) ||
            (list[i].piece && !strstr(err.message, list[i].piece)))
            fail_msg("%s is %s, expected %s; %s", list[i].row, got, list[i].set, err.message);
        la_label_free(&label);
        la_row_reader_close(reader);
        la_labels_free(&names);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_labels),
        cmocka_unit_test(table_labels),
        cmocka_unit_test(names_that_are_numbers),
        cmocka_unit_test(targets),
        cmocka_unit_test(sets),
    };
    return cmocka_run_group_tests_name("labels", tests, NULL, NULL);
}
