/* Mahalanobis distances against scikit-learn's shrinkage and numpy
 * (tests/reference/baselines_reference.py), and on states that determine no covariance. */
#include "base/random.h"
#include "baselines/arrays.h"
#include "baselines/mahalanobis.h"
#include "support/support.h"

#include <string.h>

static int threads = 2;

static la_mahalanobis fit(int64_t n, int64_t d, int64_t n_classes, const float *states,
                          const int64_t *labels) {
    la_mahalanobis m;
    la_error err = {0};
    assert_int_equal(
        la_mahalanobis_fit(la_team_of(threads), n, d, n_classes, states, labels, &m, &err), LA_OK);
    return m;
}

static void score(const la_mahalanobis *m, int64_t n, const float *states, double *scores,
                  double *relatives) {
    la_error err = {0};
    assert_int_equal(la_mahalanobis_score(la_team_of(threads), m, false, n, states, scores, &err),
                     LA_OK);
    assert_int_equal(la_mahalanobis_score(la_team_of(threads), m, true, n, states, relatives, &err),
                     LA_OK);
}

static void reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/mahalanobis.json")), *one;
    double worst_score = 0, worst_relative = 0, worst_shrinkage = 0;
    size_t i;
    assert_int_equal(json_array_size(cases), 4);
    json_array_foreach(cases, i, one) {
        int64_t n, n_test, d = integer_at(one, "width");
        float *states = floats(one, "states", NULL), *test = floats(one, "test", NULL);
        int64_t *labels = integers(one, "labels", &n);
        double *scores = doubles(one, "score", &n_test),
               *relatives = doubles(one, "relative", NULL);
        double found[2][16];
        la_mahalanobis m = fit(n, d, integer_at(one, "n_classes"), states, labels);
        assert_int_equal(n_test, 10);
        score(&m, n_test, test, found[0], found[1]);
        worst_score = fmax(worst_score, largest_gap(n_test, found[0], scores, 0));
        worst_relative = fmax(worst_relative, largest_gap(n_test, found[1], relatives, 1));
        worst_shrinkage =
            fmax(worst_shrinkage,
                 fmax(relative(m.shrinkage, number_at(one, "shrinkage"), 0),
                      relative(m.global_shrinkage, number_at(one, "global_shrinkage"), 0)));
        la_mahalanobis_free(&m);
        assert_null(m.factor);
        free(states), free(test), free(labels), free(scores), free(relatives);
    }
    json_decref(cases);
    check_within("shrinkage, relative", worst_shrinkage, 4e-15);
    check_within("score, relative", worst_score, 6.8e-15);
    check_within("relative score, of max(1, value)", worst_relative, 9.9e-14);
}

/* n states of d dimensions around a class centre each, in rows one after the other */
static float *draw_states(uint64_t seed, int64_t n, int64_t d, int64_t n_classes, int64_t *labels) {
    double *z = calloc((size_t)(n * d), sizeof *z);
    float *states = calloc((size_t)(n * d), sizeof *states);
    assert_true(z && states);
    la_random_normal(seed, 1, 0, (size_t)(n * d), z);
    for (int64_t i = 0; i < n; i++) {
        labels[i] = (int64_t)la_random_below(seed, 2, (uint64_t)i, (uint64_t)n_classes);
        for (int64_t j = 0; j < d; j++)
            states[i * d + j] = (float)(z[i * d + j] + (j % n_classes == labels[i] ? 3 : 0));
    }
    free(z);
    return states;
}

/* the mean of the distances to the own class is about d where the rows determine the covariance */
static void scale_of_the_distance(void **state) {
    (void)state;
    enum { N = 2000, D = 5 };
    static int64_t labels[N];
    static double scores[N], relatives[N];
    float *states = draw_states(4, N, D, 2, labels), far[D] = {40, -40, 40, -40, 40};
    la_mahalanobis m = fit(N, D, 2, states, labels);
    double mean = 0, at_far[2];
    score(&m, N, states, scores, relatives);
    for (int64_t i = 0; i < N; i++)
        mean += scores[i] / N;
    check_within("mean distance against d", fabs(mean - D), 0.0118);
    score(&m, 1, far, at_far, at_far + 1);
    assert_true(at_far[0] > 1000 && at_far[1] > 0);
    la_mahalanobis_free(&m);
    free(states);
}

/* one class: its Gaussian is the one over all rows */
static void one_class(void **state) {
    (void)state;
    enum { N = 30, D = 7 };
    int64_t labels[N];
    double scores[N], relatives[N];
    float *states = draw_states(5, N, D, 1, labels);
    la_mahalanobis m = fit(N, D, 1, states, labels);
    score(&m, N, states, scores, relatives);
    for (int64_t i = 0; i < N; i++)
        assert_true(scores[i] > 0 && relatives[i] == 0);
    la_mahalanobis_free(&m);
    free(states);
}

/* absent classes change nothing */
static void classes_without_rows(void **state) {
    (void)state;
    enum { N = 40, D = 3 };
    int64_t labels[N], renamed[N];
    double scores[2][N], relatives[2][N];
    float *states = draw_states(6, N, D, 2, labels);
    for (int64_t i = 0; i < N; i++)
        renamed[i] = labels[i] ? 5 : 2;
    la_mahalanobis two = fit(N, D, 2, states, labels), seven = fit(N, D, 7, states, renamed);
    score(&two, N, states, scores[0], relatives[0]);
    score(&seven, N, states, scores[1], relatives[1]);
    assert_int_equal(seven.count[0] + seven.count[1] + seven.count[6], 0);
    assert_int_equal(seven.count[2] + seven.count[5], N);
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    assert_memory_equal(relatives[0], relatives[1], sizeof relatives[0]);
    la_mahalanobis_free(&two);
    la_mahalanobis_free(&seven);
    free(states);
}

/* No variance: the distance is Euclid's. 0.1f + k is no short number, and its mean is rounded. */
static void identical_states(void **state) {
    (void)state;
    enum { N = 7, D = 4 };
    float states[N * D], away[D];
    int64_t labels[N];
    double score_same, score_away, unused;
    for (int64_t k = 0; k < N * D; k++)
        states[k] = 0.1f + (float)(k % D);
    for (int64_t i = 0; i < N; i++)
        labels[i] = i % 2;
    for (int64_t j = 0; j < D; j++)
        away[j] = states[j] + (j == 1 ? 2 : 0);
    la_mahalanobis m = fit(N, D, 2, states, labels);
    score(&m, 1, states, &score_same, &unused);
    assert_true(score_same >= 0 && score_same < 1e-28 && isfinite(unused));
    score(&m, 1, away, &score_away, &unused);
    assert_true(fabs(score_away - 4) < 1e-6 && isfinite(unused));
    assert_true(m.shrinkage == 1 && m.global_shrinkage == 1);
    la_mahalanobis_free(&m);
    /* zeros too, and a single row */
    memset(states, 0, sizeof states);
    for (int64_t n = 1; n <= N; n += N - 1) {
        m = fit(n, D, 2, states, labels);
        score(&m, 1, away, &score_away, &unused);
        assert_true(score_away > 0 && isfinite(score_away) && isfinite(unused));
        la_mahalanobis_free(&m);
    }
}

/* Two rows, one dimension, a dimension without variance: the covariance has rank 1 or less. */
static void few_rows(void **state) {
    (void)state;
    static const float states[] = {1, 2, 5, 3, -4, 5};
    static const int64_t same[] = {0, 0}, own[] = {0, 1};
    double scores[2], relatives[2];
    for (int kind = 0; kind < 4; kind++) {
        int64_t n = kind < 2 ? 2 : 1, d = kind == 3 ? 1 : 3;
        la_mahalanobis m = fit(n, d, 2, states, kind == 1 ? own : same);
        score(&m, n, states, scores, relatives);
        for (int64_t i = 0; i < n; i++)
            assert_true(isfinite(scores[i]) && scores[i] >= 0 && isfinite(relatives[i]));
        assert_true(m.shrinkage > 0 && m.shrinkage <= 1);
        la_mahalanobis_free(&m);
    }
}

/* wider than a tile, more rows than a strip and than a block */
static void threads_do_not_matter(void **state) {
    (void)state;
    enum { N = 600, D = 300 };
    static int64_t labels[N];
    static double scores[2][N], relatives[2][N];
    float *states = draw_states(7, N, D, 4, labels);
    for (int k = 0; k < 2; k++) {
        threads = k ? 3 : 1;
        la_mahalanobis m = fit(N, D, 4, states, labels);
        score(&m, N, states, scores[k], relatives[k]);
        la_mahalanobis_free(&m);
    }
    threads = 2;
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    assert_memory_equal(relatives[0], relatives[1], sizeof relatives[0]);
    free(states);
}

/* (L L^T)_ij against ((1 - r) S + r tr S / d I)_ij, S summed by long-hand over the rows less their
 * means[.., D] */
static double covariance_gap(int64_t n, int64_t d, const float *states, const int64_t *labels,
                             const double *means, const double *factor, double r) {
    double worst = 0, trace = 0, *cov = calloc((size_t)(d * d), sizeof *cov);
    assert_non_null(cov);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < d; i++) {
            const double *mean = means + (labels ? labels[k] : 0) * d;
            double x = ((double)states[k * d + i] - mean[i]) / (double)n;
            for (int64_t j = 0; j <= i; j++)
                cov[i * d + j] += x * ((double)states[k * d + j] - mean[j]);
        }
    for (int64_t i = 0; i < d; i++)
        trace += cov[i * d + i];
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j <= i; j++) {
            double want = (1 - r) * cov[i * d + j] + (i == j ? r * trace / (double)d : 0), got = 0;
            for (int64_t k = 0; k <= j; k++)
                got += factor[i * d + k] * factor[j * d + k];
            worst = fmax(worst, fabs(got - want));
        }
    free(cov);
    return worst;
}

/* wider than a tile, more rows than a strip */
static void covariances(void **state) {
    (void)state;
    enum { N = 600, D = 300, C = 3 };
    static int64_t labels[N];
    static double means[C * D], mean[D];
    int64_t count[C] = {0};
    float *states = draw_states(8, N, D, C, labels);
    for (int64_t i = 0; i < N; i++)
        count[labels[i]]++;
    for (int64_t i = 0; i < N; i++)
        for (int64_t j = 0; j < D; j++) {
            means[labels[i] * D + j] += (double)states[i * D + j] / (double)count[labels[i]];
            mean[j] += (double)states[i * D + j] / N;
        }
    la_mahalanobis m = fit(N, D, C, states, labels);
    check_within("shared covariance",
                 covariance_gap(N, D, states, labels, means, m.factor, m.shrinkage), 2.2e-15);
    check_within("covariance of all rows",
                 covariance_gap(N, D, states, NULL, mean, m.global_factor, m.global_shrinkage),
                 2.8e-14);
    la_mahalanobis_free(&m);
    free(states);
}

static void bad_input(void **state) {
    (void)state;
    float states[] = {1, 2, 3, 4};
    int64_t labels[] = {0, 1};
    la_mahalanobis m;
    for (int kind = 0; kind < 5; kind++) {
        la_error err = {0};
        states[3] = kind == 2 ? INFINITY : 4;
        labels[0] = kind == 3 ? 2 : kind == 4 ? -1 : 0;
        assert_int_equal(la_mahalanobis_fit(la_team_of(threads), kind == 0 ? 0 : 2,
                                            kind == 1 ? 0 : 2, 2, states, labels, &m, &err),
                         LA_BAD_INPUT);
        assert_null(m.factor);
        la_mahalanobis_free(&m);
    }
    states[3] = 4;
    labels[0] = 0;
    m = fit(2, 2, 2, states, labels);
    double scores[2];
    la_error err = {0};
    states[2] = NAN;
    assert_int_equal(la_mahalanobis_score(la_team_of(threads), &m, false, 2, states, scores, &err),
                     LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "row 1, column 0"));
    la_mahalanobis_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),        cmocka_unit_test(scale_of_the_distance),
        cmocka_unit_test(one_class),        cmocka_unit_test(classes_without_rows),
        cmocka_unit_test(identical_states), cmocka_unit_test(few_rows),
        cmocka_unit_test(covariances),      cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
