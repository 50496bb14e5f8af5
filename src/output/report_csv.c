/* The report as a table: a line for each metric of each model, then of each slice. An
 * undefined value is an empty cell. */
#include "output/escape.h"
#include "output/report.h"

#include <math.h>

static void write_number(FILE *stream, double value) {
    fputc(',', stream);
    if (!isnan(value))
        fprintf(stream, "%.17g", value);
}

/* intervals NULL: there are none. slice NULL: all rows. */
static void write_model(FILE *stream, const la_report *report, const char *model,
                        const double *value, const la_interval *intervals, const la_slice *slice) {
    for (int m = 0; m < report->set->n; m++) {
        fprintf(stream, "%s,%s", report->set->list[m].name, model);
        write_number(stream, value[m]);
        write_number(stream, intervals ? intervals[m].lo : NAN);
        write_number(stream, intervals ? intervals[m].hi : NAN);
        fprintf(stream, ",%lld,", (long long)(slice ? slice->n : report->n));
        if (slice)
            la_cell_write(stream, report->slices->fields[slice->field].shown);
        fputc(',', stream);
        if (slice)
            la_cell_write(stream, slice->value);
        fputc('\n', stream);
    }
}

la_status la_report_csv(const la_report *report, const la_report_style *style, FILE *stream,
                        la_error *err) {
    (void)style;
    (void)err;
    fputs("metric,model,value,low,high,n,field,slice\n", stream);
    write_model(stream, report, "posterior", report->metrics.value, report->intervals, NULL);
    if (report->has_map)
        write_model(stream, report, "map", report->map.value, NULL, NULL);
    for (int s = 0; report->slices && s < report->slices->n; s++)
        write_model(stream, report, "posterior", report->slices->list[s].metrics.value,
                    report->slices->list[s].intervals, &report->slices->list[s]);
    return LA_OK;
}
