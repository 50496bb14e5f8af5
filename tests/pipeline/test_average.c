/* An average of settings at predict: it is the weighted mean of what predict answers under each of
 * them alone, each fitted with that setting's own prior; on the host and on the emulated device,
 * whatever the batches; and what the posterior file holds of it. */
#include "base/digest.h"
#include "likelihood/selection.h"
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"
#include "support/seal.h"

#include <hdf5.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 200, SEED = 5 };

static row_answers *answer_by(const char *folder, const char *posterior, const row_file *rows,
                              const char *predictive, la_run_options run) {
    return rows_answer(rows, (la_predict_options){.run = run,
                                                  .posterior = in_case(folder, posterior),
                                                  .predictive = predictive,
                                                  .samples = SAMPLES,
                                                  .seed = SEED});
}

static row_answers *answer(const char *folder, const char *posterior, const row_file *rows,
                           const char *predictive) {
    return answer_by(folder, posterior, rows, predictive, (la_run_options){0});
}

/* A classifier of three classes and held-out rows that want it less sure: fitted to "guarded". */
static const char *open_bert(const char *curvature, const char *device, row_file *test) {
    const char *folder = open_case("bert");
    la_fit_options options = {.run.device = device,
                              .curvature = curvature,
                              .prior = LA_PRIOR_GLOBAL,
                              .select = LA_SELECT_NONE};
    case_sharpen(folder, "adapter", 8);
    la_fit_summary_free(case_fit(folder, "calib.jsonl", "plain", options));
    row_file held = rows_random(1, 60);
    row_answers *map = answer(folder, "plain", &held, "map");
    rows_draw_labels(&held, map, 3, 1);
    free(map);
    rows_write(&held, in_case(folder, "val.jsonl"), true);
    *test = rows_random(2, 20);
    rows_write(test, in_case(folder, "new.jsonl"), false);
    options.val = "val.jsonl";
    options.select = LA_SELECT_AUTO;
    la_fit_summary *s = case_fit(folder, "calib.jsonl", "guarded", options);
    assert_int_equal(s->choice.record->method, LA_METHOD_AVERAGE);
    la_fit_summary_free(s);
    return folder;
}

/* ---- the mean of single answers ---- */

/* Settings of every kind, with temperatures by which f32 logits divide without rounding. */
static void set_list(la_posterior *p) {
    static const la_setting list[] = {{LA_METHOD_LAPLACE, 10, 2, 0.3, 1},
                                      {LA_METHOD_SCALAR, 100, 0.5, 0.25, 0},
                                      {LA_METHOD_MAP, 1, 1, 0.2, 0},
                                      {LA_METHOD_LAPLACE, 100, 1, 0.15, 0},
                                      {LA_METHOD_TEMPERATURE, 1, 4, 0.0625, 2},
                                      {LA_METHOD_SCALAR, 10, 1, 0.0375, 2}};
    p->choice.n_settings = sizeof list / sizeof *list;
    memcpy(p->choice.settings, list, sizeof list);
    p->choice.n_corrections = 2;
    p->choice.corrections[0] = (la_correction){.scale = 1,
                                               .spread = 0.3,
                                               .temperature = 0.5,
                                               .determined = 0.75,
                                               .bias = {-0.5, 0.25, 0.25},
                                               .weight = {1.5, 0.75, 0.75}};
    p->choice.corrections[1] =
        (la_correction){.scale = 0.3, .temperature = 2, .bias = {0.125, -1, 0.875}};
    p->choice.centre[0] = 0.5;
    p->choice.centre[2] = -0.5;
}

/* Posterior as if a fit had chosen one setting: other precisions, another temperature, another
 * method. */
static row_answers *single(const char *folder, const char *name, const la_setting *s, double start,
                           const row_file *rows, la_run_options run) {
    la_posterior p = case_load(folder, name);
    bool laplace = s->method == LA_METHOD_LAPLACE || s->method == LA_METHOD_SCALAR;
    for (int64_t b = 0; b < p.n_blocks; b++)
        p.blocks[b].prior_precision = start * (laplace ? s->prior_scale : 1);
    p.choice.method = s->method;
    p.choice.n_settings = 0;
    if (s->correction) { /* an average of one */
        p.choice.method = LA_METHOD_AVERAGE;
        p.choice.n_settings = 1;
        p.choice.settings[0] = *s;
        p.choice.settings[0].weight = 1;
        p.choice.settings[0].prior_scale =
            laplace ? p.choice.candidates[la_choice_laplace(&p.choice)].prior_scale : 1;
    }
    p.choice.candidates[LA_METHOD_TEMPERATURE].temperature = s->temperature;
    p.temperature = s->temperature;
    case_save(&p, folder, "single");
    la_posterior_free(&p);
    return answer_by(folder, "single", rows, NULL, run);
}

static double entropy_of(int64_t c, const double *p) {
    double sum = 0;
    for (int64_t k = 0; k < c; k++)
        sum -= p[k] > 0 ? p[k] * log(p[k]) : 0;
    return sum;
}

typedef struct gaps {
    double probs, cov, information, variance;
} gaps;

/* Row i of an answer against the mean of parts. */
static void check_row(const la_prediction *got, row_answers *const *parts, const la_choice *choice,
                      int64_t i, int64_t c, gaps *worst) {
    double p[ROW_CLASSES] = {0}, second[ROW_CLASSES] = {0}, networks = 0, top = 0;
    int best = 0;
    for (int64_t s = 0; s < choice->n_settings; s++) {
        const la_prediction *part = &parts[s]->rows[i];
        double weight = choice->settings[s].weight;
        networks += weight * (part->entropy - part->mutual_information);
        for (int64_t k = 0; k < c; k++) {
            p[k] += weight * part->probs[k];
            second[k] += weight * (part->variance[k] + part->probs[k] * part->probs[k]);
            assert_true(got->logits[k] == part->logits[k]);
            assert_true(fabs(got->map_probs[k] - part->map_probs[k]) < 1e-15);
        }
    }
    for (int64_t k = 0; k < c; k++) {
        best = p[k] > p[best] ? (int)k : best;
        worst->probs = fmax(worst->probs, fabs(got->probs[k] - p[k]));
        worst->variance = fmax(worst->variance, fabs(got->variance[k] - (second[k] - p[k] * p[k])));
        assert_true(got->variance[k] > 0);
        for (int64_t l = 0; l < c; l++) {
            double cov = 0;
            for (int64_t s = 0; s < choice->n_settings; s++)
                cov += choice->settings[s].weight * parts[s]->rows[i].logit_cov[k * c + l];
            worst->cov = fmax(worst->cov, relative(got->logit_cov[k * c + l], cov, 1e-3));
        }
    }
    top = p[best];
    assert_int_equal(got->prediction, best);
    worst->probs = fmax(worst->probs, fabs(got->confidence - top));
    worst->information = fmax(worst->information, fabs(got->entropy - entropy_of(c, p)));
    assert_true(got->mutual_information > 0);
    worst->information =
        fmax(worst->information, fabs(got->mutual_information - (entropy_of(c, p) - networks)));
}

static void check_mean(const char *folder, const char *name, const row_file *rows,
                       la_run_options run, gaps *worst) {
    la_posterior p = case_load(folder, name);
    double start =
        p.blocks[0].prior_precision / p.choice.candidates[la_choice_laplace(&p.choice)].prior_scale;
    row_answers *parts[LA_SETTINGS_MOST] = {0};
    row_answers *got = answer_by(folder, name, rows, NULL, run);
    assert_true(p.choice.n_settings > 1);
    for (int64_t s = 0; s < p.choice.n_settings; s++)
        parts[s] = single(folder, name, &p.choice.settings[s], start, rows, run);
    for (int64_t i = 0; i < rows->n; i++)
        check_row(&got->rows[i], parts, &p.choice, i, got->classes, worst);
    for (int64_t s = 0; s < p.choice.n_settings; s++)
        free(parts[s]);
    free(got);
    la_posterior_free(&p);
}

static void raise(gaps *worst, const gaps *by) {
    worst->probs = fmax(worst->probs, by->probs);
    worst->cov = fmax(worst->cov, by->cov);
    worst->information = fmax(worst->information, by->information);
    worst->variance = fmax(worst->variance, by->variance);
}

/* The fit's own list, then a list of all kinds, and one whose parts all have a variance. */
static void mean_of_singles(void **state) {
    (void)state;
    gaps worst = {0};
    for (int k = 0; k < LA_CURVATURES_FITTED; k++) {
        row_file test;
        gaps own = {0};
        const char *folder = open_bert(la_curvature_names[k], NULL, &test);
        check_mean(folder, "guarded", &test, (la_run_options){0}, &own);
        la_posterior p = case_load(folder, "guarded");
        print_message("    %s: %lld settings, probabilities %.1e off\n", la_curvature_names[k],
                      (long long)p.choice.n_settings, own.probs);
        raise(&worst, &own);
        set_list(&p);
        case_save(&p, folder, "edited");
        check_mean(folder, "edited", &test, (la_run_options){0}, &worst);
        for (int64_t s = 0; s < p.choice.n_settings; s++)
            if (p.choice.settings[s].method == LA_METHOD_SCALAR)
                p.choice.settings[s].method = LA_METHOD_LAPLACE;
        case_save(&p, folder, "edited");
        check_mean(folder, "edited", &test, (la_run_options){0}, &worst);
        la_posterior_free(&p);
    }
    check_within("probabilities against the mean of single answers", worst.probs, 9e-16);
    check_within("covariances, relative", worst.cov, 5.6e-14);
    check_within("entropies and information", worst.information, 9e-16);
    check_within("variances", worst.variance, 1.6e-15);
}

/* ---- batches, order, threads ---- */

static double gap_between(const row_answers *a, const row_answers *b, int64_t step, int64_t start) {
    double worst = 0;
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t k = 0; k < a->classes; k++)
            worst = fmax(worst,
                         fabs(a->rows[i].probs[k] - b->rows[(step * i + start) % a->n].probs[k]));
    return worst;
}

static void batches_change_nothing(void **state) {
    (void)state;
    row_file test;
    const char *folder = open_bert("kron", NULL, &test);
    row_file turned = rows_turned(&test, 7, 3);
    static const la_run_options runs[] = {
        {.batch_tokens = 24}, {.batch_tokens = 100}, {.threads = 1}, {.threads = 3}};
    row_answers *want = answer(folder, "guarded", &test, NULL);
    double worst = 0;
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        row_answers *got = answer_by(folder, "guarded", &test, NULL, runs[k]);
        worst = fmax(worst, gap_between(want, got, 1, 0));
        free(got);
    }
    row_answers *got = answer(folder, "guarded", &turned, NULL);
    /* turned row i is row 7 i + 3 */
    worst = fmax(worst, gap_between(got, want, 7, 3));
    free(got);
    /* by its name it is the same */
    got = answer(folder, "guarded", &test, "average");
    assert_true(gap_between(want, got, 1, 0) == 0);
    free(got);
    /* and an explicit predictive is no average */
    got = answer(folder, "guarded", &test, "mc");
    assert_true(gap_between(want, got, 1, 0) > 1e-4);
    free(got);
    free(want);
    check_within("answers in other batches, order and threads", worst, 3.7e-6);
}

/* ---- the file ---- */

static void same_lists(const la_choice *a, const la_choice *b) {
    assert_int_equal(a->n_settings, b->n_settings);
    assert_true(a->shortening == b->shortening);
    for (int64_t s = 0; s < a->n_settings; s++) {
        const la_setting *x = &a->settings[s], *y = &b->settings[s];
        assert_int_equal(x->method, y->method);
        assert_true(x->prior_scale == y->prior_scale && x->temperature == y->temperature &&
                    x->weight == y->weight && x->correction == y->correction);
    }
    assert_int_equal(a->n_corrections, b->n_corrections);
    for (int64_t k = 0; k < a->n_corrections; k++) {
        const la_correction *x = &a->corrections[k], *y = &b->corrections[k];
        assert_true(x->scale == y->scale && x->temperature == y->temperature &&
                    x->spread == y->spread && x->determined == y->determined);
        assert_memory_equal(x->bias, y->bias, ROW_CLASSES * sizeof *x->bias);
        assert_memory_equal(x->weight, y->weight, sizeof x->weight);
    }
    assert_memory_equal(a->centre, b->centre, sizeof a->centre);
}

typedef struct damage {
    const char *group, *name; /* in choice/ */
    double number;
    const char *text; /* in place of the number; "": the attribute or group goes */
    const char *piece;
} damage;

static const damage damages[] = {
    {"settings/00001", "weight", 0.9, NULL, "\"choice/settings/weight\" does not sum to 1"},
    {"settings/00000", "weight", 0, NULL, "\"choice/settings/00000/weight\" is not positive"},
    {"settings/00000", "weight", -0.1, NULL, "\"choice/settings/00000/weight\" is not positive"},
    {"settings/00002", "weight", NAN, NULL, "\"choice/settings/00002/weight\" is not finite"},
    {"settings/00001", "temperature", 0, NULL, "00001/temperature\" is not positive"},
    {"settings/00001", "temperature", INFINITY, NULL, "00001/temperature\" is not finite"},
    {"settings/00001", "prior_scale", -3, NULL, "00001/prior_scale\" is not positive"},
    {"settings/00002", "temperature", 2, NULL, "is not 1, and the method is map"},
    {"settings/00001", "method", 0, "average", "00001/method\" has an unknown value"},
    {"settings/00001", "method", 0, "laplace+temperature", "00001/method\" has an unknown value"},
    {"settings/00003", "method", 0, "", "\"choice/settings/00003/method\" is missing"},
    {"settings", "n_settings", 0, NULL, "\"choice/settings/n_settings\" is out of range"},
    {"settings", "n_settings", 33, NULL, "\"choice/settings/n_settings\" is out of range"},
    {"settings", "n_settings", 5, NULL, "does not sum to 1"},
    {"settings", "n_settings", 7, NULL, "\"choice/settings/00006\" is missing"},
    {"settings", "shortening", -1, NULL, "\"choice/settings/shortening\" is out of range"},
    {"settings", "", 0, "", "\"settings\" is missing"},
    {"settings/00000", "correction", 3, NULL, "00000/correction\" is none of those"},
    {"settings/00000", "correction", 5, NULL, "00000/correction\" is out of range"},
    {"settings/00000", "correction", -1, NULL, "00000/correction\" is out of range"},
    {"corrections", "n_corrections", 3, NULL, "\"choice/corrections/00002\" is missing"},
    {"corrections", "n_corrections", 0, NULL, "n_corrections\" is out of range"},
    {"corrections/00001", "scale", 0, NULL, "00001/scale\" is not positive"},
    {"corrections/00000", "determined", 1.5, NULL, "00000/determined\" is out of range"},
    {"corrections/00000", "spread", 0, NULL, "00000/spread\" is not positive"},
    {"corrections/00000", "spread", 0, "", "\"choice/corrections/00000/spread\" is missing"},
    {"corrections/00000", "weight", 0, "", "weight\" has a mean that is not 1"},
    {"corrections", "", 0, "", "00000/correction\" is none of those"},
    {"average", "", 0, "", "\"method\" names a candidate that is missing"},
};

static void do_damage(const char *path, const damage *d) {
    la_error err = {0};
    char where[64];
    snprintf(where, sizeof where, "choice/%s", d->group);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t group = H5Gopen2(file, where, H5P_DEFAULT);
    assert_true(file >= 0 && group >= 0);
    if (!*d->name)
        assert_true(H5Ldelete(file, where, H5P_DEFAULT) >= 0);
    else if (d->text && !*d->text)
        assert_true(H5Aexists(group, d->name) > 0 ? H5Adelete(group, d->name) >= 0
                                                  : H5Ldelete(group, d->name, H5P_DEFAULT) >= 0);
    else if (d->text)
        set_text(group, d->name, d->text);
    else if (!strcmp(d->name, "correction") || !strncmp(d->name, "n_", 2))
        set_count(group, d->name, (int64_t)d->number);
    else
        set_number(group, d->name, d->number);
    H5Gclose(group);
    H5Fclose(file);
    assert_int_equal(seal_file(path, &err), LA_OK);
}

static void damaged(void **state) {
    (void)state;
    row_file test;
    const char *folder = open_bert("kron", NULL, &test);
    la_posterior p = case_load(folder, "guarded"), q;
    set_list(&p);
    case_save(&p, folder, "whole");
    q = case_load(folder, "whole");
    same_lists(&p.choice, &q.choice);
    la_posterior_free(&p);
    la_posterior_free(&q);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        size_t length;
        char *data = read_file(in_case(folder, "whole"), &length);
        write_file(in_case(folder, "posterior"), data, length);
        free(data);
        do_damage(in_case(folder, "posterior"), &damages[i]);
        command done =
            run_line(folder, "predict --posterior @/posterior --data @/new.jsonl --quiet", NULL);
        const char *const pieces[] = {"posterior", damages[i].piece, "damaged"};
        check_message(&done, LA_BAD_INPUT, pieces, 3);
        assert_string_equal(done.out, "");
        command_free(&done);
    }
}

static char *rows_of(const char *folder, const char *name) {
    char line[256];
    snprintf(line, sizeof line, "predict --posterior @/%s --data @/new.jsonl --samples 50 --quiet",
             name);
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", line, done.err);
    free(done.err);
    return done.out;
}

/* Schema 1.3 knew no average: what was chosen there answers with the same bytes. */
static void older_file(void **state) {
    (void)state;
    row_file test;
    const char *folder = open_bert("kron", NULL, &test);
    la_error err = {0};
    for (int method = 0; method < LA_METHOD_AVERAGE; method++) {
        la_posterior p = case_load(folder, "guarded"), q;
        p.choice.method = (la_method)method;
        case_save(&p, folder, "newer");
        char *want = rows_of(folder, "newer");
        p.choice.n_settings = p.choice.n_corrections = 0;
        p.choice.candidates[LA_METHOD_AVERAGE].nll = NAN;
        case_save(&p, folder, "older");
        hid_t file = H5Fopen(in_case(folder, "older"), H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(H5Lexists(file, "choice/settings", H5P_DEFAULT) == 0);
        assert_true(H5Lexists(file, "choice/average", H5P_DEFAULT) == 0);
        set_count(file, "schema_minor", 3);
        H5Fclose(file);
        assert_int_equal(seal_file(in_case(folder, "older"), &err), LA_OK);
        q = case_load(folder, "older");
        assert_true(q.choice.guarded && !q.choice.n_settings);
        assert_int_equal(q.choice.method, method);
        assert_true(isnan(q.choice.candidates[LA_METHOD_AVERAGE].nll));
        char *got = rows_of(folder, "older");
        assert_string_equal(got, want);
        free(got);
        free(want);
        la_posterior_free(&p);
        la_posterior_free(&q);
    }
    command done = run_line(
        folder, "predict --posterior @/older --data @/new.jsonl --quiet --predictive average",
        NULL);
    static const char *const pieces[] = {"older", "holds no settings to average", "--val"};
    check_message(&done, LA_USAGE, pieces, 3);
    command_free(&done);
}

/* ---- the program ---- */

static void program(void **state) {
    (void)state;
    row_file test;
    const char *folder = open_bert("kron", NULL, &test);
    command done = run_line(folder,
                            "fit --base @/base --adapter @/adapter --data @/calib.jsonl --val "
                            "@/val.jsonl --out @/again --json",
                            NULL);
    la_posterior p = case_load(folder, "again");
    json_t *fit = json_loads(done.out, 0, NULL);
    assert_true(done.code == 0 && fit);
    char piece[64];
    snprintf(piece, sizeof piece, "chosen: average of %lld settings",
             (long long)p.choice.n_settings);
    command_free(&done);
    done = run_line(folder,
                    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --val @/val.jsonl "
                    "--out @/again",
                    NULL);
    if (!strstr(done.err, piece) || !strstr(done.err, "averaged: 0."))
        fail_msg("\"%s\" is not in: %s", piece, done.err);
    command_free(&done);
    done = run_line(folder, "info @/again --json", NULL);
    json_t *info = json_loads(done.out, 0, NULL);
    assert_true(done.code == 0 && info);
    command_free(&done);
    const json_t *choices[] = {json_object_get(fit, "selection"), json_object_get(info, "choice")};
    for (int k = 0; k < 2; k++) {
        const json_t *list = json_object_get(choices[k], "settings");
        assert_string_equal(json_string_value(json_object_get(choices[k], "method")), "average");
        assert_true(json_is_null(json_object_get(choices[k], "temperature")));
        assert_int_equal(json_array_size(list), p.choice.n_settings);
        for (int64_t s = 0; s < p.choice.n_settings; s++) {
            const json_t *one = json_array_get(list, (size_t)s);
            const la_setting *want = &p.choice.settings[s];
            assert_string_equal(json_string_value(json_object_get(one, "method")),
                                la_method_names[want->method]);
            assert_true(json_number_value(json_object_get(one, "weight")) == want->weight);
            assert_true(json_number_value(json_object_get(one, "prior_scale")) ==
                        want->prior_scale);
            assert_true(json_number_value(json_object_get(one, "temperature")) ==
                        want->temperature);
        }
    }
    json_decref(fit);
    json_decref(info);
    la_posterior_free(&p);
    char *rows = rows_of(folder, "again");
    assert_non_null(strstr(rows, "\"confidence_kind\":\"average\""));
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_of_singles), cmocka_unit_test(batches_change_nothing),
        cmocka_unit_test(damaged),         cmocka_unit_test(older_file),
        cmocka_unit_test(program),
    };
    return cmocka_run_group_tests_name("average", tests, NULL, NULL);
}
