#include "baselines/distilled.h"
#include "base/blas.h"
#include "base/memory.h"
#include "baselines/principal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    OUTPUT_FEATURES = 5,
    STATE_FEATURES = 3,
    ROWS_A_DIRECTION = 12, /* a direction for so many rows */
    ROWS_A_FEATURE = 10,   /* features of each class where there are so many rows for each */
    DIRECTION_ROWS = 1024  /* that the directions are of, evenly from all */
};

/* Penalties that are tried. */
static const double penalties[] = {0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000};
enum { PENALTIES = sizeof penalties / sizeof *penalties };

/* How far beyond the range that was seen a prediction goes, in units of log tr cov. */
#define BEYOND 1.0

int64_t la_distilled_width(int64_t m, int64_t rank, bool each_class) {
    return OUTPUT_FEATURES + (each_class ? 2 * m : 0) + rank + STATE_FEATURES;
}

int64_t la_distilled_find(const la_distilled *d, double scale) {
    for (int64_t g = 0; g < d->n_scales; g++)
        if (fabs(d->scales[g] / scale - 1) < 1e-9)
            return g;
    return -1;
}

/* ---- features ---- */

static double entropy_of(double p) {
    return p > 0 ? -p * log(p) : 0;
}

/* x: those of the outputs, then, where they are wanted, probabilities and outputs of the first m
 * classes; returns the end. Outputs of one class a row (m < C) count less their mean; others, and
 * numbers, as they are. */
static double *output_features(const la_distilled *d, bool each_class, const float *outputs,
                               double *x) {
    int64_t c = d->n_outputs, m = d->n_contrasts;
    bool one = m < c;
    double mean = 0, top = -INFINITY, second = -INFINITY, nearest = INFINITY, sum = 0;
    for (int64_t k = 0; one && k < c; k++)
        mean += (double)outputs[k] / (double)c;
    double square = 0, entropy = 0;
    for (int64_t k = 0; k < c; k++) {
        double f = (double)outputs[k] - mean;
        square += f * f;
        nearest = fmin(nearest, fabs(f));
        second = f > top ? top : fmax(second, f);
        top = fmax(top, f);
    }
    for (int64_t k = 0; one && k < c; k++)
        sum += exp((double)outputs[k] - mean - top);
    for (int64_t k = 0; k < c; k++) {
        double f = (double)outputs[k] - mean;
        double p = one ? exp(f - top) / sum : 1 / (1 + exp(-f));
        entropy += entropy_of(p) + (one ? 0 : entropy_of(1 - p));
        if (each_class && k < m) {
            x[OUTPUT_FEATURES + k] = p;
            x[OUTPUT_FEATURES + m + k] = f;
        }
    }
    x[0] = entropy;
    x[1] = one ? top - second : nearest;
    x[2] = square;
    x[3] = log(square + 1e-6);
    x[4] = log(entropy + 1e-6);
    return x + OUTPUT_FEATURES + (each_class ? 2 * m : 0);
}

static void state_features(const la_distilled *d, const float *state, double *x) {
    double length = 0, distance = 0, inside = 0;
    for (int64_t i = 0; i < d->width; i++) {
        double s = (double)state[i], z = s - (double)d->mean[i];
        length += s * s;
        distance += z * z;
    }
    for (int64_t j = 0; j < d->rank; j++) {
        const float *direction = d->vectors + j * d->width;
        double dot = 0;
        for (int64_t i = 0; i < d->width; i++)
            dot += (double)direction[i] * ((double)state[i] - (double)d->mean[i]);
        x[j] = dot;
        inside += dot * dot * d->values[j];
    }
    double rest = distance - inside, least = 1e-9 * distance;
    x[d->rank] = log(length + 1e-12);
    x[d->rank + 1] = log(distance + 1e-12);
    x[d->rank + 2] = log((rest > least ? rest : least) + 1e-12);
}

void la_distilled_features(const la_distilled *d, const float *outputs, const float *state,
                           double *x) {
    bool each_class = d->n_features > la_distilled_width(d->n_contrasts, d->rank, false);
    state_features(d, state, output_features(d, each_class, outputs, x));
}

/* ---- use ---- */

static void isotropic(int64_t m, double log_trace, double *cov) {
    memset(cov, 0, (size_t)(m * m) * sizeof *cov);
    for (int64_t k = 0; k < m; k++)
        cov[k * m + k] = exp(log_trace) / (double)m;
}

static double within(const la_distilled *d, int64_t g, double log_trace) {
    return fmin(fmax(log_trace, d->least[g] - BEYOND), d->most[g] + BEYOND);
}

void la_distilled_cov(const la_distilled *d, int64_t scale, const double *x, double *cov) {
    const double *w = d->weights + scale * (d->n_features + 1);
    double log_trace = w[0];
    for (int64_t j = 0; j < d->n_features; j++)
        log_trace += w[1 + j] * (x[j] - d->centre[j]) / d->spread[j];
    isotropic(d->n_contrasts, within(d, scale, log_trace), cov);
}

/* ---- fit ---- */

static la_status allocate(const la_distilled_rows *rows, la_distilled *d, la_error *err) {
    int64_t m = rows->n_contrasts, rank = rows->n / ROWS_A_DIRECTION;
    rank = rank > LA_DISTILLED_RANK_MOST ? LA_DISTILLED_RANK_MOST : rank;
    rank = rank > rows->width ? rows->width : rank;
    rank = rank < 1 ? 1 : rank;
    *d = (la_distilled){.n_outputs = rows->n_outputs,
                        .n_contrasts = m,
                        .width = rows->width,
                        .rank = rank,
                        .n_scales = rows->n_scales};
    d->n_features = la_distilled_width(m, rank, rows->n >= 2 * m * ROWS_A_FEATURE);
    size_t features = (size_t)d->n_features, scales = (size_t)d->n_scales;
    d->mean = la_alloc((size_t)d->width, sizeof *d->mean, err);
    d->vectors = la_alloc((size_t)(rank * d->width), sizeof *d->vectors, err);
    d->values = la_alloc((size_t)rank, sizeof *d->values, err);
    d->centre = la_alloc(features, sizeof *d->centre, err);
    d->spread = la_alloc(features, sizeof *d->spread, err);
    d->scales = la_alloc(scales, sizeof *d->scales, err);
    d->weights = la_alloc(scales * (features + 1), sizeof *d->weights, err);
    d->least = la_alloc(scales, sizeof *d->least, err);
    d->most = la_alloc(scales, sizeof *d->most, err);
    if (err->status == LA_OK)
        memcpy(d->scales, rows->scales, scales * sizeof *d->scales);
    return err->status;
}

void la_distilled_free(la_distilled *d) {
    free(d->mean);
    free(d->vectors);
    free(d->values);
    free(d->centre);
    free(d->spread);
    free(d->scales);
    free(d->weights);
    free(d->least);
    free(d->most);
    *d = (la_distilled){0};
}

/* Mean and principal directions of the states, over the standard deviation along them. One along
 * which the states do not vary is 0. */
static la_status find_directions(la_team team, const la_distilled_rows *rows, la_distilled *d,
                                 la_error *err) {
    int64_t n = rows->n < DIRECTION_ROWS ? rows->n : DIRECTION_ROWS, width = d->width, rank = 0;
    la_principal among = {.n = n, .width = width, .states = rows->states, .means = d->mean};
    double *sum = la_alloc((size_t)width, sizeof *sum, err);
    int64_t *list = la_alloc((size_t)n, sizeof *list, err);
    for (int64_t i = 0; err->status == LA_OK && i < rows->n * width; i++)
        sum[i % width] += (double)rows->states[i];
    for (int64_t j = 0; err->status == LA_OK && j < width; j++)
        d->mean[j] = (float)(sum[j] / (double)rows->n);
    for (int64_t i = 0; err->status == LA_OK && i < n; i++)
        list[i] = i * rows->n / n;
    among.list = list;
    if (err->status == LA_OK && la_principal_find(team, &among, err) == LA_OK)
        while (rank < d->rank && rank < n && among.values[rank] > 1e-9 * among.values[0])
            rank++;
    if (rank)
        (void)la_principal_take(team, &among, rank, d->vectors, err);
    for (int64_t r = 0; r < rank; r++) {
        d->values[r] = among.values[r];
        for (int64_t j = 0; j < width; j++)
            d->vectors[r * width + j] /= (float)sqrt(among.values[r]);
    }
    la_principal_free(&among);
    free(list);
    free(sum);
    return err->status;
}

/* x[n, F + 1]: ones and the standardised features. One that does not vary is 0. */
static void design(const la_distilled_rows *rows, la_distilled *d, double *x) {
    int64_t n = rows->n, f = d->n_features;
    for (int64_t i = 0; i < n; i++) {
        x[i * (f + 1)] = 1;
        la_distilled_features(d, rows->outputs + i * d->n_outputs, rows->states + i * d->width,
                              x + i * (f + 1) + 1);
    }
    for (int64_t j = 0; j < f; j++) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < n; i++)
            mean += x[i * (f + 1) + 1 + j] / (double)n;
        for (int64_t i = 0; i < n; i++)
            square += pow(x[i * (f + 1) + 1 + j] - mean, 2) / (double)n;
        double spread = sqrt(square);
        d->centre[j] = mean;
        d->spread[j] = spread > 1e-9 * (fabs(mean) + 1e-3) ? spread : INFINITY;
        for (int64_t i = 0; i < n; i++)
            x[i * (f + 1) + 1 + j] = (x[i * (f + 1) + 1 + j] - mean) / d->spread[j];
        d->spread[j] = isinf(d->spread[j]) ? DBL_MAX : d->spread[j];
    }
}

typedef struct regression {
    int64_t n, p;       /* rows, features with the intercept */
    const double *x;    /* [n, p] */
    double *normal;     /* [p, p] x^T x, and its factor under a penalty */
    double *factor, *t; /* [p, p]; [n, p] x L^-T */
    double *leverage;   /* [n] */
} regression;

/* Factor of x^T x + penalty I (the intercept free), t and the leverages. */
static bool set_penalty(regression *r, double penalty) {
    int64_t p = r->p;
    memcpy(r->factor, r->normal, (size_t)(p * p) * sizeof *r->factor);
    for (int64_t j = 0; j < p; j++)
        r->factor[j * p + j] += j ? penalty : 1e-9 * (double)r->n;
    if (la_dpotrf(p, r->factor))
        return false;
    memcpy(r->t, r->x, (size_t)(r->n * p) * sizeof *r->t);
    la_dtrsm(r->n, p, r->factor, r->t);
    for (int64_t i = 0; i < r->n; i++) {
        r->leverage[i] = 0;
        for (int64_t j = 0; j < p; j++)
            r->leverage[i] += r->t[i * p + j] * r->t[i * p + j];
    }
    return true;
}

/* out[n]: y as predicted with each row left out; weights[p]. Returns the mean square residual. */
static double predict_left_out(const regression *r, const double *y, double *weights, double *out) {
    int64_t n = r->n, p = r->p;
    double sum = 0;
    memset(weights, 0, (size_t)p * sizeof *weights);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < p; j++)
            weights[j] += r->t[i * p + j] * y[i];
    for (int64_t i = 0; i < n; i++) {
        double fit = 0;
        for (int64_t j = 0; j < p; j++)
            fit += r->t[i * p + j] * weights[j];
        double free_of = 1 - r->leverage[i];
        double residual = (y[i] - fit) / (free_of > 1e-6 ? free_of : 1e-6);
        out[i] = y[i] - residual;
        sum += residual * residual / (double)n;
    }
    /* L^-T (L^-1 x^T y) */
    for (int64_t j = p; j-- > 0;) {
        for (int64_t k = j + 1; k < p; k++)
            weights[j] -= r->factor[k * p + j] * weights[k];
        weights[j] /= r->factor[j * p + j];
    }
    return sum;
}

/* y[S, n] log tr cov, and its range. A trace of 0 is the least number above it. */
static void take_traces(const la_distilled_rows *rows, la_distilled *d, double *y) {
    int64_t n = rows->n, m = rows->n_contrasts;
    for (int64_t g = 0; g < rows->n_scales; g++) {
        d->least[g] = INFINITY;
        d->most[g] = -INFINITY;
        for (int64_t i = 0; i < n; i++) {
            double trace = 0;
            for (int64_t k = 0; k < m; k++)
                trace += rows->cov[((g * n + i) * m + k) * m + k];
            y[g * n + i] = log(trace > 1e-30 ? trace : 1e-30);
            d->least[g] = fmin(d->least[g], y[g * n + i]);
            d->most[g] = fmax(d->most[g], y[g * n + i]);
        }
    }
}

/* Share of the variance of y that the residuals leave out. */
static double explained_share(int64_t n, const double *y, double residual) {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++)
        mean += y[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        square += (y[i] - mean) * (y[i] - mean) / (double)n;
    return square > 0 ? 1 - residual / square : 0;
}

static la_status regress(regression *r, const la_distilled_rows *rows, la_distilled *d,
                         const double *y, double *left_out, la_error *err) {
    int64_t n = rows->n, p = r->p, m = rows->n_contrasts, s = rows->n_scales;
    double *try_weights = la_alloc((size_t)p, sizeof *try_weights, err);
    double *try_out = la_alloc((size_t)n, sizeof *try_out, err);
    double *best = la_alloc((size_t)(s * n), sizeof *best, err);
    double *residual = la_alloc((size_t)s, sizeof *residual, err);
    for (int64_t g = 0; residual && g < s; g++)
        residual[g] = INFINITY;
    for (int k = 0; k < PENALTIES && err->status == LA_OK; k++) {
        if (!set_penalty(r, penalties[k]))
            continue;
        for (int64_t g = 0; g < s; g++) {
            double square = predict_left_out(r, y + g * n, try_weights, try_out);
            if (!(square < residual[g]))
                continue;
            residual[g] = square;
            memcpy(d->weights + g * p, try_weights, (size_t)p * sizeof *try_weights);
            memcpy(best + g * n, try_out, (size_t)n * sizeof *try_out);
        }
    }
    for (int64_t g = 0; err->status == LA_OK && g < s; g++) {
        if (isinf(residual[g]))
            (void)la_fail(err, LA_NUMERICAL, "the variance of held-out rows is not finite");
        d->explained += explained_share(n, y + g * n, residual[g]) / (double)s;
        for (int64_t i = 0; i < n; i++)
            isotropic(m, within(d, g, best[g * n + i]), left_out + (g * n + i) * m * m);
    }
    free(try_weights);
    free(try_out);
    free(best);
    free(residual);
    return err->status;
}

la_status la_distilled_fit(la_team team, const la_distilled_rows *rows, double *left_out,
                           la_distilled *d, la_error *err) {
    LA_TRY(allocate(rows, d, err));
    LA_TRY(find_directions(team, rows, d, err));
    size_t n = (size_t)rows->n, p = (size_t)d->n_features + 1;
    double *x = la_alloc(n * p, sizeof *x, err);
    double *y = la_alloc((size_t)rows->n_scales * n, sizeof *y, err);
    regression r = {.n = rows->n,
                    .p = (int64_t)p,
                    .x = x,
                    .normal = la_alloc(p * p, sizeof *r.normal, err),
                    .factor = la_alloc(p * p, sizeof *r.factor, err),
                    .t = la_alloc(n * p, sizeof *r.t, err),
                    .leverage = la_alloc(n, sizeof *r.leverage, err)};
    if (err->status == LA_OK) {
        design(rows, d, x);
        take_traces(rows, d, y);
        la_team_dsyrk(team, r.p, r.n, x, r.p, r.normal, r.p);
        (void)regress(&r, rows, d, y, left_out, err);
    }
    free(x);
    free(y);
    free(r.normal);
    free(r.factor);
    free(r.t);
    free(r.leverage);
    return err->status;
}
