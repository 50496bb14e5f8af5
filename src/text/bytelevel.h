/* Bytes as visible characters, the way of GPT-2: each byte is a letter or sign of its own, so that
 * 256 characters suffice for any text. */
#ifndef LA_TEXT_BYTELEVEL_H
#define LA_TEXT_BYTELEVEL_H

#include "text/buffer.h"

/* Appends the n bytes of text, each as its character. */
la_status la_bytelevel_append(la_text *out, const char *text, size_t n, la_error *err);

#endif
