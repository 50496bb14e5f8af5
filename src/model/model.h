/* A frozen base with its adapter: configuration, weights bound to what reads them, and the list
 * of trained blocks. */
#ifndef LA_MODEL_MODEL_H
#define LA_MODEL_MODEL_H

#include "model/adapter.h"
#include "model/config.h"

/* Where the outputs are read. */
typedef enum la_task {
    LA_TASK_CLASSIFY, /* a classification head: outputs of a row */
    LA_TASK_CHOICE,   /* a causal LM: the logits of the answer tokens at the last position */
    LA_TASK_TAG       /* a classification head on every token: one of them is a row of its own */
} la_task;

/* Bottleneck adapters of the `adapters` library: what attention or FFN adds to the residual gets
 * scale U [act(D [z; 1]); 1] beside it (operations.c). */
typedef enum la_bottleneck_input {
    LA_BOTTLENECK_ADDED,   /* z: what is added to the residual */
    LA_BOTTLENECK_SUM,     /* the sum */
    LA_BOTTLENECK_NORMED,  /* the base's norm of the sum, which is taken again behind the adapter */
    LA_BOTTLENECK_RESIDUAL /* the residual */
} la_bottleneck_input;

typedef struct la_bottleneck {
    la_bottleneck_input input;
    la_activation activation;
    float scale;
    la_mat down, up;   /* [r, d + 1], [d, r + 1]: biases are the last column */
    int64_t blocks[2]; /* numbers in the model's list */
} la_bottleneck;

/* Norms that an architecture lacks have no weight. */
typedef struct la_layer {
    la_linear linear[LA_SLOTS];
    la_norm norm[LA_LAYER_NORMS];
    la_bottleneck *bottleneck[2]; /* behind attention and FFN; NULL: none */
} la_layer;

typedef struct la_head_layer {
    la_linear linear;
    la_activation activation;
    la_norm norm;  /* behind the activation */
    int64_t block; /* its number where the adapter holds trained weights, else -1 */
} la_head_layer;

/* From ids to the input of the first layer. */
typedef struct la_embeddings {
    int n; /* tables: tokens, positions, types */
    la_mat tables[3];
    la_embedding *adapted[3]; /* LoRA on them; NULL: none */
    float scale;
    la_norm norm;      /* weight NULL: none */
    la_linear project; /* w.data NULL: none */
    bool wanted;       /* a block of the tables, or of virtual tokens among them, is */
} la_embeddings;

typedef struct la_model_options {
    const char *base, *adapter;
    const char *adapter_name; /* which of several, or "A,B"; NULL: the only one, or "default" */
    la_params params;
    bool head_optional;        /* an adapter without a trained head: params without it */
    const int32_t *choice_ids; /* answer tokens of a causal LM, in class order */
    int64_t n_choices;
    la_base_quant quant;         /* how linear layers are packed when they are stored plainly */
    const struct la_model *twin; /* the same files, opened before for another device: checked and
                                    digested already; NULL: none */
    la_log log;
} la_model_options;

/* Virtual tokens: embeddings before those of every row, or keys and values before those of every
 * row in every layer. */
typedef struct la_prompt {
    int64_t n;      /* 0: none */
    bool of_layers; /* keys and values */
    bool shifts;    /* the rows' own positions begin behind them */
    int64_t n_parts;
    struct la_prompt_part {
        la_mat table;  /* [n, width] */
        int64_t block; /* [width, n]: its input is the unit vector of the virtual token */
    } * parts;         /* embeddings; or key and value of layer 0, of layer 1, ... */
} la_prompt;

typedef struct la_upload la_upload;

typedef struct la_model {
    la_pool pool;
    la_backend *be; /* not owned */
    la_config config;
    la_checkpoint *base;
    la_adapter adapter;
    la_upload *uploads, **next_upload;    /* host arrays for the device, in order */
    size_t weight_bytes;                  /* bytes of all uploads on the device */
    size_t converted_bytes;               /* of those, of another type than they are stored in */
    la_packed *packed, **next_packed;     /* packed weights, in order */
    int64_t max_weight, max_weight_width; /* elements and columns of the largest weight that is not
                                             of the activation type; 0: none */
    la_task task;
    la_pool_token pool_token;

    la_embeddings embed;
    la_prompt prompt;
    struct {
        la_mat table; /* [lines, d]; data NULL: scores do not know distances */
        la_norm norm;
    } lines;
    la_layer *layers;
    la_norm final_norm; /* weight NULL: none */
    la_head_layer head[LA_HEAD_LAYERS];
    int n_head;
    const la_likelihood *likelihood; /* likelihood of a row's label given the head's outputs */
    int64_t n_classes;               /* outputs */

    la_parameter *parameters; /* trained matrices, in the order of blocks */
    la_block *blocks;         /* in the order data passes them */
    int64_t n_blocks, n_inputs;
    int64_t max_state_cols, max_work_cols; /* most of any site, embedding and bottleneck */

    char base_digest[LA_DIGEST_TEXT], adapter_digest[LA_DIGEST_TEXT];
} la_model;

/* Binds every parameter the computation needs; one that neither base nor adapter supplies is an
 * error naming it. Nothing is on the device before la_model_upload: a plan can be made first. be
 * must outlive the model. Free with la_model_close (also after a failure it is safe). */
la_status la_model_open(la_backend *be, const la_model_options *options, la_model *model,
                        la_error *err);
/* Uploads the weights to where the backend reads them. */
la_status la_model_upload(la_model *model, la_error *err);
void la_model_close(la_model *model);
/* Digests of base and adapter by themselves, whether they fit each other or not. Empty: that one
 * cannot be read. */
void la_model_digests(const la_model_options *options, char base[LA_DIGEST_TEXT],
                      char adapter[LA_DIGEST_TEXT]);
/* A matrix of the type of activations. */
static inline la_mat la_model_take(const la_model *model, la_arena *arena, int64_t rows,
                                   int64_t cols) {
    la_dtype type = model->be->activation;
    return la_mat_of(type, la_arena_take(arena, (size_t)(rows * cols), la_dtype_size(type)), rows,
                     cols);
}

/* Those wanted blocks of the model that are in params. Names and backend are the model's. Free with
 * la_blocks_close. */
la_status la_model_blocks(const la_model *model, la_params params, la_blocks *blocks,
                          la_error *err);
/* Rows that a block's input can have in a batch of so many tokens. */
int64_t la_model_most_inputs(const la_model *model, int64_t tokens);
/* True when a head layer's adapter reads all tokens of a row, as the head of a causal LM does,
 * although only one of them reaches the logits. */
bool la_head_reads_all(const la_model *model);
/* True when a set of parameters contains the blocks of a group, and a block. */
bool la_params_take(la_params params, la_block_group group);
bool la_block_in(const la_model *model, int64_t block, la_params params);
/* True when a projection is adapted by blocks of the posterior. */
bool la_linear_wanted(const la_model *model, const la_linear *linear);

#endif
