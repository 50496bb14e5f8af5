#include "text/compat.h"

#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 16 << 20 };

/* What a class builds, in the form of tokenizer.json; new references, NULL for none. */
typedef struct pipeline {
    json_t *normalizer, *pre_tokenizer;
} pipeline;

static bool option(const json_t *config, const char *key, bool missing) {
    const json_t *value = json_object_get(config, key);
    return json_is_boolean(value) ? json_is_true(value) : missing;
}

static json_t *byte_level(const json_t *config, bool use_regex) {
    return json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                     option(config, "add_prefix_space", false), "use_regex", use_regex);
}

static json_t *metaspace(const char *scheme, bool split) {
    return json_pack("{s:s, s:s, s:s, s:b}", "type", "Metaspace", "replacement", "\xe2\x96\x81",
                     "prepend_scheme", scheme, "split", split);
}

static json_t *replace(const char *kind, const char *pattern, const char *content) {
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, pattern, "content",
                     content);
}

static json_t *plain(const char *type) {
    return json_pack("{s:s}", "type", type);
}

static pipeline gpt2(const json_t *config, const json_t *root) {
    (void)root;
    return (pipeline){NULL, byte_level(config, true)};
}

static pipeline llama(const json_t *config, const json_t *root) {
    (void)root;
    const char *scheme = !option(config, "add_prefix_space", true) ? "never"
                         : option(config, "legacy", false)         ? "always"
                                                                   : "first";
    return (pipeline){NULL, metaspace(scheme, false)};
}

static pipeline bert(const json_t *config, const json_t *root) {
    (void)root;
    json_t *normalizer =
        json_pack("{s:s, s:b, s:b, s:b, s:n}", "type", "BertNormalizer", "clean_text", true,
                  "handle_chinese_chars", option(config, "tokenize_chinese_chars", true),
                  "lowercase", option(config, "do_lower_case", true), "strip_accents");
    if (json_is_boolean(json_object_get(config, "strip_accents")))
        json_object_set(normalizer, "strip_accents", json_object_get(config, "strip_accents"));
    return (pipeline){normalizer, plain("BertPreTokenizer")};
}

static pipeline qwen2(const json_t *config, const json_t *root) {
    static const char pattern[] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    (void)root;
    return (pipeline){plain("NFC"), json_pack("[{s:s, s:{s:s}, s:s, s:b}, o]", "type", "Split",
                                              "pattern", "Regex", pattern, "behavior", "Isolated",
                                              "invert", false, byte_level(config, false))};
}

static pipeline gemma(const json_t *config, const json_t *root) {
    (void)config;
    (void)root;
    return (pipeline){replace("String", " ", "\xe2\x96\x81"),
                      json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "String",
                                " ", "behavior", "MergedWithPrevious", "invert", false)};
}

static pipeline deberta_v2(const json_t *config, const json_t *root) {
    (void)root;
    json_t *normalizers = json_array(), *pre_tokenizers = json_array();
    if (option(config, "do_lower_case", false))
        json_array_append_new(normalizers, plain("Lowercase"));
    json_array_append_new(normalizers, replace("Regex", "\\s{2,}|[\\n\\r\\t]", " "));
    json_array_append_new(normalizers, plain("NFC"));
    json_array_append_new(normalizers, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left",
                                                 false, "strip_right", true));
    if (option(config, "split_by_punct", false))
        json_array_append_new(
            pre_tokenizers, json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", "Isolated"));
    json_array_append_new(
        pre_tokenizers,
        metaspace(option(config, "add_prefix_space", true) ? "always" : "first", true));
    return (pipeline){normalizers, pre_tokenizers};
}

/* The charsmap is the one thing taken over from the file. */
static json_t *charsmap_of(const json_t *root) {
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *list = json_object_get(normalizer, "normalizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_object_get(json_array_get(list, i), "precompiled_charsmap"))
            return json_deep_copy(json_array_get(list, i));
    return json_object_get(normalizer, "precompiled_charsmap") ? json_deep_copy(normalizer) : NULL;
}

static pipeline sentencepiece(const json_t *root, bool prefix) {
    return (pipeline){charsmap_of(root), json_pack("[{s:s}, o]", "type", "WhitespaceSplit",
                                                   metaspace(prefix ? "always" : "never", true))};
}

static pipeline xlm_roberta(const json_t *config, const json_t *root) {
    return sentencepiece(root, option(config, "add_prefix_space", true));
}

static pipeline t5(const json_t *config, const json_t *root) {
    (void)config;
    return sentencepiece(root, true);
}

/* Appends the steps of a component to list, sequences flattened, fields that do not touch ids
 * left out and defaults written down. */
static void flatten(const json_t *component, int depth, json_t *list) {
    const json_t *items = json_is_array(component) ? component
                          : json_object_get(component, "normalizers")
                              ? json_object_get(component, "normalizers")
                              : json_object_get(component, "pretokenizers");
    if (items) {
        for (size_t i = 0; depth < 16 && i < json_array_size(items); i++)
            flatten(json_array_get(items, i), depth + 1, list);
        return;
    }
    if (!json_is_object(component))
        return;
    json_t *step = json_copy((json_t *)(uintptr_t)component);
    const char *type = json_string_value(json_object_get(step, "type"));
    json_object_del(step, "trim_offsets");
    json_object_del(step, "str_rep");
    if (type && !strcmp(type, "Metaspace")) {
        json_object_del(step, "add_prefix_space");
        if (!json_object_get(step, "split"))
            json_object_set_new(step, "split", json_true());
        if (!json_object_get(step, "prepend_scheme"))
            json_object_set_new(step, "prepend_scheme", json_string("always"));
    }
    if (type && !strcmp(type, "ByteLevel") && !json_object_get(step, "use_regex"))
        json_object_set_new(step, "use_regex", json_true());
    json_array_append_new(list, step);
}

static bool same(const json_t *a, const json_t *b) {
    json_t *x = json_array(), *y = json_array();
    flatten(a, 0, x);
    flatten(b, 0, y);
    bool equal = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return equal;
}

static bool has_byte_level(const json_t *component) {
    json_t *steps = json_array();
    bool found = false;
    flatten(component, 0, steps);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *type = json_object_get(json_array_get(steps, i), "type");
        found |= json_is_string(type) && !strcmp(json_string_value(type), "ByteLevel");
    }
    json_decref(steps);
    return found;
}

static void compare(const char *dir, const json_t *config, const json_t *root, const la_log *log) {
    static const struct {
        const char *class;
        pipeline (*build)(const json_t *config, const json_t *root);
    } classes[] = {
        {"GPT2Tokenizer", gpt2},
        {"RobertaTokenizer", gpt2},
        {"DebertaTokenizer", gpt2},
        {"LlamaTokenizer", llama},
        {"BertTokenizer", bert},
        {"Qwen2Tokenizer", qwen2},
        {"GemmaTokenizer", gemma},
        {"DebertaV2Tokenizer", deberta_v2},
        {"XLMRobertaTokenizer", xlm_roberta},
        {"T5Tokenizer", t5},
    };
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    size_t length = class ? strlen(class) : 0;
    if (length > 4 && !strcmp(class + length - 4, "Fast"))
        length -= 4;
    for (size_t i = 0; length && i < sizeof classes / sizeof *classes; i++) {
        if (strlen(classes[i].class) != length || memcmp(classes[i].class, class, length))
            continue;
        /* of these alone transformers knows that the class is wrong, and takes the file */
        if (classes[i].build == llama && has_byte_level(json_object_get(root, "pre_tokenizer")))
            return;
        pipeline built = classes[i].build(config, root);
        bool normalizer = same(built.normalizer, json_object_get(root, "normalizer"));
        bool pre_tokenizer = same(built.pre_tokenizer, json_object_get(root, "pre_tokenizer"));
        if (!normalizer || !pre_tokenizer)
            la_warn(log,
                    "%s: transformers 5 builds the %s of a %s itself and may give other ids than "
                    "tokenizer.json, which is what counts here",
                    dir,
                    normalizer      ? "pre-tokenizer"
                    : pre_tokenizer ? "normalizer"
                                    : "normalizer and pre-tokenizer",
                    classes[i].class);
        json_decref(built.normalizer);
        json_decref(built.pre_tokenizer);
    }
}

void la_compat_warn(const char *dir, const json_t *root, const la_log *log) {
    char path[4096];
    la_error ignored = {0};
    json_t *config = NULL;
    if (!log || !log->warn ||
        (size_t)snprintf(path, sizeof path, "%s/tokenizer_config.json", dir) >= sizeof path)
        return;
    if (la_json_load(path, CONFIG_BYTES_MAX, &config, &ignored) == LA_OK)
        compare(dir, config, root, log);
    json_decref(config);
}
