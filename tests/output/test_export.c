/* Exports of made-up posteriors: every key of the JSON, the temperature of vLLM's pooler, and what
 * is said to be lost. */
#include "output/escape.h"
#include "output/export.h"
#include "support/support.h"
#include "support/tiny_posterior.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct said {
    char text[4096];
} said;

static void note(void *user, const char *message) {
    said *s = user;
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s\n", message);
}

/* What a format writes; fails unless it returns status. The caller frees it. */
static char *written(const la_posterior *p, const char *format, const json_t *threshold,
                     la_status status, said *s, la_error *err) {
    la_log log = {.warn = note, .user = s};
    la_export export = {.path = "p.h5",
                        .posterior = p,
                        .digest = "00112233445566778899aabbccddeeff",
                        .threshold = threshold,
                        .log = &log};
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);
    *s = (said){0};
    *err = (la_error){0};
    assert_int_equal(la_export_resolve(&export, err), LA_OK);
    for (int i = 0; i < LA_EXPORT_FORMATS; i++)
        if (!strcmp(la_export_formats[i].name, format))
            assert_int_equal(la_export_formats[i].write(&export, stream, err), status);
    fclose(stream);
    return text;
}

static json_t *exported(const la_posterior *p, const char *format, const json_t *threshold,
                        said *s) {
    la_error err;
    char *text = written(p, format, threshold, LA_OK, s, &err);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

static void check_says(const said *s, const char *piece, bool expected) {
    if (!strstr(s->text, piece) == expected)
        fail_msg("\"%s\" is %s in: %s", piece, expected ? "not" : "", s->text);
}

/* ---- json ---- */

/* The golden file has every key in its order; the version is of this build. */
static void golden_json(void **state) {
    la_posterior p = tiny_posterior(TINY_GUARDED);
    json_t *golden = load_json(fixture("export/guarded.json"));
    json_t *threshold = json_pack("{s:s, s:n}", "schema", "laplora.threshold/1", "threshold");
    said s;
    la_error err;
    char *text = written(&p, "json", threshold, LA_OK, &s, &err), *expected;
    size_t length;
    (void)state;
    assert_string_equal(s.text, "");
    json_object_set_new(golden, "version", json_string(LAPLORA_VERSION));
    FILE *stream = open_memstream(&expected, &length);
    assert_int_equal(la_json_write(golden, JSON_INDENT(1), stream), 0);
    fclose(stream);
    text[strlen(text) - 1] = 0; /* the last line's end */
    assert_string_equal(text, expected);
    free(text);
    free(expected);
    json_decref(golden);
    json_decref(threshold);
    la_posterior_free(&p);
}

static void unguarded_json(void **state) {
    la_posterior p = tiny_posterior(TINY_EKFAC);
    said s;
    json_t *root = exported(&p, "json", NULL, &s);
    (void)state;
    assert_true(json_is_null(at(root, "temperature")));
    assert_true(json_is_null(at(root, "guard")));
    assert_int_equal(json_array_size(at(root, "thresholds")), 0);
    assert_int_equal(json_array_size(at(root, "settings")), 1);
    assert_string_equal(json_string_value(at(root, "settings/0/predictive")), "mc");
    assert_string_equal(json_string_value(at(root, "confidence_kind")), "laplace-mc");
    assert_string_equal(json_string_value(at(root, "classes/2")), "2");
    assert_null(json_object_get(root, "choice_ids"));
    json_decref(root);
    la_posterior_free(&p);
}

static void regression_json(void **state) {
    la_posterior p = tiny_posterior(TINY_REGRESSION);
    said s;
    json_t *root = exported(&p, "json", NULL, &s);
    (void)state;
    assert_string_equal(json_string_value(at(root, "task")), "regression");
    assert_int_equal(json_array_size(at(root, "classes")), 0);
    assert_true(json_is_null(at(root, "temperature")));
    assert_true(number_at(root, "noise_variance") == 0.25);
    json_decref(root);
    la_posterior_free(&p);
}

/* ---- vllm ---- */

/* The pooler's formula gives the probabilities of predict where one temperature is all of it. */
static void pooler_predicts(void **state) {
    static const float outputs[] = {1.5f, -0.5f, 3};
    static const double zero[4] = {0}, one = 1;
    static const uint64_t stream = 1;
    static const la_method methods[] = {LA_METHOD_MAP, LA_METHOD_TEMPERATURE};
    la_posterior p = tiny_posterior(TINY_GUARDED);
    double worst = 0;
    (void)state;
    for (int k = 0; k < 2; k++) {
        said s;
        la_error err = {0};
        double memory[12 + 9], sum = 0;
        p.choice.method = methods[k];
        json_t *root = exported(&p, "vllm", NULL, &s);
        double mean = number_at(root, "logit_mean"), sigma = number_at(root, "logit_sigma");
        assert_true(sigma == (k ? 1.5 : 1));
        check_says(&s, "one temperature", false);
        check_says(&s, "covariance", false);
        la_prediction out = la_prediction_at(3, memory);
        la_output_rows rows = {.n = 1,
                               .n_outputs = 3,
                               .n_scales = 1,
                               .outputs = outputs,
                               .scales = &one,
                               .cov = zero,
                               .streams = &stream};
        la_export export = {.posterior = &p};
        assert_int_equal(la_export_resolve(&export, &err), LA_OK);
        assert_int_equal(la_answer_rows(p.likelihood, export.recipes, export.n_recipes, &rows,
                                        &(la_draw_options){.samples = 10}, (la_team){.threads = 1},
                                        &out, &err),
                         LA_OK);
        for (int c = 0; c < 3; c++)
            sum += exp(((double)outputs[c] - mean) / sigma);
        for (int c = 0; c < 3; c++)
            worst =
                fmax(worst, fabs(out.probs[c] - exp(((double)outputs[c] - mean) / sigma) / sum));
        json_decref(root);
    }
    /* predict divides in single precision */
    check_within("the pooler's probabilities less those of predict", worst, 1e-7);
    la_posterior_free(&p);
}

static void average_is_said(void **state) {
    la_posterior p = tiny_posterior(TINY_GUARDED);
    json_t *threshold = json_object();
    said s;
    json_t *root = exported(&p, "vllm", threshold, &s);
    (void)state;
    assert_true(number_at(root, "logit_sigma") == 1.5);
    assert_true(number_at(root, "logit_mean") == 0);
    assert_int_equal(json_object_size(root), 2);
    check_says(&s, "in place of average: mean NLL 0.5100 on the 120 held-out rows", true);
    check_says(&s, "0.5600 with laplora predict (each row left out), 0.5000 without", true);
    check_says(&s, "the mean over 3 settings", true);
    check_says(&s, "the covariance of each row, Monte Carlo draws", true);
    check_says(&s, "adue", true);
    check_says(&s, "the threshold", true);
    check_says(&s, "3 answer tokens of a causal LM (ids 37, 39, ..)", true);
    check_says(&s, "template", true);
    json_decref(root);
    json_decref(threshold);
    la_posterior_free(&p);
}

static void closed_form_is_said(void **state) {
    la_posterior p = tiny_posterior(TINY_GUARDED);
    said s;
    (void)state;
    p.choice.method = LA_METHOD_SCALAR;
    json_decref(exported(&p, "vllm", NULL, &s));
    check_says(&s, "in place of laplace-scalar", true);
    check_says(&s, "covariance", true);
    check_says(&s, "draws", false);
    check_says(&s, "settings", false);
    check_says(&s, "threshold", false);
    la_posterior_free(&p);
}

static void regression_is_its_mean(void **state) {
    la_posterior p = tiny_posterior(TINY_REGRESSION);
    said s;
    json_t *root = exported(&p, "vllm", NULL, &s);
    (void)state;
    assert_true(number_at(root, "logit_sigma") == 1);
    assert_true(json_is_false(at(root, "use_activation")));
    check_says(&s, "noise variance 0.25", true);
    check_says(&s, "temperature", false);
    json_decref(root);
    la_posterior_free(&p);
}

/* No temperature is made up: neither without held-out rows, nor from a file that lacks it. */
static void nothing_to_express(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        la_posterior p = tiny_posterior(k ? TINY_GUARDED : TINY_KRON);
        said s;
        la_error err;
        p.choice.candidates[LA_METHOD_TEMPERATURE].nll = NAN;
        char *text = written(&p, "vllm", NULL, LA_UNSUPPORTED, &s, &err);
        assert_string_equal(text, "");
        assert_non_null(strstr(err.message, "p.h5: no held-out rows chose a temperature"));
        assert_non_null(strstr(err.message, "--val"));
        free(text);
        la_posterior_free(&p);
    }
}

/* A file may say so; no fit does. */
static void choice_of_others(void **state) {
    la_posterior p = tiny_posterior(TINY_REGRESSION);
    la_export export = {.path = "p.h5", .posterior = &p};
    la_error err = {0};
    (void)state;
    p.choice.method = LA_METHOD_SCALAR;
    assert_int_equal(la_export_resolve(&export, &err), LA_BAD_INPUT);
    assert_string_equal(err.message, "p.h5: its choice is none of a regression");
    la_posterior_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_json),
        cmocka_unit_test(unguarded_json),
        cmocka_unit_test(regression_json),
        cmocka_unit_test(pooler_predicts),
        cmocka_unit_test(average_is_said),
        cmocka_unit_test(closed_form_is_said),
        cmocka_unit_test(regression_is_its_mean),
        cmocka_unit_test(nothing_to_express),
        cmocka_unit_test(choice_of_others),
    };
    return cmocka_run_group_tests_name("exports", tests, NULL, NULL);
}
