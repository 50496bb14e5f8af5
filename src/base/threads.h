/* What this process may use of the machine, how long it took, and whether to stop. */
#ifndef LA_BASE_THREADS_H
#define LA_BASE_THREADS_H

#include "base/error.h"

/* Bytes this process can still take (free memory and caches, within its cgroup's limit), and the
 * most it could ever have. SIZE_MAX where the system does not tell. */
void la_memory_available(size_t *available, size_t *total);

/* Seconds on a clock that never goes back. */
double la_seconds(void);

/* Makes SIGINT and SIGTERM set a flag that la_interrupted reads, and a file that shrinks while
 * mapped (SIGBUS) end the program with exit code 5 and a message. Called by main only. */
void la_signals_install(void);
/* 0, or the signal that asked us to stop. */
int la_interrupted(void);
/* LA_INTERRUPTED once a signal came. */
la_status la_check_interrupt(la_error *err);

#endif
