/* The same parity on the CPU in bf16: weights, and what they are multiplied by, have eight bits.
 * Skipped where no library has such products. */
#include "backend/ops.h"
#include "support/parity.h"

#include <stdlib.h>

/* The tiny models are harsh on bf16: their random weights give logits of twenty and more. */
static const parity_limits limits = {.logits = 7e-2,
                                     .likelihood = 4e-3,
                                     .prior = 7e-3,
                                     .covariance = 8e-2,
                                     .trace = 2e-1,
                                     .probabilities = 6e-2,
                                     .samples = 1000,
                                     .batch_tokens = 150,
                                     .brief = true};

static void need_bf16(void) {
    la_backend backends[LA_DEVICES_MAX];
    la_error err = {0};
    int n;
    if (la_backend_open("cpu", LA_PRECISION_BF16, la_team_of(1), NULL, backends, &n, &err) !=
        LA_OK) {
        print_message("    %s\n", err.message);
        skip();
    }
    backends[0].ops->close(&backends[0]);
}

#define CASE(function, folder)                                                                     \
    static void function(void **state) {                                                           \
        (void)state;                                                                               \
        need_bf16();                                                                               \
        check_parity(folder, "cpu", "bf16", &limits);                                              \
    }
PARITY_CASES_DENSE(CASE)

#define TEST(function, folder) cmocka_unit_test(function),

int main(void) {
    setenv("LAPLORA_PRODUCTS", "auto", 1);
    setenv("XDG_CACHE_HOME", scratch("caches"), 1);
    const struct CMUnitTest tests[] = {PARITY_CASES_DENSE(TEST)};
    return cmocka_run_group_tests_name("parity in bf16", tests, NULL, NULL);
}
