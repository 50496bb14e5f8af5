#include "base/error.h"
#include "base/visible.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A message is one line that shows whatever bytes a file name or a cell held; where it is too long,
 * the cut leaves no half of a character. */
static void format_line(char *line, size_t size, const char *format, va_list args) {
    char raw[2048];
    size_t tail = 0;
    int wanted = vsnprintf(raw, sizeof raw, format, args);
    if (wanted >= (int)sizeof raw) {
        size_t length = sizeof raw - 1;
        while (tail < 3 && ((unsigned char)raw[length - 1 - tail] & 0xc0) == 0x80)
            tail++;
        if ((unsigned char)raw[length - 1 - tail] >= 0xc0)
            raw[length - 1 - tail] = 0;
    }
    la_visible(raw, line, size);
}

la_status la_fail(la_error *err, la_status status, const char *format, ...) {
    if (err->status != LA_OK)
        return err->status;
    err->status = status;
    va_list args;
    va_start(args, format);
    format_line(err->message, sizeof err->message, format, args);
    va_end(args);
    return status;
}

la_status la_error_prefix(la_error *err, const char *format, ...) {
    la_error kept = *err;
    char prefix[sizeof kept.message];
    va_list args;
    va_start(args, format);
    format_line(prefix, sizeof prefix, format, args);
    va_end(args);
    *err = (la_error){0};
    return la_fail(err, kept.status, "%s%s", prefix, kept.message);
}

void la_warn(const la_log *log, const char *format, ...) {
    if (!log || !log->warn)
        return;
    char message[1024];
    va_list args;
    va_start(args, format);
    format_line(message, sizeof message, format, args);
    va_end(args);
    log->warn(log->user, message);
}

const char *la_errno_text(int code) {
    static _Thread_local char buffer[128];
    return strerror_r(code, buffer, sizeof buffer);
}

la_status la_errno_status(int code) {
    static const int resources[] = {ENOMEM, EMFILE, ENFILE, EIO, EAGAIN, EINTR, ENOBUFS};
    for (size_t i = 0; i < sizeof resources / sizeof *resources; i++)
        if (code == resources[i])
            return LA_RESOURCE;
    return LA_BAD_INPUT;
}
