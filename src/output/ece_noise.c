#include "output/ece_noise.h"
#include "base/random.h"
#include "base/statistics.h"
#include "output/metrics.h"

#include <math.h>
#include <stdlib.h>

/* Rows of a bin that are drawn one by one; the hits of more of them are one normal number. */
enum { ROWS_DRAWN = 1000 };

/* Sum of the probabilities [n] of a bin, which are rows `first` on, less a draw of their hits. */
static double draw_excess(const double *p, int64_t first, int64_t n, uint64_t seed,
                          uint64_t stream) {
    double excess = 0;
    for (int64_t i = 0; i < n; i++)
        excess += p[i] - (la_random_uniform(seed, stream, (uint64_t)(first + i)) < p[i]);
    return excess;
}

la_noise_floor la_ece_noise(int64_t n, double *probabilities, double found, int64_t draws,
                            uint64_t seed) {
    double drawn[LA_NOISE_DRAWS_MOST], deviation[LA_METRIC_BINS] = {0}, sum = 0;
    int64_t end[LA_METRIC_BINS + 1] = {0}, as_much = 0; /* bin b: rows end[b] to end[b + 1] */
    draws = draws < 1 ? 1 : draws > LA_NOISE_DRAWS_MOST ? LA_NOISE_DRAWS_MOST : draws;
    la_doubles_sort(probabilities, n);
    for (int64_t i = 0; i < n; i++) {
        int bin = la_metric_bin_of(probabilities[i]);
        deviation[bin] += probabilities[i] * (1 - probabilities[i]);
        end[bin + 1]++;
    }
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        end[b + 1] += end[b];
        deviation[b] = sqrt(deviation[b]);
    }
    for (int64_t d = 0; d < draws; d++) {
        uint64_t stream = (uint64_t)d;
        double error = 0, normal[LA_METRIC_BINS];
        /* positions behind the rows' */
        la_random_normal(seed, stream, (uint64_t)n * 4, LA_METRIC_BINS, normal);
        for (int b = 0; b < LA_METRIC_BINS; b++) {
            int64_t rows = end[b + 1] - end[b];
            error += fabs(rows > ROWS_DRAWN
                              ? deviation[b] * normal[b]
                              : draw_excess(probabilities + end[b], end[b], rows, seed, stream));
        }
        drawn[d] = error / (double)n;
        sum += drawn[d];
        as_much += drawn[d] >= found - 1e-12; /* other order of the same sum */
    }
    la_doubles_sort(drawn, draws);
    double mean = sum / (double)draws;
    return (la_noise_floor){.ece = mean,
                            .ece_95 = drawn[(draws * 95 + 99) / 100 - 1],
                            .ratio = mean > 0 ? found / mean : NAN,
                            .p_value = (double)(1 + as_much) / (double)(1 + draws)};
}
