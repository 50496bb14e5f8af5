/* Texts that were split before, against transformers' is_split_into_words on the small tokenizers:
 * ids, types, and where every word's first token is (tests/generate/tokenizer_words.py). */
#include "support/support.h"
#include "text/tokenizer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORDS_MOST = 256 };

static int64_t lists_checked, cut_words, empty_words;

/* The first token of word w. */
static int64_t first_place(const json_t *word_ids, int64_t w) {
    for (size_t t = 0; t < json_array_size(word_ids); t++) {
        const json_t *of = json_array_get(word_ids, t);
        if (json_is_integer(of) && json_integer_value(of) == w)
            return (int64_t)t;
    }
    return -1;
}

static void check_list(la_tokenizer *tokenizer, const char *name, int number, const json_t *row) {
    const json_t *list = json_object_get(row, "words"), *want = json_object_get(row, "ids");
    const json_t *types = json_object_get(row, "type_ids"), *of = json_object_get(row, "word_ids");
    la_encode_options options = {.max_length =
                                     json_integer_value(json_object_get(row, "max_length"))};
    la_encoding got = {0};
    la_error err = {0};
    la_word words[WORDS_MOST];
    int64_t n = (int64_t)json_array_size(list);
    assert_true(n > 0 && n <= WORDS_MOST);
    for (int64_t w = 0; w < n; w++) {
        const json_t *word = json_array_get(list, (size_t)w);
        words[w] = (la_word){json_string_value(word), json_string_length(word), -2};
    }
    if (la_tokenizer_encode_words(tokenizer, words, n, &options, &got, &err) != LA_OK)
        fail_msg("%s line %d: %s", name, number, err.message);
    if ((size_t)got.n != json_array_size(want))
        fail_msg("%s line %d: %lld tokens, expected %zu", name, number, (long long)got.n,
                 json_array_size(want));
    for (size_t t = 0; t < (size_t)got.n; t++)
        if (got.ids[t] != json_integer_value(json_array_get(want, t)) ||
            got.types[t] != json_integer_value(json_array_get(types, t)))
            fail_msg("%s line %d: token %zu is %d of type %d, expected %lld of %lld", name, number,
                     t, got.ids[t], got.types[t], json_integer_value(json_array_get(want, t)),
                     json_integer_value(json_array_get(types, t)));
    for (int64_t w = 0; w < n; w++) {
        if (words[w].place != first_place(of, w))
            fail_msg("%s line %d: word %lld is at %lld, expected %lld", name, number, (long long)w,
                     (long long)words[w].place, (long long)first_place(of, w));
        cut_words += words[w].place < 0 && got.truncated;
        empty_words += words[w].place < 0 && !got.truncated;
    }
    la_encoding_free(&got);
    lists_checked++;
}

static bool check_tokenizer(const char *name) {
    char path[512];
    la_tokenizer *tokenizer;
    la_error err = {0};
    snprintf(path, sizeof path, "tokenizer/%s/words.jsonl", name);
    if (access(fixture(path), R_OK))
        return false;
    json_t *lines = load_lines(fixture(path)), *row;
    snprintf(path, sizeof path, "tokenizer/%s", name);
    if (la_tokenizer_open(fixture(path), NULL, &tokenizer, &err) != LA_OK)
        fail_msg("%s", err.message);
    size_t i;
    json_array_foreach(lines, i, row) check_list(tokenizer, name, (int)i + 1, row);
    json_decref(lines);
    la_tokenizer_close(tokenizer);
    return i > 25;
}

static void split_words(void **state) {
    (void)state;
    int checked = 0;
    struct dirent *entry;
    DIR *folder = opendir(fixture("tokenizer"));
    assert_non_null(folder);
    while ((entry = readdir(folder)))
        checked += *entry->d_name != '.' && check_tokenizer(entry->d_name);
    closedir(folder);
    print_message("    %d tokenizers, %lld lists\n", checked, (long long)lists_checked);
    assert_true(checked >= 20);
    assert_true(cut_words > 100 && empty_words > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(split_words)};
    return cmocka_run_group_tests_name("tokenizer, words", tests, NULL, NULL);
}
