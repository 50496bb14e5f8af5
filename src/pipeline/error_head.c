#include "pipeline/error_head.h"

#include <stdlib.h>
#include <string.h>

/* Every fifth row behind the others: states[n, width] and labels[n] in that order; returns how many
 * come first. */
static int64_t split(const la_evaluation *rows, const int64_t *labels, float *states,
                     int64_t *ordered) {
    int64_t at = 0, first = 0, width = rows->width;
    for (int part = 0; part < 2; part++) {
        for (int64_t i = 0; i < rows->n; i++) {
            if ((i % LA_ADUE_VALIDATION_SHARE == LA_ADUE_VALIDATION_SHARE - 1) != part)
                continue;
            memcpy(states + at * width, rows->states + i * width, (size_t)width * sizeof *states);
            ordered[at++] = labels[i];
        }
        first = part ? first : at;
    }
    return first;
}

la_status la_adue_head_fit(la_session *session, const la_evaluation *training,
                           const int64_t *labels, const la_evaluation *validation,
                           const int64_t *validation_labels, uint64_t seed, la_adue *out,
                           la_error *err) {
    la_adue_options options = la_adue_defaults;
    la_adue_rows train = {training->n, training->states, labels}, check = {0};
    float *weight = NULL, *bias = NULL, *states = NULL;
    int64_t *ordered = NULL, width = training->width;
    options.seed = seed;
    const la_model *model = &session->workers[0].model;
    la_status status =
        la_linear_merge(model->be, &model->head[model->n_head - 1].linear, &weight, &bias, err);
    if (validation && validation->n) {
        check = (la_adue_rows){validation->n, validation->states, validation_labels};
    } else if (status == LA_OK) {
        states = la_alloc((size_t)(training->n * width), sizeof *states, err);
        ordered = la_alloc((size_t)training->n, sizeof *ordered, err);
        status = err->status;
        if (status == LA_OK) {
            int64_t first = split(training, labels, states, ordered);
            train = (la_adue_rows){first, states, ordered};
            check = (la_adue_rows){training->n - first, states + first * width, ordered + first};
        }
        if (status == LA_OK && !check.n)
            status = la_fail(err, LA_BAD_INPUT,
                             "%lld rows are too few to train an error head on; at least %d",
                             (long long)training->n, LA_ADUE_VALIDATION_SHARE);
    }
    if (status == LA_OK)
        status = la_adue_train(&options, training->n_classes, width, weight, bias, &train, &check,
                               out, err);
    free(weight);
    free(bias);
    free(states);
    free(ordered);
    return status;
}
