/* fit --ood and predict --emit ood: the share of reference rows that lie nearer to the calibration
 * rows, uniform on rows drawn like those. */
#include "base/random.h"
#include "output/posterior_file.h"
#include "support/faults.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_CALIB = 400, N_VAL = 300, N_NEW = 500 };
#define OOD_FIT "fit --base @/base --adapter @/adapter --ood --quiet --out @/posterior "
#define OOD_PREDICT "predict --posterior @/posterior --emit ood --quiet --predictive map "

/* n rows of random ids out of eight; strange: out of forty others. */
static void put_rows(const char *folder, const char *name, uint64_t seed, int64_t n, bool strange) {
    FILE *file = fopen(in_case(folder, name), "w");
    assert_non_null(file);
    for (int64_t i = 0; i < n; i++) {
        int64_t length = 3 + (int64_t)la_random_below(seed, 1, (uint64_t)i, 10);
        fputs("{\"input_ids\":[", file);
        for (int64_t t = 0; t < length; t++) {
            uint64_t id = la_random_below(seed, 2 + (uint64_t)i, (uint64_t)t, strange ? 40 : 8);
            fprintf(file, "%s%d", t ? "," : "", (strange ? 50 : 5) + (int)id);
        }
        fprintf(file, "],\"label\":%d}\n", (int)la_random_below(seed, 1000000, (uint64_t)i, 3));
    }
    assert_int_equal(fclose(file), 0);
}

static const char *open_rows(void) {
    const char *folder = open_case("bert");
    put_rows(folder, "calib.jsonl", 1, N_CALIB, false);
    put_rows(folder, "val.jsonl", 2, N_VAL, false);
    put_rows(folder, "new.jsonl", 3, N_NEW, false);
    put_rows(folder, "strange.jsonl", 4, 60, true);
    return folder;
}

static void done_well(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: exit %d: %s", line, done.code, done.err);
    command_free(&done);
}

/* Shares of the rows that a line predicts, n of them. The caller frees them. */
static double *shares(const char *folder, const char *line, size_t *n) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: exit %d: %s", line, done.code, done.err);
    write_file(in_case(folder, "rows"), done.out, strlen(done.out));
    command_free(&done);
    json_t *rows = load_lines(in_case(folder, "rows")), *row, *token;
    size_t i, j;
    double *out = calloc(10000, sizeof *out);
    assert_non_null(out);
    *n = 0;
    json_array_foreach(rows, i, row) {
        json_t *tokens = json_object_get(row, "tokens");
        json_array_foreach(tokens, j, token) out[(*n)++] = number_at(token, "ood");
        if (!tokens)
            out[(*n)++] = number_at(row, "ood");
        assert_true(*n < 10000);
    }
    json_decref(rows);
    for (i = 0; i < *n; i++)
        assert_true(out[i] >= 0 && out[i] <= 1);
    return out;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov and Smirnov's distance to the uniform distribution; sorts. */
static double uniform_gap(double *shares, size_t n) {
    double worst = 0;
    qsort(shares, n, sizeof *shares, by_value);
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs(shares[i] - (double)i / (double)n));
        worst = fmax(worst, fabs(shares[i] - (double)(i + 1) / (double)n));
    }
    return worst;
}

/* By both kinds of reference rows: the shares of new rows are uniform (a test of two samples of the
 * same distribution would be exceeded once in a hundred), those of strange rows near 1. */
static void uniform(void **state) {
    static const char *const fits[] = {OOD_FIT "--data @/calib.jsonl --val @/val.jsonl",
                                       OOD_FIT "--data @/calib.jsonl --heldout",
                                       OOD_FIT "--data @/calib.jsonl --prior 1",
                                       OOD_FIT "--data @/calib.jsonl --val @/val.jsonl --prior 1"};
    const char *folder = open_rows();
    (void)state;
    for (int k = 0; k < 4; k++) {
        la_posterior p;
        la_error err = {0};
        size_t n, n_strange;
        bool held_out = k % 3 == 0;
        int64_t reference = held_out ? N_VAL : N_CALIB;
        done_well(folder, fits[k]);
        assert_int_equal(la_posterior_load(in_case(folder, "posterior"), &p, &err), LA_OK);
        assert_int_equal(p.ood.n_reference, reference);
        assert_int_equal(p.ood.held_out, held_out);
        assert_int_equal(p.ood.n_groups, 3);
        la_posterior_free(&p);
        double *fresh = shares(folder, OOD_PREDICT "--data @/new.jsonl", &n);
        double *strange = shares(folder, OOD_PREDICT "--data @/strange.jsonl", &n_strange);
        assert_true(n == N_NEW && n_strange == 60);
        check_within("distance to uniform", uniform_gap(fresh, n),
                     1.63 * sqrt(1 / (double)N_NEW + 1 / (double)reference));
        double mean = 0;
        for (size_t i = 0; i < n_strange; i++)
            mean += strange[i] / (double)n_strange;
        check_within("1 - mean share of strange rows", 1 - mean, 0.05);
        free(fresh);
        free(strange);
    }
}

/* Largest difference of shares between two fits or two runs. */
static double gap(const char *folder, const char *line, const double *expected, size_t n) {
    size_t found;
    double worst = 0, *got = shares(folder, line, &found);
    assert_int_equal(found, n);
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(got[i] - expected[i]));
    free(got);
    return worst;
}

static void reverse(const char *folder, const char *from, const char *to) {
    json_t *rows = load_lines(in_case(folder, from));
    FILE *file = fopen(in_case(folder, to), "w");
    assert_non_null(file);
    for (size_t i = json_array_size(rows); i-- > 0;) {
        assert_int_equal(json_dumpf(json_array_get(rows, i), file, JSON_COMPACT), 0);
        fputc('\n', file);
    }
    assert_int_equal(fclose(file), 0);
    json_decref(rows);
}

/* Threads change nothing, batches and the order of calibration rows no more than rounding: a share
 * by one reference row at most. */
static void batches_threads_order(void **state) {
    const char *folder = open_rows();
    const double one = 1.0 / N_CALIB + 1e-9;
    size_t n;
    (void)state;
    done_well(folder, OOD_FIT "--data @/calib.jsonl --prior 1");
    double *expected = shares(folder, OOD_PREDICT "--data @/new.jsonl --threads 1", &n);
    assert_true(gap(folder, OOD_PREDICT "--data @/new.jsonl --threads 2", expected, n) == 0);
    check_within("small batches",
                 gap(folder, OOD_PREDICT "--data @/new.jsonl --batch-tokens 16", expected, n), one);
    done_well(folder, OOD_FIT "--data @/calib.jsonl --prior 1 --threads 2");
    assert_true(gap(folder, OOD_PREDICT "--data @/new.jsonl --threads 1", expected, n) == 0);
    done_well(folder, OOD_FIT "--data @/calib.jsonl --prior 1 --batch-tokens 16");
    check_within("fit in small batches", gap(folder, OOD_PREDICT "--data @/new.jsonl", expected, n),
                 one);
    reverse(folder, "calib.jsonl", "turned.jsonl");
    done_well(folder, OOD_FIT "--data @/turned.jsonl --prior 1");
    check_within("fit in another order", gap(folder, OOD_PREDICT "--data @/new.jsonl", expected, n),
                 one);
    free(expected);
}

/* The predictive makes no difference, and neither does what else reads the states. */
static void other_predictives(void **state) {
    const char *folder = open_rows();
    size_t n;
    (void)state;
    done_well(folder, OOD_FIT "--data @/calib.jsonl --val @/val.jsonl --adue");
    double *expected = shares(folder, OOD_PREDICT "--data @/new.jsonl", &n);
    assert_true(gap(folder,
                    "predict --posterior @/posterior --data @/new.jsonl --emit ood,cov --quiet "
                    "--predictive mc --samples 3",
                    expected, n) == 0);
    assert_true(gap(folder,
                    "predict --posterior @/posterior --data @/new.jsonl --emit ood --quiet "
                    "--predictive weights --samples 1",
                    expected, n) == 0);
    free(expected);
}

/* Numbers, sets of classes, tokens and answers of a causal LM have distances too; only answers of
 * one class have groups. */
static void every_task(void **state) {
    static const struct {
        const char *name, *options;
        bool grouped;
    } cases[] = {{"bert-regression", "", false},
                 {"bert-multilabel", "", false},
                 {"bert-token", "", true},
                 {"llama", "--choice-ids 4,5,6,7", true}};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        const char *folder = open_case(cases[k].name);
        char line[400];
        size_t n;
        la_posterior p;
        la_error err = {0};
        snprintf(line, sizeof line, OOD_FIT "--data @/calib.jsonl --val @/calib.jsonl --prior 1 %s",
                 cases[k].options);
        done_well(folder, line);
        assert_int_equal(la_posterior_load(in_case(folder, "posterior"), &p, &err), LA_OK);
        assert_true((p.ood.n_groups > 1) == cases[k].grouped);
        la_posterior_free(&p);
        double *values = shares(folder, OOD_PREDICT "--data @/test.jsonl", &n);
        assert_true(n >= 4);
        free(values);
    }
}

/* A table has the column, report reads it, and without --emit there is none. */
static void in_a_table(void **state) {
    const char *folder = open_rows();
    (void)state;
    done_well(folder, OOD_FIT "--data @/calib.jsonl --prior 1");
    command done = run_line(folder, OOD_PREDICT "--data @/new.jsonl --format csv", NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.out, ",ood,confidence_kind,"));
    write_file(in_case(folder, "rows.csv"), done.out, strlen(done.out));
    command_free(&done);
    done = run_line(folder, "report @/rows.csv --format json", NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
    done = run_line(folder, "predict --posterior @/posterior --data @/new.jsonl --quiet", NULL);
    assert_int_equal(done.code, 0);
    assert_null(strstr(done.out, "\"ood\""));
    command_free(&done);
}

static void refused(const char *folder, const char *line, int code, const char *piece) {
    command done = run_line(folder, line, NULL);
    if (done.code != code || !strstr(done.err, piece))
        fail_msg("%s: exit %d: %s", line, done.code, done.err);
    command_free(&done);
}

static void faults(void **state) {
    const char *folder = open_rows();
    (void)state;
    done_well(folder, "fit --base @/base --adapter @/adapter --quiet --out @/posterior --data "
                      "@/calib.jsonl --prior 1");
    refused(folder, OOD_PREDICT "--data @/new.jsonl", 2, "fit it with --ood");
    put_rows(folder, "few.jsonl", 5, 9, false);
    refused(folder, OOD_FIT "--data @/few.jsonl --prior 1", 3, "held-out rows by --val");
    done_well(folder, OOD_FIT "--data @/few.jsonl --val @/val.jsonl --prior 1");
    /* a share of rows without a neighbour of their class, and of a single row */
    put_rows(folder, "few.jsonl", 6, 1, false);
    done_well(folder, OOD_FIT "--data @/few.jsonl --val @/val.jsonl --prior 1");
    size_t n;
    free(shares(folder, OOD_PREDICT "--data @/new.jsonl", &n));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform),           cmocka_unit_test(batches_threads_order),
        cmocka_unit_test(other_predictives), cmocka_unit_test(every_task),
        cmocka_unit_test(in_a_table),        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
