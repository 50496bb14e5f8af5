/* One character of UTF-8, for all that takes text from strangers. */
#ifndef LA_BASE_UTF8_H
#define LA_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at text, of which left > 0 bytes are there; 0 when it is none: cut short,
 * too long for its value, a surrogate. *code: the character, else the first byte. */
size_t la_utf8_decode(const char *text, size_t left, uint32_t *code);

#endif
