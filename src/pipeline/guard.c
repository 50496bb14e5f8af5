#include "pipeline/guard.h"
#include "likelihood/scaling.h"
#include "likelihood/answer.h"
#include "likelihood/selection.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    FOLDS = 5,
    FEW_ROWS = 100,    /* a choice by fewer is mostly noise */
    ROWS_EACH = 10,    /* held-out rows a number, to look for biased classes */
    BIASED_MOST = 100, /* classes; more take Newton's method too long for a note */
    SIGN_ROWS = 256,   /* looked at for signs of trouble */
    SIGN_SAMPLES = 200
};

/* ---- choosing ---- */

static void warn_few(const la_choice *choice, bool has_noise, const la_log *log) {
    if (choice->n < FEW_ROWS)
        la_warn(log, "only %lld held-out rows: the choice of prior and %s is mostly noise",
                (long long)choice->n, has_noise ? "noise variance" : "temperature");
}

typedef struct scaled {
    double nll, accuracy;
    double gain, square; /* means of the gains over a temperature, and of their squares */
} scaled;

/* NLL of the rows under a weight and a bias a class that were fitted to them. memory: 4 C */
static la_status scale_classes(const la_held_out *rows, double temperature, double *memory,
                               scaled *out, la_error *err) {
    int64_t c = rows->n_classes;
    double *scale = memory, *bias = scale + c, *p = bias + c, *q = p + c, n = (double)rows->n;
    *out = (scaled){0};
    LA_TRY(la_vector_scaling_fit(rows->n, c, rows->logits, rows->labels.classes, scale, bias, err));
    for (int64_t i = 0; i < rows->n; i++) {
        const float *f = rows->logits + i * c;
        int64_t best = 0;
        la_vector_scaling_apply(c, scale, bias, f, p);
        la_temperature_scaling_apply(c, temperature, f, q);
        for (int64_t k = 1; k < c; k++)
            best = p[k] > p[best] ? k : best;
        double nll = -log(fmax(p[rows->labels.classes[i]], 1e-300));
        double gain = -log(fmax(q[rows->labels.classes[i]], 1e-300)) - nll;
        out->nll += nll / n;
        out->gain += gain / n;
        out->square += gain * gain / n;
        out->accuracy += (best == rows->labels.classes[i]) / n;
    }
    return LA_OK;
}

/* A model whose classes are biased (it was trained too little, or on other shares of them) is not
 * mended by a temperature, nor by any variance: the user should know. Said when the gain over a
 * temperature is more than two standard errors above what the fitted numbers get by chance. */
static void warn_biased(const la_held_out *rows, const la_choice *choice, const la_log *log) {
    const la_candidate *tempered = &choice->candidates[LA_METHOD_TEMPERATURE];
    int64_t c = rows->n_classes, numbers = 2 * c - 2;
    double n = (double)rows->n;
    la_error err = {0};
    scaled s = {0};
    if (!log->warn || c > BIASED_MOST || rows->n < ROWS_EACH * numbers)
        return;
    double *memory = la_alloc((size_t)(4 * c), sizeof *memory, &err);
    bool known = memory && scale_classes(rows, tempered->temperature, memory, &s, &err) == LA_OK;
    free(memory);
    double error = sqrt(fmax(s.square - s.gain * s.gain, 0) / n);
    if (known && s.gain - (double)numbers / n > 2 * error)
        la_warn(log,
                "the classes are biased: with a weight and a bias for each, the held-out rows' NLL "
                "would be %.3f instead of %.3f, and the accuracy %.3f instead of %.3f; no "
                "temperature and no posterior mends that (train longer, or on these shares of "
                "classes)",
                s.nll, tempered->nll, s.accuracy, tempered->accuracy);
}

/* The chosen scale goes into the prior precisions, and the noise with it. Where Laplace was not
 * chosen its best structure is kept, for who asks for it by name. */
static la_status apply(la_structure *structure, const la_choice *choice, const la_log *log,
                       la_error *err) {
    la_posterior *p = &structure->posterior;
    const la_candidate *c = &choice->candidates[la_choice_laplace(choice)];
    p->choice = *choice;
    p->temperature = c->temperature;
    warn_few(choice, p->likelihood->has_noise, log);
    return p->likelihood->has_noise ? la_noise_set(p, c->noise_variance, c->prior_scale, err)
                                    : la_prior_scale(p, c->prior_scale, err);
}

static la_status choose_by(la_team team, la_structure *structure, const la_held_out *rows,
                           bool cross, const la_log *log, la_error *err) {
    la_choice choice;
    LA_TRY(structure->posterior.likelihood->select(team, rows, &choice, err));
    choice.cross = cross;
    LA_TRY(apply(structure, &choice, log, err));
    if (structure->posterior.likelihood->is_softmax)
        warn_biased(rows, &choice, log);
    return LA_OK;
}

static la_status choose(la_team team, la_structure *structure, const la_row_set *set,
                        const int64_t *list, const la_evaluation *e, const double *scales,
                        const double *cov, bool cross, const la_guard *how, la_error *err) {
    la_held_out rows = {.n = e->n,
                        .n_classes = e->n_classes,
                        .n_scales = LA_SELECTION_SCALES,
                        .logits = e->logits,
                        .labels = {.kind = set->labels.kind, .width = set->labels.width},
                        .scales = scales,
                        .cov = cov,
                        .noise_variance = structure->posterior.noise_variance,
                        .noise_given = how->noise_given};
    size_t capacity = 0;
    uint64_t *streams = la_alloc((size_t)e->n, sizeof *streams, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_label_list_grow(&rows.labels, &capacity, (size_t)e->n, err);
    for (int64_t i = 0; i < e->n && status == LA_OK; i++) {
        int64_t row = la_row_at(list, i);
        la_label_list_set(&rows.labels, i, la_label_list_at(&set->labels, row));
        streams[i] = set->streams[row];
    }
    rows.streams = streams;
    if (status == LA_OK)
        status = choose_by(team, structure, &rows, cross, how->log, err);
    la_label_list_free(&rows.labels);
    free(streams);
    return status;
}

la_status la_guard_val(la_session *session, la_structure *structure, const la_row_set *held,
                       const la_guard *how, la_error *err) {
    double scales[LA_SELECTION_SCALES];
    la_evaluation e;
    la_selection_scales(scales);
    LA_TRY(la_structures_evaluate(session, structure, 1, held, NULL, held->n, LA_SELECTION_SCALES,
                                  scales, false, how->log, &e, err));
    la_status status =
        choose(session->team, structure, held, NULL, &e, scales, e.cov[0], false, how, err);
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

/* list[n]: all rows, fold by fold; starts[FOLDS + 1]. Depends on the rows' tokens alone, not on
 * their order in the file. */
static la_status fold_rows(const la_row_set *rows, int64_t *list, int64_t *starts, la_error *err) {
    keyed_row *keyed = la_alloc((size_t)rows->n, sizeof *keyed, err);
    int64_t *fold = la_alloc((size_t)rows->n, sizeof *fold, err);
    int64_t distinct = 0, at = 0;
    for (int64_t i = 0; err->status == LA_OK && i < rows->n; i++)
        keyed[i] = (keyed_row){rows->hashes[i], i};
    if (err->status == LA_OK) {
        qsort(keyed, (size_t)rows->n, sizeof *keyed, by_hash);
        for (int64_t i = 0; i < rows->n; i++) {
            distinct += i && keyed[i].hash != keyed[i - 1].hash;
            fold[i] = distinct % FOLDS;
        }
        for (int64_t k = 0; k < FOLDS; k++) {
            starts[k] = at;
            for (int64_t i = 0; i < rows->n; i++)
                if (fold[i] == k)
                    list[at++] = keyed[i].row;
        }
        starts[FOLDS] = at;
        if (distinct + 1 < FOLDS)
            (void)la_fail(err, LA_BAD_INPUT,
                          "%s: %lld distinct rows cannot be cross-fitted in %d parts", rows->name,
                          (long long)(distinct + 1), FOLDS);
    }
    free(keyed);
    free(fold);
    return err->status;
}

/* Rows [from, to) of the list under the curvature of the others, brought to the size of all rows:
 * with H that of a share s, (H / s + k lambda)^-1 = s (H + s k lambda)^-1. */
static la_status run_fold(la_session *session, const la_structure *structure,
                          const la_row_set *rows, const int64_t *list, int64_t from, int64_t to,
                          const double *scales, const la_log *log, int64_t *others, float *logits,
                          double *cov, la_error *err) {
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
    la_status status = la_structures_fit(session, &part, 1, rows, others, count, log, NULL, err);
    for (int64_t b = 0; b < part.posterior.n_blocks; b++)
        part.posterior.blocks[b].prior_precision = structure->posterior.blocks[b].prior_precision;
    part.posterior.noise_variance = structure->posterior.noise_variance;
    if (status == LA_OK)
        status = la_structures_evaluate(session, &part, 1, rows, list + from, to - from,
                                        LA_SELECTION_SCALES, fold_scales, false, log, &e, err);
    if (status == LA_OK) {
        int64_t classes = e.n_classes;
        memcpy(logits + from * classes, e.logits, (size_t)((to - from) * classes) * sizeof *logits);
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
    float *logits = la_alloc(n * classes, sizeof *logits, err);
    double *cov = la_alloc(LA_SELECTION_SCALES * n * m * m, sizeof *cov, err);
    la_status status = err->status;
    la_selection_scales(scales);
    if (status == LA_OK)
        status = fold_rows(rows, list, starts, err);
    for (int k = 0; k < FOLDS && status == LA_OK; k++)
        status = run_fold(session, structure, rows, list, starts[k], starts[k + 1], scales,
                          how->log, others, logits, cov, err);
    if (status == LA_OK) {
        la_evaluation all = {.n = rows->n, .n_classes = (int64_t)classes, .logits = logits};
        status = choose(session->team, structure, rows, list, &all, scales, cov, true, how, err);
    }
    free(list);
    free(others);
    free(logits);
    free(cov);
    return status;
}

/* ---- signs of trouble ---- */

/* Leverage of a row: the largest eigenvalue of S^T cov S, S S^T its Fisher information; by power
 * iteration on M = S_B^T cov S_B with S_B = B^T S in the contrasts' basis B[C, m]. w:
 * C m + m^2 + 3 m */
static double leverage(const la_likelihood *likelihood, int64_t c, int64_t m, const float *outputs,
                       const double *basis, const double *cov, double *w) {
    double *s = w, *sb = s + c * m, *v = sb + m * m, *u = v + m, *t = u + m, top = 0;
    likelihood->fisher_factor(c, outputs, s);
    for (int64_t k = 0; k < m; k++)
        for (int64_t j = 0; j < m; j++) {
            double sum = 0;
            for (int64_t i = 0; i < c; i++)
                sum += basis[i * m + k] * s[i * m + j];
            sb[k * m + j] = sum;
        }
    for (int64_t j = 0; j < m; j++)
        v[j] = 1 + 0.1 * (double)j;
    for (int step = 0; step < 50; step++) {
        double norm = 0;
        for (int64_t k = 0; k < m; k++) {
            u[k] = 0;
            for (int64_t j = 0; j < m; j++)
                u[k] += sb[k * m + j] * v[j];
        }
        for (int64_t k = 0; k < m; k++) {
            t[k] = 0;
            for (int64_t j = 0; j < m; j++)
                t[k] += cov[k * m + j] * u[j];
        }
        for (int64_t j = 0; j < m; j++) {
            v[j] = 0;
            for (int64_t k = 0; k < m; k++)
                v[j] += sb[k * m + j] * t[k];
            norm += v[j] * v[j];
        }
        top = sqrt(norm);
        for (int64_t j = 0; j < m && top > 0; j++)
            v[j] /= top;
    }
    return top;
}

/* Largest leverage of the rows. */
static la_status most_leverage(const la_posterior *p, const la_evaluation *e, double *most,
                               la_error *err) {
    int64_t c = e->n_classes, m = p->likelihood->contrasts(c);
    double *basis = la_alloc((size_t)(2 * c * m + m * m + 3 * m), sizeof *basis, err);
    if (!basis)
        return err->status;
    p->likelihood->contrast_basis(c, basis);
    *most = 0;
    for (int64_t i = 0; i < e->n; i++)
        *most = fmax(*most, leverage(p->likelihood, c, m, e->logits + i * c, basis,
                                     e->cov[0] + i * m * m, basis + c * m));
    *most *= la_curvature_scale(p);
    free(basis);
    return LA_OK;
}

/* Means over the rows, of the prediction and of the MAP model. */
typedef struct signs {
    double accuracy, confidence, map_confidence;
} signs;

static la_status measure(la_team team, const la_posterior *p, const la_row_set *rows,
                         const int64_t *list, const la_evaluation *e, signs *out, la_error *err) {
    static const double one = 1;
    int64_t c = e->n_classes;
    double *map_probs = la_alloc((size_t)(e->n * c), sizeof *map_probs, err);
    uint64_t *streams = la_alloc((size_t)e->n, sizeof *streams, err);
    la_prediction *predictions = la_alloc((size_t)e->n, sizeof *predictions, err);
    for (int64_t i = 0; i < e->n && err->status == LA_OK; i++) {
        streams[i] = rows->streams[la_row_at(list, i)];
        predictions[i].map_probs = map_probs + i * c;
    }
    la_recipe plain = {
        .kind = *p->likelihood->predictives, .prior_scale = one, .temperature = one, .weight = one};
    la_output_rows found = {.n = e->n,
                            .n_outputs = c,
                            .n_scales = 1,
                            .outputs = e->logits,
                            .scales = &one,
                            .cov = e->cov[0],
                            .streams = streams};
    la_draw_options draws = {.samples = SIGN_SAMPLES};
    la_status status = err->status;
    if (status == LA_OK)
        status = la_answer_rows(p->likelihood, &plain, 1, &found, &draws, team, predictions, err);
    for (int64_t i = 0; i < e->n && status == LA_OK; i++) {
        la_label label = la_label_list_at(&rows->labels, la_row_at(list, i));
        la_prediction map = {.probs = map_probs + i * c};
        p->likelihood->conclude(c, &map);
        out->accuracy += (double)p->likelihood->is_right(c, map.probs, label) / (double)e->n;
        out->map_confidence += map.confidence / (double)e->n;
        out->confidence += predictions[i].confidence / (double)e->n;
    }
    free(map_probs);
    free(streams);
    free(predictions);
    return status;
}

/* On rows that were trained on, the MAP model's confidence is about its accuracy there; a posterior
 * that is sound takes some of it away. More than this is too much. */
#define USUAL_GAP 0.15
#define HIGH_LEVERAGE 2.0

static void warn_leverage(double leverage, const la_log *log) {
    if (leverage > HIGH_LEVERAGE)
        la_warn(
            log,
            "a calibration row has leverage %.3g, where the exact curvature has at most 1: this "
            "curvature misplaces what the rows say (--curvature ekfac or exact do less of it)",
            leverage);
}

static void report_noise(const la_posterior *p, const la_evaluation *e, double leverage,
                         double ratio, const la_log *log) {
    double mean = 0;
    for (int64_t i = 0; i < e->n; i++)
        mean += e->cov[0][i] / (double)e->n;
    la_warn(log,
            "on %lld calibration rows: variance of the model %.3g, of the noise %.3g, largest "
            "leverage %.3g, posterior over prior variance %.3f",
            (long long)e->n, mean, p->noise_variance, leverage, ratio);
}

static void report_confidence(int64_t n, const signs *s, double leverage, double ratio,
                              const la_log *log) {
    la_warn(log,
            "on %lld calibration rows: accuracy %.3f, mean confidence %.3f (MAP %.3f), largest "
            "leverage %.3g, posterior over prior variance %.3f",
            (long long)n, s->accuracy, s->confidence, s->map_confidence, leverage, ratio);
    if (s->accuracy - s->confidence > USUAL_GAP)
        la_warn(
            log,
            "under-confident: the posterior's mean confidence is %.3f below the accuracy on the "
            "calibration rows; a larger --prior, or held-out rows to choose it by, would cure "
            "this",
            s->accuracy - s->confidence);
}

static la_status report_signs(la_team team, const la_posterior *p, const la_row_set *rows,
                              const int64_t *list, const la_evaluation *e, const la_log *log,
                              la_error *err) {
    double most = 0, ratio;
    signs s = {0};
    LA_TRY(most_leverage(p, e, &most, err));
    LA_TRY(la_posterior_effective(p, &ratio, err));
    /* mean over all parameters of posterior over prior variance, 1 / (1 + h / lambda) */
    ratio = 1 - ratio / (double)la_posterior_width(p);
    if (p->likelihood->has_noise) {
        report_noise(p, e, most, ratio, log);
    } else {
        LA_TRY(measure(team, p, rows, list, e, &s, err));
        report_confidence(e->n, &s, most, ratio, log);
    }
    warn_leverage(most, log);
    return LA_OK;
}

la_status la_guard_signs(la_session *session, const la_structure *structure, const la_row_set *rows,
                         const la_log *log, la_error *err) {
    static const double one = 1;
    int64_t n = rows->n < SIGN_ROWS ? rows->n : SIGN_ROWS;
    int64_t *list = la_alloc((size_t)n, sizeof *list, err);
    la_evaluation e;
    if (!list || !log->warn) { /* no one to log to */
        free(list);
        return err->status;
    }
    for (int64_t i = 0; i < n; i++)
        list[i] = i * rows->n / n;
    la_warn(log, "unguarded: no held-out rows (--val FILE, or --heldout) have checked this "
                 "confidence");
    la_status status =
        la_structures_evaluate(session, structure, 1, rows, list, n, 1, &one, false, log, &e, err);
    if (status == LA_OK) {
        status = report_signs(session->team, &structure->posterior, rows, list, &e, log, err);
        la_evaluation_free(&e);
    }
    free(list);
    return status;
}
