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

#endif
