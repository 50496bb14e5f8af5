/* Tails of a sum of trials of different probabilities. */
#include "support/support.h"

#include <math.h>

#include "base/trials.h"

enum { FEW = 10, MANY = 3000 };

/* Against the sum over all outcomes. */
static void all_outcomes(void **state) {
    double successes[FEW], worst = 0;
    (void)state;
    for (int i = 0; i < FEW; i++)
        successes[i] = i == 3 ? 1 : i == 7 ? 0 : 0.05 + 0.09 * i;
    for (int64_t failures = 0; failures <= FEW; failures++) {
        double expected[2] = {0, 0}, above, below;
        la_error err = {0};
        for (int outcome = 0; outcome < 1 << FEW; outcome++) {
            double p = 1;
            int n = 0;
            for (int i = 0; i < FEW; i++) {
                n += outcome >> i & 1;
                p *= outcome >> i & 1 ? 1 - successes[i] : successes[i];
            }
            expected[0] += n >= failures ? p : 0;
            expected[1] += n <= failures ? p : 0;
        }
        assert_int_equal(la_trials_tails(successes, FEW, failures, 1e6, &above, &below, &err),
                         LA_OK);
        worst = fmax(worst, fmax(fabs(above - expected[0]), fabs(below - expected[1])));
    }
    check_within("tails", worst, 3e-15);
}

/* The limit of many trials lies near the exact tails; certain ones leave nothing to chance. */
static void many(void **state) {
    static double successes[MANY];
    double worst = 0, above, below, near_above, near_below;
    la_error err = {0};
    (void)state;
    for (int i = 0; i < MANY; i++)
        successes[i] = 0.5 + 0.5 * i / MANY;
    for (int64_t failures = 650; failures <= 850; failures += 25) {
        assert_int_equal(la_trials_tails(successes, MANY, failures, 1e9, &above, &below, &err),
                         LA_OK);
        assert_int_equal(
            la_trials_tails(successes, MANY, failures, 0, &near_above, &near_below, &err), LA_OK);
        worst = fmax(worst, fmax(fabs(above - near_above), fabs(below - near_below)));
    }
    check_within("limit", worst, 2e-5);
    for (int i = 0; i < MANY; i++)
        successes[i] = 1;
    for (int64_t failures = 0; failures < 2; failures++)
        for (int exact = 0; exact < 2; exact++) {
            assert_int_equal(
                la_trials_tails(successes, MANY, failures, exact ? 1e9 : 0, &above, &below, &err),
                LA_OK);
            assert_true(above == !failures && below == 1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_outcomes), cmocka_unit_test(many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
