/* Interval of the share of answers that may be accepted, the most confident first, at a given true
 * error rate. The share of the rows themselves is a maximum over thresholds, which chance pushes up
 * and a bootstrap pushes up once more, so that its interval comes from tests. */
#ifndef LA_OUTPUT_COVERAGE_INTERVAL_H
#define LA_OUTPUT_COVERAGE_INTERVAL_H

#include "base/selective.h"
#include "output/metrics.h"

/* 95 % interval of sup {c: the error rate of the share c of best scores is at most risk}, rows
 * sorted by key, n at least 1.
 *
 * Lower end: what Learn-then-Test accepts (base/selective.h). Upper end: the mirrored sequence.
 * From all rows down it tests "the error rate of the first k is at most risk" by P(Bin(k, risk) >=
 * errors), and ends at the first k that passes: the share looked for is above that with the
 * probability of one such test at most. Rows of one score are taken together. Each end is then
 * moved by the bound of Clopper and Pearson, as k of n rows are not that share of all answers; the
 * four take an equal part of 5 %. */
la_interval la_coverage_interval(const la_ranked *rows, int64_t n, double risk);

#endif
