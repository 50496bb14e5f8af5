/* Model of a tokenizer.json: words to token ids. */
#ifndef LA_TEXT_MODEL_H
#define LA_TEXT_MODEL_H

#include "text/ids.h"
#include "text/trie.h"
#include "text/vocab.h"
#include "text/word_cache.h"

typedef struct la_text_model la_text_model;

/* Appends the ids of one word. */
typedef la_status (*la_word_encoder)(la_text_model *model, const char *word, size_t n, la_ids *ids,
                                     la_error *err);

/* ---- wordpiece.c: the longest token first, from the left ---- */

typedef struct la_wordpiece {
    const char *prefix, *unknown; /* from the pool */
    size_t prefix_length;
    int64_t longest_word; /* characters */
    int32_t unknown_id;   /* -1: none */
    la_text spare;
} la_wordpiece;

/* ---- wordlevel.c ---- */

typedef struct la_wordlevel {
    const char *unknown; /* from the pool */
    int32_t unknown_id;  /* -1: none */
} la_wordlevel;

/* ---- merges.c: pairs of tokens that become one ---- */

typedef struct la_merge {
    uint64_t pair; /* left id above right id, plus 1; 0: a free slot */
    int32_t rank, id;
} la_merge;

typedef struct la_merges {
    la_merge *slots;
    size_t mask;
} la_merges;

void la_merges_free(la_merges *merges);
/* prefix: beginning of tokens inside a word; it is no part of the text that they spell. */
la_status la_merges_load(const la_text_source *source, const json_t *json, const la_vocab *vocab,
                         const la_text *prefix, la_merges *out);
/* NULL: none */
const la_merge *la_merges_find(const la_merges *merges, int32_t left, int32_t right);

/* ---- bpe.c: characters, joined pair by pair in the order of the merges ---- */

typedef struct la_bpe_symbol {
    int32_t id;
    int32_t previous, next; /* -1: none */
    bool gone;              /* joined to one before it */
} la_bpe_symbol;

typedef struct la_bpe_join {
    int32_t rank, at, id;
} la_bpe_join;

typedef struct la_bpe {
    la_merges merges;
    const char *unknown;    /* NULL: characters missing from the vocabulary are left out */
    la_text prefix, suffix; /* from the pool; n 0: none */
    bool fuse, byte_fallback, ignore_merges;
    int32_t unknown_id;
    int32_t bytes[256];
    int32_t *short_ids; /* ids of characters below 0x800, when there is neither prefix nor suffix */
    /* workspaces */
    la_text spare;
    la_bpe_symbol *symbols;
    la_bpe_join *heap;
    size_t n_symbols, symbols_capacity, n_heap, heap_capacity;
} la_bpe;

/* ---- unigram.c: the tokens with the greatest sum of scores ---- */

typedef struct la_unigram_node {
    double score;
    int64_t from; /* where the best token that ends here begins; -1: nothing ends here */
    int32_t id;
} la_unigram_node;

typedef struct la_unigram {
    la_trie trie;
    double *scores; /* by id; from the pool */
    double unknown_score;
    int32_t unknown_id; /* -1: none */
    bool byte_fallback;
    int32_t bytes[256];
    /* workspaces */
    la_unigram_node *nodes;
    size_t nodes_capacity;
} la_unigram;

struct la_text_model {
    la_vocab vocab;
    size_t size; /* the first id that added tokens may take */
    la_word_encoder encode;
    bool cached;
    la_word_cache cache;
    union {
        la_wordpiece wordpiece;
        la_wordlevel wordlevel;
        la_bpe bpe;
        la_unigram unigram;
    };
    void (*free)(la_text_model *model); /* frees the member of the union */
};

/* Each loads its member of the union and sets encode. */
la_status la_wordpiece_load(const la_text_source *source, const json_t *json, la_text_model *out);
la_status la_wordlevel_load(const la_text_source *source, const json_t *json, la_text_model *out);
la_status la_bpe_load(const la_text_source *source, const json_t *json, la_text_model *out);
la_status la_unigram_load(const la_text_source *source, const json_t *json, la_text_model *out);

/* Zero it first; free with la_text_model_free, whether or not loading succeeded. */
la_status la_text_model_load(const la_text_source *source, const json_t *json, la_text_model *out);
void la_text_model_free(la_text_model *model);
la_status la_text_model_encode(la_text_model *model, const char *word, size_t n, la_ids *ids,
                               la_error *err);

#endif
