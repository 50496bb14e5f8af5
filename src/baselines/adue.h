/* The AdUE head (Zabolotnyi et al., arXiv 2505.15443): a copy of the classifier's last linear
 * layer, tuned to tell from a pooled state h whether the classifier is wrong. theta = (W, b),
 * theta0 the classifier's own values:
 *
 *   p = softmax(W h + b),  s = (1/lambda) log sum exp(lambda p)              (SmoothMax, section 2)
 *   u = (1 - s) / (1 - 1/C), clipped to [1e-8, 1 - 1e-8]
 *   loss = mean BCE(u, wrong) + alpha mean (u - u0)^2 + beta |theta - theta0|^2
 *
 * with wrong = [argmax p0 != label] and u0 = (1 - max p0) / (1 - 1/C) of the untouched classifier.
 *
 * Training as in the authors' code: Adam under a one-cycle schedule (cosine, a tenth of the steps
 * up from rate / 25, then down to rate / 250000; beta1 from 0.95 to 0.85 and back), an epoch of as
 * many draws as there are rows, with replacement, wrong and right rows equally likely; it stops
 * when the AUROC of errors over the validation rows has not risen for `patience` epochs. Unlike
 * there, the untrained head is a candidate too, so that auroc_after is never below auroc_before.
 * The result depends on the rows, the options and the seed, not on the number of threads. */
#ifndef LA_BASELINES_ADUE_H
#define LA_BASELINES_ADUE_H

#include "base/error.h"

#include <stdbool.h>

typedef struct la_adue_options {
    double smooth;      /* lambda */
    double alpha, beta; /* weights of the two regularisers */
    double rate;        /* the largest learning rate */
    int64_t batch, epochs, patience;
    uint64_t seed;
} la_adue_options;

/* 100; 0.1, 0.01; 3e-4; 256, 50, 5; 0 */
extern const la_adue_options la_adue_defaults;

/* Outcome of the training: errors cannot be learned or ranked where rows are of one kind only. */
typedef enum la_adue_outcome {
    LA_ADUE_TRAINED,
    LA_ADUE_TRAINING_ALL_RIGHT,
    LA_ADUE_TRAINING_ALL_WRONG,
    LA_ADUE_VALIDATION_ALL_RIGHT,
    LA_ADUE_VALIDATION_ALL_WRONG,
    LA_ADUE_OUTCOMES
} la_adue_outcome;
/* "trained", "training-all-right", ...: in files and summaries */
extern const char *const la_adue_outcome_names[LA_ADUE_OUTCOMES];

typedef struct la_adue {
    int64_t n_classes, width; /* C, d */
    double *weight;           /* [C, d] */
    double *bias;             /* [C], after training in the memory behind weight */
    double smooth;            /* lambda */
    int64_t epochs;           /* epochs that were run */
    int64_t best_epoch;       /* the one kept; 0: the untrained head */
    double auroc_before,
        auroc_after; /* errors ranked by u, over the validation rows; NaN: undefined */
    la_adue_outcome outcome;
} la_adue;

typedef struct la_adue_rows {
    int64_t n;
    const float *states;   /* [n, d] what the classifier's last layer sees */
    const int64_t *labels; /* [n] */
} la_adue_rows;

/* weight[C, d], bias[C] of the classifier; without a bias (NULL) the head has none either. *out is
 * set on success; free with la_adue_free. Errors: LA_USAGE for options that make no sense;
 * LA_BAD_INPUT for fewer than two classes, no rows, values that are not finite, labels outside
 * [0, C); LA_NUMERICAL when the loss becomes NaN or infinite; LA_RESOURCE; LA_INTERRUPTED. Rows of
 * one kind are none: see outcome. */
la_status la_adue_train(const la_adue_options *options, int64_t n_classes, int64_t width,
                        const float *weight, const float *bias, const la_adue_rows *training,
                        const la_adue_rows *validation, la_adue *out, la_error *err);
void la_adue_free(la_adue *head);

/* Summary of a head; none of one without weights. */
la_adue_summary la_adue_summarise(const la_adue *head);

/* u of a state[d], in [1e-8, 1 - 1e-8]; workspace[C]. Larger means more likely wrong. */
double la_adue_score(const la_adue *head, const float *state, double *workspace);

typedef struct la_adue_batch {
    int64_t n;
    const int64_t *rows; /* [n] rows of the three below; NULL: the first n */
    const float *states; /* [.., d] */
    const bool *wrong;   /* [..] */
    const double *base;  /* [..] u0 */
} la_adue_batch;

/* The loss over a batch, and its gradient[C d + C] over (W, b) unless NULL. start[C d + C]: theta0.
 * workspace: batch->n (C + 1) doubles. Clipped rows have no gradient. */
double la_adue_loss(const la_adue_options *options, const la_adue *head, const double *start,
                    const la_adue_batch *batch, double *workspace, double *gradient);

#endif
