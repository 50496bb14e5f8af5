/* Likelihood of a row's label given the outputs of the model: softmax (one of C classes), Gaussian
 * (a number). A model has the one that its head was trained for, and so has its posterior; all that
 * differs between such tasks is here. */
#ifndef LA_LIKELIHOOD_LIKELIHOOD_H
#define LA_LIKELIHOOD_LIKELIHOOD_H

#include "input/label.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct la_likelihood {
    const char *name;        /* what is modelled, for messages: "classes", "a regression" */
    const char *task;        /* of posterior files and reports; NULL: none is written, of classes */
    const char *problem;     /* problem_type of config.json */
    const char *outputs;     /* outputs that a head may have, for messages: "one output" */
    int64_t n_least, n_most; /* the same as numbers */
    la_label_kind label_kind; /* of a row */
    bool has_noise;           /* a noise variance is fitted with the prior */

    /* Number of contrasts: directions of the outputs that a prediction reads. */
    int64_t (*contrasts)(int64_t n_outputs);
    /* basis[C, m]: orthonormal columns that span the contrasts. */
    void (*contrast_basis)(int64_t n_outputs, double *basis);
    /* factor[C, m] with factor factor^T the Fisher information about the outputs, exact, no
     * sampling; of noise 1. */
    void (*fisher_factor)(int64_t n_outputs, const float *outputs, double *factor);
    /* log p(label | outputs); where there is noise, that of noise 1 without the constant. */
    double (*log_likelihood)(int64_t n_outputs, const float *outputs, la_label label);
} la_likelihood;

extern const la_likelihood la_softmax_likelihood, la_gaussian_likelihood;

/* The likelihood of a model with that number of outputs whose files do not say: NULL: none. */
const la_likelihood *la_likelihood_of_outputs(int64_t n_outputs);
/* By problem_type, and by the task of a file (NULL: classes). NULL: unknown. */
const la_likelihood *la_likelihood_of_problem(const char *problem);
const la_likelihood *la_likelihood_of_task(const char *task);
/* "single_label_classification or regression" */
const char *la_likelihood_problems(char *text, size_t size);

#endif
