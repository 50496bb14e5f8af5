#include "backend/cuda_plugin.h"
#include "base/machine.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "liblaplora_cuda.so"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const la_cuda_plugin *loaded;
static la_error failure;

static void load(void) {
    char path[PATH_MAX];
    const char *given = getenv("LAPLORA_CUDA");
    if (given && !strcmp(given, "none")) {
        (void)la_fail(&failure, LA_UNSUPPORTED, "CUDA is turned off (LAPLORA_CUDA is \"none\")");
        return;
    }
    if (given && *given) {
        snprintf(path, sizeof path, "%s", given);
    } else if (!la_library_find(LIBRARY, path)) {
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
