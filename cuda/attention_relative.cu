/* Distances in attention (la_relative): products of queries and keys with the position tables,
 * which the kernels of attention.cu look up, and the tables' cotangents, from the sums by equal
 * distance that those kernels leave. Sums have one order, which a row alone fixes. */
#include "attention.cuh"

#include <algorithm>

/* by_query (of keys: by_key) [rows, heads, stride]. Grid (tiles of queries or keys x rows,
 * heads). */
template <typename T, int HD, bool OF_KEYS>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    relative_table(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared<T, HD> &shared = la_shared_at<la_shared<T, HD>>(memory);
    constexpr int LD = la_shape<T, HD>::LD, ROWS = la_shape<T, HD>::ROWS;
    const attention_view<T> &from = OF_KEYS ? a.k : a.q;
    const attention_view<T> &pos = OF_KEYS ? a.relative.pos_q : a.relative.pos_k;
    const int32_t *cu = OF_KEYS ? a.cu : a.cu_q;
    float *table = OF_KEYS ? a.relative.by_key : a.relative.by_query;
    attention_place place = attention_place_of<T, HD>(a);
    int64_t at = cu[place.row] + place.first;
    int n = min(static_cast<int>(cu[place.row + 1] - at), ROWS);
    if (n <= 0)
        return;
    relative_reach reach =
        relative_reach_of(a.relative, static_cast<int>(a.cu[place.row + 1] - a.cu[place.row]));
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, own = warp * SIDE + la_strip_row();
    la_load_tile<T, ROWS, HD>(shared.rows_a, attention_at(from, at, place.head, a.head_dim),
                              from.ld, n, a.head_dim, a.packed);
    for (int first = 0; first < reach.n; first += SPAN) {
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a,
                                  attention_at(pos, reach.lowest + first, place.head, a.head_dim),
                                  pos.ld, reach.n - first, a.head_dim, a.packed);
        __syncthreads();
        if (warp * SIDE >= n)
            continue;
        float x[HALF];
        la_strip_product<T, HD>(shared.strip[warp], shared.rows_a + warp * SIDE * LD, shared.span_a,
                                x);
        int column = first + la_strip_column();
        float *to = table + relative_row(a, at + own, place.head) + column;
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            if (own < n && column + j < reach.n)
                to[j] = x[j];
    }
}

/* dpos[rows that a row reaches, heads * head_dim] = sums^T from, the sum over the row's queries or
 * keys. Grid (tiles of what is reached x rows, heads). */
template <typename T, int HD, bool OF_KEYS>
__global__ static void __launch_bounds__(la_shape<T, HD>::THREADS)
    relative_positions(const attention_args<T> a) {
    LA_DYNAMIC_SHARED(memory);
    la_shared<T, HD> &shared = la_shared_at<la_shared<T, HD>>(memory);
    constexpr int ROWS = la_shape<T, HD>::ROWS;
    const attention_view<T> &from = OF_KEYS ? a.k : a.q;
    const attention_view<T> &dpos = OF_KEYS ? a.relative.dpos_q : a.relative.dpos_k;
    const int32_t *cu = OF_KEYS ? a.cu : a.cu_q;
    attention_place place = attention_place_of<T, HD>(a);
    relative_reach reach =
        relative_reach_of(a.relative, static_cast<int>(a.cu[place.row + 1] - a.cu[place.row]));
    int n = min(reach.n - place.first, ROWS);
    if (n <= 0)
        return;
    int64_t at = cu[place.row];
    int count = static_cast<int>(cu[place.row + 1] - at);
    int warp = static_cast<int>(threadIdx.x) / LA_WARP, own = warp * SIDE + la_strip_row();
    typename la_tiles<T>::sums sum[la_shape<T, HD>::FRAGMENTS];
    LA_UNROLL
    for (int i = 0; i < la_shape<T, HD>::FRAGMENTS; i++)
        la_tiles<T>::zero(sum[i]);
    for (int first = 0; first < count; first += SPAN) {
        __syncthreads();
        la_load_tile<T, SPAN, HD>(shared.span_a,
                                  attention_at(from, at + first, place.head, a.head_dim), from.ld,
                                  count - first, a.head_dim, a.packed);
        __syncthreads();
        if (warp * SIDE >= n)
            continue;
        float x[HALF];
        int column = first + la_strip_column();
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            x[j] = own < n && column + j < count
                       ? a.relative
                             .sums[relative_row(a, at + column + j, place.head) + place.first + own]
                       : 0;
        la_strip_add<T, HD>(sum, shared.weights[warp], x, shared.span_a);
    }
    int64_t to = static_cast<int64_t>(a.relative.rhs) * a.relative.cu[a.relative.n_rows] +
                 a.relative.cu[place.row] + place.first + own;
    la_store_rows<T, HD>(shared.strip[warp], sum, 1, attention_at(dpos, to, place.head, a.head_dim),
                         own < n, a.head_dim, a.packed);
}

/* ---- on the host ---- */

template <typename T, int HD>
static void tables(la_cuda *cu, const la_attention *a, const attention_args<T> &args) {
    constexpr size_t BYTES = la_shared_bytes<la_shared<T, HD>>();
    if (args.relative.by_query)
        attention_launch<T, HD, relative_table<T, HD, false>>(cu, "attention, distances of queries",
                                                              args, a->max_queries, a->n_rows,
                                                              a->n_heads, BYTES);
    if (args.relative.by_key)
        attention_launch<T, HD, relative_table<T, HD, true>>(
            cu, "attention, distances of keys", args, a->max_length, a->n_rows, a->n_heads, BYTES);
}

template <typename T, int HD>
static void positions(la_cuda *cu, const la_attention *a, const attention_args<T> &args,
                      bool of_keys) {
    constexpr size_t BYTES = la_shared_bytes<la_shared<T, HD>>();
    const char *name = "attention backward, distances";
    if (of_keys)
        attention_launch<T, HD, relative_positions<T, HD, true>>(
            cu, name, args, args.relative.stride, a->n_rows, a->n_heads, BYTES);
    else
        attention_launch<T, HD, relative_positions<T, HD, false>>(
            cu, name, args, args.relative.stride, a->n_rows, a->n_heads, BYTES);
}

/* Calls function<T, HD>(...) by the columns of the tiles that hold a head. */
#define BY_HEAD_DIM(head_dim, function, ...)                                                       \
    do {                                                                                           \
        if ((head_dim) <= 32)                                                                      \
            function<T, 32>(__VA_ARGS__);                                                          \
        else if ((head_dim) <= 64)                                                                 \
            function<T, 64>(__VA_ARGS__);                                                          \
        else if ((head_dim) <= 96)                                                                 \
            function<T, 96>(__VA_ARGS__);                                                          \
        else                                                                                       \
            function<T, RELATIVE_HEAD_MAX>(__VA_ARGS__);                                           \
    } while (0)

template <typename T>
bool la_relative_begin(la_cuda *cu, const la_attention *a, attention_args<T> *args) {
    const la_relative *of = a->relative;
    if (a->head_dim > RELATIVE_HEAD_MAX) {
        (void)la_fail(
            &cu->fault, LA_UNSUPPORTED,
            "attention heads of %lld whose scores know distances: the CUDA backend takes at "
            "most %d",
            static_cast<long long>(a->head_dim), static_cast<int>(RELATIVE_HEAD_MAX));
        return false;
    }
    relative_args<T> &r = args->relative;
    int64_t reached = std::max(of->pos_k.data ? of->pos_k.rows : 0, //
                               of->pos_q.data ? of->pos_q.rows : 0);
    if (cu->max_relative)
        reached = std::min(reached, cu->max_relative);
    r.at = of->at + of->reach;
    r.stride = static_cast<int>(reached);
    r.cu = of->cu;
    r.n_rows = a->n_rows;
    attention_take(args, &r.pos_k, &of->pos_k);
    attention_take(args, &r.pos_q, &of->pos_q);
    attention_take(args, &r.dpos_k, &of->dpos_k);
    attention_take(args, &r.dpos_q, &of->dpos_q);
    size_t each = static_cast<size_t>(std::max(args->queries, args->keys) * a->n_heads * reached);
    float *memory = static_cast<float *>(
        la_cuda_scratch_get(cu, LA_CUDA_RELATIVE, RELATIVE_TABLES * each * sizeof(float)));
    if (!memory)
        return false;
    r.by_query = of->pos_k.data ? memory : nullptr;
    r.by_key = of->pos_q.data ? memory + each : nullptr;
    r.sums = memory + 2 * each;
    BY_HEAD_DIM(a->head_dim, tables, cu, a, *args);
    return cu->fault.status == LA_OK;
}

template <typename T>
void la_relative_positions(la_cuda *cu, const la_attention *a, const attention_args<T> &args,
                           bool of_keys) {
    if ((of_keys ? args.relative.dpos_q : args.relative.dpos_k).data)
        BY_HEAD_DIM(a->head_dim, positions, cu, a, args, of_keys);
}

template bool la_relative_begin<float>(la_cuda *, const la_attention *, attention_args<float> *);
template bool la_relative_begin<bf16>(la_cuda *, const la_attention *, attention_args<bf16> *);
template void la_relative_positions<float>(la_cuda *, const la_attention *,
                                           const attention_args<float> &, bool);
template void la_relative_positions<bf16>(la_cuda *, const la_attention *,
                                          const attention_args<bf16> &, bool);
