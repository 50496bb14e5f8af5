#include "base/target.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

/* the kernel's own limit */
enum { LINKS_MAX = 40 };

static la_status refused(la_error *err, const char *path, int code) {
    return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(code));
}

/* Splits where into its folder, opened, and its last name. */
static la_status enter(const char *path, const char *where, la_target *target, la_error *err) {
    char folder[PATH_MAX];
    const char *slash = strrchr(where, '/'), *name = slash ? slash + 1 : where;
    size_t length = slash ? (size_t)(slash - where) : 0;
    int from = target->kind == LA_TARGET_NONE ? AT_FDCWD : target->folder;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) {
        struct stat info;
        if (!fstatat(from, where, &info, 0))
            return la_fail(err, LA_RESOURCE, "%s: is a directory, expected a file to write", path);
        return la_fail(err, LA_RESOURCE,
                       "%s: names a folder by its end (\"/%s\"), and there is none: %s; expected a "
                       "file to write",
                       path, name, la_errno_text(errno));
    }
    if (length >= sizeof folder || strlen(name) > NAME_MAX)
        return refused(err, path, ENAMETOOLONG);
    memcpy(folder, where, length);
    strcpy(folder + length, !slash ? "." : length ? "" : "/");
    strcpy(target->name, name);
    int opened = openat(from, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int code = errno;
    la_target_close(target);
    if (opened < 0 && code == ENOTDIR)
        return la_fail(err, LA_RESOURCE, "%s: %s is not a folder", path, folder);
    if (opened < 0)
        return la_fail(err, LA_RESOURCE, "%s: the folder %s: %s", path, folder,
                       la_errno_text(code));
    target->kind = LA_TARGET_FILE;
    target->folder = opened;
    return LA_OK;
}

static bool on_proc(int fd) {
    struct statfs info;
    return !fstatfs(fd, &info) && info.f_type == PROC_SUPER_MAGIC;
}

/* True when the directory lists the descriptors of this process. */
static bool lists_own(int folder) {
    static const char *const names[] = {"/proc/self/fd", "/proc/thread-self/fd"};
    struct stat here, there;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!fstat(folder, &here) && !stat(names[i], &there) && here.st_dev == there.st_dev &&
            here.st_ino == there.st_ino)
            return true;
    return false;
}

/* A link in a folder that anybody writes to, laid there by somebody else, may lead anywhere: the
 * kernel's rule for such links (fs.protected_symlinks), which reading them by hand would evade. */
static bool is_planted(const la_target *target, const struct stat *link) {
    struct stat folder;
    return !fstat(target->folder, &folder) && (folder.st_mode & S_ISVTX) &&
           (folder.st_mode & S_IWOTH) && link->st_uid != geteuid() && link->st_uid != folder.st_uid;
}

static la_status check_own(const char *path, la_target *target, la_error *err) {
    char *end;
    long number = strtol(target->name, &end, 10);
    int flags = *end || number < 0 || number > INT_MAX ? -1 : fcntl((int)number, F_GETFL);
    if (flags < 0)
        return la_fail(err, LA_RESOURCE, "%s: is not open", path);
    if ((flags & O_ACCMODE) == O_RDONLY)
        return la_fail(err, LA_RESOURCE, "%s: is open for reading alone", path);
    target->kind = LA_TARGET_OWN;
    target->own = (int)number;
    return LA_OK;
}

/* Checks, before a long run, that its last step will succeed. */
static la_status check_replaceable(const char *path, const la_target *target, la_error *err) {
    struct stat folder;
    struct statx more = {0};
    if (faccessat(target->folder, ".", W_OK | X_OK, AT_EACCESS))
        return la_fail(err, LA_RESOURCE,
                       "%s: its folder is not writable: %s; an output is made beside its place and "
                       "then moved there, whole",
                       path, la_errno_text(errno));
    if (!target->exists)
        return LA_OK;
    if (faccessat(target->folder, target->name, W_OK, AT_EACCESS))
        return refused(err, path, errno);
    if (!fstat(target->folder, &folder) && (folder.st_mode & S_ISVTX) && geteuid() &&
        folder.st_uid != geteuid() && target->info.st_uid != geteuid())
        return la_fail(err, LA_RESOURCE,
                       "%s: belongs to somebody else, in a folder where only owners replace files",
                       path);
    if (!statx(target->folder, target->name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &more) &&
        (more.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return la_fail(err, LA_RESOURCE,
                       "%s: is mounted by itself and cannot be replaced; mount its folder", path);
    return LA_OK;
}

/* A link's text, read from the folder that holds it. */
static la_status read_link(const char *path, const la_target *target, char *where, la_error *err) {
    ssize_t length = readlinkat(target->folder, target->name, where, PATH_MAX);
    if (length < 0 || length >= PATH_MAX)
        return refused(err, path, length < 0 ? errno : ENAMETOOLONG);
    where[length] = 0;
    return LA_OK;
}

static la_status find(const char *path, la_target *target, la_error *err) {
    char where[PATH_MAX];
    if (!*path)
        return la_fail(err, LA_USAGE, "the output path is empty");
    if (strlen(path) >= sizeof where)
        return refused(err, path, ENAMETOOLONG);
    strcpy(where, path);
    for (int links = 0; links <= LINKS_MAX; links++) {
        struct stat *info = &target->info;
        LA_TRY(enter(path, where, target, err));
        bool proc = on_proc(target->folder);
        if (proc && lists_own(target->folder))
            return check_own(path, target, err);
        target->exists = !fstatat(target->folder, target->name, info, AT_SYMLINK_NOFOLLOW);
        if (!target->exists && errno != ENOENT)
            return refused(err, path, errno);
        bool link = target->exists && S_ISLNK(info->st_mode);
        if (link && !proc) {
            if (is_planted(target, info))
                return la_fail(err, LA_RESOURCE,
                               "%s: leads over a link of somebody else in a folder open to all; "
                               "remove it or name another file",
                               path);
            LA_TRY(read_link(path, target, where, err));
            continue;
        }
        if (link && fstatat(target->folder, target->name, info, 0))
            return refused(err, path, errno);
        if (target->exists && S_ISDIR(info->st_mode))
            return la_fail(err, LA_RESOURCE, "%s: is a directory, expected a file to write", path);
        if (target->exists && S_ISSOCK(info->st_mode) && !link)
            target->kind = LA_TARGET_SOCKET;
        else if (target->exists && (link || !S_ISREG(info->st_mode)))
            target->kind = LA_TARGET_THROUGH;
        if (target->kind == LA_TARGET_FILE)
            return check_replaceable(path, target, err);
        return faccessat(target->folder, target->name, W_OK, AT_EACCESS) ? refused(err, path, errno)
                                                                         : LA_OK;
    }
    return refused(err, path, ELOOP);
}

la_status la_target_find(const char *path, la_target *target, la_error *err) {
    *target = (la_target){0};
    la_status status = find(path, target, err);
    if (status != LA_OK)
        la_target_close(target);
    return status;
}

/* The address of a socket holds some hundred bytes: its directory is named by number. */
static int connect_to(const char *path, const la_target *target, la_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s",
                          target->folder, target->name);
    if (length >= (int)sizeof address.sun_path) {
        (void)refused(err, path, ENAMETOOLONG);
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !connect(fd, (const struct sockaddr *)&address, sizeof address))
        return fd;
    (void)la_fail(err, LA_RESOURCE, "%s: is a socket, and cannot be connected to: %s", path,
                  la_errno_text(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

int la_target_open(const char *path, const la_target *target, la_error *err) {
    if (target->kind == LA_TARGET_SOCKET)
        return connect_to(path, target, err);
    int flags = O_WRONLY | O_NOCTTY | O_CLOEXEC;
    if (S_ISBLK(target->info.st_mode))
        flags |= O_EXCL; /* not a disk in use */
    if (S_ISREG(target->info.st_mode))
        flags |= O_APPEND; /* another process's file, behind what that wrote */
    int fd = target->kind == LA_TARGET_OWN ? fcntl(target->own, F_DUPFD_CLOEXEC, 0)
                                           : openat(target->folder, target->name, flags);
    if (fd < 0)
        (void)refused(err, path, errno);
    return fd;
}

void la_target_close(la_target *target) {
    if (target->kind != LA_TARGET_NONE)
        close(target->folder);
    target->kind = LA_TARGET_NONE;
}
