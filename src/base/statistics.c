#include "base/statistics.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int la_double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void la_doubles_sort(double *values, int64_t n) {
    if (n > 1)
        qsort(values, (size_t)n, sizeof *values, la_double_order);
}

double la_quantile(const double *sorted, int64_t n, double share) {
    double at = share * (double)(n - 1);
    int64_t below = (int64_t)at;
    if (below >= n - 1)
        return sorted[n - 1];
    return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

double la_log_gamma(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

static double log_choose(double n, double k) {
    return la_log_gamma(n + 1) - la_log_gamma(k + 1) - la_log_gamma(n - k + 1);
}

void la_hypergeometric_range(int64_t all, int64_t marked, int64_t drawn, int64_t *least,
                             int64_t *most) {
    *least = drawn > all - marked ? drawn - (all - marked) : 0;
    *most = drawn < marked ? drawn : marked;
}

/* p[k - least]: probability of k marked ones among those drawn, k from least to most. */
static void hypergeometric(const la_stratum_draw *s, int64_t least, int64_t most, double *p) {
    double whole = log_choose((double)s->all, (double)s->drawn);
    for (int64_t k = least; k <= most; k++)
        p[k - least] =
            exp(log_choose((double)s->marked, (double)k) +
                log_choose((double)(s->all - s->marked), (double)(s->drawn - k)) - whole);
}

/* Drops ends of p[*n] that are below negligible, but for one; returns where the rest begins. */
static size_t trim(const double *p, size_t *n, double negligible) {
    size_t first = 0;
    while (*n > 1 && p[*n - 1] < negligible)
        (*n)--;
    while (first + 1 < *n && p[first] < negligible)
        first++;
    *n -= first;
    return first;
}

static la_status add_stratum(la_draw_sum *sum, const la_stratum_draw *stratum, double negligible,
                             la_error *err) {
    int64_t least, most;
    la_hypergeometric_range(stratum->all, stratum->marked, stratum->drawn, &least, &most);
    size_t n = (size_t)(most - least + 1), before = sum->n;
    LA_TRY(la_grow(&sum->work[0], &sum->capacity[1], n, sizeof(double), err));
    LA_TRY(la_grow(&sum->work[1], &sum->capacity[2], before, sizeof(double), err));
    hypergeometric(stratum, least, most, sum->work[0]);
    memcpy(sum->work[1], sum->probability, before * sizeof(double));
    size_t first = trim(sum->work[0], &n, negligible);
    sum->n = before + n - 1;
    LA_TRY(la_grow(&sum->probability, &sum->capacity[0], sum->n, sizeof(double), err));
    double *p = sum->probability, *term = sum->work[0] + first, *copy = sum->work[1];
    memset(p, 0, sum->n * sizeof *p);
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < before; i++)
            p[i + k] += term[k] * copy[i];
    sum->low += least + (int64_t)first;
    first = trim(p, &sum->n, negligible);
    memmove(p, p + first, sum->n * sizeof *p);
    sum->low += (int64_t)first;
    return LA_OK;
}

la_status la_draw_sum_set(la_draw_sum *sum, const la_stratum_draw *strata, int64_t n,
                          double negligible, la_error *err) {
    LA_TRY(la_grow(&sum->probability, &sum->capacity[0], 1, sizeof(double), err));
    sum->probability[0] = 1;
    sum->n = 1;
    sum->low = 0;
    for (int64_t s = 0; s < n; s++)
        if (strata[s].drawn)
            LA_TRY(add_stratum(sum, &strata[s], negligible, err));
    return LA_OK;
}

void la_draw_sum_tails(const la_draw_sum *sum, int64_t found, double *above, double *below) {
    int64_t n = (int64_t)sum->n, at = found - sum->low;
    *above = *below = 0;
    /* from the far ends on: small terms first */
    for (int64_t i = n - 1; i >= 0 && i >= at; i--)
        *above += sum->probability[i];
    for (int64_t i = 0; i < n && i <= at; i++)
        *below += sum->probability[i];
}

void la_draw_sum_free(la_draw_sum *sum) {
    free(sum->probability);
    free(sum->work[0]);
    free(sum->work[1]);
    *sum = (la_draw_sum){0};
}

typedef struct ranked_p {
    double p;
    size_t at;
} ranked_p;

la_status la_holm(double *p, size_t n, la_error *err) {
    ranked_p *ranked = la_alloc(n, sizeof *ranked, err);
    double least = 0;
    if (!ranked)
        return err->status;
    for (size_t i = 0; i < n; i++)
        ranked[i] = (ranked_p){p[i], i};
    if (n)
        qsort(ranked, n, sizeof *ranked, la_double_order); /* p is the first member */
    for (size_t i = 0; i < n; i++) {
        least = fmax(least, fmin(1, ranked[i].p * (double)(n - i)));
        p[ranked[i].at] = least;
    }
    free(ranked);
    return LA_OK;
}
