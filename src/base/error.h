/* Errors are values: a function returns a la_status and fills a la_error; only main turns it into
 * an exit code.
 *
 * Idiom:
 *   - The first error wins. la_fail on an err that holds one leaves it, so that cleanup may fail
 *     too without hiding why it runs. An err is zeroed where a call chain begins.
 *   - LA_TRY returns at once, from functions that own nothing yet. Those that own something release
 *     it in one place at the end: LA_TRY_DONE jumps there, to `done`.
 *   - A status must be looked at (LA_CHECKED in laplora.h makes the compiler see to it). Where err
 *     itself is looked at next, as in functions that return a pointer, or where a failure changes
 *     nothing, (void) in front of the call says so.
 *   - A message names file, field or row, what was found and what was expected, and where it helps
 *     the next step: "rows.jsonl: row 7: label \"spam\", expected 0 to 3; see --labels". Who knows
 *     the row and not what was wrong with it adds it with la_error_prefix. */
#ifndef LA_BASE_ERROR_H
#define LA_BASE_ERROR_H

#include "laplora.h"

#include <stdarg.h>
#include <stddef.h>

/* Keeps the first error: a second la_fail on the same err leaves it as it is. Returns the status
 * kept. */
la_status la_fail(la_error *err, la_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts text in front of the error's message. Returns its status. */
la_status la_error_prefix(la_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Sends one line to log->warn where there is one. */
void la_warn(const la_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text of an errno, "No such file or directory" and the like, in a buffer of the thread. */
const char *la_errno_text(int code);
/* Status of a file that cannot be opened: LA_RESOURCE where the system had not enough of something,
 * else LA_BAD_INPUT, as the name is wrong. */
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
