#include "backend/cpu_relative.h"
#include "backend/cpu_product.h"

#include <string.h>

size_t la_cpu_relative_floats(int64_t queries, int64_t max_length, int64_t max_relative) {
    return (size_t)((queries + 2 * max_length) * max_relative);
}

void la_cpu_relative_begin(la_cpu_relative *r, const la_attention *a, const la_mat *k, int64_t row,
                           int64_t head, float *memory) {
    const la_relative *of = a->relative;
    int64_t length = a->cu[row + 1] - a->cu[row], lowest = of->at[of->reach - length + 1];
    *r = (la_cpu_relative){.a = a,
                           .k = k,
                           .row = row,
                           .head = head,
                           .length = length,
                           .lowest = lowest,
                           .n = of->at[of->reach + length - 1] - lowest + 1};
    r->by_key = memory;
    r->by_key_gradient = r->by_key + length * r->n;
    r->by_query = r->by_key_gradient + length * r->n;
    if (of->pos_q.data)
        la_cpu_product_small(false, true, length, r->n, a->head_dim, a->scale,
                             la_cpu_head_at(k, a->cu[row], head, a->head_dim), k->ld,
                             la_cpu_head_at(&of->pos_q, lowest, head, a->head_dim), of->pos_q.ld, 0,
                             r->by_key, r->n);
}

/* Row of the tables, counted from the lowest reached, for a query's place and key 0; key j's is j
 * entries before. */
static const int32_t *bucket_of(const la_cpu_relative *r, int64_t q_row) {
    const la_relative *of = r->a->relative;
    return of->at + of->reach + r->a->q_at[q_row];
}

void la_cpu_relative_add(const la_cpu_relative *r, const la_mat *q, int64_t q_at, int64_t n,
                         int64_t from, int64_t keys, float *scores) {
    const la_attention *a = r->a;
    const la_relative *of = a->relative;
    if (of->pos_k.data)
        la_cpu_product_small(false, true, n, r->n, a->head_dim, a->scale,
                             la_cpu_head_at(q, q_at, r->head, a->head_dim), q->ld,
                             la_cpu_head_at(&of->pos_k, r->lowest, r->head, a->head_dim),
                             of->pos_k.ld, 0, r->by_query, r->n);
    for (int64_t i = 0; i < n; i++) {
        const int32_t *bucket = bucket_of(r, q_at + i);
        float *row = scores + i * keys;
        const float *query = r->by_query + i * r->n - r->lowest;
        if (of->pos_k.data)
            for (int64_t j = 0; j < keys; j++)
                row[j] += query[bucket[-(from + j)]];
        if (of->pos_q.data)
            for (int64_t j = 0; j < keys; j++)
                row[j] += r->by_key[(from + j) * r->n + bucket[-(from + j)] - r->lowest];
    }
}

void la_cpu_relative_clear(const la_cpu_relative *r, int64_t n_rhs) {
    const la_relative *of = r->a->relative;
    const la_mat *all[2] = {&of->dpos_k, &of->dpos_q};
    int64_t step = of->cu[r->a->n_rows];
    for (int m = 0; m < 2; m++)
        for (int64_t rhs = 0; all[m]->data && rhs < n_rhs; rhs++)
            for (int64_t i = 0; i < r->n; i++)
                memset(la_cpu_head_at(all[m], rhs * step + of->cu[r->row] + i, r->head,
                                      r->a->head_dim),
                       0, (size_t)r->a->head_dim * sizeof(float));
}

/* to[rows, hd] += d[rows, n] pos, and dpos[n, hd] += d^T from[rows, hd] */
static void pull_back(const la_cpu_relative *r, int64_t rows, const float *d, const la_mat *pos,
                      const la_mat *dpos, int64_t rhs, const float *from, int64_t from_ld,
                      float *to, int64_t to_ld) {
    const la_relative *of = r->a->relative;
    int hd = (int)r->a->head_dim, n = (int)r->n;
    if (to)
        la_cpu_product_small(false, false, rows, hd, n, 1, d, n,
                             la_cpu_head_at(pos, r->lowest, r->head, hd), pos->ld, 1, to, to_ld);
    if (dpos->data) {
        int64_t at = rhs * of->cu[r->a->n_rows] + of->cu[r->row];
        la_cpu_product_small(true, false, n, hd, rows, 1, d, n, from, from_ld, 1,
                             la_cpu_head_at(dpos, at, r->head, hd), dpos->ld);
    }
}

void la_cpu_relative_backward(const la_cpu_relative *r, const la_mat *q, int64_t q_at, int64_t n,
                              int64_t from, int64_t keys, int64_t rhs, const float *ds, la_mat *dq,
                              int64_t dq_at, la_mat *dk, int64_t dk_at) {
    const la_attention *a = r->a;
    const la_relative *of = a->relative;
    int64_t hd = a->head_dim;
    if (of->pos_k.data) {
        memset(r->by_query, 0, (size_t)(n * r->n) * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            const int32_t *bucket = bucket_of(r, q_at + i);
            float *to = r->by_query + i * r->n - r->lowest;
            for (int64_t j = 0; j < keys; j++)
                to[bucket[-(from + j)]] += ds[i * keys + j];
        }
        pull_back(r, n, r->by_query, &of->pos_k, &of->dpos_k, rhs,
                  la_cpu_head_at(q, q_at, r->head, hd), q->ld,
                  dq ? la_cpu_head_at(dq, dq_at, r->head, hd) : NULL, dq ? dq->ld : 0);
    }
    if (of->pos_q.data) {
        memset(r->by_key_gradient, 0, (size_t)(keys * r->n) * sizeof(float));
        for (int64_t i = 0; i < n; i++) {
            const int32_t *bucket = bucket_of(r, q_at + i);
            for (int64_t j = 0; j < keys; j++)
                r->by_key_gradient[j * r->n + bucket[-(from + j)] - r->lowest] += ds[i * keys + j];
        }
        pull_back(r, keys, r->by_key_gradient, &of->pos_q, &of->dpos_q, rhs,
                  la_cpu_head_at(r->k, a->cu[r->row] + from, r->head, hd), r->k->ld,
                  dk ? la_cpu_head_at(dk, dk_at, r->head, hd) : NULL, dk ? dk->ld : 0);
    }
}
