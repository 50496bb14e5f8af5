/* Distances of a posterior: of the calibration rows' states, and of reference rows. */
#ifndef LA_PIPELINE_OOD_FIT_H
#define LA_PIPELINE_OOD_FIT_H

#include "pipeline/passes.h"

/* LA_BAD_INPUT where calibration rows are too few to be reference rows of their own. */
la_status la_ood_check_rows(const la_row_set *rows, la_error *err);

/* states[rows->n, width]; held[n_held, width]: those of the reference rows, or n_held 0: the
 * calibration rows are, each by its distance to the other parts of a split of all of them into ten.
 * Rows of an adapter that answers with one class a row are grouped by their labels. */
la_status la_ood_fit_rows(const la_session *session, const la_row_set *rows, const float *states,
                          const float *held, int64_t n_held, la_posterior *posterior,
                          la_error *err);

#endif
