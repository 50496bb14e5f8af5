/* Answers of a prediction file as monitoring sees them: right or wrong, and scores; not the
 * probabilities. A million rows are read in about a second. */
#ifndef LA_MONITOR_ANSWERS_H
#define LA_MONITOR_ANSWERS_H

#include "base/digest.h"
#include "base/error.h"
#include "bayes/posterior.h"
#include "output/seen_rows.h"

#include <stdbool.h>

/* Fields of a row that say how far an answer is to be trusted. */
typedef enum la_score {
    LA_SCORE_CONFIDENCE,
    LA_SCORE_ENTROPY,
    LA_SCORE_MUTUAL_INFORMATION,
    LA_SCORE_ADUE,
    LA_SCORE_OOD,
    LA_SCORES,
    LA_SCORE_NONE = LA_SCORES
} la_score;

typedef struct la_score_info {
    const char *name;   /* of the field */
    bool low;           /* low values are accepted */
    const char *source; /* where the field comes from, for messages */
} la_score_info;
extern const la_score_info la_scores[LA_SCORES];

typedef struct la_answer {
    double score, second; /* NaN: not asked for */
    int32_t class;        /* the prediction; -1: a set of classes */
    bool right;
} la_answer;

/* Forms of a prediction. */
typedef enum la_answer_form { LA_ANSWER_CLASS, LA_ANSWER_SET, LA_ANSWER_NUMBER } la_answer_form;

/* One prediction, with a label or without. */
typedef struct la_answer_values {
    la_answer_form form;
    double scores[LA_SCORES]; /* NaN: missing */
    int32_t class, label;     /* -1: none, or no class */
    bool labelled, right;     /* of a number, right: inside its central interval of 90 % */
    /* of a number (a regression); NaN: missing */
    double mean, deviation, model_variance, target;
} la_answer_values;

enum { LA_KIND_TEXT = 32 };

typedef struct la_answers {
    la_answer *list; /* [n] labelled rows */
    int64_t n, n_unlabelled, n_errors;
    la_seen_rows seen; /* labelled rows that the posterior has seen */
    int64_t n_tokens;  /* labelled rows that are tokens of a text */
    int64_t n_classes;
    char **names; /* [n_names] of the classes, as far as rows have them; some NULL */
    int64_t n_names;
    char kind[LA_KIND_TEXT];   /* confidence_kind; "mixed" when rows differ; "": none says */
    char model[LA_MODEL_TEXT]; /* of the rows; "": none says */
    char digest[LA_DIGEST_TEXT];
} la_answers;

/* path "-": standard input. score: of every row; second may be LA_SCORE_NONE. LA_BAD_INPUT, with
 * the line, for a row that is no prediction, lacks a score, or has the id of one before it; for a
 * file of two models, or without labelled rows; LA_UNSUPPORTED for a regression. Free with
 * la_answers_free. */
la_status la_answers_read(const char *path, la_score score, la_score second, la_answers *answers,
                          la_error *err);
/* Hands over each prediction, of a class, a set or a number, as soon as its line was read; what
 * is kept does not grow with the file. answers: counts of the rows before, and all but the list
 * in the end. LA_BAD_INPUT as above, but that labels, scores and ids of their own are not asked
 * for; what take returns. Free with la_answers_free. */
typedef la_status (*la_answer_take)(void *user, const la_answer_values *row, la_error *err);
la_status la_answers_each(const char *path, la_answer_take take, void *user, la_answers *answers,
                          la_error *err);
void la_answers_free(la_answers *answers);

/* A row's model or kind as the members above have it: cut to size, strange characters as "?". */
void la_answers_word(const char *text, size_t size, char *word);

#endif
