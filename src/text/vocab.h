/* Tokens to ids: a flat hash table over one buffer of strings. */
#ifndef LA_TEXT_VOCAB_H
#define LA_TEXT_VOCAB_H

#include "text/source.h"

#include <stdint.h>

enum { LA_TOKEN_IDS_MAX = 1 << 24 };

typedef struct la_vocab_entry {
    size_t offset;
    uint32_t length, hash;
    int32_t id;
} la_vocab_entry;

/* Zero it first; free with la_vocab_free. */
typedef struct la_vocab {
    la_vocab_entry *entries;
    uint32_t *slots; /* 1 + index of an entry, 0: free; a power of two of them */
    size_t n, capacity, mask;
    la_text strings;
} la_vocab;

void la_vocab_free(la_vocab *vocab);
/* Replaces an earlier id of the token. */
la_status la_vocab_add(la_vocab *vocab, const char *token, size_t length, int32_t id,
                       la_error *err);
/* -1: none */
int32_t la_vocab_find(const la_vocab *vocab, const char *token, size_t length);
/* Bytes of entry i, not terminated. */
static inline const char *la_vocab_token(const la_vocab *vocab, size_t i) {
    return vocab->strings.data + vocab->entries[i].offset;
}

/* {"token": id, ...}: every id once, and none beyond LA_TOKEN_IDS_MAX. */
la_status la_vocab_load(const la_text_source *source, const json_t *json, la_vocab *vocab);
/* Ids of <0x00> to <0xFF>; -1 where there is none. */
void la_vocab_bytes(const la_vocab *vocab, int32_t ids[256]);

#endif
