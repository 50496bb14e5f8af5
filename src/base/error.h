/* Errors are values: a function returns a la_status and fills a la_error; only main turns it into
 * an exit code. */
#ifndef LA_BASE_ERROR_H
#define LA_BASE_ERROR_H

#include "laplora.h"

#include <stdarg.h>
#include <stddef.h>

/* Keeps the first error: a second la_fail on the same err leaves it as it is. Returns the status
 * kept. */
la_status la_fail(la_error *err, la_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Sends one line to log->warn where there is one. */
void la_warn(const la_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "name" or "no file" and the like from errno, thread-safe, into a static-per-thread buffer. */
const char *la_errno_text(int code);
/* Of a file that cannot be opened: LA_RESOURCE where the system had not enough of something, else
 * LA_BAD_INPUT, as the name is wrong. */
la_status la_errno_status(int code);

/* Returns from the calling function with the status when it is not LA_OK. */
#define LA_TRY(call)                                                                               \
    do {                                                                                           \
        la_status la_try_status_ = (call);                                                         \
        if (la_try_status_ != LA_OK)                                                               \
            return la_try_status_;                                                                 \
    } while (0)

/* For functions with things to release: sets `status` and jumps to `done`. */
#define LA_TRY_DONE(call)                                                                          \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != LA_OK)                                                                       \
            goto done;                                                                             \
    } while (0)

#endif
