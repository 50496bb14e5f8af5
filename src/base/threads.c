#include "base/threads.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A number of bytes in a file of its own; false for "max", or when there is no such file. */
static bool read_bytes(const char *path, size_t *out) {
    FILE *file = fopen(path, "r");
    unsigned long long value;
    if (!file)
        return false;
    bool found = fscanf(file, "%llu", &value) == 1;
    fclose(file);
    *out = (size_t)value;
    return found;
}

void la_memory_available(size_t *available, size_t *total) {
    *available = *total = SIZE_MAX;
    FILE *file = fopen("/proc/meminfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        unsigned long long kib;
        if (sscanf(line, "MemTotal: %llu", &kib) == 1)
            *total = (size_t)kib << 10;
        else if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            *available = (size_t)kib << 10;
    }
    if (file)
        fclose(file);
    size_t limit, used;
    if (!read_bytes("/sys/fs/cgroup/memory.max", &limit) || limit >= *total)
        return;
    *total = limit;
    if (read_bytes("/sys/fs/cgroup/memory.current", &used)) {
        size_t left = limit > used ? limit - used : 0;
        *available = left < *available ? left : *available;
    }
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
