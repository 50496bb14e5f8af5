/* Plots as inline SVG: a frame, axes, and shapes in the plot's own units. Shapes have classes, and
 * the style sheet of the page around them has the colours. */
#ifndef LA_OUTPUT_SVG_H
#define LA_OUTPUT_SVG_H

#include <stdbool.h>
#include <stdio.h>

typedef struct la_plot {
    FILE *stream;
    const char *id; /* unique in the page; of letters, digits and '-' */
    double x[2], y[2];
    double width, height; /* of the frame, in units of the drawing */
    double left;          /* width of the margin on the left; 0: enough for numbers */
} la_plot;

/* Begins the drawing. title and description are for those who do not see it, and clean
 * (output/escape.h). End it with la_plot_close. */
void la_plot_open(const la_plot *plot, const char *title, const char *description);
/* Frame, grid, ticks at multiples of the steps (0: none), and names of the axes. */
void la_plot_axes(const la_plot *plot, const char *x_name, double x_step, const char *y_name,
                  double y_step);
void la_plot_close(const la_plot *plot);

/* Between two corners in the plot's units; inset: of the left and right sides, in the drawing's. */
void la_plot_bar(const la_plot *plot, const char *class, double x0, double y0, double x1, double y1,
                 double inset);
void la_plot_segment(const la_plot *plot, const char *class, double x0, double y0, double x1,
                     double y1);
void la_plot_dot(const la_plot *plot, const char *class, double x, double y);
/* anchor: start, middle or end, or "count", small and in the middle; dx, dy: of the drawing. */
void la_plot_text(const la_plot *plot, const char *anchor, double x, double y, double dx, double dy,
                  const char *text);
/* A line through points: the first call of a line has begin set. End it with la_plot_path_end. */
void la_plot_path(const la_plot *plot, const char *class, bool begin, double x, double y);
void la_plot_path_end(const la_plot *plot);

/* The step of 1, 2 or 5 times a power of ten that makes at most `most` steps of a length. */
double la_plot_step(double length, int most);
/* A count in four characters: "950", "12k", "1.2M". */
void la_count_show(long long count, char out[24]);

#endif
