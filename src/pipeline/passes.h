/* Passes over rows: several structures of curvature, each over some of the trained blocks, are
 * fitted or evaluated by the same ones. */
#ifndef LA_PIPELINE_PASSES_H
#define LA_PIPELINE_PASSES_H

#include "bayes/structure.h"
#include "pipeline/row_set.h"

typedef struct la_structure {
    const la_structure_kind *kind;
    la_kron kron;
    la_params params;
    int64_t rank;
    const la_posterior *basis; /* that is adopted (la_structure_adopt), outlives this; or NULL */
    la_posterior posterior;    /* owned */
    double seconds_passes, seconds_decompose; /* its share of passes, and what follows them */
} la_structure;

void la_structures_free(la_structure *structures, int n);

/* ---- sums that come from elsewhere, and go there ---- */

/* Fit in the midst of a pass. */
typedef struct la_fit_state {
    const la_session *session;
    const la_structure *structures;
    int n;
    const la_row_job *rows;
    int pass;       /* number of passes before this one */
    int64_t to, at; /* the pass ends before row `to` of the job; rows before `at` are in its sums */
    double totals[3]; /* rows, tokens and log likelihood of what the first pass has seen */
    bool same_rows; /* set by a carrier: what it takes and brings is of these very rows, in order */
    bool ended;     /* set by a carrier when a pass or the fit ends: it does not go on */
    void *fit;      /* of la_fit_state_visit */
} la_fit_state;

/* Moments of a fit at which its sums can be carried. */
typedef enum la_moment {
    LA_PASS_BEGINS, /* sums of rows may be added; `at` is then the first row still to be seen */
    LA_PASS_PAUSES, /* after batches: what the sums hold is that of the rows before `at` */
    LA_PASS_ENDS,   /* before decompositions: sums of other rows may be added */
    LA_FIT_ENDS     /* the structures are complete, but for their prior */
} la_moment;

/* Carrier of sums to files, to other processes or from them. */
typedef struct la_carrier {
    la_status (*carry)(void *user, la_moment moment, la_fit_state *fit, la_error *err);
    void *user;
    int64_t part, n_parts; /* rows that are seen here: those with index mod n_parts = part; n_parts
                              0: all */
    const la_peers *peers; /* processes that have the other parts, and share in what follows; or
                              NULL */
} la_carrier;

/* Rows that were summed elsewhere, which a fit completes without seeing them. */
typedef struct la_fit_rows {
    const char *name;       /* of what they come from, for messages */
    const la_posterior *of; /* description of their fits; provenance alone, no curvature */
    la_row_digest *digests; /* [n] of all, in any order */
    int64_t n, n_truncated, n_lost, n_absent; /* absent: classes without a row */
} la_fit_rows;

typedef struct la_carriers {
    const la_carrier *list;
    int n;
    bool ended; /* set by the fit where a carrier ended it: the structures are not complete */
    const la_fit_rows *rows; /* that the carriers bring: no others are seen; or NULL */
    bool adds;               /* what is carried is added to that of other rows: la_fit_shape */
} la_carriers;

/* Hands all that the pass has summed to the visitor, array by array, and with same_rows what else
 * it keeps; takes_back: what it leaves in them is kept. Every device has its own until the pass
 * ends. The first pass has the totals too. */
la_status la_fit_state_visit(la_fit_state *fit, bool takes_back, const la_array_visitor *visitor,
                             la_error *err);

/* Curvature of n structures over rows, without the prior. Every posterior gets its rows, tokens and
 * log likelihood. carriers may be NULL; they are called in order. */
la_status la_structures_fit(la_session *session, la_structure *structures, int n,
                            const la_row_job *rows, la_carriers *carriers, la_error *err);

/* ---- evaluating ---- */

/* Results of a pass over rows under n structures. */
typedef struct la_evaluation {
    int64_t n, n_classes, n_scales, width;
    int n_structures;
    float *logits;          /* [n, C] */
    float *states;          /* [n, width] what the head's last layer reads; NULL: not asked for */
    const double **cov;     /* [n_structures] of [n_scales, n, m, m], m contrasts */
    double *memory;         /* of cov */
    double seconds_forward; /* of the pass */
    double *seconds; /* [n_structures] that the pass would have taken with that structure alone */
} la_evaluation;

/* scales[n_scales]: factors of every prior precision. n_structures 0: logits alone. Free with
 * la_evaluation_free. */
la_status la_structures_evaluate(la_session *session, const la_structure *structures, int n,
                                 const la_row_job *rows, int64_t n_scales, const double *scales,
                                 bool states, la_evaluation *evaluation, la_error *err);
void la_evaluation_free(la_evaluation *evaluation);

/* cotangents[m n, C]: every row's right-hand sides are the columns of basis [C, m]. */
void la_contrast_cotangents(int64_t n, int64_t n_classes, int64_t m, const double *basis,
                            float *cotangents);

#endif
