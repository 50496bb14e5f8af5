#include "model/arch.h"
#include "base/list.h"

#include <stdio.h>
#include <string.h>

/* ---- what rows share ---- */

/* Encoders with norms behind the sums; the head of token classification is one layer on every
 * state. */
#define ENCODER                                                                                    \
    .default_activation = "gelu", .norm_kind = LA_NORM_LAYER, .bias = true,                        \
    .embed_tokens = "embeddings.word_embeddings",                                                  \
    .embed_positions = "embeddings.position_embeddings", .embed_norm = "embeddings.LayerNorm",     \
    .classify_token = LA_POOL_FIRST, .tags = {{.module = "classifier", .bias = true}}

/* Keys of sizes that most families have. */
#define SIZE_KEYS                                                                                  \
    .hidden = "hidden_size", .layers = "num_hidden_layers", .heads = "num_attention_heads",        \
    .ffn = "intermediate_size", .vocab = "vocab_size", .max_positions = "max_position_embeddings"

/* BERT's body, under the names that its descendants kept */
#define BERT_KEYS                                                                                  \
    SIZE_KEYS, .type_vocab = "type_vocab_size", .activation = "hidden_act",                        \
               .norm_eps = "layer_norm_eps"
#define BERT_NAMES                                                                                 \
    .embed_types = "embeddings.token_type_embeddings",                                             \
    .norm = {"encoder.layer.%lld.attention.output.LayerNorm",                                      \
             "encoder.layer.%lld.output.LayerNorm"},                                               \
    .linear[LA_SLOT_O] = "encoder.layer.%lld.attention.output.dense",                              \
    .linear[LA_SLOT_UP] = "encoder.layer.%lld.intermediate.dense",                                 \
    .linear[LA_SLOT_DOWN] = "encoder.layer.%lld.output.dense"
#define BERT_BODY                                                                                  \
    ENCODER, BERT_NAMES,                                                                           \
        .default_eps = 1e-12, .linear[LA_SLOT_Q] = "encoder.layer.%lld.attention.self.query",      \
        .linear[LA_SLOT_K] = "encoder.layer.%lld.attention.self.key",                              \
        .linear[LA_SLOT_V] = "encoder.layer.%lld.attention.self.value",                            \
        .fixed = {{"position_embedding_type", "absolute"}, {"is_decoder", "false"}}
#define ROBERTA(type, body)                                                                        \
    {                                                                                              \
        .model_type = type, .prefix = body, .keys = {BERT_KEYS}, BERT_BODY, .default_pad = 1,      \
        .position_after_pad = true,                                                                \
        .classify = {{.module = "classifier.dense", .bias = true, .activation = LA_ACT_TANH},      \
                     {.module = "classifier.out_proj", .bias = true}},                             \
    }

/* Llama's body, likewise */
#define LLAMA_KEYS                                                                                 \
    SIZE_KEYS, .kv_heads = "num_key_value_heads", .head_dim = "head_dim", .norm_eps = "rms_norm_eps"
#define LLAMA_STREAM                                                                               \
    .norm_kind = LA_NORM_RMS, .pre_norm = true, .causal = true, .rotary = true, .gated = true,     \
    .prefix = "model.", .embed_tokens = "embed_tokens", .final_norm = "norm", SCORE_HEAD
#define LLAMA_LINEAR                                                                               \
    .linear = {[LA_SLOT_Q] = "layers.%lld.self_attn.q_proj",                                       \
               [LA_SLOT_K] = "layers.%lld.self_attn.k_proj",                                       \
               [LA_SLOT_V] = "layers.%lld.self_attn.v_proj",                                       \
               [LA_SLOT_O] = "layers.%lld.self_attn.o_proj",                                       \
               [LA_SLOT_GATE] = "layers.%lld.mlp.gate_proj",                                       \
               [LA_SLOT_UP] = "layers.%lld.mlp.up_proj",                                           \
               [LA_SLOT_DOWN] = "layers.%lld.mlp.down_proj"}
#define LLAMA_BODY                                                                                 \
    LLAMA_STREAM, .default_eps = 1e-6, .default_pad = -1,                                          \
                  .norm[LA_NORM_ATTENTION] = "layers.%lld.input_layernorm"
#define SILU_AND_10000 .default_activation = "silu", .theta = 1e4
#define LLAMA_NORM_FFN .norm[LA_NORM_FFN] = "layers.%lld.post_attention_layernorm"
#define LLAMA_NORM_QK                                                                              \
    .norm[LA_NORM_Q] = "layers.%lld.self_attn.q_norm",                                             \
    .norm[LA_NORM_K] = "layers.%lld.self_attn.k_norm"
#define LLAMA LLAMA_BODY, SILU_AND_10000, LLAMA_NORM_FFN, LLAMA_LINEAR
#define SCORE_HEAD                                                                                 \
    .classify_token = LA_POOL_LAST_CONTENT, .classify = {{.module = "score"}}, .lm_head = "lm_head"

#define QWEN_WINDOW                                                                                \
    .window = "sliding_window", .window_used = "use_sliding_window",                               \
    .window_from = "max_window_layers"

/* Gemma's: norms by 1 + weight, scaled embeddings, an explicit head size */
#define GEMMA_BODY                                                                                 \
    LLAMA_BODY, .default_activation = "gelu_pytorch_tanh", .norm_plus_one = true,                  \
                .scale_embedding = true, .default_tied = true
#define GEMMA_NORMS                                                                                \
    .norm[LA_NORM_ATTENTION_OUT] = "layers.%lld.post_attention_layernorm",                         \
    .norm[LA_NORM_FFN] = "layers.%lld.pre_feedforward_layernorm",                                  \
    .norm[LA_NORM_FFN_OUT] = "layers.%lld.post_feedforward_layernorm"
#define GEMMA_KEYS                                                                                 \
    LLAMA_KEYS, .activation = "hidden_activation", .attention_bias = "attention_bias",             \
                .window = "sliding_window", .query_scalar = "query_pre_attn_scalar",               \
                .score_cap = "attn_logit_softcapping", .logit_cap = "final_logit_softcapping"

#define MODERNBERT_HEAD                                                                            \
    {.module = "head.dense",                                                                       \
     .bias_key = "classifier_bias",                                                                \
     .activation = LA_ACT_GELU,                                                                    \
     .activation_key = "classifier_activation",                                                    \
     .norm = "head.norm"},                                                                         \
    {                                                                                              \
        .module = "classifier", .bias = true                                                       \
    }

static const la_arch archs[] = {
    {
        .model_type = "bert",
        .prefix = "bert.",
        .keys = {BERT_KEYS},
        BERT_BODY,
        .classify =
            {{.module = "pooler.dense", .in_body = true, .bias = true, .activation = LA_ACT_TANH},
             {.module = "classifier", .bias = true}},
    },
    ROBERTA("roberta", "roberta."),
    ROBERTA("xlm-roberta", "roberta."),
    ROBERTA("camembert", "roberta."),
    {
        .model_type = "electra",
        .prefix = "electra.",
        .keys = {BERT_KEYS, .embedding = "embedding_size"},
        BERT_BODY,
        .embed_project = "embeddings_project",
        .embed_project_bias = true,
        .classify = {{.module = "classifier.dense", .bias = true, .activation = LA_ACT_GELU},
                     {.module = "classifier.out_proj", .bias = true}},
    },
    {
        .model_type = "deberta-v2",
        .prefix = "deberta.",
        .keys = {BERT_KEYS, .embedding = "embedding_size", .head_dim = "attention_head_size",
                 .distances = "relative_attention", .use_positions = "position_biased_input"},
        .default_eps = 1e-7,
        ENCODER,
        BERT_NAMES,
        .embed_project = "embeddings.embed_proj",
        .norm_after_project = true,
        .distance_table = "encoder.rel_embeddings",
        .norm_distances = "encoder.LayerNorm",
        .linear[LA_SLOT_Q] = "encoder.layer.%lld.attention.self.query_proj",
        .linear[LA_SLOT_K] = "encoder.layer.%lld.attention.self.key_proj",
        .linear[LA_SLOT_V] = "encoder.layer.%lld.attention.self.value_proj",
        .linear[LA_SLOT_POS_K] = "encoder.layer.%lld.attention.self.pos_key_proj",
        .linear[LA_SLOT_POS_Q] = "encoder.layer.%lld.attention.self.pos_query_proj",
        .classify = {{.module = "pooler.dense",
                      .bias = true,
                      .activation = LA_ACT_GELU,
                      .activation_key = "pooler_hidden_act"},
                     {.module = "classifier", .bias = true}},
        .fixed = {{"conv_kernel_size", "0"}},
    },
    {
        .model_type = "distilbert",
        .prefix = "distilbert.",
        .keys = {.hidden = "dim",
                 .layers = "n_layers",
                 .heads = "n_heads",
                 .ffn = "hidden_dim",
                 .vocab = "vocab_size",
                 .max_positions = "max_position_embeddings",
                 .activation = "activation"},
        .default_eps = 1e-12,
        ENCODER,
        .norm = {"transformer.layer.%lld.sa_layer_norm",
                 "transformer.layer.%lld.output_layer_norm"},
        .linear = {[LA_SLOT_Q] = "transformer.layer.%lld.attention.q_lin",
                   [LA_SLOT_K] = "transformer.layer.%lld.attention.k_lin",
                   [LA_SLOT_V] = "transformer.layer.%lld.attention.v_lin",
                   [LA_SLOT_O] = "transformer.layer.%lld.attention.out_lin",
                   [LA_SLOT_UP] = "transformer.layer.%lld.ffn.lin1",
                   [LA_SLOT_DOWN] = "transformer.layer.%lld.ffn.lin2"},
        .classify = {{.module = "pre_classifier", .bias = true, .activation = LA_ACT_RELU},
                     {.module = "classifier", .bias = true}},
    },
    {
        .model_type = "modernbert",
        .prefix = "model.",
        .keys = {SIZE_KEYS, .activation = "hidden_activation", .norm_eps = "norm_eps",
                 .attention_bias = "attention_bias", .ffn_bias = "mlp_bias",
                 .norm_bias = "norm_bias", .window = "local_attention",
                 .full_every = "global_attn_every_n_layers", .local_theta = "local_rope_theta",
                 .global_theta = "global_rope_theta"},
        .default_eps = 1e-5,
        .default_activation = "gelu",
        .default_pad = 50283,
        .norm_kind = LA_NORM_LAYER,
        .pre_norm = true,
        .gated = true,
        .rotary = true,
        .theta = 160000,
        .local_theta = 1e4,
        .slide = LA_SLIDE_NOT_FIRST,
        .default_window = 128,
        .default_full_every = 3,
        .window_both = true,
        .embed_tokens = "embeddings.tok_embeddings",
        .embed_norm = "embeddings.norm",
        .final_norm = "final_norm",
        .norm = {"layers.%lld.attn_norm", "layers.%lld.mlp_norm"},
        .first_norm_absent = true,
        .linear = {[LA_SLOT_QKV] = "layers.%lld.attn.Wqkv",
                   [LA_SLOT_O] = "layers.%lld.attn.Wo",
                   [LA_SLOT_GATE_UP] = "layers.%lld.mlp.Wi",
                   [LA_SLOT_DOWN] = "layers.%lld.mlp.Wo"},
        .fixed = {{"rope_scaling", "null"}},
        .classify_token = LA_POOL_FIRST,
        .pooling_key = "classifier_pooling",
        .classify = {MODERNBERT_HEAD},
        .tags = {MODERNBERT_HEAD},
    },
    {
        .model_type = "gpt2",
        .prefix = "transformer.",
        .keys = {.hidden = "n_embd",
                 .layers = "n_layer",
                 .heads = "n_head",
                 .ffn = "n_inner",
                 .vocab = "vocab_size",
                 .max_positions = "n_positions",
                 .activation = "activation_function",
                 .norm_eps = "layer_norm_epsilon",
                 .layer_scaled = "scale_attn_by_inverse_layer_idx"},
        .default_eps = 1e-5,
        .default_activation = "gelu_new",
        .default_pad = -1,
        .default_ffn = 4,
        .default_tied = true,
        .norm_kind = LA_NORM_LAYER,
        .pre_norm = true,
        .causal = true,
        .bias = true,
        .transposed = true,
        .embed_tokens = "wte",
        .embed_positions = "wpe",
        .final_norm = "ln_f",
        .norm = {"h.%lld.ln_1", "h.%lld.ln_2"},
        .linear = {[LA_SLOT_QKV] = "h.%lld.attn.c_attn",
                   [LA_SLOT_O] = "h.%lld.attn.c_proj",
                   [LA_SLOT_UP] = "h.%lld.mlp.c_fc",
                   [LA_SLOT_DOWN] = "h.%lld.mlp.c_proj"},
        SCORE_HEAD,
        .fixed = {{"scale_attn_weights", "true"}, {"add_cross_attention", "false"}},
    },
    {
        .model_type = "llama",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", .attention_bias = "attention_bias",
                 .ffn_bias = "mlp_bias"},
        LLAMA,
    },
    {
        .model_type = "mistral",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", .window = "sliding_window"},
        LLAMA,
        .slide = LA_SLIDE_ALL,
        .default_window = 4096,
    },
    {
        .model_type = "qwen2",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", QWEN_WINDOW},
        LLAMA,
        .qkv_bias = true,
        .slide = LA_SLIDE_FROM,
    },
    {
        .model_type = "qwen3",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", .attention_bias = "attention_bias",
                 QWEN_WINDOW},
        LLAMA,
        LLAMA_NORM_QK,
        .sizes = {.head_dim = 128},
        .slide = LA_SLIDE_FROM,
    },
    {
        .model_type = "olmo2",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", .attention_bias = "attention_bias"},
        LLAMA_STREAM,
        SILU_AND_10000,
        .default_eps = 1e-5,
        .default_pad = 1,
        .norm[LA_NORM_ATTENTION_OUT] = "layers.%lld.post_attention_layernorm",
        .norm[LA_NORM_FFN_OUT] = "layers.%lld.post_feedforward_layernorm",
        LLAMA_NORM_QK,
        .norm_heads_together = true,
        LLAMA_LINEAR,
    },
    {
        .model_type = "smollm3",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", .attention_bias = "attention_bias",
                 .ffn_bias = "mlp_bias", .rope_layers = "no_rope_layers",
                 .rope_interval = "no_rope_layer_interval"},
        LLAMA,
        .default_tied = true,
        .default_rope_interval = 4,
        .fixed = {{"use_sliding_window", "false"}},
    },
    {
        .model_type = "phi3",
        .keys = {LLAMA_KEYS, .activation = "hidden_act", .window = "sliding_window"},
        LLAMA_BODY,
        SILU_AND_10000,
        LLAMA_NORM_FFN,
        .linear = {[LA_SLOT_QKV] = "layers.%lld.self_attn.qkv_proj",
                   [LA_SLOT_O] = "layers.%lld.self_attn.o_proj",
                   [LA_SLOT_GATE_UP] = "layers.%lld.mlp.gate_up_proj",
                   [LA_SLOT_DOWN] = "layers.%lld.mlp.down_proj"},
        .slide = LA_SLIDE_ALL,
    },
    {
        .model_type = "gemma",
        .keys = {LLAMA_KEYS, .activation = "hidden_activation", .attention_bias = "attention_bias"},
        GEMMA_BODY,
        .sizes = {.head_dim = 256},
        .theta = 1e4,
        LLAMA_NORM_FFN,
        LLAMA_LINEAR,
    },
    {
        .model_type = "gemma2",
        .keys = {GEMMA_KEYS},
        GEMMA_BODY,
        .sizes = {.head_dim = 256},
        .theta = 1e4,
        GEMMA_NORMS,
        LLAMA_LINEAR,
        .slide = LA_SLIDE_NOT_LAST,
        .default_full_every = 2,
        .default_window = 4096,
        .default_query_scalar = 256,
        .default_score_cap = 50,
        .default_logit_cap = 30,
        .fixed = {{"use_bidirectional_attention", "false"}},
    },
    {
        .model_type = "gemma3_text",
        .keys = {GEMMA_KEYS, .full_every = "sliding_window_pattern",
                 .local_theta = "rope_local_base_freq", .global_theta = "rope_theta"},
        GEMMA_BODY,
        .sizes =
            {.heads = 8, .kv_heads = 4, .head_dim = 256, .vocab = 262208, .max_positions = 131072},
        GEMMA_NORMS,
        LLAMA_LINEAR,
        LLAMA_NORM_QK,
        .theta = 1e6,
        .local_theta = 1e4,
        .slide = LA_SLIDE_NOT_LAST,
        .default_full_every = 6,
        .default_window = 4096,
        .default_query_scalar = 256,
        .fixed = {{"use_bidirectional_attention", "false"}},
    },
};
enum { N_ARCHS = sizeof archs / sizeof *archs };

static const struct {
    const char *name;
    la_activation kind;
} activations[] = {
    {"gelu", LA_ACT_GELU},           {"gelu_python", LA_ACT_GELU},
    {"gelu_new", LA_ACT_GELU_TANH},  {"gelu_pytorch_tanh", LA_ACT_GELU_TANH},
    {"gelu_fast", LA_ACT_GELU_TANH}, {"gelu_python_tanh", LA_ACT_GELU_TANH},
    {"silu", LA_ACT_SILU},           {"swish", LA_ACT_SILU},
    {"relu", LA_ACT_RELU},           {"tanh", LA_ACT_TANH},
};

const la_arch *la_arch_find(const char *model_type) {
    for (int i = 0; i < N_ARCHS; i++)
        if (!strcmp(archs[i].model_type, model_type))
            return &archs[i];
    return NULL;
}

const char *la_arch_names(char *buffer, size_t size) {
    return la_list_names(buffer, size, ", ", &archs->model_type, sizeof *archs, N_ARCHS);
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
    return la_list_names(buffer, size, ", ", &activations->name, sizeof *activations,
                         sizeof activations / sizeof *activations);
}
