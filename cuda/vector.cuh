/* Reading and writing several neighbours at a time, and grids over the rows and columns of a
 * matrix. */
#ifndef LA_CUDA_VECTOR_CUH
#define LA_CUDA_VECTOR_CUH

#include "backend.cuh"

#include <cuda_fp16.h>
#include <initializer_list>

template <typename T, int N> struct alignas(sizeof(T) * N) la_vec { T at[N]; };

template <int N, typename T>
__device__ __forceinline__ void la_load(const T *from, float (&to)[N]) {
    la_vec<T, N> v = *reinterpret_cast<const la_vec<T, N> *>(from);
#pragma unroll
    for (int i = 0; i < N; i++)
        to[i] = la_to_float(v.at[i]);
}

template <int N, typename T>
__device__ __forceinline__ void la_store(T *to, const float (&from)[N]) {
    la_vec<T, N> v;
#pragma unroll
    for (int i = 0; i < N; i++)
        v.at[i] = la_from_float<T>(from[i]);
    *reinterpret_cast<la_vec<T, N> *>(to) = v;
}

__device__ __forceinline__ float la_to_float(double x) {
    return static_cast<float>(x);
}
__device__ __forceinline__ float la_to_float(__half x) {
    return __half2float(x);
}

static inline size_t la_type_size(la_dtype type) {
    return type == LA_F64 ? 8 : type == LA_F32 ? 4 : type == LA_CODES ? 1 : 2;
}

/* True when every row of the matrix can be read n neighbours at a time. NULL can. */
static inline bool la_has_width(const la_mat *m, int64_t n) {
    if (!m)
        return true;
    size_t bytes = static_cast<size_t>(n) * la_type_size(m->type);
    return m->cols % n == 0 && m->ld % n == 0 && reinterpret_cast<uintptr_t>(m->data) % bytes == 0;
}

template <typename T> static inline T *la_data(const la_mat *m) {
    return m ? static_cast<T *>(m->data) : nullptr;
}

static inline int64_t la_ld(const la_mat *m) {
    return m ? m->ld : 0;
}

/* A thread a group of n columns; blocks of 64 x 4 threads; the rows by a loop of stride
 * gridDim.y * blockDim.y. */
static inline dim3 la_rows_block(void) {
    return dim3(64, 4);
}
static inline dim3 la_rows_grid(int64_t rows, int64_t cols, int n) {
    unsigned y = la_cuda_blocks(rows, 4);
    return dim3(la_cuda_blocks(cols, 64 * n), y < 65535 ? y : 65535);
}

/* The column group and first row of this thread in such a grid, and how far to the next row. */
__device__ __forceinline__ int64_t la_first_col(int n) {
    return (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * n;
}
__device__ __forceinline__ int64_t la_first_row(void) {
    return static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
}
__device__ __forceinline__ int64_t la_row_step(void) {
    return static_cast<int64_t>(gridDim.y) * blockDim.y;
}

/* Neighbours that are read at a time in matrices of a type, where all allow it: 16 bytes. */
static inline int64_t la_wide(la_dtype type) {
    return type == LA_BF16 ? 8 : 4;
}
static inline bool la_all_wide(la_dtype type, std::initializer_list<const la_mat *> all) {
    for (const la_mat *m : all)
        if (!la_has_width(m, la_wide(type)))
            return false;
    return true;
}

/* Calls LAUNCH with the C++ type and the width for matrices of a type. */
#define LA_BY_TYPE(type, wide, LAUNCH)                                                             \
    do {                                                                                           \
        if ((type) == LA_BF16) {                                                                   \
            if (wide)                                                                              \
                LAUNCH(bf16, 8);                                                                   \
            else                                                                                   \
                LAUNCH(bf16, 1);                                                                   \
        } else {                                                                                   \
            if (wide)                                                                              \
                LAUNCH(float, 4);                                                                  \
            else                                                                                   \
                LAUNCH(float, 1);                                                                  \
        }                                                                                          \
    } while (0)

#endif
