/* Kinds of files by their first bytes: files without plain text are named, with the next step. */
#ifndef LA_INPUT_FILE_KINDS_H
#define LA_INPUT_FILE_KINDS_H

#include "base/error.h"

#include <stdbool.h>

typedef struct la_file_kind {
    const char *name;  /* "a Parquet file" */
    const char *magic; /* its bytes from `at` on */
    size_t length, at;
    enum {
        LA_MAGIC_BYTES,   /* no text begins like this */
        LA_MAGIC_LETTERS, /* some may: control bytes must follow */
        LA_MAGIC_MARKUP   /* text, but no data file; a message may begin with it */
    } magic_kind;
    const char *step; /* next step; %s stands for the path */
} la_file_kind;

/* The kind whose bytes these begin with, or NULL. messages: any text may stand here. *undecided:
 * more bytes could make it one. */
const la_file_kind *la_file_kind_of(const char *bytes, size_t length, bool messages,
                                    bool *undecided);
/* LA_UNSUPPORTED: "FILE: is a Parquet file, expected EXPECTED; convert it: ..." */
la_status la_file_kind_refuse(const la_file_kind *kind, const char *path, const char *expected,
                              la_error *err);
/* Next step for a directory given as a file, or "" where unknown. */
const char *la_folder_step(const char *path);

typedef enum la_encoding_kind {
    LA_ENCODING_UTF8,
    LA_ENCODING_UTF16_LE,
    LA_ENCODING_UTF16_BE,
    LA_ENCODING_UTF32
} la_encoding_kind;

/* Encoding by the byte-order mark, of `mark` bytes, or without one by the zeros beside the
 * letters. */
la_encoding_kind la_encoding_of(const char *bytes, size_t length, size_t *mark);

#endif
