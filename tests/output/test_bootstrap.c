/* Resamples of rows. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>

#include "output/bootstrap.h"

/* Counts of rows drawn with replacement, of few rows and of many, which are drawn another way: they
 * add up, are as often 0, 1, 2, ... as they should be, and are others in each resample. */
static void test_draws(void **state) {
    static const int64_t sizes[] = {30000, 65536, 100003};
    enum { AT_ONCE = 8, MOST = 5 };
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        uint32_t *count = malloc((size_t)(n * AT_ONCE) * sizeof *count);
        assert_non_null(count);
        la_bootstrap_draw(count, AT_ONCE, n, 5, 7 * AT_ONCE);
        for (int k = 0; k < AT_ONCE; k++) {
            int64_t sum = 0, found[MOST] = {0};
            double p = exp(-1), product = 0;
            for (int64_t i = 0; i < n; i++) {
                uint32_t own = count[i * AT_ONCE + k];
                sum += own;
                found[own < MOST ? own : MOST - 1] += 1;
                product += ((double)own - 1) * ((double)count[i * AT_ONCE + (k + 1) % AT_ONCE] - 1);
            }
            assert_int_equal(sum, n);
            for (int c = 0; c + 1 < MOST; p /= ++c) {
                double sd = sqrt((double)n * p * (1 - p));
                assert_true(fabs((double)found[c] - (double)n * p) < 5 * sd);
            }
            assert_true(fabs(product) < 5 * sqrt((double)n));
        }
        free(count);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
