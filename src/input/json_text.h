/* JSON as other tools write it: numbers that no C type holds, and Python's NaN. */
#ifndef LA_INPUT_JSON_TEXT_H
#define LA_INPUT_JSON_TEXT_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

/* json_loadb with JSON_ALLOW_NUL and flags, and: a number beyond 64-bit integers or doubles
 * becomes a string of its digits, a bare NaN null, and a bare Infinity the string "Infinity".
 * NULL with `where` filled when the text is no JSON; when memory is missing, err is set too. */
json_t *la_json_parse(const char *text, size_t length, size_t flags, json_error_t *where,
                      la_error *err);
/* Text of a member of an object, from the object's text, which la_json_parse takes; *value NULL:
 * missing. The last of members of one name. */
void la_json_member(const char *text, size_t length, const char *name, const char **value,
                    size_t *value_length);
/* Where the value that begins at text ends; length when it does not. *closed: whether it does.
 * Counts brackets and quotes and checks nothing else. */
size_t la_json_extent(const char *text, size_t length, bool *closed);
/* True when a file's first line begins a list of rows, or a row that continues behind it. */
bool la_json_is_document(const char *line, size_t length);

#endif
