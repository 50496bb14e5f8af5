/* A posterior as predict and info load it: a file on disk, digest and all. */
#include "fuzz/mutate.h"
#include "output/posterior_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int fd = -1;
    static char path[64];
    la_posterior p;
    la_error err = {0};
    if (fd < 0) {
        fd = memfd_create("posterior", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, (off_t)size) || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    la_status status = la_posterior_load(path, &p, &err);
    check_outcome(status, &p, err.message, path);
    return 0;
}
