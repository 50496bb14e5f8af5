/* The posterior as one HDF5 file. Layout: README, "The posterior file". */
#ifndef LA_OUTPUT_POSTERIOR_FILE_H
#define LA_OUTPUT_POSTERIOR_FILE_H

#include "bayes/posterior.h"

/* Written beside its place, synced and renamed; `complete` is the last thing written. */
la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err);
/* Checks format, completeness, checksums and every size. Free with la_posterior_free. */
la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err);
/* Whether the file begins like an HDF5 file. */
int la_posterior_looks_like(const char *path);

#endif
