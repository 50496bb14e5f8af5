#include "base/error.h"

#include <stdio.h>
#include <string.h>

la_status la_fail(la_error *err, la_status status, const char *format, ...) {
    if (err->status != LA_OK)
        return err->status;
    err->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    /* the cut at the buffer's end leaves no half of a character */
    size_t length = strlen(err->message), tail = 0;
    if (length == sizeof err->message - 1) {
        while (tail < 4 && tail < length &&
               ((unsigned char)err->message[length - 1 - tail] & 0xc0) == 0x80)
            tail++;
        if (tail < length && (unsigned char)err->message[length - 1 - tail] >= 0xc0)
            err->message[length - 1 - tail] = 0;
    }
    /* a message is one line, whatever bytes a file name or a cell held */
    for (char *c = err->message; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    return status;
}

void la_warn(const la_log *log, const char *format, ...) {
    if (!log || !log->warn)
        return;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    log->warn(log->user, message);
}

const char *la_errno_text(int code) {
    static _Thread_local char buffer[128];
    return strerror_r(code, buffer, sizeof buffer);
}
