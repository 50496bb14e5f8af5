/* Architectures as rows of data. Model code reads the flags of a row and never asks which row it
 * is. */
#ifndef LA_MODEL_ARCH_H
#define LA_MODEL_ARCH_H

#include "backend/ops.h"

/* The projections of a block, in the order data passes them. */
typedef enum la_slot {
    LA_SLOT_Q,
    LA_SLOT_K,
    LA_SLOT_V,
    LA_SLOT_O,
    LA_SLOT_GATE,
    LA_SLOT_UP,
    LA_SLOT_DOWN,
    LA_SLOTS
} la_slot;

/* Slots that read the same matrix form a stage; backward walks the stages from the last to the
 * first. */
typedef enum la_stage { LA_STAGE_QKV, LA_STAGE_O, LA_STAGE_FFN_IN, LA_STAGE_FFN_OUT } la_stage;
la_stage la_slot_stage(la_slot slot);

/* The token of a row whose state the head reads. */
typedef enum la_pool_token {
    LA_POOL_FIRST,
    LA_POOL_LAST,
    LA_POOL_LAST_CONTENT /* the last one that is not pad_token_id */
} la_pool_token;

typedef struct la_head_row {
    const char *module; /* NULL ends the list */
    bool in_body;       /* the name stands behind the body's prefix */
    bool bias;
    la_activation activation;
} la_head_row;

enum { LA_HEAD_LAYERS = 2 };

/* Keys of config.json; NULL where the architecture has none. */
typedef struct la_config_keys {
    const char *hidden, *layers, *heads, *kv_heads, *head_dim, *ffn, *vocab, *max_positions;
    const char *type_vocab, *activation, *norm_eps, *attention_bias, *ffn_bias;
} la_config_keys;

typedef struct la_arch {
    const char *model_type;
    const char *prefix; /* of the body's tensors; checkpoints of the bare body lack it */
    la_config_keys keys;
    double default_eps;
    const char *default_activation;

    la_norm_kind norm_kind;
    bool pre_norm; /* norms before attention and FFN, and a final one; else after the sums */
    bool causal;
    bool rotary; /* else learned absolute positions */
    bool gated;  /* FFN act(gate x) * (up x); else act(up x) */
    bool bias;   /* projections have biases whatever the config says */

    const char *embed_tokens, *embed_positions, *embed_types, *embed_norm, *final_norm;
    const char *norm_attention, *norm_ffn; /* with one %lld for the layer */
    const char *linear[LA_SLOTS];          /* likewise; NULL where there is none */

    la_pool_token classify_token;
    la_head_row classify[LA_HEAD_LAYERS + 1];
    const char *lm_head; /* NULL: no answer-token task */

    /* keys that change the computation in ways we do not have: {key, value it may hold as text} */
    const char *fixed[6][2];
} la_arch;

/* NULL when there is no such row. */
const la_arch *la_arch_find(const char *model_type);
/* "bert, llama", for messages. */
const char *la_arch_names(char *buffer, size_t size);
/* Activation by its name in config files; false when unknown. */
bool la_activation_find(const char *name, la_activation *out);
/* "gelu, gelu_new, ...", for messages. */
const char *la_activation_names(char *buffer, size_t size);

#endif
