/* precompiled_charsmap of sentencepiece: a double array from byte strings to replacements. */
#ifndef LA_TEXT_CHARSMAP_H
#define LA_TEXT_CHARSMAP_H

#include "text/source.h"

typedef struct la_charsmap {
    uint32_t *units; /* both from the pool */
    size_t n_units;
    char *texts; /* replacements, each ended by NUL */
    size_t n_texts;
} la_charsmap;

/* json: base64 */
la_status la_charsmap_load(const la_text_source *source, const json_t *json, la_charsmap *out);
/* Appends the n bytes of text to out, replaced. *lead: in, bytes at the beginning of text; out,
 * bytes that they became in out. */
la_status la_charsmap_apply(const la_charsmap *map, const char *text, size_t n, la_text *out,
                            size_t *lead, la_error *err);

#endif
