/* Lists that a user writes: "A, B,C". One parser for all of them.
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

#endif
