#include "likelihood/selection.h"
#include "base/fast_math.h"
#include "base/memory.h"
#include "base/random.h"
#include "likelihood/scaling.h"
#include "likelihood/average.h"
#include "likelihood/signs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Draws come in pairs z, -z: the means of the pairs are exact to second order. */
enum { PAIRS = 128, DRAWS = 2 * PAIRS, TEMPERATURES = LA_SELECTION_TEMPERATURES };
#define TEMPERATURE_STEP 1.15
#define SEED 0x5e1ec7
/* Likelihoods that are nearer than this are equal: they are kept in f32. */
#define ROUNDING 1e-6
/* Share of the rows that Monte Carlo may get wrong beyond the MAP model's errors. */
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

/* Likelihoods of every row under every setting. */
typedef struct table {
    la_team team;
    const la_held_out *rows;
    int64_t n_grid;  /* scales times temperatures */
    float *nll;      /* [n_all, n]: a grid of Monte Carlo, one of the scalar probit, and a row of
                           temperatures without covariance, the first of them the MAP model */
    bool *right;     /* [n_grid, n] of Monte Carlo */
    bool *map_right; /* [n] of the MAP model */
    double *base;    /* [3, n] nll of the MAP model, of temperature scaling and of the average */
    int64_t n_right; /* rows that the MAP model has right */
    la_average_list list;
    bool *list_right;   /* [n] of its mean */
    double temperature; /* temperature scaling's own */
    double temperatures[TEMPERATURES];
} table;

static int64_t n_all(const table *t) {
    return 2 * t->n_grid + TEMPERATURES;
}

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
    double shrink = la_probit_shrink(temperature, variance);
    double top = centre[0], sum = 0;
    for (int64_t k = 1; k < c; k++)
        top = centre[k] > top ? centre[k] : top;
    for (int64_t k = 0; k < c; k++)
        sum += exp((centre[k] - top) * shrink);
    return log(sum) - (centre[label] - top) * shrink;
}

typedef struct workspace {
    double *centre, *spread, *factor, *p, *mean; /* [C], [C, C-1], [(C-1)^2], [C], [C] */
    float *draws, *normals, *e, *logits;         /* [DRAWS, C], [PAIRS, C-1], [C], [C] */
} workspace;

/* The normals of a row, the same under every setting. */
static void draw_normals(const table *t, int64_t i, workspace *w) {
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

/* The row's Gaussian under a scale: centre, logits and draws about them; returns its pair variance.
 */
static double set_scale(const table *t, const double *basis, int64_t i, int64_t g, workspace *w) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, m = c - 1;
    const double *cov = rows->cov + (g * rows->n + i) * m * m;
    double trace = 0;
    la_draw_gaussian(c, rows->logits + i * c, basis, cov, w->factor, w->centre, w->spread);
    for (int64_t k = 0; k < m; k++)
        trace += cov[k * m + k];
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
    return la_pair_variance(c, trace);
}

static int64_t top_of(int64_t n, const double *values) {
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        best = values[k] > values[best] ? k : best;
    return best;
}

/* All settings of a row. */
static void try_row(table *t, const double *basis, int64_t i, workspace *w) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, label = rows->labels.classes[i];
    float *mc = t->nll, *scalar = mc + t->n_grid * rows->n, *plain = scalar + t->n_grid * rows->n;
    draw_normals(t, i, w);
    for (int64_t g = 0; g < rows->n_scales; g++) {
        double variance = set_scale(t, basis, i, g, w);
        for (int u = 0; u < TEMPERATURES; u++) {
            int64_t at = (g * TEMPERATURES + u) * rows->n + i;
            mean_softmax(c, w->logits, w->draws, (float)(1 / t->temperatures[u]), w->e, w->p);
            /* the draws resolve nothing rarer */
            double p = w->p[label] > 1e-30 ? w->p[label] : 1e-30;
            mc[at] = (float)-log(p);
            t->right[at] = top_of(c, w->p) == label;
            scalar[at] = (float)scalar_nll(c, w->centre, variance, t->temperatures[u], label);
        }
    }
    for (int u = 0; u < TEMPERATURES; u++)
        plain[u * rows->n + i] = (float)scalar_nll(c, w->centre, 0, t->temperatures[u], label);
}

/* Work on a row. */
typedef void (*row_job)(table *t, const double *basis, int64_t i, workspace *w);

static la_status each_row(table *t, row_job job, la_error *err) {
    const la_held_out *rows = t->rows;
    int64_t c = rows->n_classes, m = c - 1;
    int64_t doubles = 3 * c + c * m + m * m, floats = DRAWS * c + PAIRS * m + 2 * c + 2;
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
                           .spread = d + 3 * c,
                           .factor = d + 3 * c + c * m,
                           .draws = f,
                           .normals = f + DRAWS * c,
                           .e = f + DRAWS * c + PAIRS * m,
                           .logits = f + DRAWS * c + PAIRS * m + c};
            job(t, basis, i, &w);
        }
    }
    free(basis);
    free(numbers.memory);
    free(singles.memory);
    return err->status;
}

/* ---- choosing ---- */

const char *const la_method_names[LA_METHODS] = {"map",
                                                 "temperature",
                                                 "laplace",
                                                 "laplace-scalar",
                                                 "laplace+temperature",
                                                 "laplace-scalar+temperature",
                                                 "average"};

/* A method's numbers that are chosen, and which table its rows are in. */
typedef struct method_info {
    const char *predictive;
    int chosen, base;
    bool laplace, scalar, tempered;
} method_info;

static const method_info methods[LA_METHODS] = {
    [LA_METHOD_MAP] = {"map"},
    [LA_METHOD_AVERAGE] = {LA_AVERAGE_NAME, .base = 2},
    [LA_METHOD_TEMPERATURE] = {"temperature", .chosen = 1, .base = 1},
    [LA_METHOD_LAPLACE] = {"mc", .chosen = 1, .laplace = true},
    [LA_METHOD_SCALAR] = {"scalar", .chosen = 1, .laplace = true, .scalar = true},
    [LA_METHOD_TEMPERED] = {"mc", .chosen = 2, .laplace = true, .tempered = true},
    [LA_METHOD_TEMPERED_SCALAR] = {"scalar", .chosen = 2, .laplace = true, .scalar = true,
                                   .tempered = true},
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
        return t->base[methods[method].base * t->rows->n + i];
    return (double)t->nll[methods[method].scalar * t->n_grid * t->rows->n + cell(t, s) + i];
}

static double mean_nll(const table *t, int method, setting s) {
    double sum = 0;
    for (int64_t i = 0; i < t->rows->n; i++)
        sum += row_nll(t, method, s, i);
    return sum / (double)t->rows->n;
}

/* Number of own[n] that are right; *admitted: not fewer than the MAP model's by more than chance
 * (the standard error of the count of rows where they differ) or than a two-hundredth. */
static int64_t count_right(const table *t, const bool *own, bool *admitted) {
    int64_t n = t->rows->n, right = 0, differ = 0;
    for (int64_t i = 0; i < n; i++) {
        right += own[i];
        differ += own[i] != t->map_right[i];
    }
    double lost = (double)(t->n_right - right);
    *admitted = lost <= sqrt((double)differ) && lost <= ACCURACY_SLACK * (double)n;
    return right;
}

/* Right rows of a method's setting; all but Monte Carlo keep the MAP model's predictions. */
static int64_t right_of(const table *t, int method, setting s, bool *admitted) {
    *admitted = true;
    if (!methods[method].laplace || methods[method].scalar)
        return t->n_right;
    return count_right(t, t->right + cell(t, s), admitted);
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
        la_label label = {.kind = LA_LABEL_CLASS, .class = rows->labels.classes[i]};
        t->base[i] = -la_softmax_likelihood.log_likelihood(c, f, label);
        t->base[n + i] = log(sum) - ((double)f[rows->labels.classes[i]] - top) / t->temperature;
        t->map_right[i] = argmax(c, f) == rows->labels.classes[i];
        t->n_right += t->map_right[i];
    }
}

/* Mean distance of a candidate from the best, and its standard error. */
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
    setting settings[LA_METHODS] = {{0}};
    la_candidate *all = choice->candidates;
    int best = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++) {
        if (k != LA_METHOD_AVERAGE)
            best_setting(t, k, &settings[k], &all[k]);
        best = all[k].nll < all[best].nll ? k : best;
    }
    for (int k = 0; k < LA_METHODS; k++)
        if (isfinite(all[k].nll))
            compare(t, k, settings[k], best, settings[best], &all[k]);
    choice->method = la_choice_single(choice);
    if (isfinite(all[LA_METHOD_AVERAGE].nll))
        choice->method = LA_METHOD_AVERAGE;
    if (all[LA_METHOD_MAP].gap <= all[LA_METHOD_MAP].gap_error + ROUNDING)
        choice->method = LA_METHOD_MAP;
}

/* ---- averaging ---- */

/* The family that a setting of the tables belongs to, whatever its temperature. */
static la_method family_of(const table *t, int64_t number) {
    if (number >= 2 * t->n_grid)
        return number == 2 * t->n_grid ? LA_METHOD_MAP : LA_METHOD_TEMPERATURE;
    return number >= t->n_grid ? LA_METHOD_SCALAR : LA_METHOD_LAPLACE;
}

static setting setting_of(const table *t, int64_t number) {
    int64_t in_grid = number % t->n_grid;
    return (setting){in_grid / TEMPERATURES, (int)(in_grid % TEMPERATURES)};
}

/* Every family has the same mass, spread evenly over its settings that are admitted. */
static void set_prior(const table *t, double *prior) {
    int64_t counts[LA_METHODS] = {0};
    for (int64_t s = 0; s < n_all(t); s++) {
        bool admitted;
        right_of(t, family_of(t, s), setting_of(t, s), &admitted);
        prior[s] = admitted;
        counts[family_of(t, s)] += admitted;
    }
    for (int64_t s = 0; s < n_all(t); s++)
        if (prior[s] > 0)
            prior[s] = 1 / (double)counts[family_of(t, s)];
}

/* probabilities p[C] of a row under a setting of the list */
static void list_probs(const table *t, const double *basis, int64_t i, int64_t number,
                       workspace *w) {
    int64_t c = t->rows->n_classes;
    setting s = setting_of(t, number);
    double temperature = t->temperatures[s.temperature], variance = 0, sum = 0;
    /* any scale has the centre */
    double of_scale = set_scale(t, basis, i, number < 2 * t->n_grid ? s.scale : 0, w);
    if (number < t->n_grid) {
        mean_softmax(c, w->logits, w->draws, (float)(1 / temperature), w->e, w->p);
        return;
    }
    if (number < 2 * t->n_grid)
        variance = of_scale;
    double shrink = la_probit_shrink(temperature, variance);
    double top = w->centre[top_of(c, w->centre)];
    for (int64_t k = 0; k < c; k++)
        sum += w->p[k] = exp((w->centre[k] - top) * shrink);
    for (int64_t k = 0; k < c; k++)
        w->p[k] /= sum;
}

static void average_row(table *t, const double *basis, int64_t i, workspace *w) {
    int64_t c = t->rows->n_classes;
    memset(w->mean, 0, (size_t)c * sizeof *w->mean);
    draw_normals(t, i, w);
    for (int64_t j = 0; j < t->list.n; j++) {
        list_probs(t, basis, i, t->list.setting[j], w);
        for (int64_t k = 0; k < c; k++)
            w->mean[k] += t->list.weight[j] * w->p[k];
    }
    t->list_right[i] = top_of(c, w->mean) == t->rows->labels.classes[i];
}

/* The list goes into the choice, the heaviest first. */
static void put_list(const table *t, la_choice *choice) {
    choice->n_settings = t->list.n;
    choice->shortening = t->list.difference;
    for (int64_t j = 0; j < t->list.n; j++) {
        la_method method = family_of(t, t->list.setting[j]);
        setting s = setting_of(t, t->list.setting[j]);
        la_setting one = {.method = method,
                          .prior_scale = methods[method].laplace ? t->rows->scales[s.scale] : 1,
                          .temperature = t->temperatures[s.temperature],
                          .weight = t->list.weight[j]};
        int64_t at = j;
        for (; at && choice->settings[at - 1].weight < one.weight; at--)
            choice->settings[at] = choice->settings[at - 1];
        choice->settings[at] = one;
    }
}

/* The average's likelihood, its list and how many rows that answers right; none when those are too
 * few. */
static la_status average(table *t, double *prior, la_choice *choice, la_error *err) {
    int64_t n = t->rows->n;
    double *weights = prior + n_all(t), *nll = t->base + methods[LA_METHOD_AVERAGE].base * n;
    la_average_table all = {.n_settings = n_all(t), .n = n, .nll = t->nll, .prior = prior};
    la_candidate *own = &choice->candidates[LA_METHOD_AVERAGE];
    *own = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
    set_prior(t, prior);
    la_average_weights(&all, weights);
    la_average_left_out(&all, weights, nll);
    LA_TRY(la_average_shorten(&all, weights, LA_SETTINGS_MOST, &t->list, err));
    LA_TRY(each_row(t, average_row, err));
    bool admitted;
    int64_t right = count_right(t, t->list_right, &admitted);
    if (!admitted)
        return LA_OK;
    own->nll = mean_nll(t, LA_METHOD_AVERAGE, (setting){0});
    own->accuracy = (double)right / (double)n;
    put_list(t, choice);
    return LA_OK;
}

static la_status add_average(table *t, la_choice *choice, la_error *err) {
    double *prior = la_alloc((size_t)(2 * n_all(t)), sizeof *prior, err);
    t->list.setting = la_alloc(LA_SETTINGS_MOST, sizeof *t->list.setting, err);
    t->list.weight = la_alloc(LA_SETTINGS_MOST, sizeof *t->list.weight, err);
    t->list_right = la_alloc((size_t)t->rows->n, sizeof *t->list_right, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = average(t, prior, choice, err);
    free(prior);
    free(t->list.setting);
    free(t->list.weight);
    free(t->list_right);
    return status;
}

la_status la_select_class(la_team team, const la_held_out *rows, la_choice *choice, la_error *err) {
    table t = {.team = team, .rows = rows, .n_grid = rows->n_scales * TEMPERATURES};
    size_t n = (size_t)rows->n;
    *choice = (la_choice){.n = rows->n};
    t.nll = la_alloc((size_t)n_all(&t) * n, sizeof *t.nll, err);
    t.right = la_alloc((size_t)t.n_grid * n, sizeof *t.right, err);
    t.map_right = la_alloc(n, sizeof *t.map_right, err);
    t.base = la_alloc(3 * n, sizeof *t.base, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_temperature_scaling_fit(rows->n, rows->n_classes, rows->logits,
                                            rows->labels.classes, &t.temperature, err);
    if (status == LA_OK) {
        la_selection_temperatures(t.temperature, t.temperatures);
        status = each_row(&t, try_row, err);
    }
    if (status == LA_OK) {
        base_rows(&t);
        status = add_average(&t, choice, err);
    }
    if (status == LA_OK) {
        choose(&t, choice);
        choice->guarded = 1;
        la_warn_biased(rows, choice);
    }
    free(t.nll);
    free(t.right);
    free(t.map_right);
    free(t.base);
    return status;
}

const char *la_candidate_lacks(const la_candidate *candidate) {
    return isnan(candidate->accuracy) ? "accuracy" : NULL;
}

la_method la_choice_single(const la_choice *choice) {
    int least = LA_METHOD_MAP;
    for (int k = 0; k < LA_METHODS; k++)
        if (k != LA_METHOD_AVERAGE && charged(choice, k) < charged(choice, least))
            least = k;
    return (la_method)least;
}

la_method la_choice_laplace(const la_choice *choice) {
    int least = LA_METHOD_TEMPERED_SCALAR; /* keeps all answers: always there, of classes */
    for (int k = 0; k < LA_METHODS; k++)
        if (methods[k].laplace && isfinite(choice->candidates[k].nll) &&
            !(charged(choice, k) >= charged(choice, least)))
            least = k;
    return (la_method)least;
}

const char *la_method_predictive(la_method method) {
    return methods[method].predictive;
}

int64_t la_choice_recipes(const la_likelihood *likelihood, const la_choice *choice,
                          la_method method, la_recipe *recipes) {
    const la_candidate *own = &choice->candidates[method];
    la_setting single = {.method = method,
                         .prior_scale = own->prior_scale,
                         .temperature = own->temperature,
                         .weight = 1};
    bool average = method == LA_METHOD_AVERAGE;
    const la_setting *settings = average ? choice->settings : &single;
    int64_t n = average ? choice->n_settings : 1;
    for (int64_t s = 0; s < n; s++)
        recipes[s] =
            (la_recipe){.kind = la_predictive_find(likelihood->predictives,
                                                   la_method_predictive(settings[s].method)),
                        .prior_scale = settings[s].prior_scale,
                        .temperature = settings[s].temperature,
                        .weight = settings[s].weight};
    return n;
}

la_choice_summary la_choice_summarise(const la_choice *choice, const la_choice *record) {
    const la_candidate *own = &choice->candidates[choice->method];
    const la_candidate *map = &choice->candidates[LA_METHOD_MAP];
    if (!choice->guarded)
        return (la_choice_summary){.record = record};
    return (la_choice_summary){.method = la_method_names[choice->method],
                               .cross = choice->cross,
                               .n = choice->n,
                               .prior_scale = own->prior_scale,
                               .temperature = own->temperature,
                               .nll = own->nll,
                               .accuracy = own->accuracy,
                               .map_nll = map->nll,
                               .map_accuracy = map->accuracy,
                               .record = record};
}
