/* Distances of what adapters add. For products the factors suffice: with L = [s_a B_a, -s_b B_b]
 * [out, k] and R = [A_a; A_b] [k, in], L = U M by its singular values (M [m, k] = diag(s) V^T),
 *
 *   |s_a B_a A_a - s_b B_b A_b| = |L R| = |M R|,
 *
 * which is exact to the rounding of f64 relative to the norms, also where the two are equal;
 * differences of Gram matrices would lose half of the digits. */
#include "base/blas.h"
#include "pipeline/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Relative rounding of the elements of factors: at least that of a change of basis inside A and B
 * in f32. What it explains of a product, whose terms may cancel, is at most a share of the norm. */
static const double LEAST_ROUNDING = 1e-5, LEAST_MOST = 1e-3;

static double norm_of(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* Factors of several products side by side. */
typedef struct stacked {
    int64_t out, in, k, m;
    double *left, *right;    /* [out, k], [k, in] */
    double *values, *u, *vt; /* of left: [m], [out, m], [m, k] */
    double *part;            /* [m, in] */
} stacked;

static void stacked_free(stacked *s) {
    free(s->left);
    free(s->right);
    free(s->values);
    free(s->u);
    free(s->vt);
    free(s->part);
}

static void put(stacked *s, const la_product *p, double sign, int64_t at) {
    for (int64_t i = 0; i < p->out; i++)
        for (int64_t r = 0; r < p->rank; r++)
            s->left[i * s->k + at + r] =
                sign * p->scale * (double)p->b[i * p->rank + r] * (p->e ? (double)p->e[r] : 1);
    for (int64_t i = 0; i < p->rank * p->in; i++)
        s->right[at * p->in + i] = (double)p->a[i];
}

/* Norm times the rounding of independent factors' elements: sqrt(sum_r |b_r|^2 |a_r|^2). */
static double rounding_norm(const stacked *s, int64_t from, int64_t to) {
    double sum = 0;
    for (int64_t r = from; r < to; r++) {
        double left = 0, right = norm_of(s->right + r * s->in, s->in);
        for (int64_t i = 0; i < s->out; i++)
            left += s->left[i * s->k + r] * s->left[i * s->k + r];
        sum += left * right * right;
    }
    return sqrt(sum);
}

/* |M R| over columns [from, to) of M */
static double part_norm(stacked *s, int64_t from, int64_t to) {
    la_dgemm(false, false, s->m, s->in, to - from, 1, s->vt + from, s->k, s->right + from * s->in,
             s->in, 0, s->part, s->in);
    return norm_of(s->part, s->m * s->in);
}

static la_status stacked_open(stacked *s, const la_product *a, const la_product *b, la_error *err) {
    const la_product *any = a ? a : b;
    *s = (stacked){.out = any->out, .in = any->in, .k = (a ? a->rank : 0) + (b ? b->rank : 0)};
    s->m = s->out < s->k ? s->out : s->k;
    s->left = la_alloc((size_t)(s->out * s->k), sizeof *s->left, err);
    s->right = la_alloc((size_t)(s->k * s->in), sizeof *s->right, err);
    s->values = la_alloc((size_t)s->m, sizeof *s->values, err);
    s->u = la_alloc((size_t)(s->out * s->m), sizeof *s->u, err);
    s->vt = la_alloc((size_t)(s->m * s->k), sizeof *s->vt, err);
    s->part = la_alloc((size_t)(s->m * s->in), sizeof *s->part, err);
    if (err->status != LA_OK)
        return err->status;
    if (a)
        put(s, a, 1, 0);
    if (b)
        put(s, b, -1, s->k - b->rank);
    return LA_OK;
}

static la_status decompose(stacked *s, const char *name, la_error *err) {
    double *copy = la_alloc((size_t)(s->out * s->k), sizeof *copy, err);
    if (!copy)
        return err->status;
    for (int64_t i = 0; i < s->out * s->k; i++)
        copy[i] = s->left[i];
    int info = la_dgesdd(s->out, s->k, copy, s->values, s->u, s->vt);
    free(copy);
    if (info)
        return la_fail(err, info == la_lapack_no_memory ? LA_RESOURCE : LA_NUMERICAL,
                       info == la_lapack_no_memory ? "out of memory for the distance of %s"
                                                   : "%s: singular values do not converge",
                       name);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->k; j++)
            s->vt[i * s->k + j] *= s->values[i];
    return LA_OK;
}

static bool is_equal(const la_product *a, const la_product *b) {
    size_t of_a = (size_t)(a->rank * a->in) * sizeof(float), of_b = (size_t)(a->out * a->rank);
    return a->rank == b->rank && a->scale == b->scale && !memcmp(a->a, b->a, of_a) &&
           !memcmp(a->b, b->b, of_b * sizeof(float)) && !a->e == !b->e &&
           (!a->e || !memcmp(a->e, b->e, (size_t)a->rank * sizeof(float)));
}

/* *tolerance: distance that rounding alone explains */
static la_status compare_products(const la_effect *a, const la_effect *b, double rounding,
                                  la_block_change *out, double *tolerance, la_error *err) {
    stacked s;
    la_status status = stacked_open(&s, a ? &a->product : NULL, b ? &b->product : NULL, err);
    if (status == LA_OK)
        status = decompose(&s, out->name, err);
    if (status == LA_OK) {
        int64_t ra = a ? a->product.rank : 0;
        double left = rounding_norm(&s, 0, ra), right = rounding_norm(&s, ra, s.k);
        out->norm_a = part_norm(&s, 0, ra);
        out->norm_b = part_norm(&s, ra, s.k);
        out->distance = a && b && is_equal(&a->product, &b->product) ? 0 : part_norm(&s, 0, s.k);
        *tolerance = fmin(fmax(rounding, LEAST_ROUNDING) * fmax(left, right),
                          fmax(2 * rounding, LEAST_MOST) * fmax(out->norm_a, out->norm_b));
    }
    stacked_free(&s);
    return status;
}

static void compare_values(const la_effect *a, const la_effect *b, la_block_change *out) {
    double left = 0, right = 0, gap = 0;
    for (int64_t i = 0; a && i < a->out * a->in; i++)
        left += (double)a->values[i] * (double)a->values[i];
    for (int64_t i = 0; b && i < b->out * b->in; i++)
        right += (double)b->values[i] * (double)b->values[i];
    for (int64_t i = 0; a && b && i < a->out * a->in; i++) {
        double d = (double)a->values[i] - (double)b->values[i];
        gap += d * d;
    }
    out->norm_a = a ? sqrt(left) : NAN;
    out->norm_b = b ? sqrt(right) : NAN;
    out->distance = a && b ? sqrt(gap) : NAN;
}

/* Effects that have nothing in common but their name. */
static la_status compare_apart(const la_effect *a, const la_effect *b, la_block_change *out,
                               la_error *err) {
    la_block_change each = {.name = out->name};
    LA_TRY(la_effect_compare(NULL, b, &each, err));
    LA_TRY(la_effect_compare(a, NULL, out, err));
    out->norm_b = each.norm_b;
    out->distance = out->relative = NAN;
    out->change = LA_CHANGE_VALUE;
    return LA_OK;
}

la_status la_effect_compare(const la_effect *a, const la_effect *b, la_block_change *out,
                            la_error *err) {
    const la_effect *any = a ? a : b;
    bool products = any->product.module != NULL;
    double tolerance = 0, rounding = fmax(a ? a->rounding : 0, b ? b->rounding : 0);
    out->name = any->name;
    out->distance_in_sd = NAN;
    if (a && b && (a->out != b->out || a->in != b->in || !a->product.module != !b->product.module))
        return compare_apart(a, b, out, err);
    if (products)
        LA_TRY(compare_products(a, b, rounding, out, &tolerance, err));
    else
        compare_values(a, b, out);
    double largest = fmax(out->norm_a, out->norm_b);
    if (!isfinite(largest) || (a && b && !isfinite(out->distance)))
        return la_fail(err, LA_NUMERICAL, "%s: its norm is beyond the range of numbers", out->name);
    if (!products)
        tolerance = rounding * largest;
    out->relative = out->distance > 0 ? out->distance / largest : out->distance;
    out->change = !b                           ? LA_CHANGE_REMOVED
                  : !a                         ? LA_CHANGE_ADDED
                  : out->distance <= tolerance ? LA_CHANGE_NONE
                                               : LA_CHANGE_VALUE;
    return LA_OK;
}
