/* The terms of attention scores that depend on distances (la_relative), for one row and head at a
 * time. Called by cpu_attention.c alone. */
#ifndef LA_BACKEND_CPU_RELATIVE_H
#define LA_BACKEND_CPU_RELATIVE_H

#include "backend/cpu.h"

typedef struct la_cpu_relative {
    const la_attention *a;
    const la_mat *k;
    int64_t row, head;
    int64_t length;         /* keys of the row */
    int64_t lowest, n;      /* rows of the position tables that it reaches: lowest to lowest + n */
    float *by_key;          /* [length, n] scale k pos_q^T */
    float *by_query;        /* [queries, n] scale q pos_k^T of a block, and then cotangents */
    float *by_key_gradient; /* [length, n] */
} la_cpu_relative;

static inline float *la_cpu_head_at(const la_mat *m, int64_t row, int64_t head, int64_t head_dim) {
    return (float *)m->data + row * m->ld + head * head_dim;
}

/* Workspace of a thread, in floats, for blocks of queries. */
size_t la_cpu_relative_floats(int64_t queries, int64_t max_length, int64_t max_relative);
/* memory must stay until the row is done. */
void la_cpu_relative_begin(la_cpu_relative *r, const la_attention *a, const la_mat *k, int64_t row,
                           int64_t head, float *memory);
/* scores[n, keys] of the queries q_at.. and the row's keys from.. += what distances add */
void la_cpu_relative_add(const la_cpu_relative *r, const la_mat *q, int64_t q_at, int64_t n,
                         int64_t from, int64_t keys, float *scores);
/* dpos_k, dpos_q of the row and head to zero */
void la_cpu_relative_clear(const la_cpu_relative *r, int64_t n_rhs);
/* ds[n, keys]: scale times the cotangents of the scores. Adds to dq from dq_at, dk from dk_at (the
 * place of key `from`), dpos_k and dpos_q. */
void la_cpu_relative_backward(const la_cpu_relative *r, const la_mat *q, int64_t q_at, int64_t n,
                              int64_t from, int64_t keys, int64_t rhs, const float *ds, la_mat *dq,
                              int64_t dq_at, la_mat *dk, int64_t dk_at);

#endif
