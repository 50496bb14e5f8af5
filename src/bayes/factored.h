/* The structure of kinds that keep blocks apart: H of a block by the eigenvectors of its two
 * Kronecker factors (inputs, output), or by none of them, and by its eigenvalues in that basis:
 *
 *   kron     factors; the eigenvalues are the factors' products over the denominator
 *   ekfac    factors and a spectrum
 *   diag     a spectrum */
#ifndef LA_BAYES_FACTORED_H
#define LA_BAYES_FACTORED_H

#include "bayes/structure.h"

/* A symmetric positive semi-definite [n, n] matrix: its rank largest eigenpairs. Eigenvalues left
 * out count as 0. */
typedef struct la_factor {
    int64_t n, rank;
    double *values; /* [rank], descending, >= 0 */
    float *vectors; /* [rank, n]: row i belongs to values[i] */
} la_factor;

/* Structure of a block. */
typedef struct la_factored_block {
    la_factor output;
    int64_t rows, cols; /* of the spectrum: ranks of its smaller and of its larger side */
    float *spectrum;    /* [rows, cols]; NULL: none */
} la_factored_block;

/* [n_inputs] factors of the matrices that blocks read: the structure of all blocks together. */
static inline la_factor *la_factored_inputs(const la_posterior *posterior) {
    return posterior->structure;
}
static inline la_factored_block *la_factored_of(const la_posterior *posterior, int64_t block) {
    return posterior->blocks[block].structure;
}

/* Eigenvalues of a block's H, smaller side first. */
la_spectrum la_block_spectrum(const la_posterior *posterior, const la_posterior_block *block);

/* Members of the kinds' rows in the table. */
la_status la_factored_sums(const la_posterior *posterior, int64_t block, double lambda,
                           la_shares *shares, double *log_det, la_error *err);
double la_factored_kept(const la_posterior *posterior, int64_t *directions);
la_status la_factored_quadratic(const la_posterior *posterior, int64_t block, const float *x,
                                double *sum, la_error *err);
la_status la_factored_diagonal(const la_posterior *posterior, int64_t block, double *diagonal,
                               la_error *err);
extern const la_basis_kind la_factored_basis;
size_t la_factored_draw_bytes(const la_draw *draw);
void la_factored_draw(const la_draw *draw, int64_t number, const float *map, float *theta);
extern const la_covariance_kind la_factored_covariance;
#define LA_FACTORED_KIND(...)                                                                      \
    {                                                                                              \
        __VA_ARGS__, .covariance = &la_factored_covariance, .fields = &la_no_fields,               \
                     .sums = la_factored_sums, .quadratic = la_factored_quadratic,                 \
                     .diagonal = la_factored_diagonal, .eigenbasis = &la_factored_basis,           \
                     .draw_bytes = la_factored_draw_bytes, .draw = la_factored_draw                \
    }
/* Fields of a block. */
extern const la_field_list la_kron_fields, la_ekfac_fields, la_diag_fields;
/* kron.c: fits factors. */
extern const la_fit_kind la_kron_fit;

#endif
