/* With H of noise s, (H / k + g lambda)^-1 = k (H + k g lambda)^-1: under k times the noise and
 * a / k times the prior, the variance of a row is k (cov_a + s), cov_a that under a times the prior
 * alone. So the best k for a scale a is a mean, mean (y - f)^2 / (cov_a + s). */
#include "likelihood/selection.h"

#include <math.h>

/* -log of the Gaussian's density */
static double row_nll(const la_held_out *rows, int64_t i, double variance) {
    double miss = (double)rows->logits[i] - rows->labels.numbers[i];
    return 0.5 * (log(2 * M_PI * variance) + miss * miss / variance);
}

/* A row's variance under a scale of the prior, -1: under the MAP model, before the noise is
 * scaled. */
static double row_variance(const la_held_out *rows, int64_t scale, int64_t i) {
    double cov = scale < 0 ? 0 : rows->cov[scale * rows->n + i];
    return (cov > 0 ? cov : 0) + rows->noise_variance;
}

/* The best factor of all variances. */
static double best_factor(const la_held_out *rows, int64_t scale) {
    double sum = 0;
    if (rows->noise_given)
        return 1;
    for (int64_t i = 0; i < rows->n; i++) {
        double miss = (double)rows->logits[i] - rows->labels.numbers[i];
        sum += miss * miss / row_variance(rows, scale, i);
    }
    return sum / (double)rows->n;
}

typedef struct setting {
    int64_t scale;
    double factor, nll;
} setting;

static setting try_scale(const la_held_out *rows, int64_t scale) {
    setting s = {.scale = scale, .factor = best_factor(rows, scale)};
    for (int64_t i = 0; i < rows->n; i++)
        s.nll += row_nll(rows, i, s.factor * row_variance(rows, scale, i)) / (double)rows->n;
    return s;
}

static la_candidate candidate_of(const la_held_out *rows, const setting *s) {
    double scale = s->scale < 0 ? s->factor : rows->scales[s->scale];
    return (la_candidate){.prior_scale = scale / s->factor,
                          .temperature = 1,
                          .nll = s->nll,
                          .accuracy = NAN,
                          .noise_variance = s->factor * rows->noise_variance};
}

/* Mean distance of a setting from the best, and its standard error. */
static void compare(const la_held_out *rows, const setting *s, const setting *best,
                    la_candidate *to) {
    double n = (double)rows->n, sum = 0, square = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        double gap = row_nll(rows, i, s->factor * row_variance(rows, s->scale, i)) -
                     row_nll(rows, i, best->factor * row_variance(rows, best->scale, i));
        sum += gap;
        square += gap * gap;
    }
    to->gap = sum / n;
    double variance = square / n - to->gap * to->gap;
    to->gap_error = sqrt((variance > 0 ? variance : 0) / (n > 1 ? n - 1 : 1));
}

la_status la_select_number(la_team team, const la_held_out *rows, la_choice *choice,
                           la_error *err) {
    (void)team;
    setting map = try_scale(rows, -1), laplace = try_scale(rows, 0);
    la_candidate *all = choice->candidates;
    *choice = (la_choice){.guarded = 1, .n = rows->n, .method = LA_METHOD_MAP};
    for (int64_t g = 1; g < rows->n_scales; g++) {
        setting s = try_scale(rows, g);
        laplace = s.nll < laplace.nll ? s : laplace;
    }
    if (!isfinite(map.nll) || !isfinite(laplace.nll))
        return la_fail(
            err, LA_NUMERICAL,
            "the likelihood of the held-out rows is not finite: the model is exact on all "
            "%lld of them, or its variances are out of range",
            (long long)rows->n);
    for (int k = 0; k < LA_METHODS; k++)
        all[k] = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
    all[LA_METHOD_MAP] = candidate_of(rows, &map);
    all[LA_METHOD_LAPLACE] = candidate_of(rows, &laplace);
    const setting *best = laplace.nll < map.nll ? &laplace : &map;
    compare(rows, &map, best, &all[LA_METHOD_MAP]);
    compare(rows, &laplace, best, &all[LA_METHOD_LAPLACE]);
    /* the scale is one number more, which costs a unit of log likelihood */
    double gap = all[LA_METHOD_MAP].gap, charge = 1 / (double)rows->n;
    if (gap > all[LA_METHOD_MAP].gap_error && gap > charge)
        choice->method = LA_METHOD_LAPLACE;
    return LA_OK;
}
