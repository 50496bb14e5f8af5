#include "text/model.h"

#include <stdlib.h>
#include <string.h>

enum { MERGES_MAX = 1 << 26 };

void la_merges_free(la_merges *merges) {
    free(merges->slots);
    *merges = (la_merges){0};
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

static la_merge *slot_of(const la_merges *merges, uint64_t pair) {
    size_t slot = (size_t)((pair * 0x9e3779b97f4a7c15u) >> 20) & merges->mask;
    while (merges->slots[slot].pair && merges->slots[slot].pair != pair)
        slot = (slot + 1) & merges->mask;
    return &merges->slots[slot];
}

const la_merge *la_merges_find(const la_merges *merges, int32_t left, int32_t right) {
    const la_merge *found = slot_of(merges, pair_of(left, right));
    return found->pair ? found : NULL;
}

typedef struct span {
    const char *data;
    size_t n;
} span;

/* "a b" or ["a", "b"]; skip: the version line that merges.txt begins with. */
static la_status read_pair(const la_text_source *source, const json_t *item, size_t index,
                           span *left, span *right, bool *skip) {
    const json_t *a = json_array_get(item, 0), *b = json_array_get(item, 1);
    *skip = false;
    if (json_array_size(item) == 2 && json_is_string(a) && json_is_string(b)) {
        *left = (span){json_string_value(a), json_string_length(a)};
        *right = (span){json_string_value(b), json_string_length(b)};
        return LA_OK;
    }
    if (json_is_string(item)) {
        const char *text = json_string_value(item);
        size_t n = json_string_length(item);
        const char *space = memchr(text, ' ', n);
        *skip = n >= 8 && !memcmp(text, "#version", 8);
        if (space && !memchr(space + 1, ' ', n - (size_t)(space + 1 - text))) {
            *left = (span){text, (size_t)(space - text)};
            *right = (span){space + 1, n - (size_t)(space + 1 - text)};
            return LA_OK;
        }
        if (*skip)
            return LA_OK;
    }
    return la_fail(source->err, LA_BAD_INPUT, "%s: model.merges[%zu] is no pair of tokens",
                   source->path, index);
}

static la_status find_token(const la_text_source *source, const la_vocab *vocab, span token,
                            size_t index, int32_t *id) {
    *id = la_vocab_find(vocab, token.data, token.n);
    return *id >= 0
               ? LA_OK
               : la_fail(source->err, LA_BAD_INPUT,
                         "%s: model.merges[%zu]: \"%.*s\" is not in the vocabulary", source->path,
                         index, (int)(token.n < 200 ? token.n : 200), token.data);
}

static la_status add_merge(const la_text_source *source, const la_vocab *vocab, span left,
                           span right, size_t index, int32_t rank, size_t prefix, la_text *spare,
                           la_merges *out) {
    int32_t a, b, joined;
    LA_TRY(find_token(source, vocab, left, index, &a));
    LA_TRY(find_token(source, vocab, right, index, &b));
    if (right.n < prefix)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: model.merges[%zu]: \"%s\" is shorter than continuing_subword_prefix",
                       source->path, index, right.data);
    spare->n = 0;
    LA_TRY(la_text_append(spare, left.data, left.n, source->err));
    LA_TRY(la_text_append(spare, right.data + prefix, right.n - prefix, source->err));
    LA_TRY(find_token(source, vocab, (span){spare->data, spare->n}, index, &joined));
    /* the last of equal pairs counts */
    uint64_t pair = pair_of(a, b);
    *slot_of(out, pair) = (la_merge){pair, rank, joined};
    return LA_OK;
}

la_status la_merges_load(const la_text_source *source, const json_t *json, const la_vocab *vocab,
                         const la_text *prefix, la_merges *out) {
    if (!json_is_array(json) || json_array_size(json) > MERGES_MAX)
        return la_fail(source->err, LA_BAD_INPUT, "%s: model.merges is %s, expected an array",
                       source->path, la_json_kind(json));
    size_t size = 64, i;
    while (size < 2 * json_array_size(json))
        size *= 2;
    out->slots = la_alloc(size, sizeof *out->slots, source->err);
    if (!out->slots)
        return source->err->status;
    out->mask = size - 1;
    la_text spare = {0};
    la_status status = LA_OK;
    json_t *item;
    int32_t rank = 0;
    json_array_foreach(json, i, item) {
        span left = {0}, right = {0};
        bool skip;
        LA_TRY_DONE(read_pair(source, item, i, &left, &right, &skip));
        if (skip)
            continue;
        LA_TRY_DONE(add_merge(source, vocab, left, right, i, rank++, prefix->n, &spare, out));
    }
done:
    la_text_free(&spare);
    return status;
}
