/* LoRA and its relatives: a pair of matrices B A beside a projection. */
#ifndef LA_MODEL_ADAPTER_LORA_H
#define LA_MODEL_ADAPTER_LORA_H

#include "model/adapter.h"

extern const la_adapter_kind la_adapter_lora;

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
/* Binds A [r, in] and B [out, r], named MODULE.SUFFIX, as a site of LoRA; site->own stays NULL when
 * there are none. */
la_status la_lora_bind(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], la_site *site, la_error *err);
/* alpha / r of a module, by the configuration's patterns; LA_BAD_INPUT when its r is not rank. */
la_status la_lora_scale(const la_adapter *adapter, const char *module, int64_t rank, float *scale,
                        la_error *err);
/* LA_BAD_INPUT unless the tensor is a matrix that is not empty. */
la_status la_adapter_check_matrix(const la_tensor *tensor, la_error *err);
/* The key without ".weight". Memory from pool; NULL: out of memory. */
char *la_adapter_block_name(la_pool *pool, const char *key, la_error *err);

#endif
