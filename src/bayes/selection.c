#include "bayes/selection.h"
#include "backend/cpu_math.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "baselines/scaling.h"
#include "bayes/predictive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Draws come in pairs z, -z: the means of the pairs are exact to second order. */
enum { PAIRS = 128, DRAWS = 2 * PAIRS, TEMPERATURES = LA_SELECTION_TEMPERATURES };
#define TEMPERATURE_STEP 1.15
#define SEED 0x5e1ec7
/* Likelihoods that are nearer than this are equal: they are kept in f32. */
#define ROUNDING 1e-6
/* Of the rows, that Monte Carlo may answer right less often than the MAP model. */
#define ACCURACY_SLACK 0.005

void la_selection_scales(double *scales) {
    for (int i = 0; i < LA_SELECTION_SCALES; i++)
        scales[i] = pow(10, -2 + 0.25 * i);
}

void la_selection_temperatures(double scaling, double *temperatures) {
    temperatures[0] = 1;
    for (int i = 1; i < TEMPERATURES; i++)
        temperatures[i] = scaling * pow(TEMPERATURE_STEP, 5 - i);
}

/* What every setting made of every row. */
typedef struct table {
    const la_held_out *rows;
    float *nll[2];      /* [n_scales, TEMPERATURES, n] of Monte Carlo and of the scalar probit */
    bool *right;        /* likewise, of Monte Carlo */
    bool *map_right;    /* [n] of the MAP model */
    double *base;       /* [2, n] nll of the MAP model and of temperature scaling */
    int64_t n_right;    /* of the MAP model */
    double temperature; /* of temperature scaling */
    double temperatures[TEMPERATURES];
} table;

static int64_t argmax(int64_t n, const float *values) {
    int64_t best = 0;
    for (int64_t c = 1; c < n; c++)
        best = values[c] > values[best] ? c : best;
    return best;
}

/* ---- the grid ---- */

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
    double shrink = 1 / sqrt(temperature * temperature + M_PI / 8 * variance);
    double top = centre[0], sum = 0;
    for (int64_t k = 1; k < c; k++)
        top = centre[k] > top ? centre[k] : top;
    for (int64_t k = 0; k < c; k++)
        sum += exp((centre[k] - top) * shrink);
    return log(sum) - (centre[label] - top) * shrink;
}

typedef struct workspace {
    double *centre, *spread, *factor, *p; /* [C], [C, C-1], [(C-1)^2], [C] */
    float *draws, *normals, *e, *logits;  /* [DRAWS, C], [PAIRS, C-1], [C], [C] */
} workspace;

/* All settings of a row. */
static void try_row(table *t, const double *basis, int64_t i, workspace *w) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, m = c - 1, label = rows->labels[i];
    double normals[2];
    for (int64_t j = 0; j < PAIRS * m; j += 2) {
        int64_t n = PAIRS * m - j < 2 ? 1 : 2;
        la_random_normal(SEED, rows->streams[i], (uint64_t)j, (size_t)n, normals);
        w->normals[j] = (float)normals[0];
        if (n == 2)
            w->normals[j + 1] = (float)normals[1];
    }
    for (int64_t g = 0; g < rows->n_scales; g++) {
        la_predict_gaussian(c, rows->logits + i * c, basis, rows->cov + (g * rows->n + i) * m * m,
                            w->factor, w->centre, w->spread);
        double trace = 0;
        for (int64_t k = 0; k < m; k++)
            trace += rows->cov[(g * rows->n + i) * m * m + k * m + k];
        double variance = la_pair_variance(c, trace);
        for (int64_t k = 0; k < c; k++)
            w->logits[k] = (float)w->centre[k];
        for (int s = 0; s < PAIRS; s++)
            for (int64_t k = 0; k < c; k++) {
                float d = 0;
                for (int64_t j = 0; j < m; j++)
                    d += (float)w->spread[k * m + j] * w->normals[s * m + j];
                w->draws[2 * s * c + k] = d;
                w->draws[(2 * s + 1) * c + k] = -d;
            }
        for (int u = 0; u < TEMPERATURES; u++) {
            size_t at = (size_t)((g * TEMPERATURES + u) * rows->n + i);
            mean_softmax(c, w->logits, w->draws, (float)(1 / t->temperatures[u]), w->e, w->p);
            int64_t best = 0;
            for (int64_t k = 1; k < c; k++)
                best = w->p[k] > w->p[best] ? k : best;
            /* the draws resolve nothing rarer */
            double p = w->p[label] > 1e-30 ? w->p[label] : 1e-30;
            t->nll[0][at] = (float)-log(p);
            t->right[at] = best == label;
            t->nll[1][at] = (float)scalar_nll(c, w->centre, variance, t->temperatures[u], label);
        }
    }
}

static la_status try_all(table *t, la_error *err) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, m = c - 1, threads = la_threads_count();
    int64_t doubles = 2 * c + c * m + m * m, floats = DRAWS * c + PAIRS * m + 2 * c + 2;
    double *basis = la_alloc((size_t)(c * m), sizeof *basis, err);
    double *numbers = la_alloc((size_t)(threads * doubles), sizeof *numbers, err);
    float *singles = la_alloc((size_t)(threads * floats), sizeof *singles, err);
    if (err->status == LA_OK) {
        la_contrast_basis(c, basis);
#pragma omp parallel for schedule(dynamic, 8)
        for (int64_t i = 0; i < rows->n; i++) {
            double *d = numbers + doubles * la_thread_number();
            float *f = singles + floats * la_thread_number();
            workspace w = {.centre = d,
                           .p = d + c,
                           .spread = d + 2 * c,
                           .factor = d + 2 * c + c * m,
                           .draws = f,
                           .normals = f + DRAWS * c,
                           .e = f + DRAWS * c + PAIRS * m,
                           .logits = f + DRAWS * c + PAIRS * m + c};
            try_row(t, basis, i, &w);
        }
    }
    free(basis);
    free(numbers);
    free(singles);
    return err->status;
}

/* ---- choosing ---- */

/* A method's numbers that are chosen, and which table its rows are in. */
typedef struct method_info {
    int chosen;
    bool laplace, scalar, tempered;
} method_info;

static const method_info methods[LA_METHODS] = {
    [LA_METHOD_MAP] = {0},
    [LA_METHOD_TEMPERATURE] = {.chosen = 1},
    [LA_METHOD_LAPLACE] = {.chosen = 1, .laplace = true},
    [LA_METHOD_SCALAR] = {.chosen = 1, .laplace = true, .scalar = true},
    [LA_METHOD_TEMPERED] = {.chosen = 2, .laplace = true, .tempered = true},
    [LA_METHOD_TEMPERED_SCALAR] = {.chosen = 2, .laplace = true, .scalar = true, .tempered = true},
};

typedef struct setting {
    int64_t scale;
    int temperature;
} setting;

static int64_t cell(const table *t, setting s) {
    return (s.scale * TEMPERATURES + s.temperature) * t->rows->n;
}

static double row_nll(const table *t, int method, setting s, int64_t i) {
    if (!methods[method].laplace)
        return t->base[(method == LA_METHOD_TEMPERATURE ? t->rows->n : 0) + i];
    return (double)t->nll[methods[method].scalar][cell(t, s) + i];
}

static double mean_nll(const table *t, int method, setting s) {
    double sum = 0;
    for (int64_t i = 0; i < t->rows->n; i++)
        sum += row_nll(t, method, s, i);
    return sum / (double)t->rows->n;
}

/* How many rows a method answers right; *admitted: not fewer than the MAP model by more than chance
 * (the standard error of the count of rows where they differ) or than a two-hundredth. */
static int64_t right_of(const table *t, int method, setting s, bool *admitted) {
    int64_t n = t->rows->n, right = 0, differ = 0;
    *admitted = true;
    if (!methods[method].laplace || methods[method].scalar)
        return t->n_right;
    const bool *own = t->right + cell(t, s);
    for (int64_t i = 0; i < n; i++) {
        right += own[i];
        differ += own[i] != t->map_right[i];
    }
    double lost = (double)(t->n_right - right);
    *admitted = lost <= sqrt((double)differ) && lost <= ACCURACY_SLACK * (double)n;
    return right;
}

/* Fills the candidate; its nll is NaN when no setting is admitted. */
static void best_setting(const table *t, int method, setting *best, la_candidate *to) {
    const la_held_out *rows = t->rows;
    const method_info *info = &methods[method];
    *to = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
    *best = (setting){0, 0};
    for (int64_t g = 0; g < (info->laplace ? rows->n_scales : 1); g++)
        for (int u = 0; u < TEMPERATURES; u++) {
            setting s = {g, u};
            if (!info->tempered && u)
                continue;
            double nll = mean_nll(t, method, s);
            bool admitted;
            int64_t right = right_of(t, method, s, &admitted);
            if (nll >= to->nll || !admitted)
                continue;
            *best = s;
            to->nll = nll;
            to->accuracy = (double)right / (double)rows->n;
        }
    if (info->laplace)
        to->prior_scale = rows->scales[best->scale];
    to->temperature =
        method == LA_METHOD_TEMPERATURE ? t->temperature : t->temperatures[best->temperature];
}

static void base_rows(table *t) {
    const la_held_out *rows = t->rows;
    int64_t n = rows->n, c = rows->n_classes;
    for (int64_t i = 0; i < n; i++) {
        const float *f = rows->logits + i * c;
        double top = (double)f[argmax(c, f)], sum = 0;
        for (int64_t k = 0; k < c; k++)
            sum += exp(((double)f[k] - top) / t->temperature);
        t->base[i] = -la_log_likelihood(c, f, rows->labels[i]);
        t->base[n + i] = log(sum) - ((double)f[rows->labels[i]] - top) / t->temperature;
        t->map_right[i] = argmax(c, f) == rows->labels[i];
        t->n_right += t->map_right[i];
    }
}

/* How much worse than the best a candidate is, and the standard error of that. */
static void compare(const table *t, int method, setting s, int best, setting of_best,
                    la_candidate *to) {
    double n = (double)t->rows->n, sum = 0, square = 0;
    for (int64_t i = 0; i < t->rows->n; i++) {
        double gap = row_nll(t, method, s, i) - row_nll(t, best, of_best, i);
        sum += gap;
        square += gap * gap;
    }
    to->gap = sum / n;
    double variance = square / n - to->gap * to->gap;
    to->gap_error = sqrt((variance > 0 ? variance : 0) / (n > 1 ? n - 1 : 1));
}

/* Numbers that are chosen on the rows look better there than they are: by half a unit of log
 * likelihood each, and half a unit they cost on others (Akaike). */
static double charged(const la_choice *choice, int method) {
    return choice->candidates[method].nll + (double)methods[method].chosen / (double)choice->n;
}

static void choose(const table *t, la_choice *choice) {
    setting settings[LA_METHODS];
    la_candidate *all = choice->candidates;
    int best = LA_METHOD_MAP, least = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++) {
        best_setting(t, k, &settings[k], &all[k]);
        best = all[k].nll < all[best].nll ? k : best;
    }
    for (int k = 0; k < LA_METHODS; k++) {
        if (!isfinite(all[k].nll))
            continue;
        compare(t, k, settings[k], best, settings[best], &all[k]);
        least = charged(choice, k) < charged(choice, least) ? k : least;
    }
    choice->method = (la_method)least;
    if (all[LA_METHOD_MAP].gap <= all[LA_METHOD_MAP].gap_error + ROUNDING)
        choice->method = LA_METHOD_MAP;
}

la_status la_select(const la_held_out *rows, la_choice *choice, la_error *err) {
    size_t cells = (size_t)(rows->n_scales * TEMPERATURES * rows->n);
    table t = {.rows = rows};
    *choice = (la_choice){.n = rows->n};
    t.nll[0] = la_alloc(2 * cells, sizeof(float), err);
    t.right = la_alloc(cells, sizeof *t.right, err);
    t.map_right = la_alloc((size_t)rows->n, sizeof *t.map_right, err);
    t.base = la_alloc((size_t)(2 * rows->n), sizeof *t.base, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_temperature_scaling_fit(rows->n, rows->n_classes, rows->logits, rows->labels,
                                            &t.temperature, err);
    if (status == LA_OK) {
        t.nll[1] = t.nll[0] + cells;
        la_selection_temperatures(t.temperature, t.temperatures);
        status = try_all(&t, err);
    }
    if (status == LA_OK) {
        base_rows(&t);
        choose(&t, choice);
        choice->guarded = 1;
    }
    free(t.nll[0]);
    free(t.right);
    free(t.map_right);
    free(t.base);
    return status;
}

la_method la_choice_laplace(const la_choice *choice) {
    int least = LA_METHOD_TEMPERED_SCALAR; /* keeps all answers: always there */
    for (int k = 0; k < LA_METHODS; k++)
        if (methods[k].laplace && charged(choice, k) < charged(choice, least))
            least = k;
    return (la_method)least;
}
