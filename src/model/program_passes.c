/* Passes over a layer's list: what is needed and kept for backward, and where everything lies. */
#include "model/run.h"

#include <string.h>

/* The buffer whose cotangent holds that of another one. */
static int home_of(const la_program *p, int buffer) {
    while (p->buffers[buffer].joint)
        buffer = p->buffers[buffer].of;
    return buffer;
}

/* ---- what is needed, what is kept ---- */

static bool is_wanted(const la_model *model, const la_op *op) {
    if (op->bottleneck)
        return model->blocks[op->bottleneck->blocks[0]].wanted;
    return op->linear && la_linear_wanted(model, op->linear);
}

static void keep(la_program *p, int buffer) {
    if (buffer >= 0)
        p->buffers[la_buffer_root(p, buffer)].kept = true;
}

static void keep_for_backward(la_program *p, const la_op *op) {
    const la_operation *kind = &la_operations[op->kind];
    if (!op->active || (op->kind == LA_OP_LINEAR && !op->linear->site))
        return;
    for (int j = 0; j < LA_OP_INPUTS; j++)
        if (kind->reads & (1u << j))
            keep(p, op->in[j]);
    if (kind->reads & LA_READS_OUT)
        keep(p, op->out);
    keep(p, op->all);
    for (int j = 0; j < kind->n_kept; j++)
        keep(p, op->keep[j]);
}

void la_program_need(const la_model *model, bool below, la_program *p) {
    p->buffers[p->in].needed = below;
    for (int i = 0; i < p->n_ops; i++) {
        la_op *op = &p->ops[i];
        op->wanted = op->kind == LA_OP_EXTEND
                         ? model->blocks[la_prompt_part(model, p->layer, op->of_keys)->block].wanted
                         : is_wanted(model, op);
        op->active = op->wanted;
        for (int j = 0; j < LA_OP_INPUTS; j++)
            op->active |= op->in[j] >= 0 && la_operations[op->kind].flow[j] != LA_FLOW_NONE &&
                          p->buffers[op->in[j]].needed;
        p->buffers[op->out].needed = op->active;
        p->active |= op->active;
        if (op->kind != LA_OP_ATTEND || !op->active)
            continue;
        /* cotangents of q and k come together, those of the lines with them */
        bool both = false;
        for (int j = 0; j < LA_OP_INPUTS; j++)
            both |= j != 2 && op->in[j] >= 0 && p->buffers[op->in[j]].needed;
        p->buffers[op->in[0]].needed = p->buffers[op->in[1]].needed = both;
    }
    for (int i = 0; i < p->n_ops; i++)
        keep_for_backward(p, &p->ops[i]);
}

/* ---- memory ---- */

static void find_last_uses(la_program *p) {
    for (int i = 0; i < p->n_ops; i++) {
        la_op *op = &p->ops[i];
        for (int j = 0; j < LA_OP_INPUTS; j++)
            if (op->in[j] >= 0)
                p->buffers[la_buffer_root(p, op->in[j])].last = i;
        for (int j = 0; j < LA_OP_KEEPS; j++)
            if (op->keep[j] >= 0)
                p->buffers[op->keep[j]].last = i;
        p->buffers[la_buffer_root(p, op->out)].last = i;
    }
}

size_t la_region_take(la_region *region, size_t bytes) {
    size_t from = 0;
    int i = 0;
    bytes = (bytes + 63) / 64 * 64;
    for (; i < region->n && region->live[i].from < from + bytes; i++)
        from = region->live[i].to;
    memmove(&region->live[i + 1], &region->live[i], (size_t)(region->n - i) * sizeof *region->live);
    region->live[i] = (struct la_span){from, from + bytes, 1};
    region->n++;
    region->most = from + bytes > region->most ? from + bytes : region->most;
    return from;
}

static struct la_span *span_at(la_region *region, size_t from) {
    struct la_span *span = region->live;
    while (span->from != from)
        span++;
    return span;
}

/* One user of the span is done with it. */
static void release(la_region *region, size_t from) {
    struct la_span *span = span_at(region, from);
    if (--span->uses)
        return;
    region->n--;
    memmove(span, span + 1, (size_t)(region->live + region->n - span) * sizeof *span);
}

static int64_t rows_of(const la_program *p, int buffer, const la_capacity *capacity) {
    la_extent extent = p->buffers[buffer].extent;
    return p->pruned && extent == LA_QUERIES ? capacity->pooled : capacity->rows[extent];
}

size_t la_buffer_bytes(const la_program *p, int buffer, const la_capacity *capacity) {
    const la_buffer *b = &p->buffers[buffer];
    size_t numbers = (size_t)(rows_of(p, buffer, capacity) * b->cols);
    return numbers * (b->f32 ? sizeof(float) : capacity->number);
}

static void place_buffer(la_program *p, int buffer, const la_capacity *capacity, bool apart,
                         bool shared, bool placed[LA_BUFFERS_MAX], la_region *frame) {
    if (buffer < 0)
        return;
    int root = la_buffer_root(p, buffer);
    la_buffer *b = &p->buffers[root];
    if (placed[root])
        return;
    placed[root] = true;
    b->residence = apart || (b->kept && !shared) ? LA_OWN : LA_FRAME;
    size_t bytes = la_buffer_bytes(p, root, capacity);
    if (b->residence == LA_FRAME) {
        b->at = la_region_take(frame, bytes);
        return;
    }
    b->at = p->own_bytes;
    p->own_bytes += (bytes + 63) / 64 * 64;
}

void la_program_place(const la_capacity *capacity, bool apart, bool shared, la_region *frame,
                      la_program *p) {
    bool placed[LA_BUFFERS_MAX] = {false};
    find_last_uses(p);
    placed[la_buffer_root(p, p->in)] = placed[la_buffer_root(p, p->out)] = true;
    for (int i = 0; i < p->n_ops; i++) {
        const la_op *op = &p->ops[i];
        place_buffer(p, op->out, capacity, apart, shared, placed, frame);
        for (int j = 0; j < LA_OP_KEEPS; j++)
            place_buffer(p, op->keep[j], capacity, apart, shared, placed, frame);
        for (int b = 0; b < p->n_buffers; b++)
            if (placed[b] && p->buffers[b].residence == LA_FRAME && p->buffers[b].last == i &&
                !p->buffers[b].kept)
                release(frame, p->buffers[b].at);
    }
    frame->n = 0;
}

/* The cotangents of a layer, from its output's down. */
typedef struct placing {
    const la_capacity *capacity;
    la_region *region;
    la_program *p;
    bool written[LA_BUFFERS_MAX];
} placing;

static void make(placing *c, int buffer) {
    int home = home_of(c->p, buffer);
    la_buffer *b = &c->p->buffers[home];
    size_t bytes = la_buffer_bytes(c->p, home, c->capacity) * (size_t)c->capacity->n_rhs;
    if (b->cot_at < 0)
        b->cot_at = (int64_t)la_region_take(c->region, bytes);
}

/* The cotangent of an input is that of the output, in its memory. */
static void inherit(placing *c, const la_op *op, int buffer) {
    la_buffer *to = &c->p->buffers[buffer];
    to->cot_at = c->p->buffers[op->out].cot_at;
    span_at(c->region, (size_t)to->cot_at)->uses++;
}

static void flow_back(placing *c, la_op *op, int j) {
    la_program *p = c->p;
    int in = op->in[j];
    la_flow flow = la_operations[op->kind].flow[j];
    if (in < 0 || !p->buffers[in].needed || flow == LA_FLOW_NONE || flow == LA_FLOW_APART)
        return;
    const la_buffer *out = &p->buffers[op->out];
    op->adds[j] = c->written[in];
    c->written[in] = true;
    if (flow == LA_FLOW_JOINT || op->adds[j])
        return;
    bool fits = home_of(p, in) == in && home_of(p, op->out) == op->out &&
                out->cols == p->buffers[in].cols && out->extent == p->buffers[in].extent;
    bool alone = span_at(c->region, (size_t)p->buffers[home_of(p, op->out)].cot_at)->uses == 1;
    if (flow == LA_FLOW_PASS || (flow == LA_FLOW_OVER && fits && alone))
        inherit(c, op, in);
    else
        make(c, in);
}

void la_program_place_cotangents(const la_capacity *capacity, la_region *region, size_t *at,
                                 la_program *p) {
    placing c = {.capacity = capacity, .region = region, .p = p};
    for (int b = 0; b < p->n_buffers; b++)
        p->buffers[b].cot_at = -1;
    p->buffers[p->out].cot_at = (int64_t)*at;
    for (int i = p->n_ops - 1; i >= 0; i--) {
        la_op *op = &p->ops[i];
        for (int j = 0; j < LA_OP_INPUTS && op->active; j++)
            flow_back(&c, op, j);
        if (p->buffers[op->out].cot_at >= 0 && home_of(p, op->out) == op->out)
            release(region, (size_t)p->buffers[op->out].cot_at);
    }
    *at = (size_t)p->buffers[p->in].cot_at;
}

/* The columns of m that the buffer is. */
static la_mat part_of(la_mat m, const la_buffer *b) {
    m.data = la_offset(m.data, (size_t)b->from * la_dtype_size(m.type));
    m.cols = b->cols;
    return m;
}

static la_mat value_of(const la_program *p, int buffer, const la_bases *bases) {
    const la_buffer *b = &p->buffers[buffer];
    if (b->of >= 0)
        return part_of(value_of(p, b->of, bases), b);
    void *given = buffer == p->in ? bases->in : buffer == p->out ? bases->out : NULL;
    void *data = b->residence == LA_OWN     ? la_offset(bases->own, b->at)
                 : b->residence == LA_FRAME ? la_offset(bases->frame, b->at)
                                            : given;
    return la_mat_of(b->f32 ? LA_F32 : bases->type, data, 0, b->cols);
}

static la_mat cotangent_of(const la_program *p, int buffer, const la_bases *bases) {
    const la_buffer *b = &p->buffers[buffer];
    if (b->joint)
        return part_of(cotangent_of(p, b->of, bases), b);
    void *data = b->cot_at < 0 ? NULL : la_offset(bases->cotangents, (size_t)b->cot_at);
    return la_mat_of(bases->type, data, 0, b->cols);
}

void la_program_bind(const la_program *p, const la_bases *bases, la_mat *values,
                     la_mat *cotangents) {
    for (int b = 0; b < p->n_buffers; b++) {
        values[b] = value_of(p, b, bases);
        cotangents[b] = cotangent_of(p, b, bases);
    }
}
