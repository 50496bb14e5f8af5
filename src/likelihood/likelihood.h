/* Likelihood of a row's label given the outputs of the model: softmax (one of C classes), Gaussian
 * (a number), sigmoid (any of C classes). A model has the one that its head was trained for, and so
 * has its posterior; all that differs between such tasks is here. */
#ifndef LA_LIKELIHOOD_LIKELIHOOD_H
#define LA_LIKELIHOOD_LIKELIHOOD_H

#include "base/team.h"
#include "input/label.h"
#include "likelihood/predictive.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A row to predict. */
typedef struct la_answer_row {
    const float *outputs; /* [C] of the MAP model */
    const double *basis;  /* [C, m] of the contrasts */
    const double *cov;    /* [m, m] of the contrasts; not read where the predictive reads none */
    const double *means;  /* [2C+1] of sampled networks, or of draws made elsewhere; NULL: none */
    int64_t samples;      /* draws to make where the predictive needs some and means is NULL */
    uint64_t seed, stream;
    double noise_variance, map_variance; /* the noise's, with and without a covariance */
} la_answer_row;

struct la_held_out;
struct la_class_shares;
struct la_candidate;
struct la_sign_rows;
typedef struct la_choice la_choice;
typedef struct la_likelihood la_likelihood;

struct la_likelihood {
    const char *name; /* labels that are modelled, for messages: "classes", "a regression" */
    const char *task; /* name in posterior files and reports; NULL: none is written, of classes */
    const char *problem; /* problem_type of config.json */
    const char *outputs; /* outputs that a head may have, for messages: "one output" */
    const char *counted; /* the outputs, for summaries: "classes"; NULL: there is one alone */
    /* Words for the accuracy of a choice's candidates, and for the share of rows that is_right. */
    const char *accuracy, *right;
    const char *title; /* words for a model that is no classifier of one class a row; NULL: it is */
    const char *nameless; /* reason that outputs have no names, for messages; NULL: they may have */
    const char
        *tuned; /* number chosen beside the prior by held-out rows, for messages: "temperature" */
    int64_t n_least, n_most;  /* the same as numbers */
    bool is_named;            /* a head is of it only where config.json says so */
    la_label_kind label_kind; /* a row's */
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
    /* gradient[C] of that by the outputs. */
    void (*gradient)(int64_t n_outputs, const float *outputs, la_label label, float *gradient);

    /* Chooses by held-out rows: selection.h. */
    la_status (*select)(la_team team, const struct la_held_out *rows, la_choice *choice,
                        la_error *err);
    /* Name of the number that a candidate of such a choice has to have and has not; NULL: none. */
    const char *(*lacks)(const struct la_candidate *candidate);
    /* Logs what is predicted for rows that the posterior was fitted to: signs.h. */
    la_status (*report)(const la_likelihood *likelihood, la_team team,
                        const struct la_sign_rows *rows, double leverage, double ratio,
                        const la_log *log, la_error *err);

    /* ---- predictions ---- */
    const la_predictive_kind *const *predictives; /* its own; NULL ends them */
    const char *refusal; /* message about the others, behind the posterior's path */
    bool averages;       /* the mean of several recipes is one of probabilities */
    bool is_softmax; /* probabilities are one softmax of a row's outputs: read by a device's draws,
                        vector scaling, the error head and compare */
    /* Number of doubles that predict needs. */
    int64_t (*workspace)(int64_t n_outputs);
    /* Fills *out, whose arrays are the caller's. */
    void (*predict)(const la_predictive_kind *kind, int64_t n_outputs, const la_answer_row *row,
                    double *workspace, la_prediction *out);
    /* After predict of other outputs over T, and of another covariance over T^2: puts back what a
     * prediction reports of the model as it is (logits, map_probs, logit_cov). cov[m, m] in the
     * basis is the covariance as it is; NULL: it was cov / T^2, or none was read. */
    void (*restore)(int64_t n_outputs, const float *outputs, double temperature,
                    const double *basis, const double *cov, la_prediction *out);
    /* Sets what follows from the probabilities: prediction, confidence, entropy. */
    void (*conclude)(int64_t n_outputs, la_prediction *out);
    /* Makes a prediction one for other class shares than those of training (shares.h); NULL:
     * classes do not exclude each other, or there are none. */
    void (*reshare)(const struct la_class_shares *shares, la_prediction *out);
    /* True when the prediction by probabilities is the label; NULL: predictions are not right or
     * wrong. */
    bool (*is_right)(int64_t n_outputs, const double *probs, la_label label);
    /* Adds to sums[2C+1] what a sampled network says of a row: the prediction, its entropy, and
     * the square of its distance from the MAP network's. Over the number of networks the sums are
     * means of la_answer_row. workspace: 2 C. */
    void (*add_network)(int64_t n_outputs, const float *outputs, const float *map_outputs,
                        double temperature, double *workspace, double *sums);
};

#define LA_LIKELIHOOD(name) extern const la_likelihood la_##name##_likelihood;
#include "likelihood/likelihoods.def"
#undef LA_LIKELIHOOD

/* The likelihood of a model with that number of outputs whose files do not say: NULL: none. */
const la_likelihood *la_likelihood_of_outputs(int64_t n_outputs);
/* Likelihood by problem_type, and by the task of a file (NULL: classes). NULL: unknown. */
const la_likelihood *la_likelihood_of_problem(const char *problem);
const la_likelihood *la_likelihood_of_task(const char *task);
/* "single_label_classification or regression" */
const char *la_likelihood_problems(char *text, size_t size);

#endif
