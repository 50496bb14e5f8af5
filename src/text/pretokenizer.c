#include "text/pretokenizer.h"
#include "text/bytelevel.h"
#include "text/unicode.h"
#include "text/unicode_scripts.h"

#include <string.h>

/* ---- loading ---- */

static const char *const behaviors[] = {"Removed",        "Isolated",   "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous", NULL};

static la_status load_split(const la_text_source *source, const json_t *json, la_split_step *step) {
    LA_TRY(la_source_choice(source, json, "pre-tokenizer Split", "behavior", behaviors,
                            &step->behavior));
    LA_TRY(la_source_flag(source, json, "invert", &step->invert));
    return la_pattern_load(source, "pre-tokenizer Split", json_object_get(json, "pattern"),
                           &step->pattern);
}

/* object[key], one character; the default stays when it is absent. */
static la_status load_character(const la_text_source *source, const json_t *json, const char *key,
                                la_text *out) {
    const json_t *value = json_object_get(json, key);
    if (value)
        LA_TRY(la_source_text(source, value, key, out));
    if (!out->n || la_utf8_count(out->data, out->n) != 1)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: pre_tokenizer: \"%s\" is no single character", source->path, key);
    return LA_OK;
}

static la_status load_metaspace(const la_text_source *source, const json_t *json,
                                la_split_step *step) {
    static const char *const schemes[] = {"first", "never", "always", NULL};
    static char mark[] = "\xe2\x96\x81";
    step->prepend = LA_PREPEND_ALWAYS;
    step->split = true;
    step->mark = (la_text){mark, 3, 3};
    LA_TRY(load_character(source, json, "replacement", &step->mark));
    LA_TRY(la_source_choice(source, json, "pre-tokenizer Metaspace", "prepend_scheme", schemes,
                            &step->prepend));
    LA_TRY(la_source_flag(source, json, "split", &step->split));
    /* the older spelling; where both are present they must agree */
    bool space = true;
    LA_TRY(la_source_flag(source, json, "add_prefix_space", &space));
    if (!space && step->prepend != LA_PREPEND_NEVER)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: pre-tokenizer Metaspace: \"add_prefix_space\" is false, which "
                       "\"prepend_scheme\" contradicts",
                       source->path);
    return LA_OK;
}

static la_status load_fields(const la_text_source *source, const json_t *json,
                             la_split_step *step) {
    switch (step->kind) {
    case LA_SPLIT_PUNCTUATION:
        step->behavior = LA_ISOLATED;
        return la_source_choice(source, json, "pre-tokenizer Punctuation", "behavior", behaviors,
                                &step->behavior);
    case LA_SPLIT_DIGITS: {
        bool each = false;
        LA_TRY(la_source_flag(source, json, "individual_digits", &each));
        if (each)
            step->kind = LA_SPLIT_EACH_DIGIT;
        return LA_OK;
    }
    case LA_SPLIT_DELIMITER: {
        la_text text = {0};
        size_t at = 0;
        LA_TRY(load_character(source, json, "delimiter", &text));
        step->delimiter = la_utf8_next(text.data, &at);
        return LA_OK;
    }
    case LA_SPLIT_PATTERN:
        return load_split(source, json, step);
    case LA_SPLIT_LENGTH:
        step->length = 5;
        return la_json_int(json, source->path, "length", false, 1, INT32_MAX, &step->length,
                           source->err);
    case LA_SPLIT_BYTES:
        step->space = step->split = true;
        LA_TRY(la_source_flag(source, json, "add_prefix_space", &step->space));
        return la_source_flag(source, json, "use_regex", &step->split);
    case LA_SPLIT_METASPACE:
        return load_metaspace(source, json, step);
    default:
        return LA_OK;
    }
}

static la_status load_step(const la_text_source *source, const json_t *json, const char *type,
                           void *out) {
    static const struct {
        const char *type;
        la_splitter kind;
    } kinds[] = {
        {"WhitespaceSplit", LA_SPLIT_WHITE_SPACE},
        {"Punctuation", LA_SPLIT_PUNCTUATION},
        {"BertPreTokenizer", LA_SPLIT_BERT},
        {"Whitespace", LA_SPLIT_WORDS},
        {"Digits", LA_SPLIT_DIGITS},
        {"CharDelimiterSplit", LA_SPLIT_DELIMITER},
        {"Split", LA_SPLIT_PATTERN},
        {"FixedLength", LA_SPLIT_LENGTH},
        {"ByteLevel", LA_SPLIT_BYTES},
        {"Metaspace", LA_SPLIT_METASPACE},
        {"UnicodeScripts", LA_SPLIT_SCRIPTS},
    };
    la_pretokenizer *pretokenizer = out;
    if (pretokenizer->n_steps == LA_SPLITTERS_MAX)
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: more than %d pre-tokenizers are not supported", source->path,
                       LA_SPLITTERS_MAX);
    la_split_step *step = &pretokenizer->steps[pretokenizer->n_steps++];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type)) {
            step->kind = kinds[i].kind;
            return load_fields(source, json, step);
        }
    return la_fail(source->err, LA_UNSUPPORTED, "%s: pre-tokenizer \"%s\" is not supported",
                   source->path, type);
}

la_status la_pretokenizer_load(const la_text_source *source, const json_t *json,
                               la_pretokenizer *out) {
    return la_source_components(source, json, "pretokenizers", load_step, out);
}

void la_pretokenizer_free(la_pretokenizer *pretokenizer) {
    for (int i = 0; i < pretokenizer->n_steps; i++) {
        la_split_step *step = &pretokenizer->steps[i];
        la_pattern_free(&step->pattern);
        la_text_free(&step->spare);
        la_text_free(&step->words);
        la_cuts_free(&step->cuts);
    }
    *pretokenizer = (la_pretokenizer){0};
}

/* ---- application ---- */

typedef struct splitting {
    la_pretokenizer *pretokenizer;
    la_word_sink sink;
    void *user;
    la_error *err;
} splitting;

/* Text on its way through the steps. */
typedef struct piece {
    const char *data;
    size_t n, lead;
} piece;

static la_status split(const splitting *s, int step, piece text);

static piece part_of(piece text, size_t from, size_t to) {
    size_t lead = text.lead > from ? text.lead - from : 0;
    return (piece){text.data + from, to - from, lead < to - from ? lead : to - from};
}

/* Class of a character for a splitter: runs of the same class stay together, except APART. */
typedef enum char_class { DROPPED, APART, PLAIN, SPECIAL } char_class;

static char_class classify(const la_split_step *step, int32_t code) {
    switch (step->kind) {
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
    case LA_SPLIT_DELIMITER:
        return code == step->delimiter ? DROPPED : PLAIN;
    default:
        return PLAIN;
    }
}

static la_status split_by_class(const splitting *s, int index, piece text) {
    const la_split_step *step = &s->pretokenizer->steps[index];
    size_t next = 0;
    char_class class = classify(step, la_utf8_next(text.data, &next));
    for (size_t from = 0; from < text.n;) {
        size_t to = next;
        char_class after = DROPPED;
        while (to < text.n) {
            after = classify(step, la_utf8_next(text.data, &next));
            if (class == APART || after != class)
                break;
            to = next;
        }
        if (class != DROPPED)
            LA_TRY(split(s, index + 1, part_of(text, from, to)));
        from = to;
        class = after;
    }
    return LA_OK;
}

static la_status split_by_cuts(const splitting *s, int index, piece text) {
    la_split_step *step = &s->pretokenizer->steps[index];
    la_cuts *cuts = &step->cuts;
    for (size_t i = 0; step->invert && i < cuts->n; i++)
        cuts->data[i].match = !cuts->data[i].match;
    la_behavior_apply((la_behavior)step->behavior, cuts);
    for (size_t i = 0; i < cuts->n; i++)
        LA_TRY(split(s, index + 1, part_of(text, cuts->data[i].from, cuts->data[i].to)));
    return LA_OK;
}

static la_status split_punctuation(const splitting *s, int index, piece text) {
    la_split_step *step = &s->pretokenizer->steps[index];
    size_t done = 0;
    step->cuts.n = 0;
    for (size_t at = 0; at < text.n;) {
        size_t from = at;
        if (!la_is_punctuation(la_utf8_next(text.data, &at)))
            continue;
        if (from > done)
            LA_TRY(la_cuts_push(&step->cuts, done, from, false, s->err));
        LA_TRY(la_cuts_push(&step->cuts, from, at, true, s->err));
        done = at;
    }
    if (done < text.n)
        LA_TRY(la_cuts_push(&step->cuts, done, text.n, false, s->err));
    return split_by_cuts(s, index, text);
}

static la_status split_by_length(const splitting *s, int index, piece text) {
    const la_split_step *step = &s->pretokenizer->steps[index];
    for (size_t from = 0, to = 0; from < text.n; from = to) {
        for (int64_t i = 0; i < step->length && to < text.n; i++)
            to += la_utf8_size(text.data[to]);
        LA_TRY(split(s, index + 1, part_of(text, from, to)));
    }
    return LA_OK;
}

static la_status split_bytes(const splitting *s, int index, piece text) {
    la_split_step *step = &s->pretokenizer->steps[index];
    if (step->space && text.data[0] != ' ') {
        step->spare.n = 0;
        LA_TRY(la_text_push(&step->spare, ' ', s->err));
        LA_TRY(la_text_append(&step->spare, text.data, text.n, s->err));
        text = (piece){step->spare.data, text.n + 1, text.lead ? text.lead + 1 : 0};
    }
    for (size_t from = 0, to; from < text.n; from = to) {
        to = step->split ? la_gpt2_pattern(text.data, text.n, from) : text.n;
        step->words.n = 0;
        LA_TRY(la_bytelevel_append(&step->words, text.data + from, to - from, s->err));
        size_t lead = text.lead > from ? step->words.n : 0;
        LA_TRY(split(s, index + 1, (piece){step->words.data, step->words.n, lead}));
    }
    return LA_OK;
}

/* Spaces become marks; a mark may be put before the text. */
static la_status split_metaspace(const splitting *s, int index, piece text) {
    la_split_step *step = &s->pretokenizer->steps[index];
    la_text *out = &step->words, *mark = &step->mark;
    out->n = 0;
    size_t lead = SIZE_MAX;
    bool marked =
        text.data[0] == ' ' || (text.n >= mark->n && !memcmp(text.data, mark->data, mark->n));
    if (!marked &&
        (step->prepend == LA_PREPEND_ALWAYS || (step->prepend == LA_PREPEND_FIRST && text.lead)))
        LA_TRY(la_text_append(out, mark->data, mark->n, s->err));
    for (size_t at = 0; at < text.n;) {
        if (lead == SIZE_MAX && at >= text.lead)
            lead = text.lead ? out->n : 0;
        const char *space = memchr(text.data + at, ' ', text.n - at);
        size_t end = space ? (size_t)(space - text.data) : text.n;
        if (lead == SIZE_MAX && end > text.lead)
            lead = out->n + (text.lead - at);
        LA_TRY(la_text_append(out, text.data + at, end - at, s->err));
        if (space)
            LA_TRY(la_text_append(out, mark->data, mark->n, s->err));
        at = end + (space != NULL);
    }
    text = (piece){out->data, out->n, lead == SIZE_MAX ? out->n : lead};
    for (size_t from = 0, to; from < text.n; from = to) {
        const char *next = NULL;
        if (step->split && text.n - from > mark->n) {
            size_t skip = from + la_utf8_size(text.data[from]);
            next = memmem(text.data + skip, text.n - skip, mark->data, mark->n);
        }
        to = next ? (size_t)(next - text.data) : text.n;
        LA_TRY(split(s, index + 1, part_of(text, from, to)));
    }
    return LA_OK;
}

/* Splits before a character whose script differs from that of the last character with one. Text
 * before the first such character is lost, as in the tokenizers package. */
static la_status split_by_script(const splitting *s, int index, piece text) {
    size_t from = text.n;
    int last = 0;
    for (size_t at = 0, next = 0; at < text.n; at = next) {
        int script = la_unicode_script(la_utf8_next(text.data, &next));
        if (!script || script == last)
            continue;
        if (last)
            LA_TRY(split(s, index + 1, part_of(text, from, at)));
        from = at;
        last = script;
    }
    return from < text.n ? split(s, index + 1, part_of(text, from, text.n)) : LA_OK;
}

static la_status split(const splitting *s, int index, piece text) {
    if (!text.n)
        return LA_OK;
    if (index == s->pretokenizer->n_steps)
        return s->sink(s->user, text.data, text.n);
    la_split_step *step = &s->pretokenizer->steps[index];
    switch (step->kind) {
    case LA_SPLIT_PUNCTUATION:
        return step->behavior == LA_ISOLATED ? split_by_class(s, index, text)
                                             : split_punctuation(s, index, text);
    case LA_SPLIT_PATTERN:
        LA_TRY(la_pattern_cut(&step->pattern, text.data, text.n, &step->cuts, s->err));
        return split_by_cuts(s, index, text);
    case LA_SPLIT_LENGTH:
        return split_by_length(s, index, text);
    case LA_SPLIT_BYTES:
        return split_bytes(s, index, text);
    case LA_SPLIT_METASPACE:
        return split_metaspace(s, index, text);
    case LA_SPLIT_SCRIPTS:
        return split_by_script(s, index, text);
    default:
        return split_by_class(s, index, text);
    }
}

la_status la_pretokenizer_apply(la_pretokenizer *pretokenizer, const char *text, size_t n,
                                size_t lead, la_word_sink sink, void *user, la_error *err) {
    const splitting s = {pretokenizer, sink, user, err};
    return split(&s, 0, (piece){text, n, lead});
}
