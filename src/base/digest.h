/* Content digests (XXH3, 128 bits): they distinguish checkpoints and are no defence against
 * forgery. */
#ifndef LA_BASE_DIGEST_H
#define LA_BASE_DIGEST_H

#include "base/error.h"

#define LA_DIGEST_TEXT 33

typedef struct la_digest la_digest;

/* NULL and LA_RESOURCE in err when there is no memory. Free with la_digest_finish or
 * la_digest_free. */
la_digest *la_digest_new(la_error *err);
void la_digest_add(la_digest *digest, const void *data, size_t length);
/* Adds text with its length, so that "ab","c" and "a","bc" differ. */
void la_digest_add_text(la_digest *digest, const char *text);
void la_digest_add_number(la_digest *digest, double value);
/* Writes 32 hex digits and a NUL, and frees the digest. */
void la_digest_finish(la_digest *digest, char out[LA_DIGEST_TEXT]);
void la_digest_free(la_digest *digest);

/* 64-bit hash of a byte string (XXH3). */
uint64_t la_hash64(const void *data, size_t length);

#endif
