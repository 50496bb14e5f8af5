/* Figures of a report for its page: each is a <figure> with a drawing, a caption, and the table of
 * what is drawn. */
#ifndef LA_OUTPUT_REPORT_FIGURES_H
#define LA_OUTPUT_REPORT_FIGURES_H

#include "output/report.h"

/* Accuracy over confidence by bins, and how many rows there are; of sets with bins. */
void la_figure_reliability(const la_report *report, bool map, FILE *stream);
/* Right and wrong rows by confidence; likewise. */
void la_figure_counts(const la_report *report, bool map, FILE *stream);
/* Error rate of accepted answers over their share; of sets with points. */
void la_figure_risk(const la_report *report, FILE *stream);
/* Share of the errors that are flagged over that of the right answers; likewise. */
void la_figure_errors(const la_report *report, FILE *stream);

/* A metric of the slices by a field as dots with their intervals; label: id of the heading. */
void la_figure_slices(const la_report *report, int field, const char *label, FILE *stream);

/* 95 % interval of a share: Wilson, JASA 22, 1927, p. 209. */
la_interval la_share_interval(int64_t n, int64_t hits);

#endif
