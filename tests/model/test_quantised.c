/* Packing and unpacking against what bitsandbytes stored (tests/reference/make_quantised.py):
 * codes, scales and values to the bit. Scales of double quantisation lie around a mean that
 * bitsandbytes sums in f32, in an order of its own: they may be off by the last bit, their codes
 * may not. */
#include "base/random.h"
#include "model/quantised.h"
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static la_checkpoint *stored;

static int open_stored(void **state) {
    (void)state;
    la_error err = {0};
    return la_checkpoint_open_file(fixture("quantised/packed.safetensors"), &stored, &err);
}

static int close_stored(void **state) {
    (void)state;
    la_checkpoint_close(stored);
    return 0;
}

static const la_tensor *stored_part(const char *stem, const char *kind, const char *part) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s.%s", stem, kind, part);
    return la_checkpoint_find(stored, name);
}

/* Largest difference of two arrays of f32, in units of the last place of the largest. */
static double ulps(const float *got, const void *want, int64_t n) {
    double gap = 0, scale = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        float w;
        memcpy(&w, (const char *)want + (size_t)i * sizeof w, sizeof w);
        gap = fmax(gap, fabs((double)got[i] - (double)w));
        scale = fmax(scale, fabs((double)w));
    }
    return gap / (scale * 0x1p-24);
}

static void check_weight(const la_tensor *weight, la_base_quant quant, double *worst_double) {
    la_pool pool = {0};
    la_packed *packed;
    la_error err = {0};
    char stem[64];
    const char *kind = la_base_quant_names[quant];
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(weight->name) - strlen(".weight")),
             weight->name);
    assert_int_equal(la_packed_make(la_team_of(2), weight, quant, &pool, &packed, &err), LA_OK);
    const la_tensor *codes = stored_part(stem, kind, "codes");
    const la_tensor *scales = stored_part(stem, kind, "scales");
    const la_tensor *values = stored_part(stem, kind, "values");
    assert_int_equal(packed->bytes, codes->bytes);
    assert_int_equal(packed->n_scales, scales->count);
    if (memcmp(packed->quant.codes, codes->data, codes->bytes))
        fail_msg("%s as %s: other codes", stem, kind);
    double gap = ulps(packed->quant.scale, scales->data, scales->count);
    bool twice = strstr(kind, "double") != NULL;
    if (!twice && gap > 0)
        fail_msg("%s as %s: other scales", stem, kind);
    if (twice)
        *worst_double = fmax(*worst_double, gap);
    if (values && gap == 0) {
        la_mat mat = la_packed_mat(packed);
        float *out = malloc((size_t)weight->count * sizeof *out);
        la_quant_decode(&mat, 0, weight->count, out);
        if (memcmp(out, values->data, values->bytes))
            fail_msg("%s as %s: other values", stem, kind);
        /* any part of it is the same */
        for (int64_t first = 1; first < weight->count; first += 17) {
            int64_t n = weight->count - first < 71 ? weight->count - first : 71;
            float part[71];
            la_quant_decode(&mat, first, n, part);
            assert_memory_equal(part, out + first, (size_t)n * sizeof *part);
        }
        free(out);
    }
    la_pool_free(&pool);
}

static void check_kind(la_base_quant quant) {
    double worst = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < la_checkpoint_count(stored); i++) {
        const la_tensor *tensor = la_checkpoint_at(stored, i);
        const char *end = tensor->name + strlen(tensor->name) - strlen(".weight");
        if (end < tensor->name || strcmp(end, ".weight"))
            continue;
        check_weight(tensor, quant, &worst);
        n++;
    }
    assert_int_equal(n, 13); /* four shapes in three types, and a big one */
    check_within("scales, in the last place", worst, 2);
}

#define KIND(name, quant)                                                                          \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        check_kind(quant);                                                                         \
    }
KIND(nf4, LA_BASE_NF4)
KIND(nf4_double, LA_BASE_NF4_DOUBLE)
KIND(fp4, LA_BASE_FP4)
KIND(fp4_double, LA_BASE_FP4_DOUBLE)
KIND(int8, LA_BASE_INT8)

/* bitsandbytes computes them by a vectorised linspace, whose last bit depends on the machine. */
static void dynamic_levels(void **state) {
    (void)state;
    const la_tensor *want = la_checkpoint_find(stored, "dynamic");
    float levels[256];
    double worst = 0;
    la_dynamic_levels(levels);
    assert_non_null(want);
    for (int i = 0; i < 256; i++)
        worst =
            fmax(worst, ulps(levels + i, (const char *)want->data + sizeof(float) * (size_t)i, 1));
    check_within("levels, in the last place", worst, 4);
    for (int i = 1; i < 256; i++)
        assert_true(levels[i] > levels[i - 1]);
    assert_true(levels[127] == 0 && levels[255] == 1);
}

/* Against the definition: the nearest number of the type is no farther than any neighbour. */
static void rounding(void **state) {
    (void)state;
    static const struct {
        la_dtype type;
        float in, out;
    } cases[] = {
        {LA_F16, 1.0f + 0x1p-11f, 1.0f},
        {LA_F16, 1.0f + 0x1.8p-10f, 1.0f + 0x1p-9f},
        {LA_F16, 0x1.002p-14f, 0x1.0p-14f},
        {LA_F16, 0x1.8p-25f, 0x1p-24f},
        {LA_F16, 0x1p-25f, 0.0f},
        {LA_F16, -0x1.4p-23f, -0x1p-23f},
        {LA_F16, 0x1.ff8p-15f, 0x1.ff8p-15f},
        {LA_F16, 65519.0f, 65504.0f},
        {LA_F16, 65520.0f, INFINITY},
        {LA_F16, -70000.0f, -INFINITY},
        {LA_BF16, 1.0f + 0x1p-8f, 1.0f},
        {LA_BF16, 1.0f + 0x1.8p-7f, 1.0f + 0x1p-6f},
        {LA_BF16, -0x1.010002p5f, -0x1.02p5f},
        {LA_F32, 0x1.234568p-3f, 0x1.234568p-3f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float got = la_quant_round(cases[i].type, cases[i].in);
        if (got != cases[i].out)
            fail_msg("case %zu: %a rounds to %a, expected %a", i, (double)cases[i].in, (double)got,
                     (double)cases[i].out);
    }
}

/* A whole base of transformers, packed here from the plain one it was made of. */
static void check_base(const char *name, const char *plain_name, la_base_quant quant) {
    la_checkpoint *packed, *plain;
    la_error err = {0};
    char path[128];
    double worst = 0;
    int64_t n = 0;
    snprintf(path, sizeof path, "parity/%s/base", name);
    assert_int_equal(la_checkpoint_open(fixture(path), "model", &packed, &err), LA_OK);
    snprintf(path, sizeof path, "parity/%s/plain", plain_name);
    assert_int_equal(la_checkpoint_open(fixture(path), "model", &plain, &err), LA_OK);
    for (int64_t i = 0; i < la_checkpoint_count(plain); i++) {
        const la_tensor *from = la_checkpoint_at(plain, i);
        const la_tensor *to = la_checkpoint_find(packed, from->name);
        la_pool pool = {0};
        la_packed *made, *read;
        assert_non_null(to);
        if (!la_packed_is(packed, to))
            continue;
        n++;
        assert_int_equal(la_packed_make(la_team_of(2), from, quant, &pool, &made, &err), LA_OK);
        if (la_packed_read(packed, to, &pool, &read, &err) != LA_OK)
            fail_msg("%s", err.message);
        assert_int_equal(made->rows, read->rows);
        assert_int_equal(made->cols, read->cols);
        assert_int_equal(made->quant.as, read->quant.as);
        assert_int_equal(made->quant.block, read->quant.block);
        assert_memory_equal(made->quant.codes, read->quant.codes, (size_t)read->bytes);
        worst = fmax(worst, ulps(made->quant.scale, read->quant.scale, read->n_scales));
        la_pool_free(&pool);
    }
    la_checkpoint_close(packed);
    la_checkpoint_close(plain);
    assert_int_equal(n, 14);
    check_within("scales, in the last place", worst, quant == LA_BASE_NF4_DOUBLE ? 2 : 0);
}

static void whole_bases(void **state) {
    (void)state;
    check_base("llama-nf4", "llama-nf4", LA_BASE_NF4_DOUBLE);
    check_base("llama-int8", "llama-nf4", LA_BASE_INT8);
    check_base("bert-fp4", "bert-fp4", LA_BASE_FP4);
}

/* Products with a packed weight of several panels against those with the numbers it stands for. */
static void check_products(la_base_quant quant, int64_t out, int64_t in) {
    enum { T = 3 };
    la_backend be;
    la_error err = {0};
    la_pool pool = {0};
    la_packed *packed;
    assert_int_equal(la_backend_open_cpu(la_team_of(2), &be, &err), LA_OK);
    int64_t n = out * in;
    double *values = calloc((size_t)n, sizeof *values);
    float *w = calloc((size_t)n, sizeof *w), *x = calloc((size_t)(T * in), sizeof *x);
    float *g = calloc((size_t)(T * out), sizeof *g);
    float *y = calloc((size_t)(2 * T * out), sizeof *y),
          *dx = calloc((size_t)(2 * T * in), sizeof *dx);
    la_random_normal(5, (uint64_t)in, 0, (size_t)n, values);
    for (int64_t i = 0; i < n; i++)
        w[i] = (float)values[i];
    for (int64_t i = 0; i < T * in; i++)
        x[i] = (float)values[n - 1 - i % n];
    for (int64_t i = 0; i < T * out; i++)
        g[i] = (float)values[i % n];
    la_tensor tensor = {.name = "w",
                        .file = "memory",
                        .dtype = LA_F32,
                        .n_dims = 2,
                        .shape = {out, in},
                        .count = n,
                        .data = w};
    assert_int_equal(la_packed_make(la_team_of(2), &tensor, quant, &pool, &packed, &err), LA_OK);
    la_mat mats[2] = {la_packed_mat(packed), la_mat_f32(w, out, in)};
    la_quant_decode(&mats[0], 0, n, w);
    la_mat mx = la_mat_f32(x, T, in), mg = la_mat_f32(g, T, out);
    for (int i = 0; i < 2; i++) {
        la_mat my = la_mat_f32(y + i * T * out, T, out), mdx = la_mat_f32(dx + i * T * in, T, in);
        be.ops->linear(&be, &mx, &mats[i], NULL, NULL, &my);
        be.ops->linear_backward(&be, &mg, &mats[i], 0, &mdx);
    }
    double gap = 0, scale = 0;
    for (int64_t i = 0; i < T * out; i++) {
        gap = fmax(gap, fabs((double)y[i] - (double)y[T * out + i]));
        scale = fmax(scale, fabs((double)y[i]));
    }
    check_within("y", gap / scale, 2e-6);
    gap = scale = 0;
    for (int64_t i = 0; i < T * in; i++) {
        gap = fmax(gap, fabs((double)dx[i] - (double)dx[T * in + i]));
        scale = fmax(scale, fabs((double)dx[i]));
    }
    check_within("dx", gap / scale, 2e-6);
    assert_int_equal(be.ops->sync(&be, &err), LA_OK);
    be.ops->close(&be);
    la_pool_free(&pool);
    free(values), free(w), free(x), free(g), free(y), free(dx);
}

static void products(void **state) {
    (void)state;
    check_products(LA_BASE_NF4, 75, 8193);
    check_products(LA_BASE_FP4_DOUBLE, 70, 8194);
    check_products(LA_BASE_INT8, 67, 9001);
    check_products(LA_BASE_NF4_DOUBLE, 1, 33);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),       cmocka_unit_test(nf4),
        cmocka_unit_test(nf4_double),     cmocka_unit_test(fp4),
        cmocka_unit_test(fp4_double),     cmocka_unit_test(int8),
        cmocka_unit_test(dynamic_levels), cmocka_unit_test(rounding),
        cmocka_unit_test(whole_bases),
    };
    return cmocka_run_group_tests_name("quantised", tests, open_stored, close_stored);
}
