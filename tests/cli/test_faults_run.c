/* Faults around a run: options, outputs, signals, posteriors of another model, standard input. */
#include "support/faults.h"
#include "support/process.h"
#include "support/seal.h"

#include <errno.h>
#include <hdf5.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define USAGE(title, piece, line)                                                                  \
    { .name = title, .code = 2, .pieces = {piece}, .command = line }
#define PREDICT_ON(posterior)                                                                      \
    "predict --posterior @/" posterior " --data @/test.jsonl --out @/out --quiet"
#define PREDICT_HERE                                                                               \
    "predict --posterior @/posterior --base @/base --adapter @/adapter --data @/test.jsonl --out " \
    "@/out --quiet"
#define POSTERIOR .file = "posterior"

/* Text rows, and a posterior that was fitted on them. */
static void fit_on_text(const char *folder) {
    use_tokenizer(NULL, folder);
    fit_case(folder);
}

static void other_tokenizer(const fault *f, const char *folder) {
    fit_on_text(folder);
    replace_text(&(fault){.file = "base/tokenizer.json", .a = "\"good\":4", .b = "\"nice\":4"},
                 folder);
    (void)f;
}

static void lost_tokenizer(const fault *f, const char *folder) {
    fit_on_text(folder);
    remove_file(&(fault){.file = "base/tokenizer.json"}, folder);
    (void)f;
}

/* One weight of the adapter differs by a little. */
static void other_weight(const fault *f, const char *folder) {
    poison_tensor(&(fault){.file = f->file, .a = f->a, .b = "0.125"}, folder);
}

static void other_fixture(const fault *f, const char *folder) {
    char from[256];
    snprintf(from, sizeof from, "parity/%s/base", f->a);
    copy_folder(fixture(from), in_case(folder, "base"));
    snprintf(from, sizeof from, "parity/%s/adapter", f->a);
    copy_folder(fixture(from), in_case(folder, "adapter"));
}

/* Base or adapter (b) of the fixture a beside the first. */
static void stranger(const fault *f, const char *folder) {
    char from[256];
    snprintf(from, sizeof from, "parity/%s/%s", f->a, f->b);
    copy_folder(fixture(from), in_case(folder, "other"));
}

/* Another base beside the first, of the same shapes. */
static void second_base(const fault *f, const char *folder) {
    copy_folder(in_case(folder, "base"), in_case(folder, "other"));
    poison_tensor(&(fault){.file = "other/model.safetensors",
                           .a = "layer.2.output.dense.weight",
                           .b = "0.125"},
                  folder);
    (void)f;
}

/* Root attribute a := the integer b, or gone. */
/* The digest in front is made anew, so that what is behind it is what gets tested. */
static void seal(const char *path) {
    la_error err = {0};
    assert_int_equal(seal_file(path, &err), LA_OK);
}

static void set_attribute(const fault *f, const char *folder) {
    hid_t file = H5Fopen(in_case(folder, f->file), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    if (f->b) {
        int64_t value = atoll(f->b);
        hid_t attribute = H5Aopen(file, f->a, H5P_DEFAULT);
        assert_true(attribute >= 0);
        H5Awrite(attribute, H5T_NATIVE_INT64, &value);
        H5Aclose(attribute);
    } else {
        assert_true(H5Adelete(file, f->a) >= 0);
    }
    H5Fclose(file);
    seal(in_case(folder, f->file));
}

/* All eigenvalues of the first block's output factor := b. */
static void set_eigenvalues(const fault *f, const char *folder) {
    double values[4096];
    for (int i = 0; i < 4096; i++)
        values[i] = strtod(f->b, NULL);
    hid_t file = H5Fopen(in_case(folder, f->file), H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t set = H5Dopen2(file, "blocks/00000/output_eigenvalues", H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
    H5Fclose(file);
    seal(in_case(folder, f->file));
}

static void plain_hdf5(const fault *f, const char *folder) {
    hid_t file = H5Fcreate(in_case(folder, f->file), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
}

static void one_prediction(const fault *f, const char *folder) {
    put_file(&(fault){.file = "p.jsonl", .a = "{\"label\":0,\"probs\":[0.75,0.25]}\n"}, folder);
    (void)f;
}

static void one_numbered(const fault *f, const char *folder) {
    static const char row[] = "{\"index\":0,\"label\":0,\"probs\":[0.75,0.25]}\n";
    put_file(&(fault){.file = "p.jsonl", .a = row}, folder);
    (void)f;
}

#define GATE(title, piece, options)                                                                \
    {                                                                                              \
        .name = title, .code = 2, .pieces = {piece},                                               \
        .command = "report @/p.jsonl --out @/out --quiet " options, .damage = one_prediction       \
    }

static const fault faults[] = {
    /* ---- options ---- */
    USAGE("unknown command", "frobnicate", "frobnicate"),
    USAGE("unknown option", "--frobnicate", FIT " --frobnicate"),
    USAGE("unknown option with a value", "--frobnicate", FIT " --frobnicate=3"),
    USAGE("an option of another command", "--samples", FIT " --samples 3"),
    USAGE("unknown short option", "-x", FIT " -x"),
    USAGE("missing value", "--data", "fit --base @/base --adapter @/adapter --out @/out --data"),
    USAGE("a value for a flag", "--quiet", FIT " --quiet=yes"),
    USAGE("no base", "--base", "fit --adapter @/adapter --data @/calib.jsonl --out @/out"),
    USAGE("no adapter", "--adapter", "fit --base @/base --data @/calib.jsonl --out @/out"),
    USAGE("no data", "--data", "fit --base @/base --adapter @/adapter --out @/out"),
    USAGE("no out", "--out", "fit --base @/base --adapter @/adapter --data @/calib.jsonl"),
    USAGE("an operand for fit", "stray", FIT " stray"),
    USAGE("empty out", "--out",
          "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out ''"),
    USAGE("a posterior to stdout", "--out",
          "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out -"),
    USAGE("no posterior", "--posterior", "predict --data @/test.jsonl"),
    USAGE("no data to predict", "--data", "predict --posterior @/posterior"),
    USAGE("data and stdin", "--stdin", "predict --posterior @/p --data @/test.jsonl --stdin"),
    USAGE("report without a file", "report", "report"),
    USAGE("report with two files", "report", "report @/a @/b"),
    GATE("two reports in one file", "for text and for csv", "--write csv=@/out"),
    {"against nothing",
     3,
     {"none.jsonl"},
     .command = "report @/p.jsonl --out @/out --quiet --against @/none.jsonl",
     .damage = one_numbered},
    {"against rows without an id",
     3,
     {"p.jsonl:1", "no \"id\""},
     .command = "report @/p.jsonl --out @/out --quiet --against @/p.jsonl",
     .damage = one_prediction},
    {"slices by nothing",
     3,
     {"\"region\" of --by"},
     .command = "report @/p.jsonl --out @/out --quiet --by region",
     .damage = one_prediction},
    GATE("a report in no format", "\"yaml\"; expected one of text, json", "--write yaml=@/o"),
    GATE("a report in no file", "FORMAT=FILE", "--write csv="),
    USAGE("info without a path", "info", "info"),
    USAGE("unknown curvature", "--kron", FIT " --kron diag"),
    USAGE("unknown params", "--params", FIT " --params all"),
    USAGE("unknown device", "--device", FIT " --device tpu"),
    USAGE("unknown precision", "--precision", FIT " --precision f8"),
    {"tf32 on the CPU", 4, {"--precision", "tf32"}, .command = FIT " --precision tf32"},
    {"65 CUDA where there is none", 5, {"cuda"}, .command = FIT " --device cuda"},
    {"65 the device auto falls back", 0, {NULL}, .command = FIT " --device auto"},
    USAGE("--prior 0", "--prior", FIT " --prior 0"),
    USAGE("--prior -1", "--prior", FIT " --prior -1"),
    USAGE("--prior nan", "--prior", FIT " --prior nan"),
    USAGE("--prior inf", "--prior", FIT " --prior inf"),
    USAGE("--prior abc", "--prior", FIT " --prior abc"),
    USAGE("--prior 1x", "--prior", FIT " --prior 1x"),
    USAGE("--prior of nothing", "--prior", FIT " --prior ''"),
    USAGE("--rank 0", "--rank", FIT " --rank 0"),
    USAGE("--rank -1", "--rank", FIT " --rank -1"),
    USAGE("--rank 1.5", "--rank", FIT " --rank 1.5"),
    USAGE("--rank all", "--rank", FIT " --rank all"),
    USAGE("--rank of nothing", "--rank", FIT " --rank ''"),
    USAGE("--threads 0", "--threads", FIT " --threads 0"),
    USAGE("--threads abc", "--threads", FIT " --threads abc"),
    USAGE("--threads of nothing", "--threads", FIT " --threads ''"),
    USAGE("--threads 2^64+1", "--threads", FIT " --threads 18446744073709551617"),
    USAGE("--max-length 0", "--max-length", FIT " --max-length 0"),
    USAGE("--max-length -5", "--max-length", FIT " --max-length -5"),
    USAGE("--batch-tokens 0", "--batch-tokens", FIT " --batch-tokens 0"),
    USAGE("--batch-tokens 1e9", "--batch-tokens", FIT " --batch-tokens 1e9"),
    USAGE("--seed -1", "--seed", PREDICT_HERE " --seed -1"),
    USAGE("--samples -1", "--samples", PREDICT_HERE " --samples -1"),
    USAGE("--samples 1e3", "--samples", PREDICT_HERE " --samples 1e3"),
    USAGE("unknown predictive", "--predictive", PREDICT_HERE " --predictive vi"),
    USAGE("shares of a posterior without distances", "fit it with --ood",
          PREDICT_HERE " --emit ood"),
    USAGE("unknown emission", "--emit", PREDICT_HERE " --emit logits,jacobian"),
    USAGE("a label twice", "--labels", FIT " --labels a,b,a"),
    USAGE("an empty label", "--labels", FIT " --labels a,,c"),
    {"--params lora+head without a trained head",
     3,
     {"--params", "modules_to_save"},
     .command = FIT_CHOICES " --params lora+head",
     .fixture = "llama"},
    GATE("gate on an unknown metric", "sharpness", "--max sharpness=1"),
    GATE("gate on no metric", "METRIC=NUMBER", "--max =1"),
    GATE("gate without a bound", "METRIC=NUMBER", "--max ece"),
    GATE("gate with an empty bound", "ece=", "--min ece="),
    GATE("gate with a bound of nan", "ece=nan", "--min ece=nan"),
    GATE("gate with a bound of inf", "ece=inf", "--min ece=inf"),
    GATE("gate with a bound of text", "ece=low", "--max ece=low"),
    GATE("gate with two bounds", "ece=1=2", "--max ece=1=2"),
    GATE("metric of another case", "ECE", "--max ECE=1"),
    GATE("regression without a baseline", "--baseline", "--max-regression ece=0.1"),
    GATE("unknown regression", "sharpness", "--max-regression sharpness=1 --baseline @/p.jsonl"),
    GATE("unknown format", "--format", "--format yaml"),
    GATE("negative --min-samples", "--min-samples", "--min-samples -1"),
    GATE("--min-samples abc", "--min-samples", "--min-samples abc"),

    /* ---- outputs ---- */
    {"57 the folder is missing",
     5,
     {"/missing"},
     .command = "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/missing/p.h5 "
                "--quiet"},
    {"57 the output is a folder",
     5,
     {"/base", "directory"},
     .command = "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/base --quiet"},
    {"57 the folder is a file",
     5,
     {"calib.jsonl"},
     .command = "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out "
                "@/calib.jsonl/p.h5 --quiet"},
    {"57 the folder takes no files",
     5,
     {"/proc/p.h5"},
     .command = "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out /proc/p.h5 "
                "--quiet"},
    {"57 before anything else is read",
     5,
     {"/missing"},
     .command = "fit --base @/nowhere --adapter @/nowhere --data @/nowhere --out @/missing/p.h5"},
    {"57 predictions into a missing folder",
     5,
     {"/missing"},
     .command = "predict --posterior @/posterior --data @/test.jsonl --out @/missing/p --quiet"},
    {"57 a report into a missing folder",
     5,
     {"/missing"},
     .command = "report @/p.jsonl --out @/missing/r --quiet",
     .damage = one_prediction},

    /* ---- posteriors ---- */
    {"61 no such posterior", 3, {"/nowhere"}, .command = PREDICT_ON("nowhere")},
    {"61 posterior is a folder", 3, {"/base"}, .command = PREDICT_ON("base")},
    {"61 posterior is empty", 3, {"/posterior"}, PREDICT, cut_file, POSTERIOR, .a = "0"},
    {"61 posterior is no HDF5",
     3,
     {"/posterior", "HDF5"},
     PREDICT,
     put_file,
     POSTERIOR,
     .a = "PK\003\004"},
    {"61 posterior is another HDF5", 3, {"/posterior"}, PREDICT, plain_hdf5, POSTERIOR},
    {"61 posterior is cut by a byte", 3, {"/posterior"}, PREDICT, cut_file, POSTERIOR, .a = "-1"},
    {"61 posterior is cut in its start",
     3,
     {"/posterior"},
     PREDICT,
     cut_file,
     POSTERIOR,
     .a = "700"},
    {"61 posterior without complete",
     3,
     {"/posterior", "complete"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "complete"},
    {"61 complete is 0",
     3,
     {"/posterior", "complete"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "complete",
     .b = "0"},
    {"61 a billion classes",
     3,
     {"/posterior", "n_classes"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "n_classes",
     .b = "1000000000"},
    {"61 negative blocks",
     3,
     {"/posterior", "n_blocks"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "n_blocks",
     .b = "-1"},
    {"61 more blocks than there are",
     3,
     {"/posterior"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "n_blocks",
     .b = "13"},
    {"61 fewer blocks than the adapter has",
     3,
     {"/posterior"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "n_blocks",
     .b = "11"},
    {"61 other classes",
     3,
     {"/posterior", "class_rows"}, /* the first that is of another size then */
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "n_classes",
     .b = "4"},
    {"61 NaN eigenvalues",
     3,
     {"/posterior", "eigenvalues"},
     PREDICT,
     set_eigenvalues,
     POSTERIOR,
     .b = "nan"},
    {"61 negative eigenvalues",
     3,
     {"/posterior", "eigenvalues"},
     PREDICT,
     set_eigenvalues,
     POSTERIOR,
     .b = "-1"},
    {"63 schema of a later major version",
     4,
     {"/posterior", "schema", "2"},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "schema_major",
     .b = "2"},
    {"63 schema of a later minor version",
     0,
     {NULL},
     PREDICT,
     set_attribute,
     POSTERIOR,
     .a = "schema_minor",
     .b = "9"},
    {"62 adapter with another weight",
     7,
     {"/adapter", "digest"},
     PREDICT,
     other_weight,
     .file = "adapter/adapter_model.safetensors",
     .a = "layer.0.attention.self.query.lora_A.weight"},
    {"62 adapter with another alpha",
     7,
     {"/adapter", "digest"},
     PREDICT,
     set_key,
     .file = "adapter/adapter_config.json",
     .a = "lora_alpha",
     .b = "16"},
    {"62 base with another weight",
     7,
     {"/base", "digest"},
     PREDICT,
     other_weight,
     .file = "base/model.safetensors",
     .a = "layer.2.output.dense.weight"},
    {"62 base with another activation",
     7,
     {"/base", "digest"},
     PREDICT,
     set_key,
     .file = "base/config.json",
     .a = "hidden_act",
     .b = "\"relu\""},
    {"62 base and adapter of another model",
     7,
     {"digest"},
     PREDICT,
     other_fixture,
     .a = "bert-f16-head"},
    {"62 another base by option",
     7,
     {"/other", "digest"},
     .command = PREDICT " --base @/other",
     .damage = second_base},
    {"62 a base of another kind by option",
     7,
     {"/other", "base has digest", "belongs to no module"},
     .command = PREDICT " --base @/other",
     .damage = stranger,
     .a = "roberta",
     .b = "base"},
    {"62 an adapter of another kind by option",
     7,
     {"/other", "adapter has digest", "belongs to no module"},
     .command = PREDICT " --adapter @/other",
     .damage = stranger,
     .a = "roberta",
     .b = "adapter"},
    {"62 a base that is damaged",
     3,
     {"/base/model.safetensors"},
     PREDICT,
     cut_file,
     .file = "base/model.safetensors",
     .a = "-8"},
    {"62 another tokenizer", 7, {"tokenizer", "digest"}, PREDICT_HERE, other_tokenizer, POSTERIOR},
    {"62 the tokenizer is gone", 4, {"tokenizer"}, PREDICT_HERE, lost_tokenizer, POSTERIOR},
    {"62 the base is gone",
     3,
     {"base/config.json"},
     PREDICT,
     remove_file,
     .file = "base/config.json"},
};

/* ---- a process under way ---- */

/* Calibration rows for a minute or so. */
static void many_rows(const char *folder, int times) {
    size_t length;
    char *rows = read_file(in_case(folder, "calib.jsonl"), &length);
    FILE *file = fopen(in_case(folder, "many.jsonl"), "wb");
    for (int i = 0; i < times; i++) {
        fwrite(rows, 1, length, file);
        if (rows[length - 1] != '\n')
            fputc('\n', file);
    }
    fclose(file);
    free(rows);
}

static void check_stopped(process *p, int code, const char *folder) {
    int got = process_finish(p, 20);
    size_t length;
    command done = {.code = got, .out = NULL, .err = read_file(p->err, &length)};
    process_close(p);
    const char *pieces[] = {"interrupted"};
    check_message(&done, code, pieces, 1);
    command_free(&done);
    check_nothing_written(folder);
}

/* 59: during the curvature. */
static void interrupt_fit(int number) {
    const char *folder = open_case("bert");
    many_rows(folder, 20000);
    const char *argv[] = {"laplora",   "fit",
                          "--base",    in_case(folder, "base"),
                          "--adapter", in_case(folder, "adapter"),
                          "--data",    in_case(folder, "many.jsonl"),
                          "--out",     in_case(folder, "out"),
                          "--quiet",   NULL};
    process p = process_start(argv);
    wait_ms(400);
    kill(p.pid, number);
    check_stopped(&p, 128 + number, folder);
}

static void interrupted_by_int(void **state) {
    (void)state;
    interrupt_fit(SIGINT);
}

static void interrupted_by_term(void **state) {
    (void)state;
    interrupt_fit(SIGTERM);
}

/* 59: predict --out with rows that take a while. */
static void interrupted_predict(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    many_rows(folder, 20000);
    const char *argv[] = {"laplora",     "predict",
                          "--posterior", in_case(folder, "posterior"),
                          "--data",      in_case(folder, "many.jsonl"),
                          "--out",       in_case(folder, "out"),
                          "--quiet",     NULL};
    process p = process_start(argv);
    wait_ms(400);
    kill(p.pid, SIGTERM);
    check_stopped(&p, 143, folder);
}

/* 59: a server that waits for its next line. */
static void interrupted_stdin(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    const char *argv[] = {"laplora", "predict", "--posterior", in_case(folder, "posterior"),
                          "--stdin", "--quiet", NULL};
    process p = process_start(argv);
    wait_ms(300);
    kill(p.pid, SIGTERM);
    check_stopped(&p, 143, folder);
}

/* 58: whenever it is killed, the posterior is a whole one. */
static void killed(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    for (int i = 0; i < 30; i++) {
        const char *argv[] = {"laplora",   "fit",
                              "--base",    in_case(folder, "base"),
                              "--adapter", in_case(folder, "adapter"),
                              "--data",    in_case(folder, "calib.jsonl"),
                              "--out",     in_case(folder, "posterior"),
                              "--quiet",   NULL};
        process p = process_start(argv);
        wait_ms(2 + 3 * i);
        kill(p.pid, SIGKILL);
        process_finish(&p, 10);
        process_close(&p);
        command done = run_line(folder, "info @/posterior", NULL);
        if (done.code)
            fail_msg("after a kill in %d ms: %s", 2 + 3 * i, done.err);
        command_free(&done);
    }
}

/* ---- standard input, a line at a time ---- */

static char *next_line(process *p, char *line, size_t size) {
    size_t used = 0;
    while (used + 1 < size) {
        struct pollfd wait = {p->out, POLLIN, 0};
        if (poll(&wait, 1, 10000) != 1)
            fail_msg("no answer within 10 seconds: it is not flushed");
        if (read(p->out, line + used, 1) != 1)
            break;
        if (line[used++] == '\n')
            break;
    }
    line[used] = 0;
    return line;
}

static void ask(process *p, const char *question, bool answered, int64_t index) {
    char line[8192];
    assert_int_equal(write(p->in, question, strlen(question)), strlen(question));
    json_t *row = json_loads(next_line(p, line, sizeof line), 0, NULL);
    if (!row)
        fail_msg("no JSON for %s: %s", question, line);
    assert_int_equal(json_integer_value(json_object_get(row, "index")), index);
    assert_int_equal(json_is_array(json_object_get(row, "probs")), answered);
    assert_int_equal(json_is_string(json_object_get(row, "error")), !answered);
    json_decref(row);
}

static void answers_are_flushed(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_on_text(folder);
    const char *argv[] = {"laplora", "predict", "--posterior", in_case(folder, "posterior"),
                          "--stdin", "--quiet", "--skip-bad",  NULL};
    process p = process_start(argv);
    ask(&p, "a very good film\n", true, 0);
    ask(&p, "{\"text\":\"a very bad film\"}\n", true, 1);
    ask(&p, "{\"input_ids\":[2,4,3]}\n", true, 2);
    ask(&p, "{\"input_ids\":[2,400,3]}\n", false, 3);
    ask(&p, "{\"text\":\n", false, 4);
    ask(&p, "\"quoted\" text\r\n", true, 5);
    ask(&p, "\xff\xfe\n", false, 6);
    ask(&p, "films\n", true, 7);
    close(p.in);
    p.in = -1;
    assert_int_equal(process_finish(&p, 10), 0);
    process_close(&p);
}

/* A line and the same text as JSON get the same answer, and so does a file. */
static void stdin_as_file(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_on_text(folder);
    /* rows come in other batches: with these kernels a row's sums are the same in any */
    setenv("OPENBLAS_CORETYPE", "Sandybridge", 1);
    command plain = run_line(folder, "predict --posterior @/posterior --stdin --quiet",
                             "a very good film\nfilms\n");
    command json = run_line(folder, "predict --posterior @/posterior --stdin --quiet",
                            "{\"text\":\"a very good film\"}\n{\"text\":\"films\"}\n");
    command data = run_line(folder, "predict --posterior @/posterior --data - --quiet",
                            "{\"text\":\"a very good film\"}\n{\"text\":\"films\"}\n");
    assert_int_equal(plain.code | json.code | data.code, 0);
    assert_string_equal(plain.out, json.out);
    assert_string_equal(plain.out, data.out);
    command_free(&plain);
    command_free(&json);
    command_free(&data);
    unsetenv("OPENBLAS_CORETYPE");
    command empty = run_line(folder, "predict --posterior @/posterior --stdin --quiet", "");
    assert_int_equal(empty.code, 0);
    assert_string_equal(empty.out, "");
    command_free(&empty);
    command bad = run_line(folder, "predict --posterior @/posterior --stdin --quiet",
                           "good\n{\"text\":5}\ngood\n");
    const char *pieces[] = {"standard input:2:", "text"};
    check_message(&bad, 3, pieces, 2);
    /* rows answered before it stand */
    assert_non_null(strstr(bad.out, "\"index\":0"));
    command_free(&bad);
}

/* ---- outputs that fail ---- */

static void check_shell(const char *folder, const char *script, int code, const char *piece) {
    command done = run_shell(folder, script);
    const char *pieces[] = {piece};
    print_message("    %s\n", script);
    check_message(&done, code, pieces, 1);
    check_nothing_written(folder);
    command_free(&done);
}

#define FIT_SHELL                                                                                  \
    "\"$L\" fit --base $D/base --adapter $D/adapter --data $D/calib.jsonl --out $D/other --json "  \
    "--quiet "

/* 60: the answer cannot be written, so the run has failed. */
static void full_stdout(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    one_prediction(NULL, folder);
    check_shell(folder, FIT_SHELL "> /dev/full", 5, "output");
    check_shell(folder,
                "\"$L\" predict --posterior $D/posterior --data $D/test.jsonl --quiet "
                "> /dev/full",
                5, "output");
    check_shell(folder,
                "\"$L\" predict --posterior $D/posterior --data $D/test.jsonl --out "
                "$D/other --json --quiet > /dev/full",
                5, "output");
    check_shell(folder,
                "echo '{\"input_ids\":[5]}' | \"$L\" predict --posterior $D/posterior "
                "--stdin --quiet > /dev/full",
                5, "output");
    check_shell(folder, "\"$L\" report $D/p.jsonl > /dev/full", 5, "output");
    check_shell(folder, "\"$L\" info $D/posterior > /dev/full", 5, "output");
    check_shell(folder, "\"$L\" --help > /dev/full", 5, "output");
    check_shell(folder, "\"$L\" --version > /dev/full", 5, "output");
    check_shell(folder, "\"$L\" fit --help > /dev/full", 5, "output");
}

/* 60: the reader has gone, or stdout is closed. */
static void closed_stdout(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    one_prediction(NULL, folder);
    check_shell(folder, FIT_SHELL ">&-", 5, "output");
    check_shell(folder, "\"$L\" predict --posterior $D/posterior --data $D/test.jsonl --quiet >&-",
                5, "output");
    check_shell(folder, "\"$L\" report $D/p.jsonl >&-", 5, "output");
    check_shell(folder, "\"$L\" info $D/posterior >&-", 5, "output");
    check_shell(folder,
                "set -o pipefail; { sleep 0.3; exec \"$L\" predict --posterior $D/posterior --data "
                "$D/test.jsonl --quiet; } | true",
                5, "output");
    /* files opened in place of the closed ones must not take what is meant for people */
    command done = run_shell(folder, "\"$L\" predict --posterior $D/posterior --data $D/test.jsonl "
                                     "--out $D/closed <&- >&- 2>&-; echo $?");
    command same = run_shell(folder, "\"$L\" predict --posterior $D/posterior --data $D/test.jsonl "
                                     "--quiet | cmp - $D/closed");
    assert_int_equal(same.code, 0);
    command_free(&same);
    /* nothing was to go to stdout, and the file is whole */
    assert_string_equal(done.out, "0\n");
    command_free(&done);
}

/* 56: the disk takes no more. A limit on the size of a file stands in for it; the message goes
 * through a pipe, which has no such limit. */
static void disk_full(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    one_prediction(NULL, folder);
    static const int blocks[] = {0, 1, 4, 20, 60};
    char script[1024];
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        snprintf(script, sizeof script,
                 "m=$( (ulimit -f %d; exec \"$L\" fit --base $D/base --adapter $D/adapter --data "
                 "$D/calib.jsonl --out $D/out --quiet 2>&1) ); c=$?; echo \"$m\" >&2; exit $c",
                 blocks[i]);
        check_shell(folder, script, 5, "/out");
    }
    for (int i = 0; i < 2; i++) {
        snprintf(script, sizeof script,
                 "m=$( (ulimit -f %d; exec \"$L\" predict --posterior $D/posterior --data "
                 "$D/test.jsonl --out $D/out --emit logits,cov --quiet 2>&1) ); c=$?; echo \"$m\" "
                 ">&2; exit $c",
                 blocks[i]);
        check_shell(folder, script, 5, "/out");
    }
    check_shell(folder,
                "m=$( (ulimit -f 0; exec \"$L\" report $D/p.jsonl --out $D/out --format html 2>&1) "
                "); c=$?; echo \"$m\" >&2; exit $c",
                5, "/out");
}

/* ---- posteriors that changed ---- */

/* 61: a flipped bit is found, or it changed nothing; it is never a crash and never another answer.
 */
static void flipped_bits(void **state) {
    (void)state;
    static const char predict[] = "predict --posterior @/flipped --data @/test.jsonl --samples 0 "
                                  "--emit logits,cov --threads 1 --quiet";
    const char *folder = open_case("bert");
    fit_case(folder);
    size_t length;
    char *data = read_file(in_case(folder, "posterior"), &length);
    write_file(in_case(folder, "flipped"), data, length);
    command want = run_line(folder, predict, NULL);
    assert_int_equal(want.code, 0);
    enum { FLIPS = 250 };
    int unnoticed = 0, odd = 0;
    for (int i = 0; i < FLIPS; i++) {
        size_t at = (size_t)i * 2654435761u % length;
        data[at] ^= (char)(1 << i % 8);
        write_file(in_case(folder, "flipped"), data, length);
        data[at] ^= (char)(1 << i % 8);
        command done = run_line(folder, predict, NULL);
        bool refused = done.code == 3 || done.code == 4 || done.code == 7;
        if (!refused && done.code)
            print_message("    byte %zu, bit %d: exit code %d %.200s\n", at, i % 8, done.code,
                          done.err),
                odd++;
        else if (!refused && strcmp(done.out, want.out))
            print_message("    byte %zu, bit %d: another answer, exit code 0\n", at, i % 8),
                unnoticed++;
        command_free(&done);
    }
    free(data);
    command_free(&want);
    if (unnoticed || odd)
        fail_msg("of %d flipped bits %d changed the answer unnoticed, %d had another exit code",
                 (int)FLIPS, unnoticed, odd);
}

/* 66: two fits into one file, and a reader meanwhile. */
static void two_writers(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    const char *argv[] = {"laplora",   "fit",
                          "--base",    in_case(folder, "base"),
                          "--adapter", in_case(folder, "adapter"),
                          "--data",    in_case(folder, "calib.jsonl"),
                          "--out",     in_case(folder, "posterior"),
                          "--quiet",   NULL};
    process one = process_start(argv), two = process_start(argv);
    for (int i = 0; i < 10; i++) {
        command done = run_line(folder, "info @/posterior", NULL);
        assert_int_equal(done.code, 0);
        command_free(&done);
    }
    assert_int_equal(process_finish(&one, 20), 0);
    assert_int_equal(process_finish(&two, 20), 0);
    process_close(&one);
    process_close(&two);
    command done = run_line(folder, PREDICT_ON("posterior"), NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
}

/* 62: the folders moved, so the options say where they are; the content is the same. */
static void moved_folders(void **state) {
    (void)state;
    const char *folder = open_case("bert");
    fit_case(folder);
    rename(in_case(folder, "base"), in_case(folder, "base2"));
    command done = run_line(folder, PREDICT, NULL);
    const char *pieces[] = {"/base", "--base"};
    check_message(&done, 3, pieces, 2);
    check_nothing_written(folder);
    command_free(&done);
    done = run_line(folder, PREDICT " --base @/base2", NULL);
    assert_int_equal(done.code, 0);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest more[] = {
        cmocka_unit_test(interrupted_by_int),
        cmocka_unit_test(interrupted_by_term),
        cmocka_unit_test(interrupted_predict),
        cmocka_unit_test(interrupted_stdin),
        cmocka_unit_test(killed),
        cmocka_unit_test(answers_are_flushed),
        cmocka_unit_test(stdin_as_file),
        cmocka_unit_test(full_stdout),
        cmocka_unit_test(closed_stdout),
        cmocka_unit_test(disk_full),
        cmocka_unit_test(flipped_bits),
        cmocka_unit_test(two_writers),
        cmocka_unit_test(moved_folders),
    };
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    int failed = run_faults("faulty runs", faults, sizeof faults / sizeof *faults);
    return failed + cmocka_run_group_tests_name("faulty runs, more", more, NULL, NULL);
}
