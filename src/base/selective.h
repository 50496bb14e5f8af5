/* Thresholds on a score, from which on answers are accepted: by a promise on their error rate, or
 * by cost. Functions over arrays.
 *
 * The promise is Learn-then-Test (arXiv 2110.01052) in a fixed sequence, as a fallback procedure
 * with a few starts. What is fixed in advance is the number of accepted rows: the row N = first,
 * first + 1, ... of the order from the best score down tests "the true error rate of what scores
 * better than row N + 1 is above E" by P(Bin(N, E) <= errors), at the level that the starts passed
 * on; a test that is not rejected ends the run, and the next start begins one with its own share.
 *
 * Why thresholds that lie on the rows' own scores are allowed. R(t), the error rate of what scores
 * at least t, is continuous in t (ties are broken at random, below), so it is E exactly at both
 * ends of every stretch of thresholds whose rate is above E. Given the numbers of rows above these
 * ends, the errors above each are Bin(its number, E). From a start that lies below E the run must
 * pass the next end, a test of exactly that, at whatever number of rows it lies; from a start
 * within such a stretch, given its end's number a and the score s of row N + 1, the errors are
 * Bin(a, E) and N - a rows at a rate above E. Either way a wrong rejection has at most the
 * probability of the levels of the starts that meet this end first, whatever the curve looks like
 * between, and these levels add up to D. A start at a fixed score, or skipping rows of one score,
 * would break this.
 *
 * Rows of one score are walked in an order that random numbers draw, right and wrong rows alike, as
 * if a number smaller than any difference of scores had been added to each score. A threshold is
 * only ever put between two scores. */
#ifndef LA_BASE_SELECTIVE_H
#define LA_BASE_SELECTIVE_H

#include "base/error.h"

#include <stdbool.h>

/* A labelled row; a smaller key is a better score. */
typedef struct la_ranked {
    double key;
    bool wrong;
} la_ranked;

/* Sorts by key. */
void la_ranked_sort(la_ranked *rows, int64_t n);

/* The accepted rows are the first n_accepted; 0: none can be promised. */
typedef struct la_selection_point {
    int64_t n_accepted, n_errors;
    double level; /* of the test that let the last row in */
    double upper; /* bound of the true error rate at that level; NaN: nothing is accepted */
} la_selection_point;

/* Largest number of sorted rows whose acceptance is promised to have a true error rate of at most E
 * but for a probability of D, 0 < E, D < 1. */
la_selection_point la_selection_by_risk(const la_ranked *rows, int64_t n, double target_error,
                                        double delta, uint64_t seed);
/* Number of rows like these at which a threshold can probably be promised (four times in five);
 * -1: at no number, as no part of them has an error rate clearly below E. */
int64_t la_selection_rows_needed(const la_ranked *rows, int64_t n, double target_error,
                                 double delta);

/* What an error among the accepted rows costs, and a row that is not accepted. */
typedef struct la_costs {
    double error, review;
} la_costs;

enum { LA_COST_RESAMPLES = 1000 };

typedef struct la_cost_point {
    int64_t n_accepted, n_errors;
    double cost; /* mean over the rows */
    /* 95 % intervals: of the cost of this threshold on new rows, by bootstrap, its upper end raised
     * by what was not seen; and of the number of rows here that the threshold accepts which is the
     * cheapest on new rows: the fewest and the most of those that no stretch of rows to either side
     * shows to be dearer than another. Of a stretch behind the cheapest one at least the share of
     * errors is wrong at which accepting costs as much as reviewing, of one before it at most that
     * share; likelihood ratios against rates that are half as far off, a quarter, .., hold whatever
     * the curve looks like. */
    double cost_interval[2];
    int64_t accepted_interval[2];
} la_cost_point;

/* The cheapest threshold of sorted rows, n at least 1. */
la_status la_selection_by_cost(const la_ranked *rows, int64_t n, la_costs costs, uint64_t seed,
                               la_cost_point *point, la_error *err);

#endif
