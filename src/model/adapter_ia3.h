/* (IA)^3 for kinds that store it under other names. */
#ifndef LA_MODEL_ADAPTER_IA3_H
#define LA_MODEL_ADAPTER_IA3_H

#include "model/adapter.h"

extern const la_adapter_kind la_adapter_ia3;

/* Makes the site one of (IA)^3, which multiplies inputs or outputs by l, a tensor of as many
 * values. name: of the block; memory from pool. */
la_status la_ia3_attach(la_pool *pool, const la_tensor *l, bool of_inputs, const char *name,
                        la_site *site, la_error *err);

#endif
