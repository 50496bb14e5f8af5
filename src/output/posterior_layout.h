/* Bounds and the block in front of posterior files, for their writer and their reader. The fields:
 * posterior_fields.h. */
#ifndef LA_OUTPUT_POSTERIOR_LAYOUT_H
#define LA_OUTPUT_POSTERIOR_LAYOUT_H

#include "output/posterior_file.h"
#include "output/seal.h"

#include <stdbool.h>
#include <stdio.h>

#define LA_POSTERIOR_FORMAT "laplora.posterior"
enum {
    LA_SCHEMA_MAJOR = 1,
    LA_BLOCKS_MOST = 100000,
    LA_CLASSES_MOST = 1 << 20,
    LA_SIDE_MOST = 1 << 24 /* of a block */
};

/* ---- posterior_seal.c ---- */

extern const la_seal la_posterior_seal;
/* la_seal_make and la_seal_stream of a posterior. */
la_status la_posterior_make_seal(la_h5_file *file, char block[LA_SEAL_BYTES]);
la_status la_posterior_seal_stream(FILE *stream, const char *path, la_error *err);

/* ---- posterior_read.c ---- */

/* la_posterior_load of an open file, or of bytes in memory (NULL: there are none); path is for
 * messages. */
la_status la_posterior_load_from(const char *path, int fd, const void *bytes, uint64_t size,
                                 la_posterior *posterior, la_error *err);

#endif
