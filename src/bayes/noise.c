/* The noise variance s of a regression by the log marginal likelihood, together with the prior's
 * precisions. With h the eigenvalues of H for noise 1, E the sum of squared errors of N rows:
 *
 *   L = -N/2 log(2 pi s) - E / (2 s)
 *       - sum_units [ lambda/2 |theta|^2 + 1/2 sum log(1 + h / (s lambda)) ]
 *
 * L is concave in log s and all log lambda together (log(1 + exp) is convex): there is one maximum.
 * It is where the slope of the profile over the lambdas, which falls, is zero:
 *
 *   dL/dlog s = -N/2 + E / (2 s) + 1/2 sum h / (h + s lambda)
 *
 * Its root is not below E / N, where the last term alone is left. */
#include "bayes/posterior.h"

#include <float.h>
#include <math.h>

la_status la_posterior_effective(const la_posterior *p, double *sum, la_error *err) {
    *sum = 0;
    for (int64_t i = 0; i < la_posterior_parts(p); i++) {
        la_shares shares;
        LA_TRY(la_posterior_sums(p, i, p->blocks[i].prior_precision, &shares, NULL, err));
        *sum += shares.sum;
    }
    return LA_OK;
}

static void set_noise(la_posterior *p, double noise) {
    p->noise_variance = noise;
    p->log_likelihood =
        -0.5 * (la_posterior_own_rows(p) * log(2 * M_PI * noise) + p->square_error / noise);
}

double la_posterior_total(const la_posterior *p) {
    double noise = p->noise_variance;
    if (!(noise > 0))
        return p->log_likelihood;
    return noise * (p->log_likelihood + 0.5 * la_posterior_own_rows(p) * log(2 * M_PI * noise));
}

la_status la_noise_set(la_posterior *posterior, double noise, double prior_scale, la_error *err) {
    if (noise > 0)
        set_noise(posterior, noise);
    return la_prior_scale(posterior, prior_scale, err);
}

/* The prior at a noise variance; *slope of the profile. */
static la_status at_noise(la_posterior *p, la_prior_kind kind, double value, double noise,
                          double *slope, la_error *err) {
    set_noise(p, noise);
    LA_TRY(la_prior_choose(p, kind, value, err));
    LA_TRY(la_posterior_effective(p, slope, err));
    *slope = 0.5 * (p->square_error / noise - la_posterior_own_rows(p) + *slope);
    return LA_OK;
}

/* Regula falsi in u = log s, the end that stays halved (Illinois). */
static la_status find_root(la_posterior *p, la_prior_kind kind, double value, la_error *err) {
    enum { STEPS = 200 };
    double low = log(p->square_error / la_posterior_own_rows(p)), high = low, below, above, slope;
    LA_TRY(at_noise(p, kind, value, exp(low), &below, err));
    above = below;
    for (int step = 0; above > 0 && step < STEPS; step++) {
        low = high;
        below = above;
        high += 1;
        LA_TRY(at_noise(p, kind, value, exp(high), &above, err));
    }
    for (int step = 0, side = 0; above < 0 && step < STEPS; step++) {
        double at = (low * above - high * below) / (above - below);
        if (!(at > low && at < high))
            at = 0.5 * (low + high);
        LA_TRY(at_noise(p, kind, value, exp(at), &slope, err));
        if (fabs(slope) <= 4 * DBL_EPSILON * la_posterior_own_rows(p) || high - low < 1e-14)
            return LA_OK;
        if (slope > 0) {
            above *= side > 0 ? 0.5 : 1;
            low = at;
            below = slope;
            side = 1;
        } else {
            below *= side < 0 ? 0.5 : 1;
            high = at;
            above = slope;
            side = -1;
        }
    }
    return LA_OK;
}

la_status la_noise_check(const la_likelihood *likelihood, int64_t n_outputs, double noise,
                         la_error *err) {
    if (!(noise >= 0) || isinf(noise))
        return la_fail(err, LA_USAGE, "--noise %g: expected a positive variance", noise);
    if (noise > 0 && !likelihood->has_noise)
        return la_fail(err, LA_USAGE, "--noise is of regressions; this model has %lld outputs",
                       (long long)n_outputs);
    return LA_OK;
}

la_status la_noise_choose(la_posterior *posterior, la_prior_kind kind, double value, double noise,
                          la_error *err) {
    double slope;
    if (!posterior->likelihood->has_noise)
        return la_prior_choose(posterior, kind, value, err);
    if (!isfinite(posterior->square_error))
        return la_fail(err, LA_NUMERICAL, "the sum of squared errors is not finite");
    if (noise > 0)
        return at_noise(posterior, kind, value, noise, &slope, err);
    if (!(posterior->square_error > 0))
        return la_fail(err, LA_NUMERICAL,
                       "the model is exact on all %lld rows: the log marginal likelihood has no "
                       "maximum over the noise variance; give --noise VARIANCE",
                       (long long)posterior->n_rows);
    return find_root(posterior, kind, value, err);
}
