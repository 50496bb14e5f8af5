#include "pipeline/sampler.h"
#include "base/stop.h"
#include "bayes/draw.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

/* Networks of a worker. */
typedef struct part {
    la_weights *weights;
    la_draw *draw;     /* NULL: the networks are kept */
    float *network;    /* [width] the one that was drawn last; likewise */
    float *logits;     /* [batch rows, C] */
    double *workspace; /* [2C] */
} part;

struct la_sampler {
    la_session *session;
    int64_t samples, width, n_classes;
    float *map;  /* [width] */
    float *kept; /* [samples, width], or NULL */
    part parts[LA_DEVICES_MAX];
};

/* The weights of a worker. */
static la_status open_weights(la_sampler *s, int w, la_error *err) {
    la_model *model = &s->session->workers[w].model;
    bool *wanted = la_alloc((size_t)model->n_blocks, sizeof *wanted, err);
    if (!wanted)
        return err->status;
    for (int64_t b = 0; b < model->n_blocks; b++)
        wanted[b] = model->blocks[b].wanted;
    la_status status = la_weights_open(model, wanted, &s->parts[w].weights, err);
    free(wanted);
    LA_TRY(status);
    part *p = &s->parts[w];
    p->logits = la_alloc((size_t)(s->session->batch_rows * s->n_classes), sizeof *p->logits, err);
    p->workspace = la_alloc((size_t)(2 * s->n_classes), sizeof *p->workspace, err);
    return err->status;
}

static la_status keep_networks(la_sampler *s, const la_posterior *posterior, uint64_t seed,
                               la_error *err) {
    la_draw *draw;
    s->kept = la_alloc((size_t)(s->samples * s->width), sizeof *s->kept, err);
    if (!s->kept)
        return err->status;
    LA_TRY(la_draw_open(s->session->team, posterior, seed, &draw, err));
    for (int64_t i = 0; i < s->samples && la_check_interrupt(err) == LA_OK; i++)
        la_draw_network(draw, i, s->map, s->kept + i * s->width);
    la_draw_close(draw);
    return err->status;
}

static la_status open_parts(la_sampler *s, const la_posterior *posterior, uint64_t seed,
                            size_t budget, la_error *err) {
    la_session *session = s->session;
    for (int w = 0; w < session->n_workers; w++)
        LA_TRY(open_weights(s, w, err));
    s->width = la_weights_count(s->parts[0].weights);
    s->map = la_alloc((size_t)s->width, sizeof *s->map, err);
    LA_TRY(err->status);
    LA_TRY(la_weights_read(s->parts[0].weights, s->map, err));
    if ((size_t)s->samples <= budget / ((size_t)s->width * sizeof(float)))
        return keep_networks(s, posterior, seed, err);
    for (int w = 0; w < session->n_workers; w++) {
        part *p = &s->parts[w];
        p->network = la_alloc((size_t)s->width, sizeof *p->network, err);
        LA_TRY(err->status);
        LA_TRY(la_draw_open(session->team, posterior, seed, &p->draw, err));
    }
    return LA_OK;
}

la_status la_sampler_open(la_session *session, const la_posterior *posterior, int64_t samples,
                          uint64_t seed, size_t budget, la_sampler **out, la_error *err) {
    *out = NULL;
    la_sampler *s = la_alloc(1, sizeof *s, err);
    if (!s)
        return err->status;
    s->session = session;
    s->samples = samples;
    s->n_classes = session->workers[0].model.n_classes;
    if (open_parts(s, posterior, seed, budget, err) != LA_OK) {
        la_sampler_close(s);
        return err->status;
    }
    *out = s;
    return LA_OK;
}

void la_sampler_close(la_sampler *s) {
    if (!s)
        return;
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        la_weights_close(s->parts[w].weights);
        la_draw_close(s->parts[w].draw);
        free(s->parts[w].network);
        free(s->parts[w].logits);
        free(s->parts[w].workspace);
    }
    free(s->map);
    free(s->kept);
    free(s);
}

/* The network takes the MAP network's place on a worker. */
static void put(la_sampler *s, int w, int64_t number) {
    part *p = &s->parts[w];
    const float *network = p->network;
    if (s->kept)
        network = s->kept + number * s->width;
    else
        la_draw_network(p->draw, number, s->map, p->network);
    la_weights_put(p->weights, network);
}

/* The model is not to blame when a network far from it overflows. */
static la_status blame_network(int64_t number, la_error *err) {
    return err->status == LA_NUMERICAL
               ? la_error_prefix(err, "sampled network %lld: ", (long long)number)
               : err->status;
}

static la_status run_networks(la_sampler *s, int w, const la_batch *batch, const float *map_logits,
                              double temperature, double *sums, la_error *err) {
    la_run *run = &s->session->workers[w].run;
    int64_t c = s->n_classes;
    const la_likelihood *likelihood = s->session->workers[w].model.likelihood;
    float *logits = s->parts[w].logits;
    for (int64_t number = 0; number < s->samples; number++) {
        LA_TRY(la_check_interrupt(err));
        put(s, w, number);
        if (la_run_forward(run, batch, logits, err) != LA_OK)
            return blame_network(number, err);
        for (int64_t i = 0; i < batch->n_rows; i++)
            likelihood->add_network(c, logits + i * c, map_logits + i * c, temperature,
                                    s->parts[w].workspace, sums + i * (2 * c + 1));
    }
    return LA_OK;
}

la_status la_sampler_run(la_sampler *s, int w, const la_batch *batch, const float *map_logits,
                         double temperature, double *means, la_error *err) {
    int64_t count = batch->n_rows * (2 * s->n_classes + 1);
    memset(means, 0, (size_t)count * sizeof *means);
    la_status status = run_networks(s, w, batch, map_logits, temperature, means, err);
    la_weights_restore(s->parts[w].weights);
    for (int64_t i = 0; i < count; i++)
        means[i] /= (double)s->samples;
    return status;
}
