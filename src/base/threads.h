/* What this process may use of the machine, and how long it took. */
#ifndef LA_BASE_THREADS_H
#define LA_BASE_THREADS_H

#include <stddef.h>

/* Bytes this process can still take (free memory and caches, within its cgroup's limit), and the
 * most it could ever have. SIZE_MAX where the system does not tell. */
void la_memory_available(size_t *available, size_t *total);

/* Seconds on a clock that never goes back. */
double la_seconds(void);

#endif
