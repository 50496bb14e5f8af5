/* Every architecture's parity with the float64 reference, on the CPU. Limits are at most 4 times
 * the largest deviation under any kernels of BLAS; that of the likelihood is olmo2's, 7.7e-6 under
 * the plainest ones: norms of small outputs enlarge rounding. */
#include "support/parity.h"

static const parity_limits limits = {.logits = 3.6e-5,
                                     .likelihood = 2.4e-5,
                                     .prior = 5e-5,
                                     .covariance = 1.1e-4,
                                     .trace = 6.7e-5,
                                     .probabilities = 2e-2,
                                     .samples = 20000};

static const parity_limits sharp = {.logits = 3e-5,
                                    .likelihood = 1.2e-4,
                                    .prior = 9e-4,
                                    .covariance = 1.6e-3,
                                    .trace = 9e-4,
                                    .probabilities = 2e-2,
                                    .samples = 20000};

#define CASE(function, folder)                                                                     \
    static void function(void **state) {                                                           \
        (void)state;                                                                               \
        check_parity(folder, "cpu", NULL, &limits);                                                \
    }

#define SHARP(function, folder)                                                                    \
    static void function(void **state) {                                                           \
        (void)state;                                                                               \
        check_parity(folder, "cpu", NULL, &sharp);                                                 \
    }

PARITY_CASES(CASE)
PARITY_CASES_SHARP(SHARP)

/* Batches that rows fill: the lines of a table of distances come on top of their tokens. */
static void distances_in_full_batches(void **state) {
    parity_limits full = limits;
    (void)state;
    full.batch_tokens = 60;
    full.brief = true;
    check_parity("deberta-v2", "cpu", NULL, &full);
    check_parity("deberta-token", "cpu", NULL, &full);
}

#define TEST(function, folder) cmocka_unit_test(function),

int main(void) {
    const struct CMUnitTest tests[] = {PARITY_CASES(TEST) PARITY_CASES_SHARP(TEST)
                                           cmocka_unit_test(distances_in_full_batches)};
    return cmocka_run_group_tests_name("parity", tests, NULL, NULL);
}
