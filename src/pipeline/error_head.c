#include "pipeline/error_head.h"

#include <stdlib.h>
#include <string.h>

/* A matrix as f32 on the host, a row behind the other; *out stays NULL where there is none. The
 * caller frees it. */
static la_status read_matrix(la_backend *be, const la_mat *m, float **out, la_error *err) {
    if (!m->data)
        return LA_OK;
    size_t count = (size_t)(m->rows * m->cols), size = la_dtype_size(m->type);
    char *raw = la_alloc(count, size, err);
    *out = la_alloc(count, sizeof **out, err);
    for (int64_t r = 0; r < m->rows && err->status == LA_OK; r++)
        be->ops->download(be, raw + (size_t)(r * m->cols) * size,
                          (char *)m->data + (size_t)(r * m->ld) * size, (size_t)m->cols * size);
    if (err->status == LA_OK && be->ops->sync(be, err) == LA_OK)
        la_dtype_to_f32(m->type, raw, (int64_t)count, *out);
    free(raw);
    return err->status;
}

/* What an adapter changes of a layer, on the host; NULL: not that. */
typedef struct change {
    float *a, *b, *state_scale, *out_scale, *vector;
} change;

static la_status read_vector(la_backend *be, const float *values, int64_t n, float **out,
                             la_error *err) {
    la_mat m = la_mat_f32((void *)(uintptr_t)values, 1, n);
    return read_matrix(be, &m, out, err);
}

static la_status read_change(la_backend *be, const la_site *site, change *c, la_error *err) {
    LA_TRY(read_matrix(be, &site->a, &c->a, err));
    LA_TRY(read_matrix(be, &site->b, &c->b, err));
    LA_TRY(read_vector(be, site->state_scale, site->a.rows, &c->state_scale, err));
    LA_TRY(read_vector(be, site->out_scale, site->out, &c->out_scale, err));
    return read_matrix(be, &site->vector, &c->vector, err);
}

/* Element i, j of the product B A of an adapter, with what lies between. */
static double product(const la_site *site, const change *c, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t k = 0; c->a && k < site->a.rows; k++)
        sum += (double)c->b[i * site->a.rows + k] *
               (c->state_scale ? (double)c->state_scale[k] : 1) * (double)c->a[k * site->in + j];
    return sum;
}

/* weight[out, in] and bias[out] (NULL: none) become those of the layer with its adapter. */
static la_status add_adapter(la_backend *be, const la_site *site, float *weight, float *bias,
                             la_error *err) {
    change c = {0};
    la_status status = site->inner ? add_adapter(be, site->inner, weight, bias, err) : LA_OK;
    if (status == LA_OK)
        status = read_change(be, site, &c, err);
    for (int64_t i = 0; i < site->out && status == LA_OK; i++) {
        float of_row = c.out_scale ? c.out_scale[i] : 1;
        bool vector_of_row = c.vector && !site->scales_input;
        if (vector_of_row)
            of_row = c.vector[i];
        if (vector_of_row && bias)
            bias[i] *= of_row;
        for (int64_t j = 0; j < site->in; j++) {
            float *w = &weight[i * site->in + j];
            *w = of_row * (*w + site->scale * (float)product(site, &c, i, j));
            if (c.vector && site->scales_input)
                *w *= c.vector[j];
        }
    }
    float *parts[] = {c.a, c.b, c.state_scale, c.out_scale, c.vector};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
    return status;
}

/* The last layer's weight [C, width] and bias [C] (NULL: none) as f32 on the host; the caller frees
 * both. */
static la_status read_last_layer(la_session *session, float **weight, float **bias, la_error *err) {
    const la_model *model = &session->workers[0].model;
    const la_linear *last = &model->head[model->n_head - 1].linear;
    LA_TRY(read_matrix(model->be, &last->w, weight, err));
    LA_TRY(read_matrix(model->be, &last->bias, bias, err));
    return last->site ? add_adapter(model->be, last->site, *weight, *bias, err) : LA_OK;
}

/* Every fifth row behind the others: states[n, width] and labels[n] in that order; returns how many
 * come first. */
static int64_t split(const la_evaluation *rows, const int64_t *labels, float *states,
                     int64_t *ordered) {
    int64_t at = 0, first = 0, width = rows->width;
    for (int part = 0; part < 2; part++) {
        for (int64_t i = 0; i < rows->n; i++) {
            if ((i % LA_ADUE_VALIDATION_SHARE == LA_ADUE_VALIDATION_SHARE - 1) != part)
                continue;
            memcpy(states + at * width, rows->states + i * width, (size_t)width * sizeof *states);
            ordered[at++] = labels[i];
        }
        first = part ? first : at;
    }
    return first;
}

la_status la_adue_head_fit(la_session *session, const la_evaluation *training,
                           const int64_t *labels, const la_evaluation *validation,
                           const int64_t *validation_labels, uint64_t seed, la_adue *out,
                           la_error *err) {
    la_adue_options options = la_adue_defaults;
    la_adue_rows train = {training->n, training->states, labels}, check = {0};
    float *weight = NULL, *bias = NULL, *states = NULL;
    int64_t *ordered = NULL, width = training->width;
    options.seed = seed;
    la_status status = read_last_layer(session, &weight, &bias, err);
    if (validation && validation->n) {
        check = (la_adue_rows){validation->n, validation->states, validation_labels};
    } else if (status == LA_OK) {
        states = la_alloc((size_t)(training->n * width), sizeof *states, err);
        ordered = la_alloc((size_t)training->n, sizeof *ordered, err);
        status = err->status;
        if (status == LA_OK) {
            int64_t first = split(training, labels, states, ordered);
            train = (la_adue_rows){first, states, ordered};
            check = (la_adue_rows){training->n - first, states + first * width, ordered + first};
        }
        if (status == LA_OK && !check.n)
            status = la_fail(err, LA_BAD_INPUT,
                             "%lld rows are too few to train an error head on; at least %d",
                             (long long)training->n, LA_ADUE_VALIDATION_SHARE);
    }
    if (status == LA_OK)
        status = la_adue_train(&options, training->n_classes, width, weight, bias, &train, &check,
                               out, err);
    free(weight);
    free(bias);
    free(states);
    free(ordered);
    return status;
}
