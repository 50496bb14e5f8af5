#include "backend/cuda_plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "liblaplora_cuda.so"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const la_cuda_plugin *loaded;
static la_error failure;

/* LIBRARY beside the program, or in ../lib/laplora of it; false when it is in neither place. */
static bool find_library(char path[PATH_MAX]) {
    static const char *const places[] = {"%s/" LIBRARY, "%s/../lib/laplora/" LIBRARY};
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return false;
    program[length] = 0;
    *strrchr(program, '/') = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        int n = snprintf(path, PATH_MAX, places[i], program);
#pragma GCC diagnostic pop
        if (n > 0 && n < PATH_MAX && !access(path, F_OK))
            return true;
    }
    return false;
}

static void load(void) {
    char path[PATH_MAX];
    const char *given = getenv("LAPLORA_CUDA");
    if (given && !strcmp(given, "none")) {
        (void)la_fail(&failure, LA_UNSUPPORTED, "CUDA is turned off (LAPLORA_CUDA is \"none\")");
        return;
    }
    if (given && *given) {
        snprintf(path, sizeof path, "%s", given);
    } else if (!find_library(path)) {
        (void)la_fail(&failure, LA_UNSUPPORTED, "this laplora was built without CUDA");
        return;
    } else {
        /* CUDA's libraries are large: without a driver there is no need to load them */
        void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
        if (!driver) {
            (void)la_fail(&failure, LA_RESOURCE, "no NVIDIA driver on this machine (libcuda.so.1)");
            return;
        }
        dlclose(driver);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const la_cuda_plugin *entry = library ? dlsym(library, "la_cuda_plugin_entry") : NULL;
    if (!entry) {
        (void)la_fail(&failure, LA_RESOURCE, "%s: cannot be loaded: %s", path, dlerror());
        return;
    }
    if (entry->abi != LA_CUDA_ABI) {
        (void)la_fail(&failure, LA_RESOURCE,
                      "%s: belongs to another build of laplora; build both again", path);
        return;
    }
    loaded = entry;
}

const la_cuda_plugin *la_cuda_plugin_load(la_error *err) {
    pthread_once(&once, load);
    if (!loaded)
        *err = failure;
    return loaded;
}
