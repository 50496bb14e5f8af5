/* Session of fitting and predicting: devices with a model each, tokenizer, labels, a plan of the
 * memory, and runs that grow with long rows. */
#ifndef LA_PIPELINE_SESSION_H
#define LA_PIPELINE_SESSION_H

#include "pipeline/choices.h"
#include "pipeline/feed.h"
#include "pipeline/plan.h"

typedef struct la_session_options {
    la_run_options run;
    const char *base, *adapter;
    la_params params;
    bool head_optional;        /* as la_model_options has it */
    const char *choices;       /* "A,B,C,D", or NULL */
    const int32_t *choice_ids; /* or NULL */
    int64_t n_choices;
    const la_labels *labels; /* names known from a posterior, used when none are given */
    int64_t max_length;      /* likewise; 0: not known */
    bool all_inputs;         /* as la_run_open takes it */
    bool forward_only;
    bool one_cotangent; /* backward from one right-hand side, whatever the contrasts */
    /* needs of the plan */
    const la_structure_kind *kind;
    const la_structure_kind *const *beside; /* [n_beside] fitted over the same passes */
    int n_beside;
    la_kron kron;
    int64_t rank;
    int64_t n_scales;              /* as la_plan_request has it */
    const la_posterior *posterior; /* NULL: it is going to be fitted */
    bool fits;                     /* one is, from that posterior and more rows */
} la_session_options;

/* A device, the model on it, and a run. */
typedef struct la_worker {
    la_backend backend;
    la_model model;
    la_run run;
    bool run_is_open;
    double seconds_forward, seconds_backward;
} la_worker;

typedef struct la_session {
    la_worker workers[LA_DEVICES_MAX];
    int n_workers;
    la_tokenizer *tokenizer; /* NULL when neither base nor adapter has one */
    bool tokenizer_of_adapter;
    la_pool pool;
    const char *base, *adapter; /* the folders that were found */
    la_labels labels;
    la_labels beside;    /* names in a config.json beside the adapter */
    int32_t *choice_ids; /* NULL: a classification head */
    la_team team;
    int64_t batch_tokens, batch_rows, max_length, n_rhs, max_factor;
    bool all_inputs, recompute;
    la_stop stop; /* of the host */
} la_session;

/* Free with la_session_close (safe on a zeroed session). */
la_status la_session_open(const la_session_options *options, la_session *session, la_error *err);
void la_session_close(la_session *session);
/* Makes a worker's run hold a batch of that many tokens. *changed: it was opened anew. */
la_status la_session_reserve(la_session *session, la_worker *worker, int64_t tokens, bool *changed,
                             la_error *err);
/* The memory of all runs goes back to the devices. */
void la_session_release_runs(la_session *session);
/* Logs where the time and the memory went. */
void la_session_profile(const la_session *session, double seconds, const la_log *log);

/* Runs the job for each of n workers at once, one thread a worker, each with the caller's stop;
 * returns the first failure in order. */
typedef la_status (*la_worker_job)(void *user, int worker, la_error *err);
la_status la_workers_run(int n, la_worker_job job, void *user, la_error *err);
/* True when a text that is too long loses its beginning. */
bool la_session_cuts_left(const la_session *session);
/* Options of feeding a data file to this session. */
la_feed_options la_session_feed(const la_session *session, bool need_label, bool skip_bad);

/* One newline at the end is dropped (editors add it); a template without a field is refused. The
 * caller frees *prompt with la_template_free. */
la_status la_template_read(const char *path, la_template **prompt, la_error *err);

#endif
