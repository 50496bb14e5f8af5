/* Distances to calibration rows against numpy (tests/reference/baselines_reference.py), on states
 * that determine no covariance, and the share of reference rows that lie nearer. */
#include "base/random.h"
#include "baselines/arrays.h"
#include "baselines/ood.h"
#include "support/support.h"

#include <string.h>

static la_ood fit(int threads, int64_t n, int64_t d, const float *states, int64_t n_classes,
                  const int64_t *labels) {
    la_ood ood;
    la_error err = {0};
    if (la_ood_fit(la_team_of(threads), n, NULL, d, states, n_classes, labels, &ood, &err) != LA_OK)
        fail_msg("%s", err.message);
    return ood;
}

static void measure(const la_ood *ood, int64_t n, const float *states, double *distances) {
    double *projected = calloc((size_t)(ood->n_groups * ood->rank) + 1, sizeof *projected);
    double *workspace = calloc((size_t)ood->rank + 1, sizeof *workspace);
    assert_true(projected && workspace);
    la_ood_project(ood, projected);
    for (int64_t i = 0; i < n; i++)
        distances[i] = la_ood_distance(ood, projected, states + i * ood->width, workspace);
    free(projected);
    free(workspace);
}

static void reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/ood.json")), *one;
    double worst = 0, worst_rest = 0;
    size_t i;
    assert_int_equal(json_array_size(cases), 5);
    json_array_foreach(cases, i, one) {
        int64_t n, n_test, d = integer_at(one, "width");
        float *states = floats(one, "states", NULL), *test = floats(one, "test", NULL);
        int64_t *labels = integers(one, "labels", &n);
        double *expected = doubles(one, "distance", &n_test), found[16];
        bool labelled = json_is_true(json_object_get(one, "labelled"));
        la_ood ood = fit(2, n, d, states, integer_at(one, "n_classes"), labelled ? labels : NULL);
        assert_int_equal(n_test, 10);
        assert_int_equal(ood.n_groups, integer_at(one, "groups"));
        assert_int_equal(ood.rank, integer_at(one, "rank"));
        measure(&ood, n_test, test, found);
        worst = fmax(worst, largest_gap(n_test, found, expected, 0));
        worst_rest = fmax(worst_rest, relative(ood.rest, number_at(one, "rest"), 0));
        la_ood_free(&ood);
        assert_null(ood.means);
        free(states), free(test), free(labels), free(expected);
    }
    json_decref(cases);
    /* means and eigenvectors are kept in single precision */
    check_within("distance, relative", worst, 2e-6);
    check_within("rest, relative", worst_rest, 1e-6);
}

static float *draw(uint64_t seed, int64_t n, int64_t d, double shift) {
    double *z = calloc((size_t)(n * d), sizeof *z);
    float *states = calloc((size_t)(n * d), sizeof *states);
    assert_true(z && states);
    la_random_normal(seed, 1, 0, (size_t)(n * d), z);
    for (int64_t i = 0; i < n * d; i++)
        states[i] = (float)(z[i] / (double)(1 + i % d) + shift);
    free(z);
    return states;
}

/* Results do not depend on the threads, also where a product takes several strips. */
static void threads_are_no_matter(void **state) {
    (void)state;
    enum { N = 1300, D = 40 };
    float *states = draw(3, N, D, 1);
    int64_t labels[N];
    for (int i = 0; i < N; i++)
        labels[i] = i % 3;
    la_ood a = fit(1, N, D, states, 3, labels), b = fit(3, N, D, states, 3, labels);
    assert_int_equal(a.rank, b.rank);
    assert_true(a.rank > 3 && a.rank < D);
    assert_true(a.rest == b.rest);
    assert_memory_equal(a.means, b.means, 3 * D * sizeof *a.means);
    assert_memory_equal(a.vectors, b.vectors, (size_t)(a.rank * D) * sizeof *a.vectors);
    la_ood_free(&a);
    la_ood_free(&b);
    free(states);
}

/* Rows that are all the same have no covariance: what is elsewhere is beyond them all. */
static void identical_rows(void **state) {
    (void)state;
    enum { N = 20, D = 7 };
    float states[N * D], other[D];
    double distances[N], far;
    la_error err = {0};
    for (int i = 0; i < N * D; i++)
        states[i] = 0.3f * (float)(i % D);
    memcpy(other, states, sizeof other);
    other[2] += 0.01f;
    for (int n = 1; n <= N; n += N - 1) {
        la_ood ood = fit(1, n, D, states, 0, NULL);
        measure(&ood, n, states, distances);
        assert_int_equal(la_ood_set_table(&ood, n, distances, true, &err), LA_OK);
        assert_int_equal(ood.rank, 0);
        measure(&ood, 1, other, &far);
        assert_true(la_ood_share(&ood, distances[0]) == 0);
        assert_true(la_ood_share(&ood, far) == 1);
        la_ood_free(&ood);
    }
}

static void shares(void **state) {
    (void)state;
    enum { FEW = 8, MANY = 20000 };
    static double distances[MANY];
    la_error err = {0};
    la_ood ood = {0};
    for (int i = 0; i < FEW; i++)
        distances[i] = (double)(i * 5 % FEW);
    assert_int_equal(la_ood_set_table(&ood, FEW, distances, true, &err), LA_OK);
    assert_true(ood.n_table == FEW && ood.n_reference == FEW && ood.held_out);
    assert_true(la_ood_share(&ood, 0) == 0); /* ties are not nearer */
    assert_true(la_ood_share(&ood, 3) == 3.0 / FEW);
    assert_true(la_ood_share(&ood, 3.5) == 4.0 / FEW);
    assert_true(la_ood_share(&ood, INFINITY) == 1);
    for (int i = 0; i < MANY; i++)
        distances[i] = sqrt((double)(i * 7ll % MANY));
    assert_int_equal(la_ood_set_table(&ood, MANY, distances, false, &err), LA_OK);
    assert_true(ood.n_table == LA_OOD_TABLE_MOST && ood.n_reference == MANY && !ood.held_out);
    double worst = 0;
    for (int i = 0; i < MANY; i++)
        worst = fmax(worst, fabs(la_ood_share(&ood, sqrt((double)i)) - (double)i / MANY));
    check_within("share by quantiles", worst, 0.5 / LA_OOD_TABLE_MOST + 1e-12);
    la_ood_free(&ood);
}

static void refused(void **state) {
    (void)state;
    float states[6] = {1, 2, 3, NAN, 5, 6};
    la_ood ood;
    la_error err = {0};
    assert_int_equal(la_ood_fit(la_team_of(1), 3, NULL, 2, states, 0, NULL, &ood, &err),
                     LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "row 1 is not finite"));
    err = (la_error){0};
    assert_int_equal(la_ood_fit(la_team_of(1), 0, NULL, 2, states, 0, NULL, &ood, &err),
                     LA_BAD_INPUT);
    int64_t finite[] = {2, 0};
    err = (la_error){0};
    assert_int_equal(la_ood_fit(la_team_of(1), 2, finite, 2, states, 0, NULL, &ood, &err), LA_OK);
    la_ood_free(&ood);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),      cmocka_unit_test(threads_are_no_matter),
        cmocka_unit_test(identical_rows), cmocka_unit_test(shares),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
