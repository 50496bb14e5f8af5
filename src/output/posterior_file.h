/* The posterior as one HDF5 file: posterior_write.c by the HDF5 library, posterior_read.c by a
 * reader of our own (hdf5_subset.h), posterior_seal.c. Layout: README.md here. */
#ifndef LA_OUTPUT_POSTERIOR_FILE_H
#define LA_OUTPUT_POSTERIOR_FILE_H

#include "bayes/posterior.h"

/* Written beside its place, synced and renamed; `complete` is written last. A block of 512 bytes
 * in front of the HDF5 part has its digest, which detects damage; it is no secret, and a file
 * made to attack has a good one. The same posterior gives the same bytes. */
la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err);
/* Checks format, completeness, checksums, every size and the range of every number. Memory: at most
 * a few times the file's length. Free with la_posterior_free. */
la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err);
/* Checks before a fit, and not after it, that a posterior can keep this text: UTF-8 of at
 * most LA_POSTERIOR_TEXT_MOST bytes. what: a file or an option, for the message. */
enum { LA_POSTERIOR_TEXT_MOST = 65000 };
la_status la_posterior_check_text(const char *what, const char *text, la_error *err);
/* 1 where the file begins like a posterior. */
int la_posterior_looks_like(const char *path);
/* The digest in front of a posterior, which la_posterior_load compares with what follows it. */
la_status la_posterior_digest(const char *path, char digest[LA_DIGEST_TEXT], la_error *err);

#endif
