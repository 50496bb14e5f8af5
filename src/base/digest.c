#include "base/digest.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

la_digest *la_digest_new(la_error *err) {
    /* the state type asks for 64-byte alignment, which only its own constructor gives */
    XXH3_state_t *state = XXH3_createState();
    if (!state) {
        (void)la_fail(err, LA_RESOURCE, "out of memory for a digest");
        return NULL;
    }
    XXH3_128bits_reset(state);
    return (la_digest *)(void *)state;
}

static XXH3_state_t *state_of(la_digest *digest) {
    return (XXH3_state_t *)(void *)digest;
}

void la_digest_add(la_digest *digest, const void *data, size_t length) {
    if (length)
        XXH3_128bits_update(state_of(digest), data, length);
}

void la_digest_add_text(la_digest *digest, const char *text) {
    uint64_t length = strlen(text);
    la_digest_add(digest, &length, sizeof length);
    la_digest_add(digest, text, length);
}

void la_digest_add_number(la_digest *digest, double value) {
    la_digest_add(digest, &value, sizeof value);
}

void la_digest_finish(la_digest *digest, char out[LA_DIGEST_TEXT]) {
    XXH128_hash_t hash = XXH3_128bits_digest(state_of(digest));
    snprintf(out, LA_DIGEST_TEXT, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    la_digest_free(digest);
}

void la_digest_free(la_digest *digest) {
    if (digest)
        XXH3_freeState(state_of(digest));
}

uint64_t la_hash64(const void *data, size_t length) {
    return XXH3_64bits(data, length);
}
