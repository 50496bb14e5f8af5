/* Products of the host in bf16, beside sums in f64 of the same rounded numbers: weights as they are
 * stored, converted and packed; rows of other distances; any number of threads. Skipped where no
 * library has them. */
#include "backend/ops.h"
#include "backend/quant.h"
#include "support/support.h"
#include "base/bf16.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 2101, IN = 96, OUT = 160, APART = 5 };

static la_backend be;

static int open_backend(void **state) {
    (void)state;
    la_backend opened[LA_DEVICES_MAX];
    la_error err = {0};
    int n;
    if (la_backend_open("cpu", LA_PRECISION_BF16, la_team_of(2), NULL, opened, &n, &err) != LA_OK) {
        assert_int_equal(err.status, LA_UNSUPPORTED);
        assert_non_null(strstr(err.message, "--precision bf16: the CPU computes in f32 here: "));
        print_message("    %s\n", err.message);
        return 0;
    }
    be = opened[0];
    return 0;
}

static int close_backend(void **state) {
    (void)state;
    if (be.ops)
        be.ops->close(&be);
    return 0;
}

static void need_backend(void) {
    if (!be.ops)
        skip();
    la_error err = {0};
    assert_int_equal(be.ops->sync(&be, &err), LA_OK);
}

static float rounded(float value) {
    return la_quant_round(LA_BF16, value);
}

static void fill(float *x, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

typedef struct arrays {
    float x[T * (IN + APART)], g[T * (OUT + APART)], w[OUT * IN], bias[OUT];
    float residual[T * OUT], y[T * OUT], dx[T * IN], before[T * IN];
} arrays;

static arrays *numbers(void) {
    arrays *a = malloc(sizeof *a);
    fill(a->x, T * (IN + APART), 1);
    fill(a->g, T * (OUT + APART), 2);
    fill(a->w, OUT * IN, 3);
    fill(a->bias, OUT, 4);
    fill(a->residual, T * OUT, 5);
    fill(a->before, T * IN, 6);
    memcpy(a->dx, a->before, sizeof a->dx);
    return a;
}

static la_mat with_gaps(float *data, int64_t cols) {
    return (la_mat){data, T, cols, cols + APART, LA_F32};
}

/* The same bytes, whatever the number of threads, here and there in memory; first: of one. */
static void check_threads(arrays *a, const la_mat *w) {
    la_team before = be.team;
    for (int64_t rows = T; rows > 0; rows /= 11) {
        float *first = malloc(sizeof a->y + sizeof a->dx), *again = malloc(sizeof a->y + 64);
        for (int threads = 1; threads <= 5; threads++) {
            float *at = again + threads;
            be.team = la_team_of(threads);
            la_mat x = with_gaps(a->x, IN), g = with_gaps(a->g, OUT);
            x.rows = g.rows = rows;
            la_mat y = la_mat_f32(threads == 1 ? first : at, rows, OUT);
            be.ops->linear(&be, &x, w, NULL, NULL, &y);
            if (threads > 1)
                assert_memory_equal(at, first, (size_t)(rows * OUT) * sizeof *at);
            la_mat dx = la_mat_f32(threads == 1 ? first + T * OUT : at, rows, IN);
            be.ops->linear_backward(&be, &g, w, 0, &dx);
            if (threads > 1)
                assert_memory_equal(at, first + T * OUT, (size_t)(rows * IN) * sizeof *at);
        }
        free(first);
        free(again);
    }
    be.team = before;
}

/* w[OUT, IN] as the weight is, rounded to bf16 or (a head's) not. */
static void check_products(arrays *a, const la_mat *w, const float *values, bool exact) {
    la_mat x = with_gaps(a->x, IN), g = with_gaps(a->g, OUT), y = la_mat_f32(a->y, T, OUT);
    la_mat bias = la_mat_f32(a->bias, 1, OUT), residual = la_mat_f32(a->residual, T, OUT);
    la_mat dx = la_mat_f32(a->dx, T, IN);
    be.ops->linear(&be, &x, w, &bias, &residual, &y);
    be.ops->linear_backward(&be, &g, w, 1, &dx);
    double worst = 0, worst_back = 0, coarse = 0;
    for (int t = 0; t < T; t++) {
        for (int o = 0; o < OUT; o++) {
            double sum = (double)a->bias[o] + (double)a->residual[t * OUT + o], plain = sum;
            for (int i = 0; i < IN; i++) {
                float one = a->x[t * (IN + APART) + i];
                sum += (double)(exact ? one : rounded(one)) * (double)values[o * IN + i];
                plain += (double)one * (double)a->w[o * IN + i];
            }
            worst = fmax(worst, fabs((double)a->y[t * OUT + o] - sum));
            coarse = fmax(coarse, fabs((double)a->y[t * OUT + o] - plain));
        }
        for (int i = 0; i < IN; i++) {
            double sum = (double)a->before[t * IN + i];
            for (int o = 0; o < OUT; o++) {
                float one = a->g[t * (OUT + APART) + o];
                sum += (double)(exact ? one : rounded(one)) * (double)values[o * IN + i];
            }
            worst_back = fmax(worst_back, fabs((double)a->dx[t * IN + i] - sum));
        }
    }
    check_within("linear", worst, exact ? 1.6e-5 : 4.6e-6);
    check_within("linear_backward", worst_back, exact ? 4e-5 : 7.3e-6);
    if (!exact) /* what rounding costs */
        check_within("linear, of numbers that are not rounded", coarse, 1.2e-1);
    check_threads(a, w);
    need_backend();
}

static void weights_of(la_dtype stored) {
    need_backend();
    arrays *a = numbers();
    float *values = malloc(sizeof a->w);
    double *wide = malloc(OUT * IN * sizeof *wide);
    void *host = stored == LA_F64 ? (void *)wide : a->w;
    uint16_t *halves = malloc(OUT * IN * sizeof *halves);
    for (int i = 0; i < OUT * IN; i++) {
        if (stored == LA_BF16 || stored == LA_F16) {
            la_quant_store(a->w[i], stored, &halves[i]);
            a->w[i] = la_quant_round(stored, a->w[i]);
            host = halves;
        }
        wide[i] = (double)a->w[i];
        values[i] = rounded(a->w[i]);
    }
    bool copied;
    la_dtype type = la_product_type(&be, stored);
    assert_int_equal(type, LA_BF16);
    const void *placed = be.ops->place(&be, host, stored, OUT * IN, type, &copied);
    assert_non_null(placed);
    /* what is stored in bf16 takes no memory */
    assert_int_equal(copied, stored != LA_BF16);
    la_mat w = la_mat_of(type, NULL, OUT, IN);
    memcpy(&w.data, &placed, sizeof placed);
    check_products(a, &w, values, false);
    if (copied)
        be.ops->release(&be, w.data);
    free(halves);
    free(wide);
    free(values);
    free(a);
}

static void weights_f32(void **state) {
    (void)state;
    weights_of(LA_F32);
}

static void weights_f16(void **state) {
    (void)state;
    weights_of(LA_F16);
}

static void weights_f64(void **state) {
    (void)state;
    weights_of(LA_F64);
}

static void weights_bf16(void **state) {
    (void)state;
    weights_of(LA_BF16);
}

/* A head's weight is f32, and so is its product. */
static void weights_of_a_head(void **state) {
    (void)state;
    need_backend();
    arrays *a = numbers();
    la_mat w = la_mat_f32(a->w, OUT, IN);
    check_products(a, &w, a->w, true);
    free(a);
}

static void weights_packed(void **state) {
    (void)state;
    need_backend();
    arrays *a = numbers();
    enum { BLOCK = 64 };
    static uint8_t codes[OUT * IN / 2];
    static float scale[OUT * IN / BLOCK], values[OUT * IN];
    la_quant quant = {LA_QUANT_NF4, LA_F32, BLOCK, codes, scale};
    la_mat w = la_mat_of(LA_CODES, &quant, OUT, IN);
    for (int i = 0; i < OUT * IN / 2; i++)
        codes[i] = (uint8_t)(i * 37 + 11);
    for (int i = 0; i < OUT * IN / BLOCK; i++)
        scale[i] = 0.5f + 0.003f * (float)(i % 100);
    la_quant_decode(&w, 0, OUT * IN, a->w);
    for (int i = 0; i < OUT * IN; i++)
        values[i] = rounded(a->w[i]);
    check_products(a, &w, values, false);
    free(a);
}

/* To the nearest, ties to even; what is no number stays none. */
static void rounding(void **state) {
    (void)state;
    static const uint32_t from[] = {0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff,
                                    0xbf818000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001,
                                    0x7fffffff, 0xffffffff, 0x00000000, 0x80000000, 0x00008001};
    static const uint16_t want[] = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x3f80, 0xbf82, 0x7f80, 0x7f80,
                                    0xff80, 0x7fc0, 0x7fff, 0xffff, 0x0000, 0x8000, 0x0001};
    enum { N = sizeof from / sizeof *from };
    float values[N];
    uint16_t got[N];
    memcpy(values, from, sizeof values);
    la_f32_to_bf16(values, N, got);
    for (int i = 0; i < N; i++)
        if (got[i] != want[i])
            fail_msg("%08x becomes %04x, expected %04x", from[i], got[i], want[i]);
}

int main(void) {
    setenv("LAPLORA_PRODUCTS", "auto", 1);
    setenv("XDG_CACHE_HOME", scratch("caches"), 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding),       cmocka_unit_test(weights_f32),
        cmocka_unit_test(weights_f16),    cmocka_unit_test(weights_f64),
        cmocka_unit_test(weights_bf16),   cmocka_unit_test(weights_of_a_head),
        cmocka_unit_test(weights_packed),
    };
    return cmocka_run_group_tests_name("bf16 on the host", tests, open_backend, close_backend);
}
