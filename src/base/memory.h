/* Three ways to hold memory, by lifetime.
 *   la_alloc     one object, freed by its owner
 *   la_pool      many small things that die together (names, tables of a model)
 *   la_arena     planned first, allocated once, on the host or a device: activations, workspaces */
#ifndef LA_BASE_MEMORY_H
#define LA_BASE_MEMORY_H

#include "base/error.h"

#include <stdbool.h>

/* Whether something is left beside a large block of so many bytes that was just taken. The runtime
 * of OpenMP takes a few KiB at most parallel regions and ends the process where it gets none: so a
 * block after which those are missing is refused. True for small blocks, which are not tried. */
bool la_memory_spared(size_t bytes);
/* 64-byte aligned memory, not zeroed, larger by at least a byte; NULL where there is none, or
 * nothing would be spared beside it. The caller frees with free(). */
void *la_memory_aligned(size_t bytes);

/* Zeroed memory for count objects of size bytes; NULL and LA_RESOURCE in err when there is none or
 * the product overflows. The caller frees with free(). count 0 gives a valid pointer. */
void *la_alloc(size_t count, size_t size, la_error *err);

/* Grows *buffer (of *capacity objects) to hold at least needed; contents kept. The caller frees
 * *buffer. */
la_status la_grow(void *buffer, size_t *capacity, size_t needed, size_t size, la_error *err);

typedef struct la_pool_chunk la_pool_chunk;
typedef struct la_pool {
    la_pool_chunk *chunks;
} la_pool;

/* Zeroed memory owned by the pool; NULL and LA_RESOURCE in err when there is none. */
void *la_pool_take(la_pool *pool, size_t count, size_t size, la_error *err);
/* Copy of text owned by the pool. */
char *la_pool_text(la_pool *pool, const char *text, size_t length, la_error *err);
void la_pool_free(la_pool *pool);

/* A bump allocator over memory it does not own. While base is NULL it only counts: the same layout
 * function is run once to plan and once to place. */
typedef struct la_arena {
    char *base;
    size_t used, capacity;
} la_arena;

/* 64-byte aligned; NULL while planning. */
void *la_arena_take(la_arena *arena, size_t count, size_t size);

/* Bytes in MiB, for messages. */
static inline double la_mib(double bytes) {
    return bytes / 1048576;
}

#endif
