/* Resamples of rows. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "output/bootstrap.h"
#include "output/gaussian_metrics.h"
#include "output/resampling.h"
#include "output/softmax_metrics.h"

/* Counts of rows drawn with replacement, of few rows and of many, which are drawn another way: they
 * add up, are as often 0, 1, 2, ... as they should be, and are others in each resample. */
static void test_draws(void **state) {
    static const int64_t sizes[] = {30000, 65536, 100003};
    enum { AT_ONCE = 8, MOST = 5 };
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        uint32_t *count = malloc((size_t)(n * AT_ONCE) * sizeof *count);
        assert_non_null(count);
        la_bootstrap_draw(count, AT_ONCE, n, 5, 7 * AT_ONCE);
        for (int k = 0; k < AT_ONCE; k++) {
            int64_t sum = 0, found[MOST] = {0};
            double p = exp(-1), product = 0;
            for (int64_t i = 0; i < n; i++) {
                uint32_t own = count[i * AT_ONCE + k];
                sum += own;
                found[own < MOST ? own : MOST - 1] += 1;
                product += ((double)own - 1) * ((double)count[i * AT_ONCE + (k + 1) % AT_ONCE] - 1);
            }
            assert_int_equal(sum, n);
            for (int c = 0; c + 1 < MOST; p /= ++c) {
                double sd = sqrt((double)n * p * (1 - p));
                assert_true(fabs((double)found[c] - (double)n * p) < 5 * sd);
            }
            assert_true(fabs(product) < 5 * sqrt((double)n));
        }
        free(count);
    }
}

/* The instructions that every processor has, and the best of this machine, measure the same. */
static void test_instructions(void **state) {
    enum { N = 3000, C = 3, AT_ONCE = LA_AT_ONCE_MAX };
    static double probs[N * C], numbers[N * 2], targets[N];
    static int64_t labels[N];
    static uint32_t count[N * AT_ONCE];
    const la_resampling *tables[] = {&la_resampling_table, la_resampling_here()};
    const la_metric_set *sets[] = {&la_softmax_metrics, &la_gaussian_metrics};
    (void)state;
    for (int i = 0; i < N; i++) {
        double p = floor(64 * la_random_uniform(1, 0, (uint64_t)i)) / 64; /* with ties */
        memcpy(probs + (ptrdiff_t)i * C, (double[]){p, (1 - p) * 0.75, (1 - p) * 0.25},
               C * sizeof(double));
        labels[i] = (int64_t)la_random_below(1, 1, (uint64_t)i, C);
        la_random_normal(1, 2, 4 * (uint64_t)i, 1, &targets[i]);
        numbers[2 * i] = floor(8 * targets[i] + p) / 8;
        numbers[2 * i + 1] = 0.5 + p;
    }
    la_bootstrap_draw(count, AT_ONCE, N, 1, 0);
    for (int s = 0; s < 2; s++) {
        la_metric_rows rows = {
            N, s ? 1 : C, s ? numbers : probs, {.kind = s ? LA_LABEL_NUMBER : LA_LABEL_CLASS}};
        static double value[2][2][AT_ONCE * LA_METRICS_MAX];
        la_error err = {0};
        void *prepared;
        if (s)
            rows.labels.numbers = targets;
        else
            rows.labels.classes = labels;
        assert_int_equal(sets[s]->prepare(&rows, NULL, &prepared, &err), LA_OK);
        for (int t = 0; t < 2; t++) {
            void *work = calloc(1, s ? tables[t]->gaussian_workspace(prepared)
                                     : tables[t]->softmax_workspace(prepared));
            assert_non_null(work);
            (s ? tables[t]->gaussian : tables[t]->softmax)(prepared, work, count, value[t][0],
                                                           NULL);
            if (!s)
                tables[t]->softmax_drawn(prepared, work, 3, 8, value[t][1]);
            free(work);
        }
        assert_memory_equal(value[0], value[1], sizeof value[0]);
        for (int k = 1; k < AT_ONCE; k++) /* resamples of their own */
            assert_true(value[0][0][0] != value[0][0][k * sets[s]->n]);
        free(prepared);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws),
                                       cmocka_unit_test(test_instructions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
