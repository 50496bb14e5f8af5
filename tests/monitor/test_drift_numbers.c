/* laplora drift of regressions: false alarms, intervals of the estimated errors and the advice on
 * simulated rows, two files and streams; the command's output and bad input. */
#include "base/random.h"
#include "monitor/drift_sets.h"
#include "monitor/martingale.h"
#include "support/process.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 300, REFERENCE = 1200, CURRENT = 600 };

static uint64_t drawn;

static double uniform(void) {
    return la_random_uniform(43, 0, drawn++);
}

static double normal(void) {
    double z;
    la_random_normal(43, 1, drawn++, 1, &z);
    return z;
}

/* Predictions lie at `level`, far from 0; standard deviations are size (0.5 + u), stated times
 * `stated`; labels lie `shift` of them off, and are Gaussian about that, or of heavy tails, times
 * `worse`. ood is u^(1 / far). */
typedef struct world {
    double level, size, stated, shift, worse, far;
    bool heavy, labelled;
} world;

static la_drift_row draw(const world *w) {
    double own = w->size * (0.5 + uniform()), z = normal();
    la_drift_row row = {.labelled = w->labelled};
    if (w->heavy)
        z *= 0.75 / sqrt(0.25 + uniform());
    row.scores[LA_NUMBER_PREDICTION] = w->level + 0.3 * normal();
    row.scores[LA_NUMBER_DEVIATION] = own * w->stated;
    row.scores[LA_NUMBER_MODEL_VARIANCE] = 0.1 * own * own * uniform();
    row.scores[LA_NUMBER_OOD] = pow(uniform(), 1 / w->far);
    row.target =
        w->labelled ? row.scores[LA_NUMBER_PREDICTION] + own * (w->shift + w->worse * z) : NAN;
    row.right = fabs(la_drift_number(&row, LA_NUMBER_CALIBRATION)) <= 1.6448536269514722;
    return row;
}

static la_drift_rows draw_rows(const world *w, int64_t n) {
    la_drift_rows rows = {.list = calloc((size_t)n, sizeof *rows.list), .n = n, .numbers = true};
    assert_non_null(rows.list);
    for (int64_t i = 0; i < n; i++)
        rows.list[i] = draw(w);
    return rows;
}

static la_drift compare(const world *from, int64_t n, const world *to, int64_t m, double alpha) {
    la_drift_rows a = draw_rows(from, n), b = draw_rows(to, m);
    return drift_of_sets(&a, &b, alpha);
}

static const world usual = {1000, 0.2, 1, 0, 1, 1, false, true};
static const world heavy = {-5, 3, 1, 0, 1, 1, true, true};
static const world off = {1000, 0.2, 0.6, 0, 1, 1, false, true};
static const world unlabelled = {1000, 0.2, 1, 0, 1, 1, false, false};
static const world harder = {1000, 0.3, 1, 0, 1, 1, false, true};

static void false_alarms(void **state) {
    enum { PAIRS = 400 };
    static const struct {
        const world *from, *to;
        int64_t n[2];
    } cases[] = {{&usual, &usual, {40, 25}},        {&usual, &usual, {600, 300}},
                 {&heavy, &heavy, {300, 200}},      {&off, &off, {300, 200}},
                 {&usual, &unlabelled, {300, 200}}, {&unlabelled, &usual, {300, 200}}};
    const double alpha = 0.1;
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int alarms = 0;
        drawn = (uint64_t)c << 32;
        for (int i = 0; i < PAIRS; i++)
            alarms +=
                compare(cases[c].from, cases[c].n[0], cases[c].to, cases[c].n[1], alpha).alarm;
        check_within("share of pairs that alarm", (double)alarms / PAIRS,
                     alpha + 2 * sqrt(alpha * (1 - alpha) / PAIRS));
        assert_true(alarms > 0);
    }
}

/* The intervals hold the errors that labels show: where standard deviations are right, where they
 * are off as in the reference, under heavy tails, among rows that are harder, without labels in the
 * reference. */
static void intervals(void **state) {
    enum { PAIRS = 500 };
    static const struct {
        const world *from, *to;
        int64_t n[2];
    } cases[] = {{&usual, &usual, {600, 300}},  {&usual, &usual, {40, 20}},
                 {&off, &off, {200, 300}},      {&heavy, &heavy, {600, 300}},
                 {&usual, &harder, {600, 300}}, {&unlabelled, &usual, {600, 50}}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int held[2] = {0, 0};
        drawn = (uint64_t)(100 + c) << 32;
        for (int i = 0; i < PAIRS; i++) {
            la_drift d = compare(cases[c].from, cases[c].n[0], cases[c].to, cases[c].n[1], 0.01);
            const la_drift_error *errors[2] = {&d.rmse, &d.nll};
            for (int k = 0; k < 2; k++) {
                const la_drift_error *e = errors[k];
                held[k] += e->measured >= e->interval[0] && e->measured <= e->interval[1];
                assert_true(e->interval[0] <= e->estimated && e->estimated <= e->interval[1]);
            }
            assert_true(isnan(d.estimated) && isnan(d.measured) && isnan(d.reference));
        }
        for (int k = 0; k < 2; k++)
            check_within(k ? "NLL: share of intervals that miss" : "RMSE: share that miss",
                         1 - (double)held[k] / PAIRS, 0.05 + 2 * sqrt(0.05 * 0.95 / PAIRS));
    }
}

static void advice(void **state) {
    static const world narrow = {1000, 0.2, 0.5, 0, 1, 1, false, true},
                       worse = {1000, 0.2, 1, 0, 2, 1, false, true},
                       biased = {1000, 0.2, 1, 1.5, 1, 1, false, true},
                       moved = {1001, 0.2, 1, 0, 1, 1, false, true},
                       far = {1000, 0.2, 1, 0, 1, 4, false, false},
                       doubtful = {1000, 0.4, 1, 0, 1, 1, false, false},
                       elsewhere = {1000.2, 0.2, 1, 0, 1, 1, false, false};
    static const struct {
        const world *from, *to;
        la_drift_number_kind alarm;
        la_drift_advice advice;
    } cases[] = {{&usual, &narrow, LA_NUMBER_CALIBRATION, LA_ADVICE_RECALIBRATE},
                 {&unlabelled, &off, LA_NUMBER_CALIBRATION, LA_ADVICE_RECALIBRATE},
                 {&usual, &worse, LA_NUMBER_ERROR, LA_ADVICE_RETRAIN},
                 {&usual, &worse, LA_NUMBER_COVERAGE, LA_ADVICE_RETRAIN},
                 {&usual, &biased, LA_NUMBER_ERROR, LA_ADVICE_RETRAIN},
                 {&usual, &harder, LA_NUMBER_DEVIATION, LA_ADVICE_NONE},
                 {&usual, &moved, LA_NUMBER_PREDICTION, LA_ADVICE_NONE},
                 {&usual, &moved, LA_NUMBER_LABEL, LA_ADVICE_NONE},
                 {&usual, &far, LA_NUMBER_OOD, LA_ADVICE_RETRAIN},
                 {&usual, &doubtful, LA_NUMBER_MODEL_VARIANCE, LA_ADVICE_RETRAIN},
                 {&usual, &elsewhere, LA_NUMBER_PREDICTION, LA_ADVICE_RECALIBRATE}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        drawn = (uint64_t)(200 + c) << 32;
        la_drift d = compare(cases[c].from, 2000, cases[c].to, 2000, 0.01);
        if (!d.tests[cases[c].alarm].alarm || d.advice != cases[c].advice)
            fail_msg("case %d: p %g, advice %d: %s", (int)c, d.tests[cases[c].alarm].adjusted,
                     d.advice, d.reason);
    }
}

/* What is measured, and estimated from deviations alone, of rows few enough to work out by hand. */
static void figures(void **state) {
    la_drift_row list[2] = {{.scores = {1, 2, NAN, NAN}, .target = 4, .labelled = true},
                            {.scores = {0, 1, NAN, NAN}, .target = -1, .labelled = true}};
    la_drift_rows rows = {.list = list, .n = 2, .numbers = true};
    la_error err = {0};
    la_drift d;
    (void)state;
    list[0].right = list[1].right = true;
    assert_int_equal(la_drift_of((la_team){1}, &rows, &rows, 0.01, &d, &err), LA_OK);
    check_within("RMSE", fabs(d.rmse.measured - sqrt(5)), 1e-14);
    check_within("NLL",
                 fabs(d.nll.measured - (0.5 * (2.25 + 1) / 2 + 0.5 * log(2) + 0.5 * log(2 * M_PI))),
                 1e-14);
    check_within("rms", fabs(d.spread[1] - sqrt(3.25 / 2)), 1e-14);
    check_within("estimate", fabs(d.rmse.estimated - sqrt(2.5)), 1e-14);
    check_within("estimate", fabs(d.nll.estimated - (0.5 + 0.5 * log(2) + 0.5 * log(2 * M_PI))),
                 1e-14);
    assert_true(d.coverage[0] == 1 && d.coverage[1] == 1 && !d.alarm);
    assert_false(d.tests[LA_NUMBER_OOD].tested);
}

/* ---- streams ---- */

/* Row of the first alarm, from 1; 0: none. */
static int64_t watch(const world *from, const world *to, int64_t n, int64_t rows, uint64_t seed,
                     unsigned *alarms) {
    la_drift_rows reference = draw_rows(from, n);
    la_error err = {0};
    la_watch *w;
    int64_t first = 0;
    double e_value;
    assert_int_equal(la_watch_open(&reference, 0.1, seed, &w, &err), LA_OK);
    for (int64_t i = 0; i < rows && !first; i++) {
        la_drift_row row = draw(to);
        *alarms = la_watch_row(w, &row, &e_value);
        first = *alarms ? i + 1 : 0;
    }
    la_watch_free(w);
    free(reference.list);
    return first;
}

static void streams(void **state) {
    enum { STREAMS = 100 };
    static const world narrow = {1000, 0.2, 0.5, 0, 1, 1, false, true},
                       moved = {1000.5, 0.2, 1, 0, 1, 1, false, false},
                       wider = {1000, 0.3, 1, 0, 1, 1, false, false};
    static const struct {
        const world *from, *to;
        unsigned among;
    } cases[] = {
        {&off, &usual,
         1u << LA_NUMBER_CALIBRATION | 1u << LA_NUMBER_COVERAGE | 1u << LA_NUMBER_DEVIATION},
        {&usual, &narrow,
         1u << LA_NUMBER_CALIBRATION | 1u << LA_NUMBER_COVERAGE | 1u << LA_NUMBER_DEVIATION},
        {&usual, &moved, 1u << LA_NUMBER_PREDICTION},
        {&usual, &wider, 1u << LA_NUMBER_DEVIATION | 1u << LA_NUMBER_MODEL_VARIANCE}};
    static const int64_t references[] = {5, 50, 400};
    unsigned alarms;
    (void)state;
    for (size_t r = 0; r < 3; r++) {
        int found = 0;
        drawn = (uint64_t)(300 + r) << 32;
        for (int i = 0; i < STREAMS; i++)
            found += watch(&usual, &usual, references[r], 1000, (uint64_t)i, &alarms) > 0;
        check_within("share of streams that alarm", (double)found / STREAMS,
                     0.1 + 2 * sqrt(0.1 * 0.9 / STREAMS));
    }
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        drawn = (uint64_t)(400 + c) << 32;
        int64_t row = watch(cases[c].from, cases[c].to, 1000, 2000, 1, &alarms);
        if (!row || !(alarms & cases[c].among))
            fail_msg("case %d: row %d, alarms %x", (int)c, (int)row, alarms);
    }
}

/* ---- the command ---- */

static char reference_path[300], same_path[300], worse_path[300];

static char *rows_text(const world *w, int n) {
    char *text = calloc((size_t)n + 1, LINE), label[40];
    size_t used = 0;
    assert_non_null(text);
    for (int i = 0; i < n; i++) {
        la_drift_row row = draw(w);
        double s = row.scores[LA_NUMBER_DEVIATION], model = row.scores[LA_NUMBER_MODEL_VARIANCE];
        snprintf(label, sizeof label, w->labelled ? "\"label\":%.9g," : "", row.target);
        used += (size_t)sprintf(
            text + used,
            "{\"index\":%d,%s\"prediction\":%.9g,\"variance\":%.12g,\"std\":%.9g,"
            "\"model_variance\":%.9g,\"noise_variance\":%.9g,\"confidence_kind\":"
            "\"laplace-gaussian\"}\n",
            i, label, row.scores[LA_NUMBER_PREDICTION], s * s, s, model, s * s - model);
    }
    return text;
}

static void make_file(char *path, const char *name, const world *w, int n) {
    char *text = rows_text(w, n);
    snprintf(path, 300, "%s", scratch(name));
    write_file(path, text, strlen(text));
    free(text);
}

static int make_files(void **state) {
    static const world worse = {1000, 0.2, 1, 0, 2, 1, false, true};
    (void)state;
    drawn = (uint64_t)500 << 32;
    make_file(reference_path, "numbers.jsonl", &usual, REFERENCE);
    make_file(same_path, "same_numbers.jsonl", &usual, CURRENT);
    make_file(worse_path, "worse_numbers.jsonl", &worse, CURRENT);
    return 0;
}

static command run_drift(const char *current, const char *option, const char *value,
                         const char *input) {
    const char *argv[] = {program(), "drift", "--reference", reference_path, "--current", current,
                          option,    value,   NULL};
    return run_command(argv, input);
}

static void file_of_the_contract(void **state) {
    static const char *const names[] = {"prediction", "std",         "model_variance", "error",
                                        "coverage",   "calibration", "label"};
    (void)state;
    command done = run_drift(same_path, "--json", NULL, NULL);
    assert_int_equal(done.code, 0);
    json_t *root = json_loads(done.out, 0, NULL), *entry;
    size_t i;
    assert_string_equal(json_string_value(at(root, "schema")), "laplora.drift/1");
    assert_int_equal(json_array_size(at(root, "tests")), 7);
    json_array_foreach(at(root, "tests"), i, entry) {
        assert_string_equal(json_string_value(at(entry, "name")), names[i]);
        assert_true(number_at(entry, "p_value") <= number_at(entry, "adjusted"));
        assert_int_equal(number_at(entry, "n_current"), CURRENT);
    }
    assert_true(json_is_null(at(root, "accuracy/estimated")));
    assert_true(json_is_null(at(root, "accuracy/estimated_ci")));
    for (int k = 0; k < 2; k++) {
        const json_t *error = at(root, k ? "errors/nll" : "errors/rmse");
        assert_true(number_at(error, "estimated_ci/0") < number_at(error, "measured"));
        assert_true(number_at(error, "estimated_ci/1") > number_at(error, "measured"));
        assert_true(json_is_number(at(error, "reference")));
    }
    check_within("coverage", fabs(number_at(root, "errors/coverage_90/measured") - 0.9), 0.04);
    check_within("rms", fabs(number_at(root, "errors/standardised_rms/measured") - 1), 0.1);
    assert_string_equal(json_string_value(at(root, "advice")), "none");
    json_decref(root);
    command_free(&done);

    done = run_drift(worse_path, "--format", "text", NULL);
    assert_int_equal(done.code, 1);
    assert_non_null(strstr(done.out, "drift: alarm: 1200 reference rows, 600 current ones"));
    assert_non_null(strstr(done.out, "\nrmse: reference 0.2"));
    assert_non_null(strstr(done.out, "advice: retrain: errors grew"));
    command_free(&done);
    done = run_drift(worse_path, "--format", "markdown", NULL);
    assert_non_null(strstr(done.out, "| calibration | "));
    command_free(&done);
    done = run_drift(worse_path, "--follow", NULL, NULL);
    assert_int_equal(done.code, 1);
    assert_non_null(strstr(done.out, "\"tests\":[\"error\""));
    command_free(&done);
    /* a table, half a label, one row; a missing model variance */
    done = run_drift("-", "--json", NULL,
                     "{\"prediction\":1000,\"variance\":0.04,\"model_variance\":null}\n");
    assert_int_equal(done.code, 0);
    root = json_loads(done.out, 0, NULL);
    assert_int_equal(json_array_size(at(root, "tests")), 2);
    assert_true(json_is_null(at(root, "errors/rmse/measured")));
    json_decref(root);
    command_free(&done);
}

static void bad_input(void **state) {
    static const struct {
        const char *input, *said;
    } cases[] = {
        {"{\"probs\":[0.2,0.8]}\n", "a class; expected predictions of one model"},
        {"{\"prediction\":1,\"variance\":1}\n{\"probs\":[0.2,0.8]}\n", "number in some rows"},
        {"{\"prediction\":1,\"variance\":0}\n", "\"variance\" is 0"},
        {"{\"prediction\":1,\"variance\":-1,\"noise_variance\":1}\n", "\"variance\" is -1"},
        {"{\"prediction\":1,\"noise_variance\":1}\n", "\"variance\" is missing"},
        {"{\"prediction\":\"a\",\"variance\":1}\n", "\"prediction\""},
        {"{\"prediction\":1,\"variance\":1,\"label\":\"x\"}\n", "\"label\""},
        {"{\"prediction\":1,\"variance\":1,\"model_variance\":-2}\n", "\"model_variance\" is -2"},
        {"{\"prediction\":1,\"variance\":1,\"ood\":2}\n", "\"ood\" is 2"}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int way = 0; way < 2; way++) {
            command done = run_drift("-", way ? "--follow" : "--json", NULL, cases[c].input);
            if (done.code != 3 || !strstr(done.err, cases[c].said))
                fail_msg("exit %d, expected 3 and \"%s\": %s", done.code, cases[c].said, done.err);
            assert_string_equal(done.out, "");
            command_free(&done);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(false_alarms), cmocka_unit_test(intervals),
        cmocka_unit_test(advice),       cmocka_unit_test(figures),
        cmocka_unit_test(streams),      cmocka_unit_test(file_of_the_contract),
        cmocka_unit_test(bad_input)};
    return cmocka_run_group_tests(tests, make_files, NULL);
}
