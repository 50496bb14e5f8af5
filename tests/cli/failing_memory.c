/* Loaded before the program by its test: from main on, the allocation of number LAPLORA_FAIL_AT
 * fails, and with LAPLORA_FAIL_ON=1 every one after it too, as when memory has run out. How many
 * there were goes to the file LAPLORA_FAIL_COUNT. What the OpenMP runtime, HDF5 and OpenBLAS ask
 * for themselves is not counted: the first ends the program, HDF5 crashes, and so do OpenBLAS's
 * products of small matrices on some processors. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The allocator's own names for what is taken over here. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
int __libc_start_main(int (*start)(int, char **, char **), int argc, char **argv,
                      void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                      void *stack_end);

static atomic_bool counting;
static atomic_long calls;
static long fail_at;
static bool fail_on;
static struct { uintptr_t begin, end; } exempt[8];
static int n_exempt;
static int (*own_main)(int, char **, char **);

static bool fails(void *caller) {
    if (!atomic_load(&counting))
        return false;
    for (int i = 0; i < n_exempt; i++)
        if ((uintptr_t)caller >= exempt[i].begin && (uintptr_t)caller < exempt[i].end)
            return false;
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (!fail_at || (fail_on ? number < fail_at : number != fail_at))
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

char *strdup(const char *text) {
    size_t bytes = strlen(text) + 1;
    char *copy = fails(__builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

void *aligned_alloc(size_t alignment, size_t size) {
    return fails(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    if (fails(__builtin_return_address(0)))
        return ENOMEM;
    *memory = __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    static void *(*own)(void *, size_t, int, int, int, off_t);
    if (!own) {
        void *found = dlsym(RTLD_NEXT, "mmap");
        memcpy(&own, &found, sizeof own);
    }
    return fails(__builtin_return_address(0)) ? MAP_FAILED
                                              : own(address, length, protection, flags, fd, offset);
}

static int exempt_runtime(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    if ((strstr(info->dlpi_name, "libgomp") || strstr(info->dlpi_name, "libhdf5") ||
         strstr(info->dlpi_name, "libopenblas")) &&
        n_exempt < 8) {
        uintptr_t end = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; i++) {
            uintptr_t last =
                info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
            if (info->dlpi_phdr[i].p_type == PT_LOAD && last > end)
                end = last;
        }
        exempt[n_exempt].begin = info->dlpi_addr;
        exempt[n_exempt++].end = end;
    }
    return 0;
}

static void report(void) {
    const char *path = getenv("LAPLORA_FAIL_COUNT");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;
    char text[32];
    if (fd < 0)
        return;
    int length = snprintf(text, sizeof text, "%ld\n", atomic_load(&calls));
    if (write(fd, text, (size_t)length) != length)
        abort();
    close(fd);
}

static int counted_main(int argc, char **argv, char **environment) {
    const char *at = getenv("LAPLORA_FAIL_AT"), *on = getenv("LAPLORA_FAIL_ON");
    fail_at = at ? atol(at) : 0;
    fail_on = on && *on == '1';
    dl_iterate_phdr(exempt_runtime, NULL);
    atomic_store(&counting, true);
    int code = own_main(argc, argv, environment);
    atomic_store(&counting, false);
    report();
    return code;
}

int __libc_start_main(int (*start)(int, char **, char **), int argc, char **argv,
                      void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                      void *stack_end) {
    __typeof__(&__libc_start_main) own;
    void *found = dlsym(RTLD_NEXT, "__libc_start_main");
    memcpy(&own, &found, sizeof own);
    own_main = start;
    return own(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}
