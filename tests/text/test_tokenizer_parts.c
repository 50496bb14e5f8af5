/* Every normalizer, pre-tokenizer, rule of added tokens, post-processor and truncation by itself,
 * against the `tokenizers` library: tests/generate/tokenizer_parts.py. The model's only tokens are
 * bytes, so that ids are the bytes of the normalised words. */
#include "support/support.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t rows_checked;

static uint32_t digest(uint32_t value, const int32_t *data, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int shift = 0; shift < 32; shift += 8)
            value = (value ^ ((uint32_t)data[i] >> shift & 0xff)) * 0x01000193u;
    return value;
}

static void check_row(la_tokenizer *tokenizer, const char *name, const json_t *row,
                      const char *answer) {
    const json_t *text = json_array_get(row, 0), *pair = json_array_get(row, 1);
    la_encode_options options = {0};
    la_encoding got = {0};
    la_error err = {0};
    char have[9];
    la_status status = la_tokenizer_encode(tokenizer, json_string_value(text),
                                           json_string_length(text), json_string_value(pair),
                                           json_string_length(pair), &options, &got, &err);
    if (memcmp(answer, "--------", 8)) {
        if (status != LA_OK)
            fail_msg("%s: %s", name, err.message);
        snprintf(have, sizeof have, "%08x",
                 digest(digest(0x811c9dc5u, got.ids, got.n), got.types, got.n));
        if (memcmp(have, answer, 8))
            fail_msg("%s: other ids for %s", name, json_dumps(row, JSON_ENSURE_ASCII));
        rows_checked++;
    }
    la_encoding_free(&got);
}

static void check_variant(const json_t *file, json_t *variant) {
    char folder[4096];
    la_tokenizer *tokenizer;
    la_error err = {0};
    const json_t *rows = json_object_get(file, "rows");
    const char *name = json_string_value(json_object_get(variant, "name"));
    const char *answers = json_string_value(json_object_get(variant, "answers")), *path;
    assert_int_equal(strlen(answers), 8 * json_array_size(rows));
    json_object_set(variant, "model", json_object_get(file, "model"));
    path = scratch("tokenizer.json");
    assert_int_equal(json_dump_file(variant, path, 0), 0);
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (la_tokenizer_open(folder, NULL, &tokenizer, &err) != LA_OK)
        fail_msg("%s: %s", name, err.message);
    for (size_t i = 0; i < json_array_size(rows); i++)
        check_row(tokenizer, name, json_array_get(rows, i), answers + 8 * i);
    la_tokenizer_close(tokenizer);
}

static void check_file(const char *name, size_t least) {
    json_error_t error;
    json_t *file = json_load_file(fixture(name), JSON_ALLOW_NUL, &error);
    assert_non_null(file);
    const json_t *variants = json_object_get(file, "variants");
    assert_true(json_array_size(variants) >= least);
    for (size_t i = 0; i < json_array_size(variants); i++)
        check_variant(file, json_array_get(variants, i));
    json_decref(file);
}

static void normalizers(void **state) {
    (void)state;
    check_file("tokenizer/parts-normalizers.json", 27);
}

static void pre_tokenizers(void **state) {
    (void)state;
    check_file("tokenizer/parts-pre-tokenizers.json", 31);
}

static void rules(void **state) {
    (void)state;
    check_file("tokenizer/parts-rules.json", 38);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalizers),
        cmocka_unit_test(pre_tokenizers),
        cmocka_unit_test(rules),
    };
    int failed = cmocka_run_group_tests_name("tokenizer parts", tests, NULL, NULL);
    print_message("    %lld rows with identical ids\n", (long long)rows_checked);
    return failed;
}
