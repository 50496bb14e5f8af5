#include "pipeline/passes.h"
#include "base/stop.h"
#include "base/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void la_structures_free(la_structure *structures, int n) {
    for (int i = 0; structures && i < n; i++)
        la_posterior_free(&structures[i].posterior);
}

enum { STRUCTURES_MOST = 16 };

static la_batch_shape largest_batch(const la_session *session, int64_t longest) {
    return (la_batch_shape){.max_rows = session->batch_rows,
                            .max_tokens =
                                longest > session->batch_tokens ? longest : session->batch_tokens,
                            .n_rhs = session->n_rhs};
}

/* Hands a block to all that want it. */
typedef struct fan {
    int n;
    const la_block_visitor *visitors;
    double *seconds[STRUCTURES_MOST]; /* where the time of each is added */
} fan;

static void visit_all(void *user, int64_t block, const la_block_io *io) {
    const fan *f = user;
    for (int i = 0; i < f->n; i++) {
        double start = la_seconds();
        f->visitors[i].visit(f->visitors[i].user, block, io);
        *f->seconds[i] += la_seconds() - start;
    }
}

/* ---- fitting ---- */

/* A structure on a worker. */
typedef struct fit_part {
    la_blocks blocks;
    la_structure_fit *fit;
    double seconds; /* in its visitor */
} fit_part;

/* Batch of a worker. */
typedef struct fit_batch {
    int64_t first, n;  /* rows of the job; n 0: none since they were counted */
    float *logits;     /* [rows, C] */
    float *cotangents; /* [rhs rows, C] */
    double *factor;    /* [C, C-1] */
} fit_batch;

typedef struct fitting {
    la_session *session;
    la_structure *structures;
    int n;
    la_row_job rows;
    la_carriers *carriers; /* or NULL */
    fit_part *parts;       /* [n workers, n structures] */
    la_fit_pass *passes;
    bool *active; /* [n] takes part in the pass that runs */
    fit_batch batches[LA_DEVICES_MAX];
    int workers;     /* that have sums: the first alone once they are merged */
    int64_t counted; /* rows before this one are in the totals */
    la_fit_state state;
} fitting;

/* cotangents[(k n + i), c] = S_i[c, k] */
static void fisher_cotangents(const la_model *model, const fit_batch *b) {
    int64_t classes = model->n_classes, m = model->likelihood->contrasts(classes);
    for (int64_t i = 0; i < b->n; i++) {
        model->likelihood->fisher_factor(classes, b->logits + i * classes, b->factor);
        for (int64_t k = 0; k < m; k++)
            for (int64_t c = 0; c < classes; c++)
                b->cotangents[(k * b->n + i) * classes + c] = (float)b->factor[c * m + k];
    }
}

/* Forward, the Fisher's cotangents, backward into the sums of every active structure. */
static la_status run_batch(void *user, int w, const la_batch *batch, int64_t first, la_error *err) {
    fitting *f = user;
    la_worker *worker = &f->session->workers[w];
    fit_batch *b = &f->batches[w];
    la_block_visitor visitors[STRUCTURES_MOST];
    fan all = {.visitors = visitors};
    double start = la_seconds();
    LA_TRY(la_run_forward(&worker->run, batch, b->logits, err));
    if (f->rows.states)
        LA_TRY(la_run_states(&worker->run,
                             f->rows.states + first * la_run_state_width(&worker->model), err));
    if (f->rows.outputs) {
        size_t c = (size_t)worker->model.n_classes;
        memcpy(f->rows.outputs + (size_t)first * c, b->logits,
               (size_t)batch->n_rows * c * sizeof *b->logits);
    }
    worker->seconds_forward += la_seconds() - start;
    start = la_seconds();
    b->first = first;
    b->n = batch->n_rows;
    fisher_cotangents(&worker->model, b);
    for (int i = 0; i < f->n; i++) {
        fit_part *part = &f->parts[w * f->n + i];
        if (!f->active[i])
            continue;
        if (f->structures[i].kind->fit->batch)
            f->structures[i].kind->fit->batch(part->fit, first, batch->n_rows);
        all.seconds[all.n] = &part->seconds;
        visitors[all.n++] = f->structures[i].kind->fit->visitor(part->fit);
    }
    la_block_visitor visitor = {visit_all, &all};
    LA_TRY(la_run_backward(&worker->run, b->cotangents, &visitor, err));
    worker->seconds_backward += la_seconds() - start;
    return LA_OK;
}

static la_status open_fitting(fitting *f, la_error *err) {
    la_session *session = f->session;
    size_t rows = (size_t)session->batch_rows;
    size_t classes = (size_t)session->workers[0].model.n_classes;
    size_t columns = (size_t)session->n_rhs;
    f->parts = la_alloc((size_t)(f->n * session->n_workers), sizeof *f->parts, err);
    f->passes = la_alloc((size_t)f->n, sizeof *f->passes, err);
    f->active = la_alloc((size_t)f->n, sizeof *f->active, err);
    LA_TRY(err->status);
    for (int w = 0; w < session->n_workers; w++) {
        fit_batch *b = &f->batches[w];
        b->logits = la_alloc(rows * classes, sizeof *b->logits, err);
        b->cotangents = la_alloc(rows * classes * columns, sizeof *b->cotangents, err);
        b->factor = la_alloc(classes * columns, sizeof *b->factor, err);
        LA_TRY(err->status);
    }
    for (int i = 0; i < f->n; i++) {
        la_structure *structure = &f->structures[i];
        if (structure->kind->one_device && session->n_workers > 1)
            return la_fail(err, LA_UNSUPPORTED,
                           "--curvature %s runs on one device; give --device cuda:0",
                           la_structure_name(structure->kind));
        la_fit_shape shape = {.batch = largest_batch(session, f->rows.set->longest),
                              .kron = structure->kron,
                              .rank = structure->rank,
                              .n_rows = f->rows.n,
                              .first = f->rows.first,
                              .step = f->rows.step,
                              .n_all = f->rows.set->n};
        if (f->carriers && f->carriers->rows)
            shape.n_rows = shape.n_all = f->carriers->rows->n;
        shape.adds = f->carriers && f->carriers->adds;
        for (int k = 0; f->carriers && k < f->carriers->n; k++)
            if (f->carriers->list[k].peers)
                shape.peers = f->carriers->list[k].peers;
        for (int w = 0; w < session->n_workers; w++) {
            fit_part *part = &f->parts[w * f->n + i];
            LA_TRY(
                la_model_blocks(&session->workers[w].model, structure->params, &part->blocks, err));
            LA_TRY(structure->kind->fit->open(&part->blocks, &shape, &part->fit, err));
        }
    }
    return LA_OK;
}

static void close_fitting(fitting *f) {
    for (int i = 0; f->parts && i < f->n * f->session->n_workers; i++) {
        if (f->parts[i].fit)
            f->structures[i % f->n].kind->fit->close(f->parts[i].fit);
        la_blocks_close(&f->parts[i].blocks);
    }
    for (int w = 0; w < LA_DEVICES_MAX; w++) {
        free(f->batches[w].logits);
        free(f->batches[w].cotangents);
        free(f->batches[w].factor);
    }
    free(f->parts);
    free(f->passes);
    free(f->active);
}

/* ---- sums that are carried ---- */

/* Names of arrays: of the device and structure whose sums they are. */
typedef struct named {
    const la_array_visitor *inner;
    int worker;
    const char *structure;
} named;

static la_status visit_named(void *user, const la_array *array, la_error *err) {
    const named *to = user;
    la_array copy = *array;
    char name[96];
    snprintf(name, sizeof name, "%d/%s/%s", to->worker, to->structure, array->name);
    copy.name = name;
    return to->inner->visit(to->inner->user, &copy, err);
}

la_status la_fit_state_visit(la_fit_state *state, bool takes_back, const la_array_visitor *visitor,
                             la_error *err) {
    fitting *f = state->fit;
    double totals[3];
    la_array array = {.name = "totals", .rows = 1, .cols = 3, .data = totals};
    memcpy(totals, state->totals, sizeof totals);
    if (!state->pass)
        LA_TRY(visitor->visit(visitor->user, &array, err));
    if (takes_back)
        memcpy(state->totals, totals, sizeof totals);
    for (int w = 0; w < f->workers; w++)
        for (int i = 0; i < f->n; i++) {
            const la_structure_kind *kind = f->structures[i].kind;
            named to = {visitor, w, la_structure_name(kind)};
            la_array_visitor each = {visit_named, &to};
            la_structure_fit *fit = f->parts[w * f->n + i].fit;
            if (f->active[i])
                LA_TRY((state->same_rows ? la_structure_visit_kept
                                         : la_structure_visit)(kind, fit, takes_back, &each, err));
        }
    return LA_OK;
}

static la_status carry(fitting *f, la_moment moment, la_error *err) {
    for (int i = 0; f->carriers && i < f->carriers->n; i++)
        LA_TRY(f->carriers->list[i].carry(f->carriers->list[i].user, moment, &f->state, err));
    return LA_OK;
}

/* Rows, tokens and log likelihood of the rows that were not counted before. */
static la_status count_rows(void *user, int64_t at, la_error *err) {
    fitting *f = user;
    const la_row_set *set = f->rows.set;
    const la_model *model = &f->session->workers[0].model;
    for (int w = 0; w < f->session->n_workers; w++) {
        fit_batch *b = &f->batches[w];
        for (int64_t i = 0; i < b->n; i++) {
            int64_t row = la_row_at(&f->rows, b->first + i);
            if (b->first + i < f->counted)
                continue;
            f->state.totals[0]++;
            f->state.totals[1] += (double)set->length[row];
            f->state.totals[2] += model->likelihood->log_likelihood(
                model->n_classes, b->logits + i * model->n_classes,
                la_label_list_at(&set->labels, row));
        }
        b->n = 0;
    }
    f->counted = at > f->counted ? at : f->counted;
    f->state.at = at;
    return carry(f, LA_PASS_PAUSES, err);
}

/* ---- passes ---- */

/* The next pass of a structure. */
static la_status next_pass(fitting *f, int i, la_error *err) {
    la_structure_fit *all[LA_DEVICES_MAX];
    double start = la_seconds();
    for (int w = 0; w < f->session->n_workers; w++)
        all[w] = f->parts[w * f->n + i].fit;
    if (f->structures[i].basis && !f->structures[i].posterior.blocks)
        LA_TRY(la_structure_adopt(f->structures[i].kind, all, f->session->n_workers,
                                  &f->parts[i].blocks, f->structures[i].basis,
                                  &f->structures[i].posterior, &f->passes[i], err));
    else
        LA_TRY(la_structure_next(f->structures[i].kind, all, f->session->n_workers,
                                 &f->parts[i].blocks, &f->structures[i].posterior, &f->passes[i],
                                 err));
    /* rows that were summed elsewhere are not seen here */
    f->passes[i].to = f->passes[i].to < f->rows.n ? f->passes[i].to : f->rows.n;
    f->structures[i].seconds_decompose += la_seconds() - start;
    return LA_OK;
}

/* Time that a pass with this structure alone would have taken: all but the visitors of the
 * others. */
static double own_seconds(const fitting *f, int structure, double seconds) {
    double others = 0;
    for (int i = 0; i < f->n; i++)
        others += i != structure && f->active[i] ? f->parts[i].seconds : 0;
    return seconds - others > 0 ? seconds - others : 0;
}

/* Sums of the rows of a pass, those of other devices and processes too. */
static la_status sum_rows(fitting *f, const la_fit_pass *pass, la_error *err) {
    la_fit_state *state = &f->state;
    la_structure_fit *all[LA_DEVICES_MAX];
    state->at = pass->from;
    state->to = pass->to;
    f->workers = f->session->n_workers;
    LA_TRY(carry(f, LA_PASS_BEGINS, err));
    f->counted = state->at > f->counted ? state->at : f->counted;
    la_row_pass run = {.from = state->at,
                       .to = pass->to,
                       .stage = "curvature",
                       .batch = run_batch,
                       .between = count_rows,
                       .user = f};
    LA_TRY(la_row_set_run(f->session, &f->rows, &run, err));
    for (int i = 0; i < f->n && f->workers > 1; i++) {
        for (int w = 0; w < f->workers; w++)
            all[w] = f->parts[w * f->n + i].fit;
        if (f->active[i])
            LA_TRY(la_structure_merge(f->structures[i].kind, all, f->workers, err));
    }
    f->workers = 1;
    return carry(f, LA_PASS_ENDS, err);
}

/* A pass for the first structure that wants one, and all that want the same; *more is false when
 * none does. */
static la_status run_pass(fitting *f, bool *more, la_error *err) {
    int first = 0;
    while (first < f->n && !f->passes[first].more)
        first++;
    *more = first < f->n;
    if (!*more)
        return LA_OK;
    la_fit_pass pass = f->passes[first];
    for (int i = 0; i < f->n; i++) {
        const la_fit_pass *p = &f->passes[i];
        f->active[i] = p->more && p->from == pass.from && p->to == pass.to;
        f->parts[i].seconds = 0;
    }
    double start = la_seconds();
    LA_TRY(sum_rows(f, &pass, err));
    double seconds = la_seconds() - start;
    /* the decompositions need their own memory */
    la_session_release_runs(f->session);
    for (int i = 0; i < f->n && !f->state.ended; i++) {
        la_posterior *p = &f->structures[i].posterior;
        if (f->counted == f->rows.n) {
            p->n_rows = (int64_t)f->state.totals[0];
            p->n_tokens = (int64_t)f->state.totals[1];
            p->rows_weight = f->state.totals[0];
            p->tokens_weight = f->state.totals[1];
        }
        if (!f->active[i])
            continue;
        f->structures[i].seconds_passes += own_seconds(f, i, seconds);
        LA_TRY(la_check_interrupt(err));
        LA_TRY(next_pass(f, i, err));
    }
    f->state.pass++;
    return LA_OK;
}

static la_status run_fitting(fitting *f, la_error *err) {
    const la_model *model = &f->session->workers[0].model;
    int64_t tokens = 0;
    bool more = true;
    LA_TRY(open_fitting(f, err));
    for (int64_t i = 0; i < f->rows.n; i++)
        tokens += f->rows.set->length[la_row_at(&f->rows, i)];
    for (int i = 0; i < f->n; i++) {
        la_posterior *p = &f->structures[i].posterior;
        p->curvature = f->structures[i].kind->curvature;
        p->kron = f->structures[i].kron;
        p->params = f->structures[i].params;
        p->rank_asked = f->structures[i].rank;
        p->n_rows = f->rows.n;
        p->n_tokens = tokens;
        p->n_classes = model->n_classes;
        p->likelihood = model->likelihood;
        LA_TRY(next_pass(f, i, err));
    }
    while (more && !f->state.ended)
        LA_TRY(run_pass(f, &more, err));
    for (int i = 0; i < f->n; i++) {
        la_posterior *p = &f->structures[i].posterior;
        p->log_likelihood = f->state.totals[2];
        p->square_error = -2 * f->state.totals[2]; /* read where there is noise */
        if (p->rows_weight == (double)p->n_rows && p->tokens_weight == (double)p->n_tokens)
            p->rows_weight = p->tokens_weight = 0; /* each counts once */
    }
    return f->state.ended ? LA_OK : carry(f, LA_FIT_ENDS, err);
}

la_status la_structures_fit(la_session *session, la_structure *structures, int n,
                            const la_row_job *rows, la_carriers *carriers, la_error *err) {
    if (n > STRUCTURES_MOST)
        return la_fail(err, LA_USAGE, "%d structures at once, at most %d", n, STRUCTURES_MOST);
    fitting f = {
        .session = session, .structures = structures, .n = n, .rows = *rows, .carriers = carriers};
    f.state = (la_fit_state){
        .session = session, .structures = structures, .n = n, .rows = &f.rows, .fit = &f};
    for (int i = 0; carriers && i < carriers->n; i++)
        if (carriers->list[i].n_parts)
            f.rows = la_row_job_part(f.rows, carriers->list[i].part, carriers->list[i].n_parts);
    la_status status = run_fitting(&f, err);
    if (carriers)
        carriers->ended = f.state.ended;
    close_fitting(&f);
    return status;
}

/* ---- evaluating ---- */

typedef struct cov_part {
    la_blocks blocks;
    la_covariance *covariance;
    double *cov; /* [n_scales, batch rows, m, m] */
    double seconds;
} cov_part;

typedef struct evaluating {
    la_session *session;
    const la_structure *structures;
    int n;
    int64_t n_scales, longest;
    const double *scales;
    cov_part *parts; /* [n workers, n structures] */
    float *cotangents[LA_DEVICES_MAX];
    double *basis;
    double **cov; /* [n] where the evaluation keeps them */
    la_evaluation *to;
} evaluating;

static la_status open_covariances(evaluating *e, int w, la_error *err) {
    la_session *session = e->session;
    int64_t m = session->n_rhs;
    la_cov_shape shape = {
        .batch = largest_batch(session, e->longest), .n_scales = e->n_scales, .scales = e->scales};
    for (int i = 0; i < e->n; i++) {
        cov_part *part = &e->parts[w * e->n + i];
        const la_structure *structure = &e->structures[i];
        LA_TRY(la_model_blocks(&session->workers[w].model, structure->params, &part->blocks, err));
        part->cov =
            la_alloc((size_t)(e->n_scales * session->batch_rows * m * m), sizeof *part->cov, err);
        LA_TRY(err->status);
        LA_TRY(structure->kind->covariance->open(&part->blocks, &structure->posterior, &shape,
                                                 &part->covariance, err));
    }
    return LA_OK;
}

/* Every row gets the contrasts as cotangents; softmax sees nothing else. */
void la_contrast_cotangents(int64_t n, int64_t classes, int64_t m, const double *basis,
                            float *cotangents) {
    for (int64_t k = 0; k < m; k++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < classes; j++)
                cotangents[(k * n + i) * classes + j] = (float)basis[j * m + k];
}

static la_status evaluate_batch(void *user, int w, const la_batch *batch, int64_t first,
                                la_error *err) {
    evaluating *e = user;
    la_worker *worker = &e->session->workers[w];
    la_evaluation *to = e->to;
    int64_t n = batch->n_rows, m = e->session->n_rhs;
    la_block_visitor visitors[STRUCTURES_MOST];
    fan all = {.n = e->n, .visitors = visitors};
    double start = la_seconds();
    LA_TRY(la_run_forward(&worker->run, batch, to->logits + first * to->n_classes, err));
    if (to->states)
        LA_TRY(la_run_states(&worker->run, to->states + first * to->width, err));
    worker->seconds_forward += la_seconds() - start;
    if (!e->n)
        return LA_OK;
    start = la_seconds();
    la_contrast_cotangents(n, to->n_classes, m, e->basis, e->cotangents[w]);
    for (int i = 0; i < e->n; i++) {
        cov_part *part = &e->parts[w * e->n + i];
        e->structures[i].kind->covariance->batch(part->covariance, n);
        all.seconds[i] = &part->seconds;
        visitors[i] = e->structures[i].kind->covariance->visitor(part->covariance);
    }
    la_block_visitor visitor = {visit_all, &all};
    LA_TRY(la_run_backward(&worker->run, e->cotangents[w], &visitor, err));
    for (int i = 0; i < e->n; i++) {
        cov_part *part = &e->parts[w * e->n + i];
        LA_TRY(e->structures[i].kind->covariance->read(part->covariance, part->cov, err));
        for (int64_t g = 0; g < e->n_scales; g++)
            memcpy(e->cov[i] + (g * to->n + first) * m * m, part->cov + g * n * m * m,
                   (size_t)(n * m * m) * sizeof(double));
    }
    worker->seconds_backward += la_seconds() - start;
    return LA_OK;
}

static la_status open_evaluation(evaluating *e, bool states, la_error *err) {
    la_evaluation *to = e->to;
    la_session *session = e->session;
    const la_model *model = &session->workers[0].model;
    size_t n = (size_t)to->n, c = (size_t)to->n_classes,
           m = (size_t)model->likelihood->contrasts(to->n_classes);
    size_t each = (size_t)e->n_scales * n * m * m;
    to->logits = la_alloc(n * c, sizeof *to->logits, err);
    if (states) {
        to->width = la_run_state_width(model);
        to->states = la_alloc(n * (size_t)to->width, sizeof *to->states, err);
    }
    to->memory = la_alloc((size_t)e->n * each, sizeof *to->memory, err);
    to->cov = la_alloc((size_t)e->n, sizeof *to->cov, err);
    to->seconds = la_alloc((size_t)e->n, sizeof *to->seconds, err);
    e->cov = la_alloc((size_t)e->n, sizeof *e->cov, err);
    e->parts = la_alloc((size_t)(e->n * session->n_workers), sizeof *e->parts, err);
    e->basis = la_alloc(c * m, sizeof *e->basis, err);
    LA_TRY(err->status);
    model->likelihood->contrast_basis(to->n_classes, e->basis);
    for (int i = 0; i < e->n; i++)
        to->cov[i] = e->cov[i] = to->memory + (size_t)i * each;
    for (int w = 0; w < session->n_workers; w++) {
        e->cotangents[w] =
            la_alloc((size_t)session->batch_rows * c * m, sizeof *e->cotangents[w], err);
        LA_TRY(err->status);
        LA_TRY(open_covariances(e, w, err));
    }
    return LA_OK;
}

/* Seconds of the first device. */
static void tell_seconds(evaluating *e, double all, double forward) {
    double visitors = 0;
    e->to->seconds_forward = forward;
    for (int i = 0; i < e->n; i++)
        visitors += e->parts[i].seconds;
    for (int i = 0; i < e->n; i++)
        e->to->seconds[i] = all - visitors + e->parts[i].seconds;
}

la_status la_structures_evaluate(la_session *session, const la_structure *structures, int n,
                                 const la_row_job *rows, int64_t n_scales, const double *scales,
                                 bool states, la_evaluation *evaluation, la_error *err) {
    evaluating e = {.session = session,
                    .structures = structures,
                    .n = n,
                    .n_scales = n_scales,
                    .scales = scales,
                    .longest = rows->set->longest,
                    .to = evaluation};
    la_row_pass pass = {.to = rows->n, .stage = "evaluate", .batch = evaluate_batch, .user = &e};
    *evaluation = (la_evaluation){0};
    if (n > STRUCTURES_MOST)
        return la_fail(err, LA_USAGE, "%d structures at once, at most %d", n, STRUCTURES_MOST);
    *evaluation = (la_evaluation){.n = rows->n,
                                  .n_classes = session->workers[0].model.n_classes,
                                  .n_scales = n_scales,
                                  .n_structures = n};
    la_status status = open_evaluation(&e, states, err);
    double start = la_seconds(), forward = session->workers[0].seconds_forward;
    if (status == LA_OK)
        status = la_row_set_run(session, rows, &pass, err);
    if (status == LA_OK)
        tell_seconds(&e, la_seconds() - start, session->workers[0].seconds_forward - forward);
    for (int i = 0; e.parts && i < n * session->n_workers; i++) {
        if (e.parts[i].covariance)
            structures[i % n].kind->covariance->close(e.parts[i].covariance);
        la_blocks_close(&e.parts[i].blocks);
        free(e.parts[i].cov);
    }
    for (int w = 0; w < LA_DEVICES_MAX; w++)
        free(e.cotangents[w]);
    free(e.parts);
    free(e.basis);
    free(e.cov);
    if (status != LA_OK)
        la_evaluation_free(evaluation);
    return status;
}

void la_evaluation_free(la_evaluation *evaluation) {
    free(evaluation->logits);
    free(evaluation->states);
    free(evaluation->cov);
    free(evaluation->memory);
    free(evaluation->seconds);
    *evaluation = (la_evaluation){0};
}
