/* Class shares in use, on test rows resampled to other shares: NLL and ECE with no shares, the
 * right ones, and those estimated from the rows themselves.
 *
 *     bench/class_shares BASE FOLDER...
 *
 * which runs this program as class_shares NAME POSTERIOR PREDICTIONS [DRAWS]. The
 * predictions are of labelled rows, without class shares. A draw has shares of its own (training's;
 * or uniform over all shares, none below 0.02), N classes by them, and for each a row of that
 * class, with replacement. "by counts" is the estimate that knows no held-out rows; "right, by
 * training's" takes the right shares over training's, whatever corrected the classes. */
#include "base/random.h"
#include "likelihood/selection.h"
#include "likelihood/shares.h"
#include "output/metrics.h"
#include "output/posterior_file.h"
#include "output/prediction_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZES = 3, BY_TRAINING = 4, WAYS, CLASSES_MOST = 64 };
static const int64_t sizes[SIZES] = {30, 100, 500};
static const char *const ways[WAYS] = {"none", "right", "estimated", "by counts",
                                       "right, by training's"};

static uint64_t position;
static double uniform(void) {
    return la_random_uniform(1, 0, position++);
}

typedef struct totals {
    double nll[WAYS], ece[WAYS], error; /* of the estimate's shares, summed over classes */
    double *loss[WAYS];                 /* [draws] NLL less that without shares */
} totals;

static void measure(const la_predictions *p, const int64_t *rows, int64_t n,
                    const la_class_shares *s, double *nll, double *ece) {
    double confidence[LA_METRIC_BINS] = {0}, right[LA_METRIC_BINS] = {0}, q[CLASSES_MOST];
    int64_t c = p->n_classes;
    *nll = *ece = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t top = 0, label = p->labels.classes[rows[i]];
        memcpy(q, p->values + rows[i] * c, (size_t)c * sizeof *q);
        if (s)
            la_class_shares_apply(s, q);
        for (int64_t k = 1; k < c; k++)
            top = q[k] > q[top] ? k : top;
        int bin = la_metric_bin_of(q[top]);
        *nll -= log(fmax(q[label], 1e-300)) / (double)n;
        confidence[bin] += q[top] / (double)n;
        right[bin] += (top == label) / (double)n;
    }
    for (int b = 0; b < LA_METRIC_BINS; b++)
        *ece += fabs(confidence[b] - right[b]);
}

/* Rows of a class, one behind the other from start[class] on. */
static void by_class(const la_predictions *p, int64_t *list, int64_t *start) {
    int64_t at = 0;
    for (int64_t k = 0; k < p->n_classes; k++) {
        start[k] = at;
        for (int64_t i = 0; i < p->n; i++)
            if (p->labels.classes[i] == k)
                list[at++] = i;
    }
    start[p->n_classes] = at;
}

static void draw_shares(const la_class_shares *s, const int64_t *start, bool moved,
                        double *shares) {
    double sum = 0;
    for (int64_t k = 0; k < s->n_classes; k++) {
        shares[k] = moved ? fmax(-log(1 - uniform()), 0.02) : s->training[k];
        sum += shares[k] *= start[k + 1] > start[k] && s->training[k] > 0;
    }
    for (int64_t k = 0; k < s->n_classes; k++)
        shares[k] /= sum;
}

static la_status one_draw(const la_predictions *p, const la_posterior *posterior, bool moved,
                          int64_t n, const int64_t *list, const int64_t *start, int64_t *rows,
                          int64_t draw, totals *t, la_error *err) {
    la_class_shares s[WAYS] = {0};
    la_share_rows all = la_share_rows_of(p->n_classes);
    double shares[CLASSES_MOST], base_rows[CLASSES_MOST], base = 0;
    la_recipe recipes[LA_SETTINGS_MOST];
    int64_t n_recipes = la_choice_recipes(&la_softmax_likelihood, &posterior->choice,
                                          posterior->choice.method, recipes);
    la_recipes_base_rows(recipes, n_recipes, p->n_classes, posterior->class_rows,
                         posterior->class_held, base_rows);
    for (int w = 0; w < WAYS; w++)
        LA_TRY(la_class_shares_open(
            p->n_classes, w == BY_TRAINING ? posterior->class_rows : base_rows,
            w == 3 ? NULL : posterior->class_means, w == 3 ? NULL : posterior->class_answers,
            "posterior", &s[w], err));
    draw_shares(&s[0], start, moved, shares);
    for (int64_t i = 0; i < n; i++) {
        double u = uniform();
        int64_t k = 0;
        while (k < p->n_classes - 1 && u >= shares[k])
            u -= shares[k++];
        while (start[k + 1] == start[k])
            k--;
        rows[i] = list[start[k] + (int64_t)(uniform() * (double)(start[k + 1] - start[k]))];
        LA_TRY(la_share_rows_add(&all, p->values + rows[i] * p->n_classes, err));
    }
    LA_TRY(la_class_shares_set(&s[1], "right", shares, p->n_classes, err));
    LA_TRY(la_class_shares_estimate(&s[2], &all, err));
    LA_TRY(la_class_shares_estimate(&s[3], &all, err));
    LA_TRY(la_class_shares_set(&s[BY_TRAINING], "right", shares, p->n_classes, err));
    for (int w = 0; w < WAYS; w++) {
        double nll, ece;
        measure(p, rows, n, w ? &s[w] : NULL, &nll, &ece);
        base = w ? base : nll;
        t->nll[w] += nll;
        t->ece[w] += ece;
        t->loss[w][draw] = nll - base;
    }
    for (int64_t k = 0; k < p->n_classes; k++)
        t->error += fabs(s[2].shares[k] - shares[k]);
    for (int w = 0; w < WAYS; w++)
        la_class_shares_free(&s[w]);
    la_share_rows_free(&all);
    return LA_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static la_status run(const char *name, const char *posterior_path, const char *rows_path,
                     int64_t draws, la_error *err) {
    la_posterior posterior;
    la_predictions p;
    LA_TRY(la_posterior_load(posterior_path, &posterior, err));
    LA_TRY(la_predictions_read(rows_path, &p, err));
    int64_t *list = calloc((size_t)p.n, sizeof *list), start[CLASSES_MOST + 1], rows[500];
    if (!list || p.n_classes > CLASSES_MOST || !posterior.class_rows)
        return la_fail(err, LA_UNSUPPORTED, "no class shares, or too many");
    by_class(&p, list, start);
    for (int moved = 0; moved < 2; moved++)
        for (int z = 0; z < SIZES; z++) {
            totals t = {0};
            for (int w = 0; w < WAYS; w++)
                if (!(t.loss[w] = calloc((size_t)draws, sizeof *t.loss[w])))
                    return LA_RESOURCE;
            for (int64_t d = 0; d < draws; d++)
                LA_TRY(one_draw(&p, &posterior, moved, sizes[z], list, start, rows, d, &t, err));
            printf("| %s | %s | %lld |", name, moved ? "moved" : "training's", (long long)sizes[z]);
            for (int w = 0; w < WAYS; w++) {
                qsort(t.loss[w], (size_t)draws, sizeof *t.loss[w], by_value);
                printf(" %.4f", t.nll[w] / (double)draws);
                if (w > 1)
                    printf(" (%+.4f)", t.loss[w][draws * 95 / 100]);
                printf(" |");
                free(t.loss[w]);
            }
            for (int w = 0; w < WAYS; w++)
                printf(" %.4f |", t.ece[w] / (double)draws);
            printf(" %.3f |\n", t.error / (double)draws);
        }
    free(list);
    la_predictions_free(&p);
    la_posterior_free(&posterior);
    return LA_OK;
}

int main(int argc, char **argv) {
    la_error err = {0};
    if (argc < 4) {
        fprintf(stderr, "usage: class_shares NAME POSTERIOR PREDICTIONS [DRAWS] (%s, ..)\n",
                ways[0]);
        return 2;
    }
    if (run(argv[1], argv[2], argv[3], argc > 4 ? atoll(argv[4]) : 400, &err) != LA_OK)
        fprintf(stderr, "%s\n", err.message);
    return (int)err.status;
}
