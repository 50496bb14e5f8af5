/* Posterior files that a test has changed: the digest in front is made good again. */
#ifndef LA_TESTS_SEAL_H
#define LA_TESTS_SEAL_H

#include "bayes/posterior.h"

enum { SEAL = 512 }; /* bytes of the block in front */

la_status seal_file(const char *path, la_error *err);
/* size is at least SEAL */
la_status seal_bytes(void *bytes, size_t size, la_error *err);
la_status load_bytes(const char *name, const void *bytes, size_t size, la_posterior *posterior,
                     la_error *err);

#endif
