#include "input/rows.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/stop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "input/json.h"
#include "input/json_text.h"

enum { ROW_BYTES_MAX = 256 << 20 };

struct la_row_reader {
    FILE *stream;
    char *path;
    const char *name; /* for messages */
    la_row_fields fields;
    char delimiter; /* 0: JSONL */
    int64_t line, index;
    double size, consumed;
    char *record; /* the bytes of one record */
    size_t record_length, record_capacity;
    json_t *header; /* CSV column names */
    json_t *row;
    char *prompt;
    int32_t *ids;
    size_t ids_capacity;
};

la_status la_labels_parse(const char *option, const char *list, la_labels *labels, la_error *err) {
    la_list parsed;
    *labels = (la_labels){0};
    LA_TRY(la_list_parse(option, list, &parsed, err));
    la_labels names = {.count = (int64_t)parsed.n, .names = parsed.items};
    la_status status = la_labels_copy(&names, labels, err);
    la_list_free(&parsed);
    return status;
}

la_status la_labels_copy(const la_labels *from, la_labels *to, la_error *err) {
    *to = (la_labels){.count = from->count};
    if (!from->names)
        return LA_OK;
    to->names = la_alloc((size_t)from->count, sizeof *to->names, err);
    for (int64_t i = 0; to->names && i < from->count; i++) {
        to->names[i] = la_alloc(strlen(from->names[i]) + 1, 1, err);
        if (!to->names[i]) {
            la_labels_free(to);
            break;
        }
        strcpy(to->names[i], from->names[i]);
    }
    return to->names ? LA_OK : err->status;
}

void la_labels_free(la_labels *labels) {
    if (labels->names)
        for (int64_t i = 0; i < labels->count; i++)
            free(labels->names[i]);
    free(labels->names);
    *labels = (la_labels){0};
}

/* ---- lines ---- */

/* Appends the next line, with its newline, to the record. *more: whether there was one. */
static la_status read_line(la_row_reader *reader, bool *more, la_error *err) {
    size_t before = reader->record_length;
    for (;;) {
        LA_TRY(la_grow(&reader->record, &reader->record_capacity, reader->record_length + 512, 1,
                       err));
        size_t room = reader->record_capacity - reader->record_length - 1;
        size_t used = 0;
        int c = EOF;
        while (used < room && (c = getc_unlocked(reader->stream)) != EOF) {
            reader->record[reader->record_length + used++] = (char)c;
            if (c == '\n')
                break;
        }
        reader->record_length += used;
        if (c == EOF || c == '\n')
            break;
        if (reader->record_length > ROW_BYTES_MAX)
            return la_fail(err, LA_BAD_INPUT, "%s:%lld: a row of more than %d bytes", reader->name,
                           (long long)reader->line, (int)ROW_BYTES_MAX);
    }
    if (ferror(reader->stream)) {
        int code = errno;
        LA_TRY(la_check_interrupt(err));
        return la_fail(err, LA_RESOURCE, "%s: cannot read: %s", reader->name, la_errno_text(code));
    }
    reader->record[reader->record_length] = 0;
    *more = reader->record_length > before;
    reader->consumed += (double)(reader->record_length - before);
    if (*more)
        reader->line++;
    return LA_OK;
}

/* Drops one line end, LF or CRLF, but nothing before the byte `from`. */
static void strip_line_end(la_row_reader *reader, size_t from) {
    if (reader->record_length > from && reader->record[reader->record_length - 1] == '\n')
        reader->record[--reader->record_length] = 0;
    if (reader->record_length > from && reader->record[reader->record_length - 1] == '\r')
        reader->record[--reader->record_length] = 0;
}

static void strip_byte_order_mark(la_row_reader *reader) {
    if (reader->line == 1 && reader->record_length >= 3 &&
        !memcmp(reader->record, "\xef\xbb\xbf", 3)) {
        reader->record_length -= 3;
        memmove(reader->record, reader->record + 3, reader->record_length + 1);
    }
}

static bool is_blank(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n')
            return false;
    return true;
}

/* ---- CSV, TSV ---- */

/* True when the quote that opens the record's field at `at` is closed by the end of the record.
 * Only a TSV asks: there a stray quote is text. */
static bool quote_closes(const la_row_reader *reader, size_t at) {
    for (size_t i = at + 1; i < reader->record_length; i++) {
        if (reader->record[i] != '"')
            continue;
        if (reader->record[i + 1] == '"') {
            i++;
            continue;
        }
        return reader->record[i + 1] == reader->delimiter || !reader->record[i + 1];
    }
    return false;
}

/* Reads one record (a quoted cell may hold newlines) into an array of strings. */
static la_status read_cells(la_row_reader *reader, json_t **cells, bool *more, int64_t *first_line,
                            la_error *err) {
    *cells = NULL;
    do {
        reader->record_length = 0;
        LA_TRY(read_line(reader, more, err));
        if (!*more)
            return LA_OK;
        strip_byte_order_mark(reader);
        *first_line = reader->line;
    } while (is_blank(reader->record, reader->record_length));
    strip_line_end(reader, 0);
    json_t *array = json_array();
    if (!array)
        return la_fail(err, LA_RESOURCE, "out of memory for a row");
    la_status status = LA_OK;
    size_t at = 0;
    for (;;) {
        size_t from = at, length = 0;
        if (reader->record[at] == '"' && (reader->delimiter == ',' || quote_closes(reader, at))) {
            from = ++at;
            size_t write = from;
            for (;;) {
                if (at >= reader->record_length) {
                    /* the newline belongs to the cell: put it back and go on */
                    reader->record[reader->record_length++] = '\n';
                    bool again;
                    LA_TRY_DONE(read_line(reader, &again, err));
                    if (!again) {
                        status = la_fail(err, LA_BAD_INPUT,
                                         "%s:%lld: a quote is opened in this row and never closed",
                                         reader->name, (long long)*first_line);
                        *more = false;
                        goto done;
                    }
                    strip_line_end(reader, at + 1);
                    continue;
                }
                if (reader->record[at] == '"') {
                    if (reader->record[at + 1] != '"')
                        break;
                    at++;
                }
                reader->record[write++] = reader->record[at++];
            }
            length = write - from;
            at++;
            if (reader->record[at] != reader->delimiter && at < reader->record_length) {
                status =
                    la_fail(err, LA_BAD_INPUT, "%s:%lld: text after the closing quote of cell %zu",
                            reader->name, (long long)*first_line, json_array_size(array) + 1);
                goto done;
            }
        } else {
            while (at < reader->record_length && reader->record[at] != reader->delimiter)
                at++;
            length = at - from;
        }
        if (json_array_append_new(array, json_stringn(reader->record + from, length))) {
            status = la_fail(err, LA_BAD_INPUT, "%s:%lld: cell %zu is not valid UTF-8",
                             reader->name, (long long)*first_line, json_array_size(array) + 1);
            goto done;
        }
        if (at >= reader->record_length)
            break;
        at++;
    }
done:
    if (status != LA_OK)
        json_decref(array);
    else
        *cells = array;
    return status;
}

static la_status read_header(la_row_reader *reader, la_error *err) {
    bool more;
    int64_t line;
    LA_TRY(read_cells(reader, &reader->header, &more, &line, err));
    if (!more)
        return la_fail(err, LA_BAD_INPUT, "%s: is empty, expected a header row", reader->name);
    json_t *seen = json_object();
    la_status status = LA_OK;
    size_t i;
    json_t *cell;
    json_array_foreach(reader->header, i, cell) {
        if (json_object_get(seen, json_string_value(cell)))
            status = la_fail(err, LA_BAD_INPUT, "%s:%lld: column \"%s\" appears twice",
                             reader->name, (long long)line, json_string_value(cell));
        json_object_set_new(seen, json_string_value(cell), json_true());
    }
    json_decref(seen);
    return status;
}

static la_status next_cells(la_row_reader *reader, la_row *row, bool *more, la_error *err) {
    json_t *cells;
    row->line = reader->line + 1;
    LA_TRY(read_cells(reader, &cells, more, &row->line, err));
    if (!*more)
        return LA_OK;
    la_status status = LA_OK;
    size_t n = json_array_size(reader->header);
    if (json_array_size(cells) != n) {
        status = la_fail(err, LA_BAD_INPUT, "%s:%lld: %zu cells, expected the %zu of the header",
                         reader->name, (long long)row->line, json_array_size(cells), n);
    } else {
        reader->row = json_object();
        for (size_t i = 0; i < n; i++)
            json_object_set(reader->row, json_string_value(json_array_get(reader->header, i)),
                            json_array_get(cells, i));
    }
    json_decref(cells);
    return status;
}

/* ---- JSONL ---- */

/* A line of text is the row's text, or what its template asks for. */
static la_status take_plain_line(la_row_reader *reader, const la_row *row, la_error *err) {
    const char *only = reader->fields.prompt ? la_template_only_field(reader->fields.prompt) : NULL;
    const char *key = only ? only : reader->fields.text ? reader->fields.text : "text";
    json_t *line = json_stringn(reader->record, reader->record_length);
    reader->row = json_object();
    if (!line && reader->row)
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: the line is not valid UTF-8, expected text",
                       reader->name, (long long)row->line);
    if (json_object_set_new(reader->row, key, line))
        return la_fail(err, LA_RESOURCE, "out of memory for a row");
    return LA_OK;
}

static la_status next_json(la_row_reader *reader, la_row *row, bool *more, la_error *err) {
    do {
        reader->record_length = 0;
        LA_TRY(read_line(reader, more, err));
        row->line = reader->line;
        if (!*more)
            return LA_OK;
        strip_byte_order_mark(reader);
        strip_line_end(reader, 0);
        row->blank = is_blank(reader->record, reader->record_length);
    } while (row->blank && !reader->fields.plain_lines);
    if (reader->fields.plain_lines && reader->record[strspn(reader->record, " \t")] != '{')
        return take_plain_line(reader, row, err);
    json_error_t where;
    reader->row = la_json_parse(reader->record, reader->record_length, 0, &where, err);
    if (err->status != LA_OK)
        return err->status;
    if (!reader->row)
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: not valid JSON: %s (column %d)", reader->name,
                       (long long)row->line, where.text, where.column);
    if (!json_is_object(reader->row))
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: the row is %s, expected a JSON object",
                       reader->name, (long long)row->line, la_json_kind(reader->row));
    return LA_OK;
}

/* ---- fields ---- */

static const char *const text_names[] = {"text",     "sentence",  "premise", "question1",
                                         "question", "sentence1", "prompt",  NULL};
static const char *const pair_names[] = {"text_pair", "text_b",    "hypothesis",
                                         "question2", "sentence2", NULL};

static void list_columns(const json_t *row, char *out, size_t size) {
    size_t used = 0;
    const char *key;
    json_t *value;
    *out = 0;
    json_object_foreach((json_t *)(uintptr_t)row, key, value) {
        if (used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", key);
    }
}

/* A text column: the named one, or the first usual one present. */
static la_status find_text(const la_row_reader *reader, const la_row *row, const char *wanted,
                           const char *const *usual, bool required, const char **text,
                           size_t *length, la_error *err) {
    const char *key = wanted;
    const json_t *value = wanted ? json_object_get(reader->row, wanted) : NULL;
    for (; !wanted && *usual && !value; usual++) {
        key = *usual;
        value = json_object_get(reader->row, key);
    }
    *text = NULL;
    *length = 0;
    if (!value && (required || wanted)) {
        char columns[400];
        list_columns(reader->row, columns, sizeof columns);
        bool words =
            json_object_get(reader->row, "tokens") || json_object_get(reader->row, "words");
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: no field %s%s%s; %sthe row has: %s",
                       reader->name, (long long)row->line,
                       wanted ? "\"" : "with the text (text, sentence, ...)", wanted ? wanted : "",
                       wanted ? "\"" : "",
                       words ? "words are for adapters that classify tokens; " : "", columns);
    }
    if (!value || (!required && json_is_null(value)))
        return LA_OK;
    if (!json_is_string(value))
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: field \"%s\" is %s, expected a string",
                       reader->name, (long long)row->line, key, la_json_kind(value));
    *text = json_string_value(value);
    *length = json_string_length(value);
    return LA_OK;
}

static la_status take_ids(la_row_reader *reader, la_row *row, const json_t *value, la_error *err) {
    json_t *parsed = NULL;
    if (json_is_string(value)) /* a CSV cell: [1, 2] or 1 2 */
    {
        const char *cell = json_string_value(value);
        if (strlen(cell) != json_string_length(value)) {
            parsed = json_pack("[n]"); /* a NUL byte */
        } else if (*cell == '[') {
            parsed = json_loads(cell, 0, NULL);
        } else {
            parsed = json_array();
            char *end;
            for (const char *c = cell; parsed && *c; c = end) {
                long long id = strtoll(c, &end, 10);
                if (end == c) { /* no number: the check below refuses it */
                    json_array_append_new(parsed, json_null());
                    break;
                }
                json_array_append_new(parsed, json_integer(id));
                end += strspn(end, " ,");
            }
        }
        value = parsed;
    }
    la_status status = LA_OK;
    size_t n = json_array_size(value);
    if (!json_is_array(value) || !n) {
        status = la_fail(err, LA_BAD_INPUT,
                         "%s:%lld: \"input_ids\" is %s, expected a list of at least one token id",
                         reader->name, (long long)row->line,
                         json_is_array(value) ? "empty" : la_json_kind(value));
        goto done;
    }
    LA_TRY_DONE(la_grow(&reader->ids, &reader->ids_capacity, n, sizeof *reader->ids, err));
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX) {
            status = la_fail(err, LA_BAD_INPUT,
                             "%s:%lld: input_ids[%zu] is no token id, expected an integer >= 0",
                             reader->name, (long long)row->line, i);
            goto done;
        }
        reader->ids[i] = (int32_t)json_integer_value(id);
    }
    row->ids = reader->ids;
    row->n_ids = (int64_t)n;
done:
    json_decref(parsed);
    return status;
}

static la_status take_fields(la_row_reader *reader, la_row *row, la_error *err) {
    const la_row_fields *fields = &reader->fields;
    row->label = json_object_get(reader->row, fields->label ? fields->label : "label");
    row->id = json_object_get(reader->row, fields->id ? fields->id : "id");
    row->object = reader->row;
    const json_t *ids = json_object_get(reader->row, "input_ids");
    if (ids && !json_is_null(ids))
        return take_ids(reader, row, ids, err);
    if (fields->tagged)
        return LA_OK;
    if (fields->prompt) {
        char where[512];
        snprintf(where, sizeof where, "%s:%lld", reader->name, (long long)row->line);
        LA_TRY(la_template_fill(fields->prompt, reader->row, where, &reader->prompt,
                                &row->text_length, err));
        row->text = reader->prompt;
        return LA_OK;
    }
    LA_TRY(
        find_text(reader, row, fields->text, text_names, true, &row->text, &row->text_length, err));
    return find_text(reader, row, fields->pair, pair_names, false, &row->pair, &row->pair_length,
                     err);
}

la_status la_row_reader_open(const char *path, const la_row_fields *fields, la_row_reader **out,
                             la_error *err) {
    *out = NULL;
    la_row_reader *reader = la_alloc(1, sizeof *reader, err);
    if (!reader)
        return err->status;
    la_status status = LA_OK;
    bool standard = !strcmp(path, "-");
    const char *name = standard ? "standard input" : path, *dot = strrchr(path, '.');
    reader->fields = *fields;
    reader->path = la_alloc(strlen(path) + 1, 1, err);
    if (!reader->path) {
        status = err->status;
        goto done;
    }
    strcpy(reader->path, path);
    reader->name = standard ? "standard input" : reader->path;
    reader->stream = standard ? stdin : fopen(path, "rb");
    struct stat info;
    if (!reader->stream || fstat(fileno(reader->stream), &info)) {
        status = la_fail(err, LA_BAD_INPUT, "%s: cannot read: %s", name, la_errno_text(errno));
        goto done;
    }
    if (S_ISDIR(info.st_mode)) {
        status = la_fail(err, LA_BAD_INPUT, "%s: is a directory, expected a data file", name);
        goto done;
    }
    reader->size = S_ISREG(info.st_mode) ? (double)info.st_size : 0;
    if (!standard && dot && (!strcasecmp(dot, ".csv") || !strcasecmp(dot, ".tsv"))) {
        reader->delimiter = strcasecmp(dot, ".csv") ? '\t' : ',';
        LA_TRY_DONE(read_header(reader, err));
    }
done:
    if (status != LA_OK) {
        la_row_reader_close(reader);
        return status;
    }
    *out = reader;
    return LA_OK;
}

void la_row_reader_close(la_row_reader *reader) {
    if (!reader)
        return;
    if (reader->stream && reader->stream != stdin)
        fclose(reader->stream);
    json_decref(reader->header);
    json_decref(reader->row);
    free(reader->prompt);
    free(reader->record);
    free(reader->ids);
    free(reader->path);
    free(reader);
}

la_status la_row_reader_next(la_row_reader *reader, la_row *row, bool *more, la_error *err) {
    json_decref(reader->row);
    reader->row = NULL;
    free(reader->prompt);
    reader->prompt = NULL;
    *row = (la_row){.index = reader->index};
    *more = false;
    la_status status =
        reader->delimiter ? next_cells(reader, row, more, err) : next_json(reader, row, more, err);
    if (*more)
        reader->index++;
    if (status != LA_OK || !*more)
        return status;
    return take_fields(reader, row, err);
}

double la_row_reader_fraction(const la_row_reader *reader) {
    return reader->size > 0 ? reader->consumed / reader->size : 0;
}

const char *la_row_reader_name(const la_row_reader *reader) {
    return reader->name;
}

const char *la_row_reader_path(const la_row_reader *reader) {
    return reader->path;
}

bool la_row_reader_is_table(const la_row_reader *reader) {
    return reader->delimiter != 0;
}

void la_row_columns(const la_row *row, char *out, size_t size) {
    list_columns(row->object, out, size);
}
