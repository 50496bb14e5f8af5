#include "input/text_file.h"
#include "input/file_kinds.h"
#include "input/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

la_status la_text_check_kind(const char *path, const char *expected, const char *bytes,
                             size_t length, size_t *mark, la_error *err) {
    bool undecided;
    const la_file_kind *kind = la_file_kind_of(bytes, length, true, &undecided);
    *mark = 0;
    if (kind)
        return la_file_kind_refuse(kind, path, expected, err);
    if (length >= 2 && !memcmp(bytes, "\x1f\x8b", 2))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: is compressed by gzip, expected %s; unpack it: gunzip --keep '%s'",
                       path, expected, path);
    la_encoding_kind encoding = la_encoding_of(bytes, length, mark);
    if (encoding == LA_ENCODING_UTF8)
        return LA_OK;
    const char *name = encoding == LA_ENCODING_UTF32 ? "UTF-32" : "UTF-16";
    return la_fail(err, LA_UNSUPPORTED,
                   "%s: is in %s, expected %s in UTF-8; convert it: iconv -f %s -t UTF-8 '%s'",
                   path, name, expected, name, path);
}

/* Line ends become LF as Python's text files have them; returns the new length. */
static size_t plain_line_ends(char *text, size_t length) {
    size_t to = 0;
    for (size_t from = 0; from < length; from++) {
        bool cr = text[from] == '\r';
        text[to++] = cr ? '\n' : text[from];
        from += cr && from + 1 < length && text[from + 1] == '\n';
    }
    text[to] = 0;
    return to;
}

static la_status check_utf8(const char *path, const char *expected, const char *text, size_t length,
                            la_error *err) {
    size_t at = 0;
    for (int line = 1; at < length; line++) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t n = end ? (size_t)(end - text) + 1 - at : length - at;
        json_t *string = json_stringn(text + at, n);
        if (!string)
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%d: not valid UTF-8, expected %s in UTF-8; if an editor on Windows "
                           "wrote it: iconv -f WINDOWS-1252 -t UTF-8 '%s'",
                           path, line, expected, path);
        json_decref(string);
        at += n;
    }
    return LA_OK;
}

la_status la_text_file_read(const char *path, const char *expected, size_t max_bytes, char **text,
                            size_t *length, la_error *err) {
    size_t mark;
    LA_TRY(la_file_read(path, max_bytes, text, length, err));
    la_status status = la_text_check_kind(path, expected, *text, *length, &mark, err);
    if (status == LA_OK) {
        memmove(*text, *text + mark, *length - mark);
        *length = plain_line_ends(*text, *length - mark);
        status = check_utf8(path, expected, *text, *length, err);
    }
    if (status != LA_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}
