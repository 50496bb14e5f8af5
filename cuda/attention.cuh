/* Arguments of attention's kernels. Shared by attention.cu and attention_relative.cu alone. */
#ifndef LA_CUDA_ATTENTION_CUH
#define LA_CUDA_ATTENTION_CUH

#include "attention_tiles.cuh"

enum {
    WINDOW_MOST = 1 << 29,   /* a window without an edge, so that places and windows add up */
    NO_PLACE = -(1 << 30),   /* place of a missing query: it sees nothing */
    RELATIVE_HEAD_MAX = 128, /* columns of heads whose scores may know distances */
    RELATIVE_TABLES = 3      /* [tokens, heads, stride] each, in LA_CUDA_RELATIVE */
};

template <typename T> struct attention_view {
    T *data;
    int ld;
};

/* la_relative on its way to kernels. A row of length L reaches the rows at[-(L - 1)] to at[L - 1]
 * of the position tables, and counts them from the lowest on. */
template <typename T> struct relative_args {
    const int32_t *at; /* row of distance 0; NULL: scores know no distances */
    int stride;        /* no row reaches more */
    float *by_query;   /* [Q, heads, stride]: q pos_k^T, or NULL */
    float *by_key;     /* [T, heads, stride]: k pos_q^T, or NULL */
    float *sums;       /* [Q or T, heads, stride]: cotangents of scores, by equal distance */
    attention_view<T> pos_k, pos_q, dpos_k, dpos_q;
    const int32_t *cu;
    int64_t n_rows;
    int rhs; /* whose cotangents these are */
};

template <typename T> struct attention_args {
    attention_view<T> q, k, v, out;
    float *lse; /* [Q, heads] */
    const int32_t *cu, *cu_q, *q_at;
    int heads, group, head_dim; /* group: heads that share one of k and v */
    int tiles;                  /* blocks for a row */
    int before, after;          /* at most WINDOW_MOST */
    float scale, softcap;
    bool packed; /* elements of all matrices can be loaded and stored 16 bytes at a time */
    relative_args<T> relative;
    /* backward */
    attention_view<T> g, dq, dk, dv;
    float *delta; /* [n_rhs Q, heads] */
    int64_t queries, keys;
    int n_rhs;
};

/* Work of a block, by its place in the grid (tiles x right-hand sides x rows, heads x parts):
 * the right-hand sides of a row are neighbours, and find its q, k and v in the cache. */
struct attention_place {
    int row, rhs, first, head; /* first: row of the tile within the row */
    int part;                  /* which part of the head's columns */
};

template <typename T, int HD>
__device__ __forceinline__ attention_place attention_place_of(const attention_args<T> &a) {
    int block = static_cast<int>(blockIdx.x), task = block / a.tiles;
    int y = static_cast<int>(blockIdx.y);
    constexpr int PARTS = la_shape<T, HD>::PARTS;
    return {task / a.n_rhs, task % a.n_rhs, block % a.tiles * la_shape<T, HD>::ROWS, y / PARTS,
            y % PARTS};
}

template <typename T>
__device__ __forceinline__ T *attention_at(const attention_view<T> &m, int64_t row, int head,
                                           int head_dim) {
    return m.data + row * m.ld + head * head_dim;
}

/* Rows of the position tables that a row of this length reaches. */
struct relative_reach {
    int lowest, n;
};
template <typename T>
__device__ __forceinline__ relative_reach relative_reach_of(const relative_args<T> &r, int length) {
    int lowest = r.at[1 - length];
    return {lowest, min(r.at[length - 1] - lowest + 1, r.stride)};
}

/* Where in by_query, by_key or sums a query's or key's part begins. */
template <typename T>
__device__ __forceinline__ int64_t relative_row(const attention_args<T> &a, int64_t row, int head) {
    return (row * a.heads + head) * a.relative.stride;
}

/* ---- on the host ---- */

/* Fills in the matrix, and whether it allows packed loads. */
template <typename T>
static inline void attention_take(attention_args<T> *args, attention_view<T> *view,
                                  const la_mat *m) {
    if (!m || !m->data)
        return;
    *view = {static_cast<T *>(m->data), static_cast<int>(m->ld)};
    size_t stride = static_cast<size_t>(m->ld) * sizeof(T);
    if (reinterpret_cast<uintptr_t>(m->data) % 16 || stride % 16)
        args->packed = false;
}

/* Beyond 48 KiB of shared memory a kernel has to ask. The setting is the device's, and cheap to
 * repeat. */
template <typename T>
static inline bool attention_may_have(la_cuda *cu, const char *name,
                                      void (*kernel)(attention_args<T>), size_t bytes) {
    return bytes <= 48 << 10 ||
           la_cuda_ok(cu,
                      cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                           cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(bytes)),
                      name);
}

/* One block for each tile of ROWS in the longest row, for each row, right-hand side and head. */
template <typename T, int HD, void (*KERNEL)(attention_args<T>)>
static void attention_launch(la_cuda *cu, const char *name, attention_args<T> args, int64_t longest,
                             int64_t n_rows, int64_t heads, size_t bytes) {
    if (!attention_may_have(cu, name, KERNEL, bytes))
        return;
    args.tiles = static_cast<int>(la_cuda_blocks(longest, la_shape<T, HD>::ROWS));
    dim3 grid(la_cuda_blocks(n_rows * args.tiles * args.n_rhs, 1), static_cast<unsigned>(heads));
    LA_LAUNCH(KERNEL, grid, dim3(la_shape<T, HD>::THREADS), bytes, cu->stream, args);
    la_cuda_launched(cu, name);
}

/* attention_relative.cu */

/* Fills in args->relative from a->relative and computes by_query and by_key. False after a fault.
 * They last until the next call. */
template <typename T>
bool la_relative_begin(la_cuda *cu, const la_attention *a, attention_args<T> *args);
/* dpos_k (of_keys: dpos_q) of right-hand side args.relative.rhs, from q (k) and sums, where it is
 * asked for. */
template <typename T>
void la_relative_positions(la_cuda *cu, const la_attention *a, const attention_args<T> &args,
                           bool of_keys);

#endif
