/* Character classes and normal forms as the `tokenizers` library means them (tables: utf8proc,
 * corrected by unicode_age). */
#ifndef LA_TEXT_UNICODE_H
#define LA_TEXT_UNICODE_H

#include "text/buffer.h"

typedef enum la_form { LA_FORM_NFC, LA_FORM_NFD, LA_FORM_NFKC, LA_FORM_NFKD } la_form;
/* Appends the normal form of n bytes to out. */
la_status la_normal_form(la_form form, const char *text, size_t n, la_text *out, la_error *err);
/* True when every character of text is its own normal form and stays it beside any other: nothing
 * to do. False for some such texts too. */
bool la_is_normal(la_form form, const char *text, size_t n);

/* The Unicode property White_Space. */
bool la_is_white_space(int32_t code);
/* ASCII punctuation and symbols, and the categories P*. */
bool la_is_punctuation(int32_t code);
/* The categories N*. */
bool la_is_numeric(int32_t code);
/* \w of the regular expressions: letters, marks, decimal and letter numbers, connectors, joiners,
 * circled letters. */
bool la_is_word(int32_t code);
/* Combining marks: all of M*, or non-spacing ones only. */
bool la_is_mark(int32_t code);
bool la_is_nonspacing_mark(int32_t code);
/* Control, format and private-use characters, but not tab and line ends. */
bool la_is_control(int32_t code);
/* Ideographs that BERT sets apart. */
bool la_is_ideograph(int32_t code);
/* Appends the lower case of one character (up to two). */
la_status la_text_push_lower(la_text *text, int32_t code, la_error *err);

/* Classes that the patterns of byte-level tokenizers distinguish: \p{L}, \p{N}, \s, the rest. */
typedef enum la_pattern_class {
    LA_CLASS_OTHER,
    LA_CLASS_LETTER,
    LA_CLASS_NUMBER,
    LA_CLASS_SPACE
} la_pattern_class;
la_pattern_class la_classify(int32_t code);

#endif
