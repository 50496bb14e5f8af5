/* Fields of structures that keep blocks apart, in a posterior file. */
#include "bayes/factored.h"
#include "bayes/structure_fields.h"

#define SPECTRUM(rows_of, cols_of, what)                                                           \
    LA_FIELD(la_posterior_block, spectrum, "spectrum", LA_FIELD_F32,                               \
             .rows = {"smaller side", .size = rows_of}, .cols = {"larger side", .size = cols_of},  \
             .negative = "a value that is negative", .meaning = what)

/* ---- input factors: one of each matrix that blocks read ---- */

static const la_field input[] = {
    LA_EIGENVALUES(la_factor, values, "eigenvalues",
                   .rows = LA_FROM_SHAPE(la_factor, rank, "rank")),
    LA_EIGENVECTORS(la_factor, vectors, "eigenvectors", .rows = LA_EXTENT(la_factor, rank, "rank"),
                    .cols = LA_FROM_SHAPE(la_factor, n, "in")),
};

static la_blame after_input(la_posterior *p, void *item) {
    const la_factor *factor = item;
    (void)p;
    return factor->rank > factor->n ? (la_blame){"eigenvalues", LA_NO_SENSE} : (la_blame){0};
}

const la_field_list la_input_fields = {LA_FIELDS(input), .size = sizeof(la_factor),
                                       .after = after_input};

/* ---- kron, ekfac, diag: fields of a block ---- */

#define OUTPUT_FACTOR                                                                              \
    LA_EIGENVALUES(la_posterior_block, output.values, "output_eigenvalues",                        \
                   .rows = LA_FROM_SHAPE(la_posterior_block, output.rank, "rank")),                \
        LA_EIGENVECTORS(la_posterior_block, output.vectors, "output_eigenvectors",                 \
                        .rows = LA_EXTENT(la_posterior_block, output.rank, "rank"),                \
                        .cols = LA_EXTENT(la_posterior_block, out, "out"))

static int64_t smaller(const la_posterior *p, const void *block) {
    return la_block_spectrum(p, block).rows;
}
static int64_t larger(const la_posterior *p, const void *block) {
    return la_block_spectrum(p, block).cols;
}

static const la_field kron[] = {OUTPUT_FACTOR};
static const la_field ekfac[] = {
    OUTPUT_FACTOR, SPECTRUM(smaller, larger, "eigenvalues of H in the factors' eigenvectors")};
static const la_field diag[] = {SPECTRUM(smaller, larger, "diagonal of H")};

static la_blame before_factors(la_posterior *p, void *item) {
    bool found = ((const la_posterior_block *)item)->input < p->n_inputs;
    return found ? (la_blame){0} : (la_blame){"input", "is out of range"};
}

/* Blocks that read the same matrix share its factor. */
static la_blame after_factors(la_posterior *p, void *item) {
    la_posterior_block *block = item;
    block->output.n = block->out;
    if (block->output.rank > block->out)
        return (la_blame){"output_eigenvalues", LA_NO_SENSE};
    return p->inputs[block->input].n == block->in
               ? (la_blame){0}
               : (la_blame){"input", "is shared and of another size"};
}

const la_field_list la_kron_fields = {LA_FIELDS(kron), .before = before_factors,
                                      .after = after_factors},
                    la_ekfac_fields = {LA_FIELDS(ekfac), .before = before_factors,
                                       .after = after_factors},
                    la_diag_fields = {LA_FIELDS(diag)};
