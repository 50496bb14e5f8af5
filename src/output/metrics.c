#include "output/metrics.h"
#include "base/memory.h"
#include "output/bootstrap.h"

#include <stdlib.h>
#include <string.h>

int la_metric_find(const la_metric_set *set, const char *name) {
    for (int m = 0; m < set->n; m++)
        if (!strcmp(set->list[m].name, name))
            return m;
    return -1;
}

static la_status prepare(const la_metric_set *set, const la_metric_rows *rows, void **prepared,
                         la_error *err) {
    *prepared = NULL;
    if (rows->n < 1 || rows->n >= UINT32_MAX)
        return la_fail(err, LA_BAD_INPUT, "metrics of %lld rows, expected 1 to %lld",
                       (long long)rows->n, (long long)UINT32_MAX - 1);
    return set->prepare(rows, prepared, err);
}

la_status la_metrics_compute(const la_metric_set *set, const la_metric_rows *rows,
                             la_metrics *metrics, la_error *err) {
    void *prepared;
    *metrics = (la_metrics){0};
    LA_TRY(prepare(set, rows, &prepared, err));
    void *work = la_alloc(1, set->workspace ? set->workspace(rows->n) : 0, err);
    if (work)
        set->measure(prepared, work, NULL, metrics->value, set->has_bins ? metrics->bins : NULL);
    free(work);
    free(prepared);
    return err->status;
}

la_status la_metrics_intervals(la_team team, const la_metric_set *set, const la_metric_rows *rows,
                               int64_t resamples, uint64_t seed, la_interval *intervals,
                               la_error *err) {
    void *prepared;
    LA_TRY(prepare(set, rows, &prepared, err));
    la_status status = la_bootstrap(team, rows->n, set, prepared, resamples, seed, intervals, err);
    if (status == LA_OK && set->correct)
        status = set->correct(prepared, seed, intervals, err);
    free(prepared);
    return status;
}
