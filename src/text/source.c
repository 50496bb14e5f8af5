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
