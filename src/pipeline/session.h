/* What fitting and predicting open alike: backend, model, tokenizer, labels, and a run that grows
 * with long rows. */
#ifndef LA_PIPELINE_SESSION_H
#define LA_PIPELINE_SESSION_H

#include "model/run.h"
#include "pipeline/feed.h"

typedef struct la_session_options {
    la_run_options run;
    const char *base, *adapter;
    la_params params;
    const char *choices;       /* "A,B,C,D", or NULL */
    const int32_t *choice_ids; /* or NULL */
    int64_t n_choices;
    const la_labels *labels; /* names known from a posterior, used when none are given */
    int64_t max_length;      /* likewise; 0: not known */
    bool all_inputs;         /* as la_run_open takes it */
    bool forward_only;
} la_session_options;

typedef struct la_session {
    la_backend backend;
    la_model model;
    la_tokenizer *tokenizer; /* NULL when the base has none */
    la_labels labels;
    int32_t *choice_ids; /* NULL: a classification head */
    la_run run;
    bool run_is_open;
    int threads;
    int64_t batch_tokens, batch_rows, max_length, n_rhs;
    bool all_inputs;
} la_session;

/* Free with la_session_close (safe on a zeroed session). */
la_status la_session_open(const la_session_options *options, la_session *session, la_error *err);
void la_session_close(la_session *session);
/* Makes the run hold a batch of that many tokens. *changed: it was opened anew. */
la_status la_session_reserve(la_session *session, int64_t tokens, bool *changed, la_error *err);
/* How a data file is to be fed to this session. */
la_feed_options la_session_feed(const la_session *session, bool need_label, bool skip_bad);

/* Parses "319,350": the caller frees *ids. */
la_status la_choice_ids_parse(const char *text, int32_t **ids, int64_t *n, la_error *err);

#endif
