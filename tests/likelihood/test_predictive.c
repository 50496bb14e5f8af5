/* From Gaussian logits to probabilities: factors of the softmax Fisher, contrasts, Monte Carlo
 * against quadrature, the closed forms, and the random numbers under them. */
#include "base/random.h"
#include "likelihood/answer.h"
#include "likelihood/likelihood.h"
#include "output/row_kind.h"
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
        la_softmax_likelihood.fisher_factor(C, logits[n], s);
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
    la_softmax_likelihood.contrast_basis(C, q);
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
    double probs[C], map[C], logits[C], cov[C * C], variance[C];
} answer;

/* *a is filled in place: its prediction points into it */
static void predict_into(answer *a, const la_predictive_kind *kind, int64_t n, const float *logits,
                         const double *cov, int64_t samples, uint64_t seed, uint64_t stream,
                         const double *drawn) {
    double basis[C * M];
    double *workspace = calloc((size_t)la_softmax_likelihood.workspace(n), sizeof *workspace);
    assert_non_null(workspace);
    *a = (answer){.p = {.probs = a->probs,
                        .map_probs = a->map,
                        .logits = a->logits,
                        .logit_cov = a->cov,
                        .variance = a->variance}};
    la_softmax_likelihood.contrast_basis(n, basis);
    la_answer_row row = {.outputs = logits,
                         .basis = basis,
                         .cov = cov,
                         .means = drawn,
                         .samples = samples,
                         .seed = seed,
                         .stream = stream};
    la_softmax_likelihood.predict(kind, n, &row, workspace, &a->p);
    free(workspace);
}

static answer predict(const la_predictive_kind *kind, int64_t n, const float *logits,
                      const double *cov, int64_t samples, uint64_t seed, uint64_t stream) {
    answer a;
    predict_into(&a, kind, n, logits, cov, samples, seed, stream, NULL);
    return a;
}

/* two classes: E (sigmoid(z) - about)^power by the trapezoid rule over 16 deviations */
static double sigmoid_moment(double mean, double variance, double about, int power) {
    double sum = 0, weight = 0;
    for (int i = -4000; i <= 4000; i++) {
        double x = i * 0.002, w = exp(-0.5 * x * x);
        sum += w * pow(1 / (1 + exp(-(mean + sqrt(variance) * x))) - about, power);
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
    answer a = predict(&la_predictive_mc, 2, logits, cov, SAMPLES, 3, 99);
    double want = sigmoid_moment(2.1, 13, 0, 1), variance = sigmoid_moment(2.1, 13, want, 2);
    check_within("mean of softmax", fabs(a.probs[0] - want), 4 * 0.5 / sqrt(SAMPLES));
    double fourth = sigmoid_moment(2.1, 13, want, 4);
    check_within("variance of softmax", fabs(a.variance[0] - variance),
                 4 * sqrt((fourth - variance * variance) / SAMPLES));
    assert_true(fabs(a.variance[0] - a.variance[1]) < 1e-14);
    assert_true(a.p.mutual_information > 0 && a.p.mutual_information < a.p.entropy);
    assert_true(fabs(a.probs[0] + a.probs[1] - 1) < 1e-12);
    assert_true(fabs(a.cov[0] - 3.25) < 1e-12 && fabs(a.cov[1] + 3.25) < 1e-12);
    /* probit is the well-known approximation of the same */
    answer probit = predict(&la_predictive_probit, 2, logits, cov, 0, 0, 0);
    check_within("probit against quadrature", fabs(probit.probs[0] - want), 0.0043);
    assert_true(isnan(probit.p.mutual_information));
    assert_true(isnan(probit.variance[0]) && isnan(probit.variance[1]));
}

/* Variance and mutual information under closed forms are those of the Gaussian's draws: byte for
 * byte those of Monte Carlo, drawn here or elsewhere, while the probabilities are those without
 * draws. */
static void closed_forms_spread(void **state) {
    (void)state;
    static const la_predictive_kind *const kinds[] = {&la_predictive_probit, &la_predictive_scalar};
    const float logits[C] = {0.3f, 2, -1, 1.5f, 0};
    double cov[M * M] = {0}, means[2 * C + 1];
    for (int k = 0; k < M; k++)
        cov[k * M + k] = 0.5 + k;
    cov[1] = cov[M] = 0.4;
    answer mc = predict(&la_predictive_mc, C, logits, cov, 60, 3, 99);
    assert_true(mc.p.mutual_information > 0.05 && mc.variance[1] > 0.01);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        answer a = predict(kinds[k], C, logits, cov, 60, 3, 99);
        answer closed = predict(kinds[k], C, logits, cov, 0, 0, 0);
        assert_true(a.p.mutual_information == mc.p.mutual_information);
        assert_memory_equal(a.variance, mc.variance, sizeof a.variance);
        assert_memory_equal(a.probs, closed.probs, sizeof a.probs);
        assert_memory_not_equal(a.probs, mc.probs, sizeof a.probs);
        assert_true(isnan(closed.p.mutual_information) && isnan(closed.variance[C - 1]));
        for (int c = 0; c <= 2 * C; c++)
            means[c] = 0;
        means[0] = 1; /* means of draws that are all sure of class 0 */
        answer given;
        predict_into(&given, kinds[k], C, logits, cov, 60, 3, 99, means);
        assert_true(given.p.mutual_information == 0);
        assert_memory_equal(given.probs, closed.probs, sizeof a.probs);
    }
}

static void softmax_long(const double *f, long double *p) {
    long double top = f[0], sum = 0;
    for (int c = 1; c < C; c++)
        top = fmaxl(top, f[c]);
    for (int c = 0; c < C; c++)
        sum += p[c] = expl(f[c] - top);
    for (int c = 0; c < C; c++)
        p[c] /= sum;
}

/* Variance from the same draws: in two passes, and from means as a device gives them (ops.h,
 * monte_carlo). Posteriors from too narrow for E p^2 - (E p)^2 to saturated. */
static void variance_of_the_draws(void **state) {
    (void)state;
    enum { SAMPLES = 500, SEED = 4, STREAM = 11 };
    static const struct {
        double scale, limit; /* scale of the covariance; limit of the relative deviation */
    } cases[] = {{1e-16, 4e-8}, {1e-6, 4e-13}, {1, 8e-15}, {400, 5e-14}};
    const float logits[C] = {1, 0.5f, 0, -0.5f, 3};
    long double(*p)[C] = calloc(SAMPLES, sizeof *p);
    assert_non_null(p);
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        double cov[M * M], basis[C * M], workspace[M * M], centre[C], spread[C * M], z[M], f[C];
        double drawn[2 * C + 1] = {0}, worst = 0, worst_drawn = 0;
        long double map[C], mean[C] = {0}, variance[C] = {0};
        for (int k = 0; k < M; k++)
            for (int l = 0; l < M; l++)
                cov[k * M + l] = cases[n].scale * (k == l ? 1 + k : 0.3);
        la_softmax_likelihood.contrast_basis(C, basis);
        la_draw_gaussian(C, logits, basis, cov, workspace, centre, spread);
        softmax_long(centre, map);
        for (int s = 0; s < SAMPLES; s++) {
            la_random_normal(SEED, STREAM, (uint64_t)(s / 2 * M), M, z);
            for (int k = 0; k < M && s % 2; k++)
                z[k] = -z[k];
            for (int c = 0; c < C; c++) {
                f[c] = centre[c];
                for (int k = 0; k < M; k++)
                    f[c] += spread[c * M + k] * z[k];
            }
            softmax_long(f, p[s]);
            for (int c = 0; c < C; c++) {
                long double moved = p[s][c] - map[c];
                mean[c] += p[s][c] / SAMPLES;
                drawn[c] += (double)(p[s][c] / SAMPLES);
                drawn[C] -= (double)(p[s][c] > 0 ? p[s][c] * logl(p[s][c]) / SAMPLES : 0);
                drawn[C + 1 + c] += (double)(moved * moved / SAMPLES);
            }
        }
        for (int s = 0; s < SAMPLES; s++)
            for (int c = 0; c < C; c++)
                variance[c] += (p[s][c] - mean[c]) * (p[s][c] - mean[c]) / SAMPLES;
        answer own, given;
        predict_into(&own, &la_predictive_mc, C, logits, cov, SAMPLES, SEED, STREAM, NULL);
        predict_into(&given, &la_predictive_mc, C, logits, cov, SAMPLES, SEED, STREAM, drawn);
        for (int c = 0; c < C; c++) {
            worst = fmax(worst, relative(own.variance[c], (double)variance[c], 1e-300));
            worst_drawn =
                fmax(worst_drawn, relative(given.variance[c], (double)variance[c], 1e-300));
        }
        print_message("    covariance times %g\n", cases[n].scale);
        check_within("variance against two passes, relative", worst, cases[n].limit);
        check_within("likewise, drawn elsewhere", worst_drawn, cases[n].limit);
    }
    free(p);
}

/* Other random numbers, another root of the covariance. */
static void variance_of_other_draws(void **state) {
    (void)state;
    enum { SAMPLES = 200000 };
    const float logits[C] = {1, 0.5f, 0, -0.5f, 2};
    const double root[M * M] = {1, -1, 0.5, 0, 0.2, 0.7, 0, 1, 0, -0.3, 1.2, 0.4, 2, 0, 0, -0.8};
    double cov[M * M], basis[C * M], z[M], f[C], sum[C] = {0}, square[C] = {0}, fourth[C] = {0};
    double worst = 0;
    for (int k = 0; k < M; k++)
        for (int l = 0; l < M; l++) {
            cov[k * M + l] = 0;
            for (int i = 0; i < M; i++)
                cov[k * M + l] += root[k * M + i] * root[l * M + i];
        }
    answer a = predict(&la_predictive_mc, C, logits, cov, SAMPLES, 3, 5);
    la_softmax_likelihood.contrast_basis(C, basis);
    for (int s = 0; s < SAMPLES; s++) {
        long double p[C];
        la_random_normal(1003, 5, (uint64_t)(s * M), M, z);
        for (int c = 0; c < C; c++) {
            f[c] = (double)logits[c];
            for (int k = 0; k < M; k++)
                for (int i = 0; i < M; i++)
                    f[c] += basis[c * M + k] * root[k * M + i] * z[i];
        }
        softmax_long(f, p);
        for (int c = 0; c < C; c++) {
            double moved = (double)p[c] - a.probs[c];
            sum[c] += moved / SAMPLES;
            square[c] += moved * moved / SAMPLES;
            fourth[c] += moved * moved * moved * moved / SAMPLES;
        }
    }
    for (int c = 0; c < C; c++) {
        /* both sides are drawn */
        double error = sqrt(2 * (fourth[c] - square[c] * square[c]) / SAMPLES);
        worst = fmax(worst, fabs(a.variance[c] - (square[c] - sum[c] * sum[c])) / error);
    }
    check_within("variance against other draws, standard errors", worst, 4);
}

/* no variance: every predictive is the MAP softmax */
static void no_variance(void **state) {
    (void)state;
    const float logits[C] = {0.3f, -1, 2, 0.1f, 0};
    const double cov[M * M] = {0};
    answer map = predict(&la_predictive_map, C, logits, NULL, 0, 0, 0);
    for (int k = 0; k < 2; k++) {
        const la_predictive_kind *kind = k ? &la_predictive_probit : &la_predictive_mc;
        answer a = predict(kind, C, logits, cov, 50, 1, 2);
        for (int c = 0; c < C; c++)
            assert_true(fabs(a.probs[c] - map.map[c]) < 1e-14);
        assert_true(kind != &la_predictive_mc || (a.variance[2] >= 0 && a.variance[2] < 1e-28));
        assert_int_equal(a.p.prediction, 2);
    }
    answer scalar = predict(&la_predictive_scalar, C, logits, cov, 0, 0, 0);
    for (int c = 0; c < C; c++)
        assert_true(fabs(scalar.probs[c] - map.map[c]) < 1e-14);
    /* the bridge has the softmax as its limit for two classes only */
    answer two = predict(&la_predictive_bridge, 2, logits, cov, 0, 0, 0);
    assert_true(fabs(two.probs[0] - two.map[0]) < 1e-14);
    assert_true(map.p.mutual_information == 0);
    for (int c = 0; c < C; c++)
        assert_true(map.variance[c] == 0);
    assert_true(map.p.confidence == map.map[2]);
}

/* A covariance of the contrasts, G G^T of normal numbers times scale. */
static void random_covariance(uint64_t stream, double scale, double cov[M * M]) {
    double g[M * M];
    la_random_normal(21, stream, 0, M * M, g);
    for (int k = 0; k < M; k++)
        for (int l = 0; l < M; l++) {
            cov[k * M + l] = 0;
            for (int i = 0; i < M; i++)
                cov[k * M + l] += scale * g[k * M + i] * g[l * M + i];
        }
}

static void random_logits(uint64_t stream, double scale, float logits[C]) {
    double f[C];
    la_random_normal(22, stream, 0, C, f);
    for (int c = 0; c < C; c++)
        logits[c] = (float)(scale * f[c]);
}

/* With two classes MacKay's: sigmoid(mean / sqrt(1 + pi/8 variance)). */
static void scalar_of_two(void **state) {
    (void)state;
    double worst = 0;
    for (int i = 0; i < 50; i++) {
        float logits[2] = {(float)(0.3 * (i % 11) - 1), (float)(0.2 * (i % 7))};
        double cov[1] = {0.01 * pow(1.25, i)}, mean = (double)logits[0] - (double)logits[1];
        answer a = predict(&la_predictive_scalar, 2, logits, cov, 0, 0, 0);
        answer pairs = predict(&la_predictive_probit, 2, logits, cov, 0, 0, 0);
        double want = 1 / (1 + exp(-mean / sqrt(1 + M_PI / 8 * 2 * cov[0])));
        worst = fmax(worst, fabs(a.probs[0] - want));
        worst = fmax(worst, fabs(a.probs[0] + a.probs[1] - 1));
        worst = fmax(worst, fabs(a.probs[0] - pairs.probs[0]));
    }
    check_within("scalar probit of two classes", worst, 4e-16);
}

/* One division for all logits: by the root of 1 + pi/8 of the mean variance between two classes, so
 * that the classes keep their order. */
static void scalar_keeps_the_order(void **state) {
    (void)state;
    double worst = 0;
    int moved = 0;
    for (uint64_t i = 0; i < 200; i++) {
        float logits[C];
        double cov[M * M], pairs = 0, sum = 0, f[C];
        random_logits(i, 2, logits);
        random_covariance(i, pow(10, -2 + 0.02 * (double)i), cov);
        answer a = predict(&la_predictive_scalar, C, logits, cov, 0, 0, 0);
        answer map = predict(&la_predictive_map, C, logits, NULL, 0, 0, 0);
        answer wide = predict(&la_predictive_probit, C, logits, cov, 0, 0, 0);
        assert_int_equal(a.p.prediction, map.p.prediction);
        moved += wide.p.prediction != map.p.prediction;
        for (int c = 0; c < C; c++)
            for (int d = 0; d < c; d++) {
                assert_true((a.probs[c] < a.probs[d]) == (map.probs[c] < map.probs[d]));
                pairs += a.cov[c * C + c] + a.cov[d * C + d] - 2 * a.cov[c * C + d];
            }
        for (int c = 0; c < C; c++)
            sum += f[c] = exp((double)logits[c] / sqrt(1 + M_PI / 8 * pairs / (C * M / 2)));
        for (int c = 0; c < C; c++)
            worst = fmax(worst, fabs(a.probs[c] - f[c] / sum));
        assert_true(a.p.confidence == a.probs[map.p.prediction] &&
                    a.p.confidence < map.p.confidence);
        assert_true(isnan(a.p.mutual_information) && isnan(a.variance[0]));
    }
    check_within("scalar probit of five classes", worst, 8e-16);
    /* the pair by pair probit does not keep them */
    assert_true(moved > 5);
}

/* logits / T and cov / T^2, then put back: the row says what it says without T, the probabilities
 * are those of the divided ones. */
static void temperature_is_put_back(void **state) {
    (void)state;
    static const la_predictive_kind *const kinds[] = {&la_predictive_mc, &la_predictive_probit,
                                                      &la_predictive_bridge, &la_predictive_scalar,
                                                      &la_predictive_temperature};
    double worst = 0;
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        for (uint64_t i = 0; i < 20; i++) {
            float logits[C], divided[C];
            double cov[M * M], smaller[M * M], t = 0.2 + 0.3 * (double)i;
            random_logits(i, 3, logits);
            random_covariance(i, 1, cov);
            for (int c = 0; c < C; c++)
                divided[c] = (float)((double)logits[c] / t);
            for (int k = 0; k < M * M; k++)
                smaller[k] = cov[k] / (t * t);
            answer a, untouched;
            predict_into(&a, kinds[kind], C, divided, smaller, 20, 1, 2, NULL);
            predict_into(&untouched, kinds[kind], C, divided, smaller, 20, 1, 2, NULL);
            answer raw = predict(kinds[kind], C, logits, cov, 20, 1, 2);
            la_softmax_likelihood.restore(C, logits, t, NULL, NULL, &a.p);
            assert_memory_equal(a.probs, untouched.probs, sizeof a.probs);
            assert_memory_equal(a.variance, untouched.variance, sizeof a.variance);
            assert_true(a.p.prediction == untouched.p.prediction &&
                        a.p.confidence == untouched.p.confidence);
            assert_memory_not_equal(a.probs, raw.probs, sizeof a.probs);
            for (int c = 0; c < C; c++) {
                assert_true(a.logits[c] == (double)logits[c]);
                worst = fmax(worst, fabs(a.map[c] - raw.map[c]));
                for (int d = 0; d < C; d++)
                    worst = fmax(worst, relative(a.cov[c * C + d], raw.cov[c * C + d], 1));
            }
            if (kinds[kind] == &la_predictive_temperature)
                assert_memory_equal(a.probs, untouched.map, sizeof a.probs);
        }
    check_within("map_probs and logit_cov put back", worst, 2e-15);
}

/* A recipe with weights answers as one without on the mapped outputs and their covariance, computed
 * over classes; what it says of the model is of the outputs as they are. */
static void weights_are_a_map_of_the_outputs(void **state) {
    (void)state;
    static const double weight[C] = {1.5, 0.5, -0.25, 2, 1.25}, bias[C] = {0.5, -1, 0.25, 0, 0.25};
    double basis[C * M], worst = 0, of_model = 0;
    la_softmax_likelihood.contrast_basis(C, basis);
    for (const la_predictive_kind *const *kind = la_class_predictives; *kind; kind++) {
        if ((*kind)->networks)
            continue;
        for (uint64_t i = 0; i < 20; i++) {
            float logits[C], moved[C];
            double cov[M * M], full[C * C], map[C * M], mapped[M * M], mean = 0, scale = 1;
            random_logits(i, 3, logits);
            random_covariance(i, 1, cov);
            for (int c = 0; c < C; c++)
                mean += (double)logits[c] / C;
            for (int c = 0; c < C; c++)
                moved[c] = (float)(weight[c] * ((double)logits[c] - mean) + bias[c]);
            /* map = diag(weight) basis; mapped = basis^T map cov map^T basis */
            for (int k = 0; k < C * M; k++)
                map[k] = weight[k / M] * basis[k];
            memset(full, 0, sizeof full);
            memset(mapped, 0, sizeof mapped);
            for (int e = 0; e < C * C * M * M; e++) {
                int c = e / (C * M * M), d = e / (M * M) % C, k = e / M % M, l = e % M;
                full[c * C + d] += map[c * M + k] * cov[k * M + l] * map[d * M + l];
            }
            for (int e = 0; e < C * C * M * M; e++) {
                int c = e / (C * M * M), d = e / (M * M) % C, k = e / M % M, l = e % M;
                mapped[k * M + l] += basis[c * M + k] * full[c * C + d] * basis[d * M + l];
            }
            double t = 0.5 + 0.1 * (double)i;
            la_recipe weighed = {.kind = *kind,
                                 .prior_scale = 1,
                                 .temperature = t,
                                 .weight = 1,
                                 .class_weight = weight,
                                 .bias = bias};
            la_recipe plain = {.kind = *kind, .prior_scale = 1, .temperature = t, .weight = 1};
            la_output_rows rows = {
                .n = 1, .n_outputs = C, .n_scales = 1, .scales = &scale, .streams = &i};
            la_draw_options draws = {.samples = 40};
            double memory[3][4 * C + C * C];
            la_prediction got = la_prediction_at(C, memory[0]);
            la_prediction want = la_prediction_at(C, memory[1]);
            la_prediction raw = la_prediction_at(C, memory[2]);
            la_error err = {0};
            rows.outputs = logits, rows.cov = cov;
            assert_int_equal(la_answer_rows(&la_softmax_likelihood, &weighed, 1, &rows, &draws,
                                            la_team_of(1), &got, &err),
                             LA_OK);
            assert_int_equal(la_answer_rows(&la_softmax_likelihood, &plain, 1, &rows, &draws,
                                            la_team_of(1), &raw, &err),
                             LA_OK);
            rows.outputs = moved, rows.cov = mapped;
            assert_int_equal(la_answer_rows(&la_softmax_likelihood, &plain, 1, &rows, &draws,
                                            la_team_of(1), &want, &err),
                             LA_OK);
            for (int c = 0; c < C; c++) {
                worst = fmax(worst, fabs(got.probs[c] - want.probs[c]));
                assert_true(got.logits[c] == (double)logits[c]);
                of_model = fmax(of_model, fabs(got.map_probs[c] - raw.map_probs[c]));
                for (int d = 0; d < C; d++)
                    of_model = fmax(
                        of_model, relative(got.logit_cov[c * C + d], raw.logit_cov[c * C + d], 1));
            }
            assert_true(got.prediction == want.prediction);
        }
    }
    check_within("probabilities of mapped outputs", worst, 4e-7);
    check_within("map_probs and logit_cov as they are", of_model, 2e-15);
}

/* Draws come in pairs z, -z: with two classes the mean of a pair is on the MAP model's side, so
 * that the answer stays however few there are (until all of them round to 0 and 1). */
static void pairs_keep_the_answer_of_two(void **state) {
    (void)state;
    static const int64_t samples[] = {2, 4, 10, 50};
    int lost = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        const float logits[2] = {0, (float)((i % 2 ? 1 : -1) * pow(10, -2 + 0.001 * (double)i))};
        const double cov[1] = {pow(10, -1 + 2 * (double)(i % 97) / 96)};
        for (int s = 0; s < 4; s++) {
            answer a = predict(&la_predictive_mc, 2, logits, cov, samples[s], 3, i);
            assert_int_equal(a.p.prediction, i % 2);
            assert_true(a.p.confidence <= a.map[i % 2]);
        }
        /* a draw alone does not */
        lost += predict(&la_predictive_mc, 2, logits, cov, 1, 3, i).p.prediction != (int)(i % 2);
    }
    assert_true(lost > 200);
}

/* variance only ever takes confidence away here, and a rank-deficient covariance is no error */
static void variance_lowers_confidence(void **state) {
    (void)state;
    const float logits[C] = {4, 0, 0, -1, 1};
    double cov[M * M] = {0}, before = 1;
    for (int step = 0; step < 5; step++) {
        cov[0] = cov[M + 1] = 3 * step; /* two of four directions */
        cov[1] = cov[M] = 2.9 * step;
        for (int k = 0; k < 2; k++) {
            const la_predictive_kind *kind = k ? &la_predictive_probit : &la_predictive_mc;
            answer a = predict(kind, C, logits, cov, 20000, 5, 6);
            double sum = 0;
            for (int c = 0; c < C; c++) {
                assert_true(a.probs[c] >= 0 && isfinite(a.probs[c]));
                sum += a.probs[c];
            }
            assert_true(fabs(sum - 1) < 1e-12);
            if (kind == &la_predictive_mc) {
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
        answer a = predict(&la_predictive_bridge, C, logits, cov, 0, 0, 0);
        assert_true(a.p.mutual_information > before);
        assert_true(a.p.mutual_information < a.p.entropy);
        before = a.p.mutual_information;
    }
}

/* The bridge's mean and variance against the Beta distribution that each class has under the
 * Dirichlet, by the trapezoid rule over t with x = 1 / (1 + exp(-t)). */
static void bridge_variance(void **state) {
    (void)state;
    const float logits[C] = {1, 0.5f, 0, -0.5f, -3};
    double worst = 0, worst_mean = 0;
    for (int step = 1; step < 6; step++) {
        double cov[M * M] = {0}, alpha[C], total = 0, mean = 0;
        for (int k = 0; k < M; k++)
            cov[k * M + k] = 0.2 * step * (1 + k);
        answer a = predict(&la_predictive_bridge, C, logits, cov, 0, 0, 0);
        for (int c = 0; c < C; c++)
            mean += (double)logits[c] / C;
        for (int c = 0; c < C; c++) {
            double sum = 0;
            for (int d = 0; d < C; d++)
                sum += exp((double)logits[c] - mean) * exp(mean - (double)logits[d]);
            total += alpha[c] = (1 - 2.0 / C + sum / (C * C)) / a.cov[c * C + c];
        }
        for (int c = 0; c < C; c++) {
            /* moments of x about the answer's mean, weights x^alpha (1 - x)^(total - alpha) dt */
            double first = 0, second = 0, weight = 0;
            for (int i = -15000; i <= 15000; i++) {
                double t = i * 0.02, moved = 1 / (1 + exp(-t)) - a.probs[c];
                double w = exp(-alpha[c] * log1p(exp(-t)) - (total - alpha[c]) * log1p(exp(t)));
                weight += w;
                first += w * moved;
                second += w * moved * moved;
            }
            first /= weight;
            worst_mean = fmax(worst_mean, fabs(first));
            worst = fmax(worst, relative(a.variance[c], second / weight - first * first, 1e-300));
        }
    }
    check_within("bridge's probabilities against quadrature", worst_mean, 1e-14);
    check_within("bridge's variance against quadrature, relative", worst, 1e-13);
}

/* Output of `variance`: a list of finite numbers, or null, in JSON that parses (NaN does not). */
static void variance_in_rows(void **state) {
    (void)state;
    const float usual[C] = {0.3f, -1, 2, 0.1f, 0}, extreme[C] = {80, -80, 0, 79, -300};
    for (int number = 0; number < 4; number++)
        for (int step = 0; step < 4; step++) {
            const la_predictive_kind *kind = la_class_predictives[number];
            double cov[M * M] = {0};
            for (int k = 0; k < M; k++)
                cov[k * M + k] = step == 0 ? 0 : pow(100, step - 2);
            answer a;
            int64_t samples = kind == &la_predictive_probit && step < 2 ? 0 : 100;
            predict_into(&a, kind, C, step == 3 ? extreme : usual, cov, samples, 1, 2, NULL);
            la_row_shape shape = {.kind = &la_softmax_rows,
                                  .n_classes = C,
                                  .confidence_kind = "k",
                                  .emit_logits = true,
                                  .emit_cov = true};
            la_prediction_row row = {.shape = &shape, .label.class = -1, .prediction = &a.p};
            char *text;
            size_t length;
            la_error err = {0};
            FILE *stream = open_memstream(&text, &length);
            assert_non_null(stream);
            if (la_prediction_write(&la_row_format_jsonl, stream, &row, &err) != LA_OK)
                fail_msg("%s", err.message);
            fclose(stream);
            json_t *read = json_loadb(text, length, 0, NULL);
            if (!read)
                fail_msg("no JSON: %s", text);
            const json_t *variance = json_object_get(read, "variance");
            if (samples == 0) {
                assert_true(json_is_null(variance));
            } else {
                assert_int_equal(json_array_size(variance), C);
                for (size_t c = 0; c < C; c++) {
                    double value = json_number_value(json_array_get(variance, c));
                    assert_true(value >= 0 && value <= 0.25);
                    assert_true(relative(value, a.variance[c], 1e-300) < 1e-9);
                }
            }
            json_decref(read);
            free(text);
        }
}

static void same_draw_same_bytes(void **state) {
    (void)state;
    const float logits[C] = {1, 0.5f, 0, -0.5f, -1};
    double cov[M * M] = {0};
    for (int k = 0; k < M; k++)
        cov[k * M + k] = 2;
    answer a = predict(&la_predictive_mc, C, logits, cov, 100, 7, 8);
    answer b = predict(&la_predictive_mc, C, logits, cov, 100, 7, 8);
    answer other_seed = predict(&la_predictive_mc, C, logits, cov, 100, 8, 8);
    answer other_row = predict(&la_predictive_mc, C, logits, cov, 100, 7, 9);
    assert_memory_equal(a.probs, b.probs, sizeof a.probs);
    assert_memory_equal(a.variance, b.variance, sizeof a.variance);
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

/* A recipe's prior is one of those that the rows have a covariance under. */
static void a_scale_that_is_not_there(void **state) {
    static const double scales[] = {1, 10, 0.5};
    const float logits[2] = {1, 0};
    const double cov[3] = {1, 2, 4};
    la_recipe recipe = {
        .kind = &la_predictive_probit, .prior_scale = 0.5, .temperature = 1, .weight = 1};
    la_output_rows rows = {
        .n = 1, .n_outputs = 2, .n_scales = 3, .outputs = logits, .scales = scales, .cov = cov};
    la_draw_options draws = {0};
    double probs[2];
    la_prediction out = {.probs = probs};
    la_error err = {0};
    (void)state;
#define ANSWER()                                                                                   \
    la_answer_rows(&la_softmax_likelihood, &recipe, 1, &rows, &draws, la_team_of(1), &out, &err)
    assert_int_equal(ANSWER(), LA_OK);
    answer want = predict(&la_predictive_probit, 2, logits, cov + 2, 0, 0, 0);
    assert_memory_equal(probs, want.probs, sizeof probs);
    recipe.prior_scale = 2;
    assert_int_equal(ANSWER(), LA_NUMERICAL);
    assert_non_null(strstr(err.message, "prior x 2"));
    err = (la_error){0};
    recipe.prior_scale = 1;
    rows.n_scales = 0;
    assert_int_equal(ANSWER(), LA_NUMERICAL);
#undef ANSWER
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fisher_factor),
        cmocka_unit_test(contrasts),
        cmocka_unit_test(monte_carlo_against_quadrature),
        cmocka_unit_test(closed_forms_spread),
        cmocka_unit_test(variance_of_the_draws),
        cmocka_unit_test(variance_of_other_draws),
        cmocka_unit_test(no_variance),
        cmocka_unit_test(scalar_of_two),
        cmocka_unit_test(scalar_keeps_the_order),
        cmocka_unit_test(temperature_is_put_back),
        cmocka_unit_test(weights_are_a_map_of_the_outputs),
        cmocka_unit_test(pairs_keep_the_answer_of_two),
        cmocka_unit_test(variance_lowers_confidence),
        cmocka_unit_test(bridge_information),
        cmocka_unit_test(bridge_variance),
        cmocka_unit_test(variance_in_rows),
        cmocka_unit_test(same_draw_same_bytes),
        cmocka_unit_test(a_scale_that_is_not_there),
        cmocka_unit_test(normal_numbers),
    };
    return cmocka_run_group_tests_name("predictive", tests, NULL, NULL);
}
