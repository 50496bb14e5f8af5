/* The CUDA backend is a shared library of its own beside the program (liblaplora_cuda.so), loaded
 * when a device is asked for: the program starts, and works on the CPU, on machines without a
 * driver or without CUDA's libraries. It exports one symbol, `la_cuda_plugin_entry`. */
#ifndef LA_BACKEND_CUDA_PLUGIN_H
#define LA_BACKEND_CUDA_PLUGIN_H

#include "backend/ops.h"

typedef struct la_cuda_plugin {
    /* LA_CUDA_ABI of its build: a library of another version is refused */
    uint64_t abi;
    /* Usable devices; -1 and err when there is no driver, or it does not fit. */
    int (*count)(la_error *err);
    /* Close with backend->ops->close. */
    la_status (*open)(int device, la_precision precision, la_backend *backend, la_error *err);
} la_cuda_plugin;

/* Version 2, and the sizes of what crosses the border. */
#define LA_CUDA_ABI                                                                                \
    ((uint64_t)sizeof(la_ops) << 48 ^ (uint64_t)sizeof(la_backend) << 36 ^                         \
     (uint64_t)sizeof(la_sizes) << 27 ^ (uint64_t)sizeof(la_eigen) << 20 ^                         \
     (uint64_t)sizeof(la_attention) << 12 ^ (uint64_t)sizeof(la_mat) << 4 ^ 2)

/* The library from $LAPLORA_CUDA ("none": no library), or beside the program, or in
 * ../lib/laplora. NULL, with the reason in err, when it is missing. Never unloaded. */
const la_cuda_plugin *la_cuda_plugin_load(la_error *err);

#endif
