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
enum { PAIRS = 128, DRAWS = 2 * PAIRS, TEMPERATURES = 18, UNIT_TEMPERATURE = 8 };
#define TEMPERATURE_STEP 1.15
#define SEED 0x5e1ec7

void la_selection_scales(double *scales) {
    for (int i = 0; i < LA_SELECTION_SCALES; i++)
        scales[i] = pow(10, -2 + 0.25 * i);
}

static double temperature_at(int i) {
    return pow(TEMPERATURE_STEP, i - UNIT_TEMPERATURE);
}

/* What every setting made of every row. */
typedef struct table {
    const la_held_out *rows;
    float *nll;      /* [n_scales, TEMPERATURES, n] */
    bool *right;     /* likewise */
    double *base;    /* [2, n] nll of the MAP model and of temperature scaling */
    int64_t n_right; /* of the MAP model */
    double temperature;
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
            mean_softmax(c, w->logits, w->draws, (float)(1 / temperature_at(u)), w->e, w->p);
            int64_t best = 0;
            for (int64_t k = 1; k < c; k++)
                best = w->p[k] > w->p[best] ? k : best;
            /* the draws resolve nothing rarer */
            double p = w->p[label] > 1e-30 ? w->p[label] : 1e-30;
            t->nll[at] = (float)-log(p);
            t->right[at] = best == label;
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

typedef struct setting {
    int64_t scale;
    int temperature;
} setting;

static const float *nll_of(const table *t, setting s) {
    return t->nll + (s.scale * TEMPERATURES + s.temperature) * t->rows->n;
}

static double mean_of(int64_t n, const float *values) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)values[i];
    return sum / (double)n;
}

static double accuracy_of(const table *t, setting s) {
    const bool *right = t->right + (s.scale * TEMPERATURES + s.temperature) * t->rows->n;
    int64_t n = 0;
    for (int64_t i = 0; i < t->rows->n; i++)
        n += right[i];
    return (double)n / (double)t->rows->n;
}

/* The best Laplace setting that answers as many rows right as the MAP model; false: none does. */
static bool best_setting(const table *t, bool tempered, setting *best) {
    double least = INFINITY, needed = (double)t->n_right / (double)t->rows->n;
    for (int64_t g = 0; g < t->rows->n_scales; g++)
        for (int u = 0; u < TEMPERATURES; u++) {
            setting s = {g, u};
            if (!tempered && u != UNIT_TEMPERATURE)
                continue;
            double nll = mean_of(t->rows->n, nll_of(t, s));
            if (nll < least && accuracy_of(t, s) >= needed) {
                least = nll;
                *best = s;
            }
        }
    return isfinite(least);
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
        t->n_right += argmax(c, f) == rows->labels[i];
    }
}

static double row_nll(const table *t, la_method method, setting s, int64_t i) {
    if (method == LA_METHOD_MAP || method == LA_METHOD_TEMPERATURE)
        return t->base[(method == LA_METHOD_TEMPERATURE ? t->rows->n : 0) + i];
    return (double)nll_of(t, s)[i];
}

static void choose(const table *t, la_choice *choice) {
    const la_held_out *rows = t->rows;
    double n = (double)rows->n;
    setting settings[LA_METHODS] = {{0}};
    bool valid[LA_METHODS] = {[LA_METHOD_MAP] = true, [LA_METHOD_TEMPERATURE] = true};
    valid[LA_METHOD_LAPLACE] = best_setting(t, false, &settings[LA_METHOD_LAPLACE]);
    valid[LA_METHOD_TEMPERED] = best_setting(t, true, &settings[LA_METHOD_TEMPERED]);
    int best = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++) {
        la_candidate *to = &choice->candidates[k];
        bool laplace = k >= LA_METHOD_LAPLACE;
        *to = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
        if (!valid[k])
            continue;
        to->accuracy = laplace ? accuracy_of(t, settings[k]) : (double)t->n_right / n;
        if (laplace)
            to->prior_scale = rows->scales[settings[k].scale];
        if (k == LA_METHOD_TEMPERATURE)
            to->temperature = t->temperature;
        if (k == LA_METHOD_TEMPERED)
            to->temperature = temperature_at(settings[k].temperature);
        double sum = 0;
        for (int64_t i = 0; i < rows->n; i++)
            sum += row_nll(t, (la_method)k, settings[k], i);
        to->nll = sum / n;
        if (to->nll < choice->candidates[best].nll)
            best = k;
    }
    choice->method = (la_method)best;
    for (int k = LA_METHODS - 1; k >= 0; k--) {
        la_candidate *to = &choice->candidates[k];
        double sum = 0, square = 0;
        if (!valid[k])
            continue;
        for (int64_t i = 0; i < rows->n; i++) {
            double gap = row_nll(t, (la_method)k, settings[k], i) -
                         row_nll(t, (la_method)best, settings[best], i);
            sum += gap;
            square += gap * gap;
        }
        to->gap = sum / n;
        double variance = square / n - to->gap * to->gap;
        to->gap_error = sqrt((variance > 0 ? variance : 0) / (n > 1 ? n - 1 : 1));
        if (k < best && to->gap <= to->gap_error)
            choice->method = (la_method)k;
    }
}

la_status la_select(const la_held_out *rows, la_choice *choice, la_error *err) {
    size_t cells = (size_t)(rows->n_scales * TEMPERATURES * rows->n);
    table t = {.rows = rows};
    *choice = (la_choice){.n = rows->n};
    t.nll = la_alloc(cells, sizeof *t.nll, err);
    t.right = la_alloc(cells, sizeof *t.right, err);
    t.base = la_alloc((size_t)(2 * rows->n), sizeof *t.base, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_temperature_scaling_fit(rows->n, rows->n_classes, rows->logits, rows->labels,
                                            &t.temperature, err);
    if (status == LA_OK)
        status = try_all(&t, err);
    if (status == LA_OK) {
        base_rows(&t);
        choose(&t, choice);
        choice->guarded = true;
    }
    free(t.nll);
    free(t.right);
    free(t.base);
    return status;
}
