/* The same parity through --device cuda, in every precision: on a device where there is one, else
 * on the emulated one. A posterior fitted there is read by the CPU, and the reverse. */
#include "support/devices.h"
#include "support/parity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const parity_limits limits_f32 = {.logits = 3.6e-5,
                                         .likelihood = 7e-6,
                                         .prior = 5e-5,
                                         .covariance = 1.1e-4,
                                         .trace = 6.7e-5,
                                         .probabilities = 6e-2,
                                         .samples = 1000,
                                         .batch_tokens = 150};
/* Rounded factors of products: twice what is observed on the emulated device. The tiny models are
 * harsh on bf16, their random weights give logits of twenty and more. */
static const parity_limits limits_tf32 = {.logits = 1.2e-2,
                                          .likelihood = 6e-3,
                                          .prior = 2.4e-2,
                                          .covariance = 1.5e-2,
                                          .trace = 6e-2,
                                          .probabilities = 6e-2,
                                          .samples = 1000,
                                          .batch_tokens = 150,
                                          .brief = true};
static const parity_limits limits_bf16 = {.logits = 1e-1,
                                          .likelihood = 5e-2,
                                          .prior = 1.5e-1,
                                          .covariance = 2.3e-1,
                                          .trace = 4.8e-1,
                                          .probabilities = 6e-2,
                                          .samples = 1000,
                                          .batch_tokens = 150,
                                          .brief = true};

/* Under sanitizers, one case for each form of operations: the others run in f32 or not at all. */
static void need_time(const char *name) {
    static const char *const forms[] = {"deberta-v2",    "modernbert-mean", "gemma2",
                                        "phi3-longrope", "dora-gpt2",       "ia3-llama",
                                        "union-bert",    "mixed-bert",      "llama-fp4-double",
                                        "bert",          "llama-gqa",       "llama-nf4"};
    bool needed = !getenv("LA_TESTS_BRIEF");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        needed |= !strcmp(forms[i], name);
    if (!needed)
        skip();
}

#define CASE(function, folder)                                                                     \
    static void function##_f32(void **state) {                                                     \
        (void)state;                                                                               \
        need_device();                                                                             \
        check_parity(folder, "cuda", "f32", &limits_f32);                                          \
    }                                                                                              \
    static void function##_tf32(void **state) {                                                    \
        (void)state;                                                                               \
        need_time(folder);                                                                         \
        need_device();                                                                             \
        check_parity(folder, "cuda", "tf32", &limits_tf32);                                        \
    }                                                                                              \
    static void function##_bf16(void **state) {                                                    \
        (void)state;                                                                               \
        need_time(folder);                                                                         \
        need_device();                                                                             \
        check_parity(folder, "cuda", "bf16", &limits_bf16);                                        \
    }

/* Later architectures run through the same operations: a part of the parity is enough here. */
#define LATER(function, folder)                                                                    \
    static void function##_f32(void **state) {                                                     \
        (void)state;                                                                               \
        need_time(folder);                                                                         \
        need_device();                                                                             \
        parity_limits brief = limits_f32;                                                          \
        brief.brief = true;                                                                        \
        brief.covariance = 6e-5; /* twice gemma3-v4 on kernels without AVX-512 */                  \
        check_parity(folder, "cuda", "f32", &brief);                                               \
    }

PARITY_CASES_DENSE(CASE)
PARITY_CASES_LATER(LATER)

#define TEST_LATER(function, folder) cmocka_unit_test(function##_f32),
#define TEST(function, folder)                                                                     \
    cmocka_unit_test(function##_f32), cmocka_unit_test(function##_tf32),                           \
        cmocka_unit_test(function##_bf16),

int main(void) {
    const struct CMUnitTest tests[] = {PARITY_CASES_DENSE(TEST) PARITY_CASES_LATER(TEST_LATER)};
    return cmocka_run_group_tests_name("parity on cuda", tests, NULL, NULL);
}
