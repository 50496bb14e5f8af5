/* Faults around the CUDA device of the program: no device, no library, no memory, and errors while
 * it computes; on the emulated device. */
#include "cuda/emulated.h"
#include "support/tensors.h"

#include <unistd.h>

#define FIT_CUDA FIT " --device cuda"
#define PREDICT_CUDA PREDICT " --device cuda"

/* Runs a command that must fail as expected, leave the older output unchanged and leak nothing. */
static void fails(const char *settings, const char *folder, const char *line, int code,
                  const char *const *pieces, int n_pieces) {
    command done = run_with(settings, folder, line, NULL);
    print_message("    %s", done.err);
    check_message(&done, code, pieces, n_pieces);
    check_nothing_written(folder);
    command_free(&done);
}

/* ---- devices ---- */

typedef struct device_fault {
    const char *name; /* a word, by which tests/run counts what is skipped */
    const char *settings, *options;
    int code;
    const char *pieces[3];
} device_fault;

#define NONE "LA_EMULATED_DEVICES=0"
#define ONE "LA_EMULATED_DEVICES=1"

static const device_fault device_faults[] = {
    {"no_device", NONE, "--device cuda", 5, {"no CUDA device"}},
    {"number_7_of_none", NONE, "--device cuda:7", 5, {"no CUDA device"}},
    {"number_7_of_one", ONE, "--device cuda:7", 5, {"cuda:7", "1 device"}},
    {"number_1_of_one", ONE, "--device cuda:1", 5, {"cuda:1", "1 device"}},
    {"the_second_is_missing", ONE, "--device cuda:0,1", 5, {"cuda:1", "1 device"}},
    {"no_number", ONE, "--device cuda:", 2, {"--device", "\"cuda:\"", "cuda:0,1"}},
    {"a_number_twice", ONE, "--device cuda:0,0", 2, {"--device", "\"cuda:0,0\"", "each once"}},
    {"a_letter", ONE, "--device cuda:x", 2, {"--device", "\"cuda:x\""}},
    {"a_number_and_a_letter", ONE, "--device cuda:0x", 2, {"--device", "\"cuda:0x\""}},
    {"a_comma_at_the_end", ONE, "--device cuda:0,", 2, {"--device", "\"cuda:0,\""}},
    {"a_negative_number", ONE, "--device cuda:-1", 2, {"--device", "\"cuda:-1\""}},
    {"a_huge_number", ONE, "--device cuda:18446744073709551616", 2, {"--device"}},
    {"another_word", ONE, "--device cudax", 2, {"--device", "\"cudax\""}},
    {"bf16_on_the_cpu", ONE, "--device cpu --precision bf16", 4, {"--precision bf16", "f32"}},
    {"tf32_on_the_cpu", ONE, "--device cpu --precision tf32", 4, {"--precision tf32", "f32"}},
    {"bf16_where_auto_falls_back",
     NONE,
     "--device auto --precision bf16",
     4,
     {"--precision bf16", "because", "no CUDA device"}},
    {"less_memory_than_a_workspace", "LA_EMULATED_MEMORY=1000", "--device cuda", 5, {"memory"}},
    {"batches_of_a_word",
     ONE,
     "--device cuda --batch-tokens abc",
     2,
     {"--batch-tokens", "\"abc\"", "integer"}},
    {"batches_of_0", ONE, "--device cuda --batch-tokens 0", 2, {"--batch-tokens", "\"0\""}},
    {"batches_of_minus_1", ONE, "--device cuda --batch-tokens -1", 2, {"--batch-tokens", "\"-1\""}},
};
enum { N_DEVICE_FAULTS = sizeof device_faults / sizeof *device_faults };

static void device_fails(void **state) {
    const device_fault *f = *state;
    char line[1024];
    need_emulated();
    const char *folder = open_case("bert");
    snprintf(line, sizeof line, FIT " %s", f->options);
    fails(f->settings, folder, line, f->code, f->pieces, 3);
    fit_case(folder);
    snprintf(line, sizeof line, PREDICT " %s", f->options);
    fails(f->settings, folder, line, f->code, f->pieces, 3);
}

/* $LAPLORA_CUDA is no file, no library, or another library: --device cuda fails and names it, auto
 * goes on without. */
static void bad_library(const char *library, const char *reason) {
    char settings[4200];
    need_emulated();
    const char *folder = open_case("bert"), *pieces[] = {"--device cuda", library, reason};
    snprintf(settings, sizeof settings, "LAPLORA_CUDA=%s", library);
    fails(settings, folder, FIT_CUDA, 5, pieces, 3);
    command done = works(settings, folder, "fit " PARTS " --out @/posterior --device auto --json");
    says(done.err, library);
    says(done.err, "using the CPU");
    says(done.out, "\"device\":\"cpu\"");
    command_free(&done);
}

static void library_is_missing(void **state) {
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s", scratch("missing.so"));
    bad_library(path, "No such file");
}

static void library_is_text(void **state) {
    (void)state;
    char path[4096], text[4096];
    memset(text, 'x', sizeof text);
    snprintf(path, sizeof path, "%s", scratch("text.so"));
    write_file(path, text, sizeof text);
    bad_library(path, "ELF");
}

/* found by its name alone */
static void library_is_another(void **state) {
    (void)state;
    bad_library("libm.so.6", "la_cuda_plugin_entry");
}

/* One note, and none with --quiet. */
static void auto_falls_back(void **state) {
    (void)state;
    need_emulated();
    const char *folder = open_case("bert");
    command done =
        works(NONE, folder, "fit " PARTS " --out @/posterior --device auto --select none --json");
    says(done.out, "\"device\":\"cpu\"");
    says(done.err, "laplora: note: no CUDA device");
    says(done.err, "using the CPU");
    assert_null(strchr(strchr(done.err, '\n') + 1, '\n'));
    command_free(&done);
    done = works(NONE, folder, FIT " --device auto");
    assert_string_equal(done.err, "");
    command_free(&done);
    /* where there is one, it is used */
    done = works(ONE, folder, FIT " --device auto --json");
    says(done.out, "\"device\":\"cuda\"");
    assert_string_equal(done.err, "");
    command_free(&done);
}

/* ---- memory ---- */

/* Figures of a plan, in MiB but for tokens. */
typedef struct plan {
    double tokens, weights, curvature, activations, token, workspaces, free;
    bool again; /* layers are computed again */
} plan;

static plan read_plan(const char *err) {
    const char *at = strstr(err, "plan for ");
    if (!at)
        fail_msg("no plan: %.600s", err);
    double available = number_after(at, "workspaces ");
    says(at, " MiB; ");
    plan p = {.tokens = number_after(at, "batches of "),
              .weights = number_after(at, "weights "),
              .curvature = number_after(at, "curvature "),
              .activations = number_after(at, "activations "),
              .workspaces = available,
              .free = number_after(at, " MiB; ")};
    char piece[64];
    snprintf(piece, sizeof piece, "activations %.1f MiB (", p.activations);
    p.token = number_after(at, piece) / 1024;
    const char *end = strchr(at, '\n'), *again = strstr(at, "computed again");
    p.again = again && again < end;
    return p;
}

static plan fit_with(const char *settings, const char *folder, const char *options) {
    char line[1024];
    snprintf(line, sizeof line, "fit " PARTS " --out @/posterior --device cuda --verbose %s",
             options);
    command done = works(settings, folder, line);
    plan p = read_plan(done.err);
    command_free(&done);
    return p;
}

enum { ALL = 8192 }; /* MiB of the emulated device */

/* The setting that leaves so many MiB for the plan, by what a plan of the whole device could not
 * have. */
static const char *leaving(const plan *of_all, double mib) {
    static char text[64];
    snprintf(text, sizeof text, "LA_EMULATED_MEMORY=%.0f",
             (ALL - of_all->free + mib) * 1024 * 1024);
    return text;
}

/* Refused before anything is read or computed: the data does not even exist. */
static void too_little_memory(void **state) {
    (void)state;
    static const char *const pieces[] = {"weights",     "curvature",  "activations",
                                         "KiB a token", "workspaces", "MiB are free"};
    static const char *const others[] = {"not enough memory", "--precision bf16", "larger device"};
    need_emulated();
    const char *folder = open_case("bert");
    plan all = fit_with("", folder, "");
    char settings[64];
    snprintf(settings, sizeof settings, "%s", leaving(&all, all.workspaces / 2));
    fails(settings, folder, FIT_CUDA, 5, pieces, 6);
    fails(settings, folder, FIT_CUDA, 5, others, 3);
    fails(settings, folder,
          "fit --base @/base --adapter @/adapter --data @/none.jsonl --out @/out --quiet "
          "--device cuda",
          5, pieces, 6);
    fails(settings, folder, PREDICT_CUDA, 5, pieces, 6);
    fails(settings, folder, FIT_CUDA " --batch-tokens auto", 5, others, 3);
    /* any of several */
    char several[128];
    snprintf(several, sizeof several, "%s LA_EMULATED_DEVICES=3", settings);
    fails(several, folder, FIT_CUDA ":0,1,2", 5, pieces, 6);
}

static char *predictions(const char *settings, const char *folder) {
    command done = works(settings, folder,
                         "predict --posterior @/posterior --data @/test.jsonl --quiet --device "
                         "cuda --samples 100 --emit logits,cov");
    char *out = done.out;
    done.out = NULL;
    command_free(&done);
    return out;
}

/* With less memory the backward computes layers again, by the same operations: the same bits. */
static void layers_again(void **state) {
    (void)state;
    need_emulated();
    const char *folder = open_case("bert");
    plan all = fit_with("", folder, "");
    assert_false(all.again);
    char *want = predictions("", folder), settings[64];
    /* room for a thousand tokens, too little to keep all layers */
    snprintf(settings, sizeof settings, "%s",
             leaving(&all, all.weights + all.curvature + all.workspaces + 1000 * all.token));
    plan less = fit_with(settings, folder, "");
    assert_true(less.again);
    assert_true(less.tokens < 2048);
    assert_true(less.weights + less.curvature + less.activations + less.workspaces <=
                less.free + 1);
    char *got = predictions(settings, folder);
    assert_string_equal(got, want);
    free(got);
    /* the predictions were computed in the little memory, too */
    command done = works(settings, folder,
                         "predict --posterior @/posterior --data @/test.jsonl --device cuda "
                         "--verbose");
    assert_true(read_plan(done.err).again);
    command_free(&done);
    free(want);
}

static void automatic_batches(void **state) {
    (void)state;
    need_emulated();
    const char *folder = open_case("bert");
    plan all = fit_with("", folder, "");
    plan most = fit_with("", folder, "--batch-tokens auto");
    assert_true(most.tokens > all.tokens && !most.again);
    double rest = all.weights + all.curvature + all.workspaces;
    plan half = fit_with(leaving(&all, rest + most.activations / 2), folder, "--batch-tokens auto");
    assert_true(half.tokens < most.tokens && half.tokens > most.tokens / 4 && !half.again);
    plan little = fit_with(leaving(&all, rest + 1000 * all.token), folder, "--batch-tokens auto");
    assert_true(little.tokens < half.tokens && little.again);
    /* exactly what is asked for, where it fits */
    plan asked = fit_with("", folder, "--batch-tokens 300");
    assert_true(asked.tokens == 300);
}

static void batches_too_large(void **state) {
    (void)state;
    static const char *const pieces[] = {"not enough memory", "100000 tokens", "KiB a token",
                                         "lower --batch-tokens"};
    need_emulated();
    const char *folder = open_case("bert");
    plan all = fit_with("", folder, "");
    char settings[64];
    snprintf(settings, sizeof settings, "%s",
             leaving(&all, all.weights + all.curvature + all.workspaces + 1000 * all.token));
    fails(settings, folder, FIT_CUDA " --batch-tokens 100000", 5, pieces, 4);
    fails(settings, folder, PREDICT_CUDA " --batch-tokens 100000", 5, pieces, 4);
    fit_with(settings, folder, "--batch-tokens 300");
}

/* Memory taken equals the plan, within rounding of the printed figures; large batches, so that it
 * shows. */
static plan check_plan_is_kept(const char *settings, const char *folder) {
    command done = works(settings, folder,
                         "fit " PARTS " --out @/posterior --device cuda --verbose --batch-tokens "
                         "60000");
    plan p = read_plan(done.err);
    double peak = number_after(done.err, "device memory: peak ") * 1024;
    double planned = p.weights + p.curvature + p.activations + p.workspaces;
    command_free(&done);
    print_message("    planned %.1f MiB, taken %.1f MiB\n", planned, peak);
    assert_true(peak <= planned + 6);
    assert_true(peak >= p.activations - 6);
    return p;
}

static void plan_is_kept(void **state) {
    (void)state;
    need_emulated();
    const char *folder = open_case("bert");
    plan all = check_plan_is_kept("", folder);
    double needed = all.weights + all.curvature + all.activations + all.workspaces;
    plan less = check_plan_is_kept(leaving(&all, needed - 20), folder);
    assert_true(less.again && !all.again);
    assert_true(less.activations < all.activations - 20);
}

/* ---- while it computes ---- */

/* Row 5 of calibration and test rows is bad in its own way; the others are good. */
static void row_five(const char *folder, const char *fifth) {
    static const char *const names[] = {"calib.jsonl", "test.jsonl"};
    for (int k = 0; k < 2; k++) {
        FILE *file = fopen(in_case(folder, names[k]), "wb");
        for (int i = 1; i <= 9; i++)
            if (i == 5)
                fprintf(file, "%s\n", fifth);
            else
                fprintf(file, "{\"input_ids\":[5,%d,7,%d],\"label\":%d}\n", 8 + i, 20 + i, i % 3);
        fclose(file);
    }
}

/* Batches of a row, so that device 1 gets row 5, and others are full of rows by then. */
static void all_ways(const char *folder, int code, const char *const *pieces, int n) {
    fails("", folder, FIT_CUDA, code, pieces, n);
    fails("", folder, FIT_CUDA " --batch-tokens 4", code, pieces, n);
    fails("LA_EMULATED_DEVICES=3", folder, FIT_CUDA ":0,1,2 --batch-tokens 4", code, pieces, n);
    fails("", folder, PREDICT_CUDA, code, pieces, n);
    fails("", folder, PREDICT_CUDA " --batch-tokens 4", code, pieces, n);
    fails("LA_EMULATED_DEVICES=3", folder, PREDICT_CUDA ":0,1,2 --batch-tokens 4", code, pieces, n);
}

static void bad_row(void **state) {
    (void)state;
    static const char *const pieces[] = {"jsonl:5:", "input_ids"};
    need_emulated();
    const char *folder = open_case("bert");
    fit_case(folder);
    row_five(folder, "{\"input_ids\":[5,\"six\"],\"label\":0}");
    all_ways(folder, 3, pieces, 2);
}

/* Token 0 overflows, and only row 5 has it. */
static void overflowing_row(void **state) {
    (void)state;
    static const char *const pieces[] = {"jsonl:5:"};
    need_emulated();
    const char *folder = open_case("bert");
    const char *path = in_case(folder, "base/model.safetensors");
    tensor_file file = tensors_read(path);
    tensor_bytes *words = tensors_find(&file, "word_embeddings.weight");
    for (size_t i = 0; i < 32; i++)
        memcpy(words->data + i * sizeof(float), &(float){3e38F}, sizeof(float));
    tensors_write(&file, path);
    tensors_free(&file);
    fit_case(folder);
    row_five(folder, "{\"input_ids\":[5,0,7,8],\"label\":0}");
    all_ways(folder, 6, pieces, 1);
}

static void poisoned_weights(void **state) {
    (void)state;
    static const char *const pieces[] = {"model.safetensors", "layer.1.output.dense.weight", "NaN"};
    need_emulated();
    const char *folder = open_case("bert");
    fit_case(folder);
    poison_tensor(
        &(fault){.file = "base/model.safetensors", .a = "layer.1.output.dense.weight", .b = "nan"},
        folder);
    fails("", folder, FIT_CUDA, 6, pieces, 3);
    fails("LA_EMULATED_DEVICES=3", folder, FIT_CUDA ":0,1,2", 6, pieces, 3);
    fails("", folder, PREDICT_CUDA, 6, pieces, 3);
}

/* A posterior of another adapter is seen when the model is already on the device. */
static void another_adapter(void **state) {
    (void)state;
    static const char *const pieces[] = {"/adapter", "digest"};
    need_emulated();
    const char *folder = open_case("bert");
    fit_case(folder);
    poison_tensor(&(fault){.file = "adapter/adapter_model.safetensors",
                           .a = "layer.0.attention.self.query.lora_A.weight",
                           .b = "0.125"},
                  folder);
    fails("", folder, PREDICT_CUDA, 7, pieces, 2);
    fails("LA_EMULATED_DEVICES=3", folder, PREDICT_CUDA ":0,1,2", 7, pieces, 2);
}

/* Stopped in the middle of rows for minutes. timeout(1) hands on the exit code; it would send the
 * signal twice without --foreground, and the second one kills. */
static void interrupted(void **state) {
    (void)state;
    static const char *const pieces[] = {"interrupted"};
    need_emulated();
    const char *folder = open_case("bert");
    size_t length;
    char *rows = read_file(in_case(folder, "calib.jsonl"), &length);
    FILE *many = fopen(in_case(folder, "many.jsonl"), "wb");
    for (int i = 0; i < 1000; i++)
        fwrite(rows, 1, length, many);
    fclose(many);
    free(rows);
    const char *program = getenv("LAPLORA") ? getenv("LAPLORA") : "build/laplora";
    const char *argv[] = {"timeout",
                          "--preserve-status",
                          "--foreground",
                          "-sTERM",
                          "1",
                          program,
                          "fit",
                          "--base",
                          in_case(folder, "base"),
                          "--adapter",
                          in_case(folder, "adapter"),
                          "--data",
                          in_case(folder, "many.jsonl"),
                          "--out",
                          in_case(folder, "out"),
                          "--device",
                          "cuda:0,1",
                          "--quiet",
                          "--batch-tokens",
                          "60",
                          NULL};
    setenv("LA_EMULATED_DEVICES", "2", 1);
    command done = run_command(argv, NULL);
    unsetenv("LA_EMULATED_DEVICES");
    check_message(&done, 143, pieces, 1);
    check_nothing_written(folder);
    command_free(&done);
}

int main(void) {
    /* some of them want a library without products of bf16 */
    setenv("LAPLORA_PRODUCTS", "openblas", 1);
    const struct CMUnitTest others[] = {
        cmocka_unit_test(library_is_missing), cmocka_unit_test(library_is_text),
        cmocka_unit_test(library_is_another), cmocka_unit_test(auto_falls_back),
        cmocka_unit_test(too_little_memory),  cmocka_unit_test(layers_again),
        cmocka_unit_test(automatic_batches),  cmocka_unit_test(batches_too_large),
        cmocka_unit_test(plan_is_kept),       cmocka_unit_test(bad_row),
        cmocka_unit_test(overflowing_row),    cmocka_unit_test(poisoned_weights),
        cmocka_unit_test(another_adapter),    cmocka_unit_test(interrupted),
    };
    enum { N_OTHERS = sizeof others / sizeof *others };
    struct CMUnitTest tests[N_DEVICE_FAULTS + N_OTHERS];
    for (int i = 0; i < N_DEVICE_FAULTS; i++)
        tests[i] = (struct CMUnitTest){.name = device_faults[i].name,
                                       .test_func = device_fails,
                                       .initial_state = (void *)(uintptr_t)&device_faults[i]};
    memcpy(tests + N_DEVICE_FAULTS, others, sizeof others);
    return cmocka_run_group_tests_name("faults on cuda", tests, look_for_leaks, NULL);
}
