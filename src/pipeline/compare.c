#include "pipeline/compare.h"
#include "baselines/adue.h"
#include "baselines/mahalanobis.h"
#include "likelihood/scaling.h"
#include "baselines/scores.h"
#include "base/threads.h"
#include "likelihood/answer.h"
#include "likelihood/selection.h"
#include "pipeline/ensemble.h"
#include "pipeline/error_head.h"
#include "pipeline/tfb_job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FORMS_MOST = 6,
    ROWS_MOST = 40,
    SCALES_MOST = 1 + 2 * FORMS_MOST + LA_SETTINGS_MOST,
    NOISE_DRAWS = 500,
    /* rows of the exact form's Gram matrix above which it is made only when asked for */
    GRAM_CHEAP = 4000
};

/* What a method says of the rows of a file. */
typedef struct answers {
    double *probs;  /* [n, C]; NULL: it is a score */
    double *scores; /* [n] larger: less certain; for probabilities 1 - max p */
} answers;

typedef struct comparing {
    const la_compare_options *options;
    la_session session;
    la_template *prompt;
    la_form forms[FORMS_MOST];
    la_compare_method form_methods[FORMS_MOST];
    int n_forms, guarded; /* the form the guard stands over; -1: it was not asked for */
    la_row_set calib, val, test, ood;
    la_evaluation on_calib, on_val, on_test, on_ood;
    la_choice choices[FORMS_MOST];
    double scales[SCALES_MOST];
    int n_scales;
    double *basis;
    answers test_answers, ood_answers; /* room for those of one method */
    la_comparison *to;
} comparing;

static void close_comparing(comparing *c) {
    la_evaluation_free(&c->on_calib);
    la_evaluation_free(&c->on_val);
    la_evaluation_free(&c->on_test);
    la_evaluation_free(&c->on_ood);
    la_row_set_free(&c->calib);
    la_row_set_free(&c->val);
    la_row_set_free(&c->test);
    la_row_set_free(&c->ood);
    la_forms_free(c->forms, c->n_forms);
    la_template_free(c->prompt);
    free(c->basis);
    free(c->test_answers.probs);
    free(c->test_answers.scores);
    free(c->ood_answers.probs);
    free(c->ood_answers.scores);
    la_session_close(&c->session);
}

/* ---- which methods ---- */

const char *const la_compare_methods[LA_COMPARE_METHODS] = {
    "map",   "temperature", "vector",   "kron",   "ekfac",   "diag",        "last-layer", "exact",
    "guard", "tfb",         "ensemble", "energy", "entropy", "mahalanobis", "adue"};
static const la_compare_method methods_of[LA_CURVATURES] = {[LA_CURVATURE_KRON] = LA_COMPARE_KRON,
                                                            [LA_CURVATURE_EKFAC] = LA_COMPARE_EKFAC,
                                                            [LA_CURVATURE_DIAG] = LA_COMPARE_DIAG,
                                                            [LA_CURVATURE_EXACT] = LA_COMPARE_EXACT,
                                                            [LA_CURVATURE_LAST_LAYER] =
                                                                LA_COMPARE_LAST_LAYER};

/* Whether it is among the methods given by name. */
static bool listed(const la_compare_options *options, la_compare_method method) {
    return options->methods & LA_COMPARE_BIT(method);
}

static bool wanted(const comparing *c, la_compare_method method) {
    return !c->options->methods || listed(c->options, method);
}

static bool has_trained_last_layer(const la_model *model) {
    return model->head[model->n_head - 1].block >= 0 &&
           model->blocks[model->head[model->n_head - 1].block].wanted;
}

/* What the adapter is, where TFB does not know it. */
static const char *title_of(const la_adapter *adapter) {
    bool of_peft = adapter->kind->library == &la_peft;
    return adapter->next ? "one of several adapters"
           : of_peft     ? adapter->kind->name
                         : "of the `adapters` library";
}

/* What was asked for by name and cannot be had is an error, not a row less. */
static la_status check_possible(const comparing *c, la_error *err) {
    static const la_compare_method by_held_out[] = {LA_COMPARE_TEMPERATURE, LA_COMPARE_VECTOR,
                                                    LA_COMPARE_GUARD};
    const la_compare_options *o = c->options;
    const la_model *model = &c->session.workers[0].model;
    if (model->likelihood->label_kind != LA_LABEL_CLASS)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: has one output (a regression); compare is of classifiers, take fit, "
                       "predict and report",
                       *o->adapters);
    for (int i = 0; i < 3; i++)
        if (!o->val && listed(o, by_held_out[i]))
            return la_fail(err, LA_USAGE, "--methods %s needs --val FILE with held-out rows",
                           la_compare_methods[by_held_out[i]]);
    if (o->n_adapters < 2 && listed(o, LA_COMPARE_ENSEMBLE))
        return la_fail(err, LA_USAGE, "--methods ensemble needs several --adapter DIR");
    if (listed(o, LA_COMPARE_LAST_LAYER) && !has_trained_last_layer(model))
        return la_fail(err, LA_BAD_INPUT,
                       "--methods last-layer: the adapter holds no trained head (modules_to_save)");
    if (listed(o, LA_COMPARE_TFB) && !la_tfb_possible(model))
        return la_fail(err, LA_UNSUPPORTED, "--methods tfb: is for LoRA, and %s is %s",
                       model->adapter.config_path, title_of(&model->adapter));
    return LA_OK;
}

/* ---- opening ---- */

static bool is_guarded(const comparing *c, int curvature) {
    return wanted(c, LA_COMPARE_GUARD) && (int)c->options->curvature == curvature;
}

/* The structures that may be open at once, at least one: which of them the adapter has, and whether
 * the rows are few enough for the exact one, is not known before the model and the rows are. */
static int list_kinds(const comparing *c, const la_curvature_kind *kinds[LA_CURVATURES]) {
    int n = 0;
    for (int k = 0; k < LA_CURVATURES; k++)
        if (wanted(c, methods_of[k]) || is_guarded(c, k))
            kinds[n++] = la_curvature_of((la_curvature)k);
    if (!n)
        kinds[n++] = &la_curvature_kron;
    return n;
}

static la_status open_session(comparing *c, la_error *err) {
    const la_compare_options *options = c->options;
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    if (options->choices && options->choice_ids)
        return la_fail(err, LA_USAGE, "give --choices or --choice-ids, not both");
    if (options->choice_ids)
        LA_TRY(la_choice_ids_parse(options->choice_ids, &ids, &n_ids, err));
    const la_curvature_kind *kinds[LA_CURVATURES];
    int n_kinds = list_kinds(c, kinds);
    la_session_options session = {.run = options->run,
                                  .base = options->base,
                                  .adapter = options->adapters[0],
                                  .params = LA_PARAMS_LORA_HEAD,
                                  .head_optional = true,
                                  .choices = options->choices,
                                  .choice_ids = ids,
                                  .n_choices = n_ids,
                                  .all_inputs = true,
                                  .kind = kinds[0],
                                  .beside = kinds + 1,
                                  .n_beside = n_kinds - 1,
                                  .n_scales = LA_SELECTION_SCALES,
                                  .kron = options->kron};
    la_status status = la_session_open(&session, &c->session, err);
    free(ids);
    return status;
}

static la_status read_rows(comparing *c, la_error *err) {
    const la_compare_options *o = c->options;
    LA_TRY(
        la_row_set_read(&c->session, &o->run, o->calib, c->prompt, "calibration", &c->calib, err));
    LA_TRY(la_row_set_read(&c->session, &o->run, o->test, c->prompt, "test", &c->test, err));
    if (o->val)
        LA_TRY(la_row_set_read(&c->session, &o->run, o->val, c->prompt, "held-out", &c->val, err));
    if (o->ood)
        LA_TRY(la_row_set_read(&c->session, &o->run, o->ood, c->prompt, NULL, &c->ood, err));
    return LA_OK;
}

static void list_forms(comparing *c) {
    const la_model *model = &c->session.workers[0].model;
    int64_t gram = c->calib.n * c->session.n_rhs;
    c->guarded = -1;
    for (int k = 0; k < LA_CURVATURES; k++) {
        bool last = k == LA_CURVATURE_LAST_LAYER, asked = wanted(c, methods_of[k]);
        bool guarded = is_guarded(c, k);
        if (!c->options->methods && k == LA_CURVATURE_EXACT)
            asked = gram <= GRAM_CHEAP;
        if ((!asked && !guarded) || (last && !has_trained_last_layer(model)))
            continue;
        if (guarded)
            c->guarded = c->n_forms;
        c->form_methods[c->n_forms] = methods_of[k];
        c->forms[c->n_forms++] = (la_form){.kind = la_curvature_of((la_curvature)k),
                                           .kron = c->options->kron,
                                           .params = last ? LA_PARAMS_LAST : LA_PARAMS_LORA};
    }
}

/* ---- the passes ---- */

static la_status fit_forms(comparing *c, la_error *err) {
    const la_log *log = &c->options->run.log;
    LA_TRY(la_forms_fit(&c->session, c->forms, c->n_forms, &c->calib, NULL, c->calib.n, log, NULL,
                        err));
    for (int i = 0; i < c->n_forms; i++) {
        la_posterior *p = &c->forms[i].posterior;
        p->provenance.adapter_path = c->options->adapters[0];
        LA_TRY(la_prior_choose(p, p->directions.rank ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE, 0, err));
    }
    if (wanted(c, LA_COMPARE_MAHALANOBIS) || wanted(c, LA_COMPARE_ADUE))
        LA_TRY(la_forms_evaluate(&c->session, NULL, 0, &c->calib, NULL, c->calib.n, 0, NULL, true,
                                 log, &c->on_calib, err));
    return LA_OK;
}

static void add_scale(comparing *c, double scale) {
    for (int i = 0; i < c->n_scales; i++)
        if (c->scales[i] == scale)
            return;
    c->scales[c->n_scales++] = scale;
}

/* The held-out rows choose a scale and a temperature for every form. */
static la_status choose(comparing *c, la_error *err) {
    double scales[LA_SELECTION_SCALES];
    const la_evaluation *e = &c->on_val;
    la_selection_scales(scales);
    add_scale(c, 1);
    if (!c->options->val)
        return LA_OK;
    LA_TRY(la_forms_evaluate(&c->session, c->forms, c->n_forms, &c->val, NULL, c->val.n,
                             LA_SELECTION_SCALES, scales, true, &c->options->run.log, &c->on_val,
                             err));
    for (int i = 0; i < c->n_forms; i++) {
        la_held_out rows = {.n = e->n,
                            .n_classes = e->n_classes,
                            .n_scales = LA_SELECTION_SCALES,
                            .logits = e->logits,
                            .labels = c->val.labels,
                            .streams = c->val.streams,
                            .scales = scales,
                            .cov = e->cov[i]};
        LA_TRY(c->session.workers[0].model.likelihood->select(c->session.team, &rows,
                                                              &c->choices[i], err));
        add_scale(c, c->choices[i].candidates[la_choice_laplace(&c->choices[i])].prior_scale);
        add_scale(c, c->choices[i].candidates[c->choices[i].method].prior_scale);
    }
    const la_choice *guard = c->guarded < 0 ? NULL : &c->choices[c->guarded];
    for (int64_t s = 0; guard && guard->method == LA_METHOD_AVERAGE && s < guard->n_settings; s++)
        add_scale(c, guard->settings[s].prior_scale);
    return LA_OK;
}

static la_status evaluate(comparing *c, la_error *err) {
    const la_log *log = &c->options->run.log;
    LA_TRY(la_forms_evaluate(&c->session, c->forms, c->n_forms, &c->test, NULL, c->test.n,
                             c->n_scales, c->scales, true, log, &c->on_test, err));
    if (c->options->ood)
        LA_TRY(la_forms_evaluate(&c->session, c->forms, c->n_forms, &c->ood, NULL, c->ood.n,
                                 c->n_scales, c->scales, true, log, &c->on_ood, err));
    return LA_OK;
}

static la_status allocate(comparing *c, la_error *err) {
    size_t classes = (size_t)c->session.workers[0].model.n_classes;
    c->basis = la_alloc(classes * (classes - 1), sizeof *c->basis, err);
    c->test_answers.probs = la_alloc((size_t)c->test.n * classes, sizeof(double), err);
    c->test_answers.scores = la_alloc((size_t)c->test.n, sizeof(double), err);
    c->ood_answers.probs = la_alloc((size_t)c->ood.n * classes, sizeof(double), err);
    c->ood_answers.scores = la_alloc((size_t)c->ood.n, sizeof(double), err);
    c->to->rows = la_alloc(ROWS_MOST, sizeof *c->to->rows, err);
    LA_TRY(err->status);
    c->session.workers[0].model.likelihood->contrast_basis((int64_t)classes, c->basis);
    return LA_OK;
}

/* ---- rows of the table ---- */

static la_comparison_row *new_row(comparing *c, const char *name) {
    la_comparison_row *row = &c->to->rows[c->to->n++];
    *row = (la_comparison_row){.ece_noise = NAN, .ood_auroc = NAN};
    snprintf(row->name, sizeof row->name, "%s", name);
    for (int m = 0; m < LA_METRIC_COUNT; m++)
        row->value[m] = NAN;
    row->seconds_fit = row->seconds_predict = NAN;
    return row;
}

/* How well the scores tell the rows of --ood from the test rows. */
static la_status rate_ood(const comparing *c, la_comparison_row *row, la_error *err) {
    size_t n = (size_t)(c->test.n + c->ood.n);
    if (!c->ood.n)
        return LA_OK;
    double *scores = la_alloc(n, sizeof *scores, err);
    bool *other = la_alloc(n, sizeof *other, err);
    if (err->status == LA_OK) {
        memcpy(scores, c->test_answers.scores, (size_t)c->test.n * sizeof *scores);
        memcpy(scores + c->test.n, c->ood_answers.scores, (size_t)c->ood.n * sizeof *scores);
        for (int64_t i = 0; i < c->ood.n; i++)
            other[c->test.n + i] = true;
        row->ood_auroc = la_auroc((int64_t)n, scores, other, err);
    }
    free(scores);
    free(other);
    return err->status;
}

static void fill_scores(int64_t n, int64_t classes, answers *a) {
    for (int64_t i = 0; i < n; i++) {
        double top = 0;
        for (int64_t k = 0; k < classes; k++)
            top = a->probs[i * classes + k] > top ? a->probs[i * classes + k] : top;
        a->scores[i] = 1 - top;
    }
}

/* Of the probabilities in test_answers and ood_answers. */
static la_status rate_probs(comparing *c, la_comparison_row *row, la_error *err) {
    int64_t classes = c->on_test.n_classes;
    la_metrics metrics;
    row->has_probs = true;
    la_metric_rows rows = {c->test.n, classes, c->test_answers.probs, c->test.labels};
    LA_TRY(la_metrics_compute(&la_softmax_metrics, &rows, &metrics, err));
    memcpy(row->value, metrics.value, sizeof row->value);
    fill_scores(c->test.n, classes, &c->test_answers);
    fill_scores(c->ood.n, classes, &c->ood_answers);
    double *confidence = la_alloc((size_t)c->test.n, sizeof *confidence, err);
    if (!confidence)
        return err->status;
    for (int64_t i = 0; i < c->test.n; i++)
        confidence[i] = 1 - c->test_answers.scores[i];
    row->ece_noise = la_ece_noise(c->test.n, confidence, NOISE_DRAWS, 1);
    free(confidence);
    return rate_ood(c, row, err);
}

/* Of the scores alone: how well they rank the MAP model's errors. A score becomes the confidence of a
 * model with two answers, right and wrong, so that ties and coverages are counted as ever. */
static la_status rate_scores(comparing *c, la_comparison_row *row, la_error *err) {
    int64_t n = c->test.n, classes = c->on_test.n_classes;
    double *probs = la_alloc((size_t)(2 * n), sizeof *probs, err), low = INFINITY, high = -INFINITY;
    int64_t *right = la_alloc((size_t)n, sizeof *right, err);
    la_metrics metrics;
    la_status status = err->status;
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        const float *f = c->on_test.logits + i * classes;
        int64_t best = 0;
        for (int64_t k = 1; k < classes; k++)
            best = f[k] > f[best] ? k : best;
        right[i] = best == c->test.labels.classes[i] ? 0 : 1;
        low = fmin(low, c->test_answers.scores[i]);
        high = fmax(high, c->test_answers.scores[i]);
    }
    for (int64_t i = 0; i < n && status == LA_OK; i++) {
        double at = high > low ? (c->test_answers.scores[i] - low) / (high - low) : 0;
        probs[2 * i] = 1 - 0.49 * at;
        probs[2 * i + 1] = 0.49 * at;
    }
    la_metric_rows rows = {n, 2, probs, {.classes = right}};
    if (status == LA_OK)
        status = la_metrics_compute(&la_softmax_metrics, &rows, &metrics, err);
    free(probs);
    free(right);
    LA_TRY(status);
    row->value[LA_METRIC_AUROC] = metrics.value[LA_METRIC_AUROC];
    row->value[LA_METRIC_AURC] = metrics.value[LA_METRIC_AURC];
    return rate_ood(c, row, err);
}

/* ---- methods without a posterior ---- */

static la_status add_scaled(comparing *c, const char *name, la_error *err) {
    int64_t classes = c->on_test.n_classes;
    double start = la_seconds(), temperature = 1;
    double *scale = la_alloc((size_t)(2 * classes), sizeof *scale, err), *bias = scale + classes;
    bool vector = !strcmp(name, "vector");
    if (!scale)
        return err->status;
    la_comparison_row *row = new_row(c, name);
    la_status status = LA_OK;
    if (vector)
        status = la_vector_scaling_fit(c->val.n, classes, c->on_val.logits, c->val.labels.classes,
                                       scale, bias, err);
    else if (strcmp(name, "map"))
        status = la_temperature_scaling_fit(c->val.n, classes, c->on_val.logits,
                                            c->val.labels.classes, &temperature, err);
    row->seconds_fit = strcmp(name, "map") ? la_seconds() - start + c->on_val.seconds_forward : 0;
    row->seconds_predict = c->on_test.seconds_forward;
    if (!vector && strcmp(name, "map"))
        snprintf(row->note, sizeof row->note, "T %.3g", temperature);
    for (int side = 0; side < 2 && status == LA_OK; side++) {
        const la_evaluation *e = side ? &c->on_ood : &c->on_test;
        answers *to = side ? &c->ood_answers : &c->test_answers;
        for (int64_t i = 0; i < e->n; i++) {
            const float *f = e->logits + i * classes;
            if (vector)
                la_vector_scaling_apply(classes, scale, bias, f, to->probs + i * classes);
            else
                la_temperature_scaling_apply(classes, temperature, f, to->probs + i * classes);
        }
    }
    free(scale);
    LA_TRY(status);
    return rate_probs(c, row, err);
}

static la_status add_logit_score(comparing *c, const char *name,
                                 double (*score)(int64_t n_classes, const float *logits),
                                 la_error *err) {
    int64_t classes = c->on_test.n_classes;
    la_comparison_row *row = new_row(c, name);
    row->seconds_fit = 0;
    row->seconds_predict = c->on_test.seconds_forward;
    for (int64_t i = 0; i < c->test.n; i++)
        c->test_answers.scores[i] = score(classes, c->on_test.logits + i * classes);
    for (int64_t i = 0; i < c->ood.n; i++)
        c->ood_answers.scores[i] = score(classes, c->on_ood.logits + i * classes);
    return rate_scores(c, row, err);
}

static la_status add_mahalanobis(comparing *c, la_error *err) {
    la_mahalanobis m = {0};
    double start = la_seconds();
    la_status status =
        la_mahalanobis_fit(c->session.team, c->calib.n, c->on_calib.width, c->on_calib.n_classes,
                           c->on_calib.states, c->calib.labels.classes, &m, err);
    double fitted = la_seconds() - start + c->on_calib.seconds_forward;
    for (int relative = 0; relative < 2 && status == LA_OK; relative++) {
        la_status (*score)(la_team, const la_mahalanobis *, int64_t, const float *, double *,
                           la_error *) = relative ? la_mahalanobis_relative : la_mahalanobis_score;
        la_comparison_row *row = new_row(c, relative ? "mahalanobis, relative" : "mahalanobis");
        row->seconds_fit = fitted;
        row->seconds_predict = c->on_test.seconds_forward;
        status =
            score(c->session.team, &m, c->test.n, c->on_test.states, c->test_answers.scores, err);
        if (status == LA_OK && c->ood.n)
            status =
                score(c->session.team, &m, c->ood.n, c->on_ood.states, c->ood_answers.scores, err);
        if (status == LA_OK)
            status = rate_scores(c, row, err);
    }
    la_mahalanobis_free(&m);
    return status;
}

static la_status add_adue(comparing *c, la_error *err) {
    la_adue head;
    double start = la_seconds();
    LA_TRY(la_adue_head_fit(&c->session, &c->on_calib, c->calib.labels.classes, &c->on_val,
                            c->val.labels.classes, c->options->seed, &head, err));
    double *workspace = la_alloc((size_t)head.n_classes, sizeof *workspace, err);
    la_comparison_row *row = new_row(c, "adue");
    row->seconds_fit = la_seconds() - start + c->on_calib.seconds_forward;
    row->seconds_predict = c->on_test.seconds_forward;
    if (head.outcome != LA_ADUE_TRAINED)
        snprintf(row->note, sizeof row->note, "not trained: all rows are %s",
                 head.outcome == LA_ADUE_TRAINING_ALL_WRONG ||
                         head.outcome == LA_ADUE_VALIDATION_ALL_WRONG
                     ? "wrong"
                     : "right");
    for (int64_t i = 0; i < c->test.n && workspace; i++)
        c->test_answers.scores[i] =
            la_adue_score(&head, c->on_test.states + i * head.width, workspace);
    for (int64_t i = 0; i < c->ood.n && workspace; i++)
        c->ood_answers.scores[i] =
            la_adue_score(&head, c->on_ood.states + i * head.width, workspace);
    free(workspace);
    la_adue_free(&head);
    LA_TRY(err->status);
    return rate_scores(c, row, err);
}

/* ---- Laplace ---- */

/* Predictions of the rows by n recipes, of a form. */
static la_status answer(const comparing *c, int form, const la_recipe *recipes, int64_t n,
                        const la_row_set *rows, const la_evaluation *e, answers *to,
                        la_error *err) {
    la_prediction *predictions = la_alloc((size_t)e->n, sizeof *predictions, err);
    la_output_rows found = {.n = e->n,
                            .n_outputs = e->n_classes,
                            .n_scales = e->n_scales,
                            .outputs = e->logits,
                            .scales = c->scales,
                            .cov = e->cov[form],
                            .streams = rows->streams};
    la_draw_options draws = {.samples = c->options->samples, .seed = c->options->seed};
    for (int64_t i = 0; predictions && i < e->n; i++)
        predictions[i].probs = to->probs + i * e->n_classes;
    if (predictions)
        la_answer_rows(c->session.workers[0].model.likelihood, recipes, n, &found, &draws,
                       c->session.team, predictions, err);
    for (int64_t i = 0; predictions && i < e->n; i++)
        to->scores[i] = predictions[i].mutual_information;
    free(predictions);
    return err->status;
}

static la_status add_laplace(comparing *c, const char *name, int form, const la_recipe *recipes,
                             int64_t n, bool information, la_error *err) {
    la_comparison_row *row = new_row(c, name);
    const la_form *of = &c->forms[form];
    row->seconds_fit = of->seconds_passes + of->seconds_decompose;
    row->seconds_predict = c->on_test.seconds[form];
    if (n == 1 && (recipes->prior_scale != 1 || recipes->temperature != 1))
        snprintf(row->note, sizeof row->note, "prior x %.3g, T %.3g%s", recipes->prior_scale,
                 recipes->temperature,
                 recipes->kind == &la_predictive_scalar ? ", scalar probit" : "");
    LA_TRY(answer(c, form, recipes, n, &c->test, &c->on_test, &c->test_answers, err));
    if (c->ood.n)
        LA_TRY(answer(c, form, recipes, n, &c->ood, &c->on_ood, &c->ood_answers, err));
    return information ? rate_scores(c, row, err) : rate_probs(c, row, err);
}

static const la_recipe plain = {
    .kind = &la_predictive_mc, .prior_scale = 1, .temperature = 1, .weight = 1};

/* A form's recipe by the held-out rows. */
static la_recipe held_out_recipe(const comparing *c, int form) {
    la_recipe recipe;
    const la_choice *choice = &c->choices[form];
    la_choice_recipes(c->session.workers[0].model.likelihood, choice, la_choice_laplace(choice),
                      &recipe);
    return recipe;
}

/* As the marginal likelihood has it, and as the held-out rows do. */
static la_status add_form(comparing *c, int form, la_error *err) {
    const char *name = c->forms[form].kind->name;
    char held[40];
    if (!wanted(c, c->form_methods[form]))
        return LA_OK;
    LA_TRY(add_laplace(c, name, form, &plain, 1, false, err));
    if (!c->options->val)
        return LA_OK;
    la_recipe chosen = held_out_recipe(c, form);
    snprintf(held, sizeof held, "%s, held-out", name);
    return add_laplace(c, held, form, &chosen, 1, false, err);
}

static la_status add_guard(comparing *c, la_error *err) {
    if (c->guarded < 0 || !c->options->val)
        return LA_OK;
    const la_choice *choice = &c->choices[c->guarded];
    la_recipe recipes[LA_SETTINGS_MOST];
    int at = c->to->n;
    if (choice->method == LA_METHOD_MAP || choice->method == LA_METHOD_TEMPERATURE) {
        LA_TRY(add_scaled(c, choice->method == LA_METHOD_MAP ? "map" : "temperature", err));
    } else {
        int64_t n = la_choice_recipes(c->session.workers[0].model.likelihood, choice,
                                      choice->method, recipes);
        LA_TRY(add_laplace(c, "guard", c->guarded, recipes, n, false, err));
    }
    la_comparison_row *row = &c->to->rows[at];
    const la_form *form = &c->forms[c->guarded];
    snprintf(row->name, sizeof row->name, "guard");
    snprintf(row->note, sizeof row->note, "%s: %s", form->kind->name,
             la_method_names[choice->method]);
    if (choice->method == LA_METHOD_AVERAGE)
        snprintf(row->note, sizeof row->note, "%s: average of %lld settings", form->kind->name,
                 (long long)choice->n_settings);
    row->seconds_fit =
        form->seconds_passes + form->seconds_decompose + c->on_val.seconds[c->guarded];
    return LA_OK;
}

/* The disagreement of the networks, as a score of its own. */
static la_status add_information(comparing *c, la_error *err) {
    int form = c->guarded >= 0 ? c->guarded : 0;
    la_recipe recipe = plain;
    if (!c->n_forms || !wanted(c, c->form_methods[form]))
        return LA_OK;
    if (c->options->val) {
        recipe = held_out_recipe(c, form);
        recipe.kind = plain.kind;
    }
    char name[40];
    snprintf(name, sizeof name, "%s, information", c->forms[form].kind->name);
    return add_laplace(c, name, form, &recipe, 1, true, err);
}

/* ---- other networks ---- */

static la_status add_tfb(comparing *c, la_error *err) {
    const la_log *log = &c->options->run.log;
    const la_row_set *anchor = c->options->val ? &c->val : &c->calib;
    la_comparison_row *row = new_row(c, "tfb");
    la_tfb_options options = la_tfb_defaults;
    la_tfb_choice choice;
    double start = la_seconds();
    options.seed = c->options->seed;
    LA_TRY(la_tfb_fit(&c->session, anchor, NULL, anchor->n, &options, log, &choice, err));
    row->seconds_fit = la_seconds() - start;
    snprintf(row->note, sizeof row->note, "sigma %.3g, %lld networks", choice.sigma,
             (long long)options.networks);
    start = la_seconds();
    LA_TRY(la_tfb_predict(&c->session, &c->test, NULL, c->test.n, choice.sigma, options.networks,
                          options.seed, log, c->test_answers.probs, err));
    row->seconds_predict = la_seconds() - start;
    if (c->ood.n)
        LA_TRY(la_tfb_predict(&c->session, &c->ood, NULL, c->ood.n, choice.sigma, options.networks,
                              options.seed, log, c->ood_answers.probs, err));
    return rate_probs(c, row, err);
}

static la_status add_networks(comparing *c, la_error *err) {
    const la_compare_options *o = c->options;
    la_ensemble ensemble = {.session = &c->session,
                            .run = &o->run,
                            .base = o->base,
                            .adapters = o->adapters,
                            .n_adapters = o->n_adapters,
                            .choice_ids = c->session.choice_ids,
                            .n_choices = c->session.choice_ids ? c->on_test.n_classes : 0};
    if (wanted(c, LA_COMPARE_TFB) && la_tfb_possible(&c->session.workers[0].model))
        LA_TRY(add_tfb(c, err));
    if (wanted(c, LA_COMPARE_ENSEMBLE) && o->n_adapters > 1) {
        la_comparison_row *row = new_row(c, "ensemble");
        row->seconds_fit = 0;
        LA_TRY(la_ensemble_predict(&ensemble, &c->test, c->test_answers.probs, &c->ood,
                                   c->ood_answers.probs, &row->seconds_predict, err));
        snprintf(row->note, sizeof row->note, "%d adapters", o->n_adapters);
        LA_TRY(rate_probs(c, row, err));
    }
    return LA_OK;
}

static la_status add_all(comparing *c, la_error *err) {
    bool val = c->options->val != NULL;
    if (wanted(c, LA_COMPARE_MAP))
        LA_TRY(add_scaled(c, "map", err));
    if (val && wanted(c, LA_COMPARE_TEMPERATURE))
        LA_TRY(add_scaled(c, "temperature", err));
    if (val && wanted(c, LA_COMPARE_VECTOR))
        LA_TRY(add_scaled(c, "vector", err));
    for (int i = 0; i < c->n_forms; i++)
        LA_TRY(add_form(c, i, err));
    LA_TRY(add_guard(c, err));
    LA_TRY(add_networks(c, err));
    LA_TRY(add_information(c, err));
    if (wanted(c, LA_COMPARE_ENTROPY))
        LA_TRY(add_logit_score(c, "entropy", la_score_entropy, err));
    if (wanted(c, LA_COMPARE_ENERGY))
        LA_TRY(add_logit_score(c, "energy", la_score_energy, err));
    if (wanted(c, LA_COMPARE_MAHALANOBIS))
        LA_TRY(add_mahalanobis(c, err));
    if (wanted(c, LA_COMPARE_ADUE))
        LA_TRY(add_adue(c, err));
    return LA_OK;
}

static la_status run(comparing *c, la_error *err) {
    const la_compare_options *o = c->options;
    la_comparison *to = c->to;
    LA_TRY(open_session(c, err));
    LA_TRY(check_possible(c, err));
    if (o->template_path)
        LA_TRY(la_template_read(o->template_path, &c->prompt, err));
    LA_TRY(read_rows(c, err));
    *to = (la_comparison){.calib = o->calib,
                          .val = o->val,
                          .test = o->test,
                          .ood = o->ood,
                          .n_calib = c->calib.n,
                          .n_val = c->val.n,
                          .n_test = c->test.n,
                          .n_ood = c->ood.n,
                          .n_classes = c->session.workers[0].model.n_classes};
    list_forms(c);
    LA_TRY(allocate(c, err));
    LA_TRY(fit_forms(c, err));
    LA_TRY(choose(c, err));
    LA_TRY(evaluate(c, err));
    return add_all(c, err);
}

la_status la_compare(const la_compare_options *options, la_comparison *comparison, la_error *err) {
    comparing c = {.options = options, .to = comparison};
    *err = (la_error){0};
    *comparison = (la_comparison){0};
    la_status status = run(&c, err);
    close_comparing(&c);
    if (status != LA_OK) {
        free(comparison->rows);
        *comparison = (la_comparison){0};
    }
    return status;
}
