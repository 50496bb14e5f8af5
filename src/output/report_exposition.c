/* The report for monitoring: the text format 0.0.4 of Prometheus, which node_exporter's textfile
 * collector reads, and OpenMetrics, which GitLab takes as a metrics report. A metric that is
 * undefined has no sample. */
#include "output/report.h"

#include <math.h>

static void write_family(const la_report *report, int metric, FILE *stream) {
    const char *name = report->set->list[metric].name;
    const double own = report->metrics.value[metric];
    const double map = report->has_map ? report->map.value[metric] : NAN;
    if (isnan(own) && isnan(map))
        return;
    fprintf(stream,
            "# HELP laplora_%s Metric %s of predictions with a label.\n"
            "# TYPE laplora_%s gauge\n",
            name, name, name);
    if (!isnan(map))
        fprintf(stream, "laplora_%s{model=\"map\"} %.17g\n", name, map);
    if (!isnan(own))
        fprintf(stream, "laplora_%s{model=\"posterior\"} %.17g\n", name, own);
}

static void write_label(FILE *stream, const char *text) {
    for (; *text; text++)
        if (*text == '\n')
            fputs("\\n", stream);
        else
            fprintf(stream, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
}

/* Sample of a slice, without its value. */
static void write_slice(const la_report *report, const char *name, const char *labels,
                        const la_slice *slice, FILE *stream) {
    fprintf(stream, "laplora_slice_%s{%sfield=\"", name, labels);
    write_label(stream, report->slices->fields[slice->field].shown);
    fputs("\",value=\"", stream);
    write_label(stream, slice->value);
    fputs("\"} ", stream);
}

static void write_slices(const la_report *report, FILE *stream) {
    const la_report_slices *slices = report->slices;
    if (!slices || !slices->n)
        return;
    for (int m = 0; m < report->set->n; m++) {
        const char *name = report->set->list[m].name;
        bool any = false;
        for (const la_slice *s = slices->list; s < slices->list + slices->n; s++) {
            if (isnan(s->metrics.value[m]))
                continue;
            if (!any)
                fprintf(stream,
                        "# HELP laplora_slice_%s Metric %s by the value of a field.\n"
                        "# TYPE laplora_slice_%s gauge\n",
                        name, name, name);
            any = true;
            write_slice(report, name, "model=\"posterior\",", s, stream);
            fprintf(stream, "%.17g\n", s->metrics.value[m]);
        }
    }
    fputs("# HELP laplora_slice_rows Predictions with a label by the value of a field.\n"
          "# TYPE laplora_slice_rows gauge\n",
          stream);
    for (const la_slice *s = slices->list; s < slices->list + slices->n; s++) {
        write_slice(report, "rows", "", s, stream);
        fprintf(stream, "%lld\n", (long long)s->n);
    }
}

la_status la_report_prometheus(const la_report *report, const la_report_style *style, FILE *stream,
                               la_error *err) {
    (void)style;
    (void)err;
    for (int m = 0; m < report->set->n; m++)
        write_family(report, m, stream);
    fprintf(stream,
            "# HELP laplora_rows Predictions with a label.\n"
            "# TYPE laplora_rows gauge\n"
            "laplora_rows %lld\n",
            (long long)report->n);
    write_slices(report, stream);
    return LA_OK;
}

la_status la_report_gitlab(const la_report *report, const la_report_style *style, FILE *stream,
                           la_error *err) {
    LA_TRY(la_report_prometheus(report, style, stream, err));
    fputs("# EOF\n", stream);
    return LA_OK;
}
