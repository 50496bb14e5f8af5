/* VeRA (arXiv 2310.11454): y = W x + bias + b o (B (d o (A x))). A [r, in] and B [out, r] are
 * random and frozen; all sites read them from one pair of matrices, as many columns of A and
 * rows of B as they need. Two blocks, [r, 1] and [out, 1], with 1 for their input at every
 * token:
 *   d: cotangent (B^T (b o g)) o (A x)
 *   b: cotangent g o (B (d o (A x)))
 * PEFT draws the pair from a seed with a generator of its own: it is read from the file, which
 * has it unless save_projection was false. */
#include "input/json.h"
#include "model/adapter_shared.h"

#include <stdlib.h>

extern const la_adapter_kind la_adapter_vera;

/* A part of the pair, as the sites of one size read it. */
typedef struct shared shared;
struct shared {
    shared *next;
    la_mat m;
    const la_tensor *tensor;
};

/* State and work of a site: [A x, r][d o A x, r][B (d o A x), out] and the like. */
typedef struct la_vera {
    const la_mat *a, *b; /* [r, in], [out, r] */
    la_mat of_head[2];   /* they themselves, where no other site reads them */
    la_mat d, scale;     /* [r, 1], [out, 1] */
} la_vera;

enum { SCALED = 1, PRODUCT = 2 }; /* parts of the state, in multiples of r */
enum { LAMBDA_D, LAMBDA_B };      /* parameters */

/* matrix[rows, cols] := the beginning of the tensor's rows; NULL data: no memory. */
static la_mat slice(la_pool *pool, const la_tensor *t, int64_t rows, int64_t cols, la_error *err) {
    float *values = la_pool_take(pool, (size_t)(rows * cols), sizeof *values, err);
    for (int64_t i = 0; values && i < rows; i++)
        la_dtype_to_f32(t->dtype,
                        (const char *)t->data + (size_t)(i * t->shape[1]) * la_dtype_size(t->dtype),
                        cols, values + i * cols);
    return la_mat_f32(values, rows, cols);
}

/* *out: a matrix of the pair with these sizes, for this site alone or for all of its size. */
static la_status read_pair(la_adapter *adapter, la_pool *pool, const char *key, int64_t rows,
                           int64_t cols, bool of_outputs, la_site *site, la_mat *alone,
                           const la_mat **out, la_error *err) {
    la_adapter_entry *entry = la_adapter_find(adapter, key);
    if (!entry)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: the weights hold no \"%s\": the frozen projections are not drawn again "
                       "from projection_prng_key here; save the adapter with save_projection=True",
                       adapter->config_path, key);
    const la_tensor *t = entry->tensor;
    if (t->n_dims != 2 || t->shape[0] < rows || t->shape[1] < cols)
        return la_tensor_misfit(err, LA_BAD_INPUT, t, "expected at least [%lld, %lld]%s",
                                (long long)rows, (long long)cols, la_other_base);
    *out = alone;
    if (site->of_head) {
        *alone = slice(pool, t, rows, cols, err);
        la_site_add(site, alone)->of_outputs = of_outputs;
        return err->status;
    }
    shared *each = adapter->own_parts;
    while (each && (each->tensor != t || each->m.rows != rows || each->m.cols != cols))
        each = each->next;
    if (!each) {
        each = la_pool_take(pool, 1, sizeof *each, err);
        if (!each)
            return err->status;
        *each = (shared){adapter->own_parts, slice(pool, t, rows, cols, err), t};
        adapter->own_parts = each;
        la_site_add(site, &each->m); /* uploaded with the first of them */
    }
    *out = &each->m;
    return err->status;
}

static la_status read_vector(la_adapter *adapter, la_pool *pool, const char *module,
                             const char *suffix, int64_t n, la_site *site, la_mat *vector,
                             la_error *err) {
    const char *key = NULL;
    const la_tensor *t = la_adapter_tensor(adapter, module, suffix, &key);
    if (!t)
        return la_fail(err, LA_BAD_INPUT, "%s: the weights hold no %s.%s, but the other vector",
                       adapter->config_path, module, suffix);
    return la_site_add_vector(pool, site, t, n, key, vector, err);
}

static la_status bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                      la_error *err) {
    int64_t r = 0;
    if (!la_adapter_tensor(adapter, module, "vera_lambda_d", NULL) &&
        !la_adapter_tensor(adapter, module, "vera_lambda_b", NULL))
        return LA_OK;
    LA_TRY(la_json_int(adapter->config, adapter->config_path, "r", true, 1, 1 << 20, &r, err));
    la_vera *vera = la_pool_take(pool, 1, sizeof *vera, err);
    if (!vera)
        return err->status;
    LA_TRY(read_vector(adapter, pool, module, "vera_lambda_d", r, site, &vera->d, err));
    LA_TRY(read_vector(adapter, pool, module, "vera_lambda_b", site->out, site, &vera->scale, err));
    site->parameters[LAMBDA_B].of_outputs = true;
    LA_TRY(read_pair(adapter, pool, "base_model.vera_A", r, site->in, false, site,
                     &vera->of_head[0], &vera->a, err));
    LA_TRY(read_pair(adapter, pool, "base_model.vera_B", site->out, r, true, site,
                     &vera->of_head[1], &vera->b, err));
    site->own = vera;
    site->kind = &la_adapter_vera;
    site->state_cols = PRODUCT * r;
    site->state_products = 1;
    return LA_OK;
}

static void forward(la_backend *be, const la_linear *linear, const la_mat *x,
                    const la_mat *residual, la_mat *state, la_mat *y) {
    const la_site *site = linear->site;
    const la_vera *vera = site->own;
    int64_t r = vera->d.rows;
    la_mat reduced = la_site_part(state, 0, r), scaled = la_site_part(state, SCALED * r, r);
    la_mat product = la_site_part(state, PRODUCT * r, site->out);
    la_site_inner_forward(be, linear, x, residual, state, y);
    be->ops->gemm(be, false, true, 1, x, vera->a, 0, &reduced);
    be->ops->scale_columns(be, &reduced, vera->d.data, NULL, NULL, &scaled);
    be->ops->gemm(be, false, true, 1, &scaled, vera->b, 0, &product);
    be->ops->scale_columns(be, &product, vera->scale.data, NULL, y, y);
}

/* Hands g o z[T, n] to the visitor as the cotangents of a vector. */
static void visit(la_backend *be, const la_site_pass *pass, int parameter, const la_site *site,
                  const la_mat *z, const la_mat *g, la_mat *work) {
    be->ops->activation_backward(be, LA_ACT_NONE, z, z, pass->io.n_rhs, g, work, NULL);
    la_site_visit_vector(be, pass, site->parameters[parameter].block, work);
}

static void backward(la_backend *be, const la_linear *linear, const la_site_pass *pass) {
    const la_site *site = linear->site;
    const la_vera *vera = site->own;
    int64_t r = vera->d.rows;
    la_mat reduced = la_site_part(pass->state, 0, r);
    la_mat product = la_site_part(pass->state, PRODUCT * r, site->out);
    la_mat g_scaled = la_site_part(&pass->work, 0, r),
           g_d = la_site_part(&pass->work, SCALED * r, r);
    la_mat g_product = la_site_part(&pass->work, PRODUCT * r, site->out);
    la_site_inner_backward(be, linear, pass);
    if (pass->visitor)
        visit(be, pass, LAMBDA_B, site, &product, pass->io.g, &g_product);
    be->ops->scale_columns(be, pass->io.g, vera->scale.data, NULL, NULL, &g_product);
    be->ops->gemm(be, false, false, 1, &g_product, vera->b, 0, &g_scaled);
    if (pass->visitor)
        visit(be, pass, LAMBDA_D, site, &reduced, &g_scaled, &g_d);
    if (!pass->dx)
        return;
    be->ops->scale_columns(be, &g_scaled, vera->d.data, NULL, NULL, &g_d);
    be->ops->gemm(be, false, false, 1, &g_d, vera->a, 1, pass->dx);
}

/* weight += diag(b) B diag(d) A */
static la_status merge(la_backend *be, const la_site *site, float *weight, float *bias,
                       la_error *err) {
    const la_vera *vera = site->own;
    const la_mat *from[] = {vera->a, vera->b, &vera->d, &vera->scale};
    float *to[4] = {NULL};
    int64_t r = vera->d.rows, in = site->in;
    la_status status = LA_OK;
    (void)bias;
    for (int i = 0; i < 4 && status == LA_OK; i++)
        status = la_mat_read(be, from[i], &to[i], err);
    for (int64_t i = 0; i < site->out && status == LA_OK; i++)
        for (int64_t j = 0; j < in; j++) {
            double sum = 0;
            for (int64_t k = 0; k < r; k++)
                sum += (double)to[1][i * r + k] * (double)to[2][k] * (double)to[0][k * in + j];
            weight[i * in + j] += to[3][i] * (float)sum;
        }
    for (int i = 0; i < 4; i++)
        free(to[i]);
    return status;
}

static const char *const keys[] = {"bias",
                                   "d_initial",
                                   "init_weights",
                                   "layers_pattern",
                                   "layers_to_transform",
                                   "projection_prng_key",
                                   "r",
                                   "save_projection",
                                   "vera_dropout",
                                   NULL};
static const char *const suffixes[] = {"vera_lambda_d", "vera_lambda_b", "vera_A", "vera_B", NULL};

const la_adapter_kind la_adapter_vera = {
    .library = &la_peft,
    .name = "VERA",
    .known = keys,
    .suffixes = suffixes,
    .bind = bind,
    .forward = forward,
    .backward = backward,
    .merge = merge,
};
