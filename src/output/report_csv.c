/* The report as a table: a line for each metric of each model. An undefined value is an empty
 * cell. */
#include "output/report.h"

#include <math.h>

static void write_number(FILE *stream, double value) {
    fputc(',', stream);
    if (!isnan(value))
        fprintf(stream, "%.17g", value);
}

/* intervals NULL: there are none. */
static void write_model(FILE *stream, const la_report *report, const char *model,
                        const double *value, const la_interval *intervals) {
    for (int m = 0; m < report->set->n; m++) {
        fprintf(stream, "%s,%s", report->set->list[m].name, model);
        write_number(stream, value[m]);
        write_number(stream, intervals ? intervals[m].lo : NAN);
        write_number(stream, intervals ? intervals[m].hi : NAN);
        fprintf(stream, ",%lld\n", (long long)report->n);
    }
}

la_status la_report_csv(const la_report *report, const la_report_style *style, FILE *stream,
                        la_error *err) {
    (void)style;
    (void)err;
    fputs("metric,model,value,low,high,n\n", stream);
    write_model(stream, report, "posterior", report->metrics.value, report->intervals);
    if (report->has_map)
        write_model(stream, report, "map", report->map.value, NULL);
    return LA_OK;
}
