/* Choice of scales of the prior precisions and temperatures by the predictive log likelihood of
 * held-out rows, and the guard: the MAP model stays unless the rows favour something else by more
 * than chance; then all settings are averaged, weighted by their likelihood, as a few hundred rows
 * cannot identify the best one.
 *
 * Scaling the curvature by c and the prior by k is one more degree of freedom of the covariance:
 * (c H + k lambda)^-1 = (H + (k / c) lambda)^-1 / c. */
#ifndef LA_LIKELIHOOD_SELECTION_H
#define LA_LIKELIHOOD_SELECTION_H

#include "likelihood/answer.h"
#include "likelihood/correction.h"

/* Candidates of the guard. */
typedef enum la_method {
    LA_METHOD_MAP,             /* softmax(f) */
    LA_METHOD_TEMPERATURE,     /* softmax(f / T) */
    LA_METHOD_LAPLACE,         /* E softmax(f), f ~ N(f_MAP, cov) */
    LA_METHOD_SCALAR,          /* its scalar probit, which keeps the MAP model's answers */
    LA_METHOD_TEMPERED,        /* E softmax(f / T) */
    LA_METHOD_TEMPERED_SCALAR, /* likewise */
    LA_METHOD_AVERAGE,         /* the mean of many of all these, weighted by their likelihood */
    LA_METHODS
} la_method;

/* The best of a method on the held-out rows. An average has no scale and temperature of its own
 * (both are 1), and its nll is that of every row under the weights which the others give. */
typedef struct la_candidate {
    double prior_scale, temperature;
    double nll, accuracy;
    double gap, gap_error; /* nll less the best candidate's, and the standard error of that */
    double noise_variance; /* a regression's, whose accuracy is NaN; 0: of classes */
} la_candidate;

/* A part of an average. */
typedef struct la_setting {
    la_method method; /* MAP, TEMPERATURE, LAPLACE or SCALAR, of f / T all of them */
    double prior_scale, temperature, weight;
    int64_t correction; /* number from 1 of the one that f has; 0: none */
} la_setting;
enum { LA_SETTINGS_MOST = 32, LA_CORRECTIONS_MOST = 4 };

/* Answers of a choice that are not the MAP model's. */
typedef struct la_changes {
    int64_t n, to_right, to_wrong; /* the others were wrong and are */
} la_changes;

struct la_choice {
    int guarded; /* 0: nothing was chosen, the rest is not set */
    int cross;   /* the held-out rows are those of the curvature, cross-fitted */
    int older;   /* the posterior has been given other rows since */
    la_method method;
    int64_t n; /* held-out rows */
    /* Of the method on them: what changes, and how far its nll is below the MAP model's, with the
     * standard error of that; of classes. */
    la_changes changes;
    double gain, gain_error;
    la_candidate candidates[LA_METHODS];
    int64_t n_settings; /* number in the average; 0: there is none */
    la_setting settings[LA_SETTINGS_MOST];
    int64_t n_corrections; /* those that settings have */
    la_correction corrections[LA_CORRECTIONS_MOST];
    /* [C] where there are any: means over the held-out rows of the outputs less their mean; 0: not
     * known */
    double centre[LA_CORRECTION_CLASSES_MOST];
    /* largest distance of a held-out label's probability under these from that under all
     * settings */
    double shortening;
};

extern const char *const la_method_names[LA_METHODS];

/* Held-out rows, and their covariance for every scale of the prior precisions: all that a choice
 * needs. */
typedef struct la_held_out {
    int64_t n, n_classes, n_scales;
    const float *logits;     /* [n, C] */
    la_label_list labels;    /* [n] */
    const uint64_t *streams; /* [n] of the rows' draws */
    const double *scales;    /* [n_scales] */
    const double *cov;       /* [n_scales, n, m, m] of the m contrasts */
    double noise_variance;   /* noise under which cov was taken, where there is any */
    bool noise_given;        /* it is meant exactly: the scale alone is chosen */
    bool keep_answers;       /* only what never changes an answer of the MAP model is admitted */
    bool uncorrected;        /* the rows' classes are not the model's: none is corrected */
    la_log log;              /* of signs that no choice mends; may be zeroed */
} la_held_out;

/* The scales that are tried: fills scales[LA_SELECTION_SCALES]. */
enum { LA_SELECTION_SCALES = 25 };
void la_selection_scales(double *scales);

/* The temperatures that are tried: fills temperatures[LA_SELECTION_TEMPERATURES]; the first is 1,
 * the others lie about that of temperature scaling, most below: a covariance takes confidence as
 * well. */
enum { LA_SELECTION_TEMPERATURES = 18 };
void la_selection_temperatures(double scaling, double *temperatures);

/* Fewest rows with which the MAP model has the benefit of the doubt: with fewer of them the
 * standard error is so large that it would stay where it is worse, too. */
enum { LA_DOUBT_ROWS = 400 };

/* Sets the best candidate of every method, and the settings of the average (average.h).
 *
 * Those are of the model as it is and, for softmax, of corrections of its classes (correction.h):
 * biases under every prior and, of more than two classes, weights beside the two biases of most
 * evidence; either kind has half of their prior mass. At most LA_CORRECTIONS_MOST are taken, of
 * those whose mass times evidence is within a twentieth of the best one's. The model as it is has
 * half of the prior mass, which MAP, the temperatures, Monte Carlo and the scalar probit share
 * equally, each spread evenly over its settings; the corrections that are taken have the other
 * half, times their Occam factors, and all but MAP of these families. Their temperatures lie about
 * the one that was fitted with the bias, and their grid is coarser.
 *
 * A setting with fewer rows right than the MAP model, by more than the standard error of that or
 * 0.5 % of the rows, is not admitted, nor is such an average: then it is of the model as it is, if
 * that is. A method without an admitted setting has a NaN nll.
 *
 * The MAP model is chosen when its likelihood is not worse than the best one's by more than the
 * standard error of the difference, or, with fewer than LA_DOUBT_ROWS rows, when it is the best.
 * Else the average is, whose own likelihood leaves each row out (average.h): with an eighth of its
 * prior on the MAP model, its evidence is at most log 8 below that model's likelihood, however
 * little the rows say. Without an average, the method with the best likelihood is chosen, one unit
 * of log likelihood being charged for every number it chooses (temperature, scale). */
la_status la_select_class(la_team team, const la_held_out *rows, la_choice *choice, la_error *err);

/* The same for a number, by the Gaussian log likelihood: the scale of the prior precisions and the
 * noise variance. Sets the candidates map and laplace, each with its noise variance; the others
 * have a NaN nll, and an accuracy none has. The MAP model, with a constant variance, is chosen when
 * its likelihood is not worse by more than the standard error of the difference, or not by more
 * than the numbers that Laplace chooses beyond it. */
la_status la_select_number(la_team team, const la_held_out *rows, la_choice *choice, la_error *err);

/* la_likelihood's lacks, of classes: the accuracy. */
const char *la_candidate_lacks(const la_candidate *candidate);
/* The method of a single setting that is best so, whatever MAP's rule and the average say. */
la_method la_choice_single(const la_choice *choice);

/* The Laplace method that is best so: the chosen one, where a Laplace method was chosen. Its scale
 * is the one that goes into the precisions; a setting's is relative to the same start. */
la_method la_choice_laplace(const la_choice *choice);

/* Probability that the method has a better nll than the MAP model on other such rows, by the normal
 * distribution of the gain; 1/2 where it is the MAP model. */
double la_choice_surety(const la_choice *choice);
/* log_odds[C]: what corrections add to a class's log odds against the mean of all, in an average
 * and for outputs that are the held-out rows' mean; 0 where no setting is corrected. */
void la_choice_log_odds(const la_choice *choice, int64_t n_classes, double *log_odds);

/* record: a copy that the summary's owner frees. */
la_choice_summary la_choice_summarise(const la_choice *choice, const la_choice *record);
/* Name of the predictive that a method's recipe has, or LA_AVERAGE_NAME. */
const char *la_method_predictive(la_method method);
/* recipes[LA_SETTINGS_MOST] by which a method predicts, with the numbers that were chosen for it;
 * returns how many they are. Their biases are the choice's. */
int64_t la_choice_recipes(const la_likelihood *likelihood, const la_choice *choice,
                          la_method method, la_recipe *recipes);

#endif
