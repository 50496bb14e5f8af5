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
    la_posterior posterior;                   /* owned */
    double seconds_passes, seconds_decompose; /* its share of passes, and what follows them */
} la_structure;

void la_structures_free(la_structure *structures, int n);

/* Curvature of n structures over the rows list[0..count) (list NULL: all), without the prior.
 * logits [count, C] are of those rows, or NULL. Every posterior gets its rows, tokens and log
 * likelihood. */
la_status la_structures_fit(la_session *session, la_structure *structures, int n,
                            const la_row_set *set, const int64_t *list, int64_t count,
                            const la_log *log, float *logits, la_error *err);

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
                                 const la_row_set *set, const int64_t *list, int64_t count,
                                 int64_t n_scales, const double *scales, bool states,
                                 const la_log *log, la_evaluation *evaluation, la_error *err);
void la_evaluation_free(la_evaluation *evaluation);

/* cotangents[m n, C]: every row's right-hand sides are the columns of basis [C, m]. */
void la_contrast_cotangents(int64_t n, int64_t n_classes, int64_t m, const double *basis,
                            float *cotangents);

#endif
