/* Session of a posterior: its base and adapter, found where it says or where they are said to be,
 * and held to its digests. */
#ifndef LA_PIPELINE_POSTERIOR_SESSION_H
#define LA_PIPELINE_POSTERIOR_SESSION_H

#include "pipeline/session.h"

typedef struct la_posterior_session {
    la_run_options run;
    const la_posterior *posterior;
    const char *path;           /* of its file, for messages */
    const char *base, *adapter; /* NULL: where the posterior says */
    bool fits;                  /* rows are going to be summed, not predicted */
    bool forward_only, one_cotangent;
    const struct la_structure_kind *kind; /* what is planned for; NULL: the posterior's */
    bool other_adapter;                   /* the adapter may be another one with the same blocks */
    int64_t n_scales;                     /* as la_plan_request has it */
} la_posterior_session;

/* LA_MISMATCH where base, adapter or tokenizer are not the posterior's. Close the session after a
 * failure, too. */
la_status la_posterior_session_open(const la_posterior_session *ask, la_session *session,
                                    la_error *err);

#endif
