/* What must be known before the libraries start. OpenBLAS takes a buffer a thread of OpenMP while it
 * is loaded, and tries forever where it gets none, as under `ulimit -v`. So this runs before it: it
 * tries the memory, asks for one buffer alone where there isn't enough for all, and ends the program
 * where there isn't enough for that. */
#include "base/blas.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Beside the buffers, for what else the libraries take while they start. */
static const size_t OTHERS = (size_t)24 << 20;

static bool has_room(size_t buffers) {
    size_t bytes = buffers * LA_BLAS_BUFFER + OTHERS;
    void *tried = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return tried != MAP_FAILED && !munmap(tried, bytes);
}

static void check_address_space(void) {
    static const char message[] =
        "laplora: error: not enough memory to start: OpenBLAS needs 152 MiB of address space; "
        "raise the limit (ulimit -v), 1 GiB is enough for small models\n";
    cpu_set_t set;
    size_t threads = sched_getaffinity(0, sizeof set, &set) ? 64 : (size_t)CPU_COUNT(&set);
    if (has_room(threads + 1))
        return;
    /* a count that nothing else here reads: a command takes its threads from --threads */
    if (!setenv("OMP_NUM_THREADS", "1", 1) && has_room(1))
        return;
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(LA_RESOURCE);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(void) =
    check_address_space;
