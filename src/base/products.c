#include "base/products.h"
#include "base/bf16.h"

#include <stdatomic.h>
#include <string.h>

const char *const la_shape_names[LA_SHAPES] = {"small", "thin", "large"};

const la_provider *const la_providers[LA_PROVIDERS] = {&la_provider_openblas, &la_provider_onednn};

const la_provider *la_provider_find(const char *name) {
    for (int i = 0; i < LA_PROVIDERS; i++)
        if (!strcmp(la_providers[i]->name, name))
            return la_providers[i];
    return NULL;
}

/* Below the first a library that does not pack its operands is ahead; sides below the second leave
 * a kernel's registers unused. */
static const double SMALL = 1e6;
enum { THIN = 48 };

la_shape la_shape_of(int64_t m, int64_t n, int64_t k) {
    if ((double)m * (double)n * (double)k <= SMALL)
        return LA_SHAPE_SMALL;
    return m < THIN || n < THIN || k < THIN ? LA_SHAPE_THIN : LA_SHAPE_LARGE;
}

/* ---- in use ---- */

static _Atomic(const la_provider *) f32[LA_SHAPES] = {&la_provider_openblas, &la_provider_openblas,
                                                      &la_provider_openblas};
static _Atomic(const la_provider *) bf16;
static atomic_bool own_allowed = true;

void la_products_use(const la_products *products) {
    for (int i = 0; i < LA_SHAPES; i++)
        atomic_store(&f32[i], products->f32[i]);
    atomic_store(&own_allowed, products->own);
}

la_products la_products_in_use(void) {
    la_products products;
    for (int i = 0; i < LA_SHAPES; i++)
        products.f32[i] = atomic_load(&f32[i]);
    products.own = atomic_load(&own_allowed);
    return products;
}

bool la_products_free(la_shape shape) {
    return atomic_load_explicit(&own_allowed, memory_order_relaxed) &&
           atomic_load_explicit(&f32[shape], memory_order_relaxed) == &la_provider_openblas;
}

const la_provider *la_products_bf16(la_error *why) {
    const la_provider *found = atomic_load(&bf16);
    for (int i = 0; i < LA_PROVIDERS && !found; i++)
        if (la_providers[i]->bf16 && la_providers[i]->load(true, why))
            found = la_providers[i];
    atomic_store(&bf16, found);
    return found;
}

void la_product_f32(const la_gemm *g) {
    const la_provider *own =
        atomic_load_explicit(&f32[la_shape_of(g->m, g->n, g->k)], memory_order_acquire);
    if (!g->m || !g->n || (own != &la_provider_openblas && g->k && own->f32(g)))
        return;
    (void)la_provider_openblas.f32(g);
}

static void one_by_one(const la_gemm *g) {
    const uint16_t *a = g->a, *b = g->b;
    int64_t down_a = g->trans_a ? 1 : g->lda, along_a = g->trans_a ? g->lda : 1;
    int64_t down_b = g->trans_b ? 1 : g->ldb, across_b = g->trans_b ? g->ldb : 1;
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            float sum = 0, *c = &g->c[i * g->ldc + j];
            for (int64_t k = 0; k < g->k; k++)
                sum += la_bf16_wide(a[i * down_a + k * along_a]) *
                       la_bf16_wide(b[k * down_b + j * across_b]);
            *c = g->alpha * sum + (g->beta != 0 ? g->beta * *c : 0);
        }
}

void la_product_bf16(const la_gemm *g) {
    const la_provider *own = atomic_load_explicit(&bf16, memory_order_acquire);
    if (!g->m || !g->n || (own && g->k && own->bf16(g)))
        return;
    one_by_one(g);
}
