/* Labelled rows as token ids in memory, to be passed over as often as a fit needs. */
#ifndef LA_PIPELINE_ROW_SET_H
#define LA_PIPELINE_ROW_SET_H

#include "pipeline/session.h"

typedef struct la_row_set {
    int64_t n, n_tokens, longest, n_truncated, n_text;
    int64_t *start;  /* [n] first token of each row; tokens of one row that are classified share
                             theirs */
    int64_t *length; /* [n] tokens of each row */
    int64_t *token;  /* [n] index of the token that is classified; 0 where rows are */
    int32_t *ids, *types; /* [n_tokens], as they are kept */
    la_label_list labels; /* [n] */
    int64_t *lines;       /* [n] of the file, for messages */
    uint64_t *hashes;     /* [n] of the token ids */
    uint64_t *streams;    /* [n] of random draws */
    int64_t n_lost;       /* words without a token */
    char *name;           /* of the file */
    size_t row_capacity, token_capacity;
} la_row_set;

/* Reads a file to its end; a row without a label is an error, and so is a file without rows. what:
 * the rows' purpose, for messages; NULL: they need no labels, and may have none. Free with
 * la_row_set_free (also after a failure). */
la_status la_row_set_read(const la_session *session, const la_run_options *options,
                          const char *path, const la_template *prompt, const char *what,
                          la_row_set *set, la_error *err);
void la_row_set_free(la_row_set *set);

/* Runs a batch on a worker. first: index of its first row in the list of rows. */
typedef la_status (*la_row_job)(void *user, int worker, const la_batch *batch, int64_t first,
                                la_error *err);

/* The rows list[from..to) of a set (list NULL: the rows themselves), in order and in batches, each
 * given to a worker whose run has room for it. An error of a row names its file and line. stage: of
 * the progress. */
la_status la_row_set_run(la_session *session, const la_row_set *set, const int64_t *list,
                         int64_t from, int64_t to, const char *stage, const la_log *log,
                         la_row_job job, void *user, la_error *err);

static inline int64_t la_row_at(const int64_t *list, int64_t i) {
    return list ? list[i] : i;
}

#endif
