/* Prompt templates: text with {field} placeholders; {{ and }} stand for braces. */
#ifndef LA_INPUT_TEMPLATE_H
#define LA_INPUT_TEMPLATE_H

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct la_template la_template;

/* The whole text counts, its last newline too. name is for messages. Free with la_template_free. */
la_status la_template_parse(const char *name, const char *text, size_t length, la_template **out,
                            la_error *err);
void la_template_free(la_template *prompt);
/* *out: the filled-in text, NUL-terminated; the caller frees it. where: "file:line", for messages.
 */
la_status la_template_fill(const la_template *prompt, const json_t *fields, const char *where,
                           char **out, size_t *length, la_error *err);
/* The template's own text, as it was given (for the posterior file). */
const char *la_template_text(const la_template *prompt);
bool la_template_has_fields(const la_template *prompt);
/* The name of the one field that it has, or NULL where it has several or none. */
const char *la_template_only_field(const la_template *prompt);

#endif
