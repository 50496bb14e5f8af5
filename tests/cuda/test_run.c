/* fit and predict of the program on the emulated CUDA device: beside the CPU, on several devices,
 * under other orders of a kernel's threads, and a line at a time. */
#include "cuda/emulated.h"
#include "cuda/predictions.h"
#include "output/posterior_file.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct model {
    const char *name, *options; /* options of fit */
    const char *kron;           /* on several devices and in other orders */
    gap f32, bf16;
} model;

/* The tiny models are harsh on bf16: their random weights give large logits. */
static const model models[] = {
    {"bert", "", "expand", {2.5e-7, 2.4e-6, 1.9e-6}, {6.4e-3, 5.5e-2, 2.7e-2}},
    {"llama-gqa",
     " --choice-ids 41,7,93,20,64",
     "expand",
     {2.1e-6, 1e-5, 2.4e-5},
     {1.6e-2, 1.2e-1, 2.7e-1}},
    {"llama-seq", "", "reduce", {3.2e-7, 3.8e-6, 1.6e-6}, {7e-3, 1.4e-1, 4.6e-2}},
};
enum { BERT, LLAMA_GQA, LLAMA_SEQ };

typedef struct place {
    char folder[4096];
    const model *model;
} place;

static place open_model(const model *m) {
    place p = {.model = m};
    need_emulated();
    snprintf(p.folder, sizeof p.folder, "%s", open_case(m->name));
    return p;
}

/* Fits @/NAME; what --json says, to be given back by json_decref. */
static json_t *fit_under(const place *p, const char *settings, const char *name,
                         const char *options) {
    char line[1024];
    snprintf(line, sizeof line, "fit " PARTS " --out @/%s --json --quiet%s %s", name,
             p->model->options, options);
    command done = works(settings, p->folder, line);
    json_t *summary = json_loads(done.out, 0, NULL);
    if (!summary)
        fail_msg("no JSON from %s: %.600s", line, done.out);
    command_free(&done);
    return summary;
}

static void fit_as(const place *p, const char *name, const char *options) {
    json_decref(fit_under(p, "", name, options));
}

/* Predicts the rows of @/test.jsonl with the posterior @/NAME; the output, to be freed. */
static char *predict_under(const place *p, const char *settings, const char *name,
                           const char *options) {
    char line[1024];
    snprintf(line, sizeof line,
             "predict --posterior @/%s --data @/test.jsonl --emit logits,cov --quiet %s", name,
             options);
    command done = works(settings, p->folder, line);
    char *out = done.out;
    done.out = NULL;
    command_free(&done);
    return out;
}

static char *predict(const place *p, const char *name, const char *options) {
    return predict_under(p, "", name, options);
}

/* ---- beside the CPU ---- */

static void check_fit_says(const place *p, const char *name, const char *options,
                           const char *device, const char *precision) {
    json_t *summary = fit_under(p, "", name, options);
    assert_string_equal(json_string_value(at(summary, "device")), device);
    assert_string_equal(json_string_value(at(summary, "precision")), precision);
    json_decref(summary);
}

static void beside_cpu_f32(void **state) {
    place p = open_model(*state);
    gap worst = {0};
    check_fit_says(&p, "cpu", "--device cpu", "cpu", "f32");
    check_fit_says(&p, "cuda", "--device cuda", "cuda", "f32");
    char *want = predict(&p, "cpu", "--samples 500 --device cpu");
    static const char *const pairs[][2] = {{"cuda", "--samples 500 --device cpu"},
                                           {"cpu", "--samples 500 --device cuda"},
                                           {"cuda", "--samples 500 --device cuda"}};
    for (int i = 0; i < 3; i++) {
        char *got = predict(&p, pairs[i][0], pairs[i][1]);
        compare_rows(got, want, &worst);
        free(got);
    }
    free(want);
    check_gap("f32 on cuda beside the CPU", &worst, &p.model->f32);
}

static void beside_cpu_bf16(void **state) {
    place p = open_model(*state);
    gap worst = {0};
    fit_as(&p, "cpu", "--device cpu");
    check_fit_says(&p, "cuda", "--device cuda --precision bf16", "cuda", "bf16");
    char *want = predict(&p, "cpu", "--samples 500 --device cpu");
    static const char *const pairs[][2] = {
        {"cuda", "--samples 500 --device cpu"},
        {"cpu", "--samples 500 --device cuda --precision bf16"},
        {"cuda", "--samples 500 --device cuda --precision bf16"}};
    for (int i = 0; i < 3; i++) {
        char *got = predict(&p, pairs[i][0], pairs[i][1]);
        gap one = {0};
        compare_rows(got, want, &one);
        /* else it was computed in f32 */
        assert_true(one.cov > 1e-4);
        compare_rows(got, want, &worst);
        free(got);
    }
    free(want);
    check_gap("bf16 on cuda beside the CPU", &worst, &p.model->bf16);
}

/* Every way from logits and covariance to probabilities. The draws are the same, row by row, so
 * that Monte Carlo is no further apart than the closed forms. */
static void predictives(void **state) {
    (void)state;
    static const char *const kinds[] = {"--predictive map",
                                        "--predictive probit",
                                        "--predictive bridge",
                                        "--predictive mc --samples 2000",
                                        "--predictive mc --samples 0",
                                        "--predictive scalar"};
    static const gap limit = {9.1e-7, 2.4e-6, 1.6e-6};
    place p = open_model(&models[BERT]);
    fit_as(&p, "posterior", "--device cpu");
    char *other = NULL;
    for (int i = 0; i < 6; i++) {
        char options[128];
        gap worst = {0};
        snprintf(options, sizeof options, "%s --seed 3 --device cpu", kinds[i]);
        char *want = predict(&p, "posterior", options);
        snprintf(options, sizeof options, "%s --seed 3 --device cuda", kinds[i]);
        char *got = predict(&p, "posterior", options);
        compare_rows(got, want, &worst);
        check_gap(kinds[i], &worst, &limit);
        /* the kinds differ, or nothing was tested */
        assert_true(!other || strcmp(other, got));
        free(other);
        free(want);
        other = got;
    }
    free(other);
}

/* Structures whose fits and covariances go other ways through the operations, fitted and used on
 * the device, with a held-out choice between (the calibration rows serve as held-out ones). */
static void structures(void **state) {
    (void)state;
    static const struct {
        const char *options;
        gap limit;
    } kinds[] = {
        {"--curvature ekfac --prior global", {3.4e-7, 2.4e-6, 1.7e-6}},
        /* row means leave eigenvalues that are nearly 0, whose eigenvectors rounding turns */
        {"--curvature ekfac --kron reduce --prior 3", {1.7e-4, 2.4e-6, 3.6e-3}},
        {"--curvature diag --prior module", {2.7e-7, 2.4e-6, 1.4e-6}},
        {"--curvature exact --prior global", {7.8e-7, 2.4e-6, 1e-5}},
        {"--curvature exact --prior 2 --rank 9", {4.6e-7, 2.4e-6, 7.2e-6}},
        {"--curvature last-layer --prior global", {7.3e-7, 2.4e-6, 3.9e-6}},
        {"--val @/calib.jsonl", {5.4e-7, 2.4e-6, 1.8e-6}},
        {"--curvature ekfac --heldout", {5.4e-7, 2.4e-6, 1.3e-6}},
    };
    place p = open_model(&models[BERT]);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char options[128];
        gap worst = {0};
        snprintf(options, sizeof options, "%s --device cpu", kinds[i].options);
        fit_as(&p, "cpu", options);
        snprintf(options, sizeof options, "%s --device cuda", kinds[i].options);
        fit_as(&p, "cuda", options);
        char *want = predict(&p, "cpu", "--predictive mc --samples 300 --device cpu");
        char *got = predict(&p, "cuda", "--predictive mc --samples 300 --device cuda");
        compare_rows(got, want, &worst);
        free(got);
        got = predict(&p, "cpu", "--predictive mc --samples 300 --device cuda");
        compare_rows(got, want, &worst);
        check_gap(kinds[i].options, &worst, &kinds[i].limit);
        free(got);
        free(want);
    }
}

/* An average, whose settings share a pass and have scales and draws of their own: beside the CPU,
 * and on two devices. */
static void averages(void **state) {
    (void)state;
    static const struct {
        const char *curvature;
        gap limit;
    } kinds[] = {{"kron", {4.4e-7, 2.4e-6, 1.8e-6}}, {"exact", {4.4e-7, 2.4e-6, 8.8e-6}}};
    static const la_setting list[] = {{LA_METHOD_LAPLACE, 10, 2, 0.4, 0},
                                      {LA_METHOD_LAPLACE, 1, 1, 0.3, 1},
                                      {LA_METHOD_SCALAR, 10, 0.5, 0.2, 0},
                                      {LA_METHOD_TEMPERATURE, 1, 3, 0.1, 0}};
    place p = open_model(&models[BERT]);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char options[128];
        gap worst = {0}, between = {0};
        la_posterior posterior;
        la_error err = {0};
        snprintf(options, sizeof options, "--device cpu --val @/calib.jsonl --curvature %s",
                 kinds[i].curvature);
        fit_as(&p, "fitted", options);
        assert_int_equal(la_posterior_load(in_case(p.folder, "fitted"), &posterior, &err), LA_OK);
        posterior.choice.method = LA_METHOD_AVERAGE;
        posterior.choice.candidates[LA_METHOD_AVERAGE].nll = 1;
        posterior.choice.candidates[LA_METHOD_AVERAGE].accuracy = 0;
        posterior.choice.n_settings = sizeof list / sizeof *list;
        memcpy(posterior.choice.settings, list, sizeof list);
        posterior.choice.n_corrections = 1;
        posterior.choice.corrections[0] = (la_correction){.scale = 1,
                                                          .spread = 0.3,
                                                          .temperature = 1.5,
                                                          .bias = {-0.75, 0.5, 0.25},
                                                          .weight = {0.5, 1.5, 1}};
        assert_int_equal(la_posterior_save(&posterior, in_case(p.folder, "posterior"), &err),
                         LA_OK);
        la_posterior_free(&posterior);
        char *want = predict(&p, "posterior", "--samples 300 --device cpu");
        char *got = predict(&p, "posterior", "--samples 300 --device cuda");
        char *both = predict_under(&p, "LA_EMULATED_DEVICES=2", "posterior",
                                   "--samples 300 --device cuda:0,1 --batch-tokens 20");
        assert_non_null(strstr(got, "\"confidence_kind\":\"average\""));
        compare_rows(got, want, &worst);
        compare_rows(both, got, &between);
        check_gap(kinds[i].curvature, &worst, &kinds[i].limit);
        check_gap("on two devices", &between, &kinds[i].limit);
        free(want);
        free(got);
        free(both);
    }
}

/* Distances of the pooled states, fitted and used on the device, beside the CPU's: the share of
 * nearer reference rows jumps where a distance passes one of 24 of them, so that a row may be one
 * further. */
static void ood_beside_cpu(void **state) {
    place p = open_model(*state);
    double worst = 0;
    int64_t n = 0, apart = 0;
    fit_as(&p, "cpu", "--device cpu --ood");
    fit_as(&p, "cuda", "--device cuda --ood");
    command want = works("", p.folder,
                         "predict --posterior @/cpu --data @/test.jsonl --emit ood --quiet "
                         "--samples 50 --device cpu");
    command got = works("", p.folder,
                        "predict --posterior @/cuda --data @/test.jsonl --emit ood --quiet "
                        "--samples 50 --device cuda");
    const char *a = got.out, *b = want.out;
    for (json_t *x, *y; (x = next_row(&a)) && (y = next_row(&b)); n++) {
        double off = fabs(number_at(x, "ood") - number_at(y, "ood"));
        raise_to(&worst, off);
        apart += off > 1e-9;
        json_decref(x);
        json_decref(y);
    }
    command_free(&want);
    command_free(&got);
    assert_int_equal(n, 10);
    assert_true(apart <= 1);
    check_within("share of nearer reference rows", worst, 1.0 / 24 + 1e-9);
}

/* Another seed is another draw on the device as well. */
static void seeds(void **state) {
    (void)state;
    place p = open_model(&models[BERT]);
    gap worst = {0};
    fit_as(&p, "posterior", "--device cpu");
    char *a = predict(&p, "posterior", "--device cuda --samples 200 --seed 1");
    char *b = predict(&p, "posterior", "--device cuda --samples 200 --seed 2");
    compare_rows(a, b, &worst);
    assert_true(worst.probs > 1e-3 && worst.logits == 0 && worst.cov == 0);
    free(a);
    free(b);
}

static void twice_the_same(void **state) {
    (void)state;
    place p = open_model(&models[LLAMA_GQA]);
    fit_as(&p, "one", "--device cuda --batch-tokens 60");
    fit_as(&p, "two", "--device cuda --batch-tokens 60");
    char *a = predict(&p, "one", "--device cuda --samples 200 --batch-tokens 60");
    check_same("a second prediction",
               predict(&p, "one", "--device cuda --samples 200 --batch-tokens 60"), a);
    check_same("with a second fit",
               predict(&p, "two", "--device cuda --samples 200 --batch-tokens 60"), a);
    free(a);
}

/* ---- several devices ---- */

/* The f32 sums of batches are added in f64: another order of them is rounding of f64 at most. */
#define SUMS 1e-12

static double block_gap(const json_t *a, const json_t *b, const char *key) {
    double worst = 0;
    const json_t *x = at(a, "blocks"), *y = at(b, "blocks");
    assert_true(json_array_size(x) > 0);
    assert_int_equal(json_array_size(x), json_array_size(y));
    for (size_t i = 0; i < json_array_size(x); i++)
        raise_to(&worst, relative(number_at(json_array_get(x, i), key),
                                  number_at(json_array_get(y, i), key), 1e-12));
    return worst;
}

static double precision_gap(const json_t *a, const json_t *b) {
    double worst = 0;
    const char *name;
    json_t *value;
    const json_t *other = at(a, "prior_precision/blocks");
    json_object_foreach((json_t *)(uintptr_t)at(b, "prior_precision/blocks"), name, value) {
        const json_t *found = json_object_get(other, name);
        assert_non_null(found);
        raise_to(&worst, relative(json_number_value(found), json_number_value(value), 1e-12));
    }
    return worst;
}

static void check_fits(const char *what, const json_t *a, const json_t *b) {
    static const char *const totals[] = {"log_likelihood", "log_marginal_likelihood"};
    double likelihood = 0;
    assert_true(number_at(a, "n_rows") == number_at(b, "n_rows"));
    assert_true(number_at(a, "n_tokens") == number_at(b, "n_tokens"));
    for (int i = 0; i < 2; i++)
        raise_to(&likelihood, relative(number_at(a, totals[i]), number_at(b, totals[i]), 1));
    print_message("    %s\n", what);
    check_within("log (marginal) likelihood", likelihood, SUMS);
    check_within("prior precisions", precision_gap(a, b), SUMS);
    check_within("input traces", block_gap(a, b, "trace_in"), SUMS);
    check_within("output traces", block_gap(a, b, "trace_out"), SUMS);
}

static void fit_on_several(void **state) {
    /* the last without NCCL: sums travel as copies */
    static const char *const lists[][2] = {
        {"LA_EMULATED_DEVICES=3", "cuda:0,1"},
        {"LA_EMULATED_DEVICES=3", "cuda:2,0,1"},
        {"LA_EMULATED_DEVICES=3 LAPLORA_NCCL=0", "cuda:0,1,2"},
    };
    place p = open_model(*state);
    char options[256];
    snprintf(options, sizeof options, "--adue --kron %s --batch-tokens 60 --device cuda",
             p.model->kron);
    json_t *want = fit_under(&p, "LA_EMULATED_DEVICES=3", "one", options);
    for (int i = 0; i < 3; i++) {
        snprintf(options, sizeof options, "--adue --kron %s --batch-tokens 60 --device %s",
                 p.model->kron, lists[i][1]);
        json_t *got = fit_under(&p, lists[i][0], "several", options);
        assert_string_equal(json_string_value(at(got, "device")), "cuda");
        check_fits(lists[i][1], got, want);
        /* a row's state does not depend on who runs its batch */
        assert_true(json_equal(at(got, "adue"), at(want, "adue")));
        json_decref(got);
    }
    json_decref(want);
}

/* Sides of 46 are sketched where one eigenpair is kept. */
static void sketched_on_several(void **state) {
    (void)state;
    static const model wide = {.name = "bert-all-linear", .options = " --rank 1"};
    static const gap limit = {6.5e-6, 0, 8.6e-6};
    place p = open_model(&wide);
    gap worst = {0};
    command done = works("", p.folder,
                         "fit " PARTS " --out @/cpu --rank 1 --batch-tokens 60 --verbose "
                         "--device cpu");
    assert_non_null(strstr(done.err, "sketch_add"));
    command_free(&done);
    json_t *want = fit_under(&p, "LA_EMULATED_DEVICES=3", "one", "--batch-tokens 60 --device cuda");
    json_t *got =
        fit_under(&p, "LA_EMULATED_DEVICES=3", "several", "--batch-tokens 60 --device cuda:0,1,2");
    check_fits("sketches of three devices", got, want);
    json_decref(got);
    json_decref(want);
    char *cpu = predict(&p, "cpu", "--device cpu --samples 100");
    char *cuda = predict(&p, "several", "--device cpu --samples 100");
    compare_rows(cuda, cpu, &worst);
    check_gap("sketches on cuda beside the CPU", &worst, &limit);
    free(cpu);
    free(cuda);
}

/* More devices than batches: some have nothing to add. */
static void idle_devices(void **state) {
    (void)state;
    place p = open_model(&models[BERT]);
    json_t *want = fit_under(&p, "LA_EMULATED_DEVICES=3", "one", "--device cuda");
    json_t *got = fit_under(&p, "LA_EMULATED_DEVICES=3", "several", "--device cuda:0,1,2");
    check_fits("one batch for three devices", got, want);
    json_decref(got);
    json_decref(want);
    char *one = predict(&p, "one", "--device cuda --samples 100");
    check_same(
        "one batch for three devices",
        predict_under(&p, "LA_EMULATED_DEVICES=3", "one", "--device cuda:0,1,2 --samples 100"),
        one);
    free(one);
}

static void check_all_work(command *done) {
    static const char *const pieces[] = {"cuda:0 (emulated): forward ",
                                         "cuda:1 (emulated): forward ",
                                         "cuda:2 (emulated): forward "};
    for (int i = 0; i < 3; i++)
        assert_true(number_after(done->err, pieces[i]) > 0);
    command_free(done);
}

/* All of them work, not the first alone. */
static void all_devices_work(void **state) {
    (void)state;
    place p = open_model(&models[BERT]);
    command done = works("LA_EMULATED_DEVICES=3", p.folder,
                         "fit " PARTS " --out @/posterior --batch-tokens 60 --verbose --device "
                         "cuda:0,1,2");
    check_all_work(&done);
    done = works("LA_EMULATED_DEVICES=3", p.folder,
                 "predict --posterior @/posterior --data @/test.jsonl --batch-tokens 60 --verbose "
                 "--device cuda:0,1,2");
    check_all_work(&done);
}

/* Batches are cut before they are given out, so that a row is in the same one on any number of
 * devices, and its bytes are the same. Another size of batches is other sizes of products, which
 * BLAS sums in other orders: rounding. */
static void predict_on_several(void **state) {
    static const gap limit = {5.7e-7, 3.7e-6, 8e-6};
    place p = open_model(*state);
    gap worst = {0};
    fit_as(&p, "posterior", "--device cpu --adue");
    char *whole = predict(&p, "posterior", "--device cuda --samples 200");
    assert_non_null(strstr(whole, "\"adue\":"));
    /* batches: a row each, eight or so, three or four: full last rounds and others */
    static const char *const tokens[] = {"1", "20", "60"};
    for (int i = 0; i < 3; i++) {
        char options[128];
        snprintf(options, sizeof options, "--samples 200 --batch-tokens %s --device cuda",
                 tokens[i]);
        char *one = predict(&p, "posterior", options);
        compare_rows(one, whole, &worst);
        static const char *const lists[] = {":0,1", ":2,0,1"};
        for (int d = 0; d < 2; d++) {
            char several[256];
            snprintf(several, sizeof several, "%s%s", options, lists[d]);
            check_same(several, predict_under(&p, "LA_EMULATED_DEVICES=3", "posterior", several),
                       one);
        }
        free(one);
    }
    free(whole);
    check_gap("batches of other sizes", &worst, &limit);
}

/* A base packed once serves all devices, and goes with the posterior. */
static void packed_on_several(void **state) {
    static const gap limit = {3.5e-7, 2e-6, 2e-6};
    (void)state;
    place p = open_model(&models[BERT]);
    gap worst = {0};
    fit_as(&p, "posterior", "--device cpu --base-quant fp4-double");
    char *cpu = predict(&p, "posterior", "--device cpu --samples 200 --batch-tokens 20");
    char *one = predict(&p, "posterior", "--device cuda --samples 200 --batch-tokens 20");
    compare_rows(one, cpu, &worst);
    check_gap("a packed base", &worst, &limit);
    check_same("a packed base on several devices",
               predict_under(&p, "LA_EMULATED_DEVICES=3", "posterior",
                             "--device cuda:2,0,1 --samples 200 --batch-tokens 20"),
               one);
    free(cpu);
    free(one);
}

/* Bad rows at the start, between, in a row and at the end; in batches of their own too. */
static void bad_rows_between(void **state) {
    (void)state;
    place p = open_model(&models[BERT]);
    fit_as(&p, "posterior", "--device cpu");
    static const char rows[] = "{\"input_ids\":[]}\n"
                               "{\"input_ids\":[5,6,7,8,9,10]}\n"
                               "{\"input_ids\":[5,400,7]}\n"
                               "nonsense\n"
                               "{\"input_ids\":[44,45]}\n"
                               "{\"input_ids\":[9,8,7,6,5,4,3,2]}\n"
                               "{\"input_ids\":\"no\"}\n"
                               "{\"input_ids\":[13]}\n"
                               "{\"input_ids\":[14,15,16]}\n"
                               "{\"input_ids\":[-1]}\n"
                               "{}\n";
    write_file(in_case(p.folder, "test.jsonl"), rows, strlen(rows));
    static const char *const tokens[] = {"1", "8", "1000"};
    for (int i = 0; i < 3; i++) {
        char options[160];
        gap worst = {0};
        snprintf(options, sizeof options, "--skip-bad --samples 50 --batch-tokens %s --device cuda",
                 tokens[i]);
        char *one = predict(&p, "posterior", options);
        int64_t errors = 0;
        for (const char *line = one; (line = strstr(line, "\"error\"")); line++)
            errors++;
        assert_int_equal(errors, 6);
        compare_rows(one, one, &worst);
        strcat(options, ":0,1,2");
        check_same(options, predict_under(&p, "LA_EMULATED_DEVICES=3", "posterior", options), one);
        free(one);
    }
}

/* ---- orders of a kernel's threads ---- */

/* A row of its own length beside those of a fixture. */
static void add_row(const place *p, const char *name, int length) {
    FILE *file = fopen(in_case(p->folder, name), "ab");
    fprintf(file, "{\"label\":1,\"input_ids\":[5");
    for (int i = 1; i < length; i++)
        fprintf(file, ",%d", 3 + i * 7 % 90);
    fprintf(file, "]}\n");
    fclose(file);
}

/* A race between threads would show as other bits. Attention goes through a long row in more than
 * one step, which is where some of its barriers matter; BERT has 64 places. */
static void orders(void **state) {
    static const char *const names[] = {"LA_EMULATED_ORDER=forward", "LA_EMULATED_ORDER=reverse",
                                        "LA_EMULATED_ORDER=shuffle"};
    static const char *const precisions[] = {"f32", "bf16"};
    place p = open_model(*state);
    bool is_long = p.model != &models[BERT];
    /* the order of threads is no matter for sanitizers */
    if (is_long && getenv("LA_TESTS_BRIEF"))
        skip();
    add_row(&p, "calib.jsonl", is_long ? 70 : 60);
    add_row(&p, "test.jsonl", is_long ? 70 : 60);
    for (int k = 0; k < 2; k++) {
        char options[256], *want = NULL;
        for (int i = 0; i < 3; i++) {
            snprintf(options, sizeof options,
                     "--kron %s --batch-tokens 200 --device cuda "
                     "--precision %s",
                     p.model->kron, precisions[k]);
            json_decref(fit_under(&p, names[i], "posterior", options));
            snprintf(options, sizeof options, "--samples 200 --device cuda --precision %s",
                     precisions[k]);
            char *got = predict_under(&p, names[i], "posterior", options);
            if (want)
                check_same(names[i], got, want);
            else
                want = got;
        }
        free(want);
    }
}

/* ---- a line at a time ---- */

typedef struct server {
    pid_t pid;
    int in, out;
} server;

static server serve(const place *p, const char *device) {
    int in[2], out[2];
    const char *program = getenv("LAPLORA") ? getenv("LAPLORA") : "build/laplora";
    const char *posterior = in_case(p->folder, "posterior");
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    server s = {.pid = fork(), .in = in[1], .out = out[0]};
    if (!s.pid) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl(program, program, "predict", "--posterior", posterior, "--stdin", "--quiet",
              "--device", device, "--emit", "logits,cov", "--samples", "100", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    return s;
}

/* Appends the answer to a line. Half a minute is enough for every machine; without a limit a server
 * that waits for more lines would hang the test. */
static void ask(server *s, const char *line, size_t length, char *answers, size_t size) {
    size_t used = strlen(answers);
    assert_int_equal(write(s->in, line, length), length);
    do {
        struct pollfd wait = {.fd = s->out, .events = POLLIN};
        if (poll(&wait, 1, 30000) != 1)
            fail_msg("no answer to %.*s", (int)length, line);
        if (read(s->out, answers + used, 1) != 1 || used + 2 > size)
            fail_msg("the answer to %.*s ends early", (int)length, line);
    } while (answers[used++] != '\n');
    answers[used] = 0;
}

static void line_by_line(void **state) {
    static char answers[65536];
    static const gap limit = {3.6e-7, 2.8e-6, 1.9e-6};
    const char *device = *state;
    place p = open_model(&models[BERT]);
    gap worst = {0};
    size_t length;
    fit_as(&p, "posterior", "--device cpu");
    char *want = predict(&p, "posterior", "--device cpu --samples 100");
    char *rows = read_file(in_case(p.folder, "test.jsonl"), &length);
    *answers = 0;
    signal(SIGPIPE, SIG_IGN);
    setenv("LA_EMULATED_DEVICES", "2", 1);
    server s = serve(&p, device);
    unsetenv("LA_EMULATED_DEVICES");
    for (char *line = rows, *end; (end = strchr(line, '\n')); line = end + 1)
        ask(&s, line, (size_t)(end + 1 - line), answers, sizeof answers);
    close(s.in);
    int status;
    assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(s.out);
    compare_rows(answers, want, &worst);
    check_gap(device, &worst, &limit);
    free(rows);
    free(want);
}

/* ---- messages ---- */

/* Note that few digits are left where a covariance is a difference of rounded products. */
static void few_digits(void **state) {
    static const struct {
        const char *options;
        bool noted;
    } cases[] = {{"--curvature exact --precision f32", false},
                 {"--curvature exact --precision tf32", true},
                 {"--curvature exact --precision bf16", true},
                 {"--curvature ekfac --precision tf32", false}};
    (void)state;
    place p = open_model(&models[BERT]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[256];
        snprintf(line, sizeof line, "fit " PARTS " --out @/posterior --device cuda %s",
                 cases[i].options);
        command done = works("", p.folder, line);
        assert_int_equal(!!strstr(done.err, "leave about three digits"), cases[i].noted);
        command_free(&done);
    }
}

static void check_verbose(const char *err) {
    says(err, "plan for cuda:0 (emulated): batches of ");
    assert_true(number_after(err, "(emulated): batches of ") >= 256);
    assert_true(number_after(err, "(emulated): forward ") > 0);
    assert_true(number_after(err, " s, backward ") > 0);
    assert_true(number_after(err, "device memory: peak ") > 0);
    says(err, "attention_backward");
    assert_true(number_after(err, " %, outside ") >= 0);
}

static void verbose(void **state) {
    (void)state;
    place p = open_model(&models[LLAMA_SEQ]);
    static const char *const lines[] = {
        "fit " PARTS " --out @/posterior --verbose --device cuda",
        "predict --posterior @/posterior --data @/test.jsonl --verbose --device cuda"};
    for (int i = 0; i < 2; i++) {
        command run = works("", p.folder, lines[i]);
        check_verbose(run.err);
        command_free(&run);
    }
    /* and nothing without it */
    command done =
        works("", p.folder, "predict --posterior @/posterior --data @/test.jsonl --device cuda");
    assert_null(strstr(done.err, "plan"));
    command_free(&done);
}

/* The names are words, by which tests/run counts what is skipped. */
#define WITH(test, what, of)                                                                       \
    { .name = #test "_" what, .test_func = test, .initial_state = (void *)(uintptr_t)(of) }
#define ON_BERT(test) WITH(test, "bert", &models[BERT])
#define ON_GQA(test) WITH(test, "llama_gqa", &models[LLAMA_GQA])
#define ON_SEQ(test) WITH(test, "llama_seq", &models[LLAMA_SEQ])

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BERT(beside_cpu_f32),
        ON_GQA(beside_cpu_f32),
        ON_SEQ(beside_cpu_f32),
        ON_BERT(beside_cpu_bf16),
        ON_GQA(beside_cpu_bf16),
        ON_SEQ(beside_cpu_bf16),
        cmocka_unit_test(predictives),
        cmocka_unit_test(structures),
        cmocka_unit_test(averages),
        ON_BERT(ood_beside_cpu),
        cmocka_unit_test(seeds),
        cmocka_unit_test(twice_the_same),
        ON_BERT(fit_on_several),
        ON_GQA(fit_on_several),
        ON_SEQ(fit_on_several),
        cmocka_unit_test(sketched_on_several),
        cmocka_unit_test(idle_devices),
        cmocka_unit_test(all_devices_work),
        ON_BERT(predict_on_several),
        ON_GQA(predict_on_several),
        cmocka_unit_test(packed_on_several),
        cmocka_unit_test(bad_rows_between),
        ON_BERT(orders),
        ON_GQA(orders),
        ON_SEQ(orders),
        WITH(line_by_line, "one_device", "cuda"),
        WITH(line_by_line, "two_devices", "cuda:0,1"),
        cmocka_unit_test(few_digits),
        cmocka_unit_test(verbose),
    };
    /* The emulated BLAS is the host's. Kernels of some processors sum by where their operands lie:
     * these do not, so that bytes can be compared. */
    setenv("OPENBLAS_CORETYPE", "Sandybridge", 1);
    return cmocka_run_group_tests_name("the program on cuda", tests, look_for_leaks, NULL);
}
