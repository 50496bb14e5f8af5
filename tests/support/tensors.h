/* Safetensors files that tests take apart and put together again, right or wrong. */
#ifndef LA_TESTS_TENSORS_H
#define LA_TESTS_TENSORS_H

#include "support/support.h"

typedef struct tensor_bytes {
    char *name, *dtype;
    json_t *shape;
    unsigned char *data;
    size_t length;
} tensor_bytes;

typedef struct tensor_file {
    tensor_bytes *tensors;
    size_t n;
} tensor_file;

tensor_file tensors_read(const char *path);
/* Contiguous data in the order of the list; nothing is checked. */
void tensors_write(const tensor_file *file, const char *path);
void tensors_free(tensor_file *file);
/* First tensor whose name ends with the given text; a missing one fails the test. */
tensor_bytes *tensors_find(const tensor_file *file, const char *ending);
/* Adds a copy of data. shape is JSON: "[3,4]". */
void tensors_add(tensor_file *file, const char *name, const char *dtype, const char *shape,
                 const void *data, size_t length);
void tensors_drop(tensor_file *file, const char *ending);

/* The header of a file, to be written back as it is over the same data. */
json_t *tensors_header(const char *path);
void tensors_set_header(const char *path, const char *header, size_t length);

#endif
