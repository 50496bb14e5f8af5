/* Members of an object in its text, without building anything: for files of a million rows, of
 * which few fields are read. */
#ifndef LA_INPUT_JSON_MEMBERS_H
#define LA_INPUT_JSON_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct la_json_value {
    const char *key, *text; /* text: of the value; of a string, what is between the quotes */
    size_t key_length, length;
    char type;     /* '"' string, '0' number, '[' list, '{' object, 't' 'f' 'n' true, false, null */
    int64_t count; /* entries of a list */
} la_json_value;

/* members[*n] of the object that the text is. False where it is none, has more than `most`, or
 * holds what takes more care: escapes, bytes above 127, numbers of more than LA_JSON_DIGITS bytes,
 * deep nesting, a key twice. A caller then parses in full, by which all that is wrong gets its
 * message; what is true here is valid JSON. */
enum { LA_JSON_DIGITS = 40 };
bool la_json_members(const char *text, size_t length, la_json_value *members, int most, int *n);
/* Value of that name; NULL: missing. */
const la_json_value *la_json_member_of(const la_json_value *members, int n, const char *name);
/* Number of a value of type '0', as strtod reads it. */
double la_json_value_number(const la_json_value *value);
/* Integer of such a value; false: it is none of 64 bits, or not written as one. */
bool la_json_value_integer(const la_json_value *value, int64_t *integer);

#endif
