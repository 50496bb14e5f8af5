#include "text/parts.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD_MAX = 4096, IDS_MAX = 1 << 24 };

la_status la_ids_push(la_ids *ids, int32_t id, la_error *err) {
    LA_TRY(la_grow(&ids->data, &ids->capacity, ids->n + 1, sizeof *ids->data, err));
    ids->data[ids->n++] = id;
    return LA_OK;
}

/* Every id once, and none beyond what a model could have rows for. */
static la_status check_ids(const la_text_source *source, const json_t *vocab) {
    const char *token;
    json_t *id;
    bool *seen = la_alloc(IDS_MAX, sizeof *seen, source->err);
    la_status status = seen ? LA_OK : source->err->status;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, id) {
        if (status != LA_OK)
            break;
        int64_t number = json_is_integer(id) ? json_integer_value(id) : -1;
        if (number < 0 || number >= IDS_MAX)
            status = la_fail(source->err, LA_BAD_INPUT,
                             "%s: model.vocab[\"%s\"] is no token id, expected 0 to %d",
                             source->path, token, IDS_MAX - 1);
        else if (seen[number])
            status = la_fail(source->err, LA_BAD_INPUT,
                             "%s: model.vocab[\"%s\"]: id %lld is another token's too",
                             source->path, token, (long long)number);
        else
            seen[number] = true;
    }
    free(seen);
    return status;
}

la_status la_wordpiece_load(const la_text_source *source, const json_t *json, la_wordpiece *out) {
    const char *path = source->path;
    *out = (la_wordpiece){.prefix = "##", .unknown = "[UNK]", .longest_word = 100};
    out->vocab = json_object_get(json, "vocab");
    if (!json_is_object(out->vocab) || !json_object_size(out->vocab))
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: model.vocab is %s, expected an object of tokens", path,
                       la_json_kind(out->vocab));
    LA_TRY(la_json_text(json, path, "continuing_subword_prefix", false, &out->prefix, source->err));
    LA_TRY(la_json_text(json, path, "unk_token", false, &out->unknown, source->err));
    LA_TRY(la_json_int(json, path, "max_input_chars_per_word", false, 0, LONGEST_WORD_MAX,
                       &out->longest_word, source->err));
    out->prefix_length = strlen(out->prefix);
    if (out->prefix_length > 64)
        return la_fail(source->err, LA_BAD_INPUT, "%s: continuing_subword_prefix is too long",
                       path);
    LA_TRY(check_ids(source, out->vocab));
    const json_t *unknown = json_object_get(out->vocab, out->unknown);
    out->unknown_id = unknown ? json_integer_value(unknown) : -1;
    return LA_OK;
}

static la_status push_unknown(const la_wordpiece *model, la_ids *ids, la_error *err) {
    if (model->unknown_id < 0)
        return la_fail(err, LA_BAD_INPUT,
                       "a word is not covered by the vocabulary, which has no \"%s\" either",
                       model->unknown);
    return la_ids_push(ids, (int32_t)model->unknown_id, err);
}

la_status la_wordpiece_encode(const la_wordpiece *model, const int32_t *word, size_t n, la_ids *ids,
                              la_error *err) {
    if (n > (size_t)model->longest_word)
        return push_unknown(model, ids, err);
    /* prefix, then the rest of the word; ends[i]: bytes of its first i characters */
    char text[64 + 4 * LONGEST_WORD_MAX];
    size_t first = ids->n;
    memcpy(text, model->prefix, model->prefix_length);
    for (size_t from = 0; from < n;) {
        char *rest = text + model->prefix_length;
        size_t ends[LONGEST_WORD_MAX + 1];
        ends[from] = 0;
        for (size_t i = from; i < n; i++)
            ends[i + 1] = ends[i] + la_code_encode(word[i], rest + ends[i]);
        const json_t *id = NULL;
        size_t to = n;
        for (; to > from; to--) {
            id = from ? json_object_getn(model->vocab, text, model->prefix_length + ends[to])
                      : json_object_getn(model->vocab, rest, ends[to]);
            if (id)
                break;
        }
        if (!id) {
            ids->n = first;
            return push_unknown(model, ids, err);
        }
        LA_TRY(la_ids_push(ids, (int32_t)json_integer_value(id), err));
        from = to;
    }
    return LA_OK;
}
