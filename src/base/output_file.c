#include "base/output_file.h"
#include "base/memory.h"
#include "base/model_files.h"
#include "base/stop.h"
#include "base/machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names of temporary files: ".OUTPUT.16 HEX DIGITS.laplora-tmp". */
#define SUFFIX ".laplora-tmp"
enum { STEM_MAX = 200, HEX = 16, TRIES = 100, SLOTS = 64 };

/* ---- names that a stop has to remove ---- */

static struct {
    _Atomic int state; /* 0: free, 1: being filled, 2: holds a name */
    int folder;
    char name[NAME_MAX + 1];
} named[SLOTS];

static void enlist(la_output_file *file) {
    file->slot = -1;
    for (int i = 0; i < SLOTS && file->slot < 0; i++) {
        int empty = 0;
        if (!atomic_compare_exchange_strong(&named[i].state, &empty, 1))
            continue;
        named[i].folder = file->folder;
        strcpy(named[i].name, file->name);
        atomic_store(&named[i].state, 2);
        file->slot = i;
    }
}

static void strike(la_output_file *file) {
    if (*file->name && file->slot >= 0)
        atomic_store(&named[file->slot].state, 0);
    file->slot = -1;
    *file->name = 0;
}

void la_output_abandon(void) {
    for (int i = 0; i < SLOTS; i++)
        if (atomic_load(&named[i].state) == 2)
            unlinkat(named[i].folder, named[i].name, 0);
}

/* ---- temporary files ---- */

/* The lock distinguishes a file in use from one that a crash left. It belongs to the open file,
 * not to the process, and the system drops it with the last descriptor. False where another
 * process holds it. */
static bool lock(int fd) {
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return !fcntl(fd, F_OFD_SETLK, &all);
}

void la_output_temporary_name(const char *target, char name[NAME_MAX + 1]) {
    unsigned long long number;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        number = (unsigned long long)(1e9 * la_seconds());
    snprintf(name, NAME_MAX + 1, ".%.*s.%0*llx" SUFFIX, STEM_MAX, target, HEX, number);
}

static bool is_temporary_of(const char *name, const char *target) {
    size_t stem = strnlen(target, STEM_MAX);
    if (*name != '.' || strncmp(name + 1, target, stem) || name[1 + stem] != '.')
        return false;
    name += stem + 2;
    return strspn(name, "0123456789abcdef") == HEX && !strcmp(name + HEX, SUFFIX);
}

/* Removes files that crashed runs left of this output: those of our own pattern and owner whose
 * lock is free. */
static void remove_stale(int folder, const char *target) {
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(list));) {
        struct stat info;
        if (!is_temporary_of(entry->d_name, target))
            continue;
        int left =
            openat(folder, entry->d_name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (left < 0)
            continue;
        if (!fstat(left, &info) && S_ISREG(info.st_mode) && info.st_uid == geteuid() && lock(left))
            unlinkat(folder, entry->d_name, 0);
        close(left);
    }
    closedir(list);
}

/* True when name still is the file opened: a run that cleans may have met it before it was
 * locked. */
static bool still_named(const la_output_file *file, int fd) {
    struct stat mine, there;
    return !fstat(fd, &mine) && !fstatat(file->folder, file->name, &there, AT_SYMLINK_NOFOLLOW) &&
           mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

/* File under an unpredictable name. */
static int make_named(la_output_file *file) {
    for (int i = 0; i < TRIES; i++) {
        la_output_temporary_name(file->target.name, file->name);
        int fd = openat(file->folder, file->name,
                        O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd < 0)
            break;
        enlist(file);
        lock(fd);
        if (still_named(file, fd))
            return fd;
        close(fd);
        strike(file);
    }
    *file->name = 0;
    return -1;
}

/* A file without a name, which a crash cannot leave behind; where the file system has none, or a
 * library needs a path to it, one with a name. */
static int make_temporary(la_output_file *file, int kind) {
    int fd = -1;
    if (kind == LA_OUTPUT_STREAM && !access("/proc/self/fd", X_OK)) {
        fd = openat(file->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EACCES || errno == EROFS))
            return -1;
    }
    if (fd < 0)
        return make_named(file);
    lock(fd);
    return fd;
}

/* A folder for what has to be whole before it goes through. */
static int open_scratch(void) {
    const char *folder = getenv("TMPDIR");
    return open(folder && *folder ? folder : P_tmpdir, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static la_status cannot_write(const la_output_file *file, int code, la_error *err) {
    LA_TRY(la_check_interrupt(err));
    return la_fail(err, LA_RESOURCE, "%s: cannot write: %s",
                   file->path ? file->path : "standard output", la_errno_text(code ? code : EIO));
}

la_status la_output_check(const char *path, la_error *err) {
    if (!path || !strcmp(path, "-"))
        return LA_OK;
    la_output_file file = {.path = (char *)(uintptr_t)path, .slot = -1};
    LA_TRY(la_target_find(path, &file.target, err));
    if (file.target.kind == LA_TARGET_FILE) {
        file.folder = file.target.folder;
        int fd = make_temporary(&file, LA_OUTPUT_STREAM);
        if (fd < 0)
            (void)cannot_write(&file, errno, err);
        else
            close(fd);
        if (*file.name)
            unlinkat(file.folder, file.name, 0);
        strike(&file);
    }
    la_target_close(&file.target);
    return err->status;
}

/* ---- outputs that are inputs ---- */

static bool is_same(const struct stat *a, const struct stat *b) {
    return S_ISREG(a->st_mode) && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool holds(const char *folder, const struct stat *file) {
    DIR *list = opendir(folder);
    bool found = false;
    for (struct dirent *entry; list && !found && (entry = readdir(list));) {
        struct stat info;
        found = la_model_file_of(entry->d_name) && !fstatat(dirfd(list), entry->d_name, &info, 0) &&
                is_same(&info, file);
    }
    if (list)
        closedir(list);
    return found;
}

la_status la_output_apart(const char *path, const char *what, const char *input, la_error *err) {
    struct stat out, in;
    bool plain = !path || !strcmp(path, "-");
    if (!input || (plain ? fstat(STDOUT_FILENO, &out) : stat(path, &out)) ||
        (strcmp(input, "-") ? stat(input, &in) : fstat(STDIN_FILENO, &in)))
        return LA_OK;
    if (!is_same(&out, &in) && !(S_ISDIR(in.st_mode) && holds(input, &out)))
        return LA_OK;
    return la_fail(err, LA_USAGE, "%s: would replace %s, which this run reads; name another file",
                   plain ? "standard output" : path, what);
}

/* ---- open, commit, discard ---- */

/* A stream to a temporary file, or straight through. */
static la_status open_stream(la_output_file *file, int kind, la_error *err) {
    bool whole = file->target.kind == LA_TARGET_FILE, seekable = kind == LA_OUTPUT_SEEKABLE;
    int fd = -1;
    file->folder = whole ? file->target.folder : seekable ? open_scratch() : -1;
    if (file->folder >= 0) {
        remove_stale(file->folder, file->target.name);
        fd = make_temporary(file, kind);
    } else if (!seekable) {
        fd = la_target_open(file->path, &file->target, err);
    }
    if (fd < 0)
        return err->status ? err->status : cannot_write(file, errno, err);
    file->stream = fdopen(fd, whole || seekable ? "w+b" : "wb");
    if (file->stream)
        return LA_OK;
    (void)cannot_write(file, errno, err);
    close(fd);
    return err->status;
}

static la_status open_at(la_output_file *file, int kind, la_error *err) {
    LA_TRY(la_target_find(file->path, &file->target, err));
    LA_TRY(open_stream(file, kind, err));
    if (kind == LA_OUTPUT_STREAM)
        return LA_OK;
    /* through the directory's descriptor, so that no other directory can be put in its place */
    size_t size = NAME_MAX + 64;
    file->temporary = la_alloc(size, 1, err);
    if (file->temporary)
        snprintf(file->temporary, size, "/proc/self/fd/%d/%s", file->folder, file->name);
    return err->status;
}

la_status la_output_open(la_output_file *file, const char *path, int kind, la_error *err) {
    *file = (la_output_file){.folder = -1, .slot = -1};
    if (!path || !strcmp(path, "-")) {
        file->stream = stdout;
        return LA_OK;
    }
    file->path = la_alloc(strlen(path) + 1, 1, err);
    if (!file->path)
        return err->status;
    strcpy(file->path, path);
    la_status status = open_at(file, kind, err);
    if (status != LA_OK)
        la_output_discard(file);
    return status;
}

/* The process's mask of modes; asking umask() would change it for other threads meanwhile. */
static mode_t mode_mask(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned mask = 077;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Umask: %o", &mask) == 1)
            break;
    if (file)
        fclose(file);
    return (mode_t)mask;
}

/* Mode, owner and group of the file that is replaced. A group that cannot be kept has no more
 * rights than others have: the new file's group is another one. */
static int dress(int fd, const la_target *target) {
    const struct stat *old = &target->info;
    struct stat mine;
    if (!target->exists)
        return fchmod(fd, 0666 & ~mode_mask());
    if (fstat(fd, &mine))
        return -1;
    mode_t mode = old->st_mode & 0777;
    bool owned = mine.st_uid == old->st_uid && mine.st_gid == old->st_gid;
    if (!owned && fchown(fd, old->st_uid, old->st_gid) && fchown(fd, (uid_t)-1, old->st_gid) &&
        mine.st_gid != old->st_gid)
        mode = (mode & ~(mode_t)070) | ((mode & 07) << 3);
    return fchmod(fd, mode);
}

/* Some file systems report a full disk or a lost server only when a descriptor is closed: a copy
 * of it is closed while the older file is still there. */
static int try_close(int fd) {
    int copy = dup(fd);
    return copy < 0 ? -1 : close(copy);
}

/* some file systems do not sync */
static int sync_fd(int fd) {
    return fsync(fd) && errno != EINVAL && errno != ENOTSUP ? -1 : 0;
}

/* Gives a nameless file a hidden name: no system call puts it in the place of another. */
static int give_name(la_output_file *file, int fd) {
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    for (int i = 0; i < TRIES; i++) {
        la_output_temporary_name(file->target.name, file->name);
        enlist(file);
        if (!linkat(AT_FDCWD, self, file->folder, file->name, AT_SYMLINK_FOLLOW))
            return 0;
        int code = errno;
        strike(file);
        errno = code;
        if (code != EEXIST)
            return -1;
    }
    return -1;
}

/* Returns 0, or -1 with errno set. */
static int put_in_place(la_output_file *file) {
    int fd = fileno(file->stream), folder = file->folder;
    if (dress(fd, &file->target) || sync_fd(fd) || try_close(fd))
        return -1;
    if (!*file->name && give_name(file, fd))
        return -1;
    if (renameat(folder, file->name, folder, file->target.name))
        return -1;
    strike(file);
    /* the file is in its place: a folder that cannot be synced is no failure any more */
    int readable = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (readable >= 0) {
        fsync(readable);
        close(readable);
    }
    return 0;
}

/* Copies a whole temporary file to where it goes. Returns 0, or -1 with errno set. */
static int copy_through(FILE *from, int to) {
    char buffer[1 << 16];
    int fd = fileno(from);
    off_t at = 0;
    for (ssize_t got; (got = pread(fd, buffer, sizeof buffer, at)) != 0; at += got) {
        if (got < 0)
            return -1;
        for (ssize_t done = 0, wrote; done < got; done += wrote) {
            wrote = write(to, buffer + done, (size_t)(got - done));
            if (wrote < 0 && (errno != EINTR || la_interrupted()))
                return -1;
            wrote = wrote < 0 ? 0 : wrote;
        }
    }
    return 0;
}

static la_status send_through(la_output_file *file, la_error *err) {
    int to = la_target_open(file->path, &file->target, err);
    if (to < 0)
        return err->status;
    int failed = copy_through(file->stream, to), code = errno;
    if (close(to) && !failed) {
        failed = -1;
        code = errno;
    }
    return failed ? cannot_write(file, code, err) : LA_OK;
}

la_status la_output_commit(la_output_file *file, la_error *err) {
    errno = 0;
    la_status status = LA_OK;
    /* a flush that fails says why, also where an earlier write failed */
    if (file->stream && (fflush(file->stream) || ferror(file->stream)))
        status = cannot_write(file, errno, err);
    else if (file->target.kind == LA_TARGET_FILE && put_in_place(file))
        status = cannot_write(file, errno, err);
    else if (file->target.kind > LA_TARGET_FILE && file->temporary)
        status = send_through(file, err);
    else if (file->target.kind > LA_TARGET_FILE) {
        FILE *stream = file->stream;
        file->stream = NULL;
        if (fclose(stream))
            status = cannot_write(file, errno, err);
    }
    la_output_discard(file);
    return status;
}

la_status la_output_finish(la_output_file *file, la_status status, la_error *err) {
    if (status == LA_OK)
        return la_output_commit(file, err);
    la_output_discard(file);
    return status;
}

void la_output_discard(la_output_file *file) {
    if (*file->name)
        unlinkat(file->folder, file->name, 0);
    if (file->stream && file->path)
        fclose(file->stream);
    strike(file);
    if (file->target.kind > LA_TARGET_FILE && file->folder >= 0)
        close(file->folder); /* scratch directory */
    la_target_close(&file->target);
    free(file->temporary);
    free(file->path);
    *file = (la_output_file){.folder = -1, .slot = -1};
}
