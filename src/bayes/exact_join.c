/* H of a posterior's rows and of other rows together, from the eigenpairs of both. With S the rows
 * sqrt(d_k) v_k of one, H = S^T S:
 *
 *   added      H = S^T S + Z^T Z: the Gram matrix of S over Z has the eigenvalues of H
 *              (exact.c), or H itself is formed where there are fewer parameters
 *   taken out  rows that were among those of S lie in the span of its v, in which H is
 *              diag(d) - C C^T with C = V Z^T; its rank is at most that of the rows left
 *
 * Products are in f64, of vectors that are kept in f32, a few thousand parameters at a time. */
#include "base/blas.h"
#include "bayes/exact_sketch.h"
#include "bayes/jacobian.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMETERS = 4096 /* at a time */ };

/* Eigenvalues this small beside the largest are rounding: of products, and of differences of
 * vectors that are kept in f32. */
#define LEAST_ADDED 1e-8
#define LEAST_LEFT 2e-7
/* Share of the largest that rounding does not reach. */
#define SLACK 1e-4

/* Rows sqrt(times d_k) v_k of two posteriors, the first's first. */
typedef struct stacked {
    la_team team;
    const la_directions *parts[2];
    double times[2];
    int64_t n, width;
    double *chunk; /* [n, PARAMETERS] */
} stacked;

static la_status open_stack(stacked *s, la_error *err) {
    s->n = s->parts[0]->rank + s->parts[1]->rank;
    s->width = s->parts[0]->width;
    s->chunk = la_alloc((size_t)(s->n * PARAMETERS), sizeof *s->chunk, err);
    return err->status;
}

/* Fills the chunk [n, cols] with columns [from, from + cols). */
static void fill(const stacked *s, int64_t from, int64_t cols) {
    int64_t row = 0;
    for (int p = 0; p < 2; p++) {
        const la_directions *d = s->parts[p];
        for (int64_t i = 0; i < d->rank; i++, row++) {
            double root = sqrt(s->times[p] * d->values[i]);
            for (int64_t j = 0; j < cols; j++)
                s->chunk[row * cols + j] = root * (double)d->vectors[i * d->width + from + j];
        }
    }
}

static int64_t columns_at(const stacked *s, int64_t from) {
    return s->width - from < PARAMETERS ? s->width - from : PARAMETERS;
}

/* gram[n, n] of all rows */
static void form_gram(const stacked *s, double *gram) {
    memset(gram, 0, (size_t)(s->n * s->n) * sizeof *gram);
    for (int64_t from = 0; from < s->width; from += PARAMETERS) {
        int64_t cols = columns_at(s, from);
        fill(s, from, cols);
        la_team_dgemm(s->team, false, true, s->n, s->n, cols, 1, s->chunk, cols, s->chunk, cols, 1,
                      gram, s->n);
    }
}

/* The largest eigenpairs of matrix[n, n], on the host: values from the pool, vectors[rank, n] from
 * malloc; *rank of those that are more than a share of the largest. */
static la_status solve(la_backend *be, const double *matrix, int64_t n, int64_t asked, double share,
                       la_posterior *p, double **values, float **vectors, int64_t *rank,
                       la_error *err) {
    size_t bytes = (size_t)(n * n) * sizeof *matrix;
    double *device = be->ops->alloc(be, bytes);
    *rank = asked && asked < n ? asked : n;
    *vectors = la_alloc((size_t)(*rank * n), sizeof **vectors, err);
    *values = la_pool_take(&p->pool, (size_t)*rank, sizeof **values, err);
    if (!device && err->status == LA_OK)
        (void)la_fail(err, LA_RESOURCE, "out of memory on %s for the exact curvature", be->device);
    if (err->status == LA_OK) {
        be->ops->upload(be, device, matrix, bytes);
        (void)la_exact_solve(be, device, n, *rank, *values, *vectors, err);
    }
    be->ops->release(be, device);
    while (err->status == LA_OK && *rank > 1 && (*values)[*rank - 1] <= share * (*values)[0])
        --*rank;
    return err->status;
}

/* to[rank, width] = diag(1 / root) vectors[rank, n] stack, root that of the values or 1 */
static la_status project(const stacked *s, int64_t rank, const double *values, const float *vectors,
                         la_posterior *p, float **to, la_error *err) {
    double *wide = la_alloc((size_t)(rank * s->n), sizeof *wide, err);
    double *part = la_alloc((size_t)(rank * PARAMETERS), sizeof *part, err);
    *to = la_pool_take(&p->pool, (size_t)(rank * s->width), sizeof **to, err);
    if (err->status == LA_OK) {
        for (int64_t i = 0; i < rank * s->n; i++)
            wide[i] = (double)vectors[i] / sqrt(values[i / s->n]);
        for (int64_t from = 0; from < s->width; from += PARAMETERS) {
            int64_t cols = columns_at(s, from);
            fill(s, from, cols);
            la_team_dgemm(s->team, false, false, rank, cols, s->n, 1, wide, s->n, s->chunk, cols, 0,
                          part, cols);
            for (int64_t i = 0; i < rank; i++)
                for (int64_t j = 0; j < cols; j++)
                    (*to)[i * s->width + from + j] = (float)part[i * cols + j];
        }
    }
    free(wide);
    free(part);
    return err->status;
}

/* H [width, width] of all rows, which are more than there are parameters */
static la_status form_whole(const stacked *s, double *h, la_error *err) {
    double *rows = la_alloc((size_t)(s->n * s->width), sizeof *rows, err);
    for (int64_t from = 0; rows && from < s->width; from += PARAMETERS) {
        int64_t cols = columns_at(s, from);
        fill(s, from, cols);
        for (int64_t i = 0; i < s->n; i++)
            memcpy(rows + i * s->width + from, s->chunk + i * cols, (size_t)cols * sizeof *rows);
    }
    if (rows)
        la_team_dgemm(s->team, true, false, s->width, s->width, s->n, 1, rows, s->width, rows,
                      s->width, 0, h, s->width);
    free(rows);
    return err->status;
}

static la_status add(la_backend *be, stacked *s, la_posterior *p, la_directions *out,
                     la_error *err) {
    bool whole = s->width < s->n;
    int64_t n = whole ? s->width : s->n;
    double *matrix = la_alloc((size_t)(n * n), sizeof *matrix, err);
    float *vectors = NULL;
    if (matrix && whole)
        (void)form_whole(s, matrix, err);
    else if (matrix)
        form_gram(s, matrix);
    if (err->status == LA_OK)
        (void)solve(be, matrix, n, p->rank_asked, LEAST_ADDED, p, &out->values, &vectors,
                    &out->rank, err);
    free(matrix);
    if (err->status == LA_OK && whole) {
        size_t count = (size_t)(out->rank * n);
        out->vectors = la_pool_take(&p->pool, count, sizeof *out->vectors, err);
        if (out->vectors)
            memcpy(out->vectors, vectors, count * sizeof *vectors);
    } else if (err->status == LA_OK) {
        (void)project(s, out->rank, out->values, vectors, p, &out->vectors, err);
    }
    free(vectors);
    return err->status;
}

/* matrix[k, k] = diag(times d) - C C^T, of the stack's Gram matrix [n, n], whose first k rows are
 * sqrt(times d) v */
static void subtract(const stacked *s, const double *gram, double *matrix) {
    int64_t k = s->parts[0]->rank, n = s->n;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j <= i; j++) {
            double root = s->times[0] * sqrt(s->parts[0]->values[i] * s->parts[0]->values[j]);
            double sum = i == j ? s->times[0] * s->parts[0]->values[i] : 0;
            for (int64_t m = k; m < n; m++)
                sum -= gram[i * n + m] * gram[j * n + m] / root;
            matrix[i * k + j] = matrix[j * k + i] = sum;
        }
}

static la_status take_out(la_backend *be, stacked *s, la_posterior *p, la_directions *out,
                          int64_t most_rank, la_error *err) {
    const la_directions *of = s->parts[0];
    int64_t k = of->rank;
    double *gram = la_alloc((size_t)(s->n * s->n), sizeof *gram, err);
    double *matrix = la_alloc((size_t)(k * k), sizeof *matrix, err);
    float *vectors = NULL;
    if (err->status == LA_OK) {
        form_gram(s, gram);
        subtract(s, gram, matrix);
        double top = s->times[0] * of->values[0], floor = LEAST_LEFT * top;
        (void)solve(be, matrix, k, p->rank_asked, -INFINITY, p, &out->values, &vectors, &out->rank,
                    err);
        double least = err->status == LA_OK ? out->values[out->rank - 1] : 0;
        double most = err->status == LA_OK ? out->values[0] : 0;
        p->least_share = least < 0 && most > 0 ? least / most : 0;
        if (err->status == LA_OK && (!(most > 0) || least < -SLACK * most))
            (void)la_fail(
                err, LA_NUMERICAL,
                "what is left of the curvature is not positive semi-definite: eigenvalues "
                "%g to %g",
                least, most);
        out->rank = out->rank < most_rank ? out->rank : most_rank;
        while (err->status == LA_OK && out->rank > 1 && out->values[out->rank - 1] <= floor)
            out->rank--;
    }
    free(gram);
    free(matrix);
    if (err->status == LA_OK) {
        /* rows v, not sqrt(d) v: over the root of what the stack multiplies them with */
        for (int64_t i = 0; i < out->rank; i++)
            for (int64_t j = 0; j < k; j++)
                vectors[i * k + j] /= (float)sqrt(s->times[0] * of->values[j]);
        stacked alone = *s;
        static const la_directions nothing = {0};
        double *ones = la_alloc((size_t)out->rank, sizeof *ones, err);
        alone.parts[1] = &nothing;
        alone.n = k;
        for (int64_t i = 0; ones && i < out->rank; i++)
            ones[i] = 1;
        if (ones)
            (void)project(&alone, out->rank, ones, vectors, p, &out->vectors, err);
        free(ones);
    }
    free(vectors);
    return err->status;
}

la_status la_exact_join(la_backend *be, const la_restored *r, la_posterior *p, la_error *err) {
    la_directions *own = la_exact_directions(p), out = *own;
    const la_directions *of = la_exact_directions(r->of);
    stacked s = {.team = r->team, .parts = {of, own}, .times = {r->times, fabs(r->sign)}};
    double kept = 0;
    for (int64_t i = 0; i < of->rank; i++)
        kept += of->values[i];
    out.trace = r->times * kept + r->sign * own->trace;
    if (open_stack(&s, err) == LA_OK)
        (void)(r->sign > 0 ? add(be, &s, p, &out, err)
                           : take_out(be, &s, p, &out, r->n_rows * r->n_contrasts, err));
    free(s.chunk);
    if (err->status == LA_OK)
        *own = out;
    return err->status;
}
