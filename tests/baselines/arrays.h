/* Arrays of a fixture. Free what is returned. */
#ifndef LA_TESTS_BASELINES_ARRAYS_H
#define LA_TESTS_BASELINES_ARRAYS_H

#include "support/support.h"

#include <math.h>
#include <stdlib.h>

/* Numbers of a list of rows, or of a list, one after the other. */
static inline size_t flatten(const json_t *from, double *to, size_t used) {
    size_t i;
    const json_t *value;
    json_array_foreach(from, i, value) {
        if (json_is_array(value)) {
            used = flatten(value, to, used);
            continue;
        }
        assert_true(json_is_number(value) || json_is_boolean(value));
        if (to)
            to[used] = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
        used++;
    }
    return used;
}

static inline double *doubles(const json_t *root, const char *key, int64_t *count) {
    const json_t *list = json_object_get(root, key);
    assert_true(json_is_array(list));
    size_t n = flatten(list, NULL, 0);
    double *out = calloc(n + 1, sizeof *out);
    assert_non_null(out);
    flatten(list, out, 0);
    if (count)
        *count = (int64_t)n;
    return out;
}

/* Fixtures hold only numbers that f32 has. */
static inline float *floats(const json_t *root, const char *key, int64_t *count) {
    int64_t n;
    double *values = doubles(root, key, &n);
    float *out = calloc((size_t)n + 1, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)values[i];
        assert_true((double)out[i] == values[i]);
    }
    free(values);
    if (count)
        *count = n;
    return out;
}

static inline int64_t *integers(const json_t *root, const char *key, int64_t *count) {
    int64_t n;
    double *values = doubles(root, key, &n);
    int64_t *out = calloc((size_t)n + 1, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++)
        out[i] = (int64_t)values[i];
    free(values);
    if (count)
        *count = n;
    return out;
}

static inline int64_t integer_at(const json_t *root, const char *key) {
    const json_t *value = json_object_get(root, key);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

/* The largest |a - b| / max(|b|, floor); infinite when there is a NaN. */
static inline double largest_gap(int64_t n, const double *a, const double *b, double floor) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double gap = relative(a[i], b[i], floor);
        worst = isnan(gap) ? INFINITY : fmax(worst, gap);
    }
    return worst;
}

#endif
