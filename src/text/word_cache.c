#include "text/word_cache.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { SLOTS = 1 << 16, WORDS_MAX = SLOTS / 2, WORD_BYTES_MAX = 128 };

void la_word_cache_free(la_word_cache *cache) {
    free(cache->slots);
    la_text_free(&cache->texts);
    free(cache->ids.data);
    *cache = (la_word_cache){0};
}

static la_cached_word *find(const la_word_cache *cache, const char *word, size_t n, uint64_t hash) {
    for (size_t slot = hash % SLOTS;; slot = (slot + 1) % SLOTS) {
        la_cached_word *at = &cache->slots[slot];
        if (!at->length ||
            (at->hash == hash && at->length == n && !memcmp(cache->texts.data + at->text, word, n)))
            return at;
    }
}

la_status la_word_cache_get(la_word_cache *cache, const char *word, size_t n, la_ids *ids,
                            uint64_t *hash, bool *found, la_error *err) {
    *found = false;
    if (n > WORD_BYTES_MAX)
        return LA_OK;
    if (!cache->slots) {
        cache->slots = la_alloc(SLOTS, sizeof *cache->slots, err);
        if (!cache->slots)
            return err->status;
    }
    *hash = XXH3_64bits(word, n);
    const la_cached_word *at = find(cache, word, n, *hash);
    if (!at->length)
        return LA_OK;
    *found = true;
    return la_ids_append(ids, cache->ids.data + at->ids, at->n_ids, err);
}

la_status la_word_cache_put(la_word_cache *cache, const char *word, size_t n, uint64_t hash,
                            const int32_t *ids, size_t n_ids, la_error *err) {
    if (!n || n > WORD_BYTES_MAX)
        return LA_OK;
    if (cache->n == WORDS_MAX) {
        memset(cache->slots, 0, SLOTS * sizeof *cache->slots);
        cache->n = cache->texts.n = cache->ids.n = 0;
    }
    la_cached_word entry = {hash, (uint32_t)cache->texts.n, (uint32_t)n, (uint32_t)cache->ids.n,
                            (uint32_t)n_ids};
    LA_TRY(la_text_append(&cache->texts, word, n, err));
    LA_TRY(la_ids_append(&cache->ids, ids, n_ids, err));
    *find(cache, word, n, hash) = entry;
    cache->n++;
    return LA_OK;
}
