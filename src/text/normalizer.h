/* Normalizer of a tokenizer.json: steps that rewrite a text. */
#ifndef LA_TEXT_NORMALIZER_H
#define LA_TEXT_NORMALIZER_H

#include "text/charsmap.h"
#include "text/pattern.h"
#include "text/unicode.h"

typedef enum la_normalizer_kind {
    LA_NORMALIZE_BERT,
    LA_NORMALIZE_FORM,
    LA_NORMALIZE_LOWER,
    LA_NORMALIZE_STRIP_ACCENTS,
    LA_NORMALIZE_STRIP,
    LA_NORMALIZE_REPLACE,
    LA_NORMALIZE_PREPEND,
    LA_NORMALIZE_NMT,
    LA_NORMALIZE_CHARSMAP,
    LA_NORMALIZE_BYTES
} la_normalizer_kind;

typedef struct la_normalizer_step {
    la_normalizer_kind kind;
    la_form form;
    bool clean, ideographs, accents, lower; /* BertNormalizer */
    bool left, right;                       /* Strip */
    la_pattern pattern;                     /* Replace */
    la_text content;                        /* Replace, Prepend; memory from the pool */
    la_charsmap charsmap;
} la_normalizer_step;

/* Zero it first; free with la_normalizer_free. */
typedef struct la_normalizer {
    la_normalizer_step *steps; /* from the pool */
    int n_steps;
    /* workspaces */
    la_text spare;
    la_cuts cuts;
} la_normalizer;

la_status la_normalizer_load(const la_text_source *source, const json_t *json, la_normalizer *out);
void la_normalizer_free(la_normalizer *normalizer);
/* Rewrites text. *lead: number of bytes at its beginning that came from the first character of the
 * text as it was given; 0 when that character is gone. Metaspace needs it. */
la_status la_normalizer_apply(la_normalizer *normalizer, la_text *text, size_t *lead,
                              la_error *err);

#endif
