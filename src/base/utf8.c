#include "base/utf8.h"

size_t la_utf8_decode(const char *text, size_t left, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *bytes = (const unsigned char *)text;
    size_t length = *bytes < 0x80   ? 1
                    : *bytes < 0xc0 ? 0
                    : *bytes < 0xe0 ? 2
                    : *bytes < 0xf0 ? 3
                    : *bytes < 0xf8 ? 4
                                    : 0;
    uint32_t value = *bytes & (0x7fu >> length);
    *code = *bytes;
    if (length < 2)
        return length;
    if (length > left)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (bytes[i] & 0x3fu);
    }
    bool surrogate = value >= 0xd800 && value < 0xe000;
    if (value < least[length] || value > 0x10ffff || surrogate)
        return 0;
    *code = value;
    return length;
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
        uint32_t code;
        size_t step = la_utf8_decode(text + at, length - at, &code);
        if (!step)
            return la_fail(err, LA_BAD_INPUT, "the text is not valid UTF-8 (byte %zu)", at);
        at += step;
    }
    return LA_OK;
}

size_t la_utf8_put(int32_t code, char *out) {
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n; --i; code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    *out = (char)(first[n] | code);
    return n;
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
