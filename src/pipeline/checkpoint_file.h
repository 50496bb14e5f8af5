/* The two newest generations of a checkpoint: NAME, and the one before as NAME.1. Writing them
 * needs system calls alone. */
#ifndef LA_PIPELINE_CHECKPOINT_FILE_H
#define LA_PIPELINE_CHECKPOINT_FILE_H

#include "base/target.h"
#include "pipeline/sums_image.h"

#define LA_OLDER ".1"
enum { LA_GENERATIONS = 2 };

typedef struct la_generations {
    la_target target; /* the folder, and the name of the newest */
    char older[NAME_MAX + 1];
    bool nameless;                   /* files can be written before they have a name */
    char temporary[2][NAME_MAX + 1]; /* of the program and of its signal handler */
} la_generations;

/* Close with la_generations_close, also after a failure. LA_RESOURCE where nothing can be written
 * there. Removes what crashed runs left beside the path. */
la_status la_generations_open(la_generations *files, const char *path, la_error *err);
void la_generations_close(la_generations *files);
/* LA_USAGE where the output is one of them. */
la_status la_generations_apart(const la_generations *files, const char *path, const char *out,
                               la_error *err);
/* Which of them are checkpoints. LA_USAGE where one is something else, which must not be replaced.
 */
la_status la_generations_look(const la_generations *files, const char *path,
                              bool ours[LA_GENERATIONS], la_error *err);
/* *there: the file is; *wrong: NULL, or why it is none that can be used. */
la_status la_generations_read(const la_generations *files, const char *path, int generation,
                              la_sums_image *image, bool *there, const char **wrong, la_error *err);
/* A new generation of these bytes and their digest. 0, or an errno: the files are then as they
 * were. synced: it is on the disk when this returns, unless a signal comes meanwhile. Not synced:
 * for a signal handler, which has half a second, or five where there is no older one. */
int la_generations_write(la_generations *files, const char *bytes, size_t length, bool synced);
void la_generations_remove(const la_generations *files);

#endif
