#include "bayes/posterior.h"

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

int64_t la_posterior_width(const la_posterior *posterior) {
    int64_t width = 0;
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        width += posterior->blocks[b].out * posterior->blocks[b].in;
    return width;
}
