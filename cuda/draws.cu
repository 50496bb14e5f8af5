/* The Monte Carlo predictive: the mean of softmax over draws of Gaussian logits, in f64. */
#include "random.cuh"
#include "vector.cuh"

namespace {

/* A warp a draw, lanes over the classes; a row's draws are cut into chunks so that few rows fill the
 * device as well. */
enum { DRAW_WARPS = 8, CHUNKS = 32, LANE_CLASSES = 8, CLASSES_MOST = LANE_CLASSES * LA_WARP };

struct draws_argument {
    const double *centre, *spread; /* [n, C], [n, C, C-1] */
    const uint64_t *streams;       /* [n] */
    double *partial;               /* [n, CHUNKS, C + 1]: sums of probabilities, and of entropy */
    int64_t samples;
    uint64_t seed;
    int classes;
};

__device__ __forceinline__ double warp_max(double x) {
    for (int offset = LA_WARP / 2; offset; offset /= 2)
        x = fmax(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

/* partial[row, chunk] of draws chunk * DRAW_WARPS + warp, ...; grid (row, chunk) */
__global__ void draw_rows(draws_argument a) {
    LA_DYNAMIC_SHARED(memory);
    int warp = static_cast<int>(threadIdx.x) / LA_WARP;
    int lane = static_cast<int>(threadIdx.x) % LA_WARP;
    int c_count = a.classes, m = c_count - 1;
    double *sums = reinterpret_cast<double *>(memory); /* [DRAW_WARPS, C + 1] */
    double *z = sums + DRAW_WARPS * (c_count + 1) + warp * m;
    int64_t row = blockIdx.x;
    const double *centre = a.centre + row * c_count, *spread = a.spread + row * c_count * m;
    double total[LANE_CLASSES] = {}, total_entropy = 0;
    int64_t first = static_cast<int64_t>(blockIdx.y) * DRAW_WARPS + warp;
    for (int64_t s = first; s < a.samples; s += CHUNKS * DRAW_WARPS) {
        __syncwarp();
        for (int k = lane; k < m; k += LA_WARP)
            z[k] = la_philox_normal(a.seed, a.streams[row], static_cast<uint64_t>(s * m + k));
        __syncwarp();
        double f[LANE_CLASSES], top = -INFINITY, sum = 0, weighted = 0;
#pragma unroll
        for (int i = 0; i < LANE_CLASSES; i++) {
            int c = i * LA_WARP + lane;
            f[i] = -INFINITY;
            if (c < c_count) {
                f[i] = centre[c];
                for (int k = 0; k < m; k++)
                    f[i] += spread[c * m + k] * z[k];
            }
            top = fmax(top, f[i]);
        }
        top = warp_max(top);
#pragma unroll
        for (int i = 0; i < LANE_CLASSES; i++) {
            double shifted = f[i] - top;
            f[i] = i * LA_WARP + lane < c_count ? exp(shifted) : 0.0;
            sum += f[i];
            /* entropy = log(sum) - (sum of f shifted) / sum */
            weighted += f[i] > 0 ? f[i] * shifted : 0.0;
        }
        sum = la_warp_sum(sum);
        weighted = la_warp_sum(weighted);
        total_entropy += log(sum) - weighted / sum;
#pragma unroll
        for (int i = 0; i < LANE_CLASSES; i++)
            total[i] += f[i] / sum;
    }
#pragma unroll
    for (int i = 0; i < LANE_CLASSES; i++)
        if (i * LA_WARP + lane < c_count)
            sums[warp * (c_count + 1) + i * LA_WARP + lane] = total[i];
    if (lane == 0)
        sums[warp * (c_count + 1) + c_count] = total_entropy;
    __syncthreads();
    double *out = a.partial + (row * CHUNKS + blockIdx.y) * (c_count + 1);
    for (int c = static_cast<int>(threadIdx.x); c <= c_count; c += DRAW_WARPS * LA_WARP) {
        double value = 0;
        for (int w = 0; w < DRAW_WARPS; w++)
            value += sums[w * (c_count + 1) + c];
        out[c] = value;
    }
}

/* out[n, C + 1] = the mean over the draws; grid (row) */
__global__ void mean_draws(const double *partial, int classes, int64_t samples, double *out) {
    int64_t row = blockIdx.x;
    for (int c = static_cast<int>(threadIdx.x); c <= classes; c += static_cast<int>(blockDim.x)) {
        double value = 0;
        for (int chunk = 0; chunk < CHUNKS; chunk++)
            value += partial[(row * CHUNKS + chunk) * (classes + 1) + c];
        out[row * (classes + 1) + c] = value / static_cast<double>(samples);
    }
}

} // namespace

size_t la_cuda_draws_bytes(int64_t n, int64_t n_classes) {
    if (n_classes > CLASSES_MOST)
        return 0;
    size_t rows = static_cast<size_t>(n), c = static_cast<size_t>(n_classes);
    /* centre, spread, stream, partial sums and means of a row */
    return rows * (c + c * (c - 1) + 1 + (c + 1) * (CHUNKS + 1)) * sizeof(double);
}

bool la_cuda_monte_carlo(la_backend *be, int64_t n, int64_t n_classes, const double *centre,
                         const double *spread, int64_t samples, uint64_t seed,
                         const uint64_t *streams, double *means) {
    la_cuda *cu = la_cuda_of(be);
    if (n_classes > CLASSES_MOST || n < 1 || samples < 1)
        return false;
    size_t rows = static_cast<size_t>(n), c = static_cast<size_t>(n_classes), m = c - 1;
    size_t spread_count = rows * c * m, means_count = rows * (c + 1);
    la_error before = cu->fault;
    double *memory = static_cast<double *>(
        la_cuda_scratch_get(cu, LA_CUDA_DRAWS, la_cuda_draws_bytes(n, n_classes)));
    if (!memory) {
        cu->fault = before; /* no room here is no fault: the host draws */
        return false;
    }
    draws_argument a = {};
    double *at = memory, *out;
    be->ops->upload(be, at, centre, rows * c * sizeof(double));
    a.centre = at;
    at += rows * c;
    be->ops->upload(be, at, spread, spread_count * sizeof(double));
    a.spread = at;
    at += spread_count;
    be->ops->upload(be, at, streams, rows * sizeof(uint64_t));
    a.streams = reinterpret_cast<const uint64_t *>(at);
    at += rows;
    a.partial = at;
    out = at + means_count * CHUNKS;
    a.samples = samples;
    a.seed = seed;
    a.classes = static_cast<int>(n_classes);
    size_t shared = DRAW_WARPS * (c + 1 + m) * sizeof(double);
    LA_LAUNCH(draw_rows, dim3(static_cast<unsigned>(n), CHUNKS), dim3(DRAW_WARPS * LA_WARP), shared,
              cu->stream, a);
    la_cuda_launched(cu, "draw_rows");
    LA_LAUNCH(mean_draws, dim3(static_cast<unsigned>(n)), dim3(128), 0, cu->stream, a.partial,
              a.classes, samples, out);
    if (!la_cuda_launched(cu, "mean_draws"))
        return false;
    be->ops->download(be, means, out, means_count * sizeof(double));
    return cu->fault.status == LA_OK;
}
