/* Requests to stop: of the user by a signal, for the whole process, and its end where the work does
 * not ask in time; of a host program, for one call (la_stop). */
#ifndef LA_BASE_STOP_H
#define LA_BASE_STOP_H

#include "base/error.h"

#include <stdbool.h>

/* Called by main only. SIGINT, SIGTERM and SIGHUP set a flag that la_interrupted reads, so that the
 * work ends where it asks next; if it has not within a second, in a library's call of minutes or a
 * blocked read, or at the second signal, the process ends at once, its temporary files removed,
 * exit code 128 + signal; work that was never saved before may take five seconds. What the caller
 * has ignored (nohup) stays so. A file that shrinks while mapped (SIGBUS) ends the program with
 * exit code 5 and a message. */
void la_stop_install(void);
/* 0, or the signal that asked us to stop. */
int la_interrupted(void);
/* Stop of the host that this thread's work asks from now on; returns the one before, to be set
 * again at the end. Threads that work for the call are given the caller's (la_workers_run). */
la_stop la_stop_set(la_stop stop);
la_stop la_stop_current(void);
/* LA_INTERRUPTED once a signal came, or the host's stop says so. */
la_status la_check_interrupt(la_error *err);
/* True once: its caller reports the stop. */
bool la_stop_first_report(void);

typedef enum la_saved {
    LA_SAVED,      /* or there is nothing to save */
    LA_SAVE_AGAIN, /* the work is being changed: to be asked again shortly, a few times */
    LA_SAVE_FIRST  /* the same, and nothing was saved before: worth a later end */
} la_saved;

/* What saves work when a signal ends the process in the midst of it. Called in a signal handler,
 * on any thread: system calls and atomics alone, half a second at most (five the first time). */
typedef struct la_stop_saver {
    la_saved (*save)(void *user);
    void *user;
} la_stop_saver;
/* The one saver of the process, which must stay; NULL: none, and none is at work when it returns.
 */
void la_stop_save(const la_stop_saver *saver);

/* malloc for a library that is not to be gone on with once it lacks memory: jansson then loses keys
 * or bytes, or ends the process with a message of its own. Ends the program like a second signal,
 * with one line and LA_RESOURCE. For the program alone, never within a host's. */
void *la_malloc_or_end(size_t size);

#endif
