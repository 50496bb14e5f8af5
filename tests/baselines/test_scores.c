/* Scores of a row against 50-digit arithmetic, AUROC against scikit-learn and the report's own
 * (tests/reference/baselines_reference.py). */
#include "base/random.h"
#include "baselines/arrays.h"
#include "baselines/scores.h"
#include "output/softmax_metrics.h"
#include "support/support.h"

static void rows(void **state) {
    (void)state;
    json_t *root = load_json(fixture("baselines/scores.json"));
    const json_t *list = json_object_get(root, "rows"), *one;
    double worst[3] = {0};
    size_t i;
    assert_int_equal(json_array_size(list), 17);
    json_array_foreach(list, i, one) {
        int64_t n;
        float *f = floats(one, "logits", &n);
        double found[] = {la_score_max_softmax(n, f), la_score_entropy(n, f),
                          la_score_energy(n, f)};
        double wanted[] = {number_at(one, "max_softmax"), number_at(one, "entropy"),
                           number_at(one, "energy")};
        for (int k = 0; k < 3; k++)
            worst[k] = fmax(worst[k], largest_gap(1, found + k, wanted + k, 1e-300));
        free(f);
    }
    json_decref(root);
    check_within("1 - max p, relative", worst[0], 8.5e-16);
    check_within("entropy, relative", worst[1], 6.6e-16);
    check_within("energy, relative", worst[2], 2.3e-16);
}

/* Rows so sure that 1 - p is lost in f64 keep their order; one class is certain. */
static void confident_rows(void **state) {
    (void)state;
    double before[3] = {INFINITY, INFINITY, INFINITY};
    for (int step = 0; step < 8; step++) {
        float f[2] = {20 + 10 * (float)step, 0};
        double now[] = {la_score_max_softmax(2, f), la_score_entropy(2, f), la_score_energy(2, f)};
        for (int k = 0; k < 3; k++) {
            assert_true(now[k] < before[k] && isfinite(now[k]));
            before[k] = now[k];
        }
    }
    float alone = 3;
    assert_true(la_score_max_softmax(1, &alone) == 0 && la_score_entropy(1, &alone) == 0);
    assert_true(la_score_energy(1, &alone) == -3);
}

static bool *flags(const json_t *root, const char *key, int64_t *n) {
    double *values = doubles(root, key, n);
    bool *out = calloc((size_t)*n + 1, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < *n; i++)
        out[i] = values[i] != 0;
    free(values);
    return out;
}

static void auroc_reference(void **state) {
    (void)state;
    json_t *root = load_json(fixture("baselines/scores.json"));
    const json_t *list = json_object_get(root, "rankings"), *one;
    double worst = 0;
    size_t i;
    int undefined = 0;
    assert_int_equal(json_array_size(list), 7);
    json_array_foreach(list, i, one) {
        int64_t n;
        la_error err = {0};
        double *score = doubles(one, "score", NULL);
        bool *positive = flags(one, "positive", &n);
        double found = la_auroc(n, score, positive, &err);
        assert_int_equal(err.status, LA_OK);
        if (json_is_null(json_object_get(one, "auroc"))) {
            assert_true(isnan(found));
            undefined++;
        } else {
            double wanted = number_at(one, "auroc");
            worst = fmax(worst, largest_gap(1, &found, &wanted, 1e-300));
        }
        free(score), free(positive);
    }
    json_decref(root);
    assert_int_equal(undefined, 3);
    check_within("AUROC, relative", worst, 1.6e-15);
}

/* AUROC of errors by 1 - max p is the report's "auroc"; confidences on a grid, so that there are
 * ties */
static void auroc_of_the_report(void **state) {
    (void)state;
    enum { N = 500 };
    double probs[2 * N], score[N];
    int64_t labels[N];
    bool wrong[N];
    la_metrics metrics;
    la_error err = {0};
    for (int64_t i = 0; i < N; i++) {
        double p = 0.5 + (double)la_random_below(5, 1, (uint64_t)i, 17) / 32;
        probs[2 * i] = p;
        probs[2 * i + 1] = 1 - p;
        wrong[i] = (double)la_random_below(5, 2, (uint64_t)i, 1000) / 1000 > p;
        labels[i] = wrong[i];
        score[i] = 1 - p;
    }
    la_metric_rows rows = {N, 2, probs, {.classes = labels}};
    assert_int_equal(la_metrics_compute(&la_softmax_metrics, &rows, &metrics, &err), LA_OK);
    assert_true(la_auroc(N, score, wrong, &err) == metrics.value[LA_METRIC_AUROC]);
}

static void auroc_edges(void **state) {
    (void)state;
    la_error err = {0};
    const double score[] = {1, INFINITY, -INFINITY, NAN};
    const bool positive[] = {false, true, false, true};
    assert_true(isnan(la_auroc(0, score, positive, &err)));
    assert_true(la_auroc(3, score, positive, &err) == 1);
    assert_int_equal(err.status, LA_OK);
    assert_true(isnan(la_auroc(4, score, positive, &err)));
    assert_int_equal(err.status, LA_BAD_INPUT);
    assert_string_equal(err.message, "auroc: score 3 is NaN");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows),
        cmocka_unit_test(confident_rows),
        cmocka_unit_test(auroc_reference),
        cmocka_unit_test(auroc_of_the_report),
        cmocka_unit_test(auroc_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
