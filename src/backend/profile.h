/* Where the time goes: a table that times every operation of another table. */
#ifndef LA_BACKEND_PROFILE_H
#define LA_BACKEND_PROFILE_H

#include "backend/ops.h"

/* Puts the timing table in front of the backend's own. */
la_status la_profile_start(la_backend *backend, la_error *err);
/* One line an operation, by falling time, to log->warn; total: the seconds that the shares are of.
 * Does nothing when the profile was not started. */
void la_profile_report(const la_backend *backend, double total, const la_log *log);
/* An operation that was called. */
typedef struct la_profile_op {
    const char *name;
    bool product; /* its time is that of products */
    double seconds;
    double flops; /* of those products: two for each multiplication and addition; of row_outer on
                     the host alone */
    int64_t calls;
} la_profile_op;
enum { LA_PROFILE_OPS = 64 };
/* ops: those that were called, by falling time. Returns how many; 0 where the profile was not
 * started. */
int la_profile_ops(const la_backend *backend, la_profile_op ops[LA_PROFILE_OPS]);
/* Frees the profile; the backend's own table is back. */
void la_profile_stop(la_backend *backend);

#endif
