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

la_row_digest la_row_digest_finish(la_digest *digest) {
    la_row_digest out;
    char text[LA_DIGEST_TEXT], word[WORD_TEXT + 1];
    la_digest_finish(digest, text);
    for (int i = 0; i < WORDS; i++) {
        snprintf(word, sizeof word, "%s", text + WORD_TEXT * i);
        uint32_t bits = (uint32_t)strtoul(word, NULL, 16);
        memcpy(&out.words[i], &bits, sizeof bits);
    }
    return out;
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
