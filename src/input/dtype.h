/* Types of numbers in checkpoints and matrices. */
#ifndef LA_INPUT_DTYPE_H
#define LA_INPUT_DTYPE_H

#include <stddef.h>
#include <stdint.h>

/* LA_CODES: bytes of packed weights, in matrices alone; a tensor with such bytes is
 * LA_DTYPE_OTHER. */
typedef enum la_dtype { LA_F32, LA_F16, LA_BF16, LA_F64, LA_CODES, LA_DTYPE_OTHER } la_dtype;

/* Element size in bytes; 0 for LA_DTYPE_OTHER. */
size_t la_dtype_size(la_dtype dtype);
/* Converts count elements to f32. */
void la_dtype_to_f32(la_dtype dtype, const void *in, int64_t count, float *out);

#endif
