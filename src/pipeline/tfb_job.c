#include "pipeline/tfb_job.h"
#include "base/machine.h"
#include "likelihood/softmax_sum.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A site's matrices A and B within a network. */
typedef struct factors {
    const la_site *site;
    int64_t rank;
    int64_t a, b; /* first number */
    int64_t d;    /* first singular value */
} factors;

typedef struct tfb {
    la_session *session;
    const la_row_job *rows;
    int64_t n_classes;
    la_weights *weights[LA_DEVICES_MAX];
    int64_t n_sites, width;
    factors *sites;
    double *d;      /* singular values, site by site */
    float *centre;  /* [width] B' and A' without noise */
    float *network; /* [width] the one at hand */
    float *logits;  /* [n, C] of it */
    double *probs;  /* [n, C] sums over networks, then means */
    const la_tfb_options *options;
    int64_t *labels; /* [n] of the search */
} tfb;

/* ---- opening ---- */

bool la_tfb_possible(const la_model *model) {
    if (!model->adapter.kind->low_rank || model->adapter.next)
        return false;
    bool any = false;
    for (int64_t i = 0; i < model->config.layers; i++)
        for (int slot = 0; slot < LA_SLOTS; slot++)
            any |= model->layers[i].linear[slot].site != NULL;
    for (int i = 0; i < model->n_head; i++)
        any |= model->head[i].linear.site != NULL;
    return any;
}

/* Notes a projection's site; its blocks begin at offset[block] of a network. */
static void add_site(tfb *t, const la_linear *linear, const int64_t *offset, int64_t *n_values) {
    const la_site *site = linear->site;
    if (!site)
        return;
    const la_parameter *a = &site->parameters[0], *b = &site->parameters[1];
    int64_t rank = a->trained.out;
    t->sites[t->n_sites++] = (factors){
        .site = site, .rank = rank, .a = offset[a->block], .b = offset[b->block], .d = *n_values};
    *n_values += rank;
}

static la_status list_sites(tfb *t, const bool *marked, la_error *err) {
    const la_model *model = &t->session->workers[0].model;
    int64_t n_values = 0;
    int64_t *offset = la_alloc((size_t)model->n_blocks, sizeof *offset, err);
    t->sites = la_alloc((size_t)model->n_blocks, sizeof *t->sites, err);
    if (err->status == LA_OK) {
        for (int64_t b = 0; b < model->n_blocks; b++) {
            offset[b] = t->width;
            if (marked[b])
                t->width += model->blocks[b].out * model->blocks[b].in;
        }
        for (int64_t i = 0; i < model->config.layers; i++)
            for (int slot = 0; slot < LA_SLOTS; slot++)
                add_site(t, &model->layers[i].linear[slot], offset, &n_values);
        for (int i = 0; i < model->n_head; i++)
            add_site(t, &model->head[i].linear, offset, &n_values);
        t->d = la_alloc((size_t)n_values, sizeof *t->d, err);
    }
    free(offset);
    if (err->status == LA_OK && !t->n_sites)
        return la_fail(err, LA_UNSUPPORTED, "%s: holds no low-rank matrices, which TFB samples",
                       model->adapter.config_path);
    return err->status;
}

static la_status open_weights(tfb *t, la_error *err) {
    const la_model *first = &t->session->workers[0].model;
    bool *marked = la_alloc((size_t)first->n_blocks, sizeof *marked, err);
    if (!marked)
        return err->status;
    for (int64_t b = 0; b < first->n_blocks; b++)
        marked[b] = la_block_in(first, b, LA_PARAMS_LORA);
    la_status status = list_sites(t, marked, err);
    for (int w = 0; w < t->session->n_workers && status == LA_OK; w++)
        status = la_weights_open(&t->session->workers[w].model, marked, &t->weights[w], err);
    free(marked);
    return status;
}

/* B and A of the centre become B' and A', site by site. */
static la_status factor_sites(tfb *t, la_error *err) {
    la_error first = {0};
#pragma omp parallel for schedule(dynamic) num_threads(t->session->team.threads)
    for (int64_t i = 0; i < t->n_sites; i++) {
        const factors *p = &t->sites[i];
        la_error own = {0};
        (void)la_tfb_factor(p->site->out, p->rank, p->site->in, t->centre + p->b, t->centre + p->a,
                            t->d + p->d, &own);
#pragma omp critical
        if (own.status != LA_OK && first.status == LA_OK)
            first = own;
    }
    if (first.status != LA_OK)
        *err = first;
    return err->status;
}

static la_status open_tfb(tfb *t, la_error *err) {
    size_t count = (size_t)(t->rows->n * t->n_classes);
    LA_TRY(open_weights(t, err));
    t->centre = la_alloc((size_t)t->width, sizeof *t->centre, err);
    t->network = la_alloc((size_t)t->width, sizeof *t->network, err);
    t->logits = la_alloc(count, sizeof *t->logits, err);
    LA_TRY(err->status);
    LA_TRY(la_weights_read(t->weights[0], t->centre, err));
    LA_TRY(factor_sites(t, err));
    memcpy(t->network, t->centre, (size_t)t->width * sizeof *t->network);
    return LA_OK;
}

static void close_tfb(tfb *t) {
    for (int w = 0; w < LA_DEVICES_MAX; w++)
        la_weights_close(t->weights[w]);
    free(t->sites);
    free(t->d);
    free(t->centre);
    free(t->network);
    free(t->logits);
}

/* ---- networks ---- */

static la_status forward(void *user, int w, const la_batch *batch, int64_t first, la_error *err) {
    tfb *t = user;
    return la_run_forward(&t->session->workers[w].run, batch, t->logits + first * t->n_classes,
                          err);
}

/* Adds softmax of the rows under a network to probs. */
static la_status run_network(tfb *t, double sigma, int64_t number, uint64_t seed, double *row,
                             la_error *err) {
    int64_t c = t->n_classes;
#pragma omp parallel for schedule(dynamic) num_threads(t->session->team.threads)
    for (int64_t i = 0; i < t->n_sites; i++) {
        const factors *p = &t->sites[i];
        la_tfb_noise(p->rank, p->site->in, t->centre + p->a, t->d + p->d, sigma, seed, number, i,
                     t->network + p->a);
    }
    for (int w = 0; w < t->session->n_workers; w++)
        la_weights_put(t->weights[w], t->network);
    la_row_pass pass = {.to = t->rows->n, .stage = "tfb", .batch = forward, .user = t};
    LA_TRY(la_row_set_run(t->session, t->rows, &pass, err));
    for (int64_t i = 0; i < t->rows->n; i++) {
        for (int64_t j = 0; j < c; j++)
            row[j] = (double)t->logits[i * c + j];
        la_softmax(c, row);
        for (int64_t j = 0; j < c; j++)
            t->probs[i * c + j] += row[j];
    }
    return LA_OK;
}

/* probs = mean of softmax over networks */
static la_status run_networks(tfb *t, double sigma, int64_t networks, uint64_t seed,
                              la_error *err) {
    int64_t count = t->rows->n * t->n_classes, n = sigma > 0 ? networks : 1;
    double *row = la_alloc((size_t)t->n_classes, sizeof *row, err);
    la_status status = err->status;
    memset(t->probs, 0, (size_t)count * sizeof *t->probs);
    for (int64_t i = 0; i < n && status == LA_OK; i++)
        status = run_network(t, sigma, i, seed, row, err);
    for (int64_t i = 0; i < count; i++)
        t->probs[i] /= (double)n;
    free(row);
    return status;
}

/* The answers of the network at hand are the labels from here on. */
static void take_answers(tfb *t) {
    for (int64_t i = 0; i < t->rows->n; i++) {
        const double *p = t->probs + i * t->n_classes;
        t->labels[i] = 0;
        for (int64_t c = 1; c < t->n_classes; c++)
            t->labels[i] = p[c] > p[t->labels[i]] ? c : t->labels[i];
    }
}

static la_status measure(void *user, double sigma, double *nll, la_error *err) {
    tfb *t = user;
    LA_TRY(run_networks(t, sigma, t->options->networks, t->options->seed, err));
    if (t->options->own_answers && sigma == 0)
        take_answers(t);
    *nll = 0;
    for (int64_t i = 0; i < t->rows->n; i++)
        *nll -= log(t->probs[i * t->n_classes + t->labels[i]]) / (double)t->rows->n;
    return LA_OK;
}

static la_status search(tfb *t, la_tfb_choice *choice, la_error *err) {
    t->probs = la_alloc((size_t)(t->rows->n * t->n_classes), sizeof *t->probs, err);
    t->labels = la_alloc((size_t)t->rows->n, sizeof *t->labels, err);
    LA_TRY(err->status);
    for (int64_t i = 0; i < t->rows->n; i++)
        t->labels[i] = t->rows->set->labels.classes[la_row_at(t->rows, i)];
    return la_tfb_search(t->options, measure, t, choice, err);
}

la_status la_tfb_fit(la_session *session, const la_row_job *anchor, const la_tfb_options *options,
                     la_tfb_choice *choice, la_error *err) {
    tfb t = {.session = session,
             .rows = anchor,
             .n_classes = session->workers[0].model.n_classes,
             .options = options};
    la_status status = open_tfb(&t, err);
    if (status == LA_OK)
        status = search(&t, choice, err);
    free(t.probs);
    free(t.labels);
    close_tfb(&t);
    return status;
}

la_status la_tfb_predict(la_session *session, const la_row_job *rows, double sigma,
                         int64_t networks, uint64_t seed, double *probs, la_error *err) {
    tfb t = {.session = session,
             .rows = rows,
             .n_classes = session->workers[0].model.n_classes,
             .probs = probs};
    la_status status = open_tfb(&t, err);
    if (status == LA_OK)
        status = run_networks(&t, sigma, networks, seed, err);
    close_tfb(&t);
    return status;
}
