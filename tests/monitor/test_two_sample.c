/* Two-sample tests against scipy and counting (tests/reference/drift_reference.py). */
#include "monitor/two_sample.h"
#include "base/statistics.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>

static json_t *root;

static int load(void **state) {
    (void)state;
    root = load_json(fixture("monitor/drift.json"));
    return 0;
}

static int unload(void **state) {
    (void)state;
    json_decref(root);
    return 0;
}

static double *numbers(const json_t *list) {
    double *out = calloc(json_array_size(list) + 1, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = json_number_value(json_array_get(list, i));
    return out;
}

static int64_t *counts(const json_t *list) {
    int64_t *out = calloc(json_array_size(list) + 1, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < json_array_size(list); i++)
        out[i] = json_integer_value(json_array_get(list, i));
    return out;
}

static void kolmogorov_smirnov(void **state) {
    json_t *entry, *list = json_object_get(root, "ks");
    size_t i;
    (void)state;
    assert_true(json_array_size(list) > 10);
    json_array_foreach(list, i, entry) {
        const json_t *a = json_object_get(entry, "a"), *b = json_object_get(entry, "b");
        double *x = numbers(a), *y = numbers(b);
        la_error err = {0};
        la_test_value found;
        assert_int_equal(la_ks_test(x, (int64_t)json_array_size(a), y, (int64_t)json_array_size(b),
                                    &found, &err),
                         LA_OK);
        check_within("statistic", fabs(found.statistic - number_at(entry, "statistic")), 1e-12);
        check_within("p", relative(found.p_value, number_at(entry, "p_value"), 1e-300),
                     number_at(entry, "tolerance"));
        free(x);
        free(y);
    }
}

static void kolmogorov_smirnov_of_many(void **state) {
    const json_t *large = json_object_get(root, "large");
    int64_t n = (int64_t)number_at(large, "n");
    double *a = calloc((size_t)n, sizeof *a), *b = calloc((size_t)n, sizeof *b);
    la_error err = {0};
    la_test_value found;
    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_true((double)n * (double)n > LA_KS_EXACT);
    for (int64_t i = 0; i < n; i++) {
        a[i] = ((double)i + 0.5) / (double)n;
        b[i] = pow(a[i], number_at(large, "power"));
    }
    assert_int_equal(la_ks_test(a, n, b, n, &found, &err), LA_OK);
    check_within("statistic", fabs(found.statistic - number_at(large, "statistic")), 1e-12);
    check_within("p", relative(found.p_value, number_at(large, "p_value"), 0), 0.02);
    assert_true(found.p_value > number_at(large, "p_value")); /* rather too large */
    assert_int_equal(la_ks_test(a, n, a, n, &found, &err), LA_OK);
    assert_true(found.statistic == 0 && found.p_value == 1);
    free(a);
    free(b);
}

static void shares(void **state) {
    json_t *entry, *list = json_object_get(root, "shares");
    size_t i;
    (void)state;
    assert_true(json_array_size(list) >= 5);
    json_array_foreach(list, i, entry) {
        const json_t *a = json_object_get(entry, "a");
        int64_t *x = counts(a), *y = counts(json_object_get(entry, "b"));
        la_error err = {0};
        la_test_value found;
        assert_int_equal(la_shares_test(x, y, (int64_t)json_array_size(a), &found, &err), LA_OK);
        check_within("statistic", relative(found.statistic, number_at(entry, "statistic"), 0),
                     1e-12);
        check_within("p", relative(found.p_value, number_at(entry, "p_value"), 1e-300), 1e-10);
        free(x);
        free(y);
    }
}

/* A table that pooling leaves too little of is tested exactly: Fisher's 1 / C(10, 5), twice. */
static void shares_of_few(void **state) {
    const int64_t a[] = {5, 0}, b[] = {0, 5}, one[] = {7};
    la_error err = {0};
    la_test_value found;
    (void)state;
    assert_int_equal(la_shares_test(a, b, 2, &found, &err), LA_OK);
    check_within("p", relative(found.p_value, 2.0 / 252, 0), 1e-12);
    assert_int_equal(la_shares_test(one, one, 1, &found, &err), LA_OK);
    assert_true(found.p_value == 1 && found.statistic == 0);
}

static void strata(void **state) {
    json_t *entry, *list = json_object_get(root, "strata");
    size_t i;
    (void)state;
    assert_true(json_array_size(list) >= 5);
    json_array_foreach(list, i, entry) {
        const json_t *given = json_object_get(entry, "strata");
        la_stratum own[8] = {0};
        int64_t n = (int64_t)json_array_size(given);
        la_error err = {0};
        la_test_value found;
        for (int64_t k = 0; k < n; k++) {
            int64_t *s = counts(json_array_get(given, (size_t)k));
            own[k] = (la_stratum){{s[0], s[2]}, {s[1], s[3]}};
            free(s);
        }
        assert_int_equal(la_strata_test(own, n, &found, &err), LA_OK);
        check_within("p", relative(found.p_value, number_at(entry, "p_value"), 1e-300), 1e-9);
    }
}

/* Where sums are too many to be counted, the normal distribution gives nearly the same. */
static void strata_of_many(void **state) {
    la_stratum many[2] = {{{4000, 3900}, {8000, 8000}}, {{100, 120}, {8000, 8100}}};
    la_error err = {0};
    la_test_value few, found;
    double z, variance;
    (void)state;
    assert_int_equal(la_strata_test(many, 2, &found, &err), LA_OK);
    variance = 7900.0 * 8100 * 8000 * 8000 / (16000.0 * 16000 * 15999) +
               220.0 * 15880 * 8000 * 8100 / (16100.0 * 16100 * 16099);
    z = (fabs(3900 - 3950 + 120 - 220 * 8100 / 16100.0) - 0.5) / sqrt(variance);
    check_within("p", relative(found.p_value, erfc(z / sqrt(2)), 0), 1e-12);
    many[0] = (la_stratum){{1900, 1800}, {8000, 8000}};
    assert_int_equal(la_strata_test(many, 2, &few, &err), LA_OK); /* exact */
    many[0] = (la_stratum){{6100, 6200}, {8000, 8000}};           /* the same of the others */
    many[1] = (la_stratum){{7900, 7980}, {8000, 8100}};
    assert_int_equal(la_strata_test(many, 2, &found, &err), LA_OK);
    check_within("exact and normal p", relative(found.p_value, few.p_value, 0), 0.02);
    check_within("difference", fabs(found.statistic + few.statistic), 1e-12);
}

static void rates(void **state) {
    json_t *entry, *list = json_object_get(root, "rates");
    size_t i;
    (void)state;
    assert_true(json_array_size(list) >= 5);
    json_array_foreach(list, i, entry) {
        int64_t n = (int64_t)number_at(entry, "n");
        const json_t *each = json_object_get(entry, "each");
        double *p = calloc((size_t)n, sizeof *p);
        la_error err = {0};
        la_test_value found;
        assert_non_null(p);
        for (int64_t k = 0; k < n; k++) {
            double u = ((double)k + 0.5) / (double)n;
            p[k] = json_is_number(each) ? json_number_value(each) : 1 - 0.5 * u * u;
        }
        assert_int_equal(la_rates_test(p, n, (int64_t)number_at(entry, "right"), &found, &err),
                         LA_OK);
        check_within("p", relative(found.p_value, number_at(entry, "p_value"), 1e-300),
                     number_at(entry, "tolerance"));
        free(p);
    }
}

static void tails(void **state) {
    json_t *entry, *list = json_object_get(root, "chi_squared");
    double worst = 0;
    size_t i;
    (void)state;
    assert_true(json_array_size(list) == 25);
    json_array_foreach(list, i, entry) {
        double found = la_chi_squared_tail(number_at(entry, "x"), number_at(entry, "freedom"));
        worst = fmax(worst, relative(found, number_at(entry, "p_value"), 1e-300));
    }
    check_within("tail of chi-squared", worst, 1e-11);
}

static void holm(void **state) {
    const json_t *given = json_object_get(root, "holm");
    double *p = numbers(json_object_get(given, "p"));
    double *expected = numbers(json_object_get(given, "adjusted"));
    la_error err = {0};
    (void)state;
    assert_int_equal(la_holm(p, 6, &err), LA_OK);
    for (int i = 0; i < 6; i++)
        check_within("adjusted", fabs(p[i] - expected[i]), 1e-15);
    free(p);
    free(expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(kolmogorov_smirnov),
                                       cmocka_unit_test(kolmogorov_smirnov_of_many),
                                       cmocka_unit_test(shares),
                                       cmocka_unit_test(shares_of_few),
                                       cmocka_unit_test(strata),
                                       cmocka_unit_test(strata_of_many),
                                       cmocka_unit_test(rates),
                                       cmocka_unit_test(tails),
                                       cmocka_unit_test(holm)};
    return cmocka_run_group_tests(tests, load, unload);
}
