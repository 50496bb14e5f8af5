#include "text/parts.h"

#include <string.h>

static la_status one_id(const la_text_source *source, int64_t id, const int32_t **ids) {
    int32_t *copy = la_pool_take(source->pool, 1, sizeof *copy, source->err);
    if (!copy)
        return source->err->status;
    *copy = (int32_t)id;
    *ids = copy;
    return LA_OK;
}

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

/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP] */
static la_status load_bert(const la_text_source *source, const json_t *json, la_postprocess *out) {
    const json_t *cls = json_array_get(json_object_get(json, "cls"), 1);
    const json_t *sep = json_array_get(json_object_get(json, "sep"), 1);
    if (!json_is_integer(cls) || !json_is_integer(sep))
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: post_processor: \"cls\" and \"sep\" must be [token, id]", source->path);
    la_template_piece first = {.sequence = -1, .n_ids = 1}, end = first;
    LA_TRY(one_id(source, json_integer_value(cls), &first.ids));
    LA_TRY(one_id(source, json_integer_value(sep), &end.ids));
    la_template_piece a = {.sequence = 0}, b = {.sequence = 1, .type = 1}, end_b = end;
    end_b.type = 1;
    const la_template_piece pieces[] = {first, a, end, b, end_b};
    memcpy(out->single, pieces, 3 * sizeof *pieces);
    memcpy(out->pair, pieces, sizeof pieces);
    out->n_single = 3;
    out->n_pair = 5;
    return LA_OK;
}

la_status la_postprocess_load(const la_text_source *source, const json_t *json,
                              la_postprocess *out) {
    *out = (la_postprocess){.single = {{.sequence = 0}},
                            .pair = {{.sequence = 0}, {.sequence = 1, .type = 1}},
                            .n_single = 1,
                            .n_pair = 2};
    if (!json || json_is_null(json))
        return LA_OK;
    const char *type = NULL;
    LA_TRY(la_json_text(json, source->path, "type", true, &type, source->err));
    if (!strcmp(type, "BertProcessing"))
        return load_bert(source, json, out);
    if (strcmp(type, "TemplateProcessing"))
        return la_fail(source->err, LA_UNSUPPORTED, "%s: post-processor \"%s\" is not supported",
                       source->path, type);
    out->n_single = out->n_pair = 0;
    LA_TRY(load_template(source, json, "single", out->single, &out->n_single));
    return load_template(source, json, "pair", out->pair, &out->n_pair);
}

int64_t la_postprocess_added(const la_template_piece *pieces, int n_pieces) {
    int64_t added = 0;
    for (int i = 0; i < n_pieces; i++)
        if (pieces[i].sequence < 0)
            added += (int64_t)pieces[i].n_ids;
    return added;
}
