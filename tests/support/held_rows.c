#include "support/held_rows.h"
#include "base/random.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double normal_of(uint64_t seed, uint64_t stream, int64_t i) {
    double x;
    la_random_normal(seed, stream, (uint64_t)i, 1, &x);
    return x;
}

static double uniform_of(uint64_t seed, uint64_t stream, int64_t i) {
    return ((double)la_random_below(seed, stream, (uint64_t)i, 1u << 30) + 0.5) / (1u << 30);
}

void held_fill(held *h) {
    int64_t m = h->rows.n_classes - 1;
    for (int64_t g = 0; g < h->rows.n_scales; g++)
        for (int64_t i = 0; i < h->rows.n; i++)
            for (int64_t k = 0; k < m; k++)
                for (int64_t l = 0; l < m; l++) {
                    double sum = 0;
                    for (int64_t j = 0; j < m; j++)
                        sum += h->roots[(i * m + k) * m + j] * h->roots[(i * m + l) * m + j];
                    h->cov[((g * h->rows.n + i) * m + k) * m + l] =
                        sum / (h->scales[g] + h->floor[i]);
                }
}

held held_make(int64_t n, int64_t c, int64_t n_scales, uint64_t seed, double logits, double spread,
               double varying) {
    size_t m = (size_t)c - 1, rows = (size_t)n;
    held h = {.logits = calloc(rows * (m + 1), sizeof(float)),
              .labels = calloc(rows, sizeof(int64_t)),
              .streams = calloc(rows, sizeof(uint64_t)),
              .scales = calloc((size_t)n_scales, sizeof(double)),
              .cov = calloc((size_t)n_scales * rows * m * m, sizeof(double)),
              .roots = calloc(rows * m * m, sizeof(double)),
              .floor = calloc(rows, sizeof(double))};
    assert_true(h.logits && h.labels && h.streams && h.scales && h.cov && h.roots && h.floor);
    for (int64_t i = 0; i < n * c; i++)
        h.logits[i] = (float)(logits * normal_of(seed, 1, i));
    for (int64_t i = 0; i < n; i++) {
        double own = spread * exp(0.5 * varying * normal_of(seed, 2, i)) / sqrt((double)m);
        h.streams[i] = la_random_below(seed, 3, (uint64_t)i, UINT64_MAX);
        h.floor[i] = 0.2 * uniform_of(seed, 4, i);
        for (int64_t k = 0; k < (int64_t)(m * m); k++)
            h.roots[i * (int64_t)(m * m) + k] = own * normal_of(seed, 5 + (uint64_t)i, k);
    }
    if (n_scales == LA_SELECTION_SCALES)
        la_selection_scales(h.scales);
    else
        for (int64_t g = 0; g < n_scales; g++)
            h.scales[g] = pow(10, 0.5 * (double)(g - n_scales / 2));
    h.rows = (la_held_out){.n = n,
                           .n_classes = c,
                           .n_scales = n_scales,
                           .logits = h.logits,
                           .labels = {.kind = LA_LABEL_CLASS, .classes = h.labels},
                           .streams = h.streams,
                           .scales = h.scales,
                           .cov = h.cov};
    held_fill(&h);
    return h;
}

void held_drop(held *h) {
    free(h->logits);
    free(h->labels);
    free(h->streams);
    free(h->scales);
    free(h->cov);
    free(h->roots);
    free(h->floor);
}

void softmax_of(int64_t c, const double *f, double *p) {
    double top = f[0], sum = 0;
    for (int64_t k = 1; k < c; k++)
        top = fmax(top, f[k]);
    for (int64_t k = 0; k < c; k++)
        sum += p[k] = exp(f[k] - top);
    for (int64_t k = 0; k < c; k++)
        p[k] /= sum;
}

void held_softmax(const held *h, int64_t i, double scale, double temperature, const double *z,
                  double *p) {
    int64_t c = h->rows.n_classes, m = c - 1;
    double basis[C_MOST * M_MOST], f[C_MOST], moved[M_MOST] = {0};
    la_softmax_likelihood.contrast_basis(c, basis);
    for (int64_t k = 0; k < m && z; k++)
        for (int64_t j = 0; j < m; j++)
            moved[k] += h->roots[(i * m + k) * m + j] * z[j] / sqrt(scale + h->floor[i]);
    for (int64_t k = 0; k < c; k++) {
        f[k] = (double)h->logits[i * c + k];
        for (int64_t j = 0; j < m; j++)
            f[k] += basis[k * m + j] * moved[j];
        f[k] /= temperature;
    }
    softmax_of(c, f, p);
}

void held_draw_labels(held *h, uint64_t seed, double scale, double temperature) {
    int64_t c = h->rows.n_classes, m = c - 1;
    for (int64_t i = 0; i < h->rows.n; i++) {
        double z[M_MOST], p[C_MOST], left = uniform_of(seed, 1, i);
        la_random_normal(seed, 2, (uint64_t)(i * m), (size_t)m, z);
        held_softmax(h, i, scale, temperature, scale > 0 ? z : NULL, p);
        h->labels[i] = 0;
        for (int64_t k = 0; k < m && (left -= p[k]) > 0; k++)
            h->labels[i] = k + 1;
    }
}
