/* Labelled rows as token ids in memory, to be passed over as often as a fit needs. */
#ifndef LA_PIPELINE_ROW_SET_H
#define LA_PIPELINE_ROW_SET_H

#include "bayes/provenance.h"
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
/* digests[n] of the rows as they are run, in their order. */
la_status la_row_set_digests(const la_row_set *set, la_row_digest *digests, la_error *err);

/* Rows that are passed over, in their order: of a set, or of a list of rows of it, number first,
 * first + step, ... */
typedef struct la_row_job {
    const la_row_set *set;
    const int64_t *list; /* NULL: the rows of the set themselves */
    int64_t n, first, step;
    const la_log *log; /* of progress */
    float *states;     /* [n, width] gets what the head's last layer reads, from the passes of a fit
                          over these rows; NULL: not wanted */
    float *outputs;    /* [n, C] likewise, of the model */
} la_row_job;

/* All rows of a set. */
static inline la_row_job la_row_job_all(const la_row_set *set, const la_log *log) {
    return (la_row_job){.set = set, .n = set->n, .step = 1, .log = log};
}
/* The n rows of a set that a list names. */
static inline la_row_job la_row_job_list(const la_row_set *set, const int64_t *list, int64_t n,
                                         const la_log *log) {
    return (la_row_job){.set = set, .list = list, .n = n, .step = 1, .log = log};
}
/* Of a job's rows, those whose index mod n_parts is part. */
static inline la_row_job la_row_job_part(la_row_job job, int64_t part, int64_t n_parts) {
    job.first += part * job.step;
    job.step *= n_parts;
    job.n = part < job.n ? (job.n - part - 1) / n_parts + 1 : 0;
    return job;
}
/* Index in the set of row i of a job. */
static inline int64_t la_row_at(const la_row_job *job, int64_t i) {
    int64_t at = job->first + i * job->step;
    return job->list ? job->list[at] : at;
}

/* Fills a batch with rows [at, to) of a job, as many as there are tokens for, at least one; returns
 * the index behind them. */
int64_t la_row_job_fill(const la_session *session, const la_row_job *job, int64_t at, int64_t to,
                        la_batch *batch);

/* Pass over rows [from, to) of a job, in order and in batches. */
typedef struct la_row_pass {
    int64_t from, to;
    const char *stage; /* of the progress */
    /* Runs a batch on a worker. first: index of its first row in the job. */
    la_status (*batch)(void *user, int worker, const la_batch *batch, int64_t first, la_error *err);
    /* Called after the batches that run at once: rows before `at` are done. NULL: nothing. */
    la_status (*between)(void *user, int64_t at, la_error *err);
    void *user;
} la_row_pass;

/* Each batch is given to a worker whose run has room for it. An error of a row names its file and
 * line. */
la_status la_row_set_run(la_session *session, const la_row_job *job, const la_row_pass *pass,
                         la_error *err);

#endif
