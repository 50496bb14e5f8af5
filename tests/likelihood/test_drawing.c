/* Draws of classes: what they are held against is one draw after the other, by libm; and every set
 * of instructions gives the same bytes. */
#include "base/random.h"
#include "likelihood/drawing.h"
#include "likelihood/predictive.h"
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const la_drawing *levels[LA_KERNELS_AVX512 + 1];

/* Lists the tables that this processor runs, each once. */
static int n_levels(void) {
    int n = 0;
    for (int most = LA_KERNELS_UNKNOWN; most <= (int)la_kernels_instructions(); most++) {
        const la_drawing *table = la_drawing_for((la_kernel_level)most);
        if (!n || table != levels[n - 1])
            levels[n++] = table;
    }
    return n;
}

enum { SEED = 77, MOST = 17, NORMALS = 1 << 16 };

static void normals_are_those_of_the_stream(void **state) {
    double *expected = malloc(2 * NORMALS * sizeof *expected), *found = expected + NORMALS;
    double worst = 0;
    (void)state;
    /* a counter of more than 32 bits, too */
    static const uint64_t firsts[] = {0, 12345, ((uint64_t)1 << 32) - 3};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
        la_random_normal(SEED, 0x123456789abcdefu, 4 * firsts[i], NORMALS, expected);
        for (int l = 0; l < n_levels(); l++) {
            levels[l]->normals(SEED, 0x123456789abcdefu, firsts[i], NORMALS, found);
            for (int k = 0; k < NORMALS; k++)
                worst = fmax(worst, relative(found[k], expected[k], 1));
        }
    }
    check_within("normals", worst, 8e-15);
    free(expected);
}

/* As draws.c had it before it was written for vectors. */
static void one_by_one(int64_t c, const double *centre, const double *spread,
                       const double *map_probs, int64_t samples, uint64_t stream, double *means) {
    int64_t m = c - 1;
    double z[MOST], f[MOST], p[MOST];
    memset(means, 0, (size_t)(2 * c + 1) * sizeof *means);
    for (int64_t s = 0; s < samples; s++) {
        la_random_normal(SEED, stream, (uint64_t)(s / 2 * m), (size_t)m, z);
        for (int64_t i = 0; i < c; i++) {
            f[i] = centre[i];
            for (int64_t k = 0; k < m; k++)
                f[i] += spread[i * m + k] * (s % 2 ? -z[k] : z[k]);
        }
        la_class_probs(c, f, p);
        for (int64_t i = 0; i < c; i++) {
            means[i] += p[i] / (double)samples;
            means[c + 1 + i] += (p[i] - map_probs[i]) * (p[i] - map_probs[i]) / (double)samples;
        }
        means[c] += la_entropy(c, p) / (double)samples;
    }
}

static void means_are_those_of_one_by_one(void **state) {
    static const int64_t classes[] = {2, 3, 6, MOST}, samples[] = {1, 2, 7, 63, 64, 65, 129, 1000};
    static const double sizes[] = {1e-6, 0.3, 3, 400}; /* of the spread: up to where exp is 0 */
    double worst = 0, *workspace = malloc((size_t)la_draw_workspace(MOST) * sizeof(double));
    int differ = 0;
    (void)state;
    for (size_t a = 0; a < 4; a++)
        for (size_t b = 0; b < 8; b++)
            for (size_t size = 0; size < 4; size++) {
                int64_t c = classes[a], m = c - 1;
                uint64_t stream = 100 * a + 10 * b + size;
                double centre[MOST], spread[MOST * MOST], probs[MOST], expected[2 * MOST + 1];
                double first[2 * MOST + 1], means[2 * MOST + 1];
                la_random_normal(3, stream, 0, (size_t)c, centre);
                la_random_normal(4, stream, 0, (size_t)(c * m), spread);
                for (int64_t i = 0; i < c; i++)
                    centre[i] *= 3;
                for (int64_t i = 0; i < c * m; i++)
                    spread[i] *= sizes[size];
                la_class_probs(c, centre, probs);
                one_by_one(c, centre, spread, probs, samples[b], stream, expected);
                for (int l = 0; l < n_levels(); l++) {
                    levels[l]->classes(c, centre, spread, probs, samples[b], SEED, stream,
                                       workspace, l ? means : first);
                    differ += l && memcmp(means, first, (size_t)(2 * c + 1) * sizeof *means) != 0;
                }
                for (int64_t i = 0; i <= 2 * c; i++)
                    worst = fmax(worst, fabs(first[i] - expected[i]));
            }
    printf("    %d sets of instructions\n", n_levels());
    assert_int_equal(differ, 0);
    check_within("means of draws", worst, 4e-14);
    free(workspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normals_are_those_of_the_stream),
        cmocka_unit_test(means_are_those_of_one_by_one),
    };
    return cmocka_run_group_tests_name("draws", tests, NULL, NULL);
}
