/* Drift of a stream of predictions against reference rows, by tests that hold at every row.
 *
 * Each test is a conformal test martingale (Vovk, Testing Randomness Online, Statistical Science
 * 36, 2021). A row's value is ranked among those of the reference and of all rows before it, ties
 * in a random order: while reference and stream are exchangeable, these ranks p_1, p_2, .. are
 * independent and uniform, however few the reference rows are. Values are put into cells that are
 * fixed before any row is seen (64 to a doubling; of a regression's numbers, of their distance to
 * the middle of the first quarter of the reference, 256 rows at most, which are then not counted),
 * so that counts of cells are all that has to be kept: the memory does not grow with the stream.
 * Calibration ranks right above wrong among the rows of a similar confidence alone (a taxonomy;
 * Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 4.5), and so sees errors that
 * the confidences do not account for.
 *
 * Capital of 1 is bet on p not being uniform. Bets are densities on [0, 1] that are fixed before
 * any row is seen: tilts to either side, to the ends, to the middle; a class, or errors, more or
 * less frequent. Bets that depended on counts of the rows would be no martingale, as ranks are
 * independent of each other only. Each of E bets is opened anew at every row t with w_t / E of the
 * capital, w_t = 1/log2(t + 1) - 1/log2(t + 2), as the change may come at any row:
 *     R_t = (R_t-1 + w_t / E) f(p_t),    capital = sum of all R + what is not yet staked
 * is a martingale that begins at 1. With k tests, each alarms where its capital is k / alpha (of
 * C > 2 classes each is a martingale, and alarms at C k / alpha): by Ville's inequality, in a
 * stream without drift there is an alarm, ever, with a probability of at most alpha. A change at
 * row t is found after some log(k t log(t)^2 / alpha) / KL rows. Behind an alarm the test begins
 * again, from the reference alone, and needs ten times the capital for the next one. */
#ifndef LA_MONITOR_MARTINGALE_H
#define LA_MONITOR_MARTINGALE_H

#include "monitor/drift.h"

typedef struct la_watch la_watch;

/* seed: of the order of ties. Tests are those that the reference has the values for. Free with
 * la_watch_free. */
la_status la_watch_open(const la_drift_rows *reference, double alpha, uint64_t seed,
                        la_watch **watch, la_error *err);
void la_watch_free(la_watch *watch);
/* Mask of the tests that alarm at this row, and the largest capital among them, over C for classes.
 * A value that the row lacks leaves its test as it is. */
unsigned la_watch_row(la_watch *watch, const la_drift_row *row, double *e_value);
/* Mask of the tests that are run. */
unsigned la_watch_tests(const la_watch *watch);

#endif
