/* Probit approximations of E softmax(f): closed forms, whose variances and mutual information are
 * those of draws, where there are some. */
#include "likelihood/predictive.h"

/* Probit approximation for several classes, pair by pair (Lu, Ie, Sha, arXiv 2006.07584, "mf2"):
 * with two classes it is MacKay's, and like softmax it does not see a common shift:
 *   p_c ~ 1 / sum_d exp(-(f_c - f_d) / sqrt(1 + pi/8 Var(f_c - f_d))) */
static void pairs_row(const la_class_row *row, double *workspace, la_prediction *out) {
    int64_t n_classes = row->n_classes;
    const double *centre = row->centre, *cov = row->cov;
    (void)workspace;
    double total = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double sum = 0;
        for (int64_t d = 0; d < n_classes; d++) {
            double variance =
                cov[c * n_classes + c] + cov[d * n_classes + d] - 2 * cov[c * n_classes + d];
            variance = variance > 0 ? variance : 0;
            sum += exp(-(centre[c] - centre[d]) / sqrt(1 + M_PI / 8 * variance));
        }
        total += out->probs[c] = 1 / sum;
    }
    for (int64_t c = 0; c < n_classes; c++)
        out->probs[c] /= total;
}

/* Probit with one variance a row, the mean of Var(f_c - f_d) over pairs of classes: all logits are
 * divided by the same number, so that the answer and the order of classes stay those of the MAP
 * model. With two classes it is MacKay's as well. */
static void scalar_row(const la_class_row *row, double *scaled, la_prediction *out) {
    int64_t n_classes = row->n_classes;
    const double *centre = row->centre, *cov = row->cov;
    double trace = 0;
    for (int64_t c = 0; c < n_classes; c++)
        trace += cov[c * n_classes + c];
    double shrink = la_probit_shrink(1, la_pair_variance(n_classes, trace));
    for (int64_t c = 0; c < n_classes; c++)
        scaled[c] = centre[c] * shrink;
    la_class_probs(n_classes, scaled, out->probs);
}

const la_predictive_kind la_predictive_probit = {.name = "probit",
                                                 .label = "laplace-probit",
                                                 .reads_covariance = true,
                                                 .draws = LA_DRAWS_SPREAD,
                                                 .row = pairs_row};
const la_predictive_kind la_predictive_scalar = {.name = "scalar",
                                                 .label = "laplace-scalar-probit",
                                                 .reads_covariance = true,
                                                 .draws = LA_DRAWS_SPREAD,
                                                 .row = scalar_row};
