/* IVON: variational training of a Gaussian with a diagonal covariance (Shen et al., arXiv
 * 2402.17641, algorithm 1), with another Gaussian as the prior instead of one around 0.
 *
 * Over N rows with the mean loss l, prior N(m0, 1 / (N delta)) and posterior N(m, 1 / (N (h +
 * delta))), delta a number a parameter, a step goes by one sampled network theta = m + sigma eps
 * and the gradient g of the mean loss over some rows there:
 *
 *   hhat = g eps sqrt(N (h + delta))                     (reparametrised; unbiased for the diagonal
 *                                                         of the Hessian)
 *   G   <- beta1 G + (1 - beta1) g
 *   h   <- beta2 h + (1 - beta2) hhat + (1 - beta2)^2 (h - hhat)^2 / (2 (h + delta))
 *   m   <- m - rate (G / (1 - beta1^t) + delta (m - m0)) / (h + delta)
 *
 * The third term of h keeps h + delta positive.
 *
 * A Laplace posterior is one of the linearised network: networks sampled from it may be far worse
 * than their mean. So they may be sampled with a variance temper times smaller, which is the
 * posterior of the rows, and the prior's, counted temper times; hhat then has temper N for N. */
#ifndef LA_BAYES_IVON_H
#define LA_BAYES_IVON_H

#include "base/team.h"

#include <stdint.h>

typedef struct la_ivon {
    int64_t n;     /* parameters */
    double rows;   /* N */
    double temper; /* networks are sampled with the variance over this; at least 1 */
    double beta1, beta2;
    double clip; /* most that a parameter moves in a step of rate 1, in standard deviations of the
                    posterior; 0: any */
    la_team team;
    uint64_t seed;
    int64_t steps;                    /* done */
    float *mean, *hessian, *momentum; /* [n]; m, h, G */
    float *prior_mean, *prior;        /* [n]; m0, delta */
    float *draw;                      /* [n] eps of the network at hand */
    void *memory;                     /* of all of them; owned */
} la_ivon;

/* Memory for n parameters, zeros, with the usual betas. Free with la_ivon_close. */
la_status la_ivon_open(la_team team, int64_t n, double rows, uint64_t seed, la_ivon *ivon,
                       la_error *err);
void la_ivon_close(la_ivon *ivon);
/* theta[n] of the step's network, a function of seed and step alone. */
void la_ivon_sample(la_ivon *ivon, float *theta);
/* A step by the gradient[n] of the mean loss at that network. */
void la_ivon_step(la_ivon *ivon, double rate, const float *gradient);
/* Kullback-Leibler divergence of N(m, 1 / precision) from N(m - off, 1 / before). */
double la_gaussian_divergence(double precision, double before, double off);
/* That of the posterior from the prior. */
double la_ivon_divergence(const la_ivon *ivon);

#endif
