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

/* Rows that the posterior has already are added, and said to be. */
static void added_twice(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    cut_rows(folder, "a.jsonl", 0, 12);
    cut_rows(folder, "b.jsonl", 8, 20);
    cut_rows(folder, "c.jsonl", 20, 24);
    run_ok(folder, "fit --base @/base --adapter @/adapter --data @/a.jsonl --out @/p --quiet");
    command done =
        run_line(folder, "update --posterior @/p --data @/b.jsonl --out @/q --json", NULL);
    assert_int_equal(done.code, 0);
    assert_non_null(strstr(done.err, "b.jsonl: 4 of 12 rows are among those of "));
    assert_non_null(strstr(done.out, "\"n_rows_known\":4,\"n_rows\":24"));
    command_free(&done);
    done = run_line(folder, "update --posterior @/p --data @/c.jsonl --out @/q --json", NULL);
    assert_int_equal(done.code, 0);
    assert_null(strstr(done.err, "rows are among"));
    assert_non_null(strstr(done.out, "\"n_rows_known\":0"));
    command_free(&done);
}

/* ---- discounted rows, other adapters ---- */

/* Every row twice, which count half each, and other rows: all once. A row that counts half is taken
 * out as half a row. */
static void discounted(void **state) {
    (void)state;
    const form f = {"bert", "--prior global"};
    char folder[512];
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    cut_rows(folder, "a.jsonl", 0, 12);
    cut_rows(folder, "b.jsonl", 12, 24);
    cut_rows(folder, "aa.jsonl", 0, 12);
    size_t length;
    char *rows = read_file(in_case(folder, "a.jsonl"), &length);
    append_text(&(fault){.file = "aa.jsonl", .a = rows}, folder);
    free(rows);
    fit_rows(folder, &f, "aa.jsonl", "twice");
    fit_rows(folder, &f, "calib.jsonl", "whole");
    fit_rows(folder, &f, "b.jsonl", "later");
    run_ok(folder, "update --posterior @/twice --data @/b.jsonl --forget 0.5 --out @/half --quiet");
    run_ok(folder, "update --posterior @/half --remove @/aa.jsonl --out @/left --quiet");
    la_posterior half = case_load(folder, "half");
    assert_int_equal(half.n_rows, 36);
    assert_true(half.rows_weight == 24);
    la_posterior_free(&half);
    difference d = compare(folder, "half", "whole");
    widen(&d, check_same(folder, "left", "later"));
    check_within("predictions", d.predictions, 1e-5);
    check_within("covariances", d.covariances, 6e-5);
    check_within("evidence", d.evidence, 1e-6);
}

/* An adapter that was trained further: its rows come to the old sums, the precisions stay, and what
 * is summed later is taken out again; rows from before are not. */
static void another_adapter(void **state) {
    (void)state;
    const form f = {"bert", "--prior 2"};
    char folder[512];
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    cut_rows(folder, "a.jsonl", 0, 12);
    cut_rows(folder, "b.jsonl", 12, 20);
    cut_rows(folder, "c.jsonl", 20, 24);
    copy_folder(in_case(folder, "adapter"), in_case(folder, "further"));
    poison_tensor(&(fault){.file = "further/adapter_model.safetensors",
                           .a = "layer.0.attention.self.query.lora_A.weight",
                           .b = "0.75"},
                  folder);
    fit_rows(folder, &f, "a.jsonl", "old");
    run_ok(folder, "update --posterior @/old --data @/b.jsonl --adapter @/further --out @/new "
                   "--quiet --threads 1");
    add_rows(folder, "new", "c.jsonl", "more");
    take_rows(folder, "more", "c.jsonl", "back");
    la_posterior old = case_load(folder, "old"), new = case_load(folder, "new"),
                 back = case_load(folder, "back");
    assert_true(new.earlier_rows == 12 && new.n_rows == 20 && new.earlier_distance > 0);
    assert_string_not_equal(new.provenance.adapter_digest, old.provenance.adapter_digest);
    for (int64_t b = 0; b < new.n_blocks; b++)
        assert_true(new.blocks[b].prior_precision == 2 && new.blocks[b].denominator > 0 &&
                    new.blocks[b].trace_in > old.blocks[b].trace_in);
    /* no less than the prior's share of it: one number of one block has moved */
    assert_true(new.log_marginal_likelihood <
                new.log_likelihood - 0.5 * new.earlier_distance + 1e-9);
    la_posterior_free(&old);
    la_posterior_free(&new);
    la_posterior_free(&back);
    difference d = compare(folder, "back", "new");
    check_within("predictions", d.predictions, 1e-5);
    check_within("covariances", d.covariances, 6e-5);
    check_within("evidence", d.evidence, 1e-6);
}

/* What the rows taken out had a part in is gone from the file. */
static void nothing_is_left(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", open_case("bert"));
    const form guarded = {"bert", "--ood --adue --val @/b.jsonl"}, plainly = {"bert", ""};
    cut_rows(folder, "a.jsonl", 0, 8);
    cut_rows(folder, "b.jsonl", 8, 16);
    fit_rows(folder, &guarded, "calib.jsonl", "whole");
    cut_rows(folder, "rest.jsonl", 8, 24);
    take_rows(folder, "whole", "rest.jsonl", "left");
    fit_rows(folder, &plainly, "a.jsonl", "never");
    la_posterior p = case_load(folder, "left");
    assert_false(p.choice.guarded);
    assert_true(p.temperature == 1);
    assert_null(p.adue.weight);
    assert_null(p.ood.means);
    assert_null(p.provenance.held_out);
    la_posterior_free(&p);
    difference d = check_same(folder, "left", "never");
    check_within("predictions", d.predictions, 1e-5);
    check_within("evidence", d.evidence, 1e-6);
}

/* ---- what is refused ---- */

/* @/p of @/a.jsonl; b: options of the fit. */
static void fit_first(const fault *f, const char *folder) {
    cut_rows(folder, "a.jsonl", 0, 8);
    cut_rows(folder, "b.jsonl", 8, 16);
    cut_rows(folder, "ab.jsonl", 0, 9);
    run_ok(
        folder,
        "fit --base @/base --adapter @/adapter --data @/a.jsonl --out @/p --quiet --threads 1 %s",
        f->b ? f->b : "");
}

#define UPDATE "update --posterior @/p --quiet --threads 1 --out @/out "
#define OLD "tests/fixtures/posterior/schema-1.3.h5"
#define CASE(title, exit_code, line, fitted, ...)                                                  \
    {                                                                                              \
        .name = title, .code = exit_code, .pieces = {__VA_ARGS__}, .command = line,                \
        .damage = fit_first, .b = fitted                                                           \
    }

static const fault faults[] = {
    CASE("rows that were never added", 3, UPDATE "--remove @/ab.jsonl", "", "ab.jsonl:9",
         "is not among the rows"),
    CASE("all rows", 3, UPDATE "--remove @/a.jsonl", "", "these are all 8 rows"),
    CASE("neither", 2, UPDATE, "", "--data", "--remove"),
    CASE("both", 2, UPDATE "--data @/b.jsonl --remove @/a.jsonl", "", "--data", "--remove"),
    CASE("forgetting more than all", 2, UPDATE "--data @/b.jsonl --forget 2", "", "--forget 2"),
    CASE("forgetting beside rows taken out", 2, UPDATE "--remove @/a.jsonl --forget 0.5", "",
         "--forget 0.5"),
    CASE("ekfac", 4, UPDATE "--data @/b.jsonl", "--curvature ekfac", "--curvature ekfac", "kron"),
    CASE("rows of a cut sum", 4, UPDATE "--remove @/ab.jsonl", "--rank 2", "--rank 2", "fit again"),
    CASE("another base", 7, UPDATE "--data @/b.jsonl --base tests/fixtures/parity/llama-seq/base",
         "", "digest"),
    CASE("an earlier posterior", 4,
         "update --posterior " OLD " --data @/b.jsonl --quiet --out @/out", "",
         "which rows it is of"),
    CASE("a file that is none", 3, "update --posterior @/a.jsonl --data @/b.jsonl --out @/out", "",
         "is no posterior"),
};

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_known),  cmocka_unit_test(equal_to_a_fit),
        cmocka_unit_test(added_twice),     cmocka_unit_test(discounted),
        cmocka_unit_test(another_adapter), cmocka_unit_test(nothing_is_left),
    };
    int failed = cmocka_run_group_tests_name("update", tests, NULL, NULL);
    return failed + run_faults("update: faults", faults, sizeof faults / sizeof *faults);
}
