/* How many threads, how long, and whether to stop. */
#ifndef LA_BASE_THREADS_H
#define LA_BASE_THREADS_H

#include "base/error.h"

/* CPUs this process may use: the affinity mask and the cgroup's quota, whichever is less; at
 * least 1. */
int la_threads_available(void);
/* Sets the number for OpenMP and OpenBLAS; 0 means la_threads_available(). Returns the number. */
int la_threads_set(int wanted);

/* This thread's number within a parallel region. */
int la_thread_number(void);

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
