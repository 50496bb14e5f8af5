#include "likelihood/setting_table.h"
#include "base/fast_math.h"
#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Draws come in pairs z, -z: the means of the pairs are exact to second order. */
enum { PAIRS = 128, DRAWS = 2 * PAIRS };
#define SEED 0x5e1ec7

/* ---- places ---- */

static int64_t cells_of(const la_setting_group *group) {
    return group->n_scales * group->n_temperatures;
}

la_setting_place la_setting_find(const la_setting_table *t, int64_t number) {
    int k = t->n_groups - 1;
    while (number < t->groups[k].first)
        k--;
    const la_setting_group *group = &t->groups[k];
    int64_t in_group = number - group->first, cells = cells_of(group), cell = in_group % cells;
    la_setting_place place = {.group = k,
                              .temperature = (int)(cell % group->n_temperatures),
                              .scale = cell / group->n_temperatures * group->scale_step,
                              .family = in_group < cells ? LA_METHOD_LAPLACE : LA_METHOD_SCALAR};
    if (in_group >= 2 * cells) {
        place.scale = 0;
        place.temperature = (int)(in_group - 2 * cells);
        place.family =
            group->correction || place.temperature ? LA_METHOD_TEMPERATURE : LA_METHOD_MAP;
    }
    return place;
}

const unsigned char *la_setting_answers(const la_setting_table *t, int64_t number) {
    const la_setting_group *group = &t->groups[la_setting_find(t, number).group];
    int64_t cells = cells_of(group), in_group = number - group->first;
    return t->answers + (group->first_answers + (in_group < cells ? in_group : cells)) * t->rows->n;
}

/* ---- a row ---- */

static int64_t argmax(int64_t n, const float *values) {
    int64_t best = 0;
    for (int64_t c = 1; c < n; c++)
        best = values[c] > values[best] ? c : best;
    return best;
}

static int64_t top_of(int64_t n, const double *values) {
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        best = values[k] > values[best] ? k : best;
    return best;
}

/* probabilities p[C] of the mean of softmax((f + d) / T) over the draws d[DRAWS, C] */
static void mean_softmax(int64_t c, const float *logits, const float *draws, float inverse,
                         float *e, double *p) {
    for (int64_t k = 0; k < c; k++)
        p[k] = 0;
    for (int s = 0; s < DRAWS; s++) {
        const float *d = draws + s * c;
        float top = logits[0] + d[0], sum = 0;
        for (int64_t k = 1; k < c; k++)
            top = logits[k] + d[k] > top ? logits[k] + d[k] : top;
        for (int64_t k = 0; k < c; k++)
            e[k] = la_expf((logits[k] + d[k] - top) * inverse);
        for (int64_t k = 0; k < c; k++)
            sum += e[k];
        for (int64_t k = 0; k < c; k++)
            p[k] += (double)(e[k] / sum);
    }
    for (int64_t k = 0; k < c; k++)
        p[k] /= DRAWS;
}

/* -log of the label's probability under the scalar probit (predictive.c) of f / T */
static double scalar_nll(int64_t c, const double *centre, double variance, double temperature,
                         int64_t label) {
    double shrink = la_probit_shrink(temperature, variance);
    double top = centre[0], sum = 0;
    for (int64_t k = 1; k < c; k++)
        top = centre[k] > top ? centre[k] : top;
    for (int64_t k = 0; k < c; k++)
        sum += exp((centre[k] - top) * shrink);
    return log(sum) - (centre[label] - top) * shrink;
}

typedef struct workspace {
    double *centre, *moved, *spread, *factor; /* [C], [C], [C, C-1], [(C-1)^2] */
    double *p, *mean;                         /* [C], [C] */
    float *draws, *weighed, *normals;         /* [DRAWS, C], [DRAWS, C], [PAIRS, C-1] */
    float *e, *logits;                        /* [C], [C] */
} workspace;

/* The normals of a row, the same under every setting. */
static void draw_normals(const la_setting_table *t, int64_t i, workspace *w) {
    const la_held_out *rows = t->rows;
    int64_t m = rows->n_classes - 1;
    double normals[2];
    for (int64_t j = 0; j < PAIRS * m; j += 2) {
        int64_t n = PAIRS * m - j < 2 ? 1 : 2;
        la_random_normal(SEED, rows->streams[i], (uint64_t)j, (size_t)n, normals);
        w->normals[j] = (float)normals[0];
        if (n == 2)
            w->normals[j + 1] = (float)normals[1];
    }
}

/* The row's Gaussian under a scale: centre, and draws about 0; returns its pair variance. */
static double set_scale(const la_setting_table *t, const double *basis, int64_t i, int64_t g,
                        workspace *w) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, m = c - 1;
    const double *cov = rows->cov + (g * rows->n + i) * m * m;
    double trace = 0;
    la_draw_gaussian(c, rows->logits + i * c, basis, cov, w->factor, w->centre, w->spread);
    for (int64_t k = 0; k < m; k++)
        trace += cov[k * m + k];
    for (int s = 0; s < PAIRS; s++)
        for (int64_t k = 0; k < c; k++) {
            float d = 0;
            for (int64_t j = 0; j < m; j++)
                d += (float)w->spread[k * m + j] * w->normals[s * m + j];
            w->draws[2 * s * c + k] = d;
            w->draws[(2 * s + 1) * c + k] = -d;
        }
    return la_pair_variance(c, trace);
}

static const double *weight_of(const la_setting_group *group) {
    return group->correction ? la_correction_weight(group->correction) : NULL;
}

/* The centre as a group has it: in w's moved, and logits. */
static void set_group(const la_setting_table *t, const la_setting_group *group, workspace *w) {
    int64_t c = t->rows->n_classes;
    const double *weight = weight_of(group);
    for (int64_t k = 0; k < c; k++) {
        w->moved[k] = (weight ? weight[k] : 1) * w->centre[k] +
                      (group->correction ? group->correction->bias[k] : 0);
        w->logits[k] = (float)w->moved[k];
    }
}

/* The draws as a group has them, which are w's or, of one with weights, in w's weighed; *variance,
 * which is that of w's, becomes the group's pair variance. */
static const float *set_spread(const la_setting_table *t, const la_setting_group *group,
                               workspace *w, double *variance) {
    int64_t c = t->rows->n_classes, m = c - 1;
    const double *weight = weight_of(group);
    double trace = 0;
    if (!weight)
        return w->draws;
    for (int64_t s = 0; s < DRAWS; s++)
        for (int64_t k = 0; k < c; k++)
            w->weighed[s * c + k] = (float)weight[k] * w->draws[s * c + k];
    for (int64_t j = 0; j < m; j++) {
        double sum = 0, square = 0;
        for (int64_t k = 0; k < c; k++) {
            double d = weight[k] * w->spread[k * m + j];
            sum += d;
            square += d * d;
        }
        trace += square - sum * sum / (double)c;
    }
    *variance = la_pair_variance(c, trace);
    return w->weighed;
}

static unsigned char answer_of(const la_setting_table *t, int64_t i, int64_t answer) {
    int64_t c = t->rows->n_classes;
    bool right = answer == t->rows->labels.classes[i];
    bool changed = answer != argmax(c, t->rows->logits + i * c);
    return (unsigned char)((right ? LA_ANSWER_RIGHT : 0) | (changed ? LA_ANSWER_CHANGED : 0));
}

/* A group's settings of the scale g, whose draws are there. */
static void try_scale(la_setting_table *t, const la_setting_group *group, int64_t g,
                      double variance, int64_t i, workspace *w) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, n = rows->n, label = rows->labels.classes[i];
    int64_t first = g / group->scale_step * group->n_temperatures;
    float *mc = t->nll + group->first * n, *scalar = mc + cells_of(group) * n;
    unsigned char *answers = t->answers + group->first_answers * n;
    set_group(t, group, w);
    const float *draws = set_spread(t, group, w, &variance);
    for (int u = 0; u < group->n_temperatures; u++) {
        int64_t at = (first + u) * n + i;
        mean_softmax(c, w->logits, draws, (float)(1 / group->temperatures[u]), w->e, w->p);
        /* the draws resolve nothing rarer */
        double p = w->p[label] > 1e-30 ? w->p[label] : 1e-30;
        mc[at] = (float)-log(p);
        answers[at] = answer_of(t, i, top_of(c, w->p));
        scalar[at] = (float)scalar_nll(c, w->moved, variance, group->temperatures[u], label);
    }
}

static void try_row(la_setting_table *t, const double *basis, int64_t i, workspace *w,
                    const void *unused) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, n = rows->n;
    (void)unused;
    draw_normals(t, i, w);
    for (int64_t g = 0; g < rows->n_scales; g++) {
        double variance = set_scale(t, basis, i, g, w);
        for (int k = 0; k < t->n_groups; k++)
            if (g % t->groups[k].scale_step == 0)
                try_scale(t, &t->groups[k], g, variance, i, w);
    }
    for (int k = 0; k < t->n_groups; k++) {
        const la_setting_group *group = &t->groups[k];
        int64_t cells = cells_of(group), label = rows->labels.classes[i];
        float *plain = t->nll + (group->first + 2 * cells) * n + i;
        set_group(t, group, w);
        int64_t answer = group->correction ? top_of(c, w->moved) : argmax(c, rows->logits + i * c);
        t->answers[(group->first_answers + cells) * n + i] = answer_of(t, i, answer);
        for (int u = 0; u < group->n_temperatures; u++)
            plain[u * n] = (float)scalar_nll(c, w->moved, 0, group->temperatures[u], label);
    }
}

/* ---- all rows ---- */

/* Work on a row. */
typedef void (*row_job)(la_setting_table *t, const double *basis, int64_t i, workspace *w,
                        const void *user);

static la_status each_row(la_setting_table *t, row_job job, const void *user, la_error *err) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, m = c - 1;
    int64_t doubles = 4 * c + c * m + m * m, floats = 2 * DRAWS * c + PAIRS * m + 2 * c + 2;
    double *basis = la_alloc((size_t)(c * m), sizeof *basis, err);
    la_slices numbers = {0}, singles = {0};
    (void)la_slices_open(t->team, (size_t)doubles * sizeof(double), &numbers, err);
    (void)la_slices_open(t->team, (size_t)floats * sizeof(float), &singles, err);
    if (err->status == LA_OK) {
        la_softmax_likelihood.contrast_basis(c, basis);
#pragma omp parallel for schedule(dynamic, 8) num_threads(t->team.threads)
        for (int64_t i = 0; i < rows->n; i++) {
            double *d = la_slices_own(&numbers);
            float *f = la_slices_own(&singles);
            workspace w = {.centre = d,
                           .p = d + c,
                           .mean = d + 2 * c,
                           .moved = d + 3 * c,
                           .spread = d + 4 * c,
                           .factor = d + 4 * c + c * m,
                           .draws = f,
                           .weighed = f + DRAWS * c,
                           .normals = f + 2 * DRAWS * c,
                           .e = f + 2 * DRAWS * c + PAIRS * m,
                           .logits = f + 2 * DRAWS * c + PAIRS * m + c};
            job(t, basis, i, &w, user);
        }
    }
    free(basis);
    free(numbers.memory);
    free(singles.memory);
    return err->status;
}

la_status la_setting_table_open(la_setting_table *t, la_error *err) {
    int64_t n_answers = 0;
    t->n = 0;
    for (int k = 0; k < t->n_groups; k++) {
        la_setting_group *group = &t->groups[k];
        group->n_scales = (t->rows->n_scales + group->scale_step - 1) / group->scale_step;
        group->first = t->n;
        group->first_answers = n_answers;
        t->n += 2 * cells_of(group) + group->n_temperatures;
        n_answers += cells_of(group) + 1;
    }
    size_t rows = (size_t)t->rows->n;
    t->nll = la_alloc((size_t)t->n * rows, sizeof *t->nll, err);
    t->answers = la_alloc((size_t)n_answers * rows, sizeof *t->answers, err);
    return err->status == LA_OK ? each_row(t, try_row, NULL, err) : err->status;
}

void la_setting_table_close(la_setting_table *t) {
    free(t->nll);
    free(t->answers);
    t->nll = NULL;
    t->answers = NULL;
}

/* ---- the mean of a list ---- */

typedef struct mean_job {
    const la_average_list *list;
    unsigned char *answers;
} mean_job;

/* probabilities p[C] of a row under a setting */
static void setting_probs(const la_setting_table *t, const double *basis, int64_t i, int64_t number,
                          workspace *w) {
    int64_t c = t->rows->n_classes;
    la_setting_place place = la_setting_find(t, number);
    const la_setting_group *group = &t->groups[place.group];
    double temperature = group->temperatures[place.temperature], variance = 0, sum = 0;
    double of_scale = set_scale(t, basis, i, place.scale, w); /* any has the centre */
    set_group(t, group, w);
    const float *draws = set_spread(t, group, w, &of_scale);
    if (place.family == LA_METHOD_LAPLACE) {
        mean_softmax(c, w->logits, draws, (float)(1 / temperature), w->e, w->p);
        return;
    }
    if (place.family == LA_METHOD_SCALAR)
        variance = of_scale;
    double shrink = la_probit_shrink(temperature, variance);
    double top = w->moved[top_of(c, w->moved)];
    for (int64_t k = 0; k < c; k++)
        sum += w->p[k] = exp((w->moved[k] - top) * shrink);
    for (int64_t k = 0; k < c; k++)
        w->p[k] /= sum;
}

static void mean_row(la_setting_table *t, const double *basis, int64_t i, workspace *w,
                     const void *user) {
    const mean_job *job = user;
    int64_t c = t->rows->n_classes;
    memset(w->mean, 0, (size_t)c * sizeof *w->mean);
    draw_normals(t, i, w);
    for (int64_t j = 0; j < job->list->n; j++) {
        setting_probs(t, basis, i, job->list->setting[j], w);
        for (int64_t k = 0; k < c; k++)
            w->mean[k] += job->list->weight[j] * w->p[k];
    }
    job->answers[i] = answer_of(t, i, top_of(c, w->mean));
}

la_status la_setting_table_mean(la_setting_table *t, const la_average_list *list,
                                unsigned char *answers, la_error *err) {
    mean_job job = {list, answers};
    return each_row(t, mean_row, &job, err);
}
