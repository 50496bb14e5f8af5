/* Held-out rows for a fit: choosing scale and temperature by them, and the guard. Without them, the
 * signs of trouble that the calibration rows show. */
#ifndef LA_PIPELINE_GUARD_H
#define LA_PIPELINE_GUARD_H

#include "pipeline/passes.h"

typedef struct la_guard {
    bool noise_given;         /* of a regression: its noise variance is meant exactly */
    bool keep_answers;        /* only what never changes an answer of the MAP model is admitted */
    bool forward;             /* settings are weighed under a distilled variance */
    const char *const *names; /* of the classes, for messages; NULL: none */
    const la_log *log;
    float **states; /* gets the states of held-out rows, which the caller frees; NULL: not wanted */
} la_guard;

/* As the fit of a posterior was asked to guard. */
la_guard la_guard_like(const la_posterior *posterior, const la_session *session, const la_log *log);

/* Chooses by the rows of `held`, none of which the curvature has seen, and applies the choice to
 * the structure's posterior, whose prior is the start. */
la_status la_guard_val(la_session *session, la_structure *structure, const la_row_set *held,
                       const la_guard *how, la_error *err);

/* Likewise by the calibration rows themselves, which were not trained on: in each of FOLDS parts by
 * the curvature of the others. Copies of a row share a part. */
la_status la_guard_cross(la_session *session, la_structure *structure, const la_row_set *rows,
                         const la_guard *how, la_error *err);

/* Applies the choice of an earlier posterior, whose rows were others, and remembers that it is
 * older. */
la_status la_guard_keep(la_posterior *posterior, const la_choice *choice, la_error *err);

/* list[n]: all rows of a set, part by part; starts[n_parts + 1]. Copies of a row share a part. The
 * parts depend on the rows' tokens alone, not on their order in the file. LA_BAD_INPUT for fewer
 * distinct rows than parts. */
la_status la_row_set_split(const la_row_set *rows, int n_parts, int64_t *list, int64_t *starts,
                           la_error *err);

/* One line that the confidence is unguarded, and a line for every sign of trouble on the
 * calibration rows. outputs[n, C] of all of them, as the fit's passes left them, so that only some
 * are run again: those whose covariance is looked at. NULL: nothing is said of the others. */
la_status la_guard_signs(la_session *session, const la_structure *structure, const la_row_set *rows,
                         const float *outputs, const la_log *log, la_error *err);

#endif
