/* The answer tokens of a causal LM, from --choices or --choice-ids. */
#ifndef LA_PIPELINE_CHOICES_H
#define LA_PIPELINE_CHOICES_H

#include "input/rows.h"
#include "text/tokenizer.h"

/* Tokens of "A,B,C", and their names. Each must be one token. One rule for all of the list: the
 * tokens that the elements are alone; where one of them is several, the tokens that they are behind
 * a space. A note says which, where a tokenizer has both. "\ A" asks for the one behind a space.
 * The caller frees *ids and *names. */
la_status la_choices_parse(la_tokenizer *tokenizer, const char *text, const la_log *log,
                           int32_t **ids, la_labels *names, la_error *err);
/* Parses "319,350"; the caller frees *ids. */
la_status la_choice_ids_parse(const char *text, int32_t **ids, int64_t *n, la_error *err);

#endif
