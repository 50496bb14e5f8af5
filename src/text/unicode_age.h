/* Corrections of utf8proc's Unicode tables: those of the `tokenizers` package are of several
 * ages. */
#ifndef LA_TEXT_UNICODE_AGE_H
#define LA_TEXT_UNICODE_AGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum la_age_class {
    LA_AGE_WORD,        /* \w of added tokens and of Whitespace */
    LA_AGE_NUMERIC,     /* Digits */
    LA_AGE_PUNCTUATION, /* Punctuation and BertPreTokenizer */
    LA_AGE_CONTROL,     /* clean_text */
    LA_AGE_NONSPACING,  /* strip_accents */
    LA_AGE_MARK,        /* StripAccents */
    LA_AGE_LETTER,      /* \p{L} of patterns */
    LA_AGE_NUMBER,      /* \p{N} of patterns */
    LA_AGE_BARRIER,     /* left alone by the normal forms: unassigned in their tables */
    LA_AGE_EXTENDS      /* in one grapheme cluster with a letter before it */
} la_age_class;

/* Membership of code in class by the package; here: membership by utf8proc. */
bool la_age_correct(la_age_class class, int32_t code, bool here);
int32_t la_age_lower(int32_t code, int32_t here);
/* Members of \p{NAME} later than Unicode 14, as items of a character class, part by part; NULL ends
 * them. *at is 0 at first. */
const char *la_age_property(const char *name, size_t *at);

#endif
