/* Sorting of doubles by their bits. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/statistics.h"

/* Numbers of all signs and sizes, some of them equal. */
static double draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    double number = ldexp((double)(int64_t)(*state >> 40) - 0x1p23, (int)(*state >> 58) - 40);
    switch (*state >> 33 & 15) {
    case 0:
        return 0.5;
    case 1:
        return -0.0;
    case 2:
        return 0;
    case 3:
        return HUGE_VAL;
    case 4:
        return -HUGE_VAL;
    case 5:
        return 5e-324;
    default:
        return number;
    }
}

static void test_order(void **state) {
    static const uint32_t sizes[] = {0, 1, 2, 7, 4095, 4096, 20000};
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint32_t n = sizes[s];
        double *values = malloc((2 * (size_t)n + 1) * sizeof *values);
        double *sorted = malloc(((size_t)n + 1) * sizeof *sorted);
        double *expected = malloc(((size_t)n + 1) * sizeof *expected);
        uint32_t *order = malloc(((size_t)n + 1) * sizeof *order);
        uint64_t seed = s;
        la_error err = {0};
        for (uint32_t i = 0; i < n; i++) {
            values[2 * i] = sorted[i] = expected[i] = draw(&seed);
            values[2 * i + 1] = NAN; /* between them, not looked at */
        }
        qsort(expected, n, sizeof *expected, la_double_order);
        la_doubles_sort(sorted, n);
        assert_int_equal(la_doubles_rank(values, 2 * sizeof *values, n, order, &err), LA_OK);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(sorted[i] == expected[i]);
            assert_true(values[2 * order[i]] == expected[i]);
            if (i && expected[i] == expected[i - 1])
                assert_true(order[i] > order[i - 1]);
        }
        free(values);
        free(sorted);
        free(expected);
        free(order);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
