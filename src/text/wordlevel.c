#include "text/model.h"

#include <string.h>

static la_status encode(la_text_model *model, const char *word, size_t n, la_ids *ids,
                        la_error *err) {
    int32_t id = la_vocab_find(&model->vocab, word, n);
    if (id < 0)
        id = model->wordlevel.unknown_id;
    if (id < 0)
        return la_fail(err, LA_BAD_INPUT,
                       "a word is not in the vocabulary, which has no \"%s\" either",
                       model->wordlevel.unknown);
    return la_ids_push(ids, id, err);
}

la_status la_wordlevel_load(const la_text_source *source, const json_t *json, la_text_model *out) {
    const char *unknown = "<unk>";
    out->encode = encode;
    LA_TRY(la_vocab_load(source, json_object_get(json, "vocab"), &out->vocab));
    LA_TRY(la_json_text(json, source->path, "unk_token", false, &unknown, source->err));
    out->wordlevel.unknown = la_pool_text(source->pool, unknown, strlen(unknown), source->err);
    if (!out->wordlevel.unknown)
        return source->err->status;
    out->wordlevel.unknown_id = la_vocab_find(&out->vocab, unknown, strlen(unknown));
    out->size = out->vocab.n;
    return LA_OK;
}
