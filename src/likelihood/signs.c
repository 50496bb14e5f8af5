#include "likelihood/signs.h"
#include "base/memory.h"
#include "likelihood/scaling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ROWS_EACH = 10,    /* held-out rows a number, to look for biased classes */
    BIASED_MOST = 100, /* classes; more take Newton's method too long for a note */
    SAMPLES = 200      /* draws a row, to look for a lack of confidence */
};
/* Confidence below the accuracy on rows that were trained on: that of the MAP model is about equal
 * there; a posterior that is sound takes some of it away. More than this is too much. */
#define USUAL_GAP 0.15
#define HIGH_LEVERAGE 2.0

/* ---- biased classes ---- */

typedef struct scaled {
    double nll, accuracy;
    double gain, square; /* means of the gains over a temperature, and of their squares */
} scaled;

/* NLL of the rows under a weight and a bias a class that were fitted to them. memory: 4 C */
static la_status scale_classes(const la_held_out *rows, double temperature, double *memory,
                               scaled *out, la_error *err) {
    int64_t c = rows->n_classes;
    double *scale = memory, *bias = scale + c, *p = bias + c, *q = p + c, n = (double)rows->n;
    *out = (scaled){0};
    LA_TRY(la_vector_scaling_fit(rows->n, c, rows->logits, rows->labels.classes, scale, bias, err));
    for (int64_t i = 0; i < rows->n; i++) {
        const float *f = rows->logits + i * c;
        la_vector_scaling_apply(c, scale, bias, f, p);
        la_temperature_scaling_apply(c, temperature, f, q);
        double nll = -log(fmax(p[rows->labels.classes[i]], 1e-300));
        double gain = -log(fmax(q[rows->labels.classes[i]], 1e-300)) - nll;
        out->nll += nll / n;
        out->gain += gain / n;
        out->square += gain * gain / n;
        out->accuracy +=
            la_softmax_likelihood.is_right(c, p, la_label_list_at(&rows->labels, i)) / n;
    }
    return LA_OK;
}

void la_warn_biased(const la_held_out *rows, const la_choice *choice) {
    const la_candidate *tempered = &choice->candidates[LA_METHOD_TEMPERATURE];
    int64_t c = rows->n_classes, numbers = 2 * c - 2;
    double n = (double)rows->n;
    la_error err = {0};
    scaled s = {0};
    bool corrected = choice->method == LA_METHOD_AVERAGE && choice->n_corrections;
    if (!rows->log.warn || corrected || c > BIASED_MOST || rows->n < ROWS_EACH * numbers)
        return;
    double *memory = la_alloc((size_t)(4 * c), sizeof *memory, &err);
    bool known = memory && scale_classes(rows, tempered->temperature, memory, &s, &err) == LA_OK;
    free(memory);
    double error = sqrt(fmax(s.square - s.gain * s.gain, 0) / n);
    if (known && s.gain - (double)numbers / n > 2 * error)
        la_warn(&rows->log,
                "the classes are biased: with a weight and a bias for each, the held-out rows' NLL "
                "would be %.3f instead of %.3f, and the accuracy %.3f instead of %.3f; no "
                "temperature and no posterior mends that (train longer, or on these shares of "
                "classes%s)",
                s.nll, tempered->nll, s.accuracy, tempered->accuracy,
                rows->keep_answers ? "; without --keep-answers the guard corrects them" : "");
}

/* ---- leverage ---- */

/* y = A x of a [m, m] with these strides. */
static void times(int64_t m, const double *a, int64_t row, int64_t column, const double *x,
                  double *y) {
    for (int64_t i = 0; i < m; i++) {
        y[i] = 0;
        for (int64_t j = 0; j < m; j++)
            y[i] += a[i * row + j * column] * x[j];
    }
}

/* Leverage of a row: the largest eigenvalue of S^T cov S, S S^T its Fisher information; by power
 * iteration on M = S_B^T cov S_B with S_B = B^T S in the contrasts' basis B[C, m]. w:
 * C m + m^2 + 3 m */
static double leverage(const la_likelihood *likelihood, int64_t c, int64_t m, const float *outputs,
                       const double *basis, const double *cov, double *w) {
    double *s = w, *sb = s + c * m, *v = sb + m * m, *u = v + m, *t = u + m, top = 0;
    likelihood->fisher_factor(c, outputs, s);
    for (int64_t k = 0; k < m; k++)
        for (int64_t j = 0; j < m; j++) {
            double sum = 0;
            for (int64_t i = 0; i < c; i++)
                sum += basis[i * m + k] * s[i * m + j];
            sb[k * m + j] = sum;
        }
    for (int64_t j = 0; j < m; j++)
        v[j] = 1 + 0.1 * (double)j;
    for (int step = 0; step < 50; step++) {
        double norm = 0;
        times(m, sb, m, 1, v, u);
        times(m, cov, m, 1, u, t);
        times(m, sb, 1, m, t, v);
        for (int64_t j = 0; j < m; j++)
            norm += v[j] * v[j];
        top = sqrt(norm);
        for (int64_t j = 0; j < m && top > 0; j++)
            v[j] /= top;
    }
    return top;
}

/* Largest leverage of the rows. */
static la_status most_leverage(const la_likelihood *likelihood, const la_output_rows *rows,
                               double *most, la_error *err) {
    int64_t c = rows->n_outputs, m = likelihood->contrasts(c);
    double *basis = la_alloc((size_t)(2 * c * m + m * m + 3 * m), sizeof *basis, err);
    if (!basis)
        return err->status;
    likelihood->contrast_basis(c, basis);
    *most = 0;
    for (int64_t i = 0; i < rows->n; i++)
        *most = fmax(*most, leverage(likelihood, c, m, rows->outputs + i * c, basis,
                                     rows->cov + i * m * m, basis + c * m));
    free(basis);
    return LA_OK;
}

/* ---- confidence ---- */

/* Means over rows, of the prediction and of the MAP model. */
typedef struct signs {
    double accuracy, confidence, map_confidence;
} signs;

/* confidence[n] of the MAP model in its answers, and with labels whether they are right[n]. */
static la_status answer_plainly(const la_likelihood *likelihood, la_team team, int64_t n, int64_t c,
                                const float *outputs, const la_label_list *labels,
                                double *confidence, bool *right, la_error *err) {
    double *probs = la_alloc((size_t)(n * c), sizeof *probs, err);
    la_prediction *predictions = la_alloc((size_t)n, sizeof *predictions, err);
    la_output_rows rows = {.n = n, .n_outputs = c, .outputs = outputs, .noise_variance = 1};
    la_recipe plain = {.kind = la_predictive_find(likelihood->predictives, "map"),
                       .prior_scale = 1,
                       .temperature = 1,
                       .weight = 1};
    la_draw_options draws = {.samples = 0};
    for (int64_t i = 0; probs && predictions && i < n; i++)
        predictions[i].probs = probs + i * c;
    la_status status = err->status;
    if (status == LA_OK)
        status = la_answer_rows(likelihood, &plain, 1, &rows, &draws, team, predictions, err);
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        la_prediction map = {.probs = probs + i * c};
        likelihood->conclude(c, &map);
        confidence[i] = map.confidence;
        if (labels)
            right[i] = likelihood->is_right(c, map.probs, la_label_list_at(labels, i));
    }
    free(predictions);
    free(probs);
    return status;
}

la_status la_signs_confidence(const la_likelihood *likelihood, la_team team, int64_t n, int64_t c,
                              const float *outputs, double *confidence, la_error *err) {
    return answer_plainly(likelihood, team, n, c, outputs, NULL, confidence, NULL, err);
}

/* Accuracy and confidence of the MAP model. */
static la_status measure_map(const la_likelihood *likelihood, la_team team, int64_t n, int64_t c,
                             const float *outputs, const la_label_list *labels, signs *out,
                             la_error *err) {
    double *confidence = la_alloc((size_t)n, sizeof *confidence, err);
    bool *right = la_alloc((size_t)n, sizeof *right, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = answer_plainly(likelihood, team, n, c, outputs, labels, confidence, right, err);
    *out = (signs){0};
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        out->accuracy += right[i] / (double)n;
        out->map_confidence += confidence[i] / (double)n;
    }
    free(confidence);
    free(right);
    return status;
}

/* Confidence of the posterior in the fair rows; of all, the MAP model's less what the posterior
 * takes from it on those. */
static la_status measure(const la_likelihood *likelihood, la_team team, const la_sign_rows *from,
                         signs *out, la_error *err) {
    la_output_rows fair = *from->rows;
    int64_t n = fair.n = from->n_fair, c = fair.n_outputs;
    la_prediction *predictions = la_alloc((size_t)n, sizeof *predictions, err);
    la_recipe plain = {
        .kind = *likelihood->predictives, .prior_scale = 1, .temperature = 1, .weight = 1};
    la_draw_options draws = {.samples = SAMPLES};
    signs some, all;
    double confidence = 0;
    la_status status = err->status;
    if (status == LA_OK)
        status = la_answer_rows(likelihood, &plain, 1, &fair, &draws, team, predictions, err);
    for (int64_t i = 0; i < n && status == LA_OK; i++)
        confidence += predictions[i].confidence / (double)n;
    free(predictions);
    LA_TRY(status);
    LA_TRY(measure_map(likelihood, team, n, c, fair.outputs, from->labels, &some, err));
    all = some;
    if (from->n_all)
        LA_TRY(measure_map(likelihood, team, from->n_all, c, from->outputs, from->labels_all, &all,
                           err));
    *out = all;
    out->confidence = confidence + (all.map_confidence - some.map_confidence);
    return LA_OK;
}

/* " of N of them", where covariances are of some rows alone. */
enum { SOME_TEXT = 32 };
static void name_some(const la_sign_rows *rows, char text[SOME_TEXT]) {
    *text = 0;
    if (rows->n_all > rows->rows->n)
        snprintf(text, SOME_TEXT, " of %lld of them", (long long)rows->rows->n);
}

la_status la_signs_of_numbers(const la_likelihood *likelihood, la_team team,
                              const la_sign_rows *from, double leverage, double ratio,
                              const la_log *log, la_error *err) {
    const la_output_rows *rows = from->rows;
    double mean = 0;
    (void)likelihood, (void)team, (void)err;
    for (int64_t i = 0; i < from->n_fair; i++)
        mean += rows->cov[i] / (double)from->n_fair;
    la_warn(log,
            "on %lld calibration rows: variance of the model %.3g, of the noise %.3g, largest "
            "leverage %.3g, posterior over prior variance %.3f",
            (long long)rows->n, mean, rows->noise_variance, leverage, ratio);
    return LA_OK;
}

la_status la_signs_of_classes(const la_likelihood *likelihood, la_team team,
                              const la_sign_rows *rows, double leverage, double ratio,
                              const la_log *log, la_error *err) {
    signs s = {0};
    char some[SOME_TEXT];
    LA_TRY(measure(likelihood, team, rows, &s, err));
    name_some(rows, some);
    la_warn(log,
            "on %lld calibration rows: %s %.3f, mean confidence %.3f (MAP %.3f), largest "
            "leverage %.3g%s, posterior over prior variance %.3f",
            (long long)(rows->n_all ? rows->n_all : rows->rows->n), likelihood->right, s.accuracy,
            s.confidence, s.map_confidence, leverage, some, ratio);
    if (s.accuracy - s.confidence > USUAL_GAP)
        la_warn(log,
                "under-confident: the posterior's mean confidence is %.3f below the %s on the "
                "calibration rows; a larger --prior, or held-out rows to choose it by, would cure "
                "this",
                s.accuracy - s.confidence, likelihood->right);
    return LA_OK;
}

la_status la_signs_report(const la_likelihood *likelihood, la_team team, const la_sign_rows *rows,
                          double scale, double ratio, const la_log *log, la_error *err) {
    double most = 0;
    LA_TRY(most_leverage(likelihood, rows->rows, &most, err));
    most *= scale;
    LA_TRY(likelihood->report(likelihood, team, rows, most, ratio, log, err));
    if (most > HIGH_LEVERAGE)
        la_warn(
            log,
            "a calibration row has leverage %.3g, where the exact curvature has at most 1: this "
            "curvature misplaces what the rows say (--curvature ekfac or exact do less of it)",
            most);
    return LA_OK;
}
