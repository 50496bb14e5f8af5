/* Eigendecompositions, and the sums of several devices.
 *
 * Largest gaps observed, emulated, over seven kinds of BLAS kernels and one and two threads, as a
 * share of the largest eigenvalue, in all precisions alike. The emulated solver is LAPACK, as the
 * host's: the limits of values leave room for another one. In a bf16 backend large matrices are
 * decomposed in f32.
 *
 *                                  large, f32
 *   values                 1.6e-15   1.2e-7 (trace)
 *   least                  3.0e-16
 *   |A v - value v| / |A|  1.1e-8    1.3e-6
 *   |V V^T - 1|            5.5e-8    1.7e-6
 *   after factor_add       6.9e-8    (tf32: 4.7e-5) */
#include "cuda/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- matrices ---- */

typedef enum spectrum {
    FEW_SAMPLES, /* x^T x of fewer rows than columns: rank deficient */
    WISHART,     /* x^T x of more: no gaps to speak of */
    DECAYING,    /* falling by an order of magnitude every few eigenvalues */
    IDENTITY,    /* one eigenvalue, many times */
    ZERO
} spectrum;

/* [n, n], symmetric. Free with free. */
static double *matrix_of(spectrum kind, int64_t n) {
    int64_t rows = kind == FEW_SAMPLES ? (n + 1) / 2 : kind == WISHART ? 2 * n : n;
    double *a = calloc((size_t)(n * n), sizeof *a), *x = normal(rows * n);
    assert_non_null(a);
    for (int64_t t = 0; kind < IDENTITY && t < rows; t++) {
        double weight = kind == DECAYING ? pow(0.8, (double)t) : 1 / (double)rows;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] += weight * x[t * n + i] * x[t * n + j];
    }
    for (int64_t i = 0; kind == IDENTITY && i < n; i++)
        a[i * n + i] = 3;
    free(x);
    return a;
}

/* A problem, what the host says of it, and the matrix. */
typedef struct solved {
    double *matrix;         /* [n, n] */
    la_eigen problem, want; /* on the device, on the host */
} solved;

static la_eigen open_problem(const char *name, int64_t n, int64_t rank) {
    la_eigen p = {.name = name, .n = n, .rank = rank};
    p.values = calloc((size_t)rank, sizeof *p.values);
    p.vectors = calloc((size_t)(rank * n), sizeof *p.vectors);
    assert_true(p.values && p.vectors);
    return p;
}

/* Upload to where the backend has its sums. Values above the diagonal are never read. */
static void send(la_backend *to, la_eigen *p, const double *matrix) {
    size_t bytes = (size_t)(p->n * p->n) * sizeof(double);
    double *lower = malloc(bytes);
    p->a = to->ops->alloc(to, bytes);
    assert_true(lower && p->a);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < p->n; j++)
            lower[i * p->n + j] = j > i ? NAN : matrix[i * p->n + j];
    to->ops->upload(to, p->a, lower, bytes);
    free(lower);
}

static void close_problem(la_backend *of, la_eigen *p) {
    of->ops->release(of, p->a);
    free(p->values);
    free(p->vectors);
}

static solved open_solved(const char *name, spectrum kind, int64_t n, int64_t rank) {
    solved s = {matrix_of(kind, n), open_problem(name, n, rank), open_problem(name, n, rank)};
    send(&device, &s.problem, s.matrix);
    send(&host, &s.want, s.matrix);
    return s;
}

static void close_solved(solved *s) {
    close_problem(&device, &s->problem);
    close_problem(&host, &s->want);
    free(s->matrix);
}

/* ---- what is compared ---- */

typedef struct solved_gaps {
    double values, least, residual, orthogonality;
} solved_gaps;

/* |A v - value v| / |A|, and |V V^T - 1|: not the vectors themselves, whose signs, and those of
 * equal values altogether, are anybody's choice. */
static void measure(const solved *s, solved_gaps *gaps) {
    const la_eigen *p = &s->problem, *want = &s->want;
    double top = want->values[0] > 0 ? want->values[0] : 1;
    for (int64_t r = 0; r < p->rank; r++) {
        gaps->values = larger(gaps->values, fabs(p->values[r] - want->values[r]) / top);
        assert_true(r == 0 || p->values[r] <= p->values[r - 1]);
        const float *v = p->vectors + r * p->n;
        for (int64_t i = 0; i < p->n; i++) {
            double sum = -p->values[r] * (double)v[i];
            for (int64_t j = 0; j < p->n; j++)
                sum += s->matrix[i * p->n + j] * (double)v[j];
            gaps->residual = larger(gaps->residual, fabs(sum) / top);
        }
        for (int64_t q = 0; q <= r; q++) {
            double dot = q == r ? -1 : 0;
            for (int64_t j = 0; j < p->n; j++)
                dot += (double)v[j] * (double)p->vectors[q * p->n + j];
            gaps->orthogonality = larger(gaps->orthogonality, fabs(dot));
        }
    }
    /* not known where only the largest are computed */
    if (p->rank == p->n || !isnan(p->least))
        gaps->least = larger(gaps->least, fabs(p->least - want->least) / top);
}

static const struct {
    const char *name;
    spectrum kind;
    int64_t n, rank;
} problems[] = {
    {"one", WISHART, 1, 1},
    {"five", WISHART, 5, 5},
    {"thirty-three", WISHART, 33, 33},
    {"the same side", DECAYING, 33, 33},
    {"few of 33", FEW_SAMPLES, 33, 4},
    {"deficient", FEW_SAMPLES, 72, 72},
    {"identity", IDENTITY, 33, 33},
    {"nothing", ZERO, 33, 33},
    {"130", DECAYING, 130, 130},
    {"few of 130", WISHART, 130, 9},
    {"300", WISHART, 300, 300},
    {"few of 300", DECAYING, 300, 10},
    {"300, no gaps", WISHART, 300, 10},
    {"nothing of 300", ZERO, 300, 10},
    {"300, deficient", FEW_SAMPLES, 300, 300},
};
enum { PROBLEMS = sizeof problems / sizeof *problems };

static void solve(solved all[PROBLEMS]) {
    la_eigen given[PROBLEMS], wanted_of[PROBLEMS];
    la_error err = {0};
    for (int64_t i = 0; i < PROBLEMS; i++) {
        all[i] = open_solved(problems[i].name, problems[i].kind, problems[i].n, problems[i].rank);
        given[i] = all[i].problem;
        wanted_of[i] = all[i].want;
    }
    assert_int_equal(host.ops->eigh(&host, PROBLEMS, wanted_of, &err), LA_OK);
    if (device.ops->eigh(&device, PROBLEMS, given, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int64_t i = 0; i < PROBLEMS; i++) {
        all[i].problem = given[i];
        all[i].want = wanted_of[i];
    }
}

static void eigh(la_dtype type) {
    solved all[PROBLEMS];
    solved_gaps gaps = {0};
    la_error err = {0};
    solve(all);
    for (int64_t i = 0; i < PROBLEMS; i++)
        measure(&all[i], &gaps);
    check("eigh, values", type, gaps.values, (limits){1e-13, 1e-13, 1e-13});
    check("eigh, least", type, gaps.least, (limits){1e-13, 1e-13, 1e-13});
    check("eigh, |A v - value v| / |A|", type, gaps.residual, (limits){4e-8, 4e-8, 4e-8});
    check("eigh, |V V^T - 1|", type, gaps.orthogonality, (limits){2.1e-7, 2.1e-7, 2.1e-7});
    /* again, each alone: the same bits */
    for (int64_t i = 0; i < PROBLEMS; i++) {
        la_eigen *before = &all[i].problem;
        la_eigen again = open_problem(before->name, before->n, before->rank);
        send(&device, &again, all[i].matrix);
        assert_int_equal(device.ops->eigh(&device, 1, &again, &err), LA_OK);
        assert_memory_equal(again.values, before->values,
                            (size_t)again.rank * sizeof *again.values);
        assert_memory_equal(again.vectors, before->vectors,
                            (size_t)(again.rank * again.n) * sizeof *again.vectors);
        close_problem(&device, &again);
    }
    for (int64_t i = 0; i < PROBLEMS; i++)
        close_solved(&all[i]);
}

/* diag(1, 1/2, ..., 1/n) + u u^T: the sum of its eigenvalues is known, and products with it cost
 * little. */
static void large_times(int64_t n, const double *u, const float *v, double *product) {
    double dot = 0;
    for (int64_t i = 0; i < n; i++)
        dot += u[i] * (double)v[i];
    for (int64_t i = 0; i < n; i++)
        product[i] = (double)v[i] / (double)(i + 1) + u[i] * dot;
}

/* Large ones are decomposed in f32 when their sums come from bf16 products. */
static void eigh_of_a_large_one(la_dtype type) {
    enum { N = 2056, STEP = 128 };
    double *u = normal(N), *matrix = calloc((size_t)N * N, sizeof *matrix), *product = normal(N);
    la_eigen p = open_problem("large", N, N);
    la_error err = {0};
    double trace = 0, sum = 0, residual = 0, orthogonality = 0;
    assert_non_null(matrix);
    for (int64_t i = 0; i < N; i++) {
        u[i] /= sqrt((double)N);
        for (int64_t j = 0; j <= i; j++)
            matrix[i * N + j] = u[i] * u[j];
        matrix[i * N + i] += 1 / (double)(i + 1);
        trace += matrix[i * N + i];
    }
    send(&device, &p, matrix);
    if (device.ops->eigh(&device, 1, &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int64_t r = 0; r < N; r++)
        sum += p.values[r];
    for (int64_t r = 0; r < N; r += STEP) {
        const float *v = p.vectors + r * N;
        large_times(N, u, v, product);
        for (int64_t i = 0; i < N; i++)
            residual = larger(residual, fabs(product[i] - p.values[r] * (double)v[i]));
        for (int64_t q = 0; q <= r; q += STEP) {
            double dot = q == r ? -1 : 0;
            for (int64_t i = 0; i < N; i++)
                dot += (double)v[i] * (double)p.vectors[q * N + i];
            orthogonality = larger(orthogonality, fabs(dot));
        }
    }
    assert_true(p.least == p.values[N - 1]);
    check("eigh of a large one, trace", type, fabs(sum - trace) / trace, (limits){0, 0, 4.4e-7});
    check("eigh of a large one, residual", type, residual / p.values[0], (limits){0, 0, 5e-6});
    check("eigh of a large one, orthogonality", type, orthogonality, (limits){0, 0, 6e-6});
    close_problem(&device, &p);
    free(u), free(matrix), free(product);
}

/* The first one, in the order they were given, is named; what follows is not poisoned. */
static void eigh_of_nan(la_dtype type) {
    (void)type;
    static const int64_t sides[] = {5, 33, 300}, ranks[] = {5, 3, 300, 10};
    for (int64_t c = 0; c < 4; c++) {
        int64_t n = sides[c < 2 ? c : 2];
        for (int bad = 0; bad < 2; bad++) {
            la_eigen both[2] = {open_problem("the first", 33, 33),
                                open_problem("layer 3, output", n, ranks[c])};
            double *good = matrix_of(WISHART, 33), *broken = matrix_of(WISHART, n);
            broken[(n - 1) * n + n / 2] = bad ? INFINITY : NAN;
            send(&device, &both[0], good);
            send(&device, &both[1], broken);
            la_error err = {0};
            assert_int_equal(device.ops->eigh(&device, 2, both, &err), LA_NUMERICAL);
            if (!strstr(err.message, "layer 3, output") || strstr(err.message, "the first"))
                fail_msg("the message names another matrix: %s", err.message);
            /* the matrices are used up */
            device.ops->release(&device, both[0].a);
            send(&device, &both[0], good);
            err = (la_error){0};
            assert_int_equal(device.ops->eigh(&device, 1, both, &err), LA_OK);
            free(good), free(broken);
            close_problem(&device, &both[0]);
            close_problem(&device, &both[1]);
        }
    }
}

/* eigh decomposes a sum that factor_add has just put in the queue. */
static void eigh_after_factor_add(la_dtype type) {
    enum { N = 33 };
    double zeros[N * N] = {0};
    operand *sum = changed(dense(LA_F64, N, N, zeros)), *x = drawn(type, 130, N, 1);
    la_eigen p = open_problem("sum", N, N);
    double first[N];
    while (next_run()) {
        la_error err = {0};
        be->ops->factor_add(be, 1, on(x), data(sum));
        p.a = data(sum);
        assert_int_equal(be->ops->eigh(be, 1, &p, &err), LA_OK);
        if (be == &host)
            memcpy(first, p.values, sizeof first);
        /* the matrix is destroyed and not compared */
        be->ops->zero(be, p.a, sizeof zeros);
    }
    double worst = 0;
    for (int i = 0; i < N; i++)
        worst = larger(worst, fabs(p.values[i] - first[i]) / first[0]);
    check("eigh after factor_add", type, worst, (limits){1e-6, 1.8e-4, 1e-6});
    p.a = NULL;
    free(p.values), free(p.vectors);
    forget();
}

/* ---- reduce ---- */

/* sums[i][j] = a number of device i; afterwards the first holds the sum, in the devices' order. */
static void check_reduce(la_backend *devices, int n, int64_t count) {
    la_backend *list[LA_DEVICES_MAX];
    double *sums[LA_DEVICES_MAX], *values[LA_DEVICES_MAX], *back = normal(count);
    size_t bytes = (size_t)count * sizeof(double);
    la_error err = {0};
    for (int i = 0; i < n; i++) {
        list[i] = &devices[i];
        values[i] = normal(count);
        sums[i] = list[i]->ops->alloc(list[i], bytes);
        assert_non_null(sums[i]);
        list[i]->ops->upload(list[i], sums[i], values[i], bytes);
    }
    assert_int_equal(list[0]->ops->reduce(list, n, sums, count, &err), LA_OK);
    list[0]->ops->download(list[0], back, sums[0], bytes);
    for (int64_t j = 0; j < count; j++) {
        double want = 0;
        for (int i = 0; i < n; i++)
            want += values[i][j];
        if (!(fabs(back[j] - want) <= 1e-15 * (double)n * 8))
            fail_msg("%d devices: sum %lld of %lld is %g, expected %g", n, (long long)j,
                     (long long)count, back[j], want);
    }
    for (int i = 0; i < n; i++) {
        list[i]->ops->release(list[i], sums[i]);
        free(values[i]);
    }
    free(back);
}

static void reduce(la_dtype type) {
    (void)type;
    check_reduce(&device, 1, 5);
    check_reduce(&device, 1, 130 * 130);
}

static void reduce_two(la_dtype type) {
    (void)type;
    la_backend two[LA_DEVICES_MAX];
    la_error err = {0};
    int n;
    if (la_backend_open("cuda:0,1", device.precision, la_team_of(2), NULL, two, &n, &err) !=
        LA_OK) {
        print_message("    %s\n", err.message);
        skip();
    }
    assert_int_equal(n, 2);
    static const int64_t counts[] = {1, 5, 1003, 130 * 130, 1000003};
    for (int64_t i = 0; i < COUNT(counts); i++)
        check_reduce(two, n, counts[i]);
    for (int i = 0; i < n; i++) {
        assert_int_equal(two[i].ops->sync(&two[i], &err), LA_OK);
        two[i].ops->close(&two[i]);
    }
}

int main(void) {
    static const op_test tests[] = {
        {"eigh", eigh, EACH},
        {"eigh_of_a_large_one", eigh_of_a_large_one, IN_BF16},
        {"eigh_of_nan", eigh_of_nan, EACH},
        {"eigh_after_factor_add", eigh_after_factor_add, EACH},
        {"reduce", reduce, ONCE},
        {"reduce_two", reduce_two, ONCE},
    };
    /* an emulated machine has two */
    setenv("LA_EMULATED_DEVICES", "2", 0);
    return run_ops("solver", tests, COUNT(tests));
}
