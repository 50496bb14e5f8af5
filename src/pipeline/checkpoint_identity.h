/* What tells one fit from another: lines "NAME\tVALUE\n" of all that its sums and its result follow
 * from. */
#ifndef LA_PIPELINE_CHECKPOINT_IDENTITY_H
#define LA_PIPELINE_CHECKPOINT_IDENTITY_H

#include "pipeline/passes.h"

/* From malloc; NULL where there is no memory. */
char *la_fit_identity(const la_fit_options *options, const la_fit_state *fit, la_error *err);
/* LA_MISMATCH, naming the first field that differs. */
la_status la_fit_identity_check(const char *path, const char *found, size_t length, const char *own,
                                la_error *err);

#endif
