/* Tokens and flags that only the files beside a tokenizer.json define, against AutoTokenizer of
 * transformers 5: tests/generate/tokenizer_side_files.py. Where its classes build another tokenizer
 * than the file's, ids may differ, and a warning must say so. */
#include "support/support.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Variants whose ids differ after a warning; the others are the same. */
enum { WARNED_MOST = 26, REFUSED_LEAST = 35 };

static int64_t rows_checked, n_warned, n_refused;

static void keep_warning(void *user, const char *message) {
    char *kept = user;
    snprintf(kept, 1024, "%s", message);
}

static uint32_t digest(const int32_t *data, int64_t n) {
    uint32_t value = 0x811c9dc5u;
    for (int64_t i = 0; i < n; i++)
        for (int shift = 0; shift < 32; shift += 8)
            value = (value ^ ((uint32_t)data[i] >> shift & 0xff)) * 0x01000193u;
    return value;
}

static void folder_of(const char *path, char folder[4096]) {
    snprintf(folder, 4096, "%.*s", (int)(strrchr(path, '/') - path), path);
}

static void write_folder(const json_t *tokenizer, const json_t *files, char folder[4096]) {
    static const char *const names[] = {"tokenizer", "tokenizer_config", "special_tokens_map",
                                        "added_tokens", "config"};
    char name[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(name, sizeof name, "%s.json", names[i]);
        const char *path = scratch(name);
        const json_t *content = i ? json_object_get(files, names[i]) : tokenizer;
        remove(path);
        if (content)
            assert_int_equal(json_dump_file(content, path, 0), 0);
        folder_of(path, folder);
    }
}

/* The first row with other ids; -1: none. */
static int64_t compare_rows(la_tokenizer *tokenizer, const json_t *rows, const char *answers) {
    int64_t differs = -1;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i), *text = json_array_get(row, 0);
        const json_t *pair = json_array_get(row, 1);
        la_encode_options options = {0};
        la_encoding got = {0};
        la_error err = {0};
        char have[9];
        la_status status = la_tokenizer_encode(tokenizer, json_string_value(text),
                                               json_string_length(text), json_string_value(pair),
                                               json_string_length(pair), &options, &got, &err);
        snprintf(have, sizeof have, "%08x", digest(got.ids, got.n));
        if ((status != LA_OK || memcmp(have, answers + 8 * i, 8)) && differs < 0)
            differs = (int64_t)i;
        rows_checked++;
        la_encoding_free(&got);
    }
    return differs;
}

static void check_variant(const json_t *file, const json_t *variant) {
    char folder[4096], kept[1024] = "";
    la_log log = {.warn = keep_warning, .user = kept};
    la_tokenizer *tokenizer;
    la_error err = {0};
    const json_t *rows = json_object_get(file, "rows");
    const char *name = json_string_value(json_object_get(variant, "name"));
    const char *family = json_string_value(json_object_get(variant, "family"));
    const char *answers = json_string_value(json_object_get(variant, "answers"));
    write_folder(json_object_get(json_object_get(file, "families"), family),
                 json_object_get(variant, "files"), folder);
    la_status status = la_tokenizer_open(folder, &log, &tokenizer, &err);
    if (!answers) {
        /* a class that cannot build what it would: a warning is enough */
        if (status != LA_BAD_INPUT && !kept[0])
            fail_msg("%s: expected to be refused: %s", name, err.message);
        n_refused += status == LA_BAD_INPUT;
        if (status == LA_OK)
            la_tokenizer_close(tokenizer);
        return;
    }
    assert_int_equal(strlen(answers), 8 * json_array_size(rows));
    if (status != LA_OK)
        fail_msg("%s: %s", name, err.message);
    int64_t differs = compare_rows(tokenizer, rows, answers);
    if (differs >= 0 && !kept[0])
        fail_msg("%s: other ids for row %lld, without a word\n", name, (long long)differs);
    n_warned += differs >= 0;
    la_tokenizer_close(tokenizer);
}

static void same_ids_or_a_warning(void **state) {
    (void)state;
    json_error_t error;
    json_t *file = json_load_file(fixture("tokenizer/side-files.json"), 0, &error);
    assert_non_null(file);
    const json_t *variants = json_object_get(file, "variants");
    assert_true(json_array_size(variants) > 400);
    for (size_t i = 0; i < json_array_size(variants); i++)
        check_variant(file, json_array_get(variants, i));
    assert_true(n_warned <= WARNED_MOST);
    assert_true(n_refused >= REFUSED_LEAST);
    json_decref(file);
}

/* A pair, with a list of the model's inputs. */
static void check_types(const json_t *tokenizer, const char *config, int expected) {
    char folder[4096];
    la_tokenizer *loaded;
    la_error err = {0};
    la_encode_options options = {0};
    la_encoding got = {0};
    json_t *files = json_pack("{s:o}", "tokenizer_config", json_loads(config, 0, NULL));
    write_folder(tokenizer, files, folder);
    assert_int_equal(la_tokenizer_open(folder, NULL, &loaded, &err), LA_OK);
    assert_int_equal(la_tokenizer_encode(loaded, "a", 1, "b", 1, &options, &got, &err), LA_OK);
    assert_int_equal(got.types[got.n - 1], expected);
    la_encoding_free(&got);
    la_tokenizer_close(loaded);
    json_decref(files);
}

static void token_types(void **state) {
    (void)state;
    json_error_t error;
    json_t *file = json_load_file(fixture("tokenizer/side-files.json"), 0, &error);
    const json_t *tokenizer = json_object_get(json_object_get(file, "families"), "wordpiece");
    check_types(tokenizer, "{}", 1);
    check_types(tokenizer, "{\"model_input_names\":[\"input_ids\",\"token_type_ids\"]}", 1);
    check_types(tokenizer, "{\"model_input_names\":[\"input_ids\",\"attention_mask\"]}", 0);
    json_decref(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_ids_or_a_warning),
                                       cmocka_unit_test(token_types)};
    int failed = cmocka_run_group_tests_name("tokenizer side files", tests, NULL, NULL);
    print_message("    %lld rows, %lld variants with other ids after a warning, %lld refused\n",
                  (long long)rows_checked, (long long)n_warned, (long long)n_refused);
    return failed;
}
