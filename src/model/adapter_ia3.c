/* IA3 (arXiv 2205.05638): y = l o (W x + bias), or y = W (l o x) + bias at the modules that PEFT calls
 * feedforward. One block, [out, 1] or [in, 1], with 1 for its input at every token:
 *   of outputs: cotangent g o (W x + bias)
 *   of inputs:  cotangent (W^T g) o x */
#include "model/adapter.h"

#include <stdio.h>
#include <string.h>

static la_status check(const la_adapter *adapter, const la_log *log, la_error *err) {
    static const char *const known[] = {"auto_mapping",
                                        "base_model_name_or_path",
                                        "exclude_modules",
                                        "fan_in_fan_out",
                                        "feedforward_modules",
                                        "inference_mode",
                                        "init_ia3_weights",
                                        "modules_to_save",
                                        "peft_type",
                                        "peft_version",
                                        "revision",
                                        "target_modules",
                                        "task_type",
                                        NULL};
    static const char *const more[] = {NULL};
    (void)log;
    return la_adapter_check_keys(adapter, known, more, err);
}

static la_status bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_block blocks[LA_SITE_BLOCKS], int *n_blocks, bool *adapted,
                      la_error *err) {
    const char *key = NULL;
    char shape[128];
    const la_tensor *l = la_adapter_tensor(adapter, module, "ia3_l", &key);
    *adapted = l != NULL;
    if (!l)
        return LA_OK;
    /* the shape says which of the two it is */
    bool column = l->n_dims == 2 && l->shape[0] == site->out && l->shape[1] == 1;
    bool row = l->n_dims == 2 && l->shape[0] == 1 && l->shape[1] == site->in;
    if (!column && !row)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: tensor \"%s\" has shape %s, expected [%lld, 1] or [1, %lld]; is this "
                       "the base it was trained on?",
                       l->file, l->name, la_tensor_shape_text(l, shape, sizeof shape),
                       (long long)site->out, (long long)site->in);
    float *values = la_adapter_values(pool, l, &blocks[0].theta_square, err);
    blocks[0].name = la_pool_text(pool, key, strlen(key), err);
    if (!values || !blocks[0].name)
        return err->status;
    blocks[0].out = l->count;
    blocks[0].in = 1;
    *n_blocks = 1;
    site->kind = &la_adapter_ia3;
    site->scales_input = !column;
    site->state_cols = l->count;
    site->vector = la_mat_f32(values, l->count, 1);
    return LA_OK;
}

/* state: what l multiplies at outputs, what it gives at inputs */
static void forward(la_backend *be, const la_linear *linear, const la_mat *x,
                    const la_mat *residual, la_mat *state, la_mat *y) {
    const la_site *site = linear->site;
    la_mat own = la_site_own(site, state);
    if (site->scales_input) {
        be->ops->scale_columns(be, x, site->vector.data, NULL, NULL, &own);
        la_site_inner_forward(be, linear, &own, residual, state, y);
        return;
    }
    la_site_inner_forward(be, linear, x, NULL, state, &own);
    be->ops->scale_columns(be, &own, site->vector.data, NULL, residual, y);
}

static void visit(la_backend *be, const la_site *site, const la_site_pass *pass, const la_mat *g) {
    la_block_io io = pass->io;
    la_mat ones, fewer;
    la_site_ones(be, pass, &ones, &fewer);
    io.x_at_g = io.x == io.x_at_g ? &ones : &fewer;
    io.x = &ones;
    io.g = g;
    io.g_scale = 1;
    pass->visitor->visit(pass->visitor->user, site->blocks[0], &io);
}

/* g[n_rhs T,d] = g o z[T,d] */
static void multiply(la_backend *be, const la_mat *z, int64_t n_rhs, const la_mat *g, la_mat *out) {
    be->ops->activation_backward(be, LA_ACT_NONE, z, z, n_rhs, g, out, NULL);
}

/* Where l scales inputs: work = the cotangents of l o x */
static void inputs_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass,
                            la_mat *work) {
    const la_site *site = linear->site;
    const la_mat scaled = la_site_own(site, pass->state);
    la_mat all = la_mat_of(pass->io.x->type, pass->state_all.data, pass->io.x->rows, site->in);
    la_site_pass inner = *pass;
    inner.dx = work;
    inner.beta = 0;
    inner.io.x = inner.io.x_at_g = &scaled;
    if (site->inner && pass->io.x != pass->io.x_at_g) {
        be->ops->scale_columns(be, pass->io.x, site->vector.data, NULL, NULL, &all);
        inner.io.x = &all;
    }
    la_site_inner_backward(be, linear, &inner);
}

static void backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    const la_site *site = linear->site;
    const la_block_io *io = &pass->io;
    const float *l = site->vector.data;
    la_mat work = la_site_own(site, &pass->state_g), own = la_site_own(site, pass->state);
    if (site->scales_input) {
        inputs_backward(be, linear, pass, &work);
        if (pass->dx)
            be->ops->scale_columns(be, &work, l, NULL, pass->beta != 0 ? pass->dx : NULL, pass->dx);
        if (!pass->visitor)
            return;
        multiply(be, io->x_at_g, io->n_rhs, &work, &work);
        visit(be, site, pass, &work);
        return;
    }
    if (pass->visitor) {
        multiply(be, &own, io->n_rhs, io->g, &work);
        visit(be, site, pass, &work);
    }
    if (!pass->dx && !site->inner)
        return;
    be->ops->scale_columns(be, io->g, l, NULL, NULL, &work);
    la_site_pass inner = *pass;
    inner.io.g = &work;
    la_site_inner_backward(be, linear, &inner);
}

static const char *const suffixes[] = {"ia3_l", NULL};

const la_adapter_kind la_adapter_ia3 = {
    .peft_type = "IA3",
    .check = check,
    .bind = bind,
    .forward = forward,
    .backward = backward,
    .suffixes = suffixes,
};
