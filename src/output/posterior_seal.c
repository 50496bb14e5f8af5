/* The block in front of a posterior: format and schema, the digest of what follows, its length. */
#include "base/stop.h"
#include "output/posterior_layout.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* first line of the block; schema, digest and length follow */
#define SEAL_MAGIC "laplora posterior"

/* Digest of everything behind the block. */
static la_status digest_rest(la_h5_file *file, char digest[LA_DIGEST_TEXT]) {
    char buffer[1 << 16];
    la_digest *sum = la_digest_new(file->err);
    la_status status = LA_OK;
    if (!sum)
        return file->err->status;
    for (uint64_t at = LA_SEAL_BYTES; at < file->size && status == LA_OK;) {
        size_t piece = file->size - at < sizeof buffer ? (size_t)(file->size - at) : sizeof buffer;
        status = la_check_interrupt(file->err);
        if (status == LA_OK)
            status = la_h5_bytes(file, at, buffer, piece);
        if (status == LA_OK)
            la_digest_add(sum, buffer, piece);
        at += piece;
    }
    la_digest_finish(sum, digest);
    return status;
}

la_status la_posterior_make_seal(la_h5_file *file, char block[LA_SEAL_BYTES]) {
    char digest[LA_DIGEST_TEXT];
    LA_TRY(digest_rest(file, digest));
    memset(block, 0, LA_SEAL_BYTES);
    snprintf(block, LA_SEAL_BYTES, SEAL_MAGIC " %d\nxxh3-128 %s\nbytes %llu\n", LA_SCHEMA_MAJOR,
             digest, (unsigned long long)(file->size - LA_SEAL_BYTES));
    return LA_OK;
}

la_status la_posterior_seal_stream(FILE *stream, const char *path, la_error *err) {
    char block[LA_SEAL_BYTES];
    la_h5_file file;
    long size = fseek(stream, 0, SEEK_END) ? -1 : ftell(stream);
    la_h5_begin(&file, path, fileno(stream), NULL, size < 0 ? 0 : (uint64_t)size, LA_SEAL_BYTES,
                err);
    if (size < LA_SEAL_BYTES)
        return la_fail(err, LA_RESOURCE, "%s: cannot write: it is too short", path);
    LA_TRY(la_posterior_make_seal(&file, block));
    errno = 0;
    if (fseek(stream, 0, SEEK_SET) || fwrite(block, 1, sizeof block, stream) != sizeof block ||
        fflush(stream))
        return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    return LA_OK;
}

la_status la_posterior_check_seal(la_h5_file *file) {
    char block[LA_SEAL_BYTES + 1] = {0}, stored[LA_DIGEST_TEXT] = "", digest[LA_DIGEST_TEXT];
    unsigned long long expected = 0;
    int schema = 0;
    const char *path = file->path;
    la_error *err = file->err;
    if (file->size >= LA_SEAL_BYTES)
        LA_TRY(la_h5_bytes(file, 0, block, LA_SEAL_BYTES));
    if (sscanf(block, SEAL_MAGIC " %d", &schema) != 1)
        return la_fail(
            err, LA_BAD_INPUT,
            "%s: is no posterior of laplora (an HDF5 file of its own kind), or a truncated one",
            path);
    if (schema > LA_SCHEMA_MAJOR)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: schema %d is newer than the %d that this laplora reads; update it",
                       path, schema, LA_SCHEMA_MAJOR);
    if (sscanf(block, SEAL_MAGIC " %d\nxxh3-128 %32[0-9a-f]\nbytes %20llu", &schema, stored,
               &expected) != 3)
        return la_fail(err, LA_BAD_INPUT, "%s: incomplete: its checksum is missing; fit again",
                       path);
    if (file->size - LA_SEAL_BYTES != expected)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: incomplete: %llu bytes of data, expected %llu; truncated or damaged",
                       path, (unsigned long long)(file->size - LA_SEAL_BYTES), expected);
    LA_TRY(digest_rest(file, digest));
    if (strcmp(stored, digest))
        return la_fail(err, LA_BAD_INPUT, "%s: its checksum is wrong: the posterior is damaged",
                       path);
    return LA_OK;
}

int la_posterior_looks_like(const char *path) {
    char start[sizeof SEAL_MAGIC] = {0};
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode)) /* a pipe is read once only */
        return 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t got = fread(start, 1, sizeof start - 1, file);
    fclose(file);
    return got == sizeof start - 1 && !strcmp(start, SEAL_MAGIC);
}

la_status la_posterior_digest(const char *path, char digest[LA_DIGEST_TEXT], la_error *err) {
    FILE *file = fopen(path, "rb");
    int found = file ? fscanf(file, SEAL_MAGIC " %*d xxh3-128 %32[0-9a-f]", digest) : 0;
    if (file)
        fclose(file);
    return found == 1 ? LA_OK : la_fail(err, LA_BAD_INPUT, "%s: is no posterior", path);
}
