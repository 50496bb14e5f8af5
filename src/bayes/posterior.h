/* The posterior: for every block a Gaussian with precision H + lambda I, H a Kronecker product kept
 * by the eigenvectors and eigenvalues of its two factors. */
#ifndef LA_BAYES_POSTERIOR_H
#define LA_BAYES_POSTERIOR_H

#include "base/memory.h"
#include "baselines/adue.h"
#include "bayes/provenance.h"
#include "model/model.h"

/* A symmetric positive semi-definite [n, n] matrix: its rank largest eigenpairs. Eigenvalues left
 * out count as 0. */
typedef struct la_factor {
    int64_t n, rank;
    double *values; /* [rank], descending, >= 0 */
    float *vectors; /* [rank, n]: row i belongs to values[i] */
} la_factor;

/* Of a Kronecker kind, H = (1 / denominator) output (x) input; with a spectrum, H has the factors'
 * eigenvectors and these eigenvalues; a diagonal has a spectrum and no factors. */
typedef struct la_posterior_block {
    const char *name;
    int64_t out, in;
    int64_t input; /* number of its input factor: blocks that read the same matrix share it */
    la_factor output;
    float *spectrum;    /* [small, big], the sides as in jacobian.h; NULL: the factors' products */
    double denominator; /* R (all tokens) for expand; N for reduce and for dense head layers */
    double theta_square;
    double trace_in, trace_out; /* of the sums, before the denominator */
    double prior_precision;
} la_posterior_block;

/* H over all blocks together: its rank largest eigenpairs. Eigenvalues left out count as 0. */
typedef struct la_directions {
    int64_t rank, width; /* width: all parameters, block by block, each laid out as in jacobian.h */
    double *values;      /* [rank], descending, > 0 */
    float *vectors;      /* [rank, width] */
    double trace; /* of H, with what is left out; 0: not known, of a posterior that was read */
} la_directions;

typedef struct la_posterior {
    la_pool pool; /* owns all of it but the labels */
    la_curvature curvature;
    la_kron kron;
    la_params params;
    int64_t rank_asked; /* 0: full */
    int64_t n_blocks, n_inputs;
    la_posterior_block *blocks;
    la_factor *inputs;
    la_directions directions; /* of the exact kinds; rank 0: none */
    int64_t n_rows, n_tokens, n_classes;
    const la_likelihood *likelihood;
    /* Of a regression; 0: of classes. All that is kept of H is of noise 1: H itself is that over the
     * noise variance (la_curvature_scale). */
    double noise_variance;
    double square_error; /* sum over the calibration rows; only while fitting */
    double log_likelihood, log_marginal_likelihood;
    la_prior_kind prior;
    double prior_precision; /* global or fixed */
    la_choice choice;   /* what a guard chose; its Laplace candidate's scale is in the precisions */
    double temperature; /* of Laplace predictives: divides logits; 1 without a guard */
    la_adue adue;       /* the error head; weight NULL: none. Not la_adue_free's: the pool's */
    la_provenance provenance;
} la_posterior;

/* Names of the enumerations' values, in order: those of options, files and messages. */
enum { LA_KRONS = 2, LA_PRIORS = 5, LA_PARAM_SETS = 6 };
extern const char *const la_curvature_names[LA_CURVATURES],
    *const la_kron_names[LA_KRONS], *const la_prior_names[LA_PRIORS],
                                        *const la_params_names[LA_PARAM_SETS],
                                            *const la_method_names[LA_METHODS];
/* Whether H ties all blocks together: the posterior has directions, and one precision. */
static inline bool la_curvature_is_joint(la_curvature curvature) {
    return curvature == LA_CURVATURE_EXACT || curvature == LA_CURVATURE_LAST_LAYER;
}
/* Whether all blocks have the same precision. */
static inline bool la_prior_is_one(la_prior_kind kind) {
    return kind == LA_PRIOR_GLOBAL || kind == LA_PRIOR_FIXED;
}

void la_posterior_free(la_posterior *posterior);
/* The posterior gets a copy of the error head. */
la_status la_posterior_keep_adue(la_posterior *posterior, const la_adue *head, la_error *err);

/* The eigenvalues of H, of a block or of all of it: scale values[i, j], or row[i] col[j] scale, where
 * row NULL stands for ones. A view of the posterior. */
typedef struct la_spectrum {
    int64_t rows, cols;
    const double *row, *col;
    const float *values;
    double scale;
} la_spectrum;

static inline double la_spectrum_at(const la_spectrum *s, int64_t i, int64_t j) {
    if (s->values)
        return s->scale * (double)s->values[i * s->cols + j];
    return (s->row ? s->row[i] : 1) * s->scale * s->col[j];
}
/* What the kept factors, spectra and directions are multiplied by to be those of H. */
static inline double la_curvature_scale(const la_posterior *posterior) {
    return posterior->noise_variance > 0 ? 1 / posterior->noise_variance : 1;
}
/* Smaller side first. Of a posterior that is not exact. */
la_spectrum la_block_spectrum(const la_posterior *posterior, const la_posterior_block *block);
/* Parameters of all blocks. */
int64_t la_posterior_width(const la_posterior *posterior);

/* ---- prior.c ---- */

/* Whether the data say nothing at all about a block: its curvature is zero. Of a posterior that is
 * not exact. */
bool la_block_is_flat(const la_posterior *posterior, const la_posterior_block *block);
/* Sets prior_precision of every block and the log marginal likelihood, from log_likelihood and the
 * eigenvalues alone. kind LA_PRIOR_FIXED uses value as it is. Flat blocks that share a precision
 * with no other have no maximum and get the global value of the others. LA_NUMERICAL, naming the
 * block, when there is no maximum otherwise. An exact posterior has one precision: LA_USAGE for the
 * kinds that ask for more. */
la_status la_prior_choose(la_posterior *posterior, la_prior_kind kind, double value, la_error *err);
/* Multiplies every precision; the log marginal likelihood follows. */
la_status la_prior_scale(la_posterior *posterior, double scale, la_error *err);

/* ---- noise.c ---- */

/* la_prior_choose for a regression, together with the noise variance: `noise`, or where that is 0 the
 * one that maximises the log marginal likelihood with the prior's precisions. From square_error and the
 * eigenvalues alone; sets the log likelihood too. LA_NUMERICAL when the model is exact on all rows. */
la_status la_noise_choose(la_posterior *posterior, la_prior_kind kind, double value, double noise,
                          la_error *err);
/* Another noise variance, and every precision times prior_scale; the likelihoods follow. */
la_status la_noise_set(la_posterior *posterior, double noise, double prior_scale, la_error *err);

#endif
