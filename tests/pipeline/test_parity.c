/* Every architecture's parity with the float64 reference, on the CPU. */
#include "support/parity.h"

static const parity_limits limits = {.logits = 1.2e-5,
                                     .likelihood = 7e-6,
                                     .prior = 1.6e-5,
                                     .covariance = 2.4e-5,
                                     .trace = 6.7e-5,
                                     .probabilities = 2e-2,
                                     .samples = 20000};

#define CASE(function, folder)                                                                     \
    static void function(void **state) {                                                           \
        (void)state;                                                                               \
        check_parity(folder, "cpu", NULL, &limits);                                                \
    }

CASE(bert, "bert")
CASE(llama, "llama")
CASE(llama_seq, "llama-seq")
CASE(bert_all_linear, "bert-all-linear")
CASE(bert_pair, "bert-pair")
CASE(llama_gqa, "llama-gqa")
CASE(llama3_scaled, "llama3-scaled")
CASE(bert_f16_head, "bert-f16-head")

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bert),          cmocka_unit_test(llama),
        cmocka_unit_test(llama_seq),     cmocka_unit_test(bert_all_linear),
        cmocka_unit_test(bert_pair),     cmocka_unit_test(llama_gqa),
        cmocka_unit_test(llama3_scaled), cmocka_unit_test(bert_f16_head),
    };
    return cmocka_run_group_tests_name("parity", tests, NULL, NULL);
}
