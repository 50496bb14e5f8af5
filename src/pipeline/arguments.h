/* Arguments of a host program to the functions of laplora.h, checked before anything is done
 * with them. The messages name the field. */
#ifndef LA_PIPELINE_ARGUMENTS_H
#define LA_PIPELINE_ARGUMENTS_H

#include "base/error.h"

#include <stdbool.h>

/* LA_USAGE for a NULL that is needed, an enum that is none of its values, a number out of range.
 * brought: the rows of a fit are summed already. */
la_status la_arguments_check_fit(const la_fit_options *options, bool brought, la_error *err);
la_status la_arguments_check_predict(const la_predict_options *options, la_error *err);
/* Rows to answer, of n_classes each, and the arrays for the answers. */
la_status la_arguments_check_rows(const la_input *in, int64_t n, const la_prediction *out,
                                  la_error *err);

#endif
