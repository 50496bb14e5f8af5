/* Temperature and vector scaling against scipy and torch (tests/reference/baselines_reference.py),
 * at their limits, and on inputs that have no answer. */
#include "base/random.h"
#include "baselines/arrays.h"
#include "likelihood/scaling.h"
#include "support/support.h"

#include <omp.h>
#include <stdbool.h>
#include <string.h>

static double temperature_of(int64_t n, int64_t n_classes, const float *logits,
                             const int64_t *labels) {
    la_error err = {0};
    double temperature = NAN;
    assert_int_equal(la_temperature_scaling_fit(n, n_classes, logits, labels, &temperature, &err),
                     LA_OK);
    return temperature;
}

static void vector_of(int64_t n, int64_t n_classes, const float *logits, const int64_t *labels,
                      double *scale, double *bias) {
    la_error err = {0};
    assert_int_equal(la_vector_scaling_fit(n, n_classes, logits, labels, scale, bias, &err), LA_OK);
}

static void reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/scaling.json")), *one;
    double worst_temperature = 0, worst_vector[2] = {0}, worst_probs = 0;
    size_t i;
    int n_determined = 0;
    assert_int_equal(json_array_size(cases), 8);
    json_array_foreach(cases, i, one) {
        int64_t n, n_classes = integer_at(one, "n_classes"), shown;
        float *logits = floats(one, "logits", NULL);
        int64_t *labels = integers(one, "labels", &n);
        double *scale = doubles(one, "scale", NULL), *bias = doubles(one, "bias", NULL);
        double *by_temperature = doubles(one, "by_temperature", &shown);
        double *by_vector = doubles(one, "by_vector", NULL);
        double found[2][8], p[8];
        double t = temperature_of(n, n_classes, logits, labels);
        vector_of(n, n_classes, logits, labels, found[0], found[1]);
        worst_temperature = fmax(worst_temperature, relative(t, number_at(one, "temperature"), 0));
        double gap = fmax(largest_gap(n_classes, found[0], scale, 1),
                          largest_gap(n_classes, found[1], bias, 1));
        print_message("    %-24s T %-9.4g vector scaling off by %.3g\n",
                      json_string_value(json_object_get(one, "name")), t, gap);
        bool determined = json_is_true(json_object_get(one, "determined"));
        worst_vector[determined] = fmax(worst_vector[determined], gap);
        n_determined += determined;
        for (int64_t row = 0; row < shown / n_classes; row++) {
            la_temperature_scaling_apply(n_classes, t, logits + row * n_classes, p);
            worst_probs = fmax(worst_probs,
                               largest_gap(n_classes, p, by_temperature + row * n_classes, 1e-9));
            la_vector_scaling_apply(n_classes, found[0], found[1], logits + row * n_classes, p);
            worst_probs =
                fmax(worst_probs, largest_gap(n_classes, p, by_vector + row * n_classes, 1e-9));
        }
        free(logits), free(labels), free(scale), free(bias), free(by_temperature), free(by_vector);
    }
    json_decref(cases);
    check_within("temperature, relative", worst_temperature, 4.7e-15);
    /* the ridge magnifies rounding where it decides */
    assert_int_equal(n_determined, 4);
    check_within("scale and bias, of max(1, value)", worst_vector[1], 2.2e-15);
    check_within("the same where the ridge decides", worst_vector[0], 2.9e-10);
    check_within("probabilities, relative", worst_probs, 1e-10);
}

/* C random logits a row, the label's raised by `skill`, all of them times `sharp` */
enum { N = 300, C = 5 };
typedef struct rows {
    float logits[N * C];
    int64_t labels[N];
} rows;

static void draw_rows(uint64_t seed, double sharp, double skill, rows *out) {
    double z[N * C];
    la_random_normal(seed, 1, 0, N * C, z);
    for (int64_t i = 0; i < N; i++) {
        out->labels[i] = (int64_t)la_random_below(seed, 2, (uint64_t)i, C);
        z[i * C + out->labels[i]] += skill;
        for (int64_t c = 0; c < C; c++)
            out->logits[i * C + c] = (float)(sharp * z[i * C + c]);
    }
}

/* mean NLL of softmax(w f + b) */
static double nll(const rows *r, const double *w, const double *b) {
    double sum = 0;
    for (int64_t i = 0; i < N; i++) {
        double z[C], total = 0;
        for (int64_t c = 0; c < C; c++) {
            z[c] = w[c] * (double)r->logits[i * C + c] + b[c];
            total += exp(z[c]);
        }
        sum += log(total) - z[r->labels[i]];
    }
    return sum / N;
}

static double nll_at(const rows *r, double temperature) {
    double w[C], b[C] = {0};
    for (int64_t c = 0; c < C; c++)
        w[c] = 1 / temperature;
    return nll(r, w, b);
}

static void minima(void **state) {
    (void)state;
    static const double sharp[] = {0.05, 0.3, 1, 3, 8};
    for (uint64_t k = 0; k < 5; k++) {
        rows r;
        double w[C], b[C], sum = 0;
        draw_rows(k, sharp[k], 1.5, &r);
        double t = temperature_of(N, C, r.logits, r.labels), at = nll_at(&r, t);
        assert_true(t > 1e-2 && t < 1e2);
        assert_true(at < nll_at(&r, t * 1.001) && at < nll_at(&r, t / 1.001));
        /* temperature scaling is one of the vector scalings */
        vector_of(N, C, r.logits, r.labels, w, b);
        double best = nll(&r, w, b);
        assert_true(best < at);
        for (int64_t c = 0; c < C; c++) {
            sum += b[c];
            w[c] *= 1.01;
            assert_true(nll(&r, w, b) > best);
            w[c] /= 1.01;
            b[c] += 0.01;
            assert_true(nll(&r, w, b) > best);
            b[c] -= 0.01;
        }
        assert_true(fabs(sum) < 1e-14);
    }
}

/* softmax does not see a common shift of a row; a scale of all logits is a scale of T */
static void invariances(void **state) {
    (void)state;
    rows r, shifted, scaled;
    draw_rows(9, 2, 1, &r);
    for (int64_t k = 0; k < N * C; k++) {
        /* rounded, so that the shift is exact in f32 */
        r.logits[k] = roundf(r.logits[k] * 64) / 64;
        shifted.logits[k] = r.logits[k] + (float)(k / C % 7) * 16;
        scaled.logits[k] = r.logits[k] * 8;
    }
    double t = temperature_of(N, C, r.logits, r.labels);
    assert_true(temperature_of(N, C, shifted.logits, r.labels) == t);
    check_within("T / 8 after a scale of 8, relative",
                 relative(temperature_of(N, C, scaled.logits, r.labels) / 8, t, 0), 3.3e-15);
}

static void temperature_limits(void **state) {
    (void)state;
    static const float separable[] = {3, 0, 1, 0, 2, 1, 0, 1, 5};
    static const float equal[] = {2, 2, 2, -7, -7, -7};
    static const float far[] = {3e38f, 0, -3e38f, 0, 1, 2};
    static const int64_t right[] = {0, 1, 2}, wrong[] = {1, 0, 0}, any[] = {0, 2};
    double p[3];
    assert_true(temperature_of(3, 3, separable, right) == 1e-2);
    assert_true(temperature_of(3, 3, separable, wrong) == 1e2);
    assert_true(temperature_of(2, 3, equal, any) == 1);
    assert_true(temperature_of(1, 2, separable, right) == 1e-2);
    assert_true(isfinite(temperature_of(2, 3, far, any)));
    la_temperature_scaling_apply(3, 1e-2, far, p);
    assert_true(p[0] == 1 && p[1] == 0 && p[2] == 0);
}

/* rows without a finite minimum but for the ridge */
static void vector_scaling_is_finite(void **state) {
    (void)state;
    static const float separable[] = {3, 0, 1, 0, 2, 1, 0, 1, 5};
    static const float equal[] = {2, 2, 2, 2, 2, 2};
    static const float large[] = {1e4f, 0, -2e4f, 0, 1e4f, 3e4f};
    static const int64_t right[] = {0, 1, 2}, one[] = {1, 1}, any[] = {0, 1};
    double w[3], b[3], p[3];
    vector_of(3, 3, separable, right, w, b);
    for (int64_t i = 0; i < 3; i++) {
        la_vector_scaling_apply(3, w, b, separable + 3 * i, p);
        assert_true(p[right[i]] > 0.999 && isfinite(w[i]) && isfinite(b[i]));
    }
    /* only the bias can distinguish classes; 0 and 2 are alike */
    vector_of(2, 3, equal, one, w, b);
    la_vector_scaling_apply(3, w, b, equal, p);
    assert_true(p[1] > 0.999 && fabs(w[0] - w[2]) < 1e-9 && fabs(b[0] - b[2]) < 1e-9);
    vector_of(2, 3, large, any, w, b);
    for (int64_t c = 0; c < 3; c++)
        assert_true(isfinite(w[c]) && isfinite(b[c]));
    la_vector_scaling_apply(3, w, b, large + 3, p);
    assert_true(p[1] > 0.99);
}

static void threads_do_not_matter(void **state) {
    (void)state;
    enum { MANY = 60, ROWS = 200 };
    static double z[MANY * ROWS], found[2][2 * MANY];
    static float logits[MANY * ROWS];
    int64_t labels[ROWS];
    int before = omp_get_max_threads();
    la_random_normal(3, 1, 0, MANY * ROWS, z);
    for (int64_t i = 0; i < ROWS; i++)
        labels[i] = (int64_t)la_random_below(3, 2, (uint64_t)i, MANY);
    for (int64_t k = 0; k < MANY * ROWS; k++)
        logits[k] = (float)z[k];
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? 3 : 1);
        vector_of(ROWS, MANY, logits, labels, found[k], found[k] + MANY);
    }
    omp_set_num_threads(before);
    assert_memory_equal(found[0], found[1], sizeof found[0]);
}

static void bad_input(void **state) {
    (void)state;
    float logits[] = {1, 2, 3, 4};
    int64_t labels[] = {0, 1};
    double t, w[2], b[2];
    for (int kind = 0; kind < 5; kind++) {
        la_error err = {0}, err_vector = {0};
        int64_t n = kind == 0 ? 0 : 2, n_classes = kind == 1 ? 1 : 2;
        logits[2] = kind == 2 ? NAN : 3;
        labels[1] = kind == 3 ? 2 : kind == 4 ? -1 : kind == 1 ? 0 : 1;
        assert_int_equal(la_temperature_scaling_fit(n, n_classes, logits, labels, &t, &err),
                         LA_BAD_INPUT);
        assert_int_equal(la_vector_scaling_fit(n, n_classes, logits, labels, w, b, &err_vector),
                         LA_BAD_INPUT);
        assert_string_equal(err.message, err_vector.message);
        if (kind == 2)
            assert_non_null(strstr(err.message, "row 1, column 0"));
        if (kind == 3)
            assert_non_null(strstr(err.message, "row 1 has label 2, expected 0 to 1"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),
        cmocka_unit_test(minima),
        cmocka_unit_test(invariances),
        cmocka_unit_test(temperature_limits),
        cmocka_unit_test(vector_scaling_is_finite),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
