/* Names that training tools put around a model, and so into the keys of its tensors: torch.compile,
 * DistributedDataParallel, FSDP, activation checkpointing, PEFT around PEFT. The one place where
 * they are taken off, for bases and adapters alike. */
#ifndef LA_INPUT_WRAPPERS_H
#define LA_INPUT_WRAPPERS_H

#include <stdbool.h>

/* Takes wrappers out of key: _orig_mod, _fsdp_wrapped_module and _checkpoint_wrapped_module
 * anywhere, module in front, base_model.model in front but for one. Of a base, whose PEFT model was
 * saved whole, that one and base_layer as well. False: there were none. */
bool la_wrappers_strip(char *key, bool base);

#endif
