/* The AdUE head against torch: loss, gradient and whole trainings on the same draws
 * (tests/reference/baselines_reference.py); finite differences; rows that cannot be learned
 * from. */
#include "base/random.h"
#include "baselines/adue.h"
#include "baselines/arrays.h"
#include "support/support.h"

#include <omp.h>
#include <string.h>

typedef struct example {
    int64_t n_classes, width, size; /* size: C d + C */
    la_adue_options options;
    float *weight, *bias;
    la_adue_rows training, validation;
} example;

static example example_of(const json_t *one) {
    const json_t *o = json_object_get(one, "options");
    example e = {.n_classes = integer_at(one, "n_classes"), .width = integer_at(one, "width")};
    e.size = e.n_classes * (e.width + 1);
    e.options = (la_adue_options){.smooth = number_at(o, "smooth"),
                                  .alpha = number_at(o, "alpha"),
                                  .beta = number_at(o, "beta"),
                                  .rate = number_at(o, "rate"),
                                  .batch = integer_at(o, "batch"),
                                  .epochs = integer_at(o, "epochs"),
                                  .patience = integer_at(o, "patience"),
                                  .seed = (uint64_t)integer_at(o, "seed")};
    e.weight = floats(one, "weight", NULL);
    if (!json_is_null(json_object_get(one, "bias")))
        e.bias = floats(one, "bias", NULL);
    e.training.states = floats(one, "states", NULL);
    e.training.labels = integers(one, "labels", &e.training.n);
    e.validation.states = floats(one, "validation_states", NULL);
    e.validation.labels = integers(one, "validation_labels", &e.validation.n);
    return e;
}

static void example_free(example *e) {
    free(e->weight), free(e->bias);
    free((void *)(uintptr_t)e->training.states), free((void *)(uintptr_t)e->training.labels);
    free((void *)(uintptr_t)e->validation.states), free((void *)(uintptr_t)e->validation.labels);
}

static la_adue train(const example *e) {
    la_adue head;
    la_error err = {0};
    la_status status = la_adue_train(&e->options, e->n_classes, e->width, e->weight, e->bias,
                                     &e->training, &e->validation, &head, &err);
    if (status != LA_OK)
        fail_msg("%s", err.message);
    return head;
}

/* theta0, and which rows it gets wrong and its softmax response there, all by long-hand */
static double *start_of(const example *e, bool *wrong, double *base) {
    double *theta = calloc((size_t)e->size, sizeof *theta);
    assert_non_null(theta);
    int64_t weights = e->n_classes * e->width;
    for (int64_t k = 0; k < e->size; k++)
        theta[k] = k < weights ? (double)e->weight[k] : e->bias ? (double)e->bias[k - weights] : 0;
    for (int64_t i = 0; i < e->training.n; i++) {
        double top = -INFINITY, sum = 0, z[8];
        int64_t best = 0;
        for (int64_t c = 0; c < e->n_classes; c++) {
            z[c] = theta[weights + c];
            for (int64_t j = 0; j < e->width; j++)
                z[c] += theta[c * e->width + j] * (double)e->training.states[i * e->width + j];
            best = z[c] > top ? c : best;
            top = fmax(top, z[c]);
            sum += exp(z[c]);
        }
        wrong[i] = best != e->training.labels[i];
        base[i] = (1 - exp(top) / sum) / (1 - 1 / (double)e->n_classes);
    }
    return theta;
}

static void loss_reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/adue.json")), *one;
    double worst_loss = 0, worst_gradient = 0;
    size_t i;
    assert_int_equal(json_array_size(cases), 3);
    json_array_foreach(cases, i, one) {
        example e = example_of(one);
        bool wrong[256];
        double base[256], gradient[64], workspace[256 * 8];
        double *start = start_of(&e, wrong, base), *theta = doubles(one, "away", NULL);
        double *wanted = doubles(one, "gradient", NULL), loss = number_at(one, "loss");
        for (int64_t k = 0; k < e.size; k++)
            theta[k] += start[k];
        la_adue head = {.n_classes = e.n_classes,
                        .width = e.width,
                        .weight = theta,
                        .bias = theta + e.n_classes * e.width,
                        .smooth = e.options.smooth};
        la_adue_batch batch = {e.training.n, NULL, e.training.states, wrong, base};
        double found = la_adue_loss(&e.options, &head, start, &batch, workspace, gradient);
        worst_loss = fmax(worst_loss, relative(found, loss, 0));
        worst_gradient = fmax(worst_gradient, largest_gap(e.size, gradient, wanted, 1e-2));
        assert_true(found == la_adue_loss(&e.options, &head, start, &batch, workspace, NULL));
        free(start), free(theta), free(wanted);
        example_free(&e);
    }
    json_decref(cases);
    check_within("loss, relative", worst_loss, 1e-14);
    check_within("gradient, of max(0.01, value)", worst_gradient, 7.5e-13);
}

static void training_reference(void **state) {
    (void)state;
    json_t *cases = load_json(fixture("baselines/adue.json")), *one;
    double worst_theta = 0, worst_auroc = 0, worst_u = 0;
    size_t i;
    json_array_foreach(cases, i, one) {
        example e = example_of(one);
        int64_t count, shown;
        double *wanted = doubles(one, "trained", &count), *u = doubles(one, "u", &shown);
        double workspace[8];
        la_adue head = train(&e);
        assert_int_equal(head.outcome, LA_ADUE_TRAINED);
        assert_int_equal(head.epochs, integer_at(one, "epochs"));
        assert_int_equal(head.best_epoch, integer_at(one, "best_epoch"));
        assert_true(head.best_epoch > 0 && head.auroc_after > head.auroc_before);
        worst_theta = fmax(worst_theta, largest_gap(count, head.weight, wanted, 1));
        for (int64_t c = 0; !e.bias && c < e.n_classes; c++)
            assert_true(head.bias[c] == 0);
        worst_auroc =
            fmax(worst_auroc, fmax(relative(head.auroc_before, number_at(one, "auroc_before"), 0),
                                   relative(head.auroc_after, number_at(one, "auroc_after"), 0)));
        for (int64_t r = 0; r < shown; r++) {
            double found = la_adue_score(&head, e.validation.states + r * e.width, workspace);
            worst_u = fmax(worst_u, largest_gap(1, &found, u + r, 1e-2));
        }
        la_adue_free(&head);
        assert_null(head.weight);
        free(wanted), free(u);
        example_free(&e);
    }
    json_decref(cases);
    check_within("trained head, of max(1, value)", worst_theta, 7.6e-14);
    check_within("AUROC, relative", worst_auroc, 2.3e-16);
    check_within("u, of max(0.01, value)", worst_u, 9.3e-14);
}

/* central differences of the loss over a few shapes; drawn rows with repeats */
static void finite_differences(void **state) {
    (void)state;
    enum { N = 20, B = 13, D = 5, MAX = 6 };
    double worst = 0;
    for (int64_t n_classes = 2; n_classes <= MAX; n_classes++) {
        uint64_t seed = (uint64_t)n_classes;
        int64_t size = n_classes * (D + 1), rows[B];
        double theta[MAX * (D + 1)], start[MAX * (D + 1)], gradient[MAX * (D + 1)];
        double unused[MAX * (D + 1)], z[N * D], base[N], workspace[B * (MAX + 1)];
        float states[N * D];
        bool wrong[N];
        la_random_normal(seed, 1, 0, (size_t)size, theta);
        la_random_normal(seed, 2, 0, (size_t)size, start);
        la_random_normal(seed, 3, 0, N * D, z);
        for (int k = 0; k < N * D; k++)
            states[k] = (float)z[k];
        for (int i = 0; i < N; i++) {
            wrong[i] = la_random_below(seed, 4, (uint64_t)i, 2) == 0;
            base[i] = (double)la_random_below(seed, 5, (uint64_t)i, 100) / 100;
        }
        for (int i = 0; i < B; i++)
            rows[i] = (int64_t)la_random_below(seed, 6, (uint64_t)i, N);
        la_adue_options options = la_adue_defaults;
        options.smooth = 7; /* smooth enough for differences to see it */
        options.alpha = 0.7;
        la_adue head = {.n_classes = n_classes,
                        .width = D,
                        .weight = theta,
                        .bias = theta + n_classes * D,
                        .smooth = options.smooth};
        la_adue_batch batch = {B, rows, states, wrong, base};
        la_adue_loss(&options, &head, start, &batch, workspace, gradient);
        for (int64_t k = 0; k < size; k++) {
            double kept = theta[k], h = 1e-5;
            theta[k] = kept + h;
            double above = la_adue_loss(&options, &head, start, &batch, workspace, unused);
            theta[k] = kept - h;
            double below = la_adue_loss(&options, &head, start, &batch, workspace, unused);
            theta[k] = kept;
            worst = fmax(worst, relative(gradient[k], (above - below) / (2 * h), 0.1));
        }
    }
    check_within("gradient against differences, of max(0.1, .)", worst, 2.5e-9);
}

/* u where it can be known: a uniform row, a certain one (clipped, without gradient), and one whose
 * 1 - max p would be lost in f64 */
static void known_scores(void **state) {
    (void)state;
    double theta[] = {0, 0, 0, 0}, start[4] = {0}, gradient[4], workspace[3], far = 0;
    la_adue head = {.n_classes = 2, .width = 1, .weight = theta, .bias = theta + 2, .smooth = 100};
    const float one = 1;
    double uniform = 1 - log(2) / 100 / 0.5;
    check_within("u of a uniform row", fabs(la_adue_score(&head, &one, workspace) - uniform),
                 2.3e-16);
    theta[0] = 12;
    /* 1 - s is 1 - p here: the other class adds exp(-100) / 100 */
    double p = exp(-12) / (1 + exp(-12));
    check_within("u of a confident row, relative",
                 relative(la_adue_score(&head, &one, workspace), 2 * p, 0), 2.3e-16);
    theta[0] = 500;
    assert_true(la_adue_score(&head, &one, workspace) == 1e-8);
    for (int k = 0; k < 2; k++) {
        bool wrong = k;
        la_adue_batch batch = {1, NULL, &one, &wrong, &far};
        la_adue_options options = la_adue_defaults;
        options.beta = 0;
        double loss = la_adue_loss(&options, &head, start, &batch, workspace, gradient);
        double wanted = k ? -log(1e-8) : -log1p(-1e-8);
        assert_true(relative(loss, wanted + 0.1 * 1e-16, 0) < 1e-7);
        for (int j = 0; j < 4; j++)
            assert_true(gradient[j] == 0);
    }
}

/* three classes by the sign of two dimensions; labels as the classifier says, or off by one */
enum { N = 120, D = 2, C = 3 };
typedef struct synthetic {
    example e;
    float weight[C * D], bias[C], states[2 * N * D];
    int64_t labels[2 * N], answers[2 * N];
} synthetic;

static void make_synthetic(synthetic *s) {
    static const float weight[C * D] = {1.5f, 0, -0.5f, 1.5f, -0.5f, -1.5f};
    double z[2 * N * D];
    la_random_normal(21, 1, 0, 2 * N * D, z);
    memcpy(s->weight, weight, sizeof weight);
    memset(s->bias, 0, sizeof s->bias);
    for (int k = 0; k < 2 * N * D; k++)
        s->states[k] = (float)z[k];
    for (int64_t i = 0; i < 2 * N; i++) {
        float f[C];
        s->answers[i] = 0;
        for (int64_t c = 0; c < C; c++) {
            f[c] = weight[c * D] * s->states[i * D] + weight[c * D + 1] * s->states[i * D + 1];
            s->answers[i] = f[c] > f[s->answers[i]] ? c : s->answers[i];
        }
        /* the first class is often wrong, the others seldom */
        uint64_t bound = s->answers[i] == 0 ? 2 : 10;
        s->labels[i] = (s->answers[i] + (la_random_below(21, 2, (uint64_t)i, bound) == 0)) % C;
    }
    s->e = (example){.n_classes = C,
                     .width = D,
                     .size = C * D + C,
                     .options = la_adue_defaults,
                     .weight = s->weight,
                     .bias = s->bias,
                     .training = {N, s->states, s->labels},
                     .validation = {N, s->states + N * D, s->labels + N}};
    s->e.options.rate = 0.05;
    s->e.options.batch = 32;
}

static void learns(void **state) {
    (void)state;
    synthetic s;
    make_synthetic(&s);
    la_adue head = train(&s.e);
    print_message("    AUROC of errors %.4f to %.4f, epoch %lld of %lld\n", head.auroc_before,
                  head.auroc_after, (long long)head.best_epoch, (long long)head.epochs);
    assert_int_equal(head.outcome, LA_ADUE_TRAINED);
    assert_true(head.auroc_after > head.auroc_before + 0.05);
    la_adue_free(&head);
}

static void seeds_and_threads(void **state) {
    (void)state;
    synthetic s;
    la_adue heads[3];
    int before = omp_get_max_threads();
    make_synthetic(&s);
    for (int k = 0; k < 3; k++) {
        omp_set_num_threads(k == 1 ? 3 : 1);
        s.e.options.seed = k == 2 ? 1 : 0;
        heads[k] = train(&s.e);
    }
    omp_set_num_threads(before);
    assert_int_equal(heads[0].best_epoch, heads[1].best_epoch);
    assert_memory_equal(heads[0].weight, heads[1].weight, (size_t)s.e.size * sizeof(double));
    assert_memory_not_equal(heads[0].weight, heads[2].weight, (size_t)s.e.size * sizeof(double));
    for (int k = 0; k < 3; k++)
        la_adue_free(&heads[k]);
}

/* rows of one kind: the head comes back untouched, and says why */
static void nothing_to_learn(void **state) {
    (void)state;
    static const la_adue_outcome outcomes[] = {
        LA_ADUE_TRAINING_ALL_RIGHT, LA_ADUE_TRAINING_ALL_WRONG, LA_ADUE_VALIDATION_ALL_RIGHT,
        LA_ADUE_VALIDATION_ALL_WRONG};
    for (int k = 0; k < 4; k++) {
        synthetic s;
        double workspace[C];
        make_synthetic(&s);
        int64_t from = k < 2 ? 0 : N;
        for (int64_t i = from; i < from + N; i++)
            s.labels[i] = (s.answers[i] + k % 2) % C;
        la_adue head = train(&s.e);
        assert_int_equal(head.outcome, outcomes[k]);
        assert_int_equal(head.epochs, 0);
        assert_int_equal(head.best_epoch, 0);
        for (int64_t j = 0; j < C * D; j++)
            assert_true(head.weight[j] == (double)s.weight[j]);
        if (k < 2)
            assert_true(head.auroc_after == head.auroc_before && head.auroc_before > 0);
        else
            assert_true(isnan(head.auroc_before) && isnan(head.auroc_after));
        assert_true(isfinite(la_adue_score(&head, s.states, workspace)));
        la_adue_free(&head);
    }
}

/* identical states: no ranking to gain, nothing that is not finite */
static void identical_states(void **state) {
    (void)state;
    synthetic s;
    make_synthetic(&s);
    for (int k = 0; k < 2 * N * D; k++)
        s.states[k] = 0.3f;
    la_adue head = train(&s.e);
    assert_int_equal(head.outcome, LA_ADUE_TRAINED);
    assert_int_equal(head.best_epoch, 0);
    assert_int_equal(head.epochs, 1 + la_adue_defaults.patience);
    assert_true(head.auroc_before == 0.5 && head.auroc_after == 0.5);
    la_adue_free(&head);
}

static void bad_input(void **state) {
    (void)state;
    static const la_status wanted[] = {LA_BAD_INPUT, LA_BAD_INPUT, LA_BAD_INPUT, LA_BAD_INPUT,
                                       LA_BAD_INPUT, LA_BAD_INPUT, LA_USAGE,     LA_USAGE,
                                       LA_USAGE,     LA_NUMERICAL};
    for (int kind = 0; kind < 10; kind++) {
        synthetic s;
        la_adue head;
        la_error err = {0};
        make_synthetic(&s);
        example *e = &s.e;
        if (kind == 0)
            e->training.n = 0;
        if (kind == 1)
            e->validation.n = 0;
        if (kind == 2)
            e->n_classes = 1;
        if (kind == 3)
            s.states[N * D + 3] = NAN;
        if (kind == 4)
            s.labels[5] = C;
        if (kind == 5)
            s.bias[1] = INFINITY;
        if (kind == 6)
            e->options.batch = 0;
        if (kind == 7)
            e->options.smooth = NAN;
        if (kind == 8)
            e->options.patience = 0;
        if (kind == 9)
            e->options.rate = 1e300;
        assert_int_equal(la_adue_train(&e->options, e->n_classes, e->width, e->weight, e->bias,
                                       &e->training, &e->validation, &head, &err),
                         wanted[kind]);
        assert_true(*err.message && !head.weight);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_reference),
        cmocka_unit_test(training_reference),
        cmocka_unit_test(finite_differences),
        cmocka_unit_test(known_scores),
        cmocka_unit_test(learns),
        cmocka_unit_test(seeds_and_threads),
        cmocka_unit_test(nothing_to_learn),
        cmocka_unit_test(identical_states),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
