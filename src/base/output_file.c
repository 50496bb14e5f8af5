#include "base/output_file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder_of(const char *path, la_error *err) {
    char *copy = la_alloc(strlen(path) + 2, 1, err);
    if (!copy)
        return NULL;
    strcpy(copy, path);
    char *folder = dirname(copy);
    memmove(copy, folder, strlen(folder) + 1);
    return copy;
}

la_status la_output_check(const char *path, la_error *err) {
    if (!path || !strcmp(path, "-"))
        return LA_OK;
    struct stat info;
    if (!*path)
        return la_fail(err, LA_USAGE, "the output path is empty");
    if (!stat(path, &info) && S_ISDIR(info.st_mode))
        return la_fail(err, LA_RESOURCE, "%s: is a directory, expected a file to write", path);
    char *folder = folder_of(path, err);
    if (!folder)
        return err->status;
    la_status status = LA_OK;
    if (stat(folder, &info))
        status =
            la_fail(err, LA_RESOURCE, "%s: the folder %s: %s", path, folder, la_errno_text(errno));
    else if (!S_ISDIR(info.st_mode))
        status = la_fail(err, LA_RESOURCE, "%s: %s is not a folder", path, folder);
    else if (access(folder, W_OK))
        status = la_fail(err, LA_RESOURCE, "%s: the folder %s is not writable: %s", path, folder,
                         la_errno_text(errno));
    free(folder);
    return status;
}

la_status la_output_open(la_output_file *file, const char *path, int want_stream, la_error *err) {
    *file = (la_output_file){0};
    if (!path || !strcmp(path, "-")) {
        file->stream = stdout;
        return LA_OK;
    }
    LA_TRY(la_output_check(path, err));
    size_t length = strlen(path);
    file->path = la_alloc(length + 1, 1, err);
    file->temporary = la_alloc(length + 32, 1, err);
    if (!file->path || !file->temporary) {
        la_output_discard(file);
        return err->status;
    }
    strcpy(file->path, path);
    snprintf(file->temporary, length + 32, "%s.tmp.%ld", path, (long)getpid());
    if (want_stream) {
        file->stream = fopen(file->temporary, "wb");
        if (!file->stream) {
            la_fail(err, LA_RESOURCE, "%s: cannot write: %s", file->temporary,
                    la_errno_text(errno));
            la_output_discard(file);
            return err->status;
        }
    }
    return LA_OK;
}

static int sync_path(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd), code = errno;
    close(fd);
    errno = code;
    /* some file systems do not sync folders */
    return rc && (code == EINVAL || code == ENOTSUP) ? 0 : rc;
}

la_status la_output_commit(la_output_file *file, la_error *err) {
    if (!file->temporary) {
        if (file->stream && (fflush(file->stream) || ferror(file->stream)))
            return la_fail(err, LA_RESOURCE, "standard output: cannot write: %s",
                           la_errno_text(errno));
        return LA_OK;
    }
    int failed = 0, code = 0;
    if (file->stream) {
        failed = ferror(file->stream);
        code = errno;
        if (fflush(file->stream)) {
            failed = 1;
            code = errno;
        }
        if (fclose(file->stream)) {
            failed = 1;
            code = errno;
        }
        file->stream = NULL;
    }
    if (!failed && (sync_path(file->temporary, O_RDONLY) || rename(file->temporary, file->path))) {
        failed = 1;
        code = errno;
    }
    la_status status = LA_OK;
    if (failed) {
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", file->path, la_errno_text(code));
    } else {
        /* the file is in its place: a folder that cannot be synced is no failure any more */
        la_error ignored = {0};
        char *folder = folder_of(file->path, &ignored);
        if (folder)
            sync_path(folder, O_RDONLY | O_DIRECTORY);
        free(folder);
        free(file->temporary);
        file->temporary = NULL;
    }
    la_output_discard(file);
    return status;
}

void la_output_discard(la_output_file *file) {
    if (file->stream && file->temporary)
        fclose(file->stream);
    if (file->temporary)
        unlink(file->temporary);
    free(file->temporary);
    free(file->path);
    *file = (la_output_file){0};
}
