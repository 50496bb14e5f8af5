/* Where an output path leads: to a file that is replaced as a whole, or to something that is
 * written through. */
#ifndef LA_BASE_TARGET_H
#define LA_BASE_TARGET_H

#include "base/error.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

typedef enum la_target_kind {
    LA_TARGET_NONE,    /* not looked for */
    LA_TARGET_FILE,    /* a regular file, or none yet: name in folder */
    LA_TARGET_THROUGH, /* a device, a FIFO, another process's descriptor: opened as it stands */
    LA_TARGET_OWN,     /* a descriptor that this process was given: /dev/stdout, /dev/fd/N */
    LA_TARGET_SOCKET   /* a Unix socket that somebody listens on */
} la_target_kind;

typedef struct la_target {
    la_target_kind kind;
    int folder; /* the folder that holds name, after all symbolic links; closed by
                   la_target_close */
    char name[NAME_MAX + 1];
    bool exists;
    struct stat info; /* state of the existing file */
    int own;          /* number of an own descriptor */
} la_target;

/* Follows symbolic links to their end; a link to nothing leads to the file to be made. Refuses what
 * cannot become a whole file: a directory, a folder that takes no files, a file that may not be
 * written or replaced. */
la_status la_target_find(const char *path, la_target *target, la_error *err);
/* Opens a target that is written through, at its end, for writing. -1 with err set on failure.
 * Waits for the reader of a FIFO. */
int la_target_open(const char *path, const la_target *target, la_error *err);
/* Safe on a zeroed or closed target. */
void la_target_close(la_target *target);

#endif
