/* Added tokens of a tokenizer.json: found in a text before anything else, some in the text as it
 * is, the others after normalisation. */
#ifndef LA_TEXT_ADDED_TOKENS_H
#define LA_TEXT_ADDED_TOKENS_H

#include "text/normalizer.h"
#include "text/trie.h"
#include "text/vocab.h"

typedef struct la_added_token {
    int32_t id;
    bool single_word, left, right, normalized, special;
} la_added_token;

/* Zero it first; free with la_added_tokens_free. */
typedef struct la_added_tokens {
    la_added_token *tokens;  /* from the pool */
    la_trie raw, normalized; /* values are indices into tokens */
    bool splits_special;     /* special tokens are not looked for */
    /* Number of tokens whose id differs from the one stated beside the file, and the first of
     * them. */
    int64_t n_moved;
    const char *moved; /* from the pool */
    int32_t moved_id;
} la_added_tokens;

/* A piece of text between added tokens (id -1), or one of them. */
typedef la_status (*la_piece_sink)(void *user, const char *text, size_t n, size_t from, int32_t id);

/* model_size: the first id for tokens that the vocabulary does not have. The first n_own of json
 * are the file's own; those behind them were added later. */
la_status la_added_tokens_load(const la_text_source *source, const json_t *json, size_t n_own,
                               const la_vocab *vocab, size_t model_size, la_normalizer *normalizer,
                               la_added_tokens *out);
void la_added_tokens_free(la_added_tokens *tokens);
/* Leftmost-longest matches of one of the tries. `from`: offset at which the sink's piece begins. */
la_status la_added_tokens_split(const la_added_tokens *tokens, const la_trie *trie,
                                const char *text, size_t n, la_piece_sink sink, void *user);

#endif
