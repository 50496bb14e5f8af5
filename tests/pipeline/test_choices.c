/* Answer tokens of tokenizers that have them with and without a leading space. */
#include "pipeline/choices.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct family {
    const char *name;
    bool glued; /* an element alone is the token without a space */
} family;

/* byte-level BPE, and SentencePiece, which puts a space before every text */
static const family families[] = {{"llama3", true},  {"qwen2", true},    {"roberta", true},
                                  {"llama2", false}, {"mistral", false}, {"xlmr", false}};

static char notes[2048];
static int n_notes;

static void note(void *user, const char *message) {
    (void)user;
    n_notes++;
    strncat(notes, message, sizeof notes - strlen(notes) - 1);
}

static la_tokenizer *open_family(const char *name) {
    char path[128];
    la_tokenizer *tokenizer;
    la_error err = {0};
    snprintf(path, sizeof path, "tokenizer/%s", name);
    if (la_tokenizer_open(fixture(path), NULL, &tokenizer, &err) != LA_OK)
        fail_msg("%s", err.message);
    return tokenizer;
}

/* Ids of the list, [n]; the caller frees. notes and n_notes are those of this call. */
static int32_t *parse(la_tokenizer *tokenizer, const char *text, int64_t n) {
    la_log log = {.warn = note};
    la_error err = {0};
    la_labels names = {0};
    int32_t *ids;
    n_notes = 0;
    *notes = 0;
    if (la_choices_parse(tokenizer, text, &log, &ids, &names, &err) != LA_OK)
        fail_msg("%s: %s", text, err.message);
    assert_int_equal(names.count, n);
    la_labels_free(&names);
    return ids;
}

static int32_t last_token(la_tokenizer *tokenizer, const char *text) {
    la_encoding encoding = {0};
    la_encode_options options = {.no_special = true};
    la_error err = {0};
    assert_int_equal(
        la_tokenizer_encode(tokenizer, text, strlen(text), NULL, 0, &options, &encoding, &err),
        LA_OK);
    int32_t id = encoding.ids[encoding.n - 1];
    la_encoding_free(&encoding);
    return id;
}

static void one_rule(void **state) {
    (void)state;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        la_tokenizer *tokenizer = open_family(families[f].name);
        int32_t *plain = parse(tokenizer, "a,s,t", 3);
        assert_int_equal(n_notes, 1);
        assert_non_null(strstr(notes, "space"));
        assert_non_null(strstr(notes, families[f].glued ? "without a leading" : "with a leading"));
        printf("    %s: %s\n", families[f].name, notes);
        int32_t *blanks = parse(tokenizer, "a, s,  t ", 3);
        assert_int_equal(n_notes, 1);
        int32_t *asked = parse(tokenizer, "\\ a,\\ s,\\ t", 3);
        for (int i = 0; i < 3; i++) {
            char text[8];
            assert_int_equal(blanks[i], plain[i]);
            snprintf(text, sizeof text, "%c", "ast"[i]);
            assert_int_equal(plain[i], last_token(tokenizer, text));
            snprintf(text, sizeof text, ": %c", "ast"[i]);
            assert_int_equal(asked[i], last_token(tokenizer, text));
            assert_int_equal(asked[i] == plain[i], !families[f].glued);
        }
        free(plain);
        free(blanks);
        free(asked);
        la_tokenizer_close(tokenizer);
    }
}

static void a_mixture_is_told(void **state) {
    la_tokenizer *tokenizer = open_family("llama3");
    (void)state;
    free(parse(tokenizer, "\\ a,s", 2));
    assert_int_equal(n_notes, 1);
    assert_non_null(strstr(notes, "some are tokens with a leading space"));
    la_tokenizer_close(tokenizer);
}

static void refused(void **state) {
    static const struct {
        const char *list, *piece;
        la_status status;
    } bad[] = {{"a,,s", "element 2 is empty", LA_USAGE},
               {"a,s,", "element 3 is empty", LA_USAGE},
               {"a,s, a", "given twice", LA_USAGE},
               {"a,qqqqqqqqqqq", "expected one", LA_BAD_INPUT}};
    la_tokenizer *tokenizer = open_family("llama3");
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        la_labels names = {0};
        la_error err = {0};
        int32_t *ids;
        la_log log = {0};
        assert_int_equal(la_choices_parse(tokenizer, bad[i].list, &log, &ids, &names, &err),
                         bad[i].status);
        assert_non_null(strstr(err.message, bad[i].piece));
        assert_null(ids);
    }
    la_tokenizer_close(tokenizer);
}

static void ids_of_tokens(void **state) {
    static const char *const bad[] = {"",    "1,",  "1,,2", "1,x",       "-1",
                                      "1.5", "1 2", "0x1",  "4294967296"};
    la_error err = {0};
    int32_t *ids;
    int64_t n;
    (void)state;
    assert_int_equal(la_choice_ids_parse("319, 350 ,7", &ids, &n, &err), LA_OK);
    assert_int_equal(n, 3);
    assert_true(ids[0] == 319 && ids[1] == 350 && ids[2] == 7);
    free(ids);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (la_error){0};
        assert_int_equal(la_choice_ids_parse(bad[i], &ids, &n, &err), LA_USAGE);
        assert_non_null(strstr(err.message, "--choice-ids"));
        assert_null(ids);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rule),
        cmocka_unit_test(a_mixture_is_told),
        cmocka_unit_test(refused),
        cmocka_unit_test(ids_of_tokens),
    };
    return cmocka_run_group_tests_name("choices", tests, NULL, NULL);
}
