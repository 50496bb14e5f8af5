#include "model/distances.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Distances up to half the buckets have one each; beyond, buckets grow with the logarithm. */
int64_t la_distances_line(const la_config *config, int64_t distance) {
    const la_distances *d = &config->distances;
    int64_t middle = d->buckets / 2, far = distance < 0 ? -distance : distance, bucket = distance;
    if (d->buckets > 0 && far > middle) {
        double log_far = log((double)far / (double)middle) /
                         log(((double)d->most - 1) / (double)middle) * ((double)middle - 1);
        bucket = (int64_t)ceil(log_far) + middle;
        bucket = distance < 0 ? -bucket : bucket;
    }
    int64_t line = bucket + d->span;
    return line < 0 ? 0 : line >= 2 * d->span ? 2 * d->span - 1 : line;
}

int64_t la_distances_lines(const la_config *config, int64_t length) {
    if (!config->distances.span || length < 1)
        return 0;
    return la_distances_line(config, length - 1) - la_distances_line(config, 1 - length) + 1;
}

/* Over the rows of a batch: none reads more than one line for each distance. */
static int64_t most_lines(const la_config *config, int64_t max_rows, int64_t max_tokens) {
    int64_t by_distance = 2 * max_tokens, by_table = 2 * config->distances.span * max_rows;
    return by_distance < by_table ? by_distance : by_table;
}

static int32_t *take_ints(la_arena *arena, int64_t n) {
    return la_arena_take(arena, (size_t)n, sizeof(int32_t));
}

void la_distances_layout(const la_model *model, int64_t max_rows, int64_t max_tokens,
                         int64_t backward, la_arena *arena, la_arena *host, la_run_distances *r) {
    const la_config *config = &model->config;
    int64_t d = config->hidden, wide = config->heads * config->head_dim;
    int64_t n = la_distances_lines(config, max_tokens);
    int64_t lines = most_lines(config, max_rows, max_tokens);
    int64_t all = max_tokens + lines;
    if (!config->distances.span)
        return;
    r->ids = take_ints(arena, n);
    r->at = take_ints(arena, 2 * max_tokens + 1);
    r->cu = take_ints(arena, max_rows + 1);
    r->cu_all = take_ints(arena, max_rows + 1);
    r->index = take_ints(arena, lines);
    r->token_at = take_ints(arena, max_tokens);
    r->line_at = take_ints(arena, lines);
    r->host = take_ints(host, 2 * max_tokens + 1 + lines + max_rows + 1);
    r->raw = la_model_take(model, arena, n, d);
    r->table = model->lines.norm.weight ? la_model_take(model, arena, n, d) : r->raw;
    r->stats = la_arena_take(arena, (size_t)(2 * n), sizeof(float));
    if (!backward)
        return;
    r->x_lines = la_model_take(model, arena, lines, d);
    r->dpos_k = la_model_take(model, arena, backward * lines, wide);
    r->dpos_q = la_model_take(model, arena, backward * lines, wide);
    r->state_all = la_model_take(model, arena, all, model->max_state_cols);
    r->x_all = la_model_take(model, arena, config->distances.shared ? all : 0, d);
    r->g_all = la_model_take(model, arena, backward * all, wide);
}

static void upload_ints(la_backend *be, const la_run_distances *r, int32_t *to, int64_t n) {
    be->ops->upload(be, to, r->host, (size_t)n * sizeof *to);
}

/* Where each row's tokens and lines go in the matrices that hold both. */
static void upload_indices(la_backend *be, const la_config *config, const la_batch *batch,
                           la_run_distances *r) {
    int32_t *host = r->host, lines = 0;
    for (int64_t row = 0; row < batch->n_rows; row++) {
        host[row] = lines;
        lines += (int32_t)la_distances_lines(config, batch->cu[row + 1] - batch->cu[row]);
    }
    host[batch->n_rows] = lines;
    r->n_lines = lines;
    upload_ints(be, r, r->cu, batch->n_rows + 1);
    for (int64_t row = 0; row <= batch->n_rows; row++)
        host[row] += batch->cu[row];
    upload_ints(be, r, r->cu_all, batch->n_rows + 1);
    int32_t *token = host + batch->n_rows + 1;
    for (int64_t row = 0; row < batch->n_rows; row++)
        for (int32_t t = batch->cu[row]; t < batch->cu[row + 1]; t++)
            token[t] = host[row] + t - batch->cu[row];
    be->ops->upload(be, r->token_at, token, (size_t)batch->n_tokens * sizeof *token);
    int32_t *line = token;
    for (int64_t row = 0; row < batch->n_rows; row++) {
        int32_t length = batch->cu[row + 1] - batch->cu[row];
        for (int32_t at = host[row] + length; at < host[row + 1]; at++)
            *line++ = at;
    }
    be->ops->upload(be, r->line_at, token, (size_t)lines * sizeof *token);
    line = token;
    for (int64_t row = 0; row < batch->n_rows; row++) {
        int64_t length = batch->cu[row + 1] - batch->cu[row];
        int64_t first = la_distances_line(config, 1 - length) - r->lowest;
        int64_t n = host[row + 1] - host[row] - length;
        for (int64_t i = 0; i < n; i++)
            *line++ = (int32_t)(first + i);
    }
    be->ops->upload(be, r->index, token, (size_t)lines * sizeof *token);
}

void la_distances_upload(const la_model *model, const la_batch *batch, la_run_distances *r) {
    const la_config *config = &model->config;
    la_backend *be = model->be;
    if (!config->distances.span)
        return;
    int64_t reach = r->reach = batch->max_length - 1;
    r->lowest = la_distances_line(config, -reach);
    r->n = la_distances_lines(config, batch->max_length);
    for (int64_t i = 0; i <= 2 * reach; i++)
        r->host[i] = (int32_t)(la_distances_line(config, i - reach) - r->lowest);
    upload_ints(be, r, r->at, 2 * reach + 1);
    for (int64_t i = 0; i < r->n; i++)
        r->host[i] = (int32_t)(r->lowest + i);
    upload_ints(be, r, r->ids, r->n);
    upload_indices(be, config, batch, r);
    const int32_t *ids[1] = {r->ids};
    r->raw.rows = r->table.rows = r->n;
    be->ops->embed(be, 1, &model->lines.table, ids, 1, &r->raw);
    if (model->lines.norm.weight)
        be->ops->norm(be, &model->lines.norm, &r->raw, r->stats, &r->table);
    if (!r->x_lines.data)
        return;
    r->x_lines.rows = r->n_lines;
    be->ops->gather(be, &r->table, r->index, &r->x_lines);
}
