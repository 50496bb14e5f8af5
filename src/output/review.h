/* Rows of a prediction file that a person looks at first: the answers of least certainty, and the
 * mistakes that were made with most of it. Gathered while the file is read, so that nothing is kept
 * of the other rows. */
#ifndef LA_OUTPUT_REVIEW_H
#define LA_OUTPUT_REVIEW_H

#include "output/row_kind.h"

enum { LA_REVIEW_ROWS = 20 };

/* NULL: the row has none. */
typedef struct la_review_row {
    double key; /* rows of a list are in its order, the largest first; ties: the file's */
    la_look look;
    double map_shown; /* the MAP model's look.shown; NaN: not known */
    json_t *index, *token, *id, *label, *prediction, *fields;
} la_review_row;

typedef struct la_review_list {
    la_review_row rows[LA_REVIEW_ROWS];
    int n;
} la_review_list;

typedef struct la_review {
    const la_predictions *predictions; /* borrowed, while they are read */
    la_review_list uncertain, wrong;
    char **names; /* [n_names] of classes, as rows name their prediction; NULL: not known */
    int64_t n_names;
} la_review;

/* Looks at a prediction (output/prediction_rows.h: see), and returns its look. */
la_status la_review_see(la_review *review, const la_prediction_entry *entry, bool labelled,
                        la_look *look, la_error *err);
void la_review_free(la_review *review);

enum { LA_REVIEW_TEXT = 260 };
/* A value in a line of at most `most` bytes, fit to be shown; "…" ends one that was cut. */
void la_review_show(const json_t *value, size_t most, char out[LA_REVIEW_TEXT]);
/* Likewise a label; names: [n_names] of classes, some of them NULL. */
void la_review_label(char *const *names, int64_t n_names, const json_t *label, size_t most,
                     char out[LA_REVIEW_TEXT]);

#endif
