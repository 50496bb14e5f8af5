/* Tensors that found no place in the model. */
#ifndef LA_MODEL_LEFTOVER_H
#define LA_MODEL_LEFTOVER_H

#include "model/model.h"

/* A tensor of the adapter that was not used would be silently left out of the model: refuse, naming
 * the nearest module of the base. */
la_status la_leftover_check(const la_model *model, la_error *err);
/* Warns of the base's tensors that are neither used nor known to belong to other tasks. base_used:
 * by tensor number. */
void la_leftover_report(const la_model *model, const bool *base_used, const la_log *log);

#endif
