/* A posterior with its model, answering batches. */
#ifndef LA_PIPELINE_PREDICTOR_H
#define LA_PIPELINE_PREDICTOR_H

#include "bayes/curvature.h"
#include "pipeline/session.h"

struct la_predictor {
    la_posterior posterior;
    la_session session;
    const la_curvature_kind *kind;
    la_covariance *covariance;
    la_template *prompt;
    la_predictive predictive;
    int64_t samples, n_classes;
    uint64_t seed;
    float *logits, *cotangents;
    double *basis, *cov, *workspace; /* [C, C-1], [rows, C-1, C-1], a slice a thread */
};

/* Answers the rows of a batch. hashes[n_rows] name their random streams: a row's draw depends on
 * its tokens and the seed alone. */
la_status la_predictor_batch(la_predictor *predictor, const la_batch *batch, const uint64_t *hashes,
                             la_prediction *out, la_error *err);

/* n answers with room for their arrays; *memory holds them. The caller frees both. */
la_status la_predictions_new(int64_t n_classes, int64_t n, la_prediction **answers, double **memory,
                             la_error *err);

#endif
