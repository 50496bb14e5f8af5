/* Class corrections against scipy (tests/reference/correction_reference.py), what they must not
 * depend on, and inputs that leave little to fit. */
#include "base/random.h"
#include "baselines/arrays.h"
#include "likelihood/correction.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Finite, likely, and a bias that sums to 0, and weights to C. */
static void check_fit(int64_t c, const la_correction_fit *fit) {
    const la_correction *of = &fit->correction;
    const double *weight = la_correction_weight(of);
    double sum = 0, largest = 1, sum_weights = 0, largest_weight = 1;
    assert_true(isfinite(fit->log_likelihood) && fit->log_likelihood <= 0);
    assert_true(isfinite(fit->log_occam) && fit->log_occam <= 1e-12);
    assert_true(of->temperature > 0);
    for (int64_t k = 0; k < c; k++) {
        assert_true(isfinite(of->bias[k]) && (!weight || isfinite(weight[k])));
        sum += of->bias[k];
        largest = fmax(largest, fabs(of->bias[k]));
        sum_weights += weight ? weight[k] : 1;
        largest_weight = fmax(largest_weight, weight ? fabs(weight[k]) : 1);
    }
    assert_true(fabs(sum) < 1e-14 * largest * (double)c);
    assert_true(fabs(sum_weights - (double)c) < 1e-14 * largest_weight * (double)c);
}

static void fit(int64_t n, int64_t c, const float *logits, const int64_t *labels, double start,
                la_correction_fit *fits) {
    la_error err = {0};
    if (la_corrections_fit(n, c, logits, labels, start, fits, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int s = 0; s < LA_CORRECTION_SCALES; s++) {
        check_fit(c, &fits[s]);
        assert_true(fits[s].correction.scale == la_correction_scales[s]);
        assert_true(!la_correction_weight(&fits[s].correction));
    }
}

static void fit_weights(int64_t n, int64_t c, const float *logits, const int64_t *labels,
                        const la_correction_fit *from, la_correction_fit *fits) {
    la_error err = {0};
    if (la_weights_fit(n, c, logits, labels, from, fits, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int t = 0; t < LA_CORRECTION_SPREADS; t++) {
        check_fit(c, &fits[t]);
        assert_true(fits[t].correction.scale == from->correction.scale);
        assert_true(fits[t].correction.spread == la_correction_spreads[t]);
    }
}

static void reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/correction.json")), *one, *want;
    double worst_temperature = 0, worst_bias = 0, worst_likelihood = 0, worst_occam = 0;
    double of_weights = 0, determined = 0;
    size_t i, s;
    assert_int_equal(json_array_size(cases), 12);
    json_array_foreach(cases, i, one) {
        int64_t n, c = integer_at(one, "n_classes");
        float *logits = floats(one, "logits", NULL);
        int64_t *labels = integers(one, "labels", &n);
        la_correction_fit fits[LA_CORRECTION_SCALES];
        double gap = 0;
        fit(n, c, logits, labels, 1, fits);
        json_array_foreach(json_object_get(one, "fits"), s, want) {
            const la_correction_fit *got = &fits[s];
            double *bias = doubles(want, "bias", NULL), t = number_at(want, "temperature");
            assert_true(got->correction.scale == number_at(want, "scale"));
            gap = fmax(gap, largest_gap(c, got->correction.bias, bias, 1));
            worst_temperature =
                fmax(worst_temperature, relative(got->correction.temperature, t, 0));
            worst_likelihood =
                fmax(worst_likelihood,
                     relative(got->log_likelihood, number_at(want, "log_likelihood"), 1));
            worst_occam =
                fmax(worst_occam, relative(got->log_occam, number_at(want, "log_occam"), 1));
            determined =
                fmax(determined, fabs(got->correction.determined - number_at(want, "determined")));
            free(bias);
        }
        json_array_foreach(json_object_get(one, "weights"), s, want) {
            la_correction_fit weighed[LA_CORRECTION_SPREADS];
            const la_correction_fit *got = &weighed[s % LA_CORRECTION_SPREADS];
            double *bias = doubles(want, "bias", NULL), *weight = doubles(want, "weight", NULL);
            int from = 0;
            while (la_correction_scales[from] != number_at(want, "scale"))
                from++;
            fit_weights(n, c, logits, labels, &fits[from], weighed);
            assert_true(got->correction.spread == number_at(want, "spread"));
            of_weights = fmax(of_weights, largest_gap(c, got->correction.bias, bias, 1));
            of_weights = fmax(of_weights, largest_gap(c, got->correction.weight, weight, 1));
            of_weights = fmax(of_weights, relative(got->correction.temperature,
                                                   number_at(want, "temperature"), 0));
            of_weights = fmax(of_weights,
                              relative(got->log_likelihood, number_at(want, "log_likelihood"), 1));
            of_weights =
                fmax(of_weights, relative(got->log_occam, number_at(want, "log_occam"), 1));
            determined =
                fmax(determined, fabs(got->correction.determined - number_at(want, "determined")));
            free(bias), free(weight);
        }
        print_message("    %-24s bias off by %.3g\n",
                      json_string_value(json_object_get(one, "name")), gap);
        worst_bias = fmax(worst_bias, gap);
        free(logits), free(labels);
    }
    json_decref(cases);
    check_within("temperature, relative", worst_temperature, 2.5e-13);
    check_within("bias, of max(1, value)", worst_bias, 2.3e-14);
    check_within("log likelihood, of max(1, value)", worst_likelihood, 9.5e-14);
    check_within("Occam factor, of max(1, value)", worst_occam, 3.7e-13);
    check_within("what is determined", determined, 4.5e-13);
    check_within("all numbers of weights, of max(1, value)", of_weights, 3.1e-13);
}

enum { N = 200, C = 5 };
typedef struct rows {
    float logits[N * C];
    int64_t labels[N];
} rows;

/* Logits whose softmax(2 f + b) the labels are drawn from. */
static void draw_rows(uint64_t seed, const double *b, rows *out) {
    double z[N * C];
    la_random_normal(seed, 1, 0, N * C, z);
    for (int64_t i = 0; i < N; i++) {
        double p[C], sum = 0;
        double left = (double)la_random_below(seed, 2, (uint64_t)i, 1 << 30) / (1 << 30);
        for (int64_t k = 0; k < C; k++) {
            out->logits[i * C + k] = (float)z[i * C + k];
            sum += p[k] = exp(2 * (double)out->logits[i * C + k] + b[k]);
        }
        out->labels[i] = 0;
        for (int64_t k = 0; k < C - 1 && (left -= p[k] / sum) > 0; k++)
            out->labels[i] = k + 1;
    }
}

/* Of labels drawn by weights of the outputs, the evidence has weights, which are those; of labels
 * that no weight was in it has none, or small ones. */
static void drawn_weights(void **state) {
    (void)state;
    static const double weight[C] = {2, 1.5, 0.7, 0.5, 0.3};
    int found[2] = {0};
    double off = 0;
    for (int weighs = 0; weighs < 2; weighs++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            static const double none[C] = {0};
            rows r;
            la_correction_fit fits[LA_CORRECTION_SCALES], weighed[LA_CORRECTION_SPREADS];
            int most = 0, best = 0;
            draw_rows(seed + 50, none, &r);
            for (int64_t i = 0; i < N && weighs; i++) {
                float mean = 0;
                for (int k = 0; k < C; k++)
                    mean += r.logits[i * C + k] / C;
                for (int k = 0; k < C; k++)
                    r.logits[i * C + k] = (r.logits[i * C + k] - mean) / (float)weight[k];
            }
            fit(N, C, r.logits, r.labels, 0.7, fits);
            for (int s = 0; s < LA_CORRECTION_SCALES; s++)
                most = la_correction_evidence(&fits[s]) > la_correction_evidence(&fits[most])
                           ? s
                           : most;
            fit_weights(N, C, r.logits, r.labels, &fits[most], weighed);
            for (int t = 0; t < LA_CORRECTION_SPREADS; t++)
                best = la_correction_evidence(&weighed[t]) > la_correction_evidence(&weighed[best])
                           ? t
                           : best;
            found[weighs] +=
                la_correction_evidence(&weighed[best]) > la_correction_evidence(&fits[most]) + 3;
            const double *got = weighed[best].correction.weight;
            for (int k = 0; k < C && weighs; k++)
                off += pow(log(got[k] / got[0]) - log(weight[k] / weight[0]), 2) / (20 * C);
        }
    print_message("    weights found %d times where there are some, %d where there are none\n",
                  found[1], found[0]);
    assert_true(found[1] >= 18 && found[0] <= 1);
    check_within("deviation of the weights' logarithms", sqrt(off), 0.5);
}

/* What the labels were drawn by is found, and the scale of the prior that it was drawn with. */
static void drawn_rows(void **state) {
    (void)state;
    static const double none[C] = {0}, some[C] = {2, 0.5, -0.5, -1, -1};
    for (int biased = 0; biased < 2; biased++) {
        double off = 0;
        int best[LA_CORRECTION_SCALES] = {0};
        for (uint64_t seed = 0; seed < 20; seed++) {
            rows r;
            la_correction_fit fits[LA_CORRECTION_SCALES];
            int most = 0;
            draw_rows(seed, biased ? some : none, &r);
            fit(N, C, r.logits, r.labels, 0.7, fits);
            for (int s = 0; s < LA_CORRECTION_SCALES; s++)
                if (fits[s].log_likelihood + fits[s].log_occam >
                    fits[most].log_likelihood + fits[most].log_occam)
                    most = s;
            best[most]++;
            for (int64_t k = 0; k < C; k++) {
                double gap = fits[most].correction.bias[k] - (biased ? some[k] : none[k]) / 2;
                off += gap * gap / (20 * C);
            }
        }
        print_message("    the best scale %d %d %d %d %d times\n", best[0], best[1], best[2],
                      best[3], best[4]);
        assert_true(biased ? best[2] + best[3] >= 18 : best[0] + best[1] >= 18);
        check_within("deviation of the bias", sqrt(off), 0.2);
    }
}

static void other_starts(void **state) {
    (void)state;
    static const double some[C] = {1, 0, 0, 0, -1}, starts[] = {0.01, 0.3, 3, 100};
    rows r, shifted;
    la_correction_fit want[LA_CORRECTION_SCALES], got[LA_CORRECTION_SCALES];
    double worst = 0;
    draw_rows(3, some, &r);
    fit(N, C, r.logits, r.labels, 1, want);
    shifted = r;
    for (int64_t i = 0; i < N; i++)
        for (int64_t k = 0; k < C; k++) {
            /* softmax sees no common shift; the rows in another order */
            int64_t from = (i * 37 + 5) % N;
            shifted.labels[i] = r.labels[from];
            shifted.logits[i * C + k] = r.logits[from * C + k] + 16 * (float)(i % 3);
        }
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        fit(N, C, shifted.logits, shifted.labels, starts[i], got);
        for (int s = 0; s < LA_CORRECTION_SCALES; s++) {
            worst = fmax(worst, relative(got[s].log_occam, want[s].log_occam, 1));
            worst = fmax(worst, largest_gap(C, got[s].correction.bias, want[s].correction.bias, 1));
        }
    }
    check_within("other starts, order and shifts", worst, 6e-7); /* the shift rounds f32 */
}

/* Every input has an answer. */
static void degenerate(void **state) {
    (void)state;
    static const float sizes[] = {0, 1e-20f, 1e-3f, 1, 50, 1e4f, 1e8f, 1e30f};
    static const double starts[] = {0.01, 1, 100};
    float logits[40 * 7];
    int64_t labels[40];
    int n = 0;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int c = 2; c <= 7; c++)
            for (int64_t m = 1; m <= 40; m = m * 2 + 1)
                for (int kind = 0; kind < 4; kind++) {
                    la_correction_fit fits[LA_CORRECTION_SCALES];
                    double z[40 * 7];
                    la_random_normal(1, (uint64_t)n++, 0, 40 * 7, z);
                    for (int64_t i = 0; i < m; i++) {
                        int64_t top = 0;
                        for (int64_t j = 0; j < c; j++) {
                            logits[i * c + j] = sizes[k] * (float)z[i * c + j];
                            top = z[i * c + j] > z[i * c + top] ? j : top;
                        }
                        labels[i] = kind == 0   ? top
                                    : kind == 1 ? 0
                                    : kind == 2 ? (top + 1) % c
                                                : i % 2;
                    }
                    fit(m, c, logits, labels, starts[n % 3], fits);
                    la_correction_fit weighed[LA_CORRECTION_SPREADS];
                    if (c > 2)
                        fit_weights(m, c, logits, labels, &fits[n % LA_CORRECTION_SCALES], weighed);
                }
    print_message("    %d inputs\n", n);
}

static void bad_input(void **state) {
    (void)state;
    la_correction_fit fits[LA_CORRECTION_SCALES];
    la_error err = {0};
    float logits[4] = {0, 1, NAN, 0};
    const int64_t labels[2] = {0, 2};
    static float many[LA_CORRECTION_CLASSES_MOST + 1];
    assert_int_equal(la_corrections_fit(0, 2, logits, labels, 1, fits, &err), LA_BAD_INPUT);
    assert_int_equal(la_corrections_fit(2, 2, logits, labels, 1, fits, &err), LA_BAD_INPUT);
    logits[2] = 0;
    assert_int_equal(la_corrections_fit(2, 2, logits, labels, 1, fits, &err), LA_BAD_INPUT);
    assert_int_equal(la_corrections_fit(1, 1, logits, labels, 1, fits, &err), LA_BAD_INPUT);
    assert_int_equal(
        la_corrections_fit(1, LA_CORRECTION_CLASSES_MOST + 1, many, labels, 1, fits, &err),
        LA_BAD_INPUT);
    fit(1, LA_CORRECTION_CLASSES_MOST, many, labels, 1, fits);
    la_correction_fit weighed[LA_CORRECTION_SPREADS];
    assert_true(!la_correction_weighs(2) && !la_correction_weighs(LA_CORRECTION_WEIGHTS_MOST + 1));
    assert_int_equal(
        la_weights_fit(1, LA_CORRECTION_WEIGHTS_MOST + 1, many, labels, fits, weighed, &err),
        LA_BAD_INPUT);
    fit(1, 2, many, labels, 1, fits);
    assert_int_equal(la_weights_fit(1, 2, many, labels, fits, weighed, &err), LA_BAD_INPUT);
    fit_weights(1, LA_CORRECTION_WEIGHTS_MOST, many, labels, fits, weighed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),     cmocka_unit_test(drawn_rows),
        cmocka_unit_test(drawn_weights), cmocka_unit_test(other_starts),
        cmocka_unit_test(degenerate),    cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests_name("correction", tests, NULL, NULL);
}
