/* The parts of a tokenizer.json, in the order text passes them. Only src/text includes this. */
#ifndef LA_TEXT_PARTS_H
#define LA_TEXT_PARTS_H

#include "base/memory.h"
#include "input/json.h"
#include "text/unicode.h"

/* Where messages point. */
typedef struct la_text_source {
    const char *path;
    la_pool *pool; /* what is loaded lives here */
    la_error *err;
} la_text_source;

/* ---- normalizer.c ---- */

typedef enum la_normalizer_kind {
    LA_NORMALIZE_BERT,
    LA_NORMALIZE_FORM,
    LA_NORMALIZE_LOWER,
    LA_NORMALIZE_STRIP_ACCENTS,
    LA_NORMALIZE_STRIP,
    LA_NORMALIZE_REPLACE
} la_normalizer_kind;

typedef struct la_normalizer_step {
    la_normalizer_kind kind;
    la_form form;
    bool clean, ideographs, accents, lower; /* BertNormalizer */
    bool left, right;                       /* Strip */
    la_codes from, to;                      /* Replace; memory from the pool */
} la_normalizer_step;

typedef struct la_normalizer {
    la_normalizer_step *steps;
    int n_steps;
} la_normalizer;

la_status la_normalizer_load(const la_text_source *source, const json_t *json, la_normalizer *out);
/* text in place; spare is a workspace. */
la_status la_normalizer_apply(const la_normalizer *normalizer, la_codes *text, la_codes *spare,
                              la_error *err);

/* ---- pretokenizer.c ---- */

typedef enum la_splitter {
    LA_SPLIT_WHITE_SPACE,
    LA_SPLIT_PUNCTUATION,
    LA_SPLIT_BERT,
    LA_SPLIT_WORDS, /* \w+|[^\w\s]+ */
    LA_SPLIT_DIGITS,
    LA_SPLIT_EACH_DIGIT
} la_splitter;

enum { LA_SPLITTERS_MAX = 8 };

typedef struct la_pretokenizer {
    la_splitter steps[LA_SPLITTERS_MAX];
    int n_steps;
} la_pretokenizer;

typedef la_status (*la_word_sink)(void *user, const int32_t *word, size_t n);

la_status la_pretokenizer_load(const la_text_source *source, const json_t *json,
                               la_pretokenizer *out);
/* Hands the words of text to the sink, in order. */
la_status la_pretokenizer_apply(const la_pretokenizer *pretokenizer, const int32_t *text, size_t n,
                                la_word_sink sink, void *user);

/* ---- wordpiece.c ---- */

typedef struct la_ids {
    int32_t *data;
    size_t n, capacity;
} la_ids;

la_status la_ids_push(la_ids *ids, int32_t id, la_error *err);

typedef struct la_wordpiece {
    const json_t *vocab;
    const char *prefix, *unknown;
    size_t prefix_length;
    int64_t longest_word, unknown_id;
} la_wordpiece;

/* The vocabulary stays in json, which must outlive the model. */
la_status la_wordpiece_load(const la_text_source *source, const json_t *json, la_wordpiece *out);
/* Longest match first; a word that cannot be covered is one unknown token. */
la_status la_wordpiece_encode(const la_wordpiece *model, const int32_t *word, size_t n, la_ids *ids,
                              la_error *err);

/* ---- added_tokens.c ---- */

typedef struct la_added_token {
    la_codes content; /* normalised where the token asks for it; memory from the pool */
    int32_t id;
    bool single_word, left, right;
} la_added_token;

typedef struct la_added_tokens {
    la_added_token *raw, *normalized;
    size_t n_raw, n_normalized;
} la_added_tokens;

/* A piece of text between added tokens (id -1), or one of them. */
typedef la_status (*la_piece_sink)(void *user, const int32_t *text, size_t n, int32_t id);

la_status la_added_tokens_load(const la_text_source *source, const json_t *json,
                               const json_t *vocab, const la_normalizer *normalizer,
                               la_added_tokens *out);
/* Leftmost-longest matches. */
la_status la_added_tokens_split(const la_added_token *tokens, size_t n_tokens, const int32_t *text,
                                size_t n, la_piece_sink sink, void *user);

/* ---- postprocess.c ---- */

enum { LA_PIECES_MAX = 16 };

typedef struct la_template_piece {
    int sequence; /* 0: first text, 1: second, -1: the special tokens below */
    int32_t type;
    const int32_t *ids;
    size_t n_ids;
} la_template_piece;

typedef struct la_postprocess {
    la_template_piece single[LA_PIECES_MAX], pair[LA_PIECES_MAX];
    int n_single, n_pair;
} la_postprocess;

la_status la_postprocess_load(const la_text_source *source, const json_t *json,
                              la_postprocess *out);
/* Special tokens that single or pair adds. */
int64_t la_postprocess_added(const la_template_piece *pieces, int n_pieces);

#endif
