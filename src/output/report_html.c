/* The report as one HTML page: no script, nothing loaded from elsewhere. */
#include "output/report.h"
#include "output/escape.h"

#include <math.h>

/* The plot's square, and its margins, in SVG units. */
enum { SIDE = 300, LEFT = 44, TOP = 24, BELOW = 44, RIGHT = 12 };

static const char style_sheet[] =
    "body{font:15px/1.45 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}\n"
    "table{border-collapse:collapse;margin:1rem 0}\n"
    "th,td{padding:.25rem .75rem;border-bottom:1px solid #ddd;text-align:left}\n"
    ".number{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".plots{display:flex;flex-wrap:wrap;gap:1rem}\n"
    ".pass,.better{color:#176639}.fail{color:#b3261e;font-weight:600}\n"
    "svg{width:22rem;max-width:100%;height:auto}\n"
    "svg text{font-size:11px;fill:#444}\n"
    ".frame{fill:none;stroke:#888}.diagonal{stroke:#888;stroke-dasharray:4 4}\n"
    ".bar{fill:#3b74b9}.gap{fill:#d8702a;fill-opacity:.35}.mark{stroke:#8c3d05;stroke-width:2}\n";

static double plot_x(double value) {
    return LEFT + SIDE * value;
}

static double plot_y(double value) {
    return TOP + SIDE * (1 - value);
}

static void write_bar(const la_metric_set *set, const la_metric_bin *bin, FILE *stream) {
    double x = plot_x(bin->lo) + 1, width = plot_x(bin->hi) - 1 - x;
    double upper = fmax(bin->accuracy, bin->confidence);
    if (!bin->n)
        return;
    fprintf(stream,
            "<g><title>%.3f to %.3f: %lld %s, %s %.4f, %s %.4f</title>"
            "<rect class=\"bar\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>",
            bin->lo, bin->hi, (long long)bin->n, set->bin_rows, set->bin_share, bin->accuracy,
            set->bin_mean, bin->confidence, x, plot_y(bin->accuracy), width, SIDE * bin->accuracy);
    fprintf(stream, "<rect class=\"gap\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>", x,
            plot_y(upper), width, SIDE * fabs(bin->accuracy - bin->confidence));
    fprintf(stream, "<line class=\"mark\" x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\"/></g>\n",
            x, plot_y(bin->confidence), x + width, plot_y(bin->confidence));
}

static void write_axes(const la_metric_set *set, FILE *stream) {
    fprintf(stream,
            "<rect class=\"frame\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n"
            "<line class=\"diagonal\" x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\"/>\n",
            LEFT, TOP, SIDE, SIDE, LEFT, TOP + SIDE, LEFT + SIDE, TOP);
    for (int tick = 0; tick <= 5; tick++) {
        double value = tick / 5.0;
        fprintf(stream,
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.1f</text>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f</text>\n",
                plot_x(value), TOP + SIDE + 16, value, LEFT - 6, plot_y(value) + 4, value);
    }
    fprintf(stream,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>"
            "<text x=\"12\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 12 %d)\">"
            "%s</text>\n",
            LEFT + SIDE / 2, TOP + SIDE + 34, set->bin_mean, TOP + SIDE / 2, TOP + SIDE / 2,
            set->bin_share);
}

static void write_plot(const char *title, const la_metric_set *set, const la_metrics *metrics,
                       FILE *stream) {
    char ece[LA_METRIC_TEXT];
    la_metric_show(metrics->value[la_metric_find(set, "ece")], ece);
    fprintf(stream, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Reliability of ",
            LEFT + SIDE + RIGHT, TOP + SIDE + BELOW);
    la_xml_write(stream, title);
    fprintf(stream, "\">\n<text x=\"%d\" y=\"15\" text-anchor=\"middle\">", LEFT + SIDE / 2);
    la_xml_write(stream, title);
    fprintf(stream, ", ece %s</text>\n", ece);
    for (int b = 0; b < LA_METRIC_BINS; b++)
        write_bar(set, &metrics->bins[b], stream);
    write_axes(set, stream);
    fputs("</svg>\n", stream);
}

static void write_cell(const char *class, const char *text, FILE *stream) {
    fprintf(stream, "<td class=\"%s\">", class);
    la_xml_write(stream, text);
    fputs("</td>", stream);
}

static void write_table(const la_report *report, FILE *stream) {
    fputs("<table>\n<thead><tr><th>metric</th>", stream);
    if (report->show_map)
        fputs("<th class=\"number\">MAP</th>", stream);
    fputs("<th class=\"number\">", stream);
    la_xml_write(stream, report->title);
    fprintf(stream, "</th><th>95 %% interval</th>%s</tr></thead>\n<tbody>\n",
            report->show_map ? "<th>better</th>" : "");
    for (int m = 0; m < report->set->n; m++) {
        char text[LA_METRIC_TEXT], interval[LA_INTERVAL_TEXT];
        fprintf(stream, "<tr><td>%s</td>", report->set->list[m].name);
        if (report->show_map) {
            la_metric_show(report->map.value[m], text);
            write_cell("number", text, stream);
        }
        la_metric_show(report->metrics.value[m], text);
        write_cell("number", text, stream);
        la_interval_show(&report->intervals[m], interval);
        write_cell("interval", interval, stream);
        if (report->show_map)
            write_cell(la_report_compare(report, m) == 1 ? "better" : "other",
                       la_report_better(report, m), stream);
        fputs("</tr>\n", stream);
    }
    fputs("</tbody>\n</table>\n", stream);
}

static void write_classes(const la_report *report, FILE *stream) {
    const la_metric_set *set = report->set;
    char text[LA_METRIC_TEXT], number[LA_CLASS_TEXT];
    fputs("<h2>Labels</h2>\n<table>\n<thead><tr><th>label</th><th class=\"number\">rows</th>",
          stream);
    for (int m = 0; m < set->n_class; m++)
        fprintf(stream, "<th class=\"number\">%s</th>", set->class_list[m].name);
    fputs("</tr></thead>\n<tbody>\n", stream);
    for (int64_t c = 0; c < report->n_classes; c++) {
        fputs("<tr><td>", stream);
        la_xml_write(stream, la_report_class_name(report, c, number));
        fprintf(stream, "</td><td class=\"number\">%lld</td>", (long long)report->class_rows[c]);
        for (int m = 0; m < set->n_class; m++) {
            la_report_class_show(report, c, m, text);
            write_cell("number", text, stream);
        }
        fputs("</tr>\n", stream);
    }
    fputs("</tbody>\n</table>\n", stream);
}

static void write_field(const la_report *report, int number, FILE *stream) {
    const la_report_slices *slices = report->slices;
    char text[LA_SLICE_TEXT], metric[LA_METRIC_TEXT], interval[LA_INTERVAL_TEXT];
    int columns[2];
    la_slice_columns(report->set, columns);
    fputs("<h2>By ", stream);
    la_xml_write(stream, slices->fields[number].shown);
    fprintf(stream,
            "</h2>\n<table>\n<thead><tr><th>value</th><th class=\"number\">rows</th>"
            "<th class=\"number\">%s</th><th>95 %% interval</th><th class=\"number\">%s</th>"
            "<th>flags</th></tr></thead>\n<tbody>\n",
            report->set->list[columns[0]].name, report->set->list[columns[1]].name);
    for (const la_slice *slice = slices->list; slice < slices->list + slices->n; slice++) {
        if (slice->field != number)
            continue;
        la_slice_value_show(slice, text);
        fputs("<tr>", stream);
        write_cell("value", text, stream);
        fprintf(stream, "<td class=\"number\">%lld</td>", (long long)slice->n);
        la_metric_show(slice->metrics.value[columns[0]], metric);
        write_cell("number", metric, stream);
        la_interval_show(&slice->intervals[columns[0]], interval);
        write_cell("interval", interval, stream);
        la_metric_show(slice->metrics.value[columns[1]], metric);
        write_cell("number", metric, stream);
        la_slice_flags_show(slice, text);
        write_cell(*text ? "fail" : "other", text, stream);
        fputs("</tr>\n", stream);
    }
    fputs("</tbody>\n</table>\n", stream);
    la_slice_more_show(&slices->fields[number], text);
    if (*text)
        fprintf(stream, "<p>%s</p>\n", text);
}

static void write_gates(const la_report *report, FILE *stream) {
    if (!report->n_gates)
        return;
    fputs("<h2>Gates</h2>\n<table>\n<tbody>\n", stream);
    for (int i = 0; i < report->n_gates; i++) {
        const la_gate *gate = &report->gates[i];
        char text[LA_GATE_TEXT];
        fputs("<tr>", stream);
        write_cell(gate->pass ? "pass" : "fail", gate->pass ? "PASS" : "FAIL", stream);
        la_gate_condition(gate, text);
        write_cell("gate", text, stream);
        la_gate_outcome(gate, text);
        write_cell("found", text, stream);
        fputs("</tr>\n", stream);
    }
    fputs("</tbody>\n</table>\n", stream);
}

static void write_reliability(const la_report *report, FILE *stream) {
    fprintf(stream,
            "<h2>Reliability</h2>\n<p>Bars: %s of the %s in a bin; lines: their mean %s; between "
            "them, the gap. A calibrated model follows the diagonal.</p>\n"
            "<div class=\"plots\">\n",
            report->set->bin_share, report->set->bin_rows, report->set->bin_mean);
    write_plot(report->title, report->set, &report->metrics, stream);
    if (report->show_map)
        write_plot("MAP", report->set, &report->map, stream);
    fputs("</div>\n", stream);
}

la_status la_report_html(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err) {
    char summary[128], left_out[192], intervals[128];
    (void)style;
    (void)err;
    la_report_summary(report, summary);
    la_report_left_out(report, left_out);
    la_report_intervals(report, intervals);
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
          "<title>laplora report: ",
          stream);
    la_xml_write(stream, report->file);
    fprintf(stream, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>laplora report</h1>\n<p>",
            style_sheet);
    la_xml_write(stream, report->file);
    fputs("<br/>", stream);
    la_xml_write(stream, summary);
    if (*left_out) {
        fputs("<br/>left out: ", stream);
        la_xml_write(stream, left_out);
    }
    fputs("</p>\n", stream);
    write_gates(report, stream);
    write_table(report, stream);
    if (report->class_values)
        write_classes(report, stream);
    for (int f = 0; report->slices && f < report->slices->n_fields; f++)
        write_field(report, f, stream);
    if (report->set->bin_rows)
        write_reliability(report, stream);
    fprintf(stream,
            "<p>laplora " LAPLORA_VERSION
            "; predictions xxh3 %s; intervals: %d bootstrap resamples, %s.</p>\n</body>\n</html>\n",
            report->digest, (int)report->resamples, intervals);
    return LA_OK;
}
