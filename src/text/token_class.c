#include "text/token_class.h"

#include <string.h>

const char *const la_named_tokens[LA_NAMED_TOKENS] = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

bool la_config_option(const json_t *config, const char *key, bool missing) {
    const json_t *value = json_object_get(config, key);
    return json_is_boolean(value) ? json_is_true(value) : missing;
}

static json_t *byte_level(const json_t *config, bool use_regex) {
    return json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                     la_config_option(config, "add_prefix_space", false), "use_regex", use_regex);
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

static la_pipeline gpt2(const json_t *config, const json_t *root) {
    (void)root;
    return (la_pipeline){NULL, byte_level(config, true)};
}

static la_pipeline llama(const json_t *config, const json_t *root) {
    (void)root;
    const char *scheme = !la_config_option(config, "add_prefix_space", true) ? "never"
                         : la_config_option(config, "legacy", false)         ? "always"
                                                                             : "first";
    return (la_pipeline){NULL, metaspace(scheme, false)};
}

static la_pipeline bert(const json_t *config, const json_t *root) {
    (void)root;
    json_t *normalizer =
        json_pack("{s:s, s:b, s:b, s:b, s:n}", "type", "BertNormalizer", "clean_text", true,
                  "handle_chinese_chars", la_config_option(config, "tokenize_chinese_chars", true),
                  "lowercase", la_config_option(config, "do_lower_case", true), "strip_accents");
    if (json_is_boolean(json_object_get(config, "strip_accents")))
        json_object_set(normalizer, "strip_accents", json_object_get(config, "strip_accents"));
    return (la_pipeline){normalizer, plain("BertPreTokenizer")};
}

static la_pipeline qwen2(const json_t *config, const json_t *root) {
    static const char pattern[] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    (void)root;
    return (la_pipeline){plain("NFC"),
                         json_pack("[{s:s, s:{s:s}, s:s, s:b}, o]", "type", "Split", "pattern",
                                   "Regex", pattern, "behavior", "Isolated", "invert", false,
                                   byte_level(config, false))};
}

static la_pipeline gemma(const json_t *config, const json_t *root) {
    (void)config;
    (void)root;
    return (la_pipeline){replace("String", " ", "\xe2\x96\x81"),
                         json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "String",
                                   " ", "behavior", "MergedWithPrevious", "invert", false)};
}

static la_pipeline deberta_v2(const json_t *config, const json_t *root) {
    (void)root;
    json_t *normalizers = json_array(), *pre_tokenizers = json_array();
    if (la_config_option(config, "do_lower_case", false))
        json_array_append_new(normalizers, plain("Lowercase"));
    json_array_append_new(normalizers, replace("Regex", "\\s{2,}|[\\n\\r\\t]", " "));
    json_array_append_new(normalizers, plain("NFC"));
    json_array_append_new(normalizers, json_pack("{s:s, s:b, s:b}", "type", "Strip", "strip_left",
                                                 false, "strip_right", true));
    if (la_config_option(config, "split_by_punct", false))
        json_array_append_new(
            pre_tokenizers, json_pack("{s:s, s:s}", "type", "Punctuation", "behavior", "Isolated"));
    json_array_append_new(
        pre_tokenizers,
        metaspace(la_config_option(config, "add_prefix_space", true) ? "always" : "first", true));
    return (la_pipeline){normalizers, pre_tokenizers};
}

/* The charsmap is the only part taken from the file. */
static json_t *charsmap_of(const json_t *root) {
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *list = json_object_get(normalizer, "normalizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_object_get(json_array_get(list, i), "precompiled_charsmap"))
            return json_deep_copy(json_array_get(list, i));
    return json_object_get(normalizer, "precompiled_charsmap") ? json_deep_copy(normalizer) : NULL;
}

static la_pipeline sentencepiece(const json_t *root, bool prefix) {
    return (la_pipeline){charsmap_of(root),
                         json_pack("[{s:s}, o]", "type", "WhitespaceSplit",
                                   metaspace(prefix ? "always" : "never", true))};
}

static la_pipeline xlm_roberta(const json_t *config, const json_t *root) {
    return sentencepiece(root, la_config_option(config, "add_prefix_space", true));
}

static la_pipeline t5(const json_t *config, const json_t *root) {
    (void)config;
    return sentencepiece(root, true);
}

/* True when a component, or one inside it, has the type. */
static bool has_type(const json_t *component, const char *type, int depth) {
    const json_t *items = json_object_get(component, "pretokenizers");
    const char *own = json_string_value(json_object_get(component, "type"));
    bool found = own && !strcmp(own, type);
    for (size_t i = 0; depth < 16 && i < json_array_size(items); i++)
        found |= has_type(json_array_get(items, i), type, depth + 1);
    return found;
}

/* bos, eos, unk, sep, pad, cls, mask */
#define BERT_TOKENS                                                                                \
    { NULL, NULL, "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" }
#define DEBERTA_TOKENS                                                                             \
    { "[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]" }
#define ROBERTA_TOKENS                                                                             \
    { "<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>" }
#define GEMMA_TOKENS                                                                               \
    { "<bos>", "<eos>", "<unk>", NULL, "<pad>", NULL, "<mask>" }
#define T5_TOKENS                                                                                  \
    { NULL, "</s>", "<unk>", NULL, "<pad>" }
#define END "<|endoftext|>"
#define GPT2_TOKENS                                                                                \
    { END, END, END }
#define QWEN2_TOKENS                                                                               \
    { NULL, END, END, NULL, END }

/* name, model, wrap, unknown, build, tokens, flags */
static const la_token_class classes[] = {
    {"GPT2Tokenizer", "BPE", LA_WRAP_OF_FILE, LA_UNKNOWN_OF_FILE, gpt2, GPT2_TOKENS,
     LA_CLASS_SETS_PREFIX_SPACE},
    {"RobertaTokenizer", "BPE", LA_WRAP_ROBERTA, LA_UNKNOWN_OF_FILE, gpt2, ROBERTA_TOKENS,
     LA_CLASS_SETS_PREFIX_SPACE},
    {"BartTokenizer", "BPE", LA_WRAP_ROBERTA, LA_UNKNOWN_OF_FILE, gpt2, ROBERTA_TOKENS,
     LA_CLASS_SETS_PREFIX_SPACE},
    {"DebertaTokenizer", "BPE", LA_WRAP_BERT, LA_UNKNOWN_OF_FILE, gpt2, DEBERTA_TOKENS,
     LA_CLASS_SETS_PREFIX_SPACE},
    {"LlamaTokenizer", "BPE", LA_WRAP_OF_FILE, LA_UNKNOWN_NONE, llama, {"<s>", "</s>", "<unk>"}, 0},
    {"BertTokenizer", "WordPiece", LA_WRAP_BERT, LA_UNKNOWN_NAMED, bert, BERT_TOKENS,
     LA_CLASS_SETS_BERT},
    {"DistilBertTokenizer", "WordPiece", LA_WRAP_BERT, LA_UNKNOWN_NAMED, bert, BERT_TOKENS,
     LA_CLASS_SETS_BERT},
    {"ElectraTokenizer", "WordPiece", LA_WRAP_BERT, LA_UNKNOWN_NAMED, bert, BERT_TOKENS,
     LA_CLASS_SETS_BERT},
    {"Qwen2Tokenizer", "BPE", LA_WRAP_OF_FILE, LA_UNKNOWN_OF_FILE, qwen2, QWEN2_TOKENS,
     LA_CLASS_READDS_SPECIAL},
    {"GemmaTokenizer", "BPE", LA_WRAP_OF_FILE, LA_UNKNOWN_NAMED, gemma, GEMMA_TOKENS, 0},
    {"DebertaV2Tokenizer", "Unigram", LA_WRAP_BERT, LA_UNKNOWN_OF_FILE, deberta_v2, DEBERTA_TOKENS,
     0},
    {"XLMRobertaTokenizer", "Unigram", LA_WRAP_ENDS, LA_UNKNOWN_THIRD, xlm_roberta, ROBERTA_TOKENS,
     0},
    {"CamembertTokenizer", "Unigram", LA_WRAP_ENDS, LA_UNKNOWN_OF_FILE, xlm_roberta, ROBERTA_TOKENS,
     LA_CLASS_MASK_LEFT},
    {"T5Tokenizer", "Unigram", LA_WRAP_OF_FILE, LA_UNKNOWN_OF_FILE, t5, T5_TOKENS, 0},
};

/* Length of the name without the "Fast" that version 4 put behind it. */
static size_t bare_length(const char *name) {
    size_t length = strlen(name);
    return length > 4 && !strcmp(name + length - 4, "Fast") ? length - 4 : length;
}

const la_token_class *la_token_class_find(const char *name) {
    size_t length = bare_length(name);
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strlen(classes[i].name) == length && !memcmp(classes[i].name, name, length))
            return &classes[i];
    return NULL;
}

bool la_token_class_is_plain(const char *name) {
    static const char *const plain_names[] = {"PreTrainedTokenizer", "TokenizersBackend",
                                              "PythonBackend"};
    for (size_t i = 0; i < sizeof plain_names / sizeof *plain_names; i++)
        if (strlen(plain_names[i]) == bare_length(name) &&
            !memcmp(plain_names[i], name, bare_length(name)))
            return true;
    return false;
}

const char *la_token_class_of_model(const char *model_type) {
    static const char *const map[][2] = {
        {"bert", "BertTokenizer"},
        {"distilbert", "BertTokenizer"},
        {"electra", "BertTokenizer"},
        {"roberta", "RobertaTokenizer"},
        {"xlm-roberta", "XLMRobertaTokenizer"},
        {"camembert", "CamembertTokenizer"},
        {"deberta-v2", "DebertaV2Tokenizer"},
        {"gpt2", "GPT2Tokenizer"},
        {"qwen2", "Qwen2Tokenizer"},
        {"qwen3", "Qwen2Tokenizer"},
        {"gemma", "GemmaTokenizer"},
        {"gemma2", "GemmaTokenizer"},
        {"gemma3", "GemmaTokenizer"},
        {"gemma3_text", "GemmaTokenizer"},
    };
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (!strcmp(map[i][0], model_type))
            return map[i][1];
    return NULL;
}

bool la_token_class_yields(const la_token_class *kind, const json_t *root) {
    return kind->build == llama && has_type(json_object_get(root, "pre_tokenizer"), "ByteLevel", 0);
}
