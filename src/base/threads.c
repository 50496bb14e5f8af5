#include "base/threads.h"

#include <cblas.h>
#include <omp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int cgroup_quota(void) {
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (!file)
        return 0;
    long quota = 0, period = 0;
    int fields = fscanf(file, "%ld %ld", &quota, &period);
    fclose(file);
    if (fields != 2 || quota <= 0 || period <= 0)
        return 0;
    return (int)((quota + period - 1) / period);
}

int la_threads_available(void) {
    cpu_set_t set;
    int count = 1;
    if (!sched_getaffinity(0, sizeof set, &set))
        count = CPU_COUNT(&set);
    int quota = cgroup_quota();
    if (quota > 0 && quota < count)
        count = quota;
    return count > 0 ? count : 1;
}

int la_threads_set(int wanted) {
    int count = wanted > 0 ? wanted : la_threads_available();
    omp_set_num_threads(count);
    openblas_set_num_threads(count);
    return count;
}

int la_thread_number(void) {
    return omp_get_thread_num();
}

double la_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static volatile sig_atomic_t stop_signal;

static void on_stop(int number) {
    /* a second signal ends the program at once */
    if (stop_signal)
        _exit(128 + number);
    stop_signal = number;
}

static void on_bus_error(int number) {
    (void)number;
    static const char message[] =
        "laplora: error: an input file became shorter while it was being read (or its disk "
        "failed); expected it to stay unchanged; run again\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(LA_RESOURCE);
}

void la_signals_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, NULL);
    action.sa_handler = SIG_IGN;
    /* writes then fail with EPIPE or EFBIG, and are reported like any other */
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

int la_interrupted(void) {
    return stop_signal;
}

la_status la_check_interrupt(la_error *err) {
    if (!stop_signal)
        return LA_OK;
    return la_fail(err, LA_INTERRUPTED, "interrupted by signal %d; nothing was written",
                   (int)stop_signal);
}
