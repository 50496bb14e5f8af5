/* Stacking: its weights are the best ones, and its mean is that of its parts. */
#include "base/random.h"
#include "likelihood/scaling.h"
#include "likelihood/stacking.h"
#include "support/support.h"

#include <math.h>
#include <string.h>

enum { N = 150, C = 4, PARTS = 5 };

/* Labels of softmax(f / 2 + bias). */
static void draw_rows(uint64_t seed, const double *bias, float *logits, int64_t *labels) {
    double z[N * C];
    la_random_normal(seed, 1, 0, N * C, z);
    for (int64_t i = 0; i < N; i++) {
        double p[C], sum = 0;
        double left = (double)la_random_below(seed, 2, (uint64_t)i, 1 << 30) / (1 << 30);
        for (int64_t k = 0; k < C; k++) {
            logits[i * C + k] = (float)(3 * z[i * C + k]);
            sum += p[k] = exp((double)logits[i * C + k] / 2 + bias[k]);
        }
        labels[i] = 0;
        for (int64_t k = 0; k < C - 1 && (left -= p[k] / sum) > 0; k++)
            labels[i] = k + 1;
    }
}

static void biased_or_not(void **state) {
    (void)state;
    static const double none[C] = {0}, some[C] = {2, 0, -1, -1};
    double worst = 0;
    for (int biased = 0; biased < 2; biased++) {
        float logits[N * C];
        int64_t labels[N], list[N], starts[PARTS + 1], one[2] = {0, N};
        double workspace[2 * C], probs[C], own[C], scratch[C], sum = 0;
        la_stacking s, equal;
        la_error err = {0};
        draw_rows(1, biased ? some : none, logits, labels);
        for (int64_t i = 0; i < N; i++)
            list[i] = (7 * i + 3) % N;
        for (int k = 0; k <= PARTS; k++)
            starts[k] = k * N / PARTS;
        assert_int_equal(la_stacking_fit(C, logits, labels, list, starts, PARTS, &s, &err), LA_OK);
        assert_int_equal(la_stacking_fit(C, logits, labels, list, one, 1, &equal, &err), LA_OK);
        for (int k = 0; k < LA_STACKED; k++) {
            assert_true(s.weights[k] >= 0 && equal.weights[k] == 0.25);
            sum += s.weights[k];
        }
        assert_true(fabs(sum - 1) < 1e-12);
        /* the MAP model is twice too sure; a temperature is all it lacks, or it is not */
        assert_true(s.weights[LA_STACKED_MAP] < 0.2);
        double without = s.weights[LA_STACKED_TEMPERATURE];
        assert_true(biased ? without < 0.1 : without + s.weights[LA_STACKED_BIAS] > 0.5);
        la_stacking_apply(&equal, C, logits, workspace, probs);
        memset(own, 0, sizeof own);
        double t[] = {1, equal.temperature}, part[C];
        for (int k = 0; k < 2; k++) {
            la_temperature_scaling_apply(C, t[k], logits, part);
            for (int c = 0; c < C; c++)
                own[c] += part[c] / 4;
        }
        la_corrections_apply(equal.fits, C, logits, scratch, part);
        for (int c = 0; c < C; c++)
            own[c] += part[c] / 4;
        la_vector_scaling_apply(C, equal.scale, equal.bias, logits, part);
        for (int c = 0; c < C; c++)
            worst = fmax(worst, fabs(own[c] + part[c] / 4 - probs[c]));
        la_stacking_free(&s);
        la_stacking_free(&equal);
    }
    check_within("the mean of the parts", worst, 4e-16);
}

static void bad_input(void **state) {
    (void)state;
    float logits[2 * 3] = {0, 1, NAN, 0, 1, 2};
    const int64_t labels[2] = {0, 1}, list[2] = {0, 1}, starts[3] = {0, 1, 2};
    la_stacking s;
    la_error err = {0};
    assert_int_equal(la_stacking_fit(3, logits, labels, list, starts, 2, &s, &err), LA_BAD_INPUT);
    la_stacking_free(&s);
    /* two rows are enough */
    logits[2] = 1;
    err = (la_error){0};
    assert_int_equal(la_stacking_fit(3, logits, labels, list, starts, 2, &s, &err), LA_OK);
    la_stacking_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(biased_or_not),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests_name("stacking", tests, NULL, NULL);
}
