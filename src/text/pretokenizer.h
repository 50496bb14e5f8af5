/* Pre-tokenizer of a tokenizer.json: steps that split a text into words, some of which rewrite it
 * on the way. */
#ifndef LA_TEXT_PRETOKENIZER_H
#define LA_TEXT_PRETOKENIZER_H

#include "text/pattern.h"

typedef enum la_splitter {
    LA_SPLIT_WHITE_SPACE,
    LA_SPLIT_BERT,
    LA_SPLIT_WORDS, /* \w+|[^\w\s]+ */
    LA_SPLIT_DIGITS,
    LA_SPLIT_EACH_DIGIT,
    LA_SPLIT_DELIMITER,
    LA_SPLIT_PUNCTUATION,
    LA_SPLIT_PATTERN,
    LA_SPLIT_LENGTH,
    LA_SPLIT_BYTES,
    LA_SPLIT_METASPACE,
    LA_SPLIT_SCRIPTS
} la_splitter;

/* Treatment of the matches of a pattern, in the order of the names in pretokenizer.c. */
typedef enum la_behavior {
    LA_REMOVED,
    LA_ISOLATED,
    LA_MERGED_WITH_PREVIOUS,
    LA_MERGED_WITH_NEXT,
    LA_CONTIGUOUS
} la_behavior;

typedef enum la_prepend { LA_PREPEND_FIRST, LA_PREPEND_NEVER, LA_PREPEND_ALWAYS } la_prepend;

typedef struct la_split_step {
    la_splitter kind;
    la_pattern pattern;   /* Split */
    int behavior;         /* Split, Punctuation: la_behavior */
    bool invert;          /* Split */
    bool space, split;    /* ByteLevel: add_prefix_space, use_regex; Metaspace: split */
    int prepend;          /* Metaspace: la_prepend */
    la_text mark;         /* Metaspace: the replacement, one character; memory from the pool */
    int32_t delimiter;    /* CharDelimiterSplit */
    int64_t length;       /* FixedLength */
    la_text spare, words; /* workspaces */
    la_cuts cuts;
} la_split_step;

enum { LA_SPLITTERS_MAX = 16 };

/* Zero it first; free with la_pretokenizer_free. */
typedef struct la_pretokenizer {
    la_split_step steps[LA_SPLITTERS_MAX];
    int n_steps;
} la_pretokenizer;

typedef la_status (*la_word_sink)(void *user, const char *word, size_t n);

la_status la_pretokenizer_load(const la_text_source *source, const json_t *json,
                               la_pretokenizer *out);
void la_pretokenizer_free(la_pretokenizer *pretokenizer);
/* Passes the words of text to the sink, in order. lead: as la_normalizer_apply left it. */
la_status la_pretokenizer_apply(la_pretokenizer *pretokenizer, const char *text, size_t n,
                                size_t lead, la_word_sink sink, void *user, la_error *err);

/* ---- behavior.c ---- */

/* Joins or drops the cuts of a text by the behaviour; the remaining ones are kept. */
void la_behavior_apply(la_behavior behavior, la_cuts *cuts);

#endif
