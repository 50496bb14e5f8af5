/* From a prediction file to written reports. */
#ifndef LA_PIPELINE_REPORT_JOB_H
#define LA_PIPELINE_REPORT_JOB_H

#include "base/error.h"
#include "output/report.h"

typedef struct la_report_options {
    const char *predictions;        /* "-": standard input */
    const la_report_format *format; /* NULL: text */
    const char *out;                /* NULL or "-": standard output */
    const char *labels;             /* "NAME,NAME,.." of the classes of sets; NULL: by the rows */
    const char *const *write;       /* "FORMAT=FILE" each, beside format and out or instead */
    int n_write;
    bool summary;          /* also Markdown behind the summary of a GitHub step */
    const char *against;   /* another file of the same rows, or NULL */
    const char *const *by; /* fields that slices are made by */
    int n_by;
    const char *threshold; /* file of laplora threshold, marked in the page; NULL: none */
    la_gate_options gates;
    bool colour; /* of text: standard output is a terminal and NO_COLOR is not set */
    la_log log;  /* warns of what the reader of standard output does not see */
} la_report_options;

/* Writes the reports of one reading. *gates_failed is how many gates fail; the caller's exit code
 * is then LA_GATE. Options are checked before anything is read. */
la_status la_report_run(const la_report_options *options, int *gates_failed, la_error *err);

#endif
