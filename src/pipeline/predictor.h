/* A posterior with its model, answering batches. */
#ifndef LA_PIPELINE_PREDICTOR_H
#define LA_PIPELINE_PREDICTOR_H

#include "bayes/structure.h"
#include "likelihood/answer.h"
#include "likelihood/shares.h"
#include "pipeline/sampler.h"

/* Results of a device's batch, for its predictions. */
typedef struct la_predictor_part {
    la_blocks blocks;
    la_covariance *covariance;
    la_answering *answering;
    float *logits, *cotangents; /* [rows, C], [rhs rows, C] */
    double *cov;                /* [n_scales, batch's rows, m, m] of the m contrasts */
    float *states;    /* [rows, width] what error head and distances read; NULL: there are none */
    double *networks; /* [rows, 2C+1] means over sampled ones; NULL: there are none */
} la_predictor_part;

struct la_predictor {
    la_posterior posterior;
    la_session session;
    const la_structure_kind *kind;
    la_predictor_part parts[LA_DEVICES_MAX]; /* one a worker of the session */
    la_sampler *sampler;                     /* NULL: no networks are sampled */
    la_template *prompt;
    la_class_shares shares; /* of the classes */
    const char *label;      /* confidence_kind of prediction rows */
    int64_t n_classes, n_contrasts;
    la_draw_options draws;
    la_recipe recipes[LA_SETTINGS_MOST]; /* their prior scales: factors of the stored precisions */
    double scales[LA_SETTINGS_MOST]; /* those that covariances are needed under, all different */
    int64_t distilled_scale[LA_SETTINGS_MOST]; /* their numbers, where variances are distilled */
    int n_recipes, n_scales;
    double *basis;       /* [C, m] */
    la_slices workspace; /* of error head and distances */
    double *projected;   /* [G, k] of the distances (la_ood_project) */
};

/* As la_predictor_open, with the full covariance where the posterior has distilled variances, too.
 */
la_status la_predictor_open_full(const la_predict_options *options, la_predictor **predictor,
                                 la_error *err);
/* Logits and covariance of a batch, on a worker's device; workers may run at the same time. */
la_status la_predictor_batch(la_predictor *predictor, int worker, const la_batch *batch,
                             la_error *err);
/* The predictions of that batch, on the host. hashes[n_rows] name the rows' random streams: a row's
 * draw depends on its tokens and the seed alone. */
la_status la_predictor_answer(la_predictor *predictor, int worker, const la_batch *batch,
                              const uint64_t *hashes, la_prediction *out, la_error *err);

/* LA_UNSUPPORTED or LA_USAGE where rows of that posterior cannot have class shares of their own. */
la_status la_predictor_check_shares(const la_predictor *predictor, const char *path, la_error *err);

/* True when predictions cost a forward pass alone. */
bool la_predictor_is_forward(const la_predictor *predictor);
/* True when random numbers enter the predictions: the probabilities, or their variance alone. */
bool la_predictor_draws(const la_predictor *predictor);

#endif
