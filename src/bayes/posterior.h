/* The posterior: a Gaussian over the trained blocks with precision H + lambda I. H is kept in a
 * structure (structure.h), which its kind alone looks into. */
#ifndef LA_BAYES_POSTERIOR_H
#define LA_BAYES_POSTERIOR_H

#include "base/memory.h"
#include "baselines/adue.h"
#include "baselines/distilled.h"
#include "baselines/ood.h"
#include "bayes/provenance.h"
#include "bayes/spectrum.h"
#include "likelihood/selection.h"

/* Number of a structure of the curvature. */
typedef enum la_curvature {
#define LA_STRUCTURE(enumerator, name, text) LA_CURVATURE_##enumerator,
#include "bayes/structures.def"
#undef LA_STRUCTURE
    LA_CURVATURES,
    LA_CURVATURES_FITTED = LA_CURVATURE_VARIATIONAL /* number of those that a fit makes */
} la_curvature;

typedef struct la_posterior_block {
    const char *name;
    int64_t out, in;
    int64_t input;      /* number of its input: blocks that read the same matrix share it */
    double denominator; /* R (all tokens) for expand; N for reduce and for dense head layers */
    double theta_square;
    double trace_in, trace_out; /* of the sums, before the denominator */
    double prior_precision;
    void *structure; /* of its kind alone (structure.h) */
} la_posterior_block;

typedef struct la_posterior {
    la_pool pool; /* owns all of it but the labels */
#define LA_MEMBER(type, name, ...) type name;
#define LA_FILE_ROW(...)
#include "bayes/posterior.def"
#undef LA_MEMBER
#undef LA_FILE_ROW
    la_posterior_block *blocks;
    void *structure; /* of its kind alone (structure.h) */
    const la_likelihood *likelihood;
    double square_error; /* sum over the calibration rows; only while fitting */
    double least_share;  /* most negative eigenvalue of a sum, over its largest; only while
                            fitting */
    la_provenance provenance;
} la_posterior;

/* Names of the enumerations' values, in order: those of options, files and messages. */
enum { LA_KRONS = 2, LA_PRIORS = 5, LA_PARAM_SETS = 6 };
extern const char *const la_curvature_names[LA_CURVATURES],
    *const la_kron_names[LA_KRONS], *const la_prior_names[LA_PRIORS],
                                        *const la_params_names[LA_PARAM_SETS];
/* True when all blocks have the same precision. */
static inline bool la_prior_is_one(la_prior_kind kind) {
    return kind == LA_PRIOR_GLOBAL || kind == LA_PRIOR_FIXED;
}

void la_posterior_free(la_posterior *posterior);
/* Name of the model that a posterior makes of its adapter, for prediction rows: hexadecimal, of
 * what its predictions follow from. Paths are not among that. */
/* Rows for class shares of their own say so behind it: "+" and at most LA_SHARES_TEXT letters. */
enum { LA_SHARES_TEXT = 8, LA_POSTERIOR_TEXT = 17, LA_MODEL_TEXT = 17 + 1 + LA_SHARES_TEXT };
la_status la_posterior_model(const la_posterior *posterior, char model[LA_MODEL_TEXT],
                             la_error *err);
/* Remembers rows that chose the guard's settings, by the hashes of their token ids, so that who
 * measures on them is warned. */
la_status la_posterior_keep_rows(la_posterior *posterior, const uint64_t *hashes, int64_t n,
                                 la_error *err);
/* True of one of them. */
bool la_posterior_chose(const la_posterior *posterior, uint64_t hash);
/* The posterior gets a copy of the error head. */
la_status la_posterior_keep_adue(la_posterior *posterior, const la_adue *head, la_error *err);
/* Likewise of distances with their table. */
la_status la_posterior_keep_ood(la_posterior *posterior, const la_ood *ood, la_error *err);
/* Likewise of distilled variances. */
la_status la_posterior_keep_distilled(la_posterior *posterior, const la_distilled *distilled,
                                      la_error *err);

/* Factor between the structure's curvature, which is of noise 1, and H. */
static inline double la_curvature_scale(const la_posterior *posterior) {
    return posterior->noise_variance > 0 ? 1 / posterior->noise_variance : 1;
}
/* Rows and tokens as they count: less than their numbers where some were discounted. */
static inline double la_posterior_rows(const la_posterior *posterior) {
    return posterior->rows_weight > 0 ? posterior->rows_weight : (double)posterior->n_rows;
}
/* Likewise those whose likelihood is known: not summed under an earlier adapter. */
static inline double la_posterior_own_rows(const la_posterior *posterior) {
    return la_posterior_rows(posterior) - posterior->earlier_rows;
}
static inline double la_posterior_tokens(const la_posterior *posterior) {
    return posterior->tokens_weight > 0 ? posterior->tokens_weight : (double)posterior->n_tokens;
}
/* Parameters of all blocks. */
int64_t la_posterior_width(const la_posterior *posterior);

/* ---- prior.c ---- */

/* Parts of H that do not depend on each other: the blocks, or one where the kind is joint. */
int64_t la_posterior_parts(const la_posterior *posterior);
/* Sums over a part's eigenvalues (la_spectrum_sums). */
la_status la_posterior_sums(const la_posterior *posterior, int64_t part, double lambda,
                            la_shares *shares, double *log_det, la_error *err);
/* *flat: a part has no curvature at all. */
la_status la_part_flat(const la_posterior *posterior, int64_t part, bool *flat, la_error *err);
/* Sets prior_precision of every block and the log marginal likelihood, from log_likelihood and the
 * eigenvalues alone. kind LA_PRIOR_FIXED uses value as it is. Flat blocks that share a precision
 * with no other have no maximum and get the global value of the others. LA_NUMERICAL, naming the
 * block, when there is no maximum otherwise. A joint posterior has one precision: LA_USAGE for the
 * kinds that ask for more. */
la_status la_prior_choose(la_posterior *posterior, la_prior_kind kind, double value, la_error *err);
/* Multiplies every precision; the log marginal likelihood follows. */
la_status la_prior_scale(la_posterior *posterior, double scale, la_error *err);

/* ---- noise.c ---- */

/* *sum: parameters that the rows determine, the trace of H (H + lambda I)^-1. */
la_status la_posterior_effective(const la_posterior *posterior, double *sum, la_error *err);

/* LA_USAGE for a noise variance that is none, or of a likelihood without noise. 0: not given. */
la_status la_noise_check(const la_likelihood *likelihood, int64_t n_outputs, double noise,
                         la_error *err);
/* la_prior_choose, for a regression together with the noise variance: `noise`, or where that is 0
 * the one that maximises the log marginal likelihood with the prior's precisions. From square_error
 * and the eigenvalues alone; sets the log likelihood too. LA_NUMERICAL when the model is exact on
 * all rows. */
la_status la_noise_choose(la_posterior *posterior, la_prior_kind kind, double value, double noise,
                          la_error *err);
/* Sum over its own rows of the likelihood's log_likelihood: where there is noise, that of noise 1
 * without the constant. Of a posterior that was read, too. */
double la_posterior_total(const la_posterior *posterior);
/* Another noise variance (0: the likelihood has none), and every precision times prior_scale; the
 * likelihoods follow. */
la_status la_noise_set(la_posterior *posterior, double noise, double prior_scale, la_error *err);

#endif
