/* EKFAC (George et al., arXiv 1806.03884): Kronecker factors by a first pass, then the eigenvalues
 * of H measured in their eigenvectors by a second. */
#include "bayes/squares.h"

#include <stdlib.h>

struct la_structure_fit {
    const la_blocks *blocks;
    la_batch_shape shape;
    la_structure_fit *factors; /* of the first pass: kron's */
    la_squares *squares;       /* of the second */
};

/* The second pass holds eigenvectors and sums of squares instead of the factors' sums. */
static size_t fit_bytes(const la_blocks *blocks, const la_fit_shape *shape, int64_t *max_factor) {
    size_t first = la_kron_fit.bytes(blocks, shape, max_factor);
    /* rotated outer products double those of a plain diagonal; eigenvectors take at most half of
     * what the sums took */
    size_t second = 2 * la_squares_bytes(blocks, &shape->batch) + first / 2;
    return first > second ? first : second;
}

static void fit_close(la_structure_fit *fit) {
    if (!fit)
        return;
    if (fit->factors)
        la_kron_fit.close(fit->factors);
    la_squares_close(fit->squares);
    free(fit);
}

static la_status fit_open(const la_blocks *blocks, const la_fit_shape *shape,
                          la_structure_fit **out, la_error *err) {
    *out = NULL;
    la_structure_fit *fit = la_alloc(1, sizeof *fit, err);
    if (!fit)
        return err->status;
    fit->blocks = blocks;
    fit->shape = shape->batch;
    if (la_kron_fit.open(blocks, shape, &fit->factors, err) != LA_OK) {
        fit_close(fit);
        return err->status;
    }
    *out = fit;
    return LA_OK;
}

/* Sums are decomposed in place: their memory is released for the second pass. */
static la_status fit_follow(la_structure_fit *fit, const la_posterior *posterior, la_error *err) {
    la_kron_fit.close(fit->factors);
    fit->factors = NULL;
    return la_squares_open(fit->blocks, &fit->shape, posterior, &fit->squares, err);
}

static la_status fit_next(la_structure_fit *fit, la_posterior *posterior, la_fit_pass *pass,
                          la_error *err) {
    if (fit->squares) {
        *pass = (la_fit_pass){0};
        return la_squares_read(fit->squares, posterior, err);
    }
    LA_TRY(la_kron_fit.next(fit->factors, posterior, pass, err));
    if (pass->more)
        return LA_OK;
    *pass = (la_fit_pass){.to = posterior->n_rows, .more = true};
    return fit_follow(fit, posterior, err);
}

/* Factors of both sides and what was counted with them. */
static la_status fit_adopt(la_structure_fit *fit, const la_posterior *from, la_posterior *posterior,
                           la_fit_pass *pass, la_error *err) {
    posterior->structure = from->structure;
    posterior->n_inputs = from->n_inputs;
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        const la_posterior_block *other = &from->blocks[b];
        la_posterior_block *to = &posterior->blocks[b];
        to->input = other->input;
        to->denominator = other->denominator;
        to->trace_in = other->trace_in;
        to->trace_out = other->trace_out;
        la_factored_of(posterior, b)->output = la_factored_of(from, b)->output;
    }
    *pass = (la_fit_pass){.to = posterior->n_rows, .more = true};
    return fit_follow(fit, posterior, err);
}

static void fit_batch(la_structure_fit *fit, int64_t first, int64_t n_rows) {
    if (fit->factors)
        la_kron_fit.batch(fit->factors, first, n_rows);
}

static la_block_visitor fit_visitor(la_structure_fit *fit) {
    return fit->squares ? la_squares_visitor(fit->squares) : la_kron_fit.visitor(fit->factors);
}

static la_sums *fit_sums(la_structure_fit *fit) {
    return fit->squares ? la_squares_sums(fit->squares) : la_kron_fit.sums(fit->factors);
}

static const la_fit_kind fit_kind = {.bytes = fit_bytes,
                                     .open = fit_open,
                                     .next = fit_next,
                                     .follow = fit_follow,
                                     .batch = fit_batch,
                                     .visitor = fit_visitor,
                                     .sums = fit_sums,
                                     .adopt = fit_adopt,
                                     .close = fit_close};

const la_structure_kind la_structure_ekfac =
    LA_FACTORED_KIND(.curvature = LA_CURVATURE_EKFAC, .has_inputs = true, .cuts = true,
                     .basis = &la_structure_kron, .fit = &fit_kind,
                     .block_fields = &la_ekfac_fields);
