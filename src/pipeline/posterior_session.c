#include "pipeline/posterior_session.h"
#include "bayes/structure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static la_status check_digest(const char *what, const char *path, const char *found,
                              const char *expected, la_error *err) {
    if (!strcmp(found, expected))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: the %s has digest %s, the posterior was fitted with %s; fit again or give "
                   "the right one",
                   path, what, found, expected);
}

/* Replaces the message that base and adapter do not fit each other where one of them is not the
 * one that the posterior was fitted with. */
static la_status check_strangers(const la_session_options *session, bool any_adapter,
                                 la_error *err) {
    const la_posterior *posterior = session->posterior;
    char base[LA_DIGEST_TEXT], adapter[LA_DIGEST_TEXT];
    la_error reason = *err, found = {0};
    if (reason.status != LA_BAD_INPUT && reason.status != LA_UNSUPPORTED &&
        reason.status != LA_USAGE)
        return reason.status;
    la_model_digests(&(la_model_options){.base = session->base,
                                         .adapter = session->adapter,
                                         .adapter_name = session->run.adapter_name,
                                         .quant = posterior->provenance.base_quant},
                     base, adapter);
    if (*base)
        (void)check_digest("base", session->base, base, posterior->provenance.base_digest, &found);
    if (*adapter && found.status == LA_OK && !any_adapter)
        (void)check_digest("adapter", session->adapter, adapter,
                           posterior->provenance.adapter_digest, &found);
    if (found.status == LA_OK)
        return reason.status;
    *err = (la_error){0};
    return la_fail(err, LA_MISMATCH, "%s (%s)", found.message, reason.message);
}

/* Checks that the base will be packed as it was when the posterior was fitted. */
static la_status check_quant(const la_posterior_session *ask, const char *base, la_error *err) {
    const la_posterior *posterior = ask->posterior;
    const char *asked = ask->run.base_quant,
               *had = la_base_quant_names[posterior->provenance.base_quant];
    la_base_quant quant;
    LA_TRY(la_base_quant_parse(asked, &quant, err));
    if (asked && quant != posterior->provenance.base_quant)
        return la_fail(err, LA_MISMATCH,
                       "%s: was fitted with --base-quant %s, not %s; leave the option out, or fit "
                       "again",
                       ask->path, had, asked);
    if (!posterior->provenance.base_quant)
        return LA_OK;
    la_config config;
    LA_TRY(la_config_read(base, &config, err));
    const char *stored = config.quantised;
    la_config_free(&config);
    if (stored)
        return la_fail(
            err, LA_MISMATCH,
            "%s: is quantised already (%s), and the posterior was fitted on a plain base "
            "with --base-quant %s; give that one, or fit again",
            base, stored, had);
    return LA_OK;
}

/* The digests agreed: what does not fit now is a damaged file. Of another adapter: it is of other
 * blocks. */
static la_status misfit(const la_posterior_session *ask, const char *reason, la_error *err) {
    if (ask->other_adapter)
        return la_fail(err, LA_MISMATCH,
                       "%s: %s; the adapter is of another kind than the posterior's %s", ask->path,
                       reason, ask->posterior->provenance.adapter_path);
    return la_fail(err, LA_BAD_INPUT, "%s: %s; it is damaged", ask->path, reason);
}

static la_status check_blocks(const la_posterior_session *ask, const la_model *model,
                              la_error *err) {
    const la_posterior *p = ask->posterior;
    char reason[512];
    int64_t next = 0;
    for (int64_t b = 0; b < model->n_blocks; b++) {
        if (!model->blocks[b].wanted)
            continue;
        const la_posterior_block *block = next < p->n_blocks ? &p->blocks[next] : NULL;
        if (!block || strcmp(block->name, model->blocks[b].name) ||
            block->out != model->blocks[b].out || block->in != model->blocks[b].in) {
            snprintf(reason, sizeof reason, "has no block %.400s of [%lld, %lld]",
                     model->blocks[b].name, (long long)model->blocks[b].out,
                     (long long)model->blocks[b].in);
            return misfit(ask, reason, err);
        }
        next++;
    }
    if (next != p->n_blocks || model->n_classes != p->n_classes ||
        model->likelihood != p->likelihood) {
        snprintf(reason, sizeof reason,
                 "n_blocks and n_classes are %lld and %lld, the model's %lld and %lld",
                 (long long)p->n_blocks, (long long)p->n_classes, (long long)next,
                 (long long)model->n_classes);
        return misfit(ask, reason, err);
    }
    int64_t width = la_run_state_width(model);
    if (p->adue.weight && p->adue.width != width)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: the error head reads states of width %lld, the model's are of %lld; it "
                       "is damaged",
                       ask->path, (long long)p->adue.width, (long long)width);
    if (p->ood.means && p->ood.width != width)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: its distances are of states of width %lld, the model's are of %lld; it "
                       "is damaged",
                       ask->path, (long long)p->ood.width, (long long)width);
    if (p->distilled.mean && p->distilled.width != width)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: its distilled variances are of states of width %lld, the model's are "
                       "of %lld; it is damaged",
                       ask->path, (long long)p->distilled.width, (long long)width);
    return LA_OK;
}

/* The folders a posterior remembers may have moved. */
static la_status check_folder(const char *option, const char *given, const char *stored,
                              la_error *err) {
    if (given || !access(stored, R_OK))
        return LA_OK;
    return la_fail(err, la_errno_status(errno),
                   "%s: where the posterior was fitted there is nothing to read now (%s); give "
                   "--%s DIR",
                   stored, la_errno_text(errno), option);
}

/* Rows that are summed or trained on are cut as those before them. */
static la_status check_length(const la_posterior_session *ask, la_error *err) {
    int64_t asked = ask->run.max_length, had = ask->posterior->provenance.max_length;
    if (!asked || asked == had || !(ask->fits || ask->one_cotangent))
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s: was fitted with --max-length %lld, not %lld; leave the option out",
                   ask->path, (long long)had, (long long)asked);
}

la_status la_posterior_session_open(const la_posterior_session *ask, la_session *session,
                                    la_error *err) {
    const la_posterior *posterior = ask->posterior;
    const la_provenance *from = &posterior->provenance;
    la_session_options options = {
        .run = ask->run,
        .base = ask->base ? ask->base : from->base_path,
        .adapter = ask->adapter ? ask->adapter : from->adapter_path,
        .params = posterior->params,
        .choice_ids = from->choice_ids,
        .n_choices = from->choice_ids ? posterior->n_classes : 0,
        .labels = &from->labels,
        .max_length = from->max_length,
        .all_inputs = ask->fits,
        .fits = ask->fits,
        .forward_only = ask->forward_only,
        .one_cotangent = ask->one_cotangent,
        .n_scales = ask->n_scales,
        .kind = ask->kind ? ask->kind : la_structure_of(posterior->curvature),
        .kron = posterior->kron,
        .rank = ask->fits ? posterior->rank_asked : 0,
        .posterior = posterior,
    };
    LA_TRY(check_length(ask, err));
    LA_TRY(check_folder("base", ask->base, from->base_path, err));
    LA_TRY(check_folder("adapter", ask->adapter, from->adapter_path, err));
    LA_TRY(check_quant(ask, options.base, err));
    options.run.base_quant = la_base_quant_names[from->base_quant];
    if (!options.run.adapter_name)
        options.run.adapter_name = from->adapter_name;
    if (la_session_open(&options, session, err) != LA_OK)
        return check_strangers(&options, ask->other_adapter, err);
    const la_model *model = &session->workers[0].model;
    LA_TRY(check_digest("base", options.base, model->base_digest, from->base_digest, err));
    if (!ask->other_adapter)
        LA_TRY(check_digest("adapter", options.adapter, model->adapter_digest, from->adapter_digest,
                            err));
    if (session->tokenizer && *from->tokenizer_digest)
        LA_TRY(check_digest("tokenizer",
                            session->tokenizer_of_adapter ? options.adapter : options.base,
                            la_tokenizer_digest(session->tokenizer), from->tokenizer_digest, err));
    return check_blocks(ask, model, err);
}
