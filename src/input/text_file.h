/* Small text files that a user writes: prompts, gates. Whatever editor wrote them, their text is
 * the same: UTF-8, without a byte-order mark, lines that end with LF. */
#ifndef LA_INPUT_TEXT_FILE_H
#define LA_INPUT_TEXT_FILE_H

#include "base/error.h"

/* Reads all of a file, which may have max_bytes. expected: "a prompt", for messages. What is no
 * UTF-8 is refused, by its name where it is known. *text has a NUL behind it; the caller frees
 * it. */
la_status la_text_file_read(const char *path, const char *expected, size_t max_bytes, char **text,
                            size_t *length, la_error *err);
/* Refuses bytes that are no text in UTF-8: another encoding, or a kind of file that has a name.
 * *mark: bytes of a byte-order mark in front. */
la_status la_text_check_kind(const char *path, const char *expected, const char *bytes,
                             size_t length, size_t *mark, la_error *err);

#endif
