/* The origin of a posterior: what it says of its model and its rows. */
#ifndef LA_PIPELINE_ORIGIN_H
#define LA_PIPELINE_ORIGIN_H

#include "bayes/posterior.h"
#include "pipeline/row_set.h"

/* What a session does not know of a posterior's origin; the texts are copied. */
typedef struct la_origin {
    const char *adapter_name;     /* which of several; NULL: none was named */
    const char *template_text;    /* NULL: none */
    const char *tokenizer_digest; /* "": rows of token ids */
    la_base_quant base_quant;
} la_origin;

/* The posterior's provenance but for its rows: folders, absolute so that predict finds them from
 * anywhere, and digests, answer tokens, class names and longest rows of the session. */
la_status la_origin_of_model(const la_session *session, const la_origin *origin,
                             la_posterior *posterior, la_error *err);
/* The posterior knows its rows by their digests. */
la_status la_origin_of_rows(const la_row_set *rows, la_posterior *posterior, la_error *err);
/* The posterior gets the number of rows of each class, where a label is one. */
la_status la_origin_count_classes(const la_row_set *rows, int64_t n_classes,
                                  la_posterior *posterior, la_error *err);
/* theta[width] of the wanted blocks of the session's model, one behind the other. */
la_status la_origin_theta(la_session *session, float *theta, la_error *err);

#endif
