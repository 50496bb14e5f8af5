/* Warnings for directories that transformers 5 would read another way, and errors for those without
 * a tokenizer.json. */
#include "support/support.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void keep_warning(void *user, const char *message) {
    char *kept = user;
    assert_int_equal(kept[0], 0); /* one line, once */
    snprintf(kept, 1024, "%s", message);
}

static void folder_of(const char *path, char folder[4096]) {
    snprintf(folder, 4096, "%.*s", (int)(strrchr(path, '/') - path), path);
}

/* named: what the warning must have, NULL for none. */
static void check(const char *name, const char *config, const char *named) {
    char folder[4096], path[256], kept[1024] = "";
    la_log log = {.warn = keep_warning, .user = kept};
    la_tokenizer *tokenizer;
    la_error err = {0};
    size_t length;
    snprintf(path, sizeof path, "tokenizer/%s/tokenizer.json", name);
    char *text = read_file(fixture(path), &length);
    write_file(scratch("tokenizer.json"), text, length);
    free(text);
    const char *written = scratch("tokenizer_config.json");
    write_file(written, config, strlen(config));
    folder_of(written, folder);
    if (la_tokenizer_open(folder, &log, &tokenizer, &err) != LA_OK)
        fail_msg("%s", err.message);
    la_tokenizer_close(tokenizer);
    if (named ? !strstr(kept, named) || !strstr(kept, folder) : kept[0] != 0)
        fail_msg("%s with %s: \"%s\", expected %s", name, config, kept, named ? named : "nothing");
}

static void classes_that_agree_with_the_file(void **state) {
    (void)state;
    check("roberta", "{\"tokenizer_class\":\"RobertaTokenizer\"}", NULL);
    check("roberta", "{\"tokenizer_class\":\"GPT2TokenizerFast\",\"add_prefix_space\":false}",
          NULL);
    check("qwen2", "{\"tokenizer_class\":\"Qwen2Tokenizer\"}", NULL);
    check("mistral", "{\"tokenizer_class\":\"LlamaTokenizerFast\",\"legacy\":false}", NULL);
    check("gemma", "{\"tokenizer_class\":\"GemmaTokenizer\"}", NULL);
    check("xlmr", "{\"tokenizer_class\":\"T5Tokenizer\"}", NULL);
    check("uncased", "{\"tokenizer_class\":\"BertTokenizer\",\"do_lower_case\":true}", NULL);
}

static void classes_that_go_by_the_file(void **state) {
    (void)state;
    check("llama2", "{\"tokenizer_class\":\"TokenizersBackend\"}", NULL);
    check("llama2", "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}", NULL);
    check("llama3", "{\"tokenizer_class\":\"LlamaTokenizer\"}", NULL);
    check("llama2", "{}", NULL);
    check("llama2", "{\"tokenizer_class\":null}", NULL);
}

static void classes_that_build_something_else(void **state) {
    (void)state;
    check("llama3", "{\"tokenizer_class\":\"GPT2Tokenizer\"}",
          "the pre-tokenizer and model of a GPT2");
    check("roberta", "{\"tokenizer_class\":\"RobertaTokenizer\",\"sep_token\":\"<other>\"}",
          "the post-processor of a Roberta");
    check("uncased", "{\"tokenizer_class\":\"BertTokenizer\",\"unk_token\":\"[MASK]\"}",
          "the model of a BertTokenizer");
    check("llama2", "{\"tokenizer_class\":\"LlamaTokenizer\"}",
          "the normalizer and pre-tokenizer of a LlamaTokenizer");
    check("mistral", "{\"tokenizer_class\":\"LlamaTokenizer\",\"legacy\":true}",
          "the pre-tokenizer of a LlamaTokenizer");
    check("albert", "{\"tokenizer_class\":\"T5Tokenizer\"}", "the normalizer of a T5Tokenizer");
    check("deberta", "{\"tokenizer_class\":\"DebertaV2Tokenizer\",\"split_by_punct\":true}",
          "the pre-tokenizer and post-processor of a DebertaV2Tokenizer");
    /* templates of pairs alone */
    check("xlmr", "{\"tokenizer_class\":\"XLMRobertaTokenizer\"}",
          "the post-processor of a XLMRobertaTokenizer");
    check("deberta", "{\"tokenizer_class\":\"DebertaV2Tokenizer\",\"do_lower_case\":false}",
          "the post-processor of a DebertaV2Tokenizer");
}

static void settings_above_the_file(void **state) {
    (void)state;
    check("roberta", "{\"tokenizer_class\":\"RobertaTokenizer\",\"add_prefix_space\":true}",
          "add_prefix_space is true");
    check("uncased", "{\"tokenizer_class\":\"BertTokenizer\",\"do_lower_case\":false}",
          "do_lower_case is false");
    check("uncased", "{\"tokenizer_class\":\"BertTokenizer\",\"strip_accents\":false}",
          "strip_accents is false");
    check("uncased", "{\"tokenizer_class\":\"TokenizersBackend\",\"do_lower_case\":false}",
          "do_lower_case is false");
    check("uncased", "{\"tokenizer_class\":\"SomeTokenizer\"}", "\"SomeTokenizer\"");
}

/* Configurations that transformers cannot load. */
static void refused(void **state) {
    (void)state;
    static const struct {
        const char *config, *named;
        la_status status;
    } cases[] = {
        {"{\"tokenizer_class\":7}", "tokenizer_class", LA_BAD_INPUT},
        {"no JSON", "tokenizer_config.json", LA_BAD_INPUT},
        {"{\"sep_token\":{\"content\":\"x\"}}", "sep_token", LA_BAD_INPUT},
        {"{\"added_tokens_decoder\":{\"x\":{\"content\":\"x\"}}}", "[\"x\"]", LA_BAD_INPUT},
        {"{\"added_tokens_decoder\":{\"3\":\"x\"}}", "[\"3\"]", LA_BAD_INPUT},
        {"{\"added_tokens_decoder\":[]}", "added_tokens_decoder", LA_BAD_INPUT},
        {"{\"extra_special_tokens\":\"x\"}", "extra_special_tokens", LA_BAD_INPUT},
        {"{\"truncation_side\":\"up\"}", "truncation_side", LA_BAD_INPUT},
        {"{\"fast_tokenizer_files\":[\"tokenizer.4.0.0.json\"]}", "tokenizer.4.0.0.json",
         LA_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[4096];
        la_tokenizer *tokenizer;
        la_error err = {0};
        size_t length;
        char *text = read_file(fixture("tokenizer/uncased/tokenizer.json"), &length);
        write_file(scratch("tokenizer.json"), text, length);
        free(text);
        const char *written = scratch("tokenizer_config.json");
        write_file(written, cases[i].config, strlen(cases[i].config));
        folder_of(written, folder);
        la_status status = la_tokenizer_open(folder, NULL, &tokenizer, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].named))
            fail_msg("%s: %d, \"%s\"", cases[i].config, status, err.message);
    }
    remove(scratch("tokenizer_config.json"));
}

static void folders_without_tokenizer_json(void **state) {
    (void)state;
    static const char *const names[] = {"tokenizer.model", "vocab.json", "vocab.txt"};
    char folder[4096];
    remove(scratch("tokenizer.json"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        la_tokenizer *tokenizer;
        la_error err = {0};
        const char *path = scratch(names[i]);
        write_file(path, "x", 1);
        folder_of(path, folder);
        assert_int_equal(la_tokenizer_open(folder, NULL, &tokenizer, &err), LA_UNSUPPORTED);
        assert_non_null(strstr(err.message, names[i]));
        assert_non_null(strstr(err.message, "save_pretrained"));
        remove(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_that_agree_with_the_file),
        cmocka_unit_test(classes_that_go_by_the_file),
        cmocka_unit_test(classes_that_build_something_else),
        cmocka_unit_test(settings_above_the_file),
        cmocka_unit_test(refused),
        cmocka_unit_test(folders_without_tokenizer_json),
    };
    return cmocka_run_group_tests_name("tokenizer compat", tests, NULL, NULL);
}
