/* The TFB baseline on a session's model: the search on anchor rows, and predicting. The session may
 * be forward_only; its adapter is there unchanged afterwards. */
#ifndef LA_PIPELINE_TFB_JOB_H
#define LA_PIPELINE_TFB_JOB_H

#include "baselines/tfb.h"
#include "pipeline/row_set.h"

/* True when the model's adapter is a product of two trained matrices, for which its noise is
 * made. */
bool la_tfb_possible(const la_model *model);

/* Chooses sigma by labelled rows. The same normal numbers serve every sigma. LA_UNSUPPORTED for an
 * adapter without low-rank matrices. */
la_status la_tfb_fit(la_session *session, const la_row_job *anchor, const la_tfb_options *options,
                     la_tfb_choice *choice, la_error *err);

/* probs[n, C]: the mean of softmax over networks. sigma 0: one network, the adapter's own. */
la_status la_tfb_predict(la_session *session, const la_row_job *rows, double sigma,
                         int64_t networks, uint64_t seed, double *probs, la_error *err);

#endif
