/* Text of strangers made fit to be shown: names of files, labels and cells may hold bytes that a
 * terminal obeys, or characters that hide or reorder what is beside them. Those become escapes that
 * can be seen: \x1b, \n, \u202e; bytes that are no UTF-8 become \x9b and the like. The rest, a
 * backslash too, stays as it is. */
#ifndef LA_BASE_VISIBLE_H
#define LA_BASE_VISIBLE_H

#include "base/error.h"

#include <stddef.h>
#include <stdio.h>

enum { LA_VISIBLE_UNIT = 13 };

/* The next character of the length bytes at text (length > 0), as shown, with a NUL. Returns the
 * bytes of text that it took. */
size_t la_visible_next(const char *text, size_t length, char out[LA_VISIBLE_UNIT]);
/* The bytes of text, `most` at most, that end with a whole character: for "%.*s". */
size_t la_visible_cut(const char *text, size_t most);
/* Beginning of text that fits into size bytes with a NUL, whole characters and whole escapes. */
void la_visible(const char *text, char *out, size_t size);
/* The whole text; the caller frees it. NULL and LA_RESOURCE in err when there is no memory. */
char *la_visible_copy(const char *text, la_error *err);
void la_visible_write(const char *text, FILE *stream);
/* JSON that jansson wrote, with the same characters as escapes of JSON: the same values. */
void la_visible_json(const char *json, size_t length, FILE *stream);

#endif
