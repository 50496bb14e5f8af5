/* Binding a model's parts to tensors: what the files that do it share. */
#ifndef LA_MODEL_BINDER_H
#define LA_MODEL_BINDER_H

#include "model/model.h"
#include "model/token_rows.h"

#include <string.h>

enum { NAME_MAX_BYTES = 512 };

struct la_binder {
    la_model *model;
    const la_arch *arch;
    const la_head_row *head; /* that of the task; of a causal LM the one it does without */
    const la_head_settings *head_settings;
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
/* Another matrix of the same block. */
void la_binder_add_part(la_binder *b, const la_parameter *of, la_parameter *part, la_mat *value,
                        la_cut cut);

/* ---- binder.c: parameters, projections and norms ---- */

/* A parameter: the adapter's replacement, or the base's; NULL: nowhere. */
const la_tensor *la_binder_find(la_binder *b, const char *module, bool in_body, const char *leaf,
                                bool *from_adapter);
/* The error for one that neither brings. */
la_status la_binder_missing(const la_binder *b, const char *module, bool in_body, const char *leaf,
                            la_error *err);
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

/* Rows of module, a matrix [rows, width], that the adapter replaces. */
la_status la_binder_token_rows(la_binder *b, const char *module, bool in_body, int64_t rows,
                               int64_t width, la_token_rows *out, la_error *err);
/* The tensor with the adapter's rows in their places; memory from the pool. */
la_status la_binder_replace_rows(la_binder *b, const la_token_rows *rows, const la_tensor *tensor,
                                 la_tensor *out, la_error *err);
/* LoRA on the table that was bound last; input: the number of what its A reads. */
la_status la_binder_embedding(la_binder *b, const char *module, int64_t input, la_error *err);
/* Virtual tokens, where an adapter is of that kind. */
la_status la_binder_prompt(la_binder *b, la_error *err);

#endif
