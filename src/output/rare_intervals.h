/* Intervals that hold where few answers are wrong, or few are right. Resamples know only the errors
 * that were seen: without one their intervals have no width, with a few of them they lie too low.
 * These are of the sorted rows themselves, at 95 %. bench/interval_coverage.c has the figures
 * behind them. */
#ifndef LA_OUTPUT_RARE_INTERVALS_H
#define LA_OUTPUT_RARE_INTERVALS_H

#include "base/selective.h"
#include "output/metrics.h"

/* Share of hits among n independent rows: Clopper and Pearson. */
la_interval la_exact_share(int64_t n, int64_t hits);

/* Mean of n losses from 0 up, of which an unseen one would have a mean of `unseen` and a mean
 * square of unseen_square. variance: of the mean. A gamma distribution of mean and variance, as for
 * weighted sums of Poisson counts (Fay and Feuer, Statistics in Medicine 16, 1997), its upper end
 * with one loss more of the average size (Tiwari, Clegg and Zou, Statistical Methods in Medical
 * Research 15, 2006). */
la_interval la_loss_interval(int64_t n, double mean, double variance, double unseen,
                             double unseen_square);

/* A share of n_wrong answers that is no plain one, as average precision: Wilson's interval of as
 * many answers as have the variance found in resamples, together with that of a plain share, which
 * counts as fifty answers, and at least of a plain one; t in place of z. */
la_interval la_uneven_share_interval(double share, double variance, int64_t n_wrong);

/* How the score ranks. Each interval is NaN where there are no right or no wrong rows; aurc and
 * eaurc are of any rows. */
typedef struct la_rank_intervals {
    /* Area under the ROC curve: shares A that a test at 5 % does not reject (Newcombe, Statistics
     * in Medicine 25, 2006, method 5), with Hanley and McNeil's variance of A as a function of A,
     * times what the variance of DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988) is of it
     * at the rows' own A. As a few rows show no variance, that factor is a mean with 1, which
     * counts as five rows of the rarer kind; t in place of z, with as many degrees of freedom. */
    la_interval auroc;
    /* Mean selective risk, and that above an oracle's: la_loss_interval with the variance of their
     * influence functions; a row of rank u adds -log u to the risk where it is wrong. */
    la_interval aurc, eaurc;
} la_rank_intervals;

/* rows: [n], sorted, the best score first. */
la_status la_rank_intervals_of(const la_ranked *rows, int64_t n, la_rank_intervals *intervals,
                               la_error *err);

#endif
