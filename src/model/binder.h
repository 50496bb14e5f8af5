/* Binding a model's parts to tensors: what the files that do it share. */
#ifndef LA_MODEL_BINDER_H
#define LA_MODEL_BINDER_H

#include "model/model.h"
#include "model/token_rows.h"

enum { NAME_MAX_BYTES = 512 };

typedef struct la_binder {
    la_model *model;
    const la_arch *arch;
    const la_head_row *head; /* that of the task; of a causal LM the one it does without */
    const la_head_form *head_form;
    const la_model *twin;
    la_packed *twin_packed; /* of the twin's packed weights, the next */
    la_base_quant quant;
    const char *base_dir;
    const la_log *log;
    int64_t blocks_capacity;
    bool *base_used;          /* by tensor number */
    la_dtype table_type;      /* of the last embedding table, as it is stored */
    la_token_rows token_rows; /* of the table of tokens */
    int64_t n_token_rows;     /* modules that have such rows */
} la_binder;

/* The pointer at slot will be to count numbers of type to, made of the host's of type from. Slot and
 * host array stay where they are as long as the model. */
la_status la_binder_place(la_binder *b, const void *host, la_dtype from, int64_t count, la_dtype to,
                          void *slot, la_error *err);
la_status la_binder_add_block(la_binder *b, const la_block *block, int64_t *number, la_error *err);

/* ---- bind_embedding.c, bind_bottleneck.c ---- */

/* Rows of module, a matrix [rows, width], that the adapter replaces. */
la_status la_binder_token_rows(la_binder *b, const char *module, bool in_body, int64_t rows,
                               int64_t width, la_token_rows *out, la_error *err);
/* The tensor with the adapter's rows in their places; memory from the pool. */
la_status la_binder_replace_rows(la_binder *b, const la_token_rows *rows, const la_tensor *tensor,
                                 la_tensor *out, la_error *err);
/* LoRA on the table that was bound last; input: the number of what its A reads. */
la_status la_binder_embedding(la_binder *b, const char *module, int64_t input, la_error *err);
/* Bottleneck adapters of a layer whose norms are bound. */
la_status la_binder_bottlenecks(la_binder *b, int64_t layer, la_error *err);
/* Virtual tokens, where the adapter is of that kind. */
la_status la_binder_prompt(la_binder *b, la_error *err);

#endif
