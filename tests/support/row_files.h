/* Rows of token ids that a test makes, writes and asks a posterior about, in the folder of a case
 * (faults.h). */
#ifndef LA_TESTS_ROW_FILES_H
#define LA_TESTS_ROW_FILES_H

#include "laplora.h"
#include "support/support.h"

#include <stdbool.h>

enum { ROWS_MOST = 96, ROW_LENGTH = 12, ROW_CLASSES = 8, GIVEN_LENGTH = 128 };

typedef struct row_file {
    int64_t n;
    int32_t ids[ROWS_MOST][ROW_LENGTH];
    int64_t length[ROWS_MOST], labels[ROWS_MOST];
} row_file;

/* n different rows, of ids that every case of tests/fixtures/parity knows; labels are 0. */
row_file rows_random(uint64_t seed, int64_t n);
/* JSONL */
void rows_write(const row_file *rows, const char *path, bool labelled);
/* Row i becomes row (step i + start) mod n; step and n have no common factor. */
row_file rows_turned(const row_file *rows, int64_t step, int64_t start);
void rows_add(row_file *rows, const row_file *from, int64_t row);

/* la_fit with the case's base and adapter (or that of the options); files by their names in the
 * folder. An error fails the test. */
la_fit_summary *case_fit(const char *folder, const char *data, const char *out,
                         la_fit_options options);
/* The numbers of a classifier's last layer times factor: logits that say something. */
void case_sharpen(const char *folder, const char *adapter, double factor);

typedef struct row_answers {
    int64_t n, classes;
    la_prediction rows[ROWS_MOST];
    double memory[ROWS_MOST][4 * ROW_CLASSES + ROW_CLASSES * ROW_CLASSES];
} row_answers;

/* free it */
row_answers *rows_answer(const row_file *rows, la_predict_options options);

/* Token ids of a JSONL file's rows, as la_predictor_run takes them, and space for the
 * predictions. */
typedef struct given_rows {
    int64_t n, classes; /* classes: of those who answered */
    la_input in[ROWS_MOST];
    la_prediction out[ROWS_MOST];
    double memory[ROWS_MOST][4 * ROW_CLASSES + ROW_CLASSES * ROW_CLASSES];
    int32_t ids[ROWS_MOST][GIVEN_LENGTH];
} given_rows;

/* free it */
given_rows *rows_read(const char *path);

/* Labels from softmax(logits / T); T 0: the largest logit's class. */
void rows_draw_labels(row_file *rows, const row_answers *answers, double temperature,
                      uint64_t seed);

/* Mean over pairs of classes of Var(f_c - f_d), pair by pair. */
double row_pair_variance(int64_t classes, const la_prediction *row);
/* probs[classes] = softmax(logits / divisor) */
void row_softmax(int64_t classes, const la_prediction *row, double divisor, double *probs);

#endif
