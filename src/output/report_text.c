/* The report for people in a terminal of 80 columns. */
#include "output/report.h"

#include <math.h>
#include <string.h>

enum { FILE_WIDTH = 60, BAR_ONE = 50, BAR_TWO = 19, BAR_BYTES = 4 * BAR_ONE + 1 };

#define GREEN "\033[32m"
#define RED "\033[31m"
#define YELLOW "\033[33m"
#define BOLD "\033[1m"

static void paint(const la_report_style *style, FILE *stream, const char *colour,
                  const char *text) {
    if (style->colour && *colour)
        fprintf(stream, "%s%s\033[0m", colour, text);
    else
        fputs(text, stream);
}

/* The end of a long path says more than its beginning. */
static void write_path(FILE *stream, const char *path) {
    size_t characters = 0;
    for (const char *c = path; *c; c++)
        characters += (*c & 0xc0) != 0x80;
    if (characters <= FILE_WIDTH) {
        fputs(path, stream);
        return;
    }
    for (size_t skip = characters - FILE_WIDTH + 3; skip || (*path & 0xc0) == 0x80; path++)
        skip -= (*path & 0xc0) != 0x80 && skip;
    fprintf(stream, "...%s", path);
}

static void write_header(const la_report *report, const la_report_style *style, FILE *stream) {
    char summary[128], left_out[192];
    la_report_summary(report, summary);
    la_report_left_out(report, left_out);
    paint(style, stream, BOLD, "laplora report");
    fputs("  ", stream);
    write_path(stream, report->file);
    fprintf(stream, "\n%s\n", summary);
    if (*left_out)
        fprintf(stream, "left out: %s\n", left_out);
    if (report->baseline) {
        fputs("baseline: ", stream);
        write_path(stream, report->baseline);
        fputc('\n', stream);
    }
}

static void write_metrics(const la_report *report, const la_report_style *style, FILE *stream) {
    static const char *const colours[] = {YELLOW, "", GREEN};
    char line[128];
    if (report->show_map)
        snprintf(line, sizeof line, "%-12s %10s %11s   %-22s %s", "metric", "MAP", report->title,
                 "95 % interval", "better");
    else
        snprintf(line, sizeof line, "%-12s %11s   %s", "metric", report->title, "95 % interval");
    fputc('\n', stream);
    paint(style, stream, BOLD, line);
    fputc('\n', stream);
    for (int m = 0; m < report->set->n; m++) {
        char own[LA_METRIC_TEXT], map[LA_METRIC_TEXT], interval[LA_INTERVAL_TEXT];
        int better = la_report_compare(report, m);
        la_metric_show(report->metrics.value[m], own);
        la_interval_show(&report->intervals[m], interval);
        fprintf(stream, "%-12s ", report->set->list[m].name);
        if (report->show_map) {
            la_metric_show(report->map.value[m], map);
            fprintf(stream, "%10s ", map);
        }
        if (better == 2) {
            fprintf(stream, "%11s   %s\n", own, interval);
            continue;
        }
        fprintf(stream, "%11s   %-22s ", own, interval);
        paint(style, stream, colours[better + 1], la_report_better(report, m));
        fputc('\n', stream);
    }
    la_report_intervals(report, line);
    fprintf(stream, "intervals: bootstrap, %s\n", line);
}

static void write_classes(const la_report *report, const la_report_style *style, FILE *stream) {
    const la_metric_set *set = report->set;
    char line[128], text[LA_METRIC_TEXT];
    int used = snprintf(line, sizeof line, "%-12s %7s", "label", "rows");
    for (int m = 0; m < set->n_class; m++)
        used += snprintf(line + used, sizeof line - (size_t)used, " %9s", set->class_list[m].name);
    fputc('\n', stream);
    paint(style, stream, BOLD, line);
    fputc('\n', stream);
    for (int64_t c = 0; c < report->n_classes; c++) {
        fprintf(stream, "%-12lld %7lld", (long long)c, (long long)report->class_rows[c]);
        for (int m = 0; m < set->n_class; m++) {
            la_report_class_show(report, c, m, text);
            fprintf(stream, " %9s", text);
        }
        fputc('\n', stream);
    }
}

/* The accuracy as a bar, the mean confidence as a mark on it. */
static void draw_bar(const la_metric_bin *bin, int width, bool utf8, char out[BAR_BYTES]) {
    static const char *const parts[] = {"·", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    size_t used = 0;
    int eighths = (int)lround(bin->accuracy * width * 8);
    int mark = (int)(bin->confidence * width);
    if (mark > width - 1)
        mark = width - 1;
    for (int i = 0; i < width; i++) {
        int part = eighths - 8 * i;
        part = part < 0 ? 0 : part > 8 ? 8 : part;
        const char *cell = utf8 ? parts[part] : part >= 4 ? "#" : ".";
        if (i == mark)
            cell = utf8 ? "│" : "|";
        used += (size_t)snprintf(out + used, BAR_BYTES - used, "%s", cell);
    }
}

static void write_bin(const la_metric_bin *bin, int width, const la_report_style *style,
                      FILE *stream) {
    char bar[BAR_BYTES];
    double gap = bin->accuracy - bin->confidence;
    if (!bin->n) {
        fprintf(stream, " %7d", 0);
        return;
    }
    draw_bar(bin, width, style->utf8, bar);
    /* no "-0.00" */
    fprintf(stream, " %7lld %s %+5.2f", (long long)bin->n, bar, fabs(gap) < 0.005 ? 0 : gap);
}

static void write_bin_heading(const char *title, int width, FILE *stream) {
    int blank = width - 4 - (int)strlen(title);
    fprintf(stream, " %7s 0%*s%s%*s1.0 %5s", "rows", blank / 2, "", title, blank - blank / 2, "",
            "gap");
}

static void write_reliability(const la_report *report, const la_report_style *style, FILE *stream) {
    int width = report->show_map ? BAR_TWO : BAR_ONE;
    fputc('\n', stream);
    paint(style, stream, BOLD, "reliability");
    fprintf(stream, "  bar: accuracy, %s: mean confidence, gap: accuracy - confidence\n%-11s",
            style->utf8 ? "│" : "|", "confidence");
    write_bin_heading(report->title, width, stream);
    if (report->show_map)
        write_bin_heading("MAP", width, stream);
    fputc('\n', stream);
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        fprintf(stream, "%.3f-%.3f", report->metrics.bins[b].lo, report->metrics.bins[b].hi);
        write_bin(&report->metrics.bins[b], width, style, stream);
        if (report->show_map && !report->metrics.bins[b].n)
            fprintf(stream, "%*s", width + 7, "");
        if (report->show_map)
            write_bin(&report->map.bins[b], width, style, stream);
        fputc('\n', stream);
    }
}

static void write_gates(const la_report *report, const la_report_style *style, FILE *stream) {
    if (!report->n_gates)
        return;
    fputc('\n', stream);
    paint(style, stream, BOLD, "gates");
    fputc('\n', stream);
    for (int i = 0; i < report->n_gates; i++) {
        const la_gate *gate = &report->gates[i];
        char outcome[LA_GATE_TEXT];
        la_gate_outcome(gate, outcome);
        paint(style, stream, gate->pass ? GREEN : RED, gate->pass ? "PASS" : "FAIL");
        fprintf(stream, "  %s\n", outcome);
    }
    fprintf(stream, "%d of %d gates failed\n", report->n_failed, report->n_gates);
}

la_status la_report_text(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err) {
    (void)err;
    write_header(report, style, stream);
    write_metrics(report, style, stream);
    if (report->class_values)
        write_classes(report, style, stream);
    if (report->set->has_bins)
        write_reliability(report, style, stream);
    write_gates(report, style, stream);
    return LA_OK;
}
