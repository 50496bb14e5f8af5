/* Predicting with networks drawn from a posterior: every batch is run once per network, whose
 * weights take the place of the MAP weights on the worker's device meanwhile. */
#ifndef LA_PIPELINE_SAMPLER_H
#define LA_PIPELINE_SAMPLER_H

#include "pipeline/session.h"

/* Networks that take more memory than this on the host are not kept, but drawn again for every
 * batch: the same bytes. */
#define LA_SAMPLER_BUDGET ((size_t)256 << 20)

typedef struct la_sampler la_sampler;

/* Networks number 0 .. samples - 1 of the seed. The wanted blocks of the session's models must be
 * those of the posterior; both must outlive the sampler. Free with la_sampler_close. */
la_status la_sampler_open(la_session *session, const la_posterior *posterior, int64_t samples,
                          uint64_t seed, size_t budget, la_sampler **sampler, la_error *err);
void la_sampler_close(la_sampler *sampler);

/* Predictions of the networks for a batch: means[n_rows, 2C+1], which la_answer_rows takes as
 * networks.
 * map_logits[n_rows, C] of the MAP network, which is there again afterwards. The worker's run must
 * have room; workers may run at the same time. */
la_status la_sampler_run(la_sampler *sampler, int worker, const la_batch *batch,
                         const float *map_logits, double temperature, double *means, la_error *err);

#endif
