/* Fields of structures that keep blocks apart, in a posterior file. */
#include "bayes/factored.h"
#include "bayes/structure_fields.h"

#define SPECTRUM(what)                                                                             \
    LA_FIELD(la_factored_block, spectrum, "spectrum", LA_FIELD_F32,                                \
             .rows = LA_FROM_SHAPE(la_factored_block, rows, "smaller side"),                       \
             .cols = LA_FROM_SHAPE(la_factored_block, cols, "larger side"),                        \
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
    LA_EIGENVALUES(la_factored_block, output.values, "output_eigenvalues",                         \
                   .rows = LA_FROM_SHAPE(la_factored_block, output.rank, "rank")),                 \
        LA_EIGENVECTORS(la_factored_block, output.vectors, "output_eigenvectors",                  \
                        .rows = LA_EXTENT(la_factored_block, output.rank, "rank"),                 \
                        .cols = LA_EXTENT(la_factored_block, output.n, "out"))

static const la_field kron[] = {OUTPUT_FACTOR};
static const la_field ekfac[] = {OUTPUT_FACTOR,
                                 SPECTRUM("eigenvalues of H in the factors' eigenvectors")};
static const la_field diag[] = {SPECTRUM("diagonal of H")};

static la_blame before_factors(la_posterior *p, void *item) {
    const la_posterior_block *block = item;
    ((la_factored_block *)block->structure)->output.n = block->out;
    return block->input < p->n_inputs ? (la_blame){0} : (la_blame){"input", "is out of range"};
}

static la_blame after_spectrum(la_posterior *p, void *item) {
    const la_posterior_block *block = item;
    const la_factored_block *own = block->structure;
    la_spectrum s = la_block_spectrum(p, block);
    return own->rows == s.rows && own->cols == s.cols ? (la_blame){0}
                                                      : (la_blame){"spectrum", LA_OTHER_SHAPE};
}

/* Blocks that read the same matrix share its factor. */
static la_blame after_factors(la_posterior *p, void *item) {
    const la_posterior_block *block = item;
    const la_factored_block *own = block->structure;
    if (own->output.rank > block->out)
        return (la_blame){"output_eigenvalues", LA_NO_SENSE};
    if (la_factored_inputs(p)[block->input].n != block->in)
        return (la_blame){"input", "is shared and of another size"};
    return own->spectrum ? after_spectrum(p, item) : (la_blame){0};
}

#define BLOCK_FIELDS(rows) LA_FIELDS(rows), .size = sizeof(la_factored_block)

const la_field_list la_kron_fields = {BLOCK_FIELDS(kron), .before = before_factors,
                                      .after = after_factors},
                    la_ekfac_fields = {BLOCK_FIELDS(ekfac), .before = before_factors,
                                       .after = after_factors},
                    la_diag_fields = {BLOCK_FIELDS(diag), .after = after_spectrum};
