/* The TFB baseline on a session's model: the search on anchor rows, and predicting. The session may
 * be forward_only; its adapter is there unchanged afterwards. */
#ifndef LA_PIPELINE_TFB_JOB_H
#define LA_PIPELINE_TFB_JOB_H

#include "baselines/tfb.h"
#include "pipeline/row_set.h"

/* True when the model's adapter is a product of two trained matrices, for which its noise is
 * made. */
bool la_tfb_possible(const la_model *model);

/* Chooses sigma by the labelled rows list[0..count) of a set (list NULL: the rows themselves).
 * The same normal numbers serve every sigma. LA_UNSUPPORTED for an adapter without low-rank
 * matrices. */
la_status la_tfb_fit(la_session *session, const la_row_set *anchor, const int64_t *list,
                     int64_t count, const la_tfb_options *options, const la_log *log,
                     la_tfb_choice *choice, la_error *err);

/* probs[count, C]: the mean of softmax over networks. sigma 0: one network, the adapter's own. */
la_status la_tfb_predict(la_session *session, const la_row_set *rows, const int64_t *list,
                         int64_t count, double sigma, int64_t networks, uint64_t seed,
                         const la_log *log, double *probs, la_error *err);

#endif
