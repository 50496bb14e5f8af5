#include "text/truncation.h"

#include <string.h>

la_status la_truncation_load(const la_text_source *source, const json_t *json, la_truncation *out) {
    static const char *const strategies[] = {"LongestFirst", "OnlyFirst", "OnlySecond", NULL};
    static const char *const directions[] = {"Right", "Left", NULL};
    int direction = 0;
    if (!json || json_is_null(json))
        return LA_OK;
    LA_TRY(la_source_choice(source, json, "truncation", "strategy", strategies, &out->strategy));
    LA_TRY(la_source_choice(source, json, "truncation", "direction", directions, &direction));
    out->left = direction;
    return la_json_int(json, source->path, "max_length", true, 1, INT32_MAX, &out->max_length,
                       source->err);
}

/* Lengths that two texts keep within a limit: the longer one gives first. */
static void share_limit(int64_t limit, int64_t *a, int64_t *b) {
    bool swapped = *a > *b;
    int64_t less = swapped ? *b : *a, more;
    more = less > limit ? less : less > limit - less ? less : limit - less;
    if (less + more > limit) {
        less = limit / 2;
        more = less + limit % 2;
    }
    *a = swapped ? more : less;
    *b = swapped ? less : more;
}

static void keep(la_ids *ids, int64_t n, bool left) {
    if (n >= (int64_t)ids->n)
        return;
    if (left)
        memmove(ids->data, ids->data + ids->n - (size_t)n, (size_t)n * sizeof *ids->data);
    ids->n = (size_t)n;
}

static la_status cut_one(const la_truncation *truncation, int64_t excess, la_ids *text,
                         la_error *err) {
    if (!text || excess >= (int64_t)text->n)
        return la_fail(err, LA_BAD_INPUT,
                       "the tokenizer's truncation is to cut %lld tokens of the %s text, which has "
                       "%zu",
                       (long long)excess,
                       truncation->strategy == LA_ONLY_FIRST ? "first" : "second",
                       text ? text->n : 0);
    keep(text, (int64_t)text->n - excess, truncation->left);
    return LA_OK;
}

la_status la_truncation_apply(const la_truncation *truncation, int64_t limit, la_ids *text,
                              la_ids *pair, bool *cut, la_error *err) {
    int64_t a = (int64_t)text->n, b = pair ? (int64_t)pair->n : 0, excess = a + b - limit;
    *cut = excess > 0;
    if (!*cut)
        return LA_OK;
    if (truncation->strategy != LA_LONGEST_FIRST && limit)
        return cut_one(truncation, excess, truncation->strategy == LA_ONLY_FIRST ? text : pair,
                       err);
    if (pair)
        share_limit(limit, &a, &b);
    else
        a = limit;
    keep(text, a, truncation->left);
    if (pair)
        keep(pair, b, truncation->left);
    return LA_OK;
}
