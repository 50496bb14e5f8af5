/* From Gaussian logits to probabilities: factors of the softmax Fisher, contrasts, Monte Carlo
 * against quadrature, the closed forms, and the random numbers under them. */
#include "base/random.h"
#include "bayes/predictive.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { C = 5, M = C - 1 };

/* S S^T = diag(p) - p p^T, also where one class has nearly all the probability */
static void fisher_factor(void **state) {
    (void)state;
    static const float logits[][C] = {{0, 0, 0, 0, 0},
                                      {1, -2, 0.5f, 3, -1},
                                      {30, -20, 0, 5, 1},
                                      {-3, -3.5f, 80, -3, -90},
                                      {1e4f, 0, -1e4f, 5, 7}};
    double worst = 0;
    for (size_t n = 0; n < sizeof logits / sizeof *logits; n++) {
        double s[C * M], p[C], sum = 0, top = -INFINITY;
        for (int c = 0; c < C; c++)
            top = fmax(top, (double)logits[n][c]);
        for (int c = 0; c < C; c++)
            sum += p[c] = exp((double)logits[n][c] - top);
        la_fisher_factor(C, logits[n], s);
        for (int c = 0; c < C; c++)
            for (int d = 0; d < C; d++) {
                double pc = p[c] / sum, pd = p[d] / sum;
                /* 1 - p of the top class without cancellation */
                double rest = 0;
                for (int e = 0; e < C; e++)
                    rest += e == c ? 0 : p[e] / sum;
                double want = c == d ? pc * rest : -pc * pd, got = 0;
                for (int k = 0; k < M; k++)
                    got += s[c * M + k] * s[d * M + k];
                worst = fmax(worst, fabs(got - want) / fmax(fabs(want), 1e-290));
            }
    }
    check_within("S S^T against diag(p) - p p^T, relative", worst, 2.1e-15);
}

static void contrasts(void **state) {
    (void)state;
    double q[C * M], worst = 0;
    la_contrast_basis(C, q);
    for (int c = 0; c < C; c++)
        for (int d = 0; d < C; d++) {
            double got = 0;
            for (int k = 0; k < M; k++)
                got += q[c * M + k] * q[d * M + k];
            worst = fmax(worst, fabs(got - ((c == d) - 1.0 / C)));
        }
    check_within("Q Q^T against I - 11^T / C", worst, 1e-15);
}

typedef struct answer {
    la_prediction p;
    double probs[C], map[C], logits[C], cov[C * C];
} answer;

static answer predict(la_predictive kind, int64_t n, const float *logits, const double *cov,
                      int64_t samples, uint64_t seed, uint64_t stream) {
    double basis[C * M];
    double *workspace = calloc((size_t)la_predict_workspace(n), sizeof *workspace);
    answer a = {.p = {0}};
    a.p = (la_prediction){
        .probs = a.probs, .map_probs = a.map, .logits = a.logits, .logit_cov = a.cov};
    la_contrast_basis(n, basis);
    la_predict_row(kind, n, logits, basis, cov, samples, seed, stream, NULL, workspace, &a.p);
    free(workspace);
    return a;
}

/* two classes: E sigmoid(z) by the trapezoid rule over 16 deviations */
static double sigmoid_mean(double mean, double variance) {
    double sum = 0, weight = 0;
    for (int i = -4000; i <= 4000; i++) {
        double x = i * 0.002, w = exp(-0.5 * x * x);
        sum += w / (1 + exp(-(mean + sqrt(variance) * x)));
        weight += w;
    }
    return sum / weight;
}

static void monte_carlo_against_quadrature(void **state) {
    (void)state;
    enum { SAMPLES = 400000 };
    const float logits[2] = {1.7f, -0.4f};
    /* one contrast with basis (1, -1) / sqrt 2: the logit difference has variance 2 cov */
    const double cov[1] = {6.5};
    answer a = predict(LA_PREDICT_MC, 2, logits, cov, SAMPLES, 3, 99);
    double want = sigmoid_mean(2.1, 13);
    check_within("mean of softmax", fabs(a.probs[0] - want), 4 * 0.5 / sqrt(SAMPLES));
    assert_true(a.p.mutual_information > 0 && a.p.mutual_information < a.p.entropy);
    assert_true(fabs(a.probs[0] + a.probs[1] - 1) < 1e-12);
    assert_true(fabs(a.cov[0] - 3.25) < 1e-12 && fabs(a.cov[1] + 3.25) < 1e-12);
    /* probit is the well-known approximation of the same */
    answer probit = predict(LA_PREDICT_PROBIT, 2, logits, cov, 0, 0, 0);
    check_within("probit against quadrature", fabs(probit.probs[0] - want), 0.0043);
    assert_true(isnan(probit.p.mutual_information));
}

/* no variance: every predictive is the MAP softmax */
static void no_variance(void **state) {
    (void)state;
    const float logits[C] = {0.3f, -1, 2, 0.1f, 0};
    const double cov[M * M] = {0};
    answer map = predict(LA_PREDICT_MAP, C, logits, NULL, 0, 0, 0);
    for (int kind = LA_PREDICT_MC; kind <= LA_PREDICT_PROBIT; kind++) {
        answer a = predict((la_predictive)kind, C, logits, cov, 50, 1, 2);
        for (int c = 0; c < C; c++)
            assert_true(fabs(a.probs[c] - map.map[c]) < 1e-14);
        assert_int_equal(a.p.prediction, 2);
    }
    /* the bridge has the softmax as its limit for two classes only */
    answer two = predict(LA_PREDICT_BRIDGE, 2, logits, cov, 0, 0, 0);
    assert_true(fabs(two.probs[0] - two.map[0]) < 1e-14);
    assert_true(map.p.mutual_information == 0);
    assert_true(map.p.confidence == map.map[2]);
}

/* variance only ever takes confidence away here, and a rank-deficient covariance is no error */
static void variance_lowers_confidence(void **state) {
    (void)state;
    const float logits[C] = {4, 0, 0, -1, 1};
    double cov[M * M] = {0}, before = 1;
    for (int step = 0; step < 5; step++) {
        cov[0] = cov[M + 1] = 3 * step; /* two of four directions */
        cov[1] = cov[M] = 2.9 * step;
        for (int kind = LA_PREDICT_MC; kind <= LA_PREDICT_PROBIT; kind++) {
            answer a = predict((la_predictive)kind, C, logits, cov, 20000, 5, 6);
            double sum = 0;
            for (int c = 0; c < C; c++) {
                assert_true(a.probs[c] >= 0 && isfinite(a.probs[c]));
                sum += a.probs[c];
            }
            assert_true(fabs(sum - 1) < 1e-12);
            if (kind == LA_PREDICT_MC) {
                assert_true(a.p.confidence < before + 1e-12);
                before = a.p.confidence;
            }
        }
    }
}

/* The bridge's mutual information against sums over Dirichlet draws would need gamma variates; its
 * parts are checked: it lies between 0 and the entropy, and grows with the variance. */
static void bridge_information(void **state) {
    (void)state;
    const float logits[C] = {1, 0.5f, 0, -0.5f, -1};
    double before = 0;
    for (int step = 1; step < 6; step++) {
        double cov[M * M] = {0};
        for (int k = 0; k < M; k++)
            cov[k * M + k] = 0.1 * step;
        answer a = predict(LA_PREDICT_BRIDGE, C, logits, cov, 0, 0, 0);
        assert_true(a.p.mutual_information > before);
        assert_true(a.p.mutual_information < a.p.entropy);
        before = a.p.mutual_information;
    }
}

static void same_draw_same_bytes(void **state) {
    (void)state;
    const float logits[C] = {1, 0.5f, 0, -0.5f, -1};
    double cov[M * M] = {0};
    for (int k = 0; k < M; k++)
        cov[k * M + k] = 2;
    answer a = predict(LA_PREDICT_MC, C, logits, cov, 100, 7, 8);
    answer b = predict(LA_PREDICT_MC, C, logits, cov, 100, 7, 8);
    answer other_seed = predict(LA_PREDICT_MC, C, logits, cov, 100, 8, 8);
    answer other_row = predict(LA_PREDICT_MC, C, logits, cov, 100, 7, 9);
    assert_memory_equal(a.probs, b.probs, sizeof a.probs);
    assert_memory_not_equal(a.probs, other_seed.probs, sizeof a.probs);
    assert_memory_not_equal(a.probs, other_row.probs, sizeof a.probs);
}

/* moments, and that a draw does not depend on where reading starts */
static void normal_numbers(void **state) {
    (void)state;
    enum { N = 200000 };
    double *x = calloc(N, sizeof *x), part[37], mean = 0, square = 0, fourth = 0;
    la_random_normal(1, 2, 0, N, x);
    la_random_normal(1, 2, 1003, 37, part);
    assert_memory_equal(part, x + 1003, sizeof part);
    for (int i = 0; i < N; i++) {
        mean += x[i] / N;
        square += x[i] * x[i] / N;
        fourth += x[i] * x[i] * x[i] * x[i] / N;
    }
    /* four standard errors: 1 / sqrt N, sqrt(2 / N), sqrt(96 / N) */
    check_within("mean", fabs(mean), 4 / sqrt(N));
    check_within("variance", fabs(square - 1), 4 * sqrt(2.0 / N));
    check_within("fourth moment", fabs(fourth - 3), 4 * sqrt(96.0 / N));
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(la_random_below(3, 4, i, 7) < 7);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fisher_factor),
        cmocka_unit_test(contrasts),
        cmocka_unit_test(monte_carlo_against_quadrature),
        cmocka_unit_test(no_variance),
        cmocka_unit_test(variance_lowers_confidence),
        cmocka_unit_test(bridge_information),
        cmocka_unit_test(same_draw_same_bytes),
        cmocka_unit_test(normal_numbers),
    };
    return cmocka_run_group_tests_name("predictive", tests, NULL, NULL);
}
