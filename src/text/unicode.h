/* Code points: buffers, UTF-8, character classes as the `tokenizers` library means them (tables:
 * utf8proc). */
#ifndef LA_TEXT_UNICODE_H
#define LA_TEXT_UNICODE_H

#include "base/error.h"

#include <stdbool.h>

typedef struct la_codes {
    int32_t *data;
    size_t n, capacity;
} la_codes;

void la_codes_free(la_codes *codes);
la_status la_codes_push(la_codes *codes, int32_t code, la_error *err);
la_status la_codes_append(la_codes *codes, const int32_t *data, size_t n, la_error *err);
/* Replaces the contents by the code points of text; LA_BAD_INPUT when it is not valid UTF-8. */
la_status la_codes_decode(la_codes *codes, const char *text, size_t length, la_error *err);
/* Bytes written, at most 4. */
size_t la_code_encode(int32_t code, char *out);

typedef enum la_form { LA_FORM_NFC, LA_FORM_NFD, LA_FORM_NFKC, LA_FORM_NFKD } la_form;
/* out = the normal form of in */
la_status la_codes_normal_form(la_form form, const la_codes *in, la_codes *out, la_error *err);

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
la_status la_codes_push_lower(la_codes *codes, int32_t code, la_error *err);

#endif
