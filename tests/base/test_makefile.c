/* Questions before make acts: packages are never installed unasked, and nvcc is run once or not at
 * all. Stand-ins for dpkg, apt-get, sudo, id and nvcc record how they were called. */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char calls[4096], tools[4096];

static void stand_in(const char *name, const char *script) {
    char path[4200], text[4600];
    snprintf(path, sizeof path, "%s/%s", tools, name);
    snprintf(text, sizeof text, "#!/bin/sh\n%s", script);
    write_file(path, text, strlen(text));
    assert_int_equal(chmod(path, 0755), 0);
}

static void log_calls(const char *name, const char *more) {
    char script[4400];
    snprintf(script, sizeof script, "echo \"%s $*\" >>'%s'\n%s", name, calls, more);
    stand_in(name, script);
}

static int prepare(void **state) {
    (void)state;
    char path[8192];
    snprintf(calls, sizeof calls, "%s", scratch("calls"));
    snprintf(tools, sizeof tools, "%s", scratch("tools"));
    mkdir(tools, 0777);
    snprintf(path, sizeof path, "%s:%s", tools, getenv("PATH"));
    setenv("PATH", path, 1);
    /* variables of the make that runs the tests */
    static const char *const variables[] = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "YES",
                                            "CI",        "NVCC",   "CUDA",      "BUILD"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    stand_in("dpkg", "echo 'Status: deinstall ok config-files'\n");
    log_calls("apt-get", "");
    log_calls("sudo", "exec \"$@\"\n");
    log_calls("nvcc", "echo compute_80\necho compute_90\n");
    return access("Makefile", R_OK);
}

static void user_is(const char *number) {
    char script[64];
    snprintf(script, sizeof script, "echo %s\n", number);
    stand_in("id", script);
}

/* The calls since the last time. */
static const char *called(void) {
    static char text[16384];
    *text = 0;
    if (!access(calls, R_OK)) {
        size_t length;
        char *read = read_file(calls, &length);
        snprintf(text, sizeof text, "%s", read);
        free(read);
        unlink(calls);
    }
    return text;
}

static command make(const char *target, const char *variable) {
    const char *argv[] = {"make", "CUDA=0", target, variable, NULL};
    return run_command(argv, "y\ny\n");
}

static void check_refused(command done, const char *piece) {
    if (done.code == 0 || *called() || !strstr(done.out, piece) || !strstr(done.out, "make deps"))
        fail_msg("code %d: %s%s", done.code, done.out, done.err);
    command_free(&done);
}

static void check_installed(command done, const char *first) {
    const char *all = called();
    assert_int_equal(done.code, 0);
    if (strncmp(all, first, strlen(first)) || !strstr(all, "install -y") ||
        !strstr(all, "libjansson-dev"))
        fail_msg("%s", all);
    /* it announces the installation first */
    assert_non_null(strstr(done.out, "not installed:"));
    assert_non_null(strstr(done.out, "libjansson-dev"));
    command_free(&done);
}

static void without_a_terminal(void **state) {
    (void)state;
    static const char *const targets[] = {"packages-test", "packages-demo"};
    for (size_t i = 0; i < 2; i++) {
        user_is("1000");
        check_refused(make(targets[i], NULL), "YES=1");
        check_installed(make(targets[i], "YES=1"), "sudo apt-get update");
        /* root in a container is not asked */
        user_is("0");
        check_installed(make(targets[i], NULL), "apt-get update");
    }
    user_is("1000");
    check_installed(make("deps", NULL), "sudo apt-get update");
    /* building alone never installs */
    user_is("0");
    check_refused(make("packages-build", "YES=1"), "make deps");
}

/* make on a terminal of its own, where `answer` is typed. */
static int on_terminal(const char *answer) {
    int master = posix_openpt(O_RDWR | O_NOCTTY), status;
    assert_true(master >= 0 && !grantpt(master) && !unlockpt(master));
    char name[256];
    snprintf(name, sizeof name, "%s", ptsname(master));
    pid_t child = fork();
    if (!child) {
        setsid();
        int slave = open(name, O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(slave, fd);
        execlp("make", "make", "CUDA=0", "packages-test", NULL);
        _exit(127);
    }
    assert_int_equal(write(master, answer, strlen(answer)), strlen(answer));
    /* the terminal's output has to be read until it closes */
    char shown[4096];
    while (read(master, shown, sizeof shown) > 0)
        ;
    waitpid(child, &status, 0);
    close(master);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void on_a_terminal(void **state) {
    (void)state;
    static const char *const users[] = {"0", "1000"};
    for (int i = 0; i < 2; i++) {
        user_is(users[i]);
        assert_int_not_equal(on_terminal("n\n"), 0);
        assert_string_equal(called(), "");
        assert_int_not_equal(on_terminal("\n"), 0);
        assert_string_equal(called(), "");
        assert_int_equal(on_terminal("y\n"), 0);
        assert_non_null(strstr(called(), i ? "sudo apt-get update" : "apt-get update"));
    }
}

static int times_called(const char *name) {
    int times = 0;
    size_t length = strlen(name);
    for (const char *at = called(); (at = strstr(at, name)); at += length)
        times++;
    return times;
}

static void nvcc_runs_once(void **state) {
    (void)state;
    stand_in("dpkg", "echo 'Status: install ok installed'\n");
    /* all recipes, in a folder where nothing is built */
    char folder[4200], nvcc[4200];
    snprintf(folder, sizeof folder, "BUILD=%s", scratch("build"));
    snprintf(nvcc, sizeof nvcc, "NVCC=%s/nvcc", tools);
    const char *with[] = {"make", "-n", "CUDA=1", folder, nvcc, "all", NULL};
    command done = run_command(with, NULL);
    assert_int_equal(done.code, 0);
    assert_int_equal(times_called("nvcc --list-gpu-arch"), 1);
    assert_non_null(strstr(done.out, "arch=compute_90,code=compute_90"));
    assert_non_null(strstr(done.out, "arch=compute_80,code=sm_80"));
    command_free(&done);
    static const char *const targets[] = {"all", "test-run", "demo-run", "help", "clean"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        const char *without[] = {"make", "-n", "CUDA=0", folder, nvcc, targets[i], NULL};
        done = run_command(without, NULL);
        assert_int_equal(done.code, 0);
        assert_int_equal(times_called("nvcc"), 0);
        command_free(&done);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_terminal),
        cmocka_unit_test(on_a_terminal),
        cmocka_unit_test(nvcc_runs_once),
    };
    return cmocka_run_group_tests_name("makefile", tests, prepare, NULL);
}
