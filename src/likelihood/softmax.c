/* One of C classes, p = softmax(f). */
#include "likelihood/likelihood.h"

#include <math.h>

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

static double log_likelihood(int64_t n_classes, const float *logits, la_label label) {
    double top = (double)logits[0], sum = 0;
    for (int64_t c = 1; c < n_classes; c++)
        top = (double)logits[c] > top ? (double)logits[c] : top;
    for (int64_t c = 0; c < n_classes; c++)
        sum += exp((double)logits[c] - top);
    return (double)logits[label.class] - top - log(sum);
}

const la_likelihood la_softmax_likelihood = {.name = "classes",
                                             .problem = "single_label_classification",
                                             .outputs = "2 classes or more",
                                             .n_least = 2,
                                             .n_most = INT64_MAX,
                                             .label_kind = LA_LABEL_CLASS,
                                             .contrasts = contrasts,
                                             .contrast_basis = contrast_basis,
                                             .fisher_factor = fisher_factor,
                                             .log_likelihood = log_likelihood};
