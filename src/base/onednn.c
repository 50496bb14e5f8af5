/* oneDNN, loaded where it is installed. Its products of f32 and bf16 have the same signature in
 * versions 2 and 3 (that of bf16 is exported and in no header); descriptors of its primitives do
 * not. Declared here, so that no header of it is needed. */
#include "base/products.h"
#include "base/team.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* dnnl_version_t */
typedef struct version {
    int major, minor, patch;
    const char *hash;
    unsigned threading; /* of the processor: dnnl_runtime_kind_t */
} version;
enum { SEQUENTIAL = 1, OPENMP = 2 };

typedef int (*product)(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                       const void *a, int64_t lda, const void *b, int64_t ldb, float beta, float *c,
                       int64_t ldc);

static struct {
    const version *(*version)(void);
    product sgemm, bgemm;
    char name[64];
} library;

static struct { la_error f32, bf16; /* why there is none */ } failures;

/* A signal waits until the product is there: kernels up to version 3.11 have the stack's register
 * point into the heap, which a handler's frame then overwrites (oneDNN's issue 4845). Signals of a
 * fault in the thread itself cannot wait. */
static void hold_signals(sigset_t *before) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT};
    sigset_t held;
    sigfillset(&held);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&held, faults[i]);
    pthread_sigmask(SIG_BLOCK, &held, before);
}

static bool compute(product f, const la_gemm *g) {
    sigset_t signals;
    hold_signals(&signals);
    int before = la_alone_begin();
    int status = f(g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a,
                   g->lda, g->b, g->ldb, g->beta, g->c, g->ldc);
    la_alone_end(before);
    pthread_sigmask(SIG_SETMASK, &signals, NULL);
    return status == 0;
}

static bool f32(const la_gemm *gemm) {
    return compute(library.sgemm, gemm);
}

static bool bf16(const la_gemm *gemm) {
    return compute(library.bgemm, gemm);
}

/* Small whole numbers, which both types hold and every kernel adds up exactly. */
static bool multiplies(product f, bool half) {
    enum { M = 5, N = 19, K = 35 };
    float wide[2][K * N], c[M * N];
    uint16_t narrow[2][K * N];
    for (int i = 0; i < K * N; i++)
        for (int side = 0; side < 2; side++) {
            wide[side][i] = (float)(side ? i * 5 % 13 - 6 : i * 7 % 17 - 8);
            uint32_t bits;
            memcpy(&bits, &wide[side][i], sizeof bits);
            narrow[side][i] = (uint16_t)(bits >> 16);
        }
    for (int i = 0; i < M * N; i++)
        c[i] = (float)i;
    la_gemm g = {.trans_b = true,
                 .m = M,
                 .n = N,
                 .k = K,
                 .alpha = 1,
                 .lda = K,
                 .ldb = K,
                 .beta = 2,
                 .c = c,
                 .ldc = N};
    g.a = half ? (const void *)narrow[0] : wide[0];
    g.b = half ? (const void *)narrow[1] : wide[1];
    bool right = compute(f, &g);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            float want = 2 * (float)(i * N + j);
            for (int k = 0; k < K; k++)
                want += wide[0][i * K + k] * wide[1][j * K + k];
            right &= c[i * N + j] == want;
        }
    return right;
}

/* Products of bf16 by instructions: without them oneDNN has none, or slow ones. */
static bool has_bf16_instructions(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static void *look_up(void *handle, const char *name) {
    return handle ? dlsym(handle, name) : NULL;
}

static la_status examine(void *handle, const char *path, la_error *err) {
    void *symbols[] = {look_up(handle, "dnnl_version"), look_up(handle, "dnnl_sgemm"),
                       look_up(handle, "dnnl_gemm_bf16bf16f32")};
    if (!symbols[0] || !symbols[1])
        return la_fail(err, LA_UNSUPPORTED, "%s: has no %s; expected oneDNN 2 or 3", path,
                       symbols[0] ? "dnnl_sgemm" : "dnnl_version");
    memcpy(&library.version, &symbols[0], sizeof library.version);
    memcpy(&library.sgemm, &symbols[1], sizeof library.sgemm);
    memcpy(&library.bgemm, &symbols[2], sizeof library.bgemm);
    const version *v = library.version();
    if (!v || v->major < 2 || v->major > 3)
        return la_fail(err, LA_UNSUPPORTED, "%s: is oneDNN %d.%d, expected 2 or 3", path,
                       v ? v->major : 0, v ? v->minor : 0);
    /* nothing else can be kept on the calling thread */
    if (v->threading != SEQUENTIAL &&
        (v->threading != OPENMP || !la_openmp_is(look_up(handle, "omp_get_max_threads"))))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: has threads of another kind than OpenMP of GCC (libgomp)", path);
    if (!multiplies(library.sgemm, false))
        return la_fail(err, LA_UNSUPPORTED, "%s: computes wrong products", path);
    snprintf(library.name, sizeof library.name, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return LA_OK;
}

/* One that is refused stays loaded: threads of it may have begun. */
static void load_f32(void) {
    static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2"};
    const char *given = getenv("LAPLORA_ONEDNN");
    if (given && *given) {
        void *handle = dlopen(given, RTLD_NOW | RTLD_LOCAL);
        if (handle)
            (void)examine(handle, given, &failures.f32);
        else
            (void)la_fail(&failures.f32, LA_UNSUPPORTED, "LAPLORA_ONEDNN: %s", dlerror());
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        la_error why = {0};
        if (!handle)
            continue;
        if (examine(handle, names[i], &why) == LA_OK) {
            failures.f32 = (la_error){0};
            return;
        }
        (void)la_fail(&failures.f32, why.status, "%s", why.message);
    }
    (void)la_fail(&failures.f32, LA_UNSUPPORTED,
                  "oneDNN is not installed (Debian: apt-get install libdnnl2)");
}

static void load_bf16(void) {
    if (!has_bf16_instructions())
        (void)la_fail(&failures.bf16, LA_UNSUPPORTED, "the processor has no products of bf16");
    else if (!library.bgemm)
        (void)la_fail(&failures.bf16, LA_UNSUPPORTED, "%s has no products of bf16", library.name);
    else if (!multiplies(library.bgemm, true))
        (void)la_fail(&failures.bf16, LA_UNSUPPORTED, "%s computes wrong products of bf16",
                      library.name);
}

static bool load(bool bf16_too, la_error *why) {
    static pthread_once_t once = PTHREAD_ONCE_INIT, once_more = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_f32);
    const la_error *failure = &failures.f32;
    if (bf16_too && failure->status == LA_OK) {
        pthread_once(&once_more, load_bf16);
        failure = &failures.bf16;
    }
    if (failure->status != LA_OK)
        *why = *failure;
    return failure->status == LA_OK;
}

static const char *version_text(void) {
    return library.name;
}

const la_provider la_provider_onednn = {
    .name = "onednn", .load = load, .version = version_text, .f32 = f32, .bf16 = bf16};
