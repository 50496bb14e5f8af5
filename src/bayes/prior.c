/* Prior precision by the log marginal likelihood (arXiv 2308.13111, equation 7), in closed form
 * over the eigenvalues:
 *
 *   L(lambda) = log p(y | theta)
 *               - sum_blocks [ lambda/2 |theta|^2 + 1/2 sum_ij log(1 + h_ij / lambda) ]
 *
 * With rho = log lambda, dL/drho = 1/2 sum_ij h_ij / (h_ij + lambda) - lambda/2 |theta|^2 falls
 * strictly: the maximum is its only root, found by Newton steps inside a shrinking bracket. */
#include "bayes/posterior.h"

#include <math.h>

#define RHO_LOW (-30.0)
#define RHO_HIGH 40.0

double la_block_log_determinant(const la_posterior *posterior, const la_posterior_block *block,
                                double lambda) {
    const la_factor *input = &posterior->inputs[block->input];
    double sum = 0;
    for (int64_t i = 0; i < block->output.rank; i++) {
        double s = block->output.values[i] / block->denominator / lambda;
        for (int64_t j = 0; j < input->rank; j++)
            sum += log1p(s * input->values[j]);
    }
    return sum;
}

/* Adds a block's share of dL/drho and of its derivative. */
static void add_slope(const la_posterior *posterior, const la_posterior_block *block, double lambda,
                      double *slope, double *curve) {
    const la_factor *input = &posterior->inputs[block->input];
    double first = 0, second = 0;
    for (int64_t i = 0; i < block->output.rank; i++) {
        double s = block->output.values[i] / block->denominator / lambda;
        for (int64_t j = 0; j < input->rank; j++) {
            double x = s * input->values[j], share = x / (1 + x);
            first += share;
            second += share * (1 - share);
        }
    }
    *slope += 0.5 * (first - lambda * block->theta_square);
    *curve -= 0.5 * (second + lambda * block->theta_square);
}

bool la_block_is_flat(const la_posterior *posterior, const la_posterior_block *block) {
    /* values are sorted: the first is the largest */
    return block->output.values[0] * posterior->inputs[block->input].values[0] == 0;
}

/* dL/drho over the blocks [from, to). */
static double slope_at(const la_posterior *posterior, int64_t from, int64_t to, bool skip_flat,
                       double rho, double *curve) {
    double slope = 0;
    *curve = 0;
    for (int64_t b = from; b < to; b++)
        if (!skip_flat || !la_block_is_flat(posterior, &posterior->blocks[b]))
            add_slope(posterior, &posterior->blocks[b], exp(rho), &slope, curve);
    return slope;
}

static la_status maximise(const la_posterior *posterior, int64_t from, int64_t to, bool skip_flat,
                          double *lambda, la_error *err) {
    double low = RHO_LOW, high = RHO_HIGH, rho = 0, curve;
    const char *name = to - from == 1 ? posterior->blocks[from].name : posterior->adapter_path;
    for (int end = 0; end < 2; end++) {
        double slope = slope_at(posterior, from, to, skip_flat, end ? high : low, &curve);
        if (!isfinite(slope))
            return la_fail(err, LA_NUMERICAL, "%s: its curvature is not finite", name);
        if (end ? slope >= 0 : slope <= 0)
            return la_fail(err, LA_NUMERICAL,
                           "%s: the log marginal likelihood has no maximum over the prior "
                           "precision (%s); is the adapter trained? Give --prior NUMBER",
                           name, end ? "its weights are all zero" : "its curvature is zero");
    }
    for (int step = 0; step < 200; step++) {
        double slope = slope_at(posterior, from, to, skip_flat, rho, &curve);
        if (slope > 0)
            low = rho;
        else
            high = rho;
        double next = rho - slope / curve;
        if (!(next > low && next < high))
            next = 0.5 * (low + high);
        if (fabs(next - rho) < 1e-13 * (1 + fabs(rho))) {
            *lambda = exp(next);
            return LA_OK;
        }
        rho = next;
    }
    *lambda = exp(rho);
    return LA_OK;
}

la_status la_prior_choose(la_posterior *posterior, la_prior_kind kind, double value,
                          la_error *err) {
    double lambda = value;
    if (kind == LA_PRIOR_FIXED && !(value > 0 && isfinite(value)))
        return la_fail(err, LA_USAGE, "--prior %g: expected a positive number", value);
    if (kind == LA_PRIOR_GLOBAL)
        LA_TRY(maximise(posterior, 0, posterior->n_blocks, false, &lambda, err));
    posterior->prior = kind;
    posterior->prior_precision = kind == LA_PRIOR_MODULE ? 0 : lambda;
    double sum = posterior->log_likelihood, of_others = 0;
    bool any_flat = false;
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        any_flat |= la_block_is_flat(posterior, &posterior->blocks[b]);
    if (kind == LA_PRIOR_MODULE && any_flat)
        LA_TRY(maximise(posterior, 0, posterior->n_blocks, true, &of_others, err));
    for (int64_t b = 0; b < posterior->n_blocks; b++) {
        la_posterior_block *block = &posterior->blocks[b];
        if (kind == LA_PRIOR_MODULE && la_block_is_flat(posterior, block))
            lambda = of_others;
        else if (kind == LA_PRIOR_MODULE)
            LA_TRY(maximise(posterior, b, b + 1, false, &lambda, err));
        block->prior_precision = lambda;
        sum -= 0.5 *
               (lambda * block->theta_square + la_block_log_determinant(posterior, block, lambda));
    }
    posterior->log_marginal_likelihood = sum;
    if (!isfinite(sum))
        return la_fail(err, LA_NUMERICAL, "the log marginal likelihood is not finite");
    return LA_OK;
}
