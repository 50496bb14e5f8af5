/* Text as UTF-8 in growing buffers, read character by character. */
#ifndef LA_TEXT_UTF8_H
#define LA_TEXT_UTF8_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Zero it first; free with la_text_free. */
typedef struct la_text {
    char *data;
    size_t n, capacity;
} la_text;

void la_text_free(la_text *text);
la_status la_text_append(la_text *text, const char *data, size_t n, la_error *err);
la_status la_text_push(la_text *text, int32_t code, la_error *err);
void la_text_swap(la_text *a, la_text *b);

/* LA_BAD_INPUT when text is not valid UTF-8: the other functions need checked text. */
la_status la_utf8_check(const char *text, size_t length, la_error *err);
/* Bytes written, at most 4. */
size_t la_utf8_put(int32_t code, char *out);
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

bool la_utf8_is_ascii(const char *text, size_t n);
size_t la_utf8_count(const char *text, size_t n);

#endif
