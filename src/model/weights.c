#include "model/weights.h"
#include "base/bf16.h"

#include <stdlib.h>

/* A matrix of a marked block. */
typedef struct part {
    const la_parameter *parameter;
    la_mat map, own; /* the MAP network's, and memory of our own */
    int64_t first;   /* number of the block's first element in a network */
} part;

struct la_weights {
    la_backend *be;
    int64_t n, count;
    part *parts; /* [n] */
    void *stage; /* on the host: a matrix in the device's type */
};

/* Memory for a matrix like the model's; a head's is f32, in whatever type it was stored. */
static la_status take(la_backend *be, const la_mat *like, bool of_head, la_mat *own,
                      la_error *err) {
    *own = la_mat_of(of_head ? LA_F32 : like->type, NULL, like->rows, like->cols);
    size_t bytes = (size_t)(own->rows * own->cols) * la_dtype_size(own->type);
    own->data = be->ops->alloc(be, bytes);
    if (!own->data)
        return la_fail(err, LA_RESOURCE, "out of memory on %s for %zu bytes of sampled weights",
                       be->device, bytes);
    return LA_OK;
}

/* The parameters' list is in the order of blocks. */
static la_status open_parts(la_weights *w, const la_model *model, const bool *marked,
                            la_error *err) {
    int64_t n = 0, largest = 0, last = -1, end = 0;
    for (const la_parameter *p = model->parameters; p; p = p->next)
        n += marked[p->block];
    w->parts = la_alloc((size_t)n, sizeof *w->parts, err);
    for (const la_parameter *p = model->parameters; p && err->status == LA_OK; p = p->next) {
        const la_block *block = &model->blocks[p->block];
        if (!marked[p->block])
            continue;
        if (p->block != last) {
            w->count = end;
            end += block->out * block->in;
            last = p->block;
        }
        part *to = &w->parts[w->n++];
        *to = (part){.parameter = p, .map = *p->value, .first = w->count};
        largest =
            p->value->rows * p->value->cols > largest ? p->value->rows * p->value->cols : largest;
        (void)take(w->be, p->value, block->group == LA_GROUP_HEAD, &to->own, err);
    }
    w->count = end;
    w->stage = la_alloc((size_t)largest, sizeof(float), err);
    return err->status;
}

la_status la_weights_open(la_model *model, const bool *marked, la_weights **out, la_error *err) {
    *out = NULL;
    la_weights *w = la_alloc(1, sizeof *w, err);
    if (!w)
        return err->status;
    w->be = model->be;
    if (open_parts(w, model, marked, err) != LA_OK) {
        la_weights_close(w);
        return err->status;
    }
    *out = w;
    return LA_OK;
}

void la_weights_close(la_weights *w) {
    if (!w)
        return;
    la_weights_restore(w);
    for (int64_t i = 0; i < w->n; i++)
        if (w->parts[i].own.data)
            w->be->ops->release(w->be, w->parts[i].own.data);
    free(w->parts);
    free(w->stage);
    free(w);
}

int64_t la_weights_count(const la_weights *w) {
    return w->count;
}

la_status la_weights_read(la_weights *w, float *theta, la_error *err) {
    for (int64_t n = 0; n < w->n; n++) {
        const part *p = &w->parts[n];
        const la_cut *cut = &p->parameter->cut;
        float *values, *to = theta + p->first + cut->from;
        la_status status = la_mat_read(w->be, &p->map, &values, err);
        for (int64_t i = 0; i < p->map.rows && status == LA_OK; i++)
            for (int64_t j = 0; j < p->map.cols; j++)
                to[i * cut->down + j * cut->across] = values[i * p->map.cols + j];
        free(values);
        LA_TRY(status);
    }
    return LA_OK;
}

/* Elements of a block to a matrix, f32 or bf16. */
static void put(la_weights *w, const float *block, const la_cut *cut, const la_mat *matrix) {
    int64_t rows = matrix->rows, cols = matrix->cols;
    float *wide = w->stage;
    uint16_t *narrow = w->stage;
    const void *from = w->stage;
    block += cut->from;
    if (matrix->type == LA_F32 && cut->across == 1 && cut->down == cols)
        from = block;
    for (int64_t i = 0; i < rows && from == w->stage; i++) {
        const float *row = block + i * cut->down;
        if (matrix->type == LA_BF16)
            for (int64_t j = 0; j < cols; j++)
                la_f32_to_bf16(row + j * cut->across, 1, narrow + i * cols + j);
        else
            for (int64_t j = 0; j < cols; j++)
                wide[i * cols + j] = row[j * cut->across];
    }
    w->be->ops->upload(w->be, matrix->data, from,
                       (size_t)(rows * cols) * la_dtype_size(matrix->type));
}

void la_weights_put(la_weights *w, const float *theta) {
    for (int64_t i = 0; i < w->n; i++) {
        const part *p = &w->parts[i];
        put(w, theta + p->first, &p->parameter->cut, &p->own);
        *p->parameter->value = p->own;
    }
}

void la_weights_restore(la_weights *w) {
    for (int64_t i = 0; i < w->n; i++)
        *w->parts[i].parameter->value = w->parts[i].map;
}
