/* An adapter's folder with other values of its trained matrices: what PEFT (or the `adapters`
 * library) wrote, tensor by tensor, the changed ones in f32. */
#ifndef LA_OUTPUT_ADAPTER_WRITE_H
#define LA_OUTPUT_ADAPTER_WRITE_H

#include "model/model.h"

/* Values of the blocks, one behind the other, each [out, in]: as they are in the model's files,
 * and as they shall be. */
typedef struct la_adapter_change {
    const la_model *model;
    const la_blocks *blocks;
    const float *before, *after;
} la_adapter_change;

/* Checks that every number of the blocks is found in the adapter's tensors, and that the folder is
 * new or empty. LA_UNSUPPORTED for several adapters at once, other than parts of a union, and for a
 * block that no tensor holds as it is, nor a network computes. */
la_status la_adapter_write_check(const la_adapter_change *change, const char *dir, la_error *err);
/* Creates the folder. The configuration comes last: a folder without one is no adapter. */
la_status la_adapter_write(const la_adapter_change *change, const char *dir, la_error *err);

#endif
