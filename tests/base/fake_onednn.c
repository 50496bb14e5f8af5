/* A library of oneDNN's names, loaded by test_products in its place. FAKE_ONEDNN says what is wrong
 * with it: "old", "new" (its version), "threads" (of its own), "wrong" (products), "memory" (none
 * from the second product on), "bf16" (wrong products of that); else it is right. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct version {
    int major, minor, patch;
    const char *hash;
    unsigned threading, device;
} version;

const version *dnnl_version(void);
int dnnl_sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
               const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
               int64_t ldc);
int dnnl_gemm_bf16bf16f32(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb,
                          float beta, float *c, int64_t ldc);

static int is(const char *fault) {
    const char *given = getenv("FAKE_ONEDNN");
    return given && !strcmp(given, fault);
}

const version *dnnl_version(void) {
    static version v = {3, 7, 2, "", 1, 0};
    v.major = is("old") ? 1 : is("new") ? 4 : 3;
    v.threading = is("threads") ? 4 : 1;
    return &v;
}

static float at(const void *x, int half, int64_t i) {
    uint32_t bits = half ? (uint32_t)((const uint16_t *)x)[i] << 16 : ((const uint32_t *)x)[i];
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void product(int half, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                    float alpha, const void *a, int64_t lda, const void *b, int64_t ldb, float beta,
                    float *c, int64_t ldc) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t p = 0; p < k; p++)
                sum += at(a, half, trans_a ? p * lda + i : i * lda + p) *
                       at(b, half, trans_b ? j * ldb + p : p * ldb + j);
            c[i * ldc + j] = alpha * sum + (beta != 0 ? beta * c[i * ldc + j] : 0);
        }
}

int dnnl_sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
               const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
               int64_t ldc) {
    static int calls;
    if (is("memory") && calls++)
        return 1;
    product(0, trans_a == 'T', trans_b == 'T', m, n, k, is("wrong") ? 2 * alpha : alpha, a, lda, b,
            ldb, beta, c, ldc);
    return 0;
}

int dnnl_gemm_bf16bf16f32(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb,
                          float beta, float *c, int64_t ldc) {
    static int calls;
    if (is("memory") && calls++)
        return 1;
    product(1, trans_a == 'T', trans_b == 'T', m, n, k, is("bf16") ? 2 * alpha : alpha, a, lda, b,
            ldb, beta, c, ldc);
    return 0;
}
