/* The Monte Carlo predictive, against draws made here. The largest gap observed is 8.0e-15. */
#include "base/random.h"
#include "cuda/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 77 };

/* Rows of Gaussian logits. */
typedef struct logits {
    int64_t n, classes;
    double *centre, *spread; /* [n, C], [n, C, C-1] */
    uint64_t *streams;
} logits;

static logits open_logits(int64_t n, int64_t classes, double width) {
    logits l = {n, classes, normal(n * classes), normal(n * classes * (classes - 1)),
                calloc((size_t)n, sizeof *l.streams)};
    assert_non_null(l.streams);
    for (int64_t i = 0; i < n; i++)
        l.streams[i] = (uint64_t)(i * i) * 0x9e3779b97f4a7c15u + 3;
    for (int64_t i = 0; i < n * classes * (classes - 1); i++)
        l.spread[i] *= width / sqrt((double)classes);
    return l;
}

static void close_logits(logits *l) {
    free(l->centre), free(l->spread), free(l->streams);
}

/* in place */
static void softmax(int64_t n, double *f) {
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, f[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp(f[i] - top);
    for (int64_t i = 0; i < n; i++)
        f[i] = exp(f[i] - top) / sum;
}

/* means [2C + 1] of a row: softmax, its entropy, and its squared distance from the centre's */
static void draw_row(const logits *l, int64_t row, int64_t samples, double *means) {
    int64_t c = l->classes, m = c - 1;
    double *z = calloc((size_t)m, sizeof *z), *f = calloc((size_t)c, sizeof *f);
    double *map = calloc((size_t)c, sizeof *map);
    assert_true(z && f && map);
    memset(means, 0, (size_t)(2 * c + 1) * sizeof *means);
    memcpy(map, l->centre + row * c, (size_t)c * sizeof *map);
    softmax(c, map);
    for (int64_t s = 0; s < samples; s++) {
        la_random_normal(SEED, l->streams[row], (uint64_t)(s / 2 * m), (size_t)m, z);
        for (int64_t k = 0; k < m && s % 2; k++)
            z[k] = -z[k];
        for (int64_t i = 0; i < c; i++) {
            f[i] = l->centre[row * c + i];
            for (int64_t k = 0; k < m; k++)
                f[i] += l->spread[(row * c + i) * m + k] * z[k];
        }
        softmax(c, f);
        for (int64_t i = 0; i < c; i++) {
            means[i] += f[i] / (double)samples;
            means[c] -= f[i] > 0 ? f[i] * log(f[i]) / (double)samples : 0;
            means[c + 1 + i] += (f[i] - map[i]) * (f[i] - map[i]) / (double)samples;
        }
    }
    free(z), free(f), free(map);
}

static bool draw(const logits *l, int64_t first, int64_t n, int64_t samples, double *means) {
    int64_t c = l->classes;
    return device.ops->monte_carlo(&device, n, c, l->centre + first * c,
                                   l->spread + first * c * (c - 1), samples, SEED,
                                   l->streams + first, means);
}

static double monte_carlo_case(int64_t n, int64_t classes, int64_t samples, double width) {
    logits l = open_logits(n, classes, width);
    int64_t count = 2 * classes + 1;
    double *means = normal(n * count), *again = normal(n * count), *want = normal(count), worst = 0;
    assert_true(draw(&l, 0, n, samples, means));
    for (int64_t i = 0; i < n; i++) {
        draw_row(&l, i, samples, want);
        for (int64_t j = 0; j < count; j++)
            worst = larger(worst, fabs(means[i * count + j] - want[j]));
    }
    /* one row at a time: the same bits */
    for (int64_t i = 0; i < n; i++)
        assert_true(draw(&l, i, 1, samples, again + i * count));
    assert_memory_equal(means, again, (size_t)(n * count) * sizeof *means);
    close_logits(&l);
    free(means), free(again), free(want);
    return worst;
}

static void monte_carlo(la_dtype type) {
    static const struct {
        int64_t n, classes, samples;
        double width;
    } cases[] = {{1, 2, 1, 1},   {7, 2, 1000, 3},  {3, 3, 7, 1},     {5, 6, 300, 1},
                 {2, 33, 70, 1}, {1, 100, 300, 1}, {3, 6, 257, 100}, {1, 256, 9, 1}};
    double worst = 0;
    if (!device.ops->draws)
        skip();
    for (int64_t c = 0; c < COUNT(cases); c++)
        worst = larger(worst, monte_carlo_case(cases[c].n, cases[c].classes, cases[c].samples,
                                               cases[c].width));
    check("monte_carlo", type, worst, (limits){3e-14, 3e-14, 3e-14});
}

/* Draws that a device refuses are made by the host: a refusal is no fault. */
static void monte_carlo_refused(la_dtype type) {
    (void)type;
    if (!device.ops->draws)
        skip();
    logits l = open_logits(1, 2000, 1);
    double *means = normal(4001);
    if (draw(&l, 0, 1, 1, means)) {
        double *want = normal(4001);
        draw_row(&l, 0, 1, want);
        for (int64_t j = 0; j <= 4000; j++)
            assert_true(fabs(means[j] - want[j]) < 1e-13);
        free(want);
    }
    close_logits(&l);
    free(means);
}

int main(void) {
    static const op_test tests[] = {
        {"monte_carlo", monte_carlo, ONCE},
        {"monte_carlo_refused", monte_carlo_refused, ONCE},
    };
    return run_ops("draws", tests, COUNT(tests));
}
