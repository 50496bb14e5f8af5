#include "text/source.h"

#include <string.h>
#include <strings.h>

la_status la_source_text(const la_text_source *source, const json_t *json, const char *what,
                         la_text *out) {
    if (!json_is_string(json))
        return la_fail(source->err, LA_BAD_INPUT, "%s: %s is %s, expected a string", source->path,
                       what, la_json_kind(json));
    out->n = out->capacity = json_string_length(json);
    out->data = la_pool_text(source->pool, json_string_value(json), out->n, source->err);
    return out->data ? LA_OK : source->err->status;
}

la_status la_source_flag(const la_text_source *source, const json_t *object, const char *key,
                         bool *out) {
    return la_json_bool(object, source->path, key, false, out, source->err);
}

static la_status load_components(const la_text_source *source, const json_t *json, const char *list,
                                 int depth, la_component_loader load, void *out) {
    const char *type = NULL;
    LA_TRY(la_json_text(json, source->path, "type", true, &type, source->err));
    if (strcmp(type, "Sequence"))
        return load(source, json, type, out);
    const json_t *items = json_object_get(json, list);
    size_t i;
    json_t *item;
    if (!json_is_array(items) || depth > 16)
        return la_fail(source->err, LA_BAD_INPUT,
                       "%s: \"%s\" is %s, expected an array, nested 16 deep at most", source->path,
                       list, la_json_kind(items));
    json_array_foreach(items, i, item) {
        LA_TRY(load_components(source, item, list, depth + 1, load, out));
    }
    return LA_OK;
}

la_status la_source_components(const la_text_source *source, const json_t *json, const char *list,
                               la_component_loader load, void *out) {
    return !json || json_is_null(json) ? LA_OK : load_components(source, json, list, 0, load, out);
}

la_status la_source_choice(const la_text_source *source, const json_t *object, const char *part,
                           const char *key, const char *const *names, int *out) {
    const char *value = NULL;
    LA_TRY(la_json_text(object, source->path, key, false, &value, source->err));
    if (!value)
        return LA_OK;
    for (int i = 0; names[i]; i++)
        if (!strcasecmp(names[i], value)) {
            *out = i;
            return LA_OK;
        }
    return la_fail(source->err, LA_UNSUPPORTED, "%s: %s: %s \"%s\" is not supported", source->path,
                   part, key, value);
}
