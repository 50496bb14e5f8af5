/* The likelihood of sets of classes: Fisher information and log likelihood against their
 * definitions, predictives a class against quadrature, draws, the mean of recipes, the choice by
 * held-out rows. */
#include "base/random.h"
#include "likelihood/selection.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { C = 4 };
static const la_likelihood *const sigmoid = &la_sigmoid_likelihood;
static const float outputs[C] = {1.5f, -0.3f, -4, 30};
static const double cov[C * C] = {2, 0.5, 0, 0.1, 0.5, 1, 0, 0, 0, 0, 3, -1, 0.1, 0, -1, 0.7};

static long double sigmoid_long(long double f) {
    return 1 / (1 + expl(-f));
}

static void by_definition(void **state) {
    const unsigned char set[C] = {1, 0, 0, 1};
    double factor[C * C], basis[C * C], worst = 0;
    long double want = 0;
    (void)state;
    assert_int_equal(sigmoid->contrasts(C), C);
    sigmoid->contrast_basis(C, basis);
    sigmoid->fisher_factor(C, outputs, factor);
    for (int c = 0; c < C; c++) {
        long double p = sigmoid_long((long double)outputs[c]),
                    q = sigmoid_long(-(long double)outputs[c]);
        want += logl(set[c] ? p : q);
        for (int d = 0; d < C; d++) {
            double sum = 0;
            for (int k = 0; k < C; k++)
                sum += factor[c * C + k] * factor[d * C + k];
            worst = fmax(worst, relative(sum, c == d ? (double)(p * q) : 0, 1e-300));
            assert_true(basis[c * C + d] == (c == d));
        }
    }
    check_within("Fisher information, relative", worst, 1e-15);
    la_label label = {.kind = LA_LABEL_SET, .set = set};
    check_within("log likelihood, relative",
                 relative(sigmoid->log_likelihood(C, outputs, label), (double)want, 0), 1e-15);
}

/* E sigmoid(f)^power about a value, f ~ N(mean, variance): the trapezoid rule over 10
 * deviations. */
static double moment(double mean, double variance, double about, int power) {
    double sum = 0, weight = 0;
    for (int i = -10000; i <= 10000; i++) {
        double x = i * 0.001, w = exp(-0.5 * x * x);
        sum += w * pow(1 / (1 + exp(-(mean + sqrt(variance) * x))) - about, power);
        weight += w;
    }
    return sum / weight;
}

typedef struct answer {
    la_prediction p;
    double memory[4 * C + C * C];
} answer;

static void predict(answer *a, const la_recipe *recipes, int64_t n, int64_t samples,
                    const double *networks) {
    static const double scales[] = {1, 4};
    static const uint64_t stream = 5;
    double both[2 * C * C];
    for (int k = 0; k < C * C; k++) {
        both[k] = cov[k];
        both[C * C + k] = cov[k] / 4;
    }
    la_output_rows rows = {.n = 1,
                           .n_outputs = C,
                           .n_scales = 2,
                           .outputs = outputs,
                           .scales = scales,
                           .cov = both,
                           .streams = &stream,
                           .networks = networks};
    la_draw_options draws = {.samples = samples, .seed = 2, .spread = true};
    la_error err = {0};
    *a = (answer){0};
    a->p = la_prediction_at(C, a->memory);
    if (la_answer_rows(sigmoid, recipes, n, &rows, &draws, la_team_of(1), &a->p, &err) != LA_OK)
        fail_msg("%s", err.message);
}

static la_recipe recipe(const la_predictive_kind *kind, double scale, double t, double weight) {
    return (la_recipe){.kind = kind, .prior_scale = scale, .temperature = t, .weight = weight};
}

/* Every class is on its own: by its variance alone. */
static void classes_against_quadrature(void **state) {
    enum { SAMPLES = 200000 };
    static const double t = 1.3;
    double worst = 0, spread = 0, closed = 0, sure = 1, entropy = 0;
    answer mc, probit, scalar, map;
    (void)state;
    la_recipe by = recipe(&la_predictive_mc, 4, t, 1);
    predict(&mc, &by, 1, SAMPLES, NULL);
    by.kind = &la_predictive_probit;
    predict(&probit, &by, 1, 0, NULL);
    by.kind = &la_predictive_scalar;
    predict(&scalar, &by, 1, 0, NULL);
    by = recipe(&la_predictive_map, 1, 1, 1);
    predict(&map, &by, 1, 0, NULL);
    for (int c = 0; c < C; c++) {
        double f = (double)outputs[c] / t, v = cov[c * (C + 1)] / 4 / (t * t);
        double want = moment(f, v, 0, 1), p = mc.p.probs[c];
        worst = fmax(worst, fabs(p - want));
        spread = fmax(spread, fabs(mc.p.variance[c] - moment(f, v, want, 2)));
        closed = fmax(closed, fabs(probit.p.probs[c] - 1 / (1 + exp(-f / sqrt(1 + M_PI / 8 * v)))));
        assert_true(fabs(scalar.p.probs[c] - probit.p.probs[c]) < 1e-15);
        assert_true(fabs(map.p.probs[c] - (double)sigmoid_long((long double)outputs[c])) < 1e-15);
        assert_true(fabs(mc.p.map_probs[c] - map.p.probs[c]) < 1e-15);
        assert_true(mc.p.logits[c] == (double)outputs[c]);
        assert_true(isnan(probit.p.variance[c]) && map.p.variance[c] == 0);
        sure *= fmax(p, 1 - p);
        entropy -= (p > 0 ? p * log(p) : 0) + (p < 1 ? (1 - p) * log(1 - p) : 0);
        for (int d = 0; d < C; d++)
            assert_true(fabs(mc.p.logit_cov[c * C + d] - cov[c * C + d] / 4) < 1e-15);
    }
    check_within("means of draws", worst, 4 * 0.5 / sqrt(SAMPLES));
    check_within("variances of draws", spread, 4 * 0.25 / sqrt(SAMPLES));
    check_within("probit", closed, 1e-7); /* outputs over T are in single precision */
    check_within("confidence", fabs(mc.p.confidence - sure), 1e-15);
    check_within("entropy", fabs(mc.p.entropy - entropy), 1e-15);
    assert_int_equal(mc.p.prediction, 2);
    assert_true(mc.p.mutual_information > 0 && mc.p.mutual_information < entropy);
    assert_true(isnan(probit.p.mutual_information) && map.p.mutual_information == 0);
}

static void networks(void **state) {
    static const float sampled[2][C] = {{1, 0, -3, 20}, {2, -1, -5, 25}};
    double sums[2 * C + 1] = {0}, workspace[2 * C], worst = 0, inner = 0, outer = 0;
    answer a;
    (void)state;
    for (int s = 0; s < 2; s++)
        sigmoid->add_network(C, sampled[s], outputs, 1, workspace, sums);
    for (int k = 0; k <= 2 * C; k++)
        sums[k] /= 2;
    la_recipe by = recipe(&la_predictive_weights, 1, 1, 1);
    predict(&a, &by, 1, 0, sums);
    for (int c = 0; c < C; c++) {
        double p = (double)sigmoid_long((long double)sampled[0][c]);
        double q = (double)sigmoid_long((long double)sampled[1][c]), mean = (p + q) / 2;
        worst = fmax(worst, fabs(a.p.probs[c] - mean));
        worst = fmax(worst, fabs(a.p.variance[c] - (p - q) * (p - q) / 4));
        inner += (la_entropy(2, (double[2]){p, 1 - p}) + la_entropy(2, (double[2]){q, 1 - q})) / 2;
        outer += la_entropy(2, (double[2]){mean, 1 - mean});
    }
    check_within("means and variances over networks", worst, 1e-15);
    check_within("mutual information", fabs(a.p.mutual_information - (outer - inner)), 1e-14);
}

static void mean_of_recipes(void **state) {
    la_recipe list[2] = {recipe(&la_predictive_probit, 1, 1, 0.25),
                         recipe(&la_predictive_temperature, 1, 2, 0.75)};
    double worst = 0;
    answer parts[2], a;
    (void)state;
    predict(&a, list, 2, 50, NULL);
    for (int k = 0; k < 2; k++)
        predict(&parts[k], &list[k], 1, 50, NULL);
    for (int c = 0; c < C; c++)
        worst = fmax(worst,
                     fabs(a.p.probs[c] - 0.25 * parts[0].p.probs[c] - 0.75 * parts[1].p.probs[c]));
    check_within("weighted mean", worst, 1e-15);
    assert_true(a.p.mutual_information > 0);
}

/* Labels drawn from a temperature of 3 find it; those of the model as it is leave it alone. */
static void choice_by_held_out_rows(void **state) {
    enum { N = 400, SCALES = LA_SELECTION_SCALES };
    float *f = calloc(N * C, sizeof *f);
    unsigned char *sets = calloc(N * C, 1);
    uint64_t *streams = calloc(N, sizeof *streams);
    double *all = calloc((size_t)SCALES * N * C * C, sizeof *all), scales[SCALES];
    la_choice choice;
    la_error err = {0};
    (void)state;
    la_selection_scales(scales);
    for (int warm = 0; warm < 2; warm++) {
        for (int64_t i = 0; i < N * C; i++) {
            double z[2], u = (double)la_random_below(4, 1, (uint64_t)i, 1 << 30) / (1 << 30);
            la_random_normal(3, 0, (uint64_t)i * 2, 2, z);
            f[i] = (float)(3 * z[0]);
            sets[i] = u < (double)sigmoid_long((long double)f[i] / (warm ? 3 : 1));
            for (int g = 0; g < SCALES; g++)
                all[(g * N + i / C) * C * C + i % C * (C + 1)] = 0.3 / scales[g];
        }
        la_held_out rows = {.n = N,
                            .n_classes = C,
                            .n_scales = SCALES,
                            .logits = f,
                            .labels = {.kind = LA_LABEL_SET, .width = C, .sets = sets},
                            .streams = streams,
                            .scales = scales,
                            .cov = all};
        if (sigmoid->select(la_team_of(2), &rows, &choice, &err) != LA_OK)
            fail_msg("%s", err.message);
        double t = choice.candidates[LA_METHOD_TEMPERATURE].temperature;
        assert_int_equal(choice.n, N);
        assert_true(warm ? t > 2.4 && t < 3.8 : t > 0.8 && t < 1.25);
        assert_int_equal(choice.method == LA_METHOD_MAP, !warm);
    }
    free(f);
    free(sets);
    free(streams);
    free(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_definition), cmocka_unit_test(classes_against_quadrature),
        cmocka_unit_test(networks), cmocka_unit_test(mean_of_recipes),
        cmocka_unit_test(choice_by_held_out_rows)};
    return cmocka_run_group_tests_name("sets of classes", tests, NULL, NULL);
}
