#include "text/pattern.h"
#include "text/unicode_age.h"

#include <stdio.h>
#include <string.h>

/* Remaining differences: without case, the library also matches one character with several (the
 * sharp s with ss), which PCRE2 does not; and \p{C}, \p{Cn} and negated properties inside a class
 * follow the Unicode version of PCRE2.
 *
 * \s of the library is White_Space, and \w has marks; PCRE2 has other sets. */
static const char SPACES[] =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
static const char NO_SPACES[] =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"
    "\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}";
static const char ENCLOSED[] = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}\\x{1f130}-"
                               "\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";

typedef struct translation {
    const char *pattern;
    size_t n, at;
    bool in_class;
    la_text *out;
    const char *why;
    la_error *err;
} translation;

static la_status put(translation *t, const char *text) {
    return la_text_append(t->out, text, strlen(text), t->err);
}

static la_status copy(translation *t, size_t n) {
    if (n > t->n - t->at)
        n = t->n - t->at;
    la_status status = la_text_append(t->out, t->pattern + t->at, n, t->err);
    t->at += n;
    return status;
}

static la_status refuse(translation *t, const char *why) {
    t->why = why;
    return LA_OK;
}

/* Characters of a property that PCRE2 does not know yet. */
static la_status put_later(translation *t, const char *name) {
    size_t at = 0;
    for (const char *items; (items = la_age_property(name, &at));)
        LA_TRY(put(t, items));
    return LA_OK;
}

static la_status put_property(translation *t, const char *name) {
    LA_TRY(put(t, "\\p{"));
    LA_TRY(put(t, name));
    LA_TRY(put(t, "}"));
    return put_later(t, name);
}

static la_status put_word_items(translation *t) {
    static const char *const names[] = {"L", "M", "Nd", "Nl", "Pc"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        LA_TRY(put_property(t, names[i]));
    return put(t, ENCLOSED);
}

/* Set by its items: as they are within a class, else as a class of its own. */
static la_status put_set(translation *t, const char *open, const char *items) {
    if (t->in_class)
        return put(t, items);
    LA_TRY(put(t, open));
    LA_TRY(put(t, items));
    return put(t, "]");
}

static la_status put_word(translation *t, bool negated) {
    if (t->in_class)
        return negated ? refuse(t, "\\W within a class") : put_word_items(t);
    LA_TRY(put(t, negated ? "[^" : "["));
    LA_TRY(put_word_items(t));
    return put(t, "]");
}

static la_status put_boundary(translation *t, bool negated) {
    /* both sides of the same kind, or not */
    LA_TRY(put(t, "(?:(?<="));
    LA_TRY(put_word(t, false));
    LA_TRY(put(t, negated ? ")(?=" : ")(?!"));
    LA_TRY(put_word(t, false));
    LA_TRY(put(t, ")|(?<!"));
    LA_TRY(put_word(t, false));
    LA_TRY(put(t, negated ? ")(?!" : ")(?="));
    LA_TRY(put_word(t, false));
    return put(t, "))");
}

/* \p{Name}, \P{Name}, \p{^Name}; at is behind the p. */
static la_status put_named_property(translation *t, bool negated) {
    static const char *const long_names[][2] = {
        {"Letter", "L"}, {"Mark", "M"},      {"Number", "N"}, {"Punctuation", "P"},
        {"Symbol", "S"}, {"Separator", "Z"}, {"Other", "C"},
    };
    static const char categories[] =
        " L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs C "
        "Cc Cf Cn Co ";
    char name[64], spaced[68];
    size_t length = 0;
    if (t->at >= t->n || t->pattern[t->at] != '{')
        return refuse(t, "\\p without braces");
    t->at++;
    if (t->at < t->n && t->pattern[t->at] == '^') {
        negated = !negated;
        t->at++;
    }
    while (t->at < t->n && t->pattern[t->at] != '}' && length + 1 < sizeof name)
        name[length++] = t->pattern[t->at++];
    name[length] = 0;
    if (t->at >= t->n || t->pattern[t->at] != '}' || !length)
        return refuse(t, "a \\p{...} without end");
    t->at++;
    for (size_t i = 0; i < sizeof long_names / sizeof *long_names; i++)
        if (!strcmp(long_names[i][0], name))
            strcpy(name, long_names[i][1]);
    snprintf(spaced, sizeof spaced, " %s ", name);
    bool category = strstr(categories, spaced);
    if (!t->in_class)
        LA_TRY(put(t, negated ? "[^" : "["));
    LA_TRY(put(t, t->in_class && negated ? "\\P{" : "\\p{"));
    /* a script, without the scripts that share its characters */
    LA_TRY(put(t, category ? "" : "sc:"));
    LA_TRY(put(t, name));
    LA_TRY(put(t, "}"));
    if (!t->in_class || !negated)
        LA_TRY(put_later(t, name));
    return t->in_class ? LA_OK : put(t, "]");
}

static int hex_digit(char c) {
    const char *digits = "0123456789abcdef", *found = c ? strchr(digits, c | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* \uHHHH; at is behind the u. */
static la_status put_code(translation *t) {
    char text[16];
    for (size_t i = 0; i < 4; i++)
        if (t->at + i >= t->n || hex_digit(t->pattern[t->at + i]) < 0)
            return refuse(t, "a \\u without four digits");
    snprintf(text, sizeof text, "\\x{%.4s}", t->pattern + t->at);
    t->at += 4;
    return put(t, text);
}

/* \x41 is a byte to the library: equal to a character up to 7F. */
static la_status put_hex(translation *t) {
    if (t->at < t->n && t->pattern[t->at] == '{')
        return put(t, "\\x");
    if (t->at + 1 >= t->n || hex_digit(t->pattern[t->at]) < 0 || hex_digit(t->pattern[t->at]) > 7 ||
        hex_digit(t->pattern[t->at + 1]) < 0)
        return refuse(t, "a \\x that is no ASCII character");
    LA_TRY(put(t, "\\x"));
    return copy(t, 2);
}

static la_status escape(translation *t) {
    if (t->at + 1 >= t->n)
        return refuse(t, "a \\ at its end");
    char c = t->pattern[t->at + 1];
    t->at += 2;
    switch (c) {
    case 's':
        return put_set(t, "[", SPACES);
    case 'S':
        return put_set(t, "[", NO_SPACES);
    case 'h':
        return put_set(t, "[", "0-9a-fA-F");
    case 'H':
        return t->in_class ? refuse(t, "\\H within a class") : put(t, "[^0-9a-fA-F]");
    case 'd':
    case 'D':
        if (t->in_class && c == 'D')
            return refuse(t, "\\D within a class");
        if (!t->in_class)
            LA_TRY(put(t, c == 'd' ? "[" : "[^"));
        LA_TRY(put_property(t, "Nd"));
        return t->in_class ? LA_OK : put(t, "]");
    case 'w':
    case 'W':
        return put_word(t, c == 'W');
    case 'p':
    case 'P':
        return put_named_property(t, c == 'P');
    case 'b':
    case 'B':
        if (t->in_class)
            return c == 'b' ? put(t, "\\x08") : refuse(t, "\\B within a class");
        return put_boundary(t, c == 'B');
    case 'u':
        return put_code(t);
    case 'x':
        return put_hex(t);
    default:
        break;
    }
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && !strchr(t->in_class ? "tnrfvae" : "tnrfvaeAzZ", c))
        return refuse(t, "an unknown escape");
    /* the vertical tab alone, where PCRE2 has a set of characters */
    if (c == 'v')
        return put(t, "\\x0b");
    t->at -= 2;
    return copy(t, 1 + la_utf8_size(c));
}

/* (?imx-imx) and (?imx-imx: ; at is at the parenthesis. */
static la_status options(translation *t) {
    size_t end = t->at + 2;
    while (end < t->n && strchr("imx-", t->pattern[end]))
        end++;
    bool empty = end == t->at + 2;
    if (empty || end >= t->n || (t->pattern[end] != ')' && t->pattern[end] != ':')) {
        if (end < t->n && !strchr(":=!<>#", t->pattern[end]))
            return refuse(t, "an unknown group");
        return copy(t, 2);
    }
    /* to the library the rest of the group is within the option's scope, alternatives included */
    if (t->pattern[end] == ')' && t->at)
        return refuse(t, "options in its midst");
    LA_TRY(copy(t, 2));
    for (; t->at < end; t->at++)
        LA_TRY(la_text_push(t->out, t->pattern[t->at] == 'm' ? 's' : t->pattern[t->at], t->err));
    return copy(t, 1);
}

static la_status outside(translation *t, char c) {
    const char *rest = t->pattern + t->at;
    size_t left = t->n - t->at;
    if (c == '[') {
        t->in_class = true;
        LA_TRY(copy(t, left > 1 && rest[1] == '^' ? 2 : 1));
        return t->at < t->n && t->pattern[t->at] == ']' ? refuse(t, "a class that begins with ]")
                                                        : LA_OK;
    }
    if (c == '(' && left > 1 && rest[1] == '?')
        return options(t);
    if (c == '(' && left > 1 && rest[1] == '*')
        return refuse(t, "a (* group");
    if (c == '{' && left > 1 && rest[1] == ',') {
        LA_TRY(put(t, "{0"));
        t->at++;
        return LA_OK;
    }
    if (c == '}' && left > 1 && rest[1] == '+')
        return refuse(t, "a repeated {...}");
    return copy(t, la_utf8_size(c));
}

static la_status inside(translation *t, char c) {
    const char *rest = t->pattern + t->at;
    if (c == '[')
        return refuse(t, "a class within a class");
    if (c == '&' && t->n - t->at > 1 && rest[1] == '&')
        return refuse(t, "an intersection of classes");
    if (c == ']')
        t->in_class = false;
    return copy(t, la_utf8_size(c));
}

la_status la_regex_translate(const char *pattern, size_t length, la_text *out, const char **why,
                             la_error *err) {
    translation t = {.pattern = pattern, .n = length, .out = out, .err = err};
    LA_TRY(put(&t, ""));
    while (t.at < t.n && !t.why) {
        char c = t.pattern[t.at];
        LA_TRY(c == '\\' ? escape(&t) : t.in_class ? inside(&t, c) : outside(&t, c));
    }
    if (!t.why && t.in_class)
        t.why = "a class without end";
    *why = t.why;
    return LA_OK;
}
