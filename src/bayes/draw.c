#include "bayes/draw.h"
#include "base/blas.h"
#include "base/random.h"
#include "bayes/jacobian.h"

#include <math.h>
#include <stdlib.h>

enum { CHUNK = 1024 };

struct la_draw {
    const la_posterior *posterior;
    uint64_t seed;
    la_team team;
    int64_t largest;  /* elements of a block */
    int64_t *offset;  /* [n_blocks] */
    la_slices slices; /* [3, largest] a thread; not of the exact kinds */
    float *work;      /* z [width] of the exact kinds */
    double *along;    /* [rank] of the exact kinds: what is taken off along each direction */
};

la_status la_draw_open(la_team team, const la_posterior *posterior, uint64_t seed, la_draw **out,
                       la_error *err) {
    *out = NULL;
    la_draw *d = la_alloc(1, sizeof *d, err);
    if (!d)
        return err->status;
    d->posterior = posterior;
    d->seed = seed;
    d->team = team;
    d->offset = la_alloc((size_t)posterior->n_blocks, sizeof *d->offset, err);
    int64_t width = 0;
    for (int64_t b = 0; b < posterior->n_blocks && d->offset; b++) {
        int64_t size = posterior->blocks[b].out * posterior->blocks[b].in;
        d->offset[b] = width;
        d->largest = size > d->largest ? size : d->largest;
        width += size;
    }
    bool joint = la_curvature_is_joint(posterior->curvature);
    if (joint)
        d->work = la_alloc((size_t)width, sizeof *d->work, err);
    else
        (void)la_slices_open(team, 3 * (size_t)d->largest * sizeof(float), &d->slices, err);
    d->along = la_alloc((size_t)posterior->directions.rank, sizeof *d->along, err);
    if (err->status != LA_OK) {
        la_draw_close(d);
        return err->status;
    }
    *out = d;
    return LA_OK;
}

void la_draw_close(la_draw *d) {
    if (!d)
        return;
    free(d->offset);
    free(d->work);
    free(d->slices.memory);
    free(d->along);
    free(d);
}

/* out[0..n): the numbers of a block of a network */
static void normals(const la_draw *d, int64_t number, int64_t block, int64_t n, float *out) {
    uint64_t stream = ((uint64_t)number << 32) + (uint64_t)block;
    double chunk[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t count = n - at < CHUNK ? n - at : CHUNK;
        la_random_normal(d->seed, stream, (uint64_t)at, (size_t)count, chunk);
        for (int64_t i = 0; i < count; i++)
            out[at + i] = (float)chunk[i];
    }
}

/* theta = map + scale eps, eps[small, big] smaller side first */
static void add_to_map(const la_posterior_block *block, const float *eps, float scale,
                       const float *map, float *theta) {
    int64_t out = block->out, in = block->in;
    if (out <= in) {
        for (int64_t i = 0; i < out * in; i++)
            theta[i] = map[i] + scale * eps[i];
        return;
    }
    for (int64_t o = 0; o < out; o++)
        for (int64_t i = 0; i < in; i++)
            theta[o * in + i] = map[o * in + i] + scale * eps[i * out + o];
}

/* c[m, n] = op(a) op(b) + beta c, without gaps; k: what is summed over */
static void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const float *a,
                    const float *b, float beta, float *c) {
    la_sgemm(trans_a, trans_b, m, n, k, 1, a, trans_a ? m : k, b, trans_b ? k : n, beta, c, n);
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
    normals(d, number, b, small * big, w);
    *scale = 1;
    if (whole)
        for (int64_t i = 0; i < small * big; i++)
            w[i] /= (float)sqrt(la_spectrum_at(&s, i / big, i % big) + lambda);
    if (!posterior->n_inputs)
        return w;
    bool out_is_small = block->out <= block->in;
    const float *output = block->output.vectors, *input = posterior->inputs[block->input].vectors;
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

/* z less its shares along the directions, in place */
static void take_off_directions(la_draw *d, double lambda) {
    const la_directions *v = &d->posterior->directions;
    float *z = d->work;
    double scale = la_curvature_scale(d->posterior);
#pragma omp parallel for schedule(static) num_threads(d->team.threads)
    for (int64_t i = 0; i < v->rank; i++) {
        const float *direction = v->vectors + i * v->width;
        double sum = 0;
        for (int64_t j = 0; j < v->width; j++)
            sum += (double)direction[j] * (double)z[j];
        d->along[i] = sum * (1 - sqrt(lambda / (scale * v->values[i] + lambda)));
    }
#pragma omp parallel for schedule(static) num_threads(d->team.threads)
    for (int64_t from = 0; from < v->width; from += CHUNK) {
        int64_t n = v->width - from < CHUNK ? v->width - from : CHUNK;
        double rest[CHUNK];
        for (int64_t j = 0; j < n; j++)
            rest[j] = (double)z[from + j];
        for (int64_t i = 0; i < v->rank; i++) {
            const float *direction = v->vectors + i * v->width + from;
            for (int64_t j = 0; j < n; j++)
                rest[j] -= d->along[i] * (double)direction[j];
        }
        for (int64_t j = 0; j < n; j++)
            z[from + j] = (float)rest[j];
    }
}

static void draw_jointly(la_draw *d, int64_t number, const float *map, float *theta) {
    const la_posterior *posterior = d->posterior;
    double lambda = posterior->blocks[0].prior_precision;
#pragma omp parallel for schedule(dynamic) num_threads(d->team.threads)
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        normals(d, number, b, posterior->blocks[b].out * posterior->blocks[b].in,
                d->work + d->offset[b]);
    take_off_directions(d, lambda);
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        int64_t at = d->offset[b];
        add_to_map(&posterior->blocks[b], d->work + at, (float)(1 / sqrt(lambda)), map + at,
                   theta + at);
    }
}

void la_draw_network(la_draw *d, int64_t number, const float *map, float *theta) {
    const la_posterior *posterior = d->posterior;
    if (la_curvature_is_joint(posterior->curvature)) {
        draw_jointly(d, number, map, theta);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(d->team.threads)
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        float scale;
        const float *eps = draw_block(d, number, b, la_slices_own(&d->slices), &scale);
        add_to_map(&posterior->blocks[b], eps, scale, map + d->offset[b], theta + d->offset[b]);
    }
}
