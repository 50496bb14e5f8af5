/* Attention over packed rows, forward and backward. No matrix of weights is stored: a block holds
 * 64 (f32: 32) queries or keys in shared memory and meets the others 32 at a time. Every element of
 * an output is summed by one warp in an order that its row alone fixes, so that results depend
 * neither on timing nor on the rest of the batch. */
#include "attention_tiles.cuh"

#include <limits.h>

enum { DELTA_WARPS = 8, HEAD_DIM_MAX = 128 };

template <typename T> struct attention_view {
    T *data;
    int ld;
};

template <typename T> struct attention_args {
    attention_view<T> q, k, v, out;
    float *lse; /* [Q, heads] */
    const int32_t *cu, *cu_q, *q_at;
    int heads, group, head_dim; /* group: heads that share one of k and v */
    int tiles;                  /* blocks that a row has room for */
    float scale;
    bool causal;
    bool packed; /* elements of all matrices can be loaded and stored 16 bytes at a time */
    /* backward */
    attention_view<T> g, dq, dk, dv;
    float *delta; /* [n_rhs Q, heads] */
    int64_t queries, keys;
    int n_rhs;
};

/* What a block works on, by its place in the grid (tiles x right-hand sides x rows, heads): the
 * right-hand sides of a row are neighbours, and find its q, k and v in the cache. */
struct attention_place {
    int row, rhs, first, head; /* first: row of the tile within the row */
};

template <typename T, int HD>
__device__ __forceinline__ attention_place attention_place_of(const attention_args<T> &a) {
    int block = static_cast<int>(blockIdx.x), task = block / a.tiles;
    return {task / a.n_rhs, task % a.n_rhs, block % a.tiles * la_shape<T, HD>::ROWS,
            static_cast<int>(blockIdx.y)};
}

template <typename T>
__device__ __forceinline__ T *attention_at(const attention_view<T> &m, int64_t row, int head,
                                           int head_dim) {
    return m.data + row * m.ld + head * head_dim;
}

/* Queries of a row, from one of its tiles' first on, and the keys they see. Of those a query sees,
 * the last of some queries sees the most: their places rise. */
struct attention_queries {
    int64_t at;      /* of the first in q */
    int64_t keys_at; /* of the row's first key in k */
    int n;           /* of the block; none: the row is shorter */
    int keys;        /* that any query of the block sees */
    int warp_keys;   /* that any query of this warp sees */
    int seen;        /* that this lane's query sees; 0: the lane has none */
    int64_t own;     /* this lane's query, where seen */
};

template <typename T>
__device__ __forceinline__ int attention_keys_seen(const attention_args<T> &a, int64_t query,
                                                   int keys) {
    return a.causal ? min(a.q_at[query] + 1, keys) : keys;
}

template <typename T, int HD>
__device__ __forceinline__ attention_queries attention_queries_of(const attention_args<T> &a,
                                                                  const attention_place &place) {
    attention_queries of = {};
    of.at = a.cu_q[place.row] + place.first;
    of.keys_at = a.cu[place.row];
    of.n = min(static_cast<int>(a.cu_q[place.row + 1] - of.at), la_shape<T, HD>::ROWS);
    if (of.n <= 0)
        return of;
    int length = static_cast<int>(a.cu[place.row + 1] - of.keys_at);
    int warp_first = static_cast<int>(threadIdx.x) / LA_WARP * SIDE;
    int query = warp_first + la_strip_row();
    of.keys = attention_keys_seen(a, of.at + of.n - 1, length);
    of.own = of.at + query;
    if (warp_first < of.n)
        of.warp_keys = attention_keys_seen(a, of.at + min(warp_first + SIDE, of.n) - 1, length);
    if (query < of.n)
        of.seen = attention_keys_seen(a, of.own, length);
    return of;
}

/* out[Q, heads * head_dim] and lse[Q, heads] from q, k, v. Grid (tiles of queries x rows, heads).
 * The keys are passed twice: the first pass finds the largest score of each query and the sum of
 * exponentials, so that the second adds up products that need no rescaling, which fragments of
 * unknown layout would not allow. */
template <typename T, int HD>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    attention_forward(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared<T, HD> &shared = la_shared_at<la_shared<T, HD>>(memory);
    constexpr int LD = la_shape<T, HD>::LD, ROWS = la_shape<T, HD>::ROWS;
    attention_place place = attention_place_of<T, HD>(a);
    attention_queries of = attention_queries_of<T, HD>(a, place);
    if (of.n <= 0)
        return;
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, kv_head = place.head / a.group;
    float *strip = shared.strip[warp];
    const T *rows = shared.rows_a + warp * SIDE * LD;
    const T *keys_from = attention_at(a.k, of.keys_at, kv_head, a.head_dim);
    const T *values_from = attention_at(a.v, of.keys_at, kv_head, a.head_dim);
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(a.q, of.at, place.head, a.head_dim),
                              a.q.ld, of.n, a.head_dim, a.packed);

    float x[HALF], top = -INFINITY, total = 0;
    for (int key = 0; key < of.keys; key += SPAN) {
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a, keys_from + static_cast<int64_t>(key) * a.k.ld,
                                  a.k.ld, of.keys - key, a.head_dim, a.packed);
        __syncthreads();
        if (key >= of.warp_keys)
            continue;
        la_strip_product<T, HD>(strip, rows, shared.span_a, x);
        int seen = of.seen - key - la_strip_column(); /* of x */
        if (seen <= 0)
            continue;
        float last = top;
        LA_UNROLL
        for (int j = 0; j < HALF; j++) {
            x[j] = j < seen ? a.scale * x[j] : -INFINITY;
            top = fmaxf(top, x[j]);
        }
        total *= la_tiles<T>::exp(last - top);
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            total += la_tiles<T>::exp(x[j] - top);
    }
    /* a query's two lanes become one; a lane that saw no key has the least top and a total of 0 */
    float both = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    total = total > 0 ? total * la_tiles<T>::exp(top - both) : total;
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    top = both;

    typename la_tiles<T>::sums sum[la_shape<T, HD>::FRAGMENTS];
    LA_UNROLL
    for (int n = 0; n < la_shape<T, HD>::FRAGMENTS; n++)
        la_tiles<T>::zero(sum[n]);
    for (int key = 0; key < of.keys; key += SPAN) {
        __syncthreads();
        if (of.keys > SPAN) /* else they are there */
            la_load_tile<T, SPAN, HD>(shared.span_a, keys_from + static_cast<int64_t>(key) * a.k.ld,
                                      a.k.ld, of.keys - key, a.head_dim, a.packed);
        la_load_tile<T, SPAN, HD>(shared.span_b, values_from + static_cast<int64_t>(key) * a.v.ld,
                                  a.v.ld, of.keys - key, a.head_dim, a.packed);
        __syncthreads();
        if (key >= of.warp_keys)
            continue;
        la_strip_product<T, HD>(strip, rows, shared.span_a, x);
        int seen = of.seen - key - la_strip_column();
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            x[j] = j < seen ? la_tiles<T>::exp(a.scale * x[j] - top) : 0;
        la_strip_add<T, HD>(sum, shared.weights[warp], x, shared.span_b);
    }
    bool inside = of.seen > 0;
    la_store_rows<T, HD>(strip, sum, 1 / total, attention_at(a.out, of.own, place.head, a.head_dim),
                         inside, a.head_dim, a.packed);
    if (inside && la_strip_column() == 0)
        a.lse[of.own * a.heads + place.head] = top + logf(total);
}

/* delta[n_rhs Q, heads] = the product of g's row with out's, head by head: what softmax's backward
 * takes off the cotangent of every weight. One warp an element. */
template <typename T>
__global__ static void __launch_bounds__(DELTA_WARPS *LA_WARP)
    attention_delta(const attention_args<T> a) {
    int64_t at = static_cast<int64_t>(blockIdx.x) * DELTA_WARPS + threadIdx.x / LA_WARP;
    if (at >= a.n_rhs * a.queries * a.heads)
        return;
    int64_t row = at / a.heads;
    int head = static_cast<int>(at % a.heads);
    const T *g = attention_at(a.g, row, head, a.head_dim);
    const T *out = attention_at(a.out, row % a.queries, head, a.head_dim);
    float sum = 0;
    int lane = static_cast<int>(threadIdx.x) % LA_WARP;
    for (int c = lane; c < a.head_dim; c += LA_WARP)
        sum += la_to_float(g[c]) * la_to_float(out[c]);
    sum = la_warp_sum(sum);
    if (lane == 0)
        a.delta[at] = sum;
}

/* dq[n_rhs Q, heads * head_dim]. Grid (tiles of queries x right-hand sides x rows, heads). */
template <typename T, int HD>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    attention_queries_backward(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared_backward<T, HD> &shared = la_shared_at<la_shared_backward<T, HD>>(memory);
    constexpr int LD = la_shape<T, HD>::LD, ROWS = la_shape<T, HD>::ROWS;
    attention_place place = attention_place_of<T, HD>(a);
    attention_queries of = attention_queries_of<T, HD>(a, place);
    if (of.n <= 0)
        return;
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, kv_head = place.head / a.group;
    int64_t g_first = place.rhs * a.queries; /* of the right-hand side in g and dq */
    const T *keys_from = attention_at(a.k, of.keys_at, kv_head, a.head_dim);
    const T *values_from = attention_at(a.v, of.keys_at, kv_head, a.head_dim);
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(a.q, of.at, place.head, a.head_dim),
                              a.q.ld, of.n, a.head_dim, a.packed);
    la_load_tile<T, ROWS, HD>(shared.rows_b,
                              attention_at(a.g, g_first + of.at, place.head, a.head_dim), a.g.ld,
                              of.n, a.head_dim, a.packed);
    bool inside = of.seen > 0;
    float lse = inside ? a.lse[of.own * a.heads + place.head] : 0;
    float delta = inside ? a.delta[(g_first + of.own) * a.heads + place.head] : 0;

    typename la_tiles<T>::sums sum[la_shape<T, HD>::FRAGMENTS];
    LA_UNROLL
    for (int n = 0; n < la_shape<T, HD>::FRAGMENTS; n++)
        la_tiles<T>::zero(sum[n]);
    for (int key = 0; key < of.keys; key += SPAN) {
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a, keys_from + static_cast<int64_t>(key) * a.k.ld,
                                  a.k.ld, of.keys - key, a.head_dim, a.packed);
        la_load_tile<T, SPAN, HD>(shared.span_b, values_from + static_cast<int64_t>(key) * a.v.ld,
                                  a.v.ld, of.keys - key, a.head_dim, a.packed);
        __syncthreads();
        if (key >= of.warp_keys)
            continue;
        float weight[HALF], x[HALF];
        la_strip_product<T, HD>(shared.strip[warp], shared.rows_a + warp * SIDE * LD, shared.span_a,
                                weight);
        int seen = of.seen - key - la_strip_column();
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            weight[j] = j < seen ? la_tiles<T>::exp(a.scale * weight[j] - lse) : 0;
        la_strip_product<T, HD>(shared.strip[warp], shared.rows_b + warp * SIDE * LD, shared.span_b,
                                x);
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            x[j] = weight[j] * (x[j] - delta) * a.scale;
        la_strip_add<T, HD>(sum, shared.weights[warp], x, shared.span_a);
    }
    la_store_rows<T, HD>(shared.strip[warp], sum, 1,
                         attention_at(a.dq, g_first + of.own, place.head, a.head_dim), inside,
                         a.head_dim, a.packed);
}

/* dk, dv[n_rhs T, kv_heads * head_dim]; either may be absent. Grid (tiles of keys x right-hand
 * sides x rows, kv_heads). Rows of the products are keys here, and columns the queries, of one head
 * of the group after the other. */
template <typename T, int HD>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    attention_keys_backward(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared_backward<T, HD> &shared = la_shared_at<la_shared_backward<T, HD>>(memory);
    constexpr int LD = la_shape<T, HD>::LD, ROWS = la_shape<T, HD>::ROWS;
    constexpr int FRAGMENTS = la_shape<T, HD>::FRAGMENTS;
    attention_place place = attention_place_of<T, HD>(a);
    int64_t keys_at = a.cu[place.row] + place.first;
    int keys = min(static_cast<int>(a.cu[place.row + 1] - keys_at), ROWS);
    if (keys <= 0)
        return;
    int64_t queries_at = a.cu_q[place.row];
    int queries = static_cast<int>(a.cu_q[place.row + 1] - queries_at);
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, own = warp * SIDE + la_strip_row();
    int64_t g_first = place.rhs * a.queries;
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(a.k, keys_at, place.head, a.head_dim),
                              a.k.ld, keys, a.head_dim, a.packed);
    if (a.dk.data)
        la_load_tile<T, ROWS, HD>(shared.rows_b, attention_at(a.v, keys_at, place.head, a.head_dim),
                                  a.v.ld, keys, a.head_dim, a.packed);

    typename la_tiles<T>::sums dk[FRAGMENTS], dv[FRAGMENTS];
    LA_UNROLL
    for (int n = 0; n < FRAGMENTS; n++) {
        la_tiles<T>::zero(dk[n]);
        la_tiles<T>::zero(dv[n]);
    }
    for (int head = place.head * a.group; head < (place.head + 1) * a.group; head++) {
        for (int query = 0; query < queries; query += SPAN) {
            int64_t at = queries_at + query;
            int n = min(queries - query, SPAN);
            int last_seen = a.causal ? a.q_at[at + n - 1] : INT_MAX;
            if (last_seen < place.first)
                continue;
            __syncthreads();
            la_load_tile<T, SPAN, HD>(shared.span_a, attention_at(a.q, at, head, a.head_dim),
                                      a.q.ld, n, a.head_dim, a.packed);
            la_load_tile<T, SPAN, HD>(shared.span_b,
                                      attention_at(a.g, g_first + at, head, a.head_dim), a.g.ld, n,
                                      a.head_dim, a.packed);
            if (threadIdx.x < SPAN) {
                int i = static_cast<int>(threadIdx.x);
                bool inside = i < n;
                shared.last_seen[i] = !inside ? -1 : a.causal ? a.q_at[at + i] : INT_MAX;
                shared.lse[i] = inside ? a.lse[(at + i) * a.heads + head] : 0;
                if (a.dk.data)
                    shared.delta[i] = inside ? a.delta[(g_first + at + i) * a.heads + head] : 0;
            }
            __syncthreads();
            if (warp * SIDE >= keys || last_seen < place.first + warp * SIDE)
                continue;
            float weight[HALF];
            int column = la_strip_column();
            la_strip_product<T, HD>(shared.strip[warp], shared.rows_a + warp * SIDE * LD,
                                    shared.span_a, weight);
            LA_UNROLL
            for (int j = 0; j < HALF; j++)
                weight[j] = place.first + own <= shared.last_seen[column + j]
                                ? la_tiles<T>::exp(a.scale * weight[j] - shared.lse[column + j])
                                : 0;
            if (a.dv.data)
                la_strip_add<T, HD>(dv, shared.weights[warp], weight, shared.span_b);
            if (!a.dk.data)
                continue;
            float x[HALF];
            la_strip_product<T, HD>(shared.strip[warp], shared.rows_b + warp * SIDE * LD,
                                    shared.span_b, x);
            LA_UNROLL
            for (int j = 0; j < HALF; j++)
                x[j] = weight[j] * (x[j] - shared.delta[column + j]) * a.scale;
            la_strip_add<T, HD>(dk, shared.weights[warp], x, shared.span_a);
        }
    }
    int64_t to = place.rhs * a.keys + keys_at + own;
    if (a.dk.data)
        la_store_rows<T, HD>(shared.strip[warp], dk, 1,
                             attention_at(a.dk, to, place.head, a.head_dim), own < keys, a.head_dim,
                             a.packed);
    if (a.dv.data)
        la_store_rows<T, HD>(shared.strip[warp], dv, 1,
                             attention_at(a.dv, to, place.head, a.head_dim), own < keys, a.head_dim,
                             a.packed);
}

/* ---- on the host ---- */

/* Fills in the matrix, and whether it allows packed loads. */
template <typename T>
static void attention_take(attention_args<T> *args, attention_view<T> *view, const la_mat *m) {
    if (!m)
        return;
    *view = {static_cast<T *>(m->data), static_cast<int>(m->ld)};
    size_t stride = static_cast<size_t>(m->ld) * sizeof(T);
    if (reinterpret_cast<uintptr_t>(m->data) % 16 || stride % 16)
        args->packed = false;
}

template <typename T>
static attention_args<T> attention_args_of(const la_attention *a, const la_mat *q, const la_mat *k,
                                           const la_mat *v, const la_mat *out) {
    attention_args<T> args = {};
    args.packed = static_cast<size_t>(a->head_dim) * sizeof(T) % 16 == 0;
    attention_take(&args, &args.q, q);
    attention_take(&args, &args.k, k);
    attention_take(&args, &args.v, v);
    attention_take(&args, &args.out, out);
    args.cu = a->cu;
    args.cu_q = a->cu_q;
    args.q_at = a->q_at;
    args.heads = static_cast<int>(a->n_heads);
    args.group = static_cast<int>(a->n_heads / a->n_kv_heads);
    args.head_dim = static_cast<int>(a->head_dim);
    args.scale = a->scale;
    args.causal = a->causal;
    args.queries = q->rows;
    args.keys = k->rows;
    args.n_rhs = 1;
    return args;
}

/* One block for each tile of ROWS in the longest row, for each row, right-hand side and head. */
template <typename T, int HD, void (*KERNEL)(attention_args<T>)>
static void attention_launch(la_cuda *cu, const char *name, attention_args<T> args, int64_t longest,
                             int64_t n_rows, int64_t heads, size_t bytes) {
    /* Beyond 48 KiB a kernel has to ask. The setting is the device's, and cheap to repeat. */
    if (bytes > 48 << 10 &&
        !la_cuda_ok(cu,
                    cudaFuncSetAttribute(reinterpret_cast<const void *>(KERNEL),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(bytes)),
                    name))
        return;
    args.tiles = static_cast<int>(la_cuda_blocks(longest, la_shape<T, HD>::ROWS));
    dim3 grid(la_cuda_blocks(n_rows * args.tiles * args.n_rhs, 1), static_cast<unsigned>(heads));
    LA_LAUNCH(KERNEL, grid, dim3(la_shape<T, HD>::THREADS), bytes, cu->stream, args);
    la_cuda_launched(cu, name);
}

template <typename T, int HD>
static void attention_launch_all(la_cuda *cu, const la_attention *a,
                                 const attention_args<T> &args) {
    if (!args.g.data) {
        attention_launch<T, HD, attention_forward<T, HD>>(cu, "attention", args, a->max_queries,
                                                          a->n_rows, a->n_heads,
                                                          la_shared_bytes<la_shared<T, HD>>());
        return;
    }
    constexpr size_t BYTES = la_shared_bytes<la_shared_backward<T, HD>>();
    static_assert(BYTES <= 99 << 10, "what a block may have on every device");
    if (args.dq.data)
        attention_launch<T, HD, attention_queries_backward<T, HD>>(
            cu, "attention backward, queries", args, a->max_queries, a->n_rows, a->n_heads, BYTES);
    attention_launch<T, HD, attention_keys_backward<T, HD>>(
        cu, "attention backward, keys", args, a->max_length, a->n_rows, a->n_kv_heads, BYTES);
}

/* By the columns of the tiles that hold a head. */
template <typename T>
static void attention_run(la_cuda *cu, const la_attention *a, const attention_args<T> &args) {
    if (a->head_dim <= 32)
        attention_launch_all<T, 32>(cu, a, args);
    else if (a->head_dim <= 64)
        attention_launch_all<T, 64>(cu, a, args);
    else if (a->head_dim <= 96)
        attention_launch_all<T, 96>(cu, a, args);
    else
        attention_launch_all<T, HEAD_DIM_MAX>(cu, a, args);
}

template <typename T>
static void attention_typed(la_cuda *cu, const la_attention *a, const la_mat *q, const la_mat *k,
                            const la_mat *v, float *lse, const la_mat *out) {
    attention_args<T> args = attention_args_of<T>(a, q, k, v, out);
    args.lse = lse;
    attention_run(cu, a, args);
}

template <typename T>
static void attention_backward_typed(la_cuda *cu, const la_attention *a, const la_mat *q,
                                     const la_mat *k, const la_mat *v, const float *lse,
                                     const la_mat *out, int64_t n_rhs, const la_mat *g,
                                     const la_mat *dq, const la_mat *dk, const la_mat *dv) {
    attention_args<T> args = attention_args_of<T>(a, q, k, v, out);
    args.lse = const_cast<float *>(lse);
    args.n_rhs = static_cast<int>(n_rhs);
    attention_take(&args, &args.g, g);
    attention_take(&args, &args.dq, dq);
    attention_take(&args, &args.dk, dk);
    attention_take(&args, &args.dv, dv);
    if (dk) {
        int64_t count = n_rhs * args.queries * args.heads;
        args.delta = static_cast<float *>(
            la_cuda_scratch_get(cu, LA_CUDA_DELTA, static_cast<size_t>(count) * sizeof(float)));
        if (!args.delta)
            return;
        LA_LAUNCH(attention_delta<T>, dim3(la_cuda_blocks(count, DELTA_WARPS)),
                  dim3(DELTA_WARPS * LA_WARP), 0, cu->stream, args);
        la_cuda_launched(cu, "attention backward, delta");
    }
    attention_run(cu, a, args);
}

/* Whether there is work, in a form that there is a kernel for. */
static bool attention_fits(la_cuda *cu, const la_attention *a, const la_mat *q, const la_mat *k) {
    if (a->head_dim > HEAD_DIM_MAX) {
        la_fail(&cu->fault, LA_UNSUPPORTED,
                "attention heads of %lld: the CUDA backend takes at most %d",
                static_cast<long long>(a->head_dim), static_cast<int>(HEAD_DIM_MAX));
        return false;
    }
    return q->rows > 0 && k->rows > 0;
}

void la_cuda_attention(la_backend *be, const la_attention *a, const la_mat *q, const la_mat *k,
                       const la_mat *v, float *lse, la_mat *out) {
    la_cuda *cu = la_cuda_of(be);
    if (!attention_fits(cu, a, q, k))
        return;
    if (q->type == LA_BF16)
        attention_typed<bf16>(cu, a, q, k, v, lse, out);
    else
        attention_typed<float>(cu, a, q, k, v, lse, out);
}

void la_cuda_attention_backward(la_backend *be, const la_attention *a, const la_mat *q,
                                const la_mat *k, const la_mat *v, const float *lse,
                                const la_mat *out, int64_t n_rhs, const la_mat *g, la_mat *dq,
                                la_mat *dk, la_mat *dv) {
    la_cuda *cu = la_cuda_of(be);
    if (n_rhs < 1 || !attention_fits(cu, a, q, k))
        return;
    if (q->type == LA_BF16)
        attention_backward_typed<bf16>(cu, a, q, k, v, lse, out, n_rhs, g, dq, dk, dv);
    else
        attention_backward_typed<float>(cu, a, q, k, v, lse, out, n_rhs, g, dq, dk, dv);
}
