/* Parts that the kinds of adapter of the `adapters` library share. */
#ifndef LA_MODEL_ADAPTER_LIBRARY_H
#define LA_MODEL_ADAPTER_LIBRARY_H

#include "model/adapter.h"

/* The name of the adapter, which its tensors' names hold. */
la_status la_library_name(const la_adapter *adapter, const char **name, la_error *err);
/* non_linearity; LA_UNSUPPORTED for one that we do not have. */
la_status la_library_activation(const la_adapter *adapter, la_activation *out, la_error *err);

#endif
