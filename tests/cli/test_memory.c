/* Memory that is not to be had: under a limit of the address space, and with single allocations that
 * fail (failing_memory.c, loaded before the program). A command then answers as ever, or ends with
 * exit code 5 and one line: no hang, no crash, no other answer. */
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { SECONDS = 20, COMMANDS = 6 };

static const char *const lines[COMMANDS] = {
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/new --quiet --threads 1",
    "predict --posterior @/posterior --data @/test.jsonl --quiet --threads 1",
    "predict --posterior @/posterior --data @/test.jsonl --quiet --threads 2",
    "report @/rows.jsonl --format json",
    "info @/adapter --json",
    "tokenize --base @/../case-1/base --data @/../case-1/test.jsonl --quiet",
};

static const char *folder;

/* The program under a time limit, a limit that a shell sets, and with settings of its environment. */
static command run_under(const char *limit, const char *setting, const char *line) {
    char text[8192], *at = text, *end = text + sizeof text;
    const char *program = getenv("LAPLORA");
    at += snprintf(at, (size_t)(end - at), "%s exec timeout %d env %s %s ", limit, SECONDS, setting,
                   program ? program : "build/laplora");
    for (const char *c = line; *c && at < end - 1024; c++)
        if (*c == '@')
            at += snprintf(at, (size_t)(end - at), "%s", folder);
        else
            *at++ = *c;
    *at = 0;
    unlink(in_case(folder, "new"));
    return run_command((const char *const[]){"/bin/sh", "-c", text, NULL}, NULL);
}

/* The file that fit writes, where it did; the caller frees it. */
static char *written(size_t *length) {
    const char *path = in_case(folder, "new");
    *length = 0;
    return access(path, F_OK) ? NULL : read_file(path, length);
}

typedef struct answer {
    command done;
    char *file;
    size_t length;
} answer;

static answer ask(const char *limit, const char *setting, const char *line) {
    answer a = {.done = run_under(limit, setting, line)};
    a.file = written(&a.length);
    return a;
}

static void answer_free(answer *a) {
    command_free(&a->done);
    free(a->file);
}

static bool one_line(const char *text) {
    const char *end = strchr(text, '\n');
    return !strncmp(text, "laplora: error: ", 16) && end && !end[1];
}

static void check_answer(const char *what, const answer *a, const answer *whole) {
    bool same = a->done.code == 0 && !strcmp(a->done.out, whole->done.out) &&
                a->length == whole->length &&
                (!a->length || !memcmp(a->file, whole->file, a->length));
    bool refused = a->done.code == 5 && one_line(a->done.err) && !a->file;
    if (!same && !refused)
        fail_msg("%s: exit code %d (124: no end), %s, \"%s\"", what, a->done.code,
                 a->done.code ? "no answer" : "another answer", a->done.err);
}

/* From what the loader needs at least (it ends the program by itself below). */
static void test_address_space(void **state) {
    static const int mib[] = {100, 160, 200, 230, 250, 280,  320, 360,
                              400, 440, 470, 520, 600, 1000, 4000};
    (void)state;
    if (SANITIZED) {
        print_message("a sanitizer's own memory does not fit under a limit of the address space\n");
        skip();
    }
    for (int c = 0; c < COMMANDS; c++) {
        answer whole = ask("", "", lines[c]);
        int answered = 0, refused = 0;
        assert_int_equal(whole.done.code, 0);
        for (size_t i = 0; i < sizeof mib / sizeof *mib; i++) {
            char before[64], what[256];
            snprintf(before, sizeof before, "ulimit -v %d;", mib[i] << 10);
            snprintf(what, sizeof what, "%d MiB, %s", mib[i], lines[c]);
            answer a = ask(before, "", lines[c]);
            check_answer(what, &a, &whole);
            answered += !a.done.code;
            refused += a.done.code == 5;
            answer_free(&a);
        }
        /* both ends of the sweep were seen */
        assert_true(answered > 0 && refused > 0);
        answer_free(&whole);
    }
}

/* A spread of the allocations: each alone, and each with all that follow. */
static void test_allocations(void **state) {
    enum { PLACES = 16 };
    const char *library = "build/tests/cli/failing_memory.so";
    (void)state;
    if (SANITIZED || access(library, R_OK)) {
        print_message("a sanitizer's allocator does not let itself be replaced\n");
        skip();
    }
    for (int c = 0; c < COMMANDS; c++) {
        char before[512], count_path[256];
        snprintf(count_path, sizeof count_path, "%s", in_case(folder, "count"));
        snprintf(before, sizeof before,
                 "LD_PRELOAD=$PWD/%s LAPLORA_FAIL_COUNT=%s LAPLORA_FAIL_AT=0", library, count_path);
        answer whole = ask("", before, lines[c]);
        size_t length;
        char *text = read_file(count_path, &length);
        long count = atol(text), refused = 0;
        free(text);
        assert_int_equal(whole.done.code, 0);
        print_message("%ld allocations: %s\n", count, lines[c]);
        assert_true(count > PLACES);
        for (int i = 0; i < 2 * PLACES; i++) {
            long place = 1 + (i / 2) * count / PLACES;
            char what[256];
            snprintf(before, sizeof before,
                     "LD_PRELOAD=$PWD/%s LAPLORA_FAIL_COUNT=%s LAPLORA_FAIL_AT=%ld "
                     "LAPLORA_FAIL_ON=%d",
                     library, count_path, place, i % 2);
            snprintf(what, sizeof what, "allocation %ld of %ld%s, %s", place, count,
                     i % 2 ? " and all after it" : "", lines[c]);
            answer a = ask("", before, lines[c]);
            check_answer(what, &a, &whole);
            refused += a.done.code == 5;
            answer_free(&a);
        }
        assert_true(refused > 0);
        answer_free(&whole);
    }
}

static int set_up(void **state) {
    (void)state;
    static char kept[1024];
    snprintf(kept, sizeof kept, "%s", open_case("bert"));
    folder = kept;
    fit_case(folder);
    command made = run_line(
        folder, "predict --posterior @/posterior --data @/calib.jsonl --out @/rows.jsonl", NULL);
    assert_int_equal(made.code, 0);
    command_free(&made);
    use_tokenizer(&(fault){0}, open_case("bert")); /* case-1 */
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_address_space),
                                       cmocka_unit_test(test_allocations)};
    return cmocka_run_group_tests_name("memory", tests, set_up, NULL);
}
