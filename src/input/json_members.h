/* Members of an object in its text, without building anything: for files of a million rows, of
 * which few fields are read. */
#ifndef LA_INPUT_JSON_MEMBERS_H
#define LA_INPUT_JSON_MEMBERS_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct la_json_value {
    const char *key, *text; /* text: of the value; of a string, what is between the quotes */
    size_t key_length, length;
    char type;     /* '"' string, '0' number, '[' list, '{' object, 't' 'f' 'n' true, false, null */
    bool escaped;  /* of a string: there are backslashes in it */
    int64_t count; /* entries of a list */
} la_json_value;

/* members[*n] of the object that the text is. False where it is none, has more than `most`, or
 * holds what takes more care: escapes in a key, numbers of more than LA_JSON_DIGITS bytes, deep
 * nesting, a key twice. A caller then parses in full, by which all that is wrong gets its message;
 * what is true here is valid JSON. */
enum { LA_JSON_DIGITS = 40 };
bool la_json_members(const char *text, size_t length, la_json_value *members, int most, int *n);
/* Value of that name; NULL: missing. */
const la_json_value *la_json_member_of(const la_json_value *members, int n, const char *name);
/* Entries of a list one after the other: *at is set, then moved on. False behind the last one. */
void la_json_entries(const la_json_value *list, const char **at);
bool la_json_entry(const la_json_value *list, const char **at, la_json_value *entry);
/* The value as jansson has it; NULL: no memory. The caller gives it back with json_decref. */
json_t *la_json_value_parse(const la_json_value *value);
/* What a string says, with a NUL; the caller frees it. */
char *la_json_value_text(const la_json_value *value, la_error *err);
/* Number of a value of type '0', as strtod reads it. */
double la_json_value_number(const la_json_value *value);
/* Integer of such a value; false: it is none of 64 bits, or not written as one. */
bool la_json_value_integer(const la_json_value *value, int64_t *integer);

#endif
