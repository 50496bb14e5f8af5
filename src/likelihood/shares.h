/* Class shares: how often each class occurs among rows. A model's probabilities are of rows with
 * the shares pi of its training. Where a class's rows look as they did and the shares are P, those
 * given the row are
 *   q_c = p_c P_c / pi_c  over their sum
 * (Saerens, Latinne, Decaestecker 2002, equation 2.4). */
#ifndef LA_LIKELIHOOD_SHARES_H
#define LA_LIKELIHOOD_SHARES_H

#include "base/error.h"

#include <stdbool.h>

/* Shares that are given may be rounded: they sum to 1 within this, and are divided by their sum. */
#define LA_SHARES_ROUND 1e-3

typedef struct la_class_shares {
    int64_t n_classes;
    double *training;  /* [C] sum to 1, 0: the class has no calibration row; NULL: not known */
    double *shares;    /* [C] those that predictions are for */
    double *errors;    /* [C] their standard errors; NaN: the shares were given, or not known */
    double *reference; /* [C] mean probability of rows with training's shares */
    double *ratio;     /* [C] shares over training's, of which the largest is 1 */
    double *answers;   /* [C, C] see la_class_shares_open; NULL: not known */
    bool is_set;       /* predictions are for shares of their own */
    bool is_estimate;
    int64_t n_rows; /* rows that they were estimated from */
} la_class_shares;

/* Probabilities of rows that shares are estimated from: all of them, or where they are many every
 * second, fourth, ... */
enum { LA_SHARE_ROWS_MOST = 1 << 17, LA_SHARE_NUMBERS_MOST = 1 << 22 };
/* Of a model with more classes there are no answers, and an estimate has no standard errors. */
enum { LA_SHARE_ANSWERS_MOST = 256 };
typedef struct la_share_rows {
    int64_t n_classes, n, most, step;
    int64_t seen;    /* rows that were added */
    float *probs;    /* [n, C] */
    size_t capacity; /* of them */
} la_share_rows;

/* Training's shares of rows[C] of each class; none where rows is NULL. reference[C]: see above,
 * NULL: training's. answers[C, C]: sums of the probabilities of held-out rows of each class, NULL:
 * not known. LA_BAD_INPUT, naming path, where no class has any. Free with la_class_shares_free
 * (also after a failure). */
la_status la_class_shares_open(int64_t n_classes, const double *rows, const double *reference,
                               const double *answers, const char *path, la_class_shares *shares,
                               la_error *err);
void la_class_shares_free(la_class_shares *shares);

/* The numbers of a list (base/list.h); the caller frees *values. */
la_status la_class_shares_parse(const char *option, const char *text, double **values, int64_t *n,
                                la_error *err);
/* Sets the shares to given[n]. LA_USAGE, naming what, where they are not C shares above 0 that sum
 * to 1, but 0 of a class without calibration rows. */
la_status la_class_shares_set(la_class_shares *shares, const char *what, const double *given,
                              int64_t n, la_error *err);
/* Name of the shares in text[size]: hexadecimal of those that were given, or that they are
 * estimated. */
#define LA_SHARES_ESTIMATED "auto"
la_status la_class_shares_name(const la_class_shares *shares, char *text, size_t size,
                               la_error *err);
/* Sets the ratio from shares that are there. */
void la_class_shares_finish(la_class_shares *shares);
/* probs[C] become those for the shares. */
void la_class_shares_apply(const la_class_shares *shares, double *probs);

/* ---- share_estimate.c ---- */

/* Free with la_share_rows_free. */
la_share_rows la_share_rows_of(int64_t n_classes);
la_status la_share_rows_add(la_share_rows *rows, const double *probs, la_error *err);
void la_share_rows_free(la_share_rows *rows);
/* Sets the shares to those of the rows, of which only the model's probabilities are known: the mode
 * by EM (Saerens 2002, equation 2.10) under a Dirichlet prior about the reference, averaged over
 * the prior's strength by evidence. Half of the prior is that shares have not moved. A class
 * without calibration rows keeps its probability. With answers EM is over these, and n rows count
 * as
 *   1 / (1 / n + sum over classes of P_c^2 / h_c)
 * of h_c held-out rows of a class: the variance of n rows' mean answer and of what the held-out
 * rows say it is at shares P. That is at most as many as were held out, and less the more the rows
 * are of classes of which few were. Without answers all rows count as 20. */
la_status la_class_shares_estimate(la_class_shares *shares, const la_share_rows *rows,
                                   la_error *err);

#endif
