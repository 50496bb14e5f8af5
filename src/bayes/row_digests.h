/* Digests of the calibration rows that a posterior keeps: rows that are to be taken out of it are
 * known by them, and no row can be read from one. In order of their words, so that they say nothing
 * of the order of the rows. */
#ifndef LA_BAYES_ROW_DIGESTS_H
#define LA_BAYES_ROW_DIGESTS_H

#include "bayes/posterior.h"

#include <stdbool.h>

/* Order of qsort: that of the words, as unsigned numbers. */
int la_row_digest_order(const void *a, const void *b);
/* Digest of a row: its label (of `width`), ids[length] and types[length], and the token that is
 * classified. */
la_status la_row_digest_of(la_label label, int64_t width, const int32_t *ids, const int32_t *types,
                           int64_t length, int64_t token, la_row_digest *out, la_error *err);
/* True where a row is one of the calibration rows; false where none is known. */
bool la_posterior_has_row(const la_posterior *posterior, const la_row_digest *digest);
/* The posterior gets a sorted copy; its data_digest becomes theirs. */
la_status la_posterior_keep_row_digests(la_posterior *posterior, const la_row_digest *digests,
                                        int64_t n, la_error *err);

/* A row and what it counts for. */
typedef struct la_weighted_row {
    la_row_digest digest;
    double weight; /* 0: it was summed under another adapter */
} la_weighted_row;

/* The rows of a posterior, which must have digests; free *rows. Ascending, copies by what they
 * count for, most first. */
la_status la_posterior_weighted_rows(const la_posterior *posterior, la_weighted_row **rows,
                                     la_error *err);
/* Likewise la_posterior_keep_row_digests; sorts rows[n] so. */
la_status la_posterior_keep_weighted_rows(la_posterior *posterior, la_weighted_row *rows, int64_t n,
                                          la_error *err);

#endif
