/* Memory for OpenBLAS, checked before it is loaded: it takes a buffer a thread of OpenMP then,
 * and tries forever where it gets none, as under `ulimit -v`. So this runs first: it tries the
 * memory, starts the program again with one such thread where memory is short for all, and ends
 * it where it is short for that. */
/* A sanitizer's own memory is not there yet at this point, and never fits under such a limit. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include "base/blas.h"

#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Beside the buffers, for what else the libraries take while they start. */
static const size_t OTHERS = (size_t)24 << 20;

static bool fits(size_t buffers) {
    size_t bytes = buffers * LA_BLAS_BUFFER + OTHERS;
    void *tried = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return tried != MAP_FAILED && !munmap(tried, bytes);
}

/* The C library has no environment of its own yet, so that a new one is passed on. Commands take
 * their threads from --threads and not from this variable. Returns where the restart fails. */
static void restart_alone(char **argv, char **environment) {
    enum { MOST = 4096 };
    static char alone[] = "OMP_NUM_THREADS=1";
    static char *changed[MOST];
    int n = 0;
    changed[n++] = alone;
    for (int i = 0; environment[i]; i++) {
        if (!strcmp(environment[i], alone) || n == MOST - 1)
            return;
        if (strncmp(environment[i], "OMP_NUM_THREADS=", 16))
            changed[n++] = environment[i];
    }
    execve("/proc/self/exe", argv, changed);
}

static void check_address_space(int argc, char **argv, char **environment) {
    static const char message[] = "laplora: error: out of memory: OpenBLAS needs 152 MiB of "
                                  "address space to start; raise the "
                                  "limit (ulimit -v): 1 GiB is enough for small models\n";
    cpu_set_t set;
    size_t threads = sched_getaffinity(0, sizeof set, &set) ? 64 : (size_t)CPU_COUNT(&set);
    (void)argc;
    if (fits(threads))
        return;
    if (fits(1)) {
        restart_alone(argv, environment);
        return;
    }
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(LA_RESOURCE);
}

__attribute__((section(".preinit_array"),
               used)) static void (*const before_libraries)(int, char **,
                                                            char **) = check_address_space;

#else
/* a file holds something */
typedef int la_no_check_of_address_space;
#endif
