/* Products of column-major matrices of several types, shared by the emulated libraries. */
#ifndef LA_EMULATION_BLAS_H
#define LA_EMULATION_BLAS_H

#include "cublas_v2.h"

#include <vector>

static inline bool la_emulated_is_transposed(cublasOperation_t op) {
    return op != CUBLAS_OP_N;
}
static inline bool la_emulated_is_op(cublasOperation_t op) {
    return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C;
}

size_t la_emulated_type_size(cudaDataType type);
/* to[rows, cols], densely, = a in f32; tf32: rounded to 10 bits of mantissa */
void la_emulated_widen(cudaDataType type, const void *a, int64_t rows, int64_t cols, int64_t ld,
                       bool tf32, std::vector<float> &to);
float la_emulated_load_number(cudaDataType type, const void *a, int64_t at);
void la_emulated_store_number(cudaDataType type, void *a, int64_t at, float value);
/* product[m, n], densely, = op(a) op(b) in f32 sums */
void la_emulated_product(cudaDataType type, cublasOperation_t transa, cublasOperation_t transb,
                         int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                         int64_t ldb, bool tf32, std::vector<float> &product);

#endif
