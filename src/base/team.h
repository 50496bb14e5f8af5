/* Threads that work together. A team is passed from the caller that made it to every parallel
 * region beneath, as num_threads(team.threads): nothing asks the process how many threads there
 * are, and nothing sets it. A region may get fewer (inside a host's region, or under OMP_DYNAMIC),
 * never more. All that reads or sets the state of OpenMP is in team.c. */
#ifndef LA_BASE_TEAM_H
#define LA_BASE_TEAM_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct la_team {
    int threads; /* at least 1 */
} la_team;

enum { LA_TEAM_MOST = 4096 };

/* CPUs this process may use: the affinity mask and the cgroup's quota, whichever is less; at
 * least 1. */
int la_threads_available(void);
/* A team of wanted threads; 0: of la_threads_available(). */
la_team la_team_of(int wanted);

/* Has OpenMP create the threads of the calling thread's team now. */
void la_team_gather(la_team team);

/* Memory of which every thread of a team has a slice. */
typedef struct la_slices {
    char *memory;
    size_t each; /* bytes of a slice, a multiple of 64 */
} la_slices;

/* Bytes of the slices of a team, each of at least that many. SIZE_MAX where that overflows. */
size_t la_slices_bytes(la_team team, size_t each);
/* Zeroed slices; the caller frees slices->memory with free(). */
la_status la_slices_open(la_team team, size_t each, la_slices *slices, la_error *err);
/* Slices of at least each bytes in memory of la_slices_bytes, 64-byte aligned. */
la_slices la_slices_in(void *memory, size_t each);
/* The calling thread's slice, within a parallel region of the team that the slices are of. */
void *la_slices_own(const la_slices *slices);

/* Keeps OpenBLAS on the calling thread alone until la_alone_end, which takes what this returned. It
 * asks OpenMP for its number of threads at every call outside of parallel regions, and where it
 * finds another than before, it changes buffers that calls of other threads are using. */
int la_alone_begin(void);
void la_alone_end(int before);
/* Whether a library's omp_get_max_threads is the one that la_alone_begin sets. */
bool la_openmp_is(const void *address);

#endif
