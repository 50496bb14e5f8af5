/* Numbers that a user writes, on the command line and in gates: decimal, the whole text, finite. */
#ifndef LA_BASE_NUMBERS_H
#define LA_BASE_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

/* "12", "-3"; false for anything else: blanks, other bases, a number beyond 64 bits. */
bool la_integer_parse(const char *text, int64_t *value);
/* "0.5", "-3", "1e-4"; false for anything else: blanks, hexadecimal digits, nan, inf, a number too
 * large to be one. */
bool la_number_parse(const char *text, double *value);

#endif
