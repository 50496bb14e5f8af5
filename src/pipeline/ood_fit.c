#include "pipeline/ood_fit.h"
#include "baselines/ood.h"
#include "pipeline/guard.h"

#include <stdlib.h>
#include <string.h>

enum { PARTS = 10 };

la_status la_ood_check_rows(const la_row_set *rows, la_error *err) {
    int64_t starts[PARTS + 1], *list = la_alloc((size_t)rows->n, sizeof *list, err);
    la_status status = list ? la_row_set_split(rows, PARTS, list, starts, err) : err->status;
    free(list);
    return status;
}

/* distances[n] of the states of rows list[0..n); list NULL: the first n. */
static la_status measure(la_team team, const la_ood *ood, const float *states, const int64_t *list,
                         int64_t n, double *distances, la_error *err) {
    la_slices workspace;
    double *projected = la_alloc((size_t)(ood->n_groups * ood->rank), sizeof *projected, err);
    LA_TRY(err->status);
    la_status status = la_slices_open(team, (size_t)ood->rank * sizeof(double), &workspace, err);
    if (status == LA_OK) {
        la_ood_project(ood, projected);
#pragma omp parallel for schedule(static) num_threads(team.threads)
        for (int64_t i = 0; i < n; i++)
            distances[i] =
                la_ood_distance(ood, projected, states + (list ? list[i] : i) * ood->width,
                                la_slices_own(&workspace));
        free(workspace.memory);
    }
    free(projected);
    return status;
}

/* distances[n] of all rows, each part of them to the others. */
static la_status cross_measure(const la_session *session, const la_row_set *rows,
                               const float *states, int64_t width, int64_t n_classes,
                               const int64_t *labels, double *distances, la_error *err) {
    int64_t n = rows->n, starts[PARTS + 1];
    int64_t *list = la_alloc((size_t)n, sizeof *list, err),
            *others = la_alloc((size_t)n, sizeof *others, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_row_set_split(rows, PARTS, list, starts, err);
    for (int k = 0; k < PARTS && status == LA_OK; k++) {
        int64_t from = starts[k], to = starts[k + 1];
        la_ood part;
        memcpy(others, list, (size_t)from * sizeof *others);
        memcpy(others + from, list + to, (size_t)(n - to) * sizeof *others);
        status = la_ood_fit(session->team, n - (to - from), others, width, states, n_classes,
                            labels, &part, err);
        if (status == LA_OK)
            status = measure(session->team, &part, states, list + from, to - from, distances + from,
                             err);
        la_ood_free(&part);
    }
    free(list);
    free(others);
    return status;
}

la_status la_ood_fit_rows(const la_session *session, const la_row_set *rows, const float *states,
                          const float *held, int64_t n_held, la_posterior *posterior,
                          la_error *err) {
    const la_model *model = &session->workers[0].model;
    const int64_t *labels = model->likelihood->is_softmax ? rows->labels.classes : NULL;
    int64_t width = la_run_state_width(model), n = n_held ? n_held : rows->n;
    la_ood ood = {0};
    double *distances = la_alloc((size_t)n, sizeof *distances, err);
    la_status status = err->status;
    if (status == LA_OK)
        status = la_ood_fit(session->team, rows->n, NULL, width, states, model->n_classes, labels,
                            &ood, err);
    if (status == LA_OK)
        status = n_held ? measure(session->team, &ood, held, NULL, n, distances, err)
                        : cross_measure(session, rows, states, width, model->n_classes, labels,
                                        distances, err);
    if (status == LA_OK)
        status = la_ood_set_table(&ood, n, distances, n_held > 0, err);
    if (status == LA_OK)
        status = la_posterior_keep_ood(posterior, &ood, err);
    la_ood_free(&ood);
    free(distances);
    return status;
}
