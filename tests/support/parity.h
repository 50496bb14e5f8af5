/* Tiny checkpoints against an independent float64 reference (tests/reference/laplace_reference.py):
 * logits, log likelihood, log marginal likelihood, prior precision, covariance, for expand and
 * reduce. */
#ifndef LA_TESTS_PARITY_H
#define LA_TESTS_PARITY_H

#include "laplora.h"
#include "support/support.h"

#include <stdbool.h>

/* Every case, as CASE(function name, folder). */
#define PARITY_CASES(CASE) PARITY_CASES_DENSE(CASE) PARITY_CASES_LATER(CASE)

#define PARITY_CASES_LATER(CASE)                                                                   \
    CASE(llama_head, "llama-head")                                                                 \
    CASE(distilbert, "distilbert")                                                                 \
    CASE(distilbert_all_linear, "distilbert-all-linear")                                           \
    CASE(roberta, "roberta")                                                                       \
    CASE(roberta_all_linear, "roberta-all-linear")                                                 \
    CASE(xlm_roberta, "xlm-roberta")                                                               \
    CASE(electra, "electra")                                                                       \
    CASE(electra_all_linear, "electra-all-linear")                                                 \
    CASE(modernbert, "modernbert")                                                                 \
    CASE(modernbert_mean, "modernbert-mean")                                                       \
    CASE(gpt2, "gpt2")                                                                             \
    CASE(mistral, "mistral")                                                                       \
    CASE(qwen2_window, "qwen2-window")                                                             \
    CASE(qwen2_seq, "qwen2-seq")                                                                   \
    CASE(qwen3, "qwen3")                                                                           \
    CASE(phi3_longrope, "phi3-longrope")                                                           \
    CASE(phi3_longrope_long, "phi3-longrope-long")                                                 \
    CASE(gemma, "gemma")                                                                           \
    CASE(olmo2, "olmo2")                                                                           \
    CASE(olmo2_seq, "olmo2-seq")                                                                   \
    CASE(smollm3, "smollm3")                                                                       \
    CASE(llama_nf4_single, "llama-nf4-single")                                                     \
    CASE(llama_fp4_double, "llama-fp4-double")                                                     \
    CASE(llama_gptq, "llama-gptq")                                                                 \
    CASE(llama_gptq_sym, "llama-gptq-sym")                                                         \
    CASE(gemma2, "gemma2")                                                                         \
    CASE(gemma2_seq, "gemma2-seq")                                                                 \
    CASE(gemma3, "gemma3")                                                                         \
    CASE(gemma3_wrapped, "gemma3-wrapped")                                                         \
    CASE(gemma3_v4, "gemma3-v4")                                                                   \
    CASE(llama_linear, "llama-linear")                                                             \
    CASE(llama_dynamic, "llama-dynamic")                                                           \
    CASE(llama_yarn, "llama-yarn")                                                                 \
    CASE(llama_yarn_mscale, "llama-yarn-mscale")                                                   \
    CASE(deberta_v2, "deberta-v2")                                                                 \
    CASE(deberta_v2_separate, "deberta-v2-separate")                                               \
    CASE(bert_token, "bert-token")                                                                 \
    CASE(modernbert_token, "modernbert-token")                                                     \
    CASE(deberta_token, "deberta-token")                                                           \
    CASE(dora, "dora")                                                                             \
    CASE(dora_bert, "dora-bert")                                                                   \
    CASE(dora_gpt2, "dora-gpt2")                                                                   \
    CASE(dora_nf4, "dora-nf4")                                                                     \
    CASE(adalora, "adalora")                                                                       \
    CASE(adalora_pruned, "adalora-pruned")                                                         \
    CASE(lora_bias, "lora-bias")                                                                   \
    CASE(ia3_llama, "ia3-llama")                                                                   \
    CASE(ia3_bert, "ia3-bert")                                                                     \
    CASE(vera_bert, "vera-bert")                                                                   \
    CASE(vera_llama, "vera-llama")                                                                 \
    CASE(bias_all, "bias-all")                                                                     \
    CASE(lora_tied_head, "lora-tied-head")                                                         \
    CASE(lora_tied_both, "lora-tied-both")                                                         \
    CASE(lora_embedding_llama, "lora-embedding-llama")                                             \
    CASE(lora_embedding_bert, "lora-embedding-bert")                                               \
    CASE(lora_embedding_gemma3, "lora-embedding-gemma3")                                           \
    CASE(trainable_tokens, "trainable-tokens")                                                     \
    CASE(trainable_tokens_tied, "trainable-tokens-tied")                                           \
    CASE(trained_embedding_tied, "trained-embedding-tied")                                         \
    CASE(prompt_tuning, "prompt-tuning")                                                           \
    CASE(prefix_tuning, "prefix-tuning")                                                           \
    CASE(houlsby_bert, "houlsby-bert")                                                             \
    CASE(pfeiffer_bert, "pfeiffer-bert")                                                           \
    CASE(parallel_bert, "parallel-bert")                                                           \
    CASE(pfeiffer_llama, "pfeiffer-llama")                                                         \
    CASE(parallel_llama, "parallel-llama")                                                         \
    CASE(prefix_tuning_bert, "prefix-tuning-bert")                                                 \
    CASE(prefix_projection, "prefix-projection")                                                   \
    CASE(p_tuning, "p-tuning")                                                                     \
    CASE(union_bert, "union-bert")                                                                 \
    CASE(union_llama, "union-llama")                                                               \
    CASE(library_ia3_bert, "library-ia3-bert")                                                     \
    CASE(mixed_llama, "mixed-llama")                                                               \
    CASE(mixed_bert, "mixed-bert")                                                                 \
    CASE(bert_multilabel, "bert-multilabel")                                                       \
    CASE(camembert, "camembert")                                                                   \
    CASE(roberta_token, "roberta-token")                                                           \
    CASE(electra_token, "electra-token")                                                           \
    CASE(distilbert_token, "distilbert-token")                                                     \
    CASE(mistral_seq, "mistral-seq")                                                               \
    CASE(qwen3_seq, "qwen3-seq")                                                                   \
    CASE(smollm3_seq, "smollm3-seq")                                                               \
    CASE(gemma_seq, "gemma-seq")

/* Those that have dense.json as well. */
#define PARITY_CASES_DENSE(CASE)                                                                   \
    CASE(bert, "bert")                                                                             \
    CASE(llama, "llama")                                                                           \
    CASE(llama_seq, "llama-seq")                                                                   \
    CASE(bert_all_linear, "bert-all-linear")                                                       \
    CASE(bert_pair, "bert-pair")                                                                   \
    CASE(llama_gqa, "llama-gqa")                                                                   \
    CASE(llama3_scaled, "llama3-scaled")                                                           \
    CASE(bert_f16_head, "bert-f16-head")                                                           \
    CASE(llama_nf4, "llama-nf4")                                                                   \
    CASE(llama_int8, "llama-int8")                                                                 \
    CASE(bert_fp4, "bert-fp4")

/* Logits that differ by 10 between classes: log likelihoods are as sensitive as that. */
#define PARITY_CASES_SHARP(CASE)                                                                   \
    CASE(qwen2, "qwen2")                                                                           \
    CASE(gpt2_seq, "gpt2-seq") CASE(prompt_tuning_bert, "prompt-tuning-bert") CASE(phi3, "phi3")

/* At most four times the largest deviation observed over all cases, which is printed. */
typedef struct parity_limits {
    double logits, likelihood, prior; /* relative */
    double covariance;                /* relative Frobenius */
    double trace;                     /* relative */
    double probabilities;             /* absolute */
    int64_t samples;                  /* Monte Carlo draws */
    int64_t batch_tokens;             /* 0: the default */
    bool brief;                       /* the adapter's blocks under a global prior alone */
} parity_limits;

/* Fits and predicts the case NAME of tests/fixtures/parity on a device ("cpu", "cuda") in a
 * precision (NULL: the default). */
void check_parity(const char *name, const char *device, const char *precision,
                  const parity_limits *limits);

/* ---- one case, fitted and asked through the public interface ---- */

enum { PARITY_CLASSES = 8, PARITY_ROWS = 64 };

typedef struct parity_case {
    const char *name;
    char base[512], adapter[512], calib[512], test[512], posterior[512], choice_ids[256];
    char adapter_names[128];  /* "" where there is one; a posterior knows them */
    json_t *expected, *extra; /* extra: NULL where missing */
} parity_case;

typedef struct parity_inputs {
    la_input rows[PARITY_ROWS]; /* a labelled token of a row is one of its own */
    bool owner[PARITY_ROWS];    /* the first of those that share their ids */
    int64_t n;
} parity_inputs;

typedef struct parity_answers {
    la_prediction rows[PARITY_ROWS];
    double memory[PARITY_ROWS][4 * PARITY_CLASSES + PARITY_CLASSES * PARITY_CLASSES];
} parity_answers;

/* The names of adapters in subfolders of a fixture's adapter that are used at once; "": there is
 * but one. */
void parity_adapter_names(const char *adapter, char names[128]);
parity_case parity_open(const char *name);
void parity_close(parity_case *s);
parity_inputs parity_read_inputs(const char *path);
void parity_free_inputs(parity_inputs *in);
parity_answers *parity_new_answers(void); /* free it */

/* With the case's files; the posterior goes into a scratch file of the case. An error fails the
 * test. */
la_fit_summary *parity_fit(const parity_case *s, la_fit_options options);
void parity_predict(const parity_case *s, la_predict_options options, const parity_inputs *in,
                    parity_answers *out);
/* Largest relative Frobenius distance over the rows that are expected. */
double parity_covariance_gap(const json_t *expected, const parity_answers *a);

/* *worst = the larger one; a NaN stays. */
void parity_raise(double *worst, double value);

#endif
