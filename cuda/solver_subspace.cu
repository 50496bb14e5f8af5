/* The largest few eigenpairs of a large matrix: subspace iteration with Chebyshev filters.
 *
 * A basis of somewhat more columns than are wanted is multiplied by a polynomial of A that is at
 * most 1 in size on the unwanted part of the spectrum and grows quickly above it, is made
 * orthonormal again, and is turned to the Ritz vectors within it (Zhou, Saad, Tiago and Chelikowsky
 * 2006). With degree 1 this is plain subspace iteration of a shifted matrix; the shift also keeps
 * the basis independent where A is rank deficient, since the null space is mapped to 1 and not
 * to 0. */
#include "solver.cuh"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utility>

enum {
    CYCLES = 40, /* beyond them a direct solver is as fast */
    CYCLES_STRICT = 20,
    DEGREE_MAX = 12,
    THREADS = 256
};

/* Largest growth of a component within one filter, against those it damps. What rounding leaves of
 * the first eigenvector in the other columns (1e-16) grows by as much; 1e7 keeps the columns
 * independent by far. The first Ritz vectors are crude, and their columns less apart. */
static const double GROWTH_FIRST = 1e4, GROWTH = 1e7;
/* The damped part reaches up to the smallest Ritz value, but not below this share of the largest:
 * a growth of 2e9 at degree 1, in Ritz vectors, which are orthogonal in A's product too. */
static const double FLOOR = 1e-9;

/* ||A v - l v|| allowed for a wanted pair, whose eigenvalue is then as near, and mostly far nearer
 * (the square of this, over its distance to what was left out).
 *
 * As a share of the largest eigenvalue: the pairs are the exact ones of a matrix that is off by
 * this much, and the sums are off by more themselves; the rounding of the products' factors, 6e-8
 * in f32 and above 1e-4 in the others, averages out over tokens to little less than 1e-8 and 1e-6.
 *
 * As a share of its own one: that rounding is small where the entries are small, so that
 * eigenvalues far below a single large one, which a few channels of a model bring about, mean
 * something too. Noise, however, where nothing separates one eigenvalue from the next, never
 * converges so far: after some cycles the first share alone decides. */
static double allowed(la_precision precision, int cycle, double largest, double value) {
    bool exact = precision == LA_PRECISION_F32;
    double loose = (exact ? 1e-9 : 1e-7) * largest, strict = (exact ? 1e-5 : 1e-3) * value;
    double rounding = 1e-13 * largest;
    if (cycle >= CYCLES_STRICT || strict > loose)
        return loose;
    return strict > rounding ? strict : rounding;
}

static int64_t columns_of(const la_eigen *problem) {
    int64_t more = problem->rank / 2 > 8 ? problem->rank / 2 : 8;
    int64_t columns = problem->rank + more;
    return columns < problem->n ? columns : problem->n;
}

/* q[columns, n]: fixed normal numbers, each from its place alone */
__global__ static void fill_normal(int64_t count, double *q) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= count)
        return;
    double uniform[2];
    for (int part = 0; part < 2; part++) {
        /* splitmix64 */
        uint64_t z = (2 * static_cast<uint64_t>(at) + part + 1) * 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        z ^= z >> 31;
        uniform[part] = (static_cast<double>(z >> 11) + 0.5) / 9007199254740992.0;
    }
    q[at] = sqrt(-2 * log(uniform[0])) * cos(6.283185307179586 * uniform[1]);
}

/* y[count] = alpha x + beta y */
__global__ static void combine(int64_t count, double alpha, const double *x, double beta,
                               double *y) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at < count)
        y[at] = alpha * x[at] + beta * y[at];
}

/* gram[k, k]: its diagonal times scale */
__global__ static void scale_diagonal(int64_t k, double scale, double *gram) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < k)
        gram[i * (k + 1)] *= scale;
}

typedef struct subspace {
    const la_solver *s;
    const la_eigen *problem;
    int64_t n, k;
    double *basis[4]; /* [k, n] each: basis, its product with A, and two to write to */
    double *small;    /* [k, k] gram or projected matrix */
    double *values;   /* [k] Ritz values, ascending */
    double *checks;   /* [2, k] */
    int *info;
    la_workspace space;
    double *host; /* [k] values, then [2, k] checks */
} subspace;

static la_status lay_out(const la_solver *s, const la_eigen *problem, subspace *u,
                         la_solver_arena *arena, la_error *err) {
    int64_t n = problem->n, k = columns_of(problem);
    u->s = s;
    u->problem = problem;
    u->n = n;
    u->k = k;
    for (int i = 0; i < 4; i++)
        u->basis[i] = la_solver_take<double>(arena, n * k);
    u->small = la_solver_take<double>(arena, k * k);
    u->values = la_solver_take<double>(arena, k);
    u->checks = la_solver_take<double>(arena, 2 * k);
    u->info = la_solver_take<int>(arena, 1);
    size_t device = 0, host = 0;
    LA_TRY(la_solver_syevd_space(s, k, u->problem->a, &u->space, err));
    LA_TRY(la_solver_dense(s,
                           cusolverDnXpotrf_bufferSize(s->dense, s->params, CUBLAS_FILL_MODE_UPPER,
                                                       k, CUDA_R_64F, u->problem->a, k, CUDA_R_64F,
                                                       &device, &host),
                           "the workspace of Xpotrf", err));
    la_workspace_include(&u->space, device, host);
    u->space.device =
        la_solver_take<unsigned char>(arena, static_cast<int64_t>(u->space.device_bytes));
    return LA_OK;
}

/* c = alpha op(a) b + beta c in columns: a has n rows, c [rows, k], and b inner rows. */
static la_status product(const subspace *u, const char *what, cublasOperation_t op, int64_t rows,
                         int64_t inner, double alpha, const double *a, const double *b, double beta,
                         double *c, la_error *err) {
    int m = static_cast<int>(rows), sum = static_cast<int>(inner);
    return la_solver_blas(u->s,
                          cublasDgemm(u->s->blas, op, CUBLAS_OP_N, m, static_cast<int>(u->k), sum,
                                      &alpha, a, static_cast<int>(u->n), b, sum, &beta, c, m),
                          what, err);
}

/* y[k, n] = alpha x A + beta y */
static la_status multiply(const subspace *u, double alpha, const double *x, double beta, double *y,
                          la_error *err) {
    return product(u, "a product with the matrix", CUBLAS_OP_N, u->n, u->n, alpha, u->problem->a, x,
                   beta, y, err);
}

/* small[k, k] = x y^T */
static la_status project(const subspace *u, const double *x, const double *y, la_error *err) {
    return product(u, "a projection", CUBLAS_OP_T, u->k, u->n, 1, x, y, 0, u->small, err);
}

/* y[k, n] = the columns of small combine the rows of x */
static la_status turn(const subspace *u, const double *x, double *y, la_error *err) {
    return product(u, "a rotation", CUBLAS_OP_N, u->n, u->k, 1, x, u->small, 0, y, err);
}

/* One pass of Cholesky QR over q[k, n]; *good is false, and q as it was, when the columns are too
 * dependent. lift: added to the gram's diagonal, as a share of each entry. */
static la_status cholesky_pass(const subspace *u, double lift, double *q, bool *good,
                               la_error *err) {
    const la_solver *s = u->s;
    int n = static_cast<int>(u->n), k = static_cast<int>(u->k), info = 0;
    double one = 1;
    LA_TRY(project(u, q, q, err));
    if (lift > 0) {
        LA_LAUNCH(scale_diagonal, la_cuda_blocks(k, THREADS), THREADS, 0, s->stream, u->k, 1 + lift,
                  u->small);
        LA_TRY(la_solver_launched(s, "scale_diagonal", err));
    }
    LA_TRY(la_solver_dense(s,
                           cusolverDnXpotrf(s->dense, s->params, CUBLAS_FILL_MODE_UPPER, u->k,
                                            CUDA_R_64F, u->small, u->k, CUDA_R_64F, u->space.device,
                                            u->space.device_bytes, s->host, u->space.host_bytes,
                                            u->info),
                           "Xpotrf", err));
    LA_TRY(la_solver_download(s, &info, u->info, sizeof info, err));
    *good = info == 0;
    if (!*good)
        return LA_OK;
    return la_solver_blas(s,
                          cublasDtrsm(s->blas, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER,
                                      CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n, k, &one, u->small, k, q,
                                      n),
                          "a triangular solve", err);
}

/* Orthonormal rows of q[k, n]. The second pass removes what the square of the condition number cost
 * the first. Where a first pass cannot be had, a lifted gram always factors, and leaves columns
 * that two plain passes can deal with. */
static la_status orthonormalise(const subspace *u, double *q, bool *good, la_error *err) {
    LA_TRY(cholesky_pass(u, 0, q, good, err));
    if (!*good) {
        LA_TRY(cholesky_pass(u, 1e-10, q, good, err));
        if (*good)
            LA_TRY(cholesky_pass(u, 0, q, good, err));
    }
    if (*good)
        LA_TRY(cholesky_pass(u, 0, q, good, err));
    return LA_OK;
}

/* basis[0] becomes the Ritz vectors of its span, ascending, and basis[1] A times them; values and
 * checks come to the host. */
static la_status rayleigh_ritz(subspace *u, bool *good, la_error *err) {
    const la_solver *s = u->s;
    size_t row = static_cast<size_t>(u->k) * sizeof(double);
    int info = 0;
    LA_TRY(multiply(u, 1, u->basis[0], 0, u->basis[1], err));
    LA_TRY(project(u, u->basis[0], u->basis[1], err));
    LA_TRY(la_solver_syevd(s, u->k, u->small, u->values, &u->space, u->info, err));
    LA_TRY(la_solver_download(s, &info, u->info, sizeof info, err));
    *good = info == 0;
    if (!*good)
        return LA_OK;
    LA_TRY(turn(u, u->basis[0], u->basis[2], err));
    LA_TRY(turn(u, u->basis[1], u->basis[3], err));
    std::swap(u->basis[0], u->basis[2]);
    std::swap(u->basis[1], u->basis[3]);
    LA_TRY(la_solver_check(s, u->n, u->k, u->basis[1], u->basis[0], u->values, u->checks, err));
    LA_TRY(la_solver_download(s, u->host, u->values, row, err));
    return la_solver_download(s, u->host + u->k, u->checks, 2 * row, err);
}

/* True when every wanted pair has converged. */
static bool converged(const subspace *u, int cycle) {
    const double *residual = u->host + u->k, *norm = residual + u->k;
    double largest = u->host[u->k - 1];
    for (int64_t i = u->k - u->problem->rank; i < u->k; i++)
        if (!(sqrt(residual[i]) <= allowed(u->s->precision, cycle, largest, u->host[i])) ||
            !(fabs(norm[i] - 1) <= 1e-10))
            return false;
    return true;
}

/* basis[0] = T_m((2 A - low - high) / (high - low)) basis[0], with m from the Ritz values; basis[1]
 * is A basis[0] before, and is lost. */
static la_status filter(subspace *u, double growth, la_error *err) {
    const la_solver *s = u->s;
    int64_t count = u->n * u->k;
    double first = u->host[u->k - 1], last = u->host[0];
    double high = last > FLOOR * first ? last : FLOOR * first;
    double low = last < 0 ? 2 * last : 0;
    double center = (high + low) / 2, radius = (high - low) / 2;
    double steepness = acosh((first - center) / radius > 1 ? (first - center) / radius : 1);
    int degree = DEGREE_MAX;
    while (degree > 1 && degree * steepness > acosh(growth))
        degree--;
    /* T_1 from the product at hand, then T_{j+1} = 2 x T_j - T_{j-1} */
    LA_LAUNCH(combine, la_cuda_blocks(count, THREADS), THREADS, 0, s->stream, count,
              -center / radius, u->basis[0], 1 / radius, u->basis[1]);
    LA_TRY(la_solver_launched(s, "combine", err));
    for (int j = 1; j < degree; j++) {
        LA_TRY(multiply(u, 2 / radius, u->basis[1], -1, u->basis[0], err));
        LA_LAUNCH(combine, la_cuda_blocks(count, THREADS), THREADS, 0, s->stream, count,
                  -2 * center / radius, u->basis[1], 1.0, u->basis[0]);
        LA_TRY(la_solver_launched(s, "combine", err));
        std::swap(u->basis[0], u->basis[1]);
    }
    std::swap(u->basis[0], u->basis[1]);
    return LA_OK;
}

static la_status iterate(subspace *u, bool *done, la_error *err) {
    const la_solver *s = u->s;
    int64_t count = u->n * u->k;
    LA_TRY(la_solver_mirror(s, u->problem, u->info, err));
    LA_LAUNCH(fill_normal, la_cuda_blocks(count, THREADS), THREADS, 0, s->stream, count,
              u->basis[0]);
    LA_TRY(la_solver_launched(s, "fill_normal", err));
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        bool good = false;
        LA_TRY(orthonormalise(u, u->basis[0], &good, err));
        if (good)
            LA_TRY(rayleigh_ritz(u, &good, err));
        /* nothing positive, or no number: not a matrix for this method */
        if (!good || !(u->host[u->k - 1] >= 0))
            return LA_OK;
        *done = converged(u, cycle);
        if (*done)
            return LA_OK;
        if (!(u->host[u->k - 1] > 0))
            return LA_OK;
        LA_TRY(filter(u, cycle ? GROWTH : GROWTH_FIRST, err));
    }
    return LA_OK;
}

la_status la_subspace_measure(const la_solver *s, const la_eigen *problem, size_t *bytes,
                              size_t *host_bytes, la_error *err) {
    subspace u = {};
    la_solver_arena arena = {};
    LA_TRY(lay_out(s, problem, &u, &arena, err));
    *bytes = arena.used;
    *host_bytes = u.space.host_bytes;
    return LA_OK;
}

la_status la_subspace(const la_solver *s, la_eigen *problem, bool *done, la_error *err) {
    subspace u = {};
    la_solver_arena arena = {s->memory, 0};
    *done = false;
    LA_TRY(lay_out(s, problem, &u, &arena, err));
    u.host = static_cast<double *>(malloc(static_cast<size_t>(3 * u.k) * sizeof(double)));
    if (!u.host)
        return la_fail(err, LA_RESOURCE, "%s: out of memory for its eigendecomposition",
                       problem->name);
    la_status status = iterate(&u, done, err);
    if (status == LA_OK && *done) {
        for (int64_t i = 0; i < problem->rank; i++)
            problem->values[i] = u.host[u.k - 1 - i];
        problem->least = NAN;
        status = la_solver_vectors(s, problem, u.k, u.basis[0], err);
    }
    free(u.host);
    return status;
}
