/* Adapter folders of PEFT and of the `adapters` library: configuration, tensors, and the kinds of adapter.
 *
 * A kind is attached to a site (one projection). It computes the projection with what it changes of
 * it, sends cotangents back, and exposes its trained matrices as blocks: linear maps with an input x
 * and an output cotangent g. Curvature and predictive see only blocks. A new kind is one file and one
 * row of the table in adapter.c.
 *
 * A model can have several adapters, as a chain: those of several names, or the parts of a union of the
 * `adapters` library. On one projection the later one holds the earlier one inside. */
#ifndef LA_MODEL_ADAPTER_H
#define LA_MODEL_ADAPTER_H

#include "base/digest.h"
#include "base/memory.h"
#include "input/safetensors.h"
#include "model/blocks.h"

#include <jansson.h>

typedef struct la_adapter_kind la_adapter_kind;

enum { LA_SITE_BLOCKS = 3 };

/* An adapted projection. Owned by the model. */
typedef struct la_site {
    const la_adapter_kind *kind;
    const char *module;
    int64_t out, in;
    struct la_site
        *inner; /* of another adapter: what it makes of the projection is changed here; NULL */
    int64_t state_cols; /* floats a token that forward leaves for backward, the inner ones' too */
    int64_t own_cols;   /* its own of them, which come first */
    int64_t blocks[LA_SITE_BLOCKS]; /* numbers in the model's list; -1: no such block */
    /* LoRA: y += scale B (A x) */
    la_mat a, b; /* [r, in], [out, r] */
    float scale;
    const float *bias; /* on the host: what it adds to the projection's bias; NULL: nothing */
    /* DoRA: (W x + scale B A x) times out_scale, column by column, before bias and residual. Where the
     * magnitudes are wanted as a block, forward keeps the product over norms, and multiplies by them. */
    const float *out_scale, *inverse_norm; /* [out] magnitude / norm, 1 / norm; NULL: not */
    la_mat magnitude;                      /* [out, 1], f32; data NULL: not */
    bool keeps_product;
    /* AdaLoRA: A x times this, column by column; NULL: not */
    const float *state_scale; /* [r] */
    /* IA3: output (with the bias) or input times this, column by column; data NULL: not */
    la_mat vector; /* [out, 1] or [in, 1], f32 */
    bool scales_input;
} la_site;

/* A projection: y = x w^T + bias, and what an adapter makes of it. */
typedef struct la_linear {
    la_mat w;      /* [out, in]; data NULL where the architecture has no such projection */
    la_mat bias;   /* [1, out]; data NULL: none */
    la_site *site; /* NULL: not adapted */
} la_linear;

/* Backward at a site. */
typedef struct la_site_pass {
    la_block_io io;      /* x, x_at_g, g of the projection; g_scale is not used */
    const la_mat *state; /* [Q, state_cols], of the tokens in x_at_g */
    la_mat state_all;    /* workspace [T, state_cols] */
    la_mat state_g;      /* workspace [n_rhs Q, state_cols] */
    la_mat scaled_g;     /* workspace [n_rhs Q, out]; only where the site has out_scale */
    float beta;          /* 0 or 1 */
    la_mat *dx;          /* [n_rhs Q, in] = beta dx + the projection's; NULL when not asked for */
    const la_block_visitor *visitor;
} la_site_pass;

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
    const char *name;    /* of the block, or the beginning of the blocks' names */
    const float *values; /* [n, width]; of layers: key, value of layer 0, of layer 1, ... */
} la_virtual_tokens;

/* Of the base: what virtual tokens have to fit. */
typedef struct la_virtual_widths {
    int64_t layers, kv, hidden, embedding; /* kv: of the keys of one layer */
} la_virtual_widths;

typedef struct la_adapter {
    la_pool pool;
    la_checkpoint *file;
    la_checkpoint *head; /* of the `adapters` library, which keeps it apart; NULL: none */
    json_t *config;
    const char *config_path;
    const json_t *own; /* the part of config that is this adapter's */
    const la_adapter_kind *kind;
    la_adapter_entry *entries; /* sorted by key */
    int64_t n_entries;
    const char *task_type;   /* NULL when not stored */
    const char *name;        /* which of several in the file; NULL where there is but one */
    const char *mark;        /* stands behind its blocks' names; NULL: nothing does */
    bool shares;             /* file, head, config and entries are those of the one before */
    struct la_adapter *next; /* another in the same model; owned; NULL: none */
} la_adapter;

struct la_adapter_kind {
    const char *peft_type;    /* NULL: of the `adapters` library */
    const char *architecture; /* of that library; NULL: bottleneck */
    bool prompt;              /* keys of trained modules lack one "model." */
    /* Refuses what the configuration asks and this kind does not do. */
    la_status (*check)(const la_adapter *adapter, const la_log *log, la_error *err);
    /* Fills *site and *blocks (name, sizes, norm) from the tensors at module; *adapted is false
     * when there are none. Memory from pool. NULL, like forward and backward: the kind is attached to
     * no projection. */
    la_status (*bind)(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_block blocks[LA_SITE_BLOCKS], int *n_blocks, bool *adapted, la_error *err);
    /* y = adapted projection of x + residual (may be NULL), leaving state[T, state_cols] */
    void (*forward)(la_backend *be, const la_linear *linear, const la_mat *x,
                    const la_mat *residual, la_mat *state, la_mat *y);
    void (*backward)(la_backend *be, const la_linear *linear, const la_site_pass *pass);
    /* Virtual tokens, which are in no module; NULL: it has none. Memory from pool. */
    la_status (*read_tokens)(la_team team, la_adapter *adapter, const la_virtual_widths *widths,
                             la_pool *pool, la_virtual_tokens *out, la_error *err);
    /* Suffixes of tensor keys that belong to this kind, NULL-terminated: for messages about stray
     * tensors. */
    const char *const *suffixes;
};

extern const la_adapter_kind la_adapter_lora, la_adapter_adalora, la_adapter_ia3, la_adapter_prompt,
    la_adapter_p_tuning, la_adapter_prefix, la_adapter_bottleneck, la_adapter_library_lora,
    la_adapter_library_prefix;

/* Reads adapter_config.json and adapter_model.safetensors of DIR, or of DIR/NAME where that holds an
 * adapter. name: which of several is meant; NULL: the only one, or "default"; "A,B": both at once, in
 * that order. Free with la_adapter_close. */
la_status la_adapter_open(const char *dir, const char *name, la_adapter *adapter, const la_log *log,
                          la_error *err);
void la_adapter_close(la_adapter *adapter);
/* The entry KEY, marked as used; NULL when there is none. */
la_adapter_entry *la_adapter_find(la_adapter *adapter, const char *key);
/* The tensor MODULE.SUFFIX; NULL when there is none. *key (may be NULL) is its entry's. */
const la_tensor *la_adapter_tensor(la_adapter *adapter, const char *module, const char *suffix,
                                   const char **key);
/* f32 copy of a tensor in the pool, and the sum of its squares; NULL: no memory. */
float *la_adapter_values(la_pool *pool, const la_tensor *tensor, double *square, la_error *err);
/* LA_UNSUPPORTED, naming it, for a configuration key that is set and in neither list (each ends with
 * NULL). */
la_status la_adapter_check_keys(const la_adapter *adapter, const char *const *known,
                                const char *const *more, la_error *err);

/* ---- site.c ---- */

/* The site's own columns of a state. */
la_mat la_site_own(const la_site *site, const la_mat *state);
/* y = the projection as the inner sites have it + residual (may be NULL). state: of linear's site. */
void la_site_inner_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                           const la_mat *residual, const la_mat *state, la_mat *y);
/* Its backward: pass is that of linear's site, with x, g, dx and beta as the inner ones see them. */
void la_site_inner_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass);
/* Inputs of blocks that are vectors: a column of ones for x, in state_all, and as much of it as x_at_g
 * has rows. */
void la_site_ones(la_backend *be, const la_site_pass *pass, la_mat *ones, la_mat *fewer);

/* ---- adapter_digest.c ---- */

/* Of all adapters: their tensors and what the forward pass depends on. */
la_status la_adapter_digest(const la_adapter *adapter, char out[LA_DIGEST_TEXT], la_error *err);

#endif
