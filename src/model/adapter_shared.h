/* Parts that kinds of adapter share: those of LoRA, of (IA)^3, and of the `adapters` library. */
#ifndef LA_MODEL_ADAPTER_SHARED_H
#define LA_MODEL_ADAPTER_SHARED_H

#include "model/adapter.h"

extern const la_adapter_kind la_adapter_lora, la_adapter_ia3;

/* Keys that change nothing in the forward pass, or that binding reads. */
extern const char *const la_lora_keys[];

/* LoRA at a site: y += scale B (A x). */
typedef struct la_lora {
    la_mat a, b; /* [r, in], [out, r] */
    float scale;
    la_mat state_scale; /* [r, 1] AdaLoRA: A x times this, column by column; data NULL: not */
    /* DoRA: (W x + scale B A x) times out_scale, column by column, before bias and residual. Where
     * the magnitudes are wanted as a block, forward keeps the product over norms, and multiplies by
     * them. */
    la_mat out_scale, inverse_norm; /* [out, 1] magnitude / norm, 1 / norm; data NULL: not */
    la_mat magnitude;               /* [out, 1]; data NULL: not */
    bool keeps_product;
} la_lora;

enum { LA_LORA_A, LA_LORA_B, LA_LORA_MAGNITUDE }; /* parameters of its sites */

/* Refuses inits that change the base, and tied weights that are trained. */
la_status la_lora_check(const la_adapter *adapter, la_error *err);
/* Reads A [r, in] and B [out, r], named MODULE.SUFFIX, as blocks, with values[2] in the pool (NULL:
 * the weights hold neither). */
la_status la_lora_read(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], int64_t out, int64_t in, float *values[2],
                       la_block blocks[2], la_error *err);
/* Makes the site one of LoRA by them; site->own stays NULL when there are none. */
la_status la_lora_bind(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], la_site *site, la_error *err);
/* The product of the tensors MODULE.SUFFIX, where KEY is one of them; its scale, and what else
 * there is to it, are the caller's to set. */
la_status la_lora_product(la_adapter *adapter, la_pool *pool, const char *key,
                          const char *const suffixes[2], la_product *product, la_error *err);
/* alpha / r of a module, by the configuration's patterns; LA_BAD_INPUT when its r is not rank. */
la_status la_lora_scale(const la_adapter *adapter, const char *module, int64_t rank, float *scale,
                        la_error *err);
/* Makes the tensor, of n values, the parameter vector [n, 1] of a site. name: of its block, copied;
 * NULL: it is none. */
la_status la_site_add_vector(la_pool *pool, la_site *site, const la_tensor *tensor, int64_t n,
                             const char *name, la_mat *vector, la_error *err);
/* Makes the site one of (IA)^3, which multiplies inputs or outputs by l, a tensor of as many
 * values. name: of the block. */
la_status la_ia3_attach(la_pool *pool, const la_tensor *l, bool of_inputs, const char *name,
                        la_site *site, la_error *err);
/* Name of the adapter in the `adapters` library, which its tensors' names hold. */
la_status la_library_name(const la_adapter *adapter, const char **name, la_error *err);
/* non_linearity; LA_UNSUPPORTED for one that we do not have. */
la_status la_library_activation(const la_adapter *adapter, la_activation *out, la_error *err);

#endif
