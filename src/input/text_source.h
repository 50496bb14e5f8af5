/* Bytes of a data file as UTF-8 text, line by line, whatever wrote them: a byte-order mark is
 * passed over, UTF-16 and gzip are undone, a lone CR ends a line where no LF does. What holds no
 * text is refused by its name (input/file_kinds.h). */
#ifndef LA_INPUT_TEXT_SOURCE_H
#define LA_INPUT_TEXT_SOURCE_H

#include "base/digest.h"
#include "base/error.h"

#include <stdbool.h>

typedef struct la_text_source la_text_source;

/* path "-": standard input, of which nothing is read before it is needed, and never more than there
 * is. expected: "a data file", for messages. messages: lines are any text. digest: of the bytes as
 * they are stored; NULL: none. Free with la_text_source_close. */
la_status la_text_source_open(const char *path, const char *expected, bool messages,
                              la_digest *digest, la_text_source **source, la_error *err);
void la_text_source_close(la_text_source *source);
/* The text that comes next, without using it up: all of a line, or what fits 60,000 bytes. */
la_status la_text_source_peek(la_text_source *source, const char **text, size_t *length,
                              la_error *err);
/* Appends the next line, with its LF, to the record, which stays NUL-terminated. *more: whether
 * there was one. */
la_status la_text_source_line(la_text_source *source, char **record, size_t *length,
                              size_t *capacity, bool *more, la_error *err);
/* Number of the last line, from 1. */
int64_t la_text_source_at(const la_text_source *source);
/* Share of the file that was read, 0..1; 0 when it has no size. */
double la_text_source_fraction(const la_text_source *source);

#endif
