/* config.json, resolved through the keys of its architecture's row: v4 and v5 spellings of
 * transformers. */
#ifndef LA_MODEL_CONFIG_H
#define LA_MODEL_CONFIG_H

#include "base/digest.h"
#include "input/rows.h"
#include "model/arch.h"

typedef enum la_rope_kind { LA_ROPE_DEFAULT, LA_ROPE_LINEAR, LA_ROPE_LLAMA3 } la_rope_kind;

typedef struct la_rope {
    la_rope_kind kind;
    double theta, factor, low_factor, high_factor, original_positions;
} la_rope;

typedef struct la_config {
    const la_arch *arch;
    int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab, max_positions, type_vocab;
    la_activation activation;
    double norm_eps;
    bool attention_bias, ffn_bias, tied;
    la_rope rope;
    int64_t pad_id;           /* -1: none */
    la_labels labels;         /* of id2label when they are real names; owned */
    int64_t model_max_length; /* of tokenizer_config.json; 0: none */
} la_config;

/* Reads DIR/config.json. Free with la_config_free. */
la_status la_config_read(const char *dir, la_config *config, la_error *err);
void la_config_free(la_config *config);
/* Adds what the computation depends on. */
void la_config_digest(const la_config *config, la_digest *digest);

/* inverse frequencies [head_dim / 2] of the rotary embedding. */
void la_rope_frequencies(const la_config *config, double *out);

#endif
