/* Binding a model's parts to tensors: what the files that do it share. */
#ifndef LA_MODEL_BINDER_H
#define LA_MODEL_BINDER_H

#include "model/model.h"

#include <string.h>

enum { NAME_MAX_BYTES = 512 };

/* Rows of an embedding that were trained alone (PEFT's trainable_token_indices): they
 * replace the base's. */
typedef struct la_token_rows {
    const la_tensor *values; /* [n, width]; NULL: no row is replaced */
    const int64_t *index;    /* [n] the adapter's memory */
    int64_t n;
} la_token_rows;

struct la_binder {
    la_model *model;
    const la_arch *arch;
    const la_head_row *head; /* the task's; for a causal LM the one it does without */
    const la_head_settings *head_settings;
    const la_model *twin;
    la_packed *twin_packed; /* next of the twin's packed weights */
    la_base_quant quant;
    const char *base_dir;
    const la_log *log;
    int64_t blocks_capacity;
    bool *base_used;          /* by tensor number */
    la_dtype table_type;      /* stored type of the last embedding table */
    la_token_rows token_rows; /* replaced rows of the table of tokens */
    int64_t n_token_rows;     /* modules that have such rows */
    la_params params;
    la_parameter **next_parameter;
};

/* An array for the device: pointer is the address of the data pointer that operations read, of
 * whatever type. Until la_model_upload it holds the host array itself; it stays so where that
 * can be read. */
struct la_upload {
    la_upload *next;
    void *pointer;
    la_dtype from, to;
    int64_t count;
    bool copied;
};

static inline void *la_pointer_get(const void *pointer) {
    void *value;
    memcpy(&value, pointer, sizeof value);
    return value;
}

static inline void la_pointer_set(void *pointer, const void *value) {
    memcpy(pointer, &value, sizeof value);
}

/* A module as its adapters see it. */
typedef struct la_site_spec {
    bool in_body;
    bool of_head;        /* computed in f32 */
    bool per_row;        /* reads one token a row */
    int64_t input;       /* number of the matrix that it reads */
    const la_mat *w;     /* its weight as it lies on the host, of the rows that are computed */
    const int32_t *rows; /* outputs that are computed, n_rows of them; NULL: all */
    int64_t n_rows;
} la_site_spec;

/* *pointer will be count numbers of type to, made of the host's of type from. pointer and host
 * array stay where they are as long as the model. */
la_status la_binder_upload(la_binder *b, const void *host, la_dtype from, int64_t count,
                           la_dtype to, void *pointer, la_error *err);
/* A matrix of an adapter, f32 on the host, becomes one of the type of activations, or stays f32
 * where it is exact. */
la_status la_binder_upload_matrix(la_binder *b, la_mat *m, bool exact, la_error *err);
/* Gives the parameter's block (if it has one) a number in the model's list. p stays where it is as
 * long as the model. adapter: whose it is, or NULL. */
la_status la_binder_add_parameter(la_binder *b, const la_adapter *adapter, la_parameter *p,
                                  la_error *err);
/* Adds and uploads two parameters with inputs of their own; blocks: their numbers. state_cols:
 * floats a token that the first of them leaves for backward. */
la_status la_binder_add_pair(la_binder *b, const la_adapter *adapter, la_parameter p[2],
                             int64_t blocks[2], int64_t state_cols, la_error *err);
/* Another matrix of the same block. */
void la_binder_add_part(la_binder *b, const la_parameter *of, la_parameter *part, la_mat *value,
                        la_cut cut);

/* ---- binder.c: parameters, projections and norms ---- */

/* The i-th name that a module can have: that of its class, that of a checkpoint of the bare body,
 * those inside a model of several kinds of input; false: there are no more. */
bool la_binder_spell(const la_binder *b, int i, bool in_body, const char *module, char *key,
                     size_t size);
/* A parameter by any of these names: the adapter's replacement, or the base's; NULL: nowhere. */
const la_tensor *la_binder_find(la_binder *b, const char *module, bool in_body, const char *leaf,
                                bool *from_adapter);
/* Likewise; LA_BAD_INPUT for one that neither brings. */
la_status la_binder_need(la_binder *b, const char *module, bool in_body, const char *leaf,
                         const la_tensor **out, bool *from_adapter, la_error *err);
la_status la_binder_check_values(const la_binder *b, const la_tensor *tensor, la_error *err);
/* Attaches the adapters that have something at module. */
la_status la_binder_site(la_binder *b, const char *module, const la_site_spec *at,
                         la_linear *linear, la_error *err);
/* A projection with its bias and its adapter. input: number of the matrix that it reads. */
la_status la_binder_linear(la_binder *b, const char *module, bool in_body, int64_t out, int64_t in,
                           bool bias, bool of_head, int64_t input, la_linear *linear,
                           la_error *err);
la_status la_binder_norm(la_binder *b, const char *module, bool in_body, int64_t width,
                         la_norm *norm, la_error *err);

/* ---- bind_head.c ---- */

la_status la_binder_classifier(la_binder *b, la_error *err);
la_status la_binder_choices(la_binder *b, const la_model_options *options, la_error *err);

/* ---- bind_embedding.c ---- */

/* LoRA on the table that was bound last. */
la_status la_binder_embedding(la_binder *b, const char *module, la_error *err);
/* Virtual tokens, where an adapter is of that kind. */
la_status la_binder_prompt(la_binder *b, la_error *err);

/* ---- token_rows.c ---- */

/* Rows of module, a matrix [rows, width], that an adapter replaces. LA_BAD_INPUT when its list and
 * its tensor do not fit each other or the matrix. */
la_status la_token_rows_find(la_binder *b, const char *module, bool in_body, int64_t rows,
                             int64_t width, la_token_rows *out, la_error *err);
/* LA_BAD_INPUT when the adapters' configurations name rows of modules that were not found. */
la_status la_token_rows_check(const la_binder *b, la_error *err);
/* The tensor with the rows in their places, rounded to its type; memory from the pool. */
la_status la_token_rows_replace(la_binder *b, const la_token_rows *rows, const la_tensor *tensor,
                                la_tensor *out, la_error *err);
/* to[width] := the row of token id, if it is one of them. */
void la_token_rows_read(const la_token_rows *rows, int64_t id, int64_t width, float *to);

/* ---- leftover.c ---- */

/* A tensor of the adapter that was not used would be silently left out of the model: refuse, naming
 * the nearest module of the base. */
la_status la_leftover_check(const la_model *model, la_error *err);
/* Warns of the base's tensors that are neither used nor known to belong to other tasks. */
void la_leftover_report(const la_binder *b);

#endif
