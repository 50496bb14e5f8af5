/* Files of prediction rows, read prediction by prediction: by report, threshold, drift and diff
 * alike. What they read of one are the members of its object, taken from the text of the row
 * (input/json_members.h); a table and a row that takes more care are parsed, and have members of
 * the same form. What is kept does not grow with the file. */
#ifndef LA_OUTPUT_PREDICTION_FILE_H
#define LA_OUTPUT_PREDICTION_FILE_H

#include "base/digest.h"
#include "base/error.h"
#include "input/json_members.h"

typedef struct la_prediction_file la_prediction_file;

/* A prediction: a row, or an entry of a row's list "tokens". Valid until the next one is read. */
typedef struct la_prediction_entry {
    la_prediction_file *file;
    int64_t index, line; /* of the row: its number from 0, its line from 1 */
    const la_json_value *members;
    int n_members;
    const la_json_value *row; /* members of the row; the same where the row is the prediction */
    int n_row;
    bool failed; /* the row has "error" in place of a prediction */
} la_prediction_entry;

/* path "-": standard input, of which no more is read than a prediction needs. digest: of the file's
 * bytes; NULL: none. lists: rows may have lists of tokens. Free with la_prediction_file_close. */
la_status la_prediction_file_open(const char *path, la_digest *digest, bool lists,
                                  la_prediction_file **file, la_error *err);
void la_prediction_file_close(la_prediction_file *file);
/* *more is false at the end. LA_BAD_INPUT, with the line, for what is no row of a file. */
la_status la_prediction_file_next(la_prediction_file *file, la_prediction_entry *entry, bool *more,
                                  la_error *err);
/* Name for messages. */
const char *la_prediction_file_name(const la_prediction_file *file);
/* Rows that are lists of predictions, so far. */
int64_t la_prediction_file_lists(const la_prediction_file *file);

/* ---- of an entry ---- */

/* The member of that name; NULL: missing. */
const la_json_value *la_entry_member(const la_prediction_entry *entry, const char *name);
/* Likewise, where the prediction has none that of its row. */
const la_json_value *la_entry_field(const la_prediction_entry *entry, const char *name);
/* True of a field of that name that is true; in a table that is text. */
bool la_entry_is(const la_prediction_entry *entry, const char *name);
/* The prediction, or its row, as jansson has it: for what is rare. NULL and LA_RESOURCE: no memory.
 * Owned by the file, and valid as long as the entry. */
json_t *la_entry_json(const la_prediction_entry *entry, la_error *err);
json_t *la_entry_row_json(const la_prediction_entry *entry, la_error *err);
/* "FILE:LINE", for messages. */
enum { LA_ENTRY_PLACE = 512 };
const char *la_entry_place(const la_prediction_entry *entry, char place[LA_ENTRY_PLACE]);

#endif
