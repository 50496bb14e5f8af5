/* The rate of one large square product on a device, per precision: what the model's rates are held
 * against. Prints "bf16 8192 612.3 TFLOP/s". usage: gemm_rate [DEVICE [SIZE]] */
#include "backend/ops.h"
#include "base/machine.h"

#include <stdio.h>
#include <stdlib.h>

enum { REPEATS = 20, ROUNDS = 5 };

static la_status measure(const char *device, la_precision precision, int64_t n, la_error *err) {
    la_backend backends[LA_DEVICES_MAX], *be = backends;
    int count;
    LA_TRY(la_backend_open(device, precision, la_team_of(0), NULL, backends, &count, err));
    la_dtype type = be->activation;
    size_t bytes = (size_t)(n * n) * la_dtype_size(type);
    la_mat m[3];
    for (int i = 0; i < 3; i++) {
        m[i] = la_mat_of(type, be->ops->alloc(be, bytes), n, n);
        if (!m[i].data)
            return la_fail(err, LA_RESOURCE, "out of memory for %zu bytes", bytes);
        be->ops->zero(be, m[i].data, bytes);
    }
    /* numbers that are not zero: some cards clock higher on zeros */
    unsigned char *noise = malloc(bytes);
    if (!noise)
        return la_fail(err, LA_RESOURCE, "out of memory for %zu bytes", bytes);
    uint32_t state = 1;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        /* the high byte of each number keeps it near one */
        noise[i] = i % la_dtype_size(type) == la_dtype_size(type) - 1
                       ? (unsigned char)(0x3f | (state >> 24 & 0x80))
                       : (unsigned char)(state >> 24);
    }
    for (int i = 0; i < 2; i++)
        be->ops->upload(be, m[i].data, noise, bytes);
    free(noise);
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        LA_TRY(be->ops->sync(be, err));
        double start = la_seconds();
        for (int i = 0; i < REPEATS; i++)
            be->ops->gemm(be, false, true, 1, &m[0], &m[1], 0, &m[2]);
        LA_TRY(be->ops->sync(be, err));
        double rate =
            2.0 * (double)n * (double)n * (double)n * REPEATS / (la_seconds() - start) * 1e-12;
        best = rate > best ? rate : best;
    }
    printf("%s %lld %.4g TFLOP/s\n", la_precision_name(precision), (long long)n, best);
    for (int i = 0; i < 3; i++)
        be->ops->release(be, m[i].data);
    be->ops->close(be);
    return LA_OK;
}

int main(int argc, char **argv) {
    la_kernels_choose();
    const char *device = argc > 1 ? argv[1] : "cuda";
    int64_t n = argc > 2 ? atoll(argv[2]) : 8192;
    for (int precision = LA_PRECISION_F32; precision <= LA_PRECISION_BF16; precision++) {
        la_error err = {0};
        if (measure(device, (la_precision)precision, n, &err) != LA_OK) {
            fprintf(stderr, "gemm_rate: %s\n", err.message);
            return (int)err.status;
        }
    }
    return 0;
}
