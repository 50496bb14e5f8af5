/* Prior, noise and settings of an updated posterior. */
#include "bayes/structure.h"
#include "pipeline/guard.h"
#include "pipeline/origin.h"
#include "pipeline/update_parts.h"

#include <math.h>
#include <stdlib.h>

/* Scale of the precisions that an earlier choice has put into them; 1: none. */
static double chosen_scale(const la_choice *choice) {
    return choice->guarded ? choice->candidates[la_choice_laplace(choice)].prior_scale : 1;
}

/* The old posterior's precisions and noise. */
static la_status keep_prior(la_updating *u, la_error *err) {
    la_posterior *p = &u->structure.posterior;
    p->prior = u->old.prior;
    p->prior_precision = u->old.prior_precision;
    for (int64_t b = 0; b < p->n_blocks; b++)
        p->blocks[b].prior_precision = u->old.blocks[b].prior_precision;
    return la_noise_set(p, u->old.noise_variance, 1, err);
}

/* As the fit chose, from all rows. */
static la_status choose_prior(la_updating *u, la_error *err) {
    const la_posterior *old = &u->old;
    double value = old->prior_precision / chosen_scale(&old->choice);
    return la_noise_choose(&u->structure.posterior, old->prior, value, old->noise_asked, err);
}

/* Numbers of each class; NULL where there are none. */
static double *copied(la_posterior *p, const double *of, int64_t n, la_error *err) {
    double *own = of ? la_pool_take(&p->pool, (size_t)n, sizeof *own, err) : NULL;
    return own ? memcpy(own, of, (size_t)n * sizeof *of) : NULL;
}

static la_status choose_settings(la_updating *u, la_error *err) {
    la_posterior *p = &u->structure.posterior;
    const la_choice *choice = &u->old.choice;
    const la_log *log = &u->options->run.log;
    la_guard how = la_guard_like(&u->old, &u->session, log);
    p->temperature = 1;
    if (u->options->val) {
        u->summary->choice = LA_CHOICE_NEW;
        return la_guard_val(&u->session, &u->structure, &u->held, &how, err);
    }
    u->summary->choice = !choice->guarded ? LA_CHOICE_NONE
                         : u->taken_out   ? LA_CHOICE_CLEARED
                                          : LA_CHOICE_KEPT;
    if (u->summary->choice == LA_CHOICE_CLEARED)
        la_warn(log, "the settings that held-out rows chose are dropped: the rows taken out had a "
                     "part in them; give --val FILE to choose anew");
    if (u->summary->choice != LA_CHOICE_KEPT)
        return LA_OK;
    la_warn(log,
            "the settings are those that held-out rows chose for the old posterior; give --val "
            "FILE to choose anew");
    la_choice kept = *choice;
    kept.candidates[la_choice_laplace(choice)].prior_scale =
        la_update_keeps_prior(u) ? 1 : chosen_scale(choice);
    LA_TRY(la_guard_keep(p, &kept, err));
    p->choice.candidates[la_choice_laplace(choice)].prior_scale = chosen_scale(choice);
    p->provenance.n_held_out = u->old.provenance.n_held_out;
    size_t n = (size_t)p->provenance.n_held_out;
    p->provenance.held_out = n ? la_pool_take(&p->pool, n, sizeof(double), err) : NULL;
    for (size_t i = 0; i < n && p->provenance.held_out; i++)
        p->provenance.held_out[i] = u->old.provenance.held_out[i];
    int64_t c = p->n_classes;
    p->class_means = copied(p, u->old.class_means, c, err);
    p->class_held = copied(p, u->old.class_held, c, err);
    p->class_answers = copied(p, u->old.class_answers, c * c, err);
    LA_TRY(err->status);
    if (!u->old.distilled.mean)
        return LA_OK;
    if (!u->new_adapter)
        return la_posterior_keep_distilled(p, &u->old.distilled, err);
    la_warn(log, "the distilled variances are dropped, and predict runs backward passes: they are "
                 "of the old adapter's states; give --val FILE for new ones");
    return LA_OK;
}

/* ---- the old posterior as the prior ---- */

/* log det(I + factor H / lambda) at the new posterior's precisions. */
static la_status log_det(const la_posterior *of, const la_posterior *at, double factor, double *sum,
                         la_error *err) {
    *sum = 0;
    for (int64_t i = 0; i < la_posterior_parts(of); i++) {
        double one;
        LA_TRY(la_posterior_sums(of, i, at->blocks[i].prior_precision / factor, NULL, &one, err));
        *sum += one;
    }
    return LA_OK;
}

/* *sum: <d, (times H + lambda) d> of d = theta - theta_old, H the old posterior's. */
static la_status distance(const la_updating *u, const float *theta, double *sum, la_error *err) {
    const la_posterior *old = &u->old, *p = &u->structure.posterior;
    int64_t offset = 0;
    *sum = 0;
    for (int64_t b = 0; b < old->n_blocks; b++) {
        int64_t n = old->blocks[b].out * old->blocks[b].in;
        double square = 0, form;
        float *d = la_alloc((size_t)n, sizeof *d, err);
        LA_TRY(err->status);
        for (int64_t i = 0; i < n; i++) {
            d[i] = theta[offset + i] - u->theta[offset + i];
            square += (double)d[i] * (double)d[i];
        }
        la_status status = la_structure_of(old->curvature)->quadratic(old, b, d, &form, err);
        free(d);
        LA_TRY(status);
        double curvature = form - old->blocks[b].prior_precision * square;
        *sum += u->times * curvature + p->blocks[b].prior_precision * square;
        offset += n;
    }
    return LA_OK;
}

/* Log likelihood of what was summed. */
static double likelihood_of(const la_posterior *p, double total, double rows) {
    double noise = p->noise_variance;
    return noise > 0 ? total / noise - 0.5 * rows * log(2 * M_PI * noise) : total;
}

/* The log marginal likelihood of the rows that came under this adapter, given those before:
 * evidence of rows given an earlier posterior with precision L = times H_old + lambda about its
 * mean
 *
 *   log p(y) - 1/2 <d, L d> - 1/2 log det(H + lambda) + 1/2 log det L
 *
 * which adds up over updates at the same precisions. */
static la_status set_evidence(la_updating *u, double own_total, la_error *err) {
    la_posterior *p = &u->structure.posterior;
    const la_posterior *old = &u->old;
    double all, before, square = 0;
    float *theta = NULL;
    if (u->theta) {
        theta = la_alloc((size_t)la_posterior_width(p), sizeof *theta, err);
        if (theta && la_origin_theta(&u->session, theta, err) == LA_OK)
            (void)distance(u, theta, &square, err);
        free(theta);
        LA_TRY(err->status);
        u->summary->distance = square;
    }
    bool goes_on = !la_update_old_is_prior(u);
    p->earlier_distance = goes_on ? old->earlier_distance : square;
    p->log_likelihood = likelihood_of(p, own_total, la_posterior_own_rows(p));
    double since = p->log_likelihood;
    if (goes_on)
        since -= likelihood_of(p, la_posterior_total(old), la_posterior_own_rows(old));
    LA_TRY(log_det(p, p, 1, &all, err));
    LA_TRY(log_det(old, p, u->times, &before, err));
    p->log_marginal_likelihood =
        (goes_on ? old->log_marginal_likelihood : 0) + since - 0.5 * (square + all - before);
    return LA_OK;
}

la_status la_update_choose(la_updating *u, la_error *err) {
    bool keeps = la_update_keeps_prior(u);
    double own_total = u->structure.posterior.log_likelihood;
    LA_TRY(keeps ? keep_prior(u, err) : choose_prior(u, err));
    LA_TRY(choose_settings(u, err));
    return keeps ? set_evidence(u, own_total, err) : LA_OK;
}
