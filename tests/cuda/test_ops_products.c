/* Products with weights and between matrices.
 *
 * Largest gaps observed, emulated over the kinds of BLAS kernels (its f32 products are OpenBLAS's
 * own and whole, the host's are cut into tiles; its tf32 rounds each factor to nearest):
 *
 *                             f32      tf32     bf16
 *   linear                    5.9e-7   4.8e-4   3.3e-3
 *   linear_activation before  7.0e-7   5.5e-4   3.6e-3
 *                     after   1.4e-6   1.4e-3   5.0e-3
 *   linear_backward           5.8e-7   4.9e-4   3.3e-3
 *   packed weights            6.6e-7   5.8e-4   4.2e-3
 *   gemm f32                  7.3e-7   4.7e-4
 *        f32 and bf16         7.5e-7   3.4e-4
 *        bf16 to f32          0        0
 *        bf16 to bf16                           3.7e-3
 *
 * A number rounded to bf16 once is off by at most 1/256 of the largest number. */
#include "cuda/compare.h"
#include "model/quantised.h"

#include <math.h>
#include <stdlib.h>

enum { RHS = 3 };

/* Multiples of nothing, and of what tensor cores and vector loads like; rows between which there is
 * a gap, and that begin anywhere; columns of a wider matrix. */
static const struct {
    int64_t rows, in, out, pad, offset;
} shapes[] = {
    {1, 5, 257, 0, 0},   {7, 13, 11, 3, 1},    {37, 33, 9, 7, 0},     {37, 72, 33, 1, 3},
    {130, 33, 72, 5, 1}, {37, 257, 130, 0, 0}, {64, 64, 64, 0, 0},    {37, 64, 256, 8, 0},
    {7, 256, 64, 16, 8}, {130, 72, 8, 0, 0},   {37, 64, 64, 128, 64},
};

/* Types that weights may be stored in: bf16 activations have bf16 weights. */
static const la_dtype stored[] = {LA_BF16, LA_F16, LA_F32};

static int stored_types(la_dtype type) {
    return type == LA_BF16 ? 1 : (int)COUNT(stored);
}

static double linear_case(la_dtype type, la_dtype weights, int64_t s, bool with_bias,
                          bool with_residual) {
    int64_t rows = shapes[s].rows, in = shapes[s].in, out = shapes[s].out;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *x = drawn(type, rows, in, 1), *w = drawn(weights, out, in, 1 / sqrt((double)in));
    operand *bias = with_bias ? drawn(type, 1, out, 1) : NULL;
    operand *residual = with_residual ? drawn(type, rows, out, 1) : NULL;
    operand *y = result(type, rows, out);
    while (next_run())
        be->ops->linear(be, on(x), on(w), on(bias), on(residual), on(y));
    double worst = gap(y);
    forget();
    return worst;
}

static void linear(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int w = 0; w < stored_types(type); w++)
            for (int with = 0; with < 4; with++)
                worst = larger(worst, linear_case(type, stored[w], s, with & 1, with & 2));
    check("linear", type, worst, (limits){2.4e-6, 1.6e-3, 8e-3});
}

static double linear_activation_case(la_dtype type, la_activation kind, int64_t s, bool with_bias,
                                     double *worst_before) {
    int64_t rows = shapes[s].rows, in = shapes[s].in, out = shapes[s].out;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *x = drawn(type, rows, in, 1), *w = drawn(type, out, in, 1 / sqrt((double)in));
    operand *bias = with_bias ? drawn(type, 1, out, 1) : NULL;
    operand *before = result(type, rows, out), *after = result(type, rows, out);
    while (next_run())
        be->ops->linear_activation(be, on(x), on(w), on(bias), kind, on(before), on(after));
    *worst_before = larger(*worst_before, gap(before));
    double worst = gap(after);
    forget();
    return worst;
}

static void linear_activation(la_dtype type) {
    double before = 0, after = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int kind = LA_ACT_NONE; kind <= LA_ACT_TANH; kind++)
            for (int bias = 0; bias < 2; bias++)
                after = larger(after,
                               linear_activation_case(type, (la_activation)kind, s, bias, &before));
    check("linear_activation, before", type, before, (limits){2.8e-6, 2e-3, 8e-3});
    check("linear_activation, after", type, after, (limits){5.2e-6, 5e-3, 1.6e-2});
}

static double linear_backward_case(la_dtype type, la_dtype weights, int64_t s, float beta) {
    int64_t rows = RHS * shapes[s].rows, in = shapes[s].in, out = shapes[s].out;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *g = drawn(type, rows, out, 1), *w = drawn(weights, out, in, 1 / sqrt((double)out));
    /* with beta 0 the NaN that was there must not be seen */
    operand *dx = beta == 0 ? result(type, rows, in) : changed(drawn(type, rows, in, 1));
    while (next_run())
        be->ops->linear_backward(be, on(g), on(w), beta, on(dx));
    double worst = gap(dx);
    forget();
    return worst;
}

static void linear_backward(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int w = 0; w < stored_types(type); w++)
            for (int beta = 0; beta < 2; beta++)
                worst = larger(worst, linear_backward_case(type, stored[w], s, (float)beta));
    check("linear_backward", type, worst, (limits){2.4e-6, 2e-3, 4e-3});
}

/* ---- packed weights ---- */

/* Rows that end within a block, and within a byte, are among the shapes. */
static double packed_case(la_dtype type, la_base_quant quant, int64_t s) {
    int64_t rows = shapes[s].rows, in = shapes[s].in, out = shapes[s].out;
    la_backend *sides[] = {&host, &device};
    la_quant quants[2];
    bool copied[2][2];
    la_pool pool = {0};
    la_packed *packed;
    la_error err = {0};
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *x = drawn(type, rows, in, 1), *g = drawn(type, RHS * rows, out, 1);
    operand *y = result(type, rows, out), *dx = result(type, RHS * rows, in);
    double *values = normal(out * in);
    float *weights = la_pool_take(&pool, (size_t)(out * in), sizeof *weights, &err);
    for (int64_t i = 0; i < out * in; i++)
        weights[i] = (float)(values[i] / sqrt((double)in));
    la_tensor tensor = {.name = "w",
                        .file = "memory",
                        .dtype = LA_F32,
                        .n_dims = 2,
                        .shape = {out, in},
                        .count = out * in,
                        .data = weights};
    assert_int_equal(la_packed_make(la_team_of(2), &tensor, quant, &pool, &packed, &err), LA_OK);
    if (quant != LA_BASE_INT8) /* numbers that both sides multiply as they are */
        packed->quant.as = type;
    for (int i = 0; i < 2; i++) {
        la_backend *side = sides[i];
        quants[i] = packed->quant;
        quants[i].codes = side->ops->place(side, packed->quant.codes, LA_CODES, packed->bytes,
                                           LA_CODES, &copied[i][0]);
        quants[i].scale = side->ops->place(side, packed->quant.scale, LA_F32, packed->n_scales,
                                           LA_F32, &copied[i][1]);
    }
    while (next_run()) {
        la_mat w = la_mat_of(LA_CODES, &quants[be == &device], out, in);
        be->ops->linear(be, on(x), &w, NULL, NULL, on(y));
        be->ops->linear_backward(be, on(g), &w, 0, on(dx));
    }
    double worst = larger(gap(y), gap(dx));
    for (int i = 0; i < 2; i++) {
        if (copied[i][0])
            sides[i]->ops->release(sides[i], (void *)(uintptr_t)quants[i].codes);
        if (copied[i][1])
            sides[i]->ops->release(sides[i], (void *)(uintptr_t)quants[i].scale);
    }
    free(values);
    la_pool_free(&pool);
    forget();
    return worst;
}

static void packed_weights(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int quant = LA_BASE_NF4; quant < LA_BASE_QUANTS; quant++)
            worst = larger(worst, packed_case(type, (la_base_quant)quant, s));
    check("packed weights", type, worst, (limits){2.6e-6, 2e-3, 8e-3});
}

/* ---- gemm ---- */

typedef struct gemm_kind {
    const char *name;
    la_dtype a, b, c;
    limits most;
} gemm_kind;

static const gemm_kind gemm_kinds[] = {
    {"gemm, f32 f32 to f32", LA_F32, LA_F32, LA_F32, {3e-6, 2e-3, 0}},
    {"gemm, f32 bf16 to f32", LA_F32, LA_BF16, LA_F32, {3e-6, 1.2e-3, 0}},
    {"gemm, bf16 f32 to f32", LA_BF16, LA_F32, LA_F32, {3e-6, 1.2e-3, 0}},
    /* products of two bf16 numbers are exact in f32 */
    {"gemm, bf16 bf16 to f32", LA_BF16, LA_BF16, LA_F32, {1e-6, 1e-6, 0}},
    {"gemm, bf16 bf16 to bf16", LA_BF16, LA_BF16, LA_BF16, {0, 0, 4e-3}},
};

static double gemm_case(const gemm_kind *kind, int64_t s, int trans, float alpha, float beta) {
    int64_t m = shapes[s].rows, k = shapes[s].in, n = shapes[s].out;
    bool trans_a = trans & 1, trans_b = trans & 2;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *a = drawn(kind->a, trans_a ? k : m, trans_a ? m : k, 1);
    operand *b = drawn(kind->b, trans_b ? n : k, trans_b ? k : n, 1 / sqrt((double)k));
    operand *c = beta == 0 ? result(kind->c, m, n) : changed(drawn(kind->c, m, n, 1));
    while (next_run())
        be->ops->gemm(be, trans_a, trans_b, alpha, on(a), on(b), beta, on(c));
    double worst = gap(c);
    forget();
    return worst;
}

static void gemm(la_dtype type) {
    (void)type;
    static const float scales[][2] = {{1, 0}, {0.5f, 1}, {-2, 0.25f}};
    for (int64_t i = 0; i < COUNT(gemm_kinds); i++) {
        double worst = 0;
        for (int64_t s = 0; s < COUNT(shapes); s++)
            for (int trans = 0; trans < 4; trans++)
                for (int64_t j = 0; j < COUNT(scales); j++)
                    worst = larger(worst,
                                   gemm_case(&gemm_kinds[i], s, trans, scales[j][0], scales[j][1]));
        check(gemm_kinds[i].name, gemm_kinds[i].c, worst, gemm_kinds[i].most);
    }
}

/* A batch may come out empty on the way: no operation then does anything. */
static void no_rows(la_dtype type) {
    operand *x = drawn(type, 0, 13, 1), *w = drawn(type, 11, 13, 1), *y = result(type, 0, 11);
    operand *dx = result(type, 0, 13), *none = drawn(type, 0, 11, 1);
    while (next_run()) {
        be->ops->linear(be, on(x), on(w), NULL, NULL, on(y));
        be->ops->linear_backward(be, on(none), on(w), 0, on(dx));
        be->ops->gemm(be, false, true, 1, on(x), on(w), 0, on(y));
    }
    forget();
}

int main(void) {
    static const op_test tests[] = {
        {"linear", linear, EACH_AND_HEAD},
        {"linear_activation", linear_activation, EACH},
        {"linear_backward", linear_backward, EACH_AND_HEAD},
        {"packed_weights", packed_weights, EACH_AND_HEAD},
        {"gemm", gemm, EACH},
        {"no_rows", no_rows, EACH_AND_HEAD},
    };
    return run_ops("products", tests, COUNT(tests));
}
