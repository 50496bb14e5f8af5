#include "base/machine.h"

#include <stdbool.h>
#include <stdint.h>
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

double la_processor_seconds(void) {
    struct timespec spent;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (double)spent.tv_sec + 1e-9 * (double)spent.tv_nsec;
}

size_t la_memory_peak(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %llu", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (size_t)kib << 10;
}

bool la_memory_peak_forget(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file)
        return false;
    bool written = fputs("5", file) >= 0;
    return !fclose(file) && written;
}

void la_processor_name(char name[LA_PROCESSOR_TEXT]) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[1024];
    *name = 0;
    while (file && !*name && fgets(line, sizeof line, file)) {
        const char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !value)
            continue;
        value += 1 + strspn(value + 1, " \t");
        snprintf(name, LA_PROCESSOR_TEXT, "%.*s", (int)strcspn(value, "\n"), value);
    }
    if (file)
        fclose(file);
}

bool la_library_find(const char *name, char path[PATH_MAX]) {
    static const char *const places[] = {"", "/../lib/laplora"};
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return false;
    program[length] = 0;
    *strrchr(program, '/') = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int n = snprintf(path, PATH_MAX, "%s%s/%s", program, places[i], name);
        if (n > 0 && n < PATH_MAX && !access(path, F_OK))
            return true;
    }
    return false;
}
