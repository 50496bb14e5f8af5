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
    return LA_OK;
}

la_status la_report_gitlab(const la_report *report, const la_report_style *style, FILE *stream,
                           la_error *err) {
    LA_TRY(la_report_prometheus(report, style, stream, err));
    fputs("# EOF\n", stream);
    return LA_OK;
}
