/* A stop in every phase of the program: it ends soon, reports the stop, and leaves nothing
 * behind. No latency is asserted: without the deadline each of these phases lasts for minutes or
 * for ever. */
#include "support/faults.h"
#include "support/process.h"
#include "support/tensors.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORDS = 40, PATIENCE = 30 };

/* ---- cases ---- */

/* Every dimension of that size becomes another one, filled anew. */
static void widen(const char *path, json_int_t from, json_int_t to) {
    tensor_file file = tensors_read(path);
    uint32_t state = 1;
    for (size_t t = 0; t < file.n; t++) {
        tensor_bytes *tensor = &file.tensors[t];
        size_t count = 1;
        bool wide = false;
        for (size_t i = 0; i < json_array_size(tensor->shape); i++) {
            json_int_t size = json_integer_value(json_array_get(tensor->shape, i));
            wide |= size == from;
            size = size == from ? to : size;
            json_array_set_new(tensor->shape, i, json_integer(size));
            count *= (size_t)size;
        }
        if (!wide)
            continue;
        float *values = malloc(count * sizeof *values);
        for (size_t i = 0; i < count; i++) {
            state = state * 1664525u + 1013904223u;
            values[i] = (float)(state >> 8) / (1 << 24) * 0.1f - 0.05f;
        }
        free(tensor->data);
        tensor->data = (unsigned char *)values;
        tensor->length = count * sizeof *values;
    }
    tensors_write(&file, path);
    tensors_free(&file);
}

/* A layer so wide that its eigendecomposition, one call of LAPACK, takes minutes. */
static const char *open_wide(void) {
    const char *folder = open_case("bert-all-linear");
    fault config = {.file = "base/config.json", .a = "intermediate_size", .b = "9000"};
    widen(in_case(folder, "base/model.safetensors"), 46, 9000);
    widen(in_case(folder, "adapter/adapter_model.safetensors"), 46, 9000);
    set_key(&config, folder);
    return folder;
}

static const char *open_fitted(void) {
    const char *folder = open_case("bert");
    use_tokenizer(NULL, folder);
    fit_case(folder);
    return folder;
}

static void make_fifo(const char *folder, const char *name) {
    unlink(in_case(folder, name));
    assert_int_equal(mkfifo(in_case(folder, name), 0600), 0);
}

/* Temporary files of outputs that are written through go to TMPDIR. */
static char *usual_scratch;

static void use_own_scratch(const char *folder) {
    const char *path = in_case(folder, "tmp"), *usual = getenv("TMPDIR");
    usual_scratch = usual ? strdup(usual) : NULL;
    mkdir(path, 0700);
    setenv("TMPDIR", path, 1);
}

static void check_scratch_empty(const char *folder) {
    DIR *list = opendir(in_case(folder, "tmp"));
    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            fail_msg("%s is left in TMPDIR", entry->d_name);
    closedir(list);
    unsetenv("TMPDIR");
    if (usual_scratch)
        setenv("TMPDIR", usual_scratch, 1);
    free(usual_scratch);
}

/* ---- a run that is stopped ---- */

/* "@" is the folder. */
static process start(const char *folder, const char *line, int ignored) {
    static char text[8192];
    const char *argv[WORDS + 1] = {"laplora"};
    int n = 1;
    char *at = text;
    for (const char *c = line; *c; c += strspn(c, " ")) {
        assert_true(n < WORDS);
        argv[n++] = at;
        for (; *c && *c != ' '; c++)
            at += *c == '@' ? sprintf(at, "%s", folder) : sprintf(at, "%c", *c);
        *at++ = 0;
    }
    argv[n] = NULL;
    return process_start_ignoring(argv, ignored);
}

static void check_ended(process *p, int code, const char *folder) {
    static const char *const pieces[] = {"interrupted"};
    size_t length;
    command done = {.code = process_finish(p, PATIENCE), .err = NULL};
    done.err = read_file(p->err, &length);
    process_close(p);
    check_message(&done, code, pieces, 1);
    command_free(&done);
    check_nothing_written(folder);
    check_scratch_empty(folder);
}

static void stop(const char *folder, const char *line, int number) {
    use_own_scratch(folder);
    process p = start(folder, line, 0);
    wait_ms(1500);
    kill(p.pid, number);
    check_ended(&p, 128 + number, folder);
}

#define FIT_LINE                                                                                   \
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --prior 1 --threads 1 --quiet "
#define PREDICT_LINE "predict --posterior @/posterior --samples 10 --threads 1 --quiet "

static void eigendecomposition(void **state) {
    (void)state;
    const char *folder = open_wide();
    stop(folder, FIT_LINE "--curvature kron --out @/out", SIGINT);
    stop(folder, FIT_LINE "--curvature kron --out @/out", SIGTERM);
    stop(folder, FIT_LINE "--curvature ekfac --out @/out", SIGHUP);
}

/* The second signal is not waited with. */
static void twice(void **state) {
    (void)state;
    const char *folder = open_wide();
    use_own_scratch(folder);
    process p = start(folder, FIT_LINE "--curvature kron --out @/out", 0);
    wait_ms(1500);
    kill(p.pid, SIGTERM);
    wait_ms(20);
    kill(p.pid, SIGINT);
    int code = process_finish(&p, PATIENCE);
    if (code != 128 + SIGINT && code != 128 + SIGTERM)
        fail_msg("exit code %d", code);
    process_close(&p);
    check_nothing_written(folder);
    check_scratch_empty(folder);
}

/* A FIFO without a process at its other end, for each file that is read and each that is
 * written. */
static void blocked_open(void **state) {
    (void)state;
    static const struct {
        const char *fifo, *line;
    } rows[] = {
        {"base/config.json", FIT_LINE "--out @/out"},
        {"base/tokenizer.json", "tokenize --base @/base --data @/test.jsonl --quiet --out @/out"},
        {"adapter/adapter_config.json", FIT_LINE "--out @/out"},
        {"calib.jsonl", FIT_LINE "--out @/out"},
        {"test.jsonl", PREDICT_LINE "--data @/test.jsonl --out @/out"},
        {"rows.jsonl", "report @/rows.jsonl --out @/out --quiet"},
        {"through", FIT_LINE "--out @/through"},
        {"through", PREDICT_LINE "--data @/calib.jsonl --out @/through"},
        {"through", "tokenize --base @/base --data @/calib.jsonl --out @/through --quiet"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *folder = open_fitted();
        make_fifo(folder, rows[i].fifo);
        stop(folder, rows[i].line, i % 2 ? SIGINT : SIGTERM);
    }
}

/* Standard input that says nothing. */
static void blocked_read(void **state) {
    (void)state;
    const char *folder = open_fitted();
    stop(folder, PREDICT_LINE "--data - --out @/out", SIGTERM);
    stop(folder, PREDICT_LINE "--stdin", SIGINT);
    stop(folder, "tokenize --base @/base --data - --out @/out --quiet", SIGHUP);
    stop(folder, "fit --base @/base --adapter @/adapter --data - --out @/out --quiet", SIGTERM);
    stop(folder, "report - --out @/out --quiet", SIGINT);
}

/* More rows than a pipe holds. */
static void add_rows(const char *folder) {
    size_t length;
    char *rows = read_file(in_case(folder, "test.jsonl"), &length);
    FILE *file = fopen(in_case(folder, "many.jsonl"), "wb");
    for (int i = 0; i < 500; i++)
        fwrite(rows, 1, length, file);
    fclose(file);
    free(rows);
}

/* A reader that takes nothing: of standard output, of a FIFO, of a whole file sent through one. */
static void blocked_write(void **state) {
    (void)state;
    const char *folder = open_fitted();
    add_rows(folder);
    stop(folder, PREDICT_LINE "--data @/many.jsonl", SIGTERM);
    stop(folder, "tokenize --base @/base --data @/many.jsonl --quiet", SIGINT);
    make_fifo(folder, "through");
    int deaf = open(in_case(folder, "through"), O_RDONLY | O_NONBLOCK);
    assert_true(deaf >= 0);
    stop(folder, PREDICT_LINE "--data @/many.jsonl --out @/through", SIGHUP);
    close(deaf);
    deaf = open(in_case(folder, "through"), O_RDWR);
    char filling[4096] = {0};
    int flags = fcntl(deaf, F_GETFL);
    fcntl(deaf, F_SETFL, flags | O_NONBLOCK);
    while (write(deaf, filling, sizeof filling) > 0)
        ;
    stop(folder, FIT_LINE "--out @/through", SIGTERM);
    close(deaf);
}

/* Standard error without a reader, too. */
static void blocked_message(void **state) {
    (void)state;
    const char *folder = open_wide();
    check_script(folder, "mkfifo $D/err; exec 3<> $D/err;"
                         "timeout 60 dd if=/dev/zero of=/dev/fd/3 bs=4096 count=1024 "
                         "oflag=nonblock 2> /dev/null;"
                         "\"$L\" fit --base $D/base --adapter $D/adapter --data $D/calib.jsonl "
                         "--prior 1 --threads 1 --out $D/out --quiet 2>&3 & p=$!; sleep 1.5;"
                         "(sleep 30; kill -KILL $p) > /dev/null 2>&1 3>&- & w=$!;"
                         "kill -TERM $p; wait $p; code=$?; kill $w; [ $code = 143 ]");
    check_nothing_written(folder);
}

/* nohup: what the caller ignores does not stop the run. */
static void ignored(void **state) {
    (void)state;
    const char *folder = open_fitted();
    use_own_scratch(folder);
    process p = start(folder, PREDICT_LINE "--data -", SIGHUP);
    wait_ms(1000);
    kill(p.pid, SIGHUP);
    wait_ms(1500);
    static const char row[] = "{\"input_ids\":[3,4,5]}\n";
    assert_int_equal(write(p.in, row, sizeof row - 1), sizeof row - 1);
    close(p.in);
    p.in = -1;
    char answer[4096];
    assert_true(read(p.out, answer, sizeof answer) > 0);
    assert_int_equal(process_finish(&p, PATIENCE), 0);
    process_close(&p);
    check_scratch_empty(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigendecomposition),
        cmocka_unit_test(twice),
        cmocka_unit_test(blocked_open),
        cmocka_unit_test(blocked_read),
        cmocka_unit_test(blocked_write),
        cmocka_unit_test(blocked_message),
        cmocka_unit_test(ignored),
    };
    return cmocka_run_group_tests_name("stops", tests, NULL, NULL);
}
