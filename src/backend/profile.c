#include "backend/profile.h"
#include "base/memory.h"
#include "base/machine.h"

#include <stdlib.h>

enum {
#define LA_OP(cost, result, name, parameters, arguments) OP_##name,
#include "backend/ops.def"
    N_OPS
};

typedef enum op_cost { UNTIMED, PRODUCT, OTHER, SOLVER } op_cost;

static const struct {
    const char *name;
    op_cost cost;
} facts[N_OPS] = {
#define LA_OP(cost, result, name, parameters, arguments) {#name, cost},
#include "backend/ops.def"
};

struct la_profile {
    const la_ops *inner;
    la_ops table;
    double seconds[N_OPS], flops[N_OPS];
    int64_t calls[N_OPS];
};
_Static_assert((int)N_OPS <= (int)LA_PROFILE_OPS, "a list of operations holds all there are");

static double product_of(int64_t m, int64_t n, int64_t k) {
    return 2 * (double)m * (double)n * (double)k;
}

/* Work of an operation, in terms of its parameters. */
#define FLOPS_linear product_of(x->rows, w->rows, w->cols)
#define FLOPS_linear_activation FLOPS_linear
#define FLOPS_linear_backward product_of(g->rows, w->rows, w->cols)
#define FLOPS_gemm product_of(c->rows, c->cols, trans_a ? a->rows : a->cols)
#define FLOPS_factor_add (product_of(x->rows, x->cols, x->cols + 1) / 2)
#define FLOPS_sketch_add (2 * product_of(x->rows, x->cols, l))
#define FLOPS_row_outer                                                                            \
    (be->ops->in_place                                                                             \
         ? product_of((int64_t)(cu[first + n_rows] - cu[first]) * n_rhs, s->cols, b->cols)         \
         : 0)

/* The inner table is in place while one of its operations runs, so that those that call others are
 * timed once. */
static double begin(la_backend *be) {
    be->ops = be->profile->inner;
    return la_seconds();
}

static void end(la_backend *be, int op, double start) {
    la_profile *profile = be->profile;
    profile->inner->wait(be);
    be->ops = &profile->table;
    profile->seconds[op] += la_seconds() - start;
    profile->calls[op]++;
}

#define TIMED_UNTIMED(name, parameters, arguments)
#define TIMED_OTHER(name, parameters, arguments)                                                   \
    static void timed_##name parameters {                                                          \
        double start = begin(be);                                                                  \
        be->ops->name arguments;                                                                   \
        end(be, OP_##name, start);                                                                 \
    }
#define TIMED_PRODUCT(name, parameters, arguments)                                                 \
    static void timed_##name parameters {                                                          \
        double start = begin(be);                                                                  \
        be->profile->flops[OP_##name] += FLOPS_##name;                                             \
        be->ops->name arguments;                                                                   \
        end(be, OP_##name, start);                                                                 \
    }
#define TIMED_SOLVER(name, parameters, arguments)                                                  \
    static la_status timed_##name parameters {                                                     \
        double start = begin(be);                                                                  \
        la_status status = be->ops->name arguments;                                                \
        end(be, OP_##name, start);                                                                 \
        return status;                                                                             \
    }
#define LA_OP(cost, result, name, parameters, arguments) TIMED_##cost(name, parameters, arguments)
#include "backend/ops.def"

#define SET_UNTIMED(name)
#define SET_OTHER(name) profile->table.name = timed_##name;
#define SET_PRODUCT SET_OTHER
#define SET_SOLVER SET_OTHER

la_status la_profile_start(la_backend *backend, la_error *err) {
    la_profile *profile = la_alloc(1, sizeof *profile, err);
    if (!profile)
        return err->status;
    profile->inner = backend->ops;
    profile->table = *backend->ops;
#define LA_OP(cost, result, name, parameters, arguments) SET_##cost(name)
#include "backend/ops.def"
    backend->profile = profile;
    backend->ops = &profile->table;
    return LA_OK;
}

int la_profile_ops(const la_backend *backend, la_profile_op ops[LA_PROFILE_OPS]) {
    const la_profile *profile = backend->profile;
    int n = 0;
    for (int i = 0; profile && i < N_OPS; i++) {
        if (!profile->calls[i])
            continue;
        int at = n++;
        for (; at > 0 && ops[at - 1].seconds < profile->seconds[i]; at--)
            ops[at] = ops[at - 1];
        ops[at] = (la_profile_op){.name = facts[i].name,
                                  .product = facts[i].cost == PRODUCT,
                                  .seconds = profile->seconds[i],
                                  .flops = profile->flops[i],
                                  .calls = profile->calls[i]};
    }
    return n;
}

void la_profile_report(const la_backend *backend, double total, const la_log *log) {
    la_profile_op ops[LA_PROFILE_OPS];
    int n = la_profile_ops(backend, ops);
    if (!backend->profile || !(total > 0))
        return;
    if (backend->peak_bytes)
        la_warn(log, "device memory: peak %.2f GiB", (double)backend->peak_bytes / 1073741824.0);
    double products = 0, all = 0;
    for (int i = 0; i < n; i++) {
        products += ops[i].product ? ops[i].seconds : 0;
        all += ops[i].seconds;
    }
    la_warn(log, "time in products (BLAS) %.1f %%, in other operations %.1f %%, outside %.1f %%",
            100 * products / total, 100 * (all - products) / total, 100 * (total - all) / total);
    for (int i = 0; i < n; i++)
        la_warn(log, "  %-20s %8.3f s %5.1f %% %8lld calls", ops[i].name, ops[i].seconds,
                100 * ops[i].seconds / total, (long long)ops[i].calls);
}

void la_profile_stop(la_backend *backend) {
    if (!backend->profile)
        return;
    backend->ops = backend->profile->inner;
    free(backend->profile);
    backend->profile = NULL;
}
