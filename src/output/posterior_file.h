/* The posterior as one HDF5 file: posterior_write.c, posterior_read.c, posterior_seal.c. Layout: README, "The posterior file". */
#ifndef LA_OUTPUT_POSTERIOR_FILE_H
#define LA_OUTPUT_POSTERIOR_FILE_H

#include "bayes/posterior.h"

/* Written beside its place, synced and renamed; `complete` is the last thing written. A block of
 * 512 bytes in front of the HDF5 part holds a digest of it, which is checked before HDF5 sees a
 * byte: HDF5 is not safe on damaged files. */
la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err);
/* Checks format, completeness, checksums and every size. Free with la_posterior_free. */
la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err);
/* Writes the block in front of a file whose HDF5 part was changed on purpose. */
la_status la_posterior_seal(const char *path, la_error *err);
/* Whether the file begins like a posterior. */
int la_posterior_looks_like(const char *path);

#endif
