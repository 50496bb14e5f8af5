#include "bayes/curvature.h"

#include <string.h>

static const la_curvature_kind *const kinds[LA_CURVATURES] = {
    [LA_CURVATURE_KRON] = &la_curvature_kron,
    [LA_CURVATURE_EKFAC] = &la_curvature_ekfac,
    [LA_CURVATURE_DIAG] = &la_curvature_diag,
    [LA_CURVATURE_EXACT] = &la_curvature_exact,
    [LA_CURVATURE_LAST_LAYER] = &la_curvature_last_layer,
};

const la_curvature_kind *la_curvature_of(la_curvature curvature) {
    return kinds[curvature];
}

la_status la_posterior_list_blocks(const la_model *model, la_posterior *posterior, la_error *err) {
    la_pool *pool = &posterior->pool;
    posterior->blocks = la_pool_take(pool, (size_t)model->n_blocks, sizeof *posterior->blocks, err);
    posterior->n_blocks = 0;
    for (int64_t b = 0; err->status == LA_OK && b < model->n_blocks; b++) {
        const la_block *block = &model->blocks[b];
        if (!block->wanted)
            continue;
        posterior->blocks[posterior->n_blocks++] =
            (la_posterior_block){.name = la_pool_text(pool, block->name, strlen(block->name), err),
                                 .out = block->out,
                                 .in = block->in,
                                 .denominator = 1,
                                 .theta_square = block->theta_square};
    }
    return err->status;
}
