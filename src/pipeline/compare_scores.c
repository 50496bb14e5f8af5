/* Scores that rank rows: of the outputs, of the states that the head reads, and of an error
 * head. */
#include "base/memory.h"
#include "base/machine.h"
#include "baselines/adue.h"
#include "baselines/mahalanobis.h"
#include "baselines/scores.h"
#include "pipeline/compare_method.h"
#include "pipeline/error_head.h"

#include <stdlib.h>

static la_status add_output_score(la_comparing *c, const char *name,
                                  double (*score)(int64_t n_classes, const float *logits),
                                  la_error *err) {
    int64_t classes = c->model->n_classes;
    la_comparison_row *row = la_compare_row(c, name, 0);
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
        for (int64_t i = 0; i < side->rows.n; i++)
            side->scores[i] = score(classes, side->e.logits + i * classes);
    return la_compare_rate_scores(c, row, err);
}

LA_COMPARE_RUN(entropy) {
    return add_output_score(c, kind->name, la_score_entropy, err);
}

LA_COMPARE_RUN(energy) {
    return add_output_score(c, kind->name, la_score_energy, err);
}

static la_status add_distance(la_comparing *c, const char *name, bool relative,
                              const la_mahalanobis *m, double seconds, la_error *err) {
    la_comparison_row *row = la_compare_row(c, name, seconds);
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
        if (side->rows.n)
            LA_TRY(la_mahalanobis_score(c->session.team, m, relative, side->rows.n, side->e.states,
                                        side->scores, err));
    return la_compare_rate_scores(c, row, err);
}

LA_COMPARE_RUN(mahalanobis) {
    la_mahalanobis m = {0};
    double start = la_seconds();
    la_status status =
        la_mahalanobis_fit(c->session.team, c->calib.n, c->on_calib.width, c->on_calib.n_classes,
                           c->on_calib.states, c->calib.labels.classes, &m, err);
    double seconds = la_seconds() - start + c->on_calib.seconds_forward;
    if (status == LA_OK)
        status = add_distance(c, kind->name, false, &m, seconds, err);
    if (status == LA_OK)
        status = add_distance(c, "mahalanobis, relative", true, &m, seconds, err);
    la_mahalanobis_free(&m);
    return status;
}

LA_COMPARE_RUN(adue) {
    la_adue head;
    double start = la_seconds();
    LA_TRY(la_adue_head_fit(&c->session, &c->on_calib, c->calib.labels.classes, &c->on_val,
                            c->val.labels.classes, c->options->seed, &head, err));
    double *workspace = la_alloc((size_t)head.n_classes, sizeof *workspace, err);
    la_comparison_row *row =
        la_compare_row(c, kind->name, la_seconds() - start + c->on_calib.seconds_forward);
    if (head.outcome != LA_ADUE_TRAINED)
        snprintf(row->note, sizeof row->note, "not trained: all rows are %s",
                 head.outcome == LA_ADUE_TRAINING_ALL_WRONG ||
                         head.outcome == LA_ADUE_VALIDATION_ALL_WRONG
                     ? "wrong"
                     : "right");
    for (la_compare_side *side = c->sides; side < c->sides + LA_SIDES; side++)
        for (int64_t i = 0; i < side->rows.n && workspace; i++)
            side->scores[i] = la_adue_score(&head, side->e.states + i * head.width, workspace);
    free(workspace);
    la_adue_free(&head);
    LA_TRY(err->status);
    return la_compare_rate_scores(c, row, err);
}
