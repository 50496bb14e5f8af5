/* tests/run: a program that does not end is stopped with its children, and is a failure; others
 * are counted as usual. */
#include "support/support.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char slow[4096], quick[4096], number[4096];

static void write_program(const char *path, const char *script) {
    char text[8300];
    snprintf(text, sizeof text, "#!/bin/sh\n%s", script);
    write_file(path, text, strlen(text));
    assert_int_equal(chmod(path, 0755), 0);
}

static int prepare(void **state) {
    (void)state;
    char script[8192];
    snprintf(slow, sizeof slow, "%s", scratch("slow"));
    snprintf(quick, sizeof quick, "%s", scratch("quick"));
    snprintf(number, sizeof number, "%s", scratch("number"));
    snprintf(script, sizeof script,
             "echo '[       OK ] before'\nsleep 600 &\necho $! >'%s'\nwait\n", number);
    write_program(slow, script);
    write_program(quick, "echo '[       OK ] a'\necho '[       OK ] b'\n");
    return 0;
}

static command run_programs(const char *seconds) {
    setenv("TEST_SECONDS", seconds, 1);
    const char *argv[] = {"tests/run", slow, quick, NULL};
    return run_command(argv, NULL);
}

/* Whether the process runs whose number the file holds; a zombie has no command line. */
static bool is_running(const char *file) {
    size_t length;
    char path[64], *pid = read_file(file, &length), line[64] = "";
    snprintf(path, sizeof path, "/proc/%ld/cmdline", strtol(pid, NULL, 10));
    free(pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool runs = fgets(line, sizeof line, f) && strstr(line, "sleep");
    fclose(f);
    return runs;
}

static void endless_program(void **state) {
    (void)state;
    command done = run_programs("1");
    char failed[4200];
    snprintf(failed, sizeof failed, "failed: %s\n", slow);
    if (done.code != 1 || !strstr(done.out, failed) ||
        !strstr(done.out, "slow was stopped after TEST_SECONDS=1\n") ||
        !strstr(done.out, "\n3 passed, 1 failed\n"))
        fail_msg("code %d: %s%s", done.code, done.out, done.err);
    assert_false(is_running(number));
    command_free(&done);
}

/* A program that fails by itself, in time, is not reported as stopped. */
static void failing_program(void **state) {
    (void)state;
    write_program(slow, "exit 124\n");
    command done = run_programs("60");
    if (done.code != 1 || strstr(done.out, "stopped") ||
        !strstr(done.out, "\n2 passed, 1 failed\n"))
        fail_msg("code %d: %s%s", done.code, done.out, done.err);
    command_free(&done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_program),
        cmocka_unit_test(failing_program),
    };
    return cmocka_run_group_tests_name("runner of the tests", tests, prepare, NULL);
}
