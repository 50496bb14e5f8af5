#include "model/embedding.h"
#include "model/adapter_lora.h"

la_status la_embedding_bind(la_adapter *adapter, la_pool *pool, const char *module, int64_t rows,
                            int64_t width, la_embedding *e, la_parameter parameters[2],
                            bool *adapted, la_error *err) {
    const char *a_key = NULL, *b_key = NULL;
    const la_tensor *a = la_adapter_tensor(adapter, module, "lora_embedding_A", &a_key);
    const la_tensor *b = la_adapter_tensor(adapter, module, "lora_embedding_B", &b_key);
    *adapted = a || b;
    if (!*adapted)
        return LA_OK;
    if (!a || !b)
        return la_fail(err, LA_BAD_INPUT, "%s: \"%s\" is there, but no %s for it",
                       (a ? a : b)->file, (a ? a : b)->name,
                       a ? "lora_embedding_B" : "lora_embedding_A");
    LA_TRY(la_adapter_check_matrix(a, err));
    LA_TRY(la_adapter_check_matrix(b, err));
    char left[128], right[128];
    if (a->shape[0] != b->shape[1] || a->shape[1] != rows || b->shape[0] != width)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %s: lora_embedding_A %s and lora_embedding_B %s do not fit the "
                       "embedding [%lld, %lld]; is this the base it was trained on?",
                       a->file, module, la_tensor_shape_text(a, left, sizeof left),
                       la_tensor_shape_text(b, right, sizeof right), (long long)rows,
                       (long long)width);
    int64_t r = a->shape[0];
    la_block blocks[2] = {{.out = r, .in = rows}, {.out = width, .in = r}};
    LA_TRY(la_lora_scale(adapter, module, r, &e->scale, err));
    float *a_values = la_adapter_values(pool, a, &blocks[0].theta_square, err);
    float *b_values = la_adapter_values(pool, b, &blocks[1].theta_square, err);
    float *table = la_pool_take(pool, (size_t)a->count, sizeof *table, err);
    blocks[0].name = la_adapter_block_name(pool, a_key, err);
    blocks[1].name = la_adapter_block_name(pool, b_key, err);
    if (err->status != LA_OK)
        return err->status;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < rows; j++)
            table[j * r + i] = a_values[i * rows + j];
    e->a = la_mat_f32(table, rows, r);
    e->b = la_mat_f32(b_values, width, r);
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
