/* The report as the body of MLflow's runs/log-batch, step 0: metrics by their names, those of the
 * MAP model as map_NAME. The time is SOURCE_DATE_EPOCH where it is set, and the run MLFLOW_RUN_ID.
 */
#include "output/escape.h"
#include "output/report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static la_status milliseconds(json_int_t *out, la_error *err) {
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    struct timespec now;
    char *end;
    clock_gettime(CLOCK_REALTIME, &now);
    *out = (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (!epoch || !*epoch)
        return LA_OK;
    errno = 0;
    long long seconds = strtoll(epoch, &end, 10);
    if (epoch[strspn(epoch, "0123456789")] || errno || seconds > INT64_MAX / 1000)
        return la_fail(err, LA_USAGE, "SOURCE_DATE_EPOCH: \"%s\", expected seconds since 1970",
                       epoch);
    *out = seconds * 1000;
    return LA_OK;
}

static int add(json_t *list, const char *before, const la_metric_set *set,
               const la_metrics *metrics, json_int_t time) {
    int bad = 0;
    for (int m = 0; m < set->n; m++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s", before, set->list[m].name);
        if (!isnan(metrics->value[m]))
            bad |= json_array_append_new(list, json_pack("{s:s, s:f, s:I, s:i}", "key", key,
                                                         "value", metrics->value[m], "timestamp",
                                                         time, "step", 0));
    }
    return bad;
}

la_status la_report_mlflow(const la_report *report, const la_report_style *style, FILE *stream,
                           la_error *err) {
    const char *run = getenv("MLFLOW_RUN_ID");
    json_int_t time;
    (void)style;
    LA_TRY(milliseconds(&time, err));
    json_t *list = json_array();
    int bad = add(list, "", report->set, &report->metrics, time);
    if (report->has_map)
        bad |= add(list, "map_", report->set, &report->map, time);
    json_t *root = json_pack("{s:o}", "metrics", list);
    char *clean = run && *run ? la_text_clean(run, err) : NULL;
    if (clean)
        bad |= json_object_set_new(root, "run_id", json_string(clean));
    free(clean);
    bad |= !root || err->status != LA_OK;
    bad |= !bad && la_json_write(root, JSON_INDENT(1), stream) && !ferror(stream);
    json_decref(root);
    if (bad)
        return la_fail(err, LA_RESOURCE, "out of memory for the report");
    fputc('\n', stream);
    return LA_OK;
}
