/* Reports about prediction rows that a test writes down. */
#ifndef LA_TESTS_REPORTS_H
#define LA_TESTS_REPORTS_H

#include "pipeline/report_job.h"

/* la_report_run over rows (JSONL) in a format, with gates and names of labels (NULL: none);
 * *out: the report, which the caller frees, NULL after an error. */
la_status write_named_report(const char *rows, const char *format, const char *labels,
                             la_gate_options gates, char **out, int *failed, la_error *err);
/* Without names of labels. */
la_status write_report(const char *rows, const char *format, la_gate_options gates, char **out,
                       int *failed, la_error *err);

#endif
