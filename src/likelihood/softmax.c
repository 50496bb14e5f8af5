/* One of C classes, p = softmax(f). */
#include "likelihood/drawing.h"
#include "likelihood/selection.h"
#include "likelihood/shares.h"
#include "likelihood/signs.h"

#include <math.h>
#include <string.h>

/* C - 1: softmax does not see a common shift. */
static int64_t contrasts(int64_t n_classes) {
    return n_classes - 1;
}

/* Helmert's: orthogonal to the vector of ones. */
static void contrast_basis(int64_t n_classes, double *basis) {
    int64_t m = n_classes - 1;
    for (int64_t k = 0; k < m; k++) {
        double before = (double)(k + 1), scale = 1 / sqrt(before * (before + 1));
        for (int64_t c = 0; c < n_classes; c++)
            basis[c * m + k] = c <= k ? scale : c == k + 1 ? -before * scale : 0;
    }
}

/* diag(p) - p p^T: columns 2.. of the Householder reflection that takes e_1 to sqrt(p), scaled by
 * sqrt(p). */
static void fisher_factor(int64_t n_classes, const float *logits, double *factor) {
    int64_t m = n_classes - 1, top = 0;
    double sum = 0;
    for (int64_t c = 1; c < n_classes; c++)
        top = logits[c] > logits[top] ? c : top;
    /* exponentials of halves: sqrt(p) without underflow of p itself */
    for (int64_t c = 0; c < n_classes; c++)
        sum += exp((double)logits[c] - (double)logits[top]);
    /* Reflection I - 2 v v^T / |v|^2 with v = sqrt(p) + e_top: it takes -e_top to sqrt(p). Its
     * other columns are orthonormal and orthogonal to sqrt(p), so with root = sqrt(p)
     *   diag(root) (sum of q q^T) diag(root) = diag(p) - p p^T.
     * The sum, not the difference, in v: nothing cancels when one class has nearly all the
     * probability. */
    double half = 1 / sqrt(sum);
    double at_top = half, square = 2 + 2 * at_top; /* |v|^2 */
    for (int64_t c = 0; c < n_classes; c++) {
        double root = exp(0.5 * ((double)logits[c] - (double)logits[top])) * half;
        double v = root + (c == top ? 1 : 0);
        for (int64_t k = 0; k < m; k++) {
            int64_t column = k < top ? k : k + 1;
            double v_column = exp(0.5 * ((double)logits[column] - (double)logits[top])) * half;
            factor[c * m + k] = root * ((c == column ? 1 : 0) - 2 * v * v_column / square);
        }
    }
}

/* sum of exp(f - *top), *top the largest of f */
static double exponentials(int64_t n_classes, const float *logits, double *top) {
    double sum = 0;
    *top = (double)logits[0];
    for (int64_t c = 1; c < n_classes; c++)
        *top = (double)logits[c] > *top ? (double)logits[c] : *top;
    for (int64_t c = 0; c < n_classes; c++)
        sum += exp((double)logits[c] - *top);
    return sum;
}

static double log_likelihood(int64_t n_classes, const float *logits, la_label label) {
    double top, sum = exponentials(n_classes, logits, &top);
    return (double)logits[label.class] - top - log(sum);
}

/* one-hot(label) - p */
static void gradient(int64_t n_classes, const float *logits, la_label label, float *out) {
    double top, sum = exponentials(n_classes, logits, &top);
    for (int64_t c = 0; c < n_classes; c++)
        out[c] = (float)((c == label.class ? 1 : 0) - exp((double)logits[c] - top) / sum);
}

/* Q cov Q^T */
static void centred_covariance(int64_t n_classes, const double *basis, const double *cov,
                               double *out) {
    int64_t m = n_classes - 1;
    for (int64_t c = 0; c < n_classes; c++)
        for (int64_t d = 0; d <= c; d++) {
            double sum = 0;
            for (int64_t k = 0; k < m; k++)
                for (int64_t l = 0; l < m; l++)
                    sum += basis[c * m + k] * cov[k * m + l] * basis[d * m + l];
            out[c * n_classes + d] = out[d * n_classes + c] = sum;
        }
}

/* Values that follow from the probabilities. Between equal ones the outputs decide, where they are
 * there: dividing them by a temperature may round two of them to one. */
static void conclude(int64_t n_classes, la_prediction *out) {
    out->prediction = 0;
    for (int c = 1; c < (int)n_classes; c++) {
        double more = out->probs[c] - out->probs[out->prediction];
        if (more > 0 || (more == 0 && out->logits && out->logits[c] > out->logits[out->prediction]))
            out->prediction = c;
    }
    out->confidence = out->probs[out->prediction];
    out->entropy = la_entropy(n_classes, out->probs);
}

static void reshare(const la_class_shares *shares, la_prediction *out) {
    la_class_shares_apply(shares, out->probs);
    conclude(shares->n_classes, out);
}

/* Doubles: the outputs less their mean; then the draws' root of the covariance, means and numbers
 * or factor, or C numbers of a predictive. */
static int64_t workspace_of(int64_t n_classes) {
    int64_t m = n_classes - 1, drawing = la_draw_workspace(n_classes), factor = m * m;
    return n_classes + n_classes * m + 2 * n_classes + 1 + (drawing > factor ? drawing : factor);
}

static bool is_right(int64_t n_classes, const double *probs, la_label label) {
    int64_t best = 0;
    for (int64_t c = 1; c < n_classes; c++)
        best = probs[c] > probs[best] ? c : best;
    return best == label.class;
}

static void predict(const la_predictive_kind *kind, int64_t n_classes, const la_answer_row *row,
                    double *workspace, la_prediction *out) {
    double *centre = workspace, mean = 0;
    workspace += n_classes;
    for (int64_t c = 0; c < n_classes; c++) {
        out->logits[c] = (double)row->outputs[c];
        mean += (double)row->outputs[c] / (double)n_classes;
    }
    for (int64_t c = 0; c < n_classes; c++)
        centre[c] = (double)row->outputs[c] - mean;
    la_class_probs(n_classes, centre, out->map_probs);
    if (kind->reads_covariance)
        centred_covariance(n_classes, row->basis, row->cov, out->logit_cov);
    else
        memset(out->logit_cov, 0, (size_t)(n_classes * n_classes) * sizeof(double));
    const double *means = row->means;
    if (kind->draws && row->samples > 0 && !means) {
        double *spread = workspace, *own = spread + n_classes * (n_classes - 1);
        double *rest = own + 2 * n_classes + 1;
        la_draw_gaussian(n_classes, row->outputs, row->basis, row->cov, rest, centre, spread);
        la_draw_classes(n_classes, centre, spread, out->map_probs, row->samples, row->seed,
                        row->stream, rest, own);
        means = own;
    }
    la_draw_spread(n_classes, means, out);
    la_class_row as_read = {
        .n_classes = n_classes, .centre = centre, .cov = out->logit_cov, .means = means};
    kind->row(&as_read, workspace, out);
    conclude(n_classes, out);
}

static void restore(int64_t n_classes, const float *logits, double temperature, const double *basis,
                    const double *cov, la_prediction *out) {
    double top = (double)logits[0];
    for (int64_t c = 1; c < n_classes; c++)
        top = (double)logits[c] > top ? (double)logits[c] : top;
    for (int64_t c = 0; c < n_classes; c++) {
        out->logits[c] = (double)logits[c];
        out->map_probs[c] = (double)logits[c] - top;
    }
    la_class_probs(n_classes, out->map_probs, out->map_probs);
    for (int64_t i = 0; !cov && i < n_classes * n_classes; i++)
        out->logit_cov[i] *= temperature * temperature;
    if (cov)
        centred_covariance(n_classes, basis, cov, out->logit_cov);
}

static void add_network(int64_t n_classes, const float *logits, const float *map,
                        double temperature, double *workspace, double *sums) {
    double *p = workspace, *at_map = workspace + n_classes, *squares = sums + n_classes + 1;
    for (int64_t c = 0; c < n_classes; c++) {
        p[c] = (double)logits[c] / temperature;
        at_map[c] = (double)map[c] / temperature;
    }
    la_class_probs(n_classes, p, p);
    la_class_probs(n_classes, at_map, at_map);
    for (int64_t c = 0; c < n_classes; c++) {
        sums[c] += p[c];
        squares[c] += (p[c] - at_map[c]) * (p[c] - at_map[c]);
    }
    sums[n_classes] += la_entropy(n_classes, p);
}

const la_likelihood la_softmax_likelihood = {.name = "classes",
                                             .problem = "single_label_classification",
                                             .outputs = "2 classes or more",
                                             .tuned = "temperature",
                                             .counted = "classes",
                                             .accuracy = "accuracy",
                                             .right = "accuracy",
                                             .n_least = 2,
                                             .n_most = INT64_MAX,
                                             .label_kind = LA_LABEL_CLASS,
                                             .contrasts = contrasts,
                                             .contrast_basis = contrast_basis,
                                             .fisher_factor = fisher_factor,
                                             .log_likelihood = log_likelihood,
                                             .gradient = gradient,
                                             .select = la_select_class,
                                             .lacks = la_candidate_lacks,
                                             .report = la_signs_of_classes,
                                             .predictives = la_class_predictives,
                                             .averages = true,
                                             .is_softmax = true,
                                             .workspace = workspace_of,
                                             .predict = predict,
                                             .restore = restore,
                                             .conclude = conclude,
                                             .reshare = reshare,
                                             .is_right = is_right,
                                             .add_network = add_network};
