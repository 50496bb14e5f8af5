/* Missing memory: under a limit of the address space, and with single allocations that fail
 * (failing_memory.c, loaded before the program). A command then gives the same answer, or ends with
 * exit code 5 and one line: no hang, no crash, no other answer. */
#include "support/faults.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECONDS = 20, COMMANDS = 9, OLDER_BYTES = 24 };

/* File that fit writes; a failed run leaves it unchanged. */
static const char older[OLDER_BYTES + 1] = "what was here before fit";

static const char *const lines[COMMANDS] = {
    "fit --base @/base --adapter @/adapter --data @/calib.jsonl --out @/new --quiet --threads 1",
    "predict --posterior @/posterior --data @/test.jsonl --quiet --threads 1",
    "predict --posterior @/posterior --data @/test.jsonl --quiet --threads 2",
    "report @/rows.jsonl --format json",
    "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl --methods "
    "map,kron,entropy --samples 20 --json --quiet --threads 1",
    "compare --base @/base --adapter @/adapter --calib @/calib.jsonl --test @/test.jsonl --methods "
    "map,diag --samples 20 --json --quiet --threads 2",
    "info @/adapter --json",
    "export --posterior @/posterior --to json",
    "tokenize --base @/../case-1/base --data @/../case-1/test.jsonl --quiet",
};

static const char *folder;

/* The program under a time limit, a limit that a shell sets, and with settings of its
 * environment. */
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
    write_file(in_case(folder, "new"), older, OLDER_BYTES);
    return run_command((const char *const[]){"/bin/sh", "-c", text, NULL}, NULL);
}

/* The file that fit writes, or the older one; the caller frees it. */
static char *written(size_t *length) {
    return read_file(in_case(folder, "new"), length);
}

typedef struct answer {
    command done;
    char *file;
    size_t length;
} answer;

static answer ask(const char *limit, const char *setting, const char *line) {
    answer a = {.done = run_under(limit, setting, line)};
    a.file = written(&a.length);
    /* times differ from run to run: their digits are taken out */
    for (char *at = a.done.out; (at = strstr(at, "\"seconds\":{"));) {
        char *to = at + strlen("\"seconds\":{"), *end = strchr(to, '}');
        if (end)
            memmove(to, end, strlen(end) + 1);
        at = to;
    }
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
                a->length == whole->length && !memcmp(a->file, whole->file, a->length);
    bool refused = a->done.code == 5 && one_line(a->done.err) && a->length == OLDER_BYTES &&
                   !memcmp(a->file, older, OLDER_BYTES);
    if (!same && !refused)
        fail_msg("%s: exit code %d (124: no end), %s, \"%s\"", what, a->done.code,
                 a->done.code ? "no answer" : "another answer", a->done.err);
}

/* From what the loader needs at least (it ends the program by itself below). */
static void test_address_space(void **state) {
    static const int mib[] = {100, 160, 200, 230, 250, 265, 280, 300,  320,
                              340, 360, 400, 440, 470, 520, 600, 1000, 4000};
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
    char library[PROGRAM_PATH];
    (void)state;
    if (SANITIZED) {
        print_message("a sanitizer's allocator does not let itself be replaced\n");
        skip();
    }
    beside_this_program("failing_memory.so", library);
    for (int c = 0; c < COMMANDS; c++) {
        char before[8192], count_path[4096];
        snprintf(count_path, sizeof count_path, "%s", in_case(folder, "count"));
        snprintf(before, sizeof before, "LD_PRELOAD=%s LAPLORA_FAIL_COUNT=%s LAPLORA_FAIL_AT=0",
                 library, count_path);
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
                     "LD_PRELOAD=%s LAPLORA_FAIL_COUNT=%s LAPLORA_FAIL_AT=%ld "
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

/* Brackets as deep as jansson takes, and deeper, on a stack that is small. */
static void test_small_stack(void **state) {
    static const char *const files[] = {"base/config.json", "adapter/adapter_config.json",
                                        "base/tokenizer.json", "base/tokenizer_config.json",
                                        "calib.jsonl"};
    static const int depths[] = {1900, 100000};
    (void)state;
    if (SANITIZED) {
        print_message("a sanitizer's frames are too large for a small stack\n");
        skip();
    }
    answer whole = ask("", "", lines[0]), small = ask("ulimit -s 256;", "", lines[0]);
    check_answer("small stack", &small, &whole);
    assert_int_equal(small.done.code, 0);
    answer_free(&small);
    answer_free(&whole);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++)
        for (int d = 0; d < 2; d++) {
            const char *path = in_case(folder, files[f]);
            size_t n = (size_t)depths[d], length = 0;
            char *kept = access(path, F_OK) ? NULL : read_file(path, &length);
            char *text = malloc(2 * n + 8);
            assert_non_null(text);
            memcpy(text, "{\"a\":", 5);
            memset(text + 5, '[', n);
            memset(text + 5 + n, ']', n);
            strcpy(text + 5 + 2 * n, "}\n");
            write_file(path, text, 2 * n + 7);
            answer a = ask("ulimit -s 256;", "", lines[0]);
            if (kept)
                write_file(path, kept, length);
            else
                unlink(path);
            if (a.done.code != 3 || !one_line(a.done.err) || a.length != OLDER_BYTES)
                fail_msg("%s, %d deep: exit code %d, \"%s\"", files[f], depths[d], a.done.code,
                         a.done.err);
            answer_free(&a);
            free(kept);
            free(text);
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
                                       cmocka_unit_test(test_allocations),
                                       cmocka_unit_test(test_small_stack)};
    return cmocka_run_group_tests_name("memory", tests, set_up, NULL);
}
