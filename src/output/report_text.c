/* The report for people in a terminal of 80 columns. */
#include "output/report.h"

#include <math.h>
#include <string.h>

enum {
    FILE_WIDTH = 60,
    NAME_WIDTH = 30,
    COUNT_WIDTH = 7,
    BAR_ONE = 50,
    BAR_TWO = 19,
    BAR_BYTES = 4 * BAR_ONE + 1
};

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

static size_t characters_of(const char *text) {
    size_t characters = 0;
    for (; *text; text++)
        characters += (*text & 0xc0) != 0x80;
    return characters;
}

/* The end of a long path says more than its beginning. */
static void write_path(FILE *stream, const char *path) {
    size_t characters = characters_of(path);
    if (characters <= FILE_WIDTH) {
        fputs(path, stream);
        return;
    }
    for (size_t skip = characters - FILE_WIDTH + 3; skip || (*path & 0xc0) == 0x80; path++)
        skip -= (*path & 0xc0) != 0x80 && skip;
    fprintf(stream, "...%s", path);
}

static void write_header(const la_report *report, const la_report_style *style, FILE *stream) {
    char summary[128], left_out[192], bias[LA_REPORT_BIAS];
    la_report_summary(report, summary);
    la_report_bias(report, bias);
    la_report_left_out(report, left_out);
    paint(style, stream, BOLD, "laplora report");
    fputs("  ", stream);
    write_path(stream, report->file);
    fprintf(stream, "\n%s\n", summary);
    if (*left_out)
        fprintf(stream, "left out: %s\n", left_out);
    if (*bias) {
        paint(style, stream, YELLOW, "biased");
        fprintf(stream, ": %s\n", bias);
    }
    if (report->baseline) {
        fputs("baseline: ", stream);
        write_path(stream, report->baseline);
        fputc('\n', stream);
    }
}

static void write_metrics(const la_report *report, const la_report_style *style, FILE *stream) {
    static const char *const colours[] = {YELLOW, "", GREEN};
    char line[LA_REPORT_INTERVALS];
    int width = 12;
    for (int m = 0; m < report->set->n; m++)
        if ((int)strlen(report->set->list[m].name) > width)
            width = (int)strlen(report->set->list[m].name);
    if (report->show_map)
        snprintf(line, sizeof line, "%-*s %10s %11s   %-17s %s", width, "metric", "MAP",
                 report->title, "95 % interval", "ahead");
    else
        snprintf(line, sizeof line, "%-*s %11s   %s", width, "metric", report->title,
                 "95 % interval");
    fputc('\n', stream);
    paint(style, stream, BOLD, line);
    fputc('\n', stream);
    for (int m = 0; m < report->set->n; m++) {
        char own[LA_METRIC_TEXT], map[LA_METRIC_TEXT], interval[LA_INTERVAL_TEXT];
        int better = la_report_compare(report, m);
        la_metric_show(report->metrics.value[m], own);
        la_interval_show(&report->intervals[m], interval);
        fprintf(stream, "%-*s ", width, report->set->list[m].name);
        if (report->show_map) {
            la_metric_show(report->map.value[m], map);
            fprintf(stream, "%10s ", map);
        }
        if (better == 2) {
            fprintf(stream, "%11s   %s\n", own, interval);
            continue;
        }
        fprintf(stream, "%11s   %-17s ", own, interval);
        paint(style, stream, colours[better + 1], la_report_ahead(report, m));
        fputc('\n', stream);
    }
    la_report_intervals(report, line);
    /* long lists on lines of their own */
    for (char *list = line; strlen(line) > 58 && (list = strstr(list, "; "));)
        list[1] = '\n';
    fprintf(stream, "intervals: bootstrap, %s\n", line);
    la_report_noise(report, line);
    fprintf(stream, "%s%s", line, *line ? "\n" : "");
    if (report->show_map)
        fputs(LA_REPORT_AHEAD "\n", stream);
}

/* A name that is left aligned in its column; the beginning of a long one. */
static void write_name(const char *name, int width, FILE *stream) {
    int characters = (int)characters_of(name), keep = characters > width ? width - 3 : characters;
    size_t bytes = 0;
    for (int i = 0; name[bytes] && (i < keep || (name[bytes] & 0xc0) == 0x80); bytes++)
        i += (name[bytes + 1] & 0xc0) != 0x80;
    fprintf(stream, "%.*s%*s", (int)bytes, name, characters > width ? 3 : width - characters,
            characters > width ? "..." : "");
}

static void write_classes(const la_report *report, const la_report_style *style, FILE *stream) {
    const la_metric_set *set = report->set;
    char line[128], text[LA_METRIC_TEXT], number[LA_CLASS_TEXT];
    int width = 12;
    for (int64_t c = 0; c < report->n_classes; c++) {
        int own = (int)characters_of(la_report_class_name(report, c, number));
        width = own <= width ? width : own < NAME_WIDTH ? own : NAME_WIDTH;
    }
    int used = snprintf(line, sizeof line, "%-*s %7s", width, "label", "rows");
    for (int m = 0; m < set->n_class; m++)
        used += snprintf(line + used, sizeof line - (size_t)used, " %9s", set->class_list[m].name);
    fputc('\n', stream);
    paint(style, stream, BOLD, line);
    fputc('\n', stream);
    for (int64_t c = 0; c < report->n_classes; c++) {
        write_name(la_report_class_name(report, c, number), width, stream);
        fprintf(stream, " %7lld", (long long)report->class_rows[c]);
        for (int m = 0; m < set->n_class; m++) {
            la_report_class_show(report, c, m, text);
            fprintf(stream, " %9s", text);
        }
        fputc('\n', stream);
    }
}

/* Text in a column of `width` characters. */
static void write_padded(FILE *stream, const char *text, int width) {
    int shown = 0;
    for (; *text && (shown < width || (*text & 0xc0) == 0x80); text++) {
        shown += (*text & 0xc0) != 0x80;
        fputc(*text, stream);
    }
    fprintf(stream, "%*s", width - shown, "");
}

static void write_against(const la_report *report, const la_report_style *style, FILE *stream) {
    char line[128], own[LA_METRIC_TEXT], other[LA_METRIC_TEXT], difference[LA_METRIC_TEXT],
        interval[LA_INTERVAL_TEXT];
    fputc('\n', stream);
    paint(style, stream, BOLD, "against  ");
    write_path(stream, report->against->file);
    snprintf(line, sizeof line, "%-19s %8s %8s %10s  %-20s %s", "metric", "this", "other",
             "difference", "95 % interval", "better");
    fputc('\n', stream);
    paint(style, stream, BOLD, line);
    fputc('\n', stream);
    for (int m = 0; m < report->set->n; m++) {
        la_metric_show(report->metrics.value[m], own);
        la_metric_show(report->against->value[m], other);
        la_metric_show(report->against->difference[m], difference);
        la_interval_show(&report->against->intervals[m], interval);
        fprintf(stream, "%-19s %8s %8s %10s  ", report->set->list[m].name, own, other, difference);
        const char *better = la_report_against(report, m);
        fprintf(stream, *better ? "%-20s %s\n" : "%s\n", interval, better);
    }
    fputs("better: " LA_REPORT_BETTER "\n", stream);
}

static void write_field(const la_report *report, int number, const la_report_style *style,
                        FILE *stream) {
    const la_report_slices *slices = report->slices;
    char line[128], text[LA_SLICE_TEXT], first[LA_METRIC_TEXT], second[LA_METRIC_TEXT],
        interval[LA_INTERVAL_TEXT];
    int columns[2];
    la_slice_columns(report->set, columns);
    fputc('\n', stream);
    paint(style, stream, BOLD, "by ");
    write_padded(stream, slices->fields[number].shown, 21);
    snprintf(line, sizeof line, " %7s %11s   %-22s %11s", "rows",
             report->set->list[columns[0]].name, "95 % interval",
             report->set->list[columns[1]].name);
    paint(style, stream, BOLD, line);
    fputc('\n', stream);
    for (const la_slice *slice = slices->list; slice < slices->list + slices->n; slice++) {
        if (slice->field != number)
            continue;
        la_slice_value_show(slice, text);
        la_metric_show(slice->metrics.value[columns[0]], first);
        la_metric_show(slice->metrics.value[columns[1]], second);
        la_interval_show(&slice->intervals[columns[0]], interval);
        write_padded(stream, text, 24);
        fprintf(stream, " %7lld %11s   %-22s %11s\n", (long long)slice->n, first, interval, second);
        la_slice_flags_show(slice, text);
        if (*text) {
            paint(style, stream, RED, "  FLAG");
            fprintf(stream, "  %s\n", text);
        }
    }
    la_slice_more_show(&slices->fields[number], text);
    if (*text)
        fprintf(stream, "%s\n", text);
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

/* Widths of a bin's count and bar. */
typedef struct bin_widths {
    int count, bar;
} bin_widths;

static void write_bin(const la_metric_bin *bin, bin_widths width, const la_report_style *style,
                      FILE *stream) {
    char bar[BAR_BYTES];
    double gap = bin->accuracy - bin->confidence;
    if (!bin->n) {
        fprintf(stream, " %*d", width.count, 0);
        return;
    }
    draw_bar(bin, width.bar, style->utf8, bar);
    /* no "-0.00" */
    fprintf(stream, " %*lld %s %+5.2f", width.count, (long long)bin->n, bar,
            fabs(gap) < 0.005 ? 0 : gap);
}

static void write_bin_heading(const char *title, const char *counted, bin_widths width,
                              FILE *stream) {
    int blank = width.bar - 4 - (int)strlen(title);
    fprintf(stream, " %*s 0%*s%s%*s1.0 %5s", width.count, counted, blank / 2, "", title,
            blank - blank / 2, "", "gap");
}

static void write_reliability(const la_report *report, const la_report_style *style, FILE *stream) {
    const la_metric_set *set = report->set;
    int wider = (int)strlen(set->bin_rows) - COUNT_WIDTH;
    bin_widths width = {COUNT_WIDTH, report->show_map ? BAR_TWO : BAR_ONE};
    if (wider > 0)
        width = (bin_widths){COUNT_WIDTH + wider, width.bar - wider};
    fputc('\n', stream);
    paint(style, stream, BOLD, "reliability");
    fprintf(stream, "  bar: %s, %s: mean %s, gap: %s - %s\n%-11s", set->bin_share,
            style->utf8 ? "│" : "|", set->bin_mean, set->bin_share, set->bin_mean, set->bin_mean);
    write_bin_heading(report->title, set->bin_rows, width, stream);
    if (report->show_map)
        write_bin_heading("MAP", set->bin_rows, width, stream);
    fputc('\n', stream);
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        fprintf(stream, "%.3f-%.3f", report->metrics.bins[b].lo, report->metrics.bins[b].hi);
        write_bin(&report->metrics.bins[b], width, style, stream);
        if (report->show_map && !report->metrics.bins[b].n)
            fprintf(stream, "%*s", width.bar + 7, "");
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
    if (report->against)
        write_against(report, style, stream);
    for (int f = 0; report->slices && f < report->slices->n_fields; f++)
        write_field(report, f, style, stream);
    if (report->set->bin_rows)
        write_reliability(report, style, stream);
    write_gates(report, style, stream);
    return LA_OK;
}
