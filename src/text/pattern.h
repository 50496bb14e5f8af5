/* Patterns of Split and Replace: a text, or a regular expression in the syntax of the library
 * (Oniguruma's for Ruby). */
#ifndef LA_TEXT_PATTERN_H
#define LA_TEXT_PATTERN_H

#include "text/source.h"

typedef struct la_cut {
    size_t from, to;
    bool match; /* a match of the pattern, or the text between matches */
} la_cut;

/* Grown as needed; free with la_cuts_free. */
typedef struct la_cuts {
    la_cut *data;
    size_t n, capacity;
} la_cuts;

void la_cuts_free(la_cuts *cuts);
la_status la_cuts_push(la_cuts *cuts, size_t from, size_t to, bool match, la_error *err);

/* Pattern whose matches leave nothing between them: the end of the match that begins at `at`. */
typedef size_t (*la_tiling)(const char *text, size_t n, size_t at);

/* ---- known_patterns.c ---- */

/* Patterns of GPT-2, Llama 3 and Qwen 2, found by their exact text and written by hand for speed.
 * NULL: another pattern. */
la_tiling la_known_pattern(const char *pattern, size_t length);
/* Pattern that ByteLevel splits by. */
size_t la_gpt2_pattern(const char *text, size_t n, size_t at);

/* ---- regex_syntax.c ---- */

/* Appends the pattern to out in the syntax of PCRE2 (with UTF, UCP and MULTILINE). LA_OK with *why
 * set: the construct that PCRE2 cannot express. */
la_status la_regex_translate(const char *pattern, size_t length, la_text *out, const char **why,
                             la_error *err);

/* ---- regex.c ---- */

typedef struct la_regex la_regex;

/* part names the component in messages. Free with la_regex_close. */
la_status la_regex_open(const la_text_source *source, const char *part, const char *pattern,
                        size_t length, la_regex **out);
void la_regex_close(la_regex *regex);
/* Appends matches and the text between them, all of text in order. LA_BAD_INPUT when matching
 * reaches its limits. */
la_status la_regex_cut(la_regex *regex, const char *text, size_t n, la_cuts *cuts, la_error *err);

/* ---- pattern.c ---- */

typedef struct la_pattern {
    la_text literal; /* when neither of the others */
    la_tiling tiling;
    la_regex *regex;
} la_pattern;

/* {"String": ...} or {"Regex": ...}; free with la_pattern_free. */
la_status la_pattern_load(const la_text_source *source, const char *part, const json_t *json,
                          la_pattern *out);
void la_pattern_free(la_pattern *pattern);
/* cuts is replaced. */
la_status la_pattern_cut(const la_pattern *pattern, const char *text, size_t n, la_cuts *cuts,
                         la_error *err);

#endif
