#include "text/pattern.h"

#include <stdlib.h>
#include <string.h>

void la_cuts_free(la_cuts *cuts) {
    free(cuts->data);
    *cuts = (la_cuts){0};
}

la_status la_cuts_push(la_cuts *cuts, size_t from, size_t to, bool match, la_error *err) {
    if (cuts->n == cuts->capacity)
        LA_TRY(la_grow(&cuts->data, &cuts->capacity, cuts->n + 1, sizeof *cuts->data, err));
    cuts->data[cuts->n++] = (la_cut){from, to, match};
    return LA_OK;
}

la_status la_pattern_load(const la_text_source *source, const char *part, const json_t *json,
                          la_pattern *out) {
    const json_t *literal = json_object_get(json, "String");
    const json_t *expression = json_object_get(json, "Regex");
    *out = (la_pattern){0};
    if (literal) {
        LA_TRY(la_source_text(source, literal, "a pattern", &out->literal));
        /* the empty pattern matches between any two characters: left to the regex engine */
        return out->literal.n ? LA_OK : la_regex_open(source, part, "", 0, &out->regex);
    }
    if (!expression)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: %s: \"pattern\" is %s, expected {\"String\": ...} or {\"Regex\": ...}",
                       source->path, part, la_json_kind(json));
    la_text text;
    LA_TRY(la_source_text(source, expression, "a pattern", &text));
    out->tiling = la_known_pattern(text.data, text.n);
    return out->tiling ? LA_OK : la_regex_open(source, part, text.data, text.n, &out->regex);
}

void la_pattern_free(la_pattern *pattern) {
    la_regex_close(pattern->regex);
    *pattern = (la_pattern){0};
}

static la_status cut_by_literal(const la_text *literal, const char *text, size_t n, la_cuts *cuts,
                                la_error *err) {
    size_t done = 0;
    while (done < n) {
        const char *found = memmem(text + done, n - done, literal->data, literal->n);
        if (!found)
            break;
        size_t at = (size_t)(found - text);
        if (at > done)
            LA_TRY(la_cuts_push(cuts, done, at, false, err));
        done = at + literal->n;
        LA_TRY(la_cuts_push(cuts, at, done, true, err));
    }
    return done < n ? la_cuts_push(cuts, done, n, false, err) : LA_OK;
}

la_status la_pattern_cut(const la_pattern *pattern, const char *text, size_t n, la_cuts *cuts,
                         la_error *err) {
    cuts->n = 0;
    if (pattern->regex)
        return la_regex_cut(pattern->regex, text, n, cuts, err);
    if (!pattern->tiling)
        return cut_by_literal(&pattern->literal, text, n, cuts, err);
    for (size_t at = 0; at < n;) {
        size_t end = pattern->tiling(text, n, at);
        LA_TRY(la_cuts_push(cuts, at, end, true, err));
        at = end;
    }
    return LA_OK;
}
