#include "base/blas.h"
#include "base/kernels.h"
#include "base/products.h"

#include <cblas.h>
#include <dlfcn.h>
#include <lapacke.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- how many are in the library at once ---- */

/* OpenBLAS has twice as many buffers as threads it was built for, of which its own threads hold up
 * to a half. Past them it prints a warning, then ends a call with no memory at all. So at most as
 * many callers are within it as the other half has, over all teams and handles of the process. */
enum { SEATS_MOST = 256, SEATS_DEFAULT = 16 };

static sem_t seats;
static int n_seats;

static void count_seats(void) {
    char *(*config)(void);
    void *address = dlsym(RTLD_DEFAULT, "openblas_get_config");
    n_seats = SEATS_DEFAULT;
    if (address) {
        memcpy(&config, &address, sizeof config);
        const char *text = config(), *most = text ? strstr(text, "MAX_THREADS=") : NULL;
        int built = most ? atoi(most + strlen("MAX_THREADS=")) : 0;
        if (built > n_seats)
            n_seats = built < SEATS_MOST ? built : SEATS_MOST;
    }
    sem_init(&seats, 0, (unsigned)n_seats);
}

static void take_seat(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, count_seats);
    while (sem_wait(&seats))
        ; /* a signal came */
}

static int enter(void) {
    take_seat();
    return la_alone_begin();
}

static void leave(int before) {
    la_alone_end(before);
    sem_post(&seats);
}

/* ---- on the calling thread ---- */

static CBLAS_TRANSPOSE flip(bool transposed) {
    return transposed ? CblasTrans : CblasNoTrans;
}

static bool own_sgemm(const la_gemm *g) {
    int before = enter();
    cblas_sgemm(CblasRowMajor, flip(g->trans_a), flip(g->trans_b), (blasint)g->m, (blasint)g->n,
                (blasint)g->k, g->alpha, g->a, (blasint)g->lda, g->b, (blasint)g->ldb, g->beta,
                g->c, (blasint)g->ldc);
    leave(before);
    return true;
}

static bool there(bool bf16_too, la_error *why) {
    return !bf16_too || la_fail(why, LA_UNSUPPORTED, "OpenBLAS has no products of bf16") == LA_OK;
}

const la_provider la_provider_openblas = {
    .name = "openblas", .load = there, .version = la_kernels_config, .f32 = own_sgemm};

void la_sgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
              const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
              int64_t ldc) {
    la_gemm g = {trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc};
    la_product_f32(&g);
}

void la_bgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
              const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float beta, float *c,
              int64_t ldc) {
    la_gemm g = {trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc};
    la_product_bf16(&g);
}

void la_dgemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha,
              const double *a, int64_t lda, const double *b, int64_t ldb, double beta, double *c,
              int64_t ldc) {
    int before = enter();
    cblas_dgemm(CblasRowMajor, flip(trans_a), flip(trans_b), (blasint)m, (blasint)n, (blasint)k,
                alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
    leave(before);
}

void la_dtrsm(int64_t rows, int64_t n, const double *factor, double *x) {
    int before = enter();
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (blasint)rows,
                (blasint)n, 1, factor, (blasint)n, x, (blasint)n);
    leave(before);
}

const int la_lapack_no_memory = LAPACK_WORK_MEMORY_ERROR;

/* LAPACK takes columns: our lower triangle is its upper one, its columns are our rows. */

int la_dpotrf(int64_t n, double *a) {
    int before = enter();
    lapack_int info = LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)n, a, (lapack_int)n);
    leave(before);
    return (int)info;
}

int la_dposv(int64_t n, double *a, double *x) {
    int before = enter();
    lapack_int info =
        LAPACKE_dposv(LAPACK_COL_MAJOR, 'U', (lapack_int)n, 1, a, (lapack_int)n, x, (lapack_int)n);
    leave(before);
    return (int)info;
}

int la_dsyevd(int64_t n, double *a, double *values) {
    int before = enter();
    lapack_int info =
        LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)n, a, (lapack_int)n, values);
    leave(before);
    return (int)info;
}

int la_dgesdd(int64_t m, int64_t n, double *a, double *values, double *u, double *vt) {
    /* in columns a is its transpose: n x m, with vt's rows on the left */
    lapack_int k = (lapack_int)(m < n ? m : n);
    int before = enter();
    lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (lapack_int)n, (lapack_int)m, a,
                                     (lapack_int)n, values, vt, (lapack_int)n, u, k);
    leave(before);
    return (int)info;
}

/* ---- over a team ---- */

/* Cut of c[m, n] into tiles of rows x cols, n_rows x n_cols of them. */
typedef struct grid {
    int64_t rows, cols, n_rows, n_cols;
    bool shared; /* worth more than one thread */
} grid;

/* A tile's side is a multiple of EDGE, which kernels of all processors divide. Products with few
 * multiplications are done where they are: below ALONE, waking threads costs more. */
enum { EDGE = 64, TILES = 32, LEAST_SIDE = 192 };
static const double ALONE = 1 << 19, LEAST_WORK = 1 << 21;

static int64_t pieces(int64_t whole, int64_t piece) {
    return (whole + piece - 1) / piece;
}

static int64_t half_of(int64_t side) {
    return (side / 2 + EDGE - 1) / EDGE * EDGE;
}

/* Depends on the sizes alone: halves of the longer side, until there are tiles enough for many
 * threads, or a tile is small. Small tiles are slow, as each packs its part of a and b anew. */
static grid grid_of(int64_t m, int64_t n, int64_t k) {
    grid g = {.rows = m, .cols = n};
    double work = (double)m * (double)n * (double)k;
    g.shared = work > ALONE;
    while (g.shared && pieces(m, g.rows) * pieces(n, g.cols) < TILES &&
           (double)g.rows * (double)g.cols * (double)k > 2 * LEAST_WORK) {
        int64_t *longer = g.rows >= g.cols ? &g.rows : &g.cols;
        if (half_of(*longer) >= *longer || *longer < 2 * LEAST_SIDE)
            break;
        *longer = half_of(*longer);
    }
    g.n_rows = pieces(m, g.rows);
    g.n_cols = pieces(n, g.cols);
    return g;
}

/* A tile's first row and column, and its sizes within c[m, n]. */
typedef struct tile {
    int64_t row, col, rows, cols;
} tile;

static tile tile_at(const grid *g, int64_t m, int64_t n, int64_t number) {
    tile t = {.row = number / g->n_cols * g->rows, .col = number % g->n_cols * g->cols};
    t.rows = m - t.row < g->rows ? m - t.row : g->rows;
    t.cols = n - t.col < g->cols ? n - t.col : g->cols;
    return t;
}

void la_team_sgemm(la_team team, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                   float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                   float beta, float *c, int64_t ldc) {
    grid g = grid_of(m, n, k);
#pragma omp parallel for schedule(dynamic) num_threads(team.threads) if (g.shared)
    for (int64_t i = 0; i < g.n_rows * g.n_cols; i++) {
        tile t = tile_at(&g, m, n, i);
        la_sgemm(trans_a, trans_b, t.rows, t.cols, k, alpha, a + (trans_a ? t.row : t.row * lda),
                 lda, b + (trans_b ? t.col * ldb : t.col), ldb, beta, c + t.row * ldc + t.col, ldc);
    }
}

void la_team_dgemm(la_team team, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
                   double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                   double beta, double *c, int64_t ldc) {
    grid g = grid_of(m, n, k);
#pragma omp parallel for schedule(dynamic) num_threads(team.threads) if (g.shared)
    for (int64_t i = 0; i < g.n_rows * g.n_cols; i++) {
        tile t = tile_at(&g, m, n, i);
        la_dgemm(trans_a, trans_b, t.rows, t.cols, k, alpha, a + (trans_a ? t.row : t.row * lda),
                 lda, b + (trans_b ? t.col * ldb : t.col), ldb, beta, c + t.row * ldc + t.col, ldc);
    }
}

/* Square tiles of the lower triangle. */
static grid triangle_of(int64_t n, int64_t k) {
    grid g = grid_of(n, n, k);
    g.rows = g.cols = g.rows < g.cols ? g.rows : g.cols;
    g.n_rows = g.n_cols = pieces(n, g.rows);
    return g;
}

static void own_ssyrk(int64_t n, int64_t k, const float *a, int64_t lda, float *c, int64_t ldc) {
    int before = enter();
    cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (blasint)n, (blasint)k, 1, a, (blasint)lda,
                0, c, (blasint)ldc);
    leave(before);
}

static void own_dsyrk(int64_t n, int64_t k, const double *a, int64_t lda, double *c, int64_t ldc) {
    int before = enter();
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (blasint)n, (blasint)k, 1, a, (blasint)lda,
                0, c, (blasint)ldc);
    leave(before);
}

void la_team_ssyrk(la_team team, int64_t n, int64_t k, const float *a, int64_t lda, float *c,
                   int64_t ldc) {
    grid g = triangle_of(n, k);
#pragma omp parallel for schedule(dynamic) num_threads(team.threads) if (g.shared)
    for (int64_t i = 0; i < g.n_rows * g.n_cols; i++) {
        tile t = tile_at(&g, n, n, i);
        if (t.col == t.row)
            own_ssyrk(t.rows, k, a + t.row, lda, c + t.row * ldc + t.col, ldc);
        else if (t.col < t.row)
            la_sgemm(true, false, t.rows, t.cols, k, 1, a + t.row, lda, a + t.col, lda, 0,
                     c + t.row * ldc + t.col, ldc);
    }
}

void la_team_dsyrk(la_team team, int64_t n, int64_t k, const double *a, int64_t lda, double *c,
                   int64_t ldc) {
    grid g = triangle_of(n, k);
#pragma omp parallel for schedule(dynamic) num_threads(team.threads) if (g.shared)
    for (int64_t i = 0; i < g.n_rows * g.n_cols; i++) {
        tile t = tile_at(&g, n, n, i);
        if (t.col == t.row)
            own_dsyrk(t.rows, k, a + t.row, lda, c + t.row * ldc + t.col, ldc);
        else if (t.col < t.row)
            la_dgemm(true, false, t.rows, t.cols, k, 1, a + t.row, lda, a + t.col, lda, 0,
                     c + t.row * ldc + t.col, ldc);
    }
}

void la_team_dtrsm(la_team team, int64_t rows, int64_t n, const double *factor, double *x) {
    enum { STRIP = 64 };
#pragma omp parallel for schedule(dynamic) num_threads(team.threads)
    for (int64_t from = 0; from < rows; from += STRIP)
        la_dtrsm(rows - from < STRIP ? rows - from : STRIP, n, factor, x + from * n);
}

/* ---- memory of the library ---- */

/* Takes n of the library's buffers and gives them back: it keeps their memory. A build without
 * these calls takes buffers as products come. */
static void take_buffers(int n) {
    void *take_address = dlsym(RTLD_DEFAULT, "blas_memory_alloc");
    void *give_address = dlsym(RTLD_DEFAULT, "blas_memory_free");
    void *(*take)(int);
    void (*give)(void *);
    void *taken[SEATS_MOST];
    if (!take_address || !give_address)
        return;
    memcpy(&take, &take_address, sizeof take);
    memcpy(&give, &give_address, sizeof give);
    for (int i = 0; i < n; i++) {
        take_seat();
        taken[i] = take(0);
    }
    for (int i = n; i-- > 0;) {
        if (taken[i])
            give(taken[i]);
        sem_post(&seats);
    }
}

static bool fits(int buffers) {
    size_t bytes = (size_t)buffers * LA_BLAS_BUFFER;
    void *tried = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return tried != MAP_FAILED && !munmap(tried, bytes);
}

static pthread_mutex_t reserve_lock = PTHREAD_MUTEX_INITIALIZER;
static int in_use; /* threads of all open teams */

int la_blas_reserve(int n) {
    static int reserved;
    take_seat();
    sem_post(&seats); /* they are counted now */
    pthread_mutex_lock(&reserve_lock);
    /* one at a time: a system that overcommits refuses only what is absurd in one piece */
    while (reserved < n_seats && reserved - in_use < n && fits(1))
        take_buffers(++reserved);
    int there = n;
    if (reserved < n_seats && reserved - in_use < n)
        there = reserved > in_use ? reserved - in_use : 0;
    in_use += there;
    pthread_mutex_unlock(&reserve_lock);
    return there;
}

void la_blas_release(int n) {
    pthread_mutex_lock(&reserve_lock);
    in_use -= n;
    pthread_mutex_unlock(&reserve_lock);
}
