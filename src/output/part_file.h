/* File of a part of a calibration set: the sums of rows with index mod n_parts = number - 1, and
 * all that tells whether they belong to those of other parts (fit --shard, merge). */
#ifndef LA_OUTPUT_PART_FILE_H
#define LA_OUTPUT_PART_FILE_H

#include "backend/ops.h"
#include "output/sums_file.h"

typedef struct la_part {
    int64_t number, n_parts; /* from 1 */
    int64_t n_rows, n_all;   /* rows of this part, of all */
    /* of all: rows that were cut, words without a token, classes without a row */
    int64_t n_truncated, n_lost, n_absent;
    la_precision precision;            /* of the products */
    char basis_digest[LA_DIGEST_TEXT]; /* of the posterior whose eigenvectors were used; or "" */
    const char *tool_version, *task;
    /* description of the posterior: structure, likelihood by its task, provenance; no curvature */
    la_posterior of;
    la_row_digest *digests; /* [n_digests] of this part's rows, in their order */
    int64_t n_digests;
} la_part;

extern const la_sums_kind la_part_kind;

/* Number of rows of a part. */
static inline int64_t la_part_rows(int64_t number, int64_t n_parts, int64_t n_all) {
    return number <= n_all ? (n_all - number) / n_parts + 1 : 0;
}

/* Opens a part and checks that its fields agree with each other; *part is of the file. Close with
 * la_part_close, also after a failure. */
la_status la_part_open(const char *path, la_part *part, la_sums_file **file, la_error *err);
void la_part_close(la_part *part, la_sums_file *file);
/* LA_MISMATCH, naming both files and what differs, unless two parts are of one fit. */
la_status la_part_agree(const char *path, const la_part *part, const char *other_path,
                        const la_part *other, la_error *err);

#endif
