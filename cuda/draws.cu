/* The Monte Carlo predictive: moments of softmax over draws of Gaussian logits, in f64. */
#include "random.cuh"
#include "vector.cuh"

namespace {

/* A warp a draw, lanes over the classes; a row's draws are cut into chunks so that few rows fill
 * the device as well. */
enum { DRAW_WARPS = 8, CHUNKS = 32, LANE_CLASSES = 8, CLASSES_MOST = LANE_CLASSES * LA_WARP };

struct draws_argument {
    const double *centre, *spread; /* [n, C], [n, C, C-1] */
    const uint64_t *streams;       /* [n] */
    double *partial;               /* [n, CHUNKS, 2C + 1]: sums of what means are of, ops.h */
    int64_t samples;
    uint64_t seed;
    int classes;
};

__device__ __forceinline__ double warp_max(double x) {
    for (int offset = LA_WARP / 2; offset; offset /= 2)
        x = fmax(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

/* Takes a lane's classes from logits to probabilities; what is behind the last class becomes 0.
 * Returns the entropy. */
__device__ __forceinline__ double warp_softmax(int c_count, int lane, double (&f)[LANE_CLASSES]) {
    double top = -INFINITY, sum = 0, weighted = 0;
#pragma unroll
    for (int i = 0; i < LANE_CLASSES; i++)
        if (i * LA_WARP + lane < c_count)
            top = fmax(top, f[i]);
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
#pragma unroll
    for (int i = 0; i < LANE_CLASSES; i++)
        f[i] /= sum;
    return log(sum) - weighted / sum;
}

/* partial[row, chunk] of draws chunk * DRAW_WARPS + warp, ...; grid (row, chunk) */
__global__ void draw_rows(draws_argument a) {
    LA_DYNAMIC_SHARED(memory);
    int warp = static_cast<int>(threadIdx.x) / LA_WARP;
    int lane = static_cast<int>(threadIdx.x) % LA_WARP;
    int c_count = a.classes, m = c_count - 1, count = 2 * c_count + 1;
    double *sums = reinterpret_cast<double *>(memory); /* [DRAW_WARPS, 2C + 1] */
    double *map = sums + DRAW_WARPS * count;           /* [C]: softmax(centre) */
    /* this warp's row of sums, whose start holds z [C - 1] while it draws */
    double *own = sums + warp * count, *z = own, *squares = own + c_count + 1;
    int64_t row = blockIdx.x;
    const double *centre = a.centre + row * c_count, *spread = a.spread + row * c_count * m;
    double f[LANE_CLASSES], total[LANE_CLASSES] = {}, total_entropy = 0;
#pragma unroll
    for (int i = 0; i < LANE_CLASSES; i++)
        f[i] = i * LA_WARP + lane < c_count ? centre[i * LA_WARP + lane] : 0.0;
    warp_softmax(c_count, lane, f);
#pragma unroll
    for (int i = 0; i < LANE_CLASSES; i++)
        if (i * LA_WARP + lane < c_count) {
            squares[i * LA_WARP + lane] = 0;
            if (warp == 0)
                map[i * LA_WARP + lane] = f[i];
        }
    __syncthreads();
    int64_t first = static_cast<int64_t>(blockIdx.y) * DRAW_WARPS + warp;
    for (int64_t s = first; s < a.samples; s += CHUNKS * DRAW_WARPS) {
        __syncwarp();
        for (int k = lane; k < m; k += LA_WARP)
            z[k] = (s % 2 ? -1 : 1) *
                   la_philox_normal(a.seed, a.streams[row], static_cast<uint64_t>(s / 2 * m + k));
        __syncwarp();
#pragma unroll
        for (int i = 0; i < LANE_CLASSES; i++) {
            int c = i * LA_WARP + lane;
            f[i] = 0;
            if (c < c_count) {
                f[i] = centre[c];
                for (int k = 0; k < m; k++)
                    f[i] += spread[c * m + k] * z[k];
            }
        }
        total_entropy += warp_softmax(c_count, lane, f);
#pragma unroll
        for (int i = 0; i < LANE_CLASSES; i++) {
            int c = i * LA_WARP + lane;
            total[i] += f[i];
            if (c < c_count) {
                double moved = f[i] - map[c];
                squares[c] += moved * moved; /* this lane's alone */
            }
        }
    }
    __syncwarp(); /* the sums go where other lanes may still read z */
#pragma unroll
    for (int i = 0; i < LANE_CLASSES; i++)
        if (i * LA_WARP + lane < c_count)
            own[i * LA_WARP + lane] = total[i];
    if (lane == 0)
        own[c_count] = total_entropy;
    __syncthreads();
    double *out = a.partial + (row * CHUNKS + blockIdx.y) * count;
    for (int c = static_cast<int>(threadIdx.x); c < count; c += DRAW_WARPS * LA_WARP) {
        double value = 0;
        for (int w = 0; w < DRAW_WARPS; w++)
            value += sums[w * count + c];
        out[c] = value;
    }
}

/* out[n, count] = the mean over the draws, count = 2C + 1; grid (row) */
__global__ void mean_draws(const double *partial, int count, int64_t samples, double *out) {
    int64_t row = blockIdx.x;
    for (int c = static_cast<int>(threadIdx.x); c < count; c += static_cast<int>(blockDim.x)) {
        double value = 0;
        for (int chunk = 0; chunk < CHUNKS; chunk++)
            value += partial[(row * CHUNKS + chunk) * count + c];
        out[row * count + c] = value / static_cast<double>(samples);
    }
}

} // namespace

size_t la_cuda_draws_bytes(int64_t n, int64_t n_classes) {
    if (n_classes > CLASSES_MOST)
        return 0;
    size_t rows = static_cast<size_t>(n), c = static_cast<size_t>(n_classes);
    /* centre, spread, stream, partial sums and means of a row */
    return rows * (c + c * (c - 1) + 1 + (2 * c + 1) * (CHUNKS + 1)) * sizeof(double);
}

bool la_cuda_monte_carlo(la_backend *be, int64_t n, int64_t n_classes, const double *centre,
                         const double *spread, int64_t samples, uint64_t seed,
                         const uint64_t *streams, double *means) {
    la_cuda *cu = la_cuda_of(be);
    if (n_classes > CLASSES_MOST || n < 1 || samples < 1)
        return false;
    size_t rows = static_cast<size_t>(n), c = static_cast<size_t>(n_classes), m = c - 1;
    size_t spread_count = rows * c * m, means_count = rows * (2 * c + 1);
    la_error before = cu->fault;
    double *memory = static_cast<double *>(
        la_cuda_scratch_get(cu, LA_CUDA_DRAWS, la_cuda_draws_bytes(n, n_classes)));
    if (!memory) {
        cu->fault = before; /* too little memory is no fault: the host draws */
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
    size_t shared = (DRAW_WARPS * (2 * c + 1) + c) * sizeof(double);
    LA_LAUNCH(draw_rows, dim3(static_cast<unsigned>(n), CHUNKS), dim3(DRAW_WARPS * LA_WARP), shared,
              cu->stream, a);
    la_cuda_launched(cu, "draw_rows");
    LA_LAUNCH(mean_draws, dim3(static_cast<unsigned>(n)), dim3(128), 0, cu->stream, a.partial,
              2 * a.classes + 1, samples, out);
    if (!la_cuda_launched(cu, "mean_draws"))
        return false;
    be->ops->download(be, means, out, means_count * sizeof(double));
    return cu->fault.status == LA_OK;
}
