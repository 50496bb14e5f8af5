/* Factor sums and the predictive's quadratic forms. Every sum has one owner and one order: the bits
 * do not depend on how threads are scheduled. */
#include "vector.cuh"

#include <algorithm>

namespace {

/* ---- sums ---- */

/* Panels of rows of a factor that are multiplied separately, each up to its own diagonal block, so
 * that little more than the lower triangle is computed (56 % of the square with 8). */
enum { PANELS = 8, PANEL_LEAST = 128 };

/* sum[d,d] += alpha batch[d,d] in the lower triangle; grid (columns, rows), 32 x 8 threads */
__global__ void add_lower(int64_t d, double alpha, const float *batch, double *sum) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (static_cast<int64_t>(blockIdx.x) * blockDim.x >= d)
        return;
    for (int64_t i = la_first_row(); i < d; i += la_row_step())
        if (j <= i)
            sum[i * d + j] += alpha * static_cast<double>(batch[i * d + j]);
}

/* wide[rows, cols] = x in f64, without gaps; grid (columns, rows) */
template <typename T>
__global__ void widen(const T *x, int64_t ld, int64_t rows, int64_t cols, double *wide) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (j >= cols)
        return;
    for (int64_t t = blockIdx.y; t < rows; t += gridDim.y)
        wide[t * cols + j] = static_cast<double>(la_to_float(x[t * ld + j]));
}

enum { WIDENED_ROWS = 512, WIDEN_THREADS = 128 };

/* out[n] = the diagonal of sum[n,n] */
__global__ void read_diagonal(int64_t n, const double *sum, double *out) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = sum[i * n + i];
}

enum { SQUARE_BLOCKS = 128, SQUARE_THREADS = 256 };

/* The sum of a double over a block of whole warps; thread 0 gets it. scratch: a double a warp. */
__device__ double block_sum(double value, double *scratch) {
    int warp = static_cast<int>(threadIdx.x) / LA_WARP,
        lane = static_cast<int>(threadIdx.x) % LA_WARP;
    value = la_warp_sum(value);
    if (lane == 0)
        scratch[warp] = value;
    __syncthreads();
    double total = 0;
    if (threadIdx.x == 0)
        for (unsigned w = 0; w < blockDim.x / LA_WARP; w++)
            total += scratch[w];
    return total;
}

/* partial[b] = sum of squares of the rows b, b + gridDim.x, ... of x[T,d] */
template <typename T>
__global__ void square_rows(const T *x, int64_t ld, int64_t rows, int64_t cols, double *partial) {
    __shared__ double scratch[SQUARE_THREADS / LA_WARP];
    double total = 0;
    for (int64_t t = blockIdx.x; t < rows; t += gridDim.x) {
        float square = 0;
        for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
            float value = la_to_float(x[t * ld + j]);
            square += value * value;
        }
        total += static_cast<double>(square);
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = total;
}

/* *sum += alpha (partial[0] + partial[1] + ...) */
__global__ void add_partials(int n, double alpha, const double *partial, double *sum) {
    double total = 0;
    for (int i = 0; i < n; i++)
        total += partial[i];
    *sum += alpha * total;
}

/* ---- outer products of a row's tokens ---- */

enum { OUTER_THREADS = 128, OUTER_HEIGHT = 8, OUTER_TOKENS = 32 };

struct outer_argument {
    const float *s;
    const void *b;
    float *out;
    const int32_t *cu; /* limits of rows, from the first row wanted on */
    int64_t ld_s, ld_b, ld_out, s_tokens,
        b_tokens; /* rows from one right-hand side to the next; 0 */
    int64_t n_rhs, height, cols, tiles;
    float alpha;
};

/* out[(i n_rhs + k) a + p, q] = alpha sum_t s_t[p] b_t[q]. A block: one row and right-hand side, 8
 * values of p, 128 N values of q; grid ((i n_rhs + k) tiles + tile of q, tile of p). */
template <typename T, int N> __global__ void outer_rows(outer_argument a) {
    __shared__ float s_tile[OUTER_TOKENS][OUTER_HEIGHT];
    int64_t ik = blockIdx.x / a.tiles, tile = blockIdx.x % a.tiles;
    int64_t i = ik / a.n_rhs, k = ik % a.n_rhs;
    int64_t p_from = static_cast<int64_t>(blockIdx.y) * OUTER_HEIGHT;
    int64_t q = (tile * OUTER_THREADS + threadIdx.x) * N;
    int64_t from = a.cu[i], to = a.cu[i + 1];
    const T *b = static_cast<const T *>(a.b) + k * a.b_tokens * a.ld_b;
    const float *s = a.s + k * a.s_tokens * a.ld_s;
    float sum[OUTER_HEIGHT][N];
#pragma unroll
    for (int p = 0; p < OUTER_HEIGHT; p++)
#pragma unroll
        for (int j = 0; j < N; j++)
            sum[p][j] = 0;
    for (int64_t t0 = from; t0 < to; t0 += OUTER_TOKENS) {
        __syncthreads();
        for (int at = static_cast<int>(threadIdx.x); at < OUTER_TOKENS * OUTER_HEIGHT;
             at += OUTER_THREADS) {
            int64_t t = t0 + at / OUTER_HEIGHT, p = p_from + at % OUTER_HEIGHT;
            s_tile[at / OUTER_HEIGHT][at % OUTER_HEIGHT] =
                t < to && p < a.height ? s[t * a.ld_s + p] : 0.0f;
        }
        __syncthreads();
        int n = static_cast<int>(min(to - t0, static_cast<int64_t>(OUTER_TOKENS)));
        for (int t = 0; q < a.cols && t < n; t++) {
            float value[N];
            la_load<N>(b + (t0 + t) * a.ld_b + q, value);
#pragma unroll
            for (int p = 0; p < OUTER_HEIGHT; p++)
#pragma unroll
                for (int j = 0; j < N; j++)
                    sum[p][j] += s_tile[t][p] * value[j];
        }
    }
    if (q >= a.cols)
        return;
#pragma unroll
    for (int p = 0; p < OUTER_HEIGHT; p++) {
        if (p_from + p >= a.height)
            break;
#pragma unroll
        for (int j = 0; j < N; j++)
            sum[p][j] *= a.alpha;
        la_store<N>(a.out + (ik * a.height + p_from + p) * a.ld_out + q, sum[p]);
    }
}

/* ---- quadratic form ---- */

/* A block forms a tile of 4 x 4 pairs of right-hand sides: the rows of r are read once for four
 * partners. */
enum { PAIRS = 4, PAIR_THREADS = 256 };

struct quadratic_argument {
    const float *r, *weight;
    double *cov;
    int64_t ld_r, ld_weight, height, cols, n_rhs;
};

/* cov[i][k][l] += sum_pq weight[p,q] r_ikpq r_ilpq; grid (row i, tile of k, tile of l <= k) */
template <int N> __global__ void quadratic_rows(quadratic_argument a) {
    __shared__ double scratch[PAIR_THREADS / LA_WARP][PAIRS * PAIRS];
    int64_t i = blockIdx.x, k0 = static_cast<int64_t>(blockIdx.y) * PAIRS;
    int64_t l0 = static_cast<int64_t>(blockIdx.z) * PAIRS;
    if (l0 > k0)
        return;
    float sum[PAIRS][PAIRS] = {};
    for (int64_t p = 0; p < a.height; p++) {
        const float *rows = a.r + (i * a.n_rhs * a.height + p) * a.ld_r;
        int64_t next = a.height * a.ld_r; /* from one right-hand side to the next */
        for (int64_t q = threadIdx.x * N; q < a.cols; q += PAIR_THREADS * N) {
            float w[N], left[PAIRS][N], right[N];
            la_load<N>(a.weight + p * a.ld_weight + q, w);
#pragma unroll
            for (int k = 0; k < PAIRS; k++) {
                if (k0 + k < a.n_rhs)
                    la_load<N>(rows + (k0 + k) * next + q, left[k]);
#pragma unroll
                for (int j = 0; j < N; j++)
                    left[k][j] = k0 + k < a.n_rhs ? left[k][j] * w[j] : 0.0f;
            }
#pragma unroll
            for (int l = 0; l < PAIRS; l++) {
                if (l0 + l >= a.n_rhs)
                    break;
                la_load<N>(rows + (l0 + l) * next + q, right);
#pragma unroll
                for (int k = 0; k < PAIRS; k++)
#pragma unroll
                    for (int j = 0; j < N; j++)
                        sum[k][l] += left[k][j] * right[j];
            }
        }
    }
    int warp = static_cast<int>(threadIdx.x) / LA_WARP,
        lane = static_cast<int>(threadIdx.x) % LA_WARP;
#pragma unroll
    for (int k = 0; k < PAIRS; k++)
#pragma unroll
        for (int l = 0; l < PAIRS; l++) {
            double total = la_warp_sum(static_cast<double>(sum[k][l]));
            if (lane == 0)
                scratch[warp][k * PAIRS + l] = total;
        }
    __syncthreads();
    int64_t k = k0 + threadIdx.x / PAIRS, l = l0 + threadIdx.x % PAIRS;
    if (threadIdx.x >= PAIRS * PAIRS || k >= a.n_rhs || l > k)
        return;
    double total = 0;
    for (int w = 0; w < PAIR_THREADS / LA_WARP; w++)
        total += scratch[w][threadIdx.x];
    double *out = a.cov + i * a.n_rhs * a.n_rhs;
    out[k * a.n_rhs + l] += total;
    if (l != k)
        out[l * a.n_rhs + k] += total;
}

/* Columns [from, from + cols) of a matrix. */
la_mat columns(const la_mat *m, int64_t from, int64_t cols) {
    la_mat part = *m;
    part.data = static_cast<char *>(m->data) + static_cast<size_t>(from) * la_type_size(m->type);
    part.cols = cols;
    return part;
}

} // namespace

/* Products over the batch in the backend's precision (of bf16 values exactly, of f32 row sums under
 * tf32 and bf16 as tf32), summed in f32; sums over batches in f64. */
void la_cuda_factor_add(la_backend *be, double alpha, const la_mat *x, double *sum) {
    la_cuda *cu = la_cuda_of(be);
    int64_t d = x->cols;
    if (!x->rows || !d)
        return;
    float *batch = static_cast<float *>(
        la_cuda_scratch_get(cu, LA_CUDA_FACTOR, static_cast<size_t>(d * d) * sizeof(float)));
    if (!batch)
        return;
    int64_t width = (d + PANELS - 1) / PANELS;
    width = std::max<int64_t>(PANEL_LEAST, (width + 63) / 64 * 64);
    for (int64_t from = 0; from < d; from += width) {
        int64_t n = d - from < width ? d - from : width;
        la_mat left = columns(x, from, n), right = columns(x, 0, from + n);
        la_mat out = {batch + from * d, n, from + n, d, LA_F32};
        la_cuda_gemm(be, true, false, 1, &left, &right, 0, &out);
    }
    unsigned rows = la_cuda_blocks(d, 8);
    dim3 grid(la_cuda_blocks(d, 32), rows < 65535 ? rows : 65535);
    LA_LAUNCH(add_lower, grid, dim3(32, 8), 0, cu->stream, d, alpha, batch, sum);
    la_cuda_launched(cu, "add_lower");
}

/* cuBLAS sees transposes: rows of x are its columns. The workspace is made by the first batch. */
void la_cuda_sketch_add(la_backend *be, double alpha, const la_mat *x, int64_t l,
                        const double *omega, double *sum) {
    la_cuda *cu = la_cuda_of(be);
    int64_t d = x->cols;
    double zero = 0, one = 1;
    if (!x->rows || !d)
        return;
    double *wide = static_cast<double *>(la_cuda_scratch_get(
        cu, LA_CUDA_FACTOR, static_cast<size_t>(WIDENED_ROWS * (d + l)) * sizeof(double)));
    if (!wide)
        return;
    double *product = wide + WIDENED_ROWS * d;
    int width = static_cast<int>(d), cols = static_cast<int>(l);
    for (int64_t from = 0; from < x->rows; from += WIDENED_ROWS) {
        int n = static_cast<int>(std::min<int64_t>(x->rows - from, WIDENED_ROWS));
        dim3 grid(la_cuda_blocks(d, WIDEN_THREADS), static_cast<unsigned>(n));
        if (x->type == LA_BF16)
            LA_LAUNCH((widen<bf16>), grid, dim3(WIDEN_THREADS), 0, cu->stream,
                      la_data<bf16>(x) + from * x->ld, x->ld, static_cast<int64_t>(n), d, wide);
        else
            LA_LAUNCH((widen<float>), grid, dim3(WIDEN_THREADS), 0, cu->stream,
                      la_data<float>(x) + from * x->ld, x->ld, static_cast<int64_t>(n), d, wide);
        if (!la_cuda_launched(cu, "widen") ||
            !la_cuda_blas_ok(cu,
                             cublasDgemm(cu->blas, CUBLAS_OP_N, CUBLAS_OP_N, cols, n, width, &one,
                                         omega, cols, wide, width, &zero, product, cols),
                             "a product with the sketch") ||
            !la_cuda_blas_ok(cu,
                             cublasDgemm(cu->blas, CUBLAS_OP_N, CUBLAS_OP_T, cols, width, n, &alpha,
                                         product, cols, wide, width, &one, sum, cols),
                             "a sum of sketches"))
            return;
    }
}

void la_cuda_diagonal(la_backend *be, int64_t n, const double *sum, double *host) {
    la_cuda *cu = la_cuda_of(be);
    size_t bytes = static_cast<size_t>(n) * sizeof(double);
    double *values = static_cast<double *>(la_cuda_scratch_get(cu, LA_CUDA_FACTOR, bytes));
    if (!values || !n)
        return;
    LA_LAUNCH(read_diagonal, dim3(la_cuda_blocks(n, 256)), dim3(256), 0, cu->stream, n, sum,
              values);
    if (la_cuda_launched(cu, "read_diagonal"))
        be->ops->download(be, host, values, bytes);
}

void la_cuda_square_add(la_backend *be, double alpha, const la_mat *x, double *sum) {
    la_cuda *cu = la_cuda_of(be);
    double *partial = static_cast<double *>(
        la_cuda_scratch_get(cu, LA_CUDA_FACTOR, SQUARE_BLOCKS * sizeof(double)));
    if (!partial || !x->rows)
        return;
    if (x->type == LA_BF16)
        LA_LAUNCH((square_rows<bf16>), dim3(SQUARE_BLOCKS), dim3(SQUARE_THREADS), 0, cu->stream,
                  la_data<bf16>(x), x->ld, x->rows, x->cols, partial);
    else
        LA_LAUNCH((square_rows<float>), dim3(SQUARE_BLOCKS), dim3(SQUARE_THREADS), 0, cu->stream,
                  la_data<float>(x), x->ld, x->rows, x->cols, partial);
    la_cuda_launched(cu, "square_rows");
    LA_LAUNCH(add_partials, dim3(1), dim3(1), 0, cu->stream, static_cast<int>(SQUARE_BLOCKS), alpha,
              partial, sum);
    la_cuda_launched(cu, "add_partials");
}

void la_cuda_row_outer(la_backend *be, int64_t first, int64_t n_rows, const int32_t *cu_rows,
                       int64_t n_rhs, float alpha, const la_mat *s, bool s_rhs, const la_mat *b,
                       bool b_rhs, la_mat *out) {
    la_cuda *cu = la_cuda_of(be);
    if (!n_rows || !n_rhs || !s->cols || !b->cols)
        return;
    outer_argument a = {};
    a.s = la_data<float>(s);
    a.b = b->data;
    a.out = la_data<float>(out);
    a.cu = cu_rows + first;
    a.ld_s = s->ld;
    a.ld_b = b->ld;
    a.ld_out = out->ld;
    a.s_tokens = s_rhs ? s->rows / n_rhs : 0;
    a.b_tokens = b_rhs ? b->rows / n_rhs : 0;
    a.n_rhs = n_rhs;
    a.height = s->cols;
    a.cols = b->cols;
    a.alpha = alpha;
    bool wide = la_has_width(b, 4) && la_has_width(out, 4);
    a.tiles = la_cuda_blocks(a.cols, OUTER_THREADS * (wide ? 4 : 1));
    dim3 grid(static_cast<unsigned>(n_rows * n_rhs * a.tiles),
              la_cuda_blocks(a.height, OUTER_HEIGHT));
    dim3 block(OUTER_THREADS);
    if (b->type == LA_BF16 && wide)
        LA_LAUNCH((outer_rows<bf16, 4>), grid, block, 0, cu->stream, a);
    else if (b->type == LA_BF16)
        LA_LAUNCH((outer_rows<bf16, 1>), grid, block, 0, cu->stream, a);
    else if (wide)
        LA_LAUNCH((outer_rows<float, 4>), grid, block, 0, cu->stream, a);
    else
        LA_LAUNCH((outer_rows<float, 1>), grid, block, 0, cu->stream, a);
    la_cuda_launched(cu, "outer_rows");
}

/* sum[cols] += squares of x[rows, cols]: a thread a column, so that the order of the sum is
 * fixed */
static __global__ void square_columns(int64_t rows, int64_t cols, int64_t ld, const float *x,
                                      double *sum) {
    int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (j >= cols)
        return;
    double total = 0;
    for (int64_t t = 0; t < rows; t++) {
        double value = x[t * ld + j];
        total += value * value;
    }
    sum[j] += total;
}

void la_cuda_column_squares(la_backend *be, const la_mat *x, double *sum) {
    const unsigned THREADS = 64;
    la_cuda *cu = la_cuda_of(be);
    if (!x->rows || !x->cols)
        return;
    LA_LAUNCH(square_columns, dim3(la_cuda_blocks(x->cols, THREADS)), dim3(THREADS), 0, cu->stream,
              x->rows, x->cols, x->ld, la_data<float>(x), sum);
    la_cuda_launched(cu, "square_columns");
}

void la_cuda_kron_quadratic(la_backend *be, int64_t n_rows, int64_t n_rhs, const la_mat *r,
                            const la_mat *weight, double *cov) {
    la_cuda *cu = la_cuda_of(be);
    if (!n_rows || !n_rhs || !r->cols || !weight->rows)
        return;
    quadratic_argument a = {la_data<float>(r), la_data<float>(weight), cov,     r->ld,
                            weight->ld,        weight->rows,           r->cols, n_rhs};
    bool wide = la_has_width(r, 4) && la_has_width(weight, 4);
    /* without gaps between the rows, all of a right-hand side is one long row */
    if (r->ld == r->cols && weight->ld == weight->cols && r->cols == weight->cols) {
        a.cols *= a.height;
        a.ld_r = a.ld_weight = a.cols;
        a.height = 1;
    }
    unsigned tiles = la_cuda_blocks(n_rhs, PAIRS);
    dim3 grid(static_cast<unsigned>(n_rows), tiles, tiles);
    if (wide)
        LA_LAUNCH((quadratic_rows<4>), grid, dim3(PAIR_THREADS), 0, cu->stream, a);
    else
        LA_LAUNCH((quadratic_rows<1>), grid, dim3(PAIR_THREADS), 0, cu->stream, a);
    la_cuda_launched(cu, "quadratic_rows");
}
