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

/* Logs what a posterior that no held-out row has checked predicts for rows that it was fitted to,
 * under the one prior that rows has a covariance of. scale: of the curvature, 1 over the noise.
 * ratio: posterior over prior variance, for the message. */
la_status la_signs_report(const la_likelihood *likelihood, la_team team, const la_output_rows *rows,
                          const la_label_list *labels, double scale, double ratio,
                          const la_log *log, la_error *err);

/* la_likelihood's report. */
la_status la_signs_of_classes(const la_likelihood *likelihood, la_team team,
                              const la_output_rows *rows, const la_label_list *labels,
                              double leverage, double ratio, const la_log *log, la_error *err);
la_status la_signs_of_numbers(const la_likelihood *likelihood, la_team team,
                              const la_output_rows *rows, const la_label_list *labels,
                              double leverage, double ratio, const la_log *log, la_error *err);

#endif
