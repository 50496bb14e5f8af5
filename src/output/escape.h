/* Text from files made safe for where it is written. */
#ifndef LA_OUTPUT_ESCAPE_H
#define LA_OUTPUT_ESCAPE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>

/* A copy that is valid UTF-8: bytes that are none become U+FFFD, and where printable is asked for,
 * so do control characters (a terminal would obey them, XML forbids them). The caller frees it;
 * NULL and LA_RESOURCE in err when there is no memory. */
char *la_text_clean(const char *text, bool printable, la_error *err);

/* text, which is clean, with the five characters of XML and HTML escaped. */
void la_xml_write(FILE *stream, const char *text);

#endif
