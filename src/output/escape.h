/* Text from files made safe for where it is written. */
#ifndef LA_OUTPUT_ESCAPE_H
#define LA_OUTPUT_ESCAPE_H

#include "base/error.h"

#include <jansson.h>

#include <stdio.h>

/* A copy that is valid UTF-8: bytes that are none become U+FFFD. The caller frees it; NULL and
 * LA_RESOURCE in err when there is no memory. */
char *la_text_clean(const char *text, la_error *err);

/* json_dumpf with characters that a terminal obeys, or that hide others, as JSON's escapes. Not
 * 0 on failure. */
int la_json_write(const json_t *value, size_t flags, FILE *stream);

/* text, which is clean, with the five characters of XML and HTML escaped. */
void la_xml_write(FILE *stream, const char *text);

/* A cell of a table, quoted where RFC 4180 wants it. */
void la_cell_write(FILE *stream, const char *text);

#endif
