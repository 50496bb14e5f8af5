/* Choosing by held-out rows: every candidate's likelihood against an independent computation, the
 * rule between candidates, and that rows drawn from a method lead to that method. */
#include "base/random.h"
#include "likelihood/answer.h"
#include "likelihood/likelihood.h"
#include "likelihood/selection.h"
#include "support/held_rows.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPERATURES = LA_SELECTION_TEMPERATURES, PAIRS = 128 };

static double temperature_at(const la_choice *choice, int i) {
    double all[TEMPERATURES];
    la_selection_temperatures(choice->candidates[LA_METHOD_TEMPERATURE].temperature, all);
    return all[i];
}

/* ---- the rule ---- */

static const int numbers[LA_METHODS] = {0, 1, 1, 1, 2, 2, 0}; /* chosen by a method */

static double charged(const la_choice *c, int method) {
    return c->candidates[method].nll + (double)numbers[method] / (double)c->n;
}

/* Method by the rule without an average and without a MAP model to stay with. */
static la_method single(const la_choice *c) {
    int least = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++)
        if (k != LA_METHOD_AVERAGE && charged(c, k) < charged(c, least))
            least = k;
    return (la_method)least;
}

static void check_rule(const la_choice *c) {
    int best = LA_METHOD_MAP, want = single(c);
    for (int k = 0; k < LA_METHODS; k++)
        if (c->candidates[k].nll < c->candidates[best].nll)
            best = k;
    assert_true(c->candidates[best].gap == 0 && c->candidates[best].gap_error == 0);
    const la_candidate *map = &c->candidates[LA_METHOD_MAP];
    const la_candidate *average = &c->candidates[LA_METHOD_AVERAGE];
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *own = &c->candidates[k];
        if (isnan(own->nll))
            continue;
        assert_true(fabs(own->gap - (own->nll - c->candidates[best].nll)) < 1e-12);
    }
    assert_true(isnan(average->nll) == !c->n_settings);
    if (!isnan(average->nll))
        want = LA_METHOD_AVERAGE;
    if (map->gap <= (c->n < LA_DOUBT_ROWS ? 0 : map->gap_error) + 1e-6)
        want = LA_METHOD_MAP;
    assert_int_equal(c->method, want);
}

static int threads = 2;

static la_choice choose(const held *h) {
    la_choice choice;
    la_error err = {0};
    if (la_select_class(la_team_of(threads), &h->rows, &choice, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_true(choice.guarded);
    assert_int_equal(choice.n, h->rows.n);
    check_rule(&choice);
    /* these keep all answers */
    static const la_method keep[] = {LA_METHOD_TEMPERATURE, LA_METHOD_SCALAR,
                                     LA_METHOD_TEMPERED_SCALAR};
    for (int k = 0; k < 3; k++)
        assert_true(choice.candidates[keep[k]].accuracy == choice.candidates[0].accuracy);
    for (int k = 0; k < LA_METHODS; k++)
        assert_false(choice.candidates[k].accuracy < choice.candidates[0].accuracy - 0.005 - 1e-12);
    return choice;
}

/* ---- likelihoods ---- */

static int64_t scale_index(const held *h, double scale) {
    for (int64_t g = 0; g < h->rows.n_scales; g++)
        if (h->scales[g] == scale)
            return g;
    fail_msg("%g is none of the scales", scale);
    return 0;
}

/* A row's -log p under softmax_of(f / s), s^2 = T^2 + pi/8 mean Var(f_c - f_d); g -1: no
 * covariance. */
static double shrunk_nll(const held *h, int64_t g, double temperature, int64_t i) {
    int64_t c = h->rows.n_classes, m = c - 1;
    double basis[C_MOST * M_MOST], full[C_MOST * C_MOST] = {0}, pairs = 0, f[C_MOST], p[C_MOST];
    la_softmax_likelihood.contrast_basis(c, basis);
    for (int64_t a = 0; a < c && g >= 0; a++)
        for (int64_t b = 0; b < c; b++)
            for (int64_t k = 0; k < m; k++)
                for (int64_t l = 0; l < m; l++)
                    full[a * c + b] += basis[a * m + k] *
                                       h->cov[((g * h->rows.n + i) * m + k) * m + l] *
                                       basis[b * m + l];
    for (int64_t a = 0; a < c; a++)
        for (int64_t b = 0; b < a; b++)
            pairs += full[a * c + a] + full[b * c + b] - 2 * full[a * c + b];
    double mean = pairs / (double)(c * (c - 1) / 2);
    for (int64_t k = 0; k < c; k++)
        f[k] = (double)h->logits[i * c + k] / sqrt(temperature * temperature + M_PI / 8 * mean);
    softmax_of(c, f, p);
    return -log(p[h->labels[i]]);
}

static double mean_shrunk(const held *h, int64_t g, double temperature) {
    double sum = 0;
    for (int64_t i = 0; i < h->rows.n; i++)
        sum += shrunk_nll(h, g, temperature, i);
    return sum / (double)h->rows.n;
}

/* MAP, temperature and the scalar probit: the likelihood, and that no other setting is better. */
static void closed_forms(void **state) {
    (void)state;
    double worst = 0;
    for (int64_t c = 2; c <= C_MOST; c++) {
        held h = held_make(120, c, 9, 20 + (uint64_t)c, 2, 1.5, 1.5);
        held_draw_labels(&h, 7, 0.5, 1.3);
        la_choice choice = choose(&h);
        const la_candidate *all = choice.candidates;
        int64_t right = 0;
        for (int64_t i = 0; i < h.rows.n; i++) {
            int64_t top = 0;
            for (int64_t k = 1; k < c; k++)
                top = h.logits[i * c + k] > h.logits[i * c + top] ? k : top;
            right += top == h.labels[i];
        }
        assert_true(fabs(all[0].accuracy - (double)right / (double)h.rows.n) < 1e-15);
        worst = fmax(worst, fabs(all[LA_METHOD_MAP].nll - mean_shrunk(&h, -1, 1)));
        double t = all[LA_METHOD_TEMPERATURE].temperature, at = mean_shrunk(&h, -1, t);
        worst = fmax(worst, fabs(all[LA_METHOD_TEMPERATURE].nll - at));
        assert_true(at < mean_shrunk(&h, -1, 1.002 * t) && at < mean_shrunk(&h, -1, t / 1.002));
        double best = INFINITY, best_tempered = INFINITY;
        for (int64_t g = 0; g < h.rows.n_scales; g++) {
            best = fmin(best, mean_shrunk(&h, g, 1));
            for (int u = 0; u < TEMPERATURES; u++)
                best_tempered = fmin(best_tempered, mean_shrunk(&h, g, temperature_at(&choice, u)));
        }
        const la_candidate *scalar = &all[LA_METHOD_SCALAR],
                           *both = &all[LA_METHOD_TEMPERED_SCALAR];
        assert_true(scalar->temperature == 1);
        worst = fmax(worst, fabs(scalar->nll - best));
        worst = fmax(worst, fabs(both->nll - best_tempered));
        at = mean_shrunk(&h, scale_index(&h, scalar->prior_scale), 1);
        worst = fmax(worst, fabs(scalar->nll - at));
        at = mean_shrunk(&h, scale_index(&h, both->prior_scale), both->temperature);
        worst = fmax(worst, fabs(both->nll - at));
        held_drop(&h);
    }
    check_within("likelihood against its formula", worst, 1.5e-8);
}

/* Independent estimate of E -log p, where p is the mean of PAIRS pairs of draws: known to the
 * second order of their deviation. */
typedef struct expectation {
    double nll, square; /* square: of its standard error */
} expectation;

static void expect_row(expectation *to, double mean, double variance, int64_t n) {
    double relative_square = variance / PAIRS / (mean * mean);
    to->nll += (-log(mean) + relative_square / 2) / (double)n;
    to->square += relative_square / (double)(n * n);
}

/* Two classes: the trapezoid rule over 8 deviations. */
static expectation by_quadrature(const held *h, int64_t g, double temperature) {
    expectation e = {0};
    for (int64_t i = 0; i < h->rows.n; i++) {
        double sign = h->labels[i] ? -1 : 1, mean = 0, square = 0, weight = 0;
        double at = sign * ((double)h->logits[2 * i] - (double)h->logits[2 * i + 1]) / temperature;
        double sd = sqrt(2 * h->cov[g * h->rows.n + i]) / temperature;
        for (int s = -400; s <= 400; s++) {
            double x = s * 0.02, w = exp(-0.5 * x * x);
            double pair = 0.5 / (1 + exp(-at - sd * x)) + 0.5 / (1 + exp(-at + sd * x));
            weight += w;
            mean += w * pair;
            square += w * pair * pair;
        }
        mean /= weight;
        expect_row(&e, mean, square / weight - mean * mean, h->rows.n);
    }
    return e;
}

/* Pairs of draws by the root that the covariance was made of. */
static expectation by_draws(const held *h, double scale, double temperature) {
    enum { DRAWN = 5000 };
    expectation e = {0};
    int64_t c = h->rows.n_classes, m = c - 1;
    for (int64_t i = 0; i < h->rows.n; i++) {
        double mean = 0, square = 0, z[M_MOST], p[C_MOST], q[C_MOST];
        for (int64_t s = 0; s < DRAWN; s++) {
            la_random_normal(77, (uint64_t)i, (uint64_t)(s * M_MOST), (size_t)m, z);
            held_softmax(h, i, scale, temperature, z, p);
            for (int64_t k = 0; k < m; k++)
                z[k] = -z[k];
            held_softmax(h, i, scale, temperature, z, q);
            double pair = (p[h->labels[i]] + q[h->labels[i]]) / 2;
            mean += pair / DRAWN;
            square += pair * pair / DRAWN;
        }
        double variance = square - mean * mean;
        expect_row(&e, mean, variance, h->rows.n);
        e.square += variance / DRAWN / (mean * mean) / (double)(h->rows.n * h->rows.n);
    }
    return e;
}

static void monte_carlo_of_two(void **state) {
    (void)state;
    double worst = 0, far = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        held h = held_make(200, 2, 1, 30 + seed, 2, 0.5 + (double)seed, 1);
        held_draw_labels(&h, seed, 1, 1.2);
        la_choice choice = choose(&h);
        const la_candidate *plain = &choice.candidates[LA_METHOD_LAPLACE];
        const la_candidate *both = &choice.candidates[LA_METHOD_TEMPERED];
        assert_true(plain->prior_scale == 1 && plain->temperature == 1);
        expectation e = by_quadrature(&h, 0, 1);
        worst = fmax(worst, fabs(plain->nll - e.nll) / sqrt(e.square));
        far = fmax(far, sqrt(e.square));
        double least = INFINITY, error = 0;
        for (int u = 0; u < TEMPERATURES; u++) {
            e = by_quadrature(&h, 0, temperature_at(&choice, u));
            if (temperature_at(&choice, u) == both->temperature)
                worst = fmax(worst, fabs(both->nll - e.nll) / sqrt(e.square));
            if (e.nll < least) {
                least = e.nll;
                error = sqrt(e.square);
            }
        }
        worst = fmax(worst, (both->nll - least) / error);
        held_drop(&h);
    }
    check_within("likelihood of two classes, standard errors", worst, 4);
    check_within("standard error of the draws", far, 0.0075);
}

static void monte_carlo_of_several(void **state) {
    (void)state;
    double worst = 0;
    int n = 0;
    for (uint64_t seed = 0; seed < 9; seed++) {
        held h = held_make(25, 3 + (int64_t)(seed % 3), 1, 40 + seed, 2, 2.5, 1);
        held_draw_labels(&h, seed, 1, 1);
        la_choice choice = choose(&h);
        static const la_method of[] = {LA_METHOD_LAPLACE, LA_METHOD_TEMPERED};
        for (int k = 0; k < 2; k++) {
            const la_candidate *own = &choice.candidates[of[k]];
            if (isnan(own->nll)) /* fewer right answers than the MAP model's */
                continue;
            expectation e = by_draws(&h, 1, own->temperature);
            worst = fmax(worst, fabs(own->nll - e.nll) / sqrt(e.square));
            n++;
        }
        held_drop(&h);
    }
    assert_true(n >= 9);
    check_within("likelihood of several classes, standard errors", worst, 4);
}

/* ---- what rows lead to ---- */

static void right_models_stay(void **state) {
    (void)state;
    enum { SEEDS = 24 };
    int kept = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        held h = held_make(LA_DOUBT_ROWS, seed % 2 ? 3 : 2, 3, 100 + seed, 2, 1, 1.5);
        held_draw_labels(&h, seed, 0, 1);
        kept += choose(&h).method == LA_METHOD_MAP;
        held_drop(&h);
    }
    /* Twice the gap in log likelihood of two numbers chosen is about chi-squared of 2, and the
     * standard error about its root: MAP stays where that is at most 4, with 86 %. 17 is two
     * deviations less. */
    print_message("    the MAP model stays in %d of %d\n", kept, SEEDS);
    assert_true(kept >= 17);
}

/* Standard errors between 1 / T and 1 / 2: the information on b = 1 / T is the curvature of the
 * likelihood in it. */
static double off_two(const held *h, double temperature) {
    double b = 1 / temperature, step = 0.01;
    double bend = mean_shrunk(h, -1, 1 / (b + step)) + mean_shrunk(h, -1, 1 / (b - step)) -
                  2 * mean_shrunk(h, -1, temperature);
    return fabs(b - 0.5) / sqrt(step * step / bend / (double)h->rows.n);
}

/* Rows of softmax(f / 2) and a covariance of next to nothing: only a temperature helps. */
static void temperature_is_found(void **state) {
    (void)state;
    double worst = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        held h = held_make(300, 3, 1, 200 + seed, 3, 1e-3, 0);
        held_draw_labels(&h, seed, 0, 2);
        la_choice choice = choose(&h);
        assert_int_equal(choice.method, LA_METHOD_AVERAGE);
        assert_int_equal(single(&choice), LA_METHOD_TEMPERATURE);
        worst = fmax(worst, off_two(&h, choice.candidates[LA_METHOD_TEMPERATURE].temperature));
        held_drop(&h);
    }
    check_within("1 / T against 1 / 2, standard errors", worst, 4);
}

/* The same variance for all rows is a temperature by another name: one number either way. */
static void one_variance_is_a_temperature(void **state) {
    (void)state;
    enum { SCALES = 15 };
    double worst = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        held h = held_make(300, 2, SCALES, 300 + seed, 3, 1, 0);
        for (int64_t i = 0; i < h.rows.n; i++) {
            h.roots[i] = 2;
            h.floor[i] = 0;
        }
        for (int g = 0; g < SCALES; g++)
            h.scales[g] = pow(10, 0.1 * (g - SCALES / 2));
        held_fill(&h);
        held_draw_labels(&h, seed, 0, 2);
        la_choice choice = choose(&h);
        assert_int_equal(choice.method, LA_METHOD_AVERAGE);
        assert_int_equal(numbers[single(&choice)], 1);
        /* they come close to each other */
        assert_true(choice.candidates[LA_METHOD_SCALAR].gap < 0.01);
        assert_true(choice.candidates[LA_METHOD_TEMPERATURE].gap < 0.01);
        worst = fmax(worst, off_two(&h, choice.candidates[LA_METHOD_TEMPERATURE].temperature));
        held_drop(&h);
    }
    check_within("likewise, standard errors", worst, 4);
}

/* Rows of the Laplace predictive, variances far apart: Laplace, with the scale they were drawn
 * at. */
static void laplace_is_found(void **state) {
    (void)state;
    enum { SCALES = 9 };
    double worst = 0, mean = 0;
    int n = 0;
    static const double truths[] = {0.1, 1, 10};
    for (size_t k = 0; k < 3; k++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            held h = held_make(300, 2 + (int64_t)(seed % 2), SCALES, 400 + 10 * k + seed, 5,
                               6 * sqrt(truths[k]), 4);
            for (int g = 0; g < SCALES; g++)
                h.scales[g] = truths[k] * pow(10, 0.25 * (g - SCALES / 2));
            memset(h.floor, 0, (size_t)h.rows.n * sizeof *h.floor);
            held_fill(&h);
            held_draw_labels(&h, 10 * k + seed, truths[k], 1);
            la_choice choice = choose(&h);
            assert_int_equal(choice.method, LA_METHOD_AVERAGE);
            assert_true(single(&choice) >= LA_METHOD_LAPLACE);
            double off = log10(choice.candidates[single(&choice)].prior_scale / truths[k]);
            worst = fmax(worst, fabs(off));
            mean += off;
            n++;
            held_drop(&h);
        }
    check_within("log10 of the scale against the true one", worst, 0.75);
    check_within("likewise, its mean", fabs(mean / n), 0.15);
}

/* Without variance every Laplace setting is a temperature. The MAP model has T = 1 alone,
 * temperature scaling shares its mass among the others, the two kinds of Laplace among all: the
 * average's likelihood from those of softmax_of(f / T), and its list. */
static void average_of_temperatures(void **state) {
    (void)state;
    double worst = 0, worst_list = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        held h = held_make(60, 3, 3, 900 + seed, 2, 1e-4, 0);
        double nll[TEMPERATURES][60], mean = 0, total[TEMPERATURES] = {0};
        h.rows.uncorrected = true;
        held_draw_labels(&h, seed, 0, 1.5);
        la_choice choice = choose(&h);
        for (int64_t i = 0; i < 60; i++)
            for (int u = 0; u < TEMPERATURES; u++)
                total[u] += nll[u][i] = shrunk_nll(&h, -1, temperature_at(&choice, u), i);
        for (int64_t i = 0; i < 60; i++) {
            double sum = 0, p = 0, listed = 0, all = 0, all_sum = 0;
            for (int u = 0; u < TEMPERATURES; u++) {
                double mass = (u ? 1 / (double)(TEMPERATURES - 1) : 1) + 2 / (double)TEMPERATURES;
                double without = mass * exp(total[0] - total[u] + nll[u][i]);
                double with = mass * exp(total[0] - total[u]);
                sum += without;
                p += without * exp(-nll[u][i]);
                all_sum += with;
                all += with * exp(-nll[u][i]);
            }
            mean -= log(p / sum) / 60;
            for (int64_t s = 0; s < choice.n_settings; s++)
                listed += choice.settings[s].weight *
                          exp(-shrunk_nll(&h, -1, choice.settings[s].temperature, i));
            worst_list = fmax(worst_list, fabs(listed - all / all_sum) - choice.shortening);
        }
        worst = fmax(worst, fabs(mean - choice.candidates[LA_METHOD_AVERAGE].nll));
        for (int64_t s = 1; s < choice.n_settings; s++)
            assert_true(choice.settings[s].weight <= choice.settings[s - 1].weight);
        held_drop(&h);
    }
    check_within("left-out likelihood of the average", worst, 1.7e-8);
    check_within("what its list is off beyond what it says", worst_list, 4e-8);
}

/* ---- the rule at work ---- */

/* Among many small sets all of it happens; choose() holds each against the rule. */
static void the_rule(void **state) {
    (void)state;
    enum { SEEDS = 40 };
    int simpler = 0, best = 0, by_method[LA_METHODS] = {0}, singles[LA_METHODS] = {0};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        bool many = seed % 10 == 5;
        held h = held_make(many ? LA_DOUBT_ROWS : 40 + 40 * (int64_t)(seed % 4),
                           2 + (int64_t)(seed % 3), 3, 500 + seed, 3, 3, seed % 2 ? 3 : 1);
        held_draw_labels(&h, seed, seed % 5 ? 1 : 0, many ? 1 : 1 + 0.4 * (double)(seed % 4));
        la_choice choice = choose(&h);
        bool is_best = true;
        for (int k = 0; k < LA_METHOD_AVERAGE; k++)
            is_best &= !(choice.candidates[k].nll < choice.candidates[single(&choice)].nll);
        best += is_best;
        simpler += !is_best;
        by_method[choice.method]++;
        singles[single(&choice)]++;
        held_drop(&h);
    }
    print_message("    the best %d times, a simpler one %d times; by method", best, simpler);
    for (int k = 0; k < LA_METHODS; k++)
        print_message(" %d", by_method[k]);
    print_message("\n");
    assert_true(best > 5 && simpler > 5);
    for (int k = 0; k < LA_METHOD_TEMPERED; k++)
        assert_true(singles[k] > 0);
    assert_true(by_method[LA_METHOD_MAP] > 1 && by_method[LA_METHOD_AVERAGE] > 5);
}

/* The gap and its error, row by row, where the best method has a closed form. */
static void gaps(void **state) {
    (void)state;
    static const bool closed[LA_METHODS] = {true, true, false, true, false, true, false};
    double worst = 0, worst_error = 0;
    int n = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        held h = held_make(80, 2, 3, 600 + seed, 3, 3, 2);
        held_draw_labels(&h, seed, 1, 1);
        la_choice choice = choose(&h);
        int best = 0;
        for (int k = 0; k < LA_METHODS; k++)
            best = choice.candidates[k].nll < choice.candidates[best].nll ? k : best;
        for (int k = 0; k < LA_METHODS; k++) {
            const la_candidate *a = &choice.candidates[k], *b = &choice.candidates[best];
            double sum = 0, square = 0, count = (double)h.rows.n;
            if (!closed[k] || !closed[best] || k == best)
                continue;
            int64_t of_a = k < 2 ? -1 : scale_index(&h, a->prior_scale);
            int64_t of_b = best < 2 ? -1 : scale_index(&h, b->prior_scale);
            for (int pass = 0; pass < 2; pass++)
                for (int64_t i = 0; i < h.rows.n; i++) {
                    double d = shrunk_nll(&h, of_a, a->temperature, i) -
                               shrunk_nll(&h, of_b, b->temperature, i);
                    if (pass)
                        square += (d - sum) * (d - sum);
                    else
                        sum += d / count;
                }
            double error = sqrt(square / (count - 1) / count);
            worst = fmax(worst, fabs(a->gap - sum));
            worst_error = fmax(worst_error, relative(a->gap_error, error, 1e-6));
            n++;
        }
        held_drop(&h);
    }
    assert_true(n >= 20);
    check_within("gap", worst, 2e-8);
    check_within("its standard error, relative", worst_error, 5e-7);
}

/* ---- answers that are lost ---- */

/* Rows whose second class takes over when its logit is unsure (the first is right in `lost`, the
 * second in `won` of them), and rows that are sure, unsure and half of them wrong: by the
 * likelihood alone Monte Carlo is far ahead. */
static held lossy(int64_t n, int64_t lost, int64_t won) {
    held h = held_make(n, 3, 1, 9, 0, 1, 0);
    double basis[6];
    la_softmax_likelihood.contrast_basis(3, basis);
    memset(h.roots, 0, (size_t)n * 4 * sizeof *h.roots);
    memset(h.floor, 0, (size_t)n * sizeof *h.floor);
    for (int64_t i = 0; i < n; i++) {
        bool flips = i < lost + won;
        h.logits[3 * i] = flips ? 1 : 9;
        h.logits[3 * i + 1] = flips ? 0.9f : 0;
        h.logits[3 * i + 2] = flips ? 0.9f : 0;
        /* covariance of the second class's logit alone, deviation 12 */
        for (int64_t k = 0; k < 2; k++)
            h.roots[4 * i + 2 * k] = 12 * basis[2 + k];
        h.labels[i] = flips ? i >= lost : i % 2;
    }
    held_fill(&h);
    return h;
}

static void fewer_right_answers(void **state) {
    (void)state;
    static const struct {
        int64_t n, lost, won;
        bool admitted;
    } cases[] = {
        {60, 5, 0, false},  {60, 5, 5, true},  {60, 5, 7, true},  /* lost here, won there */
        {400, 2, 0, false}, {400, 3, 1, true},                    /* chance: 2 of 4 that differ */
        {400, 6, 3, false}, {60, 1, 0, false}, {400, 1, 0, true}, /* half a per cent: 2 of 400 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        held h = lossy(cases[i].n, cases[i].lost, cases[i].won);
        la_choice choice = choose(&h);
        const la_candidate *all = choice.candidates;
        assert_true(isfinite(all[LA_METHOD_SCALAR].nll));
        if (isnan(all[LA_METHOD_LAPLACE].nll) == cases[i].admitted)
            fail_msg("case %zu is%s admitted", i, cases[i].admitted ? " not" : "");
        if (cases[i].admitted) {
            double more = all[LA_METHOD_LAPLACE].accuracy - all[LA_METHOD_MAP].accuracy;
            double want = (double)(cases[i].won - cases[i].lost) / (double)cases[i].n;
            assert_true(fabs(more - want) < 1e-15);
        } else {
            assert_true(choice.method != LA_METHOD_LAPLACE);
            assert_true(isnan(all[LA_METHOD_LAPLACE].accuracy));
        }
        held_drop(&h);
    }
    /* one that was not admitted would have been far better than the MAP model */
    held h = lossy(60, 5, 0);
    assert_true(by_draws(&h, 1, 1).nll < choose(&h).candidates[LA_METHOD_MAP].nll - 0.5);
    held_drop(&h);
}

/* The mean of a pair of draws is on the MAP model's side: with two classes no answer is lost,
 * however near the logits are and however wide the posterior. */
static void two_classes_lose_nothing(void **state) {
    (void)state;
    held h = held_make(300, 2, 3, 650, 0.05, 5, 0);
    held_draw_labels(&h, 1, 0, 1);
    la_choice choice = choose(&h);
    const la_candidate *all = choice.candidates;
    assert_true(all[LA_METHOD_LAPLACE].accuracy == all[LA_METHOD_MAP].accuracy);
    assert_true(all[LA_METHOD_TEMPERED].accuracy == all[LA_METHOD_MAP].accuracy);
    held_drop(&h);
}

/* ---- sameness ---- */

static void threads_change_nothing(void **state) {
    (void)state;
    held h = held_make(101, 3, 5, 700, 2, 2, 1);
    held_draw_labels(&h, 1, 1, 1.5);
    threads = 1;
    la_choice one = choose(&h);
    threads = 4;
    la_choice four = choose(&h);
    threads = 2;
    assert_int_equal(one.method, four.method);
    assert_memory_equal(one.candidates, four.candidates, sizeof one.candidates);
    held_drop(&h);
}

/* The draws belong to the row, not to its place. */
static void order_changes_nothing(void **state) {
    (void)state;
    enum { N = 101, M = 2 };
    held h = held_make(N, M + 1, 5, 703, 2, 2, 1), turned = held_make(N, M + 1, 5, 702, 2, 2, 1);
    held_draw_labels(&h, 1, 1, 1.5);
    for (int64_t i = 0; i < N; i++) {
        int64_t from = (i * 37 + 5) % N;
        memcpy(turned.logits + i * (M + 1), h.logits + from * (M + 1), (M + 1) * sizeof(float));
        memcpy(turned.roots + i * M * M, h.roots + from * M * M, M * M * sizeof(double));
        turned.labels[i] = h.labels[from];
        turned.streams[i] = h.streams[from];
        turned.floor[i] = h.floor[from];
    }
    held_fill(&turned);
    la_choice a = choose(&h), b = choose(&turned);
    double worst = 0;
    assert_int_equal(a.method, b.method);
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *x = &a.candidates[k], *y = &b.candidates[k];
        assert_true(x->prior_scale == y->prior_scale);
        worst = fmax(worst, relative(x->temperature, y->temperature, 1));
        worst = fmax(worst, isnan(x->nll) && isnan(y->nll) ? 0 : fabs(x->nll - y->nll));
        worst = fmax(worst, fabs(x->gap_error - y->gap_error));
    }
    check_within("rows in another order", worst, 4e-15);
    /* other streams, other draws */
    for (int64_t i = 0; i < N; i++)
        turned.streams[i]++;
    b = choose(&turned);
    double moved = fabs(a.candidates[LA_METHOD_LAPLACE].nll - b.candidates[LA_METHOD_LAPLACE].nll);
    assert_true(moved > 1e-6 && moved < 0.05);
    held_drop(&h);
    held_drop(&turned);
}

static void scales(void **state) {
    (void)state;
    double found[LA_SELECTION_SCALES];
    bool has_one = false;
    la_selection_scales(found);
    for (int i = 0; i < LA_SELECTION_SCALES; i++) {
        has_one |= found[i] == 1;
        assert_true(!i || found[i] > found[i - 1]);
    }
    /* the prior as it is */
    assert_true(has_one);
}

/* 1, and others about the temperature that scaling has, that one among them and most below it. */
static void temperatures(void **state) {
    (void)state;
    static const double scalings[] = {0.01, 0.7, 1, 3.3, 100};
    for (size_t k = 0; k < sizeof scalings / sizeof *scalings; k++) {
        double found[TEMPERATURES];
        int below = 0, above = 0, same = 0;
        la_selection_temperatures(scalings[k], found);
        assert_true(found[0] == 1);
        for (int i = 1; i < TEMPERATURES; i++) {
            double of = found[i] / scalings[k];
            same += fabs(of - 1) < 1e-12;
            below += of < 1 - 1e-12;
            above += of > 1 + 1e-12;
            assert_true(found[i] > 0 && (i == 1 || found[i] < found[i - 1]));
        }
        assert_int_equal(same, 1);
        assert_true(above > 1 && below > 2 * above);
    }
}

static void best_of_laplace(void **state) {
    (void)state;
    la_choice c = {.method = LA_METHOD_TEMPERATURE, .n = 1000};
    for (int k = 0; k < LA_METHODS; k++)
        c.candidates[k].nll = 1 + 0.1 * k;
    c.candidates[LA_METHOD_MAP].nll = c.candidates[LA_METHOD_TEMPERATURE].nll = 0.5;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_LAPLACE);
    c.candidates[LA_METHOD_LAPLACE].nll = NAN;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_SCALAR);
    c.candidates[LA_METHOD_TEMPERED].nll = 1;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_TEMPERED);
    c.candidates[LA_METHOD_TEMPERED].nll = NAN;
    c.candidates[LA_METHOD_TEMPERED_SCALAR].nll = 0.9;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_TEMPERED_SCALAR);
    c.method = LA_METHOD_MAP;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_TEMPERED_SCALAR);
    /* a number more has to bring a unit of log likelihood */
    c.candidates[LA_METHOD_SCALAR].nll = 0.9009;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_SCALAR);
    c.candidates[LA_METHOD_SCALAR].nll = 0.9011;
    assert_int_equal(la_choice_laplace(&c), LA_METHOD_TEMPERED_SCALAR);
}

static void bad_rows(void **state) {
    (void)state;
    la_choice choice;
    la_error err = {0};
    held h = held_make(10, 2, 1, 800, 1, 1, 0);
    h.logits[7] = NAN;
    assert_int_equal(la_select_class(la_team_of(2), &h.rows, &choice, &err), LA_BAD_INPUT);
    assert_false(choice.guarded);
    held_drop(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_forms),
        cmocka_unit_test(monte_carlo_of_two),
        cmocka_unit_test(monte_carlo_of_several),
        cmocka_unit_test(right_models_stay),
        cmocka_unit_test(temperature_is_found),
        cmocka_unit_test(one_variance_is_a_temperature),
        cmocka_unit_test(laplace_is_found),
        cmocka_unit_test(average_of_temperatures),
        cmocka_unit_test(the_rule),
        cmocka_unit_test(gaps),
        cmocka_unit_test(fewer_right_answers),
        cmocka_unit_test(two_classes_lose_nothing),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(order_changes_nothing),
        cmocka_unit_test(scales),
        cmocka_unit_test(temperatures),
        cmocka_unit_test(best_of_laplace),
        cmocka_unit_test(bad_rows),
    };
    return cmocka_run_group_tests_name("selection", tests, NULL, NULL);
}
