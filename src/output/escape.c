#include "output/escape.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "base/visible.h"

#include <stdlib.h>
#include <string.h>

char *la_text_clean(const char *text, la_error *err) {
    size_t used = 0;
    char *out = la_alloc(strlen(text) + 1, 3, err);
    if (!out)
        return NULL;
    for (size_t left = strlen(text), took; left; text += took, left -= took) {
        uint32_t code;
        size_t length = la_utf8_decode(text, left, &code);
        if (length) {
            memcpy(out + used, text, length);
            used += length;
        } else {
            memcpy(out + used, "\xef\xbf\xbd", 3);
            used += 3;
        }
        took = length ? length : 1;
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

void la_cell_write(FILE *stream, const char *text) {
    size_t length = strlen(text);
    bool quoted =
        text[strcspn(text, ",\"\r\n")] || *text == ' ' || (length && text[length - 1] == ' ');
    if (quoted)
        fputc('"', stream);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', stream);
        fputc(*text, stream);
    }
    if (quoted)
        fputc('"', stream);
}
