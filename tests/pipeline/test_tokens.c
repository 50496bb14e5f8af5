/* Token classification: a labelled token is a row of its own, whatever it is packed with; words and
 * tags; one line a row or one a token. Parity of the numbers is test_parity's. */
#include "bayes/posterior.h"
#include "support/faults.h"
#include "support/row_files.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES_MOST = 128 };

/* A file of JSON rows. */
typedef struct json_rows {
    json_t *rows[LINES_MOST];
    size_t n;
} json_rows;

static json_rows read_rows(const char *path) {
    json_rows out = {0};
    size_t length;
    char *text = read_file(path, &length), *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        assert_true(out.n < LINES_MOST);
        out.rows[out.n] = json_loads(line, 0, NULL);
        assert_non_null(out.rows[out.n++]);
    }
    free(text);
    return out;
}

static void free_rows(json_rows *rows) {
    for (size_t i = 0; i < rows->n; i++)
        json_decref(rows->rows[i]);
}

static int64_t int_of(const json_t *row, const char *key) {
    return json_integer_value(json_object_get(row, key));
}

/* Fails unless the command succeeds. */
static command run_well(const char *folder, const char *line, const char *input) {
    command done = run_line(folder, line, input);
    if (done.code)
        fail_msg("%s: exit code %d: %s", line, done.code, done.err);
    return done;
}

static void run_quietly(const char *folder, const char *line) {
    command done = run_well(folder, line, NULL);
    command_free(&done);
}

/* ---- a labelled token is a row ---- */

/* calib.jsonl with a line for every label. */
static void write_split(const char *folder, const char *name) {
    json_rows calib = read_rows(in_case(folder, "calib.jsonl"));
    FILE *file = fopen(in_case(folder, name), "w");
    assert_non_null(file);
    for (size_t i = 0; i < calib.n; i++) {
        json_t *labels = json_object_get(calib.rows[i], "labels");
        for (size_t t = 0; t < json_array_size(labels); t++) {
            if (json_integer_value(json_array_get(labels, t)) < 0)
                continue;
            json_t *one = json_deep_copy(calib.rows[i]);
            json_t *only = json_object_get(one, "labels");
            for (size_t other = 0; other < json_array_size(only); other++)
                if (other != t)
                    json_array_set_new(only, other, other % 2 ? json_null() : json_integer(-100));
            char *text = json_dumps(one, JSON_COMPACT);
            fprintf(file, "%s\n", text);
            free(text);
            json_decref(one);
        }
    }
    fclose(file);
    free_rows(&calib);
}

/* Every structure makes the same of a row with k labels and of k rows with one each. */
static void labels_are_rows(void **state) {
    (void)state;
    const char *folder = open_case("bert-token");
    write_split(folder, "split.jsonl");
    for (int kind = 0; kind < LA_CURVATURES_FITTED; kind++)
        for (int kron = 0; kron < 2; kron++) {
            la_fit_options options = {.curvature = la_curvature_names[kind],
                                      .kron = (la_kron)kron,
                                      .prior = LA_PRIOR_GLOBAL,
                                      .select = LA_SELECT_NONE};
            la_fit_summary *together = case_fit(folder, "calib.jsonl", "a", options);
            la_fit_summary *split = case_fit(folder, "split.jsonl", "b", options);
            assert_true(together->n_rows > 24 && together->n_rows == split->n_rows);
            assert_int_equal(together->n_tokens, split->n_tokens);
            assert_true(together->log_likelihood == split->log_likelihood);
            assert_true(together->log_marginal_likelihood == split->log_marginal_likelihood);
            assert_true(together->prior_precision == split->prior_precision);
            assert_true(together->prior_precision > 0);
            la_fit_summary_free(together);
            la_fit_summary_free(split);
        }
}

/* ---- predictions ---- */

static void probs_near(const json_t *a, const json_t *b, double *worst) {
    const json_t *x = json_object_get(a, "probs"), *y = json_object_get(b, "probs");
    assert_true(json_array_size(x) == 3 && json_array_size(y) == 3);
    for (size_t c = 0; c < 3; c++) {
        double gap =
            json_number_value(json_array_get(x, c)) - json_number_value(json_array_get(y, c));
        gap = gap < 0 ? -gap : gap;
        *worst = gap > *worst ? gap : *worst;
    }
}

/* A line a row holds what a line a token says, in whatever batches; and so does the library. */
static void one_line_or_many(void **state) {
    (void)state;
    const char *folder = open_case("bert-token");
    fit_case(folder);
    run_quietly(folder, PREDICT);
    rename(in_case(folder, "out"), in_case(folder, "nested.jsonl"));
    run_quietly(folder, PREDICT " --flat");
    rename(in_case(folder, "out"), in_case(folder, "flat.jsonl"));
    run_quietly(folder, PREDICT " --flat --batch-tokens 20");
    rename(in_case(folder, "out"), in_case(folder, "small.jsonl"));
    json_rows test = read_rows(in_case(folder, "test.jsonl"));
    json_rows nested = read_rows(in_case(folder, "nested.jsonl"));
    json_rows flat = read_rows(in_case(folder, "flat.jsonl"));
    json_rows small = read_rows(in_case(folder, "small.jsonl"));
    size_t at_flat = 0;
    double worst = 0;
    assert_int_equal(nested.n, test.n);
    assert_int_equal(small.n, flat.n);
    for (size_t i = 0; i < test.n; i++) {
        const json_t *labels = json_object_get(test.rows[i], "labels");
        const json_t *tokens = json_object_get(nested.rows[i], "tokens");
        size_t entry = 0;
        assert_int_equal(int_of(nested.rows[i], "index"), i);
        for (size_t t = 0; t < json_array_size(labels); t++) {
            int64_t label = json_integer_value(json_array_get(labels, t));
            if (label < 0)
                continue;
            const json_t *one = json_array_get(tokens, entry++);
            assert_int_equal(int_of(one, "token"), t);
            assert_int_equal(int_of(one, "label"), label);
            const json_t *line = flat.rows[at_flat], *other = small.rows[at_flat];
            assert_int_equal(int_of(line, "index"), at_flat);
            assert_int_equal(int_of(line, "row"), i);
            assert_int_equal(int_of(line, "token"), t);
            assert_int_equal(int_of(line, "label"), label);
            assert_true(json_equal(json_object_get(line, "probs"), json_object_get(one, "probs")));
            probs_near(line, other, &worst);
            at_flat++;
        }
        assert_int_equal(json_array_size(tokens), entry);
    }
    assert_int_equal(flat.n, at_flat);
    check_within("probabilities in other batches", worst, 3.8e-7);

    la_predictor *predictor;
    la_error err;
    la_predict_options options = {.posterior = in_case(folder, "posterior"), .samples = 1000};
    if (la_predictor_open(&options, &predictor, &err) != LA_OK)
        fail_msg("%s", err.message);
    int32_t ids[64];
    const json_t *list = json_object_get(test.rows[0], "input_ids");
    la_input in = {.ids = ids, .n_ids = (int64_t)json_array_size(list)};
    for (size_t t = 0; t < json_array_size(list); t++)
        ids[t] = (int32_t)json_integer_value(json_array_get(list, t));
    in.place = int_of(flat.rows[0], "token");
    double memory[3 + 3 + 3 + 3 + 9];
    la_prediction out = {.probs = memory,
                         .map_probs = memory + 3,
                         .logits = memory + 6,
                         .variance = memory + 9,
                         .logit_cov = memory + 12};
    assert_int_equal(la_predictor_run(predictor, &in, 1, &out, &err), LA_OK);
    const json_t *probs = json_object_get(flat.rows[0], "probs");
    worst = 0;
    for (size_t c = 0; c < 3; c++)
        worst = relative(out.probs[c], json_number_value(json_array_get(probs, c)), 1) > worst
                    ? relative(out.probs[c], json_number_value(json_array_get(probs, c)), 1)
                    : worst;
    check_within("probabilities from the library", worst, 2e-7);
    in.place = in.n_ids;
    assert_int_equal(la_predictor_run(predictor, &in, 1, &out, &err), LA_USAGE);
    la_predictor_close(predictor);
    free_rows(&test);
    free_rows(&nested);
    free_rows(&flat);
    free_rows(&small);
}

/* Both forms have one report. */
static void one_report(void **state) {
    (void)state;
    const char *folder = open_case("bert-token");
    fit_case(folder);
    json_t *metrics[2];
    for (int flat = 0; flat < 2; flat++) {
        run_quietly(folder, flat ? PREDICT " --flat" : PREDICT);
        command done = run_well(folder, "report @/out --format json", NULL);
        json_t *report = json_loads(done.out, 0, NULL);
        assert_non_null(report);
        assert_true(int_of(report, "n") > 10);
        metrics[flat] = json_incref(json_object_get(report, "metrics"));
        json_decref(report);
        command_free(&done);
    }
    assert_true(json_is_object(metrics[0]) && json_equal(metrics[0], metrics[1]));
    json_decref(metrics[0]);
    json_decref(metrics[1]);
}

/* ---- words ---- */

static void put_text(const char *folder, const char *name, const char *text) {
    write_file(in_case(folder, name), text, strlen(text));
}

#define WORDS_FIT                                                                                  \
    "fit --base @/base --adapter @/adapter --data @/words.jsonl --labels O,PER,LOC --out "         \
    "@/posterior"
#define WORDS_PREDICT "predict --posterior @/posterior --data @/new.jsonl --out @/out"

static const char *words_case(void) {
    const char *folder = open_case("bert-token");
    use_tokenizer(NULL, folder);
    put_text(folder, "words.jsonl",
             "{\"tokens\":[\"films\",\"very\",\"good\"],\"tags\":[\"PER\",0,-100]}\n"
             "{\"words\":[\"a\",\"bad\"],\"ner_tags\":[null,\"LOC\"]}\n"
             "{\"tokens\":[\"yes\",\"no\"],\"labels\":[\"O\",\"1\"]}\n"
             "{\"tokens\":[\"no\",\"tags\"],\"labels\":[-100,null]}\n");
    return folder;
}

/* [CLS] film ##s very good [SEP]: words are at 1, 3 and 4; one that is nothing has no token. */
static void words_and_tags(void **state) {
    (void)state;
    const char *folder = words_case();
    command done = run_well(folder, WORDS_FIT " --json", NULL);
    json_t *fit = json_loads(done.out, 0, NULL);
    assert_int_equal(int_of(fit, "n_rows"), 5);
    assert_int_equal(int_of(fit, "n_tokens"), 6 * 2 + 4 + 4 * 2);
    json_decref(fit);
    command_free(&done);
    put_text(folder, "new.jsonl",
             "{\"id\":\"x\",\"tokens\":[\"films\",\"very\",\"good\"],\"tags\":[\"LOC\",-100,0]}\n"
             "{\"tokens\":[\"films\",\" \",\"a\"]}\n"
             "{\"tokens\":[\" \"]}\n");
    done = run_well(folder, WORDS_PREDICT, NULL);
    assert_non_null(strstr(done.err, "2 words have no token"));
    command_free(&done);
    json_rows rows = read_rows(in_case(folder, "out"));
    assert_int_equal(rows.n, 3);
    static const int places[2][3] = {{1, 3, 4}, {1, 3, 0}}, words[2][3] = {{0, 1, 2}, {0, 2, 0}};
    static const int counts[3] = {3, 2, 0}, tags[3] = {2, -1, 0};
    for (size_t i = 0; i < 3; i++) {
        const json_t *tokens = json_object_get(rows.rows[i], "tokens");
        assert_int_equal(json_array_size(tokens), counts[i]);
        for (size_t t = 0; t < json_array_size(tokens); t++) {
            const json_t *one = json_array_get(tokens, t);
            const json_t *label = json_object_get(one, "label");
            assert_int_equal(int_of(one, "token"), places[i][t]);
            assert_int_equal(int_of(one, "word"), words[i][t]);
            assert_int_equal(label ? json_integer_value(label) : -1, i ? -1 : tags[t]);
            const char *name = json_string_value(json_object_get(one, "prediction_label"));
            assert_true(!strcmp(name, "O") || !strcmp(name, "PER") || !strcmp(name, "LOC"));
        }
    }
    assert_string_equal(json_string_value(json_object_get(rows.rows[0], "id")), "x");
    free_rows(&rows);
    done = run_well(folder, "report @/out --format json", NULL);
    json_t *report = json_loads(done.out, 0, NULL);
    assert_int_equal(int_of(report, "n"), 2);
    json_decref(report);
    command_free(&done);
}

/* Words behind the cut have no prediction, and are counted. */
static void cut_words(void **state) {
    (void)state;
    const char *folder = words_case();
    run_quietly(folder, WORDS_FIT " --quiet");
    put_text(folder, "new.jsonl", "{\"tokens\":[\"films\",\"very\",\"good\"],\"tags\":[0,1,2]}\n");
    command done = run_well(folder, WORDS_PREDICT " --flat --max-length 5", NULL);
    assert_non_null(strstr(done.err, "1 words have no token"));
    assert_non_null(strstr(done.err, "1 rows are longer than 5 tokens"));
    command_free(&done);
    json_rows rows = read_rows(in_case(folder, "out"));
    assert_int_equal(rows.n, 2);
    assert_int_equal(int_of(rows.rows[1], "word"), 1);
    assert_int_equal(int_of(rows.rows[1], "token"), 3);
    free_rows(&rows);
}

/* A row in, a whole line out. */
static void answers_line_by_line(void **state) {
    (void)state;
    const char *folder = words_case();
    run_quietly(folder, WORDS_FIT " --quiet");
    command done = run_well(folder, "predict --posterior @/posterior --stdin --skip-bad --quiet",
                            "{\"tokens\":[\"films\",\"very\"]}\n{\"tokens\":[]}\n"
                            "{\"tokens\":[\"a\"]}\n");
    write_file(in_case(folder, "lines"), done.out, strlen(done.out));
    json_rows rows = read_rows(in_case(folder, "lines"));
    assert_int_equal(rows.n, 3);
    assert_int_equal(json_array_size(json_object_get(rows.rows[0], "tokens")), 2);
    assert_true(json_is_string(json_object_get(rows.rows[1], "error")));
    assert_int_equal(int_of(rows.rows[2], "index"), 2);
    free_rows(&rows);
    command_free(&done);
}

/* ---- held-out rows ---- */

/* Tokens of one row never stand on both sides: four rows are too few for five parts, however many
 * labels they have; five are enough. */
static void parts_of_whole_rows(void **state) {
    (void)state;
    const char *folder = open_case("bert-token");
    char text[2048] = "";
    for (int i = 0; i < 5; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used,
                 "{\"input_ids\":[%d,7,8,9,10,11],\"labels\":[0,1,2,%d,1,%d]}\n", 20 + i, i % 3,
                 (i + 1) % 3);
        put_text(folder, "few.jsonl", text);
        if (i < 3)
            continue;
        command done = run_line(folder,
                                "fit --base @/base --adapter @/adapter --data @/few.jsonl "
                                "--heldout --out @/crossed --json",
                                NULL);
        assert_int_equal(done.code, i == 4 ? 0 : 3);
        if (i == 3)
            assert_non_null(strstr(done.err, "4 distinct rows"));
        else
            assert_non_null(strstr(done.out, "\"n_rows\":30"));
        command_free(&done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_rows),     cmocka_unit_test(one_line_or_many),
        cmocka_unit_test(one_report),          cmocka_unit_test(words_and_tags),
        cmocka_unit_test(cut_words),           cmocka_unit_test(answers_line_by_line),
        cmocka_unit_test(parts_of_whole_rows),
    };
    return cmocka_run_group_tests_name("tokens", tests, NULL, NULL);
}
