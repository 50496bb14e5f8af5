#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

struct la_pool_chunk {
    la_pool_chunk *next;
    size_t used, capacity;
    _Alignas(16) char data[];
};

bool la_memory_spared(size_t bytes) {
    enum { LARGE = 64 << 10, SPARED = 512 << 10 };
    void *tried = bytes < LARGE ? NULL : malloc(SPARED);
    bool spared = tried || bytes < LARGE;
    free(tried);
    return spared;
}

/* p, or NULL, freed, where nothing would be spared beside its bytes. */
static void *spared_or_null(void *p, size_t bytes) {
    if (!p || la_memory_spared(bytes))
        return p;
    free(p);
    return NULL;
}

void *la_memory_aligned(size_t bytes) {
    if (bytes > SIZE_MAX - 64)
        return NULL;
    return spared_or_null(aligned_alloc(64, (bytes + 64) & ~(size_t)63), bytes);
}

void *la_alloc(size_t count, size_t size, la_error *err) {
    void *p = calloc(count ? count : 1, size ? size : 1);
    /* the product does not overflow where calloc found memory */
    p = spared_or_null(p, p ? count * size : 0);
    if (!p)
        (void)la_fail(err, LA_RESOURCE, "out of memory: %zu objects of %zu bytes", count, size);
    return p;
}

la_status la_grow(void *buffer, size_t *capacity, size_t needed, size_t size, la_error *err) {
    if (needed <= *capacity)
        return LA_OK;
    size_t wanted = *capacity + *capacity / 2 + 16;
    if (wanted < needed)
        wanted = needed;
    if (size && wanted > SIZE_MAX / size)
        return la_fail(err, LA_RESOURCE, "out of memory: %zu objects of %zu bytes", wanted, size);
    void *old, *grown;
    memcpy(&old, buffer, sizeof old);
    grown = realloc(old, wanted * size);
    if (grown) {
        memcpy(buffer, &grown, sizeof grown);
        *capacity = wanted;
    }
    if (!grown || !la_memory_spared(wanted * size))
        return la_fail(err, LA_RESOURCE, "out of memory: %zu objects of %zu bytes", wanted, size);
    return LA_OK;
}

void *la_pool_take(la_pool *pool, size_t count, size_t size, la_error *err) {
    if (size && count > (SIZE_MAX / 2) / size) {
        (void)la_fail(err, LA_RESOURCE, "out of memory: %zu objects of %zu bytes", count, size);
        return NULL;
    }
    size_t bytes = (count * size + 15) & ~(size_t)15;
    la_pool_chunk *chunk = pool->chunks;
    if (!chunk || chunk->capacity - chunk->used < bytes) {
        size_t capacity = bytes > 16384 ? bytes : 16384;
        chunk = calloc(1, sizeof *chunk + capacity);
        if (!chunk) {
            (void)la_fail(err, LA_RESOURCE, "out of memory: %zu objects of %zu bytes", count, size);
            return NULL;
        }
        chunk->capacity = capacity;
        chunk->next = pool->chunks;
        pool->chunks = chunk;
    }
    void *p = chunk->data + chunk->used;
    chunk->used += bytes;
    return p;
}

char *la_pool_text(la_pool *pool, const char *text, size_t length, la_error *err) {
    char *copy = la_pool_take(pool, length + 1, 1, err);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

void la_pool_free(la_pool *pool) {
    while (pool->chunks) {
        la_pool_chunk *next = pool->chunks->next;
        free(pool->chunks);
        pool->chunks = next;
    }
}

void *la_arena_take(la_arena *arena, size_t count, size_t size) {
    size_t bytes = (count * size + 63) & ~(size_t)63;
    void *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += bytes;
    return p;
}
