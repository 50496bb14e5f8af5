/* Baselines that scale outputs: none, one temperature, a weight and a bias a class. */
#include "base/memory.h"
#include "base/machine.h"
#include "likelihood/scaling.h"
#include "pipeline/compare_method.h"

#include <math.h>
#include <stdlib.h>

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
