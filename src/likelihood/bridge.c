#include "likelihood/predictive.h"

/* psi(x) for x > 0: recurrence up to 6, then the asymptotic series */
static double digamma(double x) {
    double sum = 0;
    for (; x < 6; x++)
        sum -= 1 / x;
    double r = 1 / (x * x);
    return sum + log(x) - 0.5 / x -
           r * (1.0 / 12 - r * (1.0 / 120 - r * (1.0 / 252 - r * (1.0 / 240 - r / 132))));
}

/* Laplace bridge (Hobbhahn et al., arXiv 2003.01227, equation 8): the Dirichlet whose softmax-basis
 * Gaussian this is. Its mean are the probabilities; their variance and mutual information
 * H[p] - E H are closed too. */
static void bridge_row(const la_class_row *row, double *alpha, la_prediction *out) {
    int64_t n_classes = row->n_classes;
    const double *centre = row->centre, *full_cov = row->cov;
    double sum_exp = 0, total = 0, c_count = (double)n_classes;
    for (int64_t c = 0; c < n_classes; c++)
        sum_exp += exp(-centre[c]);
    for (int64_t c = 0; c < n_classes; c++) {
        double variance = full_cov[c * n_classes + c];
        /* no variance: the Dirichlet would sharpen without bound */
        variance = variance > 1e-9 ? variance : 1e-9;
        alpha[c] = (1 - 2 / c_count + exp(centre[c]) * sum_exp / (c_count * c_count)) / variance;
        total += alpha[c];
    }
    double expected = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        out->probs[c] = alpha[c] / total;
        /* alpha (total - alpha) / (total^2 (total + 1)), whose square may overflow */
        out->variance[c] = out->probs[c] * ((total - alpha[c]) / total) / (total + 1);
        expected -= out->probs[c] * (digamma(alpha[c] + 1) - digamma(total + 1));
    }
    double gap = la_entropy(n_classes, out->probs) - expected;
    out->mutual_information = gap > 0 ? gap : 0;
}

const la_predictive_kind la_predictive_bridge = {
    .name = "bridge", .label = "laplace-bridge", .reads_covariance = true, .row = bridge_row};
