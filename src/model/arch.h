/* Architectures as rows of data. Model code reads the flags of a row and never asks which row it
 * is. */
#ifndef LA_MODEL_ARCH_H
#define LA_MODEL_ARCH_H

#include "backend/ops.h"

/* The projections of a block, in the order data passes them. A fused one stands for those behind
 * it: its rows are theirs, one after the other. */
typedef enum la_slot {
    LA_SLOT_QKV,
    LA_SLOT_Q,
    LA_SLOT_K,
    LA_SLOT_V,
    LA_SLOT_POS_K, /* reads the table of distances, where K and Q do not serve for it */
    LA_SLOT_POS_Q,
    LA_SLOT_O,
    LA_SLOT_GATE_UP,
    LA_SLOT_GATE,
    LA_SLOT_UP,
    LA_SLOT_DOWN,
    LA_SLOTS
} la_slot;

/* The norms of a layer; the first two and the next two by part: attention, FFN. */
typedef enum la_layer_norm {
    LA_NORM_ATTENTION,
    LA_NORM_FFN,
    LA_NORM_ATTENTION_OUT, /* norms what is added to the residual */
    LA_NORM_FFN_OUT,
    LA_NORM_Q, /* head by head, unless norm_heads_together */
    LA_NORM_K,
    LA_LAYER_NORMS
} la_layer_norm;

/* The state of a row that the head reads. */
typedef enum la_pool_token {
    LA_POOL_FIRST,
    LA_POOL_LAST,
    LA_POOL_LAST_CONTENT, /* the last one that is not pad_token_id */
    LA_POOL_MEAN,         /* over all tokens, behind the final norm */
    LA_POOL_PLACE         /* the token that the row names */
} la_pool_token;

typedef struct la_head_row {
    const char *module; /* NULL ends the list */
    bool in_body;       /* the name stands behind the body's prefix */
    bool bias;
    const char *bias_key; /* key of config.json, which then decides; NULL: bias does */
    la_activation activation;
    const char *activation_key; /* likewise */
    const char *norm;           /* a norm behind the activation; NULL: none */
} la_head_row;

enum { LA_HEAD_LAYERS = 2 };

/* Keys of config.json; NULL where the architecture has none. */
typedef struct la_config_keys {
    const char *hidden, *layers, *heads, *kv_heads, *head_dim, *ffn, *vocab, *max_positions;
    const char *type_vocab, *embedding, *activation, *norm_eps;
    const char *attention_bias, *ffn_bias, *norm_bias;
    const char *window;       /* tokens that a sliding layer sees */
    const char *window_used;  /* false: it does not slide at all */
    const char *window_from;  /* the first layer that slides */
    const char *full_every;   /* one layer of so many does not slide */
    const char *query_scalar; /* scores are divided by its root, not by head_dim's */
    const char *layer_scaled; /* scores are divided by the layer's number, from 1 on, too */
    const char *score_cap, *logit_cap; /* softcaps */
    const char *local_theta, *global_theta;
    const char *distances;     /* true: scores know distances, and the keys of la_distances count */
    const char *use_positions; /* false: no table of positions */
    const char *rope_layers;   /* a list: 1 where a layer rotates */
    const char *rope_interval; /* every so many layers one does not rotate */
} la_config_keys;

/* Which layers slide, where config.json does not list layer_types. */
typedef enum la_slide {
    LA_SLIDE_NONE,
    LA_SLIDE_ALL,       /* every layer, if there is a window */
    LA_SLIDE_FROM,      /* from layer window_from on, if window_used */
    LA_SLIDE_NOT_FIRST, /* all but the first of every full_every layers */
    LA_SLIDE_NOT_LAST   /* all but the last of every full_every layers */
} la_slide;

/* Sizes that a class takes where config.json lacks the key; 0: the key must be there. */
typedef struct la_size_defaults {
    int64_t heads, kv_heads, head_dim, vocab, max_positions;
} la_size_defaults;

typedef struct la_arch {
    const char *model_type;
    const char *prefix; /* prefix of the body's tensors; checkpoints of the bare body lack it */
    la_config_keys keys;
    double default_eps;
    const char *default_activation;
    int64_t default_pad;    /* -1: none */
    int64_t default_ffn;    /* times hidden, where the key is absent or null; 0: it must be there */
    la_size_defaults sizes; /* head_dim 0: hidden / heads; kv_heads 0: heads */
    bool default_tied; /* the head of a causal LM is the embedding unless config.json says no */

    la_norm_kind norm_kind;
    bool norm_plus_one; /* norms multiply by 1 + weight */
    bool pre_norm; /* norms before attention and FFN, where there are any, and a final one; else
                           after the sums */
    bool causal;
    bool gated;      /* FFN act(gate x) * (up x); else act(up x) */
    bool bias;       /* projections have biases, where no key of config.json decides */
    bool qkv_bias;   /* q, k and v have, whatever the others */
    bool transposed; /* projections are stored [in, out] */

    bool rotary;                   /* else learned absolute positions, or none */
    double theta, local_theta;     /* default bases; local: of sliding layers, 0: the same */
    int64_t default_rope_interval; /* 0: every layer rotates */
    la_slide slide;
    int64_t default_window, default_full_every;
    bool window_both; /* a window's half to either side */
    double default_query_scalar, default_score_cap, default_logit_cap;

    bool scale_embedding;    /* by the root of hidden */
    bool position_after_pad; /* tokens but pads are numbered from pad_token_id + 1 on */
    const char *embed_tokens, *embed_positions, *embed_types, *embed_norm, *final_norm;
    const char *distance_table, *norm_distances; /* lines of distances, and their norm */
    bool norm_after_project;                     /* embed_norm stands behind embed_project */
    const char *embed_project;                   /* embedding -> hidden, where the widths differ */
    bool embed_project_bias;
    const char *norm[LA_LAYER_NORMS]; /* with one %lld for the layer; NULL where there is none */
    bool norm_heads_together;         /* those of q and k are of all heads at once */
    bool first_norm_absent;           /* the first layer lacks LA_NORM_ATTENTION */
    const char *linear[LA_SLOTS];     /* likewise; NULL where there is none */

    la_pool_token classify_token;
    const char *pooling_key; /* "cls" or "mean", in config.json */
    la_head_row classify[LA_HEAD_LAYERS + 1];
    la_head_row tags[LA_HEAD_LAYERS + 1]; /* the head on every token; empty: no such task */
    const char *lm_head;                  /* NULL: no answer-token task */

    /* keys that change the computation in ways we do not have: {key, value it may hold as text} */
    const char *fixed[6][2];
} la_arch;

/* NULL when there is no such row. */
const la_arch *la_arch_find(const char *model_type);
/* "one, another", for messages. */
const char *la_arch_names(char *buffer, size_t size);
/* Activation by its name in config files; false when unknown. */
bool la_activation_find(const char *name, la_activation *out);
/* "gelu, gelu_new, ...", for messages. */
const char *la_activation_names(char *buffer, size_t size);

#endif
