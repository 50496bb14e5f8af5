/* Binomial tails and bounds against scipy (tests/reference/binomial_reference.py). */
#include "base/binomial.h"
#include "support/support.h"

#include <math.h>

static const double TAIL_TOLERANCE = 1e-12, BOUND_TOLERANCE = 1e-13; /* relative */

static void tails(void **state) {
    (void)state;
    json_t *root = load_json(fixture("base/binomial.json")), *list = json_object_get(root, "tails"),
           *entry;
    size_t i;
    double worst = 0;
    assert_true(json_array_size(list) > 250);
    json_array_foreach(list, i, entry) {
        int64_t n = json_integer_value(json_array_get(entry, 0));
        int64_t k = json_integer_value(json_array_get(entry, 1));
        double p = json_number_value(json_array_get(entry, 2));
        double expected = json_number_value(json_array_get(entry, 3));
        worst = fmax(worst, relative(la_binomial_cdf(n, k, p), expected, 1e-300));
    }
    json_decref(root);
    check_within("tail", worst, TAIL_TOLERANCE);
    assert_true(la_binomial_cdf(10, -1, 0.5) == 0);
    assert_true(la_binomial_cdf(10, 10, 0.5) == 1);
}

static void bounds(void **state) {
    (void)state;
    json_t *root = load_json(fixture("base/binomial.json")),
           *list = json_object_get(root, "bounds"), *entry;
    size_t i;
    double worst = 0;
    assert_true(json_array_size(list) > 50);
    json_array_foreach(list, i, entry) {
        int64_t n = json_integer_value(json_array_get(entry, 0));
        int64_t k = json_integer_value(json_array_get(entry, 1));
        double alpha = json_number_value(json_array_get(entry, 2));
        double expected = json_number_value(json_array_get(entry, 3));
        worst = fmax(worst, relative(la_binomial_upper(n, k, alpha), expected, 1e-300));
    }
    json_decref(root);
    check_within("bound", worst, BOUND_TOLERANCE);
    assert_true(la_binomial_upper(7, 7, 0.05) == 1);
}

/* (1 - p)^n <= alpha < (1 - p)^(n - 1) */
static void fewest_rows(void **state) {
    (void)state;
    assert_int_equal(la_binomial_least(0.05, 0.05), 59);
    assert_int_equal(la_binomial_least(0.1, 0.05), 29);
    assert_int_equal(la_binomial_least(0.5, 0.5), 1);
    assert_int_equal(la_binomial_least(0.5, 0.25), 2);
    for (double p = 0.001; p < 0.9; p *= 1.7) {
        int64_t n = la_binomial_least(p, 0.01);
        assert_true(la_binomial_cdf(n, 0, p) <= 0.01);
        assert_true(n == 1 || la_binomial_cdf(n - 1, 0, p) > 0.01);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tails), cmocka_unit_test(bounds),
                                       cmocka_unit_test(fewest_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
