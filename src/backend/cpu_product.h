/* f32 products by the backend's own kernels, where it is compiled for instructions that multiply
 * and add vectors of eight or sixteen numbers. A number of the result is one sum in the order of k
 * (in pieces whose size k alone decides), whatever the other rows and columns, the place in the
 * batch and the threads. */
#ifndef LA_BACKEND_CPU_PRODUCT_H
#define LA_BACKEND_CPU_PRODUCT_H

#include "backend/cpu.h"
#include "base/products.h"

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#define LA_CPU_OWN_PRODUCTS true
#else
#define LA_CPU_OWN_PRODUCTS false
#endif

/* What joins a product while its rows are in the cache. */
typedef struct la_cpu_joined {
    float alpha, beta;      /* y = beta y + alpha times the product + bias + residual */
    const float *bias;      /* [columns of y]; NULL: none */
    const la_mat *residual; /* NULL: none; may be y */
    la_activation kind;
    la_mat *after; /* act(y); NULL: not asked for */
} la_cpu_joined;

/* Whether products of that shape are computed here: there are kernels, and no library was asked
 * for or measured to be the faster one. */
bool la_cpu_product_own(la_shape shape);
/* The product x w^T (trans_w) or x w, with what joins it; w of any type. Where la_cpu_product_own
 * says so. */
void la_cpu_product(la_backend *be, const la_mat *x, const la_mat *w, bool trans_w,
                    const la_cpu_joined *joined, la_mat *y);
/* Bytes of its workspace, at most. */
size_t la_cpu_product_bytes(void);
/* la_sgemm of a small product, here or by the library of such shapes. */
void la_cpu_product_small(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                          float *c, int64_t ldc);

#endif
