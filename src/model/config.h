/* config.json, resolved through the keys of its architecture's row: v4 and v5 spellings of
 * transformers. */
#ifndef LA_MODEL_CONFIG_H
#define LA_MODEL_CONFIG_H

#include "base/digest.h"
#include "input/rows.h"
#include "likelihood/likelihood.h"
#include "model/arch.h"
#include "model/quantised.h"
#include "model/rope.h"

#include <jansson.h>

enum { LA_ROPES = 2 }; /* one for layers that see all, one for those that slide */

typedef struct la_layer_plan {
    int rope;              /* which one; -1: the layer does not rotate */
    int64_t before, after; /* window of its attention (la_attention) */
    bool slides;           /* it sees a window, where there is one */
    double score_scale;
} la_layer_plan;

/* Scores that know the distance of query and key (la_relative). */
typedef struct la_distances {
    int64_t span;    /* half the lines of the table; 0: scores do not know distances */
    int64_t buckets; /* distances share lines; 0: each has its own */
    int64_t most;    /* distance at which the buckets end */
    bool c2p, p2c;   /* terms: query with line, key with line */
    bool shared;     /* lines are projected as tokens are */
    bool norm;       /* lines are normed */
} la_distances;

/* Layers of a head, as config.json has them. */
typedef struct la_head_settings {
    bool bias[LA_HEAD_LAYERS];
    la_activation activation[LA_HEAD_LAYERS];
} la_head_settings;

typedef struct la_config {
    const la_arch *arch;
    int64_t hidden, layers, heads, kv_heads, head_dim, ffn, vocab, max_positions, type_vocab;
    int64_t embedding; /* width of the embedding tables */
    la_activation activation;
    double norm_eps;
    bool attention_bias, ffn_bias, norm_bias, tied;
    double score_scale;          /* scale of attention scores, unless a layer's plan differs */
    double score_cap, logit_cap; /* softcaps, 0: none */
    la_rope rope[LA_ROPES];
    int n_ropes;         /* 0: not rotary */
    la_layer_plan *plan; /* [layers]; owned */
    la_distances distances;
    bool has_positions, has_types;   /* tables of them */
    bool wrapped;                    /* the text part of a model of several kinds of input */
    bool pool_mean;                  /* the pooling key says so */
    la_head_settings classify, tags; /* the architecture's heads, as config.json has them */
    int64_t pad_id;                  /* -1: none */
    la_labels labels;                /* names in id2label when they are real ones; owned */
    const la_likelihood *likelihood; /* problem_type; NULL: the number of outputs decides */
    int64_t model_max_length;        /* limit of tokenizer_config.json; 0: none */
    const char *quantised; /* how the weights of linear layers are stored; NULL: plainly */
} la_config;

/* Reads DIR/config.json. Free with la_config_free. */
la_status la_config_read(const char *dir, la_config *config, la_error *err);
void la_config_free(la_config *config);
/* Names of the classes in id2label, unless they are the LABEL_0, LABEL_1 that transformers makes
 * up; labels stay empty then. */
la_status la_config_labels(const json_t *root, const char *path, la_labels *labels, la_error *err);
/* The config.json that some tools leave beside an adapter, which is of the fine-tuned model:
 * names of its classes; other differences from the base's are reported, or refused where it
 * changes what the answers mean. */
la_status la_config_beside(const char *adapter, const char *base, la_labels *labels,
                           const la_log *log, la_error *err);
/* Replaces *likelihood by the one that a config.json beside the adapter's weights names, if it
 * does: that of its training. */
la_status la_config_problem_beside(const char *adapter, const la_likelihood **likelihood,
                                   la_error *err);
/* The likelihood that "problem_type" names; NULL: none. */
la_status la_config_problem(const json_t *root, const char *path, const la_likelihood **likelihood,
                            la_error *err);
/* Tokens that rows are cut to by default, and the most a row can have (0: no limit). */
int64_t la_config_default_length(const la_config *config);
int64_t la_config_most_tokens(const la_config *config);
/* Adds what the computation depends on. */
void la_config_digest(const la_config *config, la_digest *digest);

#endif
