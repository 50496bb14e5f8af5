/* What a file of the user's is, for `laplora info`: predictions, rows of data, a prompt or plain
 * text. */
#ifndef LA_CLI_FILE_FACTS_H
#define LA_CLI_FILE_FACTS_H

#include "base/error.h"

#include <jansson.h>

/* The object's text, or where it is no UTF-8, its bytes made visible: JSON has no place for
 * them. */
void la_facts_text(json_t *object, const char *key, const char *text);
/* Adds "kind" and what there is to say to out. What is none of those is refused by its name. */
la_status la_file_facts(const char *path, json_t *out, la_error *err);

#endif
