#include "pipeline/checkpoint_file.h"
#include "base/digest.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/output_file.h"
#include "base/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Bytes between two looks at the clock. */
enum { PIECE = 8 << 20 };
/* Of a signal handler; where nothing has been written yet, that is worth a later end. */
#define HANDLER_SECONDS 0.5
#define FIRST_SECONDS 5

/* ---- names ---- */

la_status la_generations_open(la_generations *files, const char *path, la_error *err) {
    la_output_file probe;
    LA_TRY(la_target_find(path, &files->target, err));
    if (files->target.kind != LA_TARGET_FILE)
        return la_fail(err, LA_USAGE, "--checkpoint %s: is no regular file, expected one", path);
    if (strlen(files->target.name) + sizeof LA_OLDER > NAME_MAX)
        return la_fail(err, LA_USAGE, "--checkpoint %s: the name is too long to be kept twice",
                       path);
    strcpy(files->older, files->target.name);
    strcat(files->older, LA_OLDER);
    for (int i = 0; i < 2; i++)
        la_output_temporary_name(files->target.name, files->temporary[i]);
    files->nameless = !access("/proc/self/fd", X_OK);
    LA_TRY(la_output_open(&probe, path, LA_OUTPUT_STREAM, err));
    la_output_discard(&probe);
    return LA_OK;
}

void la_generations_close(la_generations *files) {
    la_target_close(&files->target);
}

static const char *name_of(const la_generations *files, int generation) {
    return generation ? files->older : files->target.name;
}

la_status la_generations_apart(const la_generations *files, const char *path, const char *out,
                               la_error *err) {
    la_target target = {0};
    struct stat here, there;
    LA_TRY(la_target_find(out, &target, err));
    bool same = target.kind == LA_TARGET_FILE && !fstat(files->target.folder, &here) &&
                !fstat(target.folder, &there) && here.st_dev == there.st_dev &&
                here.st_ino == there.st_ino;
    for (int g = 0; same && g < LA_GENERATIONS; g++)
        if (!strcmp(target.name, name_of(files, g)))
            (void)la_fail(err, LA_USAGE,
                          "--checkpoint %s: is --out too, or its older generation " LA_OLDER
                          " is; name another file",
                          path);
    la_target_close(&target);
    return err->status;
}

/* ---- reading ---- */

static int open_generation(const la_generations *files, int generation) {
    return openat(files->target.folder, name_of(files, generation),
                  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Number of bytes read; less at the end of the file or after an error. */
static size_t read_all(int fd, char *to, size_t length) {
    size_t done = 0;
    while (done < length && !la_interrupted()) {
        ssize_t got = read(fd, to + done, length - done < PIECE ? length - done : PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    return done;
}

/* An empty file, or one of zeros, is what a crash leaves of bytes that never reached the disk; a
 * file of another kind may begin with zeros, too. */
static bool is_foreign(int fd, const char *begin, size_t length) {
    char piece[1 << 16];
    if (length == LA_IMAGE_MAGIC && !memcmp(begin, la_image_magic, LA_IMAGE_MAGIC))
        return false;
    memcpy(piece, begin, length);
    for (; length; length = read_all(fd, piece, sizeof piece))
        for (size_t i = 0; i < length; i++)
            if (piece[i])
                return true;
    return false;
}

la_status la_generations_look(const la_generations *files, const char *path,
                              bool ours[LA_GENERATIONS], la_error *err) {
    for (int g = 0; g < LA_GENERATIONS; g++) {
        char begin[LA_IMAGE_MAGIC];
        int fd = open_generation(files, g);
        ours[g] = false;
        if (fd < 0 && errno == ENOENT)
            continue;
        size_t length = fd < 0 ? 0 : read_all(fd, begin, sizeof begin);
        bool foreign = fd < 0 || is_foreign(fd, begin, length);
        ours[g] = length && !foreign;
        if (fd >= 0)
            close(fd);
        if (foreign)
            return la_fail(err, LA_USAGE,
                           "--checkpoint %s%s: is no checkpoint, and would be replaced; name "
                           "another file, or remove it",
                           path, g ? LA_OLDER : "");
    }
    return LA_OK;
}

/* The image of an open file. */
static la_status read_image(int fd, size_t length, la_sums_image *image, const char **wrong,
                            la_error *err) {
    uint64_t digest;
    size_t available, total;
    la_memory_available(&available, &total);
    if (length > available)
        return la_fail(err, LA_RESOURCE, "has %.0f MiB, but %.0f MiB of memory are free",
                       la_mib((double)length), la_mib((double)available));
    image->bytes = la_alloc(length, 1, err);
    LA_TRY(err->status);
    image->capacity = length;
    image->used = length - sizeof digest;
    size_t got = read_all(fd, image->bytes, length);
    LA_TRY(la_check_interrupt(err));
    if (got < length)
        return la_fail(err, LA_RESOURCE, "cannot be read");
    memcpy(&digest, image->bytes + image->used, sizeof digest);
    *wrong = la_image_check(image);
    if (!*wrong && digest != la_hash64(image->bytes, image->used))
        *wrong = "its bytes do not have its digest";
    /* the digest's place is another section's */
    memset(image->bytes + image->used, 0, sizeof digest);
    return LA_OK;
}

la_status la_generations_read(const la_generations *files, const char *path, int generation,
                              la_sums_image *image, bool *there, const char **wrong,
                              la_error *err) {
    struct stat info;
    int fd = open_generation(files, generation);
    *wrong = NULL;
    *there = fd >= 0 || errno != ENOENT;
    if (fd < 0 && !*there)
        return LA_OK;
    if (fd < 0)
        return la_fail(err, la_errno_status(errno), "%s%s: cannot read: %s", path,
                       generation ? LA_OLDER : "", la_errno_text(errno));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode))
        *wrong = "is no regular file";
    else if ((size_t)info.st_size < sizeof(la_image_header) + sizeof(uint64_t))
        *wrong = "is shorter than a checkpoint";
    else if (read_image(fd, (size_t)info.st_size, image, wrong, err) != LA_OK)
        (void)la_error_prefix(err, "%s%s: ", path, generation ? LA_OLDER : "");
    close(fd);
    if (*wrong || err->status != LA_OK)
        la_image_free(image);
    return err->status;
}

/* ---- writing: in signal handlers too ---- */

/* Bytes go to the disk as they are written: no call then takes long, and a signal is heard. */
static int send(int fd, const char *bytes, size_t length, off_t at, bool synced, double until) {
    for (size_t done = 0; done < length;) {
        size_t piece = length - done < PIECE ? length - done : PIECE;
        ssize_t wrote = pwrite(fd, bytes + done, piece, at + (off_t)done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return wrote ? errno : EIO;
        if (synced && !la_interrupted())
            (void)sync_file_range(fd, at + (off_t)done, wrote,
                                  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                      SYNC_FILE_RANGE_WAIT_AFTER);
        done += (size_t)wrote;
        if (!synced && la_seconds() > until)
            return ETIME;
    }
    return 0;
}

/* "/proc/self/fd/N" */
static void descriptor_path(int fd, char path[32]) {
    char digits[12];
    int n = 0;
    strcpy(path, "/proc/self/fd/");
    do
        digits[n++] = (char)('0' + fd % 10);
    while (fd /= 10);
    char *to = path + strlen(path);
    while (n)
        *to++ = digits[--n];
    *to = 0;
}

/* On a disk that writes when a file is closed, its errors show here. */
static int settle(int fd, bool synced) {
    int failed = 0;
    if (synced && !la_interrupted())
        failed = fsync(fd) && errno != EINVAL && errno != ENOTSUP;
    int copied = failed ? -1 : dup(fd);
    return copied < 0 || close(copied) ? errno : 0;
}

/* The newest gets its second name, so that it is never without one; where a file cannot have two it
 * gives up the first. */
static int make_older(const la_generations *files) {
    int folder = files->target.folder;
    unlinkat(folder, files->older, 0);
    if (!linkat(folder, files->target.name, folder, files->older, 0) || errno == ENOENT)
        return 0;
    return renameat(folder, files->target.name, folder, files->older);
}

static int put_in_place(const la_generations *files, int fd, const char *temporary, bool named,
                        bool synced) {
    char self[32];
    int folder = files->target.folder;
    descriptor_path(fd, self);
    if (!named && linkat(AT_FDCWD, self, folder, temporary, AT_SYMLINK_FOLLOW))
        return errno;
    if (make_older(files) || renameat(folder, temporary, folder, files->target.name))
        return errno;
    int readable = synced ? openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (readable >= 0) {
        (void)fsync(readable);
        close(readable);
    }
    return 0;
}

int la_generations_write(la_generations *files, const char *bytes, size_t length, bool synced) {
    uint64_t digest = la_hash64(bytes, length);
    const char *temporary = files->temporary[!synced];
    int folder = files->target.folder, fd = -1;
    bool first = faccessat(folder, files->target.name, F_OK, 0) != 0;
    double until = la_seconds() + (first ? FIRST_SECONDS : HANDLER_SECONDS);
    if (files->nameless)
        fd = openat(folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    bool named = fd < 0;
    if (named)
        fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    int code = send(fd, bytes, length, 0, synced, until);
    if (!code)
        code = send(fd, (const char *)&digest, sizeof digest, (off_t)length, synced, until);
    if (!code)
        code = settle(fd, synced);
    if (!code)
        code = put_in_place(files, fd, temporary, named, synced);
    if (code)
        unlinkat(folder, temporary, 0);
    close(fd);
    return code;
}

void la_generations_remove(const la_generations *files) {
    for (int g = 0; g < LA_GENERATIONS; g++)
        unlinkat(files->target.folder, name_of(files, g), 0);
}
