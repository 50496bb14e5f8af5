/* Text files of the user: the same text, whatever editor wrote them. */
#include "input/text_file.h"
#include "pipeline/session.h"
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#define BYTES(text) text, sizeof(text) - 1

static la_status read_bytes(const char *bytes, size_t length, char **text, size_t *n,
                            la_error *err) {
    write_file(scratch("p.txt"), bytes, length);
    *err = (la_error){0};
    return la_text_file_read(scratch("p.txt"), "a prompt", 1000, text, n, err);
}

static void same_text(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        const char *text;
    } list[] = {{BYTES("a\nb\n"), "a\nb\n"},
                {BYTES("a\r\nb\r\n"), "a\nb\n"},
                {BYTES("a\rb\r"), "a\nb\n"},
                {BYTES("a\r\r\nb\n\r"), "a\n\nb\n\n"},
                {BYTES("\xef\xbb\xbf"
                       "a\r\nb\n"),
                 "a\nb\n"},
                {BYTES("\xef\xbb\xbf"), ""},
                {BYTES(""), ""},
                {BYTES("\xc3\xa9\xf0\x9f\x98\x80"), "\xc3\xa9\xf0\x9f\x98\x80"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char *text;
        size_t n;
        la_error err;
        assert_int_equal(read_bytes(list[i].bytes, list[i].length, &text, &n, &err), LA_OK);
        assert_string_equal(text, list[i].text);
        assert_int_equal(n, strlen(list[i].text));
        free(text);
    }
}

static void refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t length;
        la_status status;
        const char *piece;
    } list[] = {{BYTES("\xff\xfe"
                       "a\0b\0"),
                 LA_UNSUPPORTED, "UTF-16"},
                {BYTES("\xfe\xff\0a\0b"), LA_UNSUPPORTED, "UTF-16"},
                {BYTES("a\0b\0c\0"), LA_UNSUPPORTED, "UTF-16"},
                {BYTES("\xff\xfe\0\0a\0\0\0"), LA_UNSUPPORTED, "UTF-32"},
                {BYTES("\x1f\x8b\x08\0"), LA_UNSUPPORTED, "gunzip"},
                {BYTES("\x50\x4b\x03\x04 a"), LA_UNSUPPORTED, "zip"},
                {BYTES("a\nb \xe9t\xe9\n"), LA_BAD_INPUT, "p.txt:2: not valid UTF-8"},
                {BYTES("\xed\xa0\x80"), LA_BAD_INPUT, "p.txt:1:"},
                {BYTES("\xc3"), LA_BAD_INPUT, "p.txt:1:"}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char *text;
        size_t n;
        la_error err;
        assert_int_equal(read_bytes(list[i].bytes, list[i].length, &text, &n, &err),
                         list[i].status);
        assert_null(text);
        if (!strstr(err.message, list[i].piece))
            fail_msg("\"%s\" does not say \"%s\"", err.message, list[i].piece);
    }
}

/* One newline at the end is an editor's, the others are the prompt's. */
static void prompts(void **state) {
    (void)state;
    static const char *const bytes[] = {"Q: {text}\nA:\n", "Q: {text}\r\nA:\r\n", "Q: {text}\nA:",
                                        "\xef\xbb\xbfQ: {text}\r\nA:", "Q: {text}\rA:\r"};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        la_template *prompt;
        la_error err = {0};
        write_file(scratch("q.txt"), bytes[i], strlen(bytes[i]));
        assert_int_equal(la_template_read(scratch("q.txt"), &prompt, &err), LA_OK);
        assert_string_equal(la_template_text(prompt), "Q: {text}\nA:");
        la_template_free(prompt);
    }
    la_template *prompt;
    la_error err = {0};
    assert_int_equal(la_template_parse("kept", "{text}\n", 7, &prompt, &err), LA_OK);
    assert_string_equal(la_template_text(prompt), "{text}\n");
    la_template_free(prompt);
    write_file(scratch("q.txt"), "{{text}}", 8);
    assert_int_equal(la_template_read(scratch("q.txt"), &prompt, &err), LA_BAD_INPUT);
    assert_null(prompt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_text),
        cmocka_unit_test(refused),
        cmocka_unit_test(prompts),
    };
    return cmocka_run_group_tests_name("text files", tests, NULL, NULL);
}
