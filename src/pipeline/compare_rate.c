/* Rows of the table: metrics of what a method predicts. */
#include "base/memory.h"
#include "baselines/scores.h"
#include "output/ece_noise.h"
#include "pipeline/compare_method.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NOISE_DRAWS = 500 };

la_comparison_row *la_compare_row(la_comparing *c, const char *name, double seconds_fit) {
    la_comparison_row *row = &c->to->rows[c->to->n++];
    *row = (la_comparison_row){.ece_noise = NAN,
                               .ood_auroc = NAN,
                               .seconds_fit = seconds_fit,
                               .seconds_predict = c->sides[LA_SIDE_TEST].e.seconds_forward};
    snprintf(row->name, sizeof row->name, "%s", name);
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        row->value[m] = NAN;
    return row;
}

/* AUROC of the scores between the rows of --ood and the test rows. */
static la_status rate_ood(const la_comparing *c, la_comparison_row *row, la_error *err) {
    const la_compare_side *test = &c->sides[LA_SIDE_TEST], *ood = &c->sides[LA_SIDE_OOD];
    size_t n = (size_t)(test->rows.n + ood->rows.n);
    if (!ood->rows.n)
        return LA_OK;
    double *scores = la_alloc(n, sizeof *scores, err);
    bool *other = la_alloc(n, sizeof *other, err);
    if (err->status == LA_OK) {
        memcpy(scores, test->scores, (size_t)test->rows.n * sizeof *scores);
        memcpy(scores + test->rows.n, ood->scores, (size_t)ood->rows.n * sizeof *scores);
        for (int64_t i = 0; i < ood->rows.n; i++)
            other[test->rows.n + i] = true;
        row->ood_auroc = la_auroc((int64_t)n, scores, other, err);
    }
    free(scores);
    free(other);
    return err->status;
}

static void fill_scores(int64_t classes, la_compare_side *side) {
    for (int64_t i = 0; i < side->rows.n; i++) {
        const double *probs = side->probs + i * classes;
        double top = 0;
        for (int64_t k = 0; k < classes; k++)
            top = probs[k] > top ? probs[k] : top;
        side->scores[i] = 1 - top;
    }
}

la_status la_compare_rate_probs(la_comparing *c, la_comparison_row *row, la_error *err) {
    la_compare_side *test = &c->sides[LA_SIDE_TEST];
    int64_t classes = c->model->n_classes, n = test->rows.n;
    la_metric_rows rows = {n, classes, test->probs, test->rows.labels};
    la_metrics metrics;
    row->has_probs = true;
    LA_TRY(la_metrics_compute(&la_softmax_metrics, &rows, &metrics, err));
    memcpy(row->value, metrics.value, sizeof row->value);
    for (int s = 0; s < LA_SIDES; s++)
        fill_scores(classes, &c->sides[s]);
    double *confidence = la_alloc((size_t)n, sizeof *confidence, err);
    if (!confidence)
        return err->status;
    for (int64_t i = 0; i < n; i++)
        confidence[i] = 1 - test->scores[i];
    row->ece_noise = la_ece_noise(n, confidence, NAN, NOISE_DRAWS, 1).ece_95;
    free(confidence);
    return rate_ood(c, row, err);
}

/* Ranking of the MAP model's errors by the scores. A score becomes the confidence of a model
 * with two answers, right and wrong, so that ties and coverages count as in reports. */
la_status la_compare_rate_scores(la_comparing *c, la_comparison_row *row, la_error *err) {
    const la_compare_side *test = &c->sides[LA_SIDE_TEST];
    int64_t n = test->rows.n, classes = c->model->n_classes;
    double *probs = la_alloc((size_t)(2 * n), sizeof *probs, err), low = INFINITY, high = -INFINITY;
    int64_t *right = la_alloc((size_t)n, sizeof *right, err);
    la_metrics metrics;
    la_status status = err->status;
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        const float *f = test->e.logits + i * classes;
        int64_t best = 0;
        for (int64_t k = 1; k < classes; k++)
            best = f[k] > f[best] ? k : best;
        right[i] = best == test->rows.labels.classes[i] ? 0 : 1;
        low = fmin(low, test->scores[i]);
        high = fmax(high, test->scores[i]);
    }
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        double at = high > low ? (test->scores[i] - low) / (high - low) : 0;
        probs[2 * i] = 1 - 0.49 * at;
        probs[2 * i + 1] = 0.49 * at;
    }
    la_metric_rows rows = {n, 2, probs, {.classes = right}};
    if (status == LA_OK)
        status = la_metrics_compute(&la_softmax_metrics, &rows, &metrics, err);
    free(probs);
    free(right);
    LA_TRY(status);
    row->value[LA_METRIC_AUROC] = metrics.value[LA_METRIC_AUROC];
    row->value[LA_METRIC_AURC] = metrics.value[LA_METRIC_AURC];
    return rate_ood(c, row, err);
}
