#include "model/blocks.h"
#include "model/model.h"

#include <stdlib.h>

int64_t la_blocks_width(const la_blocks *blocks) {
    int64_t width = 0;
    for (int64_t b = 0; b < blocks->n; b++)
        width += blocks->list[b].out * blocks->list[b].in;
    return width;
}

int64_t la_blocks_largest(const la_blocks *blocks) {
    int64_t most = 0;
    for (int64_t b = 0; b < blocks->n; b++) {
        int64_t count = blocks->list[b].out * blocks->list[b].in;
        most = count > most ? count : most;
    }
    return most;
}

void la_blocks_close(la_blocks *blocks) {
    free(blocks->list);
    free(blocks->index);
    *blocks = (la_blocks){0};
}

la_status la_model_blocks(const la_model *model, la_params params, la_blocks *blocks,
                          la_error *err) {
    size_t most = (size_t)model->n_blocks;
    int64_t *input = la_alloc((size_t)model->n_inputs, sizeof *input, err);
    *blocks = (la_blocks){.be = model->be,
                          .list = la_alloc(most, sizeof *blocks->list, err),
                          .index = la_alloc(most, sizeof *blocks->index, err),
                          .n_virtual = model->prompt.n,
                          .rows_each_token = la_model_most_inputs(model, 1)};
    for (int64_t i = 0; err->status == LA_OK && i < model->n_inputs; i++)
        input[i] = -1;
    for (int64_t b = 0; err->status == LA_OK && b < model->n_blocks; b++) {
        blocks->index[b] = -1;
        if (!model->blocks[b].wanted || !la_block_in(model, b, params))
            continue;
        la_block *block = &blocks->list[blocks->n];
        blocks->index[b] = blocks->n++;
        *block = model->blocks[b];
        if (input[block->input] < 0)
            input[block->input] = blocks->n_inputs++;
        block->input = input[block->input];
    }
    free(input);
    if (err->status != LA_OK)
        la_blocks_close(blocks);
    return err->status;
}
