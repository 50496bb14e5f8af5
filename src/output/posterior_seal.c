/* The block in front of a posterior: format and schema, the digest of what follows, its length. */
#include "output/posterior_layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* first line of the block; schema, digest and length follow */
#define SEAL_MAGIC "laplora posterior"

/* Digest of everything behind the block, and its length. */
static la_status digest_rest(const char *path, FILE *file, char digest[LA_DIGEST_TEXT],
                             long long *length, la_error *err) {
    char buffer[1 << 16];
    la_digest *sum = la_digest_new(err);
    if (!sum)
        return err->status;
    *length = 0;
    if (fseek(file, LA_SEAL_BYTES, SEEK_SET)) {
        la_digest_free(sum);
        return la_fail(err, LA_RESOURCE, "%s: cannot read: %s", path, la_errno_text(errno));
    }
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, file)) > 0;) {
        la_digest_add(sum, buffer, got);
        *length += (long long)got;
    }
    la_digest_finish(sum, digest);
    if (ferror(file))
        return la_fail(err, LA_RESOURCE, "%s: cannot read: %s", path, la_errno_text(errno));
    return LA_OK;
}

la_status la_posterior_seal(const char *path, la_error *err) {
    FILE *file = fopen(path, "r+b");
    if (!file)
        return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    char digest[LA_DIGEST_TEXT], block[LA_SEAL_BYTES] = {0};
    long long length;
    la_status status = digest_rest(path, file, digest, &length, err);
    snprintf(block, sizeof block, SEAL_MAGIC " %d\nxxh3-128 %s\nbytes %lld\n", LA_SCHEMA_MAJOR,
             digest, length);
    errno = 0;
    bool failed = status == LA_OK && (fseek(file, 0, SEEK_SET) ||
                                      fwrite(block, 1, sizeof block, file) != sizeof block);
    failed |= fclose(file) != 0;
    if (status == LA_OK && failed)
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    return status;
}

la_status la_posterior_check_seal(const char *path, la_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return la_fail(err, LA_BAD_INPUT, "%s: cannot read: %s", path, la_errno_text(errno));
    char block[LA_SEAL_BYTES + 1] = {0}, stored[LA_DIGEST_TEXT] = "", digest[LA_DIGEST_TEXT];
    long long length = 0, expected = -1;
    int schema = 0;
    la_status status = LA_OK;
    size_t got = fread(block, 1, LA_SEAL_BYTES, file);
    if (got < LA_SEAL_BYTES || sscanf(block, SEAL_MAGIC " %d", &schema) != 1)
        status = la_fail(
            err, LA_BAD_INPUT,
            "%s: is no posterior of laplora (an HDF5 file of its own kind), or a truncated one",
            path);
    else if (schema > LA_SCHEMA_MAJOR)
        status = la_fail(err, LA_UNSUPPORTED,
                         "%s: schema %d is newer than the %d that this laplora reads; update it",
                         path, schema, LA_SCHEMA_MAJOR);
    else if (sscanf(block, SEAL_MAGIC " %d\nxxh3-128 %32[0-9a-f]\nbytes %lld", &schema, stored,
                    &expected) != 3)
        status =
            la_fail(err, LA_BAD_INPUT, "%s: incomplete: its checksum is missing; fit again", path);
    if (status == LA_OK)
        status = digest_rest(path, file, digest, &length, err);
    fclose(file);
    LA_TRY(status);
    if (length != expected)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: incomplete: %lld bytes of data, expected %lld; truncated or damaged",
                       path, length, expected);
    if (strcmp(stored, digest))
        return la_fail(err, LA_BAD_INPUT, "%s: its checksum is wrong: the posterior is damaged",
                       path);
    return LA_OK;
}

int la_posterior_looks_like(const char *path) {
    char start[sizeof SEAL_MAGIC] = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t got = fread(start, 1, sizeof start - 1, file);
    fclose(file);
    return got == sizeof start - 1 && !strcmp(start, SEAL_MAGIC);
}
