/* The error head of a posterior: trained by a fit on the states of its rows, kept in the file,
 * and scored for every prediction. And what else a posterior file may hold or lack: a guard's
 * choice. */
#include "baselines/scores.h"
#include "output/posterior_file.h"
#include "output/prediction_rows.h"
#include "pipeline/error_head.h"
#include "pipeline/predict.h"
#include "support/parity.h"
#include "support/posterior_files.h"
#include "support/seal.h"
#include "support/tensors.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "bert+" is bert with an adapter on the classifier itself */
static const char *const cases[] = {"bert", "llama-seq", "llama", "bert-f16-head", "bert+"};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct table {
    parity_case files; /* calib has made-up labels */
    char name[64];
    la_session session;
    la_row_set calib, test;
    la_evaluation on_calib, on_test; /* with states */
    char *notes;
} table;

static const la_log quiet;

static void succeed(la_status status, const la_error *err) {
    if (status != LA_OK)
        fail_msg("%s", err->message);
}

/* ---- a case whose model is wrong on some rows ---- */

static void adapt_classifier(parity_case *s, int64_t classes) {
    float values[4 * 64];
    char path[600];
    snprintf(path, sizeof path, "%.400s", scratch("adapter"));
    copy_folder(s->adapter, path);
    snprintf(s->adapter, sizeof s->adapter, "%s", path);
    strcat(path, "/adapter_model.safetensors");
    tensor_file file = tensors_read(path);
    for (int i = 0; i < 4 * 64; i++)
        values[i] = 0.3f * sinf((float)(i * i + 1));
    int64_t width = 32, rank = 4;
    tensors_add(&file, "base_model.model.classifier.lora_A.weight", "F32", "[4,32]", values,
                (size_t)(rank * width) * sizeof *values);
    tensors_add(&file, "base_model.model.classifier.lora_B.weight", "F32", "[3,4]", values,
                (size_t)(classes * rank) * sizeof *values);
    tensors_write(&file, path);
    tensors_free(&file);
}

/* Rows as those of a set, each labelled with the model's answer or, every `wrong`th (0: none),
 * another class. */
static void write_rows(const char *path, const la_row_set *set, const la_evaluation *e,
                       int64_t wrong) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int64_t i = 0; i < set->n; i++) {
        const float *f = e->logits + i * e->n_classes;
        int64_t best = 0;
        for (int64_t k = 1; k < e->n_classes; k++)
            best = f[k] > f[best] ? k : best;
        if (wrong && i % wrong == 0)
            best = (best + 1) % e->n_classes;
        fputs("{\"input_ids\":[", file);
        for (int64_t t = set->start[i]; t < set->start[i] + set->length[i]; t++)
            fprintf(file, "%s%d", t > set->start[i] ? "," : "", set->ids[t]);
        fprintf(file, "],\"label\":%lld}\n", (long long)best);
    }
    assert_int_equal(fclose(file), 0);
}

static void read_set(table *t, const char *path, la_row_set *set) {
    la_error err = {0};
    la_run_options run = {0};
    succeed(la_row_set_read(&t->session, &run, path, NULL, "test", set, &err), &err);
}

static la_evaluation evaluate(table *t, const la_row_set *set) {
    la_evaluation e;
    la_error err = {0};
    la_row_job job = la_row_job_all(set, &quiet);
    succeed(la_structures_evaluate(&t->session, NULL, 0, &job, 0, NULL, true, &e, &err), &err);
    return e;
}

static void open_session(table *t) {
    la_error err = {0};
    int32_t *ids = NULL;
    int64_t n_ids = 0;
    if (*t->files.choice_ids)
        succeed(la_choice_ids_parse(t->files.choice_ids, &ids, &n_ids, &err), &err);
    la_session_options options = {.run = {.device = "cpu", .threads = 1},
                                  .base = t->files.base,
                                  .adapter = t->files.adapter,
                                  .choice_ids = ids,
                                  .n_choices = n_ids,
                                  .all_inputs = true,
                                  .kind = &la_structure_kron};
    succeed(la_session_open(&options, &t->session, &err), &err);
    free(ids);
}

/* Every third calibration row is answered wrong; so are some of every fifth. */
static table *open_table(const char *name) {
    static table t;
    t = (table){0};
    snprintf(t.name, sizeof t.name, "%s", name);
    bool adapted = name[strlen(name) - 1] == '+';
    if (adapted)
        t.name[strlen(name) - 1] = 0;
    t.files = parity_open(t.name);
    if (adapted)
        adapt_classifier(&t.files, 3);
    open_session(&t);
    read_set(&t, t.files.calib, &t.calib);
    read_set(&t, t.files.test, &t.test);
    t.on_calib = evaluate(&t, &t.calib);
    t.on_test = evaluate(&t, &t.test);
    snprintf(t.files.calib, sizeof t.files.calib, "%s", scratch("calib.jsonl"));
    write_rows(t.files.calib, &t.calib, &t.on_calib, 3);
    la_row_set_free(&t.calib);
    read_set(&t, t.files.calib, &t.calib);
    return &t;
}

static void close_table(table *t) {
    la_evaluation_free(&t->on_calib);
    la_evaluation_free(&t->on_test);
    la_row_set_free(&t->calib);
    la_row_set_free(&t->test);
    la_session_close(&t->session);
    parity_close(&t->files);
    free(t->notes);
}

/* ---- fitting and predicting ---- */

static void keep_note(void *user, const char *message) {
    table *t = user;
    size_t before = t->notes ? strlen(t->notes) : 0;
    t->notes = realloc(t->notes, before + strlen(message) + 2);
    sprintf(t->notes + before, "%s\n", message);
}

static la_fit_options fit_options(table *t) {
    return (la_fit_options){
        .run = {.device = "cpu", .threads = 1, .log = {.warn = keep_note, .user = t}}, .adue = 1};
}

static la_posterior fit(table *t, la_fit_options options, la_adue_summary *summary) {
    la_posterior p;
    la_error err = {0};
    free(t->notes);
    t->notes = NULL;
    la_fit_summary *s = parity_fit(&t->files, options);
    if (summary)
        *summary = s->adue;
    la_fit_summary_free(s);
    succeed(la_posterior_load(t->files.posterior, &p, &err), &err);
    return p;
}

static parity_answers *predict(table *t, la_predict_options options) {
    parity_inputs in = parity_read_inputs(t->files.test);
    parity_answers *a = parity_new_answers();
    options.run.device = "cpu";
    options.run.threads = 1;
    parity_predict(&t->files, options, &in, a);
    parity_free_inputs(&in);
    return a;
}

/* The lines that predict writes. The caller frees it. */
static char *predict_file(table *t, const char *predictive) {
    char path[512];
    la_predict_summary summary;
    la_error err = {0};
    size_t length;
    snprintf(path, sizeof path, "%s", scratch("rows.jsonl"));
    la_predict_job job = {.options = {.run = {.device = "cpu", .threads = 1},
                                      .posterior = t->files.posterior,
                                      .predictive = predictive,
                                      .samples = 5},
                          .data = t->files.test,
                          .out = path};
    succeed(la_predict_file(&job, &summary, &err), &err);
    la_class_shares_free(&summary.shares);
    assert_int_equal(summary.n_rows, t->test.n);
    return read_file(path, &length);
}

/* ---- scores ---- */

static double score(const la_adue *head, const la_evaluation *e, int64_t row) {
    double workspace[PARITY_CLASSES];
    return la_adue_score(head, e->states + row * e->width, workspace);
}

static const char *const every_predictive[] = {"mc",     "probit",      "bridge", "map",
                                               "scalar", "temperature", "weights"};
enum { PREDICTIVES = sizeof every_predictive / sizeof *every_predictive };

static void check_rows(table *t, const la_adue *head, const char *predictive, double *worst) {
    char *text = predict_file(t, predictive), *at = text;
    for (int64_t i = 0; i < t->test.n; i++) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        *end = 0;
        const char *mi = strstr(at, "\"mutual_information\":"), *mine = strstr(at, ",\"adue\":");
        assert_true(mi && mine && mi < mine && mine < strstr(at, ",\"confidence_kind\":"));
        json_t *row = json_loads(at, 0, NULL);
        assert_non_null(row);
        parity_raise(worst, fabs(number_at(row, "adue") - score(head, &t->on_test, i)));
        json_decref(row);
        at = end + 1;
    }
    free(text);
}

/* A guard's choice is in the posterior, so that all predictives are there. */
static void scores_of_states(void **state) {
    (void)state;
    static const int64_t batches[] = {0, 1, 23};
    double worst = 0, worst_row = 0;
    for (int c = 0; c < CASES; c++) {
        table *t = open_table(cases[c]);
        la_fit_options options = fit_options(t);
        options.heldout = 1;
        la_posterior p = fit(t, options, NULL);
        const la_adue *head = &p.adue;
        assert_int_equal(head->outcome, LA_ADUE_TRAINED);
        for (int k = 0; k < PREDICTIVES; k++) {
            for (int b = 0; b < 3; b++) {
                parity_answers *a =
                    predict(t, (la_predict_options){.predictive = every_predictive[k],
                                                    .samples = 5,
                                                    .run.batch_tokens = batches[b]});
                for (int64_t i = 0; i < t->test.n; i++) {
                    double u = a->rows[i].adue;
                    assert_true(u >= 0 && u <= 1);
                    parity_raise(&worst, fabs(u - score(head, &t->on_test, i)));
                }
                free(a);
            }
            check_rows(t, head, every_predictive[k], &worst_row);
        }
        la_posterior_free(&p);
        close_table(t);
    }
    check_within("scores", worst, 1.1e-6);
    check_within("scores in rows of ten digits", worst_row, 2e-10);
}

/* ---- training ---- */

static void check_same_head(const la_adue *a, const la_adue *b) {
    assert_int_equal(a->n_classes, b->n_classes);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->epochs, b->epochs);
    assert_int_equal(a->best_epoch, b->best_epoch);
    assert_int_equal(a->outcome, b->outcome);
    assert_true(a->smooth == b->smooth);
    assert_memory_equal(&a->auroc_before, &b->auroc_before, sizeof a->auroc_before);
    assert_memory_equal(&a->auroc_after, &b->auroc_after, sizeof a->auroc_after);
    assert_memory_equal(a->weight, b->weight,
                        (size_t)(a->n_classes * a->width) * sizeof *a->weight);
    assert_memory_equal(a->bias, b->bias, (size_t)a->n_classes * sizeof *a->bias);
}

/* Validated by every fifth row without held-out rows, else by those, also where they choose
 * nothing. */
static void trained_on_states(void **state) {
    (void)state;
    for (int c = 0; c < CASES; c++) {
        table *t = open_table(cases[c]);
        char val[512];
        snprintf(val, sizeof val, "%s", scratch("val.jsonl"));
        write_rows(val, &t->test, &t->on_test, 4);
        la_row_set held;
        read_set(t, val, &held);
        for (int way = 0; way < 3; way++) {
            la_fit_options options = fit_options(t);
            la_adue want;
            la_adue_summary summary;
            la_error err = {0};
            options.val = way ? val : NULL;
            options.prior = LA_PRIOR_FIXED;
            options.prior_value = 10;
            options.prior_given = way == 2;
            la_posterior p = fit(t, options, &summary);
            succeed(la_adue_head_fit(&t->session, &t->on_calib, t->calib.labels.classes,
                                     way ? &t->on_test : NULL, held.labels.classes, 0, &want, &err),
                    &err);
            check_same_head(&p.adue, &want);
            assert_string_equal(summary.outcome, "trained");
            assert_true(summary.auroc_before == want.auroc_before);
            assert_true(summary.auroc_after == want.auroc_after);
            assert_true(want.epochs > 0 && summary.epochs == want.epochs);
            assert_true(!t->notes || !strstr(t->notes, "error head"));
            assert_int_equal(p.choice.guarded, way == 1);
            la_adue_free(&want);
            la_posterior_free(&p);
        }
        la_row_set_free(&held);
        close_table(t);
    }
}

/* No errors: the head of the file is the classifier's own last layer, adapter included. */
static void not_trained(void **state) {
    (void)state;
    double worst = 0;
    for (int c = 0; c < CASES; c++) {
        table *t = open_table(cases[c]);
        la_adue_summary summary;
        write_rows(t->files.calib, &t->calib, &t->on_calib, 0);
        la_posterior p = fit(t, fit_options(t), &summary);
        const la_adue *head = &p.adue;
        assert_int_equal(head->outcome, LA_ADUE_TRAINING_ALL_RIGHT);
        assert_string_equal(summary.outcome, "training-all-right");
        assert_true(summary.epochs == 0 && head->epochs == 0);
        assert_true(isnan(summary.auroc_before) && isnan(summary.auroc_after));
        assert_true(isnan(head->auroc_before) && isnan(head->auroc_after));
        const char *note = t->notes ? strstr(t->notes, "the error head is not trained") : NULL;
        assert_true(note && !strstr(note + 10, "error head"));
        for (int64_t i = 0; i < t->test.n; i++)
            for (int64_t k = 0; k < head->n_classes; k++) {
                double sum = head->bias[k];
                for (int64_t j = 0; j < head->width; j++)
                    sum += head->weight[k * head->width + j] *
                           (double)t->on_test.states[i * head->width + j];
                parity_raise(&worst,
                             relative(sum, (double)t->on_test.logits[i * head->n_classes + k], 1));
            }
        la_posterior_free(&p);
        /* they validate nothing either */
        la_fit_options options = fit_options(t);
        char val[512];
        snprintf(val, sizeof val, "%s", scratch("val.jsonl"));
        write_rows(val, &t->test, &t->on_test, 1);
        write_rows(t->files.calib, &t->calib, &t->on_calib, 3);
        options.val = val;
        p = fit(t, options, &summary);
        assert_string_equal(summary.outcome, "validation-all-wrong");
        assert_non_null(strstr(t->notes, "would validate it wrong"));
        la_posterior_free(&p);
        close_table(t);
    }
    check_within("logits of the untrained head", worst, 2.9e-6);
}

static void none_asked_for(void **state) {
    (void)state;
    table *t = open_table("bert");
    la_fit_options options = fit_options(t);
    la_adue_summary summary;
    options.adue = 0;
    la_posterior p = fit(t, options, &summary);
    assert_null(p.adue.weight);
    assert_null(summary.outcome);
    la_posterior_free(&p);
    parity_answers *a = predict(t, (la_predict_options){.samples = 5});
    for (int64_t i = 0; i < t->test.n; i++)
        assert_true(isnan(a->rows[i].adue));
    free(a);
    char *rows = predict_file(t, NULL);
    assert_null(strstr(rows, "adue"));
    free(rows);
    close_table(t);
}

static void too_few_rows(void **state) {
    (void)state;
    table *t = open_table("bert");
    char out[512], few[512];
    snprintf(out, sizeof out, "%s", scratch("few.h5"));
    snprintf(few, sizeof few, "%s", scratch("few.jsonl"));
    t->test.n = 4;
    write_rows(few, &t->test, &t->on_test, 2);
    la_fit_options options = fit_options(t);
    la_fit_summary *summary;
    la_error err;
    options.base = t->files.base;
    options.adapter = t->files.adapter;
    options.data = few;
    options.out = out;
    assert_int_equal(la_fit(&options, &summary, &err), LA_BAD_INPUT);
    assert_non_null(strstr(err.message, "few.jsonl: 4 rows are too few"));
    options.val = t->files.calib;
    succeed(la_fit(&options, &summary, &err), &err);
    assert_non_null(summary->adue.outcome);
    la_fit_summary_free(summary);
    close_table(t);
}

/* ---- files ---- */

static void check_same_choice(const la_choice *a, const la_choice *b) {
    assert_int_equal(a->guarded, b->guarded);
    assert_int_equal(a->cross, b->cross);
    assert_int_equal(a->method, b->method);
    assert_int_equal(a->n, b->n);
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *c = &a->candidates[k], *d = &b->candidates[k];
        assert_true(isfinite(c->nll) == isfinite(d->nll));
        assert_true(!isfinite(c->nll) || !memcmp(c, d, sizeof *c));
    }
}

/* Choices with every method and outcome, and with candidates that were not admitted. */
static void saved_and_loaded(void **state) {
    (void)state;
    table *t = open_table("llama-seq");
    la_fit_options options = fit_options(t);
    options.heldout = 1;
    la_posterior p = fit(t, options, NULL), q;
    la_error err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s", scratch("copy.h5"));
    assert_true(p.choice.guarded && p.choice.cross && p.choice.n == t->calib.n);
    p.temperature = 1.75;
    for (int k = 0; k < LA_METHODS; k++) {
        p.choice.method = (la_method)k;
        p.choice.cross = k % 2;
        for (int i = 0; i < LA_METHODS; i++)
            p.choice.candidates[i] = (la_candidate){.prior_scale = 0.1 + i,
                                                    .temperature = 1.0 / (i + 3),
                                                    .nll = i > k ? INFINITY : 1.0 / 3 + i,
                                                    .accuracy = 2.0 / 3,
                                                    .gap = 1e-300,
                                                    .gap_error = 0.1 * i};
        p.adue.outcome = (la_adue_outcome)(k % LA_ADUE_OUTCOMES);
        p.adue.auroc_before = k ? 1.0 / (k + 1) : NAN;
        p.adue.auroc_after = k > 1 ? 1.0 / k : NAN;
        p.adue.best_epoch = k < p.adue.epochs ? k : 0;
        succeed(la_posterior_save(&p, path, &err), &err);
        succeed(la_posterior_load(path, &q, &err), &err);
        check_same_head(&p.adue, &q.adue);
        check_same_choice(&p.choice, &q.choice);
        assert_true(q.temperature == 1.75);
        la_posterior_free(&q);
    }
    la_posterior_free(&p);
    close_table(t);
}

/* ---- damage ---- */

/* An array in the place of another, all zeros. */
static void reshape(hid_t group, const char *name, int rank, hsize_t rows, hsize_t cols) {
    const hsize_t shape[2] = {rows, cols};
    assert_true(H5Ldelete(group, name, H5P_DEFAULT) >= 0);
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t set = H5Dcreate2(group, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, //
                           H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static void poison(hid_t group, const char *name) {
    double values[PARITY_CLASSES * 128] = {[1] = NAN};
    hid_t set = H5Dopen2(group, name, H5P_DEFAULT);
    assert_true(set >= 0 &&
                H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(set);
}

static void damage_head(hid_t g, int number) {
    switch (number) {
    case 0:
        set_number(g, "smooth", 0);
        break;
    case 1:
        set_number(g, "smooth", NAN);
        break;
    case 2:
        set_number(g, "auroc_after", 1.5);
        break;
    case 3:
        set_text(g, "outcome", "learned");
        break;
    case 4:
        assert_true(H5Adelete(g, "epochs") >= 0);
        break;
    case 5:
        assert_true(H5Ldelete(g, "weight", H5P_DEFAULT) >= 0);
        break;
    case 6:
        reshape(g, "weight", 2, 4, 32);
        break;
    case 7:
        reshape(g, "weight", 1, 96, 1);
        break;
    case 8:
        reshape(g, "bias", 1, 2, 1);
        break;
    case 9:
        poison(g, "weight");
        break;
    case 10:
        poison(g, "bias");
        break;
    default:
        /* one that fits nothing but itself: found when the model is there */
        reshape(g, "weight", 2, 3, 16);
    }
}

static void damaged(void **state) {
    (void)state;
    static const char *const pieces[] = {"\"adue/smooth\" is not positive",
                                         "\"adue/smooth\" is not finite",
                                         "\"adue/auroc_after\" is out of range",
                                         "\"adue/outcome\" has an unknown value",
                                         "\"adue/epochs\" is missing",
                                         "\"adue/weight\" is missing",
                                         "\"adue/weight\" has another shape",
                                         "\"adue/weight\" has another shape",
                                         "\"adue/bias\" has another shape",
                                         "\"adue/weight\" holds a value that is not finite",
                                         "\"adue/bias\" holds a value that is not finite",
                                         "states of width 16, the model's are of 32"};
    table *t = open_table("bert");
    la_posterior p = fit(t, fit_options(t), NULL);
    size_t length;
    char *data = read_file(t->files.posterior, &length), path[512];
    la_posterior_free(&p);
    snprintf(path, sizeof path, "%s", scratch("damaged.h5"));
    for (int i = 0; i < (int)(sizeof pieces / sizeof *pieces); i++) {
        la_error err = {0};
        write_file(path, data, length);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        hid_t group = H5Gopen2(file, "adue", H5P_DEFAULT);
        assert_true(file >= 0 && group >= 0);
        damage_head(group, i);
        H5Gclose(group);
        H5Fclose(file);
        succeed(seal_file(path, &err), &err);
        const char *argv[] = {NULL,          "predict", "--posterior", path, "--data",
                              t->files.test, "--quiet", "--threads",   "1",  NULL};
        command done = run_command(argv, NULL);
        assert_int_equal(done.code, LA_BAD_INPUT);
        assert_string_equal(done.out, "");
        if (strncmp(done.err, "laplora: error: ", 16) || !strstr(done.err, path) ||
            !strstr(done.err, pieces[i]) || !strstr(done.err, "damaged"))
            fail_msg("\"%s\" is not in: %s", pieces[i], done.err);
        command_free(&done);
    }
    free(data);
    close_table(t);
}

/* ---- files of schema 1.0 ---- */

/* They know no guard, no temperature and no error head. */
static void old_file(void **state) {
    (void)state;
    table *t = open_table("bert");
    la_fit_options options = fit_options(t);
    la_posterior p, plain;
    la_error err = {0};
    options.prior = LA_PRIOR_FIXED;
    options.prior_value = 10;
    options.adue = 0;
    plain = fit(t, options, NULL);
    char *want = predict_file(t, NULL);
    options.adue = 1;
    options.heldout = 1;
    options.select = LA_SELECT_CROSS;
    p = fit(t, options, NULL);
    assert_true(p.choice.guarded);
    for (int64_t b = 0; b < p.n_blocks; b++)
        p.blocks[b].prior_precision = 10;
    succeed(la_posterior_save(&p, t->files.posterior, &err), &err);
    la_posterior_free(&p);

    int64_t minor = 0;
    hid_t file = H5Fopen(t->files.posterior, H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Adelete(file, "temperature") >= 0);
    assert_true(H5Ldelete(file, "choice", H5P_DEFAULT) >= 0);
    assert_true(H5Ldelete(file, "adue", H5P_DEFAULT) >= 0);
    hid_t attribute = H5Aopen(file, "schema_minor", H5P_DEFAULT);
    assert_true(H5Awrite(attribute, H5T_NATIVE_INT64, &minor) >= 0);
    H5Aclose(attribute);
    H5Fclose(file);
    succeed(seal_file(t->files.posterior, &err), &err);

    succeed(la_posterior_load(t->files.posterior, &p, &err), &err);
    assert_true(p.temperature == 1 && !p.choice.guarded && !p.adue.weight);
    assert_int_equal(p.n_blocks, plain.n_blocks);
    la_posterior_free(&p);
    la_posterior_free(&plain);
    char *got = predict_file(t, NULL);
    assert_string_equal(got, want);
    free(got);
    free(want);
    const char *argv[] = {NULL, "info", t->files.posterior, "--json", NULL};
    command done = run_command(argv, NULL);
    json_t *info = json_loads(done.out, 0, NULL);
    assert_true(done.code == 0 && info);
    assert_string_equal(json_string_value(at(info, "curvature")), "kron");
    assert_true(!json_object_get(info, "choice") && !json_object_get(info, "adue"));
    json_decref(info);
    command_free(&done);
    close_table(t);
}

/* ---- the program ---- */

static json_t *json_of(const char *const *argv, const char *piece) {
    command done = run_command(argv, NULL);
    json_t *root = json_loads(done.out, 0, NULL);
    if (done.code || !root || (piece && !strstr(done.err, piece)))
        fail_msg("exit code %d: %s%s", done.code, done.out, done.err);
    command_free(&done);
    return root;
}

static void told_by_the_program(void **state) {
    (void)state;
    table *t = open_table("bert");
    la_posterior p;
    la_error err = {0};
    const parity_case *s = &t->files;
    for (int errors = 1; errors >= 0; errors--) {
        write_rows(s->calib, &t->calib, &t->on_calib, errors ? 3 : 0);
        const char *fitting[] = {NULL,        "fit",        "--base",    s->base,
                                 "--adapter", s->adapter,   "--data",    s->calib,
                                 "--out",     s->posterior, "--heldout", "--adue",
                                 "--threads", "1",          "--json",    NULL};
        json_t *fitted = json_of(fitting, errors ? NULL : "the error head is not trained");
        succeed(la_posterior_load(s->posterior, &p, &err), &err);
        const json_t *adue = json_object_get(fitted, "adue");
        assert_string_equal(json_string_value(at(adue, "outcome")),
                            errors ? "trained" : "training-all-right");
        assert_true((int64_t)number_at(adue, "epochs") == p.adue.epochs);
        if (errors) {
            assert_true(number_at(adue, "auroc_before") == p.adue.auroc_before);
            assert_true(number_at(adue, "auroc_after") == p.adue.auroc_after);
        } else {
            assert_true(json_is_null(at(adue, "auroc_before")));
            assert_true(json_is_null(at(adue, "auroc_after")));
        }
        const char *asking[] = {NULL, "info", s->posterior, "--json", NULL};
        json_t *info = json_of(asking, NULL);
        assert_true(json_equal(adue, json_object_get(info, "adue")));
        const json_t *choice = json_object_get(info, "choice");
        assert_true(json_equal(json_object_get(fitted, "selection"), choice));
        assert_string_equal(json_string_value(at(choice, "method")),
                            la_method_names[p.choice.method]);
        assert_string_equal(json_string_value(at(choice, "by")), "cross");
        assert_int_equal((int64_t)number_at(choice, "rows"), t->calib.n);
        for (int k = 0; k < LA_METHODS; k++) {
            const json_t *c = json_object_get(at(choice, "candidates"), la_method_names[k]);
            assert_true(!c == !isfinite(p.choice.candidates[k].nll));
            assert_true(!c || number_at(c, "nll") == p.choice.candidates[k].nll);
        }
        json_decref(info);
        json_decref(fitted);
        la_posterior_free(&p);
        asking[3] = NULL;
        command done = run_command(asking, NULL);
        assert_non_null(strstr(done.out, "\nchoice.method "));
        assert_non_null(strstr(done.out, "\nchoice.candidates.map "));
        assert_non_null(strstr(done.out, errors ? "\nadue.outcome              trained\n"
                                                : "\nadue.auroc_after          null\n"));
        command_free(&done);
    }
    close_table(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_of_states),
        cmocka_unit_test(trained_on_states),
        cmocka_unit_test(not_trained),
        cmocka_unit_test(none_asked_for),
        cmocka_unit_test(too_few_rows),
        cmocka_unit_test(saved_and_loaded),
        cmocka_unit_test(damaged),
        cmocka_unit_test(old_file),
        cmocka_unit_test(told_by_the_program),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
