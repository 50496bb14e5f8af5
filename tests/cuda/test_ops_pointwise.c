/* Norms, activations and rotary embedding, with their backward.
 *
 * Largest gaps observed, emulated (tf32 is as f32; bf16 is rounded once, which is at most 1/256 of
 * the largest number). In brackets, in wide rows, where the host's own sums are not vectorised
 * (make asan):
 *
 *                            f32      bf16
 *   norm                     2.8e-7   3.4e-3   (1.3e-6)
 *        means               2.5e-7   1.3e-7   (1.6e-6, 2.4e-7)
 *        1 / deviations      2.1e-7   3.7e-7   (1.8e-6, 3.1e-6)
 *        far from 0          2.9e-5   3.3e-3   (1.3e-4)
 *   norm_backward            3.1e-7   3.5e-3   (1.3e-6)
 *   scale_columns            0        3.7e-3
 *   activation               2.0e-7   3.5e-3
 *              tails         2.4e-7   3.3e-3
 *   activation_backward      1.9e-6   3.9e-3
 *                       up   2.1e-7   3.7e-3
 *   rotate                   0        3.6e-3 */
#include "cuda/compare.h"

#include <math.h>
#include <stdlib.h>

enum { RHS = 3 };

/* The widest rows are more than a block's registers hold; the last one is columns of a wider
 * matrix. */
static const struct {
    int64_t rows, cols, pad, offset;
} shapes[] = {
    {7, 5, 0, 0},   {7, 13, 3, 1},   {37, 33, 7, 0},  {130, 72, 0, 0},
    {37, 72, 8, 0}, {7, 257, 2, 3},  {37, 64, 0, 0},  {37, 256, 0, 8},
    {5, 768, 0, 0}, {2, 5120, 0, 0}, {1, 9001, 0, 0}, {37, 64, 128, 64},
};

/* ---- norms ---- */

typedef struct norm_operands {
    la_norm_kind kind;
    float eps;
    operand *weight, *bias, *x, *stats, *y;
} norm_operands;

static la_norm norm_of(const norm_operands *n) {
    return (la_norm){n->kind, n->eps, data(n->weight), data(n->bias)};
}

/* The forward, of numbers around mean. */
static norm_operands norm_forward(la_dtype type, int64_t s, la_norm_kind kind, bool with_bias,
                                  double mean) {
    int64_t rows = shapes[s].rows, cols = shapes[s].cols;
    norm_operands n = {.kind = kind, .eps = kind == LA_NORM_RMS ? 1e-5f : 1e-3f};
    n.weight = drawn(LA_F32, 1, cols, 1);
    n.bias = with_bias ? drawn(LA_F32, 1, cols, 1) : NULL;
    n.stats = dense_result(LA_F32, rows, 2);
    lay_out(shapes[s].pad, shapes[s].offset);
    double *values = normal(rows * cols);
    for (int64_t i = 0; i < rows * cols; i++)
        values[i] = 2 * values[i] + mean;
    n.x = given(type, rows, cols, values);
    free(values);
    n.y = result(type, rows, cols);
    while (next_run()) {
        la_norm norm = norm_of(&n);
        be->ops->norm(be, &norm, on(n.x), data(n.stats), on(n.y));
    }
    return n;
}

static void norm(la_dtype type) {
    double worst = 0, means = 0, inverses = 0, far = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int which = 0; which < 4; which++) {
            la_norm_kind kind = which & 1 ? LA_NORM_RMS : LA_NORM_LAYER;
            norm_operands n = norm_forward(type, s, kind, which & 2, 0.5);
            worst = larger(worst, gap(n.y));
            if (kind == LA_NORM_LAYER)
                means = larger(means, gap_of_column(n.stats, 0));
            inverses = larger(inverses, gap_of_column(n.stats, 1));
            forget();
            /* the square of the mean is far larger than the variance */
            n = norm_forward(type, s, LA_NORM_LAYER, which & 2, 200);
            far = larger(far, gap(n.y));
            forget();
        }
    check("norm", type, worst, (limits){4e-6, 4e-6, 4e-3});
    check("norm, means", type, means, (limits){4e-6, 4e-6, 1e-6});
    check("norm, 1 / deviations", type, inverses, (limits){5e-6, 5e-6, 8e-6});
    check("norm, far from 0", type, far, (limits){4e-4, 4e-4, 4e-3});
}

enum { IN_PLACE_NONE, IN_PLACE_G, IN_PLACE_RESIDUAL, IN_PLACES };

static double norm_backward_case(la_dtype type, int64_t s, la_norm_kind kind, int64_t n_rhs,
                                 bool with_residual, int place) {
    int64_t rows = n_rhs * shapes[s].rows, cols = shapes[s].cols;
    norm_operands n = norm_forward(type, s, kind, kind == LA_NORM_LAYER, 0.5);
    becomes_input(n.stats);
    becomes_input(n.y);
    operand *g = drawn(type, rows, cols, 1);
    operand *residual = with_residual ? drawn(type, rows, cols, 1) : NULL;
    operand *dx = place == IN_PLACE_G          ? changed(g)
                  : place == IN_PLACE_RESIDUAL ? changed(residual)
                                               : result(type, rows, cols);
    while (next_run()) {
        la_norm norm = norm_of(&n);
        be->ops->norm_backward(be, &norm, on(n.x), data(n.stats), n_rhs, on(g), on(residual),
                               on(dx));
    }
    double worst = gap(dx);
    forget();
    return worst;
}

static void norm_backward(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int which = 0; which < 4; which++)
            for (int place = 0; place < IN_PLACES; place++) {
                la_norm_kind kind = which & 1 ? LA_NORM_RMS : LA_NORM_LAYER;
                int64_t n_rhs = which & 2 || place ? RHS : 1;
                bool with_residual = which & 2 || place == IN_PLACE_RESIDUAL;
                worst =
                    larger(worst, norm_backward_case(type, s, kind, n_rhs, with_residual, place));
            }
    check("norm_backward", type, worst, (limits){4e-6, 4e-6, 4e-3});
}

/* ---- columns times a number each ---- */

enum {
    COLUMNS_ALONE,
    COLUMNS_BIAS,
    COLUMNS_RESIDUAL,
    COLUMNS_BOTH,
    COLUMNS_ON_X,
    COLUMNS_ON_RESIDUAL
};

static double scale_columns_case(la_dtype type, int64_t s, int which) {
    int64_t rows = shapes[s].rows, cols = shapes[s].cols;
    bool with_bias = which == COLUMNS_BIAS || which == COLUMNS_BOTH;
    operand *c = drawn(LA_F32, 1, cols, 1), *bias = with_bias ? drawn(type, 1, cols, 1) : NULL;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *x = drawn(type, rows, cols, 1);
    operand *residual =
        which == COLUMNS_RESIDUAL || which == COLUMNS_BOTH || which == COLUMNS_ON_RESIDUAL
            ? drawn(type, rows, cols, 1)
            : NULL;
    operand *y = which == COLUMNS_ON_X          ? changed(x)
                 : which == COLUMNS_ON_RESIDUAL ? changed(residual)
                                                : result(type, rows, cols);
    while (next_run())
        be->ops->scale_columns(be, on(x), data(c), on(bias), on(residual), on(y));
    double worst = gap(y);
    forget();
    return worst;
}

static void scale_columns(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++)
        for (int which = COLUMNS_ALONE; which <= COLUMNS_ON_RESIDUAL; which++)
            worst = larger(worst, scale_columns_case(type, s, which));
    check("scale_columns", type, worst, (limits){2e-7, 2e-7, 4e-3});
}

/* ---- activations ---- */

static double activation_case(la_dtype type, la_activation kind, int64_t s, bool gated) {
    int64_t rows = shapes[s].rows, cols = shapes[s].cols;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *x = drawn(type, rows, cols, 1.5), *up = gated ? drawn(type, rows, cols, 1) : NULL;
    operand *y = result(type, rows, cols);
    while (next_run())
        be->ops->activation(be, kind, on(x), on(up), on(y));
    double worst = gap(y);
    forget();
    return worst;
}

static void activation(la_dtype type) {
    double worst = 0;
    for (int kind = LA_ACT_NONE; kind <= LA_ACT_TANH; kind++)
        for (int64_t s = 0; s < COUNT(shapes); s++)
            for (int gated = 0; gated < 2; gated++)
                worst = larger(worst, activation_case(type, (la_activation)kind, s, gated));
    check("activation", type, worst, (limits){7e-7, 7e-7, 4e-3});
}

/* up_and_dup: 0 neither, 1 up alone, 2 both */
static double activation_backward_case(la_dtype type, la_activation kind, int64_t s, int64_t n_rhs,
                                       int up_and_dup, bool in_place, double *worst_dup) {
    int64_t rows = shapes[s].rows, cols = shapes[s].cols;
    lay_out(shapes[s].pad, shapes[s].offset);
    operand *x = drawn(type, rows, cols, 1.5), *up = up_and_dup ? drawn(type, rows, cols, 1) : NULL;
    operand *g = drawn(type, n_rhs * rows, cols, 1);
    operand *dx = in_place ? changed(g) : result(type, n_rhs * rows, cols);
    operand *dup = up_and_dup == 2 ? result(type, n_rhs * rows, cols) : NULL;
    while (next_run())
        be->ops->activation_backward(be, kind, on(x), on(up), n_rhs, on(g), on(dx), on(dup));
    double worst = gap(dx);
    if (dup)
        *worst_dup = larger(*worst_dup, gap(dup));
    forget();
    return worst;
}

static void activation_backward(la_dtype type) {
    double dx = 0, dup = 0;
    for (int kind = LA_ACT_NONE; kind <= LA_ACT_TANH; kind++)
        for (int64_t s = 0; s < COUNT(shapes); s++)
            for (int which = 0; which < 6; which++)
                dx = larger(dx,
                            activation_backward_case(type, (la_activation)kind, s, s % 2 ? 1 : RHS,
                                                     which / 2, which % 2, &dup));
    check("activation_backward", type, dx, (limits){6e-6, 6e-6, 4e-3});
    check("activation_backward, up", type, dup, (limits){7e-7, 7e-7, 4e-3});
}

/* Large arguments neither overflow nor lose their limit: here every number counts for itself. */
static void activation_tails(la_dtype type) {
    static const double tails[] = {-1e30, -200, -90, -20, -6, 0, 6, 20, 90, 200, 1e18};
    static const la_activation kinds[] = {LA_ACT_NONE, LA_ACT_GELU, LA_ACT_SILU,
                                          LA_ACT_RELU, LA_ACT_TANH, LA_ACT_GELU_TANH};
    double ones[COUNT(tails)], worst = 0;
    for (int64_t i = 0; i < COUNT(tails); i++)
        ones[i] = 1;
    for (int64_t k = 0; k < COUNT(kinds); k++) {
        /* the cube in GELU's approximation overflows */
        int64_t skipped = kinds[k] == LA_ACT_GELU_TANH, n = COUNT(tails) - 2 * skipped;
        operand *x = given(type, 1, n, tails + skipped), *g = given(type, 1, n, ones);
        operand *y = result(type, 1, n), *dx = result(type, 1, n);
        while (next_run()) {
            be->ops->activation(be, kinds[k], on(x), NULL, on(y));
            be->ops->activation_backward(be, kinds[k], on(x), NULL, 1, on(g), on(dx), NULL);
        }
        for (int64_t i = 0; i < n; i++) {
            worst = larger(worst, relative(got(y, 0, i), wanted(y, 0, i), 1));
            worst = larger(worst, fabs(got(dx, 0, i) - wanted(dx, 0, i)));
        }
        forget();
    }
    check("activation, tails", type, worst, (limits){9e-7, 9e-7, 4e-3});
}

/* ---- rotary embedding ---- */

static double rotate_case(la_dtype type, int64_t tokens, int64_t heads, int64_t head_dim,
                          int64_t rotary_dim, int64_t n_rhs, int sign, int64_t pad) {
    enum { PLACES = 50 };
    int64_t half = rotary_dim / 2;
    double *values = normal(PLACES * rotary_dim);
    int32_t *at = calloc((size_t)tokens, sizeof *at);
    assert_non_null(at);
    for (int64_t p = 0; p < PLACES; p++)
        for (int64_t j = 0; j < half; j++) {
            double angle = (double)p * pow(1e-4, (double)j / (double)half);
            values[(p * half + j) * 2] = cos(angle);
            values[(p * half + j) * 2 + 1] = sin(angle);
        }
    for (int64_t t = 0; t < tokens; t++)
        at[t] = (int32_t)((t * t + 3) % PLACES);
    operand *angles = dense(LA_F32, PLACES, rotary_dim, values), *positions = ints(tokens, at);
    free(values);
    free(at);
    lay_out(pad, pad % 8);
    operand *x = changed(drawn(type, n_rhs * tokens, heads * head_dim, 1));
    while (next_run())
        be->ops->rotate(be, heads, head_dim, rotary_dim, data(angles), data(positions), n_rhs, sign,
                        on(x));
    double worst = gap(x);
    forget();
    return worst;
}

static void rotate(la_dtype type) {
    /* columns of a head, and those that turn */
    static const int64_t heads[][2] = {{2, 2},   {6, 6},   {20, 20},   {32, 32},
                                       {64, 64}, {72, 72}, {128, 128}, {256, 256},
                                       {6, 2},   {80, 32}, {128, 96},  {100, 16}};
    static const int64_t pads[] = {0, 3, 64};
    double worst = 0;
    for (int64_t d = 0; d < COUNT(heads); d++)
        for (int64_t p = 0; p < COUNT(pads); p++)
            for (int sign = -1; sign <= 1; sign += 2) {
                int64_t dim = heads[d][0], turns = heads[d][1];
                worst = larger(worst, rotate_case(type, 37, 3, dim, turns, 1, sign, pads[p]));
                worst = larger(worst, rotate_case(type, 7, 2, dim, turns, RHS, sign, pads[p]));
            }
    check("rotate", type, worst, (limits){2e-7, 2e-7, 4e-3});
}

/* ---- */

static void no_rows(la_dtype type) {
    operand *x = drawn(type, 0, 6, 1), *y = changed(drawn(type, 0, 6, 1)), *stats;
    operand *weight = drawn(LA_F32, 1, 6, 1), *table = drawn(LA_F32, 1, 6, 1);
    const int32_t zero = 0;
    operand *positions = ints(1, &zero);
    stats = dense_result(LA_F32, 0, 2);
    while (next_run()) {
        la_norm norm = {LA_NORM_LAYER, 1e-5f, data(weight), NULL};
        be->ops->norm(be, &norm, on(x), data(stats), on(y));
        be->ops->norm_backward(be, &norm, on(x), data(stats), RHS, on(x), NULL, on(y));
        be->ops->scale_columns(be, on(x), data(weight), NULL, NULL, on(y));
        be->ops->activation(be, LA_ACT_GELU, on(x), NULL, on(y));
        be->ops->activation_backward(be, LA_ACT_GELU, on(x), NULL, RHS, on(x), on(y), NULL);
        be->ops->rotate(be, 1, 6, 6, data(table), data(positions), 1, 1, on(y));
    }
    forget();
}

int main(void) {
    static const op_test tests[] = {
        {"norm", norm, EACH_AND_HEAD},
        {"norm_backward", norm_backward, EACH_AND_HEAD},
        {"scale_columns", scale_columns, EACH_AND_HEAD},
        {"activation", activation, EACH_AND_HEAD},
        {"activation_backward", activation_backward, EACH_AND_HEAD},
        {"activation_tails", activation_tails, EACH_AND_HEAD},
        {"rotate", rotate, EACH},
        {"no_rows", no_rows, EACH_AND_HEAD},
    };
    return run_ops("pointwise", tests, COUNT(tests));
}
