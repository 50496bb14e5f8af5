/* Tiles of attention: loads to shared memory, products by one warp, and strips, through which the
 * lanes of a warp get at the elements of a product.
 *
 * A warp multiplies 16 rows at a time. Where the elements of a product lie is not known (wmma
 * leaves it open), so they pass through a strip of shared memory [16, 32], of which each lane takes
 * half a row. A tile of [n, head_dim] has HD columns, head_dim rounded up to 32, and zeros where
 * there is no data: what lies beyond takes part in products. */
#ifndef LA_CUDA_ATTENTION_TILES_CUH
#define LA_CUDA_ATTENTION_TILES_CUH

#include "vector.cuh"

#include <mma.h>

#include <math.h>
#include <type_traits>

/* Accumulators are registers only where the loops over them are unrolled. */
#ifdef LA_EMULATED
#define LA_UNROLL
#define LA_UNROLL_BY(steps)
#else
#define LA_PRAGMA(text) _Pragma(#text)
#define LA_UNROLL LA_PRAGMA(unroll)
#define LA_UNROLL_BY(steps) LA_PRAGMA(unroll(steps))
#endif

enum {
    SIDE = 16,          /* rows of a warp's products */
    SPAN = 32,          /* columns of a strip: keys (or queries) that are taken at a time */
    HALF = SPAN / 2,    /* columns of a lane */
    STRIP_LD = SPAN + 4 /* lanes that read together meet different banks */
};

template <typename T, int N> __device__ __forceinline__ la_vec<T, N> la_pack_load(const T *from) {
    return *reinterpret_cast<const la_vec<T, N> *>(from);
}
template <typename T, int N>
__device__ __forceinline__ void la_pack_store(T *to, const la_vec<T, N> &pack) {
    *reinterpret_cast<la_vec<T, N> *>(to) = pack;
}

/* Tiles by type. sums: a warp's share of a [16, 16] tile of f32. product: sum[16, N] += a[16, K]
 * b, with b[K, N], or b[N, K]^T where TRANS. All in shared memory; every lane of the warp calls. */
template <typename T> struct la_tiles;

template <> struct la_tiles<bf16> {
    static constexpr int WARPS = 4;
    static constexpr int PAD = 8; /* to the rows of tiles: 16 bytes, to spread them over banks */
    typedef nvcuda::wmma::fragment<nvcuda::wmma::accumulator, SIDE, SIDE, SIDE, float> sums;

    static __device__ __forceinline__ float exp(float x) {
        return __expf(x);
    }
    static __device__ __forceinline__ void zero(sums &sum) {
        nvcuda::wmma::fill_fragment(sum, 0.0f);
    }
    static __device__ __forceinline__ void store(float *to, const sums &sum) {
        nvcuda::wmma::store_matrix_sync(to, sum, STRIP_LD, nvcuda::wmma::mem_row_major);
    }
    template <int K, int N, bool TRANS>
    static __device__ __forceinline__ void product(sums (&sum)[N / SIDE], const bf16 *a, int lda,
                                                   const bf16 *b, int ldb) {
        namespace wmma = nvcuda::wmma;
        typedef std::conditional_t<TRANS, wmma::col_major, wmma::row_major> order;
        /* more at once would take more registers than there are */
        LA_UNROLL_BY(N > SPAN ? 1 : 2)
        for (int k = 0; k < K; k += SIDE) {
            wmma::fragment<wmma::matrix_a, SIDE, SIDE, SIDE, bf16, wmma::row_major> left;
            wmma::load_matrix_sync(left, a + k, lda);
            LA_UNROLL
            for (int n = 0; n < N; n += SIDE) {
                wmma::fragment<wmma::matrix_b, SIDE, SIDE, SIDE, bf16, order> right;
                wmma::load_matrix_sync(right, TRANS ? b + n * ldb + k : b + k * ldb + n, ldb);
                wmma::mma_sync(sum[n / SIDE], left, right, sum[n / SIDE]);
            }
        }
    }
};

template <> struct la_tiles<float> {
    static constexpr int WARPS = 2;
    static constexpr int PAD = 4;
    /* rows lane / 8 + 4 i and columns lane % 8 + 8 j of the tile, at 2 i + j: loads of both factors
     * by a warp then have no bank conflicts */
    struct sums {
        float at[SIDE * SIDE / LA_WARP];
    };

    static __device__ __forceinline__ float exp(float x) {
        return expf(x);
    }
    static __device__ __forceinline__ void zero(sums &sum) {
        LA_UNROLL
        for (int i = 0; i < SIDE * SIDE / LA_WARP; i++)
            sum.at[i] = 0;
    }
    static __device__ __forceinline__ void store(float *to, const sums &sum) {
        int lane = static_cast<int>(threadIdx.x) % LA_WARP;
        to += lane / 8 * STRIP_LD + lane % 8;
        LA_UNROLL
        for (int i = 0; i < 4; i++) {
            to[4 * i * STRIP_LD] = sum.at[2 * i];
            to[4 * i * STRIP_LD + 8] = sum.at[2 * i + 1];
        }
    }
    template <int K, int N, bool TRANS>
    static __device__ __forceinline__ void product(sums (&sum)[N / SIDE], const float *a, int lda,
                                                   const float *b, int ldb) {
        int lane = static_cast<int>(threadIdx.x) % LA_WARP;
        a += lane / 8 * lda;
        b += lane % 8 * (TRANS ? ldb : 1);
        LA_UNROLL_BY(1)
        for (int k = 0; k < K; k += 4) {
            la_vec<float, 4> left[4];
            LA_UNROLL
            for (int i = 0; i < 4; i++)
                left[i] = la_pack_load<float, 4>(a + 4 * i * lda + k);
            LA_UNROLL
            for (int n = 0; n < N / 8; n++) {
                la_vec<float, 4> right;
                if constexpr (TRANS) {
                    right = la_pack_load<float, 4>(b + 8 * n * ldb + k);
                } else {
                    LA_UNROLL
                    for (int e = 0; e < 4; e++)
                        right.at[e] = b[(k + e) * ldb + 8 * n];
                }
                LA_UNROLL
                for (int i = 0; i < 4; i++) {
                    LA_UNROLL
                    for (int e = 0; e < 4; e++)
                        sum[n / 2].at[2 * i + n % 2] += left[i].at[e] * right.at[e];
                }
            }
        }
    }
};

/* Columns of a head that a warp can hold sums of. */
enum { COLUMNS_MOST = 128 };

/* Sizes that follow. A block takes ROWS rows (queries, or keys in the backward of k and v), 16 a
 * warp, against SPAN at a time of the other kind. Wider heads than COLUMNS_MOST are shared out
 * among PARTS blocks, each of which forms all weights and sums its columns; they have fewer warps,
 * for lack of shared memory, and in f32 one span of the other kind's matrices at a time. */
template <typename T, int HD> struct la_shape {
    static constexpr bool WIDE = HD > COLUMNS_MOST, ONE_SPAN = WIDE && sizeof(T) == 4;
    static constexpr int WARPS = la_tiles<T>::WARPS / (WIDE ? 2 : 1), THREADS = WARPS * LA_WARP;
    static constexpr int ROWS = WARPS * SIDE;
    static constexpr int LD = HD + la_tiles<T>::PAD;           /* stride of tiles */
    static constexpr int WEIGHTS_LD = SPAN + la_tiles<T>::PAD; /* stride of weights */
    static constexpr int COLUMNS = WIDE ? COLUMNS_MOST : HD;   /* columns of sums */
    static constexpr int PARTS = HD / COLUMNS;
    static constexpr int FRAGMENTS = COLUMNS / SIDE; /* pieces of [16, COLUMNS] */
};

/* Shared memory of a block. Every part starts at a multiple of 32 bytes, as wmma asks of its
 * addresses. */
template <typename T, int HD> struct la_shared {
    typedef la_shape<T, HD> shape;
    T rows_a[shape::ROWS * shape::LD]; /* the block's rows: of q, or of k */
    T span_a[SPAN * shape::LD];        /* rows that they meet, from k and v or q and g */
    T span_other[shape::ONE_SPAN ? 32 / sizeof(T) : SPAN * shape::LD];
    float strip[shape::WARPS][SIDE * STRIP_LD];
    T weights[shape::WARPS][SIDE * shape::WEIGHTS_LD];

    __device__ __forceinline__ T *span_b(void) {
        return shape::ONE_SPAN ? span_a : span_other;
    }
};
template <typename T, int HD> struct la_shared_backward : la_shared<T, HD> {
    T rows_b[la_shape<T, HD>::ROWS * la_shape<T, HD>::LD]; /* rows of g, or of v */
    float lse[SPAN], delta[SPAN];                          /* for the queries in the span */
    int place[SPAN];                                       /* theirs */
};

/* It lies within dynamic shared memory, which is aligned to half of what wmma asks for. */
template <typename S> __device__ __forceinline__ S &la_shared_at(unsigned char *memory) {
    return *reinterpret_cast<S *>(memory + reinterpret_cast<uintptr_t>(memory) % 32);
}
template <typename S> static constexpr size_t la_shared_bytes(void) {
    return sizeof(S) + 16;
}

/* tile[ROWS, HD] = from[rows, head_dim], by the whole block */
template <typename T, int ROWS, int HD>
__device__ __forceinline__ void la_load_tile(T *tile, const T *from, int ld, int rows, int head_dim,
                                             bool packed) {
    constexpr int THREADS = la_shape<T, HD>::THREADS, LD = la_shape<T, HD>::LD;
    if (!packed) {
        for (int at = static_cast<int>(threadIdx.x); at < ROWS * HD; at += THREADS) {
            int row = at / HD, col = at % HD;
            bool inside = row < rows && col < head_dim;
            tile[row * LD + col] = inside ? from[row * ld + col] : la_from_float<T>(0);
        }
        return;
    }
    constexpr int EACH = 16 / sizeof(T), ACROSS = HD / EACH, COUNT = ROWS * ACROSS / THREADS;
    /* loads in flight: all of them would take too many registers */
    constexpr int FLIGHT = COUNT % 4 == 0 ? 4 : COUNT % 3 == 0 ? 3 : COUNT;
    static_assert(COUNT * THREADS == ROWS * ACROSS && COUNT % FLIGHT == 0, "");
    LA_UNROLL
    for (int first = 0; first < COUNT; first += FLIGHT) {
        la_vec<T, EACH> pack[FLIGHT];
        LA_UNROLL
        for (int n = 0; n < FLIGHT; n++) {
            int at = (first + n) * THREADS + static_cast<int>(threadIdx.x);
            int row = at / ACROSS, col = at % ACROSS * EACH;
            pack[n] = row < rows && col < head_dim ? la_pack_load<T, EACH>(from + row * ld + col)
                                                   : la_vec<T, EACH>{};
        }
        LA_UNROLL
        for (int n = 0; n < FLIGHT; n++) {
            int at = (first + n) * THREADS + static_cast<int>(threadIdx.x);
            la_pack_store(tile + at / ACROSS * LD + at % ACROSS * EACH, pack[n]);
        }
    }
}

/* This lane's half row of a strip. */
__device__ __forceinline__ int la_strip_row(void) {
    return static_cast<int>(threadIdx.x) % LA_WARP / 2;
}
__device__ __forceinline__ int la_strip_column(void) {
    return static_cast<int>(threadIdx.x) % 2 * HALF;
}

__device__ __forceinline__ void la_strip_read(const float *strip, float (&x)[HALF]) {
    strip += la_strip_row() * STRIP_LD + la_strip_column();
    LA_UNROLL
    for (int j = 0; j < HALF; j += 4) {
        la_vec<float, 4> pack = la_pack_load<float, 4>(strip + j);
        LA_UNROLL
        for (int e = 0; e < 4; e++)
            x[j + e] = pack.at[e];
    }
}

/* to[0..HALF) = x, as far as to has count elements */
template <typename T>
__device__ __forceinline__ void la_store_half(T *to, const float (&x)[HALF], int count,
                                              bool packed) {
    constexpr int EACH = 16 / sizeof(T);
    if (!packed) {
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            if (j < count)
                to[j] = la_from_float<T>(x[j]);
        return;
    }
    LA_UNROLL
    for (int j = 0; j < HALF; j += EACH) {
        la_vec<T, EACH> pack;
        LA_UNROLL
        for (int e = 0; e < EACH; e++)
            pack.at[e] = la_from_float<T>(x[j + e]);
        if (j < count)
            la_pack_store(to + j, pack);
    }
}

/* x: this lane's half row of a[16, HD] b[32, HD]^T, by a warp. The strip is free afterwards. */
template <typename T, int HD>
__device__ __forceinline__ void la_strip_product(float *strip, const T *a, const T *b,
                                                 float (&x)[HALF]) {
    constexpr int LD = la_shape<T, HD>::LD;
    typename la_tiles<T>::sums sum[SPAN / SIDE];
    LA_UNROLL
    for (int n = 0; n < SPAN / SIDE; n++)
        la_tiles<T>::zero(sum[n]);
    la_tiles<T>::template product<HD, SPAN, true>(sum, a, LD, b, LD);
    LA_UNROLL
    for (int n = 0; n < SPAN / SIDE; n++)
        la_tiles<T>::store(strip + n * SIDE, sum[n]);
    __syncwarp();
    la_strip_read(strip, x);
    __syncwarp();
}

/* sum[16, COLUMNS] += x b[32, COLUMNS], where every lane has its half row of x[16, 32]. The way is
 * through weights, free afterwards. */
template <typename T, int HD>
__device__ __forceinline__ void
la_strip_add(typename la_tiles<T>::sums (&sum)[la_shape<T, HD>::FRAGMENTS], T *weights,
             const float (&x)[HALF], const T *b) {
    constexpr int LD = la_shape<T, HD>::LD, WEIGHTS_LD = la_shape<T, HD>::WEIGHTS_LD;
    la_store_half(weights + la_strip_row() * WEIGHTS_LD + la_strip_column(), x, HALF, true);
    __syncwarp();
    la_tiles<T>::template product<SPAN, la_shape<T, HD>::COLUMNS, false>(sum, weights, WEIGHTS_LD,
                                                                         b, LD);
    __syncwarp();
}

/* to[0..columns) = factor times this lane's row of sum[16, COLUMNS], where inside. */
template <typename T, int HD>
__device__ __forceinline__ void
la_store_rows(float *strip, const typename la_tiles<T>::sums (&sum)[la_shape<T, HD>::FRAGMENTS],
              float factor, T *to, bool inside, int columns, bool packed) {
    LA_UNROLL
    for (int first = 0; first < la_shape<T, HD>::COLUMNS; first += SPAN) {
        la_tiles<T>::store(strip, sum[first / SIDE]);
        la_tiles<T>::store(strip + SIDE, sum[first / SIDE + 1]);
        __syncwarp();
        float x[HALF];
        la_strip_read(strip, x);
        __syncwarp();
        LA_UNROLL
        for (int j = 0; j < HALF; j++)
            x[j] *= factor;
        int col = first + la_strip_column();
        if (inside)
            la_store_half(to + col, x, columns - col, packed);
    }
}

#endif
