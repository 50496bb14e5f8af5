#include "input/json_text.h"
#include "base/memory.h"
#include "input/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char digits[] = "+-.0123456789eE";

/* One past the string whose opening quote is at `at`. */
static size_t skip_string(const char *text, size_t length, size_t at) {
    for (at++; at < length && text[at] != '"'; at++)
        at += text[at] == '\\';
    return at < length ? at + 1 : length;
}

static size_t skip_blanks(const char *text, size_t length, size_t at) {
    while (at < length && strchr(" \t\r\n", text[at]) && text[at])
        at++;
    return at;
}

static size_t number_length(const char *text, size_t length) {
    size_t n = 0;
    while (n < length && text[n] && strchr(digits, text[n]))
        n++;
    return n;
}

/* True for a number that jansson refuses for its size. */
static bool is_too_large(const char *text, size_t length) {
    char copy[400], *end;
    bool whole = true;
    if (length >= sizeof copy) /* all of these digits are no use to anybody */
        return true;
    for (size_t i = 0; i < length; i++) {
        copy[i] = text[i];
        whole &= text[i] != '.' && text[i] != 'e' && text[i] != 'E';
    }
    copy[length] = 0;
    errno = 0;
    if (whole)
        strtoll(copy, &end, 10);
    else if (!isinf(strtod(copy, &end)))
        return false;
    return !*end && (!whole || errno == ERANGE);
}

typedef struct rewriting {
    char *text;
    size_t length, capacity;
    bool changed;
} rewriting;

static la_status put(rewriting *to, const char *text, size_t length, la_error *err) {
    LA_TRY(la_grow(&to->text, &to->capacity, to->length + length + 1, 1, err));
    memcpy(to->text + to->length, text, length);
    to->length += length;
    return LA_OK;
}

static la_status put_quoted(rewriting *to, const char *text, size_t length, la_error *err) {
    to->changed = true;
    LA_TRY(put(to, "\"", 1, err));
    LA_TRY(put(to, text, length, err));
    return put(to, "\"", 1, err);
}

static bool begins(const char *text, size_t length, const char *word) {
    return length >= strlen(word) && !memcmp(text, word, strlen(word));
}

static la_status rewrite(const char *text, size_t length, rewriting *to, la_error *err) {
    static const char *const infinities[] = {"Infinity", "-Infinity"};
    for (size_t at = 0; at < length;) {
        const char *from = text + at;
        size_t left = length - at, n = number_length(from, left);
        bool infinite = false;
        for (int i = 0; i < 2 && !infinite; i++)
            if (begins(from, left, infinities[i])) {
                n = strlen(infinities[i]);
                infinite = true;
            }
        if (*from == '"') {
            n = skip_string(text, length, at) - at;
            LA_TRY(put(to, from, n, err));
        } else if (infinite || (n && is_too_large(from, n))) {
            LA_TRY(put_quoted(to, from, n, err));
        } else if (begins(from, left, "NaN")) {
            n = 3;
            to->changed = true;
            LA_TRY(put(to, "null", 4, err));
        } else {
            n = n ? n : 1;
            LA_TRY(put(to, from, n, err));
        }
        at += n;
    }
    return LA_OK;
}

json_t *la_json_parse(const char *text, size_t length, size_t flags, json_error_t *where,
                      la_error *err) {
    rewriting other = {0};
    json_error_t again;
    flags |= JSON_ALLOW_NUL;
    json_t *root = la_json_loadb(text, length, flags, where);
    /* no text: jansson ran out of memory and does not say so */
    if (!root && (!*where->text || json_error_code(where) == json_error_out_of_memory))
        (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
    if (root || err->status != LA_OK ||
        (json_error_code(where) != json_error_numeric_overflow &&
         json_error_code(where) != json_error_invalid_syntax))
        return root;
    if (rewrite(text, length, &other, err) == LA_OK && other.changed)
        root = la_json_loadb(other.text, other.length, flags, &again);
    free(other.text);
    return root;
}

size_t la_json_extent(const char *text, size_t length, bool *closed) {
    size_t depth = 0, at = 0;
    *closed = true;
    if (at < length && text[at] == '"') {
        at = skip_string(text, length, at);
        *closed = at < length || text[length - 1] == '"';
        return at;
    }
    while (at < length) {
        char c = text[at];
        if (c == '"') {
            at = skip_string(text, length, at);
            continue;
        }
        if (!depth && strchr(",}] \t\r\n", c) && c)
            return at;
        depth += c == '{' || c == '[';
        at++;
        if (c == '}' || c == ']') {
            depth--;
            if (!depth)
                return at;
        }
    }
    *closed = !depth;
    return at;
}

bool la_json_is_document(const char *line, size_t length) {
    bool closed;
    size_t from = skip_blanks(line, length, 0), end = length;
    while (end > from && line[end - 1] && strchr(" \t\r\n", line[end - 1]))
        end--;
    if (end == from)
        return false;
    if (line[from] == '[')
        return true;
    la_json_extent(line + from, end - from, &closed);
    return line[from] == '{' && !closed && line[end - 1] && strchr("{[,", line[end - 1]);
}

/* True when the quoted key is that name. */
static bool is_key(const char *key, size_t length, const char *name) {
    if (!memchr(key, '\\', length))
        return length == strlen(name) + 2 && !memcmp(key + 1, name, length - 2);
    json_t *string = la_json_loadb(key, length, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    bool same = string && json_string_length(string) == strlen(name) &&
                !memcmp(json_string_value(string), name, strlen(name));
    json_decref(string);
    return same;
}

void la_json_member(const char *text, size_t length, const char *name, const char **value,
                    size_t *value_length) {
    *value = NULL;
    *value_length = 0;
    size_t at = skip_blanks(text, length, 0);
    while (at < length && text[at] != '}') {
        bool closed;
        size_t key = skip_blanks(text, length, at + 1); /* behind { or , */
        if (key >= length || text[key] != '"')
            return;
        size_t key_end = skip_string(text, length, key);
        size_t from = skip_blanks(text, length, skip_blanks(text, length, key_end) + 1);
        if (from >= length)
            return;
        size_t n = la_json_extent(text + from, length - from, &closed);
        if (!n)
            return;
        if (is_key(text + key, key_end - key, name)) {
            *value = text + from;
            *value_length = n;
        }
        at = skip_blanks(text, length, from + n);
    }
}
