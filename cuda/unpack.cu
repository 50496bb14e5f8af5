/* Packed weights (backend/quant.h) made into numbers, for a product that follows. */
#include "vector.cuh"

extern "C" {
#include "backend/quant.h"
}

namespace {

struct levels_argument {
    float at[LA_QUANT_LEVELS];
};

__device__ __forceinline__ float round_as(la_dtype type, float x) {
    return type == LA_BF16  ? __bfloat162float(__float2bfloat16(x))
           : type == LA_F16 ? __half2float(__float2half(x))
                            : x;
}

/* A thread a byte of codes: two neighbours, which share a scale because blocks are of even size. */
template <typename T>
__global__ void unpack_pairs(const uint8_t *codes, const float *scale, int64_t count, int shift,
                             levels_argument levels, la_dtype as, T *y) {
    int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; 2 * i < count;
         i += step) {
        float s = scale[(2 * i) >> shift];
        y[2 * i] = la_from_float<T>(round_as(as, levels.at[codes[i] >> 4] * s));
        if (2 * i + 1 < count)
            y[2 * i + 1] = la_from_float<T>(round_as(as, levels.at[codes[i] & 15] * s));
    }
}

template <typename T>
__global__ void unpack_bytes(const int8_t *codes, const float *scale, int64_t rows, int64_t cols,
                             T *y) {
    int64_t j = la_first_col(1);
    if (j >= cols)
        return;
    for (int64_t t = la_first_row(); t < rows; t += la_row_step())
        y[t * cols + j] = la_from_float<T>(static_cast<float>(codes[t * cols + j]) * scale[t] *
                                           LA_QUANT_INT8_STEP);
}

template <typename T> void unpack(la_cuda *cu, const la_mat *w, la_mat *y) {
    const la_quant *q = static_cast<const la_quant *>(w->data);
    if (q->kind == LA_QUANT_INT8) {
        LA_LAUNCH((unpack_bytes<T>), la_rows_grid(w->rows, w->cols, 1), la_rows_block(), 0,
                  cu->stream, static_cast<const int8_t *>(q->codes), q->scale, w->rows, w->cols,
                  la_data<T>(y));
        return;
    }
    const unsigned threads = 256, most = 65535;
    levels_argument levels;
    for (int i = 0; i < LA_QUANT_LEVELS; i++)
        levels.at[i] = la_quant_levels[q->kind][i];
    int shift = 0;
    while (static_cast<int64_t>(1) << shift < q->block)
        shift++;
    int64_t count = w->rows * w->cols;
    unsigned blocks = la_cuda_blocks((count + 1) / 2, threads);
    LA_LAUNCH((unpack_pairs<T>), dim3(blocks < most ? blocks : most), dim3(threads), 0, cu->stream,
              static_cast<const uint8_t *>(q->codes), q->scale, count, shift, levels, q->as,
              la_data<T>(y));
}

} // namespace

void la_cuda_unpack(la_cuda *cu, const la_mat *w, la_mat *y) {
    if (y->type == LA_BF16)
        unpack<bf16>(cu, w, y);
    else
        unpack<float>(cu, w, y);
    la_cuda_launched(cu, "unpack");
}
