/* The table of `compare`: every row against what the other commands make of the same files. */
#include "pipeline/compare.h"
#include "likelihood/scaling.h"
#include "bayes/posterior.h"
#include "likelihood/selection.h"
#include "support/faults.h"
#include "support/row_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bit of a method. */
static uint64_t bit(const char *name) {
    int i = 0;
    while (strcmp(la_compare_kinds[i].name, name))
        i++;
    return (uint64_t)1 << i;
}

enum { SAMPLES = 200, SEED = 11, N = 40, N_OOD = 17 };

/* ---- a case of its own files ---- */

typedef struct bench {
    char folder[512];
    row_file val, test, ood;
} bench;

static row_answers *answer(const bench *b, const char *posterior, const row_file *rows,
                           const char *predictive) {
    return rows_answer(rows, (la_predict_options){.posterior = in_case(b->folder, posterior),
                                                  .predictive = predictive,
                                                  .samples = SAMPLES,
                                                  .seed = SEED});
}

static void plain_fit(const bench *b, const char *adapter, const char *curvature, const char *out) {
    bool one = la_structure_named(curvature)->joint;
    la_fit_summary_free(case_fit(b->folder, "calib.jsonl", out,
                                 (la_fit_options){.adapter = adapter,
                                                  .curvature = curvature,
                                                  .prior = one ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE,
                                                  .select = LA_SELECT_NONE}));
}

/* Two adapters of one base; rows whose labels are less sure than the first one is. The posterior
 * "plain" is of the first, "second" of the other. */
static bench open_bench(void) {
    bench b = {.val = rows_random(1, N), .test = rows_random(2, N), .ood = rows_random(3, N_OOD)};
    snprintf(b.folder, sizeof b.folder, "%s", open_case("bert"));
    copy_folder(in_case(b.folder, "adapter"), in_case(b.folder, "second"));
    case_sharpen(b.folder, "adapter", 8);
    case_sharpen(b.folder, "second", -5);
    plain_fit(&b, NULL, "kron", "plain");
    plain_fit(&b, "second", "kron", "other");
    row_answers *on_val = answer(&b, "plain", &b.val, "map");
    row_answers *on_test = answer(&b, "plain", &b.test, "map");
    rows_draw_labels(&b.val, on_val, 3, 1);
    rows_draw_labels(&b.test, on_test, 3, 2);
    free(on_val);
    free(on_test);
    rows_write(&b.val, in_case(b.folder, "val.jsonl"), true);
    rows_write(&b.test, in_case(b.folder, "test.jsonl"), true);
    rows_write(&b.ood, in_case(b.folder, "ood.jsonl"), false);
    return b;
}

static la_comparison compare(const bench *b, la_compare_options options) {
    static char paths[6][600];
    static const char *adapters[2] = {paths[1], paths[2]};
    static const char *const names[] = {"base",      "adapter",    "second",
                                        "val.jsonl", "test.jsonl", "ood.jsonl"};
    la_comparison table;
    la_error err;
    char calib[600];
    snprintf(calib, sizeof calib, "%s/calib.jsonl", b->folder);
    for (int i = 0; i < 6; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", b->folder, names[i]);
    options.base = paths[0];
    options.adapters = adapters;
    options.n_adapters = options.n_adapters ? options.n_adapters : 1;
    options.calib = calib;
    options.val = options.val ? paths[3] : NULL;
    options.test = paths[4];
    options.ood = options.ood ? paths[5] : NULL;
    options.samples = SAMPLES;
    options.seed = SEED;
    if (la_compare(&options, &table, &err) != LA_OK)
        fail_msg("%s", err.message);
    table.calib = "calib"; /* its path ends here */
    return table;
}

static const la_comparison_row *row_of(const la_comparison *table, const char *name) {
    const la_comparison_row *found = NULL;
    for (int i = 0; i < table->n; i++) {
        if (strcmp(table->rows[i].name, name))
            continue;
        if (found)
            fail_msg("two rows %s", name);
        found = &table->rows[i];
    }
    if (!found)
        fail_msg("no row %s", name);
    return found;
}

/* ---- what a row should say ---- */

/* The share of pairs whose right side is larger, ties for half. */
static double pairs_won(int64_t n, const double *below, int64_t m, const double *above) {
    double won = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++)
            won += above[j] > below[i] ? 1 : above[j] == below[i] ? 0.5 : 0;
    return won / (double)(n * m);
}

static double largest_of(int64_t c, const double *p) {
    double top = p[0];
    for (int64_t k = 1; k < c; k++)
        top = fmax(top, p[k]);
    return top;
}

typedef struct expected {
    double probs[ROWS_MOST * ROW_CLASSES], ood[ROWS_MOST * ROW_CLASSES];
} expected;

/* Largest difference between a row and the metrics of those probabilities. */
static double gap_to(const la_comparison_row *row, const bench *b, int64_t c, const expected *e) {
    la_metrics m;
    la_error err = {0};
    double worst = 0, of_test[ROWS_MOST], of_ood[ROWS_MOST];
    la_metric_rows rows = {N, c, e->probs, {.classes = (int64_t *)(uintptr_t)b->test.labels}};
    assert_int_equal(la_metrics_compute(&la_softmax_metrics, &rows, &m, &err), LA_OK);
    assert_true(row->has_probs);
    for (int k = 0; k < LA_METRIC_COUNT; k++) {
        assert_true(isfinite(m.value[k]));
        worst = isfinite(row->value[k]) ? fmax(worst, fabs(row->value[k] - m.value[k])) : INFINITY;
    }
    for (int64_t i = 0; i < N; i++)
        of_test[i] = 1 - largest_of(c, e->probs + i * c);
    for (int64_t i = 0; i < N_OOD; i++)
        of_ood[i] = 1 - largest_of(c, e->ood + i * c);
    return fmax(worst, fabs(row->ood_auroc - pairs_won(N, of_test, N_OOD, of_ood)));
}

static void take(expected *e, const row_answers *test, const row_answers *ood, bool map) {
    for (int side = 0; side < 2; side++) {
        const row_answers *a = side ? ood : test;
        double *to = side ? e->ood : e->probs;
        for (int64_t i = 0; i < a->n; i++)
            memcpy(to + i * a->classes, map ? a->rows[i].map_probs : a->rows[i].probs,
                   (size_t)a->classes * sizeof *to);
    }
}

/* A row against predict with that posterior and predictive. */
static double gap_to_predict(const la_comparison_row *row, const bench *b, const char *posterior,
                             const char *predictive) {
    expected e;
    row_answers *test = answer(b, posterior, &b->test, predictive);
    row_answers *ood = answer(b, posterior, &b->ood, predictive);
    take(&e, test, ood, false);
    double gap = gap_to(row, b, test->classes, &e);
    free(test);
    free(ood);
    return gap;
}

/* ---- the table ---- */

static void rows_that_are_there(void **state) {
    (void)state;
    static const char *const all[] = {"map",
                                      "temperature",
                                      "bias",
                                      "vector",
                                      "stacking",
                                      "kron",
                                      "kron, held-out",
                                      "ekfac",
                                      "ekfac, held-out",
                                      "diag",
                                      "diag, held-out",
                                      "exact",
                                      "exact, held-out",
                                      "last-layer",
                                      "last-layer, held-out",
                                      "guard",
                                      "tfb",
                                      "ensemble",
                                      "kron, information",
                                      "entropy",
                                      "energy",
                                      "mahalanobis",
                                      "mahalanobis, relative",
                                      "adue"};
    enum { ALL = sizeof all / sizeof *all };
    bench b = open_bench();
    la_comparison table = compare(&b, (la_compare_options){.n_adapters = 2, .val = "", .ood = ""});
    assert_int_equal(table.n_val, N);
    assert_int_equal(table.n_test, N);
    assert_int_equal(table.n_ood, N_OOD);
    assert_int_equal(table.n_calib, 24);
    assert_int_equal(table.n_classes, 3);
    assert_int_equal(table.n, ALL);
    for (int i = 0; i < ALL; i++)
        assert_string_equal(table.rows[i].name, all[i]);
    /* probabilities have all metrics, scores rank alone */
    for (int i = 0; i < table.n; i++) {
        const la_comparison_row *row = &table.rows[i];
        assert_true(row->has_probs == (i < 18));
        for (int m = 0; m < LA_METRIC_COUNT; m++)
            assert_true(isfinite(row->value[m]) ==
                        (i < 18 || m == LA_METRIC_AUROC || m == LA_METRIC_AURC));
        assert_true(isfinite(row->ece_noise) == (i < 18));
        assert_true(row->ood_auroc >= 0 && row->ood_auroc <= 1);
        assert_true(row->seconds_fit >= 0 && row->seconds_predict >= 0);
    }
    free(table.rows);
    /* nothing that was not given shows */
    table = compare(&b, (la_compare_options){0});
    for (int i = 0; i < table.n; i++) {
        const char *name = table.rows[i].name;
        assert_true(!strstr(name, "held-out") && strcmp(name, "guard") && strcmp(name, "vector") &&
                    strcmp(name, "bias") && strcmp(name, "stacking") &&
                    strcmp(name, "temperature") && strcmp(name, "ensemble"));
        assert_true(isnan(table.rows[i].ood_auroc));
    }
    assert_int_equal(table.n, ALL - 11);
    free(table.rows);
}

static void without_a_posterior(void **state) {
    (void)state;
    bench b = open_bench();
    la_comparison table =
        compare(&b, (la_compare_options){.methods = bit("vector") | bit("temperature") |
                                                    bit("bias") | bit("map") | bit("ensemble"),
                                         .n_adapters = 2,
                                         .val = "",
                                         .ood = ""});
    assert_int_equal(table.n, 5);
    const int64_t c = 3;
    float logits[ROWS_MOST * ROW_CLASSES];
    double temperature, scale[ROW_CLASSES], bias[ROW_CLASSES], worst = 0;
    la_error err = {0};
    expected e, other;
    row_answers *val = answer(&b, "plain", &b.val, "map");
    row_answers *test = answer(&b, "plain", &b.test, "map");
    row_answers *ood = answer(&b, "plain", &b.ood, "map");
    for (int64_t i = 0; i < N; i++)
        for (int64_t k = 0; k < c; k++)
            logits[i * c + k] = (float)val->rows[i].logits[k];
    take(&e, test, ood, false);
    worst = fmax(worst, gap_to(row_of(&table, "map"), &b, c, &e));
    /* below that of 95 % of calibrated models, with other draws */
    double confidence[ROWS_MOST];
    for (int64_t i = 0; i < N; i++)
        confidence[i] = largest_of(c, e.probs + i * c);
    double noise = la_ece_noise(N, confidence, NAN, 1000, 5).ece_95;
    check_within("noise of the map row, relative",
                 relative(row_of(&table, "map")->ece_noise, noise, 0), 0.15);

    assert_int_equal(la_temperature_scaling_fit(N, c, logits, b.val.labels, &temperature, &err),
                     LA_OK);
    assert_true(temperature > 1.2);
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < (side ? N_OOD : N); i++)
            row_softmax(c, &(side ? ood : test)->rows[i], temperature,
                        (side ? e.ood : e.probs) + i * c);
    worst = fmax(worst, gap_to(row_of(&table, "temperature"), &b, c, &e));
    char note[80];
    snprintf(note, sizeof note, "T %.3g", temperature);
    assert_string_equal(row_of(&table, "temperature")->note, note);

    assert_int_equal(la_vector_scaling_fit(N, c, logits, b.val.labels, scale, bias, &err), LA_OK);
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < (side ? N_OOD : N); i++) {
            const la_prediction *p = &(side ? ood : test)->rows[i];
            float f[ROW_CLASSES];
            for (int64_t k = 0; k < c; k++)
                f[k] = (float)p->logits[k];
            la_vector_scaling_apply(c, scale, bias, f, (side ? e.ood : e.probs) + i * c);
        }
    worst = fmax(worst, gap_to(row_of(&table, "vector"), &b, c, &e));

    la_correction_fit fits[LA_CORRECTION_SCALES];
    assert_int_equal(la_corrections_fit(N, c, logits, b.val.labels, temperature, fits, &err),
                     LA_OK);
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < (side ? N_OOD : N); i++) {
            const la_prediction *p = &(side ? ood : test)->rows[i];
            double own[ROW_CLASSES];
            float f[ROW_CLASSES];
            for (int64_t k = 0; k < c; k++)
                f[k] = (float)p->logits[k];
            la_corrections_apply(fits, c, f, own, (side ? e.ood : e.probs) + i * c);
        }
    worst = fmax(worst, gap_to(row_of(&table, "bias"), &b, c, &e));

    /* the mean of both adapters' probabilities */
    row_answers *test2 = answer(&b, "other", &b.test, "map");
    row_answers *ood2 = answer(&b, "other", &b.ood, "map");
    take(&e, test, ood, true);
    take(&other, test2, ood2, true);
    for (int i = 0; i < N * c; i++)
        e.probs[i] = (e.probs[i] + other.probs[i]) / 2;
    for (int i = 0; i < N_OOD * c; i++)
        e.ood[i] = (e.ood[i] + other.ood[i]) / 2;
    worst = fmax(worst, gap_to(row_of(&table, "ensemble"), &b, c, &e));
    assert_string_equal(row_of(&table, "ensemble")->note, "2 adapters");
    check_within("metrics against predict, without a posterior", worst, 4.5e-16);
    free(val), free(test), free(ood), free(test2), free(ood2), free(table.rows);
}

/* Each curvature as predict has it after a fit of its own, without held-out rows and with. */
static void posteriors(void **state) {
    (void)state;
    bench b = open_bench();
    la_comparison table =
        compare(&b, (la_compare_options){.methods = bit("kron") | bit("ekfac") | bit("diag") |
                                                    bit("exact") | bit("last-layer"),
                                         .val = "",
                                         .ood = ""});
    double worst = 0, worst_held = 0;
    for (int k = 0; k < LA_CURVATURES_FITTED; k++) {
        bool one = la_structure_of((la_curvature)k)->joint;
        char name[64];
        plain_fit(&b, NULL, la_curvature_names[k], "own");
        worst = fmax(worst, gap_to_predict(row_of(&table, la_curvature_names[k]), &b, "own", "mc"));
        la_fit_summary *guarded =
            case_fit(b.folder, "calib.jsonl", "held",
                     (la_fit_options){.curvature = la_curvature_names[k],
                                      .prior = one ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE,
                                      .val = "val.jsonl"});
        la_method method = la_choice_laplace(guarded->choice.record);
        bool scalar = method == LA_METHOD_SCALAR || method == LA_METHOD_TEMPERED_SCALAR;
        snprintf(name, sizeof name, "%s, held-out", la_curvature_names[k]);
        const la_comparison_row *row = row_of(&table, name);
        print_message("    %s: %s\n", name, row->note);
        worst_held = fmax(worst_held, gap_to_predict(row, &b, "held", scalar ? "scalar" : "mc"));
        la_fit_summary_free(guarded);
    }
    free(table.rows);
    check_within("metrics against fit --select none and predict", worst, 1e-9);
    check_within("metrics against fit --val and predict", worst_held, 1e-9);
}

static void guards(void **state) {
    (void)state;
    static const char *const curvatures[] = {"kron", "diag", "exact"};
    bench b = open_bench();
    double worst = 0;
    bool seen[LA_METHODS] = {false};
    /* labels of the model as it is, and two draws of a less sure one */
    static const uint64_t seeds[] = {7, 3, 9};
    for (int labels = 0; labels < 3; labels++) {
        row_answers *map = answer(&b, "plain", &b.val, "map");
        rows_draw_labels(&b.val, map, labels ? 3 : 1, seeds[labels]);
        free(map);
        rows_write(&b.val, in_case(b.folder, "val.jsonl"), true);
        for (int k = 0; k < 3; k++) {
            bool one = la_structure_named(curvatures[k])->joint;
            la_comparison table = compare(
                &b, (la_compare_options){.methods = bit("guard"),
                                         .curvature = la_structure_named(curvatures[k])->curvature,
                                         .val = "",
                                         .ood = ""});
            la_fit_summary *guarded =
                case_fit(b.folder, "calib.jsonl", "held",
                         (la_fit_options){.curvature = curvatures[k],
                                          .prior = one ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE,
                                          .val = "val.jsonl"});
            char note[80];
            assert_int_equal(table.n, 1);
            snprintf(note, sizeof note, "%s: %s", curvatures[k],
                     la_method_names[guarded->choice.record->method]);
            if (guarded->choice.record->method == LA_METHOD_AVERAGE)
                snprintf(note, sizeof note, "%s: average of %lld settings", curvatures[k],
                         (long long)guarded->choice.record->n_settings);
            assert_string_equal(table.rows[0].note, note);
            print_message("    %s\n", note);
            seen[guarded->choice.record->method] = true;
            worst = fmax(worst, gap_to_predict(row_of(&table, "guard"), &b, "held", NULL));
            la_fit_summary_free(guarded);
            free(table.rows);
        }
    }
    check_within("metrics of the guard against fit --val and predict", worst, 9e-16);
    assert_true(seen[LA_METHOD_AVERAGE]);
}

/* Scores against errors of the MAP model, and against rows of other data. */
static void scores(void **state) {
    (void)state;
    bench b = open_bench();
    la_comparison table =
        compare(&b, (la_compare_options){.methods = bit("kron") | bit("entropy") | bit("energy"),
                                         .ood = ""});
    assert_int_equal(table.n, 4);
    row_answers *test = answer(&b, "plain", &b.test, "mc");
    row_answers *ood = answer(&b, "plain", &b.ood, "mc");
    static const char *const names[] = {"entropy", "energy", "kron, information"};
    double worst = 0;
    for (int kind = 0; kind < 3; kind++) {
        double all[ROWS_MOST], others[ROWS_MOST], right[ROWS_MOST], wrong[ROWS_MOST];
        int64_t n_right = 0, n_wrong = 0;
        for (int side = 0; side < 2; side++)
            for (int64_t i = 0; i < (side ? N_OOD : N); i++) {
                const la_prediction *p = &(side ? ood : test)->rows[i];
                double score = p->mutual_information, sum = 0, top = p->map_probs[0];
                int64_t best = 0;
                for (int64_t k = 0; k < 3; k++) {
                    sum += kind ? exp(p->logits[k]) : -p->map_probs[k] * log(p->map_probs[k]);
                    best = p->map_probs[k] > top ? k : best;
                    top = fmax(top, p->map_probs[k]);
                }
                score = kind == 0 ? sum : kind == 1 ? -log(sum) : score;
                if (side)
                    others[i] = score;
                else if (best == b.test.labels[i])
                    right[n_right++] = score;
                else
                    wrong[n_wrong++] = score;
                if (!side)
                    all[i] = score;
            }
        assert_true(n_right > 5 && n_wrong > 5);
        const la_comparison_row *row = row_of(&table, names[kind]);
        double auroc = pairs_won(n_right, right, n_wrong, wrong);
        worst = fmax(worst, fabs(row->value[LA_METRIC_AUROC] - auroc));
        worst = fmax(worst, fabs(row->ood_auroc - pairs_won(N, all, N_OOD, others)));
        /* risk over the rows in order of the score, the surest first */
        double area = 0, errors = 0;
        for (int64_t i = 0; i < N; i++) {
            double least = INFINITY;
            int64_t at = 0;
            for (int64_t j = 0; j < N; j++)
                if (all[j] < least) {
                    least = all[j];
                    at = j;
                }
            int64_t in_wrong = 0;
            while (in_wrong < n_wrong && wrong[in_wrong] != least)
                in_wrong++;
            errors += in_wrong < n_wrong;
            area += errors / (double)(i + 1) / N;
            all[at] = INFINITY;
        }
        worst = fmax(worst, fabs(row->value[LA_METRIC_AURC] - area));
    }
    free(test), free(ood), free(table.rows);
    check_within("scores' areas", worst, 2.3e-16);
}

/* ---- the program ---- */

#define PARTS "--base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl"
#define COMPARE "compare " PARTS " --quiet --samples 50 "
#define CHEAP "--methods map,temperature,kron,entropy "

static char *output_of(const bench *b, const char *line) {
    command done = run_line(b->folder, line, NULL);
    if (done.code || *done.err)
        fail_msg("%s: exit code %d, %s", line, done.code, done.err);
    free(done.err);
    return done.out;
}

static void json_of_the_table(void **state) {
    (void)state;
    bench b = open_bench();
    char *text = output_of(&b, COMPARE CHEAP "--val @/val.jsonl --ood @/ood.jsonl --json");
    char *same = output_of(&b, COMPARE CHEAP "--val @/val.jsonl --ood @/ood.jsonl --format json");
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    assert_true(!strstr(text, "NaN") && !strstr(text, "nan"));
    /* but for the seconds */
    json_t *again = json_loads(same, 0, NULL), *row;
    size_t i;
    const json_t *methods = at(root, "methods");
    json_array_foreach(methods, i, row) {
        const json_t *other = json_array_get(at(again, "methods"), i);
        assert_true(json_equal(json_object_get(row, "metrics"), json_object_get(other, "metrics")));
        assert_true(number_at(row, "seconds/fit") >= 0);
    }
    assert_string_equal(json_string_value(at(root, "schema")), "laplora.compare/1");
    assert_int_equal(json_integer_value(at(root, "n_ood")), N_OOD);
    assert_non_null(strstr(json_string_value(at(root, "test")), "test.jsonl"));
    la_comparison table =
        compare(&b, (la_compare_options){.methods = bit("map") | bit("temperature") | bit("kron") |
                                                    bit("entropy"),
                                         .val = "",
                                         .ood = ""});
    assert_int_equal(json_array_size(methods), table.n);
    double worst = 0;
    for (int k = 0; k < table.n; k++) {
        const la_comparison_row *want = &table.rows[k];
        const json_t *got = json_array_get(methods, (size_t)k), *metrics = at(got, "metrics");
        assert_string_equal(json_string_value(at(got, "method")), want->name);
        assert_int_equal(json_object_size(metrics), LA_METRIC_COUNT + 2);
        /* Monte Carlo had other draws here */
        if (strstr(want->name, "kron"))
            continue;
        for (int m = 0; m < LA_METRIC_COUNT; m++) {
            const json_t *value = at(metrics, la_softmax_metrics.list[m].name);
            assert_true(json_is_null(value) == !isfinite(want->value[m]));
            if (!json_is_null(value))
                worst = fmax(worst, fabs(json_number_value(value) - want->value[m]));
        }
        worst = fmax(worst, fabs(number_at(metrics, "ood_auroc") - want->ood_auroc));
    }
    free(table.rows);
    check_within("numbers in JSON", worst, 1e-15);
    json_decref(root);
    json_decref(again);
    free(text), free(same);
    /* missing inputs have no rows */
    text = output_of(&b, COMPARE "--methods map,kron --json");
    root = json_loads(text, 0, NULL);
    assert_non_null(root);
    assert_true(!at(root, "val") && !at(root, "ood"));
    assert_true(json_is_null(at(root, "methods/0/metrics/ood_auroc")));
    json_decref(root);
    free(text);
}

static int count(const char *line, size_t length, char c) {
    int n = 0;
    for (size_t i = 0; i < length; i++)
        n += line[i] == c;
    return n;
}

static void check_markdown(char *text, const char *header, int rows) {
    size_t first = strcspn(text, "\n");
    int lines = 0;
    if (strncmp(text, header, first) || strlen(header) != first)
        fail_msg("the header is %.*s, expected %s", (int)first, text, header);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        size_t length = strcspn(line, "\n");
        assert_true(line[length] == '\n' && line[0] == '|' && line[length - 1] == '|');
        assert_int_equal(count(line, length, '|'), count(text, first, '|'));
        lines++;
    }
    assert_int_equal(lines, rows + 2);
    free(text);
}

static void markdown_of_the_table(void **state) {
    (void)state;
    bench b = open_bench();
    check_markdown(
        output_of(&b, COMPARE CHEAP "--val @/val.jsonl --ood @/ood.jsonl --format markdown"),
        "| method | accuracy | nll | ece | noise | brier | auroc | aurc | ood | fit s | predict s "
        "| |",
        6);
    check_markdown(
        output_of(&b, COMPARE CHEAP "--val @/val.jsonl --format markdown"),
        "| method | accuracy | nll | ece | noise | brier | auroc | aurc | fit s | predict s | |",
        6);
    /* a column that no row fills is left out */
    check_markdown(output_of(&b, COMPARE "--methods entropy,energy --format markdown"),
                   "| method | auroc | aurc | fit s | predict s | |", 2);
}

static void text_of_the_table(void **state) {
    (void)state;
    bench b = open_bench();
    char *text = output_of(&b, COMPARE "--methods energy,map --val @/val.jsonl --ood @/ood.jsonl");
    char *map = strstr(text, "\nmap "), *energy = strstr(text, "\nenergy ");
    assert_non_null(strstr(text, "40 test rows, 3 classes; 24 calibration rows, 40 held-out rows, "
                                 "17 rows of other data\n"));
    /* in the table's order, not that of the list; what a score has no number for is a dash */
    assert_true(map && energy && map < energy);
    assert_true(count(map + 1, strcspn(map + 1, "\n"), '-') == 0);
    assert_true(count(energy + 1, strcspn(energy + 1, "\n"), '-') == 5);
    assert_null(strstr(text, "kron"));
    assert_null(strstr(text, "nan"));
    free(text);
}

/* An older file is replaced as a whole, and nothing is left beside it. */
static void output_file(void **state) {
    (void)state;
    bench b = open_bench();
    size_t length;
    char *nothing = output_of(&b, COMPARE "--methods map --json --out @/out");
    assert_string_equal(nothing, "");
    json_t *root = load_json(in_case(b.folder, "out"));
    assert_int_equal(json_array_size(at(root, "methods")), 1);
    json_decref(root);
    free(nothing);
    char *first = read_file(in_case(b.folder, "out"), &length);
    command done = run_line(b.folder, COMPARE "--methods map --out @/nowhere/out", NULL);
    check_message(&done, 5, (const char *const[]){"nowhere"}, 1);
    command_free(&done);
    done = run_line(b.folder, COMPARE "--methods map --out @/base", NULL);
    check_message(&done, 5, (const char *const[]){"is a directory"}, 1);
    command_free(&done);
    char *after = read_file(in_case(b.folder, "out"), &length);
    assert_string_equal(first, after);
    free(first), free(after);
    /* a table without a reader */
    char shell[4096];
    const char *program = getenv("LAPLORA");
    snprintf(shell, sizeof shell,
             "%s compare --base %s/base --adapter %s/adapter --calib %s/calib.jsonl --test "
             "%s/test.jsonl --methods map --quiet > /dev/full",
             program ? program : "build/laplora", b.folder, b.folder, b.folder, b.folder);
    done = run_command((const char *const[]){"sh", "-c", shell, NULL}, NULL);
    check_message(&done, 5, (const char *const[]){"standard output"}, 1);
    command_free(&done);
}

/* ---- what is refused ---- */

static const char labelled[] =
    "{\"input_ids\":[5,6],\"label\":1}\n{\"input_ids\":[7,8],\"label\":0}\n";
static const char unlabelled[] = "{\"input_ids\":[5,6],\"label\":1}\n{\"input_ids\":[7,8]}\n";
static const char other_labels[] = "{\"input_ids\":[5,6],\"label\":17}\n{\"input_ids\":[7,8]}\n";

#define REFUSED COMPARE "--out @/out "

static const fault faults[] = {
    {"a method nobody knows",
     2,
     {"--methods \"krone\"", "map, temperature, bias, vector, stacking, kron"},
     .command = REFUSED "--methods map,krone,kron"},
    {"--samples 0",
     2,
     {"--samples \"0\"", "integer"},
     .command = "compare " PARTS " --quiet --out @/out --samples 0"},
    {"unknown format",
     2,
     {"--format \"html\"", "text, json, markdown"},
     .command = REFUSED "--format html"},
    {"unknown curvature", 2, {"--curvature"}, .command = REFUSED "--curvature full"},
    {"an operand", 2, {"stray"}, .command = REFUSED "stray"},
    {"no base",
     2,
     {"--base"},
     .command = "compare --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl"},
    {"no adapter",
     2,
     {"--adapter"},
     .command = "compare --base @/base --calib @/calib.jsonl --test @/test.jsonl"},
    {"no calibration rows",
     2,
     {"--calib"},
     .command = "compare --base @/base --adapter @/adapter --test @/test.jsonl"},
    {"no test rows",
     2,
     {"--test"},
     .command = "compare --base @/base --adapter @/adapter --calib @/calib.jsonl"},
    {"test rows without a label",
     3,
     {"test.jsonl:2", "label"},
     .command = REFUSED,
     .damage = put_file,
     .file = "test.jsonl",
     .a = unlabelled},
    {"held-out rows without a label",
     3,
     {"val.jsonl:2", "label"},
     .command = REFUSED "--val @/val.jsonl",
     .damage = put_file,
     .file = "val.jsonl",
     .a = unlabelled},
    {"calibration rows that are not there",
     3,
     {"calib.jsonl", "No such file"},
     .command = REFUSED,
     .damage = remove_file,
     .file = "calib.jsonl"},
    {"other data that is not there",
     3,
     {"ood.jsonl", "No such file"},
     .command = REFUSED "--ood @/ood.jsonl"},
    {"other data without rows",
     3,
     {"ood.jsonl", "no rows"},
     .command = REFUSED "--ood @/ood.jsonl",
     .damage = put_file,
     .file = "ood.jsonl",
     .a = ""},
    {"the second adapter is not there",
     3,
     {"second"},
     .command = "compare " PARTS " --adapter @/second --methods ensemble --quiet --out @/out"},
    /* looks wrong and is right */
    {"labels of other data are not read",
     0,
     {"map"},
     .command = COMPARE "--methods map --ood @/ood.jsonl",
     .damage = put_file,
     .file = "ood.jsonl",
     .a = other_labels},
    {"two test rows",
     0,
     {"kron"},
     .command = COMPARE "--methods kron,guard,mahalanobis,adue "
                        "--val @/calib.jsonl",
     .damage = put_file,
     .file = "test.jsonl",
     .a = labelled},
};

/* ---- what must not be guessed ---- */

/* MiB of curvature in the line of --verbose. */
static double planned(const bench *b, const char *methods) {
    char line[600];
    snprintf(line, sizeof line,
             "compare " PARTS
             " --val @/val.jsonl --samples 20 --out @/table --verbose --methods %s",
             methods);
    command done = run_line(b->folder, line, NULL);
    const char *at = strstr(done.err, "curvature ");
    if (done.code || !at)
        fail_msg("%s: exit code %d, %s", methods, done.code, done.err);
    double mib = strtod(at + strlen("curvature "), NULL);
    command_free(&done);
    return mib;
}

/* All structures are open at once: the plan leaves memory for their sum. */
static void memory_of_all(void **state) {
    bench b = open_bench();
    (void)state;
    double one = planned(&b, "ekfac"), other = planned(&b, "diag"),
           both = planned(&b, "ekfac,diag");
    double guarded = planned(&b, "ekfac,guard"); /* over kron, which is open beside it */
    printf("    planned MiB: ekfac %.2f, diag %.2f, both %.2f, ekfac and kron %.2f\n", one, other,
           both, guarded);
    assert_true(other > 0);
    check_within("both against the sum", fabs(both - one - other), 0.11); /* a decimal each */
    assert_true(guarded > one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_are_there),
        cmocka_unit_test(without_a_posterior),
        cmocka_unit_test(posteriors),
        cmocka_unit_test(guards),
        cmocka_unit_test(scores),
        cmocka_unit_test(json_of_the_table),
        cmocka_unit_test(markdown_of_the_table),
        cmocka_unit_test(text_of_the_table),
        cmocka_unit_test(output_file),
        cmocka_unit_test(memory_of_all),
    };
    int failed = run_faults("compare, refused", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("compare", tests, NULL, NULL);
}
