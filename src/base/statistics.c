#include "base/statistics.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

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

void la_hypergeometric(int64_t all, int64_t marked, int64_t drawn, int64_t least, int64_t most,
                       double *p) {
    double whole = log_choose((double)all, (double)drawn);
    for (int64_t k = least; k <= most; k++)
        p[k - least] = exp(log_choose((double)marked, (double)k) +
                           log_choose((double)(all - marked), (double)(drawn - k)) - whole);
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
