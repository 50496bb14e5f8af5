/* 95 % bootstrap intervals of metrics of rows: resamples are counts of the rows, so that what was
 * sorted stays sorted.
 *
 * An interval is that of percentiles, q2.5 to q97.5 of the resamples. Distances
 * (la_metric_info.gap) are pushed up by chance, in a resample a second time on top of the rows'
 * own, so that percentiles lie too high, often above the metric itself: these get the basic
 * interval, 2 x - q97.5 to 2 x - q2.5 of the metric x, cut to 0..1. Where the metric is near 0, the
 * upper end of that collapses: it lies at least q97.5 - q50 above the metric. Every interval is
 * then widened to hold its metric where it does not; sets of metrics put others in their place
 * (la_metric_set.exact). bench/interval_coverage.c has the figures
 * behind this choice. */
#ifndef LA_OUTPUT_BOOTSTRAP_H
#define LA_OUTPUT_BOOTSTRAP_H

#include "output/metrics.h"

/* Measures resamples of n prepared rows. intervals[set->n]: both ends are NaN where the rows or all
 * resamples leave the value undefined. Resamples in which it is undefined are left out for it. The
 * result depends on the rows and the seed, not on the threads. */
la_status la_bootstrap(la_team team, int64_t n, const la_metric_set *set, const void *prepared,
                       int64_t resamples, uint64_t seed, la_interval *intervals, la_error *err);

/* count[n, at_once]: how often each of n rows is among n drawn with replacement, by that stream and
 * those behind it. */
void la_bootstrap_draw(uint32_t *count, int at_once, int64_t n, uint64_t seed, uint64_t stream);

/* Interval of one metric from its values in resamples: column [resamples], overwritten; NaN: it was
 * undefined there. value: the metric of the rows themselves. */
la_interval la_bootstrap_interval(const la_metric_info *metric, double value, double *column,
                                  int64_t resamples);

#endif
