/* Signs of trouble that rows show: classes that are biased, a curvature that misplaces what rows
 * say, a lack of confidence. Each is a line of the log. */
#ifndef LA_LIKELIHOOD_SIGNS_H
#define LA_LIKELIHOOD_SIGNS_H

#include "likelihood/selection.h"

/* A model whose classes are biased (it was trained too little, or on other shares of them) is not
 * mended by a temperature, nor by any variance: the user should know where the choice is no average
 * with corrections. Said when the gain over a
 * temperature is more than two standard errors above what the fitted numbers get by chance. */
void la_warn_biased(const la_held_out *rows, const la_choice *choice);

/* Calibration rows, for what a posterior predicts of them. */
typedef struct la_sign_rows {
    const la_output_rows *rows; /* some of them, with their covariance under the one prior */
    const la_label_list *labels;
    /* The first so many of those stand for all; the others, of which the model is least sure, were
     * taken for their leverage. */
    int64_t n_fair;
    int64_t n_all;        /* 0: no others than these are known */
    const float *outputs; /* [n_all, C] of all */
    const la_label_list *labels_all;
} la_sign_rows;

/* confidence[n] of the MAP model in its answers to n rows. */
la_status la_signs_confidence(const la_likelihood *likelihood, la_team team, int64_t n,
                              int64_t n_outputs, const float *outputs, double *confidence,
                              la_error *err);

/* Logs what a posterior that no held-out row has checked predicts for rows that it was fitted to,
 * under the one prior that rows has a covariance of. scale: of the curvature, 1 over the noise.
 * ratio: posterior over prior variance, for the message. */
la_status la_signs_report(const la_likelihood *likelihood, la_team team, const la_sign_rows *rows,
                          double scale, double ratio, const la_log *log, la_error *err);

/* la_likelihood's report. */
la_status la_signs_of_classes(const la_likelihood *likelihood, la_team team,
                              const la_sign_rows *rows, double leverage, double ratio,
                              const la_log *log, la_error *err);
la_status la_signs_of_numbers(const la_likelihood *likelihood, la_team team,
                              const la_sign_rows *rows, double leverage, double ratio,
                              const la_log *log, la_error *err);

#endif
