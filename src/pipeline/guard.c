#include "pipeline/guard.h"
#include "likelihood/answer.h"
#include "likelihood/shares.h"
#include "bayes/row_digests.h"
#include "likelihood/signs.h"
#include "output/figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FOLDS = 5,
    FEW_ROWS = 100,     /* with fewer it is said how sure the choice is */
    MEAN_SAMPLES = 100, /* of a row; the mean is over many */
    /* rows that signs of trouble are looked for on: one in so many, within bounds; of those one in
     * so many for its leverage */
    SIGN_SHARE = 16,
    SIGN_LEAST = 32,
    SIGN_MOST = 64,
    SIGN_SUSPECTS = 4
};

/* ---- choosing ---- */

/* The chosen scale goes into the prior precisions, and the noise with it. Where Laplace was not
 * chosen its best structure is kept, for who asks for it by name. */
static la_status apply(la_posterior *p, const la_choice *choice, bool cross, la_error *err) {
    const la_candidate *c = &choice->candidates[la_choice_laplace(choice)];
    p->choice = *choice;
    p->choice.cross = cross;
    p->temperature = c->temperature;
    return la_noise_set(p, c->noise_variance, c->prior_scale, err);
}

la_status la_guard_keep(la_posterior *posterior, const la_choice *choice, la_error *err) {
    LA_TRY(apply(posterior, choice, choice->cross, err));
    posterior->choice.older = 1;
    return LA_OK;
}

/* Labels and streams of the rows. Free labels with la_label_list_free, and the streams, also after
 * a failure. */
static la_status gather(const la_row_job *job, la_label_list *labels, uint64_t **streams,
                        la_error *err) {
    const la_row_set *set = job->set;
    size_t capacity = 0;
    *labels = (la_label_list){.kind = set->labels.kind, .width = set->labels.width};
    *streams = la_alloc((size_t)job->n, sizeof **streams, err);
    LA_TRY(err->status);
    LA_TRY(la_label_list_grow(labels, &capacity, (size_t)job->n, err));
    for (int64_t i = 0; i < job->n; i++) {
        int64_t row = la_row_at(job, i);
        la_label_list_set(labels, i, la_label_list_at(&set->labels, row));
        (*streams)[i] = set->streams[row];
    }
    return LA_OK;
}

static la_status remember(la_posterior *p, const la_row_job *job, la_error *err) {
    uint64_t *hashes = la_alloc((size_t)job->n, sizeof *hashes, err);
    for (int64_t i = 0; hashes && i < job->n; i++)
        hashes[i] = job->set->hashes[la_row_at(job, i)];
    la_status status = hashes ? la_posterior_keep_rows(p, hashes, job->n, err) : err->status;
    free(hashes);
    return status;
}

static void say_how_sure(const la_choice *choice, const la_likelihood *likelihood,
                         const la_log *log) {
    if (choice->candidates[LA_METHOD_MAP].noise_variance > 0)
        la_warn(log, "only %lld held-out rows: the choice of prior and %s is mostly noise",
                (long long)choice->n, likelihood->tuned);
    else if (choice->method == LA_METHOD_MAP)
        la_warn(log,
                "only %lld held-out rows: by them nothing is better than the MAP model; the choice "
                "of prior and %s is mostly noise",
                (long long)choice->n, likelihood->tuned);
    else
        la_warn(log,
                "only %lld held-out rows: by them %s is better than the MAP model with a "
                "probability of about %.2f (mean NLL %s by %.3f, standard error %.3f); the "
                "choice of prior and %s is mostly noise",
                (long long)choice->n, la_method_names[choice->method], la_choice_surety(choice),
                choice->gain < 0 ? "more" : "less", fabs(choice->gain), choice->gain_error,
                likelihood->tuned);
}

/* Says of a choice what the user should know. names: of the classes, or NULL. */
static void say(const la_choice *choice, const la_likelihood *likelihood, const char *const *names,
                int64_t n_classes, const la_log *log) {
    char text[LA_CORRECTED_TEXT];
    if (choice->n < FEW_ROWS)
        say_how_sure(choice, likelihood, log);
    if (la_choice_corrected(choice, n_classes, names, text))
        la_warn(log, "classes are corrected, by factors of their odds: %s", text);
    if (choice->changes.n)
        la_warn(log, "%lld of %lld held-out answers change, %lld to right and %lld to wrong%s",
                (long long)choice->changes.n, (long long)choice->n,
                (long long)choice->changes.to_right, (long long)choice->changes.to_wrong,
                " (fit --keep-answers changes none)");
}

/* Sums of the rows' probabilities by class, where the classes are few enough. */
static la_status keep_answers(la_posterior *p, const la_held_out *rows, const double *probs,
                              la_error *err) {
    size_t c = (size_t)rows->n_classes;
    if (c > LA_SHARE_ANSWERS_MOST)
        return LA_OK;
    double *sums = la_pool_take(&p->pool, c * c, sizeof *sums, err);
    for (int64_t i = 0; sums && i < rows->n; i++)
        for (size_t k = 0; k < c; k++)
            sums[(size_t)rows->labels.classes[i] * c + k] += probs[(size_t)i * c + k];
    p->class_answers = sums;
    return err->status;
}

/* Mean probabilities of the rows by what was chosen, and how many are of each class: what they are
 * of rows with these classes. */
static la_status keep_means(la_team team, la_posterior *p, const la_held_out *rows, la_error *err) {
    const la_likelihood *likelihood = p->likelihood;
    size_t n = (size_t)rows->n, c = (size_t)rows->n_classes;
    la_recipe recipes[LA_SETTINGS_MOST];
    la_draw_options draws = {.samples = MEAN_SAMPLES};
    la_output_rows as_run = {.n = rows->n,
                             .n_outputs = rows->n_classes,
                             .n_scales = rows->n_scales,
                             .outputs = rows->logits,
                             .scales = rows->scales,
                             .cov = rows->cov,
                             .streams = rows->streams};
    if (!likelihood->reshare)
        return LA_OK;
    int64_t count = la_choice_recipes(likelihood, &p->choice, p->choice.method, recipes);
    double *means = la_pool_take(&p->pool, c, sizeof *means, err);
    double *held = la_pool_take(&p->pool, c, sizeof *held, err);
    double *probs = la_alloc(n * c, sizeof *probs, err);
    la_prediction *out = la_alloc(n, sizeof *out, err);
    for (size_t i = 0; i < n && err->status == LA_OK; i++)
        out[i].probs = probs + i * c;
    if (err->status == LA_OK &&
        la_answer_rows(likelihood, recipes, count, &as_run, &draws, team, out, err) == LA_OK) {
        for (size_t i = 0; i < n * c; i++)
            means[i % c] += probs[i] / (double)n;
        p->class_means = means;
        (void)keep_answers(p, rows, probs, err);
    }
    if (held && la_label_list_count(&rows->labels, rows->n, rows->n_classes, held))
        p->class_held = held;
    free(probs);
    free(out);
    return err->status;
}

/* The variance of the rows from their states: left_out[S, n, m, m], which are predicted of a row by
 * the others, to choose by. The caller frees both, also after an error. */
static la_status distil(la_team team, const la_posterior *p, const la_evaluation *e,
                        const double *scales, const double *cov, const la_log *log,
                        la_distilled *distilled, double **left_out, la_error *err) {
    int64_t m = p->likelihood->contrasts(e->n_classes);
    la_distilled_rows rows = {.n = e->n,
                              .n_outputs = e->n_classes,
                              .n_contrasts = m,
                              .width = e->width,
                              .n_scales = LA_SELECTION_SCALES,
                              .outputs = e->logits,
                              .states = e->states,
                              .scales = scales,
                              .cov = cov};
    *left_out = la_alloc((size_t)(LA_SELECTION_SCALES * e->n * m * m), sizeof **left_out, err);
    LA_TRY(err->status);
    LA_TRY(la_distilled_fit(team, &rows, *left_out, distilled, err));
    la_warn(log,
            "predictions take their variance from the forward pass: it tells %.0f %% of how the "
            "log variance differs between held-out rows, each left out",
            100 * fmax(distilled->explained, 0));
    return LA_OK;
}

/* The posterior gets the variances as they are under its precisions and noise, which the choice has
 * just changed: with noise k times as large and precisions a / k times, a row's covariance is k
 * times that under a. */
static la_status keep_distilled(la_posterior *p, la_distilled *distilled, double noise_before,
                                la_error *err) {
    const la_candidate *c = &p->choice.candidates[la_choice_laplace(&p->choice)];
    double factor = c->noise_variance > 0 ? c->noise_variance / noise_before : 1;
    for (int64_t g = 0; g < distilled->n_scales; g++) {
        distilled->scales[g] /= factor * c->prior_scale;
        distilled->weights[g * (distilled->n_features + 1)] += log(factor);
        distilled->least[g] += log(factor);
        distilled->most[g] += log(factor);
    }
    return la_posterior_keep_distilled(p, distilled, err);
}

static la_status choose(la_team team, la_structure *structure, const la_row_job *job,
                        const la_evaluation *e, const double *scales, const double *cov, bool cross,
                        const la_guard *how, la_error *err) {
    const la_likelihood *likelihood = structure->posterior.likelihood;
    la_distilled distilled = {0};
    double *left_out = NULL, noise = structure->posterior.noise_variance;
    la_held_out rows = {.n = e->n,
                        .n_classes = e->n_classes,
                        .n_scales = LA_SELECTION_SCALES,
                        .logits = e->logits,
                        .scales = scales,
                        .cov = cov,
                        .noise_variance = structure->posterior.noise_variance,
                        .noise_given = how->noise_given,
                        .keep_answers = how->keep_answers,
                        .log = *how->log};
    uint64_t *streams;
    la_choice choice;
    la_status status = gather(job, &rows.labels, &streams, err);
    rows.streams = streams;
    if (status == LA_OK && how->forward) {
        status = distil(team, &structure->posterior, e, scales, cov, how->log, &distilled,
                        &left_out, err);
        rows.cov = left_out;
    }
    if (status == LA_OK)
        status = likelihood->select(team, &rows, &choice, err);
    if (status == LA_OK)
        say(&choice, likelihood, how->names, e->n_classes, how->log);
    if (status == LA_OK)
        status = apply(&structure->posterior, &choice, cross, err);
    if (status == LA_OK && how->forward)
        status = keep_distilled(&structure->posterior, &distilled, noise, err);
    if (status == LA_OK)
        status = remember(&structure->posterior, job, err);
    if (status == LA_OK)
        status = keep_means(team, &structure->posterior, &rows, err);
    la_distilled_free(&distilled);
    free(left_out);
    la_label_list_free(&rows.labels);
    free(streams);
    return status;
}

/* Says how many of the rows that choose are among those of the curvature: to them the model is no
 * judge of itself. */
static la_status warn_of_fitted(const la_posterior *posterior, const la_row_set *held,
                                const la_log *log, la_error *err) {
    int64_t n = 0;
    if (!posterior->provenance.n_row_digests)
        return LA_OK;
    la_row_digest *digests = la_alloc((size_t)held->n, sizeof *digests, err);
    if (digests && la_row_set_digests(held, digests, err) == LA_OK)
        for (int64_t i = 0; i < held->n; i++)
            n += la_posterior_has_row(posterior, &digests[i]);
    free(digests);
    if (n)
        la_warn(log,
                "%s: %lld of %lld held-out rows are among those that the posterior is of; expected "
                "rows that nothing was trained or fitted on",
                held->name, (long long)n, (long long)held->n);
    return err->status;
}

la_guard la_guard_like(const la_posterior *posterior, const la_session *session,
                       const la_log *log) {
    return (la_guard){.noise_given = posterior->noise_asked > 0,
                      .keep_answers = posterior->keep_answers,
                      .forward = posterior->forward,
                      .names = (const char *const *)session->labels.names,
                      .log = log};
}

la_status la_guard_val(la_session *session, la_structure *structure, const la_row_set *held,
                       const la_guard *how, la_error *err) {
    double scales[LA_SELECTION_SCALES];
    la_evaluation e;
    la_row_job rows = la_row_job_all(held, how->log);
    la_selection_scales(scales);
    LA_TRY(warn_of_fitted(&structure->posterior, held, how->log, err));
    LA_TRY(la_structures_evaluate(session, structure, 1, &rows, LA_SELECTION_SCALES, scales,
                                  how->states || how->forward, &e, err));
    la_status status =
        choose(session->team, structure, &rows, &e, scales, e.cov[0], false, how, err);
    if (how->states) {
        *how->states = e.states;
        e.states = NULL;
    }
    la_evaluation_free(&e);
    return status;
}

/* ---- cross-fitting ---- */

typedef struct keyed_row {
    uint64_t hash;
    int64_t row;
} keyed_row;

static int by_hash(const void *a, const void *b) {
    const keyed_row *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

la_status la_row_set_split(const la_row_set *rows, int n_parts, int64_t *list, int64_t *starts,
                           la_error *err) {
    keyed_row *keyed = la_alloc((size_t)rows->n, sizeof *keyed, err);
    int64_t *fold = la_alloc((size_t)rows->n, sizeof *fold, err);
    int64_t distinct = 0, at = 0;
    for (int64_t i = 0; err->status == LA_OK && i < rows->n; i++)
        keyed[i] = (keyed_row){rows->hashes[i], i};
    if (err->status == LA_OK) {
        qsort(keyed, (size_t)rows->n, sizeof *keyed, by_hash);
        for (int64_t i = 0; i < rows->n; i++) {
            distinct += i && keyed[i].hash != keyed[i - 1].hash;
            fold[i] = distinct % n_parts;
        }
        for (int64_t k = 0; k < n_parts; k++) {
            starts[k] = at;
            for (int64_t i = 0; i < rows->n; i++)
                if (fold[i] == k)
                    list[at++] = keyed[i].row;
        }
        starts[n_parts] = at;
        if (distinct + 1 < n_parts)
            (void)la_fail(err, LA_BAD_INPUT,
                          "%s: %lld distinct rows cannot be cross-fitted in %d parts; give more, "
                          "or held-out rows by --val",
                          rows->name, (long long)(distinct + 1), n_parts);
    }
    free(keyed);
    free(fold);
    return err->status;
}

/* Rows [from, to) of the list under the curvature of the others, brought to the size of all rows:
 * with H that of a share s, (H / s + k lambda)^-1 = s (H + s k lambda)^-1. */
static la_status run_fold(la_session *session, const la_structure *structure,
                          const la_row_set *rows, const int64_t *list, int64_t from, int64_t to,
                          const double *scales, const la_log *log, int64_t *others,
                          la_evaluation *all, double *cov, la_error *err) {
    int64_t n = rows->n, count = n - (to - from), m = session->n_rhs;
    double share = (double)count / (double)n, fold_scales[LA_SELECTION_SCALES];
    la_structure part = {.kind = structure->kind,
                         .kron = structure->kron,
                         .params = structure->params,
                         .rank = structure->rank};
    la_evaluation e = {0};
    memcpy(others, list, (size_t)from * sizeof *others);
    memcpy(others + from, list + to, (size_t)(n - to) * sizeof *others);
    for (int g = 0; g < LA_SELECTION_SCALES; g++)
        fold_scales[g] = share * scales[g];
    la_row_job fitted = la_row_job_list(rows, others, count, log);
    la_row_job held = la_row_job_list(rows, list + from, to - from, log);
    la_status status = la_structures_fit(session, &part, 1, &fitted, NULL, err);
    for (int64_t b = 0; b < part.posterior.n_blocks; b++)
        part.posterior.blocks[b].prior_precision = structure->posterior.blocks[b].prior_precision;
    part.posterior.noise_variance = structure->posterior.noise_variance;
    if (status == LA_OK)
        status = la_structures_evaluate(session, &part, 1, &held, LA_SELECTION_SCALES, fold_scales,
                                        all->states != NULL, &e, err);
    if (status == LA_OK) {
        int64_t classes = e.n_classes, width = all->width, held_rows = to - from;
        memcpy(all->logits + from * classes, e.logits,
               (size_t)(held_rows * classes) * sizeof *e.logits);
        if (all->states)
            memcpy(all->states + from * width, e.states,
                   (size_t)(held_rows * width) * sizeof *e.states);
        for (int64_t g = 0; g < LA_SELECTION_SCALES; g++)
            for (int64_t i = 0; i < (to - from) * m * m; i++)
                cov[(g * n + from) * m * m + i] = share * e.cov[0][g * e.n * m * m + i];
    }
    la_evaluation_free(&e);
    la_structures_free(&part, 1);
    return status;
}

la_status la_guard_cross(la_session *session, la_structure *structure, const la_row_set *rows,
                         const la_guard *how, la_error *err) {
    double scales[LA_SELECTION_SCALES];
    size_t n = (size_t)rows->n, m = (size_t)session->n_rhs;
    size_t classes = (size_t)session->workers[0].model.n_classes;
    int64_t starts[FOLDS + 1];
    int64_t *list = la_alloc(n, sizeof *list, err), *others = la_alloc(n, sizeof *others, err);
    la_evaluation all = {.n = rows->n,
                         .n_classes = (int64_t)classes,
                         .width = la_run_state_width(&session->workers[0].model)};
    all.logits = la_alloc(n * classes, sizeof *all.logits, err);
    if (how->forward)
        all.states = la_alloc(n * (size_t)all.width, sizeof *all.states, err);
    double *cov = la_alloc(LA_SELECTION_SCALES * n * m * m, sizeof *cov, err);
    la_status status = err->status;
    la_selection_scales(scales);
    if (status == LA_OK)
        status = la_row_set_split(rows, FOLDS, list, starts, err);
    for (int k = 0; k < FOLDS && status == LA_OK; k++)
        status = run_fold(session, structure, rows, list, starts[k], starts[k + 1], scales,
                          how->log, others, &all, cov, err);
    if (status == LA_OK) {
        la_row_job folded = la_row_job_list(rows, list, rows->n, how->log);
        status = choose(session->team, structure, &folded, &all, scales, cov, true, how, err);
    }
    free(list);
    free(others);
    la_evaluation_free(&all);
    free(cov);
    return status;
}

/* ---- signs of trouble ---- */

typedef struct suspect {
    double confidence;
    int64_t row;
} suspect;

static int least_sure_first(const void *a, const void *b) {
    const suspect *x = a, *y = b;
    if (x->confidence != y->confidence)
        return x->confidence < y->confidence ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* list[n] of the rows: n_fair of them spread evenly, then those that the model is least sure of,
 * whose Fisher information and so whose leverage is largest, as far as they are others. Returns how
 * many there are. outputs NULL: none of those. */
static int64_t pick_rows(const la_session *session, const la_row_set *rows, const float *outputs,
                         int64_t most, int64_t n_fair, int64_t *list, la_error *err) {
    const la_model *model = &session->workers[0].model;
    int64_t n = n_fair;
    for (int64_t i = 0; i < n_fair; i++)
        list[i] = i * rows->n / n_fair;
    if (!outputs || n_fair == most)
        return n;
    suspect *suspects = la_alloc((size_t)rows->n, sizeof *suspects, err);
    double *confidence = la_alloc((size_t)rows->n, sizeof *confidence, err);
    bool *taken = la_alloc((size_t)rows->n, sizeof *taken, err);
    if (err->status == LA_OK &&
        la_signs_confidence(model->likelihood, session->team, rows->n, model->n_classes, outputs,
                            confidence, err) == LA_OK) {
        for (int64_t i = 0; i < rows->n; i++)
            suspects[i] = (suspect){confidence[i], i};
        for (int64_t i = 0; i < n_fair; i++)
            taken[list[i]] = true;
        qsort(suspects, (size_t)rows->n, sizeof *suspects, least_sure_first);
        for (int64_t i = 0; i < rows->n && n < most; i++)
            if (!taken[suspects[i].row])
                list[n++] = suspects[i].row;
    }
    free(suspects);
    free(confidence);
    free(taken);
    return n;
}

static la_status report_signs(la_team team, const la_posterior *p, const la_row_job *job,
                              int64_t n_fair, const float *outputs, const la_evaluation *e,
                              const la_log *log, la_error *err) {
    static const double one = 1;
    double effective;
    la_label_list labels;
    uint64_t *streams;
    LA_TRY(la_posterior_effective(p, &effective, err));
    /* mean over all parameters of posterior over prior variance, 1 / (1 + h / lambda) */
    double ratio = 1 - effective / (double)la_posterior_width(p);
    la_status status = gather(job, &labels, &streams, err);
    la_output_rows rows = {.n = e->n,
                           .n_outputs = e->n_classes,
                           .n_scales = 1,
                           .outputs = e->logits,
                           .scales = &one,
                           .cov = e->cov[0],
                           .streams = streams,
                           .noise_variance = p->noise_variance};
    la_sign_rows from = {.rows = &rows,
                         .labels = &labels,
                         .n_fair = n_fair,
                         .n_all = outputs ? job->set->n : 0,
                         .outputs = outputs,
                         .labels_all = &job->set->labels};
    if (status == LA_OK)
        status =
            la_signs_report(p->likelihood, team, &from, la_curvature_scale(p), ratio, log, err);
    la_label_list_free(&labels);
    free(streams);
    return status;
}

la_status la_guard_signs(la_session *session, const la_structure *structure, const la_row_set *rows,
                         const float *outputs, const la_log *log, la_error *err) {
    static const double one = 1;
    int64_t most = rows->n / SIGN_SHARE;
    most = most < SIGN_LEAST ? SIGN_LEAST : most > SIGN_MOST ? SIGN_MOST : most;
    most = most < rows->n ? most : rows->n;
    bool suspects = most < rows->n && outputs && !(structure->posterior.noise_variance > 0);
    int64_t n_fair = suspects ? most - most / SIGN_SUSPECTS : most;
    int64_t *list = la_alloc((size_t)most, sizeof *list, err);
    la_evaluation e;
    if (!list || !log->warn) { /* no one to log to */
        free(list);
        return err->status;
    }
    la_warn(log, "unguarded: no held-out rows (--val FILE, or --heldout) have checked this "
                 "confidence");
    int64_t n = pick_rows(session, rows, outputs, most, n_fair, list, err);
    la_row_job some = la_row_job_list(rows, list, n, log);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_structures_evaluate(session, structure, 1, &some, 1, &one, false, &e, err);
    if (status == LA_OK) {
        status = report_signs(session->team, &structure->posterior, &some, n_fair, outputs, &e, log,
                              err);
        la_evaluation_free(&e);
    }
    free(list);
    return status;
}
