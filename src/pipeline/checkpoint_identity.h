/* What tells one fit from another: lines "NAME\tVALUE\n" of all that its sums and its result follow
 * from. */
#ifndef LA_PIPELINE_CHECKPOINT_IDENTITY_H
#define LA_PIPELINE_CHECKPOINT_IDENTITY_H

#include "pipeline/passes.h"

/* From malloc; NULL where there is no memory. part: with the rows that are seen here. */
char *la_fit_identity(const la_fit_options *options, const la_fit_state *fit, bool part,
                      la_error *err);
/* LA_MISMATCH, naming the first field that differs. what: whose the found one is; next: what to do
 * about it. */
la_status la_fit_identity_check(const char *what, const char *found, size_t length, const char *own,
                                const char *next, la_error *err);

#endif
