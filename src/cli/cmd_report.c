#include "cli/cli.h"
#include "pipeline/report_job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct report_given {
    la_common common;
    const char *out, *baseline, *labels, *threshold, *against;
    la_texts write, by, max, min, max_worse;
    int64_t min_samples;
    int format, summary;
    bool json;
} report_given;

static const char *const summary_names[] = {"github"};

static const la_option options[] = {
    LA_ROW(CHOICE, report_given, format, "format", LA_NAMES(la_report_formats),
           .help = "of the report (default text)"),
    LA_ROW(FLAG, report_given, json, "json", .help = "as --format json"),
    LA_ROW(TEXT, report_given, out, "out", .argument = "FILE",
           .help = "where the report goes; - is stdout (default)"),
    LA_ROW(REPEATED, report_given, write, "write", .argument = "FORMAT=FILE",
           .help = "a report in that format besides; alone, in place of the one on stdout"),
    LA_ROW(CHOICE, report_given, summary, "summary", LA_NAMES(summary_names),
           .help = "also Markdown, appended to the file that GITHUB_STEP_SUMMARY names"),
    LA_ROW(TEXT, report_given, against, "against", .argument = "FILE",
           .help = "also the differences from predictions of the same rows there, paired by id"),
    LA_ROW(REPEATED, report_given, by, "by", .argument = "NAME",
           .help = "also by the values of a field that predict kept, or of the row; flags slices "
                   "that are worse than the rest"),
    LA_ROW(TEXT, report_given, labels, "labels", .argument = "NAME,..",
           .help = "names of the labels of sets, in class order, for tables and gates"),
    LA_ROW(TEXT, report_given, threshold, "threshold", .argument = "FILE",
           .help = "of laplora threshold: mark it in the page (html)"),
    LA_ROW(REPEATED, report_given, max, "max", .argument = "METRIC=X",
           .help = "gate: fail (exit 1) when the metric is above X; of one label: METRIC@LABEL"),
    LA_ROW(REPEATED, report_given, min, "min", .argument = "METRIC=X",
           .help = "gate: fail (exit 1) when the metric is below X"),
    LA_ROW(TEXT, report_given, baseline, "baseline", .argument = "REPORT.json",
           .help = "an earlier report that --max-regression compares with"),
    LA_ROW(REPEATED, report_given, max_worse, "max-regression", .argument = "METRIC=X",
           .help = "gate: fail when worse than the baseline by more than X"),
    LA_ROW(INTEGER, report_given, min_samples, "min-samples", .argument = "N", .max = INT64_MAX,
           .absent = -1, .help = "gate: fail with fewer rows"),
};

static la_status report(const report_given *given, int *gates_failed, la_error *err) {
    if (given->common.n_operands != 1)
        return la_fail(err, LA_USAGE,
                       "report takes one prediction file; see laplora report --help");
    const char *names[LA_REPORT_FORMATS];
    int number;
    for (int i = 0; i < LA_REPORT_FORMATS; i++)
        names[i] = la_report_formats[i].name;
    LA_TRY(la_cli_format(names, given->format, given->json, &number, err));
    bool asked = given->format >= 0 || given->json;
    bool to_terminal = (!given->out || !strcmp(given->out, "-")) && isatty(STDOUT_FILENO);
    la_report_options run = {
        .predictions = given->common.operands[0],
        .format = asked ? &la_report_formats[number] : NULL,
        .out = given->out,
        .labels = given->labels,
        .threshold = given->threshold,
        .write = given->write.values,
        .n_write = given->write.n,
        .against = given->against,
        .summary = given->summary >= 0,
        .by = given->by.values,
        .n_by = given->by.n,
        .gates = {.max = given->max.values,
                  .n_max = given->max.n,
                  .min = given->min.values,
                  .n_min = given->min.n,
                  .max_worse = given->max_worse.values,
                  .n_max_worse = given->max_worse.n,
                  .baseline = given->baseline,
                  .min_samples = given->min_samples},
        .colour = to_terminal && !getenv("NO_COLOR"),
        .log = la_cli_log(&given->common),
    };
    return la_report_run(&run, gates_failed, err);
}

static int run(const void *args) {
    const report_given *given = args;
    la_error err = {0};
    int gates_failed = 0;
    la_status status = report(given, &gates_failed, &err);
    if (status == LA_OK && gates_failed && !given->common.quiet)
        fprintf(stderr, "laplora: note: %d gate%s failed\n", gates_failed,
                gates_failed == 1 ? "" : "s");
    return status == LA_OK && gates_failed ? LA_GATE : la_cli_exit(&err);
}

const la_command la_command_report = {
    .name = "report",
    .summary = "calibration metrics of predictions, with gates for CI",
    .usage = "PREDICTIONS.jsonl [--format KIND] [--max METRIC=X]... [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_common_rows, offsetof(report_given, common))},
    .size = sizeof(report_given),
    .run = run,
};
