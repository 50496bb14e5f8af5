/* Virtual tokens in a run: packs of rows with space for them, their embeddings, their keys and
 * values, and the cotangents of these. */
#ifndef LA_MODEL_PROMPT_H
#define LA_MODEL_PROMPT_H

#include "model/batch.h"

/* Indices are into the pack. All memory on the device but that of packed and host. */
typedef struct la_prompt_run {
    la_batch packed;                   /* the batch as the layers see it */
    int64_t n_rows, n_keys, n_virtual; /* sizes of the batch: n_virtual = n_rows n */
    int32_t *cu;                       /* [n_rows + 1] of the virtual tokens */
    int32_t *number;                   /* [n_virtual] 0 .. n - 1 again and again */
    int32_t *at;                       /* [n_virtual] their places among embeddings, or keys */
    int32_t *real_at;                  /* [tokens] the places of the rows' own */
    int32_t *key_cu;                   /* [n_rows + 1] of_layers: of the keys */
    float *identity;                   /* [n, n] */
    la_mat words;                      /* [tokens, embedding] the rows' own embeddings */
    la_mat rows;                       /* [n_virtual, width] a part, once for every row */
    la_mat x;                          /* [n_virtual, n] */
    la_mat g;                          /* [n_rhs n_virtual, width] */
    int32_t *host;
} la_prompt_run;

/* Tokens that a pack of rows can have, counting virtual ones. */
static inline int64_t la_prompt_tokens(const la_model *model, int64_t max_rows,
                                       int64_t max_tokens) {
    return max_tokens + max_rows * model->prompt.n;
}

/* Places that virtual tokens take among the keys, but not among positions. */
static inline int64_t la_prompt_offset(const la_model *model) {
    return model->prompt.of_layers && !model->prompt.shifts ? model->prompt.n : 0;
}

/* Most tokens of a row beside the virtual ones; 0: no limit. */
int64_t la_prompt_most_tokens(const la_model *model);

/* Memory for rows and tokens at most; n_rhs 0: forward only. */
void la_prompt_layout(const la_model *model, int64_t max_rows, int64_t max_tokens, int64_t n_rhs,
                      la_arena *arena, la_arena *host, la_prompt_run *run);
/* Uploads what is the same for every batch. */
la_status la_prompt_open(const la_model *model, la_prompt_run *run, la_error *err);

/* Packs and uploads a batch; returns what the layers see of it. */
const la_batch *la_prompt_pack(const la_model *model, const la_batch *batch, la_prompt_run *run);
/* y[tokens and virtual ones, embedding] = the sum of all tables' rows; ids[0] of the rows' own
 * tokens alone, the others of all. */
void la_prompt_embed(const la_model *model, const int32_t *const *ids, la_prompt_run *run,
                     la_mat *y);
/* The embeddings' block from their cotangents g[n_rhs all, embedding]. */
void la_prompt_embed_backward(const la_model *model, la_prompt_run *run, int64_t n_rhs,
                              const la_mat *g, const la_block_visitor *visitor);
/* The prefix's keys (or values) of a layer. */
static inline const struct la_prompt_part *la_prompt_part(const la_model *model, int64_t layer,
                                                          bool keys) {
    return &model->prompt.parts[2 * layer + !keys];
}
/* to[keys, width] = the part, then the row's own, row by row. */
void la_prompt_extend(const la_model *model, la_prompt_run *run, const struct la_prompt_part *part,
                      const la_mat *own, la_mat *to);
/* From the cotangents of that: own (NULL: not asked for), and the part's block to the visitor
 * (NULL: it is not wanted). */
void la_prompt_extend_backward(const la_model *model, la_prompt_run *run,
                               const struct la_prompt_part *part, int64_t n_rhs, const la_mat *g,
                               la_mat *own, const la_block_visitor *visitor);

#endif
