/* The files, options and data that a posterior was fitted from: predict opens the same ones and
 * compares their digests. None of it enters the mathematics. */
#ifndef LA_BAYES_PROVENANCE_H
#define LA_BAYES_PROVENANCE_H

#include "base/digest.h"
#include "input/rows.h"
#include "model/quantised.h"

/* Digest of a calibration row as the model and the likelihood see it: of token ids, token types and
 * label. */
typedef struct la_row_digest {
    int32_t words[4];
} la_row_digest;

typedef struct la_provenance {
    const char *base_path, *adapter_path;
    const char *adapter_name; /* which of several at that path; NULL: none was named */
    la_base_quant base_quant; /* how the base was packed when it was opened */
    char base_digest[LA_DIGEST_TEXT], adapter_digest[LA_DIGEST_TEXT];
    char tokenizer_digest[LA_DIGEST_TEXT]; /* "" when the rows carried token ids */
    char data_digest[LA_DIGEST_TEXT];
    la_row_digest *row_digests; /* [n_row_digests] of the calibration rows, ascending; NULL: not
                                   known */
    int64_t n_row_digests;
    double *row_weights; /* [n_row_digests] what each of them counts for, 0: it was summed under
                            another adapter; NULL: 1 each */
    double *held_out; /* [n_held_out] keys of the rows that chose the guard's settings, ascending */
    int64_t n_held_out;
    int64_t max_length;        /* tokens a row is cut to */
    int32_t *choice_ids;       /* [n_classes] answer tokens, or NULL */
    const char *template_text; /* NULL: none */
    la_labels labels;          /* owned; all else belongs to the posterior's pool */
} la_provenance;

#endif
