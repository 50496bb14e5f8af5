/* One transformer block, forward and backward through activations. The architecture's flags choose
 * where norms and gates are; nothing here knows an architecture by name.
 *
 *   post-norm (BERT)                     pre-norm (Llama)
 *   a   = in                             a   = norm_attention(in)
 *   sum = in + O attention(QKV a)        sum = in + O attention(QKV a)
 *   f   = norm_attention(sum)            f   = norm_ffn(sum)
 *   sum2 = f + FFN(f)                    sum2 = sum + FFN(f)
 *   out = norm_ffn(sum2)                 out = sum2 */
#include "model/run.h"

void la_linear_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                       const la_mat *residual, la_mat *state, la_mat *y) {
    be->ops->linear(be, x, &linear->w, linear->bias.data ? &linear->bias : NULL, residual, y);
    if (linear->site)
        linear->site->kind->forward(be, linear->site, x, state, y);
}

/* The last layer's queries, and all that follows them, are needed for the pooled tokens only. */
static bool is_pruned(const la_run *run, int64_t layer) {
    return run->pruned && layer == run->model->config.layers - 1;
}

static la_attention attention_of(const la_run *run, int64_t layer) {
    la_attention a = run->attention;
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

void la_block_forward(la_run *run, int64_t number) {
    const la_model *model = run->model;
    const la_config *config = &model->config;
    const la_arch *arch = config->arch;
    const la_layer *layer = &model->layers[number];
    la_layer_state *s = &run->layers[number];
    la_backend *be = model->be;
    const la_ops *ops = be->ops;
    bool pruned = is_pruned(run, number);
    la_attention attention = attention_of(run, number);
    if (!pruned)
        run->last_shared = number;

    if (arch->pre_norm)
        ops->norm(be, &layer->norm_attention, &s->in, s->stats_a, &s->a);
    if (pruned) {
        ops->gather(be, &s->a, run->pooled, &s->a_q);
        if (arch->pre_norm)
            ops->gather(be, &s->in, run->pooled, &s->in_q);
    }
    const la_mat *inputs[LA_SLOTS] = {
        [LA_SLOT_Q] = &s->a_q, [LA_SLOT_K] = &s->a, [LA_SLOT_V] = &s->a};
    la_mat *outputs[LA_SLOTS] = {[LA_SLOT_Q] = &s->q, [LA_SLOT_K] = &s->k, [LA_SLOT_V] = &s->v};
    for (int slot = LA_SLOT_Q; slot <= LA_SLOT_V; slot++)
        la_linear_forward(be, &layer->linear[slot], inputs[slot], NULL, &s->site[slot],
                          outputs[slot]);
    if (arch->rotary) {
        ops->rotate(be, config->heads, config->head_dim, config->head_dim, run->angles,
                    pruned ? run->pooled_at : run->positions, 1, 1, &s->q);
        ops->rotate(be, config->kv_heads, config->head_dim, config->head_dim, run->angles, run->positions, 1, 1,
                    &s->k);
    }
    ops->attention(be, &attention, &s->q, &s->k, &s->v, s->lse, &s->context);
    la_linear_forward(be, &layer->linear[LA_SLOT_O], &s->context, &s->in_q, &s->site[LA_SLOT_O],
                      &s->sum);
    ops->norm(be, arch->pre_norm ? &layer->norm_ffn : &layer->norm_attention, &s->sum, s->stats_f,
              &s->f);
    const la_linear *up = &layer->linear[LA_SLOT_UP];
    if (!arch->gated && !up->site) {
        ops->linear_activation(be, &s->f, &up->w, up->bias.data ? &up->bias : NULL,
                               config->activation, &s->up, &s->act);
    } else {
        la_linear_forward(be, up, &s->f, NULL, &s->site[LA_SLOT_UP], &s->up);
        if (arch->gated)
            la_linear_forward(be, &layer->linear[LA_SLOT_GATE], &s->f, NULL, &s->site[LA_SLOT_GATE],
                              &s->gate);
        ops->activation(be, config->activation, arch->gated ? &s->gate : &s->up,
                        arch->gated ? &s->up : NULL, &s->act);
    }
    la_linear_forward(be, &layer->linear[LA_SLOT_DOWN], &s->act, arch->pre_norm ? &s->sum : &s->f,
                      &s->site[LA_SLOT_DOWN], &s->sum2);
    if (!arch->pre_norm)
        ops->norm(be, &layer->norm_ffn, &s->sum2, s->stats_a, &s->out);
}

void la_linear_backward(la_run *run, const la_linear *linear, const la_mat *state, const la_mat *x,
                        const la_mat *x_at_g, bool per_row, const la_mat *g, float beta, la_mat *dx,
                        bool want_dx, const la_block_visitor *visitor) {
    la_backend *be = run->model->be;
    if (want_dx)
        be->ops->linear_backward(be, g, &linear->w, beta, dx);
    const la_site *site = linear->site;
    if (!site)
        return;
    bool wanted = run->model->blocks[site->blocks[0]].wanted;
    la_site_pass pass = {
        .io = {.x = x,
               .cu = per_row && x == x_at_g ? run->ones : run->cu,
               .x_at_g = x_at_g,
               .g = g,
               .cu_g = per_row ? run->ones : run->cu,
               .n_rows = run->n_rows,
               .n_rhs = run->n_rhs},
        .state = state,
        .state_all = la_mat_of(x->type, run->site_all.data, x->rows, site->state_cols),
        .state_g = la_mat_of(g->type, run->site_g.data, g->rows, site->state_cols),
        .dx = want_dx ? dx : NULL,
        .visitor = wanted ? visitor : NULL,
    };
    site->kind->backward(be, site, &pass);
}

void la_block_backward(la_run *run, int64_t number, const la_block_visitor *visitor) {
    /* only the layer's input was kept: what it computed from it is computed again */
    if (run->recompute && !is_pruned(run, number) && run->last_shared != number)
        la_block_forward(run, number);
    const la_model *model = run->model;
    const la_config *config = &model->config;
    const la_arch *arch = config->arch;
    const la_layer *layer = &model->layers[number];
    la_layer_state *s = &run->layers[number];
    la_backend *be = model->be;
    const la_ops *ops = be->ops;
    int64_t m = run->n_rhs, out_rows = m * s->q.rows, in_rows = m * s->in.rows;
    bool pruned = is_pruned(run, number), lowest = number == model->lowest_layer;
    la_stage last = lowest ? model->lowest_stage : LA_STAGE_QKV;
    la_attention attention = attention_of(run, number);
    la_mat g = sized(run->g, out_rows, config->hidden);
    la_mat d_f = sized(run->g2, out_rows, config->hidden);
    la_mat d_act = sized(run->dffn, out_rows, config->ffn);
    la_mat d_up = sized(run->dup, out_rows, config->ffn);

    /* g: of out -> of sum2 */
    if (!arch->pre_norm)
        ops->norm_backward(be, &layer->norm_ffn, &s->sum2, s->stats_a, m, &g, NULL, &g);
    la_linear_backward(run, &layer->linear[LA_SLOT_DOWN], &s->site[LA_SLOT_DOWN], &s->act, &s->act,
                       pruned, &g, 0, &d_act, last < LA_STAGE_FFN_OUT, visitor);
    if (last == LA_STAGE_FFN_OUT)
        return;
    ops->activation_backward(be, config->activation, arch->gated ? &s->gate : &s->up,
                             arch->gated ? &s->up : NULL, m, &d_act, &d_act,
                             arch->gated ? &d_up : NULL);
    bool more = last < LA_STAGE_FFN_IN;
    la_linear_backward(run, &layer->linear[LA_SLOT_UP], &s->site[LA_SLOT_UP], &s->f, &s->f, pruned,
                       arch->gated ? &d_up : &d_act, 0, &d_f, more, visitor);
    if (arch->gated)
        la_linear_backward(run, &layer->linear[LA_SLOT_GATE], &s->site[LA_SLOT_GATE], &s->f, &s->f,
                           pruned, &d_act, 1, &d_f, more, visitor);
    if (!more)
        return;
    /* g: of sum2 -> of sum */
    if (arch->pre_norm) {
        ops->norm_backward(be, &layer->norm_ffn, &s->sum, s->stats_f, m, &d_f, &g, &g);
    } else {
        ops->add(be, &d_f, &g);
        ops->norm_backward(be, &layer->norm_attention, &s->sum, s->stats_f, m, &g, NULL, &g);
    }
    la_mat d_context = sized(run->dctx, out_rows, s->context.cols);
    more = last < LA_STAGE_O;
    la_linear_backward(run, &layer->linear[LA_SLOT_O], &s->site[LA_SLOT_O], &s->context,
                       &s->context, pruned, &g, 0, &d_context, more, visitor);
    if (!more)
        return;
    la_mat d_q = sized(run->dq, out_rows, s->q.cols);
    la_mat d_k = sized(run->dk, in_rows, s->k.cols);
    la_mat d_v = sized(run->dv, in_rows, s->v.cols);
    bool need_qk = !lowest || layer->linear[LA_SLOT_Q].site || layer->linear[LA_SLOT_K].site;
    bool need_v = !lowest || layer->linear[LA_SLOT_V].site;
    ops->attention_backward(be, &attention, &s->q, &s->k, &s->v, s->lse, &s->context, m, &d_context,
                            need_qk ? &d_q : NULL, need_qk ? &d_k : NULL, need_v ? &d_v : NULL);
    if (arch->rotary && need_qk) {
        ops->rotate(be, config->heads, config->head_dim, config->head_dim, run->angles,
                    pruned ? run->pooled_at : run->positions, m, -1, &d_q);
        ops->rotate(be, config->kv_heads, config->head_dim, config->head_dim, run->angles, run->positions, m, -1,
                    &d_k);
    }
    /* cotangent of a: from k and v over all tokens, from q over the queries */
    la_mat d_a = sized(run->g2, in_rows, config->hidden);
    la_mat d_aq = d_a;
    more = !lowest;
    if (need_v)
        la_linear_backward(run, &layer->linear[LA_SLOT_V], &s->site[LA_SLOT_V], &s->a, &s->a, false,
                           &d_v, 0, &d_a, more, visitor);
    if (need_qk) {
        la_linear_backward(run, &layer->linear[LA_SLOT_K], &s->site[LA_SLOT_K], &s->a, &s->a, false,
                           &d_k, 1, &d_a, more, visitor);
        /* d_context has been read: its place serves for the pooled tokens' cotangents */
        if (pruned)
            d_aq = sized(run->dctx, out_rows, config->hidden);
        la_linear_backward(run, &layer->linear[LA_SLOT_Q], &s->site[LA_SLOT_Q], &s->a, &s->a_q,
                           pruned, &d_q, pruned ? 0 : 1, &d_aq, more, visitor);
    }
    if (!more)
        return;
    if (pruned)
        ops->scatter(be, &d_aq, m, run->pooled, true, &d_a);
    /* g: of sum -> of in; the residual of the pooled tokens goes back to their places */
    la_mat residual = g;
    la_mat all = sized(run->g, in_rows, config->hidden);
    if (pruned) {
        residual = sized(run->dffn, in_rows, config->hidden);
        ops->scatter(be, &g, m, run->pooled, false, &residual);
    }
    if (arch->pre_norm) {
        ops->norm_backward(be, &layer->norm_attention, &s->in, s->stats_a, m, &d_a, &residual,
                           &all);
    } else {
        ops->add(be, &residual, &d_a);
        la_mat keep = run->g;
        run->g = run->g2;
        run->g2 = keep;
    }
}
