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

/* Seconds of processor time that all threads of this process have taken. */
double la_processor_seconds(void);

/* The most memory that this process has held at once since it began, or since the peak was last
 * forgotten, in bytes; 0 where the system does not say. */
size_t la_memory_peak(void);
/* False where the system cannot forget it. */
bool la_memory_peak_forget(void);

/* Name of the processor as the system says it; "" where it does not. */
enum { LA_PROCESSOR_TEXT = 128 };
void la_processor_name(char name[LA_PROCESSOR_TEXT]);

/* Path of a shared library beside the program, or in ../lib/laplora of it; false: it is in neither
 * place. */
bool la_library_find(const char *name, char path[PATH_MAX]);

#endif
