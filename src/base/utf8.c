#include "base/utf8.h"

#include <stdbool.h>

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
