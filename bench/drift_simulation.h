/* Pairs of files and streams of simulated rows, and what drift does with them: what the benches of
 * classes (drift_promise.c) and of numbers (drift_numbers.c) share. Each draws rows of its own. */
#ifndef LA_BENCH_DRIFT_SIMULATION_H
#define LA_BENCH_DRIFT_SIMULATION_H

#include "monitor/martingale.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* A kind of rows; a world is the bench's own. */
typedef struct simulation {
    la_drift_row (*draw)(const void *world, bool labelled);
    la_drift_rows shape; /* n_classes, or numbers */
} simulation;

static la_drift_rows draw_rows(const simulation *of, const void *world, int64_t n, bool labelled) {
    la_drift_rows rows = of->shape;
    rows.list = calloc((size_t)n, sizeof *rows.list);
    rows.n = n;
    for (int64_t i = 0; i < n; i++)
        rows.list[i] = of->draw(world, labelled);
    return rows;
}

/* At alpha 0.01. */
static la_drift compare(const simulation *of, const void *reference, const void *current,
                        const int64_t n[2], const bool labels[2]) {
    la_drift_rows a = draw_rows(of, reference, n[0], labels[0]);
    la_drift_rows b = draw_rows(of, current, n[1], labels[1]);
    la_error err = {0};
    la_drift drift;
    if (la_drift_of((la_team){1}, &a, &b, 0.01, &drift, &err) != LA_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    free(a.list);
    free(b.list);
    return drift;
}

static double error_of(double share, int64_t n) {
    return sqrt(share * (1 - share) / (double)n);
}

/* The first cells of a table of pairs. */
static void print_alarms(const char *name, const int64_t n[2], const bool labels[2], int64_t alarms,
                         int64_t pairs) {
    double share = (double)alarms / (double)pairs;
    printf("| %s | %lld, %lld | %s, %s | %.4f ± %.4f |", name, (long long)n[0], (long long)n[1],
           labels[0] ? "yes" : "no", labels[1] ? "yes" : "no", share, error_of(share, pairs));
}

/* Row of the first alarm, counted from 1; 0: none. */
static int64_t watch_stream(const simulation *of, const void *from, const void *to, int64_t change,
                            int64_t n_reference, int64_t rows, uint64_t seed) {
    la_drift_rows reference = draw_rows(of, from, n_reference, true);
    la_error err = {0};
    la_watch *watch;
    int64_t alarm = 0;
    double e_value;
    if (la_watch_open(&reference, 0.01, seed, &watch, &err) != LA_OK)
        exit(1);
    for (int64_t i = 0; i < rows && !alarm; i++) {
        la_drift_row row = of->draw(i < change ? from : to, true);
        alarm = la_watch_row(watch, &row, &e_value) ? i + 1 : 0;
    }
    la_watch_free(watch);
    free(reference.list);
    return alarm;
}

static void print_streams_heading(void) {
    printf("\n| stream | reference rows | streams | rows | alarms |\n|---|---:|---:|---:|---|\n");
}

/* Streams without drift. */
static void print_streams(const simulation *of, const void *world, const char *name,
                          int64_t n_reference, int64_t streams, int64_t rows) {
    int64_t alarms = 0;
    for (int64_t i = 0; i < streams; i++)
        alarms += watch_stream(of, world, world, rows, n_reference, rows, (uint64_t)i) > 0;
    double share = (double)alarms / (double)streams;
    printf("| %s | %lld | %lld | %lld | %.4f ± %.4f |\n", name, (long long)n_reference,
           (long long)streams, (long long)rows, share, error_of(share, streams));
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum { LONGEST = 20000 }; /* rows after a change */

/* The last cells of a table of delays: shares found and too early, the delay's quantiles. */
static void print_delays(const simulation *of, const void *from, const void *to, int64_t change,
                         int64_t streams) {
    int64_t early = 0, found = 0, *delays = calloc((size_t)streams, sizeof *delays);
    for (int64_t i = 0; i < streams; i++) {
        int64_t row = watch_stream(of, from, to, change, 1000, change + LONGEST, (uint64_t)i);
        early += row && row <= change;
        found += row > change;
        delays[i] = row > change ? row - change : LONGEST;
    }
    qsort(delays, (size_t)streams, sizeof *delays, by_size);
    printf(" %.2f | %.2f | %lld | %lld |\n", (double)found / (double)streams,
           (double)early / (double)streams, (long long)delays[streams / 2],
           (long long)delays[streams * 9 / 10]);
    free(delays);
}

/* Tables by the arguments PAIRS, STREAMS and ROWS. */
static int print_tables(int argc, char **argv, void (*of_pairs)(int64_t pairs),
                        void (*of_streams)(int64_t streams, int64_t rows),
                        void (*of_delays)(int64_t streams)) {
    int64_t pairs = argc > 1 ? atoll(argv[1]) : 4000, streams = argc > 2 ? atoll(argv[2]) : 2000;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pairs)
        of_pairs(pairs);
    if (streams)
        of_streams(streams, argc > 3 ? atoll(argv[3]) : 10000);
    if (streams)
        of_delays(streams / 20 + 1);
    return 0;
}

#endif
