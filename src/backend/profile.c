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
    double seconds[N_OPS];
    int64_t calls[N_OPS];
};

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
#define TIMED_PRODUCT TIMED_OTHER
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

void la_profile_report(const la_backend *backend, double total, const la_log *log) {
    const la_profile *profile = backend->profile;
    if (!profile || !(total > 0))
        return;
    if (backend->peak_bytes)
        la_warn(log, "device memory: peak %.2f GiB", (double)backend->peak_bytes / 1073741824.0);
    double products = 0, all = 0;
    bool listed[N_OPS] = {false};
    for (int i = 0; i < N_OPS; i++) {
        products += facts[i].cost == PRODUCT ? profile->seconds[i] : 0;
        all += profile->seconds[i];
    }
    la_warn(log, "time in products (BLAS) %.1f %%, in other operations %.1f %%, outside %.1f %%",
            100 * products / total, 100 * (all - products) / total, 100 * (total - all) / total);
    for (int n = 0; n < N_OPS; n++) {
        int most = -1;
        for (int i = 0; i < N_OPS; i++)
            if (!listed[i] && profile->calls[i] &&
                (most < 0 || profile->seconds[i] > profile->seconds[most]))
                most = i;
        if (most < 0)
            break;
        listed[most] = true;
        la_warn(log, "  %-20s %8.3f s %5.1f %% %8lld calls", facts[most].name,
                profile->seconds[most], 100 * profile->seconds[most] / total,
                (long long)profile->calls[most]);
    }
}

void la_profile_stop(la_backend *backend) {
    if (!backend->profile)
        return;
    backend->ops = backend->profile->inner;
    free(backend->profile);
    backend->profile = NULL;
}
