/* tokenizer.json being loaded: the path for messages and the pool for loaded parts. Only src/text
 * includes this and the headers of the parts. */
#ifndef LA_TEXT_SOURCE_H
#define LA_TEXT_SOURCE_H

#include "base/memory.h"
#include "input/json.h"
#include "text/buffer.h"

typedef struct la_text_source {
    const char *path;
    la_pool *pool; /* owner of loaded parts, unless a part has its own */
    la_error *err;
} la_text_source;

/* A string of JSON as a buffer; memory from the pool. */
la_status la_source_text(const la_text_source *source, const json_t *json, const char *what,
                         la_text *out);
/* object[key], true or false; *out keeps its value when the key is absent. */
la_status la_source_flag(const la_text_source *source, const json_t *object, const char *key,
                         bool *out);
/* Loads a component of a pipeline, or those of a Sequence, which lists them under `list` and may be
 * nested, in order; nothing for null. type: the component's. */
typedef la_status (*la_component_loader)(const la_text_source *source, const json_t *json,
                                         const char *type, void *out);
la_status la_source_components(const la_text_source *source, const json_t *json, const char *list,
                               la_component_loader load, void *out);
/* object[key] must be one of names (NULL ends them); *out is its index, or keeps its value when
 * the key is absent. part names the object in messages. */
la_status la_source_choice(const la_text_source *source, const json_t *object, const char *part,
                           const char *key, const char *const *names, int *out);

#endif
