/* Where transformers 5 and tokenizer.json part ways. */
#ifndef LA_TEXT_COMPAT_H
#define LA_TEXT_COMPAT_H

#include "text/source.h"

/* Some tokenizer classes of transformers 5 build normalizer and pre-tokenizer themselves and pass
 * over those of the file. Tells log (may be NULL) when the class that DIR/tokenizer_config.json
 * names would build others than root has. */
void la_compat_warn(const char *dir, const json_t *root, const la_log *log);

#endif
