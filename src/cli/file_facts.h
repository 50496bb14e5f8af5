/* Facts about a file of the user's for `laplora info`: a posterior, sums of an unfinished fit,
 * predictions, rows of data, a prompt or plain text. */
#ifndef LA_CLI_FILE_FACTS_H
#define LA_CLI_FILE_FACTS_H

#include "base/error.h"

#include <jansson.h>

#include <stdbool.h>

/* The object's text, or where it is no UTF-8, its bytes made visible: JSON has no place for
 * them. */
void la_facts_text(json_t *object, const char *key, const char *text);
/* The fields of a posterior file: those of interest, or all of them as they are in the file. */
la_status la_posterior_facts(const char *path, bool all, json_t *out, la_error *err);
/* True of a part or a checkpoint of an unfinished fit, whose facts the other has. */
bool la_sums_looks_like(const char *path);
la_status la_sums_facts(const char *path, json_t *out, la_error *err);
/* Adds "kind" and what there is to say to out. What is none of those is refused by its name. */
la_status la_file_facts(const char *path, json_t *out, la_error *err);

#endif
