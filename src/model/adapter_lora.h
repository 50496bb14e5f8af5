/* What LoRA and its relatives share: a pair of matrices B A beside a projection. */
#ifndef LA_MODEL_ADAPTER_LORA_H
#define LA_MODEL_ADAPTER_LORA_H

#include "model/adapter.h"

/* Refuses keys that are set and neither harmless in LoRA nor in more (ends with NULL), and inits
 * that change the base. */
la_status la_lora_check(const la_adapter *adapter, const char *const *more, la_error *err);
/* Binds A [r, in] and B [out, r], named MODULE.SUFFIX, as the site's matrices and its two blocks. */
la_status la_lora_bind(la_adapter *adapter, la_pool *pool, const char *module,
                       const char *const suffixes[2], la_site *site,
                       la_block blocks[LA_SITE_BLOCKS], int *n_blocks, bool *adapted,
                       la_error *err);
/* As in la_adapter_kind. */
void la_lora_forward(la_backend *be, const la_linear *linear, const la_mat *x,
                     const la_mat *residual, la_mat *state, la_mat *y);
void la_lora_backward(la_backend *be, const la_linear *linear, const la_site_pass *pass);
/* LA_BAD_INPUT unless the tensor is a matrix that is not empty. */
la_status la_adapter_check_matrix(const la_tensor *tensor, la_error *err);
/* The key without ".weight". Memory from pool; NULL: there is none. */
char *la_adapter_block_name(la_pool *pool, const char *key, la_error *err);
/* alpha / r of a module, by the configuration's patterns; LA_BAD_INPUT when its r is not rank. */
la_status la_lora_scale(const la_adapter *adapter, const char *module, int64_t rank, float *scale,
                        la_error *err);

#endif
