#include "pipeline/report_job.h"
#include "base/output_file.h"
#include "base/team_open.h"
#include "base/visible.h"
#include "input/rows.h"
#include "output/report.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The locale as the environment names it: LC_ALL before LC_CTYPE before LANG. */
static bool locale_is_utf8(void) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

/* Names of --labels in place of those that the rows give. */
static la_status set_names(const la_labels *given, la_predictions *p, la_error *err) {
    if (!given->names)
        return LA_OK;
    if (!p->names)
        return la_fail(err, LA_USAGE,
                       "--labels: the predictions are of %s, whose report has no label of its own; "
                       "leave --labels out",
                       p->kind->metrics->rows);
    if (given->count != p->n_classes)
        return la_fail(err, LA_USAGE, "--labels: has %lld names, expected %lld, one for each label",
                       (long long)given->count, (long long)p->n_classes);
    for (int64_t c = 0; c < p->n_classes; c++) {
        free(p->names[c]);
        p->names[c] = la_visible_copy(given->names[c], err);
    }
    return err->status;
}

/* The report of predictions, with the gates taken over. */
static la_status measure(const la_report_options *options, la_gate *gates, int n_gates,
                         la_report *report, la_error *err) {
    la_predictions predictions;
    const char *path = options->predictions;
    la_labels labels = {0};
    la_team team;
    la_status status =
        options->labels ? la_labels_parse("--labels", options->labels, &labels, err) : LA_OK;
    if (status == LA_OK)
        status = la_predictions_read(path, &predictions, err);
    if (status != LA_OK) {
        la_labels_free(&labels);
        free(gates);
        return status;
    }
    status = set_names(&labels, &predictions, err);
    if (status == LA_OK)
        status = la_team_open(0, false, NULL, &team, err);
    if (status == LA_OK)
        status = la_report_build(team, strcmp(path, "-") ? path : "standard input", &predictions,
                                 options->gates.baseline, gates, n_gates, report, err);
    else
        free(gates);
    la_predictions_free(&predictions);
    la_labels_free(&labels);
    return status;
}

static la_status write_report(const la_report_options *options, const la_report_format *format,
                              const la_report *report, la_error *err) {
    la_output_file out;
    bool to_file = options->out && strcmp(options->out, "-");
    la_report_style style = {.colour = options->colour && !to_file, .utf8 = locale_is_utf8()};
    LA_TRY(la_output_open(&out, options->out, LA_OUTPUT_STREAM, err));
    la_status status = format->write(report, &style, out.stream, err);
    if (status == LA_OK)
        return la_output_commit(&out, err);
    la_output_discard(&out);
    return status;
}

la_status la_report_run(const la_report_options *options, int *gates_failed, la_error *err) {
    const la_report_format *format = options->format ? options->format : la_report_formats;
    la_report report;
    la_gate *gates;
    int n_gates;
    *gates_failed = 0;
    if (!options->predictions)
        return la_fail(err, LA_USAGE, "report: which file? give PREDICTIONS.jsonl");
    LA_TRY(la_output_apart(options->out, "the predictions", options->predictions, err));
    LA_TRY(la_output_apart(options->out, "--baseline", options->gates.baseline, err));
    LA_TRY(la_output_check(options->out, err));
    LA_TRY(la_gates_parse(&options->gates, &gates, &n_gates, err));
    LA_TRY(measure(options, gates, n_gates, &report, err));
    la_status status = write_report(options, format, &report, err);
    if (status == LA_OK)
        *gates_failed = report.n_failed;
    la_report_free(&report);
    return status;
}
