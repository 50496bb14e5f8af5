/* Prediction files side by side: how far apart, or the same bytes. */
#ifndef LA_TESTS_CUDA_PREDICTIONS_H
#define LA_TESTS_CUDA_PREDICTIONS_H

#include "support/support.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Largest deviations between two prediction files, and what is allowed: at most four times what is
 * observed. */
typedef struct gap {
    double probs;  /* absolute; and of their variance, and of adue */
    double logits; /* relative, or absolute below 1 */
    double cov;    /* relative Frobenius distance of a row */
} gap;

static inline void raise_to(double *worst, double value) {
    /* a NaN raises it too, and stays */
    if (!isnan(*worst) && !(value <= *worst))
        *worst = value;
}

static inline double list_gap(const json_t *a, const json_t *b, bool is_relative) {
    double worst = 0;
    assert_true(json_array_size(a) > 1);
    assert_int_equal(json_array_size(a), json_array_size(b));
    for (size_t i = 0; i < json_array_size(a); i++) {
        double x = json_number_value(json_array_get(a, i));
        double y = json_number_value(json_array_get(b, i));
        raise_to(&worst, is_relative ? relative(x, y, 1) : fabs(x - y));
    }
    return worst;
}

static inline double matrix_gap(const json_t *a, const json_t *b) {
    double distance = 0, norm = 0;
    size_t n = json_array_size(a);
    assert_true(n > 1 && n == json_array_size(b));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double x = json_number_value(json_array_get(json_array_get(a, i), j));
            double y = json_number_value(json_array_get(json_array_get(b, i), j));
            distance += (x - y) * (x - y);
            norm += y * y;
        }
    /* map has no covariance: zeros, and not a bit else */
    return norm > 0 ? sqrt(distance / norm) : distance;
}

static inline json_t *next_row(const char **text) {
    const char *end = strchr(*text, '\n');
    if (!end)
        return NULL;
    json_t *row = json_loadb(*text, (size_t)(end - *text), 0, NULL);
    if (!row)
        fail_msg("no JSON: %.300s", *text);
    *text = end + 1;
    return row;
}

/* The same rows in the same order, errors included. Raises *worst to how far they are apart. */
static inline void compare_rows(const char *a, const char *b, gap *worst) {
    int64_t n = 0;
    for (;; n++) {
        json_t *x = next_row(&a), *y = next_row(&b);
        assert_true(!x == !y);
        if (!x)
            break;
        assert_int_equal(json_integer_value(json_object_get(x, "index")), n);
        assert_int_equal(json_integer_value(json_object_get(y, "index")), n);
        const json_t *failed = json_object_get(x, "error"), *other = json_object_get(y, "error");
        assert_true(failed == other || json_equal(failed, other));
        if (!failed) {
            assert_string_equal(json_string_value(json_object_get(x, "confidence_kind")),
                                json_string_value(json_object_get(y, "confidence_kind")));
            raise_to(&worst->probs,
                     list_gap(json_object_get(x, "probs"), json_object_get(y, "probs"), false));
            const json_t *variance = json_object_get(x, "variance");
            assert_true(variance && json_object_get(y, "variance"));
            if (json_is_null(variance))
                assert_true(json_is_null(json_object_get(y, "variance")));
            else
                raise_to(&worst->probs, list_gap(variance, json_object_get(y, "variance"), false));
            const json_t *adue = json_object_get(x, "adue"), *mine = json_object_get(y, "adue");
            assert_true(!adue == !mine);
            if (adue)
                raise_to(&worst->probs, fabs(json_number_value(adue) - json_number_value(mine)));
            raise_to(&worst->logits,
                     list_gap(json_object_get(x, "logits"), json_object_get(y, "logits"), true));
            raise_to(&worst->cov,
                     matrix_gap(json_object_get(x, "logit_cov"), json_object_get(y, "logit_cov")));
        }
        json_decref(x);
        json_decref(y);
    }
    assert_true(n > 0);
}

static inline void check_gap(const char *what, const gap *worst, const gap *limit) {
    print_message("    %s\n", what);
    check_within("probabilities", worst->probs, limit->probs);
    check_within("logits", worst->logits, limit->logits);
    check_within("logit covariance, relative Frobenius", worst->cov, limit->cov);
}

/* Compares bytes; the first that differ are printed. */
static inline void check_same(const char *what, char *got, const char *want) {
    size_t i = 0;
    while (got[i] && got[i] == want[i])
        i++;
    if (got[i] != want[i])
        fail_msg("%s: byte %zu: \"%.60s\", expected \"%.60s\"", what, i, got + i, want + i);
    assert_true(i > 0);
    free(got);
}

#endif
