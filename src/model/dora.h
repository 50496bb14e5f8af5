/* DoRA (arXiv 2402.09353): rows of W + scale B A take the norms that were trained. */
#ifndef LA_MODEL_DORA_H
#define LA_MODEL_DORA_H

#include "model/adapter_lora.h"

/* Reads the trained magnitudes of module as a parameter more, where the configuration says
 * use_dora. */
la_status la_dora_bind(la_adapter *adapter, la_pool *pool, const char *module, la_site *site,
                       la_lora *lora, la_error *err);
/* Computes out_scale and inverse_norm from the norms of the rows of W + scale B A, in f64, row
 * by row. w: the frozen weight on the host, of any type, row i of it for row i of b; a and b are
 * on the host too. */
la_status la_dora_finish(la_team team, const la_adapter *adapter, const la_mat *w, la_pool *pool,
                         la_site *site, la_lora *lora, la_error *err);

#endif
