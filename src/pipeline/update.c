/* la_update: a posterior and rows -> a posterior.
 *
 * Curvature is a sum over rows, and a posterior's factors are its sums (Q diag(values) Q^T): those
 * of other rows are added to it or taken from it, everything behind the sums is done again. Another
 * adapter of the same blocks: the old sums stay as they are, the prior is the old posterior about
 * the old adapter (BH-PEFT, arXiv 2508.02711), and the new adapter is where the new posterior is
 * centred. */
#include "pipeline/update.h"
#include "base/machine.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "output/posterior_file.h"
#include "pipeline/origin.h"
#include "pipeline/posterior_session.h"
#include "pipeline/update_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const la_update_choice_names[] = {"none", "new", "old", "cleared"};

static void close_updating(la_updating *u) {
    la_row_set_free(&u->rows);
    la_row_set_free(&u->held);
    la_template_free(u->prompt);
    la_structures_free(&u->structure, 1);
    la_session_close(&u->session);
    la_posterior_free(&u->old);
    free(u->theta);
}

static la_status check_options(const la_update_options *options, la_error *err) {
    if (!options->data == !options->remove)
        return la_fail(err, LA_USAGE,
                       "update needs --data with rows to add, or --remove with rows to take out: "
                       "one of them");
    if (options->remove && options->forget != 1)
        return la_fail(err, LA_USAGE,
                       "--forget %g: discounts the old rows where new ones are added; leave it out "
                       "with --remove",
                       options->forget);
    if (!(options->forget > 0 && options->forget <= 1))
        return la_fail(err, LA_USAGE, "--forget %g: expected a number above 0, at most 1",
                       options->forget);
    LA_TRY(la_output_check(options->out, err));
    LA_TRY(la_output_apart(options->out, "--data", options->data, err));
    LA_TRY(la_output_apart(options->out, "--remove", options->remove, err));
    LA_TRY(la_output_apart(options->out, "--val", options->val, err));
    LA_TRY(la_output_apart(options->out, "a file of --base", options->base, err));
    return la_output_apart(options->out, "a file of --adapter", options->adapter, err);
}

/* What cannot be done with this posterior, before its model is opened. */
static la_status check_old(const la_updating *u, la_error *err) {
    const la_posterior *old = &u->old;
    const la_structure_kind *kind = la_structure_of(old->curvature);
    const char *path = u->options->posterior;
    int64_t directions = 0;
    if (!old->provenance.row_digests)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: does not say which rows it is of: an earlier laplora wrote it; fit it "
                       "again to update it",
                       path);
    LA_TRY(la_structure_restores(kind, err));
    if (!u->taken_out || !old->rank_asked || !kind->kept)
        return LA_OK;
    double kept = kind->kept(old, &directions);
    if (kept > 1 - 1e-9 && !(kind->joint && directions >= old->rank_asked))
        return LA_OK;
    return la_fail(
        err, LA_UNSUPPORTED,
        "%s: --rank %lld has left out a part of its curvature, from which no rows can be "
        "taken out exactly; fit again without them",
        path, (long long)old->rank_asked);
}

/* ---- the model ---- */

static la_posterior_session session_of(const la_updating *u) {
    const la_update_options *options = u->options;
    return (la_posterior_session){.run = options->run,
                                  .posterior = &u->old,
                                  .path = options->posterior,
                                  .base = options->base,
                                  .adapter = options->adapter,
                                  .fits = true,
                                  .n_scales = options->val ? LA_SELECTION_SCALES : 0};
}

/* The old adapter's numbers, before the new one's model takes its place. */
static la_status read_old_adapter(la_updating *u, la_error *err) {
    la_session session = {0};
    la_posterior_session ask = session_of(u);
    ask.adapter = NULL;
    u->theta = la_alloc((size_t)la_posterior_width(&u->old), sizeof *u->theta, err);
    LA_TRY(err->status);
    la_status status = la_posterior_session_open(&ask, &session, err);
    if (status == LA_OK)
        status = la_origin_theta(&session, u->theta, err);
    la_session_close(&session);
    return status;
}

static la_status open_session(la_updating *u, la_error *err) {
    la_posterior_session ask = session_of(u);
    ask.other_adapter = u->options->adapter && !u->taken_out;
    LA_TRY(la_posterior_session_open(&ask, &u->session, err));
    u->new_adapter =
        strcmp(u->session.workers[0].model.adapter_digest, u->old.provenance.adapter_digest) != 0;
    if (!u->new_adapter)
        return LA_OK;
    la_session_close(&u->session);
    LA_TRY(read_old_adapter(u, err));
    return la_posterior_session_open(&ask, &u->session, err);
}

static la_status read_rows(la_updating *u, la_error *err) {
    const la_update_options *options = u->options;
    const char *path = u->taken_out ? options->remove : options->data;
    const char *text = u->old.provenance.template_text;
    if (text)
        LA_TRY(la_template_parse("the posterior's template", text, strlen(text), &u->prompt, err));
    LA_TRY(la_row_set_read(&u->session, &options->run, path, u->prompt,
                           u->taken_out ? "withdrawn" : "calibration", &u->rows, err));
    if (u->rows.n_truncated)
        la_warn(
            &options->run.log, "%lld of %lld rows are longer than %lld tokens and were truncated",
            (long long)u->rows.n_truncated, (long long)u->rows.n, (long long)u->session.max_length);
    if (options->val)
        LA_TRY(la_row_set_read(&u->session, &options->run, options->val, u->prompt, "held-out",
                               &u->held, err));
    return u->taken_out ? la_update_find_rows(u, err) : LA_OK;
}

/* ---- the new posterior ---- */

/* Rows of each class, where a label is one. */
static la_status count_classes(la_updating *u, la_error *err) {
    la_posterior *p = &u->structure.posterior;
    if (!u->old.class_rows)
        return LA_OK;
    LA_TRY(la_origin_count_classes(&u->rows, u->old.n_classes, p, err));
    for (int64_t c = 0; p->class_rows && c < u->old.n_classes; c++)
        p->class_rows[c] = u->times * u->old.class_rows[c] + u->sign * p->class_rows[c];
    return LA_OK;
}

/* What the new posterior has of the old one, but for its rows. */
static la_status describe(la_updating *u, la_error *err) {
    la_posterior *p = &u->structure.posterior;
    const la_provenance *from = &u->old.provenance;
    const char *name = u->options->run.adapter_name;
    bool text = !u->taken_out && u->rows.n_text;
    la_origin origin = {.adapter_name = name ? name : from->adapter_name,
                        .template_text = from->template_text,
                        .tokenizer_digest = text ? la_tokenizer_digest(u->session.tokenizer)
                                                 : from->tokenizer_digest,
                        .base_quant = from->base_quant};
    p->noise_asked = u->old.noise_asked;
    p->keep_answers = u->old.keep_answers;
    p->forward = u->old.forward;
    LA_TRY(la_origin_of_model(&u->session, &origin, p, err));
    LA_TRY(count_classes(u, err));
    return la_update_keep_rows(u, err);
}

/* Error head and distances are of the calibration rows' states: those of a new adapter are others,
 * and rows that are taken out had a part in them. */
static la_status keep_extras(la_updating *u, la_error *err) {
    la_posterior *p = &u->structure.posterior;
    const la_log *log = &u->options->run.log;
    la_update_summary *s = u->summary;
    bool drops = u->taken_out || u->new_adapter;
    s->cleared_adue = drops && u->old.adue.weight;
    s->cleared_ood = drops && u->old.ood.means;
    s->kept_adue = !drops && u->old.adue.weight;
    s->kept_ood = !drops && u->old.ood.means;
    if (s->kept_adue)
        LA_TRY(la_posterior_keep_adue(p, &u->old.adue, err));
    if (s->kept_ood)
        LA_TRY(la_posterior_keep_ood(p, &u->old.ood, err));
    if (s->cleared_adue || s->cleared_ood)
        la_warn(log, "%s%s%s dropped: %s; fit again for new ones",
                s->cleared_adue ? "the error head" : "",
                s->cleared_adue && s->cleared_ood ? " and " : "",
                s->cleared_ood ? "the distances are" : " is",
                u->taken_out ? "the rows taken out had a part in them"
                             : "they are of the old adapter's states");
    if (s->kept_adue || s->kept_ood)
        la_warn(log, "%s%s%s those of the old rows", s->kept_adue ? "the error head" : "",
                s->kept_adue && s->kept_ood ? " and " : "",
                s->kept_ood ? "the distances are" : " is");
    return LA_OK;
}

/* Largest ratio of the trace of a part of H before and after. */
static la_status shrinkage(const la_updating *u, double *most, la_error *err) {
    static const double FLAT = 1e30; /* a precision beside which H is nothing */
    const la_posterior *p = &u->structure.posterior;
    *most = 1;
    for (int64_t i = 0; i < la_posterior_parts(p); i++) {
        la_shares before, after;
        LA_TRY(la_posterior_sums(&u->old, i, FLAT, &before, NULL, err));
        LA_TRY(la_posterior_sums(p, i, FLAT, &after, NULL, err));
        if (after.sum > 0 && before.sum > *most * after.sum)
            *most = before.sum / after.sum;
    }
    return LA_OK;
}

static la_status summarise(la_updating *u, la_error *err) {
    la_update_summary *s = u->summary;
    const la_posterior *p = &u->structure.posterior;
    const la_structure_kind *kind = u->structure.kind;
    double most = 1;
    int64_t directions;
    s->n_rows_old = u->old.n_rows;
    s->n_rows_new = u->taken_out ? 0 : u->rows.n;
    s->n_rows_removed = u->taken_out ? u->rows.n : 0;
    s->n_rows = p->n_rows;
    s->n_tokens = p->n_tokens;
    s->forget = u->times;
    s->new_adapter = u->new_adapter;
    if (p->rank_asked && kind->kept)
        s->compression_error = fmax(0, 1 - kind->kept(p, &directions));
    s->least_eigenvalue = p->least_share;
    if (u->taken_out) {
        LA_TRY(shrinkage(u, &most, err));
        s->residual = most * 0x1p-24; /* vectors are kept in f32 */
        la_warn(&u->options->run.log,
                "rounding leaves about %.1g of the rows in the curvature; the most negative "
                "eigenvalue of a sum was %.1g of its largest",
                s->residual, s->least_eigenvalue);
    }
    if (s->compression_error > 1e-6)
        la_warn(&u->options->run.log, "--rank: %.4g %% of the curvature's trace is left out",
                100 * s->compression_error);
    s->log_likelihood = p->log_likelihood;
    s->log_marginal_likelihood = p->log_marginal_likelihood;
    s->prior = p->prior;
    s->prior_precision = p->prior_precision;
    s->device = u->session.workers[0].backend.ops->name;
    s->precision = la_precision_name(u->session.workers[0].backend.precision);
    s->threads = u->session.team.threads;
    return LA_OK;
}

static la_status run(la_updating *u, la_error *err) {
    double at = la_seconds(), now;
#define LAP(member) (now = la_seconds(), u->summary->member = now - at, at = now)
    LA_TRY(check_options(u->options, err));
    LA_TRY(la_posterior_load(u->options->posterior, &u->old, err));
    LA_TRY(check_old(u, err));
    LA_TRY(open_session(u, err));
    LA_TRY(read_rows(u, err));
    u->structure = (la_structure){.kind = la_structure_of(u->old.curvature),
                                  .kron = u->old.kron,
                                  .params = u->old.params,
                                  .rank = u->taken_out ? 0 : u->old.rank_asked};
    LA_TRY(describe(u, err));
    LAP(seconds_load);
    LA_TRY(la_update_sum(u, err));
    u->structure.posterior.rank_asked = u->old.rank_asked;
    LAP(seconds_curvature);
    LA_TRY(la_update_choose(u, err));
    LA_TRY(keep_extras(u, err));
    LAP(seconds_select);
    LA_TRY(summarise(u, err));
    LA_TRY(la_posterior_save(&u->structure.posterior, u->options->out, err));
    LAP(seconds_save);
#undef LAP
    return LA_OK;
}

la_status la_update(const la_update_options *options, la_update_summary *summary, la_error *err) {
    *summary = (la_update_summary){.distance = NAN};
    la_updating u = {.options = options,
                     .summary = summary,
                     .times = options->remove ? 1 : options->forget,
                     .sign = 1,
                     .taken_out = options->remove != NULL};
    la_stop before = la_stop_set(options->run.stop);
    la_status status = run(&u, err);
    la_stop_set(before);
    close_updating(&u);
    return status;
}
