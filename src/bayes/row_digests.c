#include "bayes/row_digests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS = 4, WORD_TEXT = 8 };

int la_row_digest_order(const void *a, const void *b) {
    const la_row_digest *x = a, *y = b;
    for (int i = 0; i < WORDS; i++)
        if (x->words[i] != y->words[i])
            return (uint32_t)x->words[i] < (uint32_t)y->words[i] ? -1 : 1;
    return 0;
}

la_status la_row_digest_of(la_label label, int64_t width, const int32_t *ids, const int32_t *types,
                           int64_t length, int64_t token, la_row_digest *out, la_error *err) {
    char text[LA_DIGEST_TEXT], word[WORD_TEXT + 1];
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_label_digest(digest, label, width);
    la_digest_add_number(digest, (double)length);
    la_digest_add_number(digest, (double)token);
    la_digest_add(digest, ids, (size_t)length * sizeof *ids);
    la_digest_add(digest, types, (size_t)length * sizeof *types);
    la_digest_finish(digest, text);
    for (int i = 0; i < WORDS; i++) {
        snprintf(word, sizeof word, "%s", text + WORD_TEXT * i);
        uint32_t bits = (uint32_t)strtoul(word, NULL, 16);
        memcpy(&out->words[i], &bits, sizeof bits);
    }
    return LA_OK;
}

bool la_posterior_has_row(const la_posterior *posterior, const la_row_digest *digest) {
    const la_provenance *from = &posterior->provenance;
    return from->n_row_digests && bsearch(digest, from->row_digests, (size_t)from->n_row_digests,
                                          sizeof *digest, la_row_digest_order);
}

la_status la_posterior_keep_row_digests(la_posterior *posterior, const la_row_digest *digests,
                                        int64_t n, la_error *err) {
    la_provenance *from = &posterior->provenance;
    la_row_digest *copy = la_pool_take(&posterior->pool, (size_t)n, sizeof *copy, err);
    la_digest *all = copy ? la_digest_new(err) : NULL;
    LA_TRY(err->status);
    memcpy(copy, digests, (size_t)n * sizeof *copy);
    qsort(copy, (size_t)n, sizeof *copy, la_row_digest_order);
    la_digest_add(all, copy, (size_t)n * sizeof *copy);
    la_digest_finish(all, from->data_digest);
    from->row_digests = copy;
    from->n_row_digests = n;
    return LA_OK;
}

static int by_digest(const void *a, const void *b) {
    const la_weighted_row *x = a, *y = b;
    int order = la_row_digest_order(&x->digest, &y->digest);
    return order ? order : (x->weight < y->weight) - (x->weight > y->weight);
}

la_status la_posterior_weighted_rows(const la_posterior *posterior, la_weighted_row **rows,
                                     la_error *err) {
    const la_provenance *from = &posterior->provenance;
    *rows = la_alloc((size_t)from->n_row_digests, sizeof **rows, err);
    for (int64_t i = 0; *rows && i < from->n_row_digests; i++)
        (*rows)[i] =
            (la_weighted_row){from->row_digests[i], from->row_weights ? from->row_weights[i] : 1};
    return err->status;
}

la_status la_posterior_keep_weighted_rows(la_posterior *posterior, la_weighted_row *rows, int64_t n,
                                          la_error *err) {
    la_row_digest *digests = la_alloc((size_t)n, sizeof *digests, err);
    double *weights = la_pool_take(&posterior->pool, (size_t)n, sizeof *weights, err);
    bool all_once = true;
    if (err->status == LA_OK) {
        qsort(rows, (size_t)n, sizeof *rows, by_digest);
        for (int64_t i = 0; i < n; i++) {
            digests[i] = rows[i].digest;
            weights[i] = rows[i].weight;
            all_once &= rows[i].weight == 1;
        }
        (void)la_posterior_keep_row_digests(posterior, digests, n, err);
    }
    posterior->provenance.row_weights = all_once ? NULL : weights;
    free(digests);
    return err->status;
}
