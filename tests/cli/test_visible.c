/* Text from outside in the output of every command: no byte that a terminal obeys, no hidden
 * character. */
#include "base/error.h"
#include "base/visible.h"
#include "support/faults.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ESC, DEL, C1 in UTF-8 and as a byte, an override of direction, no width, a line separator, a line
 * end, no UTF-8. JSON holds all but the bytes that are none. */
#define SPOKEN "\x1b[31m\x7f\xc2\x9b\xe2\x80\xae\xe2\x80\x8b\xe2\x80\xa8\xef\xbb\xbf"
#define HOSTILE SPOKEN "\x9b\n\xff\xe2\x80"
#define IN_JSON "\\u001b[31m\x7f\xc2\x9b\xe2\x80\xae\xe2\x80\x8b\xe2\x80\xa8\xef\xbb\xbf\\nz"
#define SHOWN "\\x1b[31m\\x7f\\u009b\\u202e\\u200b\\u2028\\ufeff"

static void check_text(const char *what, const char *text) {
    json_t *valid = json_string(text);
    if (!valid)
        fail_msg("%s: not UTF-8: %.600s", what, text);
    json_decref(valid);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool bad = (*c < 0x20 && *c != '\n') || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0);
        bad |= *c == 0xe2 && c[1] == 0x80 &&
               ((c[2] >= 0x8b && c[2] <= 0x8f) || (c[2] >= 0xa8 && c[2] <= 0xae));
        bad |= *c == 0xe2 && c[1] == 0x81 && c[2] >= 0xa0 && c[2] <= 0xaf;
        bad |= *c == 0xef && c[1] == 0xbb && c[2] == 0xbf;
        if (bad)
            fail_msg("%s: byte %td (0x%02x) is raw: %.600s", what, (const char *)c - text, *c,
                     text);
    }
}

/* Runs it and looks at all that is said; the caller frees what it gets. */
static command run_shown(const char *folder, const char *line, const char *input) {
    command done = run_line(folder, line, input);
    check_text(line, done.out);
    check_text(line, done.err);
    return done;
}

/* A case in a folder of such a name. */
static const char *open_hostile(void) {
    static char folder[4096];
    const char *plain = open_case("bert");
    use_tokenizer(NULL, plain);
    snprintf(folder, sizeof folder, "%s" HOSTILE, plain);
    assert_int_equal(rename(plain, folder), 0);
    fit_case(folder);
    return folder;
}

static void expect(const char *folder, const char *line, int code, const char *piece) {
    command done = run_shown(folder, line, NULL);
    if (done.code != code)
        fail_msg("%s: exit code %d, expected %d: %.600s", line, done.code, code, done.err);
    if (piece && !strstr(done.out, piece) && !strstr(done.err, piece))
        fail_msg("%s: does not say %s: %.600s%.600s", line, piece, done.out, done.err);
    if (code > 1)
        check_message(&done, code, NULL, 0);
    command_free(&done);
}

static void paths(void **state) {
    (void)state;
    const char *folder = open_hostile();
    expect(folder,
           "predict --posterior @/posterior --base @/base --adapter @/adapter --data "
           "@/test.jsonl --samples 10 --out @/rows.jsonl",
           0, NULL);
    expect(folder, "predict --posterior @/posterior --data @/test.jsonl --samples 10", 0, NULL);
    static const char *const shows[] = {"base",       "adapter",     "posterior",
                                        "rows.jsonl", "calib.jsonl", "binary"};
    write_file(in_case(folder, "binary"), "a\0b", 3);
    for (size_t i = 0; i < sizeof shows / sizeof *shows; i++) {
        char line[64];
        bool known = i < 5;
        snprintf(line, sizeof line, "info @/%s", shows[i]);
        expect(folder, line, known ? 0 : 3, SHOWN);
        snprintf(line, sizeof line, "info @/%s --json", shows[i]);
        command done = run_shown(folder, line, NULL);
        json_t *parsed = json_loads(done.out, 0, NULL);
        assert_true(!known || (parsed && json_object_get(parsed, "path")));
        json_decref(parsed);
        command_free(&done);
    }
    expect(folder,
           "fit --base @/base --adapter @/adapter --data @/calib.jsonl --prior 1 --out "
           "@/second --verbose",
           0, SHOWN);
    expect(folder,
           "fit --base @/base --adapter @/adapter --data @/calib.jsonl --prior 1 --out "
           "@/second --json",
           0, NULL);
    static const char *const formats[] = {"text", "json", "markdown", "html", "junit"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        char line[80];
        snprintf(line, sizeof line, "report @/rows.jsonl --format %s", formats[i]);
        expect(folder, line, 0, "u202e");
    }
    static const char *const tables[] = {"text", "json", "markdown"};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char line[200];
        snprintf(line, sizeof line,
                 "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test "
                 "@/calib.jsonl --methods map --format %s",
                 tables[i]);
        expect(folder, line, 0, NULL);
    }
    expect(folder, "tokenize --base @/base --data @/test.jsonl", 0, NULL);
    static const char *const missing[] = {
        "info @/none",
        "fit --base @/none --adapter @/adapter --data @/calib.jsonl --out @/x",
        "fit --base @/base --adapter @/none --data @/calib.jsonl --out @/x",
        "fit --base @/base --adapter @/adapter --data @/none --out @/x",
        "predict --posterior @/none --data @/test.jsonl --out @/x",
        "report @/none",
        "tokenize --base @/base --data @/none",
        "report @/rows.jsonl --baseline @/none --max-regression ece=1"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        expect(folder, missing[i], 3, SHOWN);
    static const char *const unwritable[] = {
        "report @/rows.jsonl --out @/none/x",
        "tokenize --base @/base --data @/test.jsonl --out @/none/x",
        "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/none/x"};
    for (size_t i = 0; i < sizeof unwritable / sizeof *unwritable; i++)
        expect(folder, unwritable[i], 5, SHOWN);
}

static void arguments(void **state) {
    (void)state;
    const char *folder = open_hostile();
    static const char *const lines[] = {HOSTILE,
                                        "--" HOSTILE,
                                        "help " HOSTILE,
                                        "fit --" HOSTILE,
                                        "fit " HOSTILE,
                                        "fit --curvature " HOSTILE,
                                        "fit --samples=" HOSTILE,
                                        "predict --samples " HOSTILE,
                                        "report a --max " HOSTILE,
                                        "report a --format " HOSTILE,
                                        "compare --methods " HOSTILE,
                                        "tokenize " HOSTILE,
                                        "info a " HOSTILE,
                                        "predict --emit " HOSTILE};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        expect(folder, lines[i], 2, NULL);
    expect(folder,
           "fit --base @/base --adapter @/adapter --data @/calib.jsonl --label-field " HOSTILE
           " --out @/x",
           3, SHOWN);
    expect(folder,
           "fit --base @/base --adapter @/adapter --data @/calib.jsonl --device " HOSTILE
           " --out @/x",
           2, SHOWN);
}

/* Values in files. */
static void contents(void **state) {
    (void)state;
    static const struct {
        const char *file, *key, *value, *line;
        int code;
    } rows[] = {
        {"base/config.json", "model_type", "\"" IN_JSON "\"", "info @/base", 4},
        {"base/config.json", "hidden_act", "\"" IN_JSON "\"", FIT, 4},
        {"base/config.json", "id2label", "{\"0\":\"" IN_JSON "\",\"1\":\"b\",\"2\":\"c\"}", FIT, 0},
        {"adapter/adapter_config.json", "peft_type", "\"" IN_JSON "\"", FIT, 4},
        {"adapter/adapter_config.json", "base_model_name_or_path", "\"" IN_JSON "\"",
         "info @/adapter", 0},
        {"adapter/adapter_config.json", "target_modules", "[\"" IN_JSON "\"]", "info @/adapter",
         -1},
        {"adapter/adapter_config.json", IN_JSON, "1", FIT, -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *folder = open_case("bert");
        fault damage = {.file = rows[i].file, .a = rows[i].key, .b = rows[i].value};
        set_key(&damage, folder);
        command done = run_shown(folder, rows[i].line, NULL);
        if (rows[i].code >= 0 && done.code != rows[i].code)
            fail_msg("row %zu: exit code %d: %.600s", i, done.code, done.err);
        command_free(&done);
    }
    fault tensors[] = {
        {.file = "base/model.safetensors", .a = "word_embeddings.weight", .b = SPOKEN},
        {.file = "adapter/adapter_model.safetensors", .a = "lora_A.weight", .b = SPOKEN}};
    for (size_t i = 0; i < 2; i++) {
        const char *folder = open_case("bert");
        rename_tensor(&tensors[i], folder);
        command done = run_shown(folder, FIT, NULL);
        assert_int_not_equal(done.code, 0);
        command_free(&done);
    }
    const char *folder = open_case("bert");
    fault label = {.file = "calib.jsonl", .a = "{\"input_ids\":[3,4],\"label\":\"" IN_JSON "\"}\n"};
    put_file(&label, folder);
    expect(folder, FIT, 3, "\\x1b[31m");
    fault csv = {.file = "rows.csv", .a = SPOKEN ",label\na," SPOKEN "\n"};
    put_file(&csv, folder);
    expect(folder, "fit --base @/base --adapter @/adapter --data @/rows.csv --out @/x", 3, NULL);
}

/* Rows are JSON: the same values, nothing raw. */
static void json_rows(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fault names = {.file = "base/config.json",
                   .a = "id2label",
                   .b = "{\"0\":\"" IN_JSON "\",\"1\":\"" IN_JSON "1\",\"2\":\"" IN_JSON "2\"}"};
    fault data = {.file = "test.jsonl", .a = "{\"input_ids\":[3,4],\"id\":\"" IN_JSON "\"}\n"};
    set_key(&names, folder);
    fit_case(folder);
    put_file(&data, folder);
    command done =
        run_shown(folder, "predict --posterior @/posterior --data @/test.jsonl --samples 10", NULL);
    if (done.code)
        fail_msg("%s", done.err);
    json_t *row = json_loads(done.out, 0, NULL);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "id")), SPOKEN "\nz");
    assert_memory_equal(json_string_value(json_object_get(row, "prediction_label")), SPOKEN "\nz",
                        strlen(SPOKEN "\nz"));
    json_decref(row);
    command_free(&done);
}

/* However long a name is, the message is cut between characters. */
static void cut(void **state) {
    (void)state;
    for (size_t pad = 0; pad < 12; pad++) {
        char name[6000] = "";
        la_error err = {0};
        memset(name, 'a', pad);
        while (strlen(name) + 16 < sizeof name)
            strcat(name, pad % 2 ? "\xf0\x9f\x98\x80" : "\xe2\x82\xac\x1b");
        (void)la_fail(&err, LA_BAD_INPUT, "%s: found", name);
        check_text("cut", err.message);
        assert_true(strlen(err.message) > sizeof err.message - 6);
        size_t end = strlen(err.message);
        if (pad % 2)
            assert_memory_equal(err.message + end - 4, "\xf0\x9f\x98\x80", 4);
        else
            assert_true(!strcmp(err.message + end - 4, "\\x1b") ||
                        !strcmp(err.message + end - 3, "\xe2\x82\xac"));
    }
}

static void units(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        {"plain \\x1b \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
         "plain \\x1b \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\a\b\t\n\r\x1b\x7f", "\\x07\\x08\\t\\n\\r\\x1b\\x7f"},
        {"\xc2\x80\xc2\x9f\xc2\xa0", "\\u0080\\u009f\xc2\xa0"},
        {"\x80\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xff",
         "\\x80\\xc0\\xaf\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80\\xff"},
        {"\xe2\x82", "\\xe2\\x82"},
        /* a newline in more bytes than it takes */
        {"\xc0\x8a\xe0\x80\x8d", "\\xc0\\x8a\\xe0\\x80\\x8d"},
        {"\xe2\x80\x8e\xe2\x80\x8f\xe2\x81\xa6\xe2\x81\xa9\xe2\x80\xa9",
         "\\u200e\\u200f\\u2066\\u2069\\u2029"},
        {"\xf3\xa0\x81\x81", "\\U000e0041"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[200];
        la_visible(rows[i][0], out, sizeof out);
        assert_string_equal(out, rows[i][1]);
        la_visible(rows[i][0], out, strlen(rows[i][1])); /* a byte too small */
        assert_true(strlen(out) < strlen(rows[i][1]));
        assert_memory_equal(out, rows[i][1], strlen(out));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units),     cmocka_unit_test(cut),      cmocka_unit_test(paths),
        cmocka_unit_test(arguments), cmocka_unit_test(contents), cmocka_unit_test(json_rows),
    };
    return cmocka_run_group_tests_name("visible", tests, NULL, NULL);
}
