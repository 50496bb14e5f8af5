/* Libraries that compute products of matrices, one row of a table each, and which of them computes
 * which products of the process. Products of f64 and LAPACK are OpenBLAS's alone. */
#ifndef LA_BASE_PRODUCTS_H
#define LA_BASE_PRODUCTS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* c[m, n] = alpha op(a) op(b) + beta c, row-major; k: what is summed over. a and b are f32, or both
 * bf16; c is f32, and so are the sums. */
typedef struct la_gemm {
    bool trans_a, trans_b;
    int64_t m, n, k;
    float alpha;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    float beta;
    float *c;
    int64_t ldc;
} la_gemm;

/* Kinds of shapes, of which one library is the faster on one processor and not on another. */
typedef enum la_shape {
    LA_SHAPE_SMALL, /* tiles of attention */
    LA_SHAPE_THIN,  /* one side is that of an adapter */
    LA_SHAPE_LARGE, /* weights */
    LA_SHAPES
} la_shape;

extern const char *const la_shape_names[LA_SHAPES];
/* From the sizes alone. */
la_shape la_shape_of(int64_t m, int64_t n, int64_t k);

/* A library. A product is computed on the calling thread alone, to bytes that depend on its numbers
 * alone. False: it was not computed, for want of memory. */
typedef struct la_provider {
    const char *name; /* "openblas" */
    /* Loads the library, once; false, with the reason, where it, or what it has for bf16, is not to
     * be had. */
    bool (*load)(bool bf16_too, la_error *why);
    /* "oneDNN 2.6.3"; of a library that is loaded */
    const char *(*version)(void);
    bool (*f32)(const la_gemm *gemm);
    bool (*bf16)(const la_gemm *gemm); /* NULL: it has none */
} la_provider;

enum { LA_PROVIDERS = 2 };
/* OpenBLAS first, which is always there. */
extern const la_provider *const la_providers[LA_PROVIDERS];
extern const la_provider la_provider_openblas, la_provider_onednn;
/* NULL: there is none of that name. */
const la_provider *la_provider_find(const char *name);

/* The library of each kind of f32 products, OpenBLAS until this says otherwise. They are loaded;
 * no thread is in a product. */
typedef struct la_products {
    const la_provider *f32[LA_SHAPES];
    /* OpenBLAS is nobody's choice: a backend may use kernels of its own in its place. So it is
     * until this says otherwise. */
    bool own;
} la_products;
void la_products_use(const la_products *products);
la_products la_products_in_use(void);
/* Whether a backend's own kernels may compute products of that shape. */
bool la_products_free(la_shape shape);

/* By the library in use, and OpenBLAS where that has no memory. */
void la_product_f32(const la_gemm *gemm);
/* By the first library that has bf16 and is loaded, else (and where that has no memory) one number
 * after the other. */
void la_product_bf16(const la_gemm *gemm);
/* Loads a library that has products of bf16; NULL and why where there is none. */
const la_provider *la_products_bf16(la_error *why);

#endif
