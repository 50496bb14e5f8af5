/* Choosing scales of the prior precisions and temperatures by the predictive log likelihood of
 * held-out rows, and the guard: the model answers as it is, unless they say more surely than chance
 * that it should not; then all settings answer, weighted by their likelihood, as no few hundred
 * rows tell the best.
 *
 * Scaling the curvature by c and the prior by k is one more degree of freedom of the covariance:
 * (c H + k lambda)^-1 = (H + (k / c) lambda)^-1 / c. */
#ifndef LA_LIKELIHOOD_SELECTION_H
#define LA_LIKELIHOOD_SELECTION_H

#include "likelihood/answer.h"

/* Held-out rows, and their covariance for every scale of the prior precisions: all that a choice
 * needs. */
typedef struct la_held_out {
    int64_t n, n_classes, n_scales;
    const float *logits;     /* [n, C] */
    la_label_list labels;    /* [n] */
    const uint64_t *streams; /* [n] of the rows' draws */
    const double *scales;    /* [n_scales] */
    const double *cov;       /* [n_scales, n, m, m] of the m contrasts */
    double noise_variance;   /* that cov is of, where there is noise */
    bool noise_given;        /* it is meant exactly: the scale alone is chosen */
} la_held_out;

/* The scales that are tried: fills scales[LA_SELECTION_SCALES]. */
enum { LA_SELECTION_SCALES = 25 };
void la_selection_scales(double *scales);

/* The temperatures that are tried: fills temperatures[LA_SELECTION_TEMPERATURES]; the first is 1,
 * the others lie about that of temperature scaling, most below: a covariance takes confidence as
 * well. */
enum { LA_SELECTION_TEMPERATURES = 18 };
void la_selection_temperatures(double scaling, double *temperatures);

/* Sets the best candidate of every method, and the settings of the average (average.h): MAP, the
 * temperatures, Monte Carlo and the scalar probit each have the same prior mass, spread evenly over
 * their settings. A Monte Carlo setting that answers fewer rows right than the MAP model, by more
 * than the standard error of that or 0.5 % of the rows, is none, nor is such an average; a method
 * without one has a NaN nll.
 *
 * The MAP model is chosen when its likelihood is not worse than the best one's by more than the
 * standard error of the difference. Else the average is, whose own likelihood is told left out
 * (average.h): with a quarter of its prior on the MAP model, its evidence is at most log 4 below
 * that model's likelihood, however little the rows say. Where there is no average, the method is
 * chosen whose likelihood is best, one unit of log likelihood being charged for every number it
 * chooses (temperature, scale). */
la_status la_select_class(la_team team, const la_held_out *rows, la_choice *choice, la_error *err);

/* The same for a number, by the Gaussian log likelihood: the scale of the prior precisions and the
 * noise variance. Sets the candidates map and laplace, each with its noise variance; the others
 * have a NaN nll, and an accuracy none has. The MAP model, with a constant variance, is chosen when
 * its likelihood is not worse by more than the standard error of the difference, or not by more
 * than the numbers that Laplace chooses beyond it. */
la_status la_select_number(la_team team, const la_held_out *rows, la_choice *choice, la_error *err);

/* The method of a single setting that is best so, whatever MAP's rule and the average say. */
la_method la_choice_single(const la_choice *choice);

/* The Laplace method that is best so: the chosen one, where a Laplace method was chosen. Its scale
 * is the one that goes into the precisions; a setting's is relative to the same start. */
la_method la_choice_laplace(const la_choice *choice);

/* Name of the predictive that a method's recipe has, or LA_AVERAGE_NAME. */
const char *la_method_predictive(la_method method);
/* recipes[LA_SETTINGS_MOST] by which a method predicts, with the numbers that were chosen for it;
 * returns how many they are. */
int64_t la_choice_recipes(const la_likelihood *likelihood, const la_choice *choice,
                          la_method method, la_recipe *recipes);

#endif
