#include "text/parts.h"

#include <string.h>

static la_status load_steps(const la_text_source *source, const json_t *json, int depth,
                            la_pretokenizer *out) {
    static const struct {
        const char *type;
        la_splitter step;
    } kinds[] = {
        {"WhitespaceSplit", LA_SPLIT_WHITE_SPACE},
        {"Punctuation", LA_SPLIT_PUNCTUATION},
        {"BertPreTokenizer", LA_SPLIT_BERT},
        {"Whitespace", LA_SPLIT_WORDS},
        {"Digits", LA_SPLIT_DIGITS},
    };
    const char *type = NULL, *behavior = "Isolated";
    LA_TRY(la_json_text(json, source->path, "type", true, &type, source->err));
    if (!strcmp(type, "Sequence") && depth < 16) {
        const json_t *list = json_object_get(json, "pretokenizers");
        size_t i;
        json_t *item;
        if (!json_is_array(list))
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: \"pretokenizers\" is %s, expected an array", source->path,
                           la_json_kind(list));
        json_array_foreach(list, i, item) {
            LA_TRY(load_steps(source, item, depth + 1, out));
        }
        return LA_OK;
    }
    size_t i = 0;
    while (i < sizeof kinds / sizeof *kinds && strcmp(kinds[i].type, type))
        i++;
    if (i == sizeof kinds / sizeof *kinds || out->n_steps == LA_SPLITTERS_MAX)
        return la_fail(source->err, LA_UNSUPPORTED, "%s: pre-tokenizer \"%s\" is not supported",
                       source->path, type);
    la_splitter step = kinds[i].step;
    LA_TRY(la_json_text(json, source->path, "behavior", false, &behavior, source->err));
    if (step == LA_SPLIT_PUNCTUATION && strcasecmp(behavior, "Isolated"))
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: pre-tokenizer Punctuation: behavior \"%s\" is not supported",
                       source->path, behavior);
    bool each = false;
    LA_TRY(la_json_bool(json, source->path, "individual_digits", false, &each, source->err));
    out->steps[out->n_steps++] = step == LA_SPLIT_DIGITS && each ? LA_SPLIT_EACH_DIGIT : step;
    return LA_OK;
}

la_status la_pretokenizer_load(const la_text_source *source, const json_t *json,
                               la_pretokenizer *out) {
    *out = (la_pretokenizer){0};
    if (!json || json_is_null(json))
        return LA_OK;
    return load_steps(source, json, 0, out);
}

/* What a character is to a splitter: runs of the same class stay together, except those apart. */
typedef enum char_class { DROPPED, APART, PLAIN, SPECIAL } char_class;

static char_class classify(la_splitter step, int32_t code) {
    switch (step) {
    case LA_SPLIT_WHITE_SPACE:
        return la_is_white_space(code) ? DROPPED : PLAIN;
    case LA_SPLIT_PUNCTUATION:
        return la_is_punctuation(code) ? APART : PLAIN;
    case LA_SPLIT_BERT:
        return la_is_white_space(code) ? DROPPED : la_is_punctuation(code) ? APART : PLAIN;
    case LA_SPLIT_WORDS:
        return la_is_word(code) ? PLAIN : la_is_white_space(code) ? DROPPED : SPECIAL;
    case LA_SPLIT_DIGITS:
        return la_is_numeric(code) ? SPECIAL : PLAIN;
    case LA_SPLIT_EACH_DIGIT:
        return la_is_numeric(code) ? APART : PLAIN;
    }
    return PLAIN;
}

static la_status split(const la_pretokenizer *pretokenizer, int step, const int32_t *text, size_t n,
                       la_word_sink sink, void *user) {
    if (!n)
        return LA_OK;
    if (step == pretokenizer->n_steps)
        return sink(user, text, n);
    for (size_t from = 0; from < n;) {
        char_class class = classify(pretokenizer->steps[step], text[from]);
        size_t to = from + 1;
        while (class != APART && to < n && classify(pretokenizer->steps[step], text[to]) == class)
            to++;
        if (class != DROPPED)
            LA_TRY(split(pretokenizer, step + 1, text + from, to - from, sink, user));
        from = to;
    }
    return LA_OK;
}

la_status la_pretokenizer_apply(const la_pretokenizer *pretokenizer, const int32_t *text, size_t n,
                                la_word_sink sink, void *user) {
    return split(pretokenizer, 0, text, n, sink, user);
}
