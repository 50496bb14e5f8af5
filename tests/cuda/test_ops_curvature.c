/* Factor sums and the predictive's quadratic forms.
 *
 * Largest gaps observed, emulated (its f32 products are OpenBLAS's own, as the host's: factor_add's
 * limits leave room for another order of summation):
 *
 *                    f32      tf32     bf16
 *   factor_add       0        2.3e-4   0
 *   sketch_add       6.9e-16  6.9e-16  8.2e-16  (f64 in all of them)
 *   square_add       6.6e-8   6.6e-8   4.8e-8   (6.2e-7 where the host's are not vectorised)
 *   row_outer        2.7e-7   2.9e-7   2.2e-7
 *   kron_quadratic   1.8e-7
 *   column_squares   1.6e-15 (against sums written out) */
#include "cuda/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RHS = 3 };

/* ---- factor_add, sketch_add, diagonal, square_add, column_squares ---- */

/* Sum [n, n] with initial values; NaN above the diagonal, which is never touched. */
static operand *lower_triangle(int64_t n) {
    double *values = normal(n * n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = i + 1; j < n; j++)
            values[i * n + j] = NAN;
    operand *o = changed(dense(LA_F64, n, n, values));
    free(values);
    return o;
}

static double lower_gap(const operand *sum) {
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < sum->host.rows; i++)
        for (int64_t j = 0; j < sum->host.cols; j++) {
            if (j > i) {
                assert_true(isnan(got(sum, i, j)));
                continue;
            }
            worst = larger(worst, fabs(got(sum, i, j) - wanted(sum, i, j)));
            scale = larger(scale, fabs(wanted(sum, i, j)));
        }
    return worst / scale;
}

static const struct {
    int64_t rows, cols, pad, offset;
} factor_shapes[] = {
    {7, 1, 0, 0},     {37, 5, 3, 1},  {130, 33, 7, 0}, {37, 130, 2, 0},
    {130, 130, 0, 0}, {7, 300, 0, 0}, {130, 64, 8, 0}, {700, 72, 0, 0},
};

static void factor_add(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(factor_shapes); s++) {
        int64_t rows = factor_shapes[s].rows, cols = factor_shapes[s].cols;
        operand *sum = lower_triangle(cols);
        lay_out(factor_shapes[s].pad, factor_shapes[s].offset);
        operand *x = drawn(type, rows, cols, 1), *z = drawn(type, 37, cols, 1);
        while (next_run()) {
            be->ops->factor_add(be, 0.5, on(x), data(sum));
            be->ops->factor_add(be, 2, on(z), data(sum));
            be->ops->factor_add(be, 1.0 / 3, on(x), data(sum));
        }
        worst = larger(worst, lower_gap(sum));
        forget();
    }
    check("factor_add", type, worst, (limits){1e-6, 8e-4, 1e-6});
}

static void sketch_add(la_dtype type) {
    double worst = 0;
    for (int64_t s = 0; s < COUNT(factor_shapes); s++) {
        int64_t rows = factor_shapes[s].rows, cols = factor_shapes[s].cols, l = 1 + cols / 4;
        double *start = normal(cols * l), *directions = normal(cols * l);
        operand *sum = changed(dense(LA_F64, cols, l, start));
        operand *omega = dense(LA_F64, cols, l, directions);
        lay_out(factor_shapes[s].pad, factor_shapes[s].offset);
        /* more rows than are widened at a time */
        operand *x = drawn(type, rows, cols, 1), *z = drawn(type, 1100, cols, 1);
        while (next_run()) {
            be->ops->sketch_add(be, 0.5, on(x), l, data(omega), data(sum));
            be->ops->sketch_add(be, 1.0 / 3, on(z), l, data(omega), data(sum));
        }
        worst = larger(worst, gap(sum));
        free(start);
        free(directions);
        forget();
    }
    check("sketch_add", type, worst, (limits){2.7e-15, 2.7e-15, 3.2e-15});
}

static void diagonal(la_dtype type) {
    (void)type;
    static const int64_t sides[] = {1, 5, 130, 1000};
    for (int64_t s = 0; s < COUNT(sides); s++) {
        int64_t n = sides[s];
        double *values = normal(n * n), *found = calloc((size_t)n + 1, sizeof *found);
        operand *sum = dense(LA_F64, n, n, values);
        assert_non_null(found);
        while (next_run()) {
            memset(found, 0xff, ((size_t)n + 1) * sizeof *found);
            be->ops->diagonal(be, n, data(sum), found);
            for (int64_t i = 0; i < n; i++)
                assert_true(found[i] == values[i * n + i]);
            assert_true(isnan(found[n]));
        }
        free(found);
        free(values);
        forget();
    }
}

static void square_add(la_dtype type) {
    double worst = 0;
    const double start = 1.5;
    for (int64_t s = 0; s < COUNT(factor_shapes); s++) {
        operand *sum = changed(dense(LA_F64, 1, 1, &start));
        lay_out(factor_shapes[s].pad, factor_shapes[s].offset);
        operand *x = drawn(type, factor_shapes[s].rows, factor_shapes[s].cols, 1);
        while (next_run()) {
            be->ops->square_add(be, 3, on(x), data(sum));
            be->ops->square_add(be, 0.25, on(x), data(sum));
        }
        worst = larger(worst, gap(sum));
        forget();
    }
    check("square_add", type, worst, (limits){2e-6, 2e-6, 2e-6});
}

/* The matrix is f32 and without gaps whatever the precision. */
static void column_squares(la_dtype type) {
    (void)type;
    static const struct {
        int64_t rows, cols;
    } shapes[] = {{1, 1}, {7, 13}, {5, 63}, {33, 64}, {300, 65}, {2, 1543}, {1, 130}, {0, 9}};
    double worst = 0;
    for (int64_t s = 0; s < COUNT(shapes); s++) {
        int64_t rows = shapes[s].rows, cols = shapes[s].cols;
        double *start = normal(cols), *values = normal(rows * cols);
        operand *sum = changed(dense(LA_F64, 1, cols, start));
        operand *x = dense(LA_F32, rows, cols, values);
        while (next_run()) {
            be->ops->column_squares(be, on(x), data(sum));
            be->ops->column_squares(be, on(x), data(sum));
        }
        worst = larger(worst, gap(sum));
        for (int64_t j = 0; j < cols; j++) {
            double want = start[j];
            for (int64_t t = 0; t < rows; t++) {
                double value = (double)(float)values[t * cols + j];
                want += 2 * value * value;
            }
            worst = larger(worst, fabs(got(sum, 0, j) - want) / larger(fabs(want), 1));
        }
        free(start);
        free(values);
        forget();
    }
    check("column_squares", LA_F32, worst, (limits){4e-15, 4e-15, 4e-15});
}

/* ---- row_outer, kron_quadratic ---- */

enum { N_ROWS = 6 };
static const int32_t row_ends[N_ROWS + 1] = {0, 33, 34, 164, 171, 241, 242};

static const struct {
    int64_t s_cols, b_cols, n_rhs, first, n_rows, pad, offset;
    bool s_rhs, b_rhs;
} outers[] = {
    {5, 13, 1, 0, 6, 0, 0, true, false},     {8, 72, RHS, 0, 6, 0, 0, true, false},
    {33, 257, RHS, 2, 3, 3, 1, true, false}, {8, 64, RHS, 1, 5, 8, 0, false, true},
    {5, 33, RHS, 0, 2, 7, 0, false, true},   {16, 130, RHS, 3, 3, 1, 0, true, true},
    {72, 8, 1, 4, 1, 0, 0, false, false},    {64, 64, RHS, 2, 1, 0, 0, false, false},
    {130, 5, 11, 0, 2, 0, 0, true, false},
};

static double row_outer_case(la_dtype type, int64_t c) {
    int64_t tokens = row_ends[N_ROWS], n_rhs = outers[c].n_rhs;
    operand *cu = ints(N_ROWS + 1, row_ends);
    lay_out(outers[c].pad, outers[c].offset);
    operand *s = drawn(LA_F32, tokens * (outers[c].s_rhs ? n_rhs : 1), outers[c].s_cols, 1);
    operand *b = drawn(type, tokens * (outers[c].b_rhs ? n_rhs : 1), outers[c].b_cols, 1);
    operand *out = result(LA_F32, outers[c].n_rows * n_rhs * outers[c].s_cols, outers[c].b_cols);
    while (next_run())
        be->ops->row_outer(be, outers[c].first, outers[c].n_rows, data(cu), n_rhs, 0.75f, on(s),
                           outers[c].s_rhs, on(b), outers[c].b_rhs, on(out));
    double worst = gap(out);
    forget();
    return worst;
}

static void row_outer(la_dtype type) {
    double worst = 0;
    for (int64_t c = 0; c < COUNT(outers); c++)
        worst = larger(worst, row_outer_case(type, c));
    check("row_outer", type, worst, (limits){3e-6, 3e-6, 3e-6});
}

/* A row's outer products are the same to the last bit whatever is in the batch with it. */
static void outers_are_independent(la_dtype type) {
    enum { LENGTH = 70, BEFORE = 33, HEIGHT = 8, WIDTH = 33 };
    static const int32_t alone[] = {0, LENGTH}, among[] = {0, BEFORE, BEFORE + LENGTH, 2 * LENGTH};
    double kept[RHS * HEIGHT * WIDTH], *all_s = normal(RHS * 2 * LENGTH * HEIGHT);
    double *all_b = normal(2 * LENGTH * WIDTH);
    double *row_s = calloc(RHS * LENGTH * HEIGHT, sizeof *row_s);
    assert_non_null(row_s);
    for (size_t k = 0; k < RHS; k++)
        memcpy(row_s + k * LENGTH * HEIGHT, all_s + (k * 2 * LENGTH + BEFORE) * HEIGHT,
               LENGTH * HEIGHT * sizeof *row_s);
    for (int which = 0; which < 3; which++) {
        /* the row in its own batch, in a larger one, and in a part of that */
        bool own = which == 0;
        int64_t tokens = own ? LENGTH : 2 * LENGTH, first = which == 2,
                n_rows = own ? 1 : 3 - first;
        operand *cu = own ? ints(2, alone) : ints(4, among);
        operand *s = given(LA_F32, RHS * tokens, HEIGHT, own ? row_s : all_s);
        operand *b = given(type, tokens, WIDTH, own ? all_b + BEFORE * WIDTH : all_b);
        operand *out = result(LA_F32, n_rows * RHS * HEIGHT, WIDTH);
        while (next_run())
            be->ops->row_outer(be, first, n_rows, data(cu), RHS, 1, on(s), true, on(b), false,
                               on(out));
        int64_t at = which == 1 ? RHS * HEIGHT : 0;
        for (int64_t i = 0; i < RHS * HEIGHT; i++)
            for (int64_t j = 0; j < WIDTH; j++) {
                if (own)
                    kept[i * WIDTH + j] = got(out, i, j);
                else
                    assert_true(kept[i * WIDTH + j] == got(out, at + i, j));
            }
        forget();
    }
    free(all_s), free(all_b), free(row_s);
}

static const struct {
    int64_t n_rows, n_rhs, height, cols, pad, offset;
} quadratics[] = {
    {7, 1, 5, 33, 7, 0},  {5, 3, 8, 72, 0, 0},   {2, 6, 13, 257, 3, 1}, {3, 11, 8, 64, 8, 0},
    {1, 11, 33, 5, 0, 0}, {130, 1, 2, 13, 0, 0}, {4, 2, 64, 130, 0, 0},
};

static void kron_quadratic(la_dtype type) {
    double worst = 0;
    for (int64_t c = 0; c < COUNT(quadratics); c++) {
        int64_t n = quadratics[c].n_rows, m = quadratics[c].n_rhs, height = quadratics[c].height;
        /* results are added to the previous values */
        double *values = normal(n * m * m);
        operand *cov = changed(dense(LA_F64, n * m, m, values));
        free(values);
        lay_out(quadratics[c].pad, quadratics[c].offset);
        operand *r = drawn(LA_F32, n * m * height, quadratics[c].cols, 1);
        operand *weight = drawn(LA_F32, height, quadratics[c].cols, 1);
        while (next_run())
            be->ops->kron_quadratic(be, n, m, on(r), on(weight), data(cov));
        worst = larger(worst, gap(cov));
        forget();
    }
    check("kron_quadratic", type, worst, (limits){7e-7, 7e-7, 7e-7});
}

int main(void) {
    static const op_test tests[] = {
        {"factor_add", factor_add, EACH_AND_HEAD},
        {"sketch_add", sketch_add, EACH_AND_HEAD},
        {"diagonal", diagonal, ONCE},
        {"square_add", square_add, EACH_AND_HEAD},
        {"column_squares", column_squares, ONCE},
        {"row_outer", row_outer, EACH_AND_HEAD},
        {"outer_products_are_independent", outers_are_independent, EACH},
        {"kron_quadratic", kron_quadratic, ONCE},
    };
    return run_ops("curvature", tests, COUNT(tests));
}
