#include "text/pattern.h"
#include "text/unicode.h"

#include <string.h>

static la_pattern_class class_at(const char *text, size_t at, size_t *next) {
    *next = at;
    return la_classify(la_utf8_next(text, next));
}

/* End of the run of one class that begins at `at`, at most `most` characters. */
static size_t run_end(const char *text, size_t n, size_t at, la_pattern_class class, size_t most) {
    for (size_t next; most && at < n; most--, at = next)
        if (class_at(text, at, &next) != class)
            break;
    return at;
}

/* White space at `at`, by \s+(?!\S)|\s+ : the last of several goes with the text behind it. */
static size_t space_end(const char *text, size_t n, size_t at, size_t end) {
    if (end == n)
        return end;
    size_t last = la_utf8_last(text, end);
    return last > at ? last : end;
}

/* 's 't 're 've 'm 'll 'd at `at`; 0: none of them. */
static size_t contraction_end(const char *text, size_t n, size_t at, bool fold) {
    if (text[at] != '\'' || at + 1 >= n)
        return 0;
    char a = text[at + 1], b = at + 2 < n ? text[at + 2] : 0;
    /* the long s is an s to those who ignore case */
    if (fold && n - at > 2 && !memcmp(text + at + 1, "\xc5\xbf", 2))
        return at + 3;
    if (fold && a >= 'A' && a <= 'Z')
        a = (char)(a + 32);
    if (fold && b >= 'A' && b <= 'Z')
        b = (char)(b + 32);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return at + 2;
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? at + 3 : 0;
}

size_t la_gpt2_pattern(const char *text, size_t n, size_t at) {
    size_t next, end = contraction_end(text, n, at, false);
    if (end)
        return end;
    la_pattern_class class = class_at(text, at, &next);
    if (text[at] == ' ' && next < n) {
        size_t after;
        la_pattern_class following = class_at(text, next, &after);
        if (following != LA_CLASS_SPACE)
            return run_end(text, n, after, following, SIZE_MAX);
    }
    end = run_end(text, n, next, class, SIZE_MAX);
    return class == LA_CLASS_SPACE ? space_end(text, n, at, end) : end;
}

/* Pattern of cl100k as Llama 3 and Qwen 2 write it. */
static size_t folding_pattern(const char *text, size_t n, size_t at, size_t digits) {
    size_t next, after, end = contraction_end(text, n, at, true);
    if (end)
        return end;
    la_pattern_class class = class_at(text, at, &next), following = LA_CLASS_SPACE;
    if (class == LA_CLASS_LETTER)
        return run_end(text, n, next, class, SIZE_MAX);
    if (class == LA_CLASS_NUMBER)
        return run_end(text, n, next, class, digits - 1);
    if (next < n)
        following = class_at(text, next, &after);
    if (following == LA_CLASS_LETTER && text[at] != '\r' && text[at] != '\n')
        return run_end(text, n, after, following, SIZE_MAX);
    if (class == LA_CLASS_OTHER || (text[at] == ' ' && following == LA_CLASS_OTHER)) {
        end = run_end(text, n, next, LA_CLASS_OTHER, SIZE_MAX);
        while (end < n && (text[end] == '\r' || text[end] == '\n'))
            end++;
        return end;
    }
    end = run_end(text, n, next, LA_CLASS_SPACE, SIZE_MAX);
    for (size_t i = end; i > at; i--)
        if (text[i - 1] == '\r' || text[i - 1] == '\n')
            return i;
    return space_end(text, n, at, end);
}

static size_t llama3_pattern(const char *text, size_t n, size_t at) {
    return folding_pattern(text, n, at, 3);
}

static size_t qwen2_pattern(const char *text, size_t n, size_t at) {
    return folding_pattern(text, n, at, 1);
}

la_tiling la_known_pattern(const char *pattern, size_t length) {
    static const struct {
        const char *pattern;
        la_tiling tiling;
    } known[] = {
        {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
         la_gpt2_pattern},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         llama3_pattern},
        {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
         " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
         qwen2_pattern},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].pattern) == length && !memcmp(known[i].pattern, pattern, length))
            return known[i].tiling;
    return NULL;
}
