#include "text/model.h"

#include <string.h>

/* Older files do not name the type of their model. */
static const char *guess_type(const json_t *json) {
    if (json_object_get(json, "merges"))
        return "BPE";
    if (json_is_array(json_object_get(json, "vocab")))
        return "Unigram";
    return json_object_get(json, "max_input_chars_per_word") ? "WordPiece" : "WordLevel";
}

la_status la_text_model_load(const la_text_source *source, const json_t *json, la_text_model *out) {
    static const struct {
        const char *type;
        la_status (*load)(const la_text_source *source, const json_t *json, la_text_model *out);
    } kinds[] = {
        {"BPE", la_bpe_load},
        {"WordPiece", la_wordpiece_load},
        {"Unigram", la_unigram_load},
        {"WordLevel", la_wordlevel_load},
    };
    if (!json_is_object(json))
        return la_fail(source->err, LA_BAD_INPUT, "%s: \"model\" is %s, expected an object",
                       source->path, la_json_kind(json));
    const char *type = guess_type(json);
    LA_TRY(la_json_text(json, source->path, "type", false, &type, source->err));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type))
            return kinds[i].load(source, json, out);
    return la_fail(source->err, LA_UNSUPPORTED,
                   "%s: tokenizer model \"%s\" is not supported (BPE, WordPiece, Unigram and "
                   "WordLevel are); rows may carry \"input_ids\" instead of text",
                   source->path, type);
}

void la_text_model_free(la_text_model *model) {
    if (model->free)
        model->free(model);
    la_word_cache_free(&model->cache);
    la_vocab_free(&model->vocab);
    *model = (la_text_model){0};
}

la_status la_text_model_encode(la_text_model *model, const char *word, size_t n, la_ids *ids,
                               la_error *err) {
    if (!model->cached)
        return model->encode(model, word, n, ids, err);
    uint64_t hash = 0;
    bool found;
    LA_TRY(la_word_cache_get(&model->cache, word, n, ids, &hash, &found, err));
    if (found)
        return LA_OK;
    size_t before = ids->n;
    LA_TRY(model->encode(model, word, n, ids, err));
    return la_word_cache_put(&model->cache, word, n, hash, ids->data + before, ids->n - before,
                             err);
}
