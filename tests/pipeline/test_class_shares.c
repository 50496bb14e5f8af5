/* predict --class-shares: rows re-weighted from the calibration rows' shares to others, what rows
 * and thresholds say of that, and what is refused. */
#include "pipeline/predict.h"
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"
#include "support/seal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ASK "predict --data @/test.jsonl --quiet --posterior @/"
#define RUN ASK "posterior "
/* the fixture has 6, 6 and 12 calibration rows of its classes */
static const double training[3] = {0.25, 0.25, 0.5};

static const char *open_fitted(void) {
    const char *folder = open_case("bert");
    case_sharpen(folder, "adapter", 20);
    fit_case(folder);
    return folder;
}

static json_t *rows_of(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code || *done.err)
        fail_msg("%s: exit %d: %s", line, done.code, done.err);
    write_file(in_case(folder, "rows"), done.out, strlen(done.out));
    command_free(&done);
    return load_lines(in_case(folder, "rows"));
}

static const char *text_at(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

static double entry(const json_t *row, const char *key, size_t c) {
    return json_number_value(json_array_get(json_object_get(row, key), c));
}

/* Rows are those without shares, times the ratio over the sum, and all else of them follows or is
 * as it was. */
static void check_rows(const json_t *plain, const json_t *moved, const double *shares) {
    static const char *const same[] = {
        "index",           "label", "map_probs", "variance", "mutual_information",
        "confidence_kind", "logits"};
    size_t i, changed = 0;
    json_t *row;
    double worst = 0;
    assert_int_equal(json_array_size(plain), json_array_size(moved));
    json_array_foreach(moved, i, row) {
        const json_t *before = json_array_get(plain, i);
        double q[3], sum = 0, entropy = 0;
        size_t top = 0;
        for (size_t c = 0; c < 3; c++)
            sum += q[c] = entry(before, "probs", c) * shares[c] / training[c];
        for (size_t c = 0; c < 3; c++) {
            double p = entry(row, "probs", c);
            worst = fmax(worst, fabs(p - q[c] / sum));
            entropy -= p > 0 ? p * log(p) : 0;
            top = p > entry(row, "probs", top) ? c : top;
        }
        assert_int_equal(number_at(row, "prediction"), top);
        assert_true(fabs(number_at(row, "confidence") - entry(row, "probs", top)) < 1e-9);
        assert_true(fabs(number_at(row, "entropy") - entropy) < 1e-6);
        changed += number_at(before, "prediction") != number_at(row, "prediction");
        for (size_t k = 0; k < sizeof same / sizeof *same; k++)
            assert_true(
                json_equal(json_object_get(before, same[k]), json_object_get(row, same[k])) ||
                !json_object_get(before, same[k]));
    }
    assert_true(changed > 0);
    check_within("probability", worst, 1e-8);
}

static void reweighs(void **state) {
    static const struct {
        const char *text;
        double shares[3];
    } cases[] = {{"0.05,0.9,0.05", {0.05, 0.9, 0.05}},
                 {"0.8005,0.1,0.1", {0.8005, 0.1, 0.1}}, /* rounded: divided by the sum */
                 {"1e-300,0.5,0.5", {1e-300, 0.5, 0.5}}};
    const char *folder = open_fitted();
    (void)state;
    for (int predictive = 0; predictive < 3; predictive++) {
        static const char *const by[] = {"", "--predictive map ", "--emit logits,cov "};
        char line[300];
        snprintf(line, sizeof line, RUN "%s", by[predictive]);
        json_t *plain = rows_of(folder, line);
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            snprintf(line, sizeof line, RUN "%s--class-shares %s", by[predictive], cases[k].text);
            json_t *moved = rows_of(folder, line);
            check_rows(plain, moved, cases[k].shares);
            json_decref(moved);
        }
        json_decref(plain);
    }
    /* training's own change nothing */
    json_t *plain = rows_of(folder, RUN), *moved = rows_of(folder, RUN "--class-shares .25,.25,.5");
    size_t i;
    json_t *row;
    json_array_foreach(moved, i, row) for (size_t c = 0; c < 3; c++) assert_true(
        fabs(entry(row, "probs", c) - entry(json_array_get(plain, i), "probs", c)) < 1e-9);
    json_decref(plain);
    json_decref(moved);
}

/* Tables, single rows, and one row at a time say the same. */
static void same_everywhere(void **state) {
    const char *folder = open_fitted();
    (void)state;
    command done = run_shell(
        folder,
        "r=\"$L predict --posterior $D/posterior --quiet --class-shares 0.1,0.2,0.7\"\n"
        "$r --data $D/test.jsonl >$D/a && $r --data - <$D/test.jsonl >$D/b && cmp $D/a $D/b &&\n"
        "$r --stdin <$D/test.jsonl >$D/c && $r --data $D/test.jsonl --batch-tokens 1 >$D/d &&\n"
        "cmp $D/c $D/d && $r --data $D/test.jsonl --format csv --keep label >$D/e");
    if (done.code)
        fail_msg("exit %d: %s%s", done.code, done.out, done.err);
    command_free(&done);
}

/* What a threshold promises is of rows with the shares of those that it was made from. */
static void thresholds(void **state) {
    const char *folder = open_fitted();
    static const char warning[] = "for other class shares";
    (void)state;
    for (int made = 0; made < 2; made++) {
        static const char *const lines[] = {RUN "--out @/p.jsonl",
                                            RUN "--out @/p.jsonl --class-shares 0.1,0.2,0.7"};
        command done = run_line(folder, lines[made], NULL);
        assert_int_equal(done.code, 0);
        command_free(&done);
        done = run_line(folder,
                        "threshold @/p.jsonl --target-error 0.9 --delta 0.5 --out @/t.json "
                        "--quiet",
                        NULL);
        assert_int_equal(done.code, 0);
        command_free(&done);
        static const char *const uses[] = {
            "predict --data @/test.jsonl --posterior @/posterior --threshold @/t.json",
            "predict --data @/test.jsonl --posterior @/posterior --threshold @/t.json "
            "--class-shares 0.1,0.2,0.7",
            "predict --data @/test.jsonl --posterior @/posterior --threshold @/t.json "
            "--class-shares 0.1,0.3,0.6"};
        for (int used = 0; used < 3; used++) {
            done = run_line(folder, uses[used], NULL);
            assert_int_equal(done.code, 0);
            assert_non_null(strstr(done.out, "\"action\":"));
            assert_true((strstr(done.err, warning) != NULL) == (used != made));
            command_free(&done);
        }
    }
}

static void refused(void **state) {
    static const struct {
        const char *shares, *piece;
    } cases[] = {{"0.5,0.5", "2 shares, expected 3"},
                 {"0.25,0.25,0.25,0.25", "4 shares, expected 3"},
                 {"0.5,0.5,0", "class 2 has share 0"},
                 {"0.5,0.6,-0.1", "class 2 has share -0.1"},
                 {"0.5,0.6,0.1", "sum to 1.2"},
                 {"0.3,0.3,0.3", "sum to 0.9"},
                 {"nan,0.5,0.5", "\"nan\" is no number"},
                 {"inf,0.5,0.5", "\"inf\" is no number"},
                 {"1e300,0.5,0.5", "class 0 has share 1e+300"},
                 {"0.5,,0.5", "--class-shares"},
                 {"a,b,c", "\"a\" is no number"},
                 {"0x1p-1,0.25,0.25", "is no number"},
                 {",", "--class-shares"}};
    const char *folder = open_fitted();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[300];
        snprintf(line, sizeof line, RUN "--out @/out --class-shares %s", cases[i].shares);
        command done = run_line(folder, line, NULL);
        check_message(&done, 2, (const char *const[]){"--class-shares", cases[i].piece}, 2);
        check_nothing_written(folder);
        command_free(&done);
    }
}

/* A class without calibration rows has no share but 0, and then no probability. */
static void absent_class(void **state) {
    const char *folder = open_fitted();
    (void)state;
    la_posterior p = case_load(folder, "posterior");
    assert_non_null(p.class_rows);
    for (int c = 0; c < 3; c++)
        assert_true(p.class_rows[c] == 24 * training[c]);
    p.class_rows[0] = 0;
    case_save(&p, folder, "lacking");
    la_posterior_free(&p);
    command done = run_line(folder, ASK "lacking --class-shares 0.1,0.5,0.4", NULL);
    check_message(&done, 2, (const char *const[]){"class 0", "no calibration row"}, 2);
    command_free(&done);
    json_t *rows = rows_of(folder, ASK "lacking --class-shares 0,0.5,0.5"), *row;
    size_t i;
    json_array_foreach(rows, i, row) assert_true(entry(row, "probs", 0) == 0);
    json_decref(rows);
}

static void older_file(void **state) {
    const char *folder = open_fitted();
    la_error err = {0};
    (void)state;
    la_posterior p = case_load(folder, "posterior");
    p.class_rows = NULL;
    case_save(&p, folder, "older");
    la_posterior_free(&p);
    hid_t file = H5Fopen(in_case(folder, "older"), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Lexists(file, "class_rows", H5P_DEFAULT) == 0);
    set_count(file, "schema_minor", 6);
    H5Fclose(file);
    assert_int_equal(seal_file(in_case(folder, "older"), &err), LA_OK);
    json_decref(rows_of(folder, ASK "older"));
    command done = run_line(folder, ASK "older --class-shares 0.5,0.2,0.3", NULL);
    check_message(&done, 2, (const char *const[]){"older", "does not hold", "fit again"}, 3);
    command_free(&done);
    /* rows of no class at all */
    p = case_load(folder, "posterior");
    for (int c = 0; c < 3; c++)
        p.class_rows[c] = 0;
    case_save(&p, folder, "none");
    la_posterior_free(&p);
    done = run_line(folder, ASK "none --class-shares 0.5,0.2,0.3", NULL);
    check_message(&done, 3, (const char *const[]){"none", "class_rows"}, 2);
    command_free(&done);
}

/* Rows have class shares only where each is of one class. */
static void other_tasks(void **state) {
    static const char *const cases[][2] = {{"bert-regression", "a regression"},
                                           {"bert-multilabel", "sets of classes"}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        const char *folder = open_case(cases[k][0]);
        fit_case(folder);
        command done = run_line(folder, RUN "--class-shares 0.5,0.5", NULL);
        check_message(&done, 4, (const char *const[]){"--class-shares", cases[k][1]}, 2);
        command_free(&done);
    }
    /* tokens are rows of the likelihood, and have shares */
    const char *folder = open_case("bert-token");
    fit_case(folder);
    json_decref(rows_of(folder, RUN "--class-shares 0.5,0.2,0.3"));
}

/* ---- estimated ---- */

static void run_ok(const char *folder, const char *script) {
    command done = run_shell(folder, script);
    if (done.code)
        fail_msg("%s: exit %d: %s%s", script, done.code, done.out, done.err);
    command_free(&done);
}

/* Rows of an estimate are those for the shares that it says; whatever the form of the rows. */
static void estimates(void **state) {
    const char *folder = open_fitted();
    char line[400];
    double sum = 0;
    size_t c;
    (void)state;
    command done =
        run_line(folder,
                 "predict --posterior @/posterior --data @/test.jsonl --out @/auto.jsonl "
                 "--class-shares auto --json",
                 NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.err, "class shares estimated from "));
    assert_non_null(strstr(done.err, "fit with --val"));
    write_file(in_case(folder, "said"), done.out, strlen(done.out));
    command_free(&done);
    json_t *said = load_json(in_case(folder, "said"));
    for (c = 0; c < 3; c++) {
        sum += entry(said, "class_shares", c);
        assert_true(entry(said, "class_shares", c) > 0);
        assert_true(entry(said, "class_share_errors", c) > 0);
        assert_true(fabs(entry(said, "training_shares", c) - training[c]) < 1e-9);
    }
    assert_true(fabs(sum - 1) < 1e-9);
    snprintf(line, sizeof line, RUN "--class-shares %.10g,%.10g,%.10g",
             entry(said, "class_shares", 0), entry(said, "class_shares", 1),
             entry(said, "class_shares", 2));
    json_decref(said);
    json_t *given = rows_of(folder, line), *found = load_lines(in_case(folder, "auto.jsonl")), *row;
    size_t i;
    assert_int_equal(json_array_size(given), json_array_size(found));
    json_array_foreach(found, i, row) {
        const json_t *other = json_array_get(given, i);
        for (c = 0; c < 3; c++)
            assert_true(fabs(entry(row, "probs", c) - entry(other, "probs", c)) < 1e-7);
        assert_true(
            json_equal(json_object_get(row, "map_probs"), json_object_get(other, "map_probs")));
        assert_string_equal(strchr(text_at(row, "model"), '+'), "+auto");
        assert_int_equal(strlen(text_at(other, "model")), 16 + 1 + 8);
    }
    json_decref(given);
    json_decref(found);
    run_ok(folder,
           "r=\"$L predict --posterior $D/posterior --quiet --class-shares auto\"\n"
           "$r --data - <$D/test.jsonl | cmp - $D/auto.jsonl &&\n"
           "cat $D/test.jsonl | $r --data /dev/stdin | cmp - $D/auto.jsonl &&\n"
           "$r --data $D/test.jsonl --format csv --emit logits,cov --keep label >$D/csv &&\n"
           "test $(wc -l <$D/csv) = $(($(wc -l <$D/test.jsonl) + 1))");
    run_ok(folder,
           "(head -3 $D/test.jsonl; echo nonsense; tail -n +4 $D/test.jsonl) >$D/bad.jsonl\n"
           "$L predict --posterior $D/posterior --quiet --class-shares auto --skip-bad "
           "--data $D/bad.jsonl >$D/skipped && grep -q '\"index\":3,\"error\"' $D/skipped &&\n"
           "test $(wc -l <$D/skipped) = $(wc -l <$D/bad.jsonl)");
}

/* Rows that do not fit the memory are answered twice, into the same bytes. */
static void twice(void **state) {
    const char *folder = open_fitted();
    char data[600], posterior[600], out[600];
    size_t lengths[2], most[2] = {0, 2000};
    char *texts[2];
    (void)state;
    snprintf(data, sizeof data, "%s", in_case(folder, "test.jsonl"));
    snprintf(posterior, sizeof posterior, "%s", in_case(folder, "posterior"));
    for (int k = 0; k < 2; k++) {
        la_error err = {0};
        la_predict_summary summary;
        snprintf(out, sizeof out, "%s", in_case(folder, k ? "twice.jsonl" : "once.jsonl"));
        la_predict_job job = {.options = {.posterior = posterior, .samples = 50},
                              .data = data,
                              .out = out,
                              .keep = "label",
                              .estimate_shares = true,
                              .most_kept = most[k]};
        if (la_predict_file(&job, &summary, &err) != LA_OK)
            fail_msg("%s", err.message);
        assert_true(summary.shares.is_estimate && summary.n_rows == summary.shares.n_rows);
        la_class_shares_free(&summary.shares);
        texts[k] = read_file(out, &lengths[k]);
    }
    assert_string_equal(texts[0], texts[1]);
    free(texts[0]);
    free(texts[1]);
}

static void estimates_refused(void **state) {
    static const struct {
        const char *line;
        int code;
        const char *pieces[2];
    } cases[] = {
        {"predict --posterior @/posterior --stdin --class-shares auto", 2, {"--stdin", "auto"}},
        {ASK "posterior --class-shares Auto", 2, {"\"Auto\" is no number", "auto"}},
        {ASK "posterior --class-shares auto,0.5,0.5", 2, {"\"auto\" is no number", "auto"}},
        {ASK "older --class-shares auto", 2, {"older", "fit again"}},
        {"predict --posterior @/posterior --data @/empty.jsonl --class-shares auto --quiet",
         3,
         {"empty.jsonl", "no rows"}}};
    const char *folder = open_fitted();
    (void)state;
    la_posterior p = case_load(folder, "posterior");
    p.class_rows = NULL;
    case_save(&p, folder, "older");
    la_posterior_free(&p);
    write_file(in_case(folder, "empty.jsonl"), "", 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        command done = run_line(folder, cases[i].line, NULL);
        check_message(&done, cases[i].code, cases[i].pieces, 2);
        assert_string_equal(done.out, "");
        command_free(&done);
    }
    const char *sets = open_case("bert-multilabel");
    fit_case(sets);
    command done = run_line(sets, RUN "--class-shares auto", NULL);
    check_message(&done, 4, (const char *const[]){"sets of classes"}, 1);
    command_free(&done);
}

/* With held-out rows the estimate compares with what the model answers on them: as many of each
 * class as there are no reason to move. */
static void held_out(void **state) {
    const char *folder = open_fitted();
    (void)state;
    run_ok(folder,
           "$L fit --base $D/base --adapter $D/adapter --data $D/calib.jsonl --quiet --val "
           "$D/test.jsonl --out $D/guarded &&\n"
           "$L predict --posterior $D/guarded --data $D/test.jsonl --quiet --out $D/g.jsonl "
           "--class-shares auto --json >$D/said");
    la_posterior p = case_load(folder, "guarded");
    json_t *said = load_json(in_case(folder, "said"));
    double sum = 0;
    assert_non_null(p.class_means);
    for (size_t c = 0; c < 3; c++) {
        sum += p.class_means[c];
        assert_true(fabs(entry(said, "class_shares", c) - entry(said, "training_shares", c)) <
                    0.02);
    }
    assert_true(fabs(sum - 1) < 1e-9);
    json_decref(said);
    /* sums over the rows of a class are as many as these, and over all classes the means */
    assert_non_null(p.class_answers);
    double held = p.class_held[0] + p.class_held[1] + p.class_held[2];
    for (size_t c = 0; c < 3; c++) {
        const double *sums = p.class_answers;
        assert_true(fabs(sums[3 * c] + sums[3 * c + 1] + sums[3 * c + 2] - p.class_held[c]) < 1e-9);
        assert_true(fabs(sums[c] + sums[3 + c] + sums[6 + c] - held * p.class_means[c]) < 1e-9);
    }
    /* an update that keeps the choice keeps what held-out rows said */
    run_ok(folder,
           "head -n 2 $D/test.jsonl >$D/more.jsonl &&\n"
           "$L update --posterior $D/guarded --data $D/more.jsonl --quiet --out $D/updated");
    la_posterior q = case_load(folder, "updated");
    assert_non_null(q.class_means);
    assert_non_null(q.class_held);
    for (size_t c = 0; c < 3; c++)
        assert_true(q.class_means[c] == p.class_means[c] && q.class_held[c] == p.class_held[c] &&
                    q.class_held[c] > 0);
    for (size_t c = 0; c < 9; c++)
        assert_true(q.class_answers[c] == p.class_answers[c]);
    la_posterior_free(&q);
    la_posterior_free(&p);
}

/* Of biases that held-out rows determine, the ratio is to those rows' shares; of none, or of a
 * predictive without them, to training's. */
static void corrected(void **state) {
    const char *folder = open_fitted();
    static const double held[3] = {10, 10, 60}, shares[3] = {0.5, 0.2, 0.3};
    (void)state;
    run_ok(folder, "$L fit --base $D/base --adapter $D/adapter --data $D/calib.jsonl --quiet --val "
                   "$D/test.jsonl --out $D/guarded");
    for (int k = 0; k < 3; k++) {
        la_posterior p = case_load(folder, "guarded");
        assert_non_null(p.class_held);
        memcpy(p.class_held, held, sizeof held);
        p.choice.method = LA_METHOD_AVERAGE;
        p.choice.candidates[LA_METHOD_AVERAGE].nll = 1;
        p.choice.candidates[LA_METHOD_AVERAGE].accuracy = 0;
        p.choice.n_settings = 2;
        p.choice.n_corrections = 1;
        p.choice.settings[0] = (la_setting){LA_METHOD_TEMPERATURE, 1, 2, 0.75, 1};
        p.choice.settings[1] = (la_setting){LA_METHOD_MAP, 1, 1, 0.25, 0};
        p.choice.corrections[0] = (la_correction){
            .scale = 1, .temperature = 2, .determined = k ? 0.8 : 0, .bias = {-0.5, 0, 0.5}};
        case_save(&p, folder, "corrected");
        const char *how = k == 2 ? ASK "corrected --predictive map" : ASK "corrected";
        char line[400];
        json_t *plain = rows_of(folder, how), *row;
        snprintf(line, sizeof line, "%s --class-shares 0.5,0.2,0.3", how);
        json_t *moved = rows_of(folder, line);
        double worst = 0, part = k == 1 ? 0.75 * 0.8 : 0;
        size_t i;
        json_array_foreach(plain, i, row) {
            const json_t *got = json_array_get(moved, i);
            double q[3], sum = 0;
            for (size_t c = 0; c < 3; c++) {
                double of_held = (held[c] + 3 * training[c]) / 83;
                double base = training[c] * pow(of_held / training[c], part);
                sum += q[c] = entry(row, "probs", c) * shares[c] / base;
            }
            for (size_t c = 0; c < 3; c++)
                worst = fmax(worst, fabs(entry(got, "probs", c) - q[c] / sum));
        }
        check_within("probabilities over the shares that they are of", worst, 1e-9);
        json_decref(plain);
        json_decref(moved);
        la_posterior_free(&p);
    }
}

/* ---- the library ---- */

static void from_c(void **state) {
    const char *folder = open_fitted();
    static const double shares[3] = {0.7, 0.2, 0.1};
    la_predict_options options = {.posterior = in_case(folder, "posterior"), .samples = 50};
    la_error err;
    la_predictor *predictor;
    row_file rows = rows_random(3, 10);
    char posterior[600];
    (void)state;
    snprintf(posterior, sizeof posterior, "%s", options.posterior);
    options.posterior = posterior;
    row_answers *plain = rows_answer(&rows, options);
    options.class_shares = shares;
    options.n_class_shares = 3;
    row_answers *moved = rows_answer(&rows, options);
    for (int64_t i = 0; i < rows.n; i++) {
        double sum = 0;
        for (int c = 0; c < 3; c++)
            sum += plain->rows[i].probs[c] * shares[c] / training[c];
        for (int c = 0; c < 3; c++) {
            double q = plain->rows[i].probs[c] * shares[c] / training[c] / sum;
            assert_true(fabs(moved->rows[i].probs[c] - q) < 1e-12);
            assert_true(moved->rows[i].map_probs[c] == plain->rows[i].map_probs[c]);
        }
    }
    options.n_class_shares = 2;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.n_class_shares = -1;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.n_class_shares = 3;
    options.class_shares = NULL;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.class_shares = (const double[3]){NAN, 0.5, 0.5};
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_USAGE);
    options.class_shares = NULL;
    options.n_class_shares = 0;
    assert_int_equal(la_predictor_open(&options, &predictor, &err), LA_OK);
    la_shares_summary said = la_predictor_shares(predictor);
    assert_true(said.n_classes == 3 && said.training && !said.shares && !said.errors);
    assert_int_equal(la_predictor_estimate_shares(predictor, plain->rows, 0, &err), LA_USAGE);
    assert_int_equal(la_predictor_estimate_shares(predictor, NULL, 1, &err), LA_USAGE);
    assert_int_equal(la_predictor_estimate_shares(NULL, plain->rows, 1, &err), LA_USAGE);
    assert_int_equal(la_predictor_estimate_shares(predictor, plain->rows, rows.n, &err), LA_OK);
    said = la_predictor_shares(predictor);
    assert_true(said.n_rows == rows.n && said.shares[0] > 0 && said.errors[0] > 0);
    assert_int_equal(la_predictor_estimate_shares(predictor, plain->rows, rows.n, &err), LA_USAGE);
    la_predictor_close(predictor);
    assert_int_equal(la_predictor_shares(NULL).n_classes, 0);
    free(plain);
    free(moved);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reweighs),          cmocka_unit_test(same_everywhere),
        cmocka_unit_test(thresholds),        cmocka_unit_test(refused),
        cmocka_unit_test(absent_class),      cmocka_unit_test(older_file),
        cmocka_unit_test(other_tasks),       cmocka_unit_test(from_c),
        cmocka_unit_test(estimates),         cmocka_unit_test(twice),
        cmocka_unit_test(estimates_refused), cmocka_unit_test(held_out),
        cmocka_unit_test(corrected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
