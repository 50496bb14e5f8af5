/* Evidence, fields in a file and draws of joint kinds. */
#include "bayes/exact.h"
#include "bayes/structure_fields.h"

#include <math.h>

/* ---- fields ---- */

static const la_field directions[] = {
    LA_EIGENVALUES(la_directions, values, "eigenvalues",
                   .rows = LA_FROM_SHAPE(la_directions, rank, "rank")),
    LA_EIGENVECTORS(la_directions, vectors, "eigenvectors",
                    .rows = LA_EXTENT(la_directions, rank, "rank"),
                    .cols = LA_EXTENT(la_directions, width, "parameters")),
};

static la_blame before_directions(la_posterior *p, void *item) {
    ((la_directions *)item)->width = la_posterior_width(p);
    return (la_blame){0};
}

static la_blame after_directions(la_posterior *p, void *item) {
    const la_directions *d = item;
    (void)p;
    return d->rank > d->width ? (la_blame){"eigenvalues", LA_NO_SENSE} : (la_blame){0};
}

static const la_field_list directions_group = {LA_FIELDS(directions), .before = before_directions,
                                               .after = after_directions};

static const la_field joint[] = {
    {.name = "directions",
     .kind = LA_FIELD_GROUP,
     .list = &directions_group,
     .detail = true,
     .meaning = "exact, last-layer: H over all parameters, block by block, each laid out "
                "smaller side first"},
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

static const la_field_list joint_whole = {LA_FIELDS(joint), .size = sizeof(la_directions),
                                          .after = check_joint},
                           joint_block = {.after = check_joint_block};

/* ---- evidence ---- */

static la_status sums(const la_posterior *posterior, int64_t part, double lambda, la_shares *shares,
                      double *log_det, la_error *err) {
    const la_directions *d = la_exact_directions(posterior);
    la_spectrum s = {
        .rows = 1, .cols = d->rank, .col = d->values, .scale = la_curvature_scale(posterior)};
    (void)part;
    (void)err;
    la_spectrum_sums(&s, lambda, shares, log_det);
    return LA_OK;
}

/* Column of a block's first parameter. */
static int64_t offset_of(const la_posterior *posterior, int64_t number) {
    int64_t offset = 0;
    for (int64_t b = 0; b < number; b++)
        offset += posterior->blocks[b].out * posterior->blocks[b].in;
    return offset;
}

/* lambda |x|^2 + sum_k d_k <v_k, x>^2, over the block's part of the directions */
static la_status quadratic(const la_posterior *posterior, int64_t number, const float *x,
                           double *sum, la_error *err) {
    const la_directions *d = la_exact_directions(posterior);
    const la_posterior_block *block = &posterior->blocks[number];
    int64_t out = block->out, in = block->in, offset = offset_of(posterior, number);
    bool turned = out > in;
    (void)err;
    *sum = 0;
    for (int64_t k = 0; k < d->rank; k++) {
        const float *v = d->vectors + k * d->width + offset;
        double along = 0;
        for (int64_t i = 0; i < out; i++)
            for (int64_t j = 0; j < in; j++)
                along += (double)v[turned ? j * out + i : i * in + j] * (double)x[i * in + j];
        *sum += la_curvature_scale(posterior) * d->values[k] * along * along;
    }
    for (int64_t i = 0; i < out * in; i++)
        *sum += block->prior_precision * (double)x[i] * (double)x[i];
    return LA_OK;
}

/* sum_k d_k v_k^2, over the block's part of the directions */
static la_status diagonal_of(const la_posterior *posterior, int64_t number, double *diagonal,
                             la_error *err) {
    const la_directions *d = la_exact_directions(posterior);
    const la_posterior_block *block = &posterior->blocks[number];
    int64_t out = block->out, in = block->in, offset = offset_of(posterior, number);
    bool turned = out > in;
    (void)err;
    for (int64_t i = 0; i < out * in; i++)
        diagonal[i] = 0;
    for (int64_t k = 0; k < d->rank; k++) {
        const float *v = d->vectors + k * d->width + offset;
        double scale = la_curvature_scale(posterior) * d->values[k];
        for (int64_t i = 0; i < out; i++)
            for (int64_t j = 0; j < in; j++) {
                double at = (double)v[turned ? j * out + i : i * in + j];
                diagonal[i * in + j] += scale * at * at;
            }
    }
    return LA_OK;
}

static double kept(const la_posterior *posterior, int64_t *n) {
    const la_directions *d = la_exact_directions(posterior);
    double sum = 0;
    for (int64_t i = 0; i < d->rank; i++)
        sum += d->values[i];
    *n = d->rank;
    return d->trace > 0 ? sum / d->trace : 1;
}

/* ---- drawing ---- */

/* Columns of z at a time. */
enum { CHUNK = 1024 };

/* z [width], and what is taken off along each direction [rank]. */
static size_t draw_bytes(const la_draw *draw) {
    const la_directions *d = la_exact_directions(draw->posterior);
    return (size_t)d->rank * sizeof(double) + (size_t)d->width * sizeof(float);
}

/* z less its shares along the directions, in place */
static void take_off_directions(const la_draw *d, double lambda, double *along, float *z) {
    const la_directions *v = la_exact_directions(d->posterior);
    double scale = la_curvature_scale(d->posterior);
#pragma omp parallel for schedule(static) num_threads(d->team.threads)
    for (int64_t i = 0; i < v->rank; i++) {
        const float *direction = v->vectors + i * v->width;
        double sum = 0;
        for (int64_t j = 0; j < v->width; j++)
            sum += (double)direction[j] * (double)z[j];
        along[i] = sum * (1 - sqrt(lambda / (scale * v->values[i] + lambda)));
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
                rest[j] -= along[i] * (double)direction[j];
        }
        for (int64_t j = 0; j < n; j++)
            z[from + j] = (float)rest[j];
    }
}

static void draw(const la_draw *d, int64_t number, const float *map, float *theta) {
    const la_posterior *posterior = d->posterior;
    double lambda = posterior->blocks[0].prior_precision, *along = d->memory;
    float *z = (float *)(void *)(along + la_exact_directions(posterior)->rank);
#pragma omp parallel for schedule(dynamic) num_threads(d->team.threads)
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        la_draw_normals(d, number, b, posterior->blocks[b].out * posterior->blocks[b].in,
                        z + d->offset[b]);
    take_off_directions(d, lambda, along, z);
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        la_draw_add(d, b, z + d->offset[b], (float)(1 / sqrt(lambda)), map, theta);
}

/* The last layer is the exact kind over other blocks. */
#define EXACT_KIND(...)                                                                            \
    {                                                                                              \
        __VA_ARGS__, .one_device = true, .subtracts = true, .joint = true, .cuts = true,           \
                     .fit = &la_exact_fit, .covariance = &la_exact_covariance,                     \
                     .fields = &joint_whole, .block_fields = &joint_block, .sums = sums,           \
                     .quadratic = quadratic, .kept = kept, .join = la_exact_join,                  \
                     .diagonal = diagonal_of, .draw_bytes = draw_bytes, .draw = draw               \
    }

const la_structure_kind la_structure_exact = EXACT_KIND(.curvature = LA_CURVATURE_EXACT);
const la_structure_kind la_structure_last_layer =
    EXACT_KIND(.curvature = LA_CURVATURE_LAST_LAYER, .only_params = true, .params = LA_PARAMS_LAST);
