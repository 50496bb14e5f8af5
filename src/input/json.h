/* Reading JSON files (jansson) with errors that name file and key. */
#ifndef LA_INPUT_JSON_H
#define LA_INPUT_JSON_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

/* Reads a whole file of at most max_bytes. *data has a NUL behind it; the caller frees it. */
la_status la_file_read(const char *path, size_t max_bytes, char **data, size_t *length,
                       la_error *err);

/* json_loadb of text from outside, which is refused from LA_JSON_DEPTH levels on: jansson takes
 * many more, each a frame of a stack that may be small. Nothing that is read here has more than
 * ten. */
enum { LA_JSON_DEPTH = 200 };
json_t *la_json_loadb(const char *text, size_t length, size_t flags, json_error_t *where);

/* Parses a file that must hold one JSON object. The caller gives *root back with json_decref. */
la_status la_json_load(const char *path, size_t max_bytes, json_t **root, la_error *err);

/* Getters. file is only for messages. When the key is absent or null: an error if required, else
 * *out keeps the default it held. */
la_status la_json_int(const json_t *object, const char *file, const char *key, bool required,
                      int64_t min, int64_t max, int64_t *out, la_error *err);
la_status la_json_number(const json_t *object, const char *file, const char *key, bool required,
                         double *out, la_error *err);
la_status la_json_bool(const json_t *object, const char *file, const char *key, bool required,
                       bool *out, la_error *err);
/* *out is owned by the object. */
la_status la_json_text(const json_t *object, const char *file, const char *key, bool required,
                       const char **out, la_error *err);

/* Type of a value, for messages: "a string", "an object", ... */
const char *la_json_kind(const json_t *value);

/* False for null, false, {}, [], "" and absent: "not set" in the way configuration files mean it.
 */
bool la_json_is_set(const json_t *value);

#endif
