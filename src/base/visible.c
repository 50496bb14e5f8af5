#include "base/visible.h"
#include "base/memory.h"
#include "base/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Control characters, line separators, marks of direction, what has no width, what XML has no place
 * for. */
static const struct {
    uint32_t first, last;
} hidden[] = {
    {0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},
    {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},
    {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe007f},
};

static bool is_hidden(uint32_t code) {
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (code >= hidden[i].first && code <= hidden[i].last)
            return true;
    return false;
}

size_t la_visible_next(const char *text, size_t length, char out[LA_VISIBLE_UNIT]) {
    uint32_t code;
    size_t used = la_utf8_decode(text, length, &code);
    if (used && !is_hidden(code)) {
        memcpy(out, text, used);
        out[used] = 0;
    } else if (code == '\n' || code == '\r' || code == '\t') {
        snprintf(out, LA_VISIBLE_UNIT, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
    } else if (!used || code < 0x80) {
        snprintf(out, LA_VISIBLE_UNIT, "\\x%02x", (unsigned)(unsigned char)*text);
    } else {
        snprintf(out, LA_VISIBLE_UNIT, code > 0xffff ? "\\U%08x" : "\\u%04x", (unsigned)code);
    }
    return used ? used : 1;
}

size_t la_visible_cut(const char *text, size_t most) {
    size_t used = 0, left = strlen(text);
    for (uint32_t code; left;) {
        size_t took = la_utf8_decode(text + used, left, &code);
        took = took ? took : 1;
        if (used + took > most)
            break;
        used += took;
        left -= took;
    }
    return used;
}

void la_visible(const char *text, char *out, size_t size) {
    char unit[LA_VISIBLE_UNIT];
    size_t used = 0;
    for (size_t left = strlen(text), took; left; text += took, left -= took) {
        took = la_visible_next(text, left, unit);
        if (used + strlen(unit) >= size)
            break;
        strcpy(out + used, unit);
        used += strlen(unit);
    }
    out[used] = 0;
}

char *la_visible_copy(const char *text, la_error *err) {
    size_t size = 4 * strlen(text) + 1; /* a byte becomes \x9b at most */
    char *out = la_alloc(size, 1, err);
    if (out)
        la_visible(text, out, size);
    return out;
}

void la_visible_write(const char *text, FILE *stream) {
    char unit[LA_VISIBLE_UNIT];
    for (size_t left = strlen(text), took; left; text += took, left -= took) {
        took = la_visible_next(text, left, unit);
        fputs(unit, stream);
    }
}

void la_visible_json(const char *json, size_t length, FILE *stream) {
    for (size_t took; length; json += took, length -= took) {
        uint32_t code;
        for (took = 0; took < length && json[took] >= ' ' && json[took] < 127;)
            took++;
        if (took) {
            fwrite(json, 1, took, stream);
            continue;
        }
        took = la_utf8_decode(json, length, &code);
        bool blank = took && (code == '\n' || code == '\r' || code == '\t');
        if (!took || blank || !is_hidden(code)) {
            took = took ? took : 1;
            fwrite(json, 1, took, stream);
        } else if (code > 0xffff) {
            fprintf(stream, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (code >> 10)),
                    (unsigned)(0xdc00 + (code & 0x3ff)));
        } else {
            fprintf(stream, "\\u%04x", (unsigned)code);
        }
    }
}
