#include "text/bytelevel.h"
#include "base/memory.h"

/* Visible characters of Latin-1 stand for themselves; the other bytes, in order, for the characters
 * from U+0100 on. */
static int32_t code_of(unsigned char byte) {
    if ((byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad))
        return byte;
    if (byte <= ' ')
        return 0x100 + byte;
    return byte == 0xad ? 0x143 : 0x121 + (byte - 0x7f);
}

la_status la_bytelevel_append(la_text *out, const char *text, size_t n, la_error *err) {
    LA_TRY(la_grow(&out->data, &out->capacity, out->n + 2 * n, 1, err));
    char *to = out->data + out->n;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte > ' ' && byte < 0x7f) {
            *to++ = (char)byte;
            continue;
        }
        int32_t code = code_of(byte);
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    out->n = (size_t)(to - out->data);
    return LA_OK;
}
