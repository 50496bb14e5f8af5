/* Every operation's backward against finite differences of an independent f64 forward written here,
 * and every forward against the same: shapes are multiples of nothing, cotangents have three
 * right-hand sides. The limits are at most four times what is observed (f32 rounding). */
#include "base/random.h"
#include "support/devices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RHS = 3 };
#define STEP 1e-5

/* n standard normal numbers in f64 and the same in f32, the f64 ones rounded so that both agree */
typedef struct numbers {
    size_t n;
    double *d;
    float *f;
} numbers;

static uint64_t next_stream;

static numbers draw(size_t n, double scale) {
    numbers x = {n, calloc(n, sizeof(double)), calloc(n, sizeof(float))};
    la_random_normal(11, ++next_stream, 0, n, x.d);
    for (size_t i = 0; i < n; i++) {
        x.f[i] = (float)(scale * x.d[i]);
        x.d[i] = (double)x.f[i];
    }
    return x;
}

static void release(numbers *x) {
    free(x->d);
    free(x->f);
}

static double largest(const double *want, const float *got, size_t n) {
    double gap = 0, scale = 0;
    for (size_t i = 0; i < n; i++) {
        gap = fmax(gap, fabs(want[i] - (double)got[i]));
        scale = fmax(scale, fabs(want[i]));
    }
    return gap / scale;
}

/* A forward in f64: y[out] of x[in]; context is its own. */
typedef void (*forward_f64)(const void *context, const double *x, double *y);

/* gradient[k][i] = sum_j g[k][j] dy_j / dx_i by central differences */
static double *differences(forward_f64 forward, const void *context, const numbers *x, size_t n_out,
                           const numbers *g) {
    double *gradient = calloc(RHS * x->n, sizeof *gradient);
    double *up = calloc(n_out, sizeof *up), *down = calloc(n_out, sizeof *down);
    for (size_t i = 0; i < x->n; i++) {
        double keep = x->d[i];
        x->d[i] = keep + STEP;
        forward(context, x->d, up);
        x->d[i] = keep - STEP;
        forward(context, x->d, down);
        x->d[i] = keep;
        for (size_t k = 0; k < RHS; k++)
            for (size_t j = 0; j < n_out; j++)
                gradient[k * x->n + i] += g->d[k * n_out + j] * (up[j] - down[j]) / (2 * STEP);
    }
    free(up);
    free(down);
    return gradient;
}

/* ---- products ---- */

enum { T = 7, D = 13, OUT = 11 };

typedef struct linear_context {
    const double *w, *bias, *residual;
} linear_context;

static void linear_f64(const void *user, const double *x, double *y) {
    const linear_context *c = user;
    for (int t = 0; t < T; t++)
        for (int o = 0; o < OUT; o++) {
            y[t * OUT + o] = c->bias[o] + c->residual[t * OUT + o];
            for (int i = 0; i < D; i++)
                y[t * OUT + o] += x[t * D + i] * c->w[o * D + i];
        }
}

static void check_linear(la_dtype type, double forward_limit, double backward_limit) {
    numbers x = draw(T * D, 1), w = draw(OUT * D, 1), b = draw(OUT, 1), r = draw(T * OUT, 1);
    numbers g = draw(RHS * T * OUT, 1), before = draw(RHS * T * D, 1);
    uint16_t half[OUT * D];
    if (type == LA_BF16) /* weights that bf16 holds exactly */
        for (int i = 0; i < OUT * D; i++) {
            uint32_t bits;
            memcpy(&bits, &w.f[i], 4);
            bits &= 0xffff0000u;
            memcpy(&w.f[i], &bits, 4);
            half[i] = (uint16_t)(bits >> 16);
            w.d[i] = (double)w.f[i];
        }
    la_mat mx = la_mat_f32(x.f, T, D), mr = la_mat_f32(r.f, T, OUT);
    la_mat mw = {type == LA_BF16 ? (void *)half : (void *)w.f, OUT, D, D, type};
    float y[T * OUT];
    double want[T * OUT];
    la_mat my = la_mat_f32(y, T, OUT), mg = la_mat_f32(g.f, RHS * T, OUT);
    linear_context context = {w.d, b.d, r.d};
    la_mat mb = la_mat_f32(b.f, 1, OUT);
    cpu_at_level.ops->linear(&cpu_at_level, &mx, &mw, &mb, &mr, &my);
    linear_f64(&context, x.d, want);
    check_within("linear", largest(want, y, T * OUT), forward_limit);
    /* dx = 1 dx + g w */
    double *gradient = differences(linear_f64, &context, &x, T * OUT, &g);
    for (size_t i = 0; i < before.n; i++)
        gradient[i] += before.d[i];
    la_mat mdx = la_mat_f32(before.f, RHS * T, D);
    cpu_at_level.ops->linear_backward(&cpu_at_level, &mg, &mw, 1, &mdx);
    check_within("linear_backward", largest(gradient, before.f, before.n), backward_limit);
    check_fault();
    free(gradient);
    numbers *all[] = {&x, &w, &b, &r, &g, &before};
    for (size_t i = 0; i < 6; i++)
        release(all[i]);
}

static void linear_f32(void **state) {
    (void)state;
    check_linear(LA_F32, 2.6e-7, 4.3e-7);
}

static void linear_bf16_weights(void **state) {
    (void)state;
    check_linear(LA_BF16, 2.6e-7, 4.3e-7);
}

/* ---- norms ---- */

typedef struct norm_context {
    la_norm_kind kind;
    double eps;
    const double *weight, *bias;
} norm_context;

static void norm_f64(const void *user, const double *x, double *y) {
    const norm_context *c = user;
    for (int t = 0; t < T; t++) {
        double mean = 0, square = 0;
        for (int i = 0; i < D && c->kind == LA_NORM_LAYER; i++)
            mean += x[t * D + i] / D;
        for (int i = 0; i < D; i++)
            square += (x[t * D + i] - mean) * (x[t * D + i] - mean) / D;
        for (int i = 0; i < D; i++)
            y[t * D + i] = (x[t * D + i] - mean) / sqrt(square + c->eps) * c->weight[i] +
                           (c->bias ? c->bias[i] : 0);
    }
}

static void check_norm(la_norm_kind kind) {
    numbers x = draw(T * D, 2), weight = draw(D, 1), bias = draw(D, 1), g = draw(RHS * T * D, 1);
    numbers residual = draw(RHS * T * D, 1);
    bool layer = kind == LA_NORM_LAYER;
    la_norm norm = {kind, 1e-3f, weight.f, layer ? bias.f : NULL};
    norm_context context = {kind, (double)1e-3f, weight.d, layer ? bias.d : NULL};
    float y[T * D], stats[2 * T], dx[RHS * T * D];
    double want[T * D];
    la_mat mx = la_mat_f32(x.f, T, D), my = la_mat_f32(y, T, D);
    la_mat mg = la_mat_f32(g.f, RHS * T, D), mr = la_mat_f32(residual.f, RHS * T, D);
    la_mat mdx = la_mat_f32(dx, RHS * T, D);
    cpu_at_level.ops->norm(&cpu_at_level, &norm, &mx, stats, &my);
    norm_f64(&context, x.d, want);
    check_within("norm", largest(want, y, T * D), 3.7e-7);
    double *gradient = differences(norm_f64, &context, &x, T * D, &g);
    cpu_at_level.ops->norm_backward(&cpu_at_level, &norm, &mx, stats, RHS, &mg, NULL, &mdx);
    check_within("norm_backward", largest(gradient, dx, RHS * T * D), 6e-7);
    for (size_t i = 0; i < RHS * T * D; i++)
        gradient[i] += residual.d[i];
    /* in place, with the residual */
    cpu_at_level.ops->norm_backward(&cpu_at_level, &norm, &mx, stats, RHS, &mg, &mr, &mg);
    check_within("norm_backward, residual, in place", largest(gradient, g.f, RHS * T * D), 6e-7);
    free(gradient);
    numbers *all[] = {&x, &weight, &bias, &g, &residual};
    for (size_t i = 0; i < 5; i++)
        release(all[i]);
}

/* with and without bias and residual, on x and on the residual */
static void scaled_columns(void **state) {
    (void)state;
    numbers x = draw(T * D, 1), c = draw(D, 1), bias = draw(D, 1), residual = draw(T * D, 1);
    double want[T * D];
    float y[T * D];
    for (int which = 0; which < 6; which++) {
        bool with_bias = which & 1, with_residual = which >= 2;
        la_mat mx = la_mat_f32(x.f, T, D), mb = la_mat_f32(bias.f, 1, D);
        la_mat mr = la_mat_f32(residual.f, T, D), my = la_mat_f32(y, T, D);
        float *to = which == 4 ? residual.f : which == 5 ? x.f : y;
        my.data = to;
        for (size_t i = 0; i < T * D; i++)
            want[i] = x.d[i] * c.d[i % D] + (with_bias ? bias.d[i % D] : 0) +
                      (with_residual ? residual.d[i] : 0);
        if (which == 5) /* its residual was overwritten */
            for (size_t i = 0; i < T * D; i++)
                residual.f[i] = (float)residual.d[i];
        cpu_at_level.ops->scale_columns(&cpu_at_level, &mx, c.f, with_bias ? &mb : NULL,
                                        with_residual ? &mr : NULL, &my);
        check_within("scale_columns", largest(want, to, T * D), 4e-7);
    }
    numbers *all[] = {&x, &c, &bias, &residual};
    for (size_t i = 0; i < 4; i++)
        release(all[i]);
}

static void layer_norm(void **state) {
    (void)state;
    check_norm(LA_NORM_LAYER);
}

static void rms_norm(void **state) {
    (void)state;
    check_norm(LA_NORM_RMS);
}

/* ---- activations ---- */

typedef struct activation_context {
    la_activation kind;
    const double *up;   /* NULL: not gated */
    const double *gate; /* when x is the up side */
} activation_context;

static double activation(la_activation kind, double x) {
    switch (kind) {
    case LA_ACT_NONE:
        return x;
    case LA_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case LA_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case LA_ACT_SILU:
        return x / (1 + exp(-x));
    case LA_ACT_RELU:
        return x > 0 ? x : 0;
    case LA_ACT_TANH:
        return tanh(x);
    }
    return NAN;
}

static void activation_f64(const void *user, const double *x, double *y) {
    const activation_context *c = user;
    for (int i = 0; i < T * D; i++) {
        if (c->gate)
            y[i] = activation(c->kind, c->gate[i]) * x[i];
        else
            y[i] = activation(c->kind, x[i]) * (c->up ? c->up[i] : 1);
    }
}

static void check_activation(la_activation kind, bool gated) {
    numbers x = draw(T * D, 2), up = draw(T * D, 1), g = draw(RHS * T * D, 1);
    float y[T * D], dx[RHS * T * D], dup[RHS * T * D];
    double want[T * D];
    la_mat mx = la_mat_f32(x.f, T, D), mu = la_mat_f32(up.f, T, D), my = la_mat_f32(y, T, D);
    la_mat mg = la_mat_f32(g.f, RHS * T, D), mdx = la_mat_f32(dx, RHS * T, D);
    la_mat mdup = la_mat_f32(dup, RHS * T, D);
    activation_context context = {kind, gated ? up.d : NULL, NULL};
    cpu_at_level.ops->activation(&cpu_at_level, kind, &mx, gated ? &mu : NULL, &my);
    activation_f64(&context, x.d, want);
    check_within("activation", largest(want, y, T * D), 5e-7);
    double *gradient = differences(activation_f64, &context, &x, T * D, &g);
    cpu_at_level.ops->activation_backward(&cpu_at_level, kind, &mx, gated ? &mu : NULL, RHS, &mg,
                                          &mdx, gated ? &mdup : NULL);
    check_within("activation_backward", largest(gradient, dx, RHS * T * D), 1e-6);
    free(gradient);
    if (gated) {
        context = (activation_context){kind, NULL, x.d};
        gradient = differences(activation_f64, &context, &up, T * D, &g);
        check_within("activation_backward, up", largest(gradient, dup, RHS * T * D), 5e-7);
        free(gradient);
    }
    release(&x);
    release(&up);
    release(&g);
}

static void activations(void **state) {
    (void)state;
    for (int kind = LA_ACT_NONE; kind <= LA_ACT_TANH; kind++)
        for (int gated = 0; gated < 2; gated++)
            check_activation((la_activation)kind, gated);
}

/* large arguments neither overflow nor lose their limit */
static void activation_tails(void **state) {
    (void)state;
    float x[] = {-1e30f, -200, -90, -20, 0, 20, 90, 200, 1e18f}, y[9], g[9], dx[9];
    la_mat mx = la_mat_f32(x, 1, 9), my = la_mat_f32(y, 1, 9);
    la_mat mg = la_mat_f32(g, 1, 9), mdx = la_mat_f32(dx, 1, 9);
    static const la_activation kinds[] = {LA_ACT_GELU, LA_ACT_SILU, LA_ACT_TANH};
    for (size_t k = 0; k < 3; k++) {
        for (int i = 0; i < 9; i++)
            g[i] = 1;
        cpu_at_level.ops->activation(&cpu_at_level, kinds[k], &mx, NULL, &my);
        cpu_at_level.ops->activation_backward(&cpu_at_level, kinds[k], &mx, NULL, 1, &mg, &mdx,
                                              NULL);
        for (int i = 0; i < 9; i++) {
            double want = kinds[k] == LA_ACT_TANH ? tanh((double)x[i])
                          : x[i] > 0              ? (double)x[i]
                                                  : 0;
            assert_true(fabs((double)y[i] - want) <= 1e-6 * fmax(1, fabs(want)));
            if (x[i] != 0)
                assert_true(fabs((double)dx[i] - (kinds[k] == LA_ACT_TANH ? 0
                                                  : x[i] > 0              ? 1
                                                                          : 0)) < 1e-6);
        }
    }
}

/* ---- rotary embedding ---- */

enum { HEADS = 3, HEAD = 6, WIDE = HEADS * HEAD };

static const int32_t places[T] = {0, 1, 2, 0, 1, 5, 3};

static void rotate_f64(const void *user, const double *x, double *y) {
    const double *angle = user;
    for (int t = 0; t < T; t++)
        for (int h = 0; h < HEADS; h++)
            for (int j = 0; j < HEAD / 2; j++) {
                double c = cos(places[t] * angle[j]), s = sin(places[t] * angle[j]);
                const double *in = x + t * WIDE + h * HEAD;
                double *out = y + t * WIDE + h * HEAD;
                out[j] = in[j] * c - in[j + HEAD / 2] * s;
                out[j + HEAD / 2] = in[j + HEAD / 2] * c + in[j] * s;
            }
}

static void rotary(void **state) {
    (void)state;
    numbers x = draw(T * WIDE, 1), g = draw(RHS * T * WIDE, 1);
    double angle[HEAD / 2] = {1, 0.2, 0.03}, want[T * WIDE];
    float table[6 * HEAD];
    for (int t = 0; t < 6; t++)
        for (int j = 0; j < HEAD / 2; j++) {
            table[(t * (HEAD / 2) + j) * 2] = (float)cos(t * angle[j]);
            table[(t * (HEAD / 2) + j) * 2 + 1] = (float)sin(t * angle[j]);
        }
    double *gradient = differences(rotate_f64, angle, &x, T * WIDE, &g);
    la_mat mx = la_mat_f32(x.f, T, WIDE), mg = la_mat_f32(g.f, RHS * T, WIDE);
    rotate_f64(angle, x.d, want);
    cpu_at_level.ops->rotate(&cpu_at_level, HEADS, HEAD, HEAD, table, places, 1, 1, &mx);
    check_within("rotate", largest(want, x.f, T * WIDE), 1.5e-7);
    cpu_at_level.ops->rotate(&cpu_at_level, HEADS, HEAD, HEAD, table, places, RHS, -1, &mg);
    check_within("rotate back", largest(gradient, g.f, RHS * T * WIDE), 2.1e-7);
    free(gradient);
    release(&x);
    release(&g);
}

/* ---- attention ---- */

enum { ROWS = 3, TOKENS = 83 }; /* one row is longer than a tile of queries */

typedef struct attention_context {
    const la_attention *a;
    int64_t queries;
    const double *in[5]; /* q, k, v, pos_k, pos_q */
    int varied;          /* the one that is varied */
} attention_context;

static bool is_seen(const la_attention *a, int64_t i, int64_t j) {
    return j >= a->q_at[i] - a->before && j <= a->q_at[i] + a->after;
}

/* Row of the position tables for query i and key j of its row. */
static const double *position(const la_attention *a, const double *table, int64_t i, int64_t j,
                              int64_t h) {
    const la_relative *r = a->relative;
    return table + (r->at[r->reach + a->q_at[i] - j] * a->n_heads + h) * a->head_dim;
}

static double dot_f64(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t e = 0; e < n; e++)
        sum += x[e] * y[e];
    return sum;
}

static double score_f64(const attention_context *c, const double *const in[5], int64_t r, int64_t i,
                        int64_t j, int64_t h) {
    const la_attention *a = c->a;
    int64_t hd = a->head_dim, kv = h / (a->n_heads / a->n_kv_heads);
    const double *q = in[0] + (i * a->n_heads + h) * hd;
    const double *k = in[1] + ((a->cu[r] + j) * a->n_kv_heads + kv) * hd;
    double dot = dot_f64(q, k, hd);
    if (a->relative)
        dot += dot_f64(q, position(a, in[3], i, j, h), hd) +
               dot_f64(k, position(a, in[4], i, j, h), hd);
    dot *= (double)a->scale;
    return a->softcap > 0 ? (double)a->softcap * tanh(dot / (double)a->softcap) : dot;
}

static void attention_f64(const void *user, const double *x, double *y) {
    const attention_context *c = user;
    const la_attention *a = c->a;
    const double *in[5];
    for (int m = 0; m < 5; m++)
        in[m] = c->varied == m ? x : c->in[m];
    int64_t hd = a->head_dim, wide = a->n_heads * hd, narrow = a->n_kv_heads * hd;
    double p[TOKENS];
    for (int64_t r = 0; r < a->n_rows; r++)
        for (int64_t h = 0; h < a->n_heads; h++)
            for (int64_t i = a->cu_q[r]; i < a->cu_q[r + 1]; i++) {
                int64_t kv = h / (a->n_heads / a->n_kv_heads), n = a->cu[r + 1] - a->cu[r];
                double sum = 0;
                for (int64_t j = 0; j < n; j++)
                    sum += p[j] = is_seen(a, i, j) ? exp(score_f64(c, in, r, i, j, h)) : 0;
                for (int64_t e = 0; e < hd; e++) {
                    double out = 0;
                    for (int64_t j = 0; j < n; j++)
                        out += p[j] / sum * in[2][(a->cu[r] + j) * narrow + kv * hd + e];
                    y[i * wide + h * hd + e] = out;
                }
            }
}

typedef struct attention_form {
    int64_t heads, kv_heads;
    int64_t before, after;
    bool pooled;
    float softcap;
} attention_form;

static const int32_t attention_cu[ROWS + 1] = {0, 3, 12, TOKENS};

static void check_attention(const attention_form *form, const la_relative *relative,
                            const numbers *positions) {
    static const int32_t ones[ROWS + 1] = {0, 1, 2, 3}, last[ROWS] = {2, 5, 70};
    const int32_t *cu = attention_cu;
    int32_t at[TOKENS];
    for (int r = 0; r < ROWS; r++)
        for (int t = cu[r]; t < cu[r + 1]; t++)
            at[t] = t - cu[r];
    bool pooled = form->pooled;
    la_attention a = {.n_rows = ROWS,
                      .cu = cu,
                      .cu_q = pooled ? ones : cu,
                      .q_at = pooled ? last : at,
                      .n_heads = form->heads,
                      .n_kv_heads = form->kv_heads,
                      .head_dim = 5,
                      .max_length = TOKENS,
                      .max_queries = pooled ? 1 : TOKENS,
                      .scale = 0.45f,
                      .before = form->before,
                      .after = form->after,
                      .softcap = form->softcap,
                      .relative = relative};
    int64_t heads = form->heads, queries = pooled ? ROWS : TOKENS, wide = heads * 5,
            narrow = form->kv_heads * 5;
    numbers q = draw((size_t)(queries * wide), 1), k = draw((size_t)(TOKENS * narrow), 1);
    numbers v = draw((size_t)(TOKENS * narrow), 1), g = draw((size_t)(RHS * queries * wide), 1);
    float *out = calloc(q.n, sizeof *out), *dq = calloc(RHS * q.n, sizeof *dq);
    float *dk = calloc(RHS * k.n, sizeof *dk), *dv = calloc(RHS * v.n, sizeof *dv);
    double *want = calloc(q.n, sizeof *want);
    float *lse = calloc((size_t)(queries * heads), sizeof *lse);
    la_mat mq = la_mat_f32(q.f, queries, wide), mk = la_mat_f32(k.f, TOKENS, narrow);
    la_mat mv = la_mat_f32(v.f, TOKENS, narrow), mo = la_mat_f32(out, queries, wide);
    la_mat mg = la_mat_f32(g.f, RHS * queries, wide), mdq = la_mat_f32(dq, RHS * queries, wide);
    la_mat mdk = la_mat_f32(dk, RHS * TOKENS, narrow), mdv = la_mat_f32(dv, RHS * TOKENS, narrow);
    attention_context context = {&a, queries, {q.d, k.d, v.d}, 0};
    if (relative) {
        context.in[3] = positions[0].d;
        context.in[4] = positions[1].d;
    }
    cpu_at_level.ops->attention(&cpu_at_level, &a, &mq, &mk, &mv, lse, &mo);
    attention_f64(&context, q.d, want);
    check_within("attention", largest(want, out, q.n), 8.9e-7);
    cpu_at_level.ops->attention_backward(&cpu_at_level, &a, &mq, &mk, &mv, lse, &mo, RHS, &mg, &mdq,
                                         &mdk, &mdv);
    const numbers *inputs[3] = {&q, &k, &v};
    const float *got[3] = {dq, dk, dv};
    for (int i = 0; i < 3; i++) {
        context.varied = i;
        double *gradient = differences(attention_f64, &context, inputs[i], q.n, &g);
        check_within(i == 0   ? "attention_backward, q"
                     : i == 1 ? "attention_backward, k"
                              : "attention_backward, v",
                     largest(gradient, got[i], RHS * inputs[i]->n), 1.3e-6);
        free(gradient);
    }
    /* the rows' own cotangents of the tables, summed to the tables' */
    for (int m = 0; relative && m < 2; m++) {
        const la_mat *own = m ? &relative->dpos_q : &relative->dpos_k;
        float *sum = calloc(RHS * positions[m].n, sizeof *sum);
        for (int64_t rhs = 0; rhs < RHS; rhs++)
            for (int64_t r = 0; r < ROWS; r++) {
                int64_t lowest = relative->at[relative->reach - (cu[r + 1] - cu[r]) + 1];
                for (int64_t b = 0; b < relative->cu[r + 1] - relative->cu[r]; b++)
                    for (int64_t j = 0; j < wide; j++)
                        sum[rhs * (int64_t)positions[m].n + (lowest + b) * wide + j] +=
                            ((const float *)own
                                 ->data)[(rhs * relative->cu[ROWS] + relative->cu[r] + b) * wide +
                                         j];
            }
        context.varied = 3 + m;
        double *gradient = differences(attention_f64, &context, &positions[m], q.n, &g);
        check_within(m ? "attention_backward, pos_q" : "attention_backward, pos_k",
                     largest(gradient, sum, RHS * positions[m].n), 1.3e-6);
        free(gradient);
        free(sum);
    }
    /* dv alone */
    memset(dv, 0, RHS * v.n * sizeof *dv);
    cpu_at_level.ops->attention_backward(&cpu_at_level, &a, &mq, &mk, &mv, lse, &mo, RHS, &mg, NULL,
                                         NULL, &mdv);
    context.varied = 2;
    double *gradient = differences(attention_f64, &context, &v, q.n, &g);
    check_within("attention_backward, v alone", largest(gradient, dv, RHS * v.n), 1.3e-6);
    free(gradient);
    check_fault();
    free(out), free(dq), free(dk), free(dv), free(want), free(lse);
    release(&q), release(&k), release(&v), release(&g);
}

enum { ALL = LA_ATTENTION_ALL };

static void attention_bidirectional(void **state) {
    (void)state;
    check_attention(&(attention_form){2, 2, ALL, ALL, false, 0}, NULL, NULL);
}

static void attention_causal_grouped(void **state) {
    (void)state;
    check_attention(&(attention_form){6, 2, ALL, 0, false, 0}, NULL, NULL);
}

static void attention_of_pooled_tokens(void **state) {
    (void)state;
    check_attention(&(attention_form){4, 1, ALL, ALL, true, 0}, NULL, NULL);
    check_attention(&(attention_form){2, 2, ALL, 0, true, 0}, NULL, NULL);
}

static void attention_in_a_window(void **state) {
    (void)state;
    check_attention(&(attention_form){4, 2, 5, 0, false, 0}, NULL, NULL);
    check_attention(&(attention_form){2, 2, 4, 4, false, 0}, NULL, NULL);
    check_attention(&(attention_form){2, 1, 7, 0, true, 0}, NULL, NULL);
}

static void attention_with_softcap(void **state) {
    (void)state;
    check_attention(&(attention_form){4, 2, ALL, 0, false, 1.5f}, NULL, NULL);
    check_attention(&(attention_form){2, 2, 9, 0, false, 0.8f}, NULL, NULL);
}

/* Distances up to 6 have a row each, those beyond share: 15 rows. */
static void attention_with_distances(void **state) {
    (void)state;
    enum { REACH = TOKENS, TABLE = 15, WIDTH = 2 * 5 };
    int32_t at[2 * REACH + 1], cu[ROWS + 1] = {0};
    for (int d = -REACH; d <= REACH; d++)
        at[REACH + d] = 7 + (d < -6 ? -7 : d > 6 ? 7 : d);
    for (int r = 0; r < ROWS; r++) {
        int length = attention_cu[r + 1] - attention_cu[r];
        cu[r + 1] = cu[r] + at[REACH + length - 1] - at[REACH - length + 1] + 1;
    }
    numbers positions[2] = {draw(TABLE * WIDTH, 1), draw(TABLE * WIDTH, 1)};
    size_t count = (size_t)(RHS * cu[ROWS] * WIDTH);
    float *own[2] = {calloc(count, sizeof(float)), calloc(count, sizeof(float))};
    la_relative relative = {.pos_k = la_mat_f32(positions[0].f, TABLE, WIDTH),
                            .pos_q = la_mat_f32(positions[1].f, TABLE, WIDTH),
                            .at = at,
                            .reach = REACH,
                            .cu = cu,
                            .dpos_k = la_mat_f32(own[0], RHS * cu[ROWS], WIDTH),
                            .dpos_q = la_mat_f32(own[1], RHS * cu[ROWS], WIDTH)};
    check_attention(&(attention_form){2, 2, ALL, ALL, false, 0}, &relative, positions);
    check_attention(&(attention_form){2, 2, ALL, ALL, true, 0}, &relative, positions);
    for (int m = 0; m < 2; m++) {
        free(own[m]);
        release(&positions[m]);
    }
}

/* ---- rows and curvature ---- */

/* scatter is the transpose of gather: <gather x, y> = <x, scatter y> for every right-hand side */
static void gather_and_scatter(void **state) {
    (void)state;
    static const int32_t index[3] = {5, 0, 3};
    numbers x = draw(T * D, 1), y = draw(RHS * 3 * D, 1);
    float picked[3 * D], spread[RHS * T * D];
    la_mat mx = la_mat_f32(x.f, T, D), mp = la_mat_f32(picked, 3, D);
    la_mat my = la_mat_f32(y.f, RHS * 3, D), ms = la_mat_f32(spread, RHS * T, D);
    cpu_at_level.ops->gather(&cpu_at_level, &mx, index, &mp);
    cpu_at_level.ops->scatter(&cpu_at_level, &my, RHS, index, false, &ms);
    for (int k = 0; k < RHS; k++) {
        double left = 0, right = 0;
        for (int i = 0; i < 3 * D; i++)
            left += (double)picked[i] * y.d[k * 3 * D + i];
        for (int i = 0; i < T * D; i++)
            right += x.d[i] * (double)spread[k * T * D + i];
        assert_true(fabs(left - right) < 1e-12 * (1 + fabs(left)));
    }
    release(&x);
    release(&y);
}

/* column_squares against sums written out; of more columns than are taken at once, of one row, of
 * none */
static void column_squares(void **state) {
    (void)state;
    static const struct {
        int64_t rows, cols;
    } shapes[] = {{1, 1}, {7, 13}, {3, 511}, {5, 512}, {2, 1543}, {300, 37}, {1, 700}, {0, 9}};
    double worst = 0;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t rows = shapes[s].rows, cols = shapes[s].cols;
        numbers x = draw((size_t)(rows * cols), 1), start = draw((size_t)cols, 1);
        double *sum = calloc((size_t)cols + 1, sizeof *sum);
        assert_non_null(sum);
        memcpy(sum, start.d, (size_t)cols * sizeof *sum);
        sum[cols] = 5;
        la_mat mx = la_mat_f32(x.f, rows, cols);
        cpu_at_level.ops->column_squares(&cpu_at_level, &mx, sum);
        cpu_at_level.ops->column_squares(&cpu_at_level, &mx, sum);
        for (int64_t j = 0; j < cols; j++) {
            double want = start.d[j], size = fabs(start.d[j]);
            for (int64_t t = 0; t < rows; t++) {
                want += 2 * x.d[t * cols + j] * x.d[t * cols + j];
                size += 2 * x.d[t * cols + j] * x.d[t * cols + j];
            }
            worst = fmax(worst, fabs(sum[j] - want) / size);
        }
        assert_true(sum[cols] == 5);
        free(sum);
        release(&x);
        release(&start);
    }
    check_within("column_squares", worst, 5e-15);
    check_fault();
}

/* factor_add, segment_sum, row_outer and kron_quadratic against sums written out */
static void curvature_sums(void **state) {
    (void)state;
    static const int32_t cu[3] = {0, 3, T};
    numbers x = draw(T * D, 1), g = draw(RHS * T * OUT, 1), weight = draw(OUT * D, 1);
    double sum[D * D] = {0}, want[D * D] = {0}, square = 1, want_square = 1;
    la_mat mx = la_mat_f32(x.f, T, D), mg = la_mat_f32(g.f, RHS * T, OUT);
    cpu_at_level.ops->factor_add(&cpu_at_level, 0.5, &mx, sum);
    cpu_at_level.ops->factor_add(&cpu_at_level, 2, &mx, sum);
    cpu_at_level.ops->square_add(&cpu_at_level, 3, &mx, &square);
    double worst = 0, trace = 0;
    for (int i = 0; i < D; i++)
        for (int j = 0; j <= i; j++) {
            for (int t = 0; t < T; t++)
                want[i * D + j] += 2.5 * x.d[t * D + i] * x.d[t * D + j];
            trace += i == j ? want[i * D + j] : 0;
            worst = fmax(worst, fabs(want[i * D + j] - sum[i * D + j]));
        }
    for (int i = 0; i < T * D; i++)
        want_square += 3 * x.d[i] * x.d[i];
    check_within("factor_add", worst / trace, 3e-8);
    check_within("square_add", fabs(square - want_square) / want_square, 8e-8);

    float means[2 * D], outer[2 * RHS * OUT * D];
    la_mat mm = la_mat_f32(means, 2, D), mo = la_mat_f32(outer, 2 * RHS * OUT, D);
    cpu_at_level.ops->segment_sum(&cpu_at_level, &mx, 1, 2, cu, true, &mm);
    cpu_at_level.ops->row_outer(&cpu_at_level, 0, 2, cu, RHS, 0.5f, &mg, true, &mx, false, &mo);
    double cov[2 * RHS * RHS] = {0}, expected[2 * RHS * RHS] = {0};
    double gap_mean = 0, gap_outer = 0;
    double *full = calloc(2 * RHS * OUT * D, sizeof *full);
    for (int r = 0; r < 2; r++)
        for (int j = 0; j < D; j++) {
            double mean = 0;
            for (int t = cu[r]; t < cu[r + 1]; t++)
                mean += x.d[t * D + j] / (cu[r + 1] - cu[r]);
            gap_mean = fmax(gap_mean, fabs(mean - (double)means[r * D + j]));
            for (int k = 0; k < RHS; k++)
                for (int o = 0; o < OUT; o++) {
                    int at = ((r * RHS + k) * OUT + o) * D + j;
                    for (int t = cu[r]; t < cu[r + 1]; t++)
                        full[at] += 0.5 * g.d[(k * T + t) * OUT + o] * x.d[t * D + j];
                    gap_outer = fmax(gap_outer, fabs(full[at] - (double)outer[at]));
                }
        }
    check_within("segment_sum", gap_mean, 2.3e-7);
    check_within("row_outer", gap_outer, 7.9e-7);
    la_mat mw = la_mat_f32(weight.f, OUT, D);
    cpu_at_level.ops->kron_quadratic(&cpu_at_level, 2, RHS, &mo, &mw, cov);
    double scale = 0, gap = 0;
    for (int r = 0; r < 2; r++)
        for (int k = 0; k < RHS; k++)
            for (int l = 0; l < RHS; l++) {
                int at = (r * RHS + k) * RHS + l;
                for (int i = 0; i < OUT * D; i++)
                    expected[at] += weight.d[i] * full[(r * RHS + k) * OUT * D + i] *
                                    full[(r * RHS + l) * OUT * D + i];
                scale = fmax(scale, fabs(expected[at]));
                gap = fmax(gap, fabs(expected[at] - cov[at]));
            }
    check_within("kron_quadratic", gap / scale, 5.7e-7);
    free(full);
    release(&x), release(&g), release(&weight);
}

/* A V = V L, V orthonormal, descending, all or the largest; NaN is a named numerical error. The
 * vectors are f32. */
static void eigendecomposition(void **state) {
    (void)state;
    enum { N = 17 };
    numbers x = draw(N * N, 1);
    double a[N * N], work[N * N], values[N];
    float v[N * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i * N + j] = 0;
            for (int t = 0; t < N; t++)
                a[i * N + j] += x.d[t * N + i] * x.d[t * N + j];
        }
    la_eigen problem = {
        .name = "the factor", .n = N, .rank = N, .a = work, .values = values, .vectors = v};
    la_error err = {0};
    memcpy(work, a, sizeof work);
    assert_int_equal(cpu_at_level.ops->eigh(&cpu_at_level, 1, &problem, &err), LA_OK);
    double residual = 0, orthogonal = 0;
    for (int r = 0; r < N; r++) {
        if (r)
            assert_true(values[r] <= values[r - 1]);
        for (int i = 0; i < N; i++) {
            double sum = -values[r] * (double)v[r * N + i], dot = r == i ? -1 : 0;
            for (int j = 0; j < N; j++) {
                sum += a[i * N + j] * (double)v[r * N + j];
                dot += (double)v[r * N + j] * (double)v[i * N + j];
            }
            residual = fmax(residual, fabs(sum));
            orthogonal = fmax(orthogonal, fabs(dot));
        }
    }
    assert_true(problem.least == values[N - 1]);
    check_within("|A V - V L| / |A|", residual / values[0], 1.3e-7);
    check_within("|V V^T - I|", orthogonal, 1.7e-7);
    double few[3];
    float rows[3 * N];
    la_eigen largest_three = problem;
    largest_three.rank = 3, largest_three.values = few, largest_three.vectors = rows;
    memcpy(work, a, sizeof work);
    assert_int_equal(cpu_at_level.ops->eigh(&cpu_at_level, 1, &largest_three, &err), LA_OK);
    assert_memory_equal(few, values, sizeof few);
    assert_memory_equal(rows, v, sizeof rows);
    memcpy(work, a, sizeof work);
    work[3 * N + 1] = NAN;
    assert_int_equal(cpu_at_level.ops->eigh(&cpu_at_level, 1, &problem, &err), LA_NUMERICAL);
    assert_non_null(strstr(err.message, "the factor"));
    release(&x);
}

/* Each set of instructions that the program has operations for has a table of its own. */
static void a_table_a_level(void **state) {
    (void)state;
    static const struct {
        la_kernel_level level;
        const char *instructions;
    } known[] = {{LA_KERNELS_FMA, "AVX2 and FMA"}, {LA_KERNELS_AVX512, "AVX-512"}};
    const char *instructions;
    const la_ops *plain = la_cpu_ops_for(LA_KERNELS_UNKNOWN, &instructions);
    assert_ptr_equal(plain, &la_cpu_ops);
    assert_ptr_equal(la_cpu_ops_for(LA_KERNELS_AVX, &instructions), plain);
    const la_ops *last = plain;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const la_ops *ops = la_cpu_ops_for(known[i].level, &instructions);
#ifdef LA_CPU_LEVELS
        assert_ptr_not_equal(ops, last);
        assert_true(ops->norm != last->norm);
        assert_string_equal(instructions, known[i].instructions);
#else
        assert_ptr_equal(ops, last); /* the plain one */
#endif
        last = ops;
    }
    la_processor here = la_processor_here();
    assert_true(la_kernels_instructions() <= la_processor_level(&here));
    la_cpu_ops_for(la_kernels_instructions(), &instructions);
    assert_string_equal(instructions, la_cpu_instructions());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_f32),
        cmocka_unit_test(linear_bf16_weights),
        cmocka_unit_test(layer_norm),
        cmocka_unit_test(rms_norm),
        cmocka_unit_test(scaled_columns),
        cmocka_unit_test(activations),
        cmocka_unit_test(activation_tails),
        cmocka_unit_test(rotary),
        cmocka_unit_test(attention_bidirectional),
        cmocka_unit_test(attention_causal_grouped),
        cmocka_unit_test(attention_in_a_window),
        cmocka_unit_test(attention_with_softcap),
        cmocka_unit_test(attention_with_distances),
        cmocka_unit_test(attention_of_pooled_tokens),
        cmocka_unit_test(gather_and_scatter),
        cmocka_unit_test(column_squares),
        cmocka_unit_test(curvature_sums),
        cmocka_unit_test(eigendecomposition),
    };
    const struct CMUnitTest choice[] = {cmocka_unit_test(a_table_a_level)};
    int failed = cmocka_run_group_tests_name("tables of operations", choice, NULL, NULL);
    return failed + run_each_level(tests, sizeof tests / sizeof *tests);
}
