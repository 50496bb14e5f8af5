#include "model/rotary.h"
#include "model/prompt.h"

#include <math.h>
#include <stdlib.h>

static bool any_by_length(const la_config *config) {
    bool any = false;
    for (int i = 0; i < config->n_ropes; i++)
        any |= la_rope_by_length(&config->rope[i]);
    return any;
}

void la_rotary_layout(const la_model *model, int64_t max_tokens, la_arena *arena, la_arena *host,
                      la_rotary *r) {
    const la_config *config = &model->config;
    int64_t most = 0;
    if (any_by_length(config))
        r->iota = la_arena_take(arena, (size_t)max_tokens, sizeof *r->iota);
    for (int i = 0; i < config->n_ropes; i++) {
        int64_t dim = config->rope[i].dim;
        r->angles[i] = la_arena_take(arena, (size_t)(max_tokens * dim), sizeof(float));
        most = dim > most ? dim : most;
    }
    r->host = la_arena_take(host, (size_t)(max_tokens * most), sizeof *r->host);
}

/* cosines and sines [n][dim / 2][2] for positions first, first + 1, ... of a row of that length */
static void fill_angles(const la_rope *rope, int64_t length, int64_t first, int64_t n, float *out) {
    double frequency[LA_ROPE_PAIRS_MAX];
    int64_t half = rope->dim / 2;
    la_rope_frequencies(rope, length, frequency);
    for (int64_t t = 0; t < n; t++) {
        for (int64_t j = 0; j < half; j++) {
            double angle = (double)(first + t) * frequency[j];
            *out++ = (float)(rope->attention_factor * cos(angle));
            *out++ = (float)(rope->attention_factor * sin(angle));
        }
    }
}

static la_status upload_iota(la_backend *be, int64_t n, int32_t *to, la_error *err) {
    int32_t *iota = la_alloc((size_t)n, sizeof *iota, err);
    for (int64_t t = 0; iota && t < n; t++)
        iota[t] = (int32_t)t;
    if (iota)
        be->ops->upload(be, to, iota, (size_t)n * sizeof *iota);
    free(iota);
    return err->status;
}

la_status la_rotary_open(const la_model *model, int64_t max_tokens, la_rotary *r, la_error *err) {
    const la_config *config = &model->config;
    la_backend *be = model->be;
    for (int i = 0; i < config->n_ropes; i++) {
        const la_rope *rope = &config->rope[i];
        if (la_rope_by_length(rope))
            continue;
        fill_angles(rope, max_tokens, -la_prompt_offset(model), max_tokens, r->host);
        be->ops->upload(be, r->angles[i], r->host,
                        (size_t)(max_tokens * rope->dim) * sizeof(float));
    }
    return r->iota ? upload_iota(be, max_tokens, r->iota, err) : LA_OK;
}

void la_rotary_upload(const la_model *model, const la_batch *batch, la_rotary *r) {
    const la_config *config = &model->config;
    la_backend *be = model->be;
    for (int i = 0; i < config->n_ropes; i++) {
        const la_rope *rope = &config->rope[i];
        if (!la_rope_by_length(rope))
            continue;
        for (int64_t row = 0; row < batch->n_rows; row++) {
            int64_t n = batch->cu[row + 1] - batch->cu[row];
            int64_t first = batch->positions[batch->cu[row]] - la_prompt_offset(model);
            fill_angles(rope, first + n, first, n, r->host + batch->cu[row] * rope->dim);
        }
        be->ops->upload(be, r->angles[i], r->host,
                        (size_t)(batch->n_tokens * rope->dim) * sizeof(float));
    }
}
