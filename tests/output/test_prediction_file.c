/* Predictions read one by one: from their text, parsed, as entries of a list and from tables, they
 * have the same members. */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "output/prediction_file.h"

static const char *const LINES[] = {
    "{\"id\":\"a\",\"label\":1,\"probs\":[0.25,0.75],\"held_out\":true,\"none\":null}",
    "{\"id\":\"\\u00e4\\ud83d\\ude00\",\"text\":\"\xc3\xa4 "
    "\\\"x\\\"\\n\",\"fields\":{\"a\":[1,{}]}}",
    "{\"error\":\"x\",\"probs\":7}",
    "{\"id\":7,\"model\":\"m\",\"tokens\":[{\"token\":0,\"probs\":[1,0]},"
    "{\"token\":1,\"probs\":[0,1],\"id\":\"own\"}]}",
    "{\"tokens\":[]}",
    "{\"tokens\":[1],\"probs\":[0.5,0.5]}",
    "{\"error\":null,\"probs\":[1e-3,0.999]}"};
enum { N_LINES = sizeof LINES / sizeof *LINES, ENTRIES = 7 };

/* The form of a file: a line each, the same with a field that has them parsed, or one list. */
static void write_rows(const char *const *lines, int n, int form) {
    char text[4096];
    size_t used = 0;
    for (int i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s{%s%s%s\n",
                                 form == 2 && !i ? "[" : "",
                                 form == 1 ? "\"deep\":[[[[[[[[[[1]]]]]]]]]]," : "", lines[i] + 1,
                                 form == 2 ? i + 1 < n ? "," : "]" : "");
    write_file(scratch("rows.jsonl"), text, used);
}

/* All members of a row but "deep". */
static json_t *object_of(const la_json_value *members, int n) {
    json_t *object = json_object();
    for (int m = 0; m < n; m++) {
        char key[40];
        snprintf(key, sizeof key, "%.*s", (int)members[m].key_length, members[m].key);
        if (strcmp(key, "deep"))
            json_object_set_new(object, key, la_json_value_parse(&members[m]));
    }
    return object;
}

static void read_rows(json_t *entries) {
    la_prediction_file *file;
    la_prediction_entry entry;
    la_error err = {0};
    bool more;
    assert_int_equal(la_prediction_file_open(scratch("rows.jsonl"), NULL, true, &file, &err),
                     LA_OK);
    for (;;) {
        if (la_prediction_file_next(file, &entry, &more, &err) != LA_OK)
            fail_msg("%s", err.message);
        if (!more)
            break;
        json_t *own = object_of(entry.members, entry.n_members);
        json_t *row = object_of(entry.row, entry.n_row);
        json_t *full = json_incref(la_entry_json(&entry, &err));
        json_object_del(full, "deep");
        assert_true(json_equal(own, full));
        json_decref(full);
        json_array_append_new(entries, json_pack("{s:o,s:o,s:I,s:I,s:b,s:b}", "own", own, "row",
                                                 row, "line", (json_int_t)entry.line, "index",
                                                 (json_int_t)entry.index, "failed", entry.failed,
                                                 "held_out", la_entry_is(&entry, "held_out")));
    }
    assert_int_equal(la_prediction_file_lists(file), 2);
    la_prediction_file_close(file);
}

static void test_forms(void **state) {
    json_t *found[3];
    (void)state;
    for (int form = 0; form < 3; form++) {
        write_rows(LINES, N_LINES, form);
        read_rows(found[form] = json_array());
        assert_true(json_equal(found[0], found[form]));
    }
    assert_int_equal(json_array_size(found[0]), ENTRIES);
    const json_t *token = json_array_get(found[0], 4);
    assert_string_equal(json_string_value(json_object_get(json_object_get(token, "own"), "id")),
                        "own");
    assert_string_equal(json_string_value(json_object_get(json_object_get(token, "row"), "model")),
                        "m");
    for (int form = 0; form < 3; form++)
        json_decref(found[form]);
}

static void test_fields_of_tokens(void **state) {
    la_prediction_file *file;
    la_prediction_entry entry;
    la_error err = {0};
    bool more;
    (void)state;
    write_rows(LINES + 3, 1, 0);
    assert_int_equal(la_prediction_file_open(scratch("rows.jsonl"), NULL, true, &file, &err),
                     LA_OK);
    assert_int_equal(la_prediction_file_next(file, &entry, &more, &err), LA_OK);
    assert_null(la_entry_member(&entry, "model"));
    assert_memory_equal(la_entry_field(&entry, "model")->text, "m", 1);
    assert_int_equal(la_entry_field(&entry, "id")->type, '0');
    assert_int_equal(la_prediction_file_next(file, &entry, &more, &err), LA_OK);
    assert_memory_equal(la_entry_field(&entry, "id")->text, "own", 3);
    la_prediction_file_close(file);
}

static void test_table(void **state) {
    static const char text[] = "id,label,prob_x,prob_y,held_out,note,list\n"
                               "007,1,0.25,0.75,true,,\"[1, 2]\"\n";
    la_prediction_file *file;
    la_prediction_entry entry;
    la_error err = {0};
    bool more;
    int64_t label;
    (void)state;
    write_file(scratch("rows.csv"), text, sizeof text - 1);
    assert_int_equal(la_prediction_file_open(scratch("rows.csv"), NULL, true, &file, &err), LA_OK);
    assert_int_equal(la_prediction_file_next(file, &entry, &more, &err), LA_OK);
    const la_json_value *id = la_entry_member(&entry, "id");
    assert_int_equal(id->length, 3); /* its digits */
    assert_memory_equal(id->text, "007", 3);
    assert_true(la_json_value_integer(la_entry_member(&entry, "label"), &label) && label == 1);
    assert_int_equal(la_entry_member(&entry, "probs")->count, 2);
    assert_int_equal(la_entry_member(&entry, "list")->count, 2);
    assert_true(la_entry_is(&entry, "held_out"));
    assert_null(la_entry_member(&entry, "note"));
    assert_int_equal(la_prediction_file_next(file, &entry, &more, &err), LA_OK);
    assert_false(more);
    la_prediction_file_close(file);
}

/* Rows that are refused, whoever reads them. */
static void test_refused(void **state) {
    static const struct {
        const char *row, *says;
        bool lists;
    } rows[] = {{"{\"tokens\":{}}", ":1: \"tokens\" is an object, expected a list", true},
                {"{\"tokens\":[{\"probs\":[1]},3]}", ":1: \"tokens\"[1] is an integer", true},
                {"{\"tokens\":[]}", ":1: the answers of a row's tokens are a list", false},
                {"{\"a\":1,\"a\":2}", "duplicate", true},
                {"{\"a\":1", "not valid JSON", true},
                {"[7]", "not valid JSON", true}};
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        la_prediction_file *file;
        la_prediction_entry entry;
        la_error err = {0};
        bool more = true;
        write_file(scratch("rows.jsonl"), rows[r].row, strlen(rows[r].row));
        assert_int_equal(
            la_prediction_file_open(scratch("rows.jsonl"), NULL, rows[r].lists, &file, &err),
            LA_OK);
        while (more && la_prediction_file_next(file, &entry, &more, &err) == LA_OK)
            ;
        assert_int_equal(err.status, LA_BAD_INPUT);
        if (!strstr(err.message, rows[r].says))
            fail_msg("%s: %s", rows[r].row, err.message);
        la_prediction_file_close(file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms), cmocka_unit_test(test_fields_of_tokens),
        cmocka_unit_test(test_table), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
