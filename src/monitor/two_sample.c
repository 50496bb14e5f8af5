#include "monitor/two_sample.h"
#include "base/memory.h"
#include "base/trials.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- distributions ---- */

/* P(sqrt(n) D > x) in the limit, by whichever of its two series converges fast. */
static double kolmogorov_tail(double x) {
    double sum = 0;
    if (x < 0.2)
        return 1;
    if (x < 1) {
        for (int k = 1; k < 40; k += 2)
            sum += exp(-k * k * M_PI * M_PI / (8 * x * x));
        return 1 - sqrt(2 * M_PI) / x * sum;
    }
    for (int k = 1; k < 40; k++)
        sum += (k % 2 ? 2 : -2) * exp(-2.0 * k * k * x * x);
    return fmin(1, sum);
}

/* Share of those paths from (0, 0) to (n_a, n_b) that are, at an end of ties, at least `far` off
 * the diagonal: |i n_b - j n_a| >= far. ends[k]: the pooled value k is the last of its ties, k from
 * 1. hit: [n_b + 1], parts: [n_a + n_b + 1], scratch. */
static double paths_beyond(int64_t n_a, int64_t n_b, double far, const unsigned char *ends,
                           double *hit, double *parts) {
    hit[0] = 0;
    for (int64_t k = 1; k <= n_a + n_b; k++)
        parts[k] = 1 / (double)k;
    for (int64_t i = 0; i <= n_a; i++)
        for (int64_t j = 0; j <= n_b; j++) {
            if (i + j == 0)
                continue;
            double off = fabs((double)i * (double)n_b - (double)j * (double)n_a);
            if (ends[i + j] && off >= far)
                hit[j] = 1;
            else if (i && j)
                hit[j] = (double)i * parts[i + j] * hit[j] + (double)j * parts[i + j] * hit[j - 1];
            else if (j)
                hit[j] = hit[j - 1];
        }
    return hit[n_b];
}

la_status la_ks_test(const double *a, int64_t n_a, const double *b, int64_t n_b, la_test_value *out,
                     la_error *err) {
    double na = (double)n_a, nb = (double)n_b, far = 0;
    bool exact = na * nb <= LA_KS_EXACT;
    unsigned char *ends = la_alloc(exact ? (size_t)(n_a + n_b + 1) : 1, 1, err);
    for (int64_t i = 0, j = 0; ends && (i < n_a || j < n_b);) {
        double value = i == n_a || (j < n_b && b[j] < a[i]) ? b[j] : a[i];
        for (; i < n_a && a[i] == value; i++)
            ;
        for (; j < n_b && b[j] == value; j++)
            ;
        far = fmax(far, fabs((double)i * nb - (double)j * na));
        if (exact)
            ends[i + j] = 1;
    }
    out->statistic = far / na / nb;
    if (!exact) {
        out->p_value = kolmogorov_tail(sqrt(na * nb / (na + nb)) * out->statistic);
    } else {
        double *hit = la_alloc((size_t)(n_a + 2 * n_b + 2), sizeof *hit, err);
        out->p_value = ends && hit ? paths_beyond(n_a, n_b, far, ends, hit, hit + n_b + 1) : NAN;
        free(hit);
    }
    free(ends);
    return err->status;
}

void la_distance_test(double far, int64_t n, la_test_value *out) {
    *out = (la_test_value){far, fmin(1, 2 * exp(-2 * (double)n * far * far))};
}

/* ---- counts ---- */

/* table[2][n], pooled in place; returns how many columns are left. least: of a column's sum. */
static int64_t pool_columns(int64_t *const table[2], int64_t n, double least) {
    int64_t kept = 0, pooled[2] = {0, 0}, smallest = 0;
    for (int64_t c = 0; c < n; c++) {
        bool keep = (double)(table[0][c] + table[1][c]) >= least;
        for (int s = 0; s < 2; s++) {
            if (keep)
                table[s][kept] = table[s][c];
            else
                pooled[s] += table[s][c];
        }
        kept += keep;
    }
    if (!(pooled[0] + pooled[1]))
        return kept;
    for (int64_t c = 1; c < kept; c++)
        if (table[0][c] + table[1][c] < table[0][smallest] + table[1][smallest])
            smallest = c;
    bool own = !kept || (double)(pooled[0] + pooled[1]) >= least;
    for (int s = 0; s < 2; s++) {
        if (own)
            table[s][kept] = pooled[s];
        else
            table[s][smallest] += pooled[s];
    }
    return kept + own;
}

static double chi_squared(int64_t *const table[2], int64_t n, const double sums[2]) {
    double x = 0, all = sums[0] + sums[1];
    for (int64_t c = 0; c < n; c++)
        for (int s = 0; s < 2; s++) {
            double expected = (double)(table[0][c] + table[1][c]) * sums[s] / all;
            double off = (double)table[s][c] - expected;
            x += expected > 0 ? off * off / expected : 0;
        }
    return x;
}

la_status la_shares_test(const int64_t *a, const int64_t *b, int64_t n, la_test_value *out,
                         la_error *err) {
    double sums[2] = {0, 0};
    int64_t *copy = la_alloc(2 * (size_t)n, sizeof *copy, err), most = 0;
    if (!copy)
        return err->status;
    int64_t *const table[2] = {copy, copy + n};
    memcpy(table[0], a, (size_t)n * sizeof *a);
    memcpy(table[1], b, (size_t)n * sizeof *b);
    for (int64_t c = 0; c < n; c++) {
        sums[0] += (double)a[c];
        sums[1] += (double)b[c];
        most = a[c] + b[c] > a[most] + b[most] ? c : most;
    }
    la_stratum one = {{a[most], b[most]}, {(int64_t)sums[0], (int64_t)sums[1]}};
    out->statistic = chi_squared(table, n, sums);
    int64_t left = pool_columns(table, n, 5 * (sums[0] + sums[1]) / fmin(sums[0], sums[1]));
    la_status status = LA_OK;
    if (left > 2) {
        out->statistic = chi_squared(table, left, sums);
        out->p_value = la_chi_squared_tail(out->statistic, (double)(left - 1));
    } else {
        la_test_value exact = {0, NAN};
        status = la_strata_test(&one, 1, &exact, err);
        out->p_value = exact.p_value;
    }
    free(copy);
    return status;
}

/* ---- strata ---- */

/* Hits of the second sample, given all hits of the stratum. */
static la_stratum_draw draw_of(const la_stratum *s) {
    return (la_stratum_draw){s->n[0] + s->n[1], s->hits[0] + s->hits[1], s->n[1]};
}

static double twice_smaller(double below, double above) {
    return fmin(1, 2 * fmin(below, above));
}

static la_status exact_strata(const la_stratum *strata, int64_t n, double *p_value, la_error *err) {
    la_stratum_draw *draws = la_alloc((size_t)n + 1, sizeof *draws, err);
    la_draw_sum sum = {0};
    double below, above;
    int64_t hits = 0;
    for (int64_t k = 0; draws && k < n; k++) {
        draws[k] = draw_of(&strata[k]);
        hits += strata[k].hits[1];
    }
    if (draws && la_draw_sum_set(&sum, draws, n, 0, err) == LA_OK) {
        la_draw_sum_tails(&sum, hits, &above, &below);
        *p_value = twice_smaller(below, above);
    }
    la_draw_sum_free(&sum);
    free(draws);
    return err->status;
}

la_status la_strata_test(const la_stratum *strata, int64_t n, la_test_value *out, la_error *err) {
    double variance = 0, off = 0, weight = 0, difference = 0;
    int64_t size = 1;
    for (int64_t k = 0; k < n; k++) {
        const la_stratum *s = &strata[k];
        double m[2] = {(double)s->n[0], (double)s->n[1]}, all = m[0] + m[1];
        double hits = (double)(s->hits[0] + s->hits[1]);
        la_stratum_draw draw = draw_of(s);
        int64_t least, most;
        la_hypergeometric_range(draw.all, draw.marked, draw.drawn, &least, &most);
        size += most - least;
        if (!(m[0] > 0 && m[1] > 0))
            continue;
        double w = m[0] * m[1] / all;
        off += (double)s->hits[1] - hits * m[1] / all;
        variance += hits * (all - hits) * m[0] * m[1] / (all * all * (all - 1));
        difference += w * ((double)s->hits[1] / m[1] - (double)s->hits[0] / m[0]);
        weight += w;
    }
    out->statistic = weight > 0 ? difference / weight : 0;
    if (size <= LA_STRATA_EXACT)
        return exact_strata(strata, n, &out->p_value, err);
    double z = fmax(0, fabs(off) - 0.5) / sqrt(variance);
    out->p_value = fmin(1, 2 * la_normal_tail(z));
    return LA_OK;
}

/* ---- rates ---- */

la_status la_rates_test(const double *probabilities, int64_t n, int64_t n_right, la_test_value *out,
                        la_error *err) {
    double mean = 0, above, below;
    int64_t n_wrong = n - n_right;
    for (int64_t i = 0; i < n; i++)
        mean += 1 - probabilities[i];
    out->statistic = (mean - (double)n_wrong) / (double)n;
    LA_TRY(la_trials_tails(probabilities, n, n_wrong, LA_RATES_EXACT, &above, &below, err));
    out->p_value = twice_smaller(below, above);
    return LA_OK;
}
