/* Norms, activations and rotary embedding, and their backward through activations (weights are
 * frozen). All are bound by memory: each value is read once for all right-hand sides where it can
 * be, several neighbours at a time. */
#include "vector.cuh"

#include <math.h>

namespace {

/* ---- norms: a warp a row ---- */

enum { NORM_WARPS = 4 };

/* x[T,d] -> y[T,d], stats[T][2] = mean, 1 / deviation */
template <typename T, int N>
__global__ void norm_rows(bool is_layer, float eps, const float *weight, const float *bias,
                          const T *x, int64_t ld_x, int64_t rows, int64_t cols, float *stats, T *y,
                          int64_t ld_y) {
    int64_t t = static_cast<int64_t>(blockIdx.x) * NORM_WARPS + threadIdx.y;
    if (t >= rows)
        return;
    const T *in = x + t * ld_x;
    float mean = 0, square = 0, value[N];
    if (is_layer) {
        for (int64_t j = threadIdx.x * N; j < cols; j += LA_WARP * N) {
            la_load<N>(in + j, value);
#pragma unroll
            for (int i = 0; i < N; i++)
                mean += value[i];
        }
        mean = la_warp_sum(mean) / static_cast<float>(cols);
    }
    for (int64_t j = threadIdx.x * N; j < cols; j += LA_WARP * N) {
        la_load<N>(in + j, value);
#pragma unroll
        for (int i = 0; i < N; i++)
            square += (value[i] - mean) * (value[i] - mean);
    }
    float inverse = 1.0f / sqrtf(la_warp_sum(square) / static_cast<float>(cols) + eps);
    for (int64_t j = threadIdx.x * N; j < cols; j += LA_WARP * N) {
        float w[N], shift[N] = {};
        la_load<N>(in + j, value);
        la_load<N>(weight + j, w);
        if (bias)
            la_load<N>(bias + j, shift);
#pragma unroll
        for (int i = 0; i < N; i++)
            value[i] = (value[i] - mean) * inverse * w[i] + shift[i];
        la_store<N>(y + t * ld_y + j, value);
    }
    if (threadIdx.x == 0) {
        stats[2 * t] = mean;
        stats[2 * t + 1] = inverse;
    }
}

struct norm_backward_argument {
    bool is_layer;
    const float *weight, *stats;
    const void *x, *g, *residual;
    void *dx;
    int64_t ld_x, ld_g, ld_residual, ld_dx, tokens, rows, cols;
};

/* dx[n_rhs T,d] = inverse (h - [mean h] - xh mean(h xh)) + residual, with xh = (x - mean) inverse
 * and h = g weight; the mean of h for layer norm only. A row is read whole before it is written: dx
 * may be g or residual. */
template <typename T, int N> __global__ void norm_backward_rows(norm_backward_argument a) {
    int64_t row = static_cast<int64_t>(blockIdx.x) * NORM_WARPS + threadIdx.y;
    if (row >= a.rows)
        return;
    int64_t t = row % a.tokens;
    const T *in = static_cast<const T *>(a.x) + t * a.ld_x;
    const T *grad = static_cast<const T *>(a.g) + row * a.ld_g;
    const T *add = static_cast<const T *>(a.residual);
    T *out = static_cast<T *>(a.dx) + row * a.ld_dx;
    float mean = a.stats[2 * t], inverse = a.stats[2 * t + 1], sum = 0, dot = 0;
    float value[N], g[N], r[N], w[N];
    for (int64_t j = threadIdx.x * N; j < a.cols; j += LA_WARP * N) {
        la_load<N>(in + j, value);
        la_load<N>(grad + j, g);
        la_load<N>(a.weight + j, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float h = g[i] * w[i];
            sum += h;
            dot += h * (value[i] - mean);
        }
    }
    float count = static_cast<float>(a.cols);
    sum = a.is_layer ? la_warp_sum(sum) / count : 0.0f;
    dot = la_warp_sum(dot) * inverse * inverse / count;
    for (int64_t j = threadIdx.x * N; j < a.cols; j += LA_WARP * N) {
        la_load<N>(in + j, value);
        la_load<N>(grad + j, g);
        la_load<N>(a.weight + j, w);
        if (add)
            la_load<N>(add + row * a.ld_residual + j, r);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float h = g[i] * w[i];
            g[i] = inverse * (h - sum - (value[i] - mean) * dot) + (add ? r[i] : 0.0f);
        }
        la_store<N>(out + j, g);
    }
}

/* y[R,d] = c x + bias + residual, column by column; each element is read before it is written: y
 * may be x or residual */
template <typename T, int N>
__global__ void scale_column_rows(const T *x, int64_t ld_x, const float *c, const T *bias,
                                  const T *residual, int64_t ld_residual, int64_t rows,
                                  int64_t cols, T *y, int64_t ld_y) {
    int64_t j = la_first_col(N);
    if (j >= cols)
        return;
    float factor[N], shift[N] = {}, value[N], add[N] = {};
    la_load<N>(c + j, factor);
    if (bias)
        la_load<N>(bias + j, shift);
    for (int64_t t = la_first_row(); t < rows; t += la_row_step()) {
        la_load<N>(x + t * ld_x + j, value);
        if (residual)
            la_load<N>(residual + t * ld_residual + j, add);
#pragma unroll
        for (int i = 0; i < N; i++)
            value[i] = factor[i] * value[i] + shift[i] + add[i];
        la_store<N>(y + t * ld_y + j, value);
    }
}

/* ---- activations: value and derivative ---- */

#define SQRT_HALF 0.70710678f
#define SQRT_2_OVER_PI 0.79788456f
#define INV_SQRT_2PI 0.39894228f
#define GELU_CUBE 0.044715f

template <la_activation K> __device__ __forceinline__ float act_value(float x) {
    switch (K) {
    case LA_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * SQRT_HALF));
    case LA_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(SQRT_2_OVER_PI * (x + GELU_CUBE * x * x * x)));
    case LA_ACT_SILU:
        return x / (1.0f + expf(-x));
    case LA_ACT_RELU:
        return x > 0 ? x : 0.0f;
    case LA_ACT_TANH:
        return tanhf(x);
    default:
        return x;
    }
}

template <la_activation K> __device__ __forceinline__ float act_slope(float x) {
    switch (K) {
    case LA_ACT_GELU:
        return 0.5f * (1.0f + erff(x * SQRT_HALF)) + x * INV_SQRT_2PI * expf(-0.5f * x * x);
    case LA_ACT_GELU_TANH: {
        float t = tanhf(SQRT_2_OVER_PI * (x + GELU_CUBE * x * x * x));
        return 0.5f * (1.0f + t) +
               0.5f * x * (1.0f - t * t) * SQRT_2_OVER_PI * (1.0f + 3.0f * GELU_CUBE * x * x);
    }
    case LA_ACT_SILU: {
        float s = 1.0f / (1.0f + expf(-x));
        return s * (1.0f + x * (1.0f - s));
    }
    case LA_ACT_RELU:
        return x > 0 ? 1.0f : 0.0f;
    case LA_ACT_TANH: {
        float t = tanhf(x);
        return 1.0f - t * t;
    }
    default:
        return 1.0f;
    }
}

struct activation_argument {
    const void *x, *up, *g;
    void *y, *dx, *dup;
    int64_t ld_x, ld_up, ld_g, ld_y, ld_dx, ld_dup, rows, cols, n_rhs;
};

/* y[T,d] = act(x) [* up] */
template <typename T, int N, la_activation K> __global__ void act_rows(activation_argument a) {
    int64_t j = la_first_col(N);
    if (j >= a.cols)
        return;
    for (int64_t t = la_first_row(); t < a.rows; t += la_row_step()) {
        float x[N], up[N];
        la_load<N>(static_cast<const T *>(a.x) + t * a.ld_x + j, x);
        if (a.up)
            la_load<N>(static_cast<const T *>(a.up) + t * a.ld_up + j, up);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = act_value<K>(x[i]) * (a.up ? up[i] : 1.0f);
        la_store<N>(static_cast<T *>(a.y) + t * a.ld_y + j, x);
    }
}

/* dx[n_rhs T,d] = g act'(x) [* up], dup = g act(x): value and slope once for all right-hand
 * sides */
template <typename T, int N, la_activation K>
__global__ void act_backward_rows(activation_argument a) {
    int64_t j = la_first_col(N);
    if (j >= a.cols)
        return;
    for (int64_t t = la_first_row(); t < a.rows; t += la_row_step()) {
        float slope[N], value[N], g[N], other[N];
        la_load<N>(static_cast<const T *>(a.x) + t * a.ld_x + j, value);
        if (a.up)
            la_load<N>(static_cast<const T *>(a.up) + t * a.ld_up + j, other);
#pragma unroll
        for (int i = 0; i < N; i++) {
            slope[i] = act_slope<K>(value[i]) * (a.up ? other[i] : 1.0f);
            value[i] = act_value<K>(value[i]);
        }
        for (int64_t k = 0; k < a.n_rhs; k++) {
            int64_t row = k * a.rows + t;
            la_load<N>(static_cast<const T *>(a.g) + row * a.ld_g + j, g);
            if (a.dup) {
#pragma unroll
                for (int i = 0; i < N; i++)
                    other[i] = g[i] * value[i];
                la_store<N>(static_cast<T *>(a.dup) + row * a.ld_dup + j, other);
            }
#pragma unroll
            for (int i = 0; i < N; i++)
                g[i] *= slope[i];
            la_store<N>(static_cast<T *>(a.dx) + row * a.ld_dx + j, g);
        }
    }
}

/* ---- rotary embedding ---- */

/* x[n_rhs T, heads * head_dim] in place, the first 2 pairs columns of each head; a thread N pairs
 * of a head */
template <typename T, int N>
__global__ void rotate_rows(int64_t n_heads, int64_t head_dim, int64_t pairs, const float *angles,
                            const int32_t *positions, int64_t tokens, float direction, int64_t rows,
                            T *x, int64_t ld) {
    int64_t at = la_first_col(N);
    if (at >= n_heads * pairs)
        return;
    int64_t h = at / pairs, j = at % pairs;
    for (int64_t row = la_first_row(); row < rows; row += la_row_step()) {
        const float *angle = angles + (positions[row % tokens] * pairs + j) * 2;
        T *head = x + row * ld + h * head_dim + j;
        float a[N], b[N], turn[2 * N]; /* cosine, sine, cosine, ... */
        la_load<2 * N>(angle, turn);
        la_load<N>(head, a);
        la_load<N>(head + pairs, b);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float c = turn[2 * i], s = direction * turn[2 * i + 1], first = a[i];
            a[i] = first * c - b[i] * s;
            b[i] = b[i] * c + first * s;
        }
        la_store<N>(head, a);
        la_store<N>(head + pairs, b);
    }
}

template <typename T, int N>
void launch_activation(la_cuda *cu, la_activation kind, bool backward,
                       const activation_argument &a) {
    dim3 grid = la_rows_grid(a.rows, a.cols, N), block = la_rows_block();
#define KIND(K)                                                                                    \
    case K:                                                                                        \
        if (backward)                                                                              \
            LA_LAUNCH((act_backward_rows<T, N, K>), grid, block, 0, cu->stream, a);                \
        else                                                                                       \
            LA_LAUNCH((act_rows<T, N, K>), grid, block, 0, cu->stream, a);                         \
        break
    switch (kind) {
        KIND(LA_ACT_NONE);
        KIND(LA_ACT_GELU);
        KIND(LA_ACT_GELU_TANH);
        KIND(LA_ACT_SILU);
        KIND(LA_ACT_RELU);
        KIND(LA_ACT_TANH);
    }
#undef KIND
    la_cuda_launched(cu, backward ? "act_backward_rows" : "act_rows");
}

} // namespace

/* True when weight and bias can be read n neighbours at a time. */
static bool norm_has_width(const la_norm *norm, int64_t n) {
    uintptr_t bits =
        reinterpret_cast<uintptr_t>(norm->weight) | reinterpret_cast<uintptr_t>(norm->bias);
    return bits % (static_cast<size_t>(n) * sizeof(float)) == 0;
}

void la_cuda_norm(la_backend *be, const la_norm *norm, const la_mat *x, float *stats, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows)
        return;
    dim3 grid(la_cuda_blocks(x->rows, NORM_WARPS)), block(LA_WARP, NORM_WARPS);
#define LAUNCH(T, N)                                                                               \
    LA_LAUNCH((norm_rows<T, N>), grid, block, 0, cu->stream, norm->kind == LA_NORM_LAYER,          \
              norm->eps, norm->weight, norm->bias, la_data<T>(x), x->ld, x->rows, x->cols, stats,  \
              la_data<T>(y), y->ld)
    bool wide = la_all_wide(x->type, {x, y}) && norm_has_width(norm, la_wide(x->type));
    LA_BY_TYPE(x->type, wide, LAUNCH);
#undef LAUNCH
    la_cuda_launched(cu, "norm_rows");
}

void la_cuda_norm_backward(la_backend *be, const la_norm *norm, const la_mat *x, const float *stats,
                           int64_t n_rhs, const la_mat *g, const la_mat *residual, la_mat *dx) {
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows || !n_rhs)
        return;
    norm_backward_argument a = {};
    a.is_layer = norm->kind == LA_NORM_LAYER;
    a.weight = norm->weight;
    a.stats = stats;
    a.x = x->data;
    a.g = g->data;
    a.residual = residual ? residual->data : nullptr;
    a.dx = dx->data;
    a.ld_x = x->ld;
    a.ld_g = g->ld;
    a.ld_residual = la_ld(residual);
    a.ld_dx = dx->ld;
    a.tokens = x->rows;
    a.rows = n_rhs * x->rows;
    a.cols = x->cols;
    bool wide =
        la_all_wide(x->type, {x, g, residual, dx}) && norm_has_width(norm, la_wide(x->type));
    dim3 grid(la_cuda_blocks(a.rows, NORM_WARPS)), block(LA_WARP, NORM_WARPS);
#define LAUNCH(T, N) LA_LAUNCH((norm_backward_rows<T, N>), grid, block, 0, cu->stream, a)
    LA_BY_TYPE(x->type, wide, LAUNCH);
#undef LAUNCH
    la_cuda_launched(cu, "norm_backward_rows");
}

void la_cuda_scale_columns(la_backend *be, const la_mat *x, const float *c, const la_mat *bias,
                           const la_mat *residual, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows || !x->cols)
        return;
    bool aligned =
        reinterpret_cast<uintptr_t>(c) % (static_cast<size_t>(la_wide(x->type)) * sizeof *c) == 0;
    bool wide = aligned && la_all_wide(x->type, {x, bias, residual, y});
#define LAUNCH(T, N)                                                                               \
    LA_LAUNCH((scale_column_rows<T, N>), la_rows_grid(x->rows, x->cols, N), la_rows_block(), 0,    \
              cu->stream, la_data<T>(x), x->ld, c, la_data<T>(bias), la_data<T>(residual),         \
              la_ld(residual), x->rows, x->cols, la_data<T>(y), y->ld)
    LA_BY_TYPE(x->type, wide, LAUNCH);
#undef LAUNCH
    la_cuda_launched(cu, "scale_column_rows");
}

void la_cuda_activation(la_backend *be, la_activation kind, const la_mat *x, const la_mat *up,
                        la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows || !x->cols)
        return;
    activation_argument a = {};
    a.x = x->data;
    a.up = up ? up->data : nullptr;
    a.y = y->data;
    a.ld_x = x->ld;
    a.ld_up = la_ld(up);
    a.ld_y = y->ld;
    a.rows = x->rows;
    a.cols = x->cols;
    bool wide = la_all_wide(x->type, {x, up, y});
#define LAUNCH(T, N) launch_activation<T, N>(cu, kind, false, a)
    LA_BY_TYPE(x->type, wide, LAUNCH);
#undef LAUNCH
}

void la_cuda_activation_backward(la_backend *be, la_activation kind, const la_mat *x,
                                 const la_mat *up, int64_t n_rhs, const la_mat *g, la_mat *dx,
                                 la_mat *dup) {
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows || !x->cols || !n_rhs)
        return;
    activation_argument a = {};
    a.x = x->data;
    a.up = up ? up->data : nullptr;
    a.g = g->data;
    a.dx = dx->data;
    a.dup = dup ? dup->data : nullptr;
    a.ld_x = x->ld;
    a.ld_up = la_ld(up);
    a.ld_g = g->ld;
    a.ld_dx = dx->ld;
    a.ld_dup = la_ld(dup);
    a.rows = x->rows;
    a.cols = x->cols;
    a.n_rhs = n_rhs;
    bool wide = la_all_wide(x->type, {x, up, g, dx, dup});
#define LAUNCH(T, N) launch_activation<T, N>(cu, kind, true, a)
    LA_BY_TYPE(x->type, wide, LAUNCH);
#undef LAUNCH
}

void la_cuda_rotate(la_backend *be, int64_t n_heads, int64_t head_dim, int64_t rotary_dim,
                    const float *angles, const int32_t *positions, int64_t n_rhs, int sign,
                    la_mat *x) {
    la_cuda *cu = la_cuda_of(be);
    int64_t pairs = rotary_dim / 2;
    if (!x->rows || !pairs)
        return;
    /* a table of angles is an allocation of its own, or a piece of an arena: 64-byte aligned */
    int64_t width = la_wide(x->type);
    bool wide = pairs % width == 0 && head_dim % width == 0 && la_all_wide(x->type, {x});
#define LAUNCH(T, N)                                                                               \
    LA_LAUNCH((rotate_rows<T, N>), la_rows_grid(x->rows, n_heads *pairs, N), la_rows_block(), 0,   \
              cu->stream, n_heads, head_dim, pairs, angles, positions, x->rows / n_rhs,            \
              static_cast<float>(sign), x->rows, la_data<T>(x), x->ld)
    LA_BY_TYPE(x->type, wide, LAUNCH);
#undef LAUNCH
    la_cuda_launched(cu, "rotate_rows");
}
