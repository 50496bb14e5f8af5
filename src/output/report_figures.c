#include "output/report_figures.h"
#include "base/visible.h"
#include "output/escape.h"
#include "output/svg.h"

#include <math.h>
#include <string.h>

/* Coverage from which on the risk is drawn: below it a few rows decide. */
static const double LEAST_COVERAGE = 0.05;

la_interval la_share_interval(int64_t n, int64_t hits) {
    const double z = 1.959963984540054, count = (double)n, p = (double)hits / count;
    double middle = p + z * z / (2 * count), whole = 1 + z * z / count;
    double half = z * sqrt(p * (1 - p) / count + z * z / (4 * count * count));
    /* exactly 0 and 1 where there is no hit, or no miss */
    return (la_interval){hits ? (middle - half) / whole : 0,
                         hits < n ? (middle + half) / whole : 1};
}

static int64_t hits_of(const la_metric_bin *bin) {
    return llround(bin->accuracy * (double)bin->n);
}

static const la_metrics *metrics_of(const la_report *report, bool map) {
    return map ? &report->map : &report->metrics;
}

static const char *title_of(const la_report *report, bool map) {
    return map ? "MAP" : report->title;
}

static void open_figure(const la_plot *plot, const char *title, const char *description) {
    fprintf(plot->stream, "<figure>\n<h3>");
    la_xml_write(plot->stream, title);
    fputs("</h3>\n", plot->stream);
    la_plot_open(plot, title, description);
}

/* Ends the drawing and begins the table of its numbers. heads: names of the columns, one '|' after
 * the other. */
static void open_numbers(const la_plot *plot, const char *caption, const char *heads) {
    la_plot_close(plot);
    fputs("<figcaption>", plot->stream);
    la_xml_write(plot->stream, caption);
    fprintf(plot->stream,
            "</figcaption>\n<details><summary>Numbers</summary>\n"
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"%s-title\">\n"
            "<table>\n<thead><tr>",
            plot->id);
    for (size_t length; *heads; heads += length + (heads[length] == '|')) {
        length = strcspn(heads, "|");
        fprintf(plot->stream, "<th scope=\"col\" class=\"number\">%.*s</th>", (int)length, heads);
    }
    fputs("</tr></thead>\n<tbody>\n", plot->stream);
}

static void close_numbers(const la_plot *plot) {
    fputs("</tbody>\n</table>\n</div>\n</details>\n</figure>\n", plot->stream);
}

static void write_cell(FILE *stream, double value, int decimals) {
    if (isnan(value))
        fputs("<td class=\"number\">-</td>", stream);
    else
        fprintf(stream, "<td class=\"number\">%.*f</td>", decimals, value);
}

static void write_count(FILE *stream, int64_t count) {
    fprintf(stream, "<td class=\"number\">%lld</td>", (long long)count);
}

static void write_bin_head(FILE *stream, const la_metric_bin *bin) {
    fprintf(stream, "<tr><th scope=\"row\" class=\"number\">%.3f to %.3f</th>", bin->lo, bin->hi);
}

/* ---- reliability ---- */

static void draw_bin(const la_plot *plot, const la_metric_bin *bin) {
    char count[24];
    la_count_show(bin->n, count);
    la_plot_text(plot, "count", (bin->lo + bin->hi) / 2, 1, 0, -6, count);
    if (!bin->n)
        return;
    la_interval band = la_share_interval(bin->n, hits_of(bin));
    la_plot_bar(plot, "band", bin->lo, band.lo, bin->hi, band.hi, 2);
    la_plot_segment(plot, "gap", bin->confidence, bin->confidence, bin->confidence, bin->accuracy);
    la_plot_segment(plot, "level", bin->lo + 0.006, bin->accuracy, bin->hi - 0.006, bin->accuracy);
    la_plot_dot(plot, "dot", bin->confidence, bin->accuracy);
}

void la_figure_reliability(const la_report *report, bool map, FILE *stream) {
    const la_metric_set *set = report->set;
    const la_metrics *m = metrics_of(report, map);
    la_plot plot = {.stream = stream,
                    .id = map ? "reliability-map" : "reliability",
                    .x = {0, 1},
                    .y = {0, 1},
                    .width = 405,
                    .height = 405};
    char title[96], text[256], ece[LA_METRIC_TEXT];
    int n_bins = 0, n_above = 0, n_outside = 0;
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        const la_metric_bin *bin = &m->bins[b];
        if (!bin->n)
            continue;
        la_interval band = la_share_interval(bin->n, hits_of(bin));
        n_bins++;
        n_above += bin->confidence > bin->accuracy;
        n_outside += bin->confidence < band.lo || bin->confidence > band.hi;
    }
    la_metric_show(m->value[la_metric_find(set, "ece")], ece);
    snprintf(title, sizeof title, "Reliability of %s, ECE %s", title_of(report, map), ece);
    snprintf(text, sizeof text,
             "Of %d bins that have %s, %d lie below the diagonal (%s above %s), %d above or on it; "
             "the diagonal is outside the 95 %% band of %d.",
             n_bins, set->bin_rows, n_above, set->bin_mean, set->bin_share, n_bins - n_above,
             n_outside);
    open_figure(&plot, title, text);
    la_plot_axes(&plot, set->bin_mean, 0.2, set->bin_share, 0.2);
    la_plot_segment(&plot, "diagonal", 0, 0, 1, 1);
    for (int b = 0; b < LA_METRIC_BINS; b++)
        draw_bin(&plot, &m->bins[b]);
    snprintf(title, sizeof title, "bin|%s|%s|%s|from|to|gap", set->bin_rows, set->bin_mean,
             set->bin_share);
    open_numbers(&plot, text, title);
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        const la_metric_bin *bin = &m->bins[b];
        la_interval band = {NAN, NAN};
        if (bin->n)
            band = la_share_interval(bin->n, hits_of(bin));
        write_bin_head(stream, bin);
        write_count(stream, bin->n);
        write_cell(stream, bin->confidence, 4);
        write_cell(stream, bin->accuracy, 4);
        write_cell(stream, band.lo, 4);
        write_cell(stream, band.hi, 4);
        write_cell(stream, bin->accuracy - bin->confidence, 4);
        fputs("</tr>\n", stream);
    }
    close_numbers(&plot);
}

/* ---- counts ---- */

static int64_t highest_bin(const la_metrics *m) {
    int64_t highest = 0;
    for (int b = 0; b < LA_METRIC_BINS; b++)
        highest = m->bins[b].n > highest ? m->bins[b].n : highest;
    return highest;
}

/* Bins that the key of the figure lies over. */
enum { KEY_BINS = 6 };

static void draw_key(const la_plot *plot, const char *class, const char *text, int line) {
    double x = plot->x[0] + 0.03 * (plot->x[1] - plot->x[0]);
    double y = plot->y[1] - (0.05 + 0.075 * line) * (plot->y[1] - plot->y[0]);
    double height = 0.02 * (plot->y[1] - plot->y[0]);
    la_plot_bar(plot, class, x, y - height, x + 0.05 * (plot->x[1] - plot->x[0]), y + height, 0);
    la_plot_text(plot, "start", x, y, 29, 4, text);
}

void la_figure_counts(const la_report *report, bool map, FILE *stream) {
    const la_metric_set *set = report->set;
    const la_metrics *m = metrics_of(report, map);
    const char *right = set->trace ? "right" : "class in the set";
    const char *wrong = set->trace ? "wrong" : "class not in the set";
    int64_t highest = highest_bin(m), n_right = 0, n_wrong = 0;
    /* one scale for both models, so that they can be compared */
    if (report->show_map && highest_bin(metrics_of(report, !map)) > highest)
        highest = highest_bin(metrics_of(report, !map));
    double step = fmax(la_plot_step((double)highest, 5), 1);
    double top = step * ceil((double)highest / step);
    bool covered = false;
    for (int b = 0; b < KEY_BINS; b++)
        covered |= (double)report->metrics.bins[b].n > 0.8 * top ||
                   (report->show_map && (double)report->map.bins[b].n > 0.8 * top);
    top += covered ? step : 0;
    la_plot plot = {.stream = stream,
                    .id = map ? "counts-map" : "counts",
                    .x = {0, 1},
                    .y = {0, top},
                    .width = 405,
                    .height = 240};
    char title[96], text[256];
    for (int b = 0; b < LA_METRIC_BINS; b++)
        if (m->bins[b].n) {
            n_right += hits_of(&m->bins[b]);
            n_wrong += m->bins[b].n - hits_of(&m->bins[b]);
        }
    snprintf(title, sizeof title, "%s of %s by %s", set->trace ? "Answers" : "Decisions",
             title_of(report, map), set->bin_mean);
    snprintf(text, sizeof text, "%lld %s (%s) and %lld (%s) in bins of %s.", (long long)n_right,
             set->bin_rows, right, (long long)n_wrong, wrong, set->bin_mean);
    open_figure(&plot, title, text);
    la_plot_axes(&plot, set->bin_mean, 0.2, set->bin_rows, step);
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        const la_metric_bin *bin = &m->bins[b];
        if (!bin->n)
            continue;
        double misses = (double)(bin->n - hits_of(bin));
        la_plot_bar(&plot, "wrong", bin->lo, 0, bin->hi, misses, 2);
        la_plot_bar(&plot, "right", bin->lo, misses, bin->hi, (double)bin->n, 2);
    }
    draw_key(&plot, "right", right, 0);
    draw_key(&plot, "wrong", wrong, 1);
    if (report->threshold.of_confidence && !isnan(report->threshold.value) && !map) {
        double at = report->threshold.value;
        la_plot_segment(&plot, "mark", at, 0, at, plot.y[1]);
        la_plot_text(&plot, at > 0.5 ? "end" : "start", at, plot.y[1], 0, -6, "threshold");
    }
    snprintf(title, sizeof title, "bin|%s|%s|%s", set->bin_rows, right, wrong);
    open_numbers(&plot, text, title);
    for (int b = 0; b < LA_METRIC_BINS; b++) {
        const la_metric_bin *bin = &m->bins[b];
        int64_t hits = bin->n ? hits_of(bin) : 0;
        write_bin_head(stream, bin);
        write_count(stream, bin->n);
        write_count(stream, hits);
        write_count(stream, bin->n - hits);
        fputs("</tr>\n", stream);
    }
    close_numbers(&plot);
}

/* ---- curves ---- */

static const la_metric_point *last_of(const la_metrics *m) {
    return &m->points[m->n_points - 1];
}

static double risk_of(const la_metric_point *point) {
    return (double)point->wrong / (double)point->n;
}

static bool is_drawn(const la_metrics *m, const la_metric_point *point) {
    return (double)point->n >= LEAST_COVERAGE * (double)last_of(m)->n;
}

/* First point that accepts this share of the rows. */
static const la_metric_point *point_at(const la_metrics *m, double coverage) {
    const la_metric_point *point = m->points, *last = last_of(m);
    while (point < last && (double)point->n < coverage * (double)last->n * (1 - 1e-12))
        point++;
    return point;
}

static void draw_line_key(const la_plot *plot, const char *class, const char *text, double x,
                          double y) {
    double length = 0.08 * (plot->x[1] - plot->x[0]);
    la_plot_segment(plot, class, x, y, x + length, y);
    la_plot_text(plot, "start", x + length, y, 7, 4, text);
}

static void draw_risk(const la_plot *plot, const la_metrics *m, const char *class) {
    bool begun = false;
    for (int i = 0; i < m->n_points; i++) {
        const la_metric_point *point = &m->points[i];
        if (!is_drawn(m, point))
            continue;
        double coverage = (double)point->n / (double)last_of(m)->n;
        la_plot_path(plot, class, !begun, coverage, risk_of(point));
        begun = true;
    }
    la_plot_path_end(plot);
}

static void draw_threshold(const la_plot *plot, const la_report *report) {
    const la_report_threshold *t = &report->threshold;
    char text[64];
    if (!t->file || !t->n_accepted)
        return;
    double coverage = (double)t->n_accepted / (double)report->n;
    double risk = (double)t->n_wrong / (double)t->n_accepted;
    la_plot_segment(plot, "mark", coverage, plot->y[0], coverage, plot->y[1]);
    la_plot_dot(plot, "mark-dot", coverage, fmin(risk, plot->y[1]));
    if (isnan(t->value))
        snprintf(text, sizeof text, "thresholds by class");
    else
        snprintf(text, sizeof text, "threshold: %s %.4g", t->score, t->value);
    la_plot_text(plot, coverage > 0.5 ? "end" : "start", coverage, plot->y[1], 0, -6, text);
}

/* Left end of the curves' key: beside the threshold. */
static double key_of_risk(const la_report *report) {
    const la_report_threshold *t = &report->threshold;
    bool crossed = t->file && t->n_accepted && 2 * t->n_accepted < report->n;
    return crossed ? 0.52 : 0.03;
}

void la_figure_risk(const la_report *report, FILE *stream) {
    const la_metrics *models[] = {&report->metrics, &report->map};
    int n_models = report->show_map ? 2 : 1;
    double highest = 0;
    char text[320], aurc[2][LA_METRIC_TEXT];
    for (int k = 0; k < n_models; k++) {
        for (int i = 0; i < models[k]->n_points; i++)
            if (is_drawn(models[k], &models[k]->points[i]))
                highest = fmax(highest, risk_of(&models[k]->points[i]));
        la_metric_show(models[k]->value[la_metric_find(report->set, "aurc")], aurc[k]);
    }
    highest = fmax(highest, 0.01);
    double step = la_plot_step(highest, 5);
    la_plot plot = {.stream = stream,
                    .id = "risk",
                    .x = {0, 1},
                    .y = {0, step * (ceil(highest / step - 1e-9) + 1)},
                    .width = 405,
                    .height = 300};
    int used = snprintf(text, sizeof text,
                        "Error rate of the answers accepted, the most confident first, over their "
                        "share, drawn from 5 %% on. At half of the answers it is %.4f",
                        risk_of(point_at(&report->metrics, 0.5)));
    if (report->show_map)
        used += snprintf(text + used, sizeof text - (size_t)used, " (MAP %.4f)",
                         risk_of(point_at(&report->map, 0.5)));
    snprintf(text + used, sizeof text - (size_t)used, ", at all of them %.4f.",
             risk_of(last_of(&report->metrics)));
    open_figure(&plot, "Risk over coverage", text);
    la_plot_axes(&plot, "coverage: share of answers accepted", 0.2, "risk: errors among them",
                 step);
    if (report->show_map)
        draw_risk(&plot, &report->map, "map");
    draw_risk(&plot, &report->metrics, "own");
    draw_threshold(&plot, report);
    char key[LA_REPORT_TITLE + LA_METRIC_TEXT + 16];
    snprintf(key, sizeof key, "%s, AURC %s", report->title, aurc[0]);
    double left = key_of_risk(report);
    draw_line_key(&plot, "own", key, left, plot.y[1] - 0.06 * plot.y[1]);
    if (report->show_map) {
        snprintf(key, sizeof key, "MAP, AURC %s", aurc[1]);
        draw_line_key(&plot, "map", key, left, plot.y[1] - 0.13 * plot.y[1]);
    }
    open_numbers(&plot, text,
                 report->show_map
                     ? "coverage from|accepted|risk|confidence|MAP accepted|risk|confidence"
                     : "coverage from|accepted|risk|confidence");
    for (int k = 1; k <= 20; k++) {
        fprintf(stream, "<tr><th scope=\"row\" class=\"number\">%d %%</th>", 5 * k);
        for (int model = 0; model < n_models; model++) {
            const la_metric_point *point = point_at(models[model], k / 20.0);
            write_count(stream, point->n);
            write_cell(stream, risk_of(point), 4);
            write_cell(stream, point->confidence, 4);
        }
        fputs("</tr>\n", stream);
    }
    close_numbers(&plot);
}

/* Shares of the errors and of the right answers that are flagged, because the point does not accept
 * them. */
static double flagged(const la_metrics *m, const la_metric_point *point, bool errors) {
    const la_metric_point *all = last_of(m);
    int64_t total = errors ? all->wrong : all->n - all->wrong;
    int64_t kept = errors ? point->wrong : point->n - point->wrong;
    return (double)(total - kept) / (double)total;
}

/* From the corner where all are flagged, to the last point, where none is. */
static void draw_errors(const la_plot *plot, const la_metrics *m, const char *class) {
    la_plot_path(plot, class, true, 1, 1);
    for (int i = 0; i < m->n_points; i++)
        la_plot_path(plot, class, false, flagged(m, &m->points[i], false),
                     flagged(m, &m->points[i], true));
    la_plot_path_end(plot);
}

static bool has_both(const la_metrics *m) {
    return last_of(m)->wrong && last_of(m)->wrong < last_of(m)->n;
}

/* First point, from the one that accepts all, that flags this share of the errors. */
static const la_metric_point *flagging(const la_metrics *m, double share) {
    int i = m->n_points - 1;
    while (i && flagged(m, &m->points[i], true) < share - 1e-12)
        i--;
    return &m->points[i];
}

void la_figure_errors(const la_report *report, FILE *stream) {
    const la_metrics *models[] = {&report->metrics, &report->map};
    bool both[] = {has_both(models[0]), report->show_map && has_both(models[1])};
    char text[320], key[LA_REPORT_TITLE + LA_METRIC_TEXT + 16], auroc[LA_METRIC_TEXT];
    int roc = la_metric_find(report->set, "auroc"), line = 0;
    la_plot plot = {
        .stream = stream, .id = "errors", .x = {0, 1}, .y = {0, 1}, .width = 405, .height = 300};
    if (!both[0] && !both[1]) {
        fprintf(stream,
                "<div class=\"undefined\">\n<h3>Finding errors</h3>\n<p>The curve is undefined: it "
                "%s, and every answer is %s.</p>\n</div>\n",
                report->set->list[roc].undefined, last_of(models[0])->wrong ? "wrong" : "right");
        return;
    }
    snprintf(text, sizeof text,
             "Share of the errors that are flagged, over the share of the right answers that are "
             "flagged with them, the least confident first.");
    open_figure(&plot, "Finding errors", text);
    la_plot_axes(&plot, "right answers flagged", 0.2, "errors flagged", 0.2);
    la_plot_segment(&plot, "diagonal", 0, 0, 1, 1);
    for (int k = 1; k >= 0; k--) {
        if (!both[k])
            continue;
        const char *class = k ? "map" : "own";
        draw_errors(&plot, models[k], class);
        la_metric_show(models[k]->value[roc], auroc);
        snprintf(key, sizeof key, "%s, AUROC %s", title_of(report, k == 1), auroc);
        draw_line_key(&plot, class, key, 0.48, 0.06 + 0.075 * line++);
    }
    snprintf(key, sizeof key, "errors flagged from%s%s", both[0] ? "|right flagged" : "",
             both[1] ? "|MAP right flagged" : "");
    open_numbers(&plot, text, key);
    for (int k = 1; k <= 10; k++) {
        fprintf(stream, "<tr><th scope=\"row\" class=\"number\">%d %%</th>", 10 * k);
        for (int model = 0; model < 2; model++)
            if (both[model]) {
                const la_metric_point *point = flagging(models[model], k / 10.0);
                bool enough = flagged(models[model], point, true) >= k / 10.0 - 1e-12;
                write_cell(stream, enough ? flagged(models[model], point, false) : 1, 4);
            }
        fputs("</tr>\n", stream);
    }
    close_numbers(&plot);
}

/* ---- slices ---- */

enum { SLICES_DRAWN = 30, SLICE_NAME = 26 };

/* Smallest and largest of what is drawn, and of the whole file's value. */
static void find_range(const la_report *report, int field, int metric, double range[2]) {
    const la_report_slices *slices = report->slices;
    range[0] = range[1] = report->metrics.value[metric];
    for (int i = 0, drawn = 0; i < slices->n && drawn < SLICES_DRAWN; i++) {
        const la_slice *slice = &slices->list[i];
        if (slice->field != field)
            continue;
        range[0] = fmin(range[0], fmin(slice->metrics.value[metric], slice->intervals[metric].lo));
        range[1] = fmax(range[1], fmax(slice->metrics.value[metric], slice->intervals[metric].hi));
        drawn++;
    }
}

static void draw_slice(const la_plot *plot, const la_slice *slice, int metric, double y) {
    const la_interval *interval = &slice->intervals[metric];
    double value = slice->metrics.value[metric];
    char text[LA_SLICE_TEXT], flags[LA_SLICE_TEXT];
    la_slice_value_show(slice, text);
    size_t cut = la_visible_cut(text, SLICE_NAME);
    if (text[cut])
        strcpy(text + la_visible_cut(text, SLICE_NAME - 3), "…");
    la_slice_flags_show(slice, flags);
    la_plot_text(plot, "end", plot->x[0], y, -7, 4, text);
    if (isnan(value))
        return;
    const char *class = *flags ? "flagged" : "range";
    if (!isnan(interval->lo))
        la_plot_segment(plot, class, interval->lo, y, interval->hi, y);
    la_plot_dot(plot, *flags ? "flag-dot" : "dot", value, y);
    if (*flags)
        la_plot_text(plot, "middle", value, y, 0, -6, "flagged");
}

void la_figure_slices(const la_report *report, int field, const char *label, FILE *stream) {
    const la_report_slices *slices = report->slices;
    int columns[2], n = 0;
    double range[2], whole, step;
    char id[40], title[64], text[160];
    la_slice_columns(report->set, columns);
    for (int i = 0; i < slices->n; i++)
        n += slices->list[i].field == field;
    n = n < SLICES_DRAWN ? n : SLICES_DRAWN;
    find_range(report, field, columns[0], range);
    whole = report->metrics.value[columns[0]];
    if (isnan(range[0]) || !n)
        return;
    step = la_plot_step(fmax(range[1] - range[0], 0.01), 5);
    snprintf(id, sizeof id, "%s-dots", label);
    la_plot plot = {.stream = stream,
                    .id = id,
                    .x = {step * floor(range[0] / step), step * ceil(range[1] / step)},
                    .y = {n, -0.3}, /* space above the first one, for what is written there */
                    .width = 340,
                    .height = 26 * n + 8,
                    .left = 190};
    const char *metric = report->set->list[columns[0]].name;
    snprintf(title, sizeof title, "%s of slices", metric);
    snprintf(text, sizeof text,
             "%s of %d slices with 95 %% intervals, the largest slice first; dashed: all rows, "
             "%.4f. The table below has the numbers.",
             metric, n, whole);
    fputs("<figure>\n", stream);
    la_plot_open(&plot, title, text);
    la_plot_axes(&plot, metric, step, "", 0);
    if (!isnan(whole))
        la_plot_segment(&plot, "diagonal", whole, plot.y[1], whole, n);
    for (int i = 0, row = 0; i < slices->n && row < n; i++)
        if (slices->list[i].field == field)
            draw_slice(&plot, &slices->list[i], columns[0], row++ + 0.5);
    la_plot_close(&plot);
    fputs("<figcaption>", stream);
    la_xml_write(stream, text);
    fputs("</figcaption>\n</figure>\n", stream);
}
