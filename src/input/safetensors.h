/* safetensors files, memory-mapped: one file, or a folder's model.safetensors / shards with their
 * index. Every header field is checked against the file before a tensor is handed out. */
#ifndef LA_INPUT_SAFETENSORS_H
#define LA_INPUT_SAFETENSORS_H

#include "base/error.h"
#include "input/dtype.h"

#include <stdbool.h>

#define LA_TENSOR_DIMS 8

typedef struct la_tensor {
    const char *name;
    const char *file; /* for messages */
    const char *dtype_name;
    la_dtype dtype;
    int n_dims;
    int64_t shape[LA_TENSOR_DIMS];
    int64_t count; /* elements */
    const void *data;
    size_t bytes;
} la_tensor;

/* A set of files as one name space; tensors are sorted by name. */
typedef struct la_checkpoint la_checkpoint;

/* One safetensors file. Free with la_checkpoint_close; tensors live as long as it. */
la_status la_checkpoint_open_file(const char *path, la_checkpoint **checkpoint, la_error *err);
/* DIR/STEM.safetensors, or DIR/STEM.safetensors.index.json with its shards. stem: "model" or
 * "adapter_model". */
la_status la_checkpoint_open(const char *dir, const char *stem, la_checkpoint **checkpoint,
                             la_error *err);
void la_checkpoint_close(la_checkpoint *checkpoint);

int64_t la_checkpoint_count(const la_checkpoint *checkpoint);
const la_tensor *la_checkpoint_at(const la_checkpoint *checkpoint, int64_t index);
/* NULL when there is none. */
const la_tensor *la_checkpoint_find(const la_checkpoint *checkpoint, const char *name);
/* The tensors are read once or twice and not kept: once digested, their pages are given back. */
void la_checkpoint_let_go(la_checkpoint *checkpoint);
/* Gives back the pages of a tensor that is read no more, or seldom: they come from the file
 * again. */
void la_tensor_let_go(const la_tensor *tensor);
/* Bytes of all tensors. */
size_t la_checkpoint_bytes(const la_checkpoint *checkpoint);

/* Digest of names, shapes, types and contents, whatever the sharding: 32 hex digits. */
la_status la_checkpoint_digest(const la_checkpoint *checkpoint, char out[33], la_error *err);

/* LA_UNSUPPORTED unless the tensor is of a floating type we compute with. */
la_status la_tensor_check_float(const la_tensor *tensor, la_error *err);
/* LA_NUMERICAL naming tensor and index when a value is NaN or infinite. */
la_status la_tensor_check_finite(const la_tensor *tensor, la_error *err);
/* True when two tensors have the same type, number of elements and bytes. */
bool la_tensor_equal(const la_tensor *a, const la_tensor *b);
/* "[768, 3072]" into a buffer, which is returned. */
const char *la_tensor_shape_text(const la_tensor *tensor, char *buffer, size_t size);

#endif
