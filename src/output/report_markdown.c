/* The report as GitHub Markdown, fit for $GITHUB_STEP_SUMMARY. */
#include "output/report.h"

#include <string.h>

/* Text in a code span, which nothing in it may end, nor the cell of a table. */
static void write_code(FILE *stream, const char *text, bool in_table) {
    fputc('`', stream);
    for (; *text; text++)
        fprintf(stream, "%s%c", *text == '|' && in_table ? "\\" : "", *text == '`' ? '\'' : *text);
    fputc('`', stream);
}

/* A cell, in which Markdown reads nothing and no bar ends it. */
static void write_cell(FILE *stream, const char *text) {
    for (; *text; text++) {
        if (strchr("\\`*_{}[]<>()#+-.!|~&$@:", *text))
            fputc('\\', stream);
        fputc(*text, stream);
    }
}

static void write_metric(FILE *stream, const la_report *report, int metric) {
    char own[LA_METRIC_TEXT], map[LA_METRIC_TEXT], interval[LA_INTERVAL_TEXT];
    la_metric_show(report->metrics.value[metric], own);
    la_interval_show(&report->intervals[metric], interval);
    fprintf(stream, "| `%s` | ", report->set->list[metric].name);
    if (report->show_map) {
        la_metric_show(report->map.value[metric], map);
        fprintf(stream, "%s | ", map);
    }
    fprintf(stream, "%s | %s |", own, interval);
    if (report->show_map)
        fprintf(stream, " %s |", la_report_ahead(report, metric));
    fputc('\n', stream);
}

static void write_classes(FILE *stream, const la_report *report) {
    const la_metric_set *set = report->set;
    char text[LA_METRIC_TEXT], number[LA_CLASS_TEXT];
    fputs("\n| label | rows |", stream);
    for (int m = 0; m < set->n_class; m++)
        fprintf(stream, " %s |", set->class_list[m].name);
    fputs("\n|---:|---:|", stream);
    for (int m = 0; m < set->n_class; m++)
        fputs("---:|", stream);
    for (int64_t c = 0; c < report->n_classes; c++) {
        fputs("\n| ", stream);
        write_cell(stream, la_report_class_name(report, c, number));
        fprintf(stream, " | %lld |", (long long)report->class_rows[c]);
        for (int m = 0; m < set->n_class; m++) {
            la_report_class_show(report, c, m, text);
            fprintf(stream, " %s |", text);
        }
    }
    fputc('\n', stream);
}

static void write_against(FILE *stream, const la_report *report) {
    char own[LA_METRIC_TEXT], other[LA_METRIC_TEXT], difference[LA_METRIC_TEXT],
        interval[LA_INTERVAL_TEXT];
    fputs("\n#### Against ", stream);
    write_code(stream, report->against->file, false);
    fputs("\n\n| metric | this | other | difference | 95 % interval | better |\n"
          "|---|---:|---:|---:|---|---|\n",
          stream);
    for (int m = 0; m < report->set->n; m++) {
        la_metric_show(report->metrics.value[m], own);
        la_metric_show(report->against->value[m], other);
        la_metric_show(report->against->difference[m], difference);
        la_interval_show(&report->against->intervals[m], interval);
        fprintf(stream, "| `%s` | %s | %s | %s | %s | %s |\n", report->set->list[m].name, own,
                other, difference, interval, la_report_against(report, m));
    }
    fputs("\nBetter: " LA_REPORT_BETTER ".\n", stream);
}

static void write_field(FILE *stream, const la_report *report, int number) {
    const la_report_slices *slices = report->slices;
    char text[LA_SLICE_TEXT], first[LA_METRIC_TEXT], second[LA_METRIC_TEXT],
        interval[LA_INTERVAL_TEXT];
    int columns[2];
    la_slice_columns(report->set, columns);
    fputs("\n#### By ", stream);
    write_code(stream, slices->fields[number].shown, false);
    fprintf(stream,
            "\n\n| value | rows | %s | 95 %% interval | %s | flags |\n"
            "|---|---:|---:|---|---:|---|\n",
            report->set->list[columns[0]].name, report->set->list[columns[1]].name);
    for (const la_slice *slice = slices->list; slice < slices->list + slices->n; slice++) {
        if (slice->field != number)
            continue;
        la_slice_value_show(slice, text);
        fputs("| ", stream);
        write_code(stream, text, true);
        la_metric_show(slice->metrics.value[columns[0]], first);
        la_metric_show(slice->metrics.value[columns[1]], second);
        la_interval_show(&slice->intervals[columns[0]], interval);
        la_slice_flags_show(slice, text);
        fprintf(stream, " | %lld | %s | %s | %s | %s%s%s |\n", (long long)slice->n, first, interval,
                second, *text ? "**" : "", text, *text ? "**" : "");
    }
    la_slice_more_show(&slices->fields[number], text);
    if (*text)
        fprintf(stream, "\n%s.\n", text);
}

la_status la_report_markdown(const la_report *report, const la_report_style *style, FILE *stream,
                             la_error *err) {
    char summary[128], left_out[192], intervals[LA_REPORT_INTERVALS], noise[128];
    char bias[LA_REPORT_BIAS];
    (void)style;
    (void)err;
    la_report_summary(report, summary);
    la_report_left_out(report, left_out);
    fputs("### laplora report\n\n", stream);
    write_code(stream, report->file, false);
    fprintf(stream, ": %s%s%s\n\n", summary, *left_out ? "; left out: " : "", left_out);
    la_report_bias(report, bias);
    if (*bias)
        fprintf(stream, "**Biased:** %s.\n\n", bias);
    if (report->show_map)
        fprintf(stream, "| metric | MAP | %s | 95 %% interval | ahead |\n|---|---:|---:|---|---|\n",
                report->title);
    else
        fprintf(stream, "| metric | %s | 95 %% interval |\n|---|---:|---|\n", report->title);
    for (int m = 0; m < report->set->n; m++)
        write_metric(stream, report, m);
    if (report->class_values)
        write_classes(stream, report);
    la_report_intervals(report, intervals);
    la_report_noise(report, noise);
    fprintf(stream, "\nIntervals: bootstrap, %s.%s%s%s\n", intervals, *noise ? "\n\n" : "", noise,
            *noise ? "." : "");
    if (report->show_map)
        fputs("\n" LA_REPORT_AHEAD ".\n", stream);
    if (report->against)
        write_against(stream, report);
    for (int f = 0; report->slices && f < report->slices->n_fields; f++)
        write_field(stream, report, f);
    if (!report->n_gates)
        return LA_OK;
    fprintf(stream, "\n#### Gates: %s\n\n| gate | found | |\n|---|---|---|\n",
            report->n_failed ? "failed" : "passed");
    for (int i = 0; i < report->n_gates; i++) {
        char condition[LA_GATE_TEXT], outcome[LA_GATE_TEXT];
        la_gate_condition(&report->gates[i], condition);
        la_gate_outcome(&report->gates[i], outcome);
        fputs("| ", stream);
        write_code(stream, condition, true);
        fputs(" | ", stream);
        write_code(stream, outcome, true);
        fprintf(stream, " | %s |\n", report->gates[i].pass ? "PASS" : "**FAIL**");
    }
    return LA_OK;
}
