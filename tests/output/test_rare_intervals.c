/* Intervals of metrics where few answers are wrong: known values, what no row shows, and how often
 * they hold what is so of all answers. */
#include "base/random.h"
#include "output/rare_intervals.h"
#include "output/softmax_metrics.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>

static void known_values(void **state) {
    (void)state;
    la_interval none = la_exact_share(30, 0), some = la_exact_share(20, 3);
    assert_true(none.lo == 0);
    check_within("0 of 30", fabs(none.hi - 0.11570331), 1e-8); /* 1 - 0.025^(1/30) */
    check_within("3 of 20, low", fabs(some.lo - 0.03207094), 1e-8);
    check_within("3 of 20, high", fabs(some.hi - 0.37892683), 1e-8);
    /* Poisson counts: Garwood's interval of 3, by quantiles of chi-squared */
    la_interval poisson = la_loss_interval(1, 3, 3, 1, 1);
    check_within("count of 3, low", fabs(poisson.lo - 0.61867212), 1e-8);
    check_within("count of 3, high", fabs(poisson.hi - 8.76727307), 1e-8);
    la_interval zero = la_loss_interval(1, 0, 0, 1, 1);
    assert_true(zero.lo == 0);
    check_within("count of 0, high", fabs(zero.hi - 3.68887945), 1e-8);
}

/* right and wrong rows in the order of their scores, as r and w */
static la_rank_intervals of_text(const char *text) {
    la_ranked rows[200];
    la_rank_intervals found;
    la_error err = {0};
    int64_t n = 0;
    for (; text[n]; n++)
        rows[n] = (la_ranked){(double)n, text[n] == 'w'};
    assert_int_equal(la_rank_intervals_of(rows, n, &found, &err), LA_OK);
    return found;
}

static void few_errors(void **state) {
    (void)state;
    la_rank_intervals right = of_text("rrrrrrrrrrrrrrrrrrrr"), wrong = of_text("wwww");
    assert_true(isnan(right.auroc.lo) && isnan(right.auroc.hi) && isnan(wrong.auroc.lo));
    assert_true(right.aurc.lo == 0 && right.aurc.hi > 0.15 && right.aurc.hi < 0.5);
    assert_true(right.eaurc.lo == 0 && right.eaurc.hi > 0.15 && right.eaurc.hi < 0.5);
    assert_true(wrong.aurc.hi == 1);
    /* one error, below all others: nothing is certain */
    la_rank_intervals one = of_text("rrrrrrrrrrrrrrrrrrrw"), ten = of_text("rrrrrrrrrrwwwwwwwwww");
    assert_true(one.auroc.hi == 1 && one.auroc.lo < 0.5);
    assert_true(ten.auroc.hi == 1 && ten.auroc.lo > 0.6 && ten.auroc.lo < 0.95);
    /* turned round */
    la_rank_intervals turned = of_text("wwwwwwwwwwrrrrrrrrrr");
    check_within("turned round", fabs(turned.auroc.hi - (1 - ten.auroc.lo)), 2e-16);
}

/* Confidence 1 - 0.5 u^sharp, right that often. */
static void draw(double sharp, int64_t n, uint64_t seed, uint64_t stream, double *probs,
                 int64_t *labels) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t at = 2 * (uint64_t)i;
        double p = 1 - 0.5 * pow(la_random_uniform(seed, stream, at), sharp);
        probs[2 * i] = p;
        probs[2 * i + 1] = 1 - p;
        labels[i] = la_random_uniform(seed, stream, at + 1) >= p;
    }
}

static void coverage(void **state) {
    enum { MANY = 400000, DRAWS = 300, ROWS = 60 };
    static const la_metric which[] = {
        LA_METRIC_ACCURACY, LA_METRIC_NLL,   LA_METRIC_BRIER,      LA_METRIC_AUROC,
        LA_METRIC_AURC,     LA_METRIC_EAURC, LA_METRIC_AUPR_ERROR, LA_METRIC_RISK_AT_COVERAGE_80};
    enum { N = sizeof which / sizeof *which };
    static const double sharp[] = {2, 9};
    double *probs = calloc(MANY, 2 * sizeof *probs);
    int64_t *labels = calloc(MANY, sizeof *labels);
    (void)state;
    assert_true(probs && labels);
    for (uint64_t w = 0; w < 2; w++) {
        double held[N] = {0}, defined[N] = {0};
        la_metrics all;
        la_error err = {0};
        la_metric_rows rows = {MANY, 2, probs, {.classes = labels}};
        draw(sharp[w], MANY, 7, w, probs, labels);
        assert_int_equal(la_metrics_compute(&la_softmax_metrics, &rows, &all, &err), LA_OK);
        rows.n = ROWS;
        for (uint64_t d = 0; d < DRAWS; d++) {
            la_interval own[LA_METRIC_COUNT];
            draw(sharp[w], ROWS, 8 + w, d, probs, labels);
            assert_int_equal(
                la_metrics_intervals(la_team_of(1), &la_softmax_metrics, &rows, 200, d, own, &err),
                LA_OK);
            for (int k = 0; k < N; k++) {
                la_interval i = own[which[k]];
                defined[k] += !isnan(i.lo);
                held[k] += i.lo <= all.value[which[k]] && all.value[which[k]] <= i.hi;
            }
        }
        for (int k = 0; k < N; k++)
            check_within(la_softmax_metrics.list[which[k]].name, 1 - held[k] / defined[k],
                         0.05 + 2 * sqrt(0.05 * 0.95 / defined[k]));
    }
    free(probs);
    free(labels);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_values), cmocka_unit_test(few_errors),
                                       cmocka_unit_test(coverage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
