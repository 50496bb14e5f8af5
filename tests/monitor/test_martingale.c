/* The stream's tests: capital is a martingale, false alarms keep to alpha, changes are found. */
#include "base/random.h"
#include "monitor/martingale.h"
#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static uint64_t drawn;

static double uniform(void) {
    return la_random_uniform(23, 0, drawn++);
}

/* Confidence 1 - 0.75 u^sharp, right that often less gap, class 0 with a probability of share. */
typedef struct world {
    double sharp, gap, share;
    bool tied;
} world;

static la_drift_row draw(const world *w) {
    double u = uniform(), confidence = 1 - 0.75 * pow(u, w->sharp);
    if (w->tied)
        confidence = ceil(4 * confidence) / 4;
    la_drift_row row = {.scores = {confidence, 1 - confidence, NAN, uniform()}, .labelled = true};
    row.class = uniform() < w->share ? 0 : 1 + (int)(3 * uniform());
    row.right = uniform() < confidence - w->gap;
    row.label = row.right ? row.class : (row.class + 1) % 4;
    return row;
}

static la_watch *open_watch(const world *w, int64_t n, double alpha, uint64_t seed) {
    la_drift_rows rows = {.list = calloc((size_t)n, sizeof *rows.list), .n = n, .n_classes = 4};
    la_error err = {0};
    la_watch *watch;
    assert_non_null(rows.list);
    for (int64_t i = 0; i < n; i++)
        rows.list[i] = draw(w);
    assert_int_equal(la_watch_open(&rows, alpha, seed, &watch, &err), LA_OK);
    free(rows.list);
    return watch;
}

/* Row of the first alarm; 0: none. */
static int64_t run(const world *from, const world *to, int64_t change, int64_t n, int64_t reference,
                   double alpha, uint64_t seed, unsigned *alarms) {
    la_watch *watch = open_watch(from, reference, alpha, seed);
    double e_value;
    int64_t row = 0;
    *alarms = 0;
    for (int64_t i = 0; i < n && !row; i++) {
        la_drift_row next = draw(i < change ? from : to);
        *alarms = la_watch_row(watch, &next, &e_value);
        row = *alarms ? i + 1 : 0;
        assert_true(!row || e_value >= 7 / alpha);
    }
    la_watch_free(watch);
    return row;
}

static const world usual = {3, 0, 0.4, false}, tied = {3, 0, 0.4, true};

/* No drift, a reference of 10 or 100 rows, alpha 0.2: at most 0.2 of the streams, within chance. */
static void false_alarms(void **state) {
    enum { STREAMS = 300, ROWS = 1500 };
    const double alpha = 0.2;
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        const world *w = kind % 2 ? &tied : &usual;
        int n = 0;
        unsigned alarms;
        drawn = 0;
        for (int i = 0; i < STREAMS; i++)
            n += run(w, w, 0, ROWS, kind / 2 ? 100 : 10, alpha, (uint64_t)i, &alarms) > 0;
        check_within("share of streams that alarm", (double)n / STREAMS,
                     alpha + 2 * sqrt(alpha * (1 - alpha) / STREAMS));
        assert_true(n > 0); /* the promise is not kept by never alarming */
    }
}

/* Changes are found, soon, by the test that is of them. */
static void changes(void **state) {
    static const struct {
        world to;
        unsigned expected;
        int64_t within;
    } cases[] = {
        {{1.5, 0, 0.4, false}, 1u << LA_DRIFT_CONFIDENCE | 1u << LA_DRIFT_ENTROPY, 600},
        {{3, 0.3, 0.4, false}, 1u << LA_DRIFT_ERROR_RATE | 1u << LA_DRIFT_CALIBRATION, 600},
        {{3, 0, 0.85, false}, 1u << LA_DRIFT_PREDICTED_CLASS | 1u << LA_DRIFT_LABEL, 300},
    };
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int64_t change = 0; change <= 2000; change += 2000)
            for (uint64_t seed = 0; seed < 5; seed++) {
                unsigned alarms;
                drawn = seed << 32;
                int64_t row = run(&usual, &cases[c].to, change, change + cases[c].within, 2000,
                                  0.01, seed, &alarms);
                assert_in_range(row, change + 1, change + cases[c].within);
                assert_int_equal(alarms & ~cases[c].expected, 0);
            }
}

/* Behind an alarm a test needs ten times the capital for the next one. */
static void restarts(void **state) {
    la_watch *watch = open_watch(&usual, 1000, 0.01, 0);
    world far = {1, 0.2, 0.9, false};
    double e_value, level = 7 / 0.01;
    int alarms = 0;
    (void)state;
    for (int i = 0; i < 3000; i++) {
        la_drift_row row = draw(&far);
        if (!(la_watch_row(watch, &row, &e_value) >> LA_DRIFT_PREDICTED_CLASS & 1))
            continue;
        assert_true(e_value >= level);
        level *= 10;
        alarms++;
    }
    assert_in_range(alarms, 2, 60);
    la_watch_free(watch);
}

/* Rows without a value leave its test alone; a class that no reference row had is one too. */
static void missing_values(void **state) {
    la_drift_row list[3] = {{.scores = {0.9, NAN, NAN, NAN}, .class = 0, .label = -1},
                            {.scores = {0.8, NAN, NAN, NAN}, .class = 1, .label = -1},
                            {.scores = {0.7, NAN, NAN, NAN}, .class = 0, .label = -1}};
    la_drift_rows rows = {.list = list, .n = 3};
    la_error err = {0};
    la_watch *watch;
    double e_value;
    unsigned alarms = 0;
    (void)state;
    assert_int_equal(la_watch_open(&rows, 0.5, 0, &watch, &err), LA_OK);
    assert_int_equal(la_watch_tests(watch),
                     1u << LA_DRIFT_CONFIDENCE | 1u << LA_DRIFT_PREDICTED_CLASS);
    for (int i = 0; i < 1000; i++) {
        la_drift_row row = {.scores = {NAN, 0.1, 2, 5}, .class = -1, .label = 3, .labelled = true};
        alarms |= la_watch_row(watch, &row, &e_value);
    }
    assert_int_equal(alarms, 0);
    la_drift_row odd = {.scores = {1, 0, 0, 0}, .class = 1 << 20, .label = -1};
    (void)la_watch_row(watch, &odd, &e_value);
    la_watch_free(watch);
    la_watch_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(false_alarms), cmocka_unit_test(changes),
                                       cmocka_unit_test(restarts),
                                       cmocka_unit_test(missing_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
