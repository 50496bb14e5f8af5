/* Posteriors that are updated: digests of their rows, sums that are added and taken out. */
#include "bayes/row_digests.h"
#include "support/faults.h"
#include "support/posterior_files.h"
#include "support/row_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const la_fit_options plain = {.prior = LA_PRIOR_GLOBAL, .select = LA_SELECT_NONE};

/* ---- digests ---- */

static la_posterior fitted(const char *folder, const row_file *rows, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "%s.jsonl", name);
    char *file = in_case(folder, path);
    rows_write(rows, file, true);
    la_fit_summary_free(case_fit(folder, path, name, plain));
    return case_load(folder, name);
}

/* A posterior knows its rows, copies too, and not their order; a row with another label is another
 * one. */
static void rows_are_known(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    row_file rows = rows_random(3, 12);
    rows_add(&rows, &rows, 4);
    row_file turned = rows_turned(&rows, 5, 2), other = rows;
    other.labels[4] = 1;
    la_posterior a = fitted(folder, &rows, "a"), b = fitted(folder, &turned, "b"),
                 c = fitted(folder, &other, "c");
    const la_row_digest *list = a.provenance.row_digests;
    int copies = 0, found = 0;
    assert_int_equal(a.provenance.n_row_digests, 13);
    assert_memory_equal(list, b.provenance.row_digests, 13 * sizeof *list);
    assert_string_equal(a.provenance.data_digest, b.provenance.data_digest);
    assert_string_not_equal(a.provenance.data_digest, c.provenance.data_digest);
    for (int i = 0; i < 13; i++) {
        copies += i && !la_row_digest_order(&list[i - 1], &list[i]);
        for (int j = 0; j < 13; j++)
            found += !la_row_digest_order(&list[i], &c.provenance.row_digests[j]);
    }
    assert_int_equal(copies, 1);
    assert_int_equal(found, 13); /* eleven, and two that are the copy that kept its label */
    la_posterior_free(&a);
    la_posterior_free(&b);
    la_posterior_free(&c);
}

/* ---- equality with a fit of the same rows ---- */

/* What is fitted; all of it with the rows of a parity fixture. */
typedef struct form {
    const char *fixture, *options;
} form;

static const form forms[] = {
    {"bert", ""},
    {"bert", "--kron reduce"},
    {"bert", "--prior 2"},
    {"bert", "--curvature diag"},
    {"bert", "--curvature exact"},
    {"bert", "--curvature last-layer"},
    {"bert-regression", "--noise 0.3 --kron reduce"},
    {"bert-regression", "--curvature exact"},
    {"bert-multilabel", ""},
    {"bert-token", "--kron reduce"},
    {"llama", "--choice-ids 37,76,92,95"},
    {"prefix-tuning-bert", ""},
};
enum {
    FORMS = sizeof forms / sizeof *forms,
    LOTS = 3,
};

static void run_ok(const char *folder, const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: %s", line, done.err);
    command_free(&done);
}

/* Rows [from, to) of calib.jsonl. */
static void cut_rows(const char *folder, const char *name, int from, int to) {
    size_t length;
    char *all = read_file(in_case(folder, "calib.jsonl"), &length), *at = all;
    FILE *file = fopen(in_case(folder, name), "w");
    for (int i = 0; i < to; i++) {
        char *end = strchr(at, '\n');
        size_t n = end ? (size_t)(end - at) : strlen(at);
        if (i >= from)
            fprintf(file, "%.*s\n", (int)n, at);
        at += n + (end != NULL);
    }
    fclose(file);
    free(all);
}

static void fit_rows(const char *folder, const form *f, const char *data, const char *out) {
    run_ok(folder,
           "fit --base @/base --adapter @/adapter --data @/%s --out @/%s --quiet --threads 1 %s",
           data, out, f->options);
}

static void add_rows(const char *folder, const char *from, const char *data, const char *to) {
    run_ok(folder, "update --posterior @/%s --data @/%s --out @/%s --quiet --threads 1", from, data,
           to);
}

static void take_rows(const char *folder, const char *from, const char *data, const char *to) {
    run_ok(folder, "update --posterior @/%s --remove @/%s --out @/%s --quiet --threads 1", from,
           data, to);
}

static double largest_of(const json_t *a) {
    double most = json_is_number(a) ? fabs(json_number_value(a)) : 0;
    for (size_t i = 0; i < json_array_size(a); i++)
        most = fmax(most, largest_of(json_array_get(a, i)));
    return most;
}

/* Largest differences: of numbers of a prediction; of covariances and variances, over a row's
 * largest one; of the evidence, relative. */
typedef struct difference {
    double predictions, covariances, evidence;
} difference;

static double distance_of(json_t *a, const json_t *b, double *covariances) {
    double most = json_is_number(a) ? fabs(json_number_value(a) - json_number_value(b)) : 0;
    json_t *value;
    const char *key;
    for (size_t i = 0; i < json_array_size(a); i++)
        most = fmax(most, distance_of(json_array_get(a, i), json_array_get(b, i), covariances));
    json_object_foreach(a, key, value) {
        double one = distance_of(value, json_object_get(b, key), covariances);
        if (!strcmp(key, "logit_cov") || strstr(key, "variance"))
            *covariances = fmax(*covariances, one / fmax(largest_of(value), 1e-9));
        else
            most = fmax(most, one);
    }
    return most;
}

static difference compare(const char *folder, const char *a, const char *b) {
    const char *const names[] = {a, b};
    json_t *lines[2];
    double evidence[2];
    for (int i = 0; i < 2; i++) {
        run_ok(folder,
               "predict --posterior @/%s --data @/test.jsonl --out @/p.jsonl --quiet "
               "--emit cov --samples 20 --threads 1",
               names[i]);
        lines[i] = load_lines(in_case(folder, "p.jsonl"));
        la_posterior p = case_load(folder, names[i]);
        evidence[i] = p.log_marginal_likelihood;
        la_posterior_free(&p);
    }
    difference d = {.evidence = relative(evidence[0], evidence[1], 1e-9)};
    d.predictions = distance_of(lines[0], lines[1], &d.covariances);
    json_decref(lines[0]);
    json_decref(lines[1]);
    return d;
}

static void widen(difference *most, difference one) {
    most->predictions = fmax(most->predictions, one.predictions);
    most->covariances = fmax(most->covariances, one.covariances);
    most->evidence = fmax(most->evidence, one.evidence);
}

/* The same rows by another way: the same numbers and digests, and a name of the model that follows
 * from its rows alone. */
static difference check_same(const char *folder, const char *a, const char *b) {
    la_posterior x = case_load(folder, a), y = case_load(folder, b);
    assert_int_equal(x.n_rows, y.n_rows);
    assert_int_equal(x.n_tokens, y.n_tokens);
    assert_true(x.rows_weight == y.rows_weight && x.tokens_weight == y.tokens_weight);
    assert_int_equal(x.provenance.n_row_digests, y.provenance.n_row_digests);
    assert_memory_equal(x.provenance.row_digests, y.provenance.row_digests,
                        (size_t)x.n_rows * sizeof *x.provenance.row_digests);
    assert_null(x.provenance.row_weights);
    assert_string_equal(x.provenance.data_digest, y.provenance.data_digest);
    assert_int_equal(x.prior, y.prior);
    for (int64_t c = 0; x.class_rows && c < x.n_classes; c++)
        assert_true(x.class_rows[c] == y.class_rows[c]);
    assert_int_equal(!x.class_rows, !y.class_rows);
    la_posterior_free(&x);
    la_posterior_free(&y);
    return compare(folder, a, b);
}

/* Fit of a third of the rows, the others added in one lot or two, taken out, and added again. */
static void equal_to_a_fit(void **state) {
    (void)state;
    difference most = {0};
    for (int k = 0; k < FORMS; k++) {
        char folder[512];
        difference added = {0}, taken = {0};
        snprintf(folder, sizeof folder, "%s", open_case(forms[k].fixture));
        json_t *rows = load_lines(in_case(folder, "calib.jsonl"));
        int n = (int)json_array_size(rows);
        json_decref(rows);
        for (int i = 0; i < LOTS; i++) {
            char name[32];
            snprintf(name, sizeof name, "lot%d.jsonl", i);
            cut_rows(folder, name, n * i / LOTS, n * (i + 1) / LOTS);
        }
        cut_rows(folder, "rest.jsonl", n / LOTS, n);
        cut_rows(folder, "two.jsonl", 0, n * 2 / LOTS);
        fit_rows(folder, &forms[k], "calib.jsonl", "whole");
        fit_rows(folder, &forms[k], "lot0.jsonl", "first");
        fit_rows(folder, &forms[k], "two.jsonl", "two");
        add_rows(folder, "first", "rest.jsonl", "at-once");
        add_rows(folder, "first", "lot1.jsonl", "second");
        add_rows(folder, "second", "lot2.jsonl", "third");
        widen(&added, check_same(folder, "at-once", "whole"));
        widen(&added, check_same(folder, "second", "two"));
        widen(&added, check_same(folder, "third", "whole"));
        take_rows(folder, "third", "lot2.jsonl", "back");
        widen(&taken, check_same(folder, "back", "two"));
        take_rows(folder, "whole", "rest.jsonl", "alone");
        widen(&taken, check_same(folder, "alone", "first"));
        add_rows(folder, "alone", "rest.jsonl", "again");
        widen(&taken, check_same(folder, "again", "whole"));
        printf("    %-18s %-28s added: %.1e, covariance %.1e, evidence %.1e; taken out: %.1e, "
               "%.1e, %.1e\n",
               forms[k].fixture, forms[k].options, added.predictions, added.covariances,
               added.evidence, taken.predictions, taken.covariances, taken.evidence);
        widen(&most, added);
        widen(&most, taken);
    }
    check_within("predictions", most.predictions, 1e-5);
    check_within("covariances", most.covariances, 6e-5);
    check_within("evidence", most.evidence, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_known),
        cmocka_unit_test(equal_to_a_fit),
    };
    return cmocka_run_group_tests_name("update", tests, NULL, NULL);
}
