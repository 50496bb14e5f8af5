/* Rows of an embedding that were trained alone (PEFT's trainable_token_indices): they stand in the
 * place of the base's. */
#ifndef LA_MODEL_TOKEN_ROWS_H
#define LA_MODEL_TOKEN_ROWS_H

#include "model/adapter.h"

typedef struct la_token_rows {
    const la_tensor *values; /* [n, width]; NULL: no row is replaced */
    const int64_t *index;    /* [n] the adapter's memory */
    int64_t n;
} la_token_rows;

/* The rows of module, a matrix [rows, width]. main: a configuration that is a plain list means this
 * module. LA_BAD_INPUT when list and tensor do not fit each other or the matrix. */
la_status la_token_rows_find(la_adapter *adapter, const char *module, bool main, int64_t rows,
                             int64_t width, la_token_rows *out, la_error *err);
/* LA_BAD_INPUT when the adapters' configurations name rows of modules that were not found. */
la_status la_token_rows_check(const la_adapter *adapter, int64_t found, la_error *err);
/* Puts the rows into matrix [*, width] of type, rounded to it. */
void la_token_rows_put(const la_token_rows *rows, int64_t width, la_dtype type, void *matrix);
/* to[width] := the row of token id, if it is one of them. */
void la_token_rows_read(const la_token_rows *rows, int64_t id, int64_t width, float *to);

#endif
