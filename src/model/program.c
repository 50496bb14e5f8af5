/* From an architecture's row to a list of operations:
 *
 *   post-norm                            pre-norm
 *   a   = in                             a   = norm_attention(in)
 *   sum = in + O attention(QKV a)        sum = in + O attention(QKV a)
 *   r   = norm_attention(sum), f = r     r   = sum, f = norm_ffn(r)
 *   sum2 = r + FFN(f)                    out = r + FFN(f)
 *   out = norm_ffn(sum2)
 *
 * Some have more norms: of q and k, and of what attention and FFN add to the residual; some lack
 * those before. Fused projections give q, k, v (or gate, up) as columns of one matrix. */
#include "model/program.h"

#include <string.h>

typedef struct compiler {
    const la_config *config;
    const la_arch *arch;
    const la_layer *layer;
    la_program *p;
} compiler;

static int new_buffer(la_program *p, const char *name, la_extent extent, int64_t cols) {
    p->buffers[p->n_buffers] = (la_buffer){.name = name, .extent = extent, .cols = cols, .of = -1};
    return p->n_buffers++;
}

/* Columns [from, from + cols) of another buffer, the cotangents likewise. */
static int new_view(la_program *p, const char *name, int of, int64_t from, int64_t cols) {
    int view = new_buffer(p, name, p->buffers[of].extent, cols);
    p->buffers[view].of = of;
    p->buffers[view].from = from;
    p->buffers[view].joint = true;
    return view;
}

static int new_stats(la_program *p, int rows_of, int64_t cols) {
    int stats = new_buffer(p, "stats", p->buffers[rows_of].extent, cols);
    p->buffers[stats].f32 = true;
    return stats;
}

static la_op *emit(la_program *p, la_op_kind kind, int in, int in2, int out) {
    la_op *op = &p->ops[p->n_ops++];
    *op = (la_op){
        .kind = kind, .in = {in, in2, -1, -1, -1}, .out = out, .all = -1, .keep = {-1, -1, -1, -1}};
    return op;
}

static int norm(const compiler *c, la_layer_norm which, int64_t width, int in, const char *name) {
    la_program *p = c->p;
    const la_buffer *from = &p->buffers[in];
    int64_t cols = from->cols;
    int out = new_buffer(p, name, from->extent, cols);
    la_op *op = emit(p, LA_OP_NORM, in, -1, out);
    op->norm = &c->layer->norm[which];
    op->module = c->arch->norm[which];
    op->width = width;
    op->keep[0] = new_stats(p, in, 2 * (cols / width));
    return out;
}

/* Input of a part of the layer, from the residual stream: its norm where one precedes. */
static int read_residual(const compiler *c, la_layer_norm before, int in, const char *name) {
    la_program *p = c->p;
    int64_t d = p->buffers[in].cols;
    if (c->arch->pre_norm && c->layer->norm[before].weight)
        return norm(c, before, d, in, name);
    int out = new_buffer(p, name, p->buffers[in].extent, d);
    p->buffers[out].of = in;
    emit(p, LA_OP_BRANCH, in, -1, out);
    return out;
}

static int linear(const compiler *c, la_slot slot, int in, la_extent extent, const char *name) {
    la_program *p = c->p;
    const la_linear *linear = &c->layer->linear[slot];
    int out = new_buffer(p, name, extent, linear->w.rows);
    la_op *op = emit(p, LA_OP_LINEAR, in, -1, out);
    op->linear = linear;
    op->module = c->arch->linear[slot];
    if (linear->site)
        op->keep[0] = new_buffer(p, "state", extent, linear->site->state_cols);
    return out;
}

static int columns(la_program *p, int of, int64_t from, int64_t cols, const char *name) {
    int out = new_view(p, name, of, from, cols);
    emit(p, LA_OP_COLUMNS, of, -1, out);
    return out;
}

/* Norm and rotation of the heads of q or k; of q, those that go on. */
static int finish_heads(const compiler *c, bool of_keys, int in) {
    la_program *p = c->p;
    const char *name = of_keys ? "k" : "q";
    la_extent extent = of_keys ? LA_TOKENS : LA_QUERIES;
    la_layer_norm which = of_keys ? LA_NORM_K : LA_NORM_Q;
    if (c->layer->norm[which].weight) {
        int64_t all = p->buffers[in].cols;
        in = norm(c, which, c->arch->norm_heads_together ? all : c->config->head_dim, in, name);
        p->buffers[in].extent = extent;
    }
    if (c->config->plan[p->layer].rope < 0)
        return in;
    int out = new_view(p, name, in, 0, p->buffers[in].cols);
    p->buffers[out].extent = extent;
    emit(p, LA_OP_ROTATE, in, -1, out)->of_keys = of_keys;
    return out;
}

/* Lines of distances through the projection of keys (or queries), or their own. */
static int distances(const compiler *c, bool of_keys, int a, int tokens) {
    la_program *p = c->p;
    const la_distances *d = &c->config->distances;
    if (!d->span || !(of_keys ? d->c2p : d->p2c))
        return -1;
    la_slot slot =
        of_keys ? (d->shared ? LA_SLOT_K : LA_SLOT_POS_K) : (d->shared ? LA_SLOT_Q : LA_SLOT_POS_Q);
    const la_linear *linear = &c->layer->linear[slot];
    int out = new_buffer(p, of_keys ? "lines k" : "lines q", LA_LINES, linear->w.rows);
    la_op *op = emit(p, LA_OP_DISTANCES, a, tokens, out);
    op->linear = linear;
    op->module = c->arch->linear[slot];
    op->of_keys = of_keys;
    if (linear->site)
        op->keep[0] = new_buffer(p, "state", LA_LINES, linear->site->state_cols);
    return out;
}

static int extend(const compiler *c, const la_model *model, bool of_keys, int in) {
    la_program *p = c->p;
    if (!model->prompt.of_layers)
        return in;
    int out = new_buffer(p, of_keys ? "keys" : "values", LA_KEYS, p->buffers[in].cols);
    emit(p, LA_OP_EXTEND, in, -1, out)->of_keys = of_keys;
    return out;
}

/* a -> context */
static int attention(const compiler *c, const la_model *model, int a) {
    la_program *p = c->p;
    const la_config *config = c->config;
    int64_t wide = config->heads * config->head_dim, narrow = config->kv_heads * config->head_dim;
    int q, k, v;
    if (c->layer->linear[LA_SLOT_QKV].w.data) {
        int all = linear(c, LA_SLOT_QKV, a, LA_TOKENS, "qkv");
        q = columns(p, all, 0, wide, "q");
        k = columns(p, all, wide, narrow, "k");
        v = columns(p, all, wide + narrow, narrow, "v");
    } else {
        q = linear(c, LA_SLOT_Q, a, LA_QUERIES, "q");
        k = linear(c, LA_SLOT_K, a, LA_TOKENS, "k");
        v = linear(c, LA_SLOT_V, a, LA_TOKENS, "v");
    }
    int lines_k = distances(c, true, a, k), lines_q = distances(c, false, a, q);
    if (config->distances.shared) {
        la_op *of_q = &p->ops[p->n_ops]; /* the projections come before their lines */
        for (la_op *op = p->ops; op < of_q; op++)
            op->silent = op->kind == LA_OP_LINEAR &&
                         ((op->out == k && lines_k >= 0) || (op->out == q && lines_q >= 0));
    }
    q = finish_heads(c, false, q);
    k = extend(c, model, true, finish_heads(c, true, k));
    v = extend(c, model, false, v);
    int context = new_buffer(p, "context", LA_QUERIES, wide);
    la_op *op = emit(p, LA_OP_ATTEND, q, k, context);
    op->in[2] = v;
    op->in[3] = lines_k;
    op->in[4] = lines_q;
    op->keep[0] = new_stats(p, context, config->heads);
    return context;
}

/* f -> act */
static int ffn(const compiler *c, int f) {
    la_program *p = c->p;
    const la_linear *all = &c->layer->linear[LA_SLOT_GATE_UP];
    int64_t width = c->config->ffn;
    int gate = -1, up;
    if (all->w.data) {
        int both = linear(c, LA_SLOT_GATE_UP, f, LA_QUERIES, "gate up");
        gate = columns(p, both, 0, width, "gate");
        up = columns(p, both, width, width, "up");
    } else {
        gate = c->arch->gated ? linear(c, LA_SLOT_GATE, f, LA_QUERIES, "gate") : -1;
        up = linear(c, LA_SLOT_UP, f, LA_QUERIES, "up");
    }
    int act = new_buffer(p, "act", LA_QUERIES, width);
    emit(p, LA_OP_ACT, gate < 0 ? up : gate, gate < 0 ? -1 : up, act)->activation =
        c->config->activation;
    return act;
}

/* out = a + b in place of a */
static int add(la_program *p, int a, int b, const char *name) {
    int out = new_buffer(p, name, LA_QUERIES, p->buffers[a].cols);
    p->buffers[a].of = out;
    emit(p, LA_OP_ADD, a, b, out);
    return out;
}

/* z: what the adapter reads; base: what its product is added to, or -1 */
static int bottleneck(la_program *p, const la_bottleneck *e, int z, int base) {
    int64_t d = p->buffers[z].cols, r = e->down.rows;
    int out = new_buffer(p, "adapted", LA_QUERIES, d);
    if (base >= 0)
        p->buffers[base].of = out;
    la_op *op = emit(p, LA_OP_BOTTLENECK, z, base, out);
    op->bottleneck = e;
    op->activation = e->activation;
    op->keep[0] = new_buffer(p, "z", LA_QUERIES, d + 1);
    op->keep[1] = new_buffer(p, "pre", LA_QUERIES, r);
    op->keep[2] = new_buffer(p, "wide", LA_QUERIES, r + 1);
    op->keep[3] = new_buffer(p, "narrow", LA_QUERIES, r);
    return out;
}

/* name = residual + what attention (part 0) or FFN (1) gives by its last projection of x, behind
 * its norm and its adapter */
static int residual(const compiler *c, int part, int x, int to, const char *name) {
    la_program *p = c->p;
    const la_bottleneck *e = c->layer->bottleneck[part];
    int64_t d = c->config->hidden;
    int y = linear(c, part ? LA_SLOT_DOWN : LA_SLOT_O, x, LA_QUERIES, "added");
    if (c->layer->norm[LA_NORM_ATTENTION_OUT + part].weight)
        y = norm(c, LA_NORM_ATTENTION_OUT + part, d, y, "normed");
    if (!e)
        return add(p, y, to, name);
    if (e->input == LA_BOTTLENECK_ADDED)
        return add(p, bottleneck(p, e, y, y), to, name);
    int sum = add(p, y, to, "sum");
    if (e->input == LA_BOTTLENECK_SUM)
        return bottleneck(p, e, sum, sum);
    if (e->input == LA_BOTTLENECK_RESIDUAL)
        return bottleneck(p, e, to, sum);
    int z = norm(c, LA_NORM_ATTENTION + part, d, sum, "z");
    return add(p, bottleneck(p, e, z, -1), sum, name);
}

/* ---- rewrites ---- */

static void remove_op(la_program *p, int at) {
    memmove(&p->ops[at], &p->ops[at + 1], (size_t)(p->n_ops - at - 1) * sizeof *p->ops);
    p->n_ops--;
}

/* A projection and what follows it alone become one operation. */
static void fuse(la_program *p) {
    for (int i = 0; i + 1 < p->n_ops; i++) {
        la_op *op = &p->ops[i];
        const la_op next = p->ops[i + 1];
        if (op->kind != LA_OP_LINEAR || next.in[0] != op->out)
            continue;
        if (next.kind == LA_OP_ADD) {
            op->in[1] = next.in[1];
        } else if (next.kind == LA_OP_ACT && next.in[1] < 0 && !op->linear->site) {
            op->kind = LA_OP_LINEAR_ACT;
            op->keep[0] = op->out;
            op->activation = next.activation;
        } else {
            continue;
        }
        op->out = next.out;
        remove_op(p, i + 1);
    }
}

/* The pooled tokens of a buffer: gathered once, before operation *at that reads them first. */
static int gathered(la_program *p, int from, int *at) {
    for (int i = 0; i < *at; i++)
        if (p->ops[i].kind == LA_OP_GATHER && p->ops[i].in[0] == from)
            return p->ops[i].out;
    int out = new_buffer(p, p->buffers[from].name, LA_QUERIES, p->buffers[from].cols);
    emit(p, LA_OP_GATHER, from, -1, out);
    la_op op = p->ops[p->n_ops - 1];
    memmove(&p->ops[*at + 1], &p->ops[*at], (size_t)(p->n_ops - 1 - *at) * sizeof op);
    p->ops[(*at)++] = op;
    return out;
}

/* Operations behind the keys and values work on the pooled tokens only. */
static void prune(la_program *p) {
    for (int i = 0; i < p->n_ops; i++) {
        if (p->buffers[p->ops[i].out].extent != LA_QUERIES || p->ops[i].kind == LA_OP_GATHER)
            continue;
        int inputs = p->ops[i].kind == LA_OP_ATTEND ? 1 : LA_OP_INPUTS;
        for (int j = 0; j < inputs; j++) {
            int from = p->ops[i].in[j];
            if (from < 0 || p->buffers[from].extent == LA_QUERIES)
                continue;
            int to = gathered(p, from, &i);
            la_op *op = &p->ops[i];
            op->in[j] = to;
            if (op->kind == LA_OP_LINEAR && !j)
                op->all = from;
            if (p->buffers[op->out].of == from)
                p->buffers[op->out].of = to;
        }
    }
}

void la_program_compile(const la_model *model, int64_t number, bool pruned, la_program *p) {
    const la_config *config = &model->config;
    compiler c = {config, config->arch, &model->layers[number], p};
    bool pre = config->arch->pre_norm;
    int64_t d = config->hidden;
    *p = (la_program){.layer = number, .pruned = pruned};
    p->in = new_buffer(p, "in", LA_TOKENS, d);
    int a = read_residual(&c, LA_NORM_ATTENTION, p->in, "a");
    int sum = residual(&c, 0, attention(&c, model, a), p->in, "sum");
    if (!pre)
        sum = norm(&c, LA_NORM_ATTENTION, d, sum, "r");
    int f = read_residual(&c, LA_NORM_FFN, sum, "f");
    p->out = residual(&c, 1, ffn(&c, f), sum, pre ? "out" : "sum2");
    if (!pre)
        p->out = norm(&c, LA_NORM_FFN, d, p->out, "out");
    fuse(p);
    if (pruned)
        prune(p);
    for (int b = 0; b < p->n_buffers && !pruned; b++)
        if (p->buffers[b].extent == LA_QUERIES)
            p->buffers[b].extent = LA_TOKENS;
}
