#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <stdlib.h>

/* Limits of a match, so that no text hangs the program. */
enum { STEPS_MAX = 10 * 1000 * 1000, HEAP_KIB_MAX = 64 << 10, JIT_STACK_BYTES = 1 << 20 };

struct la_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    bool jit;
};

void la_regex_close(la_regex *regex) {
    if (!regex)
        return;
    pcre2_jit_stack_free(regex->stack);
    pcre2_match_context_free(regex->context);
    pcre2_match_data_free(regex->match);
    pcre2_code_free(regex->code);
    free(regex);
}

static la_status compile(const la_text_source *source, const char *part, const la_text *pattern,
                         la_regex *regex) {
    int code;
    PCRE2_SIZE where;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return la_fail(source->err, LA_RESOURCE, "no memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    regex->code = pcre2_compile((PCRE2_SPTR)(pattern->data ? pattern->data : ""), pattern->n,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &code, &where, context);
    pcre2_compile_context_free(context);
    if (!regex->code) {
        char message[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: %s: a regular expression is not supported: %s", source->path, part,
                       message);
    }
    regex->jit = !pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    regex->match = pcre2_match_data_create_from_pattern(regex->code, NULL);
    regex->context = pcre2_match_context_create(NULL);
    if (!regex->match || !regex->context)
        return la_fail(source->err, LA_RESOURCE, "no memory for a pattern");
    pcre2_set_match_limit(regex->context, STEPS_MAX);
    pcre2_set_depth_limit(regex->context, STEPS_MAX);
    pcre2_set_heap_limit(regex->context, HEAP_KIB_MAX);
    if (regex->jit) {
        regex->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_BYTES, NULL);
        pcre2_jit_stack_assign(regex->context, NULL, regex->stack);
    }
    return LA_OK;
}

la_status la_regex_open(const la_text_source *source, const char *part, const char *pattern,
                        size_t length, la_regex **out) {
    la_text translated = {0};
    const char *why = NULL;
    *out = NULL;
    la_regex *regex = la_alloc(1, sizeof *regex, source->err);
    if (!regex)
        return source->err->status;
    la_status status = la_regex_translate(pattern, length, &translated, &why, source->err);
    if (status == LA_OK && why)
        status = la_fail(source->err, LA_UNSUPPORTED,
                         "%s: %s: a regular expression is not supported: it has %s", source->path,
                         part, why);
    if (status == LA_OK)
        status = compile(source, part, &translated, regex);
    la_text_free(&translated);
    if (status != LA_OK)
        la_regex_close(regex);
    else
        *out = regex;
    return status;
}

static la_status next_match(la_regex *regex, const char *text, size_t n, size_t from, bool *found,
                            size_t *start, size_t *end, la_error *err) {
    int code = pcre2_match(regex->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, regex->match,
                           regex->context);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT)
        code = pcre2_match(regex->code, (PCRE2_SPTR)text, n, from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, regex->match, regex->context);
    *found = code > 0;
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) {
        char message[160] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        return la_fail(err, LA_BAD_INPUT,
                       "a regular expression of the tokenizer gave up on a text of %zu bytes: %s",
                       n, message);
    }
    if (*found) {
        PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(regex->match);
        *start = bounds[0];
        *end = bounds[1];
    }
    return LA_OK;
}

la_status la_regex_cut(la_regex *regex, const char *text, size_t n, la_cuts *cuts, la_error *err) {
    size_t from = 0, done = 0, start = 0, end = 0;
    bool any = false, found;
    while (n && from <= n) {
        LA_TRY(next_match(regex, text, n, from, &found, &start, &end, err));
        if (!found)
            break;
        /* \K can put the start behind the end; no useful match follows */
        if (start > end || start < done)
            return la_fail(err, LA_BAD_INPUT,
                           "a regular expression of the tokenizer matches backwards");
        if (start == end && any && end == done) {
            /* an empty match at the end of the previous one does not count */
            from = end < n ? end + la_utf8_size(text[end]) : n + 1;
            /* the search continues from the character after its beginning */
            continue;
        }
        if (start > done)
            LA_TRY(la_cuts_push(cuts, done, start, false, err));
        LA_TRY(la_cuts_push(cuts, start, end, true, err));
        from = done = end;
        any = true;
    }
    return done < n ? la_cuts_push(cuts, done, n, false, err) : LA_OK;
}
