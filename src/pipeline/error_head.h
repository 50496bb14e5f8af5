/* The AdUE head on a model: trained on pooled states that a pass left, from the model's own last
 * layer. */
#ifndef LA_PIPELINE_ERROR_HEAD_H
#define LA_PIPELINE_ERROR_HEAD_H

#include "baselines/adue.h"
#include "pipeline/passes.h"

enum { LA_ADUE_VALIDATION_SHARE = 5 }; /* the least rows there may be, too */

/* training and validation hold states. Without validation rows (n 0) every fifth training row
 * validates. Free *out with la_adue_free. */
la_status la_adue_head_fit(la_session *session, const la_evaluation *training,
                           const int64_t *labels, const la_evaluation *validation,
                           const int64_t *validation_labels, uint64_t seed, la_adue *out,
                           la_error *err);

#endif
