/* Memory, copies and faults. */
#include "cuda/compare.h"

#include <stdlib.h>
#include <string.h>

enum { MIB = 1 << 20, MARGIN = 64 };

/* Without a period: a piece at the place of another one is seen. */
static unsigned char pattern(size_t i) {
    return (unsigned char)(((uint64_t)i * 0x9e3779b97f4a7c15u) >> 56);
}

/* Bytes [from, from + n) of the device's memory, which must be the pattern or 0. */
static void check_bytes(const unsigned char *memory, size_t total, size_t from, size_t n) {
    unsigned char *back = malloc(total);
    assert_non_null(back);
    device.ops->download(&device, back, memory, total);
    for (size_t i = 0; i < total; i++) {
        unsigned char want = i >= from && i < from + n ? pattern(i - from) : 0;
        if (back[i] != want)
            fail_msg("%zu bytes at %zu: byte %zu is %d, expected %d", n, from, i, back[i], want);
    }
    free(back);
}

static void copies(la_dtype type) {
    (void)type;
    static const size_t sizes[] = {1,           3,           64,       1001,
                                   8 * MIB - 1, 8 * MIB + 1, 16 * MIB, 20 * MIB + 5};
    for (int64_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s], total = n + 2 * MARGIN + 1, from = s % 2 ? MARGIN : MARGIN + 1;
        unsigned char *memory = device.ops->alloc(&device, total);
        unsigned char *source = malloc(n);
        assert_true(memory && source);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < n; i++)
            source[i] = pattern(i);
        device.ops->zero(&device, memory, total);
        device.ops->upload(&device, memory + from, source, n);
        /* the source is the caller's again */
        memset(source, 0x55, n);
        check_bytes(memory, total, from, n);
        /* a part, from anywhere */
        device.ops->download(&device, source, memory + from + n / 3, n - n / 3);
        for (size_t i = 0; i < n - n / 3; i++)
            if (source[i] != pattern(i + n / 3))
                fail_msg("byte %zu of a part of %zu bytes is %d", i, n, source[i]);
        device.ops->zero(&device, memory + from + n / 2, n - n / 2);
        check_bytes(memory, total, from, n / 2);
        free(source);
        device.ops->release(&device, memory);
    }
}

/* Many small copies in a row, each from a buffer that is used again at once. */
static void copies_in_a_row(la_dtype type) {
    (void)type;
    enum { PIECES = 200, PIECE = 777 };
    unsigned char *memory = device.ops->alloc(&device, PIECES * PIECE), piece[PIECE];
    assert_non_null(memory);
    for (size_t p = 0; p < PIECES; p++) {
        for (size_t i = 0; i < PIECE; i++)
            piece[i] = pattern(p * PIECE + i);
        device.ops->upload(&device, memory + p * PIECE, piece, PIECE);
    }
    check_bytes(memory, PIECES * PIECE, 0, PIECES * PIECE);
    device.ops->release(&device, memory);
}

/* ---- place ---- */

/* The first numbers of each array: zeros, the largest and smallest of their types, and halfway
 * between two of bf16, where the even one is meant. */
static const double special[] = {0.0,   -0.0,   65504,         6e-8,         -3e-6,
                                 1e-40, 3.4e38, 1 + 1.0 / 256, 1 + 3.0 / 256};

static void place_case(la_dtype from, la_dtype to, int64_t count, size_t misplaced) {
    size_t size = la_dtype_size(from), to_size = la_dtype_size(to);
    unsigned char *memory = malloc((size_t)count * size + 8), *at = memory + misplaced;
    unsigned char *want = malloc((size_t)count * to_size), *back = malloc((size_t)count * to_size);
    double *values = normal(count);
    assert_true(memory && want && back);
    for (int64_t i = 0; i < count; i++) {
        encode(from, i < COUNT(special) ? special[i] : values[i], at + (size_t)i * size);
        double x = decode(from, at + (size_t)i * size);
        encode(to, (double)(float)x, want + (size_t)i * to_size);
    }
    bool copied = false;
    const void *placed = device.ops->place(&device, at, from, count, to, &copied);
    assert_non_null(placed);
    assert_true(copied);
    memset(memory, 0x55, (size_t)count * size + 8);
    device.ops->download(&device, back, placed, (size_t)count * to_size);
    for (int64_t i = 0; i < count; i++)
        if (memcmp(back + (size_t)i * to_size, want + (size_t)i * to_size, to_size))
            fail_msg("type %d to %d, %lld numbers at address + %zu: number %lld is %g, expected %g",
                     (int)from, (int)to, (long long)count, misplaced, (long long)i,
                     decode(to, back + (size_t)i * to_size),
                     decode(to, want + (size_t)i * to_size));
    device.ops->release(&device, (void *)(uintptr_t)placed);
    free(memory), free(want), free(back), free(values);
}

static void place(la_dtype type) {
    (void)type;
    static const la_dtype conversions[][2] = {
        {LA_F32, LA_F32}, {LA_F32, LA_BF16}, {LA_F16, LA_F16},
        {LA_F16, LA_F32}, {LA_F16, LA_BF16}, {LA_BF16, LA_F32},
        {LA_F64, LA_F32}, {LA_F64, LA_BF16}, {LA_BF16, LA_BF16},
    };
    /* the last one is more than a staging buffer in every type */
    static const int64_t counts[] = {1, 7, 64, 1003, 4500001};
    for (int64_t c = 0; c < COUNT(conversions); c++)
        for (int64_t n = 0; n < COUNT(counts); n++)
            for (size_t misplaced = 0; misplaced < (counts[n] > 10000 ? 2 : 4); misplaced++)
                place_case(conversions[c][0], conversions[c][1], counts[n], misplaced);
}

/* ---- what cannot be had ---- */

/* Later operations work. */
static void check_add(la_dtype type) {
    operand *x = drawn(type, 7, 13, 1), *y = changed(drawn(type, 7, 13, 1));
    while (next_run())
        be->ops->add(be, on(x), on(y));
    assert_true(gap(y) <= (type == LA_BF16 ? 3.95e-3 : 0));
    forget();
}

static void too_much_memory(la_dtype type) {
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX / 2, (size_t)1 << 50};
    la_error err = {0};
    for (int64_t i = 0; i < COUNT(sizes); i++) {
        assert_null(device.ops->alloc(&device, sizes[i]));
        check_add(type);
    }
    bool copied = false;
    float one = 1;
    /* refused before the numbers are read */
    assert_null(device.ops->place(&device, &one, LA_F32, (int64_t)1 << 50, LA_F32, &copied));
    check_add(type);
    assert_int_equal(device.ops->sync(&device, &err), LA_OK);
}

static void sizes_of_memory(la_dtype type) {
    size_t available = 0, total = 0;
    device.ops->memory(&device, &available, &total);
    assert_true(available > 0 && available <= total);
    void *memory = device.ops->alloc(&device, MIB);
    assert_non_null(memory);
    assert_true(device.peak_bytes == 0 || device.peak_bytes >= MIB);
    device.ops->release(&device, memory);
    la_sizes sizes = {.max_tokens = 130,
                      .max_length = 70,
                      .n_rhs = 3,
                      .n_heads = 4,
                      .max_width = 257,
                      .max_factor = 300,
                      .max_weight = 257 * 64};
    la_error err = {0};
    size_t bytes = device.ops->workspace(&device, &sizes);
    assert_true(bytes < total);
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_OK);
    check_add(type);
    /* a larger batch, and a smaller one */
    sizes.max_factor = 600;
    assert_true(device.ops->workspace(&device, &sizes) >= bytes);
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_OK);
    sizes.max_factor = 5;
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_OK);
    check_add(type);
    /* tables of scores that know distances: a number for each token, head and row reached */
    bytes = device.ops->workspace(&device, &sizes);
    sizes.max_relative = 90;
    size_t with = device.ops->workspace(&device, &sizes);
    assert_true(with - bytes >= (size_t)(2 * 130 * 4 * 90) * sizeof(float));
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_OK);
    check_add(type);
    sizes.max_relative = 0;
    /* memory that is missing is reported here, and once */
    sizes.max_factor = 1 << 24;
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_RESOURCE);
    err = (la_error){0};
    assert_int_equal(device.ops->sync(&device, &err), LA_OK);
    check_add(type);
    sizes.max_factor = 300;
    assert_int_equal(device.ops->reserve(&device, &sizes, &err), LA_OK);
}

int main(void) {
    static const op_test tests[] = {
        {"copies", copies, ONCE},
        {"copies_in_a_row", copies_in_a_row, ONCE},
        {"place", place, ONCE},
        {"too_much_memory", too_much_memory, ONCE},
        {"sizes_of_memory", sizes_of_memory, ONCE},
    };
    return run_ops("memory", tests, COUNT(tests));
}
