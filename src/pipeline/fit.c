/* la_fit: calibration rows -> curvature -> prior -> posterior file. */
#include "base/output_file.h"
#include "base/machine.h"
#include "base/stop.h"
#include "bayes/row_digests.h"
#include "likelihood/selection.h"
#include "input/json.h"
#include "output/posterior_file.h"
#include "pipeline/arguments.h"
#include "pipeline/error_head.h"
#include "pipeline/fit.h"
#include "pipeline/guard.h"
#include "pipeline/ood_fit.h"
#include "pipeline/origin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW_ROWS = 10 };
#define OUTPUTS_MOST ((size_t)1 << 24) /* that are kept, for what is said of all rows */

typedef struct fitting {
    const la_fit_options *options;
    bool adds;                  /* parts of the rows are fitted elsewhere */
    const la_fit_rows *brought; /* rows that are summed already; NULL: those of options->data */
    la_session session;
    la_structure structure;
    la_template *prompt;
    la_posterior basis; /* that was given */
    la_row_set rows, held;
    float *states, *held_states; /* of them, for distances and error head; NULL: not there */
    float *outputs;              /* of rows, for signs of trouble; likewise */
    la_select_kind select;       /* AUTO resolved */
} fitting;

static void close_fitting(fitting *f) {
    la_row_set_free(&f->rows);
    la_row_set_free(&f->held);
    free(f->states);
    free(f->held_states);
    free(f->outputs);
    la_template_free(f->prompt);
    la_posterior_free(&f->basis);
    la_structures_free(&f->structure, 1);
    la_session_close(&f->session);
}

/* Options that mean nothing where no held-out rows choose. */
static la_status check_unguarded(const la_fit_options *options, la_error *err) {
    const struct {
        bool given;
        const char *option;
    } needing[] = {{options->keep_answers, "--keep-answers: no held-out rows guard this fit, whose "
                                           "predictions may change answers"},
                   {options->forward, "--predict-cost forward: the variance is distilled on "
                                      "held-out rows, and this fit has none"}};
    for (size_t i = 0; i < sizeof needing / sizeof *needing; i++)
        if (needing[i].given)
            return la_fail(err, LA_USAGE,
                           "%s; give --val FILE or --heldout, and leave out --prior and --select "
                           "%s",
                           needing[i].option,
                           options->select == LA_SELECT_MARGLIK ? "marglik" : "none");
    return LA_OK;
}

/* Choice of the prior, by the options and the rows given. */
static la_status resolve_selection(fitting *f, la_error *err) {
    const la_fit_options *options = f->options;
    f->select = options->select;
    if (options->select == LA_SELECT_VAL && !options->val)
        return la_fail(err, LA_USAGE, "--select val needs --val FILE with held-out labelled rows");
    bool unseen = f->brought && !options->data;
    if (unseen && (options->heldout || options->adue || options->ood))
        return la_fail(err, LA_USAGE,
                       "--%s looks at the calibration rows again, and sums do not hold them; give "
                       "--data FILE with the same rows",
                       options->heldout ? "heldout"
                       : options->adue  ? "adue"
                                        : "ood");
    if (options->select == LA_SELECT_CROSS && !options->heldout)
        return la_fail(err, LA_USAGE,
                       "--select cross needs --heldout: only rows of --data that were not trained "
                       "on can be cross-fitted");
    bool chosen = options->select == LA_SELECT_VAL || options->select == LA_SELECT_CROSS;
    if (options->prior_given && chosen)
        return la_fail(err, LA_USAGE,
                       "--prior is meant exactly and --select %s would change it; give one of them",
                       options->select == LA_SELECT_VAL ? "val" : "cross");
    if (options->select == LA_SELECT_AUTO)
        f->select = options->prior_given ? LA_SELECT_NONE
                    : options->val       ? LA_SELECT_VAL
                    : options->heldout   ? LA_SELECT_CROSS
                                         : LA_SELECT_MARGLIK;
    if (f->select == LA_SELECT_VAL && options->heldout)
        return la_fail(err, LA_USAGE,
                       "--heldout: the rows of --val choose and guard, those of --data would not "
                       "be cross-fitted; give one of them, or --select cross for --data");
    if (f->select == LA_SELECT_CROSS && options->val && !options->adue && !options->ood)
        return la_fail(err, LA_USAGE,
                       "--val: with --select cross the rows of --data choose and guard, those of "
                       "--val would not be read; give one of them");
    bool used = f->select == LA_SELECT_VAL || f->select == LA_SELECT_CROSS;
    if (!used)
        LA_TRY(check_unguarded(options, err));
    if ((options->val || options->heldout) && !used)
        la_warn(&options->run.log, "%s: the held-out rows choose nothing and guard nothing",
                options->prior_given             ? "--prior is meant exactly"
                : f->select == LA_SELECT_MARGLIK ? "--select marglik"
                                                 : "--select none");
    return LA_OK;
}

static la_status select_scale(fitting *f, la_error *err) {
    const la_log *log = &f->options->run.log;
    la_guard how = la_guard_like(&f->structure.posterior, &f->session, log);
    how.states = f->options->ood || f->options->adue ? &f->held_states : NULL;
    f->structure.posterior.temperature = 1;
    switch (f->select) {
    case LA_SELECT_VAL:
        return la_guard_val(&f->session, &f->structure, &f->held, &how, err);
    case LA_SELECT_CROSS:
        return la_guard_cross(&f->session, &f->structure, &f->rows, &how, err);
    case LA_SELECT_MARGLIK:
        if (f->brought && !f->rows.n) {
            la_warn(log, "unguarded: no held-out rows (--val FILE) have checked this confidence, "
                         "and without --data no calibration rows either");
            return LA_OK;
        }
        return la_guard_signs(&f->session, &f->structure, &f->rows, f->outputs, log, err);
    case LA_SELECT_AUTO:
    case LA_SELECT_NONE:
        break;
    }
    return LA_OK;
}

static void note_untrained(const fitting *f, la_adue_outcome outcome) {
    bool training = outcome == LA_ADUE_TRAINING_ALL_RIGHT || outcome == LA_ADUE_TRAINING_ALL_WRONG;
    bool right = outcome == LA_ADUE_TRAINING_ALL_RIGHT || outcome == LA_ADUE_VALIDATION_ALL_RIGHT;
    la_warn(&f->options->run.log,
            "the error head is not trained: the model answers all rows that would %s it %s; its "
            "scores are those of the model's own confidence",
            training ? "train" : "validate", right ? "right" : "wrong");
}

/* States of rows: those that a pass has left, which stay its own, else of one more. */
static la_status states_of(fitting *f, const la_row_job *rows, float *left, la_evaluation *out,
                           la_error *err) {
    const la_model *model = &f->session.workers[0].model;
    *out = (la_evaluation){.n = rows->n,
                           .n_classes = model->n_classes,
                           .width = la_run_state_width(model),
                           .states = left};
    if (left)
        return LA_OK;
    return la_structures_evaluate(&f->session, NULL, 0, rows, 0, NULL, true, out, err);
}

/* From the states of the calibration rows, validated by the held-out rows where there are any. */
static la_status fit_adue(fitting *f, la_error *err) {
    la_evaluation training = {0}, validation = {0};
    la_adue head = {0};
    const la_log *log = &f->options->run.log;
    la_row_job rows = la_row_job_all(&f->rows, log), held = la_row_job_all(&f->held, log);
    la_status status = states_of(f, &rows, f->states, &training, err);
    if (status == LA_OK && held.n)
        status = states_of(f, &held, f->held_states, &validation, err);
    if (status == LA_OK)
        status = la_adue_head_fit(&f->session, &training, f->rows.labels.classes, &validation,
                                  f->held.labels.classes, 0, &head, err);
    if (status == LA_OK && head.outcome != LA_ADUE_TRAINED)
        note_untrained(f, head.outcome);
    if (status == LA_OK)
        status = la_posterior_keep_adue(&f->structure.posterior, &head, err);
    la_adue_free(&head);
    training.states = f->states ? NULL : training.states;
    validation.states = f->held_states ? NULL : validation.states;
    la_evaluation_free(&training);
    la_evaluation_free(&validation);
    return status;
}

/* From the states that the fit's passes have left, and the guard's; what is missing is run. */
static la_status fit_ood(fitting *f, la_error *err) {
    la_evaluation rows = {0}, held = {0};
    const la_log *log = &f->options->run.log;
    la_row_job all = la_row_job_all(&f->rows, log), others = la_row_job_all(&f->held, log);
    la_status status = LA_OK;
    if (!f->states)
        status = la_structures_evaluate(&f->session, NULL, 0, &all, 0, NULL, true, &rows, err);
    if (status == LA_OK && f->held.n && !f->held_states)
        status = la_structures_evaluate(&f->session, NULL, 0, &others, 0, NULL, true, &held, err);
    if (status == LA_OK)
        status = la_ood_fit_rows(&f->session, &f->rows, f->states ? f->states : rows.states,
                                 f->held_states ? f->held_states : held.states, f->held.n,
                                 &f->structure.posterior, err);
    la_evaluation_free(&rows);
    la_evaluation_free(&held);
    return status;
}

/* Options that only one of the likelihoods has. */
static la_status check_likelihood(const fitting *f, la_error *err) {
    const la_fit_options *options = f->options;
    const la_model *model = &f->session.workers[0].model;
    LA_TRY(la_noise_check(model->likelihood, model->n_classes, options->noise, err));
    if (options->adue && !model->likelihood->is_softmax)
        return la_fail(
            err, LA_UNSUPPORTED,
            "--adue: %s %s; the error head is of classifiers of one class a row, leave it out",
            options->adapter, model->likelihood->title);
    return LA_OK;
}

/* Number of prior scales to evaluate held-out rows under, once the curvature is known. */
static int64_t scales_of(la_select_kind select) {
    if (select == LA_SELECT_VAL || select == LA_SELECT_CROSS)
        return LA_SELECTION_SCALES;
    return select == LA_SELECT_MARGLIK;
}

/* Texts that the posterior keeps, checked before hours of work. */
static la_status check_texts(const fitting *f, la_error *err) {
    const la_labels *labels = &f->session.labels;
    if (f->prompt)
        LA_TRY(
            la_posterior_check_text(f->options->template_path, la_template_text(f->prompt), err));
    for (int64_t i = 0; labels->names && i < labels->count; i++) {
        char what[48];
        snprintf(what, sizeof what, "the name of class %lld", (long long)i);
        LA_TRY(la_posterior_check_text(what, labels->names[i], err));
    }
    return LA_OK;
}

static la_status check_out(const la_fit_options *options, la_error *err) {
    LA_TRY(la_output_check(options->out, err));
    LA_TRY(la_output_apart(options->out, "a file of --base", options->base, err));
    LA_TRY(la_output_apart(options->out, "a file of --adapter", options->adapter, err));
    LA_TRY(la_output_apart(options->out, "--data", options->data, err));
    LA_TRY(la_output_apart(options->out, "--val", options->val, err));
    LA_TRY(la_output_apart(options->out, "--basis", options->basis, err));
    return la_output_apart(options->out, "--template", options->template_path, err);
}

static la_status check_origin(const la_fit_rows *rows, const char *what, const char *path,
                              const char *found, const char *expected, la_error *err) {
    if (!strcmp(found, expected))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: is another %s than that of %s (digest %s, expected %s); give --%s DIR with "
                   "the one that the rows were summed under",
                   path, what, rows->name, found, expected, what);
}

/* The model is that of the rows that are brought. */
static la_status check_model(const fitting *f, la_error *err) {
    const la_fit_rows *rows = f->brought;
    const la_provenance *from = &rows->of->provenance;
    const la_session *session = &f->session;
    const la_model *model = &session->workers[0].model;
    LA_TRY(check_origin(rows, "base", session->base, model->base_digest, from->base_digest, err));
    LA_TRY(check_origin(rows, "adapter", session->adapter, model->adapter_digest,
                        from->adapter_digest, err));
    if (session->tokenizer && *from->tokenizer_digest)
        LA_TRY(check_origin(rows, session->tokenizer_of_adapter ? "adapter" : "base",
                            session->tokenizer_of_adapter ? session->adapter : session->base,
                            la_tokenizer_digest(session->tokenizer), from->tokenizer_digest, err));
    if (model->n_classes != rows->of->n_classes || model->likelihood != rows->of->likelihood)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: is of %lld classes, the model of %lld; it is damaged", rows->name,
                       (long long)rows->of->n_classes, (long long)model->n_classes);
    return LA_OK;
}

/* The posterior whose eigenvectors are used: of the same options. */
static la_status open_basis(fitting *f, la_error *err) {
    const la_fit_options *options = f->options;
    const la_structure_kind *kind = f->structure.kind;
    const char *name = la_structure_name(kind);
    if (options->basis && !kind->basis)
        return la_fail(err, LA_USAGE,
                       "--basis: --curvature %s uses no other posterior's eigenvectors; leave it "
                       "out",
                       name);
    if (kind->basis && !options->basis && f->adds)
        return la_fail(err, LA_UNSUPPORTED,
                       "--curvature %s: parts would measure eigenvalues in eigenvectors that all "
                       "rows give; merge parts of --curvature %s first, and give that posterior as "
                       "--basis",
                       name, la_structure_name(kind->basis));
    if (!options->basis)
        return LA_OK;
    LA_TRY(la_posterior_load(options->basis, &f->basis, err));
    const la_posterior *p = &f->basis;
    if (p->curvature != kind->basis->curvature)
        return la_fail(err, LA_MISMATCH, "%s: --curvature %s, expected a posterior of %s",
                       options->basis, la_curvature_names[p->curvature],
                       la_structure_name(kind->basis));
    if (p->kron != options->kron || p->params != f->structure.params ||
        p->rank_asked != options->rank)
        return la_fail(err, LA_MISMATCH,
                       "%s: was fitted with --kron %s --params %s --rank %lld (0: full); give the "
                       "same",
                       options->basis, la_kron_names[p->kron], la_params_names[p->params],
                       (long long)p->rank_asked);
    f->structure.basis = p;
    return LA_OK;
}

/* Digests of model and rows are its own, too. */
static la_status check_basis(const fitting *f, la_error *err) {
    const la_provenance *from = &f->structure.posterior.provenance, *other = &f->basis.provenance;
    const char *what = strcmp(from->base_digest, other->base_digest)         ? "base"
                       : strcmp(from->adapter_digest, other->adapter_digest) ? "adapter"
                       : strcmp(from->data_digest, other->data_digest)       ? "rows (--data)"
                                                                             : NULL;
    if (!f->structure.basis || !what)
        return LA_OK;
    return la_fail(err, LA_MISMATCH, "%s: is of another %s; give the posterior of the same",
                   f->options->basis, what);
}

/* Calibration rows, but where they are summed already and nothing looks at them again. */
static la_status read_rows(fitting *f, la_error *err) {
    const la_fit_options *options = f->options;
    if (options->data)
        LA_TRY(la_row_set_read(&f->session, &options->run, options->data, f->prompt, "calibration",
                               &f->rows, err));
    return LA_OK;
}

static la_status read_prompt(fitting *f, la_error *err) {
    const char *kept = f->brought ? f->brought->of->provenance.template_text : NULL;
    if (f->options->template_path)
        LA_TRY(la_template_read(f->options->template_path, &f->prompt, err));
    if (kept)
        LA_TRY(la_template_parse(f->brought->name, kept, strlen(kept), &f->prompt, err));
    return LA_OK;
}

static la_status open_fitting(fitting *f, la_error *err) {
    const la_fit_options *options = f->options;
    const la_posterior *of = f->brought ? f->brought->of : NULL;
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    if (f->structure.kind->joint && !la_prior_is_one(options->prior)) /* before all the work */
        return la_fail(err, LA_USAGE,
                       "--prior %s: --curvature %s ties all blocks together and has one precision; "
                       "expected global or a number",
                       la_prior_names[options->prior], la_structure_name(f->structure.kind));
    LA_TRY(resolve_selection(f, err));
    LA_TRY(check_out(options, err));
    LA_TRY(open_basis(f, err));
    if (options->choices && options->choice_ids)
        return la_fail(err, LA_USAGE, "give --choices or --choice-ids, not both");
    if (options->choice_ids)
        LA_TRY(la_choice_ids_parse(options->choice_ids, &ids, &n_ids, err));
    la_session_options session = {.run = options->run,
                                  .base = options->base,
                                  .adapter = options->adapter,
                                  .params = f->structure.params,
                                  .choices = options->choices,
                                  .choice_ids = of ? of->provenance.choice_ids : ids,
                                  .n_choices =
                                      of && of->provenance.choice_ids ? of->n_classes : n_ids,
                                  .labels = of ? &of->provenance.labels : NULL,
                                  .max_length = of ? of->provenance.max_length : 0,
                                  .all_inputs = true,
                                  .kind = f->structure.kind,
                                  .kron = options->kron,
                                  .rank = options->rank,
                                  .n_scales = scales_of(f->select)};
    la_status status = la_session_open(&session, &f->session, err);
    free(ids);
    LA_TRY(status);
    if (f->brought)
        LA_TRY(check_model(f, err));
    LA_TRY(check_likelihood(f, err));
    if (options->template_path && f->session.workers[0].model.task == LA_TASK_TAG)
        return la_fail(err, LA_USAGE,
                       "--template: the adapter classifies tokens, whose rows are lists of words");
    LA_TRY(read_prompt(f, err));
    LA_TRY(check_texts(f, err));
    LA_TRY(read_rows(f, err));
    if (f->select == LA_SELECT_VAL || ((options->adue || options->ood) && options->val))
        LA_TRY(la_row_set_read(&f->session, &options->run, options->val, f->prompt, "held-out",
                               &f->held, err));
    if (options->adue && !f->held.n && f->session.workers[0].model.task == LA_TASK_TAG)
        return la_fail(err, LA_USAGE,
                       "--adue needs --val FILE where tokens are classified: tokens of one row "
                       "must not both train and validate");
    if (options->adue && !f->held.n && f->rows.n < LA_ADUE_VALIDATION_SHARE)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: %lld rows are too few to train an error head on without --val, "
                       "expected at least %d",
                       f->rows.name, (long long)f->rows.n, LA_ADUE_VALIDATION_SHARE);
    return options->ood && !f->held.n ? la_ood_check_rows(&f->rows, err) : LA_OK;
}

/* What is said of the calibration rows. */
static la_fit_rows about_rows(const fitting *f) {
    const la_row_set *rows = &f->rows;
    if (f->brought)
        return *f->brought;
    return (la_fit_rows){.n = rows->n,
                         .n_truncated = rows->n_truncated,
                         .n_lost = rows->n_lost,
                         .n_absent = la_label_list_absent(&rows->labels, rows->n,
                                                          f->session.workers[0].model.n_classes)};
}

static void warn_about_rows(const fitting *f) {
    const la_log *log = &f->options->run.log;
    const la_fit_rows about = about_rows(f), *rows = &about;
    int64_t classes = f->session.workers[0].model.n_classes;
    if (rows->n < FEW_ROWS)
        la_warn(log, "only %lld calibration rows: the curvature is a rough guess",
                (long long)rows->n);
    if (rows->n_truncated)
        la_warn(log, "%lld of %lld rows are longer than %lld tokens and were truncated",
                (long long)rows->n_truncated, (long long)rows->n, (long long)f->session.max_length);
    la_feed_log_lost(rows->n_lost, f->session.max_length, log);
    if (rows->n_absent)
        la_warn(log, "%lld of %lld classes have no calibration row", (long long)rows->n_absent,
                (long long)classes);
}

static la_status warn_about_blocks(const fitting *f, la_error *err) {
    int64_t n_flat = 0;
    const char *first = NULL;
    const la_posterior *p = &f->structure.posterior;
    for (int64_t b = 0; b < la_posterior_parts(p); b++) {
        bool flat;
        LA_TRY(la_part_flat(p, b, &flat, err));
        first = flat && !first ? p->blocks[b].name : first;
        n_flat += flat;
    }
    if (n_flat)
        la_warn(&f->options->run.log,
                "%lld blocks have no curvature under this approximation, the first is %s; a prior "
                "per module gives them the others' global precision",
                (long long)n_flat, first);
    return LA_OK;
}

/* Share of the curvature that --rank left out. */
static void note_cut(const fitting *f) {
    const la_posterior *p = &f->structure.posterior;
    int64_t directions = 0;
    if (!f->options->rank || !f->structure.kind->kept)
        return;
    double kept = f->structure.kind->kept(p, &directions);
    if (kept < 1 - 1e-6)
        la_warn(&f->options->run.log,
                "--rank: %lld directions keep %.4g %% of the curvature's trace; the rest counts as "
                "none, here and in the log marginal likelihood",
                (long long)directions, 100 * kept);
}

/* Rows of each class, where a label is one. */
static la_status count_classes(fitting *f, la_error *err) {
    int64_t classes = f->session.workers[0].model.n_classes;
    la_posterior *p = &f->structure.posterior;
    if (!f->brought)
        return la_origin_count_classes(&f->rows, classes, p, err);
    const double *brought = f->brought->of->class_rows;
    double *counts = brought ? la_pool_take(&p->pool, (size_t)classes, sizeof *counts, err) : NULL;
    if (counts)
        memcpy(counts, brought, (size_t)classes * sizeof *counts);
    p->class_rows = counts;
    return err->status;
}

/* Digests of rows that are brought: those of --data must be the same. */
static la_status digest_brought(const fitting *f, la_posterior *posterior, la_error *err) {
    const la_fit_rows *rows = f->brought;
    la_provenance *from = &posterior->provenance;
    char seen[LA_DIGEST_TEXT] = "";
    if (f->rows.n) {
        LA_TRY(la_origin_of_rows(&f->rows, posterior, err));
        strcpy(seen, from->data_digest);
    }
    LA_TRY(la_posterior_keep_row_digests(posterior, rows->digests, rows->n, err));
    if (*seen && strcmp(seen, from->data_digest))
        return la_fail(err, LA_MISMATCH,
                       "%s: its %lld rows are not the %lld of %s; give the file that was summed",
                       f->rows.name, (long long)f->rows.n, (long long)rows->n, rows->name);
    if (strcmp(rows->of->provenance.data_digest, from->data_digest))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: the digests of its rows and that of all do not agree; it is damaged",
                       rows->name);
    return LA_OK;
}

/* Provenance of the posterior, before the passes: carriers of sums tell fits apart by it. */
static la_status describe(fitting *f, la_error *err) {
    la_posterior *p = &f->structure.posterior;
    la_origin origin = {.adapter_name = f->options->run.adapter_name,
                        .template_text = f->prompt ? la_template_text(f->prompt) : NULL,
                        .tokenizer_digest = f->brought ? f->brought->of->provenance.tokenizer_digest
                                            : f->rows.n_text
                                                ? la_tokenizer_digest(f->session.tokenizer)
                                                : ""};
    p->noise_asked = f->options->noise;
    p->keep_answers = f->options->keep_answers != 0;
    p->forward = f->options->forward != 0;
    LA_TRY(la_base_quant_parse(f->options->run.base_quant, &origin.base_quant, err));
    LA_TRY(la_origin_of_model(&f->session, &origin, p, err));
    LA_TRY(f->brought ? digest_brought(f, p, err) : la_origin_of_rows(&f->rows, p, err));
    return count_classes(f, err);
}

static la_status summarise(const fitting *f, const double seconds[8], la_fit_summary **out,
                           la_error *err) {
    const la_posterior *p = &f->structure.posterior;
    la_fit_summary *s = la_alloc(1, sizeof *s, err);
    if (!s)
        return err->status;
    *s = (la_fit_summary){.n_rows = p->n_rows,
                          .n_tokens = p->n_tokens,
                          .n_classes = p->n_classes,
                          .n_blocks = p->n_blocks,
                          .n_truncated = about_rows(f).n_truncated,
                          .log_likelihood = p->log_likelihood,
                          .log_marginal_likelihood = p->log_marginal_likelihood,
                          .noise_variance = p->noise_variance,
                          .task = p->likelihood->task,
                          .curvature = la_curvature_names[p->curvature],
                          .prior = p->prior,
                          .prior_precision = p->prior_precision,
                          .seconds_load = seconds[0],
                          .seconds_curvature = seconds[1],
                          .seconds_decompose = seconds[2],
                          .seconds_prior = seconds[3],
                          .seconds_save = seconds[4],
                          .seconds_select = seconds[5],
                          .seconds_adue = seconds[6],
                          .adue = la_adue_summarise(&p->adue),
                          .seconds_ood = seconds[7],
                          .ood = {.n_reference = p->ood.n_reference,
                                  .rank = p->ood.rank,
                                  .held_out = p->ood.held_out},
                          .device = f->session.workers[0].backend.ops->name,
                          .precision = la_precision_name(f->session.workers[0].backend.precision),
                          .threads = f->session.team.threads};
    la_choice *record = la_alloc(1, sizeof *record, err);
    if (record)
        *record = p->choice;
    s->choice = la_choice_summarise(&p->choice, record);
    s->blocks = la_alloc((size_t)p->n_blocks, sizeof *s->blocks, err);
    for (int64_t b = 0; s->blocks && b < p->n_blocks; b++) {
        const la_posterior_block *block = &p->blocks[b];
        char *name = la_alloc(strlen(block->name) + 1, 1, err);
        if (!name)
            break;
        strcpy(name, block->name);
        s->blocks[b] = (la_block_summary){.name = name,
                                          .out = block->out,
                                          .in = block->in,
                                          .trace_in = block->trace_in,
                                          .trace_out = la_curvature_scale(p) * block->trace_out,
                                          .prior_precision = block->prior_precision};
        s->n_parameters += block->out * block->in;
    }
    if (err->status != LA_OK) {
        la_fit_summary_free(s);
        return err->status;
    }
    *out = s;
    return LA_OK;
}

void la_fit_summary_free(la_fit_summary *summary) {
    if (!summary)
        return;
    for (int64_t b = 0; summary->blocks && b < summary->n_blocks; b++)
        free((void *)(uintptr_t)summary->blocks[b].name);
    free(summary->blocks);
    free((void *)(uintptr_t)summary->choice.record);
    free(summary);
}

/* From complete curvature to the file. seconds: those of loading and of the passes. */
static la_status finish(fitting *f, double seconds[8], la_fit_summary **summary, la_error *err) {
    const la_fit_options *options = f->options;
    double at = la_seconds(), now;
#define LAP(i) (now = la_seconds(), seconds[i] = now - at, at = now)
    warn_about_rows(f);
    LA_TRY(la_noise_choose(&f->structure.posterior, options->prior, options->prior_value,
                           options->noise, err));
    LA_TRY(warn_about_blocks(f, err));
    note_cut(f);
    LAP(3);
    LA_TRY(select_scale(f, err));
    LAP(5);
    if (options->adue)
        LA_TRY(fit_adue(f, err));
    LAP(6);
    if (options->ood)
        LA_TRY(fit_ood(f, err));
    LAP(7);
    LA_TRY(la_posterior_save(&f->structure.posterior, options->out, err));
    LAP(4);
    /* all that may have used a device: held-out rows are passed over, too */
    la_session_profile(&f->session,
                       seconds[1] + seconds[2] + seconds[3] + seconds[5] + seconds[6] + seconds[7],
                       &options->run.log);
#undef LAP
    return summarise(f, seconds, summary, err);
}

/* Memory for what the passes leave of the rows beside their sums. */
static la_status keep_rows(fitting *f, la_row_job *rows, la_error *err) {
    const la_model *model = &f->session.workers[0].model;
    size_t n = (size_t)rows->n, width = (size_t)la_run_state_width(model);
    size_t outputs = n * (size_t)model->n_classes;
    if (f->options->ood || f->options->adue)
        rows->states = f->states = la_alloc(n * width, sizeof *f->states, err);
    if (f->select == LA_SELECT_MARGLIK && f->options->run.log.warn && outputs <= OUTPUTS_MOST)
        rows->outputs = f->outputs = la_alloc(outputs, sizeof *f->outputs, err);
    return err->status;
}

static la_status run(fitting *f, la_carriers *carriers, la_fit_summary **summary, la_error *err) {
    double seconds[8], start = la_seconds(), loaded;
    LA_TRY(open_fitting(f, err));
    LA_TRY(describe(f, err));
    LA_TRY(check_basis(f, err));
    la_row_job rows = la_row_job_all(&f->rows, &f->options->run.log);
    if (f->brought)
        rows.n = 0;
    if (!carriers) /* others run rows elsewhere */
        LA_TRY(keep_rows(f, &rows, err));
    loaded = la_seconds();
    seconds[0] = loaded - start;
    LA_TRY(la_structures_fit(&f->session, &f->structure, 1, &rows, carriers, err));
    seconds[2] = f->structure.seconds_decompose;
    seconds[1] = la_seconds() - loaded - seconds[2];
    return carriers && carriers->ended ? LA_OK : finish(f, seconds, summary, err);
}

la_status la_fit(const la_fit_options *options, la_fit_summary **summary, la_error *err) {
    return la_fit_carried(options, NULL, summary, err);
}

la_status la_fit_carried(const la_fit_options *options, la_carriers *carriers,
                         la_fit_summary **summary, la_error *err) {
    la_error unheard;
    err = err ? err : &unheard;
    *err = (la_error){0};
    if (!summary)
        return la_fail(err, LA_USAGE, "la_fit: summary is NULL, and is needed");
    *summary = NULL;
    LA_TRY(la_arguments_check_fit(options, carriers && carriers->rows, err));
    fitting f = {.options = options,
                 .brought = carriers ? carriers->rows : NULL,
                 .adds = carriers && carriers->adds,
                 .structure = {.kind = options->curvature ? la_structure_named(options->curvature)
                                                          : &la_structure_kron,
                               .kron = options->kron,
                               .params = options->params,
                               .rank = options->rank}};
    if (f.structure.kind->only_params)
        f.structure.params = f.structure.kind->params;
    la_stop before = la_stop_set(options->run.stop);
    la_status status = run(&f, carriers, summary, err);
    la_stop_set(before);
    close_fitting(&f);
    return status;
}
