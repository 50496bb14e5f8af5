#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

/* Where the forward pass reads a block. */
typedef struct place {
    la_mat *weight, *bias;       /* the model's; bias NULL: none of the block */
    la_mat map_weight, map_bias; /* what they are of the MAP network */
    la_mat own_weight, own_bias; /* memory of our own */
    int64_t out, in;
    bool turned; /* the matrix lies [in, out] */
} place;

struct la_weights {
    la_backend *be;
    int64_t n, count;
    place *places; /* [n] */
    void *stage;   /* on the host: a matrix in the device's type */
};

static bool find_at(la_linear *linear, int64_t block, place *p) {
    for (la_site *site = linear->site; site; site = site->inner) {
        if (site->blocks[0] == block)
            p->weight = site->vector.data ? &site->vector : &site->a;
        else if (site->blocks[1] == block)
            p->weight = &site->b;
        else if (site->blocks[2] == block)
            p->weight = &site->magnitude;
    }
    return p->weight != NULL;
}

static bool find_embedding(la_model *model, int64_t block, place *p) {
    for (int64_t i = 0; i < model->prompt.n_parts; i++) {
        if (model->prompt.parts[i].block != block)
            continue;
        p->turned = true;
        p->weight = &model->prompt.parts[i].table;
        return true;
    }
    for (int i = 0; i < model->n_tables; i++) {
        la_embedding *e = model->embedding[i];
        if (!e || (e->blocks[0] != block && e->blocks[1] != block))
            continue;
        p->turned = e->blocks[0] == block;
        p->weight = p->turned ? &e->a : &e->b;
        return true;
    }
    return false;
}

static bool find_bottleneck(la_model *model, int64_t block, place *p) {
    for (int64_t i = 0; i < 2 * model->config.layers; i++) {
        la_bottleneck *e = model->layers[i / 2].bottleneck[i % 2];
        if (!e || (e->blocks[0] != block && e->blocks[1] != block))
            continue;
        p->weight = e->blocks[0] == block ? &e->down : &e->up;
        return true;
    }
    return false;
}

static bool find(la_model *model, int64_t block, place *p) {
    if (find_embedding(model, block, p) || find_bottleneck(model, block, p))
        return true;
    for (int64_t i = 0; i < model->config.layers; i++)
        for (int slot = 0; slot < LA_SLOTS; slot++)
            if (find_at(&model->layers[i].linear[slot], block, p))
                return true;
    for (int i = 0; i < model->n_head; i++) {
        la_head_layer *layer = &model->head[i];
        if (find_at(&layer->linear, block, p))
            return true;
        if (layer->block != block)
            continue;
        p->weight = &layer->linear.w;
        if (p->in > layer->linear.w.cols)
            p->bias = &layer->linear.bias;
        return true;
    }
    return false;
}

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

static la_status open_place(la_weights *w, la_model *model, int64_t number, la_error *err) {
    const la_block *block = &model->blocks[number];
    place *p = &w->places[w->n];
    *p = (place){.out = block->out, .in = block->in};
    if (!find(model, number, p))
        return la_fail(err, LA_UNSUPPORTED, "%s: this kind of block cannot be sampled",
                       block->name);
    w->n++;
    w->count += block->out * block->in;
    p->map_weight = *p->weight;
    LA_TRY(take(w->be, p->weight, block->is_head, &p->own_weight, err));
    if (!p->bias)
        return LA_OK;
    p->map_bias = *p->bias;
    return take(w->be, p->bias, true, &p->own_bias, err);
}

la_status la_weights_open(la_model *model, const bool *marked, la_weights **out, la_error *err) {
    *out = NULL;
    la_weights *w = la_alloc(1, sizeof *w, err);
    if (!w)
        return err->status;
    w->be = model->be;
    w->places = la_alloc((size_t)model->n_blocks, sizeof *w->places, err);
    int64_t largest = 0;
    for (int64_t b = 0; b < model->n_blocks && err->status == LA_OK; b++) {
        int64_t size = model->blocks[b].out * model->blocks[b].in;
        if (!marked[b])
            continue;
        largest = size > largest ? size : largest;
        open_place(w, model, b, err);
    }
    if (err->status == LA_OK)
        w->stage = la_alloc((size_t)largest, sizeof(float), err);
    if (err->status != LA_OK) {
        la_weights_close(w);
        return err->status;
    }
    *out = w;
    return LA_OK;
}

void la_weights_close(la_weights *w) {
    if (!w)
        return;
    if (w->places)
        la_weights_restore(w);
    for (int64_t i = 0; i < w->n; i++) {
        if (w->places[i].own_weight.data)
            w->be->ops->release(w->be, w->places[i].own_weight.data);
        if (w->places[i].own_bias.data)
            w->be->ops->release(w->be, w->places[i].own_bias.data);
    }
    free(w->places);
    free(w->stage);
    free(w);
}

int64_t la_weights_count(const la_weights *w) {
    return w->count;
}

/* matrix [rows, cols] to the first columns of theta [rows, ld], behind which others may lie */
static la_status read_matrix(la_weights *w, const la_mat *matrix, int64_t ld, float *theta,
                             la_error *err) {
    size_t size = la_dtype_size(matrix->type);
    const char *stage = w->stage;
    w->be->ops->download(w->be, w->stage, matrix->data,
                         (size_t)(matrix->rows * matrix->cols) * size);
    LA_TRY(w->be->ops->sync(w->be, err));
    for (int64_t i = 0; i < matrix->rows; i++)
        la_dtype_to_f32(matrix->type, stage + (size_t)(i * matrix->cols) * size, matrix->cols,
                        theta + i * ld);
    return LA_OK;
}

/* matrix [in, out] to theta [out, in] */
static la_status read_turned(la_weights *w, const place *p, float *theta, la_error *err) {
    float *rows = la_alloc((size_t)(p->out * p->in), sizeof *rows, err);
    la_status status = rows ? read_matrix(w, &p->map_weight, p->out, rows, err) : err->status;
    for (int64_t i = 0; i < p->out && status == LA_OK; i++)
        for (int64_t j = 0; j < p->in; j++)
            theta[i * p->in + j] = rows[j * p->out + i];
    free(rows);
    return status;
}

la_status la_weights_read(la_weights *w, float *theta, la_error *err) {
    for (int64_t i = 0; i < w->n; i++) {
        const place *p = &w->places[i];
        if (p->turned)
            LA_TRY(read_turned(w, p, theta, err));
        else
            LA_TRY(read_matrix(w, &p->map_weight, p->in, theta, err));
        if (p->bias) {
            la_mat column = p->map_bias; /* [1, out] as [out, 1] */
            column.rows = p->out;
            column.cols = 1;
            LA_TRY(read_matrix(w, &column, p->in, theta + p->in - 1, err));
        }
        theta += p->out * p->in;
    }
    return LA_OK;
}

/* to the nearest, ties to even */
static uint16_t round_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* theta [rows, ld] to matrix [rows, cols], f32 or bf16 */
static void put_matrix(la_weights *w, const float *theta, int64_t ld, const la_mat *matrix) {
    int64_t rows = matrix->rows, cols = matrix->cols;
    const void *from = w->stage;
    if (matrix->type == LA_BF16) {
        uint16_t *stage = w->stage;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                stage[i * cols + j] = round_bf16(theta[i * ld + j]);
    } else if (ld == cols) {
        from = theta;
    } else {
        float *stage = w->stage;
        for (int64_t i = 0; i < rows; i++)
            memcpy(stage + i * cols, theta + i * ld, (size_t)cols * sizeof *stage);
    }
    w->be->ops->upload(w->be, matrix->data, from,
                       (size_t)(rows * cols) * la_dtype_size(matrix->type));
}

/* theta [cols, rows] to matrix [rows, cols] */
static void put_turned(la_weights *w, const float *theta, const la_mat *matrix) {
    int64_t rows = matrix->rows, cols = matrix->cols;
    float *wide = w->stage;
    uint16_t *narrow = w->stage;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float value = theta[j * rows + i];
            if (matrix->type == LA_BF16)
                narrow[i * cols + j] = round_bf16(value);
            else
                wide[i * cols + j] = value;
        }
    w->be->ops->upload(w->be, matrix->data, w->stage,
                       (size_t)(rows * cols) * la_dtype_size(matrix->type));
}

void la_weights_put(la_weights *w, const float *theta) {
    for (int64_t i = 0; i < w->n; i++) {
        const place *p = &w->places[i];
        if (p->turned)
            put_turned(w, theta, &p->own_weight);
        else
            put_matrix(w, theta, p->in, &p->own_weight);
        *p->weight = p->own_weight;
        if (p->bias) {
            la_mat column = la_mat_of(p->own_bias.type, p->own_bias.data, p->out, 1);
            put_matrix(w, theta + p->in - 1, p->in, &column);
            *p->bias = p->own_bias;
        }
        theta += p->out * p->in;
    }
}

void la_weights_restore(la_weights *w) {
    for (int64_t i = 0; i < w->n; i++) {
        const place *p = &w->places[i];
        *p->weight = p->map_weight;
        if (p->bias)
            *p->bias = p->map_bias;
    }
}
