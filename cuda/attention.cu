/* Attention over packed rows, forward and backward. No matrix of weights is stored: a block holds
 * 64 (f32: 32) queries or keys in shared memory and meets the others 32 at a time, those that any
 * of its own sees. Every element of an output is summed by one warp in an order that its row alone
 * fixes, so that results depend neither on timing nor on the rest of the batch. */
#include "attention.cuh"

#include <algorithm>

enum { DELTA_WARPS = 8, HEAD_DIM_MAX = 256 };

/* Queries of a row, from one of its tiles' first on, and the keys [from, end) that they see. Places
 * of queries rise, and so do both ends. */
struct attention_queries {
    int64_t at;              /* first query in q */
    int64_t keys_at;         /* first key of the row in k */
    int n;                   /* queries of the block; none: the row is shorter */
    int length;              /* keys of the row */
    int from, end;           /* keys that any query of the block sees */
    int warp_from, warp_end; /* ... of this warp */
    int own_from, own_end;   /* ... this lane's query; none: the lane has no query */
    int64_t own;             /* this lane's query */
    int place;               /* its place */
};

template <typename T>
__device__ __forceinline__ int attention_first_key(const attention_args<T> &a, int64_t query) {
    return max(a.q_at[query] - a.before, 0);
}
template <typename T>
__device__ __forceinline__ int attention_end_key(const attention_args<T> &a, int64_t query,
                                                 int length) {
    return min(a.q_at[query] + a.after + 1, length);
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
    of.length = static_cast<int>(a.cu[place.row + 1] - of.keys_at);
    int warp_first = static_cast<int>(threadIdx.x) / LA_WARP * SIDE;
    int query = warp_first + la_strip_row();
    of.from = attention_first_key(a, of.at);
    of.end = attention_end_key(a, of.at + of.n - 1, of.length);
    of.own = of.at + query;
    if (warp_first < of.n) {
        of.warp_from = attention_first_key(a, of.at + warp_first);
        of.warp_end = attention_end_key(a, of.at + min(warp_first + SIDE, of.n) - 1, of.length);
    }
    if (query < of.n) {
        of.place = a.q_at[of.own];
        of.own_from = attention_first_key(a, of.own);
        of.own_end = attention_end_key(a, of.own, of.length);
    }
    return of;
}

/* True when this warp's queries see any of the SPAN keys from key on. */
__device__ __forceinline__ bool attention_meets(const attention_queries &of, int key) {
    return key < of.warp_end && key + SPAN > of.warp_from;
}

/* ---- scores ---- */

/* Term that the distance from key to query adds to the score. A row that reaches more than the
 * tables were made for gets NaN. */
template <typename T>
__device__ __forceinline__ float relative_score(const attention_args<T> &a, int64_t query,
                                                int64_t key, int head, int index) {
    if (index >= a.relative.stride)
        return NAN;
    float sum = 0;
    if (a.relative.by_query)
        sum += a.relative.by_query[relative_row(a, query, head) + index];
    if (a.relative.by_key)
        sum += a.relative.by_key[relative_row(a, key, head) + index];
    return sum;
}

/* cap tanh(x / cap), and its slope; x itself where there is no cap */
__device__ __forceinline__ float attention_cap(float cap, float x, float *slope) {
    if (cap <= 0)
        return x;
    float t = tanhf(x / cap);
    *slope = 1.0f - t * t;
    return cap * t;
}

/* x, the products of this lane's query with keys from `key` on, become scores. slope: by x, without
 * the scale. GENERAL: there may be a softcap, or distances. */
template <bool GENERAL, typename T, int HD>
__device__ __forceinline__ void attention_scores(const attention_args<T> &a,
                                                 const attention_queries &of, int head, int key,
                                                 float (&x)[HALF], float (&slope)[HALF]) {
    int lowest = 0;
    if constexpr (GENERAL && HD <= RELATIVE_HEAD_MAX)
        lowest = a.relative.at ? a.relative.at[1 - of.length] : 0;
    LA_UNROLL
    for (int j = 0; j < HALF; j++) {
        slope[j] = 1;
        if constexpr (GENERAL && HD <= RELATIVE_HEAD_MAX) {
            int k = key + j;
            if (a.relative.at && k >= of.own_from && k < of.own_end)
                x[j] += relative_score(a, of.own, of.keys_at + k, head,
                                       a.relative.at[of.place - k] - lowest);
        }
        x[j] *= a.scale;
        if constexpr (GENERAL)
            x[j] = attention_cap(a.softcap, x[j], &slope[j]);
    }
}

/* ---- sums of scores' cotangents by equal distance ---- */

/* Cotangents of one query, as keys go by in order, or of one key, as queries do: rows of the
 * position tables then fall, or rise, so that each row's share is complete when the next one's
 * begins. */
struct relative_run {
    float *sums; /* [reached], 0 before; NULL: they are not needed */
    int index;   /* -1: nothing yet */
    float sum;
};

__device__ __forceinline__ void relative_end(const relative_run &run) {
    if (run.sums && run.index >= 0)
        run.sums[run.index] = run.sum;
}
__device__ __forceinline__ void relative_add(relative_run *run, int index, float x) {
    if (index != run->index) {
        relative_end(*run);
        run->index = index;
        run->sum = 0;
    }
    run->sum += x;
}

/* Clears the sums of the warp's own rows, n of which are there, and returns this lane's: the first
 * lane of a row has them. first: in q or k. */
template <typename T>
__device__ __forceinline__ relative_run relative_run_of(const attention_args<T> &a, int64_t first,
                                                        int n, int head, int reached) {
    int lane = static_cast<int>(threadIdx.x) % LA_WARP;
    for (int row = 0; row < n; row++)
        for (int i = lane; i < reached; i += LA_WARP)
            a.relative.sums[relative_row(a, first + row, head) + i] = 0;
    __syncwarp();
    bool mine = la_strip_row() < n && la_strip_column() == 0;
    return {mine ? a.relative.sums + relative_row(a, first + la_strip_row(), head) : nullptr, -1,
            0};
}

/* x, a strip's cotangents, where the lanes that sum can read them. */
__device__ __forceinline__ void relative_share(float *strip, const float (&x)[HALF]) {
    la_store_half(strip + la_strip_row() * STRIP_LD + la_strip_column(), x, HALF, true);
    __syncwarp();
}

/* sum += sums pos, for the warp's rows */
template <typename T, int HD>
__device__ __forceinline__ void
relative_pull(typename la_tiles<T>::sums (&sum)[la_shape<T, HD>::FRAGMENTS],
              const attention_args<T> &a, la_shared<T, HD> &shared, const attention_view<T> &pos,
              const relative_reach &reach, int64_t first, int n, int head) {
    int warp = static_cast<int>(threadIdx.x) / LA_WARP;
    bool inside = la_strip_row() < n;
    const float *from = a.relative.sums + relative_row(a, first + la_strip_row(), head);
    for (int at = 0; at < reach.n; at += SPAN) {
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a,
                                  attention_at(pos, reach.lowest + at, head, a.head_dim), pos.ld,
                                  reach.n - at, a.head_dim, a.packed);
        __syncthreads();
        if (n <= 0)
            continue;
        float x[HALF];
        int column = at + la_strip_column();
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            x[j] = inside && column + j < reach.n ? from[column + j] : 0;
        la_strip_add<T, HD>(sum, shared.weights[warp], x, shared.span_a);
    }
}

/* ---- kernels ---- */

/* Where one span serves both of the other kind's matrices: its next contents. The whole block
 * calls. */
template <typename T, int HD>
__device__ __forceinline__ void attention_next_span(la_shared<T, HD> &shared, const T *from, int ld,
                                                    int rows, const attention_args<T> &a) {
    if (!la_shape<T, HD>::ONE_SPAN)
        return;
    __syncthreads();
    la_load_tile<T, SPAN, HD>(shared.span_a, from, ld, rows, a.head_dim, a.packed);
    __syncthreads();
}

/* out[Q, heads * head_dim] and lse[Q, heads] from q, k, v. Grid (tiles of queries x rows, heads).
 * The keys are passed twice: the first pass finds the largest score of each query and the sum of
 * exponentials, so that the second adds up products that need no rescaling, which fragments of
 * unknown layout would not allow. */
template <typename T, int HD, bool GENERAL>
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
    int part = place.part * la_shape<T, HD>::COLUMNS;
    float *strip = shared.strip[warp];
    const T *rows = shared.rows_a + warp * SIDE * LD;
    const T *keys_from = attention_at(a.k, of.keys_at, kv_head, a.head_dim);
    const T *values_from = attention_at(a.v, of.keys_at, kv_head, a.head_dim);
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(a.q, of.at, place.head, a.head_dim),
                              a.q.ld, of.n, a.head_dim, a.packed);

    float x[HALF], slope[HALF], top = -INFINITY, total = 0;
    for (int key = of.from; key < of.end; key += SPAN) {
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a, keys_from + static_cast<int64_t>(key) * a.k.ld,
                                  a.k.ld, of.end - key, a.head_dim, a.packed);
        __syncthreads();
        if (!attention_meets(of, key))
            continue;
        la_strip_product<T, HD>(strip, rows, shared.span_a, x);
        int own = key + la_strip_column();
        int from = of.own_from - own, end = of.own_end - own; /* range of x */
        if (end <= 0 || from >= HALF)
            continue;
        attention_scores<GENERAL, T, HD>(a, of, place.head, own, x, slope);
        float last = top;
        LA_UNROLL
        for (int j = 0; j < HALF; j++) {
            x[j] = j >= from && j < end ? x[j] : -INFINITY;
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
    for (int key = of.from; key < of.end; key += SPAN) {
        const T *keys = keys_from + static_cast<int64_t>(key) * a.k.ld;
        const T *values = values_from + static_cast<int64_t>(key) * a.v.ld;
        __syncthreads();
        if (of.end - of.from > SPAN) /* else they are there */
            la_load_tile<T, SPAN, HD>(shared.span_a, keys, a.k.ld, of.end - key, a.head_dim,
                                      a.packed);
        if (!la_shape<T, HD>::ONE_SPAN)
            la_load_tile<T, SPAN, HD>(shared.span_b(), values, a.v.ld, of.end - key, a.head_dim,
                                      a.packed);
        __syncthreads();
        bool meets = attention_meets(of, key);
        if (meets) {
            la_strip_product<T, HD>(strip, rows, shared.span_a, x);
            int own = key + la_strip_column();
            attention_scores<GENERAL, T, HD>(a, of, place.head, own, x, slope);
            LA_UNROLL
            for (int j = 0; j < HALF; j++)
                x[j] = own + j >= of.own_from && own + j < of.own_end ? la_tiles<T>::exp(x[j] - top)
                                                                      : 0;
        }
        attention_next_span(shared, values, a.v.ld, of.end - key, a);
        if (meets)
            la_strip_add<T, HD>(sum, shared.weights[warp], x, shared.span_b() + part);
    }
    bool inside = of.own_end > 0;
    la_store_rows<T, HD>(strip, sum, 1 / total,
                         attention_at(a.out, of.own, place.head, a.head_dim) + part, inside,
                         a.head_dim - part, a.packed);
    if (inside && la_strip_column() == 0 && part == 0)
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

/* dq[n_rhs Q, heads * head_dim]. Grid (tiles of queries x right-hand sides x rows, heads). Where
 * scores know distances by pos_k, also the sums that belong to it, of one right-hand side. */
template <typename T, int HD, bool GENERAL>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    attention_queries_backward(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared_backward<T, HD> &shared = la_shared_at<la_shared_backward<T, HD>>(memory);
    constexpr int LD = la_shape<T, HD>::LD, ROWS = la_shape<T, HD>::ROWS;
    constexpr bool ONE_SPAN = la_shape<T, HD>::ONE_SPAN;
    constexpr bool RELATIVE = GENERAL && HD <= RELATIVE_HEAD_MAX;
    attention_place place = attention_place_of<T, HD>(a);
    attention_queries of = attention_queries_of<T, HD>(a, place);
    if (of.n <= 0)
        return;
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, kv_head = place.head / a.group;
    int part = place.part * la_shape<T, HD>::COLUMNS;
    float *strip = shared.strip[warp];
    int64_t g_first = place.rhs * a.queries; /* first row of the right-hand side in g and dq */
    const T *keys_from = attention_at(a.k, of.keys_at, kv_head, a.head_dim);
    const T *values_from = attention_at(a.v, of.keys_at, kv_head, a.head_dim);
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(a.q, of.at, place.head, a.head_dim),
                              a.q.ld, of.n, a.head_dim, a.packed);
    la_load_tile<T, ROWS, HD>(shared.rows_b,
                              attention_at(a.g, g_first + of.at, place.head, a.head_dim), a.g.ld,
                              of.n, a.head_dim, a.packed);
    bool inside = of.own_end > 0;
    float lse = inside ? a.lse[of.own * a.heads + place.head] : 0;
    float delta = inside ? a.delta[(g_first + of.own) * a.heads + place.head] : 0;
    bool sums_up = RELATIVE && a.relative.by_query;
    relative_reach reach = {};
    relative_run run = {};
    int warp_n = min(of.n - warp * SIDE, static_cast<int>(SIDE));
    if constexpr (RELATIVE) {
        if (sums_up) {
            reach = relative_reach_of(a.relative, of.length);
            run = relative_run_of(a, of.at + warp * SIDE, warp_n, place.head, reach.n);
        }
    }

    typename la_tiles<T>::sums sum[la_shape<T, HD>::FRAGMENTS];
    LA_UNROLL
    for (int n = 0; n < la_shape<T, HD>::FRAGMENTS; n++)
        la_tiles<T>::zero(sum[n]);
    for (int key = of.from; key < of.end; key += SPAN) {
        const T *keys = keys_from + static_cast<int64_t>(key) * a.k.ld;
        const T *values = values_from + static_cast<int64_t>(key) * a.v.ld;
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a, keys, a.k.ld, of.end - key, a.head_dim, a.packed);
        if (!ONE_SPAN)
            la_load_tile<T, SPAN, HD>(shared.span_b(), values, a.v.ld, of.end - key, a.head_dim,
                                      a.packed);
        __syncthreads();
        bool meets = attention_meets(of, key);
        float weight[HALF], slope[HALF], x[HALF];
        if (meets) {
            la_strip_product<T, HD>(strip, shared.rows_a + warp * SIDE * LD, shared.span_a, weight);
            int own = key + la_strip_column();
            attention_scores<GENERAL, T, HD>(a, of, place.head, own, weight, slope);
            LA_UNROLL
            for (int j = 0; j < HALF; j++)
                weight[j] = own + j >= of.own_from && own + j < of.own_end
                                ? la_tiles<T>::exp(weight[j] - lse) * slope[j]
                                : 0;
        }
        attention_next_span(shared, values, a.v.ld, of.end - key, a);
        if (meets) {
            la_strip_product<T, HD>(strip, shared.rows_b + warp * SIDE * LD, shared.span_b(), x);
            LA_UNROLL
            for (int j = 0; j < HALF; j++)
                x[j] = weight[j] * (x[j] - delta) * a.scale;
        }
        if constexpr (RELATIVE) {
            if (sums_up && meets) {
                relative_share(strip, x);
                int first = max(of.own_from, key), end = min(of.own_end, key + SPAN);
                for (int k = first; run.sums && k < end; k++)
                    relative_add(&run, min(a.relative.at[of.place - k] - reach.lowest, reach.n - 1),
                                 strip[la_strip_row() * STRIP_LD + k - key]);
                __syncwarp();
            }
        }
        attention_next_span(shared, keys, a.k.ld, of.end - key, a);
        if (meets)
            la_strip_add<T, HD>(sum, shared.weights[warp], x, shared.span_a + part);
    }
    if constexpr (RELATIVE) {
        if (sums_up) {
            relative_end(run);
            __syncwarp();
            relative_pull<T, HD>(sum, a, shared, a.relative.pos_k, reach, of.at + warp * SIDE,
                                 warp_n, place.head);
        }
    }
    la_store_rows<T, HD>(strip, sum, 1,
                         attention_at(a.dq, g_first + of.own, place.head, a.head_dim) + part,
                         inside, a.head_dim - part, a.packed);
}

/* The first of a row's queries whose window reaches the key, or one behind the last. */
template <typename T>
__device__ __forceinline__ int attention_first_query(const attention_args<T> &a, int64_t queries_at,
                                                     int queries, int key) {
    int from = 0, end = queries;
    while (from < end) {
        int middle = (from + end) / 2;
        if (a.q_at[queries_at + middle] + a.after < key)
            from = middle + 1;
        else
            end = middle;
    }
    return from;
}

/* dk, dv[n_rhs T, kv_heads * head_dim]; either may be absent. Grid (tiles of keys x right-hand
 * sides x rows, kv_heads). Rows of the products are keys here, and columns the queries, of one head
 * of the group after the other. Where scores know distances by pos_q, also the sums that belong to
 * it, of one right-hand side. */
template <typename T, int HD, bool GENERAL>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    attention_keys_backward(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared_backward<T, HD> &shared = la_shared_at<la_shared_backward<T, HD>>(memory);
    constexpr int LD = la_shape<T, HD>::LD, ROWS = la_shape<T, HD>::ROWS;
    constexpr int FRAGMENTS = la_shape<T, HD>::FRAGMENTS;
    constexpr bool ONE_SPAN = la_shape<T, HD>::ONE_SPAN;
    constexpr bool RELATIVE = GENERAL && HD <= RELATIVE_HEAD_MAX;
    attention_place place = attention_place_of<T, HD>(a);
    int64_t keys_at = a.cu[place.row] + place.first;
    int keys = min(static_cast<int>(a.cu[place.row + 1] - keys_at), ROWS);
    if (keys <= 0)
        return;
    int64_t queries_at = a.cu_q[place.row];
    int queries = static_cast<int>(a.cu_q[place.row + 1] - queries_at);
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, own = warp * SIDE + la_strip_row();
    int part = place.part * la_shape<T, HD>::COLUMNS;
    float *strip = shared.strip[warp];
    /* places of this lane's key, and of the warp's and the block's last ones */
    int key = place.first + own, warp_first = place.first + warp * SIDE;
    int warp_last = place.first + min(warp * SIDE + SIDE, keys) - 1, last = place.first + keys - 1;
    int64_t g_first = place.rhs * a.queries;
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(a.k, keys_at, place.head, a.head_dim),
                              a.k.ld, keys, a.head_dim, a.packed);
    if (a.dk.data)
        la_load_tile<T, ROWS, HD>(shared.rows_b, attention_at(a.v, keys_at, place.head, a.head_dim),
                                  a.v.ld, keys, a.head_dim, a.packed);
    relative_reach reach = {};
    relative_run run = {};
    bool sums_up = RELATIVE && a.relative.by_key && a.dk.data;
    int warp_n = min(keys - warp * SIDE, static_cast<int>(SIDE));
    if constexpr (RELATIVE) {
        if (a.relative.at)
            reach = relative_reach_of(a.relative,
                                      static_cast<int>(a.cu[place.row + 1] - a.cu[place.row]));
        if (sums_up)
            run = relative_run_of(a, keys_at + warp * SIDE, warp_n, place.head, reach.n);
    }

    typename la_tiles<T>::sums dk[FRAGMENTS], dv[FRAGMENTS];
    LA_UNROLL
    for (int n = 0; n < FRAGMENTS; n++) {
        la_tiles<T>::zero(dk[n]);
        la_tiles<T>::zero(dv[n]);
    }
    int first = attention_first_query(a, queries_at, queries, place.first);
    for (int head = place.head * a.group; head < (place.head + 1) * a.group; head++) {
        for (int query = first; query < queries; query += SPAN) {
            int64_t at = queries_at + query;
            int n = min(queries - query, static_cast<int>(SPAN));
            int first_place = a.q_at[at], last_place = a.q_at[at + n - 1];
            if (first_place - a.before > last)
                break;
            const T *q_from = attention_at(a.q, at, head, a.head_dim);
            const T *g_from = attention_at(a.g, g_first + at, head, a.head_dim);
            __syncthreads();
            la_load_tile<T, SPAN, HD>(shared.span_a, q_from, a.q.ld, n, a.head_dim, a.packed);
            if (!ONE_SPAN)
                la_load_tile<T, SPAN, HD>(shared.span_b(), g_from, a.g.ld, n, a.head_dim, a.packed);
            if (threadIdx.x < SPAN) {
                int i = static_cast<int>(threadIdx.x);
                bool inside = i < n;
                shared.place[i] = inside ? a.q_at[at + i] : static_cast<int>(NO_PLACE);
                shared.lse[i] = inside ? a.lse[(at + i) * a.heads + head] : 0;
                if (a.dk.data)
                    shared.delta[i] = inside ? a.delta[(g_first + at + i) * a.heads + head] : 0;
            }
            __syncthreads();
            bool meets = warp * SIDE < keys && last_place + a.after >= warp_first &&
                         first_place - a.before <= warp_last;
            float weight[HALF], slope[HALF], x[HALF];
            int column = la_strip_column();
            if (meets) {
                la_strip_product<T, HD>(strip, shared.rows_a + warp * SIDE * LD, shared.span_a,
                                        weight);
                LA_UNROLL
                for (int j = 0; j < HALF; j++) {
                    int of = shared.place[column + j];
                    bool seen = key >= of - a.before && key <= of + a.after && own < keys;
                    float score = weight[j];
                    slope[j] = 1;
                    if constexpr (RELATIVE) {
                        if (a.relative.at && seen)
                            score += relative_score(a, at + column + j, keys_at + own, head,
                                                    a.relative.at[of - key] - reach.lowest);
                    }
                    score *= a.scale;
                    if constexpr (GENERAL)
                        score = attention_cap(a.softcap, score, &slope[j]);
                    weight[j] = seen ? la_tiles<T>::exp(score - shared.lse[column + j]) : 0;
                }
            }
            attention_next_span(shared, g_from, a.g.ld, n, a);
            if (meets && a.dv.data)
                la_strip_add<T, HD>(dv, shared.weights[warp], weight, shared.span_b() + part);
            if (!a.dk.data)
                continue;
            if (meets) {
                la_strip_product<T, HD>(strip, shared.rows_b + warp * SIDE * LD, shared.span_b(),
                                        x);
                LA_UNROLL
                for (int j = 0; j < HALF; j++)
                    x[j] = weight[j] * (x[j] - shared.delta[column + j]) * (slope[j] * a.scale);
            }
            if constexpr (RELATIVE) {
                if (sums_up && meets) {
                    relative_share(strip, x);
                    for (int i = 0; run.sums && i < n; i++) {
                        int of = shared.place[i];
                        if (key >= of - a.before && key <= of + a.after)
                            relative_add(&run,
                                         min(a.relative.at[of - key] - reach.lowest, reach.n - 1),
                                         strip[la_strip_row() * STRIP_LD + i]);
                    }
                    __syncwarp();
                }
            }
            attention_next_span(shared, q_from, a.q.ld, n, a);
            if (meets)
                la_strip_add<T, HD>(dk, shared.weights[warp], x, shared.span_a + part);
        }
    }
    if constexpr (RELATIVE) {
        if (sums_up) {
            relative_end(run);
            __syncwarp();
            relative_pull<T, HD>(dk, a, shared, a.relative.pos_q, reach, keys_at + warp * SIDE,
                                 warp_n, place.head);
        }
    }
    int64_t to = place.rhs * a.keys + keys_at + own;
    if (a.dk.data)
        la_store_rows<T, HD>(strip, dk, 1, attention_at(a.dk, to, place.head, a.head_dim) + part,
                             own < keys, a.head_dim - part, a.packed);
    if (a.dv.data)
        la_store_rows<T, HD>(strip, dv, 1, attention_at(a.dv, to, place.head, a.head_dim) + part,
                             own < keys, a.head_dim - part, a.packed);
}

/* ---- on the host ---- */

static int window_of(int64_t keys) {
    return static_cast<int>(std::min(keys, static_cast<int64_t>(WINDOW_MOST)));
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
    args.before = window_of(a->before);
    args.after = window_of(a->after);
    args.scale = a->scale;
    args.softcap = a->softcap;
    args.queries = q->rows;
    args.keys = k->rows;
    args.n_rhs = 1;
    return args;
}

/* Bytes of shared memory: as much as a block may have on every device. */
template <typename S> static constexpr size_t attention_bytes(void) {
    static_assert(la_shared_bytes<S>() <= 99 << 10, "more shared memory than a block may have");
    return la_shared_bytes<S>();
}

template <typename T, int HD, bool GENERAL>
static void attention_launch_all(la_cuda *cu, const la_attention *a,
                                 const attention_args<T> &args) {
    constexpr int64_t PARTS = la_shape<T, HD>::PARTS;
    if (!args.g.data) {
        attention_launch<T, HD, attention_forward<T, HD, GENERAL>>(
            cu, "attention", args, a->max_queries, a->n_rows, a->n_heads * PARTS,
            attention_bytes<la_shared<T, HD>>());
        return;
    }
    constexpr size_t BYTES = attention_bytes<la_shared_backward<T, HD>>();
    if (args.dq.data)
        attention_launch<T, HD, attention_queries_backward<T, HD, GENERAL>>(
            cu, "attention backward, queries", args, a->max_queries, a->n_rows, a->n_heads * PARTS,
            BYTES);
    /* the sums are the keys' next */
    if (args.dq.data && args.relative.by_query)
        la_relative_positions(cu, a, args, false);
    attention_launch<T, HD, attention_keys_backward<T, HD, GENERAL>>(cu, "attention backward, keys",
                                                                     args, a->max_length, a->n_rows,
                                                                     a->n_kv_heads * PARTS, BYTES);
    if (args.dk.data && args.relative.by_key)
        la_relative_positions(cu, a, args, true);
}

template <typename T, int HD>
static void attention_launch_form(la_cuda *cu, const la_attention *a,
                                  const attention_args<T> &args) {
    if (a->softcap > 0 || a->relative)
        attention_launch_all<T, HD, true>(cu, a, args);
    else
        attention_launch_all<T, HD, false>(cu, a, args);
}

/* Launch by the columns of the tiles that hold a head. */
template <typename T>
static void attention_run(la_cuda *cu, const la_attention *a, const attention_args<T> &args) {
    if (a->head_dim <= 32)
        attention_launch_form<T, 32>(cu, a, args);
    else if (a->head_dim <= 64)
        attention_launch_form<T, 64>(cu, a, args);
    else if (a->head_dim <= 96)
        attention_launch_form<T, 96>(cu, a, args);
    else if (a->head_dim <= 128)
        attention_launch_form<T, 128>(cu, a, args);
    else
        attention_launch_form<T, HEAD_DIM_MAX>(cu, a, args);
}

template <typename T>
static void attention_typed(la_cuda *cu, const la_attention *a, const la_mat *q, const la_mat *k,
                            const la_mat *v, float *lse, const la_mat *out) {
    attention_args<T> args = attention_args_of<T>(a, q, k, v, out);
    args.lse = lse;
    if (!a->relative || la_relative_begin(cu, a, &args))
        attention_run(cu, a, args);
}

/* The tables' cotangents, where those of scores are not formed. */
static bool relative_clear(la_cuda *cu, const la_relative *of) {
    for (const la_mat *m : {&of->dpos_k, &of->dpos_q}) {
        size_t size = la_type_size(m->type);
        if (m->data && m->rows && m->cols &&
            !la_cuda_ok(cu,
                        cudaMemset2DAsync(m->data, static_cast<size_t>(m->ld) * size, 0,
                                          static_cast<size_t>(m->cols) * size,
                                          static_cast<size_t>(m->rows), cu->stream),
                        "clearing rows"))
            return false;
    }
    return true;
}

/* One right-hand side after the other: the sums by equal distance take as much memory as the
 * tables, for each of them. */
template <typename T>
static void attention_backward_relative(la_cuda *cu, const la_attention *a,
                                        attention_args<T> args) {
    int64_t n_rhs = args.n_rhs;
    args.n_rhs = 1;
    if (!args.dk.data && !relative_clear(cu, a->relative))
        return;
    if (!la_relative_begin(cu, a, &args))
        return;
    for (int64_t rhs = 0; rhs < n_rhs; rhs++) {
        attention_args<T> one = args;
        one.relative.rhs = static_cast<int>(rhs);
        one.g.data += rhs * args.queries * args.g.ld;
        if (args.delta)
            one.delta += rhs * args.queries * args.heads;
        if (args.dq.data)
            one.dq.data += rhs * args.queries * args.dq.ld;
        if (args.dk.data)
            one.dk.data += rhs * args.keys * args.dk.ld;
        if (args.dv.data)
            one.dv.data += rhs * args.keys * args.dv.ld;
        attention_run(cu, a, one);
    }
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
    if (a->relative)
        attention_backward_relative(cu, a, args);
    else
        attention_run(cu, a, args);
}

/* True when there is work, and a kernel for its form. */
static bool attention_fits(la_cuda *cu, const la_attention *a, const la_mat *q, const la_mat *k) {
    if (a->head_dim > HEAD_DIM_MAX) {
        (void)la_fail(&cu->fault, LA_UNSUPPORTED,
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
