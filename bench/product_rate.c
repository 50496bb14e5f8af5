/* Rates of products with weights on the CPU, through its backend and on one thread, in f32 and in
 * bf16: forward (y = x w^T + bias) and backward (dx = g w). Times are those of the thread, the best
 * of several, so that they say something on a machine with other work, too. First the line of
 * --verbose: which library computes what. usage: product_rate [ROWS] */
#include "backend/ops.h"
#include "backend/product_choice.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 15, SHAPES = 6 };

static const struct {
    const char *name;
    int64_t out, in;
} shapes[SHAPES] = {{"MiniLM q", 384, 384},      {"MiniLM up", 1536, 384},
                    {"MiniLM down", 384, 1536},  {"BERT-base q", 768, 768},
                    {"BERT-base up", 3072, 768}, {"1B Llama q", 2048, 2048}};

static double seconds_of_thread(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static float *numbers(int64_t count, uint32_t seed, la_error *err) {
    float *x = la_alloc((size_t)count, sizeof *x, err);
    for (int64_t i = 0; x && i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 0x1p-31f;
    }
    return x;
}

/* GFLOP/s forward and backward. */
static la_status measure(la_backend *be, int64_t rows, int64_t out, int64_t in, double rate[2],
                         la_error *err) {
    float *x = numbers(rows * in, 1, err), *y = numbers(rows * out, 2, err);
    float *w = numbers(out * in, 3, err), *bias = numbers(out, 4, err);
    if (x && y && w && bias) {
        bool copied;
        la_dtype type = la_product_type(be, LA_F32);
        const void *placed = be->ops->place(be, w, LA_F32, out * in, type, &copied);
        la_mat weight = la_mat_of(type, (void *)(uintptr_t)placed, out, in);
        la_mat mx = la_mat_f32(x, rows, in), my = la_mat_f32(y, rows, out);
        la_mat mb = la_mat_f32(bias, 1, out);
        double best[2] = {INFINITY, INFINITY};
        for (int i = 0; placed && i < ROUNDS; i++) {
            double start = seconds_of_thread();
            be->ops->linear(be, &mx, &weight, &mb, NULL, &my);
            double middle = seconds_of_thread();
            be->ops->linear_backward(be, &my, &weight, 0, &mx);
            best[0] = fmin(best[0], middle - start);
            best[1] = fmin(best[1], seconds_of_thread() - middle);
        }
        for (int i = 0; i < 2; i++)
            rate[i] = 2e-9 * (double)rows * (double)out * (double)in / best[i];
        if (placed && copied)
            be->ops->release(be, weight.data);
    }
    free(x);
    free(y);
    free(w);
    free(bias);
    return err->status != LA_OK ? err->status : be->ops->sync(be, err);
}

static la_status run(int64_t rows, la_error *err) {
    double rates[SHAPES][LA_PRECISIONS][2] = {0};
    static const la_precision precisions[] = {LA_PRECISION_F32, LA_PRECISION_BF16};
    for (int p = 0; p < 2; p++) {
        la_backend backends[LA_DEVICES_MAX], *be = backends;
        la_error why = {0};
        int n;
        if (la_backend_open("cpu", precisions[p], la_team_of(1), NULL, backends, &n, &why) !=
            LA_OK) {
            fprintf(stderr, "product_rate: %s\n", why.message);
            continue;
        }
        for (int i = 0; i < SHAPES && err->status == LA_OK; i++)
            (void)measure(be, rows, shapes[i].out, shapes[i].in, rates[i][precisions[p]], err);
        be->ops->close(be);
    }
    char text[LA_PRODUCTS_TEXT];
    la_products_describe(text);
    printf("%s\n%lld rows, GFLOP/s   f32 forward  backward  bf16 forward  backward\n", text,
           (long long)rows);
    for (int i = 0; i < SHAPES; i++)
        printf("%-18s %12.0f %9.0f %13.0f %9.0f\n", shapes[i].name, rates[i][LA_PRECISION_F32][0],
               rates[i][LA_PRECISION_F32][1], rates[i][LA_PRECISION_BF16][0],
               rates[i][LA_PRECISION_BF16][1]);
    return err->status;
}

int main(int argc, char **argv) {
    la_error err = {0};
    la_kernels_choose();
    if (run(argc > 1 ? atoll(argv[1]) : 1024, &err) != LA_OK)
        fprintf(stderr, "product_rate: %s\n", err.message);
    return (int)err.status;
}
