/* The contract of each function of laplora.h: NULL, no rows, wrong sizes, values that are none of
 * an enum, negative numbers, tokens outside the vocabulary, bytes that are no UTF-8. A refused call
 * says what was wrong and leaves everything usable: good rows have the same answers afterwards. */
#include "likelihood/answer.h"
#include "support/faults.h"
#include "support/row_files.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GOOD = 5 };
static const char *const good_texts[GOOD] = {"good", "bad", "good bad", "not good", "a bad good"};

typedef struct answers {
    la_prediction out[GOOD];
    double memory[GOOD][4 * ROW_CLASSES + ROW_CLASSES * ROW_CLASSES];
} answers;

static const char *folder;
static la_predictor *predictor;
static answers before;
static la_input good[GOOD];

static void answers_start(answers *a, int64_t classes) {
    memset(a, 0, sizeof *a);
    for (int i = 0; i < GOOD; i++)
        a->out[i] = la_prediction_at(classes, a->memory[i]);
}

static la_predict_options good_options(void) {
    return (la_predict_options){.run = {.device = "cpu", .threads = 2},
                                .posterior = in_case(folder, "posterior"),
                                .samples = 30,
                                .predictive = "mc"};
}

static int prepare(void **state) {
    (void)state;
    la_error err;
    folder = open_case("bert");
    use_tokenizer(NULL, folder);
    la_fit_summary_free(
        case_fit(folder, "calib.jsonl", "posterior", (la_fit_options){.select = LA_SELECT_NONE}));
    la_predict_options options = good_options();
    if (la_predictor_open(&options, &predictor, &err) != LA_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < GOOD; i++)
        good[i] = (la_input){.text = good_texts[i], .text_length = strlen(good_texts[i])};
    good[3].pair = "good";
    good[3].pair_length = 4;
    answers_start(&before, la_predictor_classes(predictor));
    if (la_predictor_run(predictor, good, GOOD, before.out, &err) != LA_OK)
        fail_msg("%s", err.message);
    return 0;
}

static int finish(void **state) {
    (void)state;
    la_predictor_close(predictor);
    return 0;
}

/* The handle is what it was. */
static void check_usable(void) {
    answers now;
    la_error err;
    answers_start(&now, la_predictor_classes(predictor));
    if (la_predictor_run(predictor, good, GOOD, now.out, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_memory_equal(now.memory, before.memory, sizeof now.memory);
}

static void check_error(const la_error *err, la_status status, const char *piece) {
    assert_int_equal(err->status, status);
    if (!strstr(err->message, piece))
        fail_msg("\"%s\" does not hold \"%s\"", err->message, piece);
    assert_null(strchr(err->message, '\n'));
}

/* Left by an earlier call, or uninitialised: written anew. */
static la_error dirty(void) {
    la_error err;
    memset(&err, 0x5a, sizeof err);
    err.status = LA_NUMERICAL;
    return err;
}

/* ---- la_fit ---- */

static la_fit_options good_fit(void) {
    return (la_fit_options){.run = {.device = "cpu"},
                            .base = in_case(folder, "base"),
                            .adapter = in_case(folder, "adapter"),
                            .data = in_case(folder, "calib.jsonl"),
                            .out = in_case(folder, "refused"),
                            .select = LA_SELECT_NONE};
}

static void refuse_fit(const la_fit_options *options, const char *piece) {
    la_error err = dirty();
    la_fit_summary *summary = (la_fit_summary *)1;
    assert_int_equal(la_fit(options, &summary, &err), LA_USAGE);
    check_error(&err, LA_USAGE, piece);
    assert_null(summary);
    /* without a log and without an error to fill */
    assert_int_equal(la_fit(options, &summary, NULL), LA_USAGE);
}

#define REFUSE_FIT(piece, ...)                                                                     \
    do {                                                                                           \
        la_fit_options o = good_fit();                                                             \
        o.__VA_ARGS__;                                                                             \
        refuse_fit(&o, piece);                                                                     \
    } while (0)

static void fit_arguments(void **state) {
    (void)state;
    static const int wrong[] = {-1, 6, 77, INT_MAX, INT_MIN};
    la_error err = dirty();
    la_fit_options options = good_fit();
    refuse_fit(NULL, "options");
    assert_int_equal(la_fit(&options, NULL, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "summary");
    REFUSE_FIT("base", base = NULL);
    REFUSE_FIT("adapter", adapter = NULL);
    REFUSE_FIT("data", data = NULL);
    REFUSE_FIT("out", out = NULL);
    REFUSE_FIT("curvature \"\"", curvature = "");
    REFUSE_FIT("curvature \"kron2\"", curvature = "kron2");
    for (int i = 0; i < 5; i++) {
        REFUSE_FIT("kron", kron = (la_kron)wrong[i]);
        REFUSE_FIT("prior", prior = (la_prior_kind)wrong[i]);
        REFUSE_FIT("select", select = (la_select_kind)wrong[i]);
        REFUSE_FIT("params", params = (la_params)wrong[i]);
    }
    static const double priors[] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++)
        REFUSE_FIT("prior_value", prior = LA_PRIOR_FIXED, o.prior_value = priors[i]);
    REFUSE_FIT("rank", rank = -1);
    REFUSE_FIT("noise", noise = -1);
    REFUSE_FIT("noise", noise = NAN);
    REFUSE_FIT("threads", run.threads = -1);
    REFUSE_FIT("threads", run.threads = INT_MAX);
    REFUSE_FIT("max_length", run.max_length = -5);
    REFUSE_FIT("batch_tokens", run.batch_tokens = -2);
    REFUSE_FIT("device", run.device = "gpu");
    REFUSE_FIT("precision", run.precision = "f64");
    REFUSE_FIT("val", select = LA_SELECT_VAL);
    REFUSE_FIT("heldout", select = LA_SELECT_CROSS);
    la_fit_summary_free(NULL);
    /* the last layer's parameters go with its own structure, and with the others */
    options.params = LA_PARAMS_LAST;
    la_fit_summary *summary;
    la_status status = la_fit(&options, &summary, &err);
    assert_int_equal(status, LA_OK);
    la_fit_summary_free(summary);
    la_predict_options predict = good_options();
    la_predictor *p;
    answers a;
    predict.posterior = options.out;
    answers_start(&a, 3);
    assert_int_equal(la_predictor_open(&predict, &p, &err), LA_OK);
    assert_int_equal(la_predictor_run(p, good, GOOD, a.out, &err), LA_OK);
    la_predictor_close(p);
    check_usable();
}

/* ---- la_predictor_open ---- */

static void refuse_open(const la_predict_options *options, la_status status, const char *piece) {
    la_error err = dirty();
    la_predictor *p = (la_predictor *)1;
    assert_int_equal(la_predictor_open(options, &p, &err), status);
    check_error(&err, status, piece);
    assert_null(p);
    assert_int_equal(la_predictor_open(options, &p, NULL), status);
}

#define REFUSE_OPEN(status, piece, ...)                                                            \
    do {                                                                                           \
        la_predict_options o = good_options();                                                     \
        o.__VA_ARGS__;                                                                             \
        refuse_open(&o, status, piece);                                                            \
    } while (0)

static void open_arguments(void **state) {
    (void)state;
    static const char *const wrong[] = {"", "MC", "mc ", "stored", "probit,mc"};
    la_error err = dirty();
    la_predict_options options = good_options();
    refuse_open(NULL, LA_USAGE, "options");
    assert_int_equal(la_predictor_open(&options, NULL, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "predictor");
    REFUSE_OPEN(LA_USAGE, "posterior", posterior = NULL);
    REFUSE_OPEN(LA_BAD_INPUT, "nothing-here", posterior = "nothing-here");
    REFUSE_OPEN(LA_BAD_INPUT, "config.json", posterior = in_case(folder, "base/config.json"));
    for (int i = 0; i < 5; i++)
        REFUSE_OPEN(LA_USAGE, "predictive", predictive = wrong[i]);
    REFUSE_OPEN(LA_USAGE, "samples", samples = -1);
    REFUSE_OPEN(LA_USAGE, "samples", samples = INT64_MIN);
    REFUSE_OPEN(LA_USAGE, "samples", predictive = "weights", o.samples = 0);
    REFUSE_OPEN(LA_USAGE, "threads", run.threads = -3);
    REFUSE_OPEN(LA_USAGE, "threads", run.threads = 1 << 20);
    REFUSE_OPEN(LA_USAGE, "max_length", run.max_length = -1);
    REFUSE_OPEN(LA_USAGE, "batch_tokens", run.batch_tokens = -2);
    check_usable();
}

/* Strings of the options may be freed when the call has returned. */
static void options_are_not_kept(void **state) {
    (void)state;
    la_predict_options options = good_options();
    char *given[] = {strdup(options.posterior), strdup(in_case(folder, "base")),
                     strdup(in_case(folder, "adapter")), strdup("label"), strdup("cpu")};
    la_predictor *p;
    la_error err;
    answers a;
    options.posterior = given[0];
    options.base = given[1];
    options.adapter = given[2];
    options.run.label_field = given[3];
    options.run.device = given[4];
    assert_int_equal(la_predictor_open(&options, &p, &err), LA_OK);
    for (int i = 0; i < 5; i++) {
        memset(given[i], 'x', strlen(given[i]));
        free(given[i]);
    }
    memset(&options, 0x5a, sizeof options);
    answers_start(&a, 3);
    assert_int_equal(
        la_predictor_run(p, &(la_input){.text = "\xff", .text_length = 1}, 1, a.out, &err),
        LA_BAD_INPUT);
    assert_int_equal(la_predictor_run(p, good, GOOD, a.out, &err), LA_OK);
    assert_memory_equal(a.memory, before.memory, sizeof a.memory);
    la_predictor_close(p);
}

static void closing(void **state) {
    (void)state;
    la_predictor_close(NULL);
    assert_int_equal(la_predictor_classes(NULL), 0);
    assert_int_equal(la_predictor_regresses(NULL), 0);
    assert_null(la_predictor_label(NULL, 0));
    assert_int_equal(la_predictor_classes(predictor), 3);
    assert_int_equal(la_predictor_regresses(predictor), 0);
    static const int64_t outside[] = {-1, 3, INT64_MAX, INT64_MIN};
    for (int i = 0; i < 4; i++)
        assert_null(la_predictor_label(predictor, outside[i]));
}

/* ---- la_predictor_run ---- */

/* One bad row among good ones. */
static void refuse_row(la_input bad, la_status status, const char *piece) {
    la_input in[GOOD];
    answers a;
    la_error err = dirty();
    memcpy(in, good, sizeof in);
    in[2] = bad;
    answers_start(&a, la_predictor_classes(predictor));
    assert_int_equal(la_predictor_run(predictor, in, GOOD, a.out, &err), status);
    check_error(&err, status, piece);
    if (status != LA_UNSUPPORTED)
        check_error(&err, status, "row 2: ");
    assert_int_equal(la_predictor_run(predictor, in, GOOD, a.out, NULL), status);
    check_usable();
}

static void rows_refused(void **state) {
    (void)state;
    static const int32_t negative[] = {5, -1, 6}, beyond[] = {5, 97}, far[] = {INT32_MAX},
                         lowest[] = {INT32_MIN};
    static int32_t many[65];
    for (int i = 0; i < 65; i++)
        many[i] = 7;
    refuse_row((la_input){0}, LA_USAGE, "text is NULL");
    refuse_row((la_input){.text_length = 4}, LA_USAGE, "text is NULL");
    refuse_row((la_input){.pair = "good", .pair_length = 4}, LA_USAGE, "text is NULL");
    refuse_row((la_input){.text = "good", .text_length = 4, .pair_length = 2}, LA_USAGE, "pair");
    refuse_row((la_input){.n_ids = 3}, LA_USAGE, "ids NULL");
    refuse_row((la_input){.text = "good", .text_length = 4, .n_ids = 3}, LA_USAGE, "ids NULL");
    refuse_row((la_input){.ids = many}, LA_USAGE, "n_ids 0");
    refuse_row((la_input){.ids = many, .n_ids = -1}, LA_USAGE, "n_ids -1");
    refuse_row((la_input){.ids = many, .n_ids = 3, .text = "good", .text_length = 4}, LA_USAGE,
               "both");
    refuse_row((la_input){.ids = many, .n_ids = 65}, LA_BAD_INPUT, "65 tokens");
    refuse_row((la_input){.ids = negative, .n_ids = 3}, LA_BAD_INPUT, "token id -1");
    refuse_row((la_input){.ids = beyond, .n_ids = 2}, LA_BAD_INPUT, "token id 97");
    refuse_row((la_input){.ids = far, .n_ids = 1}, LA_BAD_INPUT, "token id 2147483647");
    refuse_row((la_input){.ids = lowest, .n_ids = 1}, LA_BAD_INPUT, "token id -2147483648");
    /* a stray byte, a surrogate, a text cut within a character, one too long, one beyond Unicode */
    static const char *const no_utf8[] = {"good \x80", "\xed\xa0\x80", "good \xc3", "\xc0\xaf",
                                          "\xf4\x90\x80\x80"};
    for (int i = 0; i < 5; i++) {
        refuse_row((la_input){.text = no_utf8[i], .text_length = strlen(no_utf8[i])}, LA_BAD_INPUT,
                   "UTF-8");
        refuse_row((la_input){.text = "good",
                              .text_length = 4,
                              .pair = no_utf8[i],
                              .pair_length = strlen(no_utf8[i])},
                   LA_BAD_INPUT, "UTF-8");
    }
}

static void run_arguments(void **state) {
    (void)state;
    answers a;
    la_error err = dirty();
    answers_start(&a, 3);
    assert_int_equal(la_predictor_run(NULL, good, GOOD, a.out, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "predictor");
    err = dirty();
    assert_int_equal(la_predictor_run(predictor, NULL, 1, a.out, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "in is NULL");
    assert_int_equal(la_predictor_run(predictor, good, 1, NULL, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "out is NULL");
    assert_int_equal(la_predictor_run(predictor, good, -1, a.out, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "n -1");
    assert_int_equal(la_predictor_run(predictor, good, INT64_MIN, a.out, &err), LA_USAGE);
    for (int array = 0; array < 5; array++) {
        static const char *const names[] = {"probs", "map_probs", "logits", "logit_cov",
                                            "variance"};
        answers_start(&a, 3);
        double **at[] = {&a.out[4].probs, &a.out[4].map_probs, &a.out[4].logits,
                         &a.out[4].logit_cov, &a.out[4].variance};
        *at[array] = NULL;
        assert_int_equal(la_predictor_run(predictor, good, GOOD, a.out, &err), LA_USAGE);
        check_error(&err, LA_USAGE, names[array]);
        check_error(&err, LA_USAGE, "row 4: ");
        /* refused before any row is answered */
        assert_true(a.memory[0][0] == 0);
    }
    /* no rows: nothing is read or written */
    err = dirty();
    assert_int_equal(la_predictor_run(predictor, NULL, 0, NULL, &err), LA_OK);
    assert_int_equal(err.status, LA_OK);
    assert_int_equal(la_predictor_run(predictor, NULL, 0, NULL, NULL), LA_OK);
    check_usable();
}

/* An empty text is a row; a place means nothing where rows are classified. */
static void odd_rows(void **state) {
    (void)state;
    static const int32_t ids[] = {9, 8, 7};
    answers a;
    la_error err;
    la_input in[GOOD] = {{.text = ""},
                         {.text = "", .pair = ""},
                         {.ids = ids, .n_ids = 3},
                         {.ids = ids, .n_ids = 3, .place = 99},
                         {.ids = ids, .n_ids = 1}};
    answers_start(&a, 3);
    assert_int_equal(la_predictor_run(predictor, in, GOOD, a.out, &err), LA_OK);
    /* alike to rounding, as some kernels sum a product's last rows in another order: up to 4.4e-8
     * over seven kinds of kernels */
    for (int c = 0; c < 3; c++)
        assert_true(fabs(a.memory[2][c] - a.memory[3][c]) < 1.7e-7);
    for (int i = 0; i < GOOD; i++)
        assert_true(fabs(a.memory[i][0] + a.memory[i][1] + a.memory[i][2] - 1) < 1e-9);
    check_usable();
}

/* Places of classified tokens must be among the row's tokens. */
static void places(void **state) {
    (void)state;
    static const int32_t ids[] = {9, 8, 7};
    static const int64_t outside[] = {-1, 3, INT64_MAX, INT64_MIN};
    const char *tokens = open_case("bert-token");
    la_predictor *p;
    la_error err;
    answers a, b;
    la_fit_summary_free(
        case_fit(tokens, "calib.jsonl", "posterior", (la_fit_options){.select = LA_SELECT_NONE}));
    la_predict_options options = {.posterior = in_case(tokens, "posterior"), .samples = 10};
    if (la_predictor_open(&options, &p, &err) != LA_OK)
        fail_msg("%s", err.message);
    assert_true(la_predictor_classes(p) <= ROW_CLASSES);
    answers_start(&a, la_predictor_classes(p));
    answers_start(&b, la_predictor_classes(p));
    la_input in[2] = {{.ids = ids, .n_ids = 3, .place = 2}, {.ids = ids, .n_ids = 3}};
    assert_int_equal(la_predictor_run(p, in, 2, a.out, &err), LA_OK);
    assert_memory_not_equal(a.memory[0], a.memory[1], sizeof a.memory[0]);
    for (int i = 0; i < 4; i++) {
        in[1].place = outside[i];
        assert_int_equal(la_predictor_run(p, in, 2, b.out, &err), LA_USAGE);
        check_error(&err, LA_USAGE, "row 1: ");
        check_error(&err, LA_USAGE, "place");
    }
    in[1] = (la_input){.text = "good", .text_length = 4};
    assert_int_equal(la_predictor_run(p, in, 2, b.out, &err), LA_USAGE);
    in[1] = (la_input){.ids = ids, .n_ids = 3};
    assert_int_equal(la_predictor_run(p, in, 2, b.out, &err), LA_OK);
    assert_memory_equal(a.memory, b.memory, sizeof a.memory);
    la_predictor_close(p);
}

/* Logs without functions, and with them. */
static void warn(void *user, const char *message) {
    assert_non_null(message);
    ++*(int *)user;
}

static void logs(void **state) {
    (void)state;
    int count = 0;
    la_fit_options options = good_fit();
    la_fit_summary *summary;
    la_error err;
    static const char row[] = "{\"text\": \"good\", \"label\": 1}\n";
    write_file(in_case(folder, "few.jsonl"), row, strlen(row));
    options.data = in_case(folder, "few.jsonl");
    options.out = in_case(folder, "few");
    options.run.log = (la_log){.warn = warn, .user = &count};
    assert_int_equal(la_fit(&options, &summary, &err), LA_OK);
    la_fit_summary_free(summary);
    assert_true(count > 0); /* so few rows */
    options.run.log = (la_log){0};
    assert_int_equal(la_fit(&options, &summary, &err), LA_OK);
    la_fit_summary_free(summary);
}

/* Memory of predictions is the library's, and recipes say how they are made. */
static void predictions_and_recipes(void **state) {
    (void)state;
    la_error err = dirty();
    la_prediction *list = NULL, *none = &before.out[0];
    assert_int_equal(la_prediction_list_new(predictor, GOOD, &list, &err), LA_OK);
    assert_int_equal(la_predictor_run(predictor, good, GOOD, list, &err), LA_OK);
    for (int i = 0; i < GOOD; i++)
        assert_memory_equal(list[i].probs, before.out[i].probs, sizeof *list->probs);
    la_prediction_list_free(list);
    la_prediction_list_free(NULL);
    assert_int_equal(la_prediction_list_new(NULL, 1, &none, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "predictor");
    assert_int_equal(la_prediction_list_new(predictor, -1, &none, &err), LA_USAGE);
    check_error(&err, LA_USAGE, "n -1");
    assert_null(none);
    assert_int_equal(la_predictor_recipes(NULL), 0);
    assert_int_equal(la_predictor_recipes(predictor), 1);
    la_recipe_summary recipe = la_predictor_recipe(predictor, 0);
    assert_string_equal(recipe.predictive, "mc");
    assert_true(recipe.prior_scale == 1 && recipe.temperature == 1 && recipe.weight == 1);
    /* without draws, its closed form */
    la_predict_options options = good_options();
    la_predictor *closed;
    options.samples = 0;
    assert_int_equal(la_predictor_open(&options, &closed, &err), LA_OK);
    assert_string_equal(la_predictor_recipe(closed, 0).predictive, "probit");
    la_predictor_close(closed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fit_arguments),
        cmocka_unit_test(open_arguments),
        cmocka_unit_test(options_are_not_kept),
        cmocka_unit_test(closing),
        cmocka_unit_test(rows_refused),
        cmocka_unit_test(run_arguments),
        cmocka_unit_test(odd_rows),
        cmocka_unit_test(logs),
        cmocka_unit_test(places),
        cmocka_unit_test(predictions_and_recipes),
    };
    return cmocka_run_group_tests_name("contract", tests, prepare, finish);
}
