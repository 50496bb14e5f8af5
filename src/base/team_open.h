/* A team whose threads are there: OpenMP ends the process where a thread cannot be created, and
 * OpenBLAS waits forever where its memory cannot be had. Both are tried first. */
#ifndef LA_BASE_TEAM_OPEN_H
#define LA_BASE_TEAM_OPEN_H

#include "base/team.h"

#include <stdbool.h>

/* A team of wanted threads (0: of la_threads_available) for regions of the calling thread, created
 * now. With products each gets OpenBLAS's buffer as well. Where fewer can be had: LA_RESOURCE if
 * they were asked for by number, else a smaller team and a note, as results do not depend on it. */
la_status la_team_open(int wanted, bool products, const la_log *log, la_team *team, la_error *err);

/* Gives back the buffers of a team that was opened with products. */
void la_team_close(la_team *team);

#endif
