#include "text/trie.h"
#include "base/memory.h"

#include <stdlib.h>

typedef struct span {
    size_t from, to; /* keys below a node */
    size_t depth;
} span;

void la_trie_free(la_trie *trie) {
    free(trie->nodes);
    free(trie->labels);
    *trie = (la_trie){0};
}

static int compare_keys(const void *a, const void *b) {
    const la_trie_key *x = a, *y = b;
    size_t n = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->data, y->data, n);
    if (order)
        return order;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return x->value < y->value ? -1 : x->value > y->value;
}

static la_status add_node(la_trie *trie, span **spans, size_t *spans_capacity, span keys,
                          uint8_t label, la_error *err) {
    LA_TRY(la_grow(&trie->nodes, &trie->nodes_capacity, trie->n + 1, sizeof *trie->nodes, err));
    LA_TRY(la_grow(&trie->labels, &trie->labels_capacity, trie->n + 1, 1, err));
    LA_TRY(la_grow(spans, spans_capacity, trie->n + 1, sizeof **spans, err));
    trie->nodes[trie->n] = (la_trie_node){.value = -1};
    trie->labels[trie->n] = label;
    (*spans)[trie->n++] = keys;
    return LA_OK;
}

/* Builds node by node, breadth first, so that the children of a node lie side by side. */
static la_status build(la_trie *trie, const la_trie_key *keys, size_t n, span **spans,
                       la_error *err) {
    size_t spans_capacity = 0;
    LA_TRY(add_node(trie, spans, &spans_capacity, (span){0, n, 0}, 0, err));
    for (size_t node = 0; node < trie->n; node++) {
        span at = (*spans)[node];
        for (; at.from < at.to && keys[at.from].length == at.depth; at.from++)
            trie->nodes[node].value = keys[at.from].value;
        trie->nodes[node].first = (uint32_t)trie->n;
        while (at.from < at.to) {
            uint8_t label = (uint8_t)keys[at.from].data[at.depth];
            span child = {at.from, at.from, at.depth + 1};
            while (child.to < at.to && (uint8_t)keys[child.to].data[at.depth] == label)
                child.to++;
            if (!node)
                trie->roots[label] = (uint32_t)trie->n;
            LA_TRY(add_node(trie, spans, &spans_capacity, child, label, err));
            trie->nodes[node].n++;
            at.from = child.to;
        }
    }
    return LA_OK;
}

la_status la_trie_build(la_trie *trie, la_trie_key *keys, size_t n, la_error *err) {
    span *spans = NULL;
    if (n)
        qsort(keys, n, sizeof *keys, compare_keys);
    la_status status = build(trie, keys, n, &spans, err);
    free(spans);
    return status;
}
