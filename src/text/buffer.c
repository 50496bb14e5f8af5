#include "text/buffer.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

void la_text_free(la_text *text) {
    free(text->data);
    *text = (la_text){0};
}

la_status la_text_append(la_text *text, const char *data, size_t n, la_error *err) {
    if (text->capacity - text->n < n)
        LA_TRY(la_grow(&text->data, &text->capacity, text->n + n, 1, err));
    if (n)
        memcpy(text->data + text->n, data, n);
    text->n += n;
    return LA_OK;
}

la_status la_text_push(la_text *text, int32_t code, la_error *err) {
    if (text->capacity - text->n < 4)
        LA_TRY(la_grow(&text->data, &text->capacity, text->n + 4, 1, err));
    text->n += la_utf8_put(code, text->data + text->n);
    return LA_OK;
}

void la_text_swap(la_text *a, la_text *b) {
    la_text swap = *a;
    *a = *b;
    *b = swap;
}
