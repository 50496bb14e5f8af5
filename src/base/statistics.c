#include "base/statistics.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int la_double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A number by whose bits, as an unsigned integer, it is sorted; both zeros have the same. */
typedef struct keyed {
    uint64_t key;
    uint32_t place;
} keyed;

static const uint64_t SIGN = (uint64_t)1 << 63;

static uint64_t key_of(double value) {
    uint64_t bits;
    value += 0.0; /* no -0 */
    memcpy(&bits, &value, sizeof bits);
    return bits & SIGN ? ~bits : bits | SIGN;
}

static double value_of(uint64_t key) {
    double value;
    key = key & SIGN ? key & ~SIGN : ~key;
    memcpy(&value, &key, sizeof value);
    return value;
}

/* Sorts list[n], digit by digit from the last, with as much memory behind it; returns where the
 * result is. Equal keys stay in their order. */
static keyed *sort_keys(keyed *list, size_t n) {
    enum { BITS = 11, DIGITS = 6, VALUES = 1 << BITS };
    keyed *from = list, *to = list + n;
    for (int d = 0; d < DIGITS; d++) {
        size_t first[VALUES + 1] = {0};
        for (size_t i = 0; i < n; i++)
            first[(from[i].key >> (d * BITS)) % VALUES + 1]++;
        if (first[(from[0].key >> (d * BITS)) % VALUES + 1] == n)
            continue;
        for (int v = 0; v < VALUES; v++)
            first[v + 1] += first[v];
        for (size_t i = 0; i < n; i++)
            to[first[(from[i].key >> (d * BITS)) % VALUES]++] = from[i];
        keyed *sorted = to;
        to = from;
        from = sorted;
    }
    return from;
}

void la_doubles_sort(double *values, int64_t n) {
    enum { MANY = 1 << 12 };
    size_t count = n > 1 ? (size_t)n : 0;
    keyed *keys = n >= MANY ? malloc(2 * count * sizeof *keys) : NULL;
    if (!keys) { /* few, or no memory for more */
        qsort(values, count, sizeof *values, la_double_order);
        return;
    }
    for (size_t i = 0; i < count; i++)
        keys[i] = (keyed){.key = key_of(values[i])};
    const keyed *sorted = sort_keys(keys, count);
    for (size_t i = 0; i < count; i++)
        values[i] = value_of(sorted[i].key);
    free(keys);
}

la_status la_doubles_rank(const double *values, size_t stride, uint32_t n, uint32_t *order,
                          la_error *err) {
    keyed *keys = la_alloc(2 * (size_t)n, sizeof *keys, err);
    if (!keys)
        return err->status;
    for (uint32_t i = 0; i < n; i++) {
        double value;
        memcpy(&value, (const char *)values + i * stride, sizeof value);
        keys[i] = (keyed){key_of(value), i};
    }
    const keyed *sorted = n ? sort_keys(keys, n) : keys;
    for (uint32_t i = 0; i < n; i++)
        order[i] = sorted[i].place;
    free(keys);
    return LA_OK;
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

double la_normal_tail(double z) {
    return 0.5 * erfc(z * M_SQRT1_2);
}

/* Regularised upper incomplete gamma function of a = freedom / 2: its series below a + 1, its
 * continued fraction (Lentz) above. */
double la_chi_squared_tail(double x, double freedom) {
    double a = freedom / 2, z = x / 2;
    if (!(z > 0))
        return 1;
    double scale = exp(a * log(z) - z - la_log_gamma(a));
    if (z < a + 1) {
        double term = 1 / a, sum = term;
        for (double k = a + 1; term > sum * 1e-17; k++)
            sum += term *= z / k;
        return fmax(0, 1 - sum * scale);
    }
    double b = z + 1 - a, c = 1e300, d = 1 / b, h = d;
    for (int i = 1; i < 100000; i++) {
        double an = -i * (i - a);
        b += 2;
        d = 1 / (an * d + b);
        c = b + an / c;
        h *= d * c;
        if (fabs(d * c - 1) < 1e-16)
            break;
    }
    return scale * h;
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
