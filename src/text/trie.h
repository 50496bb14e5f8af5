/* Trie over byte strings, built once: the prefixes of a text that are keys. */
#ifndef LA_TEXT_TRIE_H
#define LA_TEXT_TRIE_H

#include "base/error.h"

#include <stdint.h>
#include <string.h>

typedef struct la_trie_key {
    const char *data;
    size_t length; /* > 0 */
    int32_t value; /* >= 0; the last of equal keys counts */
} la_trie_key;

typedef struct la_trie_node {
    uint32_t first; /* first of its children, which lie side by side */
    int32_t value;  /* -1: no key ends here */
    uint16_t n;     /* children */
} la_trie_node;

/* Zero it first; free with la_trie_free. */
typedef struct la_trie {
    la_trie_node *nodes; /* 0 is the root */
    uint8_t *labels;     /* label of the edge into each node; rising among siblings */
    size_t n, nodes_capacity, labels_capacity;
    uint32_t roots[256]; /* child of the root by byte, 0: none */
} la_trie;

/* keys is reordered and needed only during the call. */
la_status la_trie_build(la_trie *trie, la_trie_key *keys, size_t n, la_error *err);
void la_trie_free(la_trie *trie);

/* The child of node along byte, 0: none. */
static inline uint32_t la_trie_step(const la_trie *trie, uint32_t node, uint8_t byte) {
    if (!node)
        return trie->roots[byte];
    const la_trie_node *at = &trie->nodes[node];
    const uint8_t *labels = trie->labels + at->first;
    if (at->n <= 8) {
        for (uint32_t i = 0; i < at->n; i++)
            if (labels[i] == byte)
                return at->first + i;
        return 0;
    }
    const uint8_t *found = memchr(labels, byte, at->n);
    return found ? at->first + (uint32_t)(found - labels) : 0;
}

#endif
