#include "pipeline/gradient.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

/* Sums of a worker. */
typedef struct part {
    la_blocks blocks;
    la_weights *weights;
    float *sums;               /* [width] on the device */
    float *host;               /* [width] */
    float *logits, *cotangent; /* [rows, C] */
    int64_t *offset;           /* [blocks] of each in the sums */
} part;

struct la_gradient {
    la_session *session;
    int64_t width, n_classes;
    part parts[LA_DEVICES_MAX];
    /* of the run at hand */
    const la_row_job *job;
    bool wanted;  /* the gradient too */
    double *each; /* [rows of the run] log likelihoods */
    int64_t n_each, from;
};

static la_status open_part(la_gradient *g, int w, la_params params, la_error *err) {
    la_worker *worker = &g->session->workers[w];
    la_model *model = &worker->model;
    part *p = &g->parts[w];
    LA_TRY(la_model_blocks(model, params, &p->blocks, err));
    bool *marked = la_alloc((size_t)model->n_blocks, sizeof *marked, err);
    p->offset = la_alloc((size_t)p->blocks.n, sizeof *p->offset, err);
    for (int64_t b = 0; marked && b < model->n_blocks; b++)
        marked[b] = p->blocks.index[b] >= 0;
    la_status status = err->status;
    if (status == LA_OK)
        status = la_weights_open(model, marked, &p->weights, err);
    free(marked);
    LA_TRY(status);
    g->width = 0;
    for (int64_t b = 0; b < p->blocks.n; b++) {
        p->offset[b] = g->width;
        g->width += p->blocks.list[b].out * p->blocks.list[b].in;
    }
    size_t rows = (size_t)(g->session->batch_rows * g->n_classes), width = (size_t)g->width;
    p->logits = la_alloc(rows, sizeof *p->logits, err);
    p->cotangent = la_alloc(rows, sizeof *p->cotangent, err);
    p->host = la_alloc(width, sizeof *p->host, err);
    LA_TRY(err->status);
    p->sums = worker->backend.ops->alloc(&worker->backend, width * sizeof *p->sums);
    return p->sums ? LA_OK
                   : la_fail(err, LA_RESOURCE, "out of memory on %s for %zu bytes of gradients",
                             worker->backend.device, width * sizeof *p->sums);
}

la_status la_gradient_open(la_session *session, la_params params, la_gradient **out,
                           la_error *err) {
    *out = NULL;
    la_gradient *g = la_alloc(1, sizeof *g, err);
    if (!g)
        return err->status;
    g->session = session;
    g->n_classes = session->workers[0].model.n_classes;
    for (int w = 0; w < session->n_workers && err->status == LA_OK; w++)
        (void)open_part(g, w, params, err);
    if (err->status != LA_OK) {
        la_gradient_close(g);
        return err->status;
    }
    *out = g;
    return LA_OK;
}

void la_gradient_close(la_gradient *g) {
    if (!g)
        return;
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        part *p = &g->parts[w];
        la_backend *be = &g->session->workers[w].backend;
        la_weights_close(p->weights);
        la_blocks_close(&p->blocks);
        if (p->sums)
            be->ops->release(be, p->sums);
        free(p->host);
        free(p->logits);
        free(p->cotangent);
        free(p->offset);
    }
    free(g->each);
    free(g);
}

int64_t la_gradient_width(const la_gradient *g) {
    return g->width;
}

la_status la_gradient_read(la_gradient *g, float *theta, la_error *err) {
    return la_weights_read(g->parts[0].weights, theta, err);
}

void la_gradient_put(la_gradient *g, const float *theta) {
    for (int w = 0; w < g->session->n_workers; w++)
        la_weights_put(g->parts[w].weights, theta);
}

/* sums[out, in] += g^T x */
static void visit(void *user, int64_t number, const la_block_io *io) {
    const part *p = user;
    la_backend *be = p->blocks.be;
    int64_t own = p->blocks.index[number];
    if (own < 0)
        return;
    const la_block *block = &p->blocks.list[own];
    la_mat sum = la_mat_f32(p->sums + p->offset[own], block->out, block->in);
    be->ops->gemm(be, true, false, io->g_scale, io->g, io->x_at_g, 1, &sum);
}

static la_status run_batch(void *user, int w, const la_batch *batch, int64_t first, la_error *err) {
    la_gradient *g = user;
    part *p = &g->parts[w];
    la_run *run = &g->session->workers[w].run;
    const la_likelihood *likelihood = g->session->workers[w].model.likelihood;
    const la_row_set *set = g->job->set;
    int64_t c = g->n_classes;
    LA_TRY(la_run_forward(run, batch, p->logits, err));
    for (int64_t i = 0; i < batch->n_rows; i++) {
        la_label label = la_label_list_at(&set->labels, la_row_at(g->job, first + i));
        g->each[first + i - g->from] = likelihood->log_likelihood(c, p->logits + i * c, label);
        if (g->wanted)
            likelihood->gradient(c, p->logits + i * c, label, p->cotangent + i * c);
    }
    la_block_visitor visitor = {visit, p};
    return g->wanted ? la_run_backward(run, p->cotangent, &visitor, err) : LA_OK;
}

/* out = the workers' sums, in their order */
static la_status read_sums(la_gradient *g, float *out, la_error *err) {
    memset(out, 0, (size_t)g->width * sizeof *out);
    for (int w = 0; w < g->session->n_workers; w++) {
        const part *p = &g->parts[w];
        la_backend *be = &g->session->workers[w].backend;
        be->ops->download(be, p->host, p->sums, (size_t)g->width * sizeof *p->host);
        LA_TRY(be->ops->sync(be, err));
        for (int64_t i = 0; i < g->width; i++)
            out[i] += p->host[i];
    }
    return LA_OK;
}

la_status la_gradient_run(la_gradient *g, const la_row_job *job, int64_t from, int64_t to,
                          double *sum, float *out, la_error *err) {
    la_row_pass pass = {.from = from, .to = to, .stage = "train", .batch = run_batch, .user = g};
    if (to - from > g->n_each) {
        free(g->each);
        g->n_each = 0;
        g->each = la_alloc((size_t)(to - from), sizeof *g->each, err);
        if (!g->each)
            return err->status;
        g->n_each = to - from;
    }
    g->job = job;
    g->wanted = out != NULL;
    g->from = from;
    for (int w = 0; out && w < g->session->n_workers; w++) {
        la_backend *be = &g->session->workers[w].backend;
        be->ops->zero(be, g->parts[w].sums, (size_t)g->width * sizeof(float));
    }
    LA_TRY(la_row_set_run(g->session, job, &pass, err));
    *sum = 0;
    for (int64_t i = 0; i < to - from; i++)
        *sum += g->each[i];
    return out ? read_sums(g, out, err) : LA_OK;
}
