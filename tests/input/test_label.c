/* Labels of every kind: written and read as JSON, and lists of them. */
#include "input/label.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { C = 4 };

/* Reads the row's label; returns the message, "" without one. */
static const char *read_label(la_label_kind kind, const char *row, la_label *label) {
    static la_error err;
    json_t *object = json_loads(row, 0, NULL);
    assert_non_null(object);
    err = (la_error){0};
    *label = la_label_none(kind);
    la_status status = la_label_of_json(object, "rows:7", C, label, &err);
    json_decref(object);
    assert_int_equal(status, *err.message ? LA_BAD_INPUT : LA_OK);
    return err.message;
}

/* Label that is read from the text is written as expected. */
static void check(la_label_kind kind, const char *text, const char *expected) {
    char row[128], *written = NULL;
    size_t size;
    la_label label;
    snprintf(row, sizeof row, "{\"label\": %s}", text);
    assert_string_equal(read_label(kind, row, &label), "");
    FILE *stream = open_memstream(&written, &size);
    la_label_write(stream, label, C);
    fclose(stream);
    assert_string_equal(written, expected);
    free(written);
    la_label_free(&label);
    assert_true(la_label_is_none(label));
}

static void labels_are_read_as_written(void **state) {
    (void)state;
    check(LA_LABEL_CLASS, "3", "3");
    check(LA_LABEL_SET, "[]", "[]");
    check(LA_LABEL_SET, "[3, 0, 3]", "[0,3]");
    check(LA_LABEL_NUMBER, "0.1", "0.1");
    check(LA_LABEL_NUMBER, "-0.0", "0");
    check(LA_LABEL_NUMBER, "0.30000000000000004", "0.30000000000000004");
    check(LA_LABEL_NUMBER, "2", "2");
}

static void missing_labels_are_none(void **state) {
    static const char *const rows[] = {"{}", "{\"label\": null}"};
    la_label label;
    (void)state;
    for (int kind = LA_LABEL_CLASS; kind <= LA_LABEL_SET; kind++)
        for (int i = 0; i < 2; i++) {
            assert_string_equal(read_label((la_label_kind)kind, rows[i], &label), "");
            assert_true(label.kind == (la_label_kind)kind && la_label_is_none(label));
        }
}

static void wrong_labels_name_the_place(void **state) {
    static const struct {
        la_label_kind kind;
        const char *row, *message;
    } cases[] = {
        {LA_LABEL_CLASS, "{\"label\": 4}",
         "rows:7: \"label\" is 4, expected 0 to 3 (no \"label\" where there is none)"},
        {LA_LABEL_CLASS, "{\"label\": \"ham\"}",
         "rows:7: \"label\" is a string, expected a class index"},
        {LA_LABEL_SET, "{\"label\": 1}",
         "rows:7: \"label\" is an integer, expected a list of class "
         "indices"},
        {LA_LABEL_SET, "{\"label\": [0, null]}",
         "rows:7: \"label\" is null, expected a class "
         "index"},
        {LA_LABEL_SET, "{\"label\": [-1]}",
         "rows:7: \"label\" is -1, expected 0 to 3 (no \"label\" where there is none)"},
    };
    la_label label;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(read_label(cases[i].kind, cases[i].row, &label), cases[i].message);
    assert_non_null(strstr(read_label(LA_LABEL_NUMBER, "{\"label\": \"1\"}", &label), "label"));
}

static void absent_classes_are_counted(void **state) {
    int64_t classes[] = {2, 0, 2};
    double numbers[] = {2, 0, 2};
    la_label_list list = {.kind = LA_LABEL_CLASS, .classes = classes};
    (void)state;
    assert_int_equal(la_label_list_absent(&list, 3, C), 2);
    assert_int_equal(la_label_list_absent(&list, 1, C), 3);
    assert_int_equal(la_label_list_absent(&list, 0, C), C);
    list = (la_label_list){.kind = LA_LABEL_NUMBER, .numbers = numbers};
    assert_int_equal(la_label_list_absent(&list, 3, C), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_read_as_written),
        cmocka_unit_test(missing_labels_are_none),
        cmocka_unit_test(wrong_labels_name_the_place),
        cmocka_unit_test(absent_classes_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
