/* What drift does by the kind of the rows: classes (drift.c) or numbers (drift_numbers.c). */
#ifndef LA_MONITOR_DRIFT_FAMILY_H
#define LA_MONITOR_DRIFT_FAMILY_H

#include "monitor/drift.h"
#include "monitor/two_sample.h"

typedef struct la_drift_family {
    const char *names[LA_DRIFT_KINDS];
    int basis; /* the score by which calibration may be tested without labels of the reference */
    unsigned (*values)(const la_drift_row *row);
    /* relative: the reference has what calibration can be compared with */
    la_status (*test)(const la_drift_rows *const sets[2], int kind, bool relative,
                      la_test_value *value, la_error *err);
    /* Sets all but the tests, which are done; stated: both have the basis. */
    la_status (*judge)(const la_drift_rows *const sets[2], bool stated, la_drift *drift,
                       la_error *err);
} la_drift_family;

extern const la_drift_family la_drift_classes, la_drift_numbers;

/* Sorts by the bytes of the numbers, none of them NaN or -0: 2^20 of them in some 20 ms. scratch:
 * [n]. */
void la_drift_sort(double *scores, int64_t n, double *scratch);

/* Bands of the basis that n labelled rows of the reference allow: at least 50 rows each. */
enum { LA_DRIFT_BANDS = 10, LA_DRIFT_BAND_ROWS = 50 };
int la_drift_bands(int64_t n);
/* edges[0 .. bands - 1): upper ends of bands that hold equally many of the n sorted values, but for
 * ties. */
void la_drift_cut(const double *sorted, int64_t n, int bands, double *edges);
int la_drift_band(const double *edges, int bands, double value);

static inline bool la_drift_alarmed(const la_drift *drift, int kind) {
    return drift->tests[kind].alarm;
}

/* Of the rows that have the score. */
double la_drift_mean(const la_drift_rows *rows, int score);

#endif
