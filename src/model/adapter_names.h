/* Several adapters in one directory: subdirectories that save_pretrained writes for adapters that
 * are not called "default", or names inside the keys of a raw state dict (X.lora_A.NAME.weight). */
#ifndef LA_MODEL_ADAPTER_NAMES_H
#define LA_MODEL_ADAPTER_NAMES_H

#include "base/memory.h"
#include "input/safetensors.h"

#include <stdbool.h>

/* The directory of the adapter called name (NULL: not given): DIR/NAME where that is one, else
 * DIR. LA_USAGE, listing the names, when DIR holds adapters in subdirectories alone and name is
 * none of them. Memory from pool. */
la_status la_adapter_directory(const char *dir, const char *name, la_pool *pool, const char **found,
                               la_error *err);

/* The names within the keys of a file. Views of them, in the pool. */
typedef struct la_adapter_names {
    const char **names;
    int64_t n;          /* 0: the keys hold none, as save_pretrained writes them */
    const char *wanted; /* "default" unless given */
} la_adapter_names;

/* LA_USAGE, listing the names, when the keys hold some, and the wanted one is none of them; also
 * when name was given, in_directory is false and the keys hold none. */
la_status la_adapter_names_read(const la_checkpoint *file, const char *name, bool in_directory,
                                la_pool *pool, la_adapter_names *out, la_error *err);
/* True when the tensor belongs to another adapter than the wanted one. */
bool la_adapter_names_other(const la_adapter_names *names, const char *key);
/* Takes base_model.model., base_layer, modules_to_save and the wanted name out of key. */
void la_adapter_names_strip(const la_adapter_names *names, char *key);

#endif
