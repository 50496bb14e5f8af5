#include "pipeline/plan.h"

/* On a host, enough rows for the products to run at full speed, and no more: the same speed in less
 * memory. A device wants larger products to fill it. Many classes take smaller batches: rows are
 * tokens times right-hand sides. */
enum {
    HOST_TOKENS = 1024,
    HOST_ROWS = 256,
    HOST_RHS_ROWS = 16384,
    DEVICE_TOKENS = 8192,
    DEVICE_AUTO_TOKENS = 16384,
    DEVICE_ROWS = 1024,
    DEVICE_RHS_ROWS = 65536,
    LEAST_TOKENS = 256,
    /* with fewer tokens than these, computing layers again costs less than small products do */
    WHOLE_TOKENS = 2048
};

/* Memory of a device that libraries take by themselves. */
#define DEVICE_SLACK ((size_t)256 << 20)

static double mib(size_t bytes) {
    return la_mib((double)bytes);
}

/* Memory of the pass over held-out rows in place of the sums: eigenvectors (half of them), and
 * weights and covariances of every scale. */
static size_t selection_bytes(const la_blocks *blocks, const la_plan_request *request,
                              const la_plan *plan) {
    size_t width = (size_t)la_blocks_width(blocks), scales = (size_t)request->n_scales;
    size_t rows = (size_t)(plan->batch_rows * request->n_rhs * request->n_rhs);
    size_t forms = 1 + (size_t)request->n_beside;
    size_t each = scales * (width * sizeof(float) + rows * sizeof(double));
    return scales ? plan->curvature / 2 + forms * each : 0;
}

/* Fills the plan's bytes for its batch_tokens, batch_rows and recompute. */
static la_status measure(la_model *model, const la_blocks *blocks, const la_plan_request *request,
                         la_plan *plan, la_error *err) {
    la_batch_shape batch = {plan->batch_rows, plan->batch_tokens, request->n_rhs};
    la_run_shape shape = {.max_rows = plan->batch_rows,
                          .max_tokens = plan->batch_tokens,
                          .n_rhs = request->n_rhs,
                          .all_inputs = request->all_inputs,
                          .recompute = plan->recompute};
    la_sizes sizes;
    plan->curvature = plan->decompose = 0;
    if (request->n_rhs && !request->posterior) {
        la_fit_shape fit = {.batch = batch, .kron = request->kron, .rank = request->rank};
        plan->curvature = request->kind->fit->bytes(blocks, &fit, &shape.max_factor);
        for (int i = 0; i < request->n_beside; i++) {
            int64_t factor;
            plan->curvature += request->beside[i]->fit->bytes(blocks, &fit, &factor);
            shape.max_factor = factor > shape.max_factor ? factor : shape.max_factor;
        }
        size_t held_out = selection_bytes(blocks, request, plan);
        plan->curvature = held_out > plan->curvature ? held_out : plan->curvature;
        int64_t n = shape.max_factor, rank = request->rank ? request->rank : n;
        plan->decompose = n ? model->be->ops->eigh_bytes(model->be, n, rank < n ? rank : n) : 0;
    }
    plan->max_factor = shape.max_factor;
    LA_TRY(la_run_plan(model, &shape, &plan->activations, &sizes, err));
    if (request->n_rhs && request->posterior) {
        la_cov_shape cov = {.batch = batch, .n_scales = request->n_scales};
        plan->curvature = request->kind->covariance->bytes(blocks, request->posterior, &cov);
    }
    plan->workspace = model->be->ops->workspace(model->be, &sizes);
    plan->weights = model->be->ops->in_place ? model->converted_bytes : model->weight_bytes;
    return LA_OK;
}

/* The batches' memory is free again when the factors are decomposed. */
static size_t needed(const la_plan *plan) {
    size_t batches = plan->activations + plan->workspace;
    return plan->weights + plan->curvature +
           (batches > plan->decompose ? batches : plan->decompose);
}

static int64_t within(int64_t value, int64_t most) {
    return value < most ? value : most;
}

/* Tries token counts from `most` down to `least`; false when none fits. */
static bool search(la_model *model, const la_blocks *blocks, const la_plan_request *request,
                   int64_t most, int64_t least, la_plan *plan, la_error *err) {
    bool host = model->be->ops->in_place;
    for (int64_t tokens = most;; tokens = tokens * 3 / 4) {
        tokens = tokens < least ? least : tokens;
        plan->batch_tokens = tokens;
        plan->batch_rows = within(tokens, host ? HOST_ROWS : DEVICE_ROWS);
        if (measure(model, blocks, request, plan, err) != LA_OK)
            return false;
        if (needed(plan) <= plan->available)
            return true;
        if (tokens == least)
            return false;
    }
}

static la_status refuse(const la_model *model, const la_plan *plan, bool asked, la_error *err) {
    if (plan->decompose > plan->activations + plan->workspace)
        return la_fail(err, LA_RESOURCE,
                       "%s: not enough memory: weights %.0f MiB + curvature %.0f MiB + %.0f MiB to "
                       "decompose a "
                       "%lld x %lld factor = %.0f MiB, but %.0f of %.0f MiB are free; take a "
                       "larger device, or "
                       "give a smaller --rank",
                       model->be->device, mib(plan->weights), mib(plan->curvature),
                       mib(plan->decompose), (long long)plan->max_factor,
                       (long long)plan->max_factor, mib(needed(plan)), mib(plan->available),
                       mib(plan->total));
    return la_fail(
        err, LA_RESOURCE,
        "%s: not enough memory: weights %.0f MiB + curvature %.0f MiB + activations of "
        "%lld tokens %.0f MiB (%.1f KiB a token) + workspaces %.0f MiB = %.0f MiB, but "
        "%.0f of %.0f MiB are free; %s",
        model->be->device, mib(plan->weights), mib(plan->curvature), (long long)plan->batch_tokens,
        mib(plan->activations), (double)plan->activations / 1024 / (double)plan->batch_tokens,
        mib(plan->workspace), mib(needed(plan)), mib(plan->available), mib(plan->total),
        asked ? "lower --batch-tokens"
              : "take a larger device, --precision bf16, or an adapter on fewer modules");
}

static la_status make(la_model *model, const la_blocks *blocks, const la_plan_request *request,
                      la_plan *plan, la_error *err) {
    bool host = model->be->ops->in_place, can_recompute = request->n_rhs > 0;
    int64_t rhs = request->n_rhs > 0 ? request->n_rhs : 1, asked = request->batch_tokens;
    int64_t most = host ? HOST_TOKENS : asked == LA_BATCH_AUTO ? DEVICE_AUTO_TOKENS : DEVICE_TOKENS;
    *plan = (la_plan){0};
    model->be->ops->memory(model->be, &plan->available, &plan->total);
    if (!host)
        plan->available = plan->available > DEVICE_SLACK ? plan->available - DEVICE_SLACK : 0;
    most = within(most, (host ? HOST_RHS_ROWS : DEVICE_RHS_ROWS) / rhs);
    most = most < LEAST_TOKENS ? LEAST_TOKENS : most;
    int64_t least = LEAST_TOKENS, whole = within(most, WHOLE_TOKENS);
    if (asked > 0)
        most = least = whole = asked;
    for (int recompute = 0; recompute <= can_recompute; recompute++) {
        plan->recompute = recompute;
        int64_t down_to = recompute || !can_recompute ? least : whole;
        if (search(model, blocks, request, most, down_to, plan, err))
            return LA_OK;
        LA_TRY(err->status);
    }
    return refuse(model, plan, asked > LEAST_TOKENS, err);
}

la_status la_plan_make(la_model *model, const la_plan_request *request, la_plan *plan,
                       la_error *err) {
    la_blocks blocks;
    LA_TRY(la_model_blocks(model, LA_PARAMS_LORA_MAGNITUDE_HEAD, &blocks, err));
    la_status status = make(model, &blocks, request, plan, err);
    la_blocks_close(&blocks);
    return status;
}

void la_plan_log(const la_model *model, const la_plan *plan, const la_log *log) {
    la_warn(log,
            "plan for %s: batches of %lld tokens; weights %.1f MiB, curvature %.1f MiB, "
            "activations %.1f MiB (%.1f KiB a token%s), workspaces %.1f MiB; %.0f of %.0f MiB free",
            model->be->device, (long long)plan->batch_tokens, mib(plan->weights),
            mib(plan->curvature), mib(plan->activations),
            (double)plan->activations / 1024 / (double)plan->batch_tokens,
            plan->recompute ? ", layers computed again in the backward" : "", mib(plan->workspace),
            mib(plan->available), mib(plan->total));
}
