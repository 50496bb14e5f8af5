/* Ids of words seen before. Bounded: a full cache starts anew. */
#ifndef LA_TEXT_WORD_CACHE_H
#define LA_TEXT_WORD_CACHE_H

#include "text/ids.h"
#include "text/buffer.h"

typedef struct la_cached_word {
    uint64_t hash;
    uint32_t text, length; /* in texts; length 0: a free slot */
    uint32_t ids, n_ids;   /* in ids */
} la_cached_word;

/* Zero it first; free with la_word_cache_free. */
typedef struct la_word_cache {
    la_cached_word *slots;
    size_t n;
    la_text texts;
    la_ids ids;
} la_word_cache;

void la_word_cache_free(la_word_cache *cache);
/* Appends the ids of the word where it is known (*found), else sets *hash for la_word_cache_put. */
la_status la_word_cache_get(la_word_cache *cache, const char *word, size_t n, la_ids *ids,
                            uint64_t *hash, bool *found, la_error *err);
/* Keeps a word that la_word_cache_get did not find. */
la_status la_word_cache_put(la_word_cache *cache, const char *word, size_t n, uint64_t hash,
                            const int32_t *ids, size_t n_ids, la_error *err);

#endif
