/* Any of C classes, each a Bernoulli variable of its own: p = sigmoid(f). Sigmoid of one output is
 * softmax of that and 0, so that selection and predictives are those of C rows of two classes. */
#include "base/memory.h"
#include "likelihood/answer.h"
#include "likelihood/selection.h"
#include "likelihood/signs.h"

#include <stdlib.h>
#include <string.h>

/* All outputs. */
static int64_t contrasts(int64_t n_classes) {
    return n_classes;
}

static void contrast_basis(int64_t n_classes, double *basis) {
    for (int64_t i = 0; i < n_classes * n_classes; i++)
        basis[i] = i % (n_classes + 1) == 0;
}

/* sigmoid(f), and 1 less it without cancellation */
static double sigmoid(double f) {
    return f < 0 ? exp(f) / (1 + exp(f)) : 1 / (1 + exp(-f));
}

/* diag(p (1 - p)) */
static void fisher_factor(int64_t n_classes, const float *outputs, double *factor) {
    memset(factor, 0, (size_t)(n_classes * n_classes) * sizeof *factor);
    for (int64_t c = 0; c < n_classes; c++) {
        double f = (double)outputs[c];
        factor[c * n_classes + c] = sqrt(sigmoid(f) * sigmoid(-f));
    }
}

static double log_likelihood(int64_t n_classes, const float *outputs, la_label label) {
    double sum = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double f = label.set[c] ? (double)outputs[c] : -(double)outputs[c];
        sum -= f > 0 ? log1p(exp(-f)) : log1p(exp(f)) - f;
    }
    return sum;
}

/* 1 or 0 for each class, less its probability */
static void gradient(int64_t n_classes, const float *outputs, la_label label, float *out) {
    for (int64_t c = 0; c < n_classes; c++)
        out[c] = (float)((label.set[c] ? 1 : 0) - 1 / (1 + exp(-(double)outputs[c])));
}

/* ---- a row of two classes for every class ---- */

/* The contrast (f_0 - f_1) / sqrt 2 of the outputs 0 and f has half their variance. */
static const double two_basis[2] = {M_SQRT1_2, -M_SQRT1_2};

static uint64_t stream_of(uint64_t row, int64_t class) {
    return row + (uint64_t) class * 0x9e3779b97f4a7c15u;
}

/* Choices are by the likelihood of labels: a row of the n C for every class of every row. */
static la_status select_sets(la_team team, const la_held_out *rows, la_choice *choice,
                             la_error *err) {
    int64_t c = rows->n_classes, n = rows->n * c;
    float *logits = la_alloc((size_t)(2 * n), sizeof *logits, err);
    int64_t *labels = la_alloc((size_t)n, sizeof *labels, err);
    uint64_t *streams = la_alloc((size_t)n, sizeof *streams, err);
    double *cov = la_alloc((size_t)(rows->n_scales * n), sizeof *cov, err);
    la_status status = err->status;
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        logits[2 * i + 1] = rows->logits[i];
        labels[i] = rows->labels.sets[i];
        streams[i] = stream_of(rows->streams[i / c], i % c);
        for (int64_t g = 0; g < rows->n_scales; g++)
            cov[g * n + i] = 0.5 * rows->cov[(g * rows->n + i / c) * c * c + i % c * (c + 1)];
    }
    la_held_out all = {.n = n,
                       .n_classes = 2,
                       .n_scales = rows->n_scales,
                       .logits = logits,
                       .labels = {.kind = LA_LABEL_CLASS, .classes = labels},
                       .streams = streams,
                       .scales = rows->scales,
                       .cov = cov,
                       .keep_answers = rows->keep_answers,
                       .uncorrected = true};
    if (status == LA_OK)
        status = la_select_class(team, &all, choice, err);
    choice->n = rows->n;
    free(logits);
    free(labels);
    free(streams);
    free(cov);
    return status;
}

static int64_t workspace_of(int64_t n_classes) {
    (void)n_classes;
    return la_softmax_likelihood.workspace(2);
}

static double entropy_of(double p) {
    return la_entropy(2, (double[2]){p, 1 - p});
}

/* prediction: number of classes in the set; confidence: probability of the set. */
static void conclude(int64_t n_classes, la_prediction *out) {
    out->prediction = 0;
    out->confidence = 1;
    out->entropy = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        double p = out->probs[c];
        out->prediction += p > 0.5;
        out->confidence *= p > 0.5 ? p : 1 - p;
        out->entropy += entropy_of(p);
    }
}

static bool is_right(int64_t n_classes, const double *probs, la_label label) {
    for (int64_t c = 0; c < n_classes; c++)
        if ((probs[c] > 0.5) != label.set[c])
            return false;
    return true;
}

/* A class by the predictive of two; returns its mutual information. */
static double predict_class(const la_predictive_kind *kind, int64_t n_classes, int64_t c,
                            const la_answer_row *row, double *workspace, la_prediction *out) {
    double memory[4 * 2 + 2 * 2], cov = row->cov ? 0.5 * row->cov[c * (n_classes + 1)] : 0;
    double means[5];
    la_prediction two = la_prediction_at(2, memory);
    float outputs[2] = {0, row->outputs[c]};
    la_answer_row of_two = *row;
    of_two.outputs = outputs;
    of_two.basis = two_basis;
    of_two.cov = &cov;
    of_two.stream = stream_of(row->stream, c);
    if (row->means) {
        double p = row->means[c], square = row->means[n_classes + 1 + c];
        memcpy(means, (double[5]){1 - p, p, 0, square, square}, sizeof means);
        of_two.means = means;
    }
    la_softmax_likelihood.predict(kind, 2, &of_two, workspace, &two);
    out->probs[c] = two.probs[1];
    out->map_probs[c] = two.map_probs[1];
    out->variance[c] = two.variance[1];
    return two.mutual_information;
}

static void predict(const la_predictive_kind *kind, int64_t n_classes, const la_answer_row *row,
                    double *workspace, la_prediction *out) {
    out->mutual_information = 0;
    for (int64_t c = 0; c < n_classes; c++) {
        out->logits[c] = (double)row->outputs[c];
        out->mutual_information += predict_class(kind, n_classes, c, row, workspace, out);
    }
    size_t bytes = (size_t)(n_classes * n_classes) * sizeof(double);
    if (row->cov)
        memcpy(out->logit_cov, row->cov, bytes);
    else
        memset(out->logit_cov, 0, bytes);
    conclude(n_classes, out);
    /* entropies of a network are summed over the classes */
    if (row->means) {
        double gap = out->entropy - row->means[n_classes];
        out->mutual_information = gap < 0 ? 0 : gap;
    }
}

static void restore(int64_t n_classes, const float *outputs, double temperature,
                    const double *basis, const double *cov, la_prediction *out) {
    (void)basis, (void)cov;
    for (int64_t c = 0; c < n_classes; c++) {
        out->logits[c] = (double)outputs[c];
        out->map_probs[c] = sigmoid((double)outputs[c]);
    }
    for (int64_t i = 0; i < n_classes * n_classes; i++)
        out->logit_cov[i] *= temperature * temperature;
}

static void add_network(int64_t n_classes, const float *outputs, const float *map_outputs,
                        double temperature, double *workspace, double *sums) {
    (void)workspace;
    for (int64_t c = 0; c < n_classes; c++) {
        double p = sigmoid((double)outputs[c] / temperature);
        double moved = p - sigmoid((double)map_outputs[c] / temperature);
        sums[c] += p;
        sums[n_classes] += entropy_of(p);
        sums[n_classes + 1 + c] += moved * moved;
    }
}

const la_likelihood la_sigmoid_likelihood = {.name = "sets of classes",
                                             .task = "multi_label",
                                             .problem = "multi_label_classification",
                                             .outputs = "one output or more",
                                             .counted = "labels",
                                             .accuracy = "accuracy of decisions",
                                             .right = "share of exact sets",
                                             .title = "gives sets of classes "
                                                      "(multi_label_classification)",
                                             .tuned = "temperature",
                                             .n_least = 1,
                                             .n_most = INT64_MAX,
                                             .is_named = true,
                                             .label_kind = LA_LABEL_SET,
                                             .contrasts = contrasts,
                                             .contrast_basis = contrast_basis,
                                             .fisher_factor = fisher_factor,
                                             .log_likelihood = log_likelihood,
                                             .gradient = gradient,
                                             .select = select_sets,
                                             .lacks = la_candidate_lacks,
                                             .report = la_signs_of_classes,
                                             .predictives = la_class_predictives,
                                             .averages = true,
                                             .workspace = workspace_of,
                                             .predict = predict,
                                             .restore = restore,
                                             .conclude = conclude,
                                             .is_right = is_right,
                                             .add_network = add_network};
