#include "base/team.h"
#include "base/memory.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

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

la_team la_team_of(int wanted) {
    int threads = wanted > 0 ? wanted : la_threads_available();
    return (la_team){.threads = threads < LA_TEAM_MOST ? threads : LA_TEAM_MOST};
}

void la_team_gather(la_team team) {
#pragma omp parallel num_threads(team.threads)
    { /* nothing to do but to be there */
    }
}

/* ---- slices ---- */

/* A line of the cache more than its bytes, so that no two threads write to one. */
static size_t rounded(size_t each) {
    return each > SIZE_MAX - 127 ? SIZE_MAX : (each + 127) & ~(size_t)63;
}

size_t la_slices_bytes(la_team team, size_t each) {
    size_t bytes;
    each = rounded(each);
    return __builtin_mul_overflow(each, (size_t)team.threads, &bytes) ? SIZE_MAX : bytes;
}

la_status la_slices_open(la_team team, size_t each, la_slices *slices, la_error *err) {
    *slices = la_slices_in(la_alloc((size_t)team.threads, rounded(each), err), each);
    return slices->memory ? LA_OK : err->status;
}

la_slices la_slices_in(void *memory, size_t each) {
    return (la_slices){.memory = memory, .each = rounded(each)};
}

void *la_slices_own(const la_slices *slices) {
    return slices->memory + slices->each * (size_t)omp_get_thread_num();
}

/* ---- BLAS ---- */

int la_alone_begin(void) {
    int before = omp_get_max_threads();
    if (before != 1)
        omp_set_num_threads(1);
    return before;
}

void la_alone_end(int before) {
    if (before != 1)
        omp_set_num_threads(before);
}

bool la_openmp_is(const void *address) {
    int (*there)(void), before = omp_get_max_threads();
    if (!address)
        return false;
    memcpy(&there, &address, sizeof there);
    omp_set_num_threads(before + 1);
    bool follows = there() == before + 1;
    omp_set_num_threads(before);
    return follows && there() == before;
}
