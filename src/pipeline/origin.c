#include "pipeline/origin.h"
#include "bayes/row_digests.h"
#include "model/weights.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char *copied(la_pool *pool, const char *text, la_error *err) {
    return text ? la_pool_text(pool, text, strlen(text), err) : NULL;
}

static const char *absolute(la_pool *pool, const char *path, la_error *err) {
    char whole[PATH_MAX];
    return copied(pool, realpath(path, whole) ? whole : path, err);
}

la_status la_origin_of_model(const la_session *session, const la_origin *origin,
                             la_posterior *posterior, la_error *err) {
    la_pool *pool = &posterior->pool;
    la_provenance *to = &posterior->provenance;
    const la_model *model = &session->workers[0].model;
    to->max_length = session->max_length;
    to->base_quant = origin->base_quant;
    to->base_path = absolute(pool, session->base, err);
    to->adapter_path = absolute(pool, session->adapter, err);
    to->adapter_name = copied(pool, origin->adapter_name, err);
    to->template_text = copied(pool, origin->template_text, err);
    strcpy(to->base_digest, model->base_digest);
    strcpy(to->adapter_digest, model->adapter_digest);
    strcpy(to->tokenizer_digest, origin->tokenizer_digest);
    if (session->choice_ids) {
        size_t n = (size_t)model->n_classes;
        to->choice_ids = la_pool_take(pool, n, sizeof *to->choice_ids, err);
        if (to->choice_ids)
            memcpy(to->choice_ids, session->choice_ids, n * sizeof *to->choice_ids);
    }
    LA_TRY(err->status);
    return la_labels_copy(&session->labels, &to->labels, err);
}

la_status la_origin_of_rows(const la_row_set *rows, la_posterior *posterior, la_error *err) {
    la_row_digest *digests = la_alloc((size_t)rows->n, sizeof *digests, err);
    if (digests && la_row_set_digests(rows, digests, err) == LA_OK)
        (void)la_posterior_keep_row_digests(posterior, digests, rows->n, err);
    free(digests);
    return err->status;
}

la_status la_origin_count_classes(const la_row_set *rows, int64_t n_classes,
                                  la_posterior *posterior, la_error *err) {
    double *counts = la_pool_take(&posterior->pool, (size_t)n_classes, sizeof *counts, err);
    if (counts && la_label_list_count(&rows->labels, rows->n, n_classes, counts))
        posterior->class_rows = counts;
    return err->status;
}

la_status la_origin_theta(la_session *session, float *theta, la_error *err) {
    la_model *model = &session->workers[0].model;
    la_weights *weights = NULL;
    bool *wanted = la_alloc((size_t)model->n_blocks, sizeof *wanted, err);
    for (int64_t b = 0; wanted && b < model->n_blocks; b++)
        wanted[b] = model->blocks[b].wanted;
    if (wanted && la_weights_open(model, wanted, &weights, err) == LA_OK)
        (void)la_weights_read(weights, theta, err);
    la_weights_close(weights);
    free(wanted);
    return err->status;
}
