/* Predicting a data file with a stored posterior. */
#ifndef LA_PIPELINE_PREDICT_H
#define LA_PIPELINE_PREDICT_H

#include "base/error.h"
#include "likelihood/shares.h"
#include "output/prediction_rows.h"
#include "pipeline/ranks.h"

#include <stdbool.h>

typedef struct la_predict_job {
    la_predict_options options;
    const char *data;            /* "-": standard input */
    const char *out;             /* NULL or "-": standard output */
    const la_row_format *format; /* NULL: by the extension of out */
    bool emit_logits, emit_cov, emit_ood;
    const char *threshold; /* file that says what may be accepted; NULL: none */
    const char *keep;      /* "NAME,NAME", fields of the input that rows carry; NULL: none */
    bool estimate_shares;  /* rows are for the class shares that all of them together say */
    size_t most_kept;      /* bytes that rows wait in for that; 0: by the free memory */
    bool samples_given, seed_given; /* asked for: a line says so where nothing is drawn */
    bool skip_bad;
    la_ranks ranks; /* that have a share of the batches; the first writes them all */
    bool flat;      /* tokens that are classified have a line each, not one a row */
    bool lines; /* standard input, one row at a time, every answer flushed; a line may be plain text
                 */
} la_predict_job;

typedef struct la_predict_summary {
    int64_t n_rows, n_bad, n_truncated;
    /* with a threshold, of answers: to be accepted, and to be reviewed; -1: not counted, as several
     * processes do not */
    int64_t n_accepted, n_review;
    double seconds_load, seconds_rows;
    bool forward;           /* rows cost a forward pass alone */
    la_class_shares shares; /* that rows are for; the caller's, la_class_shares_free */
} la_predict_summary;

la_status la_predict_file(const la_predict_job *job, la_predict_summary *summary, la_error *err);

#endif
