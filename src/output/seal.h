/* Block in front of sealed HDF5 files: what the file is and its schema, the digest of what follows,
 * its length. */
#ifndef LA_OUTPUT_SEAL_H
#define LA_OUTPUT_SEAL_H

#include "base/digest.h"
#include "output/hdf5_subset.h"

#include <stdio.h>

enum { LA_SEAL_BYTES = 512 };

/* A kind of file. */
typedef struct la_seal {
    const char *magic; /* the first line begins with it; the schema follows */
    const char *title; /* for messages: "posterior" */
    const char *again; /* what makes a whole one: "fit again" */
    int schema;        /* the latest */
} la_seal;

/* The block in front of a file, of what lies behind it. */
la_status la_seal_make(const la_seal *seal, la_h5_file *file, char block[LA_SEAL_BYTES]);
/* Writes it to a file that is open to read and write; path is for messages. unstopped: not ended by
 * a stop. */
la_status la_seal_stream(const la_seal *seal, FILE *stream, const char *path, bool unstopped,
                         la_error *err);
/* Fails unless the block in front agrees with the bytes behind it. */
la_status la_seal_check(const la_seal *seal, la_h5_file *file);
/* True where the file begins like one of that kind. */
bool la_seal_is_at(const la_seal *seal, const char *path);
/* Opens a regular file to be read: a descriptor and its size. */
la_status la_seal_open(const la_seal *seal, const char *path, int *fd, uint64_t *size,
                       la_error *err);

#endif
