#include "pipeline/refine_train.h"
#include "base/random.h"
#include "base/stop.h"
#include "baselines/adam.h"
#include "bayes/ivon.h"
#include "bayes/structure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const la_refine_method_names[LA_REFINE_METHODS] = {"ivon", "ivon-flat", "adam"};

enum { RATES = 3, TEMPER_NETWORKS = 4, TEMPER_STEP = 4, TEMPER_MOST = 1 << 20, TEMPER_ROWS = 64 };
/* Loss that networks may have beyond the mean's at the beginning, in nats. */
#define TEMPER_COST 0.05
/* Standard deviations of a step's gradient that move a parameter. */
#define CLIP 3
/* Streams of random numbers beside those of networks, which count steps. */
#define ORDER_STREAM ((uint64_t)1 << 40)
#define TEMPER_STREAM ((int64_t)1 << 41)
/* Square of the relative error that a step's noise may leave in the curvature. An estimate by one
 * network and B rows of N has a relative variance of temper N / B. */
#define CURVATURE_ERROR 0.01

typedef struct training {
    const la_refine_settings *settings;
    const la_posterior *posterior;
    const la_row_set *rows, *held;
    la_gradient *gradient;
    la_team team;
    const la_basis_kind *basis; /* that the state is in; NULL: the weights' own */
    la_ivon state;              /* Adam's too: its moments are momentum and draw */
    double scale;               /* of the log likelihood: one over the noise variance */
    int64_t *order;
    float *start, *theta, *slope, *best;        /* [width] in the weights' basis */
    float *start_mean, *start_hessian, *turned; /* [width] in that of the state */
} training;

/* ---- bases ---- */

/* to[width] = x[width] of the weights' basis in that of the state; back: the other way. */
static la_status turn(const training *t, bool back, const float *x, float *to, la_error *err) {
    const la_posterior *p = t->posterior;
    int64_t at = 0;
    if (!t->basis)
        memcpy(to, x, (size_t)t->state.n * sizeof *to);
    for (int64_t b = 0; t->basis && b < p->n_blocks; b++) {
        LA_TRY(t->basis->turn(p, b, back, x + at, to + at, err));
        at += p->blocks[b].out * p->blocks[b].in;
    }
    return LA_OK;
}

/* ---- methods ---- */

static la_status sample_ivon(training *t, la_error *err) {
    la_ivon_sample(&t->state, t->turned);
    return turn(t, true, t->turned, t->theta, err);
}

static la_status step_ivon(training *t, double rate, la_error *err) {
    LA_TRY(turn(t, false, t->slope, t->turned, err));
    la_ivon_step(&t->state, rate, t->turned);
    return LA_OK;
}

static la_status sample_mean(training *t, la_error *err) {
    return turn(t, true, t->state.mean, t->theta, err);
}

static la_status step_adam(training *t, double rate, la_error *err) {
    (void)err;
    la_ivon *s = &t->state;
    la_adam_step(t->team, s->n, ++s->steps, rate, t->slope, s->momentum, s->draw, s->mean);
    return LA_OK;
}

/* Rates: the first is the method's own. */
static const struct method {
    double rates[RATES];
    bool variational, flat;
    la_status (*sample)(training *t, la_error *err);
    la_status (*step)(training *t, double rate, la_error *err);
} methods[LA_REFINE_METHODS] = {
    [LA_REFINE_IVON] = {{0.01, 0.03, 0.003}, true, false, sample_ivon, step_ivon},
    [LA_REFINE_IVON_FLAT] = {{0.01, 0.03, 0.003}, true, true, sample_ivon, step_ivon},
    [LA_REFINE_ADAM] = {{3e-4, 1e-3, 1e-4}, false, false, sample_mean, step_adam}};

/* ---- beginning ---- */

/* Prior and curvature of a row, by the old posterior: precision H + lambda, of which H was summed
 * over its rows. */
static la_status read_prior(training *t, la_error *err) {
    const la_posterior *p = t->posterior;
    const la_structure_kind *kind = la_structure_of(p->curvature);
    la_ivon *s = &t->state;
    int64_t at = 0;
    double old_rows = (double)p->n_rows, mean_h = 0, mean_delta = 0;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        int64_t n = p->blocks[b].out * p->blocks[b].in;
        double *diagonal = la_alloc((size_t)n, sizeof *diagonal, err);
        la_status status = err->status;
        if (diagonal && t->basis)
            t->basis->values(p, b, diagonal);
        else if (diagonal)
            status = kind->diagonal(p, b, diagonal, err);
        for (int64_t i = 0; status == LA_OK && i < n; i++, at++) {
            s->prior[at] = (float)((diagonal[i] + p->blocks[b].prior_precision) / s->rows);
            s->hessian[at] = (float)(diagonal[i] / old_rows);
        }
        free(diagonal);
        LA_TRY(status);
    }
    for (int64_t i = 0; i < s->n; i++) {
        mean_h += (double)s->hessian[i] / (double)s->n;
        mean_delta += (double)s->prior[i] / (double)s->n;
    }
    for (int64_t i = 0; methods[t->settings->method].flat && i < s->n; i++) {
        s->hessian[i] = (float)mean_h;
        s->prior[i] = (float)mean_delta;
    }
    memcpy(t->start_hessian, s->hessian, (size_t)s->n * sizeof *s->hessian);
    return LA_OK;
}

static la_status open_training(training *t, la_session *session, la_error *err) {
    LA_TRY(la_gradient_open(session, t->posterior->params, &t->gradient, err));
    int64_t n = la_gradient_width(t->gradient);
    float **arrays[] = {&t->start,      &t->theta,         &t->slope, &t->best,
                        &t->start_mean, &t->start_hessian, &t->turned};
    const la_basis_kind *basis = la_structure_of(t->posterior->curvature)->eigenbasis;
    if (methods[t->settings->method].variational && basis && basis->whole(t->posterior))
        t->basis = basis;
    t->team = session->team;
    t->scale = la_curvature_scale(t->posterior);
    LA_TRY(la_ivon_open(t->team, n, (double)t->rows->n, t->settings->seed, &t->state, err));
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i] = la_alloc((size_t)n, sizeof **arrays[i], err);
    t->order = la_alloc((size_t)t->rows->n, sizeof *t->order, err);
    LA_TRY(err->status);
    LA_TRY(la_gradient_read(t->gradient, t->start, err));
    LA_TRY(turn(t, false, t->start, t->start_mean, err));
    memcpy(t->state.prior_mean, t->start_mean, (size_t)n * sizeof *t->start_mean);
    return read_prior(t, err);
}

static void close_training(training *t) {
    la_gradient_close(t->gradient);
    la_ivon_close(&t->state);
    free(t->order);
    free(t->start);
    free(t->start_hessian);
    free(t->theta);
    free(t->slope);
    free(t->best);
    free(t->start_mean);
    free(t->turned);
}

/* ---- training ---- */

/* Mean negative log likelihood of the first n rows at theta. */
static la_status loss_at(training *t, const la_row_set *set, int64_t n, const float *theta,
                         double *nll, la_error *err) {
    static const la_log silent;
    la_row_job job = la_row_job_all(set, &silent);
    la_gradient_put(t->gradient, theta);
    LA_TRY(la_gradient_run(t->gradient, &job, 0, n, nll, NULL, err));
    *nll = -*nll * t->scale / (double)n;
    return LA_OK;
}

/* The least temper of 1, 4, 16, .. under which networks cost less than the mean by COST nats. */
static la_status choose_temper(training *t, la_error *err) {
    la_ivon *s = &t->state;
    double mean, cost = 0;
    const la_row_set *set = t->held->n ? t->held : t->rows;
    int64_t n = set->n < TEMPER_ROWS ? set->n : TEMPER_ROWS;
    if (!methods[t->settings->method].variational)
        return LA_OK;
    LA_TRY(loss_at(t, set, n, t->start, &mean, err));
    memcpy(s->mean, t->start_mean, (size_t)s->n * sizeof *s->mean);
    for (;; s->temper *= TEMPER_STEP) {
        cost = 0;
        for (int i = 0; i < TEMPER_NETWORKS; i++) {
            double one = 0;
            la_error own = {0};
            s->steps = TEMPER_STREAM + i;
            LA_TRY(sample_ivon(t, err));
            la_status status = loss_at(t, set, n, t->theta, &one, &own);
            if (status != LA_OK && status != LA_NUMERICAL) {
                *err = own;
                return status;
            }
            cost += status == LA_OK ? (one - mean) / TEMPER_NETWORKS : INFINITY;
        }
        if (cost <= TEMPER_COST || s->temper >= TEMPER_MOST)
            break;
    }
    return LA_OK;
}

static void shuffle(training *t, int64_t epoch) {
    int64_t n = t->rows->n;
    for (int64_t i = 0; i < n; i++)
        t->order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)la_random_below(t->settings->seed, ORDER_STREAM + (uint64_t)epoch,
                                             (uint64_t)i, (uint64_t)(i + 1));
        int64_t kept = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = kept;
    }
}

/* That of the held-out rows where there are any, else of the rows. */
static la_status measure(training *t, const float *theta, double *nll, la_error *err) {
    const la_row_set *set = t->held->n ? t->held : t->rows;
    return loss_at(t, set, set->n, theta, nll, err);
}

/* Adds the log likelihood of the steps' networks to *sum. */
static la_status run_epoch(training *t, int64_t epoch, double rate, int64_t steps, double *sum,
                           la_error *err) {
    static const la_log silent;
    const struct method *method = &methods[t->settings->method];
    const la_log *log = t->settings->log;
    int64_t n = t->rows->n, each = t->settings->batch_rows;
    la_row_job job = la_row_job_list(t->rows, t->order, n, &silent);
    shuffle(t, epoch);
    *sum = 0;
    for (int64_t from = 0; from < n; from += each) {
        int64_t to = from + each < n ? from + each : n;
        double part;
        LA_TRY(la_check_interrupt(err));
        LA_TRY(method->sample(t, err));
        la_gradient_put(t->gradient, t->theta);
        LA_TRY(la_gradient_run(t->gradient, &job, from, to, &part, t->slope, err));
        double to_loss = -t->scale / (double)(to - from);
        for (int64_t i = 0; i < t->state.n; i++)
            t->slope[i] *= (float)to_loss;
        *sum += part * t->scale;
        double done = (double)t->state.steps / (double)steps;
        LA_TRY(method->step(t, rate * (1 - done), err));
        if (log->progress)
            log->progress(log->user, "train", t->state.steps, done);
    }
    return LA_OK;
}

/* From the beginning, with one rate; *nll: of that, then of what is best, which is in t->best. */
static la_status run_rate(training *t, double rate, double *elbo, int64_t *epoch, double *nll,
                          la_error *err) {
    const la_refine_settings *s = t->settings;
    la_ivon *state = &t->state;
    size_t bytes = (size_t)state->n * sizeof(float);
    int64_t each = (t->rows->n + s->batch_rows - 1) / s->batch_rows;
    state->steps = 0;
    state->clip = CLIP * sqrt((double)each);
    state->beta2 = 1 - 2 * CURVATURE_ERROR / (state->temper * (double)each);
    memcpy(state->mean, t->start_mean, bytes);
    memcpy(state->hessian, t->start_hessian, bytes);
    memset(state->momentum, 0, bytes);
    memset(state->draw, 0, bytes);
    memcpy(t->best, t->start, bytes);
    *epoch = 0;
    for (int64_t e = 0; e < s->epochs; e++) {
        double sum, now;
        LA_TRY(run_epoch(t, e, rate, s->epochs * each, &sum, err));
        elbo[e] = sum - la_ivon_divergence(state);
        LA_TRY(sample_mean(t, err));
        LA_TRY(measure(t, t->theta, &now, err));
        if (t->held->n && !(now < *nll))
            continue;
        *nll = now;
        *epoch = e + 1;
        memcpy(t->best, t->theta, bytes);
    }
    return LA_OK;
}

/* A network far away may overflow: that rate is not taken. */
static la_status run_rates(training *t, la_refined *to, la_error *err) {
    const la_refine_settings *s = t->settings;
    const struct method *method = &methods[s->method];
    bool search = s->rate == 0 && t->held->n;
    size_t bytes = (size_t)t->state.n * sizeof(float);
    double *elbo = la_alloc((size_t)s->epochs, sizeof *elbo, err);
    if (!elbo)
        return err->status;
    for (int r = 0; r < (search ? RATES : 1) && err->status == LA_OK; r++) {
        double rate = s->rate > 0 ? s->rate : method->rates[r], nll = to->nll_before;
        int64_t epoch = 0;
        la_error own = {0};
        la_status status = run_rate(t, rate, elbo, &epoch, &nll, &own);
        if (status == LA_NUMERICAL && search) {
            la_warn(s->log, "--learning-rate %g: %s; it is not taken", rate, own.message);
            continue;
        }
        if (status != LA_OK) {
            *err = own;
            if (status == LA_NUMERICAL)
                (void)la_error_prefix(err, "--learning-rate %g: ", rate);
            break;
        }
        if (to->steps && !(nll < to->nll_after))
            continue;
        to->rate = rate;
        to->steps = t->state.steps;
        to->epoch = epoch;
        to->nll_after = nll;
        memcpy(to->mean, t->best, bytes);
        memcpy(to->elbo, elbo, (size_t)s->epochs * sizeof *elbo);
    }
    free(elbo);
    if (err->status == LA_OK && !to->steps)
        return la_fail(err, LA_NUMERICAL,
                       "no learning rate of those tried trains; give a smaller --learning-rate");
    if (err->status == LA_OK && !(to->nll_after <= to->nll_before))
        la_warn(s->log,
                "--learning-rate %g: training took the mean NLL of its rows from %.4f to %.4f: it "
                "did not converge; give a smaller one",
                to->rate, to->nll_before, to->nll_after);
    return err->status;
}

static la_status run(training *t, la_session *session, la_refined *to, la_error *err) {
    LA_TRY(open_training(t, session, err));
    size_t n = (size_t)t->state.n;
    to->width = t->state.n;
    to->epochs = t->settings->epochs;
    to->mean = la_alloc(n, sizeof *to->mean, err);
    to->elbo = la_alloc((size_t)to->epochs, sizeof *to->elbo, err);
    LA_TRY(err->status);
    LA_TRY(measure(t, t->start, &to->nll_before, err));
    LA_TRY(choose_temper(t, err));
    LA_TRY(run_rates(t, to, err));
    to->temper = t->state.temper;
    if (!methods[t->settings->method].variational) {
        free(to->elbo);
        to->elbo = NULL;
    }
    return LA_OK;
}

la_status la_refine_train(la_session *session, const la_posterior *posterior,
                          const la_row_set *rows, const la_row_set *held,
                          const la_refine_settings *settings, la_refined *refined, la_error *err) {
    training t = {.settings = settings, .posterior = posterior, .rows = rows, .held = held};
    *refined = (la_refined){0};
    la_status status = run(&t, session, refined, err);
    close_training(&t);
    if (status != LA_OK)
        la_refined_free(refined);
    return status;
}

void la_refined_free(la_refined *refined) {
    free(refined->mean);
    free(refined->elbo);
    *refined = (la_refined){0};
}
