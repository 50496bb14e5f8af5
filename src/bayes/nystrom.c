#include "bayes/nystrom.h"
#include "base/blas.h"
#include "base/random.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OVERSAMPLING = 8,
    WIDENED_ROWS = 512, /* at a time, at most */
    CHEAPER =
        4 /* a factor's side beside l: its products then cost as much, in f64, as the factor's */
};

/* Any number: the result must not depend on it by more than the sketch's error. */
#define SEED UINT64_C(0x6c61706c6f726132)
/* Eigenvalues this small beside the largest are rounding. */
#define LEAST_SHARE 1e-10
/* Share of the norm of Y that no rounding reaches. */
#define SHIFT_MOST 1e-6

int64_t la_nystrom_width(int64_t rank) {
    return 2 * rank + OVERSAMPLING;
}

bool la_nystrom_is_for(int64_t n, int64_t rank) {
    return rank && CHEAPER * la_nystrom_width(rank) <= n;
}

size_t la_nystrom_bytes(int64_t n, int64_t rank) {
    int64_t l = la_nystrom_width(rank);
    return (size_t)(n * l + WIDENED_ROWS * (n + l)) * sizeof(double);
}

/* On the host, from malloc. */
static double *draw_omega(la_team team, int64_t n, int64_t rank, la_error *err) {
    int64_t l = la_nystrom_width(rank);
    double *host = la_alloc((size_t)(n * l), sizeof *host, err);
#pragma omp parallel for schedule(static) num_threads(team.threads)
    for (int64_t i = 0; i < (host ? n : 0); i++)
        la_random_normal(SEED, (uint64_t)i, 0, (size_t)l, host + i * l);
    return host;
}

double *la_nystrom_omega(la_backend *be, int64_t n, int64_t rank, la_error *err) {
    size_t count = (size_t)(n * la_nystrom_width(rank));
    double *host = draw_omega(be->team, n, rank, err);
    double *omega = host ? be->ops->alloc(be, count * sizeof *omega) : NULL;
    if (host && !omega)
        (void)la_fail(err, LA_RESOURCE, "out of memory on %s: %.1f MiB for the sketch of factors",
                      be->device, la_mib((double)count * sizeof *omega));
    if (omega)
        be->ops->upload(be, omega, host, count * sizeof *omega);
    free(host);
    return omega;
}

la_status la_nystrom_restore(la_team team, const la_factor *factor, int64_t rank, double times,
                             double *sum, la_error *err) {
    int64_t n = factor->n, k = factor->rank, l = la_nystrom_width(rank);
    double *omega = draw_omega(team, n, rank, err);
    double *rows = la_alloc((size_t)(k * n), sizeof *rows, err);
    double *along = la_alloc((size_t)(k * l), sizeof *along, err);
    if (err->status == LA_OK) {
        for (int64_t i = 0; i < k * n; i++)
            rows[i] = (double)factor->vectors[i];
        la_team_dgemm(team, false, false, k, l, n, 1, rows, n, omega, l, 0, along, l);
        for (int64_t i = 0; i < k * l; i++)
            along[i] *= times * factor->values[i / l];
        la_team_dgemm(team, true, false, n, l, k, 1, rows, n, along, l, 1, sum, l);
    }
    free(omega);
    free(rows);
    free(along);
    return err->status;
}

/* On the host; y and core are overwritten. */
typedef struct sketch {
    const char *name;
    la_team team;
    int64_t n, l, rank;
    double *y, *omega;   /* [n, l] */
    double *core, *root; /* [l, l] */
    double *squares;     /* [l] ascending */
    double shift;
} sketch;

/* NaN and infinite values make it so, and few others do: squares are not scaled. */
static double norm_of(int64_t n, const double *values) {
    double square = 0;
    for (int64_t i = 0; i < n; i++)
        square += values[i] * values[i];
    return sqrt(square);
}

static void add_shift(sketch *s, double more) {
    for (int64_t i = 0; i < s->n * s->l; i++)
        s->y[i] += more * s->omega[i];
    s->shift += more;
}

/* y = (A + shift) Omega through the inverse of the Cholesky factor of Omega^T y: y y^T is then the
 * Nystrom approximation of A + shift. The shift is what rounding may have left negative. */
static la_status whiten(sketch *s, la_error *err) {
    int64_t n = s->n, l = s->l;
    double norm = norm_of(n * l, s->y);
    if (!isfinite(norm))
        return la_fail(err, LA_NUMERICAL,
                       "%s: the sketch of its curvature factor holds NaN or infinite values",
                       s->name);
    double shift = DBL_EPSILON * sqrt((double)s->n) * norm;
    for (; shift <= SHIFT_MOST * norm; shift *= 10) {
        add_shift(s, shift - s->shift);
        la_team_dgemm(s->team, true, false, l, l, n, 1, s->omega, l, s->y, l, 0, s->core, l);
        for (int64_t i = 0; i < l; i++)
            for (int64_t j = 0; j <= i; j++)
                s->root[i * l + j] = (s->core[i * l + j] + s->core[j * l + i]) / 2;
        if (la_dpotrf(l, s->root))
            continue;
        la_team_dtrsm(s->team, n, l, s->root, s->y);
        return LA_OK;
    }
    return la_fail(err, LA_NUMERICAL, "%s: a curvature factor is not positive semi-definite",
                   s->name);
}

/* The factor's eigenpairs from the singular vectors of y; core's columns turn y into them. */
static la_status solve(sketch *s, la_pool *pool, la_factor *factor, la_error *err) {
    int64_t n = s->n, l = s->l;
    la_team_dsyrk(s->team, l, n, s->y, l, s->core, l);
    int info = la_dsyevd(l, s->core, s->squares);
    if (info == la_lapack_no_memory)
        return la_fail(err, LA_RESOURCE,
                       "%s: out of memory for the eigendecomposition of its sketch", s->name);
    if (info)
        return la_fail(err, LA_NUMERICAL,
                       "%s: the eigendecomposition of its sketched curvature factor failed",
                       s->name);
    double top = s->squares[l - 1] - s->shift;
    int64_t rank = s->rank;
    while (rank > 1 && s->squares[l - rank] - s->shift <= LEAST_SHARE * top)
        rank--;
    *factor = (la_factor){.n = s->n, .rank = rank};
    factor->values = la_pool_take(pool, (size_t)rank, sizeof *factor->values, err);
    factor->vectors = la_pool_take(pool, (size_t)(rank * s->n), sizeof *factor->vectors, err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < rank; i++) {
        double square = s->squares[l - 1 - i], *row = s->core + (l - 1 - i) * l;
        factor->values[i] = square > s->shift ? square - s->shift : 0;
        for (int64_t j = 0; j < l; j++)
            row[j] *= 1 / sqrt(square);
    }
    /* omega is free by now: it takes the eigenvectors, the last of them first */
    la_team_dgemm(s->team, false, true, rank, n, l, 1, s->core + (l - rank) * l, l, s->y, l, 0,
                  s->omega, n);
    for (int64_t i = 0; i < rank; i++)
        for (int64_t j = 0; j < s->n; j++)
            factor->vectors[i * s->n + j] = (float)s->omega[(rank - 1 - i) * s->n + j];
    return LA_OK;
}

/* No curvature: one direction without any. */
static la_status flat(const sketch *s, la_pool *pool, la_factor *factor, la_error *err) {
    *factor = (la_factor){.n = s->n, .rank = 1};
    factor->values = la_pool_take(pool, 1, sizeof *factor->values, err);
    factor->vectors = la_pool_take(pool, (size_t)s->n, sizeof *factor->vectors, err);
    LA_TRY(err->status);
    memset(factor->vectors, 0, (size_t)s->n * sizeof *factor->vectors);
    factor->values[0] = 0;
    factor->vectors[0] = 1;
    return LA_OK;
}

la_status la_nystrom_factor(la_backend *be, const char *name, int64_t n, int64_t rank,
                            const double *omega, const double *sum, la_pool *pool,
                            la_factor *factor, la_error *err) {
    sketch s = {.name = name, .team = be->team, .n = n, .l = la_nystrom_width(rank), .rank = rank};
    size_t count = (size_t)(n * s.l), core = (size_t)(s.l * s.l);
    s.y = la_alloc(count, sizeof *s.y, err);
    s.omega = la_alloc(count, sizeof *s.omega, err);
    s.core = la_alloc(core, sizeof *s.core, err);
    s.root = la_alloc(core, sizeof *s.root, err);
    s.squares = la_alloc((size_t)s.l, sizeof *s.squares, err);
    if (err->status == LA_OK) {
        be->ops->download(be, s.y, sum, count * sizeof *s.y);
        be->ops->download(be, s.omega, omega, count * sizeof *s.omega);
        (void)be->ops->sync(be, err);
    }
    if (err->status == LA_OK) {
        if (norm_of(n * s.l, s.y) == 0)
            (void)flat(&s, pool, factor, err);
        else if (whiten(&s, err) == LA_OK)
            (void)solve(&s, pool, factor, err);
    }
    free(s.y);
    free(s.omega);
    free(s.core);
    free(s.root);
    free(s.squares);
    return err->status;
}
