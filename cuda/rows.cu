/* Moving, converting and summing rows. */
#include "vector.cuh"

namespace {

enum { TABLES_MAX = 3 };

struct tables_argument {
    const void *data[TABLES_MAX];
    int64_t ld[TABLES_MAX];
    const int32_t *ids[TABLES_MAX];
    la_dtype type[TABLES_MAX];
    int count;
};

template <int N>
__device__ __forceinline__ void load_as(la_dtype type, const void *data, int64_t at,
                                        float (&to)[N]) {
    switch (type) {
    case LA_F16:
        la_load<N>(static_cast<const __half *>(data) + at, to);
        break;
    case LA_BF16:
        la_load<N>(static_cast<const bf16 *>(data) + at, to);
        break;
    case LA_F64:
        la_load<N>(static_cast<const double *>(data) + at, to);
        break;
    default:
        la_load<N>(static_cast<const float *>(data) + at, to);
    }
}

/* y[T,d] = scale times the sum of rows of tables [*,d] */
template <typename T, int N>
__global__ void embed_rows(tables_argument tables, float scale, int64_t rows, int64_t cols, T *y,
                           int64_t ld) {
    int64_t j = la_first_col(N);
    if (j >= cols)
        return;
    for (int64_t t = la_first_row(); t < rows; t += la_row_step()) {
        float sum[N] = {}, value[N];
        for (int i = 0; i < tables.count; i++) {
            load_as<N>(tables.type[i], tables.data[i], tables.ids[i][t] * tables.ld[i] + j, value);
#pragma unroll
            for (int k = 0; k < N; k++)
                sum[k] += scale * value[k];
        }
        la_store<N>(y + t * ld + j, sum);
    }
}

/* y[i] = x[index ? index[i] : i], x and y [*,d] of any two types */
template <typename X, typename Y, int N>
__global__ void gather_rows(const X *x, int64_t ld_x, const int32_t *index, int64_t rows,
                            int64_t cols, Y *y, int64_t ld_y) {
    int64_t j = la_first_col(N);
    if (j >= cols)
        return;
    for (int64_t i = la_first_row(); i < rows; i += la_row_step()) {
        float value[N];
        la_load<N>(x + (index ? index[i] : i) * ld_x + j, value);
        la_store<N>(y + i * ld_y + j, value);
    }
}

/* y[k T + index[i]] += x[k n + i]; no index occurs twice for one k */
template <typename X, typename Y>
__global__ void scatter_rows(const X *x, int64_t ld_x, int64_t n, const int32_t *index,
                             int64_t rows, int64_t cols, int64_t tokens, Y *y, int64_t ld_y) {
    int64_t j = la_first_col(1);
    if (j >= cols)
        return;
    for (int64_t row = la_first_row(); row < rows; row += la_row_step()) {
        Y *to = y + (row / n * tokens + index[row % n]) * ld_y + j;
        *to = la_from_float<Y>(la_to_float(*to) + la_to_float(x[row * ld_x + j]));
    }
}

/* y[k n + i] = scale_i sum over the tokens t of row i of x[k T + t]; grid (columns, n at most,
 * n_rhs) */
template <typename X, typename Y>
__global__ void sum_segments(const X *x, int64_t ld_x, int64_t tokens, int64_t cols,
                             const int32_t *cu, int64_t n, bool mean, Y *y, int64_t ld_y) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, k = blockIdx.z;
    if (j >= cols)
        return;
    for (int64_t i = blockIdx.y; i < n; i += gridDim.y) {
        int32_t from = cu[i], to = cu[i + 1];
        float sum = 0;
        for (int32_t t = from; t < to; t++)
            sum += la_to_float(x[(k * tokens + t) * ld_x + j]);
        if (mean)
            sum *= 1.0f / static_cast<float>(to - from);
        y[(k * n + i) * ld_y + j] = la_from_float<Y>(sum);
    }
}

/* y[k T + t] = x[k n + i] / length of row i, for its tokens t; grid as above */
template <typename X, typename Y>
__global__ void spread_segments(const X *x, int64_t ld_x, int64_t tokens, int64_t cols,
                                const int32_t *cu, int64_t n, Y *y, int64_t ld_y) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, k = blockIdx.z;
    if (j >= cols)
        return;
    for (int64_t i = blockIdx.y; i < n; i += gridDim.y) {
        int32_t from = cu[i], to = cu[i + 1];
        Y value = la_from_float<Y>(1.0f / static_cast<float>(to - from) *
                                   la_to_float(x[(k * n + i) * ld_x + j]));
        for (int32_t t = from; t < to; t++)
            y[(k * tokens + t) * ld_y + j] = value;
    }
}

/* y[T,d] += x[T,d] */
template <typename T, int N>
__global__ void add_rows(const T *x, int64_t ld_x, int64_t rows, int64_t cols, T *y, int64_t ld_y) {
    int64_t j = la_first_col(N);
    if (j >= cols)
        return;
    for (int64_t t = la_first_row(); t < rows; t += la_row_step()) {
        float a[N], b[N];
        la_load<N>(x + t * ld_x + j, a);
        la_load<N>(y + t * ld_y + j, b);
#pragma unroll
        for (int i = 0; i < N; i++)
            b[i] += a[i];
        la_store<N>(y + t * ld_y + j, b);
    }
}

/* y[T,d+1] = (x[T,d], 1) */
template <typename T>
__global__ void append_ones(const T *x, int64_t ld_x, int64_t rows, int64_t cols, T *y,
                            int64_t ld_y) {
    int64_t j = la_first_col(1);
    if (j > cols)
        return;
    for (int64_t t = la_first_row(); t < rows; t += la_row_step())
        y[t * ld_y + j] = j < cols ? x[t * ld_x + j] : la_from_float<T>(1.0f);
}

template <typename X, typename Y>
void gather(la_cuda *cu, const la_mat *x, const int32_t *index, la_mat *y) {
    if (la_has_width(x, 4) && la_has_width(y, 4))
        LA_LAUNCH((gather_rows<X, Y, 4>), la_rows_grid(y->rows, y->cols, 4), la_rows_block(), 0,
                  cu->stream, la_data<X>(x), x->ld, index, y->rows, y->cols, la_data<Y>(y), y->ld);
    else
        LA_LAUNCH((gather_rows<X, Y, 1>), la_rows_grid(y->rows, y->cols, 1), la_rows_block(), 0,
                  cu->stream, la_data<X>(x), x->ld, index, y->rows, y->cols, la_data<Y>(y), y->ld);
    la_cuda_launched(cu, "gather_rows");
}

template <typename X>
void gather_from(la_cuda *cu, const la_mat *x, const int32_t *index, la_mat *y) {
    if (y->type == LA_BF16)
        gather<X, bf16>(cu, x, index, y);
    else
        gather<X, float>(cu, x, index, y);
}

void gather_any(la_cuda *cu, const la_mat *x, const int32_t *index, la_mat *y) {
    if (!y->rows || !y->cols)
        return;
    if (x->type == LA_F64)
        gather_from<double>(cu, x, index, y);
    else if (x->type == LA_F16)
        gather_from<__half>(cu, x, index, y);
    else if (x->type == LA_BF16)
        gather_from<bf16>(cu, x, index, y);
    else
        gather_from<float>(cu, x, index, y);
}

template <typename X, typename Y>
void scatter(la_cuda *cu, const la_mat *x, int64_t n_rhs, const int32_t *index, la_mat *y) {
    LA_LAUNCH((scatter_rows<X, Y>), la_rows_grid(x->rows, x->cols, 1), la_rows_block(), 0,
              cu->stream, la_data<X>(x), x->ld, x->rows / n_rhs, index, x->rows, x->cols,
              y->rows / n_rhs, la_data<Y>(y), y->ld);
    la_cuda_launched(cu, "scatter_rows");
}

template <typename X, typename Y>
void segments(la_cuda *cu, const la_mat *x, int64_t n_rhs, int64_t n_rows, const int32_t *cu_rows,
              bool mean, la_mat *y) {
    dim3 grid(la_cuda_blocks(y->cols, 128), static_cast<unsigned>(n_rows < 65535 ? n_rows : 65535),
              static_cast<unsigned>(n_rhs));
    LA_LAUNCH((sum_segments<X, Y>), grid, dim3(128), 0, cu->stream, la_data<X>(x), x->ld,
              x->rows / n_rhs, y->cols, cu_rows, n_rows, mean, la_data<Y>(y), y->ld);
    la_cuda_launched(cu, "sum_segments");
}

template <typename X, typename Y>
void spread(la_cuda *cu, const la_mat *x, int64_t n_rhs, int64_t n_rows, const int32_t *cu_rows,
            la_mat *y) {
    dim3 grid(la_cuda_blocks(y->cols, 128), static_cast<unsigned>(n_rows < 65535 ? n_rows : 65535),
              static_cast<unsigned>(n_rhs));
    LA_LAUNCH((spread_segments<X, Y>), grid, dim3(128), 0, cu->stream, la_data<X>(x), x->ld,
              y->rows / n_rhs, y->cols, cu_rows, n_rows, la_data<Y>(y), y->ld);
    la_cuda_launched(cu, "spread_segments");
}

} // namespace

/* Calls function<X, Y>(...) by the types of the two matrices. */
#define BY_TYPES(function, x, y, ...)                                                              \
    do {                                                                                           \
        if ((x)->type == LA_BF16 && (y)->type == LA_BF16)                                          \
            function<bf16, bf16>(__VA_ARGS__);                                                     \
        else if ((x)->type == LA_BF16)                                                             \
            function<bf16, float>(__VA_ARGS__);                                                    \
        else if ((y)->type == LA_BF16)                                                             \
            function<float, bf16>(__VA_ARGS__);                                                    \
        else                                                                                       \
            function<float, float>(__VA_ARGS__);                                                   \
    } while (0)

void la_cuda_embed(la_backend *be, int n_tables, const la_mat *tables, const int32_t *const *ids,
                   float scale, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    tables_argument argument = {};
    argument.count = n_tables;
    for (int i = 0; i < n_tables; i++) {
        argument.data[i] = tables[i].data;
        argument.ld[i] = tables[i].ld;
        argument.ids[i] = ids[i];
        argument.type[i] = tables[i].type;
    }
    if (!y->rows)
        return;
    bool wide = la_all_wide(y->type, {y});
    for (int i = 0; i < n_tables; i++)
        wide = wide && la_has_width(&tables[i], la_wide(y->type));
#define LAUNCH(T, N)                                                                               \
    LA_LAUNCH((embed_rows<T, N>), la_rows_grid(y->rows, y->cols, N), la_rows_block(), 0,           \
              cu->stream, argument, scale, y->rows, y->cols, la_data<T>(y), y->ld)
    LA_BY_TYPE(y->type, wide, LAUNCH);
#undef LAUNCH
    la_cuda_launched(cu, "embed_rows");
}

void la_cuda_gather(la_backend *be, const la_mat *x, const int32_t *index, la_mat *y) {
    gather_any(la_cuda_of(be), x, index, y);
}

void la_cuda_convert(la_cuda *cu, const la_mat *x, la_mat *y) {
    gather_any(cu, x, nullptr, y);
}

void la_cuda_scatter(la_backend *be, const la_mat *x, int64_t n_rhs, const int32_t *index,
                     bool accumulate, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    size_t size = la_type_size(y->type);
    if (!accumulate && y->rows && y->cols &&
        !la_cuda_ok(cu,
                    cudaMemset2DAsync(y->data, static_cast<size_t>(y->ld) * size, 0,
                                      static_cast<size_t>(y->cols) * size,
                                      static_cast<size_t>(y->rows), cu->stream),
                    "clearing rows"))
        return;
    if (x->rows && x->cols)
        BY_TYPES(scatter, x, y, cu, x, n_rhs, index, y);
}

void la_cuda_segment_sum(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                         const int32_t *cu_rows, bool mean, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (n_rows && y->cols)
        BY_TYPES(segments, x, y, cu, x, n_rhs, n_rows, cu_rows, mean, y);
}

void la_cuda_segment_spread(la_backend *be, const la_mat *x, int64_t n_rhs, int64_t n_rows,
                            const int32_t *cu_rows, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (n_rows && y->cols)
        BY_TYPES(spread, x, y, cu, x, n_rhs, n_rows, cu_rows, y);
}

void la_cuda_add(la_backend *be, const la_mat *x, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (!y->rows || !y->cols)
        return;
#define LAUNCH(T, N)                                                                               \
    LA_LAUNCH((add_rows<T, N>), la_rows_grid(y->rows, y->cols, N), la_rows_block(), 0, cu->stream, \
              la_data<T>(x), x->ld, y->rows, y->cols, la_data<T>(y), y->ld)
    LA_BY_TYPE(y->type, la_all_wide(y->type, {x, y}), LAUNCH);
#undef LAUNCH
    la_cuda_launched(cu, "add_rows");
}

void la_cuda_append_one(la_backend *be, const la_mat *x, la_mat *y) {
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows)
        return;
    dim3 grid = la_rows_grid(x->rows, x->cols + 1, 1);
    if (x->type == LA_BF16)
        LA_LAUNCH((append_ones<bf16>), grid, la_rows_block(), 0, cu->stream, la_data<bf16>(x),
                  x->ld, x->rows, x->cols, la_data<bf16>(y), y->ld);
    else
        LA_LAUNCH((append_ones<float>), grid, la_rows_block(), 0, cu->stream, la_data<float>(x),
                  x->ld, x->rows, x->cols, la_data<float>(y), y->ld);
    la_cuda_launched(cu, "append_ones");
}
