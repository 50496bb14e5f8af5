#include "text/utf8.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

void la_text_free(la_text *text) {
    free(text->data);
    *text = (la_text){0};
}

la_status la_text_append(la_text *text, const char *data, size_t n, la_error *err) {
    if (text->capacity - text->n < n)
        LA_TRY(la_grow(&text->data, &text->capacity, text->n + n, 1, err));
    if (n)
        memcpy(text->data + text->n, data, n);
    text->n += n;
    return LA_OK;
}

la_status la_text_push(la_text *text, int32_t code, la_error *err) {
    if (text->capacity - text->n < 4)
        LA_TRY(la_grow(&text->data, &text->capacity, text->n + 4, 1, err));
    text->n += la_utf8_put(code, text->data + text->n);
    return LA_OK;
}

void la_text_swap(la_text *a, la_text *b) {
    la_text swap = *a;
    *a = *b;
    *b = swap;
}

bool la_utf8_is_ascii(const char *text, size_t n) {
    unsigned char all = 0;
    for (size_t i = 0; i < n; i++)
        all |= (unsigned char)text[i];
    return all < 0x80;
}

size_t la_utf8_count(const char *text, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

la_status la_utf8_check(const char *text, size_t length, la_error *err) {
    if (la_utf8_is_ascii(text, length))
        return LA_OK;
    for (size_t at = 0; at < length;) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        utf8proc_int32_t code;
        utf8proc_ssize_t step = utf8proc_iterate((const utf8proc_uint8_t *)text + at,
                                                 (utf8proc_ssize_t)(length - at), &code);
        if (step <= 0)
            return la_fail(err, LA_BAD_INPUT, "the text is not valid UTF-8 (byte %zu)", at);
        at += (size_t)step;
    }
    return LA_OK;
}

size_t la_utf8_put(int32_t code, char *out) {
    if (code < 0x80) {
        *out = (char)code;
        return 1;
    }
    return (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)out);
}

int32_t la_utf8_wide(const unsigned char *text, size_t *at) {
    const unsigned char *c = text + *at;
    if (*c < 0xe0) {
        *at += 2;
        return (c[0] & 0x1f) << 6 | (c[1] & 0x3f);
    }
    if (*c < 0xf0) {
        *at += 3;
        return (c[0] & 0x0f) << 12 | (c[1] & 0x3f) << 6 | (c[2] & 0x3f);
    }
    *at += 4;
    return (c[0] & 0x07) << 18 | (c[1] & 0x3f) << 12 | (c[2] & 0x3f) << 6 | (c[3] & 0x3f);
}
