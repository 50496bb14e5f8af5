/* Prior precision by the log marginal likelihood (arXiv 2308.13111, equation 7), in closed form
 * over the eigenvalues:
 *
 *   L(lambda) = log p(y | theta)
 *               - sum_units [ lambda/2 |theta|^2 + 1/2 sum_ij log(1 + h_ij / lambda) ]
 *
 * A unit is a block, or all of them where H is not block-diagonal; units that share a precision are
 * a group. With rho = log lambda, dL/drho = 1/2 sum_ij h_ij / (h_ij + lambda) - lambda/2 |theta|^2
 * falls strictly: the maximum is its only root, found by Newton steps inside a shrinking bracket.
 */
#include "bayes/structure.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RHO_LOW (-30.0)
#define RHO_HIGH 40.0

typedef struct unit {
    const char *name;
    double theta_square, precision;
    int64_t group; /* the first unit of its group */
    bool flat;
} unit;

typedef struct units {
    const la_posterior *posterior;
    unit *list;
    int64_t n;
} units;

/* Adds a unit's share of dL/drho and of its derivative. */
static la_status add_slope(const units *all, int64_t i, double lambda, double *slope, double *curve,
                           la_error *err) {
    la_shares shares;
    LA_TRY(la_posterior_sums(all->posterior, i, lambda, &shares, NULL, err));
    *slope += 0.5 * (shares.sum - lambda * all->list[i].theta_square);
    *curve -= 0.5 * (shares.slope + lambda * all->list[i].theta_square);
    return LA_OK;
}

int64_t la_posterior_parts(const la_posterior *posterior) {
    return la_structure_of(posterior->curvature)->joint ? 1 : posterior->n_blocks;
}

la_status la_posterior_sums(const la_posterior *posterior, int64_t part, double lambda,
                            la_shares *shares, double *log_det, la_error *err) {
    return la_structure_of(posterior->curvature)
        ->sums(posterior, part, lambda, shares, log_det, err);
}

la_status la_part_flat(const la_posterior *posterior, int64_t part, bool *flat, la_error *err) {
    la_shares shares;
    LA_TRY(la_posterior_sums(posterior, part, 1, &shares, NULL, err));
    *flat = shares.sum == 0;
    return LA_OK;
}

enum { ALL = -1, NOT_FLAT = -2 }; /* groups of groups */

static bool belongs(const unit *u, int64_t group) {
    return group == ALL || (group == NOT_FLAT ? !u->flat : u->group == group);
}

/* dL/drho over the units of a group. */
static la_status slope_at(const units *all, int64_t group, double rho, double *slope, double *curve,
                          la_error *err) {
    *slope = *curve = 0;
    for (int64_t i = 0; i < all->n; i++)
        if (belongs(&all->list[i], group))
            LA_TRY(add_slope(all, i, exp(rho), slope, curve, err));
    return LA_OK;
}

static la_status maximise(const units *all, int64_t group, const char *name, double *lambda,
                          la_error *err) {
    double low = RHO_LOW, high = RHO_HIGH, rho = 0, slope, curve;
    for (int end = 0; end < 2; end++) {
        LA_TRY(slope_at(all, group, end ? high : low, &slope, &curve, err));
        if (!isfinite(slope))
            return la_fail(err, LA_NUMERICAL, "%s: its curvature is not finite", name);
        if (end ? slope >= 0 : slope <= 0)
            return la_fail(err, LA_NUMERICAL,
                           "%s: the log marginal likelihood has no maximum over the prior "
                           "precision (%s); is the adapter trained? Give --prior NUMBER",
                           name, end ? "its weights are all zero" : "its curvature is zero");
    }
    for (int step = 0; step < 200; step++) {
        LA_TRY(slope_at(all, group, rho, &slope, &curve, err));
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

/* ---- groups ---- */

/* The first part of a dotted name that is a number: that of the layer. *length 0: none. */
static const char *layer_number(const char *name, size_t *length) {
    for (const char *at = name; (at = strchr(at, '.'));) {
        size_t digits = 0;
        at++;
        while (isdigit((unsigned char)at[digits]))
            digits++;
        if (digits && at[digits] == '.') {
            *length = digits;
            return at;
        }
    }
    *length = 0;
    return name;
}

static bool same_group(la_prior_kind kind, const char *a, const char *b) {
    size_t n_a, n_b;
    const char *at_a = layer_number(a, &n_a), *at_b = layer_number(b, &n_b);
    bool same_stem = at_a - a == at_b - b && !strncmp(a, b, (size_t)(at_a - a));
    if (kind == LA_PRIOR_LAYER)
        return n_a && same_stem && n_a == n_b && !strncmp(at_a, at_b, n_a);
    return n_a && n_b && same_stem && !strcmp(at_a + n_a, at_b + n_b);
}

static int64_t group_of(const units *all, int64_t i, la_prior_kind kind) {
    if (la_prior_is_one(kind))
        return 0;
    if (kind == LA_PRIOR_MODULE)
        return i;
    for (int64_t k = 0; k < i; k++)
        if (same_group(kind, all->list[k].name, all->list[i].name))
            return all->list[k].group;
    return i;
}

static la_status list_units(const la_posterior *posterior, la_prior_kind kind, units *all,
                            la_error *err) {
    all->posterior = posterior;
    all->n = la_posterior_parts(posterior);
    all->list = la_alloc((size_t)all->n, sizeof *all->list, err);
    if (!all->list)
        return err->status;
    if (la_structure_of(posterior->curvature)->joint) {
        all->list[0].name = posterior->provenance.adapter_path;
        for (int64_t b = 0; b < posterior->n_blocks; b++)
            all->list[0].theta_square += posterior->blocks[b].theta_square;
        return LA_OK;
    }
    for (int64_t b = 0; b < all->n; b++) {
        const la_posterior_block *block = &posterior->blocks[b];
        all->list[b] = (unit){.name = block->name, .theta_square = block->theta_square};
        all->list[b].group = group_of(all, b, kind);
        LA_TRY(la_part_flat(posterior, b, &all->list[b].flat, err));
    }
    return LA_OK;
}

/* One precision for every group; groups of nothing but flat blocks get that of the others. */
static la_status choose_groups(const units *all, const char *adapter, la_error *err) {
    double of_others = 0;
    for (int64_t g = 0; g < all->n; g++) {
        if (all->list[g].group != g)
            continue;
        bool flat = true;
        double lambda;
        for (int64_t i = g; i < all->n; i++)
            flat &= all->list[i].group != g || all->list[i].flat;
        if (flat && of_others <= 0)
            LA_TRY(maximise(all, NOT_FLAT, adapter, &of_others, err));
        lambda = of_others;
        if (!flat)
            LA_TRY(maximise(all, g, all->list[g].name, &lambda, err));
        for (int64_t i = g; i < all->n; i++)
            if (all->list[i].group == g)
                all->list[i].precision = lambda;
    }
    return LA_OK;
}

/* The log marginal likelihood at the units' precisions. */
static la_status evidence(la_posterior *posterior, const units *all, la_error *err) {
    double sum = posterior->log_likelihood, log_det;
    for (int64_t i = 0; i < all->n; i++) {
        const unit *u = &all->list[i];
        LA_TRY(la_posterior_sums(posterior, i, u->precision, NULL, &log_det, err));
        sum -= 0.5 * (u->precision * u->theta_square + log_det);
    }
    posterior->log_marginal_likelihood = sum;
    if (!isfinite(sum))
        return la_fail(err, LA_NUMERICAL, "the log marginal likelihood is not finite");
    return LA_OK;
}

static la_status choose(la_posterior *posterior, la_prior_kind kind, double value, units *all,
                        la_error *err) {
    double lambda = value;
    bool one = la_prior_is_one(kind);
    LA_TRY(list_units(posterior, kind, all, err));
    if (kind == LA_PRIOR_GLOBAL)
        LA_TRY(maximise(all, ALL, posterior->provenance.adapter_path, &lambda, err));
    if (!one)
        LA_TRY(choose_groups(all, posterior->provenance.adapter_path, err));
    posterior->prior = kind;
    posterior->prior_precision = one ? lambda : 0;
    for (int64_t i = 0; i < all->n && one; i++)
        all->list[i].precision = lambda;
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        posterior->blocks[b].prior_precision = all->list[all->n == 1 ? 0 : b].precision;
    return evidence(posterior, all, err);
}

la_status la_prior_scale(la_posterior *posterior, double scale, la_error *err) {
    units all = {0};
    posterior->prior_precision *= scale;
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        posterior->blocks[b].prior_precision *= scale;
    la_status status = list_units(posterior, posterior->prior, &all, err);
    for (int64_t i = 0; status == LA_OK && i < all.n; i++)
        all.list[i].precision = posterior->blocks[i].prior_precision;
    if (status == LA_OK)
        status = evidence(posterior, &all, err);
    free(all.list);
    return status;
}

la_status la_prior_choose(la_posterior *posterior, la_prior_kind kind, double value,
                          la_error *err) {
    units all = {0};
    if (kind == LA_PRIOR_FIXED && !(value > 0 && isfinite(value)))
        return la_fail(err, LA_USAGE, "--prior %g: expected a positive number", value);
    if (la_structure_of(posterior->curvature)->joint && !la_prior_is_one(kind))
        return la_fail(err, LA_USAGE,
                       "--prior: this curvature ties all blocks together and has one precision; "
                       "expected global or a number");
    la_status status = choose(posterior, kind, value, &all, err);
    free(all.list);
    return status;
}
