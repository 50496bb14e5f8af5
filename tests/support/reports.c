#include "support/reports.h"
#include "support/support.h"

#include <string.h>

la_status write_report(const char *rows, const char *format, la_gate_options gates, char **out,
                       int *failed, la_error *err) {
    return write_named_report(rows, format, NULL, gates, out, failed, err);
}

la_status write_named_report(const char *rows, const char *format, const char *labels,
                             la_gate_options gates, char **out, int *failed, la_error *err) {
    const char *from = scratch("rows.jsonl"), *to = scratch("report");
    size_t length;
    write_file(from, rows, strlen(rows));
    la_report_options options = {.predictions = from, .out = to, .labels = labels, .gates = gates};
    for (int i = 0; i < LA_REPORT_FORMATS; i++)
        if (!strcmp(la_report_formats[i].name, format))
            options.format = &la_report_formats[i];
    assert_non_null(options.format);
    *err = (la_error){0};
    la_status status = la_report_run(&options, failed, err);
    *out = status == LA_OK ? read_file(to, &length) : NULL;
    return status;
}
