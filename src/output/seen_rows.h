/* Rows of a prediction file that the posterior has seen: what is measured on them flatters it. */
#ifndef LA_OUTPUT_SEEN_ROWS_H
#define LA_OUTPUT_SEEN_ROWS_H

#include <stddef.h>
#include <stdint.h>

typedef struct la_seen_rows {
    int64_t n_held_out;    /* rows that chose the guard's settings */
    int64_t n_calibration; /* rows that it was fitted on */
} la_seen_rows;

enum { LA_SEEN_TEXT = 224 };
/* "12 of 30 rows chose the guard's settings, 5 of 30 are calibration rows of the posterior" of n
 * rows; "" where it has seen none. */
void la_seen_rows_show(const la_seen_rows *seen, int64_t n, char out[LA_SEEN_TEXT]);

#endif
