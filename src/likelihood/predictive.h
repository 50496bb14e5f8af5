/* Predictives: ways from a row's Gaussian over the outputs to its prediction. Each is a row of a
 * table, and what differs between them is read off the row. */
#ifndef LA_LIKELIHOOD_PREDICTIVE_H
#define LA_LIKELIHOOD_PREDICTIVE_H

#include "base/error.h"

#include <math.h>
#include <stdbool.h>

/* Draws of the Gaussian that a predictive needs. */
typedef enum la_draws {
    LA_DRAWS_NONE,
    LA_DRAWS_SPREAD, /* for variances and mutual information, beside a closed form */
    LA_DRAWS_ANSWER  /* for the probabilities too */
} la_draws;

/* Temperature that goes with a predictive where a posterior is asked for it by name. */
typedef enum la_tempering {
    LA_TEMPERED_LAPLACE, /* the posterior's */
    LA_TEMPERED_SCALING, /* temperature scaling's */
    LA_TEMPERED_NOT
} la_tempering;

/* A row of classes. */
typedef struct la_class_row {
    int64_t n_classes;
    const double *centre; /* [C] outputs less their mean */
    const double *cov;    /* [C, C] centred; zero where the predictive reads none */
    const double *means;  /* [2C+1] of draws or of sampled networks: la_draw_classes; NULL: none */
} la_class_row;

typedef struct la_predictive_kind {
    const char *name;  /* name in options and recipes */
    const char *label; /* confidence_kind of prediction rows */
    bool reads_covariance;
    bool networks; /* needs sampled networks */
    la_draws draws;
    la_tempering tempering;
    const struct la_predictive_kind *closed; /* in place of it where nothing is drawn */
    /* Fills out->probs, and variance and mutual_information where it has its own; those of the
     * draws, or NaN, are there. map_probs are set. workspace: [C]. NULL: the likelihood's own. */
    void (*row)(const la_class_row *row, double *workspace, la_prediction *out);
} la_predictive_kind;

#define LA_PREDICTIVE(name) extern const la_predictive_kind la_predictive_##name;
#include "likelihood/predictives.def"
#undef LA_PREDICTIVE

enum {
#define LA_PREDICTIVE(name) LA_PREDICTIVE_NUMBER_##name,
#include "likelihood/predictives.def"
#undef LA_PREDICTIVE
    LA_PREDICTIVES
};
/* Predictives of classes. */
extern const la_predictive_kind *const la_class_predictives[LA_PREDICTIVES + 1];
/* Names to ask a posterior by: those, and that of the stored average, which is last. */
extern const char *const la_predictive_names[LA_PREDICTIVES + 1];
#define LA_AVERAGE_NAME "average"
/* NULL: no predictive of that name. kinds end with NULL. */
const la_predictive_kind *la_predictive_find(const la_predictive_kind *const *kinds,
                                             const char *name);

/* ---- classes: what predictives share ---- */

/* probs[C] = softmax(outputs); they may be one array. */
void la_class_probs(int64_t n_classes, const double *outputs, double *probs);
/* Entropy in nats. */
double la_entropy(int64_t n, const double *probs);

/* Factor of f in the probit approximation of f / temperature, f's differences having this
 * variance. */
static inline double la_probit_shrink(double temperature, double variance) {
    return 1 / sqrt(temperature * temperature + M_PI / 8 * variance);
}

/* Mean over pairs of classes of Var(f_c - f_d), from the trace of the centred covariance. */
static inline double la_pair_variance(int64_t n_classes, double trace) {
    return 2 * (trace > 0 ? trace : 0) / (double)(n_classes - 1);
}

/* ---- draws.c ---- */

/* The Gaussian that Monte Carlo draws from: centre[C], the outputs less their mean, and spread[C,
 * m] with spread spread^T the covariance of the outputs, from basis[C, m] and cov[m, m] of the
 * m = C - 1 contrasts. workspace: m^2. */
void la_draw_gaussian(int64_t n_classes, const float *outputs, const double *basis,
                      const double *cov, double *workspace, double *centre, double *spread);

/* means[2C+1] over draws f = centre + spread z of softmax(f), of its entropy, and of (softmax(f) -
 * map_probs)^2, map_probs[C] = softmax(centre). The same samples, seed, stream and Gaussian give
 * the same bytes, whatever the machine's instructions. workspace: la_draw_workspace (drawing.h). */
void la_draw_classes(int64_t n_classes, const double *centre, const double *spread,
                     const double *map_probs, int64_t samples, uint64_t seed, uint64_t stream,
                     double *workspace, double *means);

/* From such means: mutual information H[mean p] - mean H[p], and the draws' own variance (a mean
 * over them, not over one less), from moments about the MAP probabilities. means NULL: both NaN. */
void la_draw_spread(int64_t n_classes, const double *means, la_prediction *out);

#endif
