/* Training from a posterior: gradients by finite differences for every kind of adapter, steps by
 * hand, and the command from end to end. */
#include "bayes/ivon.h"
#include "input/safetensors.h"
#include "output/posterior_file.h"
#include "pipeline/gradient.h"
#include "pipeline/posterior_session.h"
#include "support/faults.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIT_HEAD "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/posterior "
#define REFINE                                                                                     \
    "refine --posterior @/posterior --data @/calib.jsonl --out @/out --out-adapter @/new --quiet "

static command run_ok(const char *folder, const char *line) {
    command done = run_line(folder, line, NULL);
    if (done.code)
        fail_msg("%s: exit code %d, %s", line, done.code, done.err);
    return done;
}

/* ---- gradients ---- */

typedef struct opened {
    la_posterior posterior;
    la_session session;
    la_row_set rows;
    la_gradient *gradient;
    float *theta, *slope, *moved;
    int64_t width;
} opened;

static void succeed(la_status status, const la_error *err) {
    if (status != LA_OK)
        fail_msg("%s", err->message);
}

static void open_gradient(const char *folder, opened *o) {
    la_error err = {0};
    static char path[1024];
    snprintf(path, sizeof path, "%s", in_case(folder, "posterior"));
    succeed(la_posterior_load(path, &o->posterior, &err), &err);
    la_posterior_session ask = {.run = {.device = "cpu", .threads = 2},
                                .posterior = &o->posterior,
                                .path = path,
                                .one_cotangent = true};
    succeed(la_posterior_session_open(&ask, &o->session, &err), &err);
    succeed(la_row_set_read(&o->session, &ask.run, in_case(folder, "calib.jsonl"), NULL, "training",
                            &o->rows, &err),
            &err);
    succeed(la_gradient_open(&o->session, o->posterior.params, &o->gradient, &err), &err);
    o->width = la_gradient_width(o->gradient);
    o->theta = malloc((size_t)o->width * sizeof *o->theta);
    o->slope = malloc((size_t)o->width * sizeof *o->slope);
    o->moved = malloc((size_t)o->width * sizeof *o->moved);
    succeed(la_gradient_read(o->gradient, o->theta, &err), &err);
}

static void close_gradient(opened *o) {
    la_gradient_close(o->gradient);
    la_row_set_free(&o->rows);
    la_session_close(&o->session);
    la_posterior_free(&o->posterior);
    free(o->theta);
    free(o->slope);
    free(o->moved);
}

static double loss_at(opened *o, const float *theta, float *slope) {
    static const la_log silent;
    la_row_job job = la_row_job_all(&o->rows, &silent);
    la_error err = {0};
    double sum;
    la_gradient_put(o->gradient, theta);
    succeed(la_gradient_run(o->gradient, &job, 0, o->rows.n, &sum, slope, &err), &err);
    return sum;
}

/* Along each block's own gradient: central differences at two distances, of which the error in the
 * square of the distance is taken off (Richardson). Small blocks' numbers drown in f32: the
 * deviation is relative to the largest slope of all blocks. */
static double worst_slope(opened *o, double share) {
    double worst = 0, most = 0, miss[512];
    int64_t at = 0;
    (void)loss_at(o, o->theta, o->slope);
    for (int64_t b = 0; b < o->posterior.n_blocks; b++) {
        int64_t n = o->posterior.blocks[b].out * o->posterior.blocks[b].in;
        double square = 0, size = 0, by[2];
        for (int64_t i = 0; i < n; i++) {
            square += (double)o->slope[at + i] * (double)o->slope[at + i];
            size += (double)o->theta[at + i] * (double)o->theta[at + i];
        }
        double length = sqrt(square), step = share * (sqrt(size) + 0.1);
        for (int k = 0; k < 2; k++) {
            double h = k ? step / 2 : step, side[2];
            for (int s = 0; s < 2; s++) {
                memcpy(o->moved, o->theta, (size_t)o->width * sizeof *o->moved);
                for (int64_t i = 0; i < n && length > 0; i++)
                    o->moved[at + i] += (float)((s ? -h : h) * (double)o->slope[at + i] / length);
                side[s] = loss_at(o, o->moved, NULL);
            }
            by[k] = (side[0] - side[1]) / (2 * h);
        }
        miss[b] = fabs((4 * by[1] - by[0]) / 3 - length);
        most = length > most ? length : most;
        at += n;
    }
    for (int64_t b = 0; b < o->posterior.n_blocks; b++)
        worst = miss[b] / most > worst ? miss[b] / most : worst;
    return worst;
}

static void test_gradients(void **state) {
    (void)state;
    static const struct {
        const char *fixture, *options;
        double step; /* 0: 0.01 of the block's norm; less where the network bends more */
    } cases[] = {{"bert", "--params lora+head", 0},
                 {"adalora", "", 0},
                 {"ia3-bert", "--params lora+head", 0},
                 {"houlsby-bert", "", 0},
                 {"parallel-llama", "--choice-ids 37,76,92,95", 0.0003},
                 {"prefix-tuning-bert", "--params lora+head", 0},
                 {"union-bert", "--params lora+head", 0.001},
                 {"lora-embedding-bert", "", 0},
                 {"vera-bert", "", 0},
                 {"bert-regression", "--params lora+head", 0},
                 {"bert-multilabel", "--params lora+head", 0},
                 {"gemma-seq", "--params lora+head", 0},
                 {"modernbert", "", 0.001}};
    double worst = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o = {0};
        char line[512];
        const char *folder = open_case(cases[i].fixture);
        snprintf(line, sizeof line, FIT_HEAD "--quiet --prior 1 %s", cases[i].options);
        command done = run_line(folder, line, NULL);
        if (done.code)
            fail_msg("%s: %s", cases[i].fixture, done.err);
        command_free(&done);
        open_gradient(folder, &o);
        double deviation = worst_slope(&o, cases[i].step > 0 ? cases[i].step : 0.01);
        print_message("%-24s %.1e\n", cases[i].fixture, deviation);
        worst = deviation > worst ? deviation : worst;
        close_gradient(&o);
    }
    check_within("slope along a block's gradient", worst, 2.3e-4);
}

/* ---- steps ---- */

/* Three steps against the formulas of ivon.h in f64, with the draws that the state says it made. */
static void test_steps(void **state) {
    enum { N = 37, STEPS = 3 };
    double mean[N], h[N], momentum[N], worst = 0;
    float theta[N], gradient[N];
    la_ivon v;
    la_error err = {0};
    (void)state;
    succeed(la_ivon_open(la_team_of(2), N, 100, 5, &v, &err), &err);
    v.temper = 4;
    v.beta2 = 0.9;
    for (int i = 0; i < N; i++) {
        v.mean[i] = (float)(0.1 * i - 1);
        v.hessian[i] = (float)(0.2 + 0.05 * i);
        v.prior[i] = (float)(0.3 + 0.01 * i);
        v.prior_mean[i] = (float)(0.05 * i);
        mean[i] = (double)v.mean[i];
        h[i] = (double)v.hessian[i];
        momentum[i] = 0;
    }
    for (int t = 1; t <= STEPS; t++) {
        la_ivon_sample(&v, theta);
        for (int i = 0; i < N; i++) {
            double delta = (double)v.prior[i], eps = (double)v.draw[i];
            double sigma = 1 / sqrt(400 * (h[i] + delta));
            worst = fmax(worst, fabs((double)theta[i] - (mean[i] + sigma * eps)));
            gradient[i] = (float)sin(i + t);
            double g = (double)gradient[i], hat = g * eps / (sigma * 1);
            momentum[i] = 0.9 * momentum[i] + 0.1 * g;
            double next =
                0.9 * h[i] + 0.1 * hat + 0.5 * 0.01 * (h[i] - hat) * (h[i] - hat) / (h[i] + delta);
            h[i] = next;
            mean[i] -=
                0.2 *
                (momentum[i] / (1 - pow(0.9, t)) + delta * (mean[i] - (double)v.prior_mean[i])) /
                (h[i] + delta);
        }
        la_ivon_step(&v, 0.2, gradient);
        for (int i = 0; i < N; i++) {
            worst = fmax(worst, fabs((double)v.mean[i] - mean[i]));
            worst = fmax(worst, fabs((double)v.hessian[i] - h[i]) / h[i]);
        }
    }
    check_within("a step in f64", worst, 8e-7);
    la_ivon_close(&v);
}

/* ---- steps on a hybrid, by PyTorch ---- */

/* The numbers of a block that refine_reference.py wrote, every EVERYth: the largest deviation, in
 * terms of the largest of them. */
static double worst_of(const float *got, int64_t n, const json_t *expected, int64_t every) {
    double worst = 0, most = 0;
    assert_int_equal((n + every - 1) / every, json_array_size(expected));
    for (int64_t i = 0; i < n; i += every) {
        double want = json_number_value(json_array_get(expected, (size_t)(i / every)));
        worst = fmax(worst, fabs((double)got[i] - want));
        most = fmax(most, fabs(want));
    }
    return worst / most;
}

/* Prefix, parallel adapter and LoRA: the same steps and draws as refine_reference.py makes by
 * autograd in f64. */
static void test_reference(void **state) {
    (void)state;
    json_t *expected = load_json("tests/fixtures/refine/union-bert.json");
    int64_t every = (int64_t)number_at(expected, "every");
    const json_t *steps = at(expected, "steps"), *blocks = at(expected, "blocks");
    const char *folder = open_case("union-bert");
    command done = run_ok(folder, FIT_HEAD "--quiet --prior 1 --params lora+head");
    command_free(&done);
    opened o = {0};
    la_ivon v;
    la_error err = {0};
    double nll = 0, mean = 0, hessian = 0;
    open_gradient(folder, &o);
    assert_int_equal(o.posterior.n_blocks, json_object_size(blocks));
    succeed(la_ivon_open(la_team_of(2), o.width, (double)o.rows.n, 0, &v, &err), &err);
    v.temper = number_at(expected, "temper");
    v.beta1 = number_at(expected, "beta1");
    v.beta2 = number_at(expected, "beta2");
    memcpy(v.mean, o.theta, (size_t)o.width * sizeof *v.mean);
    memcpy(v.prior_mean, o.theta, (size_t)o.width * sizeof *v.mean);
    for (int64_t b = 0, from = 0; b < o.posterior.n_blocks; b++) {
        int64_t n = o.posterior.blocks[b].out * o.posterior.blocks[b].in;
        for (int64_t i = 0; i < n; i++) {
            v.hessian[from + i] = (float)number_at(expected, "hessian");
            v.prior[from + i] = (float)(0.3 + 0.02 * (double)(i % 5));
        }
        from += n;
    }
    for (size_t t = 0; t < json_array_size(steps); t++) {
        static const la_log silent;
        const json_t *rows = json_array_get(steps, t);
        int64_t begin = json_integer_value(json_array_get(rows, 0));
        int64_t end = json_integer_value(json_array_get(rows, 1)), from = 0;
        double sum, want = json_number_value(json_array_get(at(expected, "nll"), t));
        for (int64_t b = 0; b < o.posterior.n_blocks; b++) {
            int64_t n = o.posterior.blocks[b].out * o.posterior.blocks[b].in;
            for (int64_t i = from; i < from + n; i++) {
                double counted = v.temper * v.rows * ((double)v.hessian[i] + (double)v.prior[i]);
                double eps = sqrt(2) * sin(1.7 * (double)(i - from + 1) * (double)(t + 1));
                v.draw[i] = (float)eps;
                o.moved[i] = (float)((double)v.mean[i] + eps / sqrt(counted));
            }
            from += n;
        }
        la_row_job job = la_row_job_all(&o.rows, &silent);
        la_gradient_put(o.gradient, o.moved);
        succeed(la_gradient_run(o.gradient, &job, begin, end, &sum, o.slope, &err), &err);
        nll = fmax(nll, fabs(-sum / (double)(end - begin) - want));
        for (int64_t i = 0; i < o.width; i++)
            o.slope[i] /= -(float)(end - begin);
        la_ivon_step(&v, number_at(expected, "rate"), o.slope);
    }
    for (int64_t b = 0, from = 0; b < o.posterior.n_blocks; b++) {
        const la_posterior_block *block = &o.posterior.blocks[b];
        const json_t *want = json_object_get(blocks, block->name);
        if (!want)
            fail_msg("the reference has no block %s", block->name);
        int64_t n = block->out * block->in;
        mean = fmax(mean, worst_of(v.mean + from, n, json_object_get(want, "mean"), every));
        hessian =
            fmax(hessian, worst_of(v.hessian + from, n, json_object_get(want, "hessian"), every));
        from += n;
    }
    check_within("NLL of the steps' networks", nll, 6e-7);
    check_within("mean after the steps", mean, 4.5e-7);
    check_within("curvature after the steps", hessian, 6e-7);
    la_ivon_close(&v);
    close_gradient(&o);
    json_decref(expected);
}

/* ---- the command ---- */

static double value_of(const command *done, const char *key) {
    json_t *root = json_loads(done->out, 0, NULL);
    assert_non_null(root);
    double value = number_at(root, key);
    json_decref(root);
    return value;
}

/* Mean NLL of the labelled rows of a prediction file. */
static double nll_of(const char *path) {
    json_t *rows = load_lines(path);
    double sum = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        size_t label = (size_t)json_integer_value(json_object_get(row, "label"));
        sum -= log(json_number_value(json_array_get(json_object_get(row, "map_probs"), label)));
    }
    sum /= (double)json_array_size(rows);
    json_decref(rows);
    return sum;
}

/* The folder that was written holds the network that training ended with, as predict reads it. */
static void test_command(void **state) {
    static const char *const fixtures[] = {
        "bert",      "houlsby-bert", "prefix-tuning-bert", "ia3-bert", "lora-embedding-bert",
        "llama-seq", "union-bert", /* whose prefix stands behind a network, and is written flat */
    };
    (void)state;
    for (size_t i = 0; i < sizeof fixtures / sizeof *fixtures; i++) {
        const char *folder = open_case(fixtures[i]);
        command done = run_ok(folder, FIT_HEAD "--quiet --params lora+head");
        command_free(&done);
        done = run_ok(folder, REFINE "--json --epochs 2 --batch-rows 5");
        assert_non_null(strstr(done.out, "\"schema\":\"laplora.refine/1\""));
        double after = value_of(&done, "nll_after");
        assert_true(fabs(after - value_of(&done, "nll_before")) > 1e-6);
        assert_true(value_of(&done, "kl") > 0);
        command_free(&done);
        done = run_ok(folder, "predict --posterior @/out --data @/calib.jsonl --out @/rows.jsonl "
                              "--quiet");
        command_free(&done);
        check_within(fixtures[i], fabs(nll_of(in_case(folder, "rows.jsonl")) - after), 1.5e-10);
        /* tensors: same names and shapes */
        if (access(in_case(folder, "new/adapter_model.safetensors"), F_OK))
            continue; /* of the `adapters` library, which calls its file otherwise */
        la_checkpoint *old, *new;
        la_error err = {0};
        succeed(
            la_checkpoint_open_file(in_case(folder, "new/adapter_model.safetensors"), &new, &err),
            &err);
        succeed(la_checkpoint_open_file(in_case(folder, "adapter/adapter_model.safetensors"), &old,
                                        &err),
                &err);
        assert_int_equal(la_checkpoint_count(old), la_checkpoint_count(new));
        for (int64_t t = 0; t < la_checkpoint_count(old); t++) {
            const la_tensor *a = la_checkpoint_at(old, t), *b = la_checkpoint_at(new, t);
            assert_string_equal(a->name, b->name);
            assert_int_equal(a->n_dims, b->n_dims);
            for (int d = 0; d < a->n_dims; d++)
                assert_int_equal(a->shape[d], b->shape[d]);
        }
        la_checkpoint_close(old);
        la_checkpoint_close(new);
    }
}

/* Same seed, same bytes, whatever the threads; another seed, others. The batch changes roundings
 * alone. */
static void test_repeats(void **state) {
    static const char *const again[] = {"--threads 1", "--threads 2", "--threads 2 --seed 3",
                                        "--threads 2 --batch-tokens 40"};
    char *first = NULL;
    size_t length = 0;
    double nll[4];
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    for (int i = 0; i < 4; i++) {
        char line[512];
        command done = run_shell(folder, "rm -rf $D/new");
        command_free(&done);
        snprintf(line, sizeof line,
                 REFINE "--json --epochs 2 --batch-rows 5 --learning-rate 0.01 %s", again[i]);
        done = run_ok(folder, line);
        nll[i] = value_of(&done, "nll_after");
        command_free(&done);
        size_t now;
        char *file = read_file(in_case(folder, "new/adapter_model.safetensors"), &now);
        if (!i) {
            first = file;
            length = now;
            continue;
        }
        bool same = now == length && !memcmp(first, file, length);
        assert_true(i == 1 ? same : i == 2 ? !same : true);
        free(file);
    }
    check_within("batches of other sizes", fabs(nll[3] - nll[0]), 2e-5);
    free(first);
}

/* With held-out rows the best epoch is kept, the beginning among them: never worse. */
static void test_held_out(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    for (int adam = 0; adam < 2; adam++) {
        command done = run_shell(folder, "rm -rf $D/new");
        command_free(&done);
        done = run_ok(folder, adam ? REFINE "--json --val @/test.jsonl --method adam --epochs 2"
                                   : REFINE "--json --val @/test.jsonl --epochs 2");
        assert_true(value_of(&done, "nll_after") <= value_of(&done, "nll_before"));
        command_free(&done);
        done = run_ok(folder, "info @/out --json");
        assert_non_null(strstr(done.out, "variational"));
        command_free(&done);
    }
    /* rows are added to such a posterior as to any other */
    command done =
        run_ok(folder, "update --posterior @/out --data @/test.jsonl --out @/third --json "
                       "--quiet");
    command_free(&done);
}

#define NEEDS(name) "refine needs --" name
static const fault faults[] = {
    {.name = "a folder that is not empty",
     .code = 2,
     .pieces = {"/base", "not empty"},
     .command = "refine --posterior @/posterior --data @/calib.jsonl --out @/out --out-adapter "
                "@/base --quiet"},
    {.name = "a file where the folder goes",
     .code = 2,
     .pieces = {"calib.jsonl"},
     .command = "refine --posterior @/posterior --data @/calib.jsonl --out @/out --out-adapter "
                "@/calib.jsonl --quiet"},
    {.name = "no folder",
     .code = 2,
     .pieces = {"--out-adapter"},
     .command = "refine --posterior @/posterior --data @/calib.jsonl --out @/out --quiet"},
    {.name = "another adapter",
     .code = 7,
     .pieces = {"adapter", "digest"},
     .command = REFINE,
     .damage = poison_tensor,
     .file = "adapter/adapter_model.safetensors",
     .a = "lora_B.weight",
     .b = "0.25"},
    {.name = "rows without labels",
     .code = 3,
     .pieces = {"calib.jsonl:1", "label"},
     .command = REFINE,
     .damage = put_file,
     .file = "calib.jsonl",
     .a = "{\"input_ids\":[1,2,3]}\n"},
    {.name = "one name for both results",
     .code = 2,
     .pieces = {"--out and --out-adapter", "expected a file and a folder"},
     .command = "refine --posterior @/posterior --data @/calib.jsonl --out @/new --out-adapter "
                "@/new"},
    {.name = "a rate that explodes",
     .code = 6,
     .pieces = {"--learning-rate 1e+30", "calib.jsonl", "out of range"},
     .command = REFINE "--method adam --learning-rate 1e30"},
};

static void test_faults(void **state) {
    (void)state;
    assert_int_equal(run_faults("refine", faults, sizeof faults / sizeof *faults), 0);
}

static void test_dora(void **state) {
    (void)state;
    const char *folder = open_case("dora-bert");
    fit_case(folder);
    command done = run_line(folder, REFINE, NULL);
    check_message(&done, 4, (const char *const[]){"DoRA"}, 1);
    check_nothing_written(folder);
    assert_int_equal(access(in_case(folder, "new"), F_OK), -1);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_steps),
        cmocka_unit_test(test_reference), cmocka_unit_test(test_command),
        cmocka_unit_test(test_repeats),   cmocka_unit_test(test_held_out),
        cmocka_unit_test(test_faults),    cmocka_unit_test(test_dora)};
    return cmocka_run_group_tests_name("refine", tests, NULL, NULL);
}
