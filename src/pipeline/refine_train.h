/* Training of a posterior's blocks on new rows, from the old posterior as the prior. */
#ifndef LA_PIPELINE_REFINE_TRAIN_H
#define LA_PIPELINE_REFINE_TRAIN_H

#include "pipeline/gradient.h"
#include "bayes/posterior.h"

/* Methods of training. */
typedef enum la_refine_method {
    LA_REFINE_IVON,      /* from the mean and the curvature of the old posterior */
    LA_REFINE_IVON_FLAT, /* from its mean, with one precision for all parameters */
    LA_REFINE_ADAM,      /* plain fine-tuning from its mean: a rival */
    LA_REFINE_METHODS
} la_refine_method;
extern const char *const la_refine_method_names[LA_REFINE_METHODS];

typedef struct la_refine_settings {
    la_refine_method method;
    int64_t epochs, batch_rows;
    double rate; /* 0: several are tried on the held-out rows; without them the method's own */
    uint64_t seed;
    const la_log *log;
} la_refine_settings;

/* Result of training: the mean of the blocks, one behind the other. */
typedef struct la_refined {
    int64_t width, steps;
    float *mean;           /* [width] where it ended */
    double *elbo;          /* [epochs] of the rate that was kept; NULL: the method has none */
    int64_t epochs, epoch; /* trained, and the one whose values these are; 0: the beginning */
    double rate, temper;
    double nll_before, nll_after; /* of the held-out rows, else of the rows, at the means */
} la_refined;

/* posterior: the old one, of the session's model. held->n 0: no held-out rows; all epochs are then
 * trained. Free with la_refined_free. */
la_status la_refine_train(la_session *session, const la_posterior *posterior,
                          const la_row_set *rows, const la_row_set *held,
                          const la_refine_settings *settings, la_refined *refined, la_error *err);
void la_refined_free(la_refined *refined);

#endif
