#include "output/escape.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of the UTF-8 character at text (which ends with a NUL), 0 when there is none; *code is set.
 */
static size_t decode(const unsigned char *text, uint32_t *code) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = *text < 0x80   ? 1
                    : *text < 0xc0 ? 0
                    : *text < 0xe0 ? 2
                    : *text < 0xf0 ? 3
                    : *text < 0xf8 ? 4
                                   : 0;
    if (length < 2) {
        *code = *text;
        return length;
    }
    *code = *text & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (text[i] & 0x3fu);
    }
    bool surrogate = *code >= 0xd800 && *code < 0xe000;
    return *code < least[length] || *code > 0x10ffff || surrogate ? 0 : length;
}

static bool is_printable(uint32_t code) {
    if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        return false;
    /* line separators, direction overrides, and what XML has no place for */
    return !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069) &&
           code != 0xfffe && code != 0xffff;
}

char *la_text_clean(const char *text, bool printable, la_error *err) {
    size_t used = 0;
    char *out = la_alloc(strlen(text) + 1, 3, err);
    if (!out)
        return NULL;
    while (*text) {
        uint32_t code;
        size_t length = decode((const unsigned char *)text, &code);
        if (length && (!printable || is_printable(code))) {
            memcpy(out + used, text, length);
            used += length;
        } else {
            memcpy(out + used, "\xef\xbf\xbd", 3);
            used += 3;
        }
        text += length ? length : 1;
    }
    return out;
}

void la_xml_write(FILE *stream, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", stream);
            break;
        case '<':
            fputs("&lt;", stream);
            break;
        case '>':
            fputs("&gt;", stream);
            break;
        case '"':
            fputs("&quot;", stream);
            break;
        case '\'':
            fputs("&#39;", stream);
            break;
        default:
            fputc(*text, stream);
        }
    }
}
