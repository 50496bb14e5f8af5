/* Distilled variances against ridge regressions that are solved anew without each row, and rows
 * that determine nothing. */
#include "base/random.h"
#include "baselines/distilled.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 9, SCALES = 3, CLASSES_MOST = 5, MOST = 140, FEATURES_MOST = 40 };

typedef struct made {
    la_distilled_rows rows;
    float outputs[MOST * CLASSES_MOST], states[MOST * WIDTH];
    double scales[SCALES];
    double *cov, *left_out;
} made;

static double normal(uint64_t stream, int64_t at) {
    double z;
    la_random_normal(5, stream, (uint64_t)at, 1, &z);
    return z;
}

/* n rows of C outputs and m contrasts whose log variance follows state and outputs, but for noise.
 */
static made *make(int64_t n, int64_t c, int64_t m, double noise) {
    made *it = calloc(1, sizeof *it);
    assert_non_null(it);
    it->cov = calloc((size_t)(SCALES * n * m * m), sizeof *it->cov);
    it->left_out = calloc((size_t)(SCALES * n * m * m), sizeof *it->left_out);
    assert_true(it->cov && it->left_out);
    it->rows = (la_distilled_rows){.n = n,
                                   .n_outputs = c,
                                   .n_contrasts = m,
                                   .width = WIDTH,
                                   .n_scales = SCALES,
                                   .outputs = it->outputs,
                                   .states = it->states,
                                   .scales = it->scales,
                                   .cov = it->cov};
    for (int64_t i = 0; i < n * c; i++)
        it->outputs[i] = (float)(2 * normal(1, 2 * i));
    for (int64_t i = 0; i < n * WIDTH; i++)
        it->states[i] = (float)(normal(2, 2 * i) * (double)(1 + i % WIDTH) + 1);
    for (int64_t g = 0; g < SCALES; g++) {
        it->scales[g] = pow(10, (double)g - 1);
        for (int64_t i = 0; i < n; i++) {
            double log_trace = 0.2 * (double)it->states[i * WIDTH + WIDTH - 1] -
                               0.3 * (double)it->outputs[i * c] - (double)g +
                               noise * normal(3, 2 * (g * n + i));
            for (int64_t k = 0; k < m; k++)
                it->cov[((g * n + i) * m + k) * m + k] =
                    exp(log_trace) * (double)(k + 1) / (double)(m * (m + 1) / 2);
        }
    }
    return it;
}

static void release(made *it) {
    free(it->cov);
    free(it->left_out);
    free(it);
}

static la_distilled fit(made *it, int threads) {
    la_distilled d;
    la_error err = {0};
    if (la_distilled_fit(la_team_of(threads), &it->rows, it->left_out, &d, &err) != LA_OK)
        fail_msg("%s", err.message);
    return d;
}

/* ---- the reference ---- */

/* The features as the header names them. */
static void features(const la_distilled *d, const float *f, const float *s, double *x) {
    int64_t c = d->n_outputs, m = d->n_contrasts;
    double p[CLASSES_MOST], z[CLASSES_MOST], mean = 0, sum = 0, square = 0, entropy = 0;
    double margin = INFINITY;
    for (int64_t k = 0; k < c; k++)
        mean += (double)f[k] / (double)c;
    for (int64_t k = 0; k < c; k++) {
        z[k] = (double)f[k] - (m < c ? mean : 0);
        square += z[k] * z[k];
        sum += exp(z[k]);
    }
    for (int64_t k = 0; k < c; k++) {
        p[k] = m < c ? exp(z[k]) / sum : 1 / (1 + exp(-z[k]));
        entropy -= p[k] * log(p[k]) + (m < c ? 0 : (1 - p[k]) * log(1 - p[k]));
    }
    /* the two largest are the pair whose smaller one is largest */
    double top = -INFINITY;
    for (int64_t k = 0; k < c; k++) {
        if (m == c)
            margin = fmin(margin, fabs(z[k]));
        for (int64_t l = 0; m < c && l < c; l++)
            if (l != k && fmin(z[k], z[l]) >= top) {
                top = fmin(z[k], z[l]);
                margin = fabs(z[k] - z[l]);
            }
    }
    int64_t at = 0;
    x[at++] = entropy, x[at++] = margin, x[at++] = square;
    x[at++] = log(square + 1e-6), x[at++] = log(entropy + 1e-6);
    if (d->n_features == la_distilled_width(m, d->rank, true)) {
        for (int64_t k = 0; k < m; k++)
            x[at++] = p[k];
        for (int64_t k = 0; k < m; k++)
            x[at++] = z[k];
    }
    double length = 0, distance = 0, inside = 0;
    for (int64_t i = 0; i < WIDTH; i++) {
        length += (double)s[i] * (double)s[i];
        distance += pow((double)s[i] - (double)d->mean[i], 2);
    }
    for (int64_t r = 0; r < d->rank; r++) {
        double dot = 0;
        for (int64_t i = 0; i < WIDTH; i++)
            dot += (double)d->vectors[r * WIDTH + i] * ((double)s[i] - (double)d->mean[i]);
        x[at++] = dot;
        inside += dot * dot * d->values[r];
    }
    x[at++] = log(length + 1e-12), x[at++] = log(distance + 1e-12);
    x[at++] = log(fmax(distance - inside, 1e-9 * distance) + 1e-12);
    assert_int_equal(at, d->n_features);
}

/* w[p] of the ridge regression on all rows but one (n: on all), by elimination. */
static void ridge(int64_t n, int64_t p, const double *x, const double *y, double penalty,
                  int64_t left, double *w) {
    double a[(FEATURES_MOST + 1) * (FEATURES_MOST + 2)] = {0};
    int64_t width = p + 1;
    for (int64_t j = 0; j < p; j++)
        a[j * width + j] = j ? penalty : 1e-9 * (double)n;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; i != left && j < p; j++) {
            for (int64_t k = 0; k < p; k++)
                a[j * width + k] += x[i * p + j] * x[i * p + k];
            a[j * width + p] += x[i * p + j] * y[i];
        }
    for (int64_t j = 0; j < p; j++)
        for (int64_t r = 0; r < p; r++) {
            double factor = a[r * width + j] / a[j * width + j];
            for (int64_t k = j; r != j && k <= p; k++)
                a[r * width + k] -= factor * a[j * width + k];
        }
    for (int64_t j = 0; j < p; j++)
        w[j] = a[j * width + p] / a[j * width + j];
}

static double predicted(int64_t p, const double *x, const double *w) {
    double sum = 0;
    for (int64_t j = 0; j < p; j++)
        sum += x[j] * w[j];
    return sum;
}

/* Largest distance of a log trace from the reference's: left out in *out, and by la_distilled_cov
 * in *in. */
static void check(const made *it, const la_distilled *d, double *out, double *in) {
    static const double penalties[] = {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000};
    int64_t n = it->rows.n, c = it->rows.n_outputs, m = it->rows.n_contrasts;
    int64_t p = d->n_features + 1;
    double *x = calloc((size_t)(n * p), sizeof *x), *y = calloc((size_t)n, sizeof *y);
    double *best = calloc((size_t)n, sizeof *best), *one = calloc((size_t)n, sizeof *one);
    double w[FEATURES_MOST + 1], workspace[FEATURES_MOST], cov[CLASSES_MOST * CLASSES_MOST];
    assert_true(x && y && best && one && p <= FEATURES_MOST + 1);
    for (int64_t i = 0; i < n; i++) {
        x[i * p] = 1;
        features(d, it->outputs + i * c, it->states + i * WIDTH, x + i * p + 1);
    }
    for (int64_t j = 1; j < p; j++) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < n; i++)
            mean += x[i * p + j] / (double)n;
        for (int64_t i = 0; i < n; i++)
            square += pow(x[i * p + j] - mean, 2) / (double)n;
        for (int64_t i = 0; i < n; i++)
            x[i * p + j] = (x[i * p + j] - mean) / sqrt(square);
    }
    for (int64_t g = 0; g < SCALES; g++) {
        double least = INFINITY, penalty = 0;
        for (int64_t i = 0; i < n; i++) {
            y[i] = 0;
            for (int64_t k = 0; k < m; k++)
                y[i] += it->cov[((g * n + i) * m + k) * m + k];
            y[i] = log(y[i]);
        }
        for (size_t k = 0; k < sizeof penalties / sizeof *penalties; k++) {
            double square = 0;
            for (int64_t i = 0; i < n; i++) {
                ridge(n, p, x, y, penalties[k], i, w);
                one[i] = predicted(p, x + i * p, w);
                square += pow(y[i] - one[i], 2);
            }
            if (square < least) {
                least = square;
                penalty = penalties[k];
                memcpy(best, one, (size_t)n * sizeof *best);
            }
        }
        ridge(n, p, x, y, penalty, n, w);
        for (int64_t i = 0; i < n; i++) {
            double trace = 0;
            for (int64_t k = 0; k < m * m; k++)
                trace += it->left_out[(g * n + i) * m * m + k];
            *out = fmax(*out, fabs(log(trace) - best[i]));
            assert_int_equal(la_distilled_find(d, it->scales[g]), g);
            la_distilled_features(d, it->outputs + i * c, it->states + i * WIDTH, workspace);
            la_distilled_cov(d, g, workspace, cov);
            trace = 0;
            for (int64_t k = 0; k < m * m; k++) {
                assert_true(k % (m + 1) ? cov[k] == 0 : cov[k] == cov[0]);
                trace += cov[k];
            }
            *in = fmax(*in, fabs(log(trace) - predicted(p, x + i * p, w)));
        }
    }
    free(x), free(y), free(best), free(one);
}

static void against_refits(void **state) {
    static const int64_t sizes[][3] = {/* n, C, m */ {40, 3, 2},
                                       {140, 3, 2},
                                       {60, 2, 1},
                                       {50, 1, 1},
                                       {60, 3, 3},
                                       {30, 5, 4},
                                       {24, 2, 1}};
    double out = 0, in = 0;
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        made *it = make(sizes[i][0], sizes[i][1], sizes[i][2], 0.3);
        la_distilled d = fit(it, 2);
        bool each_class = sizes[i][0] >= 20 * sizes[i][2];
        assert_int_equal(d.n_features, la_distilled_width(sizes[i][2], d.rank, each_class));
        assert_true(d.explained > 0.4 && d.explained < 1);
        check(it, &d, &out, &in);
        la_distilled_free(&d);
        assert_null(d.mean);
        release(it);
    }
    check_within("log variance with each row left out", out, 4.6e-14);
    check_within("log variance of a row", in, 3.2e-14);
}

/* More rows than directions are taken from, the same whatever the threads. */
static void threads(void **state) {
    (void)state;
    made *it = make(MOST, 3, 2, 0.1);
    la_distilled one = fit(it, 1), two = fit(it, 2);
    assert_memory_equal(one.weights, two.weights,
                        (size_t)(SCALES * (one.n_features + 1)) * sizeof(double));
    la_distilled_free(&one), la_distilled_free(&two);
    release(it);
}

/* A row far away gets no variance far from those that were seen. */
static void far_away(void **state) {
    (void)state;
    made *it = make(MOST, 3, 2, 0.1);
    la_distilled d = fit(it, 2);
    float outputs[3] = {300, -200, 100}, states[WIDTH];
    double workspace[FEATURES_MOST], cov[4];
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int64_t i = 0; i < WIDTH; i++)
            states[i] = (float)sign * 1e4F;
        la_distilled_features(&d, outputs, states, workspace);
        la_distilled_cov(&d, 1, workspace, cov);
        double log_trace = log(cov[0] + cov[3]);
        assert_true(log_trace <= d.most[1] + 1 + 1e-12 && log_trace >= d.least[1] - 1 - 1e-12);
    }
    assert_int_equal(la_distilled_find(&d, 0.5), -1);
    la_distilled_free(&d);
    release(it);
}

/* One row, rows that are all the same, and covariances of nothing: the variance is the mean's. */
static void nothing_to_learn(void **state) {
    static const int64_t sizes[] = {1, 2, 7, 40};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int zero = 0; zero < 2; zero++) {
            int64_t n = sizes[s];
            made *it = make(n, 3, 2, 0);
            for (int64_t i = 1; i < n; i++) {
                memcpy(it->outputs + 3 * i, it->outputs, 3 * sizeof *it->outputs);
                memcpy(it->states + WIDTH * i, it->states, WIDTH * sizeof *it->states);
            }
            for (int64_t i = 0; i < SCALES * n * 4; i++)
                it->cov[i] = zero || (i % 4 && i % 4 != 3) ? 0 : 0.25;
            la_distilled d = fit(it, 2);
            double workspace[FEATURES_MOST], cov[4];
            la_distilled_features(&d, it->outputs, it->states, workspace);
            la_distilled_cov(&d, 1, workspace, cov);
            assert_true(cov[0] == cov[3] && isfinite(cov[0]));
            if (zero)
                assert_true(cov[0] < 1e-29);
            else if (n > 2)
                assert_true(fabs(log((cov[0] + cov[3]) / 0.5)) < 1e-6);
            for (int64_t i = 0; i < SCALES * n * 4; i++)
                assert_true(isfinite(it->left_out[i]));
            la_distilled_free(&d);
            release(it);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_refits),
        cmocka_unit_test(threads),
        cmocka_unit_test(far_away),
        cmocka_unit_test(nothing_to_learn),
    };
    return cmocka_run_group_tests_name("distilled", tests, NULL, NULL);
}
