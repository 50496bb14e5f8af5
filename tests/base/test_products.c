/* Libraries that compute products: each beside sums in f64, over any number of threads, and what a
 * library that cannot be used leads to. The other library is skipped where it is not installed; a
 * false one stands for it in what can be shown by that. */
#include "base/products.h"
#include "base/blas.h"
#include "support/support.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const la_provider *loaded(const char *name) {
    la_error why = {0};
    const la_provider *found = la_provider_find(name);
    assert_non_null(found);
    if (found->load(false, &why))
        return found;
    print_message("    %s\n", why.message);
    skip();
    return NULL;
}

static void use(const la_provider *provider) {
    la_products all = {.own = false};
    for (int i = 0; i < LA_SHAPES; i++)
        all.f32[i] = provider;
    la_products_use(&all);
}

static int use_openblas(void **state) {
    (void)state;
    use(&la_provider_openblas);
    return 0;
}

/* ---- numbers ---- */

static uint64_t drawn;

static uint32_t draw(void) {
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(drawn >> 33);
}

static int64_t draw_below(int64_t most) {
    return draw() % most;
}

static float draw_number(void) {
    return (float)(int32_t)(draw() & 0xffff) / 32768 - 1;
}

static float kept_by_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits &= 0xffff0000u;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t half_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* A product with its operands in both types, which hold the same numbers. */
typedef struct sample {
    la_gemm gemm;
    size_t n_a, n_b, n_c;
    float *a, *b, *c;
    uint16_t *half_a, *half_b;
} sample;

static sample sample_of(int64_t m, int64_t n, int64_t k, int trans, float alpha, float beta,
                        int64_t apart) {
    sample s = {.gemm = {.trans_a = trans & 1,
                         .trans_b = trans & 2,
                         .m = m,
                         .n = n,
                         .k = k,
                         .alpha = alpha,
                         .beta = beta}};
    s.gemm.lda = (trans & 1 ? m : k) + apart;
    s.gemm.ldb = (trans & 2 ? k : n) + 2 * apart;
    s.gemm.ldc = n + 3 * apart;
    /* a row is as long as it is said to be, even the last one */
    s.n_a = (size_t)((trans & 1 ? k : m) * s.gemm.lda) + 1;
    s.n_b = (size_t)((trans & 2 ? n : k) * s.gemm.ldb) + 1;
    s.n_c = (size_t)(m * s.gemm.ldc) + 1;
    s.a = malloc(s.n_a * sizeof *s.a);
    s.b = malloc(s.n_b * sizeof *s.b);
    s.c = malloc(s.n_c * sizeof *s.c);
    s.half_a = malloc(s.n_a * sizeof *s.half_a);
    s.half_b = malloc(s.n_b * sizeof *s.half_b);
    for (size_t i = 0; i < s.n_a; i++)
        s.half_a[i] = half_of(s.a[i] = kept_by_bf16(draw_number()));
    for (size_t i = 0; i < s.n_b; i++)
        s.half_b[i] = half_of(s.b[i] = kept_by_bf16(draw_number()));
    for (size_t i = 0; i < s.n_c; i++)
        s.c[i] = beta != 0 ? draw_number() : NAN; /* which is not read then */
    s.gemm.a = s.a;
    s.gemm.b = s.b;
    s.gemm.c = s.c;
    return s;
}

static void sample_free(sample *s) {
    free(s->a);
    free(s->b);
    free(s->c);
    free(s->half_a);
    free(s->half_b);
}

/* Largest error of c, by the sum of the sizes of its terms; what lies between rows must be as it
 * was. */
static double error_of(const sample *s, const float *before) {
    const la_gemm *g = &s->gemm;
    double worst = 0;
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->ldc; j++) {
            float got = s->c[i * g->ldc + j], old = before[i * g->ldc + j];
            if (j >= g->n) {
                assert_memory_equal(&got, &old, sizeof got);
                continue;
            }
            double sum = g->beta != 0 ? (double)g->beta * (double)old : 0, size = fabs(sum);
            for (int64_t k = 0; k < g->k; k++) {
                double a = (double)s->a[g->trans_a ? k * g->lda + i : i * g->lda + k];
                double b = (double)s->b[g->trans_b ? j * g->ldb + k : k * g->ldb + j];
                sum += (double)g->alpha * a * b;
                size += fabs((double)g->alpha * a * b);
            }
            double error = fabs((double)got - sum) / fmax(size, 1e-30);
            worst = error > worst || error != error ? error : worst;
        }
    return worst;
}

/* ---- beside sums in f64 ---- */

static const struct {
    int64_t m, n, k;
} shapes[] = {{1, 1, 1},       {1, 385, 64},   {24, 8, 384},  {24, 24, 32},  {3, 1537, 7},
              {129, 131, 257}, {160, 384, 96}, {2049, 8, 65}, {8, 96, 2000}, {700, 384, 8},
              {0, 5, 7},       {5, 0, 7},      {5, 7, 0}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes, DRAWN = 40 };

static double worst_of(bool half, void (*product)(const la_gemm *)) {
    static const float alphas[] = {1, -0.5f, 0.25f}, betas[] = {0, 1, -2};
    double worst = 0;
    drawn = 7;
    for (int i = 0; i < (N_SHAPES + DRAWN) * 4; i++) {
        int64_t m = 1 + draw_below(200), n = 1 + draw_below(200), k = 1 + draw_below(300);
        if (i / 4 < N_SHAPES)
            m = shapes[i / 4].m, n = shapes[i / 4].n, k = shapes[i / 4].k;
        sample s =
            sample_of(m, n, k, i % 4, alphas[draw() % 3], betas[draw() % 3], draw_below(2) * 5);
        float *before = malloc(s.n_c * sizeof *before);
        memcpy(before, s.c, s.n_c * sizeof *before);
        if (half) {
            s.gemm.a = s.half_a;
            s.gemm.b = s.half_b;
        }
        product(&s.gemm);
        double error = error_of(&s, before);
        worst = error > worst || error != error ? error : worst;
        free(before);
        sample_free(&s);
    }
    return worst;
}

static void check_f32(const char *name) {
    const la_provider *provider = loaded(name);
    use(provider);
    print_message("    %s\n", provider->version());
    check_within("f32 products", worst_of(false, la_product_f32), 4.3e-7);
}

static void openblas_f32(void **state) {
    (void)state;
    check_f32("openblas");
}

static void onednn_f32(void **state) {
    (void)state;
    check_f32("onednn");
}

/* Before a library is asked for, and by the library: numbers that bf16 holds exactly. */
static void products_of_bf16(void **state) {
    (void)state;
    la_error why = {0};
    check_within("bf16 products, one by one", worst_of(true, la_product_bf16), 4.3e-7);
    if (!la_products_bf16(&why)) {
        print_message("    %s\n", why.message);
        skip();
    }
    check_within("bf16 products", worst_of(true, la_product_bf16), 4.3e-7);
}

static void kinds_of_shapes(void **state) {
    (void)state;
    assert_int_equal(la_shape_of(22, 32, 22), LA_SHAPE_SMALL);
    assert_int_equal(la_shape_of(1024, 8, 384), LA_SHAPE_THIN);
    assert_int_equal(la_shape_of(1024, 384, 8), LA_SHAPE_THIN);
    assert_int_equal(la_shape_of(8, 384, 1024), LA_SHAPE_THIN);
    assert_int_equal(la_shape_of(1024, 384, 384), LA_SHAPE_LARGE);
    assert_int_equal(la_shape_of((int64_t)1 << 40, (int64_t)1 << 40, 64), LA_SHAPE_LARGE);
}

/* ---- threads ---- */

static void multiply(la_team team, const sample *s, float *c) {
    const la_gemm *g = &s->gemm;
    la_team_sgemm(team, g->trans_a, g->trans_b, g->m, g->n, g->k, g->alpha, s->a, g->lda, s->b,
                  g->ldb, g->beta, c, g->ldc);
}

/* Operands elsewhere in memory, and teams of any size, give the same bytes. */
static void check_threads(void) {
    static const struct {
        int64_t m, n, k;
    } large[] = {{1023, 385, 384}, {96, 1536, 384}, {384, 384, 700}, {1500, 8, 384}, {700, 384, 8}};
    drawn = 11;
    for (size_t i = 0; i < sizeof large / sizeof *large * 4; i++) {
        sample s = sample_of(large[i / 4].m, large[i / 4].n, large[i / 4].k, (int)(i % 4), 1, 0, 0);
        float *got = malloc((s.n_c + 3) * sizeof *got);
        multiply(la_team_of(1), &s, s.c);
        size_t bytes = (s.n_c - 1) * sizeof *got;
        for (int threads = 1; threads <= 5; threads++) {
            float *c = got + (threads & 3);
            multiply(la_team_of(threads), &s, c);
            if (memcmp(c, s.c, bytes))
                fail_msg("%lld x %lld x %lld: other bytes with %d threads", (long long)s.gemm.m,
                         (long long)s.gemm.n, (long long)s.gemm.k, threads);
        }
        free(got);
        sample_free(&s);
    }
}

static void threads_openblas(void **state) {
    (void)state;
    use(loaded("openblas"));
    check_threads();
}

static void threads_onednn(void **state) {
    (void)state;
    use(loaded("onednn"));
    check_threads();
}

/* ---- libraries that cannot be used ---- */

static char here[PROGRAM_PATH];

/* The second start: loads, prints why not, or multiplies where memory is missing. */
static int load_here(void) {
    la_error why = {0}, half = {0};
    bool there = la_provider_onednn.load(false, &why);
    if (!there) {
        printf("no: %s\n", why.message);
        return 0;
    }
    use(&la_provider_onednn);
    double worst = worst_of(false, la_product_f32);
    const la_provider *of_half = la_products_bf16(&half);
    double worst_half = worst_of(true, la_product_bf16);
    printf("%s; %s; %s\n", la_provider_onednn.version(),
           worst < 4.3e-7 && worst_half < 4.3e-7 ? "right" : "WRONG",
           of_half ? of_half->name : half.message);
    return 0;
}

/* ---- signals ---- */

static volatile sig_atomic_t n_signals;

static void on_signal(int number) {
    volatile char frame[4096];
    for (size_t i = 0; i < sizeof frame; i++)
        frame[i] = (char)number;
    n_signals += frame[17] != 0;
}

/* Products while signals come, beside the same ones in peace. In a process of its own: what a
 * handler's frame destroys is found at any later time. */
static int signals_here(void) {
    enum { M = 512, N = 384, K = 384, TIMES = 300 };
    const la_provider *onednn = loaded("onednn");
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
    float *a = malloc(M * K * sizeof *a), *b = malloc(K * N * sizeof *b);
    float *c = malloc(M * N * sizeof *c), *peace = malloc(M * N * sizeof *peace);
    bool same = true;
    for (int i = 0; i < M * K; i++)
        a[i] = draw_number();
    for (int i = 0; i < K * N; i++)
        b[i] = draw_number();
    la_gemm gemm = {.m = M,
                    .n = N,
                    .k = K,
                    .alpha = 1,
                    .a = a,
                    .lda = K,
                    .b = b,
                    .ldb = N,
                    .c = peace,
                    .ldc = N};
    same &= onednn->f32(&gemm);
    gemm.c = c;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < TIMES && same; i++) {
        gemm.m = i + 1 < TIMES ? 1 + i : M; /* workspaces of many sizes come and go */
        same &= onednn->f32(&gemm);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    same &= !memcmp(c, peace, M * N * sizeof *c);
    printf("%s %s\n", same ? "same" : "OTHER", n_signals ? "signals" : "none");
    free(a), free(b), free(c), free(peace);
    return 0;
}

static void signals_while_it_computes(void **state) {
    const char *argv[] = {here, "--signals", NULL};
    (void)state;
    (void)loaded("onednn");
    command done = run_command(argv, NULL);
    if (done.code || strcmp(done.out, "same signals\n"))
        fail_msg("code %d, %s%s", done.code, done.out, done.err);
    command_free(&done);
}

static void check_library(const char *path, const char *fault, const char *want) {
    const char *argv[] = {here, "--load", NULL};
    setenv("LAPLORA_ONEDNN", path, 1);
    setenv("FAKE_ONEDNN", fault, 1);
    command done = run_command(argv, NULL);
    unsetenv("LAPLORA_ONEDNN");
    unsetenv("FAKE_ONEDNN");
    if (done.code || !strstr(done.out, want))
        fail_msg("%s, \"%s\": code %d, \"%s\", expected \"%s\"", path, fault, done.code, done.out,
                 want);
    command_free(&done);
}

static void unusable_libraries(void **state) {
    (void)state;
    static char path[PROGRAM_PATH];
    beside_this_program("fake_onednn.so", path);
    check_library(path, "", "oneDNN 3.7.2; right; ");
    check_library(path, "old", "is oneDNN 1.7, expected 2 or 3");
    check_library(path, "new", "is oneDNN 4.7, expected 2 or 3");
    check_library(path, "threads", "has threads of another kind");
    check_library(path, "wrong", "computes wrong products");
    check_library(path, "memory", "oneDNN 3.7.2; right; ");
    check_library("/no/such/libdnnl.so", "",
                  "no: LAPLORA_ONEDNN: /no/such/libdnnl.so: cannot open");
    check_library("libm.so.6", "", "no: libm.so.6: has no dnnl_version; expected oneDNN 2 or 3");
#if defined(__x86_64__)
    __builtin_cpu_init();
    check_library(path, "bf16",
                  __builtin_cpu_supports("avx512bf16")
                      ? "right; oneDNN 3.7.2 computes wrong products of bf16"
                      : "right; the processor has no products of bf16");
#endif
}

int main(int argc, char **argv) {
    beside_this_program("", here);
    if (argc == 2 && !strcmp(argv[1], "--load"))
        return load_here();
    if (argc == 2 && !strcmp(argv[1], "--signals"))
        return signals_here();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_of_shapes),
        cmocka_unit_test(openblas_f32),
        cmocka_unit_test_teardown(onednn_f32, use_openblas),
        cmocka_unit_test(products_of_bf16),
        cmocka_unit_test(threads_openblas),
        cmocka_unit_test_teardown(threads_onednn, use_openblas),
        cmocka_unit_test(unusable_libraries),
        cmocka_unit_test(signals_while_it_computes),
    };
    return cmocka_run_group_tests_name("products", tests, NULL, NULL);
}
