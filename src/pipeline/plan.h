/* Plan of a device's memory, before a run: weights, curvature, activations of a batch,
 * workspaces. A run that cannot fit is refused here, before anything is computed. */
#ifndef LA_PIPELINE_PLAN_H
#define LA_PIPELINE_PLAN_H

#include "bayes/structure.h"
#include "model/run.h"

enum { LA_BATCH_AUTO = -1 }; /* batch_tokens: as many as the free memory holds */

typedef struct la_plan_request {
    const la_structure_kind *kind;
    const la_structure_kind *const *beside; /* [n_beside] that are fitted over the same passes */
    int n_beside;
    la_kron kron;
    int64_t rank;                  /* eigenpairs kept; 0: all */
    const la_posterior *posterior; /* NULL: it is going to be fitted */
    /* of the prior: those that held-out rows are looked at under after a fit (0: none), or, with a
     * posterior, those that rows are answered under */
    int64_t n_scales;
    int64_t batch_tokens; /* 0: the default; LA_BATCH_AUTO; or exactly this many */
    int64_t n_rhs;        /* 0: forward only */
    bool all_inputs;
} la_plan_request;

typedef struct la_plan {
    int64_t batch_tokens, batch_rows;
    bool recompute;     /* layers keep their input alone */
    int64_t max_factor; /* side of the largest factor that is summed; 0: none */
    /* bytes */
    size_t weights, curvature, activations, workspace;
    size_t decompose; /* beside weights and curvature, when the activations have gone */
    size_t available, total;
} la_plan;

/* Nothing of the model may be placed yet. LA_RESOURCE, with the arithmetic and the knob to turn,
 * when the least that could be run does not fit. */
la_status la_plan_make(la_model *model, const la_plan_request *request, la_plan *plan,
                       la_error *err);
/* The plan in a line or two to the log. */
void la_plan_log(const la_model *model, const la_plan *plan, const la_log *log);

#endif
