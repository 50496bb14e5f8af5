/* Recipes of predictions, and the one place where outputs and their covariance become
 * probabilities. */
#ifndef LA_LIKELIHOOD_ANSWER_H
#define LA_LIKELIHOOD_ANSWER_H

#include "base/team.h"
#include "likelihood/likelihood.h"

/* A predictive under a prior and a temperature. The prediction of several recipes is their weighted
 * mean. */
typedef struct la_recipe {
    const la_predictive_kind *kind;
    double prior_scale; /* factor of the prior precisions that the covariance is of */
    double temperature; /* divides the outputs; 1: none */
    double weight;      /* they sum to 1 */
    /* The outputs f before all that are class_weight (f - mean f) + bias; NULL: 1, and 0.
     * class_weight[C] sums to C, of a likelihood that sees no common shift. */
    const double *class_weight, *bias;
    double determined; /* share of the bias that held-out rows say (correction.h) */
} la_recipe;

/* base[C]: the shares that the mean of n recipes is of, in number of rows, from rows[C] of each
 * class in training and held[C] of those that chose biases. The model's probabilities are of
 * training's shares; those with biases that held-out rows determine, of the held-out rows'; the
 * mean has, in logarithms, the mean over recipes by weight and by what is determined. As many
 * held-out rows as there are classes are added, of training's shares; a class that training has no
 * rows of has 0. held NULL: not known. */
void la_recipes_base_rows(const la_recipe *recipes, int64_t n, int64_t n_classes,
                          const double *rows, const double *held, double *base);

/* Rows with their Gaussian over the outputs, under several scales of the prior. */
typedef struct la_output_rows {
    int64_t n, n_outputs, n_scales;
    const float *outputs;                /* [n, C] of the MAP model */
    const double *scales;                /* [n_scales] factors of the prior precisions */
    const double *cov;                   /* [n_scales, n, m, m] of the m contrasts */
    const uint64_t *streams;             /* [n] of random draws */
    const double *networks;              /* [n, 2C+1] means over sampled networks; NULL: none */
    double noise_variance, map_variance; /* see la_answer_row */
} la_output_rows;

/* Draws of rows' Gaussians. */
typedef struct la_draw_options {
    int64_t samples;
    uint64_t seed;
    bool spread; /* wanted for variances and mutual information of closed forms, too */
    /* Draws for n rows at once on a device: means[n, 2C+1] (la_draw_classes) of centre[n, C] and
     * spread[n, C, m]; false: the host has to draw. NULL: no device draws. */
    bool (*on_device)(void *user, int64_t n, int64_t n_outputs, const double *centre,
                      const double *spread, int64_t samples, uint64_t seed, const uint64_t *streams,
                      double *means);
    void *user;
} la_draw_options;

/* True when random numbers are drawn for any of the recipes. */
bool la_recipes_draw(const la_recipe *recipes, int64_t n, const la_draw_options *draws);

/* n recipes with the memory to execute them on batches of at most max_rows. The recipes must
 * outlive it. Free with la_answering_close, which takes NULL. */
typedef struct la_answering la_answering;
la_status la_answering_open(const la_likelihood *likelihood, const la_recipe *recipes, int64_t n,
                            int64_t n_outputs, int64_t max_rows, const la_draw_options *draws,
                            la_team team, la_answering **answering, la_error *err);
void la_answering_close(la_answering *answering);
/* out[rows->n]: predictions of a batch. Nothing is allocated. Arrays of a prediction may be NULL:
 * not wanted. LA_NUMERICAL when a recipe's prior is none of those that the rows have a covariance
 * under. */
la_status la_answering_rows(la_answering *answering, const la_output_rows *rows, la_prediction *out,
                            la_error *err);

/* The same once, of rows that are all there. */
la_status la_answer_rows(const la_likelihood *likelihood, const la_recipe *recipes, int64_t n,
                         const la_output_rows *rows, const la_draw_options *draws, la_team team,
                         la_prediction *out, la_error *err);

/* A prediction whose arrays are memory[4 C + C^2]. */
la_prediction la_prediction_at(int64_t n_outputs, double *memory);

#endif
