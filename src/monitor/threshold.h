/* Thresholds from a prediction file, and what they say about a prediction. */
#ifndef LA_MONITOR_THRESHOLD_H
#define LA_MONITOR_THRESHOLD_H

#include "monitor/answers.h"
#include "base/selective.h"

#include <stdio.h>

typedef struct la_threshold_options {
    la_score score;
    la_score limited; /* score with a fixed limit, looked at first; LA_SCORE_NONE: none is */
    double limit;
    bool by_cost;
    double target_error, delta; /* by risk */
    la_costs costs;             /* by cost */
    bool by_class;
} la_threshold_options;

/* Threshold of the answers of one class, or of all. value NaN: none, all are reviewed. */
typedef struct la_class_threshold {
    double value;
    int64_t n, n_accepted, n_errors, n_needed; /* needed: rows; -1: not known, or no number helps */
    double upper, delta;
} la_class_threshold;

enum { LA_WARNINGS_MOST = 8, LA_WARNING_TEXT = 240 };

typedef struct la_threshold {
    la_threshold_options options;
    la_class_threshold all;      /* value: NaN by class */
    la_class_threshold *classes; /* [n_classes]; NULL: not by class */
    int64_t n_classes;
    la_cost_point cost; /* by cost */
    double value_interval[2];
    char warnings[LA_WARNINGS_MOST][LA_WARNING_TEXT];
    int n_warnings;
} la_threshold;

/* Threshold of answers with the scores of the options, at least one. Free with
 * la_threshold_free. */
la_status la_threshold_of(const la_threshold_options *options, const la_answers *answers,
                          la_threshold *threshold, la_error *err);
void la_threshold_free(la_threshold *threshold);
double la_threshold_coverage(const la_threshold *threshold);

/* ---- files (threshold_file.c) ---- */

/* Write errors are left to the stream's error flag. */
void la_threshold_json(const la_threshold *threshold, const la_answers *answers, FILE *stream);
void la_threshold_text(const la_threshold *threshold, const la_answers *answers, FILE *stream);

/* A threshold file, for predictions. */
typedef struct la_threshold_rule {
    la_score score, limited; /* limited LA_SCORE_NONE: none is */
    double limit, value;     /* value NaN: nothing is accepted */
    bool by_class;
    double *classes; /* [n_classes]; NaN likewise */
    int64_t n_classes;
    char model[LA_MODEL_TEXT], kind[LA_KIND_TEXT]; /* "": the file does not say */
} la_threshold_rule;

/* LA_BAD_INPUT for a file of another kind. Free with la_threshold_rule_free. */
la_status la_threshold_load(const char *path, la_threshold_rule *rule, la_error *err);
void la_threshold_rule_free(la_threshold_rule *rule);
/* LA_MISMATCH where the rule was made from predictions of another model, or from confidences of
 * another kind. what, name: whose they are, "the posterior", its path; "": model or kind is not
 * known. */
la_status la_threshold_of_model(const la_threshold_rule *rule, const char *path, const char *what,
                                const char *name, const char *model, la_error *err);
la_status la_threshold_of_kind(const la_threshold_rule *rule, const char *path, const char *kind,
                               la_error *err);
/* scores[LA_SCORES], NaN where a prediction has none. NULL: accepted; else the reason of a review:
 * the name of the score, or "no-threshold". */
const char *la_threshold_reason(const la_threshold_rule *rule, const double *scores, int64_t class);

#endif
