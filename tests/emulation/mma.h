/* Warp-level matrix products (nvcuda::wmma), for the emulated device: 16 x 16 x 16, bf16 factors
 * and f32 sums.
 *
 * The layout of a fragment's elements is up to the hardware: here lane 0 holds and computes the
 * whole tile, in program order, and elements cannot be accessed. These operations do not order the
 * lanes' memory accesses either: a tile that other lanes wrote, or will read, needs __syncwarp
 * before or after. That all lanes reach them is checked when they next meet. */
#ifndef LA_EMULATION_MMA_H
#define LA_EMULATION_MMA_H

#include "cuda_bf16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

/* A tile by rows, in f32 (which holds every bf16). */
struct la_emulated_tile {
    la_emulated_tile() {
    } /* uninitialised, as on a device */
    la_emulated_tile(const la_emulated_tile &other) {
        *this = other;
    }
    la_emulated_tile &operator=(const la_emulated_tile &other) {
        if (la_emulated_lane() == 0)
            memcpy(value, other.value, sizeof value);
        return *this;
    }

  protected:
    float value[16][16];
    friend struct la_emulated_access;
};

struct la_emulated_access {
    static float (*of(la_emulated_tile &tile))[16] {
        return tile.value;
    }
    static const float (*of(const la_emulated_tile &tile))[16] {
        return tile.value;
    }
};

template <typename Use, int m, int n, int k, typename T, typename Layout = void> class fragment;
template <typename Layout>
class fragment<matrix_a, 16, 16, 16, __nv_bfloat16, Layout> : public la_emulated_tile {};
template <typename Layout>
class fragment<matrix_b, 16, 16, 16, __nv_bfloat16, Layout> : public la_emulated_tile {};
template <> class fragment<accumulator, 16, 16, 16, float> : public la_emulated_tile {};

typedef fragment<accumulator, 16, 16, 16, float> la_emulated_sums;

template <typename Use, typename T, typename Layout, typename V>
static inline void fill_fragment(fragment<Use, 16, 16, 16, T, Layout> &f, const V &with) {
    if (la_emulated_lane() != 0)
        return;
    float(*value)[16] = la_emulated_access::of(f);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            value[i][j] = static_cast<float>(T(with));
}

/* Hardware loads and stores whole vectors: 32-byte aligned tiles, rows a multiple of 16 bytes. */
static inline void la_emulated_check_tile(const void *at, unsigned ld, size_t size,
                                          const la_emulated_site &site) {
    if (reinterpret_cast<uintptr_t>(at) % 32 != 0 || ld * size % 16 != 0)
        la_emulated_abort("%s at %s:%d: address %p, leading dimension %u: tiles have to be aligned "
                          "to 32 bytes, and rows to be a multiple of 16 bytes apart",
                          site.what, site.file, site.line, at, ld);
}

template <typename T>
static inline void la_emulated_load(float (*value)[16], const T *at, unsigned ld, bool by_rows) {
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 16; j++)
            value[i][j] = static_cast<float>(by_rows ? at[i * ld + j] : at[j * ld + i]);
}

template <typename Layout> struct la_emulated_by_rows;
template <> struct la_emulated_by_rows<row_major> { static constexpr bool value = true; };
template <> struct la_emulated_by_rows<col_major> { static constexpr bool value = false; };

template <typename Use, typename Layout>
static inline void load_matrix_sync(fragment<Use, 16, 16, 16, __nv_bfloat16, Layout> &f,
                                    const __nv_bfloat16 *at, unsigned ld, LA_EMULATED_HERE) {
    la_emulated_site site = {"load_matrix_sync", file, line};
    la_emulated_pass(site);
    la_emulated_check_tile(at, ld, sizeof *at, site);
    if (la_emulated_lane() == 0)
        la_emulated_load(la_emulated_access::of(f), at, ld, la_emulated_by_rows<Layout>::value);
}
static inline void load_matrix_sync(la_emulated_sums &f, const float *at, unsigned ld,
                                    layout_t layout, LA_EMULATED_HERE) {
    la_emulated_site site = {"load_matrix_sync", file, line};
    la_emulated_pass(site);
    la_emulated_check_tile(at, ld, sizeof *at, site);
    if (la_emulated_lane() == 0)
        la_emulated_load(la_emulated_access::of(f), at, ld, layout == mem_row_major);
}

static inline void store_matrix_sync(float *at, const la_emulated_sums &f, unsigned ld,
                                     layout_t layout, LA_EMULATED_HERE) {
    la_emulated_site site = {"store_matrix_sync", file, line};
    la_emulated_pass(site);
    la_emulated_check_tile(at, ld, sizeof *at, site);
    if (la_emulated_lane() != 0)
        return;
    const float(*value)[16] = la_emulated_access::of(f);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 16; j++)
            at[layout == mem_row_major ? i * ld + j : j * ld + i] = value[i][j];
}

/* d = a b + c */
template <typename LayoutA, typename LayoutB>
static inline void mma_sync(la_emulated_sums &d,
                            const fragment<matrix_a, 16, 16, 16, __nv_bfloat16, LayoutA> &a,
                            const fragment<matrix_b, 16, 16, 16, __nv_bfloat16, LayoutB> &b,
                            const la_emulated_sums &c, LA_EMULATED_HERE) {
    la_emulated_pass({"mma_sync", file, line});
    if (la_emulated_lane() != 0)
        return;
    float(*sum)[16] = la_emulated_access::of(d);
    const float(*left)[16] = la_emulated_access::of(a), (*right)[16] = la_emulated_access::of(b);
    if (&d != &c)
        memcpy(sum, la_emulated_access::of(c), sizeof(float[16][16]));
    for (int i = 0; i < 16; i++) {
        float row[16];
        memcpy(row, sum[i], sizeof row);
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 16; j++)
                row[j] += left[i][k] * right[k][j];
        memcpy(sum[i], row, sizeof row);
    }
}

} // namespace wmma
} // namespace nvcuda

#endif
