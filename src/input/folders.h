/* Finding the folder of a model or an adapter: what a user gave may be a name on the Hugging Face
 * hub, a folder of its cache, a file, another tool's folder, or the other one of the two. */
#ifndef LA_INPUT_FOLDERS_H
#define LA_INPUT_FOLDERS_H

#include "base/error.h"
#include "base/memory.h"

#include <stdbool.h>

/* True when the directory has an entry of that name. */
bool la_folder_has(const char *dir, const char *name);

typedef enum la_folder_kind { LA_FOLDER_BASE, LA_FOLDER_ADAPTER } la_folder_kind;

/* Directory to read: `given`, or a snapshot of the local hub cache (named in the log). Anything
 * else is an error that says what the thing is and what to do. Nothing is downloaded. option:
 * for messages, "--base" or "--adapter". Memory from pool. */
la_status la_folder_find(la_folder_kind kind, const char *option, const char *given, la_pool *pool,
                         const la_log *log, const char **folder, la_error *err);

#endif
