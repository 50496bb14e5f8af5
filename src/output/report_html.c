/* The report as a page that a person opens: one file, no script, nothing loaded from elsewhere.
 * Well-formed XML as well, so that any tool can read it. */
#include "output/escape.h"
#include "output/report_figures.h"

#include <math.h>
#include <string.h>

/* Colours are told apart by lightness too, for grey prints and eyes that see few hues; text has a
 * contrast of 4.5 or more in both schemes. */
static const char style_sheet[] =
    ":root{color-scheme:light dark;--page:#fff;--ink:#1f2328;--soft:#57606a;--line:#d0d7de;"
    "--own:#0a4f8f;--map:#b3400a;--band:#bcd7ef;--right:#9cc9ec;--wrong:#a33a06;--mark:#6f2a91;"
    "--pass:#17663a;--fail:#b3261e}\n"
    "@media screen and (prefers-color-scheme:dark){:root{--page:#14181d;--ink:#e6edf3;"
    "--soft:#a9b4c0;--line:#3a434d;--own:#8cc4f5;--map:#f0a070;--band:#274a6b;--right:#2f6090;"
    "--wrong:#f2a878;--mark:#d9a8f0;--pass:#6fd69a;--fail:#ff9c92}}\n"
    "*{box-sizing:border-box}\n"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1rem;"
    "color:var(--ink);background:var(--page);overflow-wrap:anywhere}\n"
    "h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.3rem;margin:2.2rem 0 .5rem}"
    "h3{font-size:1rem;margin:.5rem 0}\n"
    "a{color:var(--own)}.soft,figcaption{color:var(--soft)}figcaption{font-size:.9rem}\n"
    ".skip{position:absolute;left:-99rem}.skip:focus{position:static}\n"
    ":focus-visible{outline:3px solid var(--own);outline-offset:2px}\n"
    "nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.5rem 0;padding:0}"
    "\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));"
    "gap:1.5rem}\n"
    "figure{margin:0;min-width:0;max-width:31rem;break-inside:avoid}\n"
    "summary{cursor:pointer;margin:.3rem 0;font-size:.9rem}\n"
    ".scroll{overflow-x:auto;max-width:100%}\n"
    "table{border-collapse:collapse;font-size:.92rem}thead{border-bottom:2px solid var(--line)}\n"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;"
    "vertical-align:top;font-weight:400;overflow-wrap:normal}thead th{font-weight:600}\n"
    ".number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".interval,.other{white-space:nowrap}\n"
    ".id{min-width:6rem;overflow-wrap:anywhere}.long{min-width:16rem;overflow-wrap:anywhere}\n"
    ".pass,.ahead{color:var(--pass)}.fail{color:var(--fail);font-weight:700}\n"
    "svg{display:block;width:100%;height:auto}\n"
    "svg text{font-size:12.5px;fill:var(--soft)}svg .axis{fill:var(--ink)}"
    "svg .count{font-size:10px}\n.middle,.axis,.count{text-anchor:middle}.end{text-anchor:end}\n"
    "svg path{fill:none}.frame{fill:none;stroke:var(--soft)}"
    ".grid{stroke:var(--line);stroke-width:.7}\n"
    ".diagonal{stroke:var(--soft);stroke-dasharray:4 4}.band{fill:var(--band)}\n"
    ".gap{stroke:var(--map);stroke-width:2.5}.level{stroke:var(--own);stroke-width:1.5}"
    ".dot{fill:var(--own)}\n"
    ".right{fill:var(--right);stroke:var(--own);stroke-width:.7}.wrong{fill:var(--wrong)}\n"
    ".own{stroke:var(--own);stroke-width:2.5}.map{stroke:var(--map);stroke-width:2;"
    "stroke-dasharray:7 4}\n"
    ".range{stroke:var(--own);stroke-width:2}.flagged{stroke:var(--fail);stroke-width:3.5}"
    ".flag-dot{fill:var(--fail)}\n"
    ".mark{stroke:var(--mark);stroke-width:2;stroke-dasharray:8 3}.mark-dot{fill:var(--mark)}\n"
    "@page{size:A4;margin:14mm}\n"
    "@media print{:root{font-size:9.5pt}body{max-width:none;padding:0;font-size:1rem}nav,.skip,"
    "details:not([open]){display:none}h2,h3{break-after:avoid}tr{break-inside:avoid}"
    "thead{display:table-header-group}.scroll{overflow:visible}.id{min-width:4.5rem}.long{min-"
    "width:0}"
    "th,td{padding:.15rem .4rem}.figures{grid-template-columns:1fr 1fr}}\n";

/* ---- pieces ---- */

static void open_section(const char *id, const char *title, FILE *stream) {
    fprintf(stream, "<section aria-labelledby=\"%s\">\n<h2 id=\"%s\">%s</h2>\n", id, id, title);
}

static void close_section(FILE *stream) {
    fputs("</section>\n", stream);
}

/* A table that scrolls in its own box; label: id of the heading that names it. */
static void open_table(const char *label, FILE *stream) {
    fprintf(stream,
            "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"%s\">\n"
            "<table>\n<thead><tr>",
            label);
}

static void close_table(FILE *stream) {
    fputs("</tbody>\n</table>\n</div>\n", stream);
}

static void write_head(const char *class, const char *text, FILE *stream) {
    fprintf(stream, "<th scope=\"col\" class=\"%s\">", class);
    la_xml_write(stream, text);
    fputs("</th>", stream);
}

static void write_cell(const char *class, const char *text, FILE *stream) {
    fprintf(stream, "<td class=\"%s\">", class);
    la_xml_write(stream, text);
    fputs("</td>", stream);
}

static void write_row_head(const char *text, FILE *stream) {
    fputs("<tr><th scope=\"row\">", stream);
    la_xml_write(stream, text);
    fputs("</th>", stream);
}

/* ---- tables ---- */

static void write_value(double value, const char *reason, FILE *stream) {
    char text[LA_METRIC_TEXT];
    if (!isnan(value)) {
        la_metric_show(value, text);
        write_cell("number", text, stream);
        return;
    }
    fputs("<td>undefined", stream);
    if (reason)
        fprintf(stream, ": %s", reason);
    fputs("</td>", stream);
}

static void write_metrics(const la_report *report, FILE *stream) {
    char noise[128];
    open_section("metrics", "Metrics", stream);
    open_table("metrics", stream);
    write_head("name", "metric", stream);
    if (report->show_map)
        write_head("number", "MAP", stream);
    write_head("number", report->title, stream);
    write_head("interval", "95 % interval", stream);
    if (report->show_map)
        write_head("name", "ahead", stream);
    fputs("</tr></thead>\n<tbody>\n", stream);
    for (int m = 0; m < report->set->n; m++) {
        const la_metric_info *metric = &report->set->list[m];
        char interval[LA_INTERVAL_TEXT];
        write_row_head(metric->name, stream);
        if (report->show_map)
            write_value(report->map.value[m], metric->undefined, stream);
        write_value(report->metrics.value[m], metric->undefined, stream);
        la_interval_show(&report->intervals[m], interval);
        write_cell("number", interval, stream);
        if (report->show_map)
            write_cell(la_report_compare(report, m) == 1 ? "ahead" : "other",
                       la_report_ahead(report, m), stream);
        fputs("</tr>\n", stream);
    }
    close_table(stream);
    la_report_noise(report, noise);
    if (*noise)
        fprintf(stream, "<p class=\"soft\">%s.</p>\n", noise);
    if (report->show_map)
        fputs("<p class=\"soft\">" LA_REPORT_AHEAD ".</p>\n", stream);
    close_section(stream);
}

static void write_classes(const la_report *report, FILE *stream) {
    const la_metric_set *set = report->set;
    char text[LA_METRIC_TEXT], number[LA_CLASS_TEXT];
    open_section("labels", "Labels", stream);
    open_table("labels", stream);
    write_head("name", "label", stream);
    write_head("number", "rows", stream);
    for (int m = 0; m < set->n_class; m++)
        write_head("number", set->class_list[m].name, stream);
    fputs("</tr></thead>\n<tbody>\n", stream);
    for (int64_t c = 0; c < report->n_classes; c++) {
        write_row_head(la_report_class_name(report, c, number), stream);
        fprintf(stream, "<td class=\"number\">%lld</td>", (long long)report->class_rows[c]);
        for (int m = 0; m < set->n_class; m++) {
            la_report_class_show(report, c, m, text);
            write_cell("number", text, stream);
        }
        fputs("</tr>\n", stream);
    }
    close_table(stream);
    close_section(stream);
}

static void write_against(const la_report *report, FILE *stream) {
    static const char *const heads[] = {"this", "other", "difference", "95 % interval"};
    const la_against *against = report->against;
    char text[LA_METRIC_TEXT], interval[LA_INTERVAL_TEXT];
    open_section("against", "Against another file", stream);
    fputs("<p>", stream);
    la_xml_write(stream, against->file);
    fputs(". Better: " LA_REPORT_BETTER ".</p>\n", stream);
    open_table("against", stream);
    write_head("name", "metric", stream);
    for (int i = 0; i < 4; i++)
        write_head("number", heads[i], stream);
    write_head("other", "better", stream);
    fputs("</tr></thead>\n<tbody>\n", stream);
    for (int m = 0; m < report->set->n; m++) {
        const double numbers[] = {report->metrics.value[m], against->value[m],
                                  against->difference[m]};
        write_row_head(report->set->list[m].name, stream);
        for (int i = 0; i < 3; i++) {
            la_metric_show(numbers[i], text);
            write_cell("number", text, stream);
        }
        la_interval_show(&against->intervals[m], interval);
        write_cell("interval", interval, stream);
        write_cell("other", la_report_against(report, m), stream);
        fputs("</tr>\n", stream);
    }
    close_table(stream);
    close_section(stream);
}

static void write_gates(const la_report *report, FILE *stream) {
    open_section("gates", "Gates", stream);
    open_table("gates", stream);
    write_head("name", "outcome", stream);
    write_head("name", "condition", stream);
    write_head("name", "found", stream);
    fputs("</tr></thead>\n<tbody>\n", stream);
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
    close_table(stream);
    close_section(stream);
}

/* ---- figures ---- */

static void write_pair(const la_report *report, FILE *stream,
                       void (*draw)(const la_report *report, bool map, FILE *stream)) {
    fputs("<div class=\"figures\">\n", stream);
    draw(report, false, stream);
    if (report->show_map)
        draw(report, true, stream);
    fputs("</div>\n", stream);
}

static void write_reliability(const la_report *report, FILE *stream) {
    const la_metric_set *set = report->set;
    open_section("reliability-of-confidence", "Reliability", stream);
    fprintf(stream,
            "<p>A point is a bin: %s over mean %s, with its 95 %% Wilson interval as a band and "
            "the number of %s above it. A calibrated model follows the diagonal; the stroke from "
            "the diagonal to a point is the bin's gap.</p>\n",
            set->bin_share, set->bin_mean, set->bin_rows);
    write_pair(report, stream, la_figure_reliability);
    close_section(stream);
}

static void write_distribution(const la_report *report, FILE *stream) {
    open_section("distribution", "How sure the answers are", stream);
    write_pair(report, stream, la_figure_counts);
    close_section(stream);
}

static void write_threshold(const la_report *report, FILE *stream) {
    const la_report_threshold *t = &report->threshold;
    double n = (double)report->n, accepted = (double)t->n_accepted;
    fputs("<p>The threshold of ", stream);
    la_xml_write(stream, t->file);
    if (t->by_class)
        fprintf(stream, " (on %s, one for each class)", t->score);
    else if (isnan(t->value))
        fprintf(stream, " (on %s: none could be promised)", t->score);
    else
        fprintf(stream, " (%s %.10g)", t->score, t->value);
    fprintf(stream, " accepts %lld of the %lld labelled rows, a coverage of %.4f",
            (long long)t->n_accepted, (long long)report->n, accepted / n);
    if (t->n_accepted && report->set->bin_rows) {
        la_interval range = la_share_interval(t->n_accepted, t->n_wrong);
        fprintf(stream, "; %lld of them are wrong, %.4f (95 %% interval %.4f to %.4f)",
                (long long)t->n_wrong, (double)t->n_wrong / accepted, range.lo, range.hi);
    }
    fputs(".</p>\n", stream);
}

static void write_selection(const la_report *report, FILE *stream) {
    bool curves = report->metrics.n_points > 0;
    open_section("selection", "Which answers can stand alone", stream);
    if (report->threshold.file)
        write_threshold(report, stream);
    if (curves) {
        fputs("<div class=\"figures\">\n", stream);
        la_figure_risk(report, stream);
        la_figure_errors(report, stream);
        fprintf(stream,
                "</div>\n<p class=\"soft\">The curves have a point wherever the share of the "
                "answers, or of the errors, passes another hundredth (at most %d points), and "
                "straight lines between them; answers of one confidence are accepted "
                "together.</p>\n",
                LA_METRIC_POINTS);
    }
    close_section(stream);
}

/* ---- slices ---- */

static void write_field(const la_report *report, int number, FILE *stream) {
    const la_report_slices *slices = report->slices;
    char text[LA_SLICE_TEXT], interval[LA_INTERVAL_TEXT], id[32];
    int columns[2];
    la_slice_columns(report->set, columns);
    snprintf(id, sizeof id, "slices-%d", number + 1);
    fprintf(stream, "<h3 id=\"%s\">By ", id);
    la_xml_write(stream, slices->fields[number].shown);
    fputs("</h3>\n", stream);
    la_figure_slices(report, number, id, stream);
    open_table(id, stream);
    write_head("name", "value", stream);
    write_head("number", "rows", stream);
    write_head("number", report->set->list[columns[0]].name, stream);
    write_head("number", "95 % interval", stream);
    write_head("number", report->set->list[columns[1]].name, stream);
    write_head("name", "flags", stream);
    fputs("</tr></thead>\n<tbody>\n", stream);
    for (const la_slice *slice = slices->list; slice < slices->list + slices->n; slice++) {
        if (slice->field != number)
            continue;
        la_slice_value_show(slice, text);
        write_row_head(text, stream);
        fprintf(stream, "<td class=\"number\">%lld</td>", (long long)slice->n);
        write_value(slice->metrics.value[columns[0]], report->set->list[columns[0]].undefined,
                    stream);
        la_interval_show(&slice->intervals[columns[0]], interval);
        write_cell("number", interval, stream);
        write_value(slice->metrics.value[columns[1]], report->set->list[columns[1]].undefined,
                    stream);
        la_slice_flags_show(slice, text);
        write_cell(*text ? "fail" : "other", text, stream);
        fputs("</tr>\n", stream);
    }
    close_table(stream);
    la_slice_more_show(&slices->fields[number], text);
    if (*text)
        fprintf(stream, "<p>%s</p>\n", text);
}

static void write_slices(const la_report *report, FILE *stream) {
    open_section("slices", "Slices", stream);
    for (int f = 0; f < report->slices->n_fields; f++)
        write_field(report, f, stream);
    close_section(stream);
}

/* ---- rows ---- */

enum { ID_MOST = 48, LABEL_MOST = 80, FIELD_MOST = 160, FIELDS_MOST = 8 };

static void write_fields(const json_t *fields, FILE *stream) {
    const char *key;
    json_t *value;
    int n = 0;
    char text[LA_REVIEW_TEXT];
    fputs("<td class=\"long\">", stream);
    json_object_foreach((json_t *)(uintptr_t)fields, key, value) {
        json_t *name = json_string(key);
        if (n++ == FIELDS_MOST) {
            fputs("<br/>…", stream);
            json_decref(name);
            break;
        }
        fputs(n > 1 ? "<br/>" : "", stream);
        la_review_show(name, ID_MOST, text);
        la_xml_write(stream, text);
        la_review_show(value, FIELD_MOST, text);
        fputs(": ", stream);
        la_xml_write(stream, text);
        json_decref(name);
    }
    fputs("</td>", stream);
}

static bool any_value(const la_review_list *list, size_t offset) {
    for (int i = 0; i < list->n; i++)
        if (*(json_t *const *)((const char *)&list->rows[i] + offset))
            return true;
    return false;
}

static void write_shown(double value, FILE *stream) {
    char text[24] = "-";
    if (!isnan(value))
        snprintf(text, sizeof text, "%.4f", value);
    write_cell("number", text, stream);
}

static void write_review_row(const la_report *report, const la_review_row *row, bool ids,
                             bool fields, FILE *stream) {
    char *const *names = report->class_names ? report->class_names : report->review->names;
    int64_t n_names = report->class_names ? report->n_classes : report->review->n_names;
    char text[LA_REVIEW_TEXT];
    la_review_show(row->index, ID_MOST, text);
    fputs("<tr><th scope=\"row\">", stream);
    la_xml_write(stream, text);
    if (row->token) {
        la_review_show(row->token, ID_MOST, text);
        fputs(", token ", stream);
        la_xml_write(stream, text);
    }
    fputs("</th>", stream);
    if (ids) {
        la_review_show(row->id, ID_MOST, text);
        write_cell("id", text, stream);
    }
    if (row->label)
        la_review_label(names, n_names, row->label, LABEL_MOST, text);
    else
        strcpy(text, "-");
    write_cell("name", text, stream);
    if (row->prediction)
        la_review_label(names, n_names, row->prediction, LABEL_MOST, text);
    else if (row->look.class >= 0)
        snprintf(text, sizeof text, "%lld", (long long)row->look.class);
    else
        strcpy(text, "-");
    write_cell("name", text, stream);
    write_shown(row->look.shown, stream);
    if (report->show_map)
        write_shown(row->map_shown, stream);
    if (fields)
        write_fields(row->fields, stream);
    fputs("</tr>\n", stream);
}

static void write_review_list(const la_report *report, const char *id, const char *title,
                              const la_review_list *list, FILE *stream) {
    bool ids = any_value(list, offsetof(la_review_row, id));
    bool fields = any_value(list, offsetof(la_review_row, fields));
    char head[64];
    fprintf(stream, "<h3 id=\"%s\">%s</h3>\n", id, title);
    if (!list->n) {
        fputs("<p>None.</p>\n", stream);
        return;
    }
    open_table(id, stream);
    write_head("name", "row", stream);
    if (ids)
        write_head("name", "id", stream);
    write_head("name", "label", stream);
    write_head("name", "prediction", stream);
    write_head("number", report->kind->words.shown, stream);
    if (report->show_map) {
        snprintf(head, sizeof head, "MAP %s", report->kind->words.shown);
        write_head("number", head, stream);
    }
    if (fields)
        write_head("name", "fields", stream);
    fputs("</tr></thead>\n<tbody>\n", stream);
    for (int i = 0; i < list->n; i++)
        write_review_row(report, &list->rows[i], ids, fields, stream);
    close_table(stream);
}

static void write_review(const la_report *report, FILE *stream) {
    const la_look_words *words = &report->kind->words;
    open_section("review", "Rows to look at first", stream);
    fprintf(stream, "<p>At most %d rows each; row: its index in the data.</p>\n", LA_REVIEW_ROWS);
    write_review_list(report, "review-wrong", words->wrong, &report->review->wrong, stream);
    write_review_list(report, "review-uncertain", words->uncertain, &report->review->uncertain,
                      stream);
    close_section(stream);
}

/* ---- page ---- */

typedef struct section {
    const char *id, *name;
    bool shown;
    void (*write)(const la_report *report, FILE *stream);
} section;

static void write_header(const la_report *report, FILE *stream) {
    char summary[128], left_out[192], bias[LA_REPORT_BIAS];
    la_report_summary(report, summary);
    la_report_left_out(report, left_out);
    la_report_bias(report, bias);
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
          "<title>laplora report: ",
          stream);
    la_xml_write(stream, report->file);
    fprintf(stream,
            "</title>\n<style>\n%s</style>\n</head>\n<body>\n"
            "<a class=\"skip\" href=\"#content\">Skip to the content</a>\n"
            "<header>\n<h1>laplora report</h1>\n<p>",
            style_sheet);
    la_xml_write(stream, report->file);
    fputs("<br/>", stream);
    la_xml_write(stream, summary);
    if (*left_out) {
        fputs("<br/>left out: ", stream);
        la_xml_write(stream, left_out);
    }
    if (*bias) {
        fputs("<br/><strong>Biased:</strong> ", stream);
        la_xml_write(stream, bias);
    }
    if (report->n_gates)
        fprintf(stream, "<br/><strong class=\"%s\">%d of %d gates failed</strong>",
                report->n_failed ? "fail" : "pass", report->n_failed, report->n_gates);
    fputs("</p>\n</header>\n", stream);
}

la_status la_report_html(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err) {
    const section sections[] = {
        {"gates", "Gates", report->n_gates > 0, write_gates},
        {"metrics", "Metrics", true, write_metrics},
        {"against", "Against another file", report->against != NULL, write_against},
        {"labels", "Labels", report->class_values != NULL, write_classes},
        {"reliability-of-confidence", "Reliability", report->set->bin_rows != NULL,
         write_reliability},
        {"distribution", "How sure", report->set->bin_rows != NULL, write_distribution},
        {"selection", "Selection", report->metrics.n_points || report->threshold.file,
         write_selection},
        {"slices", "Slices", report->slices && report->slices->n_fields, write_slices},
        {"review", "Rows to look at first", report->review != NULL, write_review},
    };
    enum { SECTIONS = sizeof sections / sizeof *sections };
    char intervals[LA_REPORT_INTERVALS];
    (void)style;
    (void)err;
    la_report_intervals(report, intervals);
    write_header(report, stream);
    fputs("<nav aria-label=\"Sections\">\n<ul>\n", stream);
    for (int s = 0; s < SECTIONS; s++)
        if (sections[s].shown)
            fprintf(stream, "<li><a href=\"#%s\">%s</a></li>\n", sections[s].id, sections[s].name);
    fputs("</ul>\n</nav>\n<main id=\"content\" tabindex=\"-1\">\n", stream);
    for (int s = 0; s < SECTIONS; s++)
        if (sections[s].shown)
            sections[s].write(report, stream);
    fprintf(stream,
            "</main>\n<footer>\n<p class=\"soft\">laplora " LAPLORA_VERSION
            "; predictions xxh3 %s; intervals of metrics: %d bootstrap resamples, %s.</p>\n"
            "</footer>\n</body>\n</html>\n",
            report->digest, (int)report->resamples, intervals);
    return LA_OK;
}
