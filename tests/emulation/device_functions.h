/* The kernel language: keywords, built-in variables and device functions, as host C++.
 *
 * A block's threads are fibers of one OS thread (fibers.cpp). Only barriers and warp collectives
 * pass control from one to another, so everything between them is atomic; results that depend on
 * the order of threads show when a kernel is run in another order (LA_EMULATED_ORDER). */
#ifndef LA_EMULATION_DEVICE_FUNCTIONS_H
#define LA_EMULATION_DEVICE_FUNCTIONS_H

#include "vector_types.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
/* not always_inline: the compiler would take minutes a file with sanitizers */
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
/* Blocks run one after the other and can share it. thread_local marks it for shared.cpp. */
#define __shared__ static thread_local

/* unsigned char *NAME: the block's dynamic shared memory, exactly as long as asked for */
#define LA_DYNAMIC_SHARED(name) unsigned char *name = la_emulated_dynamic_shared

/* One launch runs at a time, whatever OS thread it is on: these are of the thread that runs. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
extern unsigned char *la_emulated_dynamic_shared;
extern unsigned la_emulated_rank; /* threadIdx as one number */

static constexpr int warpSize = 32;

/* Call site of a collective. Threads that meet have to come from the same place. */
struct la_emulated_site {
    const char *what, *file;
    int line;
};
#define LA_EMULATED_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

enum la_emulated_vote { LA_EMULATED_OR, LA_EMULATED_AND, LA_EMULATED_COUNT };

/* fibers.cpp */
void la_emulated_barrier(la_emulated_site site);
int la_emulated_barrier_vote(la_emulated_site site, la_emulated_vote vote, int predicate);
/* The value that lane source of the warp gave; bits all ones where it takes no part. */
uint64_t la_emulated_exchange(la_emulated_site site, unsigned mask, uint64_t value, int source);
/* Lanes of mask with a true predicate. */
unsigned la_emulated_ballot(la_emulated_site site, unsigned mask, bool predicate);
/* Notes that the thread passed an operation that all lanes of its warp have to pass, in the same
 * order. Does not wait: lanes are compared when they next meet, and at the end of the block. */
void la_emulated_pass(la_emulated_site site);
[[noreturn]] void la_emulated_abort(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- barriers ---- */

static inline void __syncthreads(LA_EMULATED_HERE) {
    la_emulated_barrier({"__syncthreads", file, line});
}
static inline int __syncthreads_or(int predicate, LA_EMULATED_HERE) {
    return la_emulated_barrier_vote({"__syncthreads_or", file, line}, LA_EMULATED_OR, predicate);
}
static inline int __syncthreads_and(int predicate, LA_EMULATED_HERE) {
    return la_emulated_barrier_vote({"__syncthreads_and", file, line}, LA_EMULATED_AND, predicate);
}
static inline int __syncthreads_count(int predicate, LA_EMULATED_HERE) {
    return la_emulated_barrier_vote({"__syncthreads_count", file, line}, LA_EMULATED_COUNT,
                                    predicate);
}
static inline void __threadfence() {
}
static inline void __threadfence_block() {
}

/* ---- warps ---- */

static inline void __syncwarp(unsigned mask = 0xffffffffu, LA_EMULATED_HERE) {
    la_emulated_ballot({"__syncwarp", file, line}, mask, false);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, LA_EMULATED_HERE) {
    return la_emulated_ballot({"__ballot_sync", file, line}, mask, predicate != 0);
}
static inline int __any_sync(unsigned mask, int predicate, LA_EMULATED_HERE) {
    return la_emulated_ballot({"__any_sync", file, line}, mask, predicate != 0) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, LA_EMULATED_HERE) {
    return la_emulated_ballot({"__all_sync", file, line}, mask, predicate == 0) == 0;
}

template <typename T>
static inline T la_emulated_shuffle(la_emulated_site site, unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = la_emulated_exchange(site, mask, bits, source);
    T result;
    memcpy(&result, &bits, sizeof result);
    return result;
}
static inline int la_emulated_lane() {
    return static_cast<int>(la_emulated_rank % 32);
}
template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, LA_EMULATED_HERE) {
    int first = la_emulated_lane() & ~(width - 1);
    return la_emulated_shuffle({"__shfl_sync", file, line}, mask, value,
                               first | (source & (width - 1)));
}
template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                                LA_EMULATED_HERE) {
    int lane = la_emulated_lane(), end = (lane & ~(width - 1)) + width, source = lane ^ bits;
    return la_emulated_shuffle({"__shfl_xor_sync", file, line}, mask, value,
                               source < end ? source : lane);
}
template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               LA_EMULATED_HERE) {
    int lane = la_emulated_lane(), first = lane & ~(width - 1);
    int source = lane - static_cast<int>(delta);
    return la_emulated_shuffle({"__shfl_up_sync", file, line}, mask, value,
                               source >= first ? source : lane);
}
template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 LA_EMULATED_HERE) {
    int lane = la_emulated_lane(), end = (lane & ~(width - 1)) + width;
    int source = lane + static_cast<int>(delta);
    return la_emulated_shuffle({"__shfl_down_sync", file, line}, mask, value,
                               source < end ? source : lane);
}

/* ---- atomics: nothing runs between two switches ---- */

#define LA_EMULATED_ATOMICS(T)                                                                     \
    static inline T atomicAdd(T *at, T value) {                                                    \
        T old = *at;                                                                               \
        *at = old + value;                                                                         \
        return old;                                                                                \
    }                                                                                              \
    static inline T atomicMax(T *at, T value) {                                                    \
        T old = *at;                                                                               \
        *at = old < value ? value : old;                                                           \
        return old;                                                                                \
    }                                                                                              \
    static inline T atomicMin(T *at, T value) {                                                    \
        T old = *at;                                                                               \
        *at = value < old ? value : old;                                                           \
        return old;                                                                                \
    }                                                                                              \
    static inline T atomicExch(T *at, T value) {                                                   \
        T old = *at;                                                                               \
        *at = value;                                                                               \
        return old;                                                                                \
    }                                                                                              \
    static inline T atomicCAS(T *at, T compare, T value) {                                         \
        T old = *at;                                                                               \
        if (old == compare)                                                                        \
            *at = value;                                                                           \
        return old;                                                                                \
    }                                                                                              \
    static inline T atomicOr(T *at, T value) {                                                     \
        T old = *at;                                                                               \
        *at = old | value;                                                                         \
        return old;                                                                                \
    }                                                                                              \
    static inline T atomicAnd(T *at, T value) {                                                    \
        T old = *at;                                                                               \
        *at = old & value;                                                                         \
        return old;                                                                                \
    }
LA_EMULATED_ATOMICS(int)
LA_EMULATED_ATOMICS(unsigned)
LA_EMULATED_ATOMICS(unsigned long long)
#undef LA_EMULATED_ATOMICS
static inline float atomicAdd(float *at, float value) {
    float old = *at;
    *at = old + value;
    return old;
}
static inline double atomicAdd(double *at, double value) {
    double old = *at;
    *at = old + value;
    return old;
}
static inline float atomicExch(float *at, float value) {
    float old = *at;
    *at = value;
    return old;
}

/* ---- arithmetic ---- */

template <typename T> static inline T __ldg(const T *at) {
    return *at;
}

/* The C library has its own names of this kind, hence macros. */
#define __expf(x) expf(x)
#define __exp10f(x) exp2f(3.3219280948873623f * (x))
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __powf(x, y) powf(x, y)

static inline float __fdividef(float x, float y) {
    return x / y;
}
static inline float __fdiv_rn(float x, float y) {
    return x / y;
}
static inline float __frcp_rn(float x) {
    return 1 / x;
}
static inline float __fsqrt_rn(float x) {
    return sqrtf(x);
}
static inline float __frsqrt_rn(float x) {
    return static_cast<float>(1 / sqrt(static_cast<double>(x)));
}
static inline float rsqrtf(float x) {
    return __frsqrt_rn(x);
}
static inline double rsqrt(double x) {
    return 1 / sqrt(x);
}
static inline float __fadd_rn(float x, float y) {
    return x + y;
}
static inline float __fmul_rn(float x, float y) {
    return x * y;
}
static inline float __fmaf_rn(float x, float y, float z) {
    return fmaf(x, y, z);
}
static inline double __dadd_rn(double x, double y) {
    return x + y;
}
static inline double __dmul_rn(double x, double y) {
    return x * y;
}
static inline double __fma_rn(double x, double y, double z) {
    return fma(x, y, z);
}
static inline int __clz(int x) {
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
static inline int __clzll(long long x) {
    return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
static inline unsigned __umulhi(unsigned x, unsigned y) {
    return static_cast<unsigned>(static_cast<uint64_t>(x) * y >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
static inline int __mul24(int x, int y) {
    return x * y;
}

template <typename To, typename From> static inline To la_emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of one are the other's");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x) {
    return la_emulated_bits<int>(x);
}
static inline unsigned __float_as_uint(float x) {
    return la_emulated_bits<unsigned>(x);
}
static inline float __int_as_float(int x) {
    return la_emulated_bits<float>(x);
}
static inline float __uint_as_float(unsigned x) {
    return la_emulated_bits<float>(x);
}
static inline long long __double_as_longlong(double x) {
    return la_emulated_bits<long long>(x);
}
static inline double __longlong_as_double(long long x) {
    return la_emulated_bits<double>(x);
}

#define LA_EMULATED_MIN_MAX(T)                                                                     \
    static inline T min(T x, T y) {                                                                \
        return y < x ? y : x;                                                                      \
    }                                                                                              \
    static inline T max(T x, T y) {                                                                \
        return x < y ? y : x;                                                                      \
    }
LA_EMULATED_MIN_MAX(int)
LA_EMULATED_MIN_MAX(unsigned)
LA_EMULATED_MIN_MAX(long)
LA_EMULATED_MIN_MAX(unsigned long)
LA_EMULATED_MIN_MAX(long long)
LA_EMULATED_MIN_MAX(unsigned long long)
#undef LA_EMULATED_MIN_MAX
static inline float min(float x, float y) {
    return fminf(x, y);
}
static inline float max(float x, float y) {
    return fmaxf(x, y);
}
static inline double min(double x, double y) {
    return fmin(x, y);
}
static inline double max(double x, double y) {
    return fmax(x, y);
}

#endif
