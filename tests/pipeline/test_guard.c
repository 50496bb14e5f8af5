/* Held-out rows at a fit: what they choose, that predict applies it, cross-fitting, and the notes
 * where there are none. */
#include "bayes/factored.h"
#include "base/digest.h"
#include "base/random.h"
#include "likelihood/answer.h"
#include "likelihood/likelihood.h"
#include "likelihood/selection.h"
#include "output/posterior_file.h"
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 200, SEED = 5, FOLDS = 5 };

/* ---- a case of its own files ---- */

static row_answers *answer(const char *folder, const char *posterior, const row_file *rows,
                           const char *predictive) {
    return rows_answer(rows, (la_predict_options){.posterior = in_case(folder, posterior),
                                                  .predictive = predictive,
                                                  .samples = SAMPLES,
                                                  .seed = SEED});
}

/* Rows with labels that the model gives them with that temperature. */
static row_file labelled(const char *folder, uint64_t seed, int64_t n, double temperature) {
    row_file rows = rows_random(seed, n);
    row_answers *map = answer(folder, "plain", &rows, "map");
    rows_draw_labels(&rows, map, temperature, seed);
    free(map);
    return rows;
}

/* A classifier of three classes, fitted as it is to "plain". */
static const char *open_bert(la_prior_kind prior, const char *curvature) {
    const char *folder = open_case("bert");
    case_sharpen(folder, "adapter", 8);
    la_fit_summary_free(case_fit(
        folder, "calib.jsonl", "plain",
        (la_fit_options){.prior = prior, .curvature = curvature, .select = LA_SELECT_NONE}));
    return folder;
}

/* ---- what predict makes of a choice ---- */

/* The predictive of f / T and cov / T^2 from what a row emits. */
static void apply(const char *kind, double t, int64_t c, const la_prediction *row, uint64_t hash,
                  double *probs) {
    enum { M = ROW_CLASSES - 1 };
    if (!strcmp(kind, "map") || !strcmp(kind, "temperature")) {
        row_softmax(c, row, t, probs);
        return;
    }
    if (!strcmp(kind, "scalar")) {
        row_softmax(c, row, sqrt(t * t + M_PI / 8 * row_pair_variance(c, row)), probs);
        return;
    }
    int64_t m = c - 1;
    float logits[ROW_CLASSES];
    double basis[ROW_CLASSES * M], cov[M * M], scale = 1;
    la_prediction out = {.probs = probs};
    la_error err = {0};
    la_softmax_likelihood.contrast_basis(c, basis);
    for (int64_t k = 0; k < c; k++)
        logits[k] = (float)(row->logits[k] / t);
    for (int64_t k = 0; k < m; k++)
        for (int64_t l = 0; l < m; l++) {
            cov[k * m + l] = 0;
            for (int64_t a = 0; a < c; a++)
                for (int64_t b = 0; b < c; b++)
                    cov[k * m + l] +=
                        basis[a * m + k] * row->logit_cov[a * c + b] * basis[b * m + l] / (t * t);
        }
    la_recipe recipe = {.kind = la_predictive_find(la_class_predictives, kind),
                        .prior_scale = 1,
                        .temperature = 1,
                        .weight = 1};
    la_output_rows rows = {.n = 1,
                           .n_outputs = c,
                           .n_scales = 1,
                           .outputs = logits,
                           .scales = &scale,
                           .cov = cov,
                           .streams = &hash};
    la_draw_options draws = {.samples = SAMPLES, .seed = SEED};
    if (la_answer_rows(&la_softmax_likelihood, &recipe, 1, &rows, &draws, la_team_of(1), &out,
                       &err) != LA_OK)
        fail_msg("%s", err.message);
}

/* Largest distance between answers and the predictive of what they emit, or of what `shown` emits:
 * a MAP row shows no covariance. */
static double gap_to(const row_file *rows, const row_answers *a, const row_answers *shown,
                     const char *kind, double t) {
    double worst = 0;
    for (int64_t i = 0; i < a->n; i++) {
        double p[ROW_CLASSES];
        uint64_t hash = la_hash64(rows->ids[i], (size_t)rows->length[i] * sizeof(int32_t));
        apply(kind, t, a->classes, &shown->rows[i], hash, p);
        for (int64_t k = 0; k < a->classes; k++) {
            worst = fmax(worst, fabs(a->rows[i].probs[k] - p[k]));
            /* a row's logits are without T */
            worst = fmax(worst, fabs(a->rows[i].logits[k] - shown->rows[i].logits[k]));
            worst = fmax(worst, fabs(a->rows[i].map_probs[k] - shown->rows[i].map_probs[k]));
        }
    }
    return worst;
}

static const char *const predictive_of[LA_METHODS] = {"map", "temperature", "mc",     "scalar",
                                                      "mc",  "scalar",      "average"};

/* Predictions by default, and by explicit options; averages have a test of their own. */
static double check_answers(const char *folder, const char *name, const row_file *rows) {
    la_posterior p = case_load(folder, name);
    double worst = 0, t = p.temperature;
    const char *stored = predictive_of[p.choice.method];
    static const char *const kinds[] = {NULL, "map", "mc", "scalar", "temperature"};
    row_answers *shown = answer(folder, name, rows, "mc");
    for (int k = 0; k < 5; k++) {
        const char *kind = kinds[k] ? kinds[k] : stored;
        if (!strcmp(kind, "average"))
            continue;
        double by = !strcmp(kind, "map")           ? 1
                    : !strcmp(kind, "temperature") ? p.choice.candidates[1].temperature
                                                   : t;
        row_answers *a = answer(folder, name, rows, kinds[k]);
        worst = fmax(worst, gap_to(rows, a, shown, kind, by));
        free(a);
    }
    free(shown);
    la_posterior_free(&p);
    return worst;
}

/* The covariance by --emit does not depend on the temperature. */
static double emitted_gap(const char *folder, la_posterior *p, const row_file *rows) {
    la_error err = {0};
    row_answers *with[2];
    double worst = 0;
    for (int k = 0; k < 2; k++) {
        p->temperature = k ? 1.7 : 1;
        assert_int_equal(la_posterior_save(p, in_case(folder, "edited"), &err), LA_OK);
        with[k] = answer(folder, "edited", rows, "mc");
    }
    for (int64_t i = 0; i < rows->n; i++)
        for (int64_t j = 0; j < with[0]->classes * with[0]->classes; j++)
            worst = fmax(worst, relative(with[1]->rows[i].logit_cov[j],
                                         with[0]->rows[i].logit_cov[j], 1e-3));
    free(with[0]);
    free(with[1]);
    return worst;
}

/* Every curvature: the choice is in the file, its scale in the precisions, and predict follows. */
static void choice_is_applied(void **state) {
    (void)state;
    double worst = 0, worst_edited = 0, worst_scale = 0, worst_cov = 0;
    for (int k = 0; k < LA_CURVATURES_FITTED; k++) {
        bool one = la_structure_of((la_curvature)k)->joint;
        la_fit_options options = {.curvature = la_curvature_names[k],
                                  .prior = one ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE};
        const char *folder = open_bert(options.prior, options.curvature);
        row_file held = labelled(folder, 1, 60, 3), test = rows_random(2, 20);
        rows_write(&held, in_case(folder, "val.jsonl"), true);
        options.val = "val.jsonl";
        la_fit_summary *summary = case_fit(folder, "calib.jsonl", "guarded", options);
        la_posterior p = case_load(folder, "guarded"), plain = case_load(folder, "plain");
        assert_false(plain.choice.guarded);
        assert_true(plain.temperature == 1);
        assert_true(p.choice.guarded && !p.choice.cross && p.choice.n == 60);
        assert_int_equal(p.choice.method, summary->choice.record->method);
        assert_memory_equal(p.choice.candidates, summary->choice.record->candidates,
                            sizeof p.choice.candidates);
        const la_candidate *laplace = &p.choice.candidates[la_choice_laplace(&p.choice)];
        assert_true(p.temperature == laplace->temperature);
        for (int64_t b = 0; b < p.n_blocks; b++)
            worst_scale = fmax(worst_scale,
                               relative(p.blocks[b].prior_precision,
                                        plain.blocks[b].prior_precision * laplace->prior_scale, 0));
        worst = fmax(worst, check_answers(folder, "guarded", &test));
        print_message("    %s: %s, prior x %.3g, T %.3g\n", la_curvature_names[k],
                      la_method_names[p.choice.method], laplace->prior_scale, p.temperature);
        worst_cov = fmax(worst_cov, emitted_gap(folder, &p, &test));
        /* whatever had been chosen; by 2 logits divide without rounding */
        for (int method = 0; method < LA_METHODS; method++) {
            la_error err = {0};
            p.choice.method = (la_method)method;
            p.temperature = 2;
            p.choice.candidates[LA_METHOD_TEMPERATURE].temperature = 4;
            assert_int_equal(la_posterior_save(&p, in_case(folder, "edited"), &err), LA_OK);
            worst_edited = fmax(worst_edited, check_answers(folder, "edited", &test));
        }
        la_posterior_free(&p);
        la_posterior_free(&plain);
        la_fit_summary_free(summary);
    }
    check_within("probabilities against the method of what is emitted", worst, 1.7e-7);
    check_within("likewise of other choices", worst_edited, 9e-16);
    check_within("covariances with and without temperature, relative", worst_cov, 2.8e-14);
    check_within("prior precisions against the scaled ones, relative", worst_scale, 4.5e-16);
}

/* ---- what the candidates say of the held-out rows ---- */

static double row_nll(const row_file *rows, int64_t i, int64_t c, const la_prediction *row,
                      double share, double t) {
    double p[ROW_CLASSES];
    row_softmax(c, row, sqrt(t * t + M_PI / 8 * share * row_pair_variance(c, row)), p);
    return -log(p[rows->labels[i]]);
}

/* The scalar probit's candidates from posteriors that were fitted with their very precision: all
 * scales of a pass are as good as a fit of their own. */
static void candidates_against_fits(void **state) {
    (void)state;
    static const la_method scalars[] = {LA_METHOD_SCALAR, LA_METHOD_TEMPERED_SCALAR};
    double worst = 0;
    for (int k = 0; k < LA_CURVATURES_FITTED; k++) {
        const char *folder = open_bert(LA_PRIOR_GLOBAL, la_curvature_names[k]);
        row_file held = labelled(folder, 3, 40, 2);
        rows_write(&held, in_case(folder, "val.jsonl"), true);
        la_posterior plain = case_load(folder, "plain");
        la_fit_summary *summary = case_fit(folder, "calib.jsonl", "guarded",
                                           (la_fit_options){.curvature = la_curvature_names[k],
                                                            .prior = LA_PRIOR_GLOBAL,
                                                            .val = "val.jsonl"});
        for (int s = 0; s < 2; s++) {
            const la_candidate *own = &summary->choice.record->candidates[scalars[s]];
            double nll = 0;
            la_fit_summary_free(
                case_fit(folder, "calib.jsonl", "fixed",
                         (la_fit_options){.curvature = la_curvature_names[k],
                                          .prior = LA_PRIOR_FIXED,
                                          .prior_value = own->prior_scale * plain.prior_precision,
                                          .select = LA_SELECT_NONE}));
            row_answers *a = answer(folder, "fixed", &held, "scalar");
            for (int64_t i = 0; i < held.n; i++)
                nll += row_nll(&held, i, a->classes, &a->rows[i], 1, own->temperature) /
                       (double)held.n;
            print_message("    %s: prior x %.3g, T %.3g\n", la_curvature_names[k], own->prior_scale,
                          own->temperature);
            worst = fmax(worst, fabs(nll - own->nll));
            free(a);
        }
        la_fit_summary_free(summary);
        la_posterior_free(&plain);
    }
    check_within("scalar probit's likelihood against a fit of its own", worst, 1.8e-8);
}

/* ---- cross-fitting ---- */

typedef struct keyed {
    uint64_t hash;
    int64_t row;
} keyed;

static int by_hash(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

/* Folds by the rank of a row's hash, copies sharing theirs, or (split) dealt out one by one. */
static void assign_folds(const row_file *rows, bool split, int *fold) {
    keyed order[ROWS_MOST];
    int64_t rank = -1;
    for (int64_t i = 0; i < rows->n; i++)
        order[i] = (keyed){la_hash64(rows->ids[i], (size_t)rows->length[i] * sizeof(int32_t)), i};
    qsort(order, (size_t)rows->n, sizeof *order, by_hash);
    for (int64_t i = 0; i < rows->n; i++) {
        rank += split || !i || order[i].hash != order[i - 1].hash;
        fold[order[i].row] = (int)(rank % FOLDS);
    }
}

/* The likelihood of a scalar candidate by fits to the other folds: a share s of the rows has about
 * s H, and (H / s + precision)^-1 = s (H + s precision)^-1. */
static double nll_of_folds(const char *folder, const row_file *rows, const int *fold,
                           const la_candidate *own, const char *curvature, double precision) {
    double nll = 0;
    for (int f = 0; f < FOLDS; f++) {
        row_file others = {0}, held = {0};
        for (int64_t i = 0; i < rows->n; i++)
            rows_add(fold[i] == f ? &held : &others, rows, i);
        double share = (double)others.n / (double)rows->n;
        rows_write(&others, in_case(folder, "others.jsonl"), true);
        la_fit_summary_free(
            case_fit(folder, "others.jsonl", "part",
                     (la_fit_options){.curvature = curvature,
                                      .prior = LA_PRIOR_FIXED,
                                      .prior_value = share * own->prior_scale * precision,
                                      .select = LA_SELECT_NONE}));
        row_answers *a = answer(folder, "part", &held, "scalar");
        for (int64_t i = 0; i < held.n; i++)
            nll += row_nll(&held, i, a->classes, &a->rows[i], share, own->temperature) /
                   (double)rows->n;
        free(a);
    }
    return nll;
}

/* Rows of which some are there twice and thrice, with other labels. */
static row_file with_copies(const char *folder) {
    row_file rows = labelled(folder, 4, 26, 1.5);
    for (int64_t i = 0; i < 15; i++) {
        rows_add(&rows, &rows, i % 10);
        rows.labels[rows.n - 1] = i % 3;
    }
    return rows_turned(&rows, 17, 3);
}

static void cross_fitting_against_fits(void **state) {
    (void)state;
    static const char *const curvatures[] = {"kron", "exact"};
    static const la_method scalars[] = {LA_METHOD_SCALAR, LA_METHOD_TEMPERED_SCALAR};
    double worst = 0, most = 0;
    for (int k = 0; k < 2; k++) {
        const char *folder = open_bert(LA_PRIOR_GLOBAL, curvatures[k]);
        row_file rows = with_copies(folder);
        int fold[ROWS_MOST], dealt[ROWS_MOST];
        rows_write(&rows, in_case(folder, "rows.jsonl"), true);
        la_fit_options options = {.curvature = curvatures[k], .prior = LA_PRIOR_GLOBAL};
        options.select = LA_SELECT_NONE;
        la_fit_summary *plain = case_fit(folder, "rows.jsonl", "all", options);
        options.select = LA_SELECT_AUTO;
        options.heldout = 1;
        la_fit_summary *crossed = case_fit(folder, "rows.jsonl", "crossed", options);
        la_posterior p = case_load(folder, "crossed");
        assert_true(p.choice.guarded && p.choice.cross && p.choice.n == rows.n);
        assign_folds(&rows, false, fold);
        assign_folds(&rows, true, dealt);
        for (int s = 0; s < 2; s++) {
            const la_candidate *own = &crossed->choice.record->candidates[scalars[s]];
            double want =
                nll_of_folds(folder, &rows, fold, own, curvatures[k], plain->prior_precision);
            double other =
                nll_of_folds(folder, &rows, dealt, own, curvatures[k], plain->prior_precision);
            worst = fmax(worst, fabs(own->nll - want));
            most = fmax(most, fabs(own->nll - other));
        }
        /* the posterior itself is of all rows */
        assert_true(fabs(p.prior_precision -
                         plain->prior_precision *
                             p.choice.candidates[la_choice_laplace(&p.choice)].prior_scale) <
                    1e-12 * p.prior_precision);
        assert_int_equal(p.n_rows, rows.n);
        la_posterior_free(&p);
        la_fit_summary_free(plain);
        la_fit_summary_free(crossed);
    }
    check_within("cross-fitted likelihood against fits to the folds", worst, 2.2e-7);
    print_message("    copies in other folds would be off by %.2g\n", most);
    assert_true(most > 20 * worst && most > 1e-4);
}

static void check_same(const la_choice *a, const la_choice *b, double *worst) {
    assert_int_equal(a->method, b->method);
    assert_int_equal(a->n, b->n);
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *x = &a->candidates[k], *y = &b->candidates[k];
        assert_true(x->prior_scale == y->prior_scale);
        assert_true(isnan(x->nll) == isnan(y->nll));
        *worst = fmax(*worst, relative(x->temperature, y->temperature, 1));
        *worst = isnan(x->nll) ? *worst : fmax(*worst, fabs(x->nll - y->nll));
    }
}

static void order_changes_nothing(void **state) {
    (void)state;
    const char *folder = open_bert(LA_PRIOR_MODULE, "kron");
    row_file rows = with_copies(folder), turned = rows_turned(&rows, 7, 11);
    double worst = 0;
    rows_write(&rows, in_case(folder, "rows.jsonl"), true);
    rows_write(&turned, in_case(folder, "turned.jsonl"), true);
    la_fit_options cross = {.prior = LA_PRIOR_MODULE, .heldout = 1},
                   val = {.prior = LA_PRIOR_MODULE};
    la_fit_summary *a = case_fit(folder, "rows.jsonl", "a", cross);
    la_fit_summary *b = case_fit(folder, "turned.jsonl", "b", cross);
    la_fit_summary *again = case_fit(folder, "rows.jsonl", "c", cross);
    check_same(a->choice.record, b->choice.record, &worst);
    assert_memory_equal(a->choice.record->candidates, again->choice.record->candidates,
                        sizeof a->choice.record->candidates);
    assert_int_equal(a->choice.record->method, again->choice.record->method);
    la_fit_summary_free(a);
    la_fit_summary_free(b);
    la_fit_summary_free(again);
    val.val = "rows.jsonl";
    a = case_fit(folder, "calib.jsonl", "a", val);
    again = case_fit(folder, "calib.jsonl", "c", val);
    val.val = "turned.jsonl";
    b = case_fit(folder, "calib.jsonl", "b", val);
    check_same(a->choice.record, b->choice.record, &worst);
    assert_memory_equal(a->choice.record->candidates, again->choice.record->candidates,
                        sizeof a->choice.record->candidates);
    la_fit_summary_free(a);
    la_fit_summary_free(b);
    la_fit_summary_free(again);
    check_within("choices of rows in another order", worst, 1.3e-6);
}

/* ---- held-out rows that are not used ---- */

#define ON(data, out, more)                                                                        \
    "fit --base @/base --adapter @/adapter --data @/" data " --out @/" out " " more

static char *run_notes(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", line, done.err);
    free(done.out);
    return done.err;
}

static char *answers_of(const char *folder, const char *posterior, const char *more) {
    char line[512];
    snprintf(line, sizeof line,
             "predict --posterior @/%s --data @/test.jsonl --emit logits,cov --quiet %s", posterior,
             more);
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", line, done.err);
    free(done.err);
    return done.out;
}

static void expect_note(const char *notes, const char *piece, bool there) {
    if (!strstr(notes, piece) == there)
        fail_msg("notes %s \"%s\": %.900s", there ? "without" : "with", piece, notes);
}

static void unused_rows(void **state) {
    (void)state;
    static const struct {
        const char *plain, *with, *note;
    } cases[] = {
        {ON("calib.jsonl", "a", "--prior 3"), ON("calib.jsonl", "b", "--prior 3 --val @/val.jsonl"),
         "--prior is meant exactly: the held-out rows choose nothing"},
        {ON("calib.jsonl", "a", "--prior layer"), ON("calib.jsonl", "b", "--prior layer --heldout"),
         "--prior is meant exactly: the held-out rows choose nothing"},
        {ON("calib.jsonl", "a", "--select none"),
         ON("calib.jsonl", "b", "--select none --val @/val.jsonl"),
         "--select none: the held-out rows choose nothing"},
        {ON("calib.jsonl", "a", "--select marglik"),
         ON("calib.jsonl", "b", "--select marglik --heldout"),
         "--select marglik: the held-out rows choose nothing"},
    };
    const char *folder = open_bert(LA_PRIOR_MODULE, "kron");
    row_file held = labelled(folder, 5, 30, 3);
    rows_write(&held, in_case(folder, "val.jsonl"), true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *plain = run_notes(folder, cases[i].plain), *with = run_notes(folder, cases[i].with);
        char *a = answers_of(folder, "a", ""), *b = answers_of(folder, "b", "");
        expect_note(plain, "choose nothing", false);
        expect_note(with, cases[i].note, true);
        assert_string_equal(a, b);
        /* asked for by name, the same as by default */
        char *mc = answers_of(folder, "b", "--predictive mc");
        assert_string_equal(a, mc);
        free(plain), free(with), free(a), free(b), free(mc);
    }
    /* and they would have chosen something */
    free(run_notes(folder, ON("calib.jsonl", "a", "--select none")));
    free(run_notes(folder, ON("calib.jsonl", "b", "--val @/val.jsonl")));
    char *a = answers_of(folder, "a", ""), *b = answers_of(folder, "b", "");
    assert_string_not_equal(a, b);
    free(a), free(b);
}

/* ---- notes ---- */

/* Power iteration on cov F, F = diag(p) - p p^T. */
static double leverage_of(int64_t c, const la_prediction *row) {
    double v[ROW_CLASSES], p[ROW_CLASSES], top = 0;
    row_softmax(c, row, 1, p);
    for (int64_t k = 0; k < c; k++)
        v[k] = sin(1 + 3.0 * (double)k);
    for (int step = 0; step < 300; step++) {
        double u[ROW_CLASSES], mean = 0, norm = 0;
        for (int64_t k = 0; k < c; k++)
            mean += p[k] * v[k];
        for (int64_t k = 0; k < c; k++)
            u[k] = p[k] * (v[k] - mean);
        for (int64_t k = 0; k < c; k++) {
            v[k] = 0;
            for (int64_t l = 0; l < c; l++)
                v[k] += row->logit_cov[k * c + l] * u[l];
            norm += v[k] * v[k];
        }
        top = sqrt(norm);
        for (int64_t k = 0; k < c && top > 0; k++)
            v[k] /= top;
    }
    return top;
}

/* Kronecker posterior, parameter by parameter. */
static double variance_ratio(const la_posterior *p) {
    double sum = 0, count = 0;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        const la_posterior_block *block = &p->blocks[b];
        const la_factor *out = &la_factored_of(p, b)->output;
        const la_factor *in = &la_factored_inputs(p)[block->input];
        count += (double)(block->out * block->in);
        for (int64_t i = 0; i < block->out; i++)
            for (int64_t j = 0; j < block->in; j++) {
                double h = i < out->rank && j < in->rank
                               ? out->values[i] * in->values[j] / block->denominator
                               : 0;
                sum += block->prior_precision / (h + block->prior_precision);
            }
    }
    return sum / count;
}

/* The line of signs, from the posterior that it is of. */
static void signs_line(const char *folder, const char *posterior, const row_file *rows,
                       char line[512]) {
    row_answers *a = rows_answer(rows, (la_predict_options){.posterior = in_case(folder, posterior),
                                                            .predictive = "mc",
                                                            .samples = 200});
    la_posterior p = case_load(folder, posterior);
    double accuracy = 0, confidence = 0, map = 0, leverage = 0;
    for (int64_t i = 0; i < rows->n; i++) {
        int64_t top = 0;
        for (int64_t k = 1; k < a->classes; k++)
            top = a->rows[i].map_probs[k] > a->rows[i].map_probs[top] ? k : top;
        accuracy += (double)(top == rows->labels[i]) / (double)rows->n;
        map += a->rows[i].map_probs[top] / (double)rows->n;
        confidence += a->rows[i].confidence / (double)rows->n;
        leverage = fmax(leverage, leverage_of(a->classes, &a->rows[i]));
    }
    snprintf(line, 512,
             "on %lld calibration rows: accuracy %.3f, mean confidence %.3f (MAP %.3f), largest "
             "leverage %.3g, posterior over prior variance %.3f\n",
             (long long)rows->n, accuracy, confidence, map, leverage, variance_ratio(&p));
    la_posterior_free(&p);
    free(a);
}

static void unguarded_notes(void **state) {
    (void)state;
    const char *folder = open_bert(LA_PRIOR_MODULE, "kron");
    char line[512];
    /* all answers right, and a posterior that takes much of the confidence */
    row_file right = labelled(folder, 6, 30, 0);
    rows_write(&right, in_case(folder, "right.jsonl"), true);
    char *notes = run_notes(folder, ON("right.jsonl", "a", ""));
    signs_line(folder, "a", &right, line);
    print_message("    %s", line);
    expect_note(notes, "laplora: note: unguarded: no held-out rows (--val FILE, or --heldout)",
                true);
    expect_note(notes, line, true);
    expect_note(notes, "under-confident", true);
    expect_note(notes, "misplaces", true);
    free(notes);
    /* directions that were left out have the prior's variance */
    notes = run_notes(folder, ON("right.jsonl", "a", "--rank 2"));
    signs_line(folder, "a", &right, line);
    expect_note(notes, line, true);
    free(notes);
    /* the exact curvature misplaces nothing, and a strong prior takes nothing away */
    notes = run_notes(folder, ON("right.jsonl", "a", "--curvature exact"));
    expect_note(notes, "largest leverage 0.", true);
    expect_note(notes, "misplaces", false);
    free(notes);
    row_file wrong = labelled(folder, 7, 30, 1000);
    rows_write(&wrong, in_case(folder, "wrong.jsonl"), true);
    notes = run_notes(folder, ON("wrong.jsonl", "a", "--curvature exact"));
    expect_note(notes, "unguarded", true);
    expect_note(notes, "under-confident", false);
    free(notes);
    /* no notes with held-out rows, with a prior that is meant exactly, or under --quiet */
    static const char *const silent[] = {
        ON("right.jsonl", "a", "--val @/wrong.jsonl"), ON("right.jsonl", "a", "--heldout"),
        ON("right.jsonl", "a", "--prior 2"), ON("right.jsonl", "a", "--select none"),
        ON("right.jsonl", "a", "--quiet")};
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        notes = run_notes(folder, silent[i]);
        expect_note(notes, "unguarded", false);
        expect_note(notes, "leverage", false);
        expect_note(notes, "only 30 held-out rows", i < 2);
        assert_true(i < 4 || !*notes);
        free(notes);
    }
}

/* What --keep-answers asked holds for every later choice: also where one was dropped between. */
static void answers_stay(void **state) {
    static const char *const lines[] = {
        "update --posterior @/a --data @/more.jsonl --val @/val.jsonl --out @/b",
        "update --posterior @/a --data @/more.jsonl --out @/b",
        "update --posterior @/b --remove @/more.jsonl --out @/c",
        "update --posterior @/c --data @/more.jsonl --val @/val.jsonl --out @/d", NULL};
#define REFINE                                                                                     \
    "refine --posterior @/d --data @/more.jsonl --val @/val.jsonl --epochs 1 --out @/e "           \
    "--out-adapter @/refined-"
    static const char *const refines[] = {REFINE "0", REFINE "1"};
    const char *folder = open_bert(LA_PRIOR_MODULE, "kron");
    (void)state;
    row_file held = labelled(folder, 11, 60, 1), more = labelled(folder, 12, 20, 1);
    for (int64_t i = 0; i < held.n; i++)
        held.labels[i] += !held.labels[i];
    rows_write(&held, in_case(folder, "val.jsonl"), true);
    rows_write(&more, in_case(folder, "more.jsonl"), true);
    for (int keep = 1; keep >= 0; keep--) {
        char *notes =
            run_notes(folder, keep ? ON("calib.jsonl", "a", "--val @/val.jsonl --keep-answers")
                                   : ON("calib.jsonl", "a", "--val @/val.jsonl"));
        expect_note(notes, "classes are corrected", !keep);
        free(notes);
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
            const char *line = lines[i] ? lines[i] : refines[keep];
            bool chooses = strstr(line, "--val") != NULL;
            notes = run_notes(folder, line);
            if (chooses) {
                expect_note(notes, "classes are biased", keep);
                expect_note(notes, "classes are corrected", !keep);
                expect_note(notes, "answers change", !keep);
            }
            free(notes);
        }
    }
}

/* A gain is told by its size and its sign in words; the average's NLL says that it leaves rows
 * out. */
static void signs_in_words(void **state) {
    (void)state;
    const char *folder = open_bert(LA_PRIOR_MODULE, "kron");
    int more = 0, less = 0;
    for (uint64_t seed = 20; seed < 28; seed++) {
        row_file held = labelled(folder, seed, 40, seed % 2 ? 1 : 3);
        rows_write(&held, in_case(folder, "val.jsonl"), true);
        char *notes = run_notes(folder, ON("calib.jsonl", "a", "--val @/val.jsonl"));
        expect_note(notes, "by -", false);
        more += strstr(notes, "(mean NLL more by 0.") != NULL;
        less += strstr(notes, "(mean NLL less by 0.") != NULL;
        const char *average = strstr(notes, ", average ");
        if (average)
            assert_non_null(strstr(average, " (each row left out of its own weights)\nchosen: "));
        free(notes);
    }
    assert_true(more && less);
}

/* Held-out rows of which the model is right as often as it says, and the same without one class. */
static void biased_classes(void **state) {
    (void)state;
    const char *folder = open_bert(LA_PRIOR_MODULE, "kron");
    for (int biased = 0; biased < 2; biased++) {
        row_file held = labelled(folder, 11, 60, 1);
        row_answers *a = answer(folder, "plain", &held, "map");
        int64_t right = 0;
        char share[64];
        for (int64_t i = 0; i < held.n; i++) {
            if (biased && held.labels[i] == 0)
                held.labels[i] = 1;
            right += a->rows[i].prediction == held.labels[i];
        }
        snprintf(share, sizeof share, "instead of %.3f; no temperature",
                 (double)right / (double)held.n);
        rows_write(&held, in_case(folder, "val.jsonl"), true);
        char *notes = run_notes(folder, ON("calib.jsonl", "a", "--val @/val.jsonl --keep-answers"));
        expect_note(notes, "the classes are biased", biased);
        expect_note(notes, share, biased);
        expect_note(notes, "answers change", false);
        free(notes), free(a);
        notes = run_notes(folder, ON("calib.jsonl", "a", "--val @/val.jsonl"));
        expect_note(notes, "the classes are biased", false);
        expect_note(notes, "classes are corrected", biased);
        expect_note(notes, "over-stated: ", biased);
        free(notes);
        if (!biased)
            continue;
        /* too few to decide */
        held.n = 30;
        rows_write(&held, in_case(folder, "val.jsonl"), true);
        notes = run_notes(folder, ON("calib.jsonl", "a", "--val @/val.jsonl"));
        expect_note(notes, "the classes are biased", false);
        free(notes);
    }
}

/* A causal LM of five choices, through the program; what the rows say of themselves. */
static void choices_of_tokens(void **state) {
    (void)state;
    const char *folder = open_case("llama-gqa");
    row_file held = rows_random(8, 40);
    for (int64_t i = 0; i < held.n; i++)
        held.labels[i] = (int64_t)la_random_below(9, 1, (uint64_t)i, 5);
    rows_write(&held, in_case(folder, "val.jsonl"), true);
    free(run_notes(folder,
                   ON("calib.jsonl", "a", "--val @/val.jsonl --choice-ids 41,7,93,20,64 --quiet")));
    la_posterior p = case_load(folder, "a");
    la_error err = {0};
    static const char *const kinds[LA_METHODS] = {
        "map",        "temperature",           "laplace-mc", "laplace-scalar-probit",
        "laplace-mc", "laplace-scalar-probit", "average"};
    for (int method = 0; method < LA_METHODS; method++) {
        p.choice.method = (la_method)method;
        assert_int_equal(la_posterior_save(&p, in_case(folder, "edited"), &err), LA_OK);
        if (method == LA_METHOD_AVERAGE && !p.choice.n_settings)
            continue;
        char *text = answers_of(folder, "edited", ""), kind[64];
        snprintf(kind, sizeof kind, "\"confidence_kind\":\"%s\"", kinds[method]);
        expect_note(text, kind, true);
        free(text);
    }
    double gap = check_answers(folder, "a", &held);
    la_posterior_free(&p);
    check_within("probabilities against the method of what is emitted", gap, 2.3e-8);
}

/* ---- what is refused ---- */

static const char unlabelled[] = "{\"input_ids\":[5,6],\"label\":1}\n{\"input_ids\":[7,8,9]}\n";
static const char few[] = "{\"input_ids\":[5,6],\"label\":1}\n{\"input_ids\":[7,8],\"label\":0}\n"
                          "{\"input_ids\":[5,6],\"label\":2}\n{\"input_ids\":[9,8],\"label\":0}\n"
                          "{\"input_ids\":[9],\"label\":0}\n{\"input_ids\":[9],\"label\":1}\n";

#define FIT_ON(data) "fit --base @/base --adapter @/adapter --data @/" data " --out @/out --quiet"

static const fault faults[] = {
    {"--select val without --val",
     2,
     {"--select val needs --val FILE"},
     .command = FIT " --select val"},
    {"--select val with --heldout alone",
     2,
     {"--select val needs --val FILE"},
     .command = FIT " --select val --heldout"},
    {"--keep-answers without held-out rows",
     2,
     {"--keep-answers", "--val"},
     .command = FIT " --keep-answers"},
    {"--keep-answers with a prior",
     2,
     {"--keep-answers", "leave out --prior"},
     .command = FIT " --keep-answers --heldout --prior 2"},
    {"--predict-cost forward without held-out rows",
     2,
     {"--predict-cost forward", "--val"},
     .command = FIT " --predict-cost forward"},
    {"--predict-cost forward with a prior",
     2,
     {"--predict-cost forward", "leave out --prior"},
     .command = FIT " --predict-cost forward --heldout --prior 2"},
    {"another cost", 2, {"--predict-cost", "forward, any"}, .command = FIT " --predict-cost cheap"},
    {"--select cross without --heldout",
     2,
     {"--select cross needs --heldout"},
     .command = FIT " --select cross"},
    {"--select cross with --val alone",
     2,
     {"--select cross needs --heldout"},
     .command = FIT " --select cross --val @/calib.jsonl"},
    {"--prior with --select val",
     2,
     {"--prior is meant exactly", "--select val"},
     .command = FIT " --prior 2 --select val --val @/calib.jsonl"},
    {"--prior with --select cross",
     2,
     {"--prior is meant exactly", "--select cross"},
     .command = FIT " --prior global --select cross --heldout"},
    {"unknown --select",
     2,
     {"--select \"best\"", "auto, val, cross, marglik, none"},
     .command = FIT " --select best"},
    {"fewer rows than folds",
     3,
     {"few.jsonl", "4 distinct rows", "in 5 parts"},
     .command = FIT_ON("few.jsonl") " --heldout",
     .damage = put_file,
     .file = "few.jsonl",
     .a = few},
    {"held-out rows without a label",
     3,
     {"val.jsonl:2", "label"},
     .command = FIT " --val @/val.jsonl",
     .damage = put_file,
     .file = "val.jsonl",
     .a = unlabelled},
    {"no held-out rows",
     3,
     {"val.jsonl", "no rows", "held-out"},
     .command = FIT " --val @/val.jsonl",
     .damage = put_file,
     .file = "val.jsonl",
     .a = ""},
    {"held-out rows that are not there",
     3,
     {"nowhere.jsonl"},
     .command = FIT " --val @/nowhere.jsonl"},
    {"held-out rows that are a folder", 3, {"base"}, .command = FIT " --val @/base"},
    {"a held-out label that is no class",
     3,
     {"val.jsonl:1", "label"},
     .command = FIT " --val @/val.jsonl",
     .damage = put_file,
     .file = "val.jsonl",
     .a = "{\"input_ids\":[5,6],\"label\":3}\n"},
    {"a temperature that was not chosen",
     2,
     {"posterior", "holds no temperature", "--val"},
     .command = PREDICT " --predictive temperature"},
};

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choice_is_applied),
        cmocka_unit_test(candidates_against_fits),
        cmocka_unit_test(cross_fitting_against_fits),
        cmocka_unit_test(order_changes_nothing),
        cmocka_unit_test(unused_rows),
        cmocka_unit_test(unguarded_notes),
        cmocka_unit_test(biased_classes),
        cmocka_unit_test(signs_in_words),
        cmocka_unit_test(answers_stay),
        cmocka_unit_test(choices_of_tokens),
    };
    int failed = run_faults("guard, refused", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
