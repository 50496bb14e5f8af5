#include "model/batch.h"
#include "model/prompt.h"

#include <stdlib.h>
#include <string.h>

void la_batch_layout(int64_t max_rows, int64_t max_tokens, la_arena *arena, la_batch *batch) {
    int32_t **of_tokens[] = {&batch->ids, &batch->types, &batch->positions, &batch->embed_at};
    int32_t **of_rows[] = {&batch->cu, &batch->pooled, &batch->pooled_at, &batch->ones};
    batch->row_capacity = max_rows;
    batch->token_capacity = max_tokens;
    for (int i = 0; i < 4; i++) {
        *of_tokens[i] = la_arena_take(arena, (size_t)max_tokens, sizeof(int32_t));
        *of_rows[i] = la_arena_take(arena, (size_t)max_rows + 1, sizeof(int32_t));
    }
}

void la_batch_start(la_batch *batch) {
    for (int64_t i = 0; i <= batch->row_capacity; i++)
        batch->ones[i] = (int32_t)i;
}

la_status la_batch_open(int64_t max_rows, int64_t max_tokens, la_batch *batch, la_error *err) {
    la_arena arena = {0};
    *batch = (la_batch){0};
    la_batch_layout(max_rows, max_tokens, &arena, batch);
    arena = (la_arena){.base = la_alloc(arena.used, 1, err), .capacity = arena.used};
    if (!arena.base)
        return err->status;
    la_batch_layout(max_rows, max_tokens, &arena, batch);
    la_batch_start(batch);
    return LA_OK;
}

void la_batch_free(la_batch *batch) {
    free(batch->ids); /* the first of all arrays */
    *batch = (la_batch){0};
}

void la_batch_clear(la_batch *batch) {
    batch->n_rows = batch->n_tokens = batch->max_length = 0;
}

bool la_batch_fits(const la_batch *batch, int64_t n) {
    return batch->n_rows < batch->row_capacity && n <= batch->token_capacity - batch->n_tokens;
}

la_status la_row_check(const la_model *model, const int32_t *ids, int64_t n, la_error *err) {
    int64_t vocabulary = model->embed.tables[0].rows;
    if (n < 1)
        return la_fail(err, LA_BAD_INPUT, "the row has no tokens");
    int64_t most = la_prompt_most_tokens(model);
    if (most && n > most)
        return la_fail(err, LA_BAD_INPUT, "the row has %lld tokens, the model at most %lld",
                       (long long)n, (long long)most);
    for (int64_t t = 0; t < n; t++)
        if (ids[t] < 0 || ids[t] >= vocabulary)
            return la_fail(
                err, LA_BAD_INPUT,
                "token id %d at place %lld, expected 0 to %lld (the rows of the embedding); of "
                "tokens that were added in training the adapter has to bring the "
                "embedding: save it with modules_to_save or save_embedding_layers=True",
                ids[t], (long long)t, (long long)vocabulary - 1);
    return LA_OK;
}

void la_batch_add(la_batch *batch, const la_model *model, const int32_t *ids, const int32_t *types,
                  int64_t n, int64_t token) {
    const la_config *config = &model->config;
    int64_t from = batch->n_tokens;
    int64_t pooled = model->pool_token == LA_POOL_FIRST ? 0 : n - 1;
    if (model->pool_token == LA_POOL_PLACE)
        pooled = token;
    if (model->pool_token == LA_POOL_LAST_CONTENT)
        while (pooled > 0 && ids[pooled] == config->pad_id)
            pooled--;
    int32_t next = config->arch->position_after_pad ? (int32_t)config->pad_id + 1 : 0;
    for (int64_t t = 0; t < n; t++) {
        int32_t type = types ? types[t] : 0;
        bool counted = !config->arch->position_after_pad || ids[t] != config->pad_id;
        batch->embed_at[from + t] = counted ? next++ : (int32_t)config->pad_id;
        batch->ids[from + t] = ids[t];
        batch->types[from + t] = type < config->type_vocab ? type : 0;
        batch->positions[from + t] = (int32_t)t;
    }
    batch->cu[batch->n_rows] = (int32_t)from;
    batch->cu[batch->n_rows + 1] = (int32_t)(from + n);
    batch->pooled[batch->n_rows] = (int32_t)(from + pooled);
    batch->pooled_at[batch->n_rows] = (int32_t)pooled;
    batch->n_rows++;
    batch->n_tokens += n;
    batch->max_length = n > batch->max_length ? n : batch->max_length;
}
