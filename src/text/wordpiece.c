#include "text/model.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_WORD_MAX = 1 << 20, PREFIX_BYTES_MAX = 64 };

static la_status push_unknown(const la_wordpiece *w, la_ids *ids, la_error *err) {
    if (w->unknown_id < 0)
        return la_fail(err, LA_BAD_INPUT,
                       "a word is not covered by the vocabulary, which has no \"%s\" either",
                       w->unknown);
    return la_ids_push(ids, w->unknown_id, err);
}

static la_status encode(la_text_model *model, const char *word, size_t n, la_ids *ids,
                        la_error *err) {
    la_wordpiece *w = &model->wordpiece;
    size_t first = ids->n;
    if (n > (size_t)w->longest_word && la_utf8_count(word, n) > (size_t)w->longest_word)
        return push_unknown(w, ids, err);
    int32_t whole = la_vocab_find(&model->vocab, word, n);
    if (whole >= 0)
        return la_ids_push(ids, whole, err);
    /* prefix and word side by side: a part inside is copied behind the prefix just once */
    for (size_t from = 0; from < n;) {
        w->spare.n = 0;
        if (from)
            LA_TRY(la_text_append(&w->spare, w->prefix, w->prefix_length, err));
        LA_TRY(la_text_append(&w->spare, word + from, n - from, err));
        size_t before = from ? w->prefix_length : 0, length = w->spare.n;
        int32_t id = -1;
        for (; length > before; length = la_utf8_last(w->spare.data, length)) {
            id = la_vocab_find(&model->vocab, w->spare.data, length);
            if (id >= 0)
                break;
        }
        if (id < 0) {
            ids->n = first;
            return push_unknown(w, ids, err);
        }
        LA_TRY(la_ids_push(ids, id, err));
        from += length - before;
    }
    return LA_OK;
}

static void close(la_text_model *model) {
    la_text_free(&model->wordpiece.spare);
}

la_status la_wordpiece_load(const la_text_source *source, const json_t *json, la_text_model *out) {
    la_wordpiece *w = &out->wordpiece;
    const char *path = source->path, *prefix = "##", *unknown = "[UNK]";
    *w = (la_wordpiece){.longest_word = 100};
    out->encode = encode;
    out->free = close;
    out->cached = true;
    LA_TRY(la_vocab_load(source, json_object_get(json, "vocab"), &out->vocab));
    LA_TRY(la_json_text(json, path, "continuing_subword_prefix", false, &prefix, source->err));
    LA_TRY(la_json_text(json, path, "unk_token", false, &unknown, source->err));
    LA_TRY(la_json_int(json, path, "max_input_chars_per_word", false, 0, LONGEST_WORD_MAX,
                       &w->longest_word, source->err));
    w->prefix_length = strlen(prefix);
    if (w->prefix_length > PREFIX_BYTES_MAX)
        return la_fail(source->err, LA_BAD_INPUT, "%s: continuing_subword_prefix is too long",
                       path);
    w->prefix = la_pool_text(source->pool, prefix, w->prefix_length, source->err);
    w->unknown = la_pool_text(source->pool, unknown, strlen(unknown), source->err);
    if (!w->prefix || !w->unknown)
        return source->err->status;
    w->unknown_id = la_vocab_find(&out->vocab, unknown, strlen(unknown));
    out->size = out->vocab.n;
    return LA_OK;
}
