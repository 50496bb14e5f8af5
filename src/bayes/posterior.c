#include "bayes/posterior.h"

#include <string.h>

const char *const la_curvature_names[LA_CURVATURES] = {"kron", "ekfac", "diag", "exact",
                                                       "last-layer"};
const char *const la_kron_names[LA_KRONS] = {"expand", "reduce"};
const char *const la_prior_names[LA_PRIORS] = {"global", "module", "fixed", "layer", "kind"};
const char *const la_params_names[LA_PARAM_SETS] = {
    "lora", "lora+head", "head", "lora+magnitude", "lora+magnitude+head", "last"};
const char *const la_method_names[LA_METHODS] = {"map",
                                                 "temperature",
                                                 "laplace",
                                                 "laplace-scalar",
                                                 "laplace+temperature",
                                                 "laplace-scalar+temperature",
                                                 "average"};

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

la_spectrum la_block_spectrum(const la_posterior *posterior, const la_posterior_block *block) {
    bool out_is_small = block->out <= block->in;
    la_factor whole = {.rank = block->out, .n = block->out}, wide = {.rank = block->in};
    const la_factor *output = &block->output, *input = NULL;
    if (posterior->n_inputs) {
        input = &posterior->inputs[block->input];
    } else {
        output = &whole;
        input = &wide;
    }
    const la_factor *small = out_is_small ? output : input;
    const la_factor *big = out_is_small ? input : output;
    return (la_spectrum){.rows = small->rank,
                         .cols = big->rank,
                         .row = block->spectrum ? NULL : small->values,
                         .col = block->spectrum ? NULL : big->values,
                         .values = block->spectrum,
                         .scale = la_curvature_scale(posterior) *
                                  (block->spectrum ? 1 : 1 / block->denominator)};
}

int64_t la_posterior_width(const la_posterior *posterior) {
    int64_t width = 0;
    for (int64_t b = 0; b < posterior->n_blocks; b++)
        width += posterior->blocks[b].out * posterior->blocks[b].in;
    return width;
}
