/* Data rows from JSONL, CSV or TSV, one at a time, with the file's line in every message. */
#ifndef LA_INPUT_ROWS_H
#define LA_INPUT_ROWS_H

#include "base/digest.h"
#include "base/error.h"
#include "input/template.h"

#include <jansson.h>
#include <stdbool.h>

/* Class names in class order; names NULL when the classes have none. */
typedef struct la_labels {
    int64_t count;
    char **names;
} la_labels;

/* Names of a list (base/list.h). option is for messages. The caller frees with la_labels_free. */
la_status la_labels_parse(const char *option, const char *list, la_labels *labels, la_error *err);
la_status la_labels_copy(const la_labels *from, la_labels *to, la_error *err);
void la_labels_free(la_labels *labels);

typedef struct la_row_fields {
    const char *text, *pair, *label, *id; /* NULL: the usual names */
    const la_template *prompt;            /* NULL: none */
    bool plain_lines;     /* a line that is no JSON object is a text, an empty one too */
    bool tagged;          /* the row is words and tags (input/tags.h): no text is looked for */
    bool objects;         /* rows are objects whose fields the caller reads, with no key twice */
    const char *expected; /* "a prediction file", for messages; NULL: "a data file" */
    /* of objects: takes a row from its line, and is true, or has it parsed; NULL: all are parsed */
    bool (*scan)(void *user, const char *text, size_t length);
    void *user;
    la_digest *digest; /* gets the file's bytes; NULL: none */
    const la_log *log; /* how the file was understood; NULL: no one to log to */
} la_row_fields;

/* A row as read. Everything is owned by the reader and valid until the next call. */
typedef struct la_row {
    int64_t index; /* 0-based, in input order */
    int64_t line;  /* 1-based line where the row begins */
    const char *text, *pair;
    size_t text_length, pair_length;
    const int32_t *ids; /* token ids to be used as they are, instead of text */
    int64_t n_ids;
    const json_t *label; /* NULL: none */
    const json_t *id;    /* NULL: none */
    const char *id_text; /* the id as it stands in a JSON file, not terminated; NULL: take id */
    size_t id_length;
    const json_t *object;    /* all fields of the row */
    const char *object_text; /* the row as it stands in a JSON file; NULL: a table, or plain text */
    size_t object_length;
    bool blank; /* an empty line */
} la_row;

typedef struct la_row_reader la_row_reader;

/* path "-": JSONL on standard input. Format by extension (.csv, .tsv, else JSONL; .gz may follow)
 * unless the first line says otherwise; a JSON list of rows, and rows over several lines, are read
 * as well. fields (and what it points to) must outlive the reader. Free with
 * la_row_reader_close. */
la_status la_row_reader_open(const char *path, const la_row_fields *fields, la_row_reader **reader,
                             la_error *err);
void la_row_reader_close(la_row_reader *reader);
/* Reads the next row; *more is false at the end. After LA_BAD_INPUT with *more true the caller may
 * go on with the next row (row->index and row->line are set). */
la_status la_row_reader_next(la_row_reader *reader, la_row *row, bool *more, la_error *err);
/* LA_BAD_INPUT, with the row's file and line in front of the message. */
la_status la_row_fail(const la_row_reader *reader, const la_row *row, la_error *err,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The label of a row, or where no field was chosen and there is none, that field. */
const json_t *la_row_reader_label(const la_row_reader *reader, const la_row *row,
                                  const char *field);
/* Share of the file that was read, 0..1; 0 when it has no size. */
double la_row_reader_fraction(const la_row_reader *reader);
/* Name for messages. */
const char *la_row_reader_name(const la_row_reader *reader);
/* Path that it was opened with. */
const char *la_row_reader_path(const la_row_reader *reader);
/* True where cells are text without types. */
bool la_row_reader_is_table(const la_row_reader *reader);

/* Delimiter of a table by the path's extension, which that of gzip may follow; 0: JSON. */
char la_table_delimiter(const char *path);
/* "text, label", the fields of a row, for messages. */
void la_row_columns(const la_row *row, char *out, size_t size);

#endif
