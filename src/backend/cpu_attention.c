/* Attention over packed rows, forward and backward. Work is shared out by (row, key head): each
 * task owns its part of dk and dv, so the sums have one order whatever the number of threads. The
 * weights of a block of queries are formed in a scratch tile and never stored. */
#include "backend/cpu.h"
#include "backend/cpu_math.h"

#include <cblas.h>
#include <omp.h>
#include <string.h>

enum { QUERIES = 64 };

/* Two tiles a thread: weights, and their cotangents. */
size_t la_cpu_attention_bytes(int64_t max_length) {
    return 2 * (size_t)(QUERIES * max_length) * (size_t)omp_get_max_threads() * sizeof(float);
}

static float *head_at(const la_mat *m, int64_t row, int64_t head, int64_t head_dim) {
    return (float *)m->data + row * m->ld + head * head_dim;
}

/* p[n, keys] = softmax(scale q k^T) for n queries from q_from on. */
static void attention_weights(const la_attention *a, const la_mat *q, const la_mat *k,
                              int64_t q_from, int64_t n, int64_t key_from, int64_t keys,
                              int64_t head, int64_t kv_head, float *p) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)keys, (int)a->head_dim,
                a->scale, head_at(q, q_from, head, a->head_dim), (int)q->ld,
                head_at(k, key_from, kv_head, a->head_dim), (int)k->ld, 0, p, (int)keys);
    for (int64_t i = 0; i < n; i++) {
        float *row = p + i * keys, top = row[0], sum = 0;
        int64_t seen = a->causal ? a->q_at[q_from + i] + 1 : keys;
#pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < seen; j++)
            top = row[j] > top ? row[j] : top;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < seen; j++) {
            row[j] = la_expf(row[j] - top);
            sum += row[j];
        }
        float scale = 1.0f / sum;
        for (int64_t j = 0; j < seen; j++)
            row[j] *= scale;
        for (int64_t j = seen; j < keys; j++)
            row[j] = 0;
    }
}

/* Keys that the queries [q_from, q_from + n) of a row may see. */
static int64_t keys_seen(const la_attention *a, int64_t row, int64_t q_from, int64_t n) {
    int64_t keys = a->cu[row + 1] - a->cu[row];
    if (!a->causal)
        return keys;
    int64_t last = 0;
    for (int64_t i = 0; i < n; i++)
        last = a->q_at[q_from + i] > last ? a->q_at[q_from + i] : last;
    return last + 1;
}

void la_cpu_attention(la_backend *be, const la_attention *a, const la_mat *q, const la_mat *k,
                      const la_mat *v, float *lse, la_mat *out) {
    (void)lse; /* the backward forms the weights as the forward did */
    int64_t group = a->n_heads / a->n_kv_heads;
    size_t tile = (size_t)(QUERIES * a->max_length);
    float *scratch =
        la_cpu_scratch_get(be, LA_SCRATCH_ATTENTION, la_cpu_attention_bytes(a->max_length));
    if (!scratch)
        return;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t row = 0; row < a->n_rows; row++) {
        for (int64_t head = 0; head < a->n_heads; head++) {
            float *p = scratch + 2 * tile * (size_t)omp_get_thread_num();
            int64_t kv_head = head / group;
            for (int64_t from = a->cu_q[row]; from < a->cu_q[row + 1]; from += QUERIES) {
                int64_t left = a->cu_q[row + 1] - from, n = left < QUERIES ? left : QUERIES;
                int64_t keys = keys_seen(a, row, from, n);
                attention_weights(a, q, k, from, n, a->cu[row], keys, head, kv_head, p);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)a->head_dim,
                            (int)keys, 1, p, (int)keys,
                            head_at(v, a->cu[row], kv_head, a->head_dim), (int)v->ld, 0,
                            head_at(out, from, head, a->head_dim), (int)out->ld);
            }
        }
    }
}

/* dp -> scale p (dp - sum_j p dp), in place */
static void softmax_backward(int64_t n, int64_t keys, float scale, const float *p, float *dp) {
    for (int64_t i = 0; i < n; i++) {
        const float *weight = p + i * keys;
        float *grad = dp + i * keys, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < keys; j++)
            dot += weight[j] * grad[j];
        for (int64_t j = 0; j < keys; j++)
            grad[j] = scale * weight[j] * (grad[j] - dot);
    }
}

static void clear_rows(la_mat *m, int64_t from, int64_t n, int64_t head, int64_t head_dim) {
    for (int64_t t = 0; t < n; t++)
        memset(head_at(m, from + t, head, head_dim), 0, (size_t)head_dim * sizeof(float));
}

void la_cpu_attention_backward(la_backend *be, const la_attention *a, const la_mat *q,
                               const la_mat *k, const la_mat *v, const float *lse,
                               const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq,
                               la_mat *dk, la_mat *dv) {
    (void)lse, (void)out;
    int64_t group = a->n_heads / a->n_kv_heads, hd = a->head_dim;
    int64_t tokens = k->rows, queries = q->rows;
    size_t tile = (size_t)(QUERIES * a->max_length);
    float *scratch =
        la_cpu_scratch_get(be, LA_SCRATCH_ATTENTION, la_cpu_attention_bytes(a->max_length));
    if (!scratch)
        return;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t row = 0; row < a->n_rows; row++) {
        for (int64_t kv = 0; kv < a->n_kv_heads; kv++) {
            float *p = scratch + 2 * tile * (size_t)omp_get_thread_num(), *dp = p + tile;
            int64_t key_from = a->cu[row], length = a->cu[row + 1] - key_from;
            for (int64_t rhs = 0; rhs < n_rhs; rhs++) {
                if (dk)
                    clear_rows(dk, rhs * tokens + key_from, length, kv, hd);
                if (dv)
                    clear_rows(dv, rhs * tokens + key_from, length, kv, hd);
            }
            for (int64_t head = kv * group; head < (kv + 1) * group; head++) {
                for (int64_t from = a->cu_q[row]; from < a->cu_q[row + 1]; from += QUERIES) {
                    int64_t left = a->cu_q[row + 1] - from, n = left < QUERIES ? left : QUERIES;
                    int64_t keys = keys_seen(a, row, from, n);
                    attention_weights(a, q, k, from, n, key_from, keys, head, kv, p);
                    for (int64_t rhs = 0; rhs < n_rhs; rhs++) {
                        int64_t q_row = rhs * queries + from, k_row = rhs * tokens + key_from;
                        const float *grad = head_at(g, q_row, head, hd);
                        if (dv)
                            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)keys, (int)hd,
                                        (int)n, 1, p, (int)keys, grad, (int)g->ld, 1,
                                        head_at(dv, k_row, kv, hd), (int)dv->ld);
                        if (!dq && !dk)
                            continue;
                        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)keys,
                                    (int)hd, 1, grad, (int)g->ld, head_at(v, key_from, kv, hd),
                                    (int)v->ld, 0, dp, (int)keys);
                        softmax_backward(n, keys, a->scale, p, dp);
                        if (dq)
                            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)hd,
                                        (int)keys, 1, dp, (int)keys, head_at(k, key_from, kv, hd),
                                        (int)k->ld, 0, head_at(dq, q_row, head, hd), (int)dq->ld);
                        if (dk)
                            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)keys, (int)hd,
                                        (int)n, 1, dp, (int)keys, head_at(q, from, head, hd),
                                        (int)q->ld, 1, head_at(dk, k_row, kv, hd), (int)dk->ld);
                    }
                }
            }
        }
    }
}
