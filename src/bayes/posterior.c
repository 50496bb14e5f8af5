#include "bayes/posterior.h"
#include "base/statistics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const la_curvature_names[LA_CURVATURES] = {
#define LA_STRUCTURE(enumerator, name, text) text,
#include "bayes/structures.def"
#undef LA_STRUCTURE
};
const char *const la_kron_names[LA_KRONS] = {"expand", "reduce"};
const char *const la_prior_names[LA_PRIORS] = {"global", "module", "fixed", "layer", "kind"};
const char *const la_params_names[LA_PARAM_SETS] = {
    "lora", "lora+head", "head", "lora+magnitude", "lora+magnitude+head", "last"};

void la_posterior_free(la_posterior *posterior) {
    la_labels_free(&posterior->provenance.labels);
    la_pool_free(&posterior->pool);
    *posterior = (la_posterior){0};
}

la_status la_posterior_model(const la_posterior *posterior, char model[LA_MODEL_TEXT],
                             la_error *err) {
    const la_provenance *from = &posterior->provenance;
    const la_choice *choice = &posterior->choice;
    const la_adue *head = &posterior->adue;
    char text[LA_DIGEST_TEXT];
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_digest_add_text(digest, from->base_digest);
    la_digest_add_text(digest, from->adapter_digest);
    la_digest_add_text(digest, from->tokenizer_digest);
    la_digest_add_text(digest, from->data_digest);
    la_digest_add_number(digest, from->base_quant);
    la_digest_add_number(digest, posterior->curvature);
    la_digest_add_number(digest, posterior->kron);
    la_digest_add_number(digest, posterior->params);
    la_digest_add_number(digest, (double)posterior->rank_asked);
    la_digest_add_number(digest, posterior->temperature);
    la_digest_add_number(digest, posterior->noise_variance);
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        la_digest_add_number(digest, posterior->blocks[b].prior_precision);
    la_digest_add_number(digest, choice->guarded ? (double)choice->method : -1);
    bool averages = choice->guarded && choice->method == LA_METHOD_AVERAGE;
    for (int64_t i = 0; averages && i < choice->n_settings; i++) {
        la_digest_add_number(digest, choice->settings[i].method);
        la_digest_add_number(digest, choice->settings[i].prior_scale);
        la_digest_add_number(digest, choice->settings[i].temperature);
        la_digest_add_number(digest, choice->settings[i].weight);
        if (!choice->settings[i].correction)
            continue;
        const la_correction *of = &choice->corrections[choice->settings[i].correction - 1];
        const double *weight = la_correction_weight(of);
        for (int64_t c = 0; c < posterior->n_classes; c++)
            la_digest_add_number(digest, of->bias[c]);
        for (int64_t c = 0; weight && c < posterior->n_classes; c++)
            la_digest_add_number(digest, weight[c]);
    }
    for (int64_t i = 0; head->weight && i < head->n_classes * head->width; i++)
        la_digest_add_number(digest, head->weight[i]);
    for (int64_t i = 0; i < posterior->ood.n_table; i++)
        la_digest_add_number(digest, posterior->ood.table[i]);
    const la_distilled *distilled = &posterior->distilled;
    for (int64_t i = 0; distilled->mean && i < distilled->n_scales; i++)
        la_digest_add_number(digest, distilled->weights[i * (distilled->n_features + 1)]);
    la_digest_finish(digest, text);
    snprintf(model, LA_MODEL_TEXT, "%.*s", LA_POSTERIOR_TEXT - 1, text);
    return LA_OK;
}

/* Key of a row: as many bits of its hash as a double has. */
static double key_of(uint64_t hash) {
    return (double)(hash >> 11);
}

la_status la_posterior_keep_rows(la_posterior *posterior, const uint64_t *hashes, int64_t n,
                                 la_error *err) {
    double *keys = la_pool_take(&posterior->pool, (size_t)n, sizeof *keys, err);
    int64_t distinct = 0;
    if (!keys)
        return err->status;
    for (int64_t i = 0; i < n; i++)
        keys[i] = key_of(hashes[i]);
    la_doubles_sort(keys, n);
    for (int64_t i = 0; i < n; i++)
        if (!i || keys[i] != keys[distinct - 1])
            keys[distinct++] = keys[i];
    posterior->provenance.held_out = keys;
    posterior->provenance.n_held_out = distinct;
    return LA_OK;
}

bool la_posterior_chose(const la_posterior *posterior, uint64_t hash) {
    const la_provenance *from = &posterior->provenance;
    double key = key_of(hash);
    return from->n_held_out &&
           bsearch(&key, from->held_out, (size_t)from->n_held_out, sizeof key, la_double_order);
}

la_status la_posterior_keep_adue(la_posterior *posterior, const la_adue *head, la_error *err) {
    int64_t weights = head->n_classes * head->width, size = weights + head->n_classes;
    double *memory = la_pool_take(&posterior->pool, (size_t)size, sizeof *memory, err);
    if (!memory)
        return err->status;
    memcpy(memory, head->weight, (size_t)size * sizeof *memory);
    posterior->adue = *head;
    posterior->adue.weight = memory;
    posterior->adue.bias = memory + weights;
    return LA_OK;
}

/* A copy of n numbers that the posterior owns; NULL of none. */
static void *copy_of(la_posterior *posterior, const void *from, int64_t n, size_t size,
                     la_error *err) {
    void *to = n ? la_pool_take(&posterior->pool, (size_t)n, size, err) : NULL;
    if (to)
        memcpy(to, from, (size_t)n * size);
    return to;
}

la_status la_posterior_keep_ood(la_posterior *posterior, const la_ood *ood, la_error *err) {
    la_ood copy = *ood;
    int64_t means = ood->n_groups * ood->width, vectors = ood->rank * ood->width;
    copy.means = copy_of(posterior, ood->means, means, sizeof *copy.means, err);
    copy.table = copy_of(posterior, ood->table, ood->n_table, sizeof *copy.table, err);
    copy.vectors = copy_of(posterior, ood->vectors, vectors, sizeof *copy.vectors, err);
    copy.values = copy_of(posterior, ood->values, ood->rank, sizeof *copy.values, err);
    LA_TRY(err->status);
    posterior->ood = copy;
    return LA_OK;
}

la_status la_posterior_keep_distilled(la_posterior *posterior, const la_distilled *d,
                                      la_error *err) {
    la_distilled copy = *d;
    int64_t weights = d->n_scales * (d->n_features + 1);
    copy.mean = copy_of(posterior, d->mean, d->width, sizeof *d->mean, err);
    copy.vectors = copy_of(posterior, d->vectors, d->rank * d->width, sizeof *d->vectors, err);
    copy.values = copy_of(posterior, d->values, d->rank, sizeof *d->values, err);
    copy.centre = copy_of(posterior, d->centre, d->n_features, sizeof *d->centre, err);
    copy.spread = copy_of(posterior, d->spread, d->n_features, sizeof *d->spread, err);
    copy.scales = copy_of(posterior, d->scales, d->n_scales, sizeof *d->scales, err);
    copy.weights = copy_of(posterior, d->weights, weights, sizeof *d->weights, err);
    copy.least = copy_of(posterior, d->least, d->n_scales, sizeof *d->least, err);
    copy.most = copy_of(posterior, d->most, d->n_scales, sizeof *d->most, err);
    LA_TRY(err->status);
    posterior->distilled = copy;
    return LA_OK;
}

int64_t la_posterior_width(const la_posterior *posterior) {
    int64_t width = 0;
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        width += posterior->blocks[b].out * posterior->blocks[b].in;
    return width;
}
