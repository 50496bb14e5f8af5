#include "model/arch.h"

#include <stdio.h>
#include <string.h>

static const la_arch archs[] = {
    {
        .model_type = "bert",
        .prefix = "bert.",
        .keys = {.hidden = "hidden_size",
                 .layers = "num_hidden_layers",
                 .heads = "num_attention_heads",
                 .ffn = "intermediate_size",
                 .vocab = "vocab_size",
                 .max_positions = "max_position_embeddings",
                 .type_vocab = "type_vocab_size",
                 .activation = "hidden_act",
                 .norm_eps = "layer_norm_eps"},
        .default_eps = 1e-12,
        .default_activation = "gelu",
        .norm_kind = LA_NORM_LAYER,
        .bias = true,
        .embed_tokens = "embeddings.word_embeddings",
        .embed_positions = "embeddings.position_embeddings",
        .embed_types = "embeddings.token_type_embeddings",
        .embed_norm = "embeddings.LayerNorm",
        .norm_attention = "encoder.layer.%lld.attention.output.LayerNorm",
        .norm_ffn = "encoder.layer.%lld.output.LayerNorm",
        .linear = {[LA_SLOT_Q] = "encoder.layer.%lld.attention.self.query",
                   [LA_SLOT_K] = "encoder.layer.%lld.attention.self.key",
                   [LA_SLOT_V] = "encoder.layer.%lld.attention.self.value",
                   [LA_SLOT_O] = "encoder.layer.%lld.attention.output.dense",
                   [LA_SLOT_UP] = "encoder.layer.%lld.intermediate.dense",
                   [LA_SLOT_DOWN] = "encoder.layer.%lld.output.dense"},
        .classify_token = LA_POOL_FIRST,
        .classify = {{"pooler.dense", true, true, LA_ACT_TANH},
                     {"classifier", false, true, LA_ACT_NONE}},
        .fixed = {{"position_embedding_type", "absolute"}, {"is_decoder", "false"}},
    },
    {
        .model_type = "llama",
        .prefix = "model.",
        .keys = {.hidden = "hidden_size",
                 .layers = "num_hidden_layers",
                 .heads = "num_attention_heads",
                 .kv_heads = "num_key_value_heads",
                 .head_dim = "head_dim",
                 .ffn = "intermediate_size",
                 .vocab = "vocab_size",
                 .max_positions = "max_position_embeddings",
                 .activation = "hidden_act",
                 .norm_eps = "rms_norm_eps",
                 .attention_bias = "attention_bias",
                 .ffn_bias = "mlp_bias"},
        .default_eps = 1e-6,
        .default_activation = "silu",
        .norm_kind = LA_NORM_RMS,
        .pre_norm = true,
        .causal = true,
        .rotary = true,
        .gated = true,
        .embed_tokens = "embed_tokens",
        .final_norm = "norm",
        .norm_attention = "layers.%lld.input_layernorm",
        .norm_ffn = "layers.%lld.post_attention_layernorm",
        .linear = {[LA_SLOT_Q] = "layers.%lld.self_attn.q_proj",
                   [LA_SLOT_K] = "layers.%lld.self_attn.k_proj",
                   [LA_SLOT_V] = "layers.%lld.self_attn.v_proj",
                   [LA_SLOT_O] = "layers.%lld.self_attn.o_proj",
                   [LA_SLOT_GATE] = "layers.%lld.mlp.gate_proj",
                   [LA_SLOT_UP] = "layers.%lld.mlp.up_proj",
                   [LA_SLOT_DOWN] = "layers.%lld.mlp.down_proj"},
        .classify_token = LA_POOL_LAST_CONTENT,
        .classify = {{"score", false, false, LA_ACT_NONE}},
        .lm_head = "lm_head",
    },
};

enum { N_ARCHS = sizeof archs / sizeof *archs };

static const struct {
    const char *name;
    la_activation kind;
} activations[] = {
    {"gelu", LA_ACT_GELU},          {"gelu_python", LA_ACT_GELU},
    {"gelu_new", LA_ACT_GELU_TANH}, {"gelu_pytorch_tanh", LA_ACT_GELU_TANH},
    {"silu", LA_ACT_SILU},          {"swish", LA_ACT_SILU},
    {"relu", LA_ACT_RELU},          {"tanh", LA_ACT_TANH},
};

la_stage la_slot_stage(la_slot slot) {
    static const la_stage stages[LA_SLOTS] = {
        [LA_SLOT_Q] = LA_STAGE_QKV,        [LA_SLOT_K] = LA_STAGE_QKV,
        [LA_SLOT_V] = LA_STAGE_QKV,        [LA_SLOT_O] = LA_STAGE_O,
        [LA_SLOT_GATE] = LA_STAGE_FFN_IN,  [LA_SLOT_UP] = LA_STAGE_FFN_IN,
        [LA_SLOT_DOWN] = LA_STAGE_FFN_OUT,
    };
    return stages[slot];
}

const la_arch *la_arch_find(const char *model_type) {
    for (int i = 0; i < N_ARCHS; i++)
        if (!strcmp(archs[i].model_type, model_type))
            return &archs[i];
    return NULL;
}

const char *la_arch_names(char *buffer, size_t size) {
    size_t used = 0;
    *buffer = 0;
    for (int i = 0; i < N_ARCHS && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", i ? ", " : "",
                                 archs[i].model_type);
    return buffer;
}

bool la_activation_find(const char *name, la_activation *out) {
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (!strcmp(activations[i].name, name)) {
            *out = activations[i].kind;
            return true;
        }
    }
    return false;
}

const char *la_activation_names(char *buffer, size_t size) {
    size_t used = 0;
    *buffer = 0;
    for (size_t i = 0; i < sizeof activations / sizeof *activations && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%s", i ? ", " : "",
                                 activations[i].name);
    return buffer;
}
