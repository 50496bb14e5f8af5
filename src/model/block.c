/* One transformer block, forward and backward through activations. The architecture's flags choose
 * where norms and gates are; nothing here knows an architecture by name.
 *
 *   post-norm                            pre-norm
 *   a   = in                             a   = norm_attention(in)
 *   sum = in + O attention(QKV a)        sum = in + O attention(QKV a)
 *   f   = norm_attention(sum)            f   = norm_ffn(sum)
 *   sum2 = f + FFN(f)                    sum2 = sum + FFN(f)
 *   out = norm_ffn(sum2)                 out = sum2
 *
 * Some have more norms: of each head's q and k, and of what attention and FFN add to the residual.
 * Fused projections give q, k, v (or gate, up) as columns of one matrix. */
#include "model/run.h"

void la_linear_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                       const la_mat *residual, la_mat *state, la_mat *y) {
    if (linear->site)
        linear->site->kind->forward(be, linear, x, residual, state, y);
    else
        be->ops->linear(be, x, &linear->w, linear->bias.data ? &linear->bias : NULL, residual, y);
}

/* The last layer's queries, and all that follows them, are needed for the pooled tokens only. */
static bool is_pruned(const la_run *run, int64_t layer) {
    return run->pruned && layer == run->model->config.layers - 1;
}

static la_attention attention_of(const la_run *run, int64_t layer) {
    const la_layer_plan *plan = &run->model->config.plan[layer];
    la_attention a = run->attention;
    a.before = plan->before;
    a.after = plan->after;
    a.scale = (float)plan->score_scale;
    if (is_pruned(run, layer)) {
        a.cu_q = run->ones;
        a.q_at = run->pooled_at;
        a.max_queries = 1;
    }
    return a;
}

/* A cotangent's buffer as a matrix of this batch. */
static la_mat sized(la_mat buffer, int64_t rows, int64_t cols) {
    return la_mat_of(buffer.type, buffer.data, rows, cols);
}

/* [T, heads * head_dim] as one row a head; m has no gaps between rows */
static la_mat by_head(const la_mat *m, int64_t head_dim) {
    return la_mat_of(m->type, m->data, m->rows * (m->cols / head_dim), head_dim);
}

static void norm_heads(la_backend *be, const la_norm *norm, int64_t head_dim, const la_mat *raw,
                       float *stats, la_mat *normed) {
    if (!norm->weight)
        return;
    la_mat from = by_head(raw, head_dim), to = by_head(normed, head_dim);
    be->ops->norm(be, norm, &from, stats, &to);
}

/* a -> q, k, v */
static void forward_qkv(la_run *run, int64_t number) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    const la_layer *layer = &model->layers[number];
    la_layer_state *s = &run->layers[number];
    la_backend *be = model->be;
    const la_linear *linear = layer->linear;
    if (linear[LA_SLOT_QKV].w.data) {
        la_linear_forward(be, &linear[LA_SLOT_QKV], &s->a, NULL, &s->site[LA_SLOT_QKV], &s->qkv);
        la_mat all = la_mat_columns(&s->qkv, 0, s->q.cols);
        if (is_pruned(run, number))
            be->ops->gather(be, &all, run->pooled, &s->q);
    } else {
        la_linear_forward(be, &linear[LA_SLOT_Q], &s->a_q, NULL, &s->site[LA_SLOT_Q], &s->q_raw);
        la_linear_forward(be, &linear[LA_SLOT_K], &s->a, NULL, &s->site[LA_SLOT_K], &s->k_raw);
        la_linear_forward(be, &linear[LA_SLOT_V], &s->a, NULL, &s->site[LA_SLOT_V], &s->v);
        norm_heads(be, &layer->norm_q, config->head_dim, &s->q_raw, s->stats_q, &s->q);
        norm_heads(be, &layer->norm_k, config->head_dim, &s->k_raw, s->stats_k, &s->k);
    }
    la_run_rotate(run, number, true, 1, 1, &s->q);
    la_run_rotate(run, number, false, 1, 1, &s->k);
}

/* f -> act */
static void forward_gates(la_run *run, int64_t number) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    const la_linear *linear = model->layers[number].linear, *up = &linear[LA_SLOT_UP];
    la_layer_state *s = &run->layers[number];
    la_backend *be = model->be;
    bool gated = config->arch->gated;
    if (linear[LA_SLOT_GATE_UP].w.data) {
        la_linear_forward(be, &linear[LA_SLOT_GATE_UP], &s->f, NULL, &s->site[LA_SLOT_GATE_UP],
                          &s->gate_up);
    } else if (!gated && !up->site) {
        be->ops->linear_activation(be, &s->f, &up->w, up->bias.data ? &up->bias : NULL,
                                   config->activation, &s->up, &s->act);
        return;
    } else {
        la_linear_forward(be, up, &s->f, NULL, &s->site[LA_SLOT_UP], &s->up);
        if (gated)
            la_linear_forward(be, &linear[LA_SLOT_GATE], &s->f, NULL, &s->site[LA_SLOT_GATE],
                              &s->gate);
    }
    be->ops->activation(be, config->activation, gated ? &s->gate : &s->up, gated ? &s->up : NULL,
                        &s->act);
}

/* to = residual + norm(projection of x), the norm where there is one; between: before it */
static void forward_residual(la_run *run, const la_linear *linear, const la_norm *norm,
                             const la_mat *x, la_mat *state, const la_mat *residual,
                             la_mat *between, float *stats, la_mat *to) {
    la_backend *be = run->model->be;
    if (!norm->weight) {
        la_linear_forward(be, linear, x, residual, state, to);
        return;
    }
    la_linear_forward(be, linear, x, NULL, state, between);
    be->ops->norm(be, norm, between, stats, to);
    be->ops->add(be, residual, to);
}

/* The same with a bottleneck adapter behind attention (place 0) or FFN (1), which reads one of its
 * parts. */
static void forward_bottleneck(la_run *run, int64_t number, int place, const la_mat *x,
                               const la_mat *residual, la_mat *to) {
    const la_layer *layer = &run->model->layers[number];
    const la_bottleneck *e = layer->bottleneck[place];
    la_layer_state *s = &run->layers[number];
    la_bottleneck_state *state = &s->bottleneck[place];
    la_backend *be = run->model->be;
    la_slot slot = place ? LA_SLOT_DOWN : LA_SLOT_O;
    la_mat spare = run->spare;
    spare.rows = to->rows;
    la_linear_forward(be, &layer->linear[slot], x,
                      e->input == LA_BOTTLENECK_ADDED ? NULL : residual, &s->site[slot],
                      e->input == LA_BOTTLENECK_NORMED ? &state->before : to);
    la_bottleneck_forward(be, e, place ? &layer->norm_ffn : &layer->norm_attention, residual, state,
                          &spare, to);
}

void la_block_forward(la_run *run, int64_t number) {
    const la_model *model = run->model;
    bool pre_norm = model->config.arch->pre_norm;
    const la_layer *layer = &model->layers[number];
    la_layer_state *s = &run->layers[number];
    la_backend *be = model->be;
    const la_ops *ops = be->ops;
    bool pruned = is_pruned(run, number);
    la_attention attention = attention_of(run, number);
    if (!pruned)
        run->last_shared = number;

    if (pre_norm && layer->norm_attention.weight)
        ops->norm(be, &layer->norm_attention, &s->in, s->stats_a, &s->a);
    if (pruned) {
        ops->gather(be, &s->a, run->pooled, &s->a_q);
        if (pre_norm)
            ops->gather(be, &s->in, run->pooled, &s->in_q);
    }
    forward_qkv(run, number);
    la_relative_forward(run, number);
    la_relative_attend(run, number, false, &attention);
    const la_mat *k = &s->k, *v = &s->v;
    if (model->prompt.of_layers) {
        la_prompt_extend(model, &run->prompt, number, 0, &s->k, &s->k_all);
        la_prompt_extend(model, &run->prompt, number, 1, &s->v, &s->v_all);
        k = &s->k_all;
        v = &s->v_all;
    }
    ops->attention(be, &attention, &s->q, k, v, s->lse, &s->context);
    if (layer->bottleneck[0])
        forward_bottleneck(run, number, 0, &s->context, &s->in_q, &s->sum);
    else
        forward_residual(run, &layer->linear[LA_SLOT_O], &layer->norm_attention_out, &s->context,
                         &s->site[LA_SLOT_O], &s->in_q, &s->attended, s->stats_attended, &s->sum);
    ops->norm(be, pre_norm ? &layer->norm_ffn : &layer->norm_attention, &s->sum, s->stats_f, &s->f);
    forward_gates(run, number);
    if (layer->bottleneck[1])
        forward_bottleneck(run, number, 1, &s->act, pre_norm ? &s->sum : &s->f, &s->sum2);
    else
        forward_residual(run, &layer->linear[LA_SLOT_DOWN], &layer->norm_ffn_out, &s->act,
                         &s->site[LA_SLOT_DOWN], pre_norm ? &s->sum : &s->f, &s->added,
                         s->stats_added, &s->sum2);
    if (!pre_norm)
        ops->norm(be, &layer->norm_ffn, &s->sum2, s->stats_a, &s->out);
}

void la_linear_backward(la_run *run, const la_linear *linear, const la_mat *state, const la_mat *x,
                        const la_mat *x_at_g, const int32_t *cu, bool per_row, const la_mat *g,
                        float beta, la_mat *dx, bool want_dx, const la_block_visitor *visitor) {
    la_backend *be = run->model->be;
    const la_site *site = linear->site;
    if (!site) {
        if (want_dx)
            be->ops->linear_backward(be, g, &linear->w, beta, dx);
        return;
    }
    bool wanted = la_linear_wanted(run->model, linear);
    la_site_pass pass = {
        .io = {.x = x,
               .cu = per_row && x == x_at_g ? run->ones : cu,
               .x_at_g = x_at_g,
               .g = g,
               .cu_g = per_row ? run->ones : cu,
               .n_rows = run->n_rows,
               .n_rhs = run->n_rhs},
        .state = state,
        .state_all = la_mat_of(x->type, run->site_all.data, x->rows, site->state_cols),
        .work = la_mat_of(g->type, run->site_work.data, g->rows, site->work_cols),
        .beta = beta,
        .dx = want_dx ? dx : NULL,
        .visitor = wanted ? visitor : NULL,
    };
    site->kind->backward(be, linear, &pass);
}

static void norm_heads_backward(la_backend *be, const la_norm *norm, int64_t head_dim,
                                const la_mat *raw, const float *stats, int64_t n_rhs, la_mat *d) {
    if (!norm->weight)
        return;
    la_mat from = by_head(raw, head_dim), g = by_head(d, head_dim);
    be->ops->norm_backward(be, norm, &from, stats, n_rhs, &g, NULL, &g);
}

/* Backward of one block: what its steps share. */
typedef struct pass {
    la_run *run;
    const la_layer *layer;
    la_layer_state *s;
    int64_t number, n_rhs, in_rows, out_rows;
    bool pruned, lowest;
    la_stage last; /* the first stage that has a wanted block */
    const la_block_visitor *visitor;
} pass;

/* g of what a projection added to the residual, through its norm where it has one; spare is
 * written then */
static la_mat residual_backward(const pass *p, const la_norm *norm, const la_mat *between,
                                const float *stats, const la_mat *g, la_mat spare) {
    la_backend *be = p->run->model->be;
    if (!norm->weight)
        return *g;
    la_mat d = sized(spare, g->rows, g->cols);
    be->ops->norm_backward(be, norm, between, stats, p->n_rhs, g, NULL, &d);
    return d;
}

/* g of a sum with a bottleneck adapter: *added becomes that of what attention or FFN adds. Of
 * RESIDUAL, what is left for the residual comes back in *later, else *later has no data. */
static void backward_bottleneck(const pass *p, int place, la_mat *g, la_mat *added, la_mat *later) {
    la_run *run = p->run;
    const la_bottleneck *e = p->layer->bottleneck[place];
    la_backend *be = run->model->be;
    *added = *g;
    *later = (la_mat){0};
    if (!e)
        return;
    bool wanted = run->model->blocks[e->blocks[0]].wanted;
    la_bottleneck_pass step = {
        .io = {.cu = p->pruned ? run->ones : run->cu,
               .g = g,
               .cu_g = p->pruned ? run->ones : run->cu,
               .n_rows = run->n_rows,
               .n_rhs = p->n_rhs},
        .norm = place ? &p->layer->norm_ffn : &p->layer->norm_attention,
        .narrow = la_mat_of(g->type, run->site_work.data, g->rows, e->down.rows),
        .visitor = wanted ? p->visitor : NULL,
    };
    la_mat dz = sized(run->bottleneck_g, g->rows, g->cols);
    la_bottleneck_backward(be, e, &p->s->bottleneck[place], &step, &dz);
    if (e->input == LA_BOTTLENECK_ADDED) {
        be->ops->add(be, g, &dz);
        *added = dz;
    } else if (e->input == LA_BOTTLENECK_RESIDUAL) {
        *later = dz;
    } else {
        be->ops->add(be, &dz, g);
    }
}

/* g of sum2 -> d_f, through the FFN; false: nothing below is wanted */
static bool backward_ffn(const pass *p, la_mat *g, la_mat *d_f) {
    la_run *run = p->run;
    const la_config *config = &run->model->config;
    const la_linear *linear = p->layer->linear;
    la_layer_state *s = p->s;
    la_backend *be = run->model->be;
    bool gated = config->arch->gated, fused = linear[LA_SLOT_GATE_UP].w.data != NULL;
    la_mat d_act = sized(run->dffn, p->out_rows, config->ffn), d_gate = d_act;
    la_mat d_up = sized(run->dup, p->out_rows, config->ffn);
    la_mat d_gate_up = sized(run->dgate_up, p->out_rows, 2 * config->ffn);
    if (fused) {
        d_gate = la_mat_columns(&d_gate_up, 0, config->ffn);
        d_up = la_mat_columns(&d_gate_up, config->ffn, config->ffn);
    }
    la_mat direct, later;
    backward_bottleneck(p, 1, g, &direct, &later);
    la_mat d_added =
        residual_backward(p, &p->layer->norm_ffn_out, &s->added, s->stats_added, &direct, run->g2);
    la_linear_backward(run, &linear[LA_SLOT_DOWN], &s->site[LA_SLOT_DOWN], &s->act, &s->act,
                       run->cu, p->pruned, &d_added, 0, &d_act, p->last < LA_STAGE_FFN_OUT,
                       p->visitor);
    if (later.data)
        be->ops->add(be, &later, g);
    if (p->last == LA_STAGE_FFN_OUT)
        return false;
    be->ops->activation_backward(be, config->activation, gated ? &s->gate : &s->up,
                                 gated ? &s->up : NULL, p->n_rhs, &d_act, &d_gate,
                                 gated ? &d_up : NULL);
    bool more = p->last < LA_STAGE_FFN_IN;
    if (fused) {
        la_linear_backward(run, &linear[LA_SLOT_GATE_UP], &s->site[LA_SLOT_GATE_UP], &s->f, &s->f,
                           run->cu, p->pruned, &d_gate_up, 0, d_f, more, p->visitor);
        return more;
    }
    la_linear_backward(run, &linear[LA_SLOT_UP], &s->site[LA_SLOT_UP], &s->f, &s->f, run->cu,
                       p->pruned, gated ? &d_up : &d_gate, 0, d_f, more, p->visitor);
    if (gated)
        la_linear_backward(run, &linear[LA_SLOT_GATE], &s->site[LA_SLOT_GATE], &s->f, &s->f,
                           run->cu, p->pruned, &d_gate, 1, d_f, more, p->visitor);
    return more;
}

/* Whether the projection of k (or q) serves for the lines of distances as well: its blocks are then
 * visited with them. */
static bool reads_lines(const pass *p, bool of_key) {
    const la_distances *d = &p->run->model->config.distances;
    return d->span && d->shared && (of_key ? d->c2p : d->p2c);
}

static void backward_attention(const pass *p, const la_mat *k, const la_mat *v,
                               const la_mat *d_context, la_mat *d_q, la_mat *d_k, la_mat *d_v) {
    la_backend *be = p->run->model->be;
    const la_layer_state *s = p->s;
    la_attention attention = attention_of(p->run, p->number);
    la_relative_attend(p->run, p->number, true, &attention);
    be->ops->attention_backward(be, &attention, &s->q, k, v, s->lse, &s->context, p->n_rhs,
                                d_context, d_q, d_k, d_v);
}

/* The same where keys and values of a prefix come before the row's own. */
static void prefix_backward(const pass *p, const la_mat *d_context, la_mat *d_q, la_mat *d_k,
                            la_mat *d_v) {
    la_run *run = p->run;
    la_prompt_run *prompt = &run->prompt;
    const la_model *model = run->model;
    la_mat q = sized(run->dq, p->out_rows, p->s->q.cols);
    la_mat k = sized(prompt->dk, p->n_rhs * prompt->n_keys, p->s->k.cols);
    la_mat v = sized(prompt->dv, p->n_rhs * prompt->n_keys, p->s->k.cols);
    backward_attention(p, &p->s->k_all, &p->s->v_all, d_context, d_q ? d_q : &q, &k, &v);
    la_prompt_extend_backward(model, prompt, p->number, 0, p->n_rhs, &k, d_k, p->visitor);
    la_prompt_extend_backward(model, prompt, p->number, 1, p->n_rhs, &v, d_v, p->visitor);
}

/* d_context -> d_a[n_rhs T, d], through attention and its three projections; false: nothing below
 * is wanted */
static bool backward_qkv(const pass *p, const la_mat *d_context, la_mat *d_a) {
    la_run *run = p->run;
    const la_config *config = &run->model->config;
    const la_linear *linear = p->layer->linear;
    la_layer_state *s = p->s;
    la_backend *be = run->model->be;
    const la_ops *ops = be->ops;
    int64_t wide = s->q.cols, narrow = s->k.cols;
    bool fused = linear[LA_SLOT_QKV].w.data != NULL, more = !p->lowest;
    la_mat d_qkv = sized(run->dqkv, p->in_rows, wide + 2 * narrow);
    la_mat d_q_all = la_mat_columns(&d_qkv, 0, wide);
    la_mat d_q = fused && !p->pruned ? d_q_all : sized(run->dq, p->out_rows, wide);
    la_mat d_k = fused ? la_mat_columns(&d_qkv, wide, narrow) : sized(run->dk, p->in_rows, narrow);
    la_mat d_v =
        fused ? la_mat_columns(&d_qkv, wide + narrow, narrow) : sized(run->dv, p->in_rows, narrow);
    bool lines = la_relative_adapted(run, p->number);
    bool need_qk = more || fused || lines || linear[LA_SLOT_Q].site || linear[LA_SLOT_K].site;
    bool need_v = more || fused || linear[LA_SLOT_V].site;
    if (run->model->prompt.of_layers)
        prefix_backward(p, d_context, need_qk ? &d_q : NULL, need_qk ? &d_k : NULL,
                        need_v ? &d_v : NULL);
    else
        backward_attention(p, &s->k, &s->v, d_context, need_qk ? &d_q : NULL, need_qk ? &d_k : NULL,
                           need_v ? &d_v : NULL);
    if (need_qk) {
        la_run_rotate(run, p->number, true, p->n_rhs, -1, &d_q);
        la_run_rotate(run, p->number, false, p->n_rhs, -1, &d_k);
        norm_heads_backward(be, &p->layer->norm_q, config->head_dim, &s->q_raw, s->stats_q,
                            p->n_rhs, &d_q);
        norm_heads_backward(be, &p->layer->norm_k, config->head_dim, &s->k_raw, s->stats_k,
                            p->n_rhs, &d_k);
    }
    if (fused) {
        if (p->pruned)
            ops->scatter(be, &d_q, p->n_rhs, run->pooled, false, &d_q_all);
        la_linear_backward(run, &linear[LA_SLOT_QKV], &s->site[LA_SLOT_QKV], &s->a, &s->a, run->cu,
                           false, &d_qkv, 0, d_a, more, p->visitor);
        return more;
    }
    /* blocks that read lines of distances see them beside the tokens; the rest is as for all */
    if (lines)
        la_relative_backward(run, p->number, &d_q, &d_k, p->visitor);
    la_mat d_aq = *d_a;
    if (need_v)
        la_linear_backward(run, &linear[LA_SLOT_V], &s->site[LA_SLOT_V], &s->a, &s->a, run->cu,
                           false, &d_v, 0, d_a, more, p->visitor);
    if (need_qk) {
        la_linear_backward(run, &linear[LA_SLOT_K], &s->site[LA_SLOT_K], &s->a, &s->a, run->cu,
                           false, &d_k, 1, d_a, more, reads_lines(p, true) ? NULL : p->visitor);
        /* d_context has been read: its place serves for the pooled tokens' cotangents */
        if (p->pruned)
            d_aq = sized(run->dctx, p->out_rows, config->hidden);
        la_linear_backward(run, &linear[LA_SLOT_Q], &s->site[LA_SLOT_Q], &s->a, &s->a_q, run->cu,
                           p->pruned, &d_q, p->pruned ? 0 : 1, &d_aq, more,
                           reads_lines(p, false) ? NULL : p->visitor);
    }
    if (more && p->pruned)
        ops->scatter(be, &d_aq, p->n_rhs, run->pooled, true, d_a);
    return more;
}

void la_block_backward(la_run *run, int64_t number, const la_block_visitor *visitor) {
    /* only the layer's input was kept: what it computed from it is computed again */
    if (run->recompute && !is_pruned(run, number) && run->last_shared != number)
        la_block_forward(run, number);
    const la_model *model = run->model;
    const la_config *config = &model->config;
    bool pre_norm = config->arch->pre_norm;
    const la_layer *layer = &model->layers[number];
    la_layer_state *s = &run->layers[number];
    la_backend *be = model->be;
    const la_ops *ops = be->ops;
    int64_t m = run->n_rhs;
    pass p = {.run = run,
              .layer = layer,
              .s = s,
              .number = number,
              .n_rhs = m,
              .in_rows = m * s->in.rows,
              .out_rows = m * s->q.rows,
              .pruned = is_pruned(run, number),
              .lowest = number == model->lowest_layer,
              .visitor = visitor};
    p.last = p.lowest ? model->lowest_stage : LA_STAGE_QKV;
    la_mat g = sized(run->g, p.out_rows, config->hidden);
    la_mat d_f = sized(run->g2, p.out_rows, config->hidden);

    /* g: of out -> of sum2 */
    if (!pre_norm)
        ops->norm_backward(be, &layer->norm_ffn, &s->sum2, s->stats_a, m, &g, NULL, &g);
    if (!backward_ffn(&p, &g, &d_f))
        return;
    /* g: of sum2 -> of sum */
    if (pre_norm) {
        ops->norm_backward(be, &layer->norm_ffn, &s->sum, s->stats_f, m, &d_f, &g, &g);
    } else {
        ops->add(be, &d_f, &g);
        ops->norm_backward(be, &layer->norm_attention, &s->sum, s->stats_f, m, &g, NULL, &g);
    }
    la_mat d_context = sized(run->dctx, p.out_rows, s->context.cols);
    bool more = p.last < LA_STAGE_O;
    la_mat direct, later;
    backward_bottleneck(&p, 0, &g, &direct, &later);
    la_mat d_attended = residual_backward(&p, &layer->norm_attention_out, &s->attended,
                                          s->stats_attended, &direct, run->g2);
    la_linear_backward(run, &layer->linear[LA_SLOT_O], &s->site[LA_SLOT_O], &s->context,
                       &s->context, run->cu, p.pruned, &d_attended, 0, &d_context, more, visitor);
    if (later.data)
        ops->add(be, &later, &g);
    la_mat d_a = sized(run->g2, p.in_rows, config->hidden);
    if (!more || !backward_qkv(&p, &d_context, &d_a))
        return;
    /* g: of sum -> of in; the residual of the pooled tokens goes back to their places */
    la_mat residual = g;
    la_mat all = sized(run->g, p.in_rows, config->hidden);
    if (p.pruned) {
        residual = sized(run->dffn, p.in_rows, config->hidden);
        ops->scatter(be, &g, m, run->pooled, false, &residual);
    }
    if (pre_norm && layer->norm_attention.weight) {
        ops->norm_backward(be, &layer->norm_attention, &s->in, s->stats_a, m, &d_a, &residual,
                           &all);
    } else {
        ops->add(be, &residual, &d_a);
        la_mat keep = run->g;
        run->g = run->g2;
        run->g2 = keep;
    }
}
