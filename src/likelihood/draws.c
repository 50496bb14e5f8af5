/* Monte Carlo: E softmax(f) over draws of f ~ N(f_MAP, cov), or over networks whose weights are
 * drawn. */
#include "likelihood/drawing.h"
#include "likelihood/predictive.h"

#include <string.h>

/* Lower Cholesky factor of a positive semi-definite matrix; directions of no variance get a zero
 * column. */
static void cholesky(int64_t n, const double *a, double *l) {
    double scale = 0;
    for (int64_t i = 0; i < n; i++)
        scale = a[i * n + i] > scale ? a[i * n + i] : scale;
    memset(l, 0, (size_t)(n * n) * sizeof *l);
    for (int64_t j = 0; j < n; j++) {
        double pivot = a[j * n + j];
        for (int64_t k = 0; k < j; k++)
            pivot -= l[j * n + k] * l[j * n + k];
        if (pivot <= 1e-12 * scale)
            continue;
        l[j * n + j] = sqrt(pivot);
        for (int64_t i = j + 1; i < n; i++) {
            double sum = a[i * n + j];
            for (int64_t k = 0; k < j; k++)
                sum -= l[i * n + k] * l[j * n + k];
            l[i * n + j] = sum / l[j * n + j];
        }
    }
}

void la_draw_gaussian(int64_t n_classes, const float *outputs, const double *basis,
                      const double *cov, double *workspace, double *centre, double *spread) {
    int64_t m = n_classes - 1;
    double *l = workspace, mean = 0;
    for (int64_t c = 0; c < n_classes; c++)
        mean += (double)outputs[c] / (double)n_classes;
    for (int64_t c = 0; c < n_classes; c++)
        centre[c] = (double)outputs[c] - mean;
    cholesky(m, cov, l);
    for (int64_t c = 0; c < n_classes; c++)
        for (int64_t k = 0; k < m; k++) {
            double sum = 0;
            for (int64_t i = k; i < m; i++)
                sum += basis[c * m + i] * l[i * m + k];
            spread[c * m + k] = sum;
        }
}

void la_draw_classes(int64_t n_classes, const double *centre, const double *spread,
                     const double *map_probs, int64_t samples, uint64_t seed, uint64_t stream,
                     double *workspace, double *means) {
    la_drawing_here()->classes(n_classes, centre, spread, map_probs, samples, seed, stream,
                               workspace, means);
}

void la_draw_spread(int64_t n_classes, const double *means, la_prediction *out) {
    out->mutual_information = NAN;
    for (int64_t c = 0; c < n_classes; c++)
        out->variance[c] = NAN;
    if (!means)
        return;
    const double *squares = means + n_classes + 1;
    double gap = la_entropy(n_classes, means) - means[n_classes];
    out->mutual_information = gap > 0 ? gap : 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double moved = means[c] - out->map_probs[c], variance = squares[c] - moved * moved;
        /* rounding; a NaN stays one */
        out->variance[c] = variance < 0 ? 0 : variance;
    }
}

static void row(const la_class_row *row, double *workspace, la_prediction *out) {
    (void)workspace;
    memcpy(out->probs, row->means, (size_t)row->n_classes * sizeof(double));
}

const la_predictive_kind la_predictive_mc = {.name = "mc",
                                             .label = "laplace-mc",
                                             .reads_covariance = true,
                                             .draws = LA_DRAWS_ANSWER,
                                             .closed = &la_predictive_probit,
                                             .row = row};
const la_predictive_kind la_predictive_weights = {
    .name = "weights", .label = "laplace-weights", .networks = true, .row = row};
