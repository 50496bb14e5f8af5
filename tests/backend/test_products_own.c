/* Products of the host's own kernels, of every set of instructions that this machine has: beside
 * sums in f64 over shapes that are multiples of nothing, for weights of every kind; with what joins
 * them; and a row's numbers are the same bytes whatever is computed beside it, on any number of
 * threads. */
#include "backend/quant.h"
#include "base/bf16.h"
#include "support/devices.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { APART = 3, BLOCK = 16 };

static uint32_t seed = 7;

static float *fill(int64_t n) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    return x;
}

/* with a gap behind every row */
static la_mat matrix(int64_t rows, int64_t cols) {
    return (la_mat){fill(rows * (cols + APART)), rows, cols, cols + APART, LA_F32};
}

static float element(const la_mat *m, int64_t i, int64_t j) {
    float wide;
    int64_t at = i * m->ld + j;
    if (m->type == LA_CODES)
        la_quant_decode(m, at, 1, &wide);
    else
        la_dtype_to_f32(m->type, (const char *)m->data + (size_t)at * la_dtype_size(m->type), 1,
                        &wide);
    return wide;
}

/* Largest error of got = beta before + alpha a op(b) + bias + residual, in parts of the sum of the
 * terms' sizes. */
static double error_of(bool trans_b, double alpha, const la_mat *a, const la_mat *b, double beta,
                       const la_mat *before, const float *bias, const la_mat *residual,
                       const la_mat *got) {
    double worst = 0;
    for (int64_t i = 0; i < got->rows; i++)
        for (int64_t j = 0; j < got->cols; j++) {
            double sum = 0, size = 0;
            for (int64_t p = 0; p < a->cols; p++) {
                double term = alpha * (double)element(a, i, p) *
                              (double)(trans_b ? element(b, j, p) : element(b, p, j));
                sum += term;
                size += fabs(term);
            }
            double rest[] = {before ? beta * (double)element(before, i, j) : 0,
                             bias ? (double)bias[j] : 0,
                             residual ? (double)element(residual, i, j) : 0};
            for (int k = 0; k < 3; k++) {
                sum += rest[k];
                size += fabs(rest[k]);
            }
            worst = fmax(worst, fabs(sum - (double)element(got, i, j)) / size);
        }
    return worst;
}

static const struct {
    int64_t rows, in, out;
} shapes[] = {{1, 1, 1},     {5, 16, 8},   {13, 33, 70},  {26, 384, 96},  {25, 8, 384},
              {40, 513, 31}, {97, 70, 33}, {7, 1100, 45}, {130, 160, 330}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The same weight in another type, or packed; its own memory. */
static la_mat weight_as(la_dtype type, const la_mat *w) {
    la_mat to = {NULL, w->rows, w->cols, w->cols, type};
    int64_t n = w->rows * w->cols;
    if (type == LA_CODES) {
        la_quant *quant = malloc(sizeof *quant);
        uint8_t *codes = malloc((size_t)n / 2 + 1);
        for (int64_t i = 0; i <= n / 2; i++)
            codes[i] = (uint8_t)(i * 37 + 11);
        *quant = (la_quant){LA_QUANT_NF4, LA_F32, BLOCK, codes, fill(n / BLOCK + 1)};
        to.data = quant;
        return to;
    }
    uint16_t *half = to.data = malloc((size_t)n * sizeof *half);
    for (int64_t i = 0; i < w->rows; i++)
        la_f32_to_bf16((const float *)w->data + i * w->ld, w->cols, half + i * w->cols);
    return to;
}

static void free_weight(la_mat *w) {
    la_quant *quant = w->data;
    if (w->type == LA_CODES) {
        free((void *)(uintptr_t)quant->codes);
        free((void *)(uintptr_t)quant->scale);
    }
    free(w->data);
}

static void check_weights(la_dtype type) {
    double worst = 0, worst_back = 0;
    for (int s = 0; s < SHAPES; s++) {
        int64_t t = shapes[s].rows, in = shapes[s].in, out = shapes[s].out;
        la_mat plain = matrix(out, in), w = type == LA_F32 ? plain : weight_as(type, &plain);
        la_mat x = matrix(t, in), y = matrix(t, out), residual = matrix(t, out);
        la_mat g = matrix(t, out), dx = matrix(t, in), before = matrix(t, in);
        float *bias = fill(out);
        la_mat b = la_mat_f32(bias, 1, out);
        cpu_at_level.ops->linear(&cpu_at_level, &x, &w, &b, &residual, &y);
        worst = fmax(worst, error_of(true, 1, &x, &w, 0, NULL, bias, &residual, &y));
        memcpy(dx.data, before.data, (size_t)(t * before.ld) * sizeof(float));
        cpu_at_level.ops->linear_backward(&cpu_at_level, &g, &w, 1, &dx);
        worst_back = fmax(worst_back, error_of(false, 1, &g, &w, 1, &before, NULL, NULL, &dx));
        /* what is added may lie where the sum goes */
        la_mat over = residual;
        cpu_at_level.ops->linear(&cpu_at_level, &x, &w, &b, &residual, &over);
        for (int64_t i = 0; i < t; i++)
            assert_memory_equal((float *)over.data + i * over.ld, (float *)y.data + i * y.ld,
                                (size_t)out * sizeof(float));
        if (type != LA_F32)
            free_weight(&w);
        void *all[] = {plain.data, x.data,  y.data,      residual.data,
                       g.data,     dx.data, before.data, bias};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
    check_within("linear", worst, 6e-7);
    check_within("linear_backward", worst_back, 6e-7);
    check_fault();
}

static void weights_of_f32(void **state) {
    (void)state;
    check_weights(LA_F32);
}

static void weights_of_bf16(void **state) {
    (void)state;
    check_weights(LA_BF16);
}

static void packed_weights(void **state) {
    (void)state;
    check_weights(LA_CODES);
}

static void factors_and_sums(void **state) {
    (void)state;
    double worst = 0;
    for (int s = 0; s < SHAPES; s++)
        for (int trans = 0; trans < 2; trans++) {
            int64_t m = shapes[s].rows, k = shapes[s].in, n = shapes[s].out;
            la_mat a = matrix(m, k), b = trans ? matrix(n, k) : matrix(k, n), c = matrix(m, n);
            la_mat before = matrix(m, n);
            memcpy(c.data, before.data, (size_t)(m * c.ld) * sizeof(float));
            cpu_at_level.ops->gemm(&cpu_at_level, false, trans, 0.75f, &a, &b, -0.5f, &c);
            worst = fmax(worst, error_of(trans, 0.75, &a, &b, -0.5, &before, NULL, NULL, &c));
            void *all[] = {a.data, b.data, c.data, before.data};
            for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                free(all[i]);
        }
    check_within("gemm", worst, 6e-7);
    check_fault();
}

/* Sums over the tokens of a row, more than a small product takes at a time. */
static void outer_products_of_long_rows(void **state) {
    (void)state;
    enum { TOKENS = 601, HEIGHT = 9, COLS = 70 };
    const int32_t cu[] = {0, 1, 41, TOKENS};
    la_mat s = matrix(TOKENS, HEIGHT), b = matrix(TOKENS, COLS);
    la_mat out = la_mat_f32(fill(3 * HEIGHT * COLS), 3 * HEIGHT, COLS);
    double worst = 0;
    cpu_at_level.ops->row_outer(&cpu_at_level, 0, 3, cu, 1, 0.5f, &s, false, &b, false, &out);
    for (int i = 0; i < 3 * HEIGHT; i++)
        for (int j = 0; j < COLS; j++) {
            double sum = 0, size = 0;
            for (int t = cu[i / HEIGHT]; t < cu[i / HEIGHT + 1]; t++) {
                double term = 0.5 * (double)element(&s, t, i % HEIGHT) * (double)element(&b, t, j);
                sum += term;
                size += fabs(term);
            }
            worst = fmax(worst, fabs(sum - (double)element(&out, i, j)) / size);
        }
    check_within("row_outer", worst, 6e-7);
    check_fault();
    free(s.data);
    free(b.data);
    free(out.data);
}

/* An activation in the product is that of the product. */
static void an_activation_that_joins(void **state) {
    (void)state;
    enum { ROWS = 50, IN = 600, OUT = 340 };
    la_mat x = matrix(ROWS, IN), w = matrix(OUT, IN), y = matrix(ROWS, OUT);
    la_mat before = matrix(ROWS, OUT), after = matrix(ROWS, OUT), alone = matrix(ROWS, OUT);
    float *bias = fill(OUT);
    la_mat b = la_mat_f32(bias, 1, OUT);
    cpu_at_level.ops->linear(&cpu_at_level, &x, &w, &b, NULL, &y);
    cpu_at_level.ops->activation(&cpu_at_level, LA_ACT_GELU, &y, NULL, &alone);
    cpu_at_level.ops->linear_activation(&cpu_at_level, &x, &w, &b, LA_ACT_GELU, &before, &after);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < OUT; j++) {
            assert_true(element(&before, i, j) == element(&y, i, j));
            assert_true(fabsf(element(&after, i, j) - element(&alone, i, j)) <= 1e-6f);
        }
    check_fault();
    void *all[] = {x.data, w.data, y.data, before.data, after.data, alone.data, bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* A row alone, among others, and on more threads: a library's products promise less. */
static void a_row_whatever_is_beside_it(void **state) {
    (void)state;
    if (cpu_level < LA_KERNELS_FMA)
        skip();
    for (int s = 0; s < SHAPES; s++) {
        int64_t t = shapes[s].rows, in = shapes[s].in, out = shapes[s].out;
        la_mat x = matrix(t, in), w = matrix(out, in), all = matrix(t, out), alone = matrix(1, out);
        cpu_at_level.team = la_team_of(1);
        cpu_at_level.ops->linear(&cpu_at_level, &x, &w, NULL, NULL, &all);
        for (int64_t i = 0; i < t; i++) {
            cpu_at_level.team = la_team_of(1 + (int)(i % 3));
            la_mat one = {(float *)x.data + i * x.ld, 1, in, x.ld, LA_F32};
            cpu_at_level.ops->linear(&cpu_at_level, &one, &w, NULL, NULL, &alone);
            assert_memory_equal(alone.data, (float *)all.data + i * all.ld,
                                (size_t)out * sizeof(float));
        }
        la_mat again = matrix(t, out);
        cpu_at_level.team = la_team_of(3);
        cpu_at_level.ops->linear(&cpu_at_level, &x, &w, NULL, NULL, &again);
        for (int64_t i = 0; i < t; i++)
            assert_memory_equal((float *)again.data + i * again.ld, (float *)all.data + i * all.ld,
                                (size_t)out * sizeof(float));
        void *freed[] = {x.data, w.data, all.data, alone.data, again.data};
        for (size_t i = 0; i < sizeof freed / sizeof *freed; i++)
            free(freed[i]);
    }
    cpu_at_level.team = la_team_of(2);
    check_fault();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_f32),
        cmocka_unit_test(weights_of_bf16),
        cmocka_unit_test(packed_weights),
        cmocka_unit_test(factors_and_sums),
        cmocka_unit_test(outer_products_of_long_rows),
        cmocka_unit_test(an_activation_that_joins),
        cmocka_unit_test(a_row_whatever_is_beside_it),
    };
    return run_each_level(tests, sizeof tests / sizeof *tests);
}
