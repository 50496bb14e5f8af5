/* The K largest eigenpairs of a factor A [n, n] = sum of x^T x that is too wide to be summed whole:
 * from Y = A Omega [n, l], summed in one pass, Omega [n, l] Gaussian (Tropp, Yurtsever, Udell and
 * Cevher 2017, arXiv 1706.05736, algorithm 3). The best approximation of rank K within Y
 * (Omega^T Y)^-1 Y^T, which is never above A: what is cut counts as no curvature. Exact where A's
 * rank is at most l; else the trace of the error is at most (1 + K / (l - K - 1)) times what is cut
 * in any case, in expectation. All of it is in f64: f32 products would drown eigenvalues in the
 * largest one. */
#ifndef LA_BAYES_NYSTROM_H
#define LA_BAYES_NYSTROM_H

#include "bayes/factored.h"

/* l: twice the rank and a few more. */
int64_t la_nystrom_width(int64_t rank);
/* True when so many eigenpairs of a factor are sketched: where that costs less than the whole
 * factor. */
bool la_nystrom_is_for(int64_t n, int64_t rank);
/* Bytes on the device of Omega and of what the operation takes, for factors of a side up to n. */
size_t la_nystrom_bytes(int64_t n, int64_t rank);
/* Omega [n, l] on the device, for every factor of a side up to n: a row depends on its number
 * alone. NULL and LA_RESOURCE when there is no memory. */
double *la_nystrom_omega(la_backend *be, int64_t n, int64_t rank, la_error *err);
/* Adds to Y [n, l], on the host, `times` that of a factor that was cut from it. */
la_status la_nystrom_restore(la_team team, const la_factor *factor, int64_t rank, double times,
                             double *sum, la_error *err);
/* sum: Y on the device. Fills the factor, from the pool; it has fewer eigenpairs than rank where A
 * has no more. LA_NUMERICAL, naming it, when Y is not that of a positive semi-definite matrix. */
la_status la_nystrom_factor(la_backend *be, const char *name, int64_t n, int64_t rank,
                            const double *omega, const double *sum, la_pool *pool,
                            la_factor *factor, la_error *err);

#endif
