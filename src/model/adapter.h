/* Adapter directories of PEFT and of the `adapters` library: configuration, tensors, and the
 * kinds of adapter. A new kind is one file and one row of the table in adapter_kinds.c; nothing
 * else knows what its tensors, its configuration or the fields of its sites mean.
 *
 * A model can have several adapters, as a chain: those of several names, or the parts of a union
 * of the `adapters` library. */
#ifndef LA_MODEL_ADAPTER_H
#define LA_MODEL_ADAPTER_H

#include "base/digest.h"
#include "base/memory.h"
#include "input/safetensors.h"
#include "model/site.h"
#include "model/tensor.h"

#include <jansson.h>

typedef struct la_binder la_binder;

/* LoRA on an embedding table: the embedding of token i is E[i] + scale B A e_i, e_i the i-th unit
 * vector. Blocks:
 *   A: input e_i,   cotangent scale B^T g
 *   B: input A e_i, cotangent scale g
 * A's input is as wide as the vocabulary, and so is its factor; beyond LA_EMBEDDING_MOST rows A
 * counts at its trained values and is no block. */
typedef struct la_embedding {
    la_mat a; /* [rows, r]: A transposed, a table of its own */
    la_mat b; /* [width, r] */
    float scale;
    int64_t blocks[2]; /* numbers in the model's list; -1: A is no block */
} la_embedding;

enum { LA_EMBEDDING_MOST = 4096 };

typedef struct la_adapter_entry {
    const char *key; /* without base_model.model., base_layer, modules_to_save and adapter names */
    const la_tensor *tensor;
    bool used;
    bool replaces; /* a parameter of the base */
} la_adapter_entry;

/* Virtual tokens of an adapter: embeddings, or keys and values of every layer. */
typedef struct la_virtual_tokens {
    int64_t n;
    bool of_layers;
    bool shifts;         /* positions of a row's own tokens begin behind them */
    const char *name;    /* name of the block, or prefix of the blocks' names */
    const float *values; /* [n, width]; of layers: key, value of layer 0, of layer 1, ... */
} la_virtual_tokens;

/* Widths of the base that virtual tokens have to fit. */
typedef struct la_virtual_widths {
    int64_t layers, kv, hidden, embedding; /* kv: of the keys of one layer */
} la_virtual_widths;

/* What an adapter adds to a weight [out, in], by its tensors alone: scale B diag(e) A, and
 * bias. */
typedef struct la_product {
    const char *module; /* NULL: there is none */
    int64_t out, in, rank;
    const float *a, *b, *e; /* [rank, in], [out, rank], [rank]; e NULL: ones */
    const float *bias;      /* [out] NULL: none */
    double scale;
    const char *names[2]; /* of the blocks A and B */
} la_product;

struct la_adapter {
    la_pool pool;
    la_checkpoint *file;
    la_checkpoint *head; /* the head's, which the `adapters` library keeps apart; NULL: none */
    json_t *config;
    const char *config_path;
    const json_t *own; /* the part of config that is this adapter's */
    const la_log *log; /* for warnings while it is opened */
    const la_adapter_kind *kind;
    la_adapter_entry *entries; /* sorted by key */
    int64_t n_entries;
    const char *task_type; /* NULL when not stored */
    const char *name;      /* which of several in the file; NULL where there is but one */
    const char *mark;      /* stands behind its blocks' names; NULL: nothing does */
    void *own_parts;       /* the kind's, common to its sites */
    bool shares;           /* file, head, config and entries are those of the one before */
    la_adapter *next;      /* another in the same model; owned; NULL: none */
};

/* A library that writes adapters. */
typedef struct la_adapter_library {
    const char *weights;    /* file of the tensors, without its ending */
    const char *config_key; /* key of adapter_config.json whose object describes the adapter; NULL:
                               the file does */
    bool strips;            /* keys of tensors hold more than the names of the base's modules */
    /* Finds the adapter's kind and reads what all kinds have; config is that object. */
    la_status (*read)(la_adapter *adapter, const json_t *config, la_error *err);
    /* Opens the checkpoints. */
    la_status (*open)(const char *dir, la_adapter *adapter, la_error *err);
} la_adapter_library;

extern const la_adapter_library la_peft, la_adapters_library;

/* A kind of adapter. Entries that are NULL: it has none. Bind entries take memory from pool. */
struct la_adapter_kind {
    const la_adapter_library *library;
    const char *name;  /* peft_type, or architecture; NULL: the library leaves it out */
    const char *title; /* for messages, where there is no name */
    bool strips_model; /* keys of trained modules lack one "model." */
    bool low_rank;     /* parameters 0 [r, in] and 1 [out, r] of a site: it adds a multiple of their
                          product to the weight */
    /* Keys of the configuration, in lists that end with NULL: PEFT's that may be set beside those
     * of every kind, the others are refused (NULL: none is); and those of the `adapters` library
     * that are refused when they are set. */
    const char *const *known, *const *more_known, *const *refused;
    /* Keys that the adapter's digest covers where they are set, beside those of every kind. */
    const char *const *digested;
    /* Endings of its tensors' keys, for messages about stray ones; and of variants that the
     * configuration announces. */
    const char *const *suffixes, *const *announced;
    /* Refuses values of the configuration that this kind does not do. */
    la_status (*check)(const la_adapter *adapter, la_error *err);
    /* Fills site->own, kind, parameters and columns from the tensors at module; own stays NULL when
     * there are none. */
    la_status (*bind)(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_error *err);
    /* Changes columns once the blocks and the outputs that are computed are known; NULL: nothing
     * depends on them. w: the frozen weight of these on the host, of any type. */
    la_status (*prepare)(la_team team, const la_adapter *adapter, const la_mat *w, la_pool *pool,
                         la_site *site, la_error *err);
    /* y = adapted projection of x + residual (may be NULL), leaving state[T, state_cols] */
    void (*forward)(la_backend *be, const la_linear *linear, const la_mat *x,
                    const la_mat *residual, la_mat *state, la_mat *y);
    void (*backward)(la_backend *be, const la_linear *linear, const la_site_pass *pass);
    /* weight[out, in] and bias[out] (may be NULL) on the host become those with the site. */
    la_status (*merge)(la_backend *be, const la_site *site, float *weight, float *bias,
                       la_error *err);
    /* The product that the tensor KEY is a factor of; left as it is where there is none. NULL: the
     * kind adds no products. */
    la_status (*read_product)(la_adapter *adapter, la_pool *pool, const char *key,
                              la_product *product, la_error *err);
    /* Parts at embedding tables [rows, width] (*adapted: whether there are tensors at module),
     * behind attention and FFN of a layer, and before the tokens of a row. */
    la_status (*bind_table)(la_adapter *adapter, la_pool *pool, const char *module, int64_t rows,
                            int64_t width, la_embedding *e, la_parameter parameters[2],
                            bool *adapted, la_error *err);
    la_status (*bind_layer)(la_binder *b, la_adapter *adapter, int64_t layer, la_error *err);
    la_status (*read_tokens)(la_team team, la_adapter *adapter, const la_virtual_widths *widths,
                             la_pool *pool, la_virtual_tokens *out, la_error *err);
};

extern const la_adapter_kind *const la_adapter_kinds[]; /* ends with NULL */
/* NULL when the library has none of that name. */
const la_adapter_kind *la_adapter_kind_find(const la_adapter_library *library, const char *name);
/* "one, another and a third", for messages. */
const char *la_adapter_kind_names(const la_adapter_library *library, const char *before_last,
                                  char *buffer, size_t size);

/* Reads adapter_config.json and adapter_model.safetensors of DIR, or of DIR/NAME where that
 * holds an adapter. name: which of several is meant; NULL: the only one, or "default"; "A,B":
 * both at once, in that order. Free with la_adapter_close. */
la_status la_adapter_open(const char *dir, const char *name, la_adapter *adapter, const la_log *log,
                          la_error *err);
void la_adapter_close(la_adapter *adapter);
/* The entry KEY, marked as used; NULL: missing. */
la_adapter_entry *la_adapter_find(la_adapter *adapter, const char *key);
/* The tensor MODULE.SUFFIX; NULL: missing. *key (may be NULL) is its entry's. */
const la_tensor *la_adapter_tensor(la_adapter *adapter, const char *module, const char *suffix,
                                   const char **key);
/* f32 copy of a tensor in the pool, and the sum of its squares; NULL: no memory. */
float *la_adapter_values(la_pool *pool, const la_tensor *tensor, double *square, la_error *err);
/* Digest of all adapters: their tensors and what the forward pass depends on. */
la_status la_adapter_digest(const la_adapter *adapter, char out[LA_DIGEST_TEXT], la_error *err);

#endif
