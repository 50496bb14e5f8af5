/* A posterior with its model, answering batches. */
#ifndef LA_PIPELINE_PREDICTOR_H
#define LA_PIPELINE_PREDICTOR_H

#include "bayes/curvature.h"
#include "pipeline/sampler.h"

/* A way from a row's Gaussian to probabilities. An answer is that of one, or the mean of several. */
typedef struct la_predictor_setting {
    la_predictive kind;
    int scale;          /* which of the predictor's scales its covariance is of */
    double temperature; /* divides logits before softmax; 1: none */
    double weight;      /* they sum to 1 */
} la_predictor_setting;

/* What a device's batch leaves for its answers. */
typedef struct la_predictor_part {
    la_covariance *covariance;
    float *logits, *cotangents; /* [rows, C], [rhs rows, C] */
    double *cov;                /* [n_scales, batch's rows, m, m] m contrasts */
    float *tempered;            /* [rows, C] logits over the temperature */
    double *tempered_cov;       /* [rows, m, m] covariance over its square */
    float *states;              /* [rows, width] what the error head reads; NULL: there is none */
    /* where the device draws: [rows, C], [rows, C, C-1]; else NULL */
    double *centre, *spread;
    double *drawn; /* likewise, or where networks are sampled: [rows, 2C+1] */
} la_predictor_part;

struct la_predictor {
    la_posterior posterior;
    la_session session;
    const la_curvature_kind *kind;
    la_predictor_part parts[LA_DEVICES_MAX]; /* one a worker of the session */
    la_sampler *sampler;                     /* NULL: no networks are sampled */
    la_template *prompt;
    la_predictive predictive;
    bool regression;
    double map_variance; /* of a regression without a covariance */
    int64_t samples, n_classes, n_contrasts;
    uint64_t seed;
    la_predictor_setting settings[LA_SETTINGS_MOST];
    double scales[LA_SETTINGS_MOST]; /* factors of the stored precisions, all different */
    int n_settings, n_scales;
    la_prediction *single; /* [rows] answers of one setting of several; NULL: there is one */
    double *single_memory;
    double *basis;       /* [C, C-1] */
    la_slices workspace; /* of la_predict_workspace(C) doubles */
};

/* Logits and covariance of a batch, on a worker's device; workers may run at the same time. */
la_status la_predictor_batch(la_predictor *predictor, int worker, const la_batch *batch,
                             la_error *err);
/* The answers to that batch, on the host. hashes[n_rows] name the rows' random streams: a row's draw
 * depends on its tokens and the seed alone. */
void la_predictor_answer(la_predictor *predictor, int worker, const la_batch *batch,
                         const uint64_t *hashes, la_prediction *out);

/* Whether random numbers enter the answers: in the probabilities, or in their variance alone. */
bool la_predictor_draws(const la_predictor *predictor);

/* n answers with room for their arrays; *memory holds them. The caller frees both. */
la_status la_predictions_new(int64_t n_classes, int64_t n, la_prediction **answers, double **memory,
                             la_error *err);

#endif
