#include "text/postprocess.h"

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
    *piece = (la_template_piece){.sequence = -1, .n_ids = 1};
    return one_id(source, json_integer_value(id), &piece->ids);
}

/* [CLS] A [SEP] and [CLS] A [SEP] B [SEP] */
static la_status load_bert(const la_text_source *source, const json_t *json, la_postprocess *out) {
    la_template_piece cls, sep, a = {.sequence = 0}, b = {.sequence = 1, .type = 1};
    LA_TRY(special_id(source, json, "cls", &cls));
    LA_TRY(special_id(source, json, "sep", &sep));
    la_template_piece last = sep;
    last.type = 1;
    const la_template_piece pieces[] = {cls, a, sep, b, last};
    memcpy(out->single, pieces, 3 * sizeof *pieces);
    memcpy(out->pair, pieces, sizeof pieces);
    out->n_single = 3;
    out->n_pair = 5;
    return LA_OK;
}

/* <s> A </s> and <s> A </s></s> B </s>, all of one type */
static la_status load_roberta(const la_text_source *source, const json_t *json,
                              la_postprocess *out) {
    la_template_piece cls, sep, a = {.sequence = 0}, b = {.sequence = 1};
    LA_TRY(special_id(source, json, "cls", &cls));
    LA_TRY(special_id(source, json, "sep", &sep));
    const la_template_piece pieces[] = {cls, a, sep, sep, b, sep};
    memcpy(out->single, pieces, 3 * sizeof *pieces);
    memcpy(out->pair, pieces, sizeof pieces);
    out->n_single = 3;
    out->n_pair = 6;
    return LA_OK;
}

/* *loaded: a part before this one has set the positions of special tokens */
static la_status load_part(const la_text_source *source, const json_t *json, int depth,
                           bool *loaded, la_postprocess *out) {
    const char *type = NULL;
    LA_TRY(la_json_text(json, source->path, "type", true, &type, source->err));
    if (!strcmp(type, "ByteLevel")) /* offsets only */
        return LA_OK;
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(json, "processors");
        size_t i;
        json_t *item;
        if (!json_is_array(list) || depth > 16)
            return la_fail(source->err, LA_BAD_INPUT,
                           "%s: post_processor Sequence: \"processors\" is %s, expected an array "
                           "(nested 16 deep at most)",
                           source->path, la_json_kind(list));
        json_array_foreach(list, i, item) {
            LA_TRY(load_part(source, item, depth + 1, loaded, out));
        }
        return LA_OK;
    }
    static const struct {
        const char *type;
        la_status (*load)(const la_text_source *source, const json_t *json, la_postprocess *out);
    } kinds[] = {
        {"TemplateProcessing", load_templates},
        {"BertProcessing", load_bert},
        {"RobertaProcessing", load_roberta},
    };
    size_t i = 0;
    while (i < sizeof kinds / sizeof *kinds && strcmp(kinds[i].type, type))
        i++;
    if (i == sizeof kinds / sizeof *kinds)
        return la_fail(source->err, LA_UNSUPPORTED, "%s: post-processor \"%s\" is not supported",
                       source->path, type);
    if (*loaded)
        return la_fail(source->err, LA_UNSUPPORTED,
                       "%s: post-processor \"%s\" after another that adds tokens is not supported",
                       source->path, type);
    *loaded = true;
    return kinds[i].load(source, json, out);
}

la_status la_postprocess_load(const la_text_source *source, const json_t *json,
                              la_postprocess *out) {
    *out = (la_postprocess){.single = {{.sequence = 0}},
                            .pair = {{.sequence = 0}, {.sequence = 1, .type = 1}},
                            .n_single = 1,
                            .n_pair = 2};
    bool loaded = false;
    return !json || json_is_null(json) ? LA_OK : load_part(source, json, 0, &loaded, out);
}

int64_t la_postprocess_added(const la_template_piece *pieces, int n_pieces) {
    int64_t added = 0;
    for (int i = 0; i < n_pieces; i++)
        if (pieces[i].sequence < 0)
            added += (int64_t)pieces[i].n_ids;
    return added;
}
