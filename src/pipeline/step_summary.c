#include "pipeline/step_summary.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char note[] =
    "\n\nThe rest is left out: GitHub takes at most 1 MiB for the summary of a step.\n";

la_status la_step_summary_path(const char **path, la_error *err) {
    *path = getenv("GITHUB_STEP_SUMMARY");
    if (*path && **path)
        return LA_OK;
    return la_fail(err, LA_USAGE,
                   "--summary github: GITHUB_STEP_SUMMARY is not set; GitHub sets it in the steps "
                   "of a job, elsewhere give --write markdown=FILE");
}

/* Bytes of text that fit in `most`, whole lines of them. */
static size_t cut(const char *text, size_t most) {
    while (most && text[most - 1] != '\n')
        most--;
    return most;
}

static la_status write_all(int file, const char *path, const char *text, size_t length,
                           la_error *err) {
    while (length) {
        ssize_t took = write(file, text, length);
        if (took < 0 && errno == EINTR)
            continue;
        if (took < 0)
            return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
        text += took;
        length -= (size_t)took;
    }
    return LA_OK;
}

la_status la_step_summary_append(const char *path, const char *text, size_t length, la_error *err) {
    struct stat info;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0 || fstat(file, &info)) {
        (void)la_fail(err, LA_RESOURCE, "%s: cannot be opened: %s; --summary appends to it", path,
                      la_errno_text(errno));
        if (file >= 0)
            close(file);
        return err->status;
    }
    size_t before = S_ISREG(info.st_mode) ? (size_t)info.st_size : 0, own = length;
    size_t space = before < LA_STEP_SUMMARY_MOST ? LA_STEP_SUMMARY_MOST - before : 0;
    bool whole = length <= space;
    if (!whole)
        own = space > strlen(note) ? cut(text, space - strlen(note)) : 0;
    la_status status = write_all(file, path, text, own, err);
    if (status == LA_OK && !whole && space >= strlen(note))
        status = write_all(file, path, note, strlen(note), err);
    if (status != LA_OK && S_ISREG(info.st_mode) && ftruncate(file, info.st_size))
        (void)la_fail(err, LA_RESOURCE, "%s: cannot be cut back to what it held: %s", path,
                      la_errno_text(errno));
    if (close(file) && status == LA_OK)
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    return status;
}
