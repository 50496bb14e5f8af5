/* Rows of token classification: words or token ids, and a class for each of them. */
#ifndef LA_INPUT_TAGS_H
#define LA_INPUT_TAGS_H

#include "input/row_label.h"

/* Parts of a row: its words, or where it has input_ids its tokens. Zero it first, free with
 * la_tags_free; reused from row to row. */
typedef struct la_tags {
    int64_t n;
    bool tagged;         /* the row has tags */
    const json_t *words; /* [n] strings; NULL: the row has input_ids. Of tags_parsed or the row */
    la_label *labels;    /* [n] */
    json_t *parsed[2];   /* lists that stood in cells of a table; owned */
    size_t labels_capacity;
} la_tags;

/* Words from the field fields->text (NULL: tokens or words), tags from fields->label (NULL: tags,
 * ner_tags or labels; they may be missing). A tag is a label of the rule, or null or -100 for none.
 * There must be as many as parts. with_labels false: tags are not read. */
la_status la_tags_read(const la_row_reader *reader, const la_row *row, const la_row_fields *fields,
                       const la_label_rule *rule, bool with_labels, la_tags *tags, la_error *err);
void la_tags_free(la_tags *tags);

#endif
