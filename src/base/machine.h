/* Memory and clock of the machine, and where the program is. */
#ifndef LA_BASE_MACHINE_H
#define LA_BASE_MACHINE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Bytes this process can still take (free memory and caches, within its cgroup's limit), and the
 * most it could ever have. SIZE_MAX where the system does not say. */
void la_memory_available(size_t *available, size_t *total);

/* Seconds on a clock that never goes back. */
double la_seconds(void);

/* Path of a shared library beside the program, or in ../lib/laplora of it; false: it is in neither
 * place. */
bool la_library_find(const char *name, char path[PATH_MAX]);

#endif
