/* Effects of an adapter, by its files alone, without the base: the products that it adds to
 * weights, and all other parameters as they are stored. */
#ifndef LA_MODEL_EFFECT_H
#define LA_MODEL_EFFECT_H

#include "model/adapter.h"

typedef struct la_effect {
    const char *name;    /* module of a product; of parameters their key without ".weight" */
    int64_t out, in;     /* of parameters: weight and bias side by side, a vector [n, 1] */
    la_product product;  /* rank 0: parameters */
    const float *values; /* [out, in] of parameters; NULL: of a product */
    double rounding; /* largest relative rounding of a value by the types that it is stored in */
} la_effect;

typedef struct la_effects {
    la_pool pool;
    la_adapter adapter;
    la_effect *list; /* [n] sorted by name */
    int64_t n;
} la_effects;

/* Opens the adapter at dir (la_adapter_open) and reads its effects. Free with la_effects_close. */
la_status la_effects_read(const char *dir, const char *name, const la_log *log, la_effects *effects,
                          la_error *err);
/* Safe on a zeroed object. */
void la_effects_close(la_effects *effects);

#endif
