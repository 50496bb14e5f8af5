/* Lists that a user writes, "A, B,C", by one parser for all of them, and those that messages show.
 *
 * Elements are separated by commas; blanks around one are dropped. A backslash keeps a comma, a
 * blank or a backslash that follows it: "New York\, NY,\ B" are "New York, NY" and " B". Any other
 * backslash stays as it is. */
#ifndef LA_BASE_LIST_H
#define LA_BASE_LIST_H

#include "base/error.h"

typedef struct la_list {
    char **items; /* [n] */
    size_t n;
} la_list;

/* LA_USAGE, with the option, for an element that is empty. Free with la_list_free. */
la_status la_list_split(const char *option, const char *text, la_list *list, la_error *err);
/* Likewise for one that is given twice. */
la_status la_list_parse(const char *option, const char *text, la_list *list, la_error *err);
void la_list_free(la_list *list);

/* Names as "a, b" in out[size], as far as they fit, whole characters alone; returns out. names: n
 * places, stride bytes apart, of const char *: an array of names, or a member of an array of
 * structs. */
const char *la_list_names(char *out, size_t size, const char *between, const void *names,
                          size_t stride, int n);
/* Names as "a, b and c"; returns out, "" without names. */
const char *la_list_sentence(char *out, size_t size, const char *const *names, int n);
/* Appends one name to such a list. used: what the call before returned, 0 at first; size: full. */
size_t la_list_add(char *out, size_t size, size_t used, const char *between, const char *name);

#endif
