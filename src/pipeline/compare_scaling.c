/* Baselines that scale outputs: none, one temperature, class biases, a weight and a bias a class,
 * and the mean of all these. */
#include "base/memory.h"
#include "base/machine.h"
#include "likelihood/scaling.h"
#include "likelihood/stacking.h"
#include "pipeline/compare_method.h"
#include "pipeline/guard.h"

#include <math.h>
#include <stdlib.h>

enum { STACKED_PARTS = 5 };

/* Softmax at a temperature; seconds: the time that finding it took. */
static la_status add_tempered(la_comparing *c, const char *name, double temperature, double seconds,
                              la_error *err) {
    int64_t classes = c->model->n_classes;
    la_comparison_row *row = la_compare_row(c, name, seconds);
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
        for (int64_t i = 0; i < side->rows.n; i++)
            la_temperature_scaling_apply(classes, temperature, side->e.logits + i * classes,
                                         side->probs + i * classes);
    return la_compare_rate_probs(c, row, err);
}

LA_COMPARE_RUN(map) {
    return add_tempered(c, kind->name, 1, 0, err);
}

LA_COMPARE_RUN(temperature) {
    double start = la_seconds(), temperature;
    la_comparison_row *row = &c->to->rows[c->to->n];
    LA_TRY(la_temperature_scaling_fit(c->val.n, c->model->n_classes, c->on_val.logits,
                                      c->val.labels.classes, &temperature, err));
    LA_TRY(add_tempered(c, kind->name, temperature,
                        la_seconds() - start + c->on_val.seconds_forward, err));
    snprintf(row->note, sizeof row->note, "T %.3g", temperature);
    return LA_OK;
}

LA_COMPARE_RUN(vector) {
    int64_t classes = c->model->n_classes;
    double start = la_seconds();
    double *scale = la_alloc((size_t)(2 * classes), sizeof *scale, err), *bias = scale + classes;
    if (!scale)
        return err->status;
    la_comparison_row *row = la_compare_row(c, kind->name, NAN);
    la_status status = la_vector_scaling_fit(c->val.n, classes, c->on_val.logits,
                                             c->val.labels.classes, scale, bias, err);
    row->seconds_fit = la_seconds() - start + c->on_val.seconds_forward;
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
        for (int64_t i = 0; i < side->rows.n && status == LA_OK; i++)
            la_vector_scaling_apply(classes, scale, bias, side->e.logits + i * classes,
                                    side->probs + i * classes);
    free(scale);
    LA_TRY(status);
    return la_compare_rate_probs(c, row, err);
}

/* Of more classes than there are corrections for, the row is left out where it was not asked for by
 * name. */
static bool has_too_many_classes(const la_comparing *c) {
    return !c->options->methods && c->model->n_classes > LA_CORRECTION_CLASSES_MOST;
}

LA_COMPARE_RUN(bias) {
    int64_t classes = c->model->n_classes;
    double start = la_seconds(), temperature;
    la_correction_fit fits[LA_CORRECTION_SCALES];
    if (has_too_many_classes(c))
        return LA_OK;
    LA_TRY(la_temperature_scaling_fit(c->val.n, classes, c->on_val.logits, c->val.labels.classes,
                                      &temperature, err));
    LA_TRY(la_corrections_fit(c->val.n, classes, c->on_val.logits, c->val.labels.classes,
                              temperature, fits, err));
    double *workspace = la_alloc((size_t)classes, sizeof *workspace, err);
    if (!workspace)
        return err->status;
    la_comparison_row *row = la_compare_row(c, kind->name, NAN);
    row->seconds_fit = la_seconds() - start + c->on_val.seconds_forward;
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
        for (int64_t i = 0; i < side->rows.n; i++)
            la_corrections_apply(fits, classes, side->e.logits + i * classes, workspace,
                                 side->probs + i * classes);
    free(workspace);
    return la_compare_rate_probs(c, row, err);
}

/* The held-out rows in five parts, or all in one where they are too few. memory: n */
static la_status split(const la_comparing *c, int64_t *list, int64_t *starts, int *n_parts,
                       la_error *err) {
    la_error own = {0};
    *n_parts = STACKED_PARTS;
    la_status status = la_row_set_split(&c->val, *n_parts, list, starts, &own);
    if (status != LA_BAD_INPUT) {
        *err = status == LA_OK ? *err : own;
        return status;
    }
    *n_parts = 1;
    return la_row_set_split(&c->val, *n_parts, list, starts, err);
}

LA_COMPARE_RUN(stacking) {
    int64_t classes = c->model->n_classes, starts[STACKED_PARTS + 1];
    int n_parts = 1;
    double start = la_seconds();
    la_stacking stacking = {0};
    if (has_too_many_classes(c))
        return LA_OK;
    int64_t *list = la_alloc((size_t)c->val.n, sizeof *list, err);
    double *workspace = la_alloc((size_t)(2 * classes), sizeof *workspace, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = split(c, list, starts, &n_parts, err);
    if (status == LA_OK)
        status = la_stacking_fit(classes, c->on_val.logits, c->val.labels.classes, list, starts,
                                 n_parts, &stacking, err);
    la_comparison_row *row = status == LA_OK ? la_compare_row(c, kind->name, NAN) : NULL;
    if (row) {
        const double *w = stacking.weights;
        row->seconds_fit = la_seconds() - start + c->on_val.seconds_forward;
        snprintf(row->note, sizeof row->note, "map %.2f, T %.2f, bias %.2f, vector %.2f",
                 w[LA_STACKED_MAP], w[LA_STACKED_TEMPERATURE], w[LA_STACKED_BIAS],
                 w[LA_STACKED_VECTOR]);
        for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
            for (int64_t i = 0; i < side->rows.n; i++)
                la_stacking_apply(&stacking, classes, side->e.logits + i * classes, workspace,
                                  side->probs + i * classes);
    }
    la_stacking_free(&stacking);
    free(list);
    free(workspace);
    LA_TRY(status);
    return la_compare_rate_probs(c, row, err);
}
