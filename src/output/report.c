#include "output/report.h"
#include "base/memory.h"
#include "base/visible.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const la_report_format la_report_formats[LA_REPORT_FORMATS] = {
    {.name = "text", .write = la_report_text},
    {.name = "json", .write = la_report_json},
    {.name = "markdown", .write = la_report_markdown},
    {.name = "html", .write = la_report_html},
    {.name = "junit", .write = la_report_junit},
    {.name = "prometheus", .write = la_report_prometheus},
    {.name = "gitlab", .write = la_report_gitlab},
    {.name = "mlflow", .write = la_report_mlflow},
    {.name = "label-studio", .write = la_report_label_studio, .tasks = true},
    {.name = "csv", .write = la_report_csv},
};

/* The kind up to its first '-', with a capital: "laplace-mc" is "Laplace". */
static void make_title(const char *kind, char title[LA_REPORT_TITLE]) {
    bool unknown = !*kind || !strcmp(kind, "mixed");
    snprintf(title, LA_REPORT_TITLE, "%.*s", (int)strcspn(kind, "-"), unknown ? "Model" : kind);
    if (unknown)
        strcpy(title, "Model");
    if (!strcmp(kind, "map"))
        strcpy(title, "MAP");
    if (*title >= 'a' && *title <= 'z')
        *title = (char)(*title - 'a' + 'A');
}

static la_status compute(la_team team, const la_predictions *p, la_report *report, la_error *err) {
    la_metric_rows rows = {p->n, p->n_classes, p->values, p->labels}, map = rows;
    map.values = p->map_values;
    LA_TRY(la_metrics_compute(report->set, &rows, &report->metrics, err));
    if (report->has_map)
        LA_TRY(la_metrics_compute(report->set, &map, &report->map, err));
    memcpy(report->values, report->metrics.value, (size_t)report->set->n * sizeof(double));
    if (report->set->n_class) {
        report->class_values = report->values + report->set->n;
        report->class_rows = la_alloc((size_t)p->n_classes, sizeof *report->class_rows, err);
        LA_TRY(err->status);
        LA_TRY(la_class_metrics(report->set, &rows, report->class_values, report->class_rows, err));
    }
    int ece = la_metric_find(report->set, "ece");
    LA_TRY(la_metrics_noise(report->set, &rows, ece < 0 ? NAN : report->metrics.value[ece],
                            LA_REPORT_SEED, &report->noise, err));
    report->resamples = la_metrics_resamples(&rows, LA_REPORT_RESAMPLES);
    return la_metrics_intervals(team, report->set, &rows, report->resamples, LA_REPORT_SEED,
                                report->intervals, err);
}

la_status la_report_build(la_team team, const char *file, la_predictions *predictions,
                          const char *baseline, la_gate *gates, int n_gates, la_report *report,
                          la_error *err) {
    la_predictions *p = predictions;
    double *before = NULL;
    la_status status = LA_OK;
    *report = (la_report){.kind = p->kind,
                          .set = p->kind->metrics,
                          .n = p->n,
                          .n_classes = p->n_classes,
                          .n_errors = p->n_errors,
                          .n_unlabelled = p->n_unlabelled,
                          .n_without_map = p->n_without_map,
                          .seen = p->seen,
                          .has_map = p->map_values != NULL,
                          .class_names = p->names,
                          .gates = gates,
                          .n_gates = n_gates};
    p->names = NULL;
    memcpy(report->digest, p->digest, sizeof report->digest);
    memcpy(report->confidence_kind, p->confidence_kind, sizeof report->confidence_kind);
    make_title(p->confidence_kind, report->title);
    report->show_map = report->has_map && strcmp(p->confidence_kind, "map");
    if (!p->n) {
        status = la_fail(err, LA_BAD_INPUT,
                         "%s: no row to measure: %lld without a label, %lld with an error; "
                         "expected rows with \"label\" and \"%s\"",
                         file, (long long)p->n_unlabelled, (long long)p->n_errors,
                         p->kind->values_field);
        goto done;
    }
    LA_TRY_DONE(la_gates_bind(gates, n_gates, report->set, p->n_classes, report->class_names, err));
    report->file = la_visible_copy(file, err);
    if (baseline)
        report->baseline = la_visible_copy(baseline, err);
    size_t n_values = (size_t)la_gate_values(report->set, p->n_classes);
    report->values = la_alloc(n_values, sizeof *report->values, err);
    before = baseline ? la_alloc(n_values, sizeof *before, err) : NULL;
    LA_TRY_DONE(err->status);
    if (baseline)
        LA_TRY_DONE(la_baseline_read(baseline, report->set, p->n_classes, before, err));
    LA_TRY_DONE(compute(team, predictions, report, err));
    report->n_failed = la_gates_judge(gates, n_gates, p->n, report->values, before);
done:
    free(before);
    if (status != LA_OK)
        la_report_free(report);
    return status;
}

void la_report_free(la_report *report) {
    free(report->file);
    free(report->baseline);
    free(report->threshold.file);
    free(report->gates);
    free(report->values);
    free(report->class_rows);
    for (int64_t c = 0; report->class_names && c < report->n_classes; c++)
        free(report->class_names[c]);
    free(report->class_names);
    *report = (la_report){0};
}

/* ---- for the formats ---- */

void la_metric_show(double value, char out[LA_METRIC_TEXT]) {
    if (isnan(value))
        strcpy(out, "-");
    else
        snprintf(out, LA_METRIC_TEXT, "%.4f", fabs(value) < 0.00005 ? 0 : value); /* no "-0" */
}

void la_interval_show(const la_interval *interval, char out[LA_INTERVAL_TEXT]) {
    char lo[LA_METRIC_TEXT], hi[LA_METRIC_TEXT];
    la_metric_show(interval->lo, lo);
    la_metric_show(interval->hi, hi);
    if (isnan(interval->lo))
        strcpy(out, "-");
    else
        snprintf(out, LA_INTERVAL_TEXT, "[%s, %s]", lo, hi);
}

const char *la_report_class_name(const la_report *report, int64_t class, char out[LA_CLASS_TEXT]) {
    snprintf(out, LA_CLASS_TEXT, "%lld", (long long)class);
    return report->class_names && report->class_names[class] ? report->class_names[class] : out;
}

void la_report_class_show(const la_report *report, int64_t class, int metric,
                          char out[LA_METRIC_TEXT]) {
    la_metric_show(report->class_values[class * report->set->n_class + metric], out);
}

int la_report_compare(const la_report *report, int metric) {
    double own = report->metrics.value[metric], map = report->map.value[metric];
    int direction = report->set->list[metric].direction;
    char own_text[LA_METRIC_TEXT], map_text[LA_METRIC_TEXT];
    if (!report->show_map || !direction || isnan(own) || isnan(map))
        return 2;
    la_metric_show(own, own_text);
    la_metric_show(map, map_text);
    if (!strcmp(own_text, map_text))
        return 0;
    return own > map ? direction : -direction;
}

const char *la_report_against(const la_report *report, int metric) {
    int better = la_against_better(report->against, report->set, metric);
    return better > 0 ? "this file" : better < 0 ? "the other" : "";
}

const char *la_report_ahead(const la_report *report, int metric) {
    switch (la_report_compare(report, metric)) {
    case 1:
        return report->title;
    case -1:
        return "MAP";
    case 0:
        return "same";
    default:
        return "";
    }
}

void la_report_summary(const la_report *report, char out[128]) {
    char task[64];
    const la_likelihood *likelihood = report->kind->likelihood;
    if (likelihood->counted)
        snprintf(task, sizeof task, "%lld %s", (long long)report->n_classes, likelihood->counted);
    else
        snprintf(task, sizeof task, "%s", likelihood->name);
    snprintf(out, 128, "%lld row%s, %s, confidence: %s", (long long)report->n,
             report->n == 1 ? "" : "s", task,
             *report->confidence_kind ? report->confidence_kind : "kind not given");
}

static const char *way_of(const la_metric_info *info) {
    return info->way ? info->way : info->gap ? "basic" : NULL;
}

/* "; NAME, NAME: way" of the metrics that have it. */
static size_t name_way(const la_metric_set *set, const char *way, char *out, size_t size) {
    size_t used = 0;
    for (int m = 0; m < set->n; m++) {
        const char *own = way_of(&set->list[m]);
        if (own && !strcmp(own, way) && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "; ",
                                     set->list[m].name);
    }
    if (used < size)
        used += (size_t)snprintf(out + used, size - used, ": %s", way);
    return used < size ? used : size - 1;
}

void la_report_intervals(const la_report *report, char out[LA_REPORT_INTERVALS]) {
    size_t used = (size_t)snprintf(out, LA_REPORT_INTERVALS, "percentile");
    for (int m = 0; m < report->set->n; m++) {
        const char *way = way_of(&report->set->list[m]);
        bool first = way != NULL;
        for (int k = 0; k < m && first; k++)
            first = !way_of(&report->set->list[k]) || strcmp(way_of(&report->set->list[k]), way);
        if (first)
            used += name_way(report->set, way, out + used, LA_REPORT_INTERVALS - used);
    }
}

void la_report_noise(const la_report *report, char out[128]) {
    char ece[LA_METRIC_TEXT], mean[LA_METRIC_TEXT];
    *out = 0;
    if (isnan(report->noise.ece))
        return;
    la_metric_show(report->metrics.value[la_metric_find(report->set, "ece")], ece);
    la_metric_show(report->noise.ece, mean);
    snprintf(out, 128, "ece %s: a perfectly calibrated model of %lld row%s has %s on average", ece,
             (long long)report->n, report->n == 1 ? "" : "s", mean);
}

void la_report_left_out(const la_report *report, char out[192]) {
    size_t used = 0;
    *out = 0;
    if (report->n_unlabelled)
        used = (size_t)snprintf(out, 192, "%lld without a label", (long long)report->n_unlabelled);
    if (report->n_errors)
        used += (size_t)snprintf(out + used, 192 - used, "%s%lld with an error", used ? ", " : "",
                                 (long long)report->n_errors);
    if (!report->has_map)
        snprintf(out + used, 192 - used, "%sMAP (%lld rows have no %s)", used ? ", " : "",
                 (long long)report->n_without_map, report->kind->map_field);
}

void la_report_bias(const la_report *report, char out[LA_REPORT_BIAS]) {
    char seen[LA_SEEN_TEXT];
    la_seen_rows_show(&report->seen, report->n, seen);
    *out = 0;
    if (*seen)
        snprintf(out, LA_REPORT_BIAS, "%s: expect worse figures of new rows", seen);
}
