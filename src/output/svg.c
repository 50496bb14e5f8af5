#include "output/svg.h"
#include "output/escape.h"

#include <math.h>

/* Margins of the frame: numbers and name of the vertical axis, counts, numbers and name of the
 * horizontal one. */
enum { LEFT = 58, ABOVE = 20, RIGHT = 16, BELOW = 46 };

static double left_of(const la_plot *plot) {
    return plot->left > 0 ? plot->left : LEFT;
}

static double x_of(const la_plot *plot, double x) {
    return left_of(plot) + plot->width * (x - plot->x[0]) / (plot->x[1] - plot->x[0]);
}

static double y_of(const la_plot *plot, double y) {
    return ABOVE + plot->height * (1 - (y - plot->y[0]) / (plot->y[1] - plot->y[0]));
}

void la_plot_open(const la_plot *plot, const char *title, const char *description) {
    fprintf(plot->stream,
            "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-labelledby=\"%s-title %s-desc\">\n"
            "<title id=\"%s-title\">",
            left_of(plot) + plot->width + RIGHT, ABOVE + plot->height + BELOW, plot->id, plot->id,
            plot->id);
    la_xml_write(plot->stream, title);
    fprintf(plot->stream, "</title>\n<desc id=\"%s-desc\">", plot->id);
    la_xml_write(plot->stream, description);
    fputs("</desc>\n", plot->stream);
}

void la_plot_close(const la_plot *plot) {
    fputs("</svg>\n", plot->stream);
}

static void write_tick(const la_plot *plot, bool across, double value, double step) {
    char text[32];
    if (step >= 1)
        la_count_show(llround(value), text);
    else
        snprintf(text, sizeof text, "%.*f", (int)ceil(-log10(step) - 1e-9), value);
    if (across) {
        la_plot_segment(plot, "grid", value, plot->y[0], value, plot->y[1]);
        la_plot_text(plot, "middle", value, plot->y[0], 0, 17, text);
    } else {
        la_plot_segment(plot, "grid", plot->x[0], value, plot->x[1], value);
        la_plot_text(plot, "end", plot->x[0], value, -7, 4, text);
    }
}

static void write_ticks(const la_plot *plot, bool across, double step) {
    const double *range = across ? plot->x : plot->y;
    if (step <= 0)
        return;
    int64_t first = (int64_t)ceil(range[0] / step - 1e-9);
    for (int64_t i = first; (double)i * step <= range[1] * (1 + 1e-12); i++)
        write_tick(plot, across, (double)i * step, step);
}

void la_plot_axes(const la_plot *plot, const char *x_name, double x_step, const char *y_name,
                  double y_step) {
    double middle = ABOVE + plot->height / 2;
    write_ticks(plot, true, x_step);
    write_ticks(plot, false, y_step);
    fprintf(plot->stream, "<rect class=\"frame\" x=\"%g\" y=\"%d\" width=\"%g\" height=\"%g\"/>\n",
            left_of(plot), ABOVE, plot->width, plot->height);
    fprintf(plot->stream, "<text class=\"axis\" x=\"%g\" y=\"%g\">",
            left_of(plot) + plot->width / 2, ABOVE + plot->height + 38);
    la_xml_write(plot->stream, x_name);
    fprintf(plot->stream,
            "</text>\n<text class=\"axis\" x=\"14\" y=\"%g\" "
            "transform=\"rotate(-90 14 %g)\">",
            middle, middle);
    la_xml_write(plot->stream, y_name);
    fputs("</text>\n", plot->stream);
}

void la_plot_bar(const la_plot *plot, const char *class, double x0, double y0, double x1, double y1,
                 double inset) {
    double left = x_of(plot, x0) + inset, top = y_of(plot, y1);
    fprintf(plot->stream,
            "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>\n", class,
            left, top, x_of(plot, x1) - inset - left, y_of(plot, y0) - top);
}

void la_plot_segment(const la_plot *plot, const char *class, double x0, double y0, double x1,
                     double y1) {
    fprintf(plot->stream, "<path class=\"%s\" d=\"M%.2f %.2fL%.2f %.2f\"/>\n", class,
            x_of(plot, x0), y_of(plot, y0), x_of(plot, x1), y_of(plot, y1));
}

void la_plot_dot(const la_plot *plot, const char *class, double x, double y) {
    fprintf(plot->stream, "<circle class=\"%s\" cx=\"%.2f\" cy=\"%.2f\" r=\"4\"/>\n", class,
            x_of(plot, x), y_of(plot, y));
}

void la_plot_text(const la_plot *plot, const char *anchor, double x, double y, double dx, double dy,
                  const char *text) {
    fprintf(plot->stream, "<text class=\"%s\" x=\"%.2f\" y=\"%.2f\">", anchor, x_of(plot, x) + dx,
            y_of(plot, y) + dy);
    la_xml_write(plot->stream, text);
    fputs("</text>\n", plot->stream);
}

void la_plot_path(const la_plot *plot, const char *class, bool begin, double x, double y) {
    if (begin)
        fprintf(plot->stream, "<path class=\"%s\" d=\"", class);
    fprintf(plot->stream, "%c%.2f %.2f", begin ? 'M' : 'L', x_of(plot, x), y_of(plot, y));
}

void la_plot_path_end(const la_plot *plot) {
    fputs("\"/>\n", plot->stream);
}

double la_plot_step(double length, int most) {
    double step = pow(10, floor(log10(length / most)));
    while (step * most < length * (1 - 1e-12))
        step *= step * most * 2 >= length ? 2 : step * most * 5 >= length ? 5 : 10;
    return step;
}

void la_count_show(long long count, char out[24]) {
    static const char units[] = " kMGT";
    double value = (double)count;
    int unit = 0;
    for (; value >= 999.5 && unit < 4; unit++)
        value /= 1000;
    if (!unit)
        snprintf(out, 24, "%lld", count);
    else
        snprintf(out, 24, "%.*f%c", value < 9.95 && value != floor(value), value, units[unit]);
}
