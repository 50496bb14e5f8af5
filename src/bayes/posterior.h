/* The posterior: for every block a Gaussian with precision H + lambda I, H a Kronecker product kept
 * by the eigenvectors and eigenvalues of its two factors. */
#ifndef LA_BAYES_POSTERIOR_H
#define LA_BAYES_POSTERIOR_H

#include "base/digest.h"
#include "base/memory.h"
#include "input/rows.h"
#include "model/model.h"

/* A symmetric positive semi-definite [n, n] matrix: its rank largest eigenpairs. Eigenvalues left
 * out count as 0. */
typedef struct la_factor {
    int64_t n, rank;
    double *values; /* [rank], descending, >= 0 */
    float *vectors; /* [rank, n]: row i belongs to values[i] */
} la_factor;

/* H = (1 / denominator) output (x) input */
typedef struct la_posterior_block {
    const char *name;
    int64_t out, in;
    int64_t input; /* number of its input factor: blocks that read the same matrix share it */
    la_factor output;
    double denominator; /* R (all tokens) for expand; N for reduce and for dense head layers */
    double theta_square;
    double trace_in, trace_out; /* of the sums, before the denominator */
    double prior_precision;
} la_posterior_block;

typedef struct la_posterior {
    la_pool pool; /* owns all of it but labels */
    la_kron kron;
    la_params params;
    int64_t rank_asked; /* 0: full */
    int64_t n_blocks, n_inputs;
    la_posterior_block *blocks;
    la_factor *inputs;
    int64_t n_rows, n_tokens, n_classes;
    double log_likelihood, log_marginal_likelihood;
    la_prior_kind prior;
    double prior_precision; /* global or fixed */
    /* what it belongs to */
    const char *base_path, *adapter_path;
    char base_digest[LA_DIGEST_TEXT], adapter_digest[LA_DIGEST_TEXT];
    char tokenizer_digest[LA_DIGEST_TEXT]; /* "" when the rows carried token ids */
    char data_digest[LA_DIGEST_TEXT];
    int64_t max_length;
    int32_t *choice_ids;       /* n_classes answer tokens, or NULL */
    const char *template_text; /* NULL: none */
    la_labels labels;
} la_posterior;

void la_posterior_free(la_posterior *posterior);

/* ---- prior.c ---- */

/* sum_ij log(1 + h_ij / lambda) of a block */
double la_block_log_determinant(const la_posterior *posterior, const la_posterior_block *block,
                                double lambda);
/* Whether the data say nothing at all about a block: its curvature is zero. */
bool la_block_is_flat(const la_posterior *posterior, const la_posterior_block *block);
/* Sets prior_precision of every block and the log marginal likelihood, from log_likelihood and the
 * eigenvalues alone. kind LA_PRIOR_FIXED uses value as it is. With LA_PRIOR_MODULE a flat block,
 * whose likelihood has no maximum, gets the global value of the others. LA_NUMERICAL, naming the
 * block, when there is no maximum otherwise. */
la_status la_prior_choose(la_posterior *posterior, la_prior_kind kind, double value, la_error *err);

#endif
