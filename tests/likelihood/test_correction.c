/* Class corrections against scipy (tests/reference/correction_reference.py), what they must not
 * depend on, and inputs that leave little to fit. */
#include "base/random.h"
#include "baselines/arrays.h"
#include "likelihood/correction.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static void fit(int64_t n, int64_t c, const float *logits, const int64_t *labels, double start,
                la_correction_fit *fits) {
    la_error err = {0};
    if (la_corrections_fit(n, c, logits, labels, start, fits, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int s = 0; s < LA_CORRECTION_SCALES; s++) {
        double sum = 0, largest = 1;
        assert_true(isfinite(fits[s].log_likelihood) && fits[s].log_likelihood <= 0);
        assert_true(isfinite(fits[s].log_occam) && fits[s].log_occam <= 1e-12);
        assert_true(fits[s].correction.scale == la_correction_scales[s]);
        assert_true(fits[s].correction.temperature > 0);
        for (int64_t k = 0; k < c; k++) {
            assert_true(isfinite(fits[s].correction.bias[k]));
            sum += fits[s].correction.bias[k];
            largest = fmax(largest, fabs(fits[s].correction.bias[k]));
        }
        assert_true(fabs(sum) < 1e-14 * largest * (double)c);
    }
}

static void reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/correction.json")), *one, *want;
    double worst_temperature = 0, worst_bias = 0, worst_likelihood = 0, worst_occam = 0;
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
            free(bias);
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
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),  cmocka_unit_test(drawn_rows), cmocka_unit_test(other_starts),
        cmocka_unit_test(degenerate), cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests_name("correction", tests, NULL, NULL);
}
