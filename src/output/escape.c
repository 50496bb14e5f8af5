#include "output/escape.h"
#include "base/memory.h"
#include "base/visible.h"

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

char *la_text_clean(const char *text, la_error *err) {
    size_t used = 0;
    char *out = la_alloc(strlen(text) + 1, 3, err);
    if (!out)
        return NULL;
    while (*text) {
        uint32_t code;
        size_t length = decode((const unsigned char *)text, &code);
        if (length) {
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

static int write_piece(const char *piece, size_t length, void *stream) {
    la_visible_json(piece, length, stream);
    return ferror((FILE *)stream) ? -1 : 0;
}

int la_json_write(const json_t *value, size_t flags, FILE *stream) {
    return json_dump_callback(value, write_piece, stream, flags);
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
