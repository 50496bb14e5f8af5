/* Averaging settings: weights and left-out likelihoods against sums written out, and lists that
 * answer as the average of all does. */
#include "base/random.h"
#include "likelihood/average.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32 };

typedef struct table {
    la_average_table all;
    float *nll;
    double *log_prior, *weights, *left_out;
    int64_t setting[MOST];
    double weight[MOST];
    la_average_list list;
} table;

static table make(int64_t settings, int64_t n) {
    size_t s = (size_t)settings, rows = (size_t)n;
    table t = {.nll = calloc(s * rows, sizeof(float)),
               .log_prior = calloc(s, sizeof(double)),
               .weights = calloc(s, sizeof(double)),
               .left_out = calloc(rows, sizeof(double))};
    assert_true(t.nll && t.log_prior && t.weights && t.left_out);
    t.all =
        (la_average_table){.n_settings = settings, .n = n, .nll = t.nll, .log_prior = t.log_prior};
    return t;
}

static void drop(table *t) {
    free(t->nll);
    free(t->log_prior);
    free(t->weights);
    free(t->left_out);
}

static void shorten(table *t, int64_t most) {
    la_error err = {0};
    t->list = (la_average_list){.setting = t->setting, .weight = t->weight};
    la_average_weights(&t->all, t->weights);
    assert_int_equal(la_average_shorten(&t->all, t->weights, most, &t->list, &err), LA_OK);
    double sum = 0;
    assert_true(t->list.n >= 1 && t->list.n <= most);
    for (int64_t j = 0; j < t->list.n; j++) {
        assert_true(t->weight[j] > 0);
        assert_true(t->setting[j] >= 0 && t->setting[j] < t->all.n_settings);
        for (int64_t k = 0; k < j; k++)
            assert_true(t->setting[j] != t->setting[k]);
        sum += t->weight[j];
    }
    assert_true(fabs(sum - 1) < 1e-14);
}

static double p_of(const table *t, int64_t setting, int64_t row) {
    return exp(-(double)t->nll[setting * t->all.n + row]);
}

/* Probabilities 1/2, 1/4 and 1/8 of three rows, priors 1, 2, 5 and none. */
static void by_hand(void **state) {
    (void)state;
    static const int powers[4][3] = {{1, 1, 1}, {2, 1, 1}, {3, 1, 2}, {0, 0, 0}};
    static const double priors[4] = {1, 2, 5, 0};
    table t = make(4, 3);
    for (int s = 0; s < 4; s++) {
        t.log_prior[s] = log(priors[s]);
        for (int i = 0; i < 3; i++)
            t.nll[s * 3 + i] = (float)(powers[s][i] * log(2));
    }
    la_average_weights(&t.all, t.weights);
    /* likelihoods 1/8, 1/16 and 1/64; times priors 8/64, 8/64 and 5/64 */
    static const double want[4] = {8.0 / 21, 8.0 / 21, 5.0 / 21, 0};
    double worst = 0;
    for (int s = 0; s < 4; s++)
        worst = fmax(worst, fabs(t.weights[s] - want[s]));
    assert_true(t.weights[3] == 0);
    check_within("weights by hand", worst, 3.4e-9);
    la_average_left_out(&t.all, t.weights, t.left_out);
    worst = 0;
    for (int i = 0; i < 3; i++) {
        double sum = 0, mean = 0;
        for (int s = 0; s < 3; s++) {
            double weight = priors[s];
            for (int j = 0; j < 3; j++)
                weight *= j == i ? 1 : pow(0.5, powers[s][j]);
            sum += weight;
            mean += weight * pow(0.5, powers[s][i]);
        }
        worst = fmax(worst, fabs(t.left_out[i] + log(mean / sum)));
    }
    check_within("left-out likelihoods by hand", worst, 1.2e-8);
    drop(&t);
}

/* Likelihoods beyond the range of exp. */
static void far_apart(void **state) {
    (void)state;
    table t = make(2, 4000);
    for (int64_t i = 0; i < 4000; i++) {
        t.nll[i] = 3;
        t.nll[4000 + i] = 4;
    }
    la_average_weights(&t.all, t.weights);
    assert_true(t.weights[0] == 1 && t.weights[1] == 0);
    la_average_left_out(&t.all, t.weights, t.left_out);
    assert_true(fabs(t.left_out[7] - 3) < 1e-12);
    shorten(&t, MOST);
    assert_true(t.list.n == 1 && t.setting[0] == 0 && t.list.difference < 1e-15);
    drop(&t);
}

/* Logits over 12 temperatures and 12 variances, as held-out rows have them. */
static table smooth(uint64_t seed, int64_t n) {
    table t = make(144, n);
    for (int64_t i = 0; i < n; i++) {
        double z[3];
        la_random_normal(seed, 1, (uint64_t)(3 * i), 3, z);
        for (int64_t s = 0; s < 144; s++) {
            double scale = 0.05 * pow(1.6, (double)(s / 12)) * exp(z[1]);
            double temperature = 0.6 * pow(1.15, (double)(s % 12));
            double f = (2 * z[0] + 0.7) / sqrt(temperature * temperature + scale);
            t.nll[s * n + i] = (float)log(1 + exp(-f));
        }
    }
    return t;
}

static void lists_are_short(void **state) {
    (void)state;
    double worst = 0;
    int64_t longest = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        table t = smooth(seed, 100 + 100 * (int64_t)(seed % 3));
        double largest = 0;
        int64_t counted = 0;
        shorten(&t, MOST);
        for (int64_t s = 0; s < 144; s++)
            counted += t.weights[s] >= 1e-6;
        for (int64_t i = 0; i < t.all.n; i++) {
            double all = 0, some = 0;
            for (int64_t s = 0; s < 144; s++)
                all += t.weights[s] * p_of(&t, s, i);
            for (int64_t j = 0; j < t.list.n; j++)
                some += t.weight[j] * p_of(&t, t.setting[j], i);
            largest = fmax(largest, fabs(all - some));
        }
        worst = fmax(worst, fabs(largest - t.list.difference));
        /* it is settled before the weights are made to sum to 1 */
        assert_true(largest <= 1.01 * LA_AVERAGE_DIFFERENCE);
        longest = t.list.n > longest ? t.list.n : longest;
        print_message("    %lld of %lld settings, %.1e off\n", (long long)t.list.n,
                      (long long)counted, largest);
        assert_true(counted > 40);
        drop(&t);
    }
    check_within("the difference that is reported", worst, 6e-16);
    assert_true(longest <= 12);
}

/* A list that is cut short has the distance from the full average in `shortening`. */
static void at_most(void **state) {
    (void)state;
    table t = smooth(3, 200);
    double before = 1;
    for (int64_t most = 1; most <= 4; most++) {
        shorten(&t, most);
        assert_true(t.list.difference > LA_AVERAGE_DIFFERENCE);
        assert_true(t.list.difference < before);
        before = t.list.difference;
    }
    drop(&t);
}

/* Rows of one setting twice, and settings that say the same. */
static void copies(void **state) {
    (void)state;
    table t = smooth(5, 60);
    for (int64_t s = 1; s < 144; s += 2)
        memcpy(t.nll + s * 60, t.nll + (s - 1) * 60, 60 * sizeof *t.nll);
    for (int64_t i = 1; i < 60; i += 2)
        for (int64_t s = 0; s < 144; s++)
            t.nll[s * 60 + i] = t.nll[s * 60 + i - 1];
    shorten(&t, MOST);
    assert_true(t.list.difference <= 1.01 * LA_AVERAGE_DIFFERENCE);
    drop(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand), cmocka_unit_test(far_apart), cmocka_unit_test(lists_are_short),
        cmocka_unit_test(at_most), cmocka_unit_test(copies),
    };
    return cmocka_run_group_tests_name("average", tests, NULL, NULL);
}
