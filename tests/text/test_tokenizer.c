/* Token ids against the `tokenizers` library: small vocabularies trained by
 * tests/generate/tokenizer_fixtures.py and tokenizer_families.py, one folder a configuration. Every
 * id and every type must be the same. */
#include "support/support.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t lines_checked;

static void check_line(la_tokenizer *tokenizer, const char *name, int number, const json_t *row) {
    const json_t *text = json_object_get(row, "text"), *pair = json_object_get(row, "pair");
    const json_t *limit = json_object_get(row, "max_length"), *want = json_object_get(row, "ids");
    const json_t *types = json_object_get(row, "type_ids");
    la_encode_options options = {.max_length = json_integer_value(limit)};
    la_encoding got = {0};
    la_error err = {0};
    if (la_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text),
                            json_string_value(pair), json_string_length(pair), &options, &got,
                            &err) != LA_OK)
        fail_msg("%s line %d: %s", name, number, err.message);
    bool same = (size_t)got.n == json_array_size(want);
    for (int64_t i = 0; same && i < got.n; i++)
        same = got.ids[i] == json_integer_value(json_array_get(want, (size_t)i)) &&
               got.types[i] == json_integer_value(json_array_get(types, (size_t)i));
    if (!same)
        fail_msg("%s line %d: other ids for %s", name, number,
                 json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII));
    la_encoding_free(&got);
    lines_checked++;
}

static void check_variant(const char *name) {
    char path[512];
    la_tokenizer *tokenizer;
    la_error err = {0};
    snprintf(path, sizeof path, "tokenizer/%s", name);
    if (la_tokenizer_open(fixture(path), NULL, &tokenizer, &err) != LA_OK)
        fail_msg("%s", err.message);
    snprintf(path, sizeof path, "tokenizer/%s/%s.jsonl", name, name);
    json_t *lines = load_lines(fixture(path)), *row;
    size_t i;
    json_array_foreach(lines, i, row) check_line(tokenizer, name, (int)i + 1, row);
    assert_true(i > 25);
    json_decref(lines);
    la_tokenizer_close(tokenizer);
}

#define VARIANT(function, name)                                                                    \
    static void function(void **state) {                                                           \
        (void)state;                                                                               \
        check_variant(name);                                                                       \
    }

VARIANT(uncased, "uncased")
VARIANT(cased, "cased")
VARIANT(cased_strip, "cased-strip")
VARIANT(no_chinese, "nochinese")
VARIANT(added_tokens, "added")
VARIANT(truncating, "truncating")
VARIANT(truncating_left, "truncating-left")
VARIANT(bert_processing, "bertprocessing")
VARIANT(sequence, "sequence")
VARIANT(sequence_nfkc, "sequence-nfkc")
VARIANT(sequence_nfkd, "sequence-nfkd")
VARIANT(small_words, "smallmax")
VARIANT(unicode_age, "unicode-age")
VARIANT(unicode_age_sequence, "unicode-age-sequence")

/* The families: tests/generate/tokenizer_families.py. */
VARIANT(roberta, "roberta")
VARIANT(llama3, "llama3")
VARIANT(qwen2, "qwen2")
VARIANT(modernbert, "modernbert")
VARIANT(llama2, "llama2")
VARIANT(mistral, "mistral")
VARIANT(gemma, "gemma")
VARIANT(bpe_partial_bytes, "bpe-partial-bytes")
VARIANT(bpe_fused_bytes, "bpe-fused-bytes")
VARIANT(clip, "clip")
VARIANT(bpe_prefix, "bpe-prefix")
VARIANT(xlmr, "xlmr")
VARIANT(deberta, "deberta")
VARIANT(albert, "albert")
VARIANT(unigram_bytes, "unigram-bytes")
VARIANT(wordlevel, "wordlevel")

/* Unknown parts are named in an error, never passed over. */
static void unsupported_parts(void **state) {
    (void)state;
    static const char *const documents[][2] = {
        {"{\"model\":{\"type\":\"Markov\",\"vocab\":{},\"merges\":[]}}", "Markov"},
        {"{\"normalizer\":{\"type\":\"Rot13\"},\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":"
         "0}"
         "}}",
         "Rot13"},
        {"{\"pre_tokenizer\":{\"type\":\"ByVowels\"},\"model\":{\"type\":\"WordPiece\","
         "\"vocab\":{\"a\":0}}}",
         "ByVowels"},
        {"{\"post_processor\":{\"type\":\"Postscript\"},\"model\":{\"type\":\"WordPiece\","
         "\"vocab\":{\"a\":0}}}",
         "Postscript"},
    };
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        la_tokenizer *tokenizer;
        la_error err = {0};
        const char *path = scratch("tokenizer.json");
        char folder[4096];
        write_file(path, documents[i][0], strlen(documents[i][0]));
        snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
        assert_int_equal(la_tokenizer_open(folder, NULL, &tokenizer, &err), LA_UNSUPPORTED);
        assert_non_null(strstr(err.message, documents[i][1]));
        assert_non_null(strstr(err.message, "tokenizer.json"));
    }
}

static void left_truncation_keeps_the_end(void **state) {
    (void)state;
    la_tokenizer *tokenizer;
    la_error err = {0};
    assert_int_equal(la_tokenizer_open(fixture("tokenizer/uncased"), NULL, &tokenizer, &err),
                     LA_OK);
    la_encoding whole = {0}, cut = {0};
    const char *text = "one two three four five six seven eight nine ten";
    la_encode_options all = {.max_length = 1000}, left = {.max_length = 6, .truncate_left = true};
    assert_int_equal(
        la_tokenizer_encode(tokenizer, text, strlen(text), NULL, 0, &all, &whole, &err), LA_OK);
    assert_int_equal(la_tokenizer_encode(tokenizer, text, strlen(text), NULL, 0, &left, &cut, &err),
                     LA_OK);
    assert_false(whole.truncated);
    assert_true(cut.truncated);
    assert_int_equal(cut.n, 6);
    for (int64_t i = 1; i < cut.n; i++)
        assert_int_equal(cut.ids[cut.n - i], whole.ids[whole.n - i]);
    assert_int_equal(cut.ids[0], whole.ids[0]);
    la_encode_options tiny = {.max_length = 1};
    assert_int_equal(la_tokenizer_encode(tokenizer, text, strlen(text), NULL, 0, &tiny, &cut, &err),
                     LA_USAGE);
    la_encoding_free(&whole);
    la_encoding_free(&cut);
    la_tokenizer_close(tokenizer);
}

static void invalid_utf8_is_refused(void **state) {
    (void)state;
    la_tokenizer *tokenizer;
    la_error err = {0};
    la_encoding out = {0};
    la_encode_options options = {0};
    assert_int_equal(la_tokenizer_open(fixture("tokenizer/uncased"), NULL, &tokenizer, &err),
                     LA_OK);
    static const char *const texts[] = {"a\xff", "\xc3", "\xed\xa0\x80", "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        err = (la_error){0};
        assert_int_equal(la_tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), NULL, 0,
                                             &options, &out, &err),
                         LA_BAD_INPUT);
    }
    la_encoding_free(&out);
    la_tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uncased),
        cmocka_unit_test(cased),
        cmocka_unit_test(cased_strip),
        cmocka_unit_test(no_chinese),
        cmocka_unit_test(added_tokens),
        cmocka_unit_test(truncating),
        cmocka_unit_test(truncating_left),
        cmocka_unit_test(bert_processing),
        cmocka_unit_test(sequence),
        cmocka_unit_test(sequence_nfkc),
        cmocka_unit_test(sequence_nfkd),
        cmocka_unit_test(small_words),
        cmocka_unit_test(unicode_age),
        cmocka_unit_test(unicode_age_sequence),
        cmocka_unit_test(roberta),
        cmocka_unit_test(llama3),
        cmocka_unit_test(qwen2),
        cmocka_unit_test(modernbert),
        cmocka_unit_test(llama2),
        cmocka_unit_test(mistral),
        cmocka_unit_test(gemma),
        cmocka_unit_test(bpe_partial_bytes),
        cmocka_unit_test(bpe_fused_bytes),
        cmocka_unit_test(clip),
        cmocka_unit_test(bpe_prefix),
        cmocka_unit_test(xlmr),
        cmocka_unit_test(deberta),
        cmocka_unit_test(albert),
        cmocka_unit_test(unigram_bytes),
        cmocka_unit_test(wordlevel),
        cmocka_unit_test(unsupported_parts),
        cmocka_unit_test(left_truncation_keeps_the_end),
        cmocka_unit_test(invalid_utf8_is_refused),
    };
    int failed = cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
    print_message("    %lld lines with identical ids\n", (long long)lines_checked);
    return failed;
}
