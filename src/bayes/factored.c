#include "bayes/factored.h"
#include "base/blas.h"
#include "bayes/jacobian.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

la_spectrum la_block_spectrum(const la_posterior *posterior, const la_posterior_block *block) {
    const la_factored_block *own = block->structure;
    bool out_is_small = block->out <= block->in;
    la_factor whole = {.rank = block->out}, wide = {.rank = block->in};
    const la_factor *output = posterior->n_inputs ? &own->output : &whole;
    const la_factor *input =
        posterior->n_inputs ? &la_factored_inputs(posterior)[block->input] : &wide;
    const la_factor *small = out_is_small ? output : input;
    const la_factor *big = out_is_small ? input : output;
    return (la_spectrum){.rows = small->rank,
                         .cols = big->rank,
                         .row = own->spectrum ? NULL : small->values,
                         .col = own->spectrum ? NULL : big->values,
                         .values = own->spectrum,
                         .scale = la_curvature_scale(posterior) *
                                  (own->spectrum ? 1 : 1 / block->denominator)};
}

la_status la_factored_sums(const la_posterior *posterior, int64_t block, double lambda,
                           la_shares *shares, double *log_det, la_error *err) {
    la_spectrum s = la_block_spectrum(posterior, &posterior->blocks[block]);
    (void)err;
    la_spectrum_sums(&s, lambda, shares, log_det);
    return LA_OK;
}

/* Of Kronecker products: a trace is the product of two. */
double la_factored_kept(const la_posterior *posterior, int64_t *directions) {
    double whole = 0, sum = 0;
    *directions = 0;
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        const la_posterior_block *block = &posterior->blocks[b];
        la_spectrum s = la_block_spectrum(posterior, block);
        double rows = 0, cols = 0;
        for (int64_t i = 0; i < s.rows; i++)
            rows += s.row[i];
        for (int64_t i = 0; i < s.cols; i++)
            cols += s.col[i];
        *directions += s.rows * s.cols;
        sum += rows * cols / block->denominator;
        whole += block->trace_in * block->trace_out / block->denominator;
    }
    return whole > 0 ? sum / whole : 1;
}

/* c[m, n] = op(a) op(b) + beta c, without gaps; k: what is summed over */
static void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const float *a,
                    const float *b, float beta, float *c) {
    la_sgemm(trans_a, trans_b, m, n, k, 1, a, trans_a ? m : k, b, trans_b ? k : n, beta, c, n);
}

/* ---- quadratic form ---- */

/* lambda |x|^2 + sum_ij h_ij (U_out^T x U_in)_ij^2 */
la_status la_factored_quadratic(const la_posterior *posterior, int64_t number, const float *x,
                                double *sum, la_error *err) {
    const la_posterior_block *block = &posterior->blocks[number];
    la_spectrum s = la_block_spectrum(posterior, block);
    bool out_is_small = block->out <= block->in;
    int64_t rows = out_is_small ? s.rows : s.cols, cols = out_is_small ? s.cols : s.rows;
    const float *rotated = x;
    float *half = NULL, *whole = NULL;
    if (posterior->n_inputs) {
        half = la_alloc((size_t)(rows * block->in), sizeof *half, err);
        whole = la_alloc((size_t)(rows * cols), sizeof *whole, err);
        if (half && whole) {
            product(false, false, rows, block->in, block->out,
                    la_factored_of(posterior, number)->output.vectors, x, 0, half);
            product(false, true, rows, cols, block->in, half,
                    la_factored_inputs(posterior)[block->input].vectors, 0, whole);
        }
        rotated = whole;
    }
    *sum = 0;
    for (int64_t i = 0; i < rows * cols && err->status == LA_OK; i++) {
        int64_t o = i / cols, j = i % cols;
        double h = out_is_small ? la_spectrum_at(&s, o, j) : la_spectrum_at(&s, j, o);
        *sum += h * (double)rotated[i] * (double)rotated[i];
    }
    for (int64_t i = 0; i < block->out * block->in; i++)
        *sum += block->prior_precision * (double)x[i] * (double)x[i];
    free(half);
    free(whole);
    return err->status;
}

/* ---- diagonal ---- */

/* Squares of vectors[rank, n]. */
static float *squares_of(const la_factor *factor, la_error *err) {
    size_t n = (size_t)(factor->rank * factor->n);
    float *squares = la_alloc(n, sizeof *squares, err);
    for (size_t i = 0; squares && i < n; i++)
        squares[i] = factor->vectors[i] * factor->vectors[i];
    return squares;
}

/* sum_ab h_ab U_out[a, o]^2 U_in[b, i]^2, or h_oi without eigenvectors */
la_status la_factored_diagonal(const la_posterior *posterior, int64_t number, double *diagonal,
                               la_error *err) {
    const la_posterior_block *block = &posterior->blocks[number];
    la_spectrum s = la_block_spectrum(posterior, block);
    bool out_is_small = block->out <= block->in;
    int64_t rows = out_is_small ? s.rows : s.cols, cols = out_is_small ? s.cols : s.rows;
    float *h = la_alloc((size_t)(rows * cols), sizeof *h, err);
    for (int64_t i = 0; h && i < rows * cols; i++)
        h[i] = (float)(out_is_small ? la_spectrum_at(&s, i / cols, i % cols)
                                    : la_spectrum_at(&s, i % cols, i / cols));
    float *half = NULL, *whole = h, *out = NULL, *in = NULL;
    if (posterior->n_inputs) {
        half = la_alloc((size_t)(block->out * cols), sizeof *half, err);
        whole = la_alloc((size_t)(block->out * block->in), sizeof *whole, err);
        out = squares_of(&la_factored_of(posterior, number)->output, err);
        in = squares_of(&la_factored_inputs(posterior)[block->input], err);
        if (err->status == LA_OK) {
            product(true, false, block->out, cols, rows, out, h, 0, half);
            product(false, false, block->out, block->in, cols, half, in, 0, whole);
        }
    }
    for (int64_t i = 0; err->status == LA_OK && i < block->out * block->in; i++)
        diagonal[i] = (double)whole[i];
    if (whole != h)
        free(whole);
    free(h);
    free(half);
    free(out);
    free(in);
    return err->status;
}

/* ---- the basis of its eigenvectors ---- */

static bool basis_is_whole(const la_posterior *posterior) {
    for (int64_t i = 0; i < posterior->n_inputs; i++)
        if (la_factored_inputs(posterior)[i].rank < la_factored_inputs(posterior)[i].n)
            return false;
    for (int64_t b = 0; b < posterior->n_blocks && posterior->n_inputs; b++)
        if (la_factored_of(posterior, b)->output.rank < posterior->blocks[b].out)
            return false;
    return true;
}

/* U_out x U_in^T, or U_out^T x U_in back: eigenvectors are rows. */
static la_status turn_block(const la_posterior *posterior, int64_t number, bool back,
                            const float *x, float *to, la_error *err) {
    const la_posterior_block *block = &posterior->blocks[number];
    int64_t out = block->out, in = block->in;
    if (!posterior->n_inputs) {
        memcpy(to, x, (size_t)(out * in) * sizeof *to);
        return LA_OK;
    }
    float *half = la_alloc((size_t)(out * in), sizeof *half, err);
    if (!half)
        return err->status;
    product(back, false, out, in, out, la_factored_of(posterior, number)->output.vectors, x, 0,
            half);
    product(false, !back, out, in, in, half, la_factored_inputs(posterior)[block->input].vectors, 0,
            to);
    free(half);
    return LA_OK;
}

static void block_values(const la_posterior *posterior, int64_t number, double *values) {
    const la_posterior_block *block = &posterior->blocks[number];
    la_spectrum s = la_block_spectrum(posterior, block);
    bool out_is_small = block->out <= block->in;
    for (int64_t o = 0; o < block->out; o++)
        for (int64_t i = 0; i < block->in; i++)
            values[o * block->in + i] =
                out_is_small ? la_spectrum_at(&s, o, i) : la_spectrum_at(&s, i, o);
}

const la_basis_kind la_factored_basis = {basis_is_whole, turn_block, block_values};

/* ---- drawing ---- */

size_t la_factored_draw_bytes(const la_draw *draw) {
    return la_slices_bytes(draw->team, 3 * (size_t)draw->largest * sizeof(float));
}

/* A block's eps [small, big] in work[3, largest]; returns where. *scale multiplies it. */
static const float *draw_block(const la_draw *d, int64_t number, int64_t b, float *work,
                               float *scale) {
    const la_posterior *posterior = d->posterior;
    const la_posterior_block *block = &posterior->blocks[b];
    la_spectrum s = la_block_spectrum(posterior, block);
    int64_t small = la_small_side(block->out, block->in), big = la_big_side(block->out, block->in);
    double lambda = block->prior_precision;
    bool whole = s.rows == small && s.cols == big;
    float *w = work, *half = w + d->largest, *kept = half + d->largest;
    la_draw_normals(d, number, b, small * big, w);
    *scale = 1;
    if (whole)
        for (int64_t i = 0; i < small * big; i++)
            w[i] /= (float)sqrt(la_spectrum_at(&s, i / big, i % big) + lambda);
    if (!posterior->n_inputs)
        return w;
    bool out_is_small = block->out <= block->in;
    const float *output = la_factored_of(posterior, b)->output.vectors;
    const float *input = la_factored_inputs(posterior)[block->input].vectors;
    const float *of_small = out_is_small ? output : input;
    const float *of_big = out_is_small ? input : output;
    if (whole) {
        product(true, false, small, big, small, of_small, w, 0, half);
        product(false, false, small, big, big, half, of_big, 0, w);
        return w;
    }
    product(false, false, s.rows, big, small, of_small, w, 0, half);
    product(false, true, s.rows, s.cols, big, half, of_big, 0, kept);
    for (int64_t i = 0; i < s.rows * s.cols; i++) {
        double h = la_spectrum_at(&s, i / s.cols, i % s.cols);
        kept[i] *= (float)(sqrt(lambda / (h + lambda)) - 1);
    }
    product(false, false, s.rows, big, s.cols, kept, of_big, 0, half);
    product(true, false, small, big, s.rows, of_small, half, 1, w);
    *scale = (float)(1 / sqrt(lambda));
    return w;
}

void la_factored_draw(const la_draw *d, int64_t number, const float *map, float *theta) {
    la_slices slices = la_slices_in(d->memory, 3 * (size_t)d->largest * sizeof(float));
#pragma omp parallel for schedule(dynamic) num_threads(d->team.threads)
    for (int64_t b = 0; b < d->posterior->n_blocks; b++) {
        float scale;
        const float *eps = draw_block(d, number, b, la_slices_own(&slices), &scale);
        la_draw_add(d, b, eps, scale, map, theta);
    }
}
