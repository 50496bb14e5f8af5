/* Thresholds by risk and cost: the promise by simulation (bench/threshold_promise.c is the long
 * one), ties, edges, costs. Everything is seeded. */
#include "base/random.h"
#include "base/binomial.h"
#include "base/selective.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { DRAWS = 400, ROWS_MOST = 2000 };
static const double E = 0.05, D = 0.05;

/* ---- worlds: error rate at a score that is uniform on [0, 1) ---- */

static double falling(double u) {
    return 0.4 * (1 - u) * (1 - u);
}
static double wavy(double u) {
    return u > 0.97 ? 0.12 : u > 0.6 ? 0.01 : u > 0.4 ? 0.2 : u > 0.2 ? 0.03 : 0.4;
}
static double just_above(double u) {
    (void)u;
    return 0.0501;
}
/* the error rate of the best tenth is above E, that of the best two tenths just so */
static double two_levels(double u) {
    return u >= 0.9 ? 0.06 : u >= 0.8 ? 0.0402 : 0.3;
}

static double rate_above(double (*error)(double), double score) {
    double sum = 0;
    for (int i = 0; i < 4000; i++)
        sum += error(score + (1 - score) * (i + 0.5) / 4000);
    return sum / 4000;
}

static void draw(double (*error)(double), int64_t n, int64_t levels, uint64_t stream,
                 la_ranked *rows) {
    for (int64_t i = 0; i < n; i++) {
        double u = la_random_uniform(7, stream, (uint64_t)(2 * i));
        bool wrong = la_random_uniform(7, stream, (uint64_t)(2 * i + 1)) < error(u);
        if (levels)
            u = floor(u * (double)levels) / (double)levels;
        rows[i] = (la_ranked){-u, wrong};
    }
    la_ranked_sort(rows, n);
}

typedef struct outcome {
    double violated, coverage, by_eye;
} outcome;

static outcome simulate(double (*error)(double), int64_t n, int64_t levels, uint64_t stream) {
    la_ranked rows[ROWS_MOST];
    outcome o = {0};
    for (int r = 0; r < DRAWS; r++) {
        draw(error, n, levels, stream + (uint64_t)r, rows);
        la_selection_point p = la_selection_by_risk(rows, n, E, D, (uint64_t)r);
        double score = p.n_accepted ? -rows[p.n_accepted - 1].key : 1;
        o.coverage += (1 - score) / DRAWS;
        o.violated += (p.n_accepted && rate_above(error, score) > E) / (double)DRAWS;
        int64_t errors = 0, chosen = 0;
        for (int64_t i = 0; i < n; i++) {
            errors += rows[i].wrong;
            if ((double)errors <= E * (double)(i + 1))
                chosen = i + 1;
        }
        o.by_eye += (chosen && rate_above(error, -rows[chosen - 1].key) > E) / (double)DRAWS;
    }
    return o;
}

static void promise(void **state) {
    const double most = D + 2 * sqrt(D * (1 - D) / DRAWS);
    (void)state;
    outcome o = simulate(falling, 1000, 0, 1000);
    check_within("monotone: violations", o.violated, most);
    assert_true(o.coverage > 0.7 * 0.612); /* of the oracle's */
    assert_true(o.by_eye > 4 * D);         /* what a promise is needed for */
    o = simulate(wavy, 1000, 0, 2000);
    check_within("not monotone: violations", o.violated, most);
    assert_true(o.coverage > 0.5 * 0.485);
    o = simulate(just_above, 1000, 0, 3000);
    check_within("just above: violations", o.violated, most);
    assert_true(o.coverage < most);
    o = simulate(two_levels, 1170, 10, 4000);
    check_within("tied: violations", o.violated, most);
    o = simulate(wavy, 1000, 100, 5000);
    check_within("tied, not monotone: violations", o.violated, most);
    assert_true(o.coverage > 0.5 * 0.485);
}

static la_selection_point select_of(const char *wrong, int64_t n, double e) {
    la_ranked rows[ROWS_MOST];
    for (int64_t i = 0; i < n; i++)
        rows[i] = (la_ranked){(double)i, wrong && wrong[i] == 'x'};
    return la_selection_by_risk(rows, n, e, D, 1);
}

static void edges(void **state) {
    la_ranked rows[ROWS_MOST] = {{0}};
    (void)state;
    assert_int_equal(la_selection_by_risk(rows, 0, E, D, 1).n_accepted, 0);
    assert_true(isnan(la_selection_by_risk(rows, 0, E, D, 1).upper));
    assert_int_equal(select_of("x", 1, E).n_accepted, 0);
    assert_int_equal(select_of(NULL, 1, E).n_accepted, 0);
    /* all right: everything, as soon as that many right rows rule out the rate */
    assert_int_equal(select_of(NULL, la_binomial_least(E, D) - 1, E).n_accepted, 0);
    assert_int_equal(select_of(NULL, la_binomial_least(E, D), E).n_accepted,
                     la_binomial_least(E, D));
    la_selection_point all = select_of(NULL, 500, E);
    assert_int_equal(all.n_accepted, 500);
    assert_int_equal(all.n_errors, 0);
    assert_true(all.upper <= E && all.upper > 0);
    for (int i = 0; i < 500; i++)
        rows[i] = (la_ranked){(double)i, true};
    assert_int_equal(la_selection_by_risk(rows, 500, E, D, 1).n_accepted, 0);
    assert_int_equal(la_selection_rows_needed(rows, 500, E, D), -1);
}

/* A score is accepted whole or not at all, and which rows of it come first does not matter. */
static void ties(void **state) {
    la_ranked rows[ROWS_MOST], turned[ROWS_MOST];
    (void)state;
    for (int i = 0; i < 1000; i++)
        rows[i] = (la_ranked){floor(i / 100.0), i % 50 == 0 || i >= 600};
    for (int i = 0; i < 1000; i++)
        turned[i] = rows[999 - i];
    la_ranked_sort(rows, 1000);
    la_ranked_sort(turned, 1000);
    la_selection_point a = la_selection_by_risk(rows, 1000, E, D, 5);
    la_selection_point b = la_selection_by_risk(turned, 1000, E, D, 5);
    assert_int_equal(a.n_accepted, b.n_accepted);
    assert_int_equal(a.n_accepted % 100, 0);
    assert_true(a.n_accepted >= 300 && a.n_accepted <= 600);
    assert_int_equal(a.n_errors, a.n_accepted / 50);
    for (int i = 0; i < 1000; i++)
        rows[i] = (la_ranked){0, i < 20};
    assert_int_equal(la_selection_by_risk(rows, 1000, E, D, 5).n_accepted, 1000);
    for (int i = 0; i < 1000; i++)
        rows[i].wrong = i < 60;
    assert_int_equal(la_selection_by_risk(rows, 1000, E, D, 5).n_accepted, 0);
}

/* With as many rows as were said to be needed, most draws find a threshold. */
static void rows_needed(void **state) {
    la_ranked rows[ROWS_MOST * 4];
    int64_t found = 0, none = 0, needed;
    (void)state;
    draw(falling, 120, 0, 9000, rows);
    assert_int_equal(la_selection_by_risk(rows, 120, E, D, 1).n_accepted, 0);
    needed = la_selection_rows_needed(rows, 120, E, D);
    assert_true(needed > 120 && needed < ROWS_MOST * 4);
    for (uint64_t r = 0; r < 100; r++) {
        draw(falling, needed, 0, 9100 + r, rows);
        found += la_selection_by_risk(rows, needed, E, D, 1).n_accepted > 0;
        draw(falling, 60, 0, 9300 + r, rows);
        none += la_selection_by_risk(rows, 60, E, D, 1).n_accepted == 0;
    }
    assert_true(found >= 60);
    assert_true(none >= 60);
    assert_int_equal(la_selection_rows_needed(rows, 0, E, D), -1);
    rows[0] = (la_ranked){0, false};
    assert_true(la_selection_rows_needed(rows, 1, E, D) >= la_binomial_least(E, D));
}

static void costs(void **state) {
    la_ranked rows[ROWS_MOST];
    la_error err = {0};
    la_cost_point p;
    (void)state;
    for (int i = 0; i < 1000; i++)
        rows[i] = (la_ranked){(double)i, i >= 700 && i % 2};
    /* an error costs 4 reviews: half of the rows from 700 on are wrong */
    assert_int_equal(la_selection_by_cost(rows, 1000, (la_costs){4, 1}, 3, &p, &err), LA_OK);
    assert_int_equal(p.n_accepted, 701);
    assert_int_equal(p.n_errors, 0);
    assert_true(fabs(p.cost - 0.299) < 1e-12);
    assert_true(p.cost_interval[0] < 0.299 && p.cost_interval[1] > 0.299);
    assert_true(p.cost_interval[0] > 0.24 && p.cost_interval[1] < 0.36);
    assert_true(p.accepted_interval[0] <= 701 && p.accepted_interval[1] >= 701);
    assert_true(p.accepted_interval[0] > 600 && p.accepted_interval[1] < 800);
    /* an error that costs less than a review: accept all; one that is dear, all wrong: nothing */
    assert_int_equal(la_selection_by_cost(rows, 1000, (la_costs){1, 3}, 3, &p, &err), LA_OK);
    assert_int_equal(p.n_accepted, 1000);
    for (int i = 0; i < 1000; i++)
        rows[i].wrong = true;
    assert_int_equal(la_selection_by_cost(rows, 1000, (la_costs){3, 1}, 3, &p, &err), LA_OK);
    assert_int_equal(p.n_accepted, 0);
    assert_true(p.cost == 1 && p.cost_interval[0] == 1 && p.cost_interval[1] == 1);
}

/* The interval of the cost against resampling of single rows. */
static void cost_interval(void **state) {
    la_ranked rows[ROWS_MOST];
    double drawn[1000];
    la_error err = {0};
    la_cost_point p;
    (void)state;
    draw(falling, 800, 0, 77, rows);
    assert_int_equal(la_selection_by_cost(rows, 800, (la_costs){5, 1}, 3, &p, &err), LA_OK);
    for (uint64_t b = 0; b < 1000; b++) {
        double cost = 0;
        for (uint64_t i = 0; i < 800; i++) {
            uint64_t row = la_random_below(11, b, i, 800);
            cost += (int64_t)row >= p.n_accepted ? 1 : rows[row].wrong ? 5 : 0;
        }
        drawn[b] = cost / 800;
    }
    double mean = 0, square = 0;
    for (int b = 0; b < 1000; b++)
        mean += drawn[b] / 1000;
    for (int b = 0; b < 1000; b++)
        square += (drawn[b] - mean) * (drawn[b] - mean) / 999;
    /* the upper end is raised by what the choice of the cheapest makes the cost look lower */
    double half = 1.96 * sqrt(square);
    check_within("lower half beside resampled rows'", fabs((mean - p.cost_interval[0]) / half - 1),
                 0.15);
    assert_true(p.cost_interval[1] > mean + half && p.cost_interval[1] < mean + 2 * half);
}

/* Intervals hold the cost of the threshold on new rows, and the threshold that is the cheapest on
 * new rows: where errors are the rarer the better the score, where they are in the middle, where
 * all thresholds cost about the same, and where all are right. */
static double even(double x) {
    return x < 0.5 ? 0.199 : 0.201;
}

static double in_the_middle(double x) {
    return x < 0.3 ? 0.05 : x < 0.5 ? 0.3 : x < 0.7 ? 0.1 : 0.6;
}

static double rising_rate(double x) {
    return 0.5 * x * x;
}

static void intervals_of_costs(void **state) {
    static const struct {
        double (*rate)(double x);
        double best;
    } cases[] = {{rising_rate, 0.6324555}, {in_the_middle, 0.3}, {even, 0.5}};
    static const int64_t sizes[] = {50, 400};
    static la_ranked rows[ROWS_MOST];
    la_error err = {0};
    la_cost_point p;
    (void)state;
    for (int c = 0; c < 6; c++) {
        int64_t n = sizes[c % 2];
        double (*rate)(double x) = cases[c / 2].rate;
        int held = 0, of_cost = 0;
        for (uint64_t d = 0; d < DRAWS; d++) {
            for (int64_t i = 0; i < n; i++) {
                double x = la_random_uniform(900 + (uint64_t)c, d, 2 * (uint64_t)i);
                rows[i] = (la_ranked){
                    x, la_random_uniform(900 + (uint64_t)c, d, 2 * (uint64_t)i + 1) < rate(x)};
            }
            la_ranked_sort(rows, n);
            assert_int_equal(la_selection_by_cost(rows, n, (la_costs){5, 1}, d, &p, &err), LA_OK);
            int64_t fewest = p.accepted_interval[0], most = p.accepted_interval[1];
            double low = fewest ? rows[fewest - 1].key : 0, high = most < n ? rows[most].key : 1;
            held += low <= cases[c / 2].best && cases[c / 2].best <= high;
            double t = p.n_accepted ? rows[p.n_accepted - 1].key : 0, cost = 1 - t;
            for (int k = 0; k < 1000; k++)
                cost += 5 * rate((k + 0.5) / 1000 * t) * t / 1000;
            of_cost += p.cost_interval[0] <= cost && cost <= p.cost_interval[1];
        }
        check_within("threshold: share of intervals that miss", 1 - (double)held / DRAWS,
                     0.05 + 2 * sqrt(0.05 * 0.95 / DRAWS));
        check_within("cost: share of intervals that miss", 1 - (double)of_cost / DRAWS,
                     0.05 + 2 * sqrt(0.05 * 0.95 / DRAWS));
    }
    for (int i = 0; i < 30; i++) /* nothing is known of errors */
        rows[i] = (la_ranked){(double)i, false};
    assert_int_equal(la_selection_by_cost(rows, 30, (la_costs){5, 1}, 3, &p, &err), LA_OK);
    assert_true(p.accepted_interval[0] < 20 && p.accepted_interval[1] == 30);
    assert_true(p.cost_interval[0] == 0 && p.cost_interval[1] > 5 * 0.1);
}

/* p-values and the number of accepted rows of MAPIE, given the same procedure
 * (tests/reference/rivals_reference.py), and never fewer rows than its own, Holm's over a hundred
 * thresholds, where that accepts a part worth having. */
static void promises_of_mapie(void **state) {
    la_ranked rows[ROWS_MOST];
    json_t *cases = load_json(fixture("monitor/promises.json")), *one, *p;
    double worst = 0;
    int64_t ours = 0, holm = 0;
    size_t i, k;
    (void)state;
    assert_int_equal(json_array_size(cases), 15);
    json_array_foreach(cases, i, one) {
        int64_t n = (int64_t)number_at(one, "n");
        double e = number_at(one, "target_error"), d = number_at(one, "delta");
        const char *wrong = json_string_value(at(one, "wrong"));
        assert_true(n <= ROWS_MOST);
        for (int64_t r = 0; r < n; r++)
            rows[r] = (la_ranked){(double)r, wrong[r] == '1'};
        json_array_foreach(at(one, "p_values"), k, p) {
            double found =
                la_binomial_cdf((int64_t)number_at(p, "rows"), (int64_t)number_at(p, "errors"), e);
            worst = fmax(worst, fabs(found - number_at(p, "p")));
        }
        la_selection_point point = la_selection_by_risk(rows, n, e, d, 1);
        assert_int_equal(point.n_accepted, (int64_t)number_at(one, "n_accepted"));
        ours += point.n_accepted;
        holm += (int64_t)number_at(one, "holm");
    }
    json_decref(cases);
    check_within("p-values of MAPIE", worst, 1e-12);
    print_message("    rows accepted: %lld, by MAPIE's controller %lld\n", (long long)ours,
                  (long long)holm);
    assert_true(ours > holm);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(promise),
                                       cmocka_unit_test(edges),
                                       cmocka_unit_test(ties),
                                       cmocka_unit_test(rows_needed),
                                       cmocka_unit_test(costs),
                                       cmocka_unit_test(cost_interval),
                                       cmocka_unit_test(intervals_of_costs),
                                       cmocka_unit_test(promises_of_mapie)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
