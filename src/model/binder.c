#include "model/binder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors by name ---- */

bool la_binder_spell(const la_binder *b, int i, bool in_body, const char *module, char *key,
                     size_t size) {
    const char *const prefixes[] = {in_body ? b->arch->prefix : "", "",
                                    in_body ? "model.language_model." : "language_model.",
                                    "language_model.model."};
    int own = in_body ? 2 : 1, wrapped = in_body ? 2 : 1;
    int at = i < own ? i : i - own + 2;
    if (i >= own + (b->model->config.wrapped ? wrapped : 0))
        return false;
    snprintf(key, size, "%s%s", prefixes[at], module);
    return true;
}

const la_tensor *la_binder_find(la_binder *b, const char *module, bool in_body, const char *leaf,
                                bool *from_adapter) {
    la_model *model = b->model;
    const la_tensor *trained = NULL, *frozen = NULL;
    char key[NAME_MAX_BYTES], name[NAME_MAX_BYTES];
    for (int i = 0; la_binder_spell(b, i, in_body, module, name, sizeof name); i++) {
        snprintf(key, sizeof key, "%s.%s", name, leaf);
        for (la_adapter *adapter = &model->adapter; adapter; adapter = adapter->next) {
            la_adapter_entry *entry = la_adapter_find(adapter, key);
            if (!entry)
                continue;
            entry->replaces = true;
            if (!trained)
                trained = entry->tensor;
        }
        if (!frozen)
            frozen = la_packed_find(model->base, name, leaf);
    }
    if (frozen)
        b->base_used[frozen - la_checkpoint_at(model->base, 0)] = true;
    *from_adapter = trained != NULL;
    return trained ? trained : frozen;
}

static la_status fail_missing(const la_binder *b, const char *module, bool in_body,
                              const char *leaf, la_error *err) {
    const la_adapter *adapter = &b->model->adapter;
    const char *prefix = in_body ? b->arch->prefix : "";
    for (const la_head_row *row = b->head; row->module; row++)
        if (!strcmp(row->module, module))
            return la_fail(
                err, LA_BAD_INPUT,
                "%s: parameter \"%s%s.%s\" of the head is missing, and %s does not bring "
                "it either; train and save it with modules_to_save=[\"%s%s\"]",
                b->base_dir, prefix, module, leaf, adapter->config_path, prefix, module);
    return la_fail(err, LA_BAD_INPUT,
                   "%s: parameter \"%s%s.%s\" is missing from the base, and %s does not bring it",
                   b->base_dir, prefix, module, leaf, adapter->config_path);
}

la_status la_binder_need(la_binder *b, const char *module, bool in_body, const char *leaf,
                         const la_tensor **out, bool *from_adapter, la_error *err) {
    *out = la_binder_find(b, module, in_body, leaf, from_adapter);
    return *out ? LA_OK : fail_missing(b, module, in_body, leaf, err);
}

la_status la_binder_upload(la_binder *b, const void *host, la_dtype from, int64_t count,
                           la_dtype to, void *pointer, la_error *err) {
    la_model *model = b->model;
    la_upload *upload = la_pool_take(&model->pool, 1, sizeof *upload, err);
    if (!upload)
        return err->status;
    la_pointer_set(pointer, host);
    *upload = (la_upload){.pointer = pointer, .from = from, .to = to, .count = count};
    if (!model->next_upload)
        model->next_upload = &model->uploads;
    *model->next_upload = upload;
    model->next_upload = &upload->next;
    model->weight_bytes += (size_t)count * la_dtype_size(to);
    if (from != to)
        model->converted_bytes += (size_t)count * la_dtype_size(to);
    return LA_OK;
}

la_status la_binder_upload_matrix(la_binder *b, la_mat *m, bool exact, la_error *err) {
    m->type = exact ? LA_F32 : b->model->be->activation;
    return la_binder_upload(b, m->data, LA_F32, m->rows * m->cols, m->type, &m->data, err);
}

la_status la_binder_check_values(const la_binder *b, const la_tensor *tensor, la_error *err) {
    LA_TRY(la_tensor_check_float(tensor, err));
    return b->twin ? LA_OK : la_tensor_check_finite(tensor, err);
}

/* A weight that is packed, or is to be: by the twin, in the checkpoint, or made here. */
static la_status pack(la_binder *b, const la_tensor *tensor, la_packed **out, la_error *err) {
    la_model *model = b->model;
    if (b->twin) {
        *out = b->twin_packed;
        b->twin_packed = (*out)->next;
        return LA_OK;
    }
    if (la_packed_is(model->base, tensor)) {
        LA_TRY(la_packed_read(model->base, tensor, &model->pool, out, err));
    } else {
        LA_TRY(la_binder_check_values(b, tensor, err));
        LA_TRY(la_packed_make(model->be->team, tensor, b->quant, &model->pool, out, err));
        la_tensor_let_go(tensor);
    }
    if (!model->next_packed)
        model->next_packed = &model->packed;
    *model->next_packed = *out;
    model->next_packed = &(*out)->next;
    return LA_OK;
}

/* The matrix that a packed weight is. The la_quant is copied: its addresses become those of the
 * device. */
static la_status bind_packed(la_binder *b, const la_packed *packed, la_mat *out, la_error *err) {
    la_model *model = b->model;
    la_quant *quant = la_pool_take(&model->pool, 1, sizeof *quant, err);
    if (!quant)
        return err->status;
    *quant = packed->quant;
    *out = la_mat_of(LA_CODES, quant, packed->rows, packed->cols);
    if (packed->rows * packed->cols > model->max_weight) {
        model->max_weight = packed->rows * packed->cols;
        model->max_weight_width = packed->cols;
    }
    LA_TRY(
        la_binder_upload(b, quant->codes, LA_CODES, packed->bytes, LA_CODES, &quant->codes, err));
    return la_binder_upload(b, quant->scale, LA_F32, packed->n_scales, LA_F32, &quant->scale, err);
}

/* The tensor with its matrix the other way round; memory from the pool. */
static la_status transpose(la_binder *b, const la_tensor *tensor, la_tensor *out, la_error *err) {
    int64_t rows = tensor->shape[0], cols = tensor->shape[1];
    size_t size = la_dtype_size(tensor->dtype);
    char *to = la_pool_take(&b->model->pool, (size_t)tensor->count, size, err);
    if (!to)
        return err->status;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            memcpy(to + (size_t)(j * rows + i) * size,
                   (const char *)tensor->data + (size_t)(i * cols + j) * size, size);
    *out = *tensor;
    out->data = to;
    out->shape[0] = cols;
    out->shape[1] = rows;
    return LA_OK;
}

/* A matrix [rows, cols] as the backend multiplies it. of_head: the head works in f32.
 * transposed: it is stored [cols, rows], unless it is packed. quantise: it is one of those that
 * --base-quant packs. stored_as: out as it lies on the host. */
static la_status bind_matrix(la_binder *b, const la_tensor *tensor, int64_t rows, int64_t cols,
                             bool of_head, bool transposed, bool quantise, la_mat *out,
                             la_mat *stored_as, la_error *err) {
    la_model *model = b->model;
    la_tensor turned;
    la_packed *packed = NULL;
    bool stored = la_packed_is(model->base, tensor);
    if (stored)
        LA_TRY(pack(b, tensor, &packed, err));
    if (stored && packed->dense.data) {
        tensor = &packed->dense;
        transposed = stored = quantise = false;
    }
    if (!stored)
        LA_TRY(la_tensor_check_shape(tensor, transposed ? cols : rows, transposed ? rows : cols, "",
                                     err));
    if (!stored && transposed) {
        LA_TRY(la_binder_check_values(b, tensor, err));
        LA_TRY(transpose(b, tensor, &turned, err));
        tensor = &turned;
    }
    if (stored || (quantise && b->quant)) {
        if (!stored)
            LA_TRY(pack(b, tensor, &packed, err));
        if (packed->rows != rows || packed->cols != cols)
            return la_tensor_fail(err, LA_BAD_INPUT, tensor,
                                  " is packed from shape [%lld, %lld], expected [%lld, %lld]",
                                  (long long)packed->rows, (long long)packed->cols, (long long)rows,
                                  (long long)cols);
        LA_TRY(bind_packed(b, packed, out, err));
        *stored_as = *out;
        return LA_OK;
    }
    LA_TRY(la_binder_check_values(b, tensor, err));
    bool rounds = model->be->precision == LA_PRECISION_BF16;
    la_dtype to = of_head && rounds ? LA_F32 : la_product_type(model->be, tensor->dtype);
    *out = (la_mat){NULL, rows, cols, cols, to};
    if (to != (of_head ? LA_F32 : model->be->activation) && tensor->count > model->max_weight) {
        model->max_weight = tensor->count;
        model->max_weight_width = cols;
    }
    LA_TRY(la_binder_upload(b, tensor->data, tensor->dtype, tensor->count, to, &out->data, err));
    *stored_as = *out;
    stored_as->type = tensor->dtype;
    return LA_OK;
}

/* A vector on the host as f32; add (may be NULL) is added to it. NULL: no memory, or a bad tensor.
 */
static float *read_vector(la_binder *b, const la_tensor *tensor, int64_t n, const float *add,
                          la_error *err) {
    float *values = la_pool_take(&b->model->pool, (size_t)n, sizeof *values, err);
    if (!values)
        return NULL;
    if (tensor) {
        if (la_tensor_check_shape(tensor, n, -1, "", err) != LA_OK ||
            la_binder_check_values(b, tensor, err) != LA_OK)
            return NULL;
        la_dtype_to_f32(tensor->dtype, tensor->data, n, values);
    }
    for (int64_t i = 0; add && i < n; i++)
        values[i] += add[i];
    return values;
}

/* ---- blocks ---- */

/* Names of blocks of several adapters on one module differ in what stands behind. */
static la_status mark_name(la_binder *b, const la_adapter *adapter, la_block *block,
                           la_error *err) {
    char text[2 * NAME_MAX_BYTES];
    if (!adapter || !adapter->mark)
        return LA_OK;
    int length = snprintf(text, sizeof text, "%s.%s", block->name, adapter->mark);
    block->name = la_pool_text(&b->model->pool, text, (size_t)length, err);
    return err->status;
}

static void link_parameter(la_binder *b, la_parameter *p) {
    if (!b->next_parameter)
        b->next_parameter = &b->model->parameters;
    *b->next_parameter = p;
    b->next_parameter = &p->next;
}

la_status la_binder_add_parameter(la_binder *b, const la_adapter *adapter, la_parameter *p,
                                  la_error *err) {
    la_model *model = b->model;
    la_block *block = &p->trained;
    p->block = -1;
    if (!block->name)
        return LA_OK;
    if (model->n_blocks == b->blocks_capacity) {
        int64_t capacity = b->blocks_capacity * 2 + 16;
        la_block *grown = la_pool_take(&model->pool, (size_t)capacity, sizeof *grown, err);
        if (!grown)
            return err->status;
        if (model->n_blocks)
            memcpy(grown, model->blocks, (size_t)model->n_blocks * sizeof *grown);
        model->blocks = grown;
        b->blocks_capacity = capacity;
    }
    if (!p->cut.down)
        p->cut = (la_cut){0, block->in, 1};
    LA_TRY(mark_name(b, adapter, block, err));
    block->wanted = la_params_take(b->params, block->group);
    p->block = model->n_blocks++;
    model->blocks[p->block] = *block;
    link_parameter(b, p);
    return LA_OK;
}

la_status la_binder_add_pair(la_binder *b, const la_adapter *adapter, la_parameter p[2],
                             int64_t blocks[2], int64_t state_cols, la_error *err) {
    la_model *model = b->model;
    for (int i = 0; i < 2; i++) {
        p[i].trained.input = model->n_inputs++;
        LA_TRY(la_binder_add_parameter(b, adapter, &p[i], err));
        LA_TRY(la_binder_upload_matrix(b, p[i].value, false, err));
        blocks[i] = p[i].block;
    }
    if (state_cols > model->max_state_cols)
        model->max_state_cols = state_cols;
    return LA_OK;
}

void la_binder_add_part(la_binder *b, const la_parameter *of, la_parameter *part, la_mat *value,
                        la_cut cut) {
    *part = (la_parameter){.value = value, .block = of->block, .cut = cut};
    link_parameter(b, part);
}

/* m[rows, cols] cut down to some of its rows; its memory is the pool's. */
static la_status keep_rows(la_binder *b, const la_site_spec *at, la_mat *m, la_error *err) {
    float *kept = la_pool_take(&b->model->pool, (size_t)(at->n_rows * m->cols), sizeof *kept, err);
    if (!kept)
        return err->status;
    for (int64_t i = 0; i < at->n_rows; i++)
        memcpy(kept + i * m->cols, (const float *)m->data + at->rows[i] * m->cols,
               (size_t)m->cols * sizeof *kept);
    *m = la_mat_f32(kept, at->n_rows, m->cols);
    return LA_OK;
}

/* Cuts the site down to the outputs that are computed. */
static la_status keep_outputs(la_binder *b, const la_site_spec *at, la_site *site, la_error *err) {
    la_mat bias = la_mat_f32((void *)(uintptr_t)site->bias, site->out, 1);
    site->out = at->n_rows;
    for (int i = 0; i < site->n_parameters; i++) {
        la_parameter *p = &site->parameters[i];
        if (!p->of_outputs)
            continue;
        LA_TRY(keep_rows(b, at, p->value, err));
        p->trained.out = at->n_rows;
    }
    if (bias.data)
        LA_TRY(keep_rows(b, at, &bias, err));
    site->bias = bias.data;
    return LA_OK;
}

/* Checks the site against the ones that it holds inside, and puts their biases together. */
static la_status enclose(la_binder *b, const la_adapter *adapter, const la_site_spec *at,
                         la_site *site, la_error *err) {
    la_model *model = b->model;
    const la_site *inner = site->inner;
    if (!inner)
        return LA_OK;
    if (site->alone || inner->alone)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: %s: %s beside another adapter on one projection is not supported",
                       adapter->config_path, site->module,
                       site->alone ? site->alone : inner->alone);
    for (const la_site *in = inner; in && site->bias; in = in->inner)
        if (in->scales_output)
            return la_fail(err, LA_UNSUPPORTED,
                           "%s: %s: a bias behind an adapter that scales the projection's outputs "
                           "is not supported",
                           adapter->config_path, site->module);
    if (site->bias && inner->bias) {
        float *sum = la_pool_take(&model->pool, (size_t)site->out, sizeof *sum, err);
        for (int64_t i = 0; sum && i < site->out; i++)
            sum[i] = site->bias[i] + inner->bias[i];
        site->bias = sum;
    } else if (!site->bias) {
        site->bias = inner->bias;
    }
    /* their input is not that of other projections */
    for (; inner && site->scales_input; inner = inner->inner)
        for (int i = 0; i < inner->n_parameters; i++) {
            int64_t block = inner->parameters[i].block;
            if (block >= 0 && model->blocks[block].input == at->input)
                model->blocks[block].input = model->n_inputs++;
        }
    return err->status;
}

/* Columns of the site with the ones that it holds inside, and the most of all sites. */
static void set_columns(la_model *model, la_site *site) {
    const la_site *inner = site->inner;
    site->state_cols += site->state_products * site->out;
    site->own_cols = site->state_cols;
    site->work_cols = site->work_cols ? site->work_cols : site->own_cols;
    site->state_cols += inner ? inner->state_cols : 0;
    site->work_cols += inner ? inner->work_cols : 0;
    if (site->state_cols > model->max_state_cols)
        model->max_state_cols = site->state_cols;
    if (site->work_cols > model->max_work_cols)
        model->max_work_cols = site->work_cols;
}

/* Attaches one adapter at module, if it has something there. */
static la_status add_site(la_binder *b, la_adapter *adapter, const char *module,
                          const la_site_spec *at, la_linear *linear, la_error *err) {
    la_model *model = b->model;
    la_site site = {.out = linear->w.rows,
                    .in = linear->w.cols,
                    .inner = linear->site,
                    .per_row = at->per_row,
                    .of_head = at->of_head};
    char key[NAME_MAX_BYTES];
    for (int i = 0; adapter->kind->bind && !site.own &&
                    la_binder_spell(b, i, at->in_body, module, key, sizeof key);
         i++)
        LA_TRY(adapter->kind->bind(adapter, &model->pool, key, &site, err));
    if (!site.own)
        return LA_OK;
    if (at->rows)
        LA_TRY(keep_outputs(b, at, &site, err));
    site.module = la_pool_text(&model->pool, key, strlen(key), err);
    la_site *kept = la_pool_take(&model->pool, 1, sizeof *kept, err);
    if (!site.module || !kept)
        return err->status;
    LA_TRY(enclose(b, adapter, at, &site, err));
    *kept = site;
    for (int i = 0; i < kept->n_parameters; i++) {
        la_parameter *p = &kept->parameters[i];
        p->trained.per_row = at->per_row;
        if (p->trained.name)
            p->trained.input = p->reads_input ? at->input : model->n_inputs++;
        LA_TRY(la_binder_add_parameter(b, adapter, p, err));
    }
    if (kept->kind->prepare)
        LA_TRY(kept->kind->prepare(model->be->team, adapter, at->w, &model->pool, kept, err));
    set_columns(model, kept);
    linear->site = kept;
    for (int i = 0; i < kept->n_parameters; i++) {
        la_parameter *p = &kept->parameters[i];
        LA_TRY(la_binder_upload_matrix(b, p->value, at->of_head || p->exact, err));
    }
    return LA_OK;
}

la_status la_binder_site(la_binder *b, const char *module, const la_site_spec *at,
                         la_linear *linear, la_error *err) {
    for (la_adapter *adapter = &b->model->adapter; adapter; adapter = adapter->next)
        LA_TRY(add_site(b, adapter, module, at, linear, err));
    return LA_OK;
}

/* ---- parts of the model ---- */

/* bitsandbytes packs every linear layer but the output's, and those the adapter brings anew. */
static bool is_output(const la_binder *b, const char *module) {
    const la_head_row *last = b->head;
    while (last->module && last[1].module)
        last++;
    return last->module && !strcmp(last->module, module);
}

la_status la_binder_linear(la_binder *b, const char *module, bool in_body, int64_t out, int64_t in,
                           bool bias, bool of_head, int64_t input, la_linear *linear,
                           la_error *err) {
    bool trained;
    const la_tensor *weight;
    LA_TRY(la_binder_need(b, module, in_body, "weight", &weight, &trained, err));
    la_mat stored;
    bool transposed = b->arch->transposed && !of_head;
    bool quantise = !trained && !(of_head && is_output(b, module));
    LA_TRY(
        bind_matrix(b, weight, out, in, of_head, transposed, quantise, &linear->w, &stored, err));
    la_site_spec at = {
        .in_body = in_body, .of_head = of_head, .per_row = of_head, .input = input, .w = &stored};
    LA_TRY(la_binder_site(b, module, &at, linear, err));
    const la_tensor *shift = la_binder_find(b, module, in_body, "bias", &trained);
    if (bias && !shift)
        return fail_missing(b, module, in_body, "bias", err);
    if (!bias && shift)
        return la_tensor_fail(err, LA_BAD_INPUT, shift,
                              " is a bias that config.json says is not there");
    const float *extra = linear->site ? linear->site->bias : NULL;
    if (!shift && !extra)
        return LA_OK;
    const float *values = read_vector(b, shift, out, extra, err);
    if (!values)
        return err->status;
    la_dtype type = of_head ? LA_F32 : b->model->be->activation;
    linear->bias = la_mat_of(type, NULL, 1, out);
    return la_binder_upload(b, values, LA_F32, out, type, &linear->bias.data, err);
}

/* Layer norms of old checkpoints call weight and bias gamma and beta. */
la_status la_binder_norm(la_binder *b, const char *module, bool in_body, int64_t width,
                         la_norm *norm, la_error *err) {
    const la_config *config = &b->model->config;
    static const char *const leaves[2][2] = {{"weight", "gamma"}, {"bias", "beta"}};
    const float **leaf[2] = {&norm->weight, &norm->bias};
    norm->kind = b->arch->norm_kind;
    norm->eps = (float)config->norm_eps;
    int n = config->norm_bias ? 2 : 1;
    for (int i = 0; i < n; i++) {
        bool trained;
        const la_tensor *tensor = la_binder_find(b, module, in_body, leaves[i][0], &trained);
        if (!tensor)
            tensor = la_binder_find(b, module, in_body, leaves[i][1], &trained);
        if (!tensor)
            return fail_missing(b, module, in_body, leaves[i][0], err);
        float *values = read_vector(b, tensor, width, NULL, err);
        if (!values)
            return err->status;
        for (int64_t j = 0; b->arch->norm_plus_one && j < width; j++)
            values[j] += 1;
        LA_TRY(la_binder_upload(b, values, LA_F32, width, LA_F32, leaf[i], err));
    }
    return LA_OK;
}
