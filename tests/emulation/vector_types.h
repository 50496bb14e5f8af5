/* CUDA's small vector types, for the emulated device. */
#ifndef LA_EMULATION_VECTOR_TYPES_H
#define LA_EMULATION_VECTOR_TYPES_H

#define LA_EMULATED_VECTOR(scalar, name, bytes2, bytes4)                                           \
    struct name##1 {                                                                               \
        scalar x;                                                                                  \
    };                                                                                             \
    struct alignas(bytes2) name##2 {                                                               \
        scalar x, y;                                                                               \
    };                                                                                             \
    struct name##3 {                                                                               \
        scalar x, y, z;                                                                            \
    };                                                                                             \
    struct alignas(bytes4) name##4 {                                                               \
        scalar x, y, z, w;                                                                         \
    };                                                                                             \
    static inline name##1 make_##name##1(scalar x) {                                               \
        return {x};                                                                                \
    }                                                                                              \
    static inline name##2 make_##name##2(scalar x, scalar y) {                                     \
        return {x, y};                                                                             \
    }                                                                                              \
    static inline name##3 make_##name##3(scalar x, scalar y, scalar z) {                           \
        return {x, y, z};                                                                          \
    }                                                                                              \
    static inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) {                 \
        return {x, y, z, w};                                                                       \
    }

LA_EMULATED_VECTOR(signed char, char, 2, 4)
LA_EMULATED_VECTOR(unsigned char, uchar, 2, 4)
LA_EMULATED_VECTOR(short, short, 4, 8)
LA_EMULATED_VECTOR(unsigned short, ushort, 4, 8)
LA_EMULATED_VECTOR(int, int, 8, 16)
LA_EMULATED_VECTOR(unsigned, uint, 8, 16)
LA_EMULATED_VECTOR(float, float, 8, 16)
LA_EMULATED_VECTOR(long long, longlong, 16, 16)
LA_EMULATED_VECTOR(unsigned long long, ulonglong, 16, 16)
LA_EMULATED_VECTOR(double, double, 16, 16)
#undef LA_EMULATED_VECTOR

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {
    }
    operator uint3() const {
        return {x, y, z};
    }
};

#endif
