/* Two prediction files of the same rows: pairing, differences, their intervals. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "pipeline/report_job.h"

static la_status report(const char *format, char **out, la_error *err) {
    char write[300];
    const char *wishes[] = {write}, *to = scratch("out");
    int failed;
    size_t length;
    snprintf(write, sizeof write, "%s=%s", format, to);
    la_report_options options = {.predictions = scratch("a.jsonl"),
                                 .against = scratch("b.jsonl"),
                                 .write = wishes,
                                 .n_write = 1};
    *err = (la_error){0};
    remove(to);
    la_status status = la_report_run(&options, &failed, err);
    *out = status == LA_OK ? read_file(to, &length) : NULL;
    return status;
}

static void write_rows(const char *a, const char *b) {
    write_file(scratch("a.jsonl"), a, strlen(a));
    write_file(scratch("b.jsonl"), b, strlen(b));
}

static json_t *compare(void) {
    la_error err;
    char *text;
    if (report("json", &text, &err) != LA_OK)
        fail_msg("%s", err.message);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

enum { ROWS = 800 };

/* Probability of class 0 that model 0 or 1 gives a row: model 1 is the same but for some noise, and
 * for the first `worse` rows, whose answer it turns. */
static double chance(int model, uint64_t row, int worse) {
    double p = 0.5 + 0.499 * la_random_uniform(1, 0, row);
    if (model)
        p += 0.05 * (la_random_uniform(1, 1, row) - 0.5);
    p = fmin(fmax(p, 0.001), 0.999);
    return model && row < (uint64_t)worse ? 1 - p : p;
}

static int label_of(uint64_t row) {
    return la_random_uniform(1, 2, row) >= chance(0, row, 0);
}

/* step: rows in the order 0, step, 2 step, ... of their numbers; it shares no divisor with ROWS */
static void write_model(const char *name, int model, int worse, uint64_t step) {
    FILE *file = fopen(scratch(name), "w");
    assert_non_null(file);
    for (uint64_t i = 0; i < ROWS; i++) {
        uint64_t row = i * step % ROWS;
        double p = chance(model, row, worse);
        fprintf(file, "{\"index\":%d,\"id\":\"r%d\",\"label\":%d,\"probs\":[%.17g,%.17g]}\n",
                (int)i, (int)row, label_of(row), p, 1 - p);
    }
    fclose(file);
}

static void same_rows(void **state) {
    (void)state;
    write_model("a.jsonl", 0, 0, 1);
    write_model("b.jsonl", 0, 0, 7);
    json_t *root = compare(), *one;
    const char *name;
    assert_int_equal(json_object_size(at(root, "comparison/differences")),
                     json_object_size(at(root, "metrics")));
    assert_true(json_equal(at(root, "comparison/metrics"), at(root, "metrics")));
    json_object_foreach((json_t *)(uintptr_t)at(root, "comparison/differences"), name, one) {
        assert_true(number_at(one, "difference") == 0);
        assert_true(number_at(one, "p_value") == 1);
        assert_true(json_is_null(at(one, "better")));
        /* resamples are of the same rows in both, so that nothing is left but digits */
        assert_true(fabs(number_at(one, "ci/0")) < 1e-12 && fabs(number_at(one, "ci/1")) < 1e-12);
    }
    assert_int_equal(json_string_length(at(root, "comparison/xxh3")), 32);
    assert_null(json_object_get(at(root, "metrics"), "comparison"));
    json_decref(root);
}

/* Standard error of the mean difference of a row's score, from the rows themselves. */
static double paired_error(bool nll, int worse, double *mean) {
    double sum = 0, square = 0;
    for (uint64_t i = 0; i < ROWS; i++) {
        double score[2];
        for (int m = 0; m < 2; m++) {
            double p = chance(m, i, worse), own = label_of(i) ? 1 - p : p;
            score[m] = nll ? -log(own) : (p >= 0.5) == !label_of(i);
        }
        sum += score[0] - score[1];
        square += (score[0] - score[1]) * (score[0] - score[1]);
    }
    *mean = sum / ROWS;
    return sqrt((square / ROWS - *mean * *mean) / ROWS);
}

static void intervals(void **state) {
    static const char *const names[] = {"accuracy", "nll"};
    static const int worse[] = {0, 100};
    (void)state;
    for (int w = 0; w < 2; w++) {
        write_model("a.jsonl", 0, 0, 3);
        write_model("b.jsonl", 1, worse[w], 7);
        json_t *root = compare();
        for (int m = 0; m < 2; m++) {
            double mean, error = paired_error(m == 1, worse[w], &mean);
            const json_t *one = json_object_get(at(root, "comparison/differences"), names[m]);
            double width = number_at(one, "ci/1") - number_at(one, "ci/0");
            double own = number_at(at(at(root, "ci"), names[m]), "1") -
                         number_at(at(at(root, "ci"), names[m]), "0");
            assert_true(fabs(number_at(one, "difference") - mean) < 1e-12);
            /* 1000 resamples know the width to some 5 % */
            assert_true(fabs(width / (2 * 1.96 * error) - 1) < 0.15);
            assert_true(w || width < 0.5 * own); /* pairs say more than each file by itself */
            if (w) {
                assert_true(number_at(one, "p_value") < 0.01);
                assert_string_equal(json_string_value(at(one, "better")), "this");
            }
        }
        json_decref(root);
    }
    /* the other way round */
    write_model("a.jsonl", 1, 40, 1);
    write_model("b.jsonl", 0, 0, 7);
    json_t *root = compare();
    assert_string_equal(json_string_value(at(root, "comparison/differences/nll/better")), "other");
    assert_true(number_at(root, "comparison/differences/nll/difference") > 0);
    json_decref(root);
    static const char *const pieces[][2] = {{"text", "\nagainst  "},
                                            {"markdown", "#### Against `"},
                                            {"html", "Against another file</h2>"}};
    for (size_t f = 0; f < sizeof pieces / sizeof *pieces; f++) {
        char *text;
        la_error err;
        assert_int_equal(report(pieces[f][0], &text, &err), LA_OK);
        const char *begin = strstr(text, pieces[f][1]);
        assert_non_null(begin);
        assert_non_null(strstr(begin, "the other"));
        free(text);
    }
}

/* Regressions, sets, tokens, and rows without an id, which are paired by their index. */
static void other_kinds(void **state) {
    static const char *const pairs[][2] = {
        {"{\"index\":0,\"label\":1,\"prediction\":1.5,\"variance\":1}\n"
         "{\"index\":1,\"label\":2,\"prediction\":1.5,\"variance\":2}\n",
         "{\"index\":1,\"label\":2,\"prediction\":1.5,\"variance\":2}\n"
         "{\"index\":0,\"label\":1,\"prediction\":1.5,\"variance\":1}\n"},
        {"{\"id\":\"7\",\"label\":[0],\"probs\":[0.9,0.2]}\n"
         "{\"id\":8,\"label\":[],\"probs\":[0.8,0.2]}\n",
         "{\"id\":8,\"label\":[],\"probs\":[0.8,0.2]}\n"
         "{\"id\":7,\"label\":[0],\"probs\":[0.9,0.2]}\n"},
        {"{\"id\":\"a\",\"tokens\":[{\"token\":1,\"label\":0,\"probs\":[0.9,0.1]},"
         "{\"token\":2,\"label\":1,\"probs\":[0.9,0.1]}]}\n",
         "{\"id\":\"a\",\"token\":2,\"label\":1,\"probs\":[0.9,0.1]}\n"
         "{\"id\":\"a\",\"token\":1,\"label\":0,\"probs\":[0.9,0.1]}\n"}};
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        write_rows(pairs[i][0], pairs[i][1]);
        json_t *root = compare(), *one;
        const char *name;
        json_object_foreach((json_t *)(uintptr_t)at(root, "comparison/differences"), name,
                            one) if (!json_is_null(at(one, "difference")))
            assert_true(number_at(one, "difference") == 0 && number_at(one, "p_value") == 1);
        json_decref(root);
    }
}

#define ROW(id, label) "{\"id\":\"" id "\",\"label\":" label ",\"probs\":[0.75,0.25]}\n"

static void refusals(void **state) {
    static const struct {
        const char *a, *b, *pieces[2];
    } cases[] = {
        {ROW("x", "0") ROW("y", "0"), ROW("x", "0"), {"b.jsonl: id \"y\" has no row", "same rows"}},
        {ROW("x", "0"), ROW("x", "0") ROW("z", "0"), {"b.jsonl:2: id \"z\" has no row", "a.jsonl"}},
        {ROW("x", "0") ROW("x", "0"), ROW("x", "0"), {"a.jsonl:2: id \"x\"", "twice"}},
        {ROW("x", "0"), ROW("x", "0") ROW("x", "0"), {"b.jsonl:2: id \"x\"", "twice"}},
        {ROW("x", "0"), ROW("x", "1"), {"b.jsonl: id \"x\"", "another label"}},
        {ROW("x", "0"), ROW("x", "null"), {"b.jsonl: id \"x\"", "has no row with a label"}},
        {ROW("x", "0"), "{\"label\":0,\"probs\":[1,0]}\n", {"b.jsonl:1: no \"id\"", "paired"}},
        {ROW("x", "0"), "{\"id\":\"x\",\"label\":0,\"probs\":[1,0,0]}\n", {"3 classes", "2 cl"}},
        {ROW("x", "0"),
         "{\"id\":\"x\",\"label\":0,\"prediction\":0,\"variance\":1}\n",
         {"b.jsonl: predictions of numbers", "of classes"}},
        {ROW("x", "0"), "", {"b.jsonl", "empty"}},
        {ROW("\\u202e", "0"), ROW("y", "0"), {"b.jsonl:1: id \"y\"", "no row"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        la_error err;
        char *text;
        write_rows(cases[i].a, cases[i].b);
        la_status status = report("json", &text, &err);
        if (status != LA_BAD_INPUT || !strstr(err.message, cases[i].pieces[0]) ||
            !strstr(err.message, cases[i].pieces[1]))
            fail_msg("case %zu: status %d, \"%s\"", i, (int)status, err.message);
        assert_int_not_equal(access(scratch("out"), F_OK), 0);
    }
    /* the other file is no place for the report */
    la_error err;
    int failed;
    write_rows(ROW("x", "0"), ROW("x", "0"));
    la_report_options options = {.predictions = scratch("a.jsonl"),
                                 .against = scratch("b.jsonl"),
                                 .out = scratch("b.jsonl")};
    err = (la_error){0};
    assert_int_equal(la_report_run(&options, &failed, &err), LA_USAGE);
    assert_non_null(strstr(err.message, "would replace --against"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_rows),
        cmocka_unit_test(intervals),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
