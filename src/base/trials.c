#include "base/trials.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* Distribution of the number of failures, up to most; beyond it in the last place. */
static void count_failures(const double *successes, int64_t n, int64_t most, double *p) {
    p[0] = 1;
    for (int64_t i = 0; i < n; i++) {
        double fails = 1 - successes[i];
        int64_t k = i + 1 < most ? i + 1 : most;
        if (k == most)
            p[most] += fails * p[most - 1];
        for (k -= k == most; k > 0; k--)
            p[k] += fails * (p[k - 1] - p[k]);
        p[0] *= 1 - fails;
    }
}

/* Upper tail of the standard normal distribution. */
static double upper_tail(double z) {
    return 0.5 * erfc(z * M_SQRT1_2);
}

la_status la_trials_tails(const double *successes, int64_t n, int64_t failures, double steps,
                          double *above, double *below, la_error *err) {
    double mean = 0, variance = 0, third = 0;
    for (int64_t i = 0; i < n; i++) {
        double q = 1 - successes[i];
        mean += q;
        variance += q * (1 - q);
        third += q * (1 - q) * (1 - 2 * q);
    }
    *above = *below = 0;
    double most = fmin((double)n, fmax(mean + 12 * sqrt(variance) + 30, (double)failures)) + 1;
    if (most * (double)n <= steps) {
        int64_t top = (int64_t)most;
        double *p = la_alloc((size_t)top + 1, sizeof *p, err);
        if (!p)
            return err->status;
        count_failures(successes, n, top, p);
        for (int64_t k = 0; k <= failures; k++)
            *below += p[k];
        for (int64_t k = top; k >= failures; k--)
            *above += p[k];
        free(p);
        return LA_OK;
    }
    if (!(variance > 0)) { /* nothing is left to chance */
        *above = mean >= (double)failures;
        *below = mean <= (double)failures;
        return LA_OK;
    }
    double sd = sqrt(variance), skew = third / (6 * variance * sd);
    for (int side = -1; side <= 1; side += 2) {
        double z = ((double)failures - side * 0.5 - mean) / sd;
        double phi = exp(-z * z / 2) / sqrt(2 * M_PI);
        double upper = upper_tail(z) + skew * (z * z - 1) * phi;
        if (side > 0)
            *above = fmin(1, fmax(0, upper));
        else
            *below = fmin(1, fmax(0, 1 - upper));
    }
    return LA_OK;
}
