#include "base/selective.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/statistics.h"
#include "base/binomial.h"

#include <math.h>
#include <stdlib.h>

enum { STARTS = 5, COST_GROUPS = 1000 };
enum { STREAM_TIES = 1, STREAM_BOOTSTRAP = 2 };

/* Logarithm of the likelihood ratio from which on another threshold is shown to be cheaper. With it
 * a threshold that is the cheapest of all answers is left out at most once in twenty, also where
 * all cost the same; bench/README.md. */
static const double COST_REJECTED = 3.7;

/* First start, in units of the fewest rows that could pass there: leaves space for an error. */
#define FIRST_START 1.3

static int by_key(const void *a, const void *b) {
    const la_ranked *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (int)x->wrong - (int)y->wrong;
}

void la_ranked_sort(la_ranked *rows, int64_t n) {
    qsort(rows, (size_t)n, sizeof *rows, by_key);
}

/* One past the last row of the score of row `from`; counts its wrong rows. */
static int64_t group_end(const la_ranked *rows, int64_t n, int64_t from, int64_t *wrong) {
    int64_t end = from;
    for (*wrong = 0; end < n && rows[end].key == rows[from].key; end++)
        *wrong += rows[end].wrong;
    return end;
}

/* ---- by risk ---- */

/* Numbers of accepted rows that runs begin at: a geometric sequence from what can pass to half of
 * the rows, all of it known before any score is. Compared with others in bench/README.md. */
static void place_starts(int64_t n, double target_error, double delta, int64_t starts[STARTS]) {
    double least = FIRST_START * (double)la_binomial_least(target_error, delta / STARTS);
    double from = fmin(ceil(least), (double)n), to = fmax(from, floor((double)n / 2));
    for (int s = 0; s < STARTS; s++)
        starts[s] = llround(from * pow(to / from, (double)s / (STARTS - 1)));
}

la_selection_point la_selection_by_risk(const la_ranked *rows, int64_t n, double target_error,
                                        double delta, uint64_t seed) {
    int64_t starts[STARTS], errors = 0;
    la_selection_point best = {.upper = NAN};
    double level = 0; /* of the run; 0: there is none */
    int next = 0;
    if (n < 1)
        return best;
    place_starts(n, target_error, delta, starts);
    for (int64_t at = 0; at < n && (level > 0 || next < STARTS);) {
        int64_t wrong, end = group_end(rows, n, at, &wrong);
        while (at < end) {
            bool mixed = wrong && wrong < end - at, passed_on = false;
            bool error =
                mixed ? (double)(end - at) * la_random_uniform(seed, STREAM_TIES, (uint64_t)at) <
                            (double)wrong
                      : wrong > 0;
            wrong -= error;
            errors += error;
            at++;
            for (; next < STARTS && starts[next] == at; next++, passed_on = true)
                level += delta / STARTS;
            /* between starts, a right row cannot end a run: the test only gets easier */
            if (level > 0 && (error || passed_on) &&
                la_binomial_cdf(at, errors, target_error) > level)
                level = 0;
        }
        if (level > 0)
            best = (la_selection_point){.n_accepted = at, .n_errors = errors, .level = level};
    }
    if (best.n_accepted)
        best.upper = la_binomial_upper(best.n_accepted, best.n_errors, best.level);
    return best;
}

int64_t la_selection_rows_needed(const la_ranked *rows, int64_t n, double target_error,
                                 double delta) {
    /* normal quantile of the power, and half of one error: few rows look better than they are */
    static const double POWER = 0.84, HALF = 0.5;
    double share = delta / STARTS, least = FIRST_START * log(share) / log1p(-target_error);
    double quantile = sqrt(-2 * log(share)), best = HUGE_VAL;
    /* Abramowitz and Stegun 26.2.23 */
    quantile -= (2.515517 + quantile * (0.802853 + quantile * 0.010328)) /
                (1 + quantile * (1.432788 + quantile * (0.189269 + quantile * 0.001308)));
    int64_t errors = 0, smallest = n / 20 < 10 ? 10 : n / 20;
    for (int64_t at = 0, wrong; at < n;) {
        at = group_end(rows, n, at, &wrong);
        errors += wrong;
        double rate = ((double)errors + HALF) / ((double)at + 2 * HALF);
        if ((at < smallest && at < n) || rate >= target_error)
            continue;
        double spread =
            quantile * sqrt(target_error * (1 - target_error)) + POWER * sqrt(rate * (1 - rate));
        double accepted = fmax(least, pow(spread / (target_error - rate), 2));
        best = fmin(best, accepted * (double)n / (double)at);
    }
    /* rows too few to show any rate: the fewest that could, where the best of them is right */
    if (best >= 1e15 && n && (double)n < least && !rows[0].wrong)
        best = least;
    return best < 1e15 ? (int64_t)ceil(best) : -1;
}

/* ---- by cost ---- */

/* Rows of neighbouring scores that are accepted together. */
typedef struct cost_group {
    int64_t end, n[2]; /* right, wrong */
} cost_group;

static double cost_of(la_costs costs, double errors, double reviewed) {
    return costs.error * errors + costs.review * reviewed;
}

/* Poisson number: by inversion, for a large mean by its normal approximation. */
static double poisson(double mean, uint64_t seed, uint64_t *position) {
    if (mean > 50) {
        double z;
        la_random_normal(seed, STREAM_BOOTSTRAP, (*position)++, 1, &z);
        return fmax(0, floor(mean + sqrt(mean) * z + 0.5));
    }
    double u = la_random_uniform(seed, STREAM_BOOTSTRAP, (*position)++), term = exp(-mean);
    double k = 0;
    for (double sum = term; u >= sum && k < 500; sum += term)
        term *= mean / ++k;
    return k;
}

/* Poisson bootstrap over the groups: the cost of the chosen end in a resample, and by how much the
 * end that is cheapest there costs more in the rows themselves (costs [n_groups]) than there. */
static double resample(const cost_group *groups, int64_t n_groups, la_costs costs,
                       const double *own, uint64_t seed, uint64_t *position, int64_t chosen,
                       double *optimism) {
    double n = 0, wrong = 0, here = 0, saved = 0, most = 0, cost = costs.review;
    for (int64_t g = 0; g < n_groups; g++) {
        const cost_group *group = &groups[g];
        double right = group->n[0] ? poisson((double)group->n[0], seed, position) : 0;
        double errors = group->n[1] ? poisson((double)group->n[1], seed, position) : 0;
        n += right + errors;
        wrong += errors;
        saved = costs.review * n - costs.error * wrong;
        if (saved >= most) {
            most = saved;
            cost = own[g];
        }
        if (group->end == chosen)
            here = saved;
    }
    *optimism = n > 0 ? cost - (costs.review - most / n) : 0;
    return n > 0 ? costs.review - here / n : costs.review;
}

/* At most COST_GROUPS groups of whole scores, and the cheapest of the ends of all scores, which
 * ends a group. */
static int64_t make_groups(const la_ranked *rows, int64_t n, int64_t chosen, cost_group *groups) {
    int64_t n_groups = 0, from = 0, wrong;
    cost_group group = {0};
    for (int64_t at = 0; at < n;) {
        int64_t end = group_end(rows, n, at, &wrong);
        group.n[0] += end - at - wrong;
        group.n[1] += wrong;
        at = group.end = end;
        if (end - from >= n / COST_GROUPS || end == chosen || end == n) {
            groups[n_groups++] = group;
            group = (cost_group){0};
            from = end;
        }
    }
    return n_groups;
}

/* Whether a row may be the last of those accepted; 0: none is. */
static bool is_end(const la_ranked *rows, int64_t n, int64_t accepted) {
    return !accepted || accepted == n || rows[accepted].key != rows[accepted - 1].key;
}

/* Marks those ends from which rows to one side show that another end is cheaper: further on, fewer
 * wrong ones than a review is worth, or before, more. odds: of an error, in place of those at which
 * both cost the same; sums [n + 1]: of the logarithms of likelihood ratios. */
static void reject_ends(const la_ranked *rows, int64_t n, double even, double odds, double *sums,
                        unsigned char *rejected) {
    double rate = odds / (1 + odds), wrong = log(rate / even), right = log((1 - rate) / (1 - even));
    bool further = rate < even;
    double best = 0;
    sums[0] = 0;
    for (int64_t i = 0; i < n; i++)
        sums[i + 1] = sums[i] + (rows[i].wrong ? wrong : right);
    best = sums[further ? n : 0];
    for (int64_t k = 1; k <= n; k++) {
        int64_t i = further ? n - k : k;
        if (!is_end(rows, n, i))
            continue;
        rejected[i] |= (further ? best - sums[i] : sums[i] - best) > COST_REJECTED;
        best = further ? fmax(best, sums[i]) : fmin(best, sums[i]);
    }
}

/* Fewest and most accepted rows of the ends that are not rejected. */
static la_status find_ends(const la_ranked *rows, int64_t n, la_costs costs, la_cost_point *point,
                           la_error *err) {
    double even = costs.review / costs.error;
    int tilts = 2 + (int)lrint(log2((double)n) / 3);
    int64_t *ends = point->accepted_interval;
    ends[0] = ends[1] = point->n_accepted;
    if (!(even > 0 && even < 1)) /* nothing depends on the rows */
        return LA_OK;
    double *sums = la_alloc((size_t)n + 1, sizeof *sums, err);
    unsigned char *rejected = la_alloc((size_t)n + 1, 1, err);
    for (int t = 0; t < 2 * tilts && sums && rejected; t++) {
        double tilt = 2 * exp2(-(t / 2));
        reject_ends(rows, n, even, even / (1 - even) * exp(t % 2 ? tilt : -tilt), sums, rejected);
    }
    for (int64_t i = 0; i <= n && sums && rejected; i++)
        if (!rejected[i] && is_end(rows, n, i)) {
            ends[0] = i < ends[0] ? i : ends[0];
            ends[1] = i > ends[1] ? i : ends[1];
        }
    free(sums);
    free(rejected);
    return err->status;
}

/* Cost of the threshold on new rows: what it is in resamples, up to what its errors could cost by
 * the bound of Clopper and Pearson, as resamples of few errors, or none, do not show what more of
 * them would cost; and higher by what the choice of the cheapest one makes the cost look lower. */
static la_status find_cost(const la_ranked *rows, int64_t n, la_costs costs, uint64_t seed,
                           la_cost_point *point, la_error *err) {
    size_t most = (size_t)(n < 2 * COST_GROUPS ? n : 2 * COST_GROUPS) + 2;
    cost_group *groups = la_alloc(most, sizeof *groups, err);
    double *drawn = la_alloc(LA_COST_RESAMPLES + most, sizeof *drawn, err);
    double optimism = 0, wrong = 0, *own, more;
    uint64_t position = 0;
    la_status status = LA_OK;
    LA_TRY_DONE(err->status);
    own = drawn + LA_COST_RESAMPLES;
    int64_t n_groups = make_groups(rows, n, point->n_accepted, groups);
    for (int64_t g = 0; g < n_groups; g++) {
        wrong += (double)groups[g].n[1];
        own[g] = cost_of(costs, wrong, (double)(n - groups[g].end)) / (double)n;
    }
    for (int b = 0; b < LA_COST_RESAMPLES; b++) {
        drawn[b] =
            resample(groups, n_groups, costs, own, seed, &position, point->n_accepted, &more);
        optimism += more / LA_COST_RESAMPLES;
    }
    la_doubles_sort(drawn, LA_COST_RESAMPLES);
    for (int end = 0; end < 2; end++)
        point->cost_interval[end] = la_quantile(drawn, LA_COST_RESAMPLES, end ? 0.975 : 0.025);
    if (point->n_accepted) {
        double rate = la_binomial_upper(n, point->n_errors, 0.025);
        double reviewed = (double)(n - point->n_accepted) / (double)n;
        double *upper = &point->cost_interval[1];
        *upper = fmax(*upper, cost_of(costs, rate, reviewed)) + fmax(0, optimism);
    }
done:
    free(groups);
    free(drawn);
    return status;
}

la_status la_selection_by_cost(const la_ranked *rows, int64_t n, la_costs costs, uint64_t seed,
                               la_cost_point *point, la_error *err) {
    int64_t errors = 0;
    double least = cost_of(costs, 0, (double)n);
    *point = (la_cost_point){0};
    for (int64_t at = 0, wrong; at < n;) {
        at = group_end(rows, n, at, &wrong);
        errors += wrong;
        double cost = cost_of(costs, (double)errors, (double)(n - at));
        if (cost <= least) {
            least = cost;
            point->n_accepted = at;
            point->n_errors = errors;
        }
    }
    point->cost = least / (double)n;
    LA_TRY(find_cost(rows, n, costs, seed, point, err));
    return find_ends(rows, n, costs, point, err);
}
