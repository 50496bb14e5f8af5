/* Files that appear whole or not at all: written beside their place without a name (or under a
 * hidden one), synced, moved there. What is no regular file (a device, a FIFO, a socket,
 * /dev/stdout) is written through. */
#ifndef LA_BASE_OUTPUT_FILE_H
#define LA_BASE_OUTPUT_FILE_H

#include "base/error.h"
#include "base/target.h"

#include <stdio.h>

/* Access that the writer needs: it goes back in its file (or another library writes it), or only
 * on. */
enum { LA_OUTPUT_SEEKABLE, LA_OUTPUT_STREAM };

typedef struct la_output_file {
    FILE *stream;    /* to write to; of a seekable one, to read too */
    char *temporary; /* seekable: a path to the same file, for libraries that open one themselves */
    char *path;      /* NULL: standard output */
    la_target target;
    int folder;              /* directory of the temporary file: the target's, or one for scratch */
    char name[NAME_MAX + 1]; /* there; empty while the file has no name */
    int slot;                /* among the names to be removed by a stop; -1: none */
} la_output_file;

/* Checks that path can be written before long work. path NULL or "-": standard output. */
la_status la_output_check(const char *path, la_error *err);
/* Refuses a path that is the very file that is read as option --what ("data", "val"; "-": standard
 * input), or one of a model's files where input is a folder. input may be NULL. */
la_status la_output_apart(const char *path, const char *what, const char *input, la_error *err);
/* Prepares a file; path NULL or "-": standard output, which is never seekable. Removes what a run
 * that crashed left of the same output. */
la_status la_output_open(la_output_file *file, const char *path, int kind, la_error *err);
/* Flush, sync, move to its place with the mode and owner of the file there, sync the folder; or
 * through to where it goes. On failure an older file is left as it was. */
la_status la_output_commit(la_output_file *file, la_error *err);
/* Commits what was written with LA_OK, else discards it and returns the status. */
la_status la_output_finish(la_output_file *file, la_status status, la_error *err);
/* Removes what was written so far. Safe on a zeroed, committed or discarded file. */
void la_output_discard(la_output_file *file);

/* A name that no file has, for a temporary file of a target in its folder: those that a crash
 * leaves are removed when an output is opened next. */
void la_output_temporary_name(const char *target, char name[NAME_MAX + 1]);

/* Removes the named temporary files of this process. May be called in a signal handler. */
void la_output_abandon(void);

#endif
