/* Loaded before a program: OpenBLAS as it is on a processor that it does not know. Its oldest
 * kernels are in place when main begins, and no variable names them. With LA_HIDE_SWITCH set the
 * calls that switch them are hidden too, as a build may have it. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

void gotoblas_dynamic_quit(void);
void gotoblas_dynamic_init(void);

__attribute__((constructor)) static void forget(void) {
    if (getenv("OPENBLAS_CORETYPE"))
        return;
    setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    unsetenv("OPENBLAS_CORETYPE");
}

/* In front of the C library's, which has it under one of these versions. */
void *dlsym(void *handle, const char *name) {
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.0"};
    void *address = NULL;
    void *(*real)(void *, const char *);
    for (size_t i = 0; !address && i < sizeof versions / sizeof *versions; i++)
        address = dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    if (!address || (getenv("LA_HIDE_SWITCH") && !strncmp(name, "gotoblas_dynamic_", 17)))
        return NULL;
    memcpy(&real, &address, sizeof real);
    return real(handle, name);
}
