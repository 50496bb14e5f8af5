#include "pipeline/ranks.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/numbers.h"
#include "base/stop.h"
#include "base/team.h"
#include "pipeline/ranks_module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIBRARY "liblaplora_mpi.so"

static const la_mpi_module *mpi; /* NULL: one process alone */
static la_ranks here = {0, 1};
static bool one_of_many; /* processes that were to join, whether they did or not */

/* ---- beginning and end ---- */

/* Number of a launcher's variable; `absent` where it is none. */
static int64_t number_of(const char *name, int64_t absent) {
    int64_t value;
    const char *text = getenv(name);
    return text && la_integer_parse(text, &value) && value >= 0 && value <= INT32_MAX ? value
                                                                                      : absent;
}

/* Ranks and sizes as OpenMPI, MPICH and others of its kind tell them. */
static const char *const variables[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMI_RANK", "PMI_SIZE"}};

static la_ranks told(void) {
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        int64_t size = number_of(variables[i][1], 1);
        if (size > 1)
            return (la_ranks){(int)number_of(variables[i][0], 0), (int)size};
    }
    return (la_ranks){0, 1};
}

static void sleep_ms(long ms) {
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static la_status join(const la_ranks *wanted, la_error *err) {
    char path[PATH_MAX];
    if (!la_library_find(LIBRARY, path))
        return la_fail(
            err, LA_UNSUPPORTED,
            "started as one of %d processes of MPI, and this laplora was built without "
            "it; build with make MPI=1, or set LAPLORA_MPI=none for processes that do not "
            "belong together",
            wanted->size);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* MPI opens parts of itself */
    const la_mpi_module *module = library ? dlsym(library, "la_mpi_entry") : NULL;
    if (!module)
        return la_fail(err, LA_RESOURCE, "%s: cannot be loaded: %s", path, dlerror());
    if (module->abi != LA_MPI_ABI)
        return la_fail(err, LA_RESOURCE,
                       "%s: belongs to another build of laplora; build both again", path);
    mpi = module;
    mpi->open(&here.rank, &here.size);
    if (here.size != wanted->size)
        return la_fail(err, LA_RESOURCE,
                       "%s: sees %d processes, and the launcher has started %d: they are not of "
                       "the same MPI; build with that of the launcher",
                       path, here.size, wanted->size);
    /* the one line about a stop is rank 0's */
    if (here.rank)
        (void)la_stop_first_report();
    return LA_OK;
}

la_status la_ranks_open(la_ranks *ranks, la_error *err) {
    la_ranks wanted = told();
    const char *given = getenv("LAPLORA_MPI");
    if (wanted.size > 1 && !mpi && !(given && !strcmp(given, "none"))) {
        one_of_many = true;
        here.rank = wanted.rank; /* one of them speaks, also where they cannot join */
        LA_TRY(join(&wanted, err));
    }
    *ranks = here;
    return LA_OK;
}

int la_ranks_threads(const la_ranks *ranks, int wanted) {
    int64_t beside = number_of("OMPI_COMM_WORLD_LOCAL_SIZE", 1);
    int all = la_threads_available();
    if (wanted || ranks->size == 1 || beside < 2 || all < sysconf(_SC_NPROCESSORS_ONLN))
        return wanted; /* a launcher that binds processes has divided the processors */
    return all / beside > 1 ? (int)(all / beside) : 1;
}

void la_ranks_before_report(int code) {
    if (!code || !one_of_many || !here.rank)
        return;
    sleep_ms(1000);
    if (!mpi)
        exit(code); /* rank 0 has said it */
}

int la_ranks_end(int code) {
    if (!mpi)
        return code;
    if (code)
        mpi->abort(code);
    mpi->barrier();
    mpi->close();
    return code;
}

void la_ranks_wait(void) {
    mpi->barrier();
}

/* ---- sums ---- */

/* data[n] of the rank that gets the sum; the others' come in their order, and its own in its place.
 */
static void receive_all(double *data, size_t n, double *own, double *theirs) {
    memcpy(own, data, n * sizeof *own);
    for (int r = 0; r < here.size; r++) {
        const double *from = r == here.rank ? own : theirs;
        if (r != here.rank)
            mpi->receive(r, theirs, n * sizeof *theirs);
        for (size_t i = 0; i < n; i++)
            data[i] = r ? data[i] + from[i] : from[i];
    }
}

void la_ranks_add(int to, double *data, size_t n, double *room) {
    for (size_t at = 0, count; at < n; at += count) {
        count = n - at < LA_RANKS_PIECE ? n - at : LA_RANKS_PIECE;
        if (here.rank == to)
            receive_all(data + at, count, room, room + LA_RANKS_PIECE);
        else
            mpi->send(to, data + at, count * sizeof *data);
    }
}

void la_ranks_broadcast(int from, void *data, size_t bytes) {
    mpi->broadcast(from, data, bytes);
}

la_peers la_ranks_peers(void) {
    return (la_peers){here.rank, here.size, mpi->broadcast};
}

/* ---- texts ---- */

typedef struct heading {
    int64_t number;
    uint64_t length;
} heading;

void la_ranks_send_text(int64_t number, const char *text, size_t length) {
    heading head = {number, length};
    mpi->send(0, &head, sizeof head);
    mpi->send(0, text, length);
}

la_status la_ranks_receive_text(int from, int64_t number, char **text, size_t *length,
                                la_error *err) {
    heading head;
    *text = NULL;
    mpi->receive(from, &head, sizeof head);
    if (head.number != number)
        return la_fail(err, LA_MISMATCH,
                       "process %d of %d has other rows, or makes other batches of them, than the "
                       "first; expected the same files and options everywhere",
                       from, here.size);
    *length = (size_t)head.length;
    *text = la_alloc(*length, 1, err);
    LA_TRY(err->status);
    mpi->receive(from, *text, *length);
    return LA_OK;
}
