#include "model/embedding.h"
#include "model/adapter_shared.h"

la_status la_embedding_bind(la_adapter *adapter, la_pool *pool, const char *module, int64_t rows,
                            int64_t width, la_embedding *e, la_parameter parameters[2],
                            bool *adapted, la_error *err) {
    static const char *const pair[2] = {"lora_embedding_A", "lora_embedding_B"};
    float *values[2];
    la_block blocks[2];
    LA_TRY(la_lora_read(adapter, pool, module, pair, width, rows, values, blocks, err));
    *adapted = values[0] != NULL;
    if (!*adapted)
        return LA_OK;
    int64_t r = blocks[0].out;
    LA_TRY(la_lora_scale(adapter, module, r, &e->scale, err));
    float *table = la_pool_take(pool, (size_t)(rows * r), sizeof *table, err);
    if (!table)
        return err->status;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < rows; j++)
            table[j * r + i] = values[0][i * rows + j];
    e->a = la_mat_f32(table, rows, r);
    e->b = la_mat_f32(values[1], width, r);
    parameters[0] =
        (la_parameter){.value = &e->a, .trained = blocks[0], .cut = {0, 1, rows}}; /* turned */
    parameters[1] = (la_parameter){.value = &e->b, .trained = blocks[1]};
    return LA_OK;
}

void la_embedding_forward(la_backend *be, const la_embedding *e, const int32_t *ids, la_mat *state,
                          la_mat *y) {
    be->ops->embed(be, 1, &e->a, &ids, 1, state);
    be->ops->gemm(be, false, true, e->scale, state, &e->b, 1, y);
}

void la_embedding_backward(la_backend *be, const la_embedding *e, const la_embedding_pass *pass) {
    const la_block_visitor *visitor = pass->visitor;
    la_block_io io = pass->io;
    if (e->blocks[0] >= 0) {
        /* every row of the one-hot matrix lies behind the other, as a column of single numbers */
        la_mat x = pass->one_hot, cells = la_mat_f32(x.data, x.rows * x.cols, 1);
        la_mat ga = pass->state_g;
        be->ops->zero(be, x.data, (size_t)(x.rows * x.cols) * sizeof(float));
        be->ops->scatter(be, pass->ones, 1, pass->one_at, true, &cells);
        be->ops->gemm(be, false, false, e->scale, pass->io.g, &e->b, 0, &ga);
        io.x = io.x_at_g = &x;
        io.g = &ga;
        io.g_scale = 1;
        visitor->visit(visitor->user, e->blocks[0], &io);
    }
    io = pass->io;
    io.x = io.x_at_g = pass->state;
    io.g_scale = e->scale;
    visitor->visit(visitor->user, e->blocks[1], &io);
}
