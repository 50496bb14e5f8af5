/* Text in buffers that grow: the tokenizer's strings, as checked UTF-8. */
#ifndef LA_TEXT_BUFFER_H
#define LA_TEXT_BUFFER_H

#include "base/utf8.h"

/* Zero it first; free with la_text_free. */
typedef struct la_text {
    char *data;
    size_t n, capacity;
} la_text;

void la_text_free(la_text *text);
la_status la_text_append(la_text *text, const char *data, size_t n, la_error *err);
la_status la_text_push(la_text *text, int32_t code, la_error *err);
void la_text_swap(la_text *a, la_text *b);

#endif
