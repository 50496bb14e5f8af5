/* Truncation of texts that are too long for a model. */
#ifndef LA_TEXT_TRUNCATION_H
#define LA_TEXT_TRUNCATION_H

#include "text/ids.h"
#include "text/source.h"

typedef enum la_truncation_strategy {
    LA_LONGEST_FIRST,
    LA_ONLY_FIRST,
    LA_ONLY_SECOND
} la_truncation_strategy;

typedef struct la_truncation {
    int64_t max_length; /* special tokens counted; 0: none */
    int strategy;       /* la_truncation_strategy */
    bool left;          /* the end is kept */
} la_truncation;

/* Truncation that the file presets. */
la_status la_truncation_load(const la_text_source *source, const json_t *json, la_truncation *out);
/* Cuts one text (pair NULL) or two to limit tokens together; *cut: tokens were removed. */
la_status la_truncation_apply(const la_truncation *truncation, int64_t limit, la_ids *text,
                              la_ids *pair, bool *cut, la_error *err);

#endif
