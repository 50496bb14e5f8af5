#include "likelihood/stacking.h"
#include "base/memory.h"
#include "likelihood/scaling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_MOST = 1000 };

/* probs[C] of one of those that are stacked. workspace: C */
static void apply_one(const la_stacking *s, int which, int64_t c, const float *logits,
                      double *workspace, double *probs) {
    switch (which) {
    case LA_STACKED_TEMPERATURE:
        la_temperature_scaling_apply(c, s->temperature, logits, probs);
        break;
    case LA_STACKED_BIAS:
        la_corrections_apply(s->fits, c, logits, workspace, probs);
        break;
    case LA_STACKED_VECTOR:
        la_vector_scaling_apply(c, s->scale, s->bias, logits, probs);
        break;
    default:
        la_temperature_scaling_apply(c, 1, logits, probs);
    }
}

static la_status fit_all(int64_t n, int64_t c, const float *logits, const int64_t *labels,
                         la_stacking *s, la_error *err) {
    LA_TRY(la_temperature_scaling_fit(n, c, logits, labels, &s->temperature, err));
    LA_TRY(la_corrections_fit(n, c, logits, labels, s->temperature, s->fits, err));
    return la_vector_scaling_fit(n, c, logits, labels, s->scale, s->bias, err);
}

/* Weights of the best mean log of p[n, LA_STACKED] w, which is concave: by EM, from equal ones. */
static void weigh(int64_t n, const double *p, double *weights) {
    for (int k = 0; k < LA_STACKED; k++)
        weights[k] = 1.0 / LA_STACKED;
    double moved = 1;
    for (int step = 0; step < STEPS_MOST && moved > 1e-9; step++) {
        double next[LA_STACKED] = {0};
        moved = 0;
        if (!n)
            break;
        for (int64_t i = 0; i < n; i++) {
            double sum = 0;
            for (int k = 0; k < LA_STACKED; k++)
                sum += weights[k] * p[i * LA_STACKED + k];
            for (int k = 0; k < LA_STACKED; k++)
                next[k] += weights[k] * p[i * LA_STACKED + k] / sum / (double)n;
        }
        for (int k = 0; k < LA_STACKED; k++) {
            moved = fmax(moved, fabs(next[k] - weights[k]));
            weights[k] = next[k];
        }
    }
}

/* Rows of a problem, gathered. */
typedef struct gathered {
    float *logits;   /* [n, C] */
    int64_t *labels; /* [n] */
    int64_t n;
} gathered;

static void gather(int64_t c, const float *logits, const int64_t *labels, const int64_t *list,
                   int64_t from, int64_t to, gathered *g) {
    for (int64_t i = from; i < to; i++) {
        memcpy(g->logits + g->n * c, logits + list[i] * c, (size_t)c * sizeof *logits);
        g->labels[g->n++] = labels[list[i]];
    }
}

la_status la_stacking_fit(int64_t c, const float *logits, const int64_t *labels,
                          const int64_t *list, const int64_t *starts, int n_parts, la_stacking *s,
                          la_error *err) {
    int64_t n = starts[n_parts];
    *s = (la_stacking){.scale = la_alloc((size_t)(2 * c), sizeof *s->scale, err)};
    s->bias = s->scale + c;
    gathered g = {.logits = la_alloc((size_t)(n * c), sizeof *g.logits, err),
                  .labels = la_alloc((size_t)n, sizeof *g.labels, err)};
    double *p = la_alloc((size_t)(n * LA_STACKED + 2 * c), sizeof *p, err);
    double *workspace = p + n * LA_STACKED, *probs = workspace + c;
    la_status status = err->status;
    for (int part = 0; part < n_parts && n_parts > 1 && status == LA_OK; part++) {
        g.n = 0;
        gather(c, logits, labels, list, 0, starts[part], &g);
        gather(c, logits, labels, list, starts[part + 1], n, &g);
        status = fit_all(g.n, c, g.logits, g.labels, s, err);
        for (int64_t i = starts[part]; i < starts[part + 1] && status == LA_OK; i++)
            for (int k = 0; k < LA_STACKED; k++) {
                apply_one(s, k, c, logits + list[i] * c, workspace, probs);
                p[i * LA_STACKED + k] = fmax(probs[labels[list[i]]], 1e-300);
            }
    }
    if (status == LA_OK)
        weigh(n_parts > 1 ? n : 0, p, s->weights);
    g.n = 0;
    if (status == LA_OK) {
        gather(c, logits, labels, list, 0, n, &g);
        status = fit_all(n, c, g.logits, g.labels, s, err);
    }
    free(g.logits);
    free(g.labels);
    free(p);
    return status;
}

void la_stacking_free(la_stacking *s) {
    free(s->scale);
    *s = (la_stacking){0};
}

void la_stacking_apply(const la_stacking *s, int64_t c, const float *logits, double *workspace,
                       double *probs) {
    double *part = workspace + c;
    memset(probs, 0, (size_t)c * sizeof *probs);
    for (int k = 0; k < LA_STACKED; k++) {
        apply_one(s, k, c, logits, workspace, part);
        for (int64_t j = 0; j < c; j++)
            probs[j] += s->weights[k] * part[j];
    }
}
