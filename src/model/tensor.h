/* Checks of tensors, and messages about them. */
#ifndef LA_MODEL_TENSOR_H
#define LA_MODEL_TENSOR_H

#include "input/safetensors.h"

/* la_fail with 'FILE: tensor "NAME"' in front of the message. */
la_status la_tensor_fail(la_error *err, la_status status, const la_tensor *tensor,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Likewise, with 'is TYPE [SHAPE], ' behind that. */
la_status la_tensor_misfit(la_error *err, la_status status, const la_tensor *tensor,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));
/* LA_BAD_INPUT unless the tensor is a matrix [rows, cols], or with cols < 0 a vector [rows]. hint:
 * behind the message. */
la_status la_tensor_check_shape(const la_tensor *tensor, int64_t rows, int64_t cols,
                                const char *hint, la_error *err);
extern const char la_other_base[]; /* such a hint: the adapter may be of another base */
/* LA_BAD_INPUT unless the tensor is a matrix that is not empty. */
la_status la_tensor_check_matrix(const la_tensor *tensor, la_error *err);

#endif
