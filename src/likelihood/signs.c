#include "likelihood/signs.h"
#include "base/memory.h"
#include "likelihood/scaling.h"

#include <math.h>
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

/* Means over the rows, of the prediction and of the MAP model. */
typedef struct signs {
    double accuracy, confidence, map_confidence;
} signs;

static la_status measure(const la_likelihood *likelihood, la_team team, const la_output_rows *rows,
                         const la_label_list *labels, signs *out, la_error *err) {
    int64_t c = rows->n_outputs;
    double *map_probs = la_alloc((size_t)(rows->n * c), sizeof *map_probs, err);
    la_prediction *predictions = la_alloc((size_t)rows->n, sizeof *predictions, err);
    for (int64_t i = 0; i < rows->n && err->status == LA_OK; i++)
        predictions[i].map_probs = map_probs + i * c;
    la_recipe plain = {
        .kind = *likelihood->predictives, .prior_scale = 1, .temperature = 1, .weight = 1};
    la_draw_options draws = {.samples = SAMPLES};
    la_status status = err->status;
    if (status == LA_OK)
        status = la_answer_rows(likelihood, &plain, 1, rows, &draws, team, predictions, err);
    for (int64_t i = 0; i < rows->n && status == LA_OK; i++) {
        la_prediction map = {.probs = map_probs + i * c};
        likelihood->conclude(c, &map);
        bool right = likelihood->is_right(c, map.probs, la_label_list_at(labels, i));
        out->accuracy += right / (double)rows->n;
        out->map_confidence += map.confidence / (double)rows->n;
        out->confidence += predictions[i].confidence / (double)rows->n;
    }
    free(map_probs);
    free(predictions);
    return status;
}

la_status la_signs_of_numbers(const la_likelihood *likelihood, la_team team,
                              const la_output_rows *rows, const la_label_list *labels,
                              double leverage, double ratio, const la_log *log, la_error *err) {
    double mean = 0;
    (void)likelihood, (void)team, (void)labels, (void)err;
    for (int64_t i = 0; i < rows->n; i++)
        mean += rows->cov[i] / (double)rows->n;
    la_warn(log,
            "on %lld calibration rows: variance of the model %.3g, of the noise %.3g, largest "
            "leverage %.3g, posterior over prior variance %.3f",
            (long long)rows->n, mean, rows->noise_variance, leverage, ratio);
    return LA_OK;
}

la_status la_signs_of_classes(const la_likelihood *likelihood, la_team team,
                              const la_output_rows *rows, const la_label_list *labels,
                              double leverage, double ratio, const la_log *log, la_error *err) {
    signs s = {0};
    LA_TRY(measure(likelihood, team, rows, labels, &s, err));
    la_warn(log,
            "on %lld calibration rows: %s %.3f, mean confidence %.3f (MAP %.3f), largest "
            "leverage %.3g, posterior over prior variance %.3f",
            (long long)rows->n, likelihood->right, s.accuracy, s.confidence, s.map_confidence,
            leverage, ratio);
    if (s.accuracy - s.confidence > USUAL_GAP)
        la_warn(log,
                "under-confident: the posterior's mean confidence is %.3f below the %s on the "
                "calibration rows; a larger --prior, or held-out rows to choose it by, would cure "
                "this",
                s.accuracy - s.confidence, likelihood->right);
    return LA_OK;
}

la_status la_signs_report(const la_likelihood *likelihood, la_team team, const la_output_rows *rows,
                          const la_label_list *labels, double scale, double ratio,
                          const la_log *log, la_error *err) {
    double most = 0;
    LA_TRY(most_leverage(likelihood, rows, &most, err));
    most *= scale;
    LA_TRY(likelihood->report(likelihood, team, rows, labels, most, ratio, log, err));
    if (most > HIGH_LEVERAGE)
        la_warn(
            log,
            "a calibration row has leverage %.3g, where the exact curvature has at most 1: this "
            "curvature misplaces what the rows say (--curvature ekfac or exact do less of it)",
            most);
    return LA_OK;
}
