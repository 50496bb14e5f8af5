/* Differences between the tokenizer that transformers 5 builds and tokenizer.json. */
#ifndef LA_TEXT_COMPAT_H
#define LA_TEXT_COMPAT_H

#include "text/source.h"
#include "text/token_class.h"

/* Warns log (may be NULL) when a class would build another normalizer, pre-tokenizer, model or
 * post-processor than root, the tokenizer.json of DIR, has. config: its tokenizer_config.json;
 * named: the named special tokens, key -> content. */
void la_compat_warn(const char *dir, const la_token_class *kind, const json_t *config,
                    const json_t *named, const json_t *root, const la_log *log);

#endif
