/* What each structure of curvature keeps in a posterior file. */
#include "output/posterior_fields.h"

#define VALUES(of, member, title, ...)                                                             \
    LA_FIELD(of, member, title, LA_FIELD_F64, .negative = "an eigenvalue that is negative",        \
             .meaning = "eigenvalues, descending", __VA_ARGS__)
#define VECTORS(of, member, title, ...)                                                            \
    LA_FIELD(of, member, title, LA_FIELD_F32, .meaning = "eigenvectors, one a row", __VA_ARGS__)
#define SPECTRUM(rows_of, cols_of, what)                                                           \
    LA_FIELD(la_posterior_block, spectrum, "spectrum", LA_FIELD_F32,                               \
             .rows = {"smaller side", .size = rows_of}, .cols = {"larger side", .size = cols_of},  \
             .negative = "a value that is negative", .meaning = what)

static const char no_sense[] = "has a size that makes no sense";

/* ---- input factors: one of each matrix that blocks read ---- */

static const la_field input[] = {
    VALUES(la_factor, values, "eigenvalues", .rows = LA_TOLD(la_factor, rank, "rank")),
    VECTORS(la_factor, vectors, "eigenvectors", .rows = LA_EXTENT(la_factor, rank, "rank"),
            .cols = LA_TOLD(la_factor, n, "in")),
};

static la_blame after_input(la_posterior *p, void *item) {
    const la_factor *factor = item;
    (void)p;
    return factor->rank > factor->n ? (la_blame){"eigenvalues", no_sense} : (la_blame){0};
}

const la_field_list la_input_fields = {LA_FIELDS(input), .size = sizeof(la_factor),
                                       .after = after_input};

/* ---- kron, ekfac, diag: fields of a block ---- */

#define OUTPUT_FACTOR                                                                              \
    VALUES(la_posterior_block, output.values, "output_eigenvalues",                                \
           .rows = LA_TOLD(la_posterior_block, output.rank, "rank")),                              \
        VECTORS(la_posterior_block, output.vectors, "output_eigenvectors",                         \
                .rows = LA_EXTENT(la_posterior_block, output.rank, "rank"),                        \
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
        return (la_blame){"output_eigenvalues", no_sense};
    return p->inputs[block->input].n == block->in
               ? (la_blame){0}
               : (la_blame){"input", "is shared and of another size"};
}

static const la_field_list kron_block = {LA_FIELDS(kron), .before = before_factors,
                                         .after = after_factors},
                           ekfac_block = {LA_FIELDS(ekfac), .before = before_factors,
                                          .after = after_factors},
                           diag_block = {LA_FIELDS(diag)}, none = {0};

/* ---- exact, last-layer: one matrix over all blocks ---- */

static const la_field directions[] = {
    VALUES(la_directions, values, "eigenvalues", .rows = LA_TOLD(la_directions, rank, "rank")),
    VECTORS(la_directions, vectors, "eigenvectors", .rows = LA_EXTENT(la_directions, rank, "rank"),
            .cols = LA_EXTENT(la_directions, width, "parameters")),
};

static la_blame before_directions(la_posterior *p, void *item) {
    ((la_directions *)item)->width = la_posterior_width(p);
    return (la_blame){0};
}

static la_blame after_directions(la_posterior *p, void *item) {
    const la_directions *d = item;
    (void)p;
    return d->rank > d->width ? (la_blame){"eigenvalues", no_sense} : (la_blame){0};
}

static const la_field_list directions_group = {LA_FIELDS(directions), .before = before_directions,
                                               .after = after_directions};

static const la_field joint[] = {
    LA_FIELD(la_posterior, directions, "directions", LA_FIELD_GROUP, .list = &directions_group,
             .detail = true,
             .meaning = "exact, last-layer: H over all parameters, block by block, each laid out "
                        "smaller side first"),
};

static la_blame check_joint(la_posterior *p, void *item) {
    (void)item;
    return la_prior_is_one(p->prior)
               ? (la_blame){0}
               : (la_blame){"prior", "is not of one precision, which the curvature asks for"};
}

static la_blame check_joint_block(la_posterior *p, void *item) {
    const la_posterior_block *block = item;
    return block->prior_precision == p->blocks[0].prior_precision
               ? (la_blame){0}
               : (la_blame){"prior_precision", "is not that of the other blocks"};
}

static const la_field_list joint_whole = {LA_FIELDS(joint), .after = check_joint},
                           joint_block = {.after = check_joint_block};

const la_structure_fields la_fields_of_structure[LA_CURVATURES] = {
    [LA_CURVATURE_KRON] = {&none, &kron_block},
    [LA_CURVATURE_EKFAC] = {&none, &ekfac_block},
    [LA_CURVATURE_DIAG] = {&none, &diag_block},
    [LA_CURVATURE_EXACT] = {&joint_whole, &joint_block},
    [LA_CURVATURE_LAST_LAYER] = {&joint_whole, &joint_block},
};
