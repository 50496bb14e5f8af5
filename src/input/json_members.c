#include "input/json_members.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "base/utf8.h"
#include "input/json.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH = 8, KEYS_MOST = 64 };

typedef struct cursor {
    const char *at, *end;
} cursor;

static bool read_value(cursor *c, int depth, la_json_value *value);

static void skip_blanks(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r' || *c->at == '\n'))
        c->at++;
}

static bool take(cursor *c, char expected) {
    skip_blanks(c);
    if (c->at >= c->end || *c->at != expected)
        return false;
    c->at++;
    return true;
}

/* Four hexadecimal digits; -1: there are none. */
static int32_t read_hex(cursor *c) {
    int32_t code = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        static const char digits[] = "0123456789abcdef";
        const char *digit =
            c->at < c->end && *c->at ? strchr(digits, *c->at >= 'A' ? *c->at | ' ' : *c->at) : NULL;
        if (!digit)
            return -1;
        code = code * 16 + (int32_t)(digit - digits);
    }
    return code;
}

/* Behind the backslash. */
static bool skip_escape(cursor *c) {
    if (c->at >= c->end)
        return false;
    char kind = *c->at++;
    if (kind != 'u')
        return kind && strchr("\"\\/bfnrt", kind);
    int32_t code = read_hex(c);
    if (code < 0xd800 || code > 0xdfff)
        return code > 0; /* no NUL */
    if (code > 0xdbff || c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
        return false;
    c->at += 2;
    code = read_hex(c);
    return code >= 0xdc00 && code <= 0xdfff;
}

/* Behind the opening quote. */
static bool read_string(cursor *c, const char **text, size_t *length, bool *escaped) {
    *text = c->at;
    *escaped = false;
    while (c->at < c->end && *c->at != '"') {
        uint32_t code;
        size_t size = 1;
        if (*c->at == '\\') {
            c->at++;
            *escaped = true;
            if (!skip_escape(c))
                return false;
            continue;
        }
        if ((unsigned char)*c->at < ' ')
            return false;
        if ((unsigned char)*c->at > 127)
            size = la_utf8_decode(c->at, (size_t)(c->end - c->at), &code);
        if (!size)
            return false;
        c->at += size;
    }
    *length = (size_t)(c->at - *text);
    return c->at < c->end && *c->at++ == '"';
}

static bool read_digits(cursor *c) {
    const char *from = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    return c->at > from;
}

static bool read_number(cursor *c, la_json_value *value) {
    const char *from = c->at;
    c->at += *c->at == '-';
    if (c->at < c->end && *c->at == '0')
        c->at++;
    else if (!read_digits(c))
        return false;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!read_digits(c))
            return false;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        const char *exponent = c->at;
        if (!read_digits(c) || c->at - exponent > 2) /* more may be out of range */
            return false;
    }
    value->type = '0';
    value->text = from;
    value->length = (size_t)(c->at - from);
    /* integers of jansson have 64 bits */
    return value->length <= 18 ||
           (value->length <= LA_JSON_DIGITS && memchr(from, '.', value->length));
}

static bool read_list(cursor *c, int depth, la_json_value *list) {
    if (take(c, ']'))
        return true;
    do {
        la_json_value entry;
        if (!read_value(c, depth, &entry))
            return false;
        list->count++;
    } while (take(c, ','));
    return take(c, ']');
}

static bool read_object(cursor *c, int depth, la_json_value *members, int most, int *n) {
    *n = 0;
    if (take(c, '}'))
        return true;
    do {
        if (*n >= most || !take(c, '"'))
            return false;
        la_json_value *member = &members[(*n)++];
        bool escaped;
        if (!read_string(c, &member->key, &member->key_length, &escaped) || escaped ||
            !take(c, ':') || !read_value(c, depth, member))
            return false;
        for (int i = 0; i < *n - 1; i++)
            if (members[i].key_length == member->key_length &&
                !memcmp(members[i].key, member->key, member->key_length))
                return false;
    } while (take(c, ','));
    return take(c, '}');
}

static bool read_word(cursor *c, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length))
        return false;
    c->at += length;
    return true;
}

/* Leaves the value's key as it is. */
static bool read_value(cursor *c, int depth, la_json_value *value) {
    la_json_value inner[KEYS_MOST];
    int n;
    skip_blanks(c);
    value->text = c->at;
    value->count = 0;
    value->escaped = false;
    if (c->at >= c->end || depth >= DEPTH)
        return false;
    value->type = *c->at;
    bool known = false;
    switch (*c->at) {
    case '"':
        c->at++;
        return read_string(c, &value->text, &value->length, &value->escaped);
    case '[':
        c->at++;
        known = read_list(c, depth + 1, value);
        break;
    case '{':
        c->at++;
        known = read_object(c, depth + 1, inner, KEYS_MOST, &n);
        break;
    case 't':
        known = read_word(c, "true");
        break;
    case 'f':
        known = read_word(c, "false");
        break;
    case 'n':
        known = read_word(c, "null");
        break;
    default:
        return (*c->at == '-' || (*c->at >= '0' && *c->at <= '9')) && read_number(c, value);
    }
    value->length = (size_t)(c->at - value->text);
    return known;
}

bool la_json_members(const char *text, size_t length, la_json_value *members, int most, int *n) {
    cursor c = {text, text + length};
    if (!take(&c, '{') || !read_object(&c, 0, members, most, n))
        return false;
    skip_blanks(&c);
    return c.at == c.end;
}

const la_json_value *la_json_member_of(const la_json_value *members, int n, const char *name) {
    size_t length = strlen(name);
    for (int i = 0; i < n; i++)
        if (members[i].key_length == length && !memcmp(members[i].key, name, length))
            return &members[i];
    return NULL;
}

void la_json_entries(const la_json_value *list, const char **at) {
    *at = list->text + 1;
}

bool la_json_entry(const la_json_value *list, const char **at, la_json_value *entry) {
    cursor c = {*at, list->text + list->length - 1};
    *entry = (la_json_value){0};
    skip_blanks(&c);
    if (c.at < c.end && *c.at == ',')
        c.at++;
    bool found = read_value(&c, 0, entry);
    *at = c.at;
    return found;
}

json_t *la_json_value_parse(const la_json_value *value) {
    if (value->type != '"')
        return la_json_loadb(value->text, value->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value->escaped) /* with the quotes around it */
        return la_json_loadb(value->text - 1, value->length + 2, JSON_DECODE_ANY, NULL);
    return json_stringn(value->text, value->length);
}

char *la_json_value_text(const la_json_value *value, la_error *err) {
    json_t *string = value->escaped ? la_json_value_parse(value) : NULL;
    const char *from = string ? json_string_value(string) : value->text;
    size_t length = string ? json_string_length(string) : value->length;
    char *text = NULL;
    if (value->escaped && !string)
        (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
    else
        text = la_alloc(length + 1, 1, err);
    if (text)
        memcpy(text, from, length);
    json_decref(string);
    return text;
}

/* Digits below 2^53 and a power of ten up to 10^22 are both exact, so that their quotient is
 * rounded once (Clinger, PLDI 1990). */
double la_json_value_number(const la_json_value *value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    char copy[LA_JSON_DIGITS + 1];
    bool negative = *value->text == '-', fraction = false;
    uint64_t digits = 0;
    int behind = 0;
    size_t i = negative;
    for (; i < value->length && digits < ((uint64_t)1 << 53) / 10 - 1 && behind < 22; i++) {
        char c = value->text[i];
        if (c != '.' && (c < '0' || c > '9'))
            break;
        if (c != '.')
            digits = 10 * digits + (uint64_t)(c - '0');
        behind += fraction;
        fraction |= c == '.';
    }
    if (i == value->length) {
        double number = (double)digits / powers[behind];
        return negative ? -number : number;
    }
    memcpy(copy, value->text, value->length);
    copy[value->length] = 0;
    return strtod(copy, NULL);
}

bool la_json_value_integer(const la_json_value *value, int64_t *integer) {
    char text[24];
    if (value->type != '0' || value->length >= sizeof text)
        return false;
    memcpy(text, value->text, value->length);
    text[value->length] = 0;
    return la_integer_parse(text, integer);
}
