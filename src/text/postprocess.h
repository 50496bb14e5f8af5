/* Post-processor of a tokenizer.json: positions of special tokens around one text or two. */
#ifndef LA_TEXT_POSTPROCESS_H
#define LA_TEXT_POSTPROCESS_H

#include "text/source.h"

enum { LA_PIECES_MAX = 16 };

typedef struct la_template_piece {
    int sequence; /* 0: first text, 1: second, -1: the special tokens below */
    int32_t type;
    const int32_t *ids;
    size_t n_ids;
} la_template_piece;

typedef struct la_postprocess {
    la_template_piece single[LA_PIECES_MAX], pair[LA_PIECES_MAX];
    int n_single, n_pair;
} la_postprocess;

la_status la_postprocess_load(const la_text_source *source, const json_t *json,
                              la_postprocess *out);
/* Number of special tokens in pieces. */
int64_t la_postprocess_added(const la_template_piece *pieces, int n_pieces);

#endif
