/* Distance between two adapters in units of a posterior's standard deviation. With theta the n
 * parameters of a's blocks at a module and delta how far they would have to move,
 *
 *   d = sqrt(delta^T (H + lambda I) delta / n),
 *
 * the root mean square over the posterior's own directions of a move over the deviation there: 1 is
 * expected of a network drawn from the posterior. Each block counts with the others held fixed.
 *
 * Of a product s B A, delta is that of the factors B', A' with s B' A' = what b adds. There are as
 * many as invertible [r, r] matrices T that stand between them; delta is taken over those nearest
 * to a's,
 *
 *   min over T of w |b T - B|^2 + v |T^-1 a - A|^2,
 *
 * by steps of Gauss and Newton from factors b, a made of the singular values of what b adds, which
 * are the same whatever basis it is stored in. w and v are the precisions along B and A, which a
 * change of basis moves along. For what a itself adds, in any basis, delta is 0.
 *
 * Of AdaLoRA, s B diag(E) A, E is no parameter: the factors that are turned are B and E A, and A
 * moves by 1 / E of what E A does. Directions whose E is 0 add nothing and stay. What is no product
 * is compared as it is stored: a weight with its bias, or virtual tokens [n, width], whose blocks
 * hold them as columns. */
#include "base/blas.h"
#include "bayes/structure.h"
#include "pipeline/diff.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Singular values, and elements of E, below this share of the largest are rounding. */
static const double NEGLIGIBLE = 1e-6;

static int64_t find_block(const la_posterior *p, const char *name, int64_t out, int64_t in) {
    for (int64_t b = 0; name && b < p->n_blocks; b++)
        if (!strcmp(p->blocks[b].name, name) && p->blocks[b].out == out && p->blocks[b].in == in)
            return b;
    return -1;
}

/* to[m, n] = op(a) op(b); k: what is summed over */
static void product(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const double *a,
                    const double *b, double *to) {
    la_dgemm(trans_a, trans_b, m, n, k, 1, a, trans_a ? m : k, b, trans_b ? k : n, 0, to, n);
}

static double square_of(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

static double *wide(la_pool *pool, const float *x, int64_t n, la_error *err) {
    double *to = la_pool_take(pool, (size_t)n, sizeof *to, err);
    for (int64_t i = 0; to && i < n; i++)
        to[i] = (double)x[i];
    return to;
}

static double *take(la_pool *pool, int64_t rows, int64_t cols, la_error *err) {
    return la_pool_take(pool, (size_t)(rows * cols), sizeof(double), err);
}

static la_status not_done(const la_effect *e, int info, la_error *err) {
    if (info == la_lapack_no_memory)
        return la_fail(err, LA_RESOURCE, "out of memory for %s", e->name);
    return la_fail(err, LA_NUMERICAL, "%s: a decomposition does not converge", e->name);
}

/* u[m, k] values[k] vt[k, n] of x[m, n], k = min(m, n), x overwritten */
static la_status decompose(la_pool *pool, const la_effect *e, int64_t m, int64_t n, double *x,
                           double **values, double **u, double **vt, la_error *err) {
    int64_t k = m < n ? m : n;
    *values = take(pool, k, 1, err);
    *u = take(pool, m, k, err);
    *vt = take(pool, k, n, err);
    LA_TRY(err->status);
    int info = la_dgesdd(m, n, x, *values, *u, *vt);
    return info ? not_done(e, info, err) : LA_OK;
}

/* What b adds over a scale, as P [out, q] and Q [q, in], sigma [q]. */
typedef struct balanced {
    int64_t q;
    double *p, *q_rows, *sigma;
} balanced;

static la_status balance(la_pool *pool, const la_effect *e, double scale, balanced *to,
                         la_error *err) {
    const la_product *b = &e->product;
    int64_t out = b->out, in = b->in, r = b->rank, m = out < r ? out : r, k = m < in ? m : in;
    double *left = wide(pool, b->b, out * r, err), *right = wide(pool, b->a, r * in, err);
    double *values, *u, *vt, *core = take(pool, m, in, err), *inner;
    LA_TRY(err->status);
    for (int64_t i = 0; i < out * r; i++)
        left[i] *= scale * (b->e ? (double)b->e[i % r] : 1);
    LA_TRY(decompose(pool, e, out, r, left, &values, &u, &vt, err));
    for (int64_t i = 0; i < m * r; i++)
        vt[i] *= values[i / r];
    product(false, false, m, in, r, vt, right, core);
    LA_TRY(decompose(pool, e, m, in, core, &to->sigma, &inner, &to->q_rows, err));
    while (to->q < k && to->sigma[to->q] > NEGLIGIBLE * to->sigma[0])
        to->q++;
    double *whole = take(pool, out, k, err);
    to->p = take(pool, out, to->q, err);
    LA_TRY(err->status);
    product(false, false, out, k, m, u, inner, whole);
    for (int64_t j = 0; j < to->q; j++) {
        double root = sqrt(to->sigma[j]);
        for (int64_t i = 0; i < out; i++)
            to->p[i * to->q + j] = root * whole[i * k + j];
        for (int64_t i = 0; i < in; i++)
            to->q_rows[j * in + i] *= root;
    }
    return LA_OK;
}

/* A factorisation of what b adds: [out, r], [r, in]. */
typedef struct pair {
    double *b, *a;
} pair;

/* g^+ [r, q] of g[q, r]; its rows are independent where *able. */
static la_status invert(la_pool *pool, const la_effect *e, int64_t q, int64_t r, const double *g,
                        double *inverse, bool *able, la_error *err) {
    double *copy = take(pool, q, r, err), *values, *u, *vt;
    LA_TRY(err->status);
    memcpy(copy, g, (size_t)(q * r) * sizeof *copy);
    LA_TRY(decompose(pool, e, q, r, copy, &values, &u, &vt, err));
    *able = values[q - 1] > 1e-12 * values[0];
    for (int64_t i = 0; i < q * r && *able; i++)
        vt[i] /= values[i / r];
    if (*able)
        product(true, true, r, q, q, vt, u, inverse);
    return LA_OK;
}

/* Orthogonal rows g[q, r] that turn P and Q best to a's factors, which count by their shares, times
 * the ratio of their sizes. */
static la_status begin(la_pool *pool, const la_effect *e, const balanced *b, const pair *of_a,
                       const double share[2], double *g, la_error *err) {
    int64_t out = e->out, in = e->in, r = e->product.rank, q = b->q;
    double norm_b = sqrt(square_of(of_a->b, out * r)), norm_a = sqrt(square_of(of_a->a, r * in));
    double *sum = take(pool, q, r, err), *other = take(pool, q, r, err), *values, *u, *vt;
    LA_TRY(err->status);
    product(true, false, q, r, out, b->p, of_a->b, sum);
    product(false, true, q, r, in, b->q_rows, of_a->a, other);
    for (int64_t i = 0; i < q * r; i++)
        sum[i] = (norm_b > 0 ? share[0] * sum[i] / norm_b : 0) +
                 (norm_a > 0 ? share[1] * other[i] / norm_a : 0);
    LA_TRY(decompose(pool, e, q, r, sum, &values, &u, &vt, err));
    product(false, false, q, r, q, u, vt, g);
    double ratio = norm_a > 0 && norm_b > 0 ? sqrt(norm_b / norm_a) : 1;
    for (int64_t i = 0; i < q * r; i++)
        g[i] *= ratio;
    return LA_OK;
}

/* to = (P g, A + g^+ (Q - g A)) */
static la_status factorise(la_pool *pool, const la_effect *e, const balanced *b, const double *g,
                           const pair *of_a, pair *to, la_error *err) {
    int64_t out = e->out, in = e->in, r = e->product.rank, q = b->q;
    double *inverse = take(pool, r, q, err), *gap = take(pool, q, in, err);
    bool able;
    to->b = take(pool, out, r, err);
    to->a = take(pool, r, in, err);
    LA_TRY(err->status);
    if (q) {
        LA_TRY(invert(pool, e, q, r, g, inverse, &able, err));
        product(false, false, out, r, q, b->p, g, to->b);
        product(false, false, q, in, r, g, of_a->a, gap);
        for (int64_t i = 0; i < q * in; i++)
            gap[i] = b->q_rows[i] - gap[i];
        product(false, false, r, in, q, inverse, gap, to->a);
    }
    for (int64_t i = 0; i < r * in; i++)
        to->a[i] += of_a->a[i];
    return LA_OK;
}

/* ---- alignment ---- */

/* Matrices [r, r]: products of a pair (b, a) with itself and with a's factors (B, A); the same of
 * (b T, T^-1 a); and T. */
typedef struct alignment {
    int64_t r;
    double weight[2];
    double *of_b, *with_b, *of_a, *with_a; /* b^T b, b^T B, a a^T, a A^T */
    double *b, *b_with, *a, *a_with;
    double *t, *inverse, *work, *step, *next, *next_inverse;
    double value; /* w |b T - B|^2 + v |T^-1 a - A|^2, less what does not depend on T */
} alignment;

enum { ALIGNMENT_MATRICES = 14, STEPS = 100, HALVES = 12 };

static double trace(const double *x, int64_t r) {
    double sum = 0;
    for (int64_t i = 0; i < r; i++)
        sum += x[i * r + i];
    return sum;
}

/* The value at t; sets the products there. */
static double value_at(alignment *m, const double *t, const double *inverse) {
    int64_t r = m->r;
    product(true, false, r, r, r, t, m->of_b, m->work);
    product(false, false, r, r, r, m->work, t, m->b);
    product(true, false, r, r, r, t, m->with_b, m->b_with);
    product(false, false, r, r, r, inverse, m->of_a, m->work);
    product(false, true, r, r, r, m->work, inverse, m->a);
    product(false, false, r, r, r, inverse, m->with_a, m->a_with);
    return m->weight[0] * (trace(m->b, r) - 2 * trace(m->b_with, r)) +
           m->weight[1] * (trace(m->a, r) - 2 * trace(m->a_with, r));
}

/* Step X [r, r] of Gauss and Newton for T (I + X): w b^T b X + v X a a^T = -w b^T (b - B) +
 * v (a - A) a^T, in the eigenvectors of b^T b and a a^T. */
static la_status find_step(la_pool *pool, const la_effect *e, alignment *m, la_error *err) {
    int64_t r = m->r;
    double *left = take(pool, r, r, err), *right = take(pool, r, r, err);
    double *of_left = take(pool, r, 1, err), *of_right = take(pool, r, 1, err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++)
            m->step[i * r + j] = m->weight[0] * (m->b_with[i * r + j] - m->b[i * r + j]) +
                                 m->weight[1] * (m->a[i * r + j] - m->a_with[j * r + i]);
    memcpy(left, m->b, (size_t)(r * r) * sizeof *left);
    memcpy(right, m->a, (size_t)(r * r) * sizeof *right);
    int info = la_dsyevd(r, left, of_left);
    info = info ? info : la_dsyevd(r, right, of_right);
    if (info)
        return not_done(e, info, err);
    product(false, false, r, r, r, left, m->step, m->work);
    product(false, true, r, r, r, m->work, right, m->step);
    double least = 1e-12 * (m->weight[0] * of_left[r - 1] + m->weight[1] * of_right[r - 1]);
    for (int64_t i = 0; i < r * r; i++)
        m->step[i] /= m->weight[0] * fmax(of_left[i / r], 0) +
                      m->weight[1] * fmax(of_right[i % r], 0) + least;
    product(true, false, r, r, r, left, m->step, m->work);
    product(false, false, r, r, r, m->work, right, m->step);
    return LA_OK;
}

/* Goes along the step as far as the value falls; *moved is false where it does not. */
static la_status go(la_pool *pool, const la_effect *e, alignment *m, bool *moved, la_error *err) {
    int64_t r = m->r;
    double length = 1;
    bool able;
    *moved = false;
    for (int half = 0; half < HALVES && !*moved; half++, length /= 2) {
        product(false, false, r, r, r, m->t, m->step, m->next);
        for (int64_t i = 0; i < r * r; i++)
            m->next[i] = m->t[i] + length * m->next[i];
        LA_TRY(invert(pool, e, r, r, m->next, m->next_inverse, &able, err));
        double value = able ? value_at(m, m->next, m->next_inverse) : INFINITY;
        if (!(value < m->value - 1e-12 * fabs(m->value)))
            continue;
        *moved = true;
        m->value = value;
        memcpy(m->t, m->next, (size_t)(r * r) * sizeof *m->t);
        memcpy(m->inverse, m->next_inverse, (size_t)(r * r) * sizeof *m->inverse);
    }
    return LA_OK;
}

/* Moves the pair to the one nearest to a's factors that is found from here. */
static la_status align(la_pool *pool, const la_effect *e, const double weight[2], const pair *of_a,
                       pair *from, double *value, la_error *err) {
    int64_t out = e->out, in = e->in, r = e->product.rank;
    alignment m = {.r = r, .weight = {weight[0], weight[1]}};
    double **all[ALIGNMENT_MATRICES] = {&m.of_b,   &m.with_b, &m.of_a,   &m.with_a,      &m.b,
                                        &m.b_with, &m.a,      &m.a_with, &m.t,           &m.inverse,
                                        &m.work,   &m.step,   &m.next,   &m.next_inverse};
    for (int i = 0; i < ALIGNMENT_MATRICES; i++)
        *all[i] = take(pool, r, r, err);
    double *b = take(pool, out, r, err), *a = take(pool, r, in, err);
    LA_TRY(err->status);
    product(true, false, r, r, out, from->b, from->b, m.of_b);
    product(true, false, r, r, out, from->b, of_a->b, m.with_b);
    product(false, true, r, r, in, from->a, from->a, m.of_a);
    product(false, true, r, r, in, from->a, of_a->a, m.with_a);
    for (int64_t i = 0; i < r; i++)
        m.t[i * r + i] = m.inverse[i * r + i] = 1;
    m.value = value_at(&m, m.t, m.inverse);
    bool moved = true;
    for (int k = 0; k < STEPS && moved; k++) {
        la_pool of_step = {0};
        (void)value_at(&m, m.t, m.inverse);
        if (find_step(&of_step, e, &m, err) == LA_OK)
            (void)go(&of_step, e, &m, &moved, err);
        la_pool_free(&of_step);
        LA_TRY(err->status);
    }
    *value = m.value;
    product(false, false, out, r, r, from->b, m.t, b);
    product(false, false, r, in, r, m.inverse, from->a, a);
    *from = (pair){b, a};
    return LA_OK;
}

/* The factorisation of b nearest to a's factors, from several that are turned to both or to one of
 * them: far from a there is more than one minimum. */
static la_status find_nearest(la_pool *pool, const la_effect *e, const balanced *b,
                              const double weight[2], const pair *of_a, pair *nearest,
                              la_error *err) {
    static const double shares[][2] = {{1, 1}, {1, 0}, {0, 1}};
    double least = INFINITY, value;
    double *g = take(pool, b->q, e->product.rank, err);
    LA_TRY(err->status);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        pair to;
        if (b->q)
            LA_TRY(begin(pool, e, b, of_a, shares[i], g, err));
        LA_TRY(factorise(pool, e, b, g, of_a, &to, err));
        LA_TRY(align(pool, e, weight, of_a, &to, &value, err));
        if (!(value >= least)) {
            least = value;
            *nearest = to;
        }
    }
    return LA_OK;
}

static la_status add_quadratic(const la_posterior *p, int64_t block, const double *delta,
                               double *sum, la_error *err) {
    int64_t n = p->blocks[block].out * p->blocks[block].in;
    float *narrow = la_alloc((size_t)n, sizeof *narrow, err);
    double one = 0;
    for (int64_t i = 0; narrow && i < n; i++)
        narrow[i] = (float)delta[i];
    if (narrow)
        (void)la_structure_of(p->curvature)->quadratic(p, block, narrow, &one, err);
    free(narrow);
    *sum += one;
    return err->status;
}

/* Precision along the factor itself, as changes of the basis inside it move it; lambda for 0. */
static la_status weigh(const la_posterior *p, int64_t block, const double *factor, double *weight,
                       la_error *err) {
    double square = square_of(factor, p->blocks[block].out * p->blocks[block].in), sum = 0;
    LA_TRY(add_quadratic(p, block, factor, &sum, err));
    *weight = square > 0 ? sum / square : p->blocks[block].prior_precision;
    return LA_OK;
}

/* Directions of a product that add something, at most r of them: kept[n]. */
static int64_t keep_directions(const la_product *x, int64_t *kept) {
    float largest = 0;
    int64_t n = 0;
    for (int64_t j = 0; x->e && j < x->rank; j++)
        largest = fmaxf(largest, fabsf(x->e[j]));
    for (int64_t j = 0; j < x->rank; j++)
        if (!x->e || fabs((double)x->e[j]) > NEGLIGIBLE * (double)largest)
            kept[n++] = j;
    return n;
}

/* The columns of B and rows of E A that are kept, or what these move by into moves of B and A. */
static void pick(const la_effect *e, int64_t n, const int64_t *kept, const pair *from, pair *to) {
    const la_product *x = &e->product;
    for (int64_t k = 0; k < n; k++) {
        int64_t j = kept[k];
        double factor = x->e ? (double)x->e[j] : 1;
        for (int64_t i = 0; i < e->out; i++)
            to->b[i * n + k] = from->b[i * x->rank + j];
        for (int64_t i = 0; i < e->in; i++)
            to->a[k * e->in + i] = factor * from->a[j * e->in + i];
    }
}

static void put_back(const la_effect *e, int64_t n, const int64_t *kept, const pair *from,
                     pair *to) {
    const la_product *x = &e->product;
    for (int64_t k = 0; k < n; k++) {
        int64_t j = kept[k];
        double factor = x->e ? (double)x->e[j] : 1;
        for (int64_t i = 0; i < e->out; i++)
            to->b[i * x->rank + j] = from->b[i * n + k];
        for (int64_t i = 0; i < e->in; i++)
            to->a[j * e->in + i] = from->a[k * e->in + i] / factor;
    }
}

static la_status new_pair(la_pool *pool, const la_effect *e, int64_t rank, pair *to,
                          la_error *err) {
    *to = (pair){take(pool, e->out, rank, err), take(pool, rank, e->in, err)};
    return err->status;
}

static la_status product_in_sd(la_pool *pool, const la_posterior *p, const la_effect *a,
                               const la_effect *b, double *out, la_error *err) {
    const la_product *x = &a->product;
    int64_t r = x->rank, of_a = find_block(p, x->names[0], r, a->in);
    int64_t of_b = find_block(p, x->names[1], a->out, r), n;
    int64_t *kept = la_pool_take(pool, (size_t)r, sizeof *kept, err);
    double weight[2], sum = 0, square;
    balanced effect = {0};
    la_effect part = *a;
    pair own, turned, to = {0}, move;
    LA_TRY(err->status);
    if (of_a < 0 || of_b < 0 || !(x->scale > 0) || !(n = keep_directions(x, kept)))
        return LA_OK;
    LA_TRY(balance(pool, b, b->product.scale / x->scale, &effect, err));
    if (effect.q > n)
        return LA_OK;
    part.product.rank = n;
    own = (pair){wide(pool, x->b, a->out * r, err), wide(pool, x->a, r * a->in, err)};
    LA_TRY(new_pair(pool, a, n, &turned, err));
    LA_TRY(new_pair(pool, a, r, &move, err));
    pick(a, n, kept, &own, &turned);
    LA_TRY(weigh(p, of_b, own.b, &weight[0], err));
    LA_TRY(weigh(p, of_a, own.a, &weight[1], err));
    square = square_of(turned.a, n * a->in);
    if (x->e && square > 0)
        weight[1] *= square_of(own.a, r * a->in) / square;
    LA_TRY(find_nearest(pool, &part, &effect, weight, &turned, &to, err));
    for (int64_t i = 0; i < a->out * n; i++)
        to.b[i] -= turned.b[i];
    for (int64_t i = 0; i < n * a->in; i++)
        to.a[i] -= turned.a[i];
    put_back(a, n, kept, &to, &move);
    LA_TRY(add_quadratic(p, of_a, move.a, &sum, err));
    LA_TRY(add_quadratic(p, of_b, move.b, &sum, err));
    *out = sqrt(sum / (double)(r * (a->in + a->out)));
    return LA_OK;
}

/* Name of the block of a parameter's key as the `adapters` library has it, MODULE.adapters.NAME.
 * adapter_down.0 or MODULE.loras.NAME.lora_B: without the adapter's name and the number. */
static void strip_name(const char *key, char *to, size_t size) {
    static const char *const parts[] = {".adapters.", ".loras."};
    snprintf(to, size, "%s", key);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *part = strstr(to, parts[i]);
        char *rest = part ? strchr(part + strlen(parts[i]), '.') : NULL;
        if (rest)
            memmove(part, rest, strlen(rest) + 1);
    }
    size_t length = strlen(to);
    if (length > 2 && !strcmp(to + length - 2, ".0"))
        to[length - 2] = 0;
}

/* The block of a parameter [out, in], or of a vector whichever way it lies; -1: none. */
static int64_t find_values(const la_posterior *p, const la_effect *e) {
    char name[1024];
    strip_name(e->name, name, sizeof name);
    bool vector = e->out == 1 || e->in == 1;
    const char *const names[] = {e->name, name};
    for (int turned = 0; turned <= vector; turned++)
        for (int i = 0; i < 2; i++) {
            int64_t b = find_block(p, names[i], turned ? e->in : e->out, turned ? e->out : e->in);
            if (b >= 0)
                return b;
        }
    return -1;
}

/* Whether a block [.., n] holds part of virtual tokens [n, width]: theirs, or of a layer. */
static bool is_part(const la_posterior_block *block, const la_effect *e) {
    size_t length = strlen(e->name);
    return block->in == e->out && !strncmp(block->name, e->name, length) &&
           (!block->name[length] || block->name[length] == '.');
}

/* Blocks of virtual tokens hold their columns one after the other, in the posterior's order. Left
 * as it is where these are others. */
static la_status tokens_in_sd(la_pool *pool, const la_posterior *p, const la_effect *e,
                              const double *delta, double *out, la_error *err) {
    double sum = 0, *part = take(pool, e->in, e->out, err);
    int64_t width = 0, at = 0;
    for (int64_t b = 0; b < p->n_blocks; b++)
        width += is_part(&p->blocks[b], e) ? p->blocks[b].out : 0;
    for (int64_t b = 0; part && width == e->in && b < p->n_blocks; b++) {
        if (!is_part(&p->blocks[b], e))
            continue;
        for (int64_t i = 0; i < p->blocks[b].out; i++)
            for (int64_t t = 0; t < e->out; t++)
                part[i * e->out + t] = delta[t * e->in + at + i];
        LA_TRY(add_quadratic(p, b, part, &sum, err));
        at += p->blocks[b].out;
    }
    if (at)
        *out = sqrt(sum / (double)(e->out * e->in));
    return err->status;
}

static la_status values_in_sd(la_pool *pool, const la_posterior *p, const la_effect *a,
                              const la_effect *b, double *out, la_error *err) {
    int64_t block = find_values(p, a), n = a->out * a->in;
    double *delta = wide(pool, a->values, n, err), sum = 0;
    for (int64_t i = 0; delta && i < n; i++)
        delta[i] = (double)b->values[i] - delta[i];
    LA_TRY(err->status);
    if (block < 0)
        return tokens_in_sd(pool, p, a, delta, out, err);
    LA_TRY(add_quadratic(p, block, delta, &sum, err));
    *out = sqrt(sum / (double)n);
    return LA_OK;
}

la_status la_effect_in_sd(const la_posterior *posterior, const la_effect *a, const la_effect *b,
                          double *out, la_error *err) {
    la_pool pool = {0};
    bool products = a->product.module != NULL;
    *out = NAN;
    if (a->out != b->out || a->in != b->in || products != (b->product.module != NULL))
        return LA_OK;
    (void)(products ? product_in_sd : values_in_sd)(&pool, posterior, a, b, out, err);
    la_pool_free(&pool);
    return err->status;
}
