#include "base/team_open.h"
#include "base/blas.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

/* Where threads that were started wait until all are. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
} gate;

static void *wait_at(void *at) {
    gate *g = at;
    pthread_mutex_lock(&g->lock);
    while (!g->open)
        pthread_cond_wait(&g->opened, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* Number of n threads beside the calling one that can exist at once. *code: why no more. */
static int threads_possible(int n, int *code) {
    gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
    pthread_t *threads = calloc((size_t)n + 1, sizeof *threads);
    int started = 0;
    *code = threads ? 0 : ENOMEM;
    while (!*code && started < n) {
        *code = pthread_create(&threads[started], NULL, wait_at, &g);
        started += !*code;
    }
    pthread_mutex_lock(&g.lock);
    g.open = true;
    pthread_cond_broadcast(&g.opened);
    pthread_mutex_unlock(&g.lock);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return started;
}

la_status la_team_open(int wanted, bool products, const la_log *log, la_team *team, la_error *err) {
    la_team whole = la_team_of(wanted);
    int code = ENOMEM, reserved = products ? la_blas_reserve(whole.threads) : whole.threads;
    *team = (la_team){.threads = reserved};
    if (team->threads > 1)
        team->threads = 1 + threads_possible(team->threads - 1, &code);
    if (products && team->threads < whole.threads && wanted > 0)
        la_blas_release(reserved);
    else if (products)
        la_blas_release(reserved - team->threads);
    if (!team->threads)
        return la_fail(err, LA_RESOURCE,
                       "out of memory: OpenBLAS needs %zu MiB of address space a thread; raise the "
                       "limit (ulimit -v)",
                       LA_BLAS_BUFFER >> 20);
    if (team->threads < whole.threads && wanted > 0)
        return la_fail(err, LA_RESOURCE,
                       "threads: %d of %d can be had: %s; raise the limit (ulimit -u, ulimit -v, "
                       "pids.max), or take fewer with --threads",
                       team->threads, whole.threads, la_errno_text(code));
    if (team->threads < whole.threads)
        la_warn(log, "%d of %d threads can be had: %s; going on with these", team->threads,
                whole.threads, la_errno_text(code));
    /* OpenMP keeps them from here on */
    la_team_gather(*team);
    return LA_OK;
}

void la_team_close(la_team *team) {
    la_blas_release(team->threads);
    *team = (la_team){0};
}
