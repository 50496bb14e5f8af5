/* Damaged and hostile tokenizer.json: an error that names the file and the place, never a crash or
 * a hang. Run under sanitizers by `make asan`. */
#include "support/support.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTE_MODEL "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
#define WITH(part) "{\"model\":" BYTE_MODEL "," part "}"
#define MODEL(fields) "{\"model\":{" fields "}}"
#define UNIGRAM(fields) MODEL("\"type\":\"Unigram\"," fields)

static la_status open_text(const char *text, la_tokenizer **tokenizer, la_error *err) {
    char folder[4096];
    const char *path = scratch("tokenizer.json");
    write_file(path, text, strlen(text));
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    *err = (la_error){0};
    return la_tokenizer_open(folder, NULL, tokenizer, err);
}

static void refused(const char *text, la_status status, const char *named) {
    la_tokenizer *tokenizer;
    la_error err;
    if (open_text(text, &tokenizer, &err) == LA_OK)
        fail_msg("taken: %.200s", text);
    if (err.status != status || !strstr(err.message, named) ||
        !strstr(err.message, "tokenizer.json"))
        fail_msg("%.200s: status %d, %s; expected status %d and \"%s\"", text, (int)err.status,
                 err.message, (int)status, named);
}

/* The status of an encode by a tokenizer that can be opened. */
static la_status encode(const char *tokenizer_text, const char *text, size_t n, int64_t *n_ids,
                        char message[512]) {
    la_tokenizer *tokenizer;
    la_error err;
    la_encoding out = {0};
    la_encode_options options = {0};
    if (open_text(tokenizer_text, &tokenizer, &err) != LA_OK)
        fail_msg("%s", err.message);
    la_status status = la_tokenizer_encode(tokenizer, text, n, NULL, 0, &options, &out, &err);
    *n_ids = out.n;
    snprintf(message, 512, "%s", err.message);
    la_encoding_free(&out);
    la_tokenizer_close(tokenizer);
    return status;
}

static void damaged_models(void **state) {
    (void)state;
    static const struct {
        const char *text;
        la_status status;
        const char *named;
    } cases[] = {
        {"{}", LA_BAD_INPUT, "model"},
        {"{\"model\":[]}", LA_BAD_INPUT, "model"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0}"), LA_BAD_INPUT, "merges"},
        {MODEL("\"type\":\"BPE\",\"vocab\":[],\"merges\":[]"), LA_BAD_INPUT, "vocab"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{\"a\":1}"), LA_BAD_INPUT,
         "merges"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]"), LA_BAD_INPUT,
         "merges[0]"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]"), LA_BAD_INPUT,
         "merges[0]"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]"), LA_BAD_INPUT,
         "merges[0]"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\",1]]"), LA_BAD_INPUT,
         "merges[0]"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]"), LA_BAD_INPUT, "\"b\""},
        {MODEL(
             "\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"#version: 0.2\",\"a b\"]"),
         LA_BAD_INPUT, "\"ab\""},
        {MODEL("\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":0,\"aa\":1},"
               "\"merges\":[\"a a\"]"),
         LA_BAD_INPUT, "continuing_subword_prefix"},
        {MODEL("\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]"),
         LA_UNSUPPORTED, "dropout"},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]"), LA_BAD_INPUT,
         "\"b\""},
        {MODEL("\"type\":\"BPE\",\"vocab\":{\"a\":16777216},\"merges\":[]"), LA_BAD_INPUT,
         "16777216"},
        {MODEL("\"type\":\"WordLevel\",\"vocab\":{\"a\":1.5}"), LA_BAD_INPUT, "1.5"},
        {MODEL("\"type\":\"WordLevel\",\"vocab\":7"), LA_BAD_INPUT, "vocab"},
        {UNIGRAM("\"vocab\":[]"), LA_BAD_INPUT, "vocab"},
        {UNIGRAM("\"vocab\":{\"a\":0}"), LA_BAD_INPUT, "vocab"},
        {UNIGRAM("\"vocab\":[[\"a\",0],[\"b\"]]"), LA_BAD_INPUT, "vocab[1]"},
        {UNIGRAM("\"vocab\":[[\"a\",0],[0,\"b\"]]"), LA_BAD_INPUT, "vocab[1]"},
        {UNIGRAM("\"vocab\":[[\"a\",0],\"b\"]"), LA_BAD_INPUT, "vocab[1]"},
        {UNIGRAM("\"unk_id\":2,\"vocab\":[[\"a\",0],[\"b\",0]]"), LA_BAD_INPUT, "unk_id"},
        {UNIGRAM("\"unk_id\":-1,\"vocab\":[[\"a\",0]]"), LA_BAD_INPUT, "unk_id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i].text, cases[i].status, cases[i].named);
}

static void damaged_parts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        la_status status;
        const char *named;
    } cases[] = {
        {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":\"a\",\"content\":\"b\"}"),
         LA_BAD_INPUT, "Replace"},
        {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}"), LA_BAD_INPUT,
         "content"},
        {WITH("\"normalizer\":{\"type\":\"Prepend\"}"), LA_BAD_INPUT, "prepend"},
        {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":{}}"), LA_BAD_INPUT,
         "normalizers"},
        {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
              "\"Replace\",\"pattern\":{\"Regex\":\"(a\"},\"content\":\"\"}]}"),
         LA_UNSUPPORTED, "Replace"},
        {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"),
         LA_BAD_INPUT, "Precompiled"},
        {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"%%%%\"}"),
         LA_BAD_INPUT, "Precompiled"},
        {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"),
         LA_BAD_INPUT, "Precompiled"},
        {WITH(
             "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////wAAAAA=\"}"),
         LA_BAD_INPUT, "Precompiled"},
        {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":null}"),
         LA_BAD_INPUT, "Precompiled"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), LA_BAD_INPUT,
         "replacement"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":"
              "\"last\"}"),
         LA_UNSUPPORTED, "last"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"a\",\"prepend_scheme\":"
              "\"always\",\"add_prefix_space\":false}"),
         LA_BAD_INPUT, "prepend_scheme"},
        {WITH("\"pre_tokenizer\":{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"\"}"),
         LA_BAD_INPUT, "delimiter"},
        {WITH("\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}"), LA_BAD_INPUT, "length"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Sideways\"}"),
         LA_UNSUPPORTED, "Sideways"},
        {WITH("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":7}"), LA_BAD_INPUT,
         "pretokenizers"},
        {WITH("\"post_processor\":{\"type\":\"Sequence\",\"processors\":7}"), LA_BAD_INPUT,
         "processors"},
        {WITH("\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",-1],\"sep\":["
              "\"b\",1]"
              "}"),
         LA_BAD_INPUT, "cls"},
        {WITH(
             "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":"
             "\"BertProcessing\",\"cls\":[\"a\",0],\"sep\":[\"b\",1]},{\"type\":\"BertProcessing\","
             "\"cls\":[\"a\",0],\"sep\":[\"b\",1]}]}"),
         LA_UNSUPPORTED, "BertProcessing"},
        {WITH("\"truncation\":{\"max_length\":8,\"strategy\":\"Middle\"}"), LA_UNSUPPORTED,
         "Middle"},
        {WITH("\"added_tokens\":7"), LA_BAD_INPUT, "added_tokens"},
        {WITH("\"added_tokens\":[7]"), LA_BAD_INPUT, "added_tokens[0]"},
        {WITH("\"added_tokens\":[{\"id\":0}]"), LA_BAD_INPUT, "content"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(cases[i].text, cases[i].status, cases[i].named);
}

/* Expressions that mean something else to PCRE2, or nothing: refused, not guessed at. */
static void refused_expressions(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "(",        "[a",      "a**)",    "[a[b]]",      "[a&&b]",  "[^\\\\W_]", "[\\\\D]",
        "a(?i)b|c", "(?u)a",   "\\\\Ga",  "\\\\Ka",      "\\\\xff", "\\\\u12",   "\\\\p{Alnum}",
        "\\\\pL",   "\\\\p{L", "a{1,2}+", "(?~ab)",      "(*F)",    "[]a]",      "\\\\",
        "(?<=a*)b", "\\\\y",   "\\\\X",   "[[:alpha:]]",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                      "\"behavior\":\"Isolated\",\"invert\":false}"),
                 patterns[i]);
        refused(text, LA_UNSUPPORTED, "pre-tokenizer Split");
    }
}

static char *nested(const char *open, const char *close, const char *core, int depth) {
    size_t each = strlen(open) + strlen(close);
    char *text = malloc(each * (size_t)depth + strlen(core) + 1), *at = text;
    for (int i = 0; i < depth; i++)
        at += sprintf(at, "%s", open);
    at += sprintf(at, "%s", core);
    for (int i = 0; i < depth; i++)
        at += sprintf(at, "%s", close);
    return text;
}

static void deep_nesting_is_refused(void **state) {
    (void)state;
    static const char *const opens[] = {
        "{\"type\":\"Sequence\",\"normalizers\":[",
        "{\"type\":\"Sequence\",\"pretokenizers\":[",
        "{\"type\":\"Sequence\",\"processors\":[",
    };
    static const char *const keys[] = {"normalizer", "pre_tokenizer", "post_processor"};
    for (int i = 0; i < 3; i++) {
        /* two brackets a part: within what JSON may have, and beyond */
        static const struct {
            int parts;
            const char *piece;
        } depths[] = {{40, "deep"}, {100, "200 levels"}};
        for (int d = 0; d < 2; d++) {
            char *core = nested(opens[i], "]}", "{\"type\":\"ByteLevel\"}", depths[d].parts);
            char *text = malloc(strlen(core) + 200);
            sprintf(text, "{\"model\":" BYTE_MODEL ",\"%s\":%s}", keys[i], core);
            refused(text, LA_BAD_INPUT, depths[d].piece);
            free(text);
            free(core);
        }
    }
}

/* Units that lead out of the array, or replacements out of the text. */
static void damaged_charsmaps_end_in_an_error(void **state) {
    (void)state;
    static const char *const maps[] = {
        /* one unit, of which the offset is large */
        "BAAAAAD/AAA=",
        /* two units: a leaf whose value is beyond the texts */
        "CAAAAAAEAAABAQAAeHg=",
    };
    static const char texts[] = "\x01\x61\x62\xc3\xa9\xe2\x96\x81";
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        char text[1024], message[512];
        int64_t n;
        snprintf(text, sizeof text,
                 WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"%s\"}"),
                 maps[i]);
        la_status status = encode(text, texts, sizeof texts - 1, &n, message);
        assert_int_equal(status, LA_BAD_INPUT);
        assert_non_null(strstr(message, "precompiled_charsmap"));
    }
    /* any bytes for units: an error or ids, nothing else */
    uint32_t seed = 1;
    for (int round = 0; round < 300; round++) {
        static const char digits[] =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char text[1024], map[180] = "QAAAAA"; /* 64 bytes of units */
        for (size_t i = 6; i < 120; i++) {
            seed = seed * 1664525u + 1013904223u;
            /* small offsets and leaves are what leads on */
            map[i] = digits[(seed >> 24) % (i % 4 == 2 ? 2 : 64)];
        }
        strcpy(map + 120, "YWJjZGVm");
        la_tokenizer *tokenizer;
        la_error err;
        la_encoding out = {0};
        la_encode_options options = {0};
        snprintf(text, sizeof text,
                 WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"%s\"}"),
                 map);
        if (open_text(text, &tokenizer, &err) != LA_OK)
            continue;
        for (int c = 1; c < 128; c++) {
            char letter = (char)c;
            err = (la_error){0};
            (void)la_tokenizer_encode(tokenizer, &letter, 1, NULL, 0, &options, &out, &err);
        }
        la_encoding_free(&out);
        la_tokenizer_close(tokenizer);
    }
}

/* A pattern that needs exponential time gives up with an error; 10 MB of one letter, or of spaces,
 * take no more than linear time with the patterns in use. */
static void hostile_texts(void **state) {
    (void)state;
    enum { SIZE = 10 << 20 };
    char message[512], *text = malloc(SIZE);
    int64_t n;
    memset(text, 'a', SIZE);
    la_status status =
        encode(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+[bc]\"},"
                    "\"behavior\":\"Isolated\",\"invert\":false}"),
               text, 4000, &n, message);
    assert_int_equal(status, LA_BAD_INPUT);
    assert_non_null(strstr(message, "limit"));
    static const char *const patterns[] = {
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[^\\\\s]+|\\\\s+(?!\\\\S)|"
        "\\\\s+\"},"
        "\"behavior\":\"Isolated\",\"invert\":false}",
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" "
        "{2,}|a\"},\"content\":\"b\"}",
    };
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        for (int space = 0; space < 2; space++) {
            char document[1024];
            snprintf(document, sizeof document, "{\"model\":" BYTE_MODEL ",%s}", patterns[i]);
            memset(text, space ? ' ' : 'a', SIZE);
            assert_int_equal(encode(document, text, SIZE, &n, message), LA_OK);
        }
    free(text);
}

/* Tokens that look like bytes and are none are tokens like others. */
static void odd_byte_tokens(void **state) {
    (void)state;
    char message[512];
    int64_t n;
    static const char document[] = MODEL(
        "\"type\":\"BPE\",\"byte_fallback\":true,\"unk_token\":\"?\",\"merges\":[],\"vocab\":{"
        "\"<0x-1>\":0,\"<0xZZ>\":1,\"<0x100>\":2,\"<0x0A\":3,\"?\":4,\"<0x0A>\":5}");
    assert_int_equal(encode(document, "\n\nxy", 4, &n, message), LA_OK);
    assert_int_equal(n, 4);
    /* no unknown token in the vocabulary */
    assert_int_equal(encode(MODEL("\"type\":\"BPE\",\"unk_token\":\"?\",\"merges\":[],\"vocab\":{"
                                  "\"a\":0}"),
                            "ab", 2, &n, message),
                     LA_BAD_INPUT);
    assert_non_null(strstr(message, "\"?\""));
    /* none named: what is unknown is left out */
    assert_int_equal(
        encode(MODEL("\"type\":\"BPE\",\"merges\":[],\"vocab\":{\"a\":0}"), "aba", 3, &n, message),
        LA_OK);
    assert_int_equal(n, 2);
    assert_int_equal(encode(UNIGRAM("\"vocab\":[[\"a\",0]]"), "ab", 2, &n, message), LA_BAD_INPUT);
    assert_non_null(strstr(message, "unk_id"));
    assert_int_equal(encode(MODEL("\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"?\""),
                            "b", 1, &n, message),
                     LA_BAD_INPUT);
}

/* Every prefix of a file, and every file with one byte changed at places spread over it. */
static void cut_and_changed_files(void **state) {
    (void)state;
    static const char *const names[] = {"mistral", "xlmr", "llama3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256], message[64];
        snprintf(path, sizeof path, "tokenizer/%s/tokenizer.json", names[i]);
        size_t length;
        char *text = read_file(fixture(path), &length);
        uint32_t seed = 7;
        for (int round = 0; round < 120; round++) {
            seed = seed * 1664525u + 1013904223u;
            size_t place = (size_t)(seed >> 4) % length;
            char old = text[place];
            text[place] = round % 3 ? "0\"]}{x"[(seed >> 2) % 6] : 0;
            la_tokenizer *tokenizer;
            la_error err;
            la_encoding out = {0};
            la_encode_options options = {0};
            if (open_text(text, &tokenizer, &err) == LA_OK) {
                snprintf(message, sizeof message, "the ferry %d \xc3\xa9\xe2\x96\x81", round);
                (void)la_tokenizer_encode(tokenizer, message, strlen(message), NULL, 0, &options,
                                          &out, &err);
                la_encoding_free(&out);
                la_tokenizer_close(tokenizer);
            } else {
                assert_non_null(strstr(err.message, "tokenizer.json"));
            }
            text[place] = old;
        }
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_models),
        cmocka_unit_test(damaged_parts),
        cmocka_unit_test(refused_expressions),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(damaged_charsmaps_end_in_an_error),
        cmocka_unit_test(hostile_texts),
        cmocka_unit_test(odd_byte_tokens),
        cmocka_unit_test(cut_and_changed_files),
    };
    return cmocka_run_group_tests_name("tokenizer faults", tests, NULL, NULL);
}
