#include "base/binomial.h"
#include "base/statistics.h"

#include <math.h>

/* log(n!) less Stirling's formula, Loader's equation (5): its series, exact below 16 */
static double stirling_error(double n) {
    if (n < 16)
        return la_log_gamma(n + 1) - (n + 0.5) * log(n) + n - 0.5 * log(2 * M_PI);
    double m = n * n;
    return (1 / 12.0 - (1 / 360.0 - (1 / 1260.0 - (1 / 1680.0 - 1 / 1188.0 / m) / m) / m) / m) / n;
}

/* x log(x / m) + m - x, by a series where x and m are close (Loader, section 5). */
static double deviance(double x, double m) {
    if (fabs(x - m) >= 0.1 * (x + m))
        return x * log(x / m) + m - x;
    double v = (x - m) / (x + m), sum = (x - m) * v, term = 2 * x * v, before;
    int j = 1;
    do {
        before = sum;
        term *= v * v;
        sum += term / (2 * j++ + 1);
    } while (sum != before);
    return sum;
}

/* P(X = k) */
static double term_of(double n, double k, double p) {
    if (k == 0)
        return exp(n * log1p(-p));
    if (k == n)
        return exp(n * log(p));
    double log_ratio = stirling_error(n) - stirling_error(k) - stirling_error(n - k) -
                       deviance(k, n * p) - deviance(n - k, n * (1 - p));
    return exp(log_ratio) * sqrt(n / (2 * M_PI * k * (n - k)));
}

/* P(X <= k) for k at or below the mean: every term is smaller than the one above it. */
static double lower_tail(double n, double k, double p) {
    double term = 1, sum = 1;
    for (double i = k; i > 0 && term > 1e-18 * sum; i--) {
        term *= i * (1 - p) / ((n - i + 1) * p);
        sum += term;
    }
    return term_of(n, k, p) * sum;
}

double la_binomial_cdf(int64_t n, int64_t k, double p) {
    if (k < 0 || k >= n)
        return k >= n;
    if ((double)k <= (double)n * p)
        return fmin(lower_tail((double)n, (double)k, p), 1);
    /* P(X > k) is P(n - X <= n - k - 1) */
    return 1 - fmin(lower_tail((double)n, (double)(n - k - 1), 1 - p), 1);
}

double la_binomial_upper(int64_t n, int64_t k, double alpha) {
    double lo = 0, hi = 1;
    if (k >= n)
        return 1;
    for (double middle = 0.5; lo < middle && middle < hi; middle = (lo + hi) / 2)
        *(la_binomial_cdf(n, k, middle) > alpha ? &lo : &hi) = middle;
    return hi;
}

int64_t la_binomial_least(double p, double alpha) {
    double n = log(alpha) / log1p(-p);
    int64_t least = n < 1 ? 1 : n > 9e15 ? (int64_t)9e15 : (int64_t)n;
    while (least < (int64_t)9e15 && la_binomial_cdf(least, 0, p) > alpha)
        least++;
    return least;
}
