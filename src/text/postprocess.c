#include "text/postprocess.h"

#include <string.h>

static la_status special_ids(const la_text_source *source, const json_t *specials, const char *name,
                             la_template_piece *piece) {
    const json_t *list = json_object_get(json_object_get(specials, name), "ids");
    size_t n = json_array_size(list);
    int32_t *ids = la_pool_take(source->pool, n, sizeof *ids, source->err);
    if (!ids)
        return source->err->status;
    if (!n)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: post_processor: special token \"%s\" has no ids", source->path, name);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= INT32_MAX)
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: post_processor: special token \"%s\" has an id that is none",
                           source->path, name);
        ids[i] = (int32_t)json_integer_value(id);
    }
    piece->ids = ids;
    piece->n_ids = n;
    return LA_OK;
}

static la_status load_template(const la_text_source *source, const json_t *json, const char *key,
                               la_template_piece *pieces, int *n_pieces) {
    const json_t *list = json_object_get(json, key);
    const json_t *specials = json_object_get(json, "special_tokens");
    size_t i;
    json_t *item;
    if (!json_is_array(list) || json_array_size(list) > LA_PIECES_MAX)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: post_processor.%s is %s, expected an array of at most %d pieces",
                       source->path, key, la_json_kind(list), LA_PIECES_MAX);
    json_array_foreach(list, i, item) {
        la_template_piece *piece = &pieces[(*n_pieces)++];
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *body = special ? special : json_object_get(item, "Sequence");
        const char *id = NULL;
        int64_t type = 0;
        if (!json_is_object(body))
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: post_processor.%s[%zu] is no SpecialToken or Sequence",
                           source->path, key, i);
        LA_TRY(la_json_text(body, source->path, "id", true, &id, source->err));
        LA_TRY(la_json_int(body, source->path, "type_id", false, 0, 1 << 16, &type, source->err));
        piece->type = (int32_t)type;
        piece->sequence = special ? -1 : strcmp(id, "B") ? 0 : 1;
        if (special)
            LA_TRY(special_ids(source, specials, id, piece));
    }
    return LA_OK;
}

static la_status load_templates(const la_text_source *source, const json_t *json,
                                la_postprocess *out) {
    out->n_single = out->n_pair = 0;
    LA_TRY(load_template(source, json, "single", out->single, &out->n_single));
    return load_template(source, json, "pair", out->pair, &out->n_pair);
}

static la_status special_id(const la_text_source *source, const json_t *json, const char *key,
                            la_template_piece *piece) {
    const json_t *id = json_array_get(json_object_get(json, key), 1);
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= INT32_MAX)
        return la_fail(source->err, LA_BAD_INPUT, "%s: post_processor: \"%s\" is no [token, id]",
                       source->path, key);
    int32_t *copy = la_pool_take(source->pool, 1, sizeof *copy, source->err);
    if (!copy)
        return source->err->status;
    *copy = (int32_t)json_integer_value(id);
    *piece = (la_template_piece){.sequence = -1, .ids = copy, .n_ids = 1};
    return LA_OK;
}

/* BERT: [CLS] A [SEP] and [CLS] A [SEP] B [SEP]; RoBERTa: <s> A </s> and <s> A </s></s> B </s>, all
 * of one type. */
static la_status load_wrap(const la_text_source *source, const json_t *json, bool bert,
                           la_postprocess *out) {
    la_template_piece pieces[6] = {{0}}, sep;
    int n = 0;
    LA_TRY(special_id(source, json, "cls", &pieces[n++]));
    LA_TRY(special_id(source, json, "sep", &sep));
    pieces[n++] = (la_template_piece){.sequence = 0};
    pieces[n++] = sep;
    memcpy(out->single, pieces, (size_t)n * sizeof *pieces);
    out->n_single = n;
    if (!bert)
        pieces[n++] = sep;
    sep.type = bert;
    pieces[n++] = (la_template_piece){.sequence = 1, .type = bert};
    pieces[n++] = sep;
    memcpy(out->pair, pieces, (size_t)n * sizeof *pieces);
    out->n_pair = n;
    return LA_OK;
}

typedef struct loading {
    bool loaded; /* a part before this one has set the positions of special tokens */
    la_postprocess *out;
} loading;

static la_status load_part(const la_text_source *source, const json_t *json, const char *type,
                           void *state) {
    loading *l = state;
    if (!strcmp(type, "ByteLevel")) /* offsets only */
        return LA_OK;
    bool bert = !strcmp(type, "BertProcessing"), template = !strcmp(type, "TemplateProcessing");
    if (!bert && !template && strcmp(type, "RobertaProcessing"))
        return la_fail(source->err, LA_UNSUPPORTED, "%s: post-processor \"%s\" is not supported",
                       source->path, type);
    if (l->loaded)
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: post-processor \"%s\" after another that adds tokens is not supported",
                       source->path, type);
    l->loaded = true;
    return template ? load_templates(source, json, l->out) : load_wrap(source, json, bert, l->out);
}

la_status la_postprocess_load(const la_text_source *source, const json_t *json,
                              la_postprocess *out) {
    *out = (la_postprocess){.single = {{.sequence = 0}},
                            .pair = {{.sequence = 0}, {.sequence = 1, .type = 1}},
                            .n_single = 1,
                            .n_pair = 2};
    loading l = {.out = out};
    return la_source_components(source, json, "processors", load_part, &l);
}

int64_t la_postprocess_added(const la_template_piece *pieces, int n_pieces) {
    int64_t added = 0;
    for (int i = 0; i < n_pieces; i++)
        if (pieces[i].sequence < 0)
            added += (int64_t)pieces[i].n_ids;
    return added;
}
