#include "support/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *program(void) {
    const char *name = getenv("LAPLORA");
    return name ? name : "build/laplora";
}

process process_start(const char *const *argv) {
    return process_start_ignoring(argv, 0);
}

process process_start_ignoring(const char *const *argv, int ignored) {
    process p;
    int in[2], out[2];
    snprintf(p.err, sizeof p.err, "%s", scratch("process-stderr.txt"));
    assert_int_equal(pipe(in) | pipe(out), 0);
    p.pid = fork();
    if (!p.pid) {
        /* whoever started the tests may have them ignored */
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        if (ignored)
            signal(ignored, SIG_IGN);
        dup2(in[0], 0);
        dup2(out[1], 1);
        int err = open(p.err, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(err, 2);
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        execv(program(), (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    p.in = in[1];
    p.out = out[0];
    signal(SIGPIPE, SIG_IGN);
    return p;
}

int process_finish(process *p, int seconds) {
    int status;
    for (int i = 0; i < seconds * 100; i++) {
        if (waitpid(p->pid, &status, WNOHANG) == p->pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    kill(p->pid, SIGKILL);
    waitpid(p->pid, &status, 0);
    return 124;
}

void process_close(process *p) {
    if (p->in >= 0)
        close(p->in);
    close(p->out);
}

void wait_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}
