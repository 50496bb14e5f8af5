#include "base/numbers.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool la_integer_parse(const char *text, int64_t *value) {
    const char *digits = text + (*text == '-' || *text == '+');
    if (!*digits || digits[strspn(digits, "0123456789")])
        return false;
    errno = 0;
    *value = strtoll(text, NULL, 10);
    return !errno;
}

/* strtod takes more than this: blanks, "0x1p3", "nan", "infinity". The locale is never set. */
bool la_number_parse(const char *text, double *value) {
    char *end;
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return false;
    *value = strtod(text, &end);
    return end != text && !*end && isfinite(*value);
}
