/* predict --stdin: one answer for every line, whatever stands in it. */
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK "predict --posterior @/posterior --stdin --quiet"
#define FIT_TEXT                                                                                   \
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/posterior --quiet"

static const char *open_text_case(void) {
    const char *folder = open_case("bert");
    use_tokenizer(NULL, folder);
    command done = run_line(folder, FIT_TEXT, NULL);
    if (done.code)
        fail_msg("%s", done.err);
    command_free(&done);
    return folder;
}

static json_t *answers(const char *folder, const char *line, const char *input, int code) {
    command done = run_line(folder, line, input);
    if (done.code != code)
        fail_msg("exit %d: %s", done.code, done.err);
    write_file(scratch("answers.jsonl"), done.out, strlen(done.out));
    command_free(&done);
    return load_lines(scratch("answers.jsonl"));
}

static const json_t *probs(const json_t *rows, size_t i) {
    return json_object_get(json_array_get(rows, i), "probs");
}

/* Empty lines get what the tokenizer makes of an empty text; where lines end does not matter. */
static void every_line(void **state) {
    (void)state;
    const char *folder = open_text_case();
    static const char *const inputs[] = {"good\n\n{\"text\":\"\"}\n   \n\t\nfilm",
                                         "good\r\n\r\n{\"text\":\"\"}\r\n   \r\n\t\r\nfilm\r\n",
                                         "\xef\xbb\xbfgood\n\n{\"text\":\"\"}\n   \n\t\nfilm\n"};
    for (size_t k = 0; k < sizeof inputs / sizeof *inputs; k++) {
        json_t *rows = answers(folder, ASK, inputs[k], 0);
        assert_int_equal(json_array_size(rows), 6);
        for (size_t i = 0; i < 6; i++)
            assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, i), "index")),
                             i);
        for (size_t i = 2; i < 5; i++)
            assert_true(json_equal(probs(rows, i), probs(rows, 1)));
        assert_false(json_equal(probs(rows, 0), probs(rows, 1)));
        assert_false(json_equal(probs(rows, 5), probs(rows, 1)));
        json_decref(rows);
    }
    json_t *one = answers(folder, ASK, "\n", 0);
    assert_int_equal(json_array_size(one), 1);
    assert_non_null(probs(one, 0));
    json_decref(one);
    /* a file's blank lines are no rows, as ever */
    json_t *data = answers(folder, "predict --posterior @/posterior --data - --quiet",
                           "{\"text\":\"good\"}\n\n\n{\"text\":\"film\"}\n", 0);
    assert_int_equal(json_array_size(data), 2);
    json_decref(data);
}

/* A bad line is an error in its place and does not cost the lines behind it theirs. */
static void bad_lines(void **state) {
    (void)state;
    const char *folder = open_text_case();
    json_t *rows =
        answers(folder, ASK " --skip-bad",
                "good\n\xff\xfe\n{\"text\":\n\n{\"text\":5}\n{\"input_ids\":[]}\nfilm", 0);
    static const bool answered[] = {true, false, false, true, false, false, true};
    assert_int_equal(json_array_size(rows), 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(probs(rows, i) != NULL, answered[i]);
        assert_int_equal(json_object_get(json_array_get(rows, i), "error") != NULL, !answered[i]);
    }
    json_decref(rows);
    /* without the option the run ends there, and what was answered stands */
    rows = answers(folder, ASK, "good\n\n\xff\nfilm\n", 3);
    assert_int_equal(json_array_size(rows), 2);
    json_decref(rows);
}

/* A tokenizer without special tokens makes nothing of an empty text: an error row, not silence. */
static void no_tokens_at_all(void **state) {
    (void)state;
    const char *folder = open_text_case();
    json_t *tokenizer = load_json(in_case(folder, "base/tokenizer.json"));
    json_object_set_new(tokenizer, "post_processor", json_null());
    assert_int_equal(json_dump_file(tokenizer, in_case(folder, "base/tokenizer.json"), 0), 0);
    json_decref(tokenizer);
    command fitted = run_line(folder, FIT_TEXT, NULL);
    assert_int_equal(fitted.code, 0);
    command_free(&fitted);
    json_t *rows = answers(folder, ASK, "good\n\n  \n{\"text\":\"\"}\nfilm\n", 0);
    assert_int_equal(json_array_size(rows), 5);
    for (size_t i = 0; i < 5; i++) {
        bool answered = i == 0 || i == 4;
        const char *error = json_string_value(json_object_get(json_array_get(rows, i), "error"));
        assert_int_equal(probs(rows, i) != NULL, answered);
        assert_int_equal(error != NULL, !answered);
        if (error)
            assert_non_null(strstr(error, "no tokens"));
    }
    json_decref(rows);
}

/* A line is the text of the template's one field; of a template with two, it cannot be any. */
static void templates(void **state) {
    (void)state;
    static const struct {
        const char *prompt;
        bool answered;
    } list[] = {{"very {text}\n", true},
                {"very {question} {question}\n", true},
                {"very {question} {text}\n", false}};
    for (size_t k = 0; k < sizeof list / sizeof *list; k++) {
        const char *folder = open_case("bert");
        use_tokenizer(NULL, folder);
        static const char rows[] = "{\"text\":\"good\",\"question\":\"bad\",\"label\":0}\n"
                                   "{\"text\":\"film\",\"question\":\"yes\",\"label\":1}\n";
        write_file(in_case(folder, "calib.jsonl"), rows, strlen(rows));
        write_file(in_case(folder, "prompt.txt"), list[k].prompt, strlen(list[k].prompt));
        command fitted = run_line(folder, FIT_TEXT " --template @/prompt.txt", NULL);
        if (fitted.code)
            fail_msg("%s", fitted.err);
        command_free(&fitted);
        json_t *answer = answers(folder, ASK " --skip-bad", "good\n\n", 0);
        assert_int_equal(json_array_size(answer), 2);
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(probs(answer, i) != NULL, list[k].answered);
        json_decref(answer);
        /* an empty line does not end the run even so */
        answer = answers(folder, ASK, "\n\n", 0);
        assert_int_equal(json_array_size(answer), 2);
        json_decref(answer);
    }
}

/* No digit of an id is lost on the way. */
static void ids_are_kept(void **state) {
    (void)state;
    static const char *const ids[] = {"18446744073709551615", "1.10", "{\"a\": [1e400, \"}\"]}",
                                      "123456789012345678901234567890", "\"x\""};
    const char *folder = open_text_case();
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char row[200], wanted[200];
        snprintf(row, sizeof row, "{\"text\":\"good\",\"id\":%s}\n", ids[i]);
        snprintf(wanted, sizeof wanted, "\"id\":%s,\"prediction\"", ids[i]);
        command done = run_line(folder, ASK, row);
        if (done.code || !strstr(done.out, wanted))
            fail_msg("id %s: %s%s", ids[i], done.out, done.err);
        command_free(&done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line),       cmocka_unit_test(bad_lines),
        cmocka_unit_test(no_tokens_at_all), cmocka_unit_test(templates),
        cmocka_unit_test(ids_are_kept),
    };
    return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
