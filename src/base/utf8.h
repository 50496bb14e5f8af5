/* UTF-8, character by character. */
#ifndef LA_BASE_UTF8_H
#define LA_BASE_UTF8_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at text, of which left > 0 bytes are there; 0 when it is none: cut short,
 * too long for its value, a surrogate. *code: the character, else the first byte. For text from
 * strangers. */
size_t la_utf8_decode(const char *text, size_t left, uint32_t *code);

/* LA_BAD_INPUT when text is not valid UTF-8. */
la_status la_utf8_check(const char *text, size_t length, la_error *err);
bool la_utf8_is_ascii(const char *text, size_t n);
/* Writes a character; returns its bytes, at most 4. */
size_t la_utf8_put(int32_t code, char *out);

/* ---- of checked text ---- */

/* Characters in n bytes. */
size_t la_utf8_count(const char *text, size_t n);
/* la_utf8_next of a character that is not ASCII. */
int32_t la_utf8_wide(const unsigned char *text, size_t *at);

/* Bytes of the character that begins with this byte. */
static inline size_t la_utf8_size(char first) {
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Character at *at, which moves behind it. */
static inline int32_t la_utf8_next(const char *text, size_t *at) {
    const unsigned char *bytes = (const unsigned char *)text;
    return bytes[*at] < 0x80 ? bytes[(*at)++] : la_utf8_wide(bytes, at);
}

/* Offset of the last character of n > 0 bytes. */
static inline size_t la_utf8_last(const char *text, size_t n) {
    do
        n--;
    while (n && ((unsigned char)text[n] & 0xc0) == 0x80);
    return n;
}

#endif
