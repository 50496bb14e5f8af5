/* Attention over packed rows, forward and backward. Work is shared out by (row, key head): each
 * task owns its part of dk and dv, so the sums have one order whatever the number of threads. The
 * weights of a block of queries are formed in a scratch tile and never stored. */
#include "base/fast_math.h"
#include "backend/cpu_product.h"
#include "backend/cpu_relative.h"

#include <string.h>

enum { QUERIES = 64 };

/* Tiles a thread has: weights, their cotangents, slopes of the softcap; behind them what relative
 * scores need. */
enum { TILES = 3 };

static size_t bytes_of_thread(int64_t max_length, int64_t max_relative) {
    return (TILES * (size_t)(QUERIES * max_length) +
            la_cpu_relative_floats(QUERIES, max_length, max_relative)) *
           sizeof(float);
}

size_t la_cpu_attention_bytes(la_team team, int64_t max_length, int64_t max_relative) {
    return la_slices_bytes(team, bytes_of_thread(max_length, max_relative));
}

/* Rows of the position tables that the longest row reaches. */
static int64_t reached_by_longest(const la_attention *a) {
    const la_relative *r = a->relative;
    if (!r)
        return 0;
    return r->at[r->reach + a->max_length - 1] - r->at[r->reach - a->max_length + 1] + 1;
}

/* Keys of a row, [from, end). */
typedef struct span {
    int64_t from, end;
} span;

static span keys_of(const la_attention *a, int64_t length, int64_t place) {
    span keys = {place - a->before, place + a->after + 1};
    keys.from = keys.from < 0 ? 0 : keys.from;
    keys.end = keys.end > length ? length : keys.end;
    return keys;
}

/* A block of queries of one row, and the keys that any of them sees: places rise within a row. */
typedef struct block {
    int64_t q_at, n; /* first query in q */
    int64_t k_at;    /* first key of the row in k */
    int64_t length;  /* keys of the row */
    span keys;
    int64_t n_keys;
} block;

static block block_of(const la_attention *a, int64_t row, int64_t from) {
    int64_t left = a->cu_q[row + 1] - from;
    block b = {.q_at = from,
               .n = left < QUERIES ? left : QUERIES,
               .k_at = a->cu[row],
               .length = a->cu[row + 1] - a->cu[row]};
    b.keys.from = keys_of(a, b.length, a->q_at[from]).from;
    b.keys.end = keys_of(a, b.length, a->q_at[from + b.n - 1]).end;
    b.n_keys = b.keys.end - b.keys.from;
    return b;
}

/* x -> cap tanh(x / cap), slope = 1 - tanh^2 where it is asked for */
static void cap_scores(int64_t n, float cap, float *x, float *slope) {
    float inverse = 1.0f / cap;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float t = la_tanhf(x[j] * inverse);
        x[j] = cap * t;
        if (slope)
            slope[j] = 1.0f - t * t;
    }
}

/* p[n, n_keys] = softmax of the scores of a block; slope (may be NULL): of the softcap */
static void attention_weights(const la_attention *a, const la_mat *q, const la_mat *k,
                              const block *b, int64_t head, int64_t kv_head,
                              const la_cpu_relative *relative, float *p, float *slope) {
    int64_t keys = b->n_keys;
    la_cpu_product_small(false, true, b->n, keys, a->head_dim, a->scale,
                         la_cpu_head_at(q, b->q_at, head, a->head_dim), q->ld,
                         la_cpu_head_at(k, b->k_at + b->keys.from, kv_head, a->head_dim), k->ld, 0,
                         p, keys);
    if (a->relative)
        la_cpu_relative_add(relative, q, b->q_at, b->n, b->keys.from, keys, p);
    if (a->softcap > 0)
        cap_scores(b->n * keys, a->softcap, p, slope);
    for (int64_t i = 0; i < b->n; i++) {
        span seen = keys_of(a, b->length, a->q_at[b->q_at + i]);
        int64_t from = seen.from - b->keys.from, end = seen.end - b->keys.from;
        float *row = p + i * keys, top = row[from], sum = 0;
#pragma omp simd reduction(max : top)
        for (int64_t j = from; j < end; j++)
            top = row[j] > top ? row[j] : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = from; j < end; j++) {
            row[j] = la_expf(row[j] - top);
            sum += row[j];
        }
        float scale = 1.0f / sum;
        for (int64_t j = from; j < end; j++)
            row[j] *= scale;
        memset(row, 0, (size_t)from * sizeof *row);
        memset(row + end, 0, (size_t)(keys - end) * sizeof *row);
    }
}

void la_cpu_attention(la_backend *be, const la_attention *a, const la_mat *q, const la_mat *k,
                      const la_mat *v, float *lse, la_mat *out) {
    (void)lse; /* the backward forms the weights as the forward did */
    int64_t group = a->n_heads / a->n_kv_heads;
    size_t tile = (size_t)(QUERIES * a->max_length);
    int64_t reached = reached_by_longest(a);
    void *scratch = la_cpu_scratch_get(be, LA_SCRATCH_ATTENTION,
                                       la_cpu_attention_bytes(be->team, a->max_length, reached));
    if (!scratch)
        return;
    la_slices slices = la_slices_in(scratch, bytes_of_thread(a->max_length, reached));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(be->team.threads)
    for (int64_t row = 0; row < a->n_rows; row++) {
        for (int64_t head = 0; head < a->n_heads; head++) {
            float *p = la_slices_own(&slices);
            int64_t kv_head = head / group;
            la_cpu_relative relative;
            if (a->relative)
                la_cpu_relative_begin(&relative, a, k, row, head, p + TILES * tile);
            for (int64_t from = a->cu_q[row]; from < a->cu_q[row + 1]; from += QUERIES) {
                block b = block_of(a, row, from);
                attention_weights(a, q, k, &b, head, kv_head, &relative, p, NULL);
                la_cpu_product_small(false, false, b.n, a->head_dim, b.n_keys, 1, p, b.n_keys,
                                     la_cpu_head_at(v, b.k_at + b.keys.from, kv_head, a->head_dim),
                                     v->ld, 0, la_cpu_head_at(out, from, head, a->head_dim),
                                     out->ld);
            }
        }
    }
}

/* dp -> scale p (dp - sum_j p dp) [slope], in place */
static void softmax_backward(int64_t n, int64_t keys, float scale, const float *p,
                             const float *slope, float *dp) {
    for (int64_t i = 0; i < n; i++) {
        const float *weight = p + i * keys;
        float *grad = dp + i * keys, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < keys; j++)
            dot += weight[j] * grad[j];
        for (int64_t j = 0; j < keys; j++)
            grad[j] = scale * weight[j] * (grad[j] - dot);
        for (int64_t j = 0; slope && j < keys; j++)
            grad[j] *= slope[i * keys + j];
    }
}

static void clear_rows(la_mat *m, int64_t from, int64_t n, int64_t head, int64_t head_dim) {
    for (int64_t t = 0; t < n; t++)
        memset(la_cpu_head_at(m, from + t, head, head_dim), 0, (size_t)head_dim * sizeof(float));
}

void la_cpu_attention_backward(la_backend *be, const la_attention *a, const la_mat *q,
                               const la_mat *k, const la_mat *v, const float *lse,
                               const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq,
                               la_mat *dk, la_mat *dv) {
    (void)lse, (void)out;
    int64_t group = a->n_heads / a->n_kv_heads, hd = a->head_dim;
    int64_t tokens = k->rows, queries = q->rows;
    size_t tile = (size_t)(QUERIES * a->max_length);
    int64_t reached = reached_by_longest(a);
    void *scratch = la_cpu_scratch_get(be, LA_SCRATCH_ATTENTION,
                                       la_cpu_attention_bytes(be->team, a->max_length, reached));
    if (!scratch)
        return;
    la_slices slices = la_slices_in(scratch, bytes_of_thread(a->max_length, reached));
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(be->team.threads)
    for (int64_t row = 0; row < a->n_rows; row++) {
        for (int64_t kv = 0; kv < a->n_kv_heads; kv++) {
            float *p = la_slices_own(&slices), *dp = p + tile;
            float *slope = a->softcap > 0 ? dp + tile : NULL;
            int64_t row_at = a->cu[row], length = a->cu[row + 1] - row_at;
            for (int64_t rhs = 0; rhs < n_rhs; rhs++) {
                if (dk)
                    clear_rows(dk, rhs * tokens + row_at, length, kv, hd);
                if (dv)
                    clear_rows(dv, rhs * tokens + row_at, length, kv, hd);
            }
            for (int64_t head = kv * group; head < (kv + 1) * group; head++) {
                la_cpu_relative relative;
                if (a->relative) {
                    la_cpu_relative_begin(&relative, a, k, row, head, p + TILES * tile);
                    la_cpu_relative_clear(&relative, n_rhs);
                }
                for (int64_t from = a->cu_q[row]; from < a->cu_q[row + 1]; from += QUERIES) {
                    block b = block_of(a, row, from);
                    int n = (int)b.n, keys = (int)b.n_keys;
                    int64_t key_at = b.k_at + b.keys.from;
                    attention_weights(a, q, k, &b, head, kv, &relative, p, slope);
                    for (int64_t rhs = 0; rhs < n_rhs; rhs++) {
                        int64_t q_row = rhs * queries + from, k_row = rhs * tokens + key_at;
                        const float *grad = la_cpu_head_at(g, q_row, head, hd);
                        if (dv)
                            la_cpu_product_small(true, false, keys, hd, n, 1, p, keys, grad, g->ld,
                                                 1, la_cpu_head_at(dv, k_row, kv, hd), dv->ld);
                        if (!dq && !dk)
                            continue;
                        la_cpu_product_small(false, true, n, keys, hd, 1, grad, g->ld,
                                             la_cpu_head_at(v, key_at, kv, hd), v->ld, 0, dp, keys);
                        softmax_backward(b.n, b.n_keys, a->scale, p, slope, dp);
                        if (dq)
                            la_cpu_product_small(false, false, n, hd, keys, 1, dp, keys,
                                                 la_cpu_head_at(k, key_at, kv, hd), k->ld, 0,
                                                 la_cpu_head_at(dq, q_row, head, hd), dq->ld);
                        if (dk)
                            la_cpu_product_small(true, false, keys, hd, n, 1, dp, keys,
                                                 la_cpu_head_at(q, from, head, hd), q->ld, 1,
                                                 la_cpu_head_at(dk, k_row, kv, hd), dk->ld);
                        if (a->relative)
                            la_cpu_relative_backward(&relative, q, from, b.n, b.keys.from, b.n_keys,
                                                     rhs, dp, dq, q_row, dk, k_row);
                    }
                }
            }
        }
    }
}
