#include "likelihood/average.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Settings of less weight are in no list: all of them together have less than a thousandth. */
#define NEGLIGIBLE 1e-6

void la_average_weights(const la_average_table *table, double *weights) {
    double best = INFINITY, sum = 0;
    for (int64_t s = 0; s < table->n_settings; s++) {
        weights[s] = INFINITY;
        if (!isfinite(table->log_prior[s]))
            continue;
        double total = -table->log_prior[s];
        for (int64_t i = 0; i < table->n; i++)
            total += (double)table->nll[s * table->n + i];
        weights[s] = total;
        best = total < best ? total : best;
    }
    for (int64_t s = 0; s < table->n_settings; s++)
        sum += weights[s] = exp(best - weights[s]);
    for (int64_t s = 0; s < table->n_settings; s++)
        weights[s] /= sum;
}

void la_average_left_out(const la_average_table *table, const double *weights, double *nll) {
    for (int64_t i = 0; i < table->n; i++) {
        double sum = 0;
        for (int64_t s = 0; s < table->n_settings; s++)
            if (weights[s] > 0)
                sum += weights[s] * exp((double)table->nll[s * table->n + i]);
        nll[i] = log(sum);
    }
}

/* ---- the short list ---- */

/* Settings are columns over the rows and one row more, which wants the weights to sum to 1. */
typedef struct shortening {
    int64_t n, most, k; /* k: settings in the list */
    double one;         /* the square of the last row's entries */
    double *p;          /* [candidates, n] of the labels */
    double *target;     /* [n] of the average of all */
    double *left;       /* [n] target less the list's mean */
    double left_of_one; /* likewise of the sum of weights */
    int64_t *in;        /* [most] candidates in the list */
    double *weight;     /* [most] */
    double *fit;        /* [most] the least squares' own weights */
    double *gram;       /* [most, most] of the list's columns */
    double *factor;     /* likewise its Cholesky factor */
    double *to_target;  /* [most] the columns by the target */
} shortening;

static double dot(int64_t n, const double *a, const double *b) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Residuals of the list, and the largest of them. */
static double leave(shortening *s) {
    double largest = 0;
    memcpy(s->left, s->target, (size_t)s->n * sizeof *s->left);
    s->left_of_one = 1;
    for (int64_t j = 0; j < s->k; j++) {
        const double *p = s->p + s->in[j] * s->n;
        for (int64_t i = 0; i < s->n; i++)
            s->left[i] -= s->weight[j] * p[i];
        s->left_of_one -= s->weight[j];
    }
    for (int64_t i = 0; i < s->n; i++)
        largest = fabs(s->left[i]) > largest ? fabs(s->left[i]) : largest;
    return largest;
}

/* The candidate that lessens most what is left; -1: none does. */
static int64_t steepest(const shortening *s, int64_t candidates) {
    double best = 1e-14 * (double)s->n;
    int64_t found = -1;
    for (int64_t c = 0; c < candidates; c++) {
        bool is_in = false;
        for (int64_t j = 0; j < s->k; j++)
            is_in |= s->in[j] == c;
        double slope = is_in ? 0 : dot(s->n, s->p + c * s->n, s->left) + s->one * s->left_of_one;
        if (slope > best) {
            best = slope;
            found = c;
        }
    }
    return found;
}

static void set_gram(shortening *s, int64_t j) {
    const double *own = s->p + s->in[j] * s->n;
    s->to_target[j] = dot(s->n, own, s->target) + s->one;
    for (int64_t l = 0; l <= j; l++)
        s->gram[j * s->most + l] = s->gram[l * s->most + j] =
            dot(s->n, own, s->p + s->in[l] * s->n) + s->one;
}

static void take_out(shortening *s, int64_t j) {
    s->k--;
    for (int64_t l = j; l < s->k; l++) {
        s->in[l] = s->in[l + 1];
        s->weight[l] = s->weight[l + 1];
    }
    for (int64_t l = j; l < s->k; l++)
        set_gram(s, l);
}

/* fit[k]: the weights of least squares, of any sign; false when the columns are dependent. */
static bool solve(shortening *s) {
    double *l = s->factor, *x = s->fit;
    for (int64_t j = 0; j < s->k; j++)
        for (int64_t i = j; i < s->k; i++) {
            double sum = s->gram[i * s->most + j];
            sum -= dot(j, l + i * s->most, l + j * s->most);
            if (i == j && sum <= 1e-14 * s->gram[j * s->most + j])
                return false;
            l[i * s->most + j] = i == j ? sqrt(sum) : sum / l[j * s->most + j];
        }
    for (int64_t j = 0; j < s->k; j++)
        x[j] = (s->to_target[j] - dot(j, l + j * s->most, x)) / l[j * s->most + j];
    for (int64_t j = s->k - 1; j >= 0; j--) {
        for (int64_t i = j + 1; i < s->k; i++)
            x[j] -= l[i * s->most + j] * x[i];
        x[j] /= l[j * s->most + j];
    }
    return true;
}

/* One candidate more, and out with those whose weight it takes to zero (Lawson and Hanson). False
 * when it depends on those in the list. */
static bool take_in(shortening *s, int64_t candidate) {
    s->in[s->k] = candidate;
    s->weight[s->k] = 0;
    set_gram(s, s->k++);
    for (;;) {
        double step = 1;
        int64_t out = -1;
        if (!solve(s)) {
            s->k -= s->weight[s->k - 1] == 0;
            return false;
        }
        for (int64_t j = 0; j < s->k; j++) {
            if (s->fit[j] > 0)
                continue;
            double until = s->weight[j] / (s->weight[j] - s->fit[j]);
            if (out < 0 || !(until >= step)) {
                step = until > 0 ? until : 0;
                out = j;
            }
        }
        for (int64_t j = 0; j < s->k; j++)
            s->weight[j] += step * (s->fit[j] - s->weight[j]);
        if (out < 0)
            return true;
        take_out(s, out);
    }
}

static void run(shortening *s, int64_t candidates) {
    for (int64_t turn = 0; turn < 8 * s->most; turn++) {
        double largest = leave(s);
        int64_t next = largest <= LA_AVERAGE_DIFFERENCE ? -1 : steepest(s, candidates);
        if (next < 0 || s->k == s->most || !take_in(s, next))
            return;
    }
}

/* The best of all, where nothing else can be said. */
static void keep_best(shortening *s, const double *weights, const int64_t *of, int64_t candidates) {
    s->in[0] = 0;
    for (int64_t c = 1; c < candidates; c++)
        s->in[0] = weights[of[c]] > weights[of[s->in[0]]] ? c : s->in[0];
    s->weight[0] = 1;
    s->k = 1;
}

static void finish(shortening *s, const int64_t *of, la_average_list *list) {
    double sum = 0;
    for (int64_t j = s->k - 1; j >= 0; j--)
        if (!(s->weight[j] > 0))
            take_out(s, j);
    for (int64_t j = 0; j < s->k; j++)
        sum += s->weight[j];
    for (int64_t j = 0; j < s->k; j++)
        list->weight[j] = s->weight[j] /= sum;
    for (int64_t j = 0; j < s->k; j++)
        list->setting[j] = of[s->in[j]];
    list->n = s->k;
    list->difference = leave(s);
}

/* p and target; of[]: the candidates' settings. */
static void fill(shortening *s, const la_average_table *table, const double *weights, int64_t *of) {
    int64_t candidates = 0;
    for (int64_t k = 0; k < table->n_settings; k++) {
        bool counts = weights[k] >= NEGLIGIBLE;
        for (int64_t i = 0; i < s->n && weights[k] > 0; i++) {
            double p = exp(-(double)table->nll[k * s->n + i]);
            s->target[i] += weights[k] * p;
            if (counts)
                s->p[candidates * s->n + i] = p;
        }
        if (counts)
            of[candidates++] = k;
    }
}

la_status la_average_shorten(const la_average_table *table, const double *weights, int64_t most,
                             la_average_list *list, la_error *err) {
    int64_t n = table->n, count = 0;
    for (int64_t k = 0; k < table->n_settings; k++)
        count += weights[k] >= NEGLIGIBLE;
    int64_t *places = la_alloc((size_t)(count + most), sizeof *places, err);
    double *memory =
        la_alloc((size_t)(count * n + 2 * n + 3 * most + 2 * most * most), sizeof *memory, err);
    if (err->status == LA_OK) {
        double *rest = memory + count * n, *small = rest + 2 * n;
        shortening s = {.n = n,
                        .most = most,
                        .one = 100 * (double)n,
                        .p = memory,
                        .target = rest,
                        .left = rest + n,
                        .in = places + count,
                        .weight = small,
                        .fit = small + most,
                        .to_target = small + 2 * most,
                        .gram = small + 3 * most,
                        .factor = small + 3 * most + most * most};
        fill(&s, table, weights, places);
        run(&s, count);
        if (!s.k)
            keep_best(&s, weights, places, count);
        finish(&s, places, list);
    }
    free(places);
    free(memory);
    return err->status;
}
