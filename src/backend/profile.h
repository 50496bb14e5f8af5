/* Where the time goes: a table that times every operation of another table. */
#ifndef LA_BACKEND_PROFILE_H
#define LA_BACKEND_PROFILE_H

#include "backend/ops.h"

/* Puts the timing table in front of the backend's own. */
la_status la_profile_start(la_backend *backend, la_error *err);
/* One line an operation, by falling time, to log->warn; total: the seconds that the shares are of.
 * Does nothing when the profile was not started. */
void la_profile_report(const la_backend *backend, double total, const la_log *log);
/* Frees the profile; the backend's own table is back. */
void la_profile_stop(la_backend *backend);

#endif
