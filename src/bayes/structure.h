/* Kinds of structure that the curvature H is kept in, behind one table. A kind sees blocks, inputs
 * and output cotangents of them: never models, rows or files.
 *
 * Fitting:    open; then as long as la_structure_next names a pass, its rows in order, in batches:
 *             batch, then the visitor over the exact-Fisher cotangents (columns of S, S S^T =
 *             diag(p) - p p^T). When there are no more passes the posterior is filled.
 * Predicting: the covariance's open, then for every batch its batch, the visitor over contrast
 *             cotangents, and read. One pass serves several scales of the prior precision. */
#ifndef LA_BAYES_STRUCTURE_H
#define LA_BAYES_STRUCTURE_H

#include "bayes/array.h"
#include "bayes/draw.h"
#include "bayes/peers.h"
#include "bayes/posterior.h"
#include "bayes/sums.h"
#include "model/blocks.h"

typedef struct la_structure_fit la_structure_fit;
typedef struct la_field_list la_field_list; /* fields.h */
typedef struct la_covariance la_covariance;

/* The largest batch. */
typedef struct la_batch_shape {
    int64_t max_rows, max_tokens, n_rhs;
} la_batch_shape;

typedef struct la_fit_shape {
    la_batch_shape batch;
    la_kron kron;
    int64_t rank;   /* eigenpairs kept of a large factor, or of the whole matrix; 0: all */
    int64_t n_rows; /* that are seen here, of the calibration set; 0: not known yet */
    /* What rows leave behind is carried: a form is wanted that adds up with that of other rows. Row
     * i here is row first + i step of n_all. */
    bool adds;
    int64_t first, step, n_all;
    const la_peers *peers; /* that have the other rows, must outlive the fit; NULL: none */
} la_fit_shape;

/* Calibration rows [from, to) that a pass has to see. */
typedef struct la_fit_pass {
    int64_t from, to;
    bool more; /* false: the fit is complete, there is no such pass */
} la_fit_pass;

typedef struct la_cov_shape {
    la_batch_shape batch;
    int64_t n_scales;
    const double *scales; /* [n_scales] factors of every prior precision; read while opening */
} la_cov_shape;

/* The logit covariance under a family of posteriors. */
typedef struct la_covariance_kind {
    /* Bytes on the device that open takes. */
    size_t (*bytes)(const la_blocks *blocks, const la_posterior *posterior,
                    const la_cov_shape *shape);
    /* The blocks must be those of the posterior; both must outlive the covariance. */
    la_status (*open)(const la_blocks *blocks, const la_posterior *posterior,
                      const la_cov_shape *shape, la_covariance **covariance, la_error *err);
    /* Clears the sums for a batch of n_rows. */
    void (*batch)(la_covariance *covariance, int64_t n_rows);
    la_block_visitor (*visitor)(la_covariance *covariance);
    /* cov[n_scales, n_rows, n_rhs, n_rhs] on the host */
    la_status (*read)(la_covariance *covariance, double *cov, la_error *err);
    void (*close)(la_covariance *covariance);
} la_covariance_kind;

/* Sums that are made of two: sign (1, or -1 of rows that are taken out) times those of the rows
 * seen, and `times` those of a posterior of the same blocks, structure and rank. */
typedef struct la_restored {
    const la_posterior *of;
    double times, sign;
    int64_t n_rows; /* of both, or that are left */
    int64_t n_contrasts;
    la_team team;
} la_restored;

typedef struct la_fit_kind {
    /* Bytes on the device that open takes; *max_factor: side of the largest matrix that is summed
     * and decomposed while the model is there. */
    size_t (*bytes)(const la_blocks *blocks, const la_fit_shape *shape, int64_t *max_factor);
    /* The blocks must outlive the fit. */
    la_status (*open)(const la_blocks *blocks, const la_fit_shape *shape, la_structure_fit **fit,
                      la_error *err);
    /* Ends the pass before, if there was one, and begins the next, if there is one. */
    la_status (*next)(la_structure_fit *fit, la_posterior *posterior, la_fit_pass *pass,
                      la_error *err);
    /* Begins the pass that next began with the fit of another device; NULL: nothing is to be
     * done. */
    la_status (*follow)(la_structure_fit *fit, const la_posterior *posterior, la_error *err);
    /* Before each batch; first: the number of its first row in the calibration set. NULL: nothing
     * is to be done. */
    void (*batch)(la_structure_fit *fit, int64_t first, int64_t n_rows);
    la_block_visitor (*visitor)(la_structure_fit *fit);
    /* One of the first pass's sums becomes `restored` of itself and what the rows of a posterior
     * have summed; its name is that of la_sums. NULL: a posterior does not hold its sums. */
    la_status (*restore)(const la_restored *restored, const la_array *sum, la_error *err);
    /* Sums over the rows seen so far in this pass; NULL, or it returns that: the pass keeps more of
     * them than sums. */
    la_sums *(*sums)(la_structure_fit *fit);
    /* What the pass keeps of the rows seen so far, sums or not, array by array; takes_back: what
     * the visitor leaves is kept. *is_there false: it is not kept in that way. NULL: the sums are
     * all of it. */
    la_status (*kept)(la_structure_fit *fit, bool takes_back, const la_array_visitor *visitor,
                      bool *is_there, la_error *err);
    /* Hands copies of rows to the visitor (la_array_is_row) where a fit that adds keeps them in
     * place of sums; takes_back: as la_sums_visit. NULL: the kind never does. */
    la_status (*rows)(la_structure_fit *fit, bool takes_back, const la_array_visitor *visitor,
                      la_error *err);
    /* Begins the last pass with what the ones before would have found, which is that of a posterior
     * of kind `basis`; that must outlive the fit's. NULL: there is one pass alone. */
    la_status (*adopt)(la_structure_fit *fit, const la_posterior *from, la_posterior *posterior,
                       la_fit_pass *pass, la_error *err);
    void (*close)(la_structure_fit *fit);
} la_fit_kind;

/* The basis in which a block's H is diagonal. */
typedef struct la_basis_kind {
    /* Whether all of it is kept: a --rank cuts it. */
    bool (*whole)(const la_posterior *posterior);
    /* to[out, in] = x[out, in] in that basis; back: x is, and to is in the weights' own. */
    la_status (*turn)(const la_posterior *posterior, int64_t block, bool back, const float *x,
                      float *to, la_error *err);
    /* values[out, in]: diagonal of H in it */
    void (*values)(const la_posterior *posterior, int64_t block, double *values);
} la_basis_kind;

typedef struct la_structure_kind {
    la_curvature curvature;
    bool one_device;                       /* its passes cannot be shared among devices */
    const struct la_structure_kind *basis; /* whose posteriors its fit adopts; NULL: none's */
    bool subtracts; /* its covariance is a difference, which loses the digits of rounded products */
    bool joint;     /* H ties all blocks together: one precision */
    bool has_inputs;  /* keeps a factor of each matrix that blocks read: la_input_fields */
    bool cuts;        /* a --rank leaves eigenpairs out */
    la_params params; /* of these alone, where only_params */
    bool only_params;
    const la_fit_kind *fit;
    const la_covariance_kind *covariance;
    /* In a posterior file: fields of the structs behind the posterior's and each block's pointer
     * `structure`, which are the kind's own, of the lists' sizes. Where the kind has_inputs, the
     * posterior's is [n_inputs] la_factor. */
    const la_field_list *fields, *block_fields;

    /* Sums over the eigenvalues of a part of H (la_posterior_parts), as of la_spectrum_sums. */
    la_status (*sums)(const la_posterior *posterior, int64_t part, double lambda, la_shares *shares,
                      double *log_det, la_error *err);
    /* Share of the trace of H that is kept, in *directions; NULL: all of it, or it is not known. */
    double (*kept)(const la_posterior *posterior, int64_t *directions);
    /* *sum = <x, (H + lambda I) x> of x[out, in] in a block, 0 in the others. */
    la_status (*quadratic)(const la_posterior *posterior, int64_t block, const float *x,
                           double *sum, la_error *err);
    /* Ends what restore began, in a posterior that is complete but for its prior: a joint kind's H
     * becomes sign H + times that of the other; traces count what an earlier cut left out. NULL:
     * nothing is to be done. */
    la_status (*join)(la_backend *be, const la_restored *restored, la_posterior *posterior,
                      la_error *err);
    /* diagonal[out, in] of a block's H in the basis of its weights; NULL: it is not read. */
    la_status (*diagonal)(const la_posterior *posterior, int64_t block, double *diagonal,
                          la_error *err);
    const la_basis_kind *eigenbasis; /* NULL: there is none, or it is the weights' */
    /* Memory that drawing takes. */
    size_t (*draw_bytes)(const la_draw *draw);
    /* Arguments of la_draw_network. */
    void (*draw)(const la_draw *draw, int64_t number, const float *map, float *theta);
} la_structure_kind;

/* No more fields. */
extern const la_field_list la_no_fields;
/* Fields of a la_factor, where a kind has_inputs. */
extern const la_field_list la_input_fields;

/* The row of the table. */
const la_structure_kind *la_structure_of(la_curvature curvature);
/* NULL: none that a fit makes has that name. */
const la_structure_kind *la_structure_named(const char *name);
/* Names, shapes and norms of the blocks, and memory for their structure: a posterior's that is
 * filled by hand. */
la_status la_structure_list(const la_structure_kind *kind, const la_blocks *blocks,
                            la_posterior *posterior, la_error *err);
static inline const char *la_structure_name(const la_structure_kind *kind) {
    return la_curvature_names[kind->curvature];
}

/* Begins the next pass of n fits of one posterior, each on a device of its own; ends the one
 * before, whose sums the first has (la_structure_merge). The posterior's n_rows and n_tokens must
 * be set; the first call lists its blocks, and when *pass has no more its structure is complete. */
la_status la_structure_next(const la_structure_kind *kind, la_structure_fit *const *fits, int n,
                            const la_blocks *blocks, la_posterior *posterior, la_fit_pass *pass,
                            la_error *err);

/* la_structure_next of the first pass that is left when a posterior of the kind's basis is adopted:
 * one of the same blocks. LA_MISMATCH where it is of others. */
la_status la_structure_adopt(const la_structure_kind *kind, la_structure_fit *const *fits, int n,
                             const la_blocks *blocks, const la_posterior *from,
                             la_posterior *posterior, la_fit_pass *pass, la_error *err);

/* ---- sums of an unfinished pass ---- */

/* Adds the sums of the other fits to the first's. They are of the same blocks and shape, over other
 * rows, and each on a device of its own, or all on the host. */
la_status la_structure_merge(const la_structure_kind *kind, la_structure_fit *const *fits, int n,
                             la_error *err);
/* Hands copies of the sums to the visitor; takes_back: what it leaves in them is kept. Those of
 * another fit in the same pass of the same blocks and shape can so be added, or stand in their
 * place. LA_UNSUPPORTED where the pass keeps more than sums. */
la_status la_structure_visit(const la_structure_kind *kind, la_structure_fit *fit, bool takes_back,
                             const la_array_visitor *visitor, la_error *err);
/* LA_UNSUPPORTED, naming the kind, where sums cannot be had back from its posteriors. */
la_status la_structure_restores(const la_structure_kind *kind, la_error *err);

/* Hands all that the pass keeps to the visitor, rows too: for another fit in the same pass over the
 * same rows. LA_UNSUPPORTED where rows are run more than once. */
la_status la_structure_visit_kept(const la_structure_kind *kind, la_structure_fit *fit,
                                  bool takes_back, const la_array_visitor *visitor, la_error *err);

#define LA_STRUCTURE(enumerator, name, text) extern const la_structure_kind la_structure_##name;
#include "bayes/structures.def"
#undef LA_STRUCTURE

#endif
