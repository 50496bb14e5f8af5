#include "model/binder.h"
#include "model/dora.h"
#include "model/leftover.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* slot is the address of a data pointer, of whatever type. Until la_model_place it holds the host
 * array itself; it stays so where that can be read. */
struct la_placement {
    la_placement *next;
    void *slot;
    la_dtype from, to;
    int64_t count;
    bool copied;
};

typedef la_binder binder;

/* ---- tensors by name ---- */

/* The i-th name that a module can have: that of its class, that of a checkpoint of the bare body,
 * those inside a model of several kinds of input. */
static bool spell(const binder *b, int i, bool in_body, const char *module, char *key,
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

/* A parameter: the adapter's replacement, or the base's, under the body's prefix or without it.
 * NULL: nowhere. */
static const la_tensor *find_parameter(binder *b, const char *module, bool in_body,
                                       const char *leaf, bool *from_adapter) {
    la_model *model = b->model;
    const la_tensor *trained = NULL, *frozen = NULL;
    char key[NAME_MAX_BYTES], name[NAME_MAX_BYTES];
    for (int i = 0; spell(b, i, in_body, module, name, sizeof name); i++) {
        snprintf(key, sizeof key, "%s.%s", name, leaf);
        la_adapter_entry *entry = la_adapter_find(&model->adapter, key);
        if (entry && !trained)
            trained = entry->tensor;
        if (!frozen)
            frozen = la_checkpoint_find(model->base, key);
    }
    if (frozen)
        b->base_used[frozen - la_checkpoint_at(model->base, 0)] = true;
    *from_adapter = trained != NULL;
    return trained ? trained : frozen;
}

static la_status missing(const binder *b, const char *module, bool in_body, const char *leaf,
                         la_error *err) {
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

static void *slot_get(const void *slot) {
    void *value;
    memcpy(&value, slot, sizeof value);
    return value;
}

static void slot_set(void *slot, const void *value) {
    memcpy(slot, &value, sizeof value);
}

la_status la_binder_place(la_binder *b, const void *host, la_dtype from, int64_t count, la_dtype to,
                          void *slot, la_error *err) {
    la_model *model = b->model;
    la_placement *note = la_pool_take(&model->pool, 1, sizeof *note, err);
    if (!note)
        return err->status;
    slot_set(slot, host);
    *note = (la_placement){.slot = slot, .from = from, .to = to, .count = count};
    if (!model->next_placement)
        model->next_placement = &model->placements;
    *model->next_placement = note;
    model->next_placement = &note->next;
    model->weight_bytes += (size_t)count * la_dtype_size(to);
    return LA_OK;
}

static la_status check_shape(const la_tensor *tensor, int64_t rows, int64_t cols, la_error *err) {
    char shape[128];
    bool fits = cols < 0
                    ? tensor->n_dims == 1 && tensor->shape[0] == rows
                    : tensor->n_dims == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols;
    if (fits)
        return LA_OK;
    la_tensor_shape_text(tensor, shape, sizeof shape);
    if (cols < 0)
        return la_fail(err, LA_BAD_INPUT, "%s: tensor \"%s\" has shape %s, expected [%lld]",
                       tensor->file, tensor->name, shape, (long long)rows);
    return la_fail(err, LA_BAD_INPUT, "%s: tensor \"%s\" has shape %s, expected [%lld, %lld]",
                   tensor->file, tensor->name, shape, (long long)rows, (long long)cols);
}

static la_status check_values(const binder *b, const la_tensor *tensor, la_error *err) {
    LA_TRY(la_tensor_check_float(tensor, err));
    return b->twin ? LA_OK : la_tensor_check_finite(tensor, err);
}

/* A weight that is packed, or is to be: by the twin, in the checkpoint, or made here. */
static la_status pack(binder *b, const la_tensor *tensor, la_packed **out, la_error *err) {
    la_model *model = b->model;
    if (b->twin) {
        *out = b->twin_packed;
        b->twin_packed = (*out)->next;
        return LA_OK;
    }
    if (la_packed_is(model->base, tensor)) {
        LA_TRY(la_packed_read(model->base, tensor, &model->pool, out, err));
    } else {
        LA_TRY(check_values(b, tensor, err));
        LA_TRY(la_packed_make(tensor, b->quant, &model->pool, out, err));
        la_tensor_let_go(tensor);
    }
    if (!model->next_packed)
        model->next_packed = &model->packed;
    *model->next_packed = *out;
    model->next_packed = &(*out)->next;
    return LA_OK;
}

/* The matrix that a packed weight is. The la_quant is copied: its addresses become those of the device.
 */
static la_status place_packed(binder *b, const la_packed *packed, la_mat *out, la_error *err) {
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
    LA_TRY(la_binder_place(b, quant->codes, LA_CODES, packed->bytes, LA_CODES, &quant->codes, err));
    return la_binder_place(b, quant->scale, LA_F32, packed->n_scales, LA_F32, &quant->scale, err);
}

/* The tensor with its matrix the other way round; memory from the pool. */
static la_status transpose(binder *b, const la_tensor *tensor, la_tensor *out, la_error *err) {
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

/* A matrix [rows, cols] as the backend multiplies it. of_head: the head works in f32. transposed: it is
 * stored [cols, rows], unless it is packed. quantise: it is one of those that --base-quant packs. */
static la_status place_matrix(binder *b, const la_tensor *tensor, int64_t rows, int64_t cols,
                              bool of_head, bool transposed, bool quantise, la_mat *out,
                              la_error *err) {
    la_model *model = b->model;
    la_tensor turned;
    bool stored = la_packed_is(model->base, tensor);
    if (!stored)
        LA_TRY(check_shape(tensor, transposed ? cols : rows, transposed ? rows : cols, err));
    if (!stored && transposed) {
        LA_TRY(check_values(b, tensor, err));
        LA_TRY(transpose(b, tensor, &turned, err));
        tensor = &turned;
    }
    if (stored || (quantise && b->quant)) {
        la_packed *packed;
        LA_TRY(pack(b, tensor, &packed, err));
        if (packed->rows != rows || packed->cols != cols)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: tensor \"%s\" is packed from shape [%lld, %lld], expected [%lld, "
                           "%lld]",
                           tensor->file, tensor->name, (long long)packed->rows,
                           (long long)packed->cols, (long long)rows, (long long)cols);
        return place_packed(b, packed, out, err);
    }
    LA_TRY(check_values(b, tensor, err));
    la_dtype to = of_head && model->be->activation != LA_F32
                      ? LA_F32
                      : la_weight_type(model->be, tensor->dtype);
    *out = (la_mat){NULL, rows, cols, cols, to};
    if (to != (of_head ? LA_F32 : model->be->activation) && tensor->count > model->max_weight) {
        model->max_weight = tensor->count;
        model->max_weight_width = cols;
    }
    return la_binder_place(b, tensor->data, tensor->dtype, tensor->count, to, &out->data, err);
}

/* A vector on the host as f32; add (may be NULL) is added to it. NULL: no memory, or a bad tensor.
 */
static float *read_vector(binder *b, const la_tensor *tensor, int64_t n, const float *add,
                          la_error *err) {
    float *values = la_pool_take(&b->model->pool, (size_t)n, sizeof *values, err);
    if (!values)
        return NULL;
    if (tensor) {
        if (check_shape(tensor, n, -1, err) != LA_OK || check_values(b, tensor, err) != LA_OK)
            return NULL;
        la_dtype_to_f32(tensor->dtype, tensor->data, n, values);
    }
    for (int64_t i = 0; add && i < n; i++)
        values[i] += add[i];
    return values;
}

/* ---- blocks ---- */

la_status la_binder_add_block(la_binder *b, const la_block *block, int64_t *number, la_error *err) {
    la_model *model = b->model;
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
    *number = model->n_blocks;
    model->blocks[model->n_blocks++] = *block;
    return LA_OK;
}

/* What a module is to its adapter. */
typedef struct site_place {
    bool in_body;
    bool of_head;        /* computed in f32 */
    bool per_row;        /* reads one token a row */
    int64_t input;       /* number of the matrix that it reads */
    const la_mat *w;     /* its weight as it lies on the host, of the rows that are computed */
    const int32_t *rows; /* outputs that are computed, n_rows of them; NULL: all */
    int64_t n_rows;
} site_place;

/* m[rows, cols] cut down to some of its rows; its memory is the pool's. */
static la_status keep_rows(binder *b, const site_place *at, la_mat *m, la_error *err) {
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
static la_status keep_outputs(binder *b, const site_place *at, la_site *site,
                              la_block blocks[LA_SITE_BLOCKS], la_error *err) {
    la_mat bias = la_mat_f32((void *)(uintptr_t)site->bias, site->out, 1);
    site->out = at->n_rows;
    if (site->b.data) {
        LA_TRY(keep_rows(b, at, &site->b, err));
        blocks[1].out = at->n_rows;
    }
    if (site->vector.data && !site->scales_input) {
        LA_TRY(keep_rows(b, at, &site->vector, err));
        blocks[0].out = site->state_cols = at->n_rows;
    }
    if (site->magnitude.data) {
        LA_TRY(keep_rows(b, at, &site->magnitude, err));
        blocks[2].out = at->n_rows;
    }
    if (bias.data)
        LA_TRY(keep_rows(b, at, &bias, err));
    site->bias = bias.data;
    return LA_OK;
}

/* Notes what of a site the backend will read. */
static la_status place_site(binder *b, const site_place *at, la_site *site, la_error *err) {
    la_mat *matrices[] = {&site->a, &site->b, &site->vector, &site->magnitude};
    const float **vectors[] = {&site->out_scale, &site->inverse_norm, &site->state_scale};
    int64_t lengths[] = {site->out, site->out, site->a.rows};
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++) {
        la_mat *m = matrices[i];
        if (!m->data)
            continue;
        m->type = at->of_head || i > 1 ? LA_F32 : b->model->be->activation;
        LA_TRY(la_binder_place(b, m->data, LA_F32, m->rows * m->cols, m->type, &m->data, err));
    }
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        if (*vectors[i])
            LA_TRY(la_binder_place(b, *vectors[i], LA_F32, lengths[i], LA_F32, vectors[i], err));
    return LA_OK;
}

/* Attaches the adapter at module, if it has something there. */
static la_status bind_site(binder *b, const char *module, const site_place *at, la_linear *linear,
                           la_error *err) {
    la_model *model = b->model;
    la_adapter *adapter = &model->adapter;
    la_site site = {.out = linear->w.rows, .in = linear->w.cols, .blocks = {-1, -1, -1}};
    la_block blocks[LA_SITE_BLOCKS] = {0};
    int n_blocks = 0;
    bool adapted = false;
    char key[NAME_MAX_BYTES];
    for (int i = 0; !adapted && spell(b, i, at->in_body, module, key, sizeof key); i++) {
        LA_TRY(adapter->kind->bind(adapter, &model->pool, key, &site, blocks, &n_blocks, &adapted,
                                   err));
    }
    if (!adapted)
        return LA_OK;
    if (at->rows)
        LA_TRY(keep_outputs(b, at, &site, blocks, err));
    for (int i = 0; i < n_blocks; i++) {
        blocks[i].per_row = at->per_row;
        blocks[i].input = i || site.vector.data ? model->n_inputs++ : at->input;
        LA_TRY(la_binder_add_block(b, &blocks[i], &site.blocks[i], err));
    }
    site.module = la_pool_text(&model->pool, key, strlen(key), err);
    la_site *kept = la_pool_take(&model->pool, 1, sizeof *kept, err);
    if (!site.module || !kept)
        return err->status;
    if (site.magnitude.data) {
        LA_TRY(la_dora_finish(adapter, at->w, &model->pool, &site, err));
        if (site.out > model->max_scaled_cols)
            model->max_scaled_cols = site.out;
    }
    *kept = site;
    linear->site = kept;
    if (site.state_cols > model->max_state_cols)
        model->max_state_cols = site.state_cols;
    return place_site(b, at, kept, err);
}

/* ---- parts of the model ---- */

/* bitsandbytes packs every linear layer but the output's, and those the adapter brings anew. */
static bool is_output(const binder *b, const char *module) {
    const la_head_row *last = b->head;
    while (last->module && last[1].module)
        last++;
    return last->module && !strcmp(last->module, module);
}

static la_status bind_linear(binder *b, const char *module, bool in_body, int64_t out, int64_t in,
                             bool bias, bool of_head, int64_t input, la_linear *linear,
                             la_error *err) {
    bool trained;
    const la_tensor *weight = find_parameter(b, module, in_body, "weight", &trained);
    if (!weight)
        return missing(b, module, in_body, "weight", err);
    bool transposed = b->arch->transposed && !of_head;
    bool quantise = !trained && !(of_head && is_output(b, module));
    LA_TRY(place_matrix(b, weight, out, in, of_head, transposed, quantise, &linear->w, err));
    la_mat stored = linear->w;
    if (stored.type != LA_CODES)
        stored.type = weight->dtype;
    site_place at = {
        .in_body = in_body, .of_head = of_head, .per_row = of_head, .input = input, .w = &stored};
    LA_TRY(bind_site(b, module, &at, linear, err));
    const la_tensor *shift = find_parameter(b, module, in_body, "bias", &trained);
    if (bias && !shift)
        return missing(b, module, in_body, "bias", err);
    if (!bias && shift)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: tensor \"%s\" is a bias that config.json says is not there",
                       shift->file, shift->name);
    const float *extra = linear->site ? linear->site->bias : NULL;
    if (!shift && !extra)
        return LA_OK;
    const float *values = read_vector(b, shift, out, extra, err);
    if (!values)
        return err->status;
    la_dtype type = of_head ? LA_F32 : b->model->be->activation;
    linear->bias = la_mat_of(type, NULL, 1, out);
    return la_binder_place(b, values, LA_F32, out, type, &linear->bias.data, err);
}

/* Layer norms of old checkpoints call weight and bias gamma and beta. */
static la_status bind_norm(binder *b, const char *module, bool in_body, int64_t width,
                           la_norm *norm, la_error *err) {
    const la_config *config = &b->model->config;
    static const char *const leaves[2][2] = {{"weight", "gamma"}, {"bias", "beta"}};
    const float **places[2] = {&norm->weight, &norm->bias};
    norm->kind = b->arch->norm_kind;
    norm->eps = (float)config->norm_eps;
    int n = config->norm_bias ? 2 : 1;
    for (int i = 0; i < n; i++) {
        bool trained;
        const la_tensor *tensor = find_parameter(b, module, in_body, leaves[i][0], &trained);
        if (!tensor)
            tensor = find_parameter(b, module, in_body, leaves[i][1], &trained);
        if (!tensor)
            return missing(b, module, in_body, leaves[i][0], err);
        float *values = read_vector(b, tensor, width, NULL, err);
        if (!values)
            return err->status;
        for (int64_t j = 0; b->arch->norm_plus_one && j < width; j++)
            values[j] += 1;
        LA_TRY(la_binder_place(b, values, LA_F32, width, LA_F32, places[i], err));
    }
    return LA_OK;
}

static la_status bind_table(binder *b, const char *module, int64_t rows, la_error *err) {
    la_model *model = b->model;
    bool trained;
    if (!module)
        return LA_OK;
    const la_tensor *tensor = find_parameter(b, module, true, "weight", &trained);
    if (!tensor)
        return missing(b, module, true, "weight", err);
    if (trained && tensor->n_dims == 2)
        rows = tensor->shape[0]; /* a vocabulary that was resized is saved whole with the adapter */
    int64_t width = model->config.embedding;
    LA_TRY(check_shape(tensor, rows, width, err));
    la_mat *table = &model->tables[model->n_tables++];
    *table = (la_mat){NULL, rows, width, width, la_weight_type(model->be, tensor->dtype)};
    b->table_type = tensor->dtype;
    LA_TRY(check_values(b, tensor, err));
    la_token_rows replaced;
    la_tensor edited = *tensor;
    LA_TRY(la_binder_token_rows(b, module, true, rows, width, &replaced, err));
    if (replaced.values) {
        LA_TRY(la_binder_replace_rows(b, &replaced, tensor, &edited, err));
        tensor = &edited;
    }
    if (model->n_tables == 1)
        b->token_rows = replaced;
    LA_TRY(la_binder_place(b, tensor->data, tensor->dtype, tensor->count, table->type, &table->data,
                           err));
    return la_binder_embedding(b, module, model->n_inputs++, err);
}

static la_status bind_layer(binder *b, int64_t number, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    la_layer *layer = &model->layers[number];
    int64_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
    bool qkv_bias = config->attention_bias || b->arch->qkv_bias;
    const struct {
        int64_t out, in;
        bool bias;
    } shapes[LA_SLOTS] = {
        [LA_SLOT_QKV] = {q + 2 * kv, config->hidden, qkv_bias},
        [LA_SLOT_Q] = {q, config->hidden, qkv_bias},
        [LA_SLOT_K] = {kv, config->hidden, qkv_bias},
        [LA_SLOT_V] = {kv, config->hidden, qkv_bias},
        [LA_SLOT_POS_K] = {kv, config->hidden, qkv_bias},
        [LA_SLOT_POS_Q] = {q, config->hidden, qkv_bias},
        [LA_SLOT_O] = {config->hidden, q, config->attention_bias},
        [LA_SLOT_GATE_UP] = {2 * config->ffn, config->hidden, config->ffn_bias},
        [LA_SLOT_GATE] = {config->ffn, config->hidden, config->ffn_bias},
        [LA_SLOT_UP] = {config->ffn, config->hidden, config->ffn_bias},
        [LA_SLOT_DOWN] = {config->hidden, config->ffn, config->ffn_bias},
    };
    /* one input number for each stage: its projections read the same matrix, unless they read the
     * lines of distances, or these too */
    int64_t inputs = model->n_inputs, lines = inputs + LA_STAGE_FFN_OUT + 1;
    model->n_inputs = lines + 1;
    char name[NAME_MAX_BYTES];
    for (int slot = 0; slot < LA_SLOTS; slot++) {
        const la_distances *distances = &config->distances;
        bool pos_k = slot == LA_SLOT_POS_K, pos_q = slot == LA_SLOT_POS_Q;
        bool own_lines = distances->span && !distances->shared;
        if (!b->arch->linear[slot] || (pos_k && !(own_lines && distances->c2p)) ||
            (pos_q && !(own_lines && distances->p2c)))
            continue;
        bool reads_lines = pos_k || pos_q ||
                           (slot == LA_SLOT_K && distances->shared && distances->c2p) ||
                           (slot == LA_SLOT_Q && distances->shared && distances->p2c);
        snprintf(name, sizeof name, b->arch->linear[slot], (long long)number);
        LA_TRY(bind_linear(b, name, true, shapes[slot].out, shapes[slot].in, shapes[slot].bias,
                           false, reads_lines ? lines : inputs + la_slot_stage((la_slot)slot),
                           &layer->linear[slot], err));
    }
    const struct {
        const char *pattern;
        int64_t width;
        la_norm *norm;
    } norms[] = {
        {b->arch->norm_attention, config->hidden, &layer->norm_attention},
        {b->arch->norm_ffn, config->hidden, &layer->norm_ffn},
        {b->arch->norm_attention_out, config->hidden, &layer->norm_attention_out},
        {b->arch->norm_ffn_out, config->hidden, &layer->norm_ffn_out},
        {b->arch->norm_q, config->head_dim, &layer->norm_q},
        {b->arch->norm_k, config->head_dim, &layer->norm_k},
    };
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
        bool absent = !i && !number && b->arch->first_norm_absent;
        if (!norms[i].pattern || absent)
            continue;
        snprintf(name, sizeof name, norms[i].pattern, (long long)number);
        LA_TRY(bind_norm(b, name, true, norms[i].width, norms[i].norm, err));
    }
    return la_binder_bottlenecks(b, number, err);
}

static double square_of(const la_tensor *tensor, la_error *err) {
    float *values = la_alloc((size_t)tensor->count, sizeof *values, err);
    if (!values)
        return 0;
    la_dtype_to_f32(tensor->dtype, tensor->data, tensor->count, values);
    double sum = 0;
    for (int64_t i = 0; i < tensor->count; i++)
        sum += (double)values[i] * (double)values[i];
    free(values);
    return sum;
}

/* A head layer whose weights the adapter brings is a block of its own, its bias an extra input
 * of 1. */
static la_status add_head_block(binder *b, const la_head_row *row, bool bias, la_head_layer *layer,
                                la_error *err) {
    la_model *model = b->model;
    bool trained;
    const la_tensor *weight = find_parameter(b, row->module, row->in_body, "weight", &trained);
    layer->block = -1;
    if (!trained || layer->linear.site)
        return LA_OK;
    la_block block = {.out = weight->shape[0],
                      .in = weight->shape[1] + (bias ? 1 : 0),
                      .per_row = true,
                      .is_head = true,
                      .input = model->n_inputs++,
                      .theta_square = square_of(weight, err)};
    if (bias)
        block.theta_square +=
            square_of(find_parameter(b, row->module, row->in_body, "bias", &trained), err);
    char name[NAME_MAX_BYTES];
    int length =
        snprintf(name, sizeof name, "%s%s", row->in_body ? b->arch->prefix : "", row->module);
    block.name = la_pool_text(&model->pool, name, (size_t)length, err);
    if (!block.name || err->status != LA_OK)
        return err->status;
    return la_binder_add_block(b, &block, &layer->block, err);
}

/* A head on every token knows no problem_type: its outputs are classes. */
static la_status finish_tags(la_model *model, const la_tensor *weight, la_error *err) {
    char shape[128];
    model->pool_token = LA_POOL_PLACE;
    if (model->n_classes < 2)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: tensor \"%s\" has shape %s, which is not supported for task_type "
                       "TOKEN_CLS, expected 2 classes or more",
                       weight->file, weight->name,
                       la_tensor_shape_text(weight, shape, sizeof shape));
    return LA_OK;
}

static la_status bind_classifier(binder *b, la_error *err) {
    la_model *model = b->model;
    const la_tensor *last_weight = NULL;
    char shape[128];
    int64_t in = model->config.hidden;
    for (const la_head_row *row = b->head; row->module; row++) {
        int i = model->n_head++;
        la_head_layer *layer = &model->head[i];
        bool has_bias = b->head_form->bias[i];
        bool last = !row[1].module, trained;
        const la_tensor *weight = find_parameter(b, row->module, row->in_body, "weight", &trained);
        if (!weight)
            return missing(b, row->module, row->in_body, "weight", err);
        int64_t out = last && weight->n_dims == 2 ? weight->shape[0] : in;
        if (last && la_packed_is(model->base, weight)) {
            la_packed *packed;
            LA_TRY(la_packed_read(model->base, weight, &model->pool, &packed, err));
            out = packed->rows;
        }
        last_weight = weight;
        LA_TRY(bind_linear(b, row->module, row->in_body, out, in, has_bias, true, model->n_inputs++,
                           &layer->linear, err));
        layer->activation = b->head_form->activation[i];
        LA_TRY(add_head_block(b, row, has_bias, layer, err));
        if (row->norm)
            LA_TRY(bind_norm(b, row->norm, row->in_body, out, &layer->norm, err));
        in = out;
    }
    model->n_classes = in;
    model->pool_token = model->config.pool_mean ? LA_POOL_MEAN : b->arch->classify_token;
    if (model->pool_token == LA_POOL_LAST_CONTENT && model->config.pad_id < 0)
        model->pool_token = LA_POOL_LAST;
    if (model->task == LA_TASK_TAG)
        return finish_tags(model, last_weight, err);
    if (model->n_classes == 1)
        model->task = LA_TASK_REGRESS;
    bool regression = model->task == LA_TASK_REGRESS;
    if (model->n_classes < 1 ||
        model->config.problem == (regression ? LA_PROBLEM_CLASSES : LA_PROBLEM_REGRESSION))
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: tensor \"%s\" has shape %s, which is not supported for problem_type "
                       "%s, expected %s",
                       last_weight->file, last_weight->name,
                       la_tensor_shape_text(last_weight, shape, sizeof shape),
                       regression ? "single_label_classification" : "regression",
                       regression ? "2 classes or more" : "one output");
    return LA_OK;
}

/* Whether modules_to_save names the embedding: PEFT trains a copy of it then. */
static bool embedding_is_copied(const binder *b) {
    const json_t *list = json_object_get(b->model->adapter.config, "modules_to_save");
    size_t tail = strlen(b->arch->embed_tokens);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        size_t length = name ? strlen(name) : 0;
        const char *last = strrchr(b->arch->embed_tokens, '.');
        last = last ? last + 1 : b->arch->embed_tokens;
        if (name && (!strcmp(name, last) ||
                     (length >= tail && !strcmp(name + length - tail, b->arch->embed_tokens))))
            return true;
    }
    return false;
}

/* The embedding as a head that is tied to it reads it: the one that the base holds where the adapter
 * trained a copy, else the adapter's, of a vocabulary that was resized. */
static const la_tensor *find_tied(binder *b) {
    bool trained;
    const la_tensor *weight = find_parameter(b, b->arch->embed_tokens, true, "weight", &trained);
    char key[NAME_MAX_BYTES];
    const la_tensor *frozen = NULL;
    for (int bare = 0; bare <= 1 && !frozen; bare++) {
        snprintf(key, sizeof key, "%s%s.weight", bare ? "" : b->arch->prefix,
                 b->arch->embed_tokens);
        frozen = la_checkpoint_find(b->model->base, key);
    }
    return trained && frozen && embedding_is_copied(b) ? frozen : weight;
}

/* The head of a causal LM, cut down to the rows of the answer tokens. */
static la_status bind_choices(binder *b, const la_model_options *options, la_error *err) {
    la_model *model = b->model;
    int64_t d = model->config.hidden, n = options->n_choices;
    if (!b->arch->lm_head)
        return la_fail(err, LA_UNSUPPORTED, "model_type \"%s\" has no language-model head",
                       b->arch->model_type);
    if (n < 2)
        return la_fail(err, LA_USAGE,
                       "a causal LM needs at least two answer tokens: give --choices \"A,B,C,D\" "
                       "or --choice-ids 319,350");
    bool trained;
    la_token_rows replaced = {0};
    const la_tensor *weight = find_parameter(b, b->arch->lm_head, false, "weight", &trained);
    if (!weight && model->config.tied)
        weight = find_tied(b);
    if (!weight)
        return missing(b, b->arch->lm_head, false, "weight", err);
    la_packed *packed = NULL;
    int64_t vocabulary = weight->shape[0];
    if (la_packed_is(model->base, weight)) {
        LA_TRY(la_packed_read(model->base, weight, &model->pool, &packed, err));
        vocabulary = packed->rows;
        if (packed->cols != d)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: tensor \"%s\" is packed from shape [%lld, %lld], expected %lld "
                           "columns",
                           weight->file, weight->name, (long long)packed->rows,
                           (long long)packed->cols, (long long)d);
    } else {
        LA_TRY(la_tensor_check_float(weight, err));
        LA_TRY(check_shape(weight, vocabulary, d, err));
    }
    LA_TRY(la_binder_token_rows(b, b->arch->lm_head, false, vocabulary, d, &replaced, err));
    if (!replaced.values && model->config.tied)
        replaced = b->token_rows;
    float *rows = la_pool_take(&model->pool, (size_t)(n * d), sizeof *rows, err);
    if (!rows)
        return err->status;
    for (int64_t i = 0; i < n; i++) {
        int64_t id = options->choice_ids[i];
        if (id < 0 || id >= vocabulary)
            return la_fail(err, LA_BAD_INPUT, "choice id %lld, expected 0 to %lld (%s)",
                           (long long)id, (long long)vocabulary - 1, weight->name);
        for (int64_t j = 0; j < i; j++)
            if (options->choice_ids[j] == id)
                return la_fail(err, LA_BAD_INPUT, "choice id %lld is given twice", (long long)id);
        la_mat codes = packed ? la_packed_mat(packed) : (la_mat){0};
        if (packed)
            la_quant_decode(&codes, id * d, d, rows + i * d);
        else
            la_dtype_to_f32(weight->dtype,
                            (const char *)weight->data +
                                (size_t)(id * d) * la_dtype_size(weight->dtype),
                            d, rows + i * d);
        la_token_rows_read(&replaced, id, d, rows + i * d);
    }
    la_head_layer *layer = &model->head[model->n_head++];
    layer->block = -1;
    layer->linear.w = la_mat_f32(NULL, vocabulary, d); /* as the adapter knows it */
    la_mat stored = la_mat_f32(rows, n, d);
    site_place at = {.of_head = true,
                     .input = model->n_inputs++,
                     .rows = options->choice_ids,
                     .n_rows = n,
                     .w = &stored};
    LA_TRY(bind_site(b, b->arch->lm_head, &at, &layer->linear, err));
    layer->linear.w = la_mat_f32(NULL, n, d);
    LA_TRY(la_binder_place(b, rows, LA_F32, n * d, LA_F32, &layer->linear.w.data, err));
    const la_site *site = layer->linear.site;
    if (site && site->bias) {
        layer->linear.bias = la_mat_f32(NULL, 1, n);
        LA_TRY(la_binder_place(b, site->bias, LA_F32, n, LA_F32, &layer->linear.bias.data, err));
    }
    model->n_classes = n;
    model->pool_token = LA_POOL_LAST;
    return LA_OK;
}

/* transformers rounds the factor to the type of the table. */
static float embed_scale_of(const la_config *config, la_dtype type) {
    int exponent, bits = type == LA_BF16 ? 8 : type == LA_F16 ? 11 : 24;
    if (!config->arch->scale_embedding)
        return 1;
    double fraction = frexp(sqrt((double)config->hidden), &exponent);
    return (float)ldexp(rint(ldexp(fraction, bits)), exponent - bits);
}

static la_status bind_distances(binder *b, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    int64_t lines = 2 * config->distances.span, d = config->hidden;
    bool trained;
    const la_tensor *tensor = find_parameter(b, b->arch->distance_table, true, "weight", &trained);
    if (!tensor)
        return missing(b, b->arch->distance_table, true, "weight", err);
    LA_TRY(check_shape(tensor, lines, d, err));
    LA_TRY(check_values(b, tensor, err));
    la_mat *table = &model->distance_table;
    *table = (la_mat){NULL, lines, d, d, la_weight_type(model->be, tensor->dtype)};
    LA_TRY(la_binder_place(b, tensor->data, tensor->dtype, tensor->count, table->type, &table->data,
                           err));
    if (!config->distances.norm)
        return LA_OK;
    return bind_norm(b, b->arch->norm_distances, true, d, &model->norm_distances, err);
}

static la_status bind_body(binder *b, la_error *err) {
    la_model *model = b->model;
    const la_config *config = &model->config;
    const la_arch *arch = b->arch;
    LA_TRY(bind_table(b, arch->embed_tokens, config->vocab, err));
    model->embed_scale = embed_scale_of(config, b->table_type);
    if (model->embedding[0])
        model->embedding[0]->scale *= model->embed_scale;
    if (config->has_positions)
        LA_TRY(bind_table(b, arch->embed_positions, config->max_positions, err));
    if (config->has_types)
        LA_TRY(bind_table(b, arch->embed_types, config->type_vocab, err));
    LA_TRY(la_binder_prompt(b, err));
    if (config->distances.span)
        LA_TRY(bind_distances(b, err));
    if (arch->embed_norm)
        LA_TRY(bind_norm(b, arch->embed_norm, true,
                         arch->norm_after_project ? config->hidden : config->embedding,
                         &model->embed_norm, err));
    if (config->embedding != config->hidden)
        LA_TRY(bind_linear(b, arch->embed_project, true, config->hidden, config->embedding,
                           arch->embed_project_bias, false, model->n_inputs++,
                           &model->embed_project, err));
    model->layers = la_pool_take(&model->pool, (size_t)config->layers, sizeof(la_layer), err);
    if (!model->layers)
        return err->status;
    for (int64_t i = 0; i < config->layers; i++)
        LA_TRY(bind_layer(b, i, err));
    if (arch->final_norm)
        LA_TRY(bind_norm(b, arch->final_norm, true, config->hidden, &model->final_norm, err));
    return LA_OK;
}

/* ---- which blocks, and how far down ---- */

/* A row reads fewer lines than twice its tokens. */
int64_t la_model_most_inputs(const la_model *model, int64_t tokens) {
    return model->config.distances.span ? 3 * tokens : tokens;
}

bool la_head_reads_all(const la_model *model) {
    const la_site *site = model->n_head ? model->head[0].linear.site : NULL;
    return site && !model->blocks[site->blocks[0]].per_row;
}

bool la_block_in(const la_model *model, int64_t block, la_params params) {
    bool is_head = model->blocks[block].is_head, is_magnitude = model->blocks[block].is_magnitude;
    switch (params) {
    case LA_PARAMS_LORA:
        return !is_head && !is_magnitude;
    case LA_PARAMS_LORA_HEAD:
        return !is_magnitude;
    case LA_PARAMS_LORA_MAGNITUDE:
        return !is_head;
    case LA_PARAMS_LORA_MAGNITUDE_HEAD:
        return true;
    case LA_PARAMS_HEAD:
        return is_head;
    case LA_PARAMS_LAST:
        return block == model->head[model->n_head - 1].block;
    }
    return false;
}

static void select_prompt(la_model *model) {
    if (!model->prompt.of_layers) {
        model->embedding_wanted = true;
        return;
    }
    model->lowest_layer = 0;
    model->lowest_stage = LA_STAGE_QKV;
}

static int64_t count_sites(const la_model *model) {
    return model->config.layers * LA_SLOTS + model->n_head + 1;
}

static la_site *site_at(const la_model *model, int64_t i) {
    int64_t slots = model->config.layers * LA_SLOTS;
    if (i < slots)
        return model->layers[i / LA_SLOTS].linear[i % LA_SLOTS].site;
    return i < slots + model->n_head ? model->head[i - slots].linear.site
                                     : model->embed_project.site;
}

/* The site's forward leaves what its magnitudes multiply. */
static void keep_product(la_model *model, la_site *site) {
    if (!site || !site->magnitude.data)
        return;
    site->keeps_product = true;
    site->state_cols += site->out;
    if (site->state_cols > model->max_state_cols)
        model->max_state_cols = site->state_cols;
}

static la_status select_blocks(binder *b, la_params params, la_error *err) {
    la_model *model = b->model;
    int64_t lora = 0, head = 0, magnitudes = 0, wanted = 0;
    bool of_head = params != LA_PARAMS_LORA && params != LA_PARAMS_LORA_MAGNITUDE;
    bool of_magnitude =
        params == LA_PARAMS_LORA_MAGNITUDE || params == LA_PARAMS_LORA_MAGNITUDE_HEAD;
    bool of_lora = of_magnitude || params == LA_PARAMS_LORA || params == LA_PARAMS_LORA_HEAD;
    for (int64_t i = 0; i < model->n_blocks; i++) {
        la_block *block = &model->blocks[i];
        block->wanted = la_block_in(model, i, params);
        lora += !block->is_head;
        head += block->is_head;
        magnitudes += block->is_magnitude;
        wanted += block->wanted;
    }
    if (!lora && of_lora)
        return la_fail(err, LA_BAD_INPUT, "%s: holds no adapter weights for this base",
                       model->adapter.config_path);
    if (!magnitudes && of_magnitude)
        return la_fail(err, LA_BAD_INPUT,
                       "--params: %s does not say use_dora, the adapter holds no magnitudes",
                       model->adapter.config_path);
    for (int64_t i = 0; of_magnitude && i < count_sites(model); i++)
        keep_product(model, site_at(model, i));
    if (!wanted || (!head && of_head))
        return la_fail(err, LA_BAD_INPUT,
                       "--params: the adapter holds no trained head (modules_to_save)");
    model->lowest_layer = model->config.layers;
    for (int64_t i = model->config.layers - 1; i >= 0; i--) {
        for (int place = 1; place >= 0; place--) {
            const la_bottleneck *e = model->layers[i].bottleneck[place];
            if (!e || !model->blocks[e->blocks[0]].wanted)
                continue;
            model->lowest_layer = i;
            model->lowest_stage = place ? LA_STAGE_FFN_OUT : LA_STAGE_O;
        }
        for (int slot = LA_SLOTS - 1; slot >= 0; slot--) {
            const la_site *site = model->layers[i].linear[slot].site;
            if (site && model->blocks[site->blocks[0]].wanted) {
                model->lowest_layer = i;
                model->lowest_stage = la_slot_stage((la_slot)slot);
            }
        }
    }
    if (model->prompt.n && model->blocks[model->prompt.parts[0].block].wanted)
        select_prompt(model);
    const la_site *project = model->embed_project.site;
    for (int i = 0; i < model->n_tables; i++)
        if (model->embedding[i] && model->blocks[model->embedding[i]->blocks[1]].wanted)
            model->embedding_wanted = true;
    if (model->embedding_wanted || (project && model->blocks[project->blocks[0]].wanted))
        model->lowest_layer = -1;
    return LA_OK;
}

/* A base that is packed here is another base: its name counts. */
static la_status digest_base(la_model *model, la_base_quant quant, la_error *err) {
    char content[33];
    LA_TRY(la_checkpoint_digest(model->base, content, err));
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_digest_add_text(digest, content);
    if (quant)
        la_digest_add_text(digest, la_base_quant_names[quant]);
    la_config_digest(&model->config, digest);
    la_digest_finish(digest, model->base_digest);
    return LA_OK;
}

static la_status find_task(binder *b, bool choices, la_error *err) {
    static const char *const names[] = {"SEQ_CLS", "CAUSAL_LM", "TOKEN_CLS"};
    la_model *model = b->model;
    const char *task = model->adapter.task_type;
    int kind = choices ? LA_TASK_CHOICE : LA_TASK_CLASSIFY;
    for (kind = task ? 0 : kind; task && kind < 3 && strcmp(task, names[kind]); kind++)
        ;
    if (kind == 3)
        return la_fail(
            err, LA_UNSUPPORTED,
            "%s: task_type \"%s\" is not supported (SEQ_CLS, TOKEN_CLS and CAUSAL_LM are)",
            model->adapter.config_path, task);
    model->task = (la_task)kind;
    bool tags = kind == LA_TASK_TAG;
    b->head = tags ? b->arch->tags : b->arch->classify;
    b->head_form = tags ? &model->config.tags : &model->config.classify;
    if (!b->head->module && kind != LA_TASK_CHOICE)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: task_type \"%s\" is not supported for model_type \"%s\"",
                       model->adapter.config_path, task, b->arch->model_type);
    if (kind != LA_TASK_CHOICE && choices)
        return la_fail(err, LA_USAGE,
                       "--choices is for causal LMs; this adapter has a classification head");
    return LA_OK;
}

static la_status open_parts(binder *b, const la_model_options *options, la_error *err) {
    la_model *model = b->model;
    LA_TRY(la_config_read(options->base, &model->config, err));
    b->arch = model->config.arch;
    if (options->quant && model->config.quantised)
        return la_fail(err, LA_USAGE, "--base-quant %s: %s is quantised already (%s); leave it out",
                       la_base_quant_names[options->quant], options->base,
                       la_base_quant_names[model->config.quantised]);
    LA_TRY(la_adapter_open(options->adapter, options->adapter_name, &model->adapter, &options->log,
                           err));
    LA_TRY(find_task(b, options->n_choices > 0, err));
    LA_TRY(la_checkpoint_open(options->base, "model", &model->base, err));
    b->base_used = la_pool_take(&model->pool, (size_t)la_checkpoint_count(model->base) + 1,
                                sizeof *b->base_used, err);
    if (!b->base_used)
        return err->status;
    if (options->quant) /* only what is made of it stays */
        la_checkpoint_let_go(model->base);
    LA_TRY(bind_body(b, err));
    LA_TRY(model->task == LA_TASK_CHOICE ? bind_choices(b, options, err) : bind_classifier(b, err));
    if (model->config.quantised && !model->packed && !b->twin)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: config.json says that the base is quantised (%s), but no weight of a "
                       "linear layer is packed",
                       b->base_dir, la_base_quant_names[model->config.quantised]);
    LA_TRY(la_token_rows_check(&model->adapter, b->n_token_rows, err));
    LA_TRY(la_leftover_check(b->model, err));
    if (!b->twin)
        la_leftover_report(b->model, b->base_used, b->log);
    LA_TRY(select_blocks(b, options->params, err));
    if (b->twin) {
        strcpy(model->base_digest, b->twin->base_digest);
        strcpy(model->adapter_digest, b->twin->adapter_digest);
        return LA_OK;
    }
    LA_TRY(digest_base(model, options->quant, err));
    return la_adapter_digest(&model->adapter, model->adapter_digest, err);
}

la_status la_model_open(la_backend *be, const la_model_options *options, la_model *model,
                        la_error *err) {
    *model = (la_model){.be = be};
    binder b = {.model = model,
                .base_dir = options->base,
                .log = &options->log,
                .twin = options->twin,
                .twin_packed = options->twin ? options->twin->packed : NULL,
                .quant = options->quant};
    la_status status = open_parts(&b, options, err);
    if (status != LA_OK)
        la_model_close(model);
    return status;
}

la_status la_model_place(la_model *model, la_error *err) {
    la_backend *be = model->be;
    for (la_placement *note = model->placements; note; note = note->next) {
        bool copied;
        const void *memory =
            be->ops->place(be, slot_get(note->slot), note->from, note->count, note->to, &copied);
        if (!memory)
            return la_fail(err, LA_RESOURCE, "out of memory on %s for %zu bytes of weights",
                           be->device, (size_t)note->count * la_dtype_size(note->to));
        note->copied = copied;
        slot_set(note->slot, memory);
    }
    return be->ops->sync(be, err);
}

void la_model_close(la_model *model) {
    for (la_placement *note = model->placements; note; note = note->next)
        if (note->copied)
            model->be->ops->release(model->be, slot_get(note->slot));
    la_adapter_close(&model->adapter);
    la_checkpoint_close(model->base);
    la_config_free(&model->config);
    la_pool_free(&model->pool);
    *model = (la_model){0};
}
