/* Tiny checkpoints against an independent float64 reference (tests/reference/laplace_reference.py):
 * logits, log likelihood, log marginal likelihood, prior precision, covariance, for expand and
 * reduce. */
#ifndef LA_TESTS_PARITY_H
#define LA_TESTS_PARITY_H

#include "support/support.h"

#include <stdbool.h>

/* Every case, as CASE(function name, folder). */
#define PARITY_CASES(CASE)                                                                         \
    CASE(bert, "bert")                                                                             \
    CASE(llama, "llama")                                                                           \
    CASE(llama_seq, "llama-seq")                                                                   \
    CASE(bert_all_linear, "bert-all-linear")                                                       \
    CASE(bert_pair, "bert-pair")                                                                   \
    CASE(llama_gqa, "llama-gqa")                                                                   \
    CASE(llama3_scaled, "llama3-scaled")                                                           \
    CASE(bert_f16_head, "bert-f16-head")

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

#endif
