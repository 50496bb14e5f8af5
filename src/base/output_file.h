/* Files that appear whole or not at all: written beside their place, synced, renamed. */
#ifndef LA_BASE_OUTPUT_FILE_H
#define LA_BASE_OUTPUT_FILE_H

#include "base/error.h"

#include <stdio.h>

typedef struct la_output_file {
    FILE *stream;    /* NULL when another library writes to temporary */
    char *temporary; /* NULL for standard output */
    char *path;
} la_output_file;

/* Checks that path can be written (its folder exists and is writable, it is no folder itself),
 * before long work. */
la_status la_output_check(const char *path, la_error *err);
/* Prepares path.tmp.PID; with want_stream opens it for writing. path NULL or "-": standard output.
 */
la_status la_output_open(la_output_file *file, const char *path, int want_stream, la_error *err);
/* Flush, sync, rename, sync the folder. On failure the temporary file is removed and an older file
 * is left as it was. */
la_status la_output_commit(la_output_file *file, la_error *err);
/* Removes what was written so far. Safe on a zeroed, committed or discarded file. */
void la_output_discard(la_output_file *file);

#endif
