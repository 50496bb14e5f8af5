#include "output/seal.h"
#include "base/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of the magic at most. */
enum { MAGIC_MOST = 64 };

/* What else laplora writes that begins like this, by the first line. */
static const struct {
    const char *magic, *what;
} others[] = {
    {"laplora posterior", "a posterior"},
    {"laplora part", "a part of one, of laplora fit --shard; laplora merge makes a posterior of "
                     "all its parts"},
    {"laplora sums", "the checkpoint of an unfinished fit, which goes on with --resume added to "
                     "its command line"},
};

static la_status refuse(const la_seal *seal, const char *path, const char *block, la_error *err) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strncmp(block, others[i].magic, strlen(others[i].magic)))
            return la_fail(err, LA_BAD_INPUT, "%s: is no %s but %s", path, seal->title,
                           others[i].what);
    return la_fail(err, LA_BAD_INPUT,
                   "%s: is no %s of laplora (an HDF5 file of its own kind), or a truncated one",
                   path, seal->title);
}

/* Digest of everything behind the block. */
static la_status digest_rest(la_h5_file *file, bool unstopped, char digest[LA_DIGEST_TEXT]) {
    char buffer[1 << 16];
    la_digest *sum = la_digest_new(file->err);
    la_status status = LA_OK;
    if (!sum)
        return file->err->status;
    for (uint64_t at = LA_SEAL_BYTES; at < file->size && status == LA_OK;) {
        size_t piece = file->size - at < sizeof buffer ? (size_t)(file->size - at) : sizeof buffer;
        status = unstopped ? LA_OK : la_check_interrupt(file->err);
        if (status == LA_OK)
            status = la_h5_bytes(file, at, buffer, piece);
        if (status == LA_OK)
            la_digest_add(sum, buffer, piece);
        at += piece;
    }
    la_digest_finish(sum, digest);
    return status;
}

static la_status make(const la_seal *seal, la_h5_file *file, bool unstopped,
                      char block[LA_SEAL_BYTES]) {
    char digest[LA_DIGEST_TEXT];
    LA_TRY(digest_rest(file, unstopped, digest));
    memset(block, 0, LA_SEAL_BYTES);
    snprintf(block, LA_SEAL_BYTES, "%s %d\nxxh3-128 %s\nbytes %llu\n", seal->magic, seal->schema,
             digest, (unsigned long long)(file->size - LA_SEAL_BYTES));
    return LA_OK;
}

la_status la_seal_make(const la_seal *seal, la_h5_file *file, char block[LA_SEAL_BYTES]) {
    return make(seal, file, false, block);
}

la_status la_seal_stream(const la_seal *seal, FILE *stream, const char *path, bool unstopped,
                         la_error *err) {
    char block[LA_SEAL_BYTES];
    la_h5_file file;
    long size = fseek(stream, 0, SEEK_END) ? -1 : ftell(stream);
    la_h5_begin(&file, path, fileno(stream), NULL, size < 0 ? 0 : (uint64_t)size, LA_SEAL_BYTES,
                err);
    if (size < LA_SEAL_BYTES)
        return la_fail(err, LA_RESOURCE, "%s: cannot write: it is too short", path);
    LA_TRY(make(seal, &file, unstopped, block));
    errno = 0;
    if (fseek(stream, 0, SEEK_SET) || fwrite(block, 1, sizeof block, stream) != sizeof block ||
        fflush(stream))
        return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    return LA_OK;
}

la_status la_seal_check(const la_seal *seal, la_h5_file *file) {
    char block[LA_SEAL_BYTES + 1] = {0}, stored[LA_DIGEST_TEXT] = "", digest[LA_DIGEST_TEXT];
    unsigned long long expected = 0;
    int schema = 0;
    size_t length = strlen(seal->magic);
    const char *path = file->path, *rest = block + length;
    la_error *err = file->err;
    if (file->size >= LA_SEAL_BYTES)
        LA_TRY(la_h5_bytes(file, 0, block, LA_SEAL_BYTES));
    if (strncmp(block, seal->magic, length))
        return refuse(seal, path, block, err);
    if (sscanf(rest, " %9d", &schema) != 1)
        return refuse(seal, path, "", err);
    if (schema > seal->schema)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: schema %d is newer than the %d that this laplora reads; update it",
                       path, schema, seal->schema);
    if (sscanf(rest, " %9d\nxxh3-128 %32[0-9a-f]\nbytes %20llu", &schema, stored, &expected) != 3)
        return la_fail(err, LA_BAD_INPUT, "%s: incomplete: its checksum is missing; %s", path,
                       seal->again);
    if (file->size - LA_SEAL_BYTES != expected)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: incomplete: %llu bytes of data, expected %llu; truncated or damaged",
                       path, (unsigned long long)(file->size - LA_SEAL_BYTES), expected);
    LA_TRY(digest_rest(file, false, digest));
    if (strcmp(stored, digest))
        return la_fail(err, LA_BAD_INPUT, "%s: its checksum is wrong: the %s is damaged", path,
                       seal->title);
    return LA_OK;
}

bool la_seal_is_at(const la_seal *seal, const char *path) {
    char start[MAGIC_MOST] = {0};
    size_t length = strlen(seal->magic);
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode)) /* a pipe is read once only */
        return false;
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    size_t got = fread(start, 1, length, file);
    fclose(file);
    return got == length && !memcmp(start, seal->magic, length);
}

la_status la_seal_open(const la_seal *seal, const char *path, int *fd, uint64_t *size,
                       la_error *err) {
    struct stat info;
    /* no waiting for a FIFO before it is known to be no file */
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return la_fail(err, la_errno_status(errno), "%s: cannot read: %s", path,
                       la_errno_text(errno));
    if (fstat(*fd, &info))
        (void)la_fail(err, la_errno_status(errno), "%s: cannot read: %s", path,
                      la_errno_text(errno));
    else if (!S_ISREG(info.st_mode))
        (void)la_fail(err, LA_BAD_INPUT, "%s: is no file, expected a %s", path, seal->title);
    else
        *size = (uint64_t)info.st_size;
    if (err->status != LA_OK)
        close(*fd);
    return err->status;
}
