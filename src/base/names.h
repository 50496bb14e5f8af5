/* Names that were meant: how far two are apart. */
#ifndef LA_BASE_NAMES_H
#define LA_BASE_NAMES_H

#include <stddef.h>

/* Number of letters to add, drop or change that turns one into the other; of b, 256 letters
 * count. */
size_t la_edit_distance(const char *a, const char *b);

#endif
