/* A form: a structure of curvature over some of the trained blocks, and its posterior. Several
 * forms share the passes over the rows. */
#ifndef LA_PIPELINE_FORM_H
#define LA_PIPELINE_FORM_H

#include "bayes/structure.h"
#include "pipeline/row_set.h"

typedef struct la_form {
    const la_structure_kind *kind;
    la_kron kron;
    la_params params;
    int64_t rank;
    la_posterior posterior;                   /* owned */
    double seconds_passes, seconds_decompose; /* its share of passes, and what follows them */
} la_form;

void la_forms_free(la_form *forms, int n);

/* Curvature of n forms over the rows list[0..count) (list NULL: all), without the prior. logits
 * [count, C] are of those rows, or NULL. Every posterior gets its rows, tokens and log
 * likelihood. */
la_status la_forms_fit(la_session *session, la_form *forms, int n, const la_row_set *set,
                       const int64_t *list, int64_t count, const la_log *log, float *logits,
                       la_error *err);

/* Results of a pass over rows under n forms. */
typedef struct la_evaluation {
    int64_t n, n_classes, n_scales, width;
    int n_forms;
    float *logits;          /* [n, C] */
    float *states;          /* [n, width] what the head's last layer reads; NULL: not asked for */
    const double **cov;     /* [n_forms] of [n_scales, n, m, m], m contrasts */
    double *memory;         /* of cov */
    double seconds_forward; /* of the pass */
    double *seconds;        /* [n_forms] that the pass would have taken with that form alone */
} la_evaluation;

/* scales[n_scales]: factors of every prior precision. n_forms 0: logits alone. Free with
 * la_evaluation_free. */
la_status la_forms_evaluate(la_session *session, const la_form *forms, int n, const la_row_set *set,
                            const int64_t *list, int64_t count, int64_t n_scales,
                            const double *scales, bool states, const la_log *log,
                            la_evaluation *evaluation, la_error *err);
void la_evaluation_free(la_evaluation *evaluation);

/* cotangents[m n, C]: every row's right-hand sides are the columns of basis [C, m]. */
void la_contrast_cotangents(int64_t n, int64_t n_classes, int64_t m, const double *basis,
                            float *cotangents);

#endif
