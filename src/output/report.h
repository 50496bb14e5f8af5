/* Report of a prediction file, and the formats it is printed in. A new format is one function and
 * one row of la_report_formats; a new metric is none of either (output/metrics.h). */
#ifndef LA_OUTPUT_REPORT_H
#define LA_OUTPUT_REPORT_H

#include "output/gates.h"
#include "output/report_against.h"
#include "output/report_slices.h"
#include "output/review.h"

enum { LA_REPORT_RESAMPLES = 1000, LA_REPORT_SEED = 1, LA_REPORT_TITLE = 12 };

/* A prediction for a person to look at, as a task of Label Studio. */
typedef struct la_task {
    double certainty; /* tasks are written in its order, the least first */
    int64_t number;   /* in the file */
    char *text;       /* JSON */
} la_task;

/* Tasks of all predictions, with a label or without. */
typedef struct la_tasks {
    la_task *list; /* [n] */
    size_t n, capacity;
} la_tasks;

/* Gathers a prediction. */
la_status la_tasks_see(la_tasks *tasks, const la_prediction_entry *entry, la_error *err);
void la_tasks_sort(la_tasks *tasks);
void la_tasks_free(la_tasks *tasks);

/* Threshold of acceptance, and the rows with a label that it accepts. */
typedef struct la_report_threshold {
    char *file; /* as shown; NULL: no threshold is given */
    const char *score;
    double value; /* NaN: one for each class, or none */
    bool by_class, of_confidence;
    int64_t n_accepted, n_wrong;
} la_report_threshold;

typedef struct la_report {
    char *file, *baseline; /* paths, fit to be shown; baseline NULL: none */
    char digest[LA_DIGEST_TEXT];
    char confidence_kind[LA_CONFIDENCE_KIND_MAX]; /* "" when the rows do not say */
    char title[LA_REPORT_TITLE]; /* the model's in tables: kind "laplace-mc" is "Laplace" */
    const la_row_kind *kind;     /* the rows' */
    const la_metric_set *set;    /* its metrics */
    int64_t n, n_classes, n_errors, n_unlabelled, n_without_map;
    la_seen_rows seen; /* of the n rows */
    la_metrics metrics, map;
    bool has_map;
    bool show_map; /* has_map, and the model is not the MAP model itself */
    la_interval intervals[LA_METRICS_MAX];
    la_noise_floor noise;
    int64_t resamples;    /* behind the intervals */
    double *values;       /* [la_gate_values] */
    double *class_values; /* into it: [n_classes, set->n_class]; NULL where the set has none */
    int64_t *class_rows;  /* [n_classes] rows that have the class */
    char **class_names;   /* [n_classes], as shown; an entry NULL: not known */
    la_gate *gates;
    int n_gates, n_failed;
    const la_tasks *tasks;          /* of formats that ask for them, else NULL; borrowed */
    const la_against *against;      /* the same rows of another file; NULL: none; borrowed */
    const la_report_slices *slices; /* NULL or without fields: none; borrowed */
    const la_review *review;        /* borrowed; NULL: not gathered */
    la_report_threshold threshold;
} la_report;

/* Takes the gates over (also on failure) and judges them, and the names of the predictions. file is
 * only shown; baseline may be NULL. LA_BAD_INPUT when no row has a label. Free with la_report_free.
 */
la_status la_report_build(la_team team, const char *file, la_predictions *predictions,
                          const char *baseline, la_gate *gates, int n_gates, la_report *report,
                          la_error *err);
void la_report_free(la_report *report);

typedef struct la_report_style {
    bool colour; /* the stream is a terminal that wants it */
    bool utf8;   /* block characters may be used */
} la_report_style;

typedef struct la_report_format {
    const char *name;
    /* Write errors are left to the stream's error flag. */
    la_status (*write)(const la_report *report, const la_report_style *style, FILE *stream,
                       la_error *err);
    bool tasks; /* made of these alone: no row needs a label */
} la_report_format;

enum { LA_REPORT_FORMATS = 10 };
/* text first, which is the default */
extern const la_report_format la_report_formats[LA_REPORT_FORMATS];

/* ---- for the formats ---- */

enum { LA_METRIC_TEXT = 24, LA_INTERVAL_TEXT = 56, LA_CLASS_TEXT = 24 };

/* Four decimals; "-" when undefined. */
void la_metric_show(double value, char out[LA_METRIC_TEXT]);
/* "[0.1000, 0.2000]" */
void la_interval_show(const la_interval *interval, char out[LA_INTERVAL_TEXT]);
/* The model whose figure of a metric is better: 1 the file's, -1 MAP, 0 they look the same, 2 not
 * comparable. */
int la_report_compare(const la_report *report, int metric);
/* Name of a class, or its number, for which out is. */
const char *la_report_class_name(const la_report *report, int64_t class, char out[LA_CLASS_TEXT]);
/* Value of a class, "%.4f" as la_metric_show has it. */
void la_report_class_show(const la_report *report, int64_t class, int metric,
                          char out[LA_METRIC_TEXT]);
/* What that says, and what la_report_against does. */
#define LA_REPORT_AHEAD "ahead: whose figure is the better one, be it by chance or not"
#define LA_REPORT_BETTER "beyond chance (paired bootstrap, 5 %), each metric by itself"
/* The title of the one that is ahead, "same" or "". */
const char *la_report_ahead(const la_report *report, int metric);
/* "872 rows, 2 classes, confidence: laplace-mc" */
void la_report_summary(const la_report *report, char out[128]);
/* "this file", "the other", "": which of two files is better in a metric, if not by chance. */
const char *la_report_against(const la_report *report, int metric);
/* "percentile; ece, mce, ece_em: basic", how the intervals are made (output/bootstrap.h). */
enum { LA_REPORT_INTERVALS = 384 };
void la_report_intervals(const la_report *report, char out[LA_REPORT_INTERVALS]);
/* "ece 0.0398: a perfectly calibrated model of 400 rows has 0.0352 on average"; "" of rows without
 * one. */
void la_report_noise(const la_report *report, char out[128]);
/* Rows that the numbers leave out, "" when none. */
void la_report_left_out(const la_report *report, char out[192]);
/* Why the numbers flatter the model, "" where nothing says so: it has seen rows of theirs. */
enum { LA_REPORT_BIAS = LA_SEEN_TEXT + 64 };
void la_report_bias(const la_report *report, char out[LA_REPORT_BIAS]);

la_status la_report_text(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err);
la_status la_report_json(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err);
la_status la_report_markdown(const la_report *report, const la_report_style *style, FILE *stream,
                             la_error *err);
la_status la_report_html(const la_report *report, const la_report_style *style, FILE *stream,
                         la_error *err);
la_status la_report_prometheus(const la_report *report, const la_report_style *style, FILE *stream,
                               la_error *err);
la_status la_report_gitlab(const la_report *report, const la_report_style *style, FILE *stream,
                           la_error *err);
la_status la_report_mlflow(const la_report *report, const la_report_style *style, FILE *stream,
                           la_error *err);
la_status la_report_label_studio(const la_report *report, const la_report_style *style,
                                 FILE *stream, la_error *err);
la_status la_report_csv(const la_report *report, const la_report_style *style, FILE *stream,
                        la_error *err);
la_status la_report_junit(const la_report *report, const la_report_style *style, FILE *stream,
                          la_error *err);

#endif
