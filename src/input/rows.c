#include "input/rows.h"
#include "base/visible.h"
#include "base/list.h"
#include "base/memory.h"
#include "base/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "input/json.h"
#include "input/json_text.h"
#include "input/text_source.h"

struct la_row_reader {
    la_text_source *source;
    char *path;
    const char *name; /* for messages */
    la_row_fields fields;
    char delimiter;           /* 0: JSONL */
    bool logged, logged_pair; /* columns that nothing reads; a pair by its data set's names */
    int64_t index, n_ids;     /* rows read; of them those with token ids */
    struct {
        bool text, pair, label, id, ended;
    } met;        /* fields that some row has */
    char *record; /* the bytes of one record, or of a whole document */
    size_t record_length, record_capacity;
    /* a document: objects in a list, or over several lines */
    bool started, document;
    size_t at, lines_to; /* where the next object is looked for; up to where lines are counted */
    int64_t document_line;
    json_t *header; /* CSV column names */
    json_t *row;
    const char *object_text; /* the row as it stands in the file; NULL in a table */
    size_t object_length;
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

la_status la_row_fail(const la_row_reader *reader, const la_row *row, la_error *err,
                      const char *format, ...) {
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: %s", reader->name, (long long)row->line, message);
}

/* ---- lines ---- */

/* Appends the next line, with its newline, to the record. *more: whether there was one. */
static la_status read_line(la_row_reader *reader, bool *more, la_error *err) {
    return la_text_source_line(reader->source, &reader->record, &reader->record_length,
                               &reader->record_capacity, more, err);
}

/* Drops one line end, LF or CRLF, but nothing before the byte `from`. */
static void strip_line_end(la_row_reader *reader, size_t from) {
    if (reader->record_length > from && reader->record[reader->record_length - 1] == '\n')
        reader->record[--reader->record_length] = 0;
    if (reader->record_length > from && reader->record[reader->record_length - 1] == '\r')
        reader->record[--reader->record_length] = 0;
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
static la_status read_cells(la_row_reader *reader, la_row *row, json_t **cells, bool *more,
                            la_error *err) {
    *cells = NULL;
    do {
        reader->record_length = 0;
        LA_TRY(read_line(reader, more, err));
        if (!*more)
            return LA_OK;
        row->line = la_text_source_at(reader->source);
    } while (is_blank(reader->record, reader->record_length));
    strip_line_end(reader, 0);
    json_t *array = json_array();
    if (!array)
        return la_fail(err, LA_RESOURCE, "out of memory for a row");
    la_status status = LA_OK;
    size_t at = 0;
    for (;;) {
        size_t from = at, length = 0;
        if (reader->record[at] == '"' && (reader->delimiter != '\t' || quote_closes(reader, at))) {
            from = ++at;
            size_t write = from;
            for (;;) {
                if (at >= reader->record_length) {
                    /* the newline belongs to the cell: put it back and go on */
                    reader->record[reader->record_length++] = '\n';
                    bool again;
                    LA_TRY_DONE(read_line(reader, &again, err));
                    *more = again;
                    if (!again)
                        LA_TRY_DONE(la_row_fail(reader, row, err,
                                                "a quote is opened in this row and never closed"));
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
            if (reader->record[at] != reader->delimiter && at < reader->record_length)
                LA_TRY_DONE(la_row_fail(reader, row, err,
                                        "text after the closing quote of cell %zu",
                                        json_array_size(array) + 1));
        } else {
            while (at < reader->record_length && reader->record[at] != reader->delimiter)
                at++;
            length = at - from;
        }
        if (json_array_append_new(array, json_stringn(reader->record + from, length)))
            LA_TRY_DONE(
                la_row_fail(reader, row, err,
                            "cell %zu is not valid UTF-8; if a program on Windows wrote it: "
                            "iconv -f WINDOWS-1252 -t UTF-8",
                            json_array_size(array) + 1));
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
    la_row row;
    LA_TRY(read_cells(reader, &row, &reader->header, &more, err));
    if (!more)
        return la_fail(err, LA_BAD_INPUT, "%s: is empty, expected a header row", reader->name);
    json_t *seen = json_object();
    la_status status = LA_OK;
    size_t i;
    json_t *cell;
    json_array_foreach(reader->header, i, cell) {
        /* spreadsheets write columns without a name, which are not read */
        if (json_string_length(cell) && json_object_get(seen, json_string_value(cell)))
            status = la_row_fail(reader, &row, err, "column \"%s\" appears twice",
                                 json_string_value(cell));
        json_object_set_new(seen, json_string_value(cell), json_true());
    }
    json_decref(seen);
    return status;
}

static la_status next_cells(la_row_reader *reader, la_row *row, bool *more, la_error *err) {
    json_t *cells;
    row->line = la_text_source_at(reader->source) + 1;
    LA_TRY(read_cells(reader, row, &cells, more, err));
    if (!*more)
        return LA_OK;
    la_status status = LA_OK;
    size_t n = json_array_size(reader->header);
    if (json_array_size(cells) != n) {
        status = la_row_fail(reader, row, err, "%zu cells, expected the %zu of the header",
                             json_array_size(cells), n);
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
        return la_row_fail(reader, row, err, "the line is not valid UTF-8, expected text");
    if (json_object_set_new(reader->row, key, line))
        return la_fail(err, LA_RESOURCE, "out of memory for a row");
    return LA_OK;
}

static la_status parse_object(la_row_reader *reader, const char *text, size_t length,
                              const la_row *row, la_error *err) {
    json_error_t where;
    reader->row = la_json_parse(text, length, reader->fields.objects ? JSON_REJECT_DUPLICATES : 0,
                                &where, err);
    if (err->status != LA_OK)
        return err->status;
    if (!reader->row)
        return la_row_fail(reader, row, err, "not valid JSON: %s (column %d)%s", where.text,
                           where.column,
                           row->index || reader->document || *text == '{' || reader->fields.objects
                               ? ""
                               : "; expected an object a line, or a file "
                                 "named .csv or .tsv");
    if (!json_is_object(reader->row))
        return la_row_fail(reader, row, err, "the row is %s, expected a JSON object",
                           la_json_kind(reader->row));
    reader->object_text = text;
    reader->object_length = length;
    return LA_OK;
}

static la_status read_document(la_row_reader *reader, la_error *err) {
    bool more = true;
    while (more) {
        LA_TRY(la_check_interrupt(err));
        LA_TRY(read_line(reader, &more, err));
    }
    reader->document = true;
    reader->at = strspn(reader->record, " \t");
    reader->at += reader->record[reader->at] == '[';
    return LA_OK;
}

static la_status next_in_document(la_row_reader *reader, la_row *row, bool *more, la_error *err) {
    const char *text = reader->record;
    bool closed;
    while (reader->at < reader->record_length && text[reader->at] &&
           strchr(" \t\r\n,]", text[reader->at]))
        reader->at++;
    for (; reader->lines_to < reader->at; reader->lines_to++)
        reader->document_line += text[reader->lines_to] == '\n';
    row->line = reader->document_line;
    *more = reader->at < reader->record_length;
    if (!*more)
        return LA_OK;
    size_t n = la_json_extent(text + reader->at, reader->record_length - reader->at, &closed);
    const char *object = text + reader->at;
    reader->at += n ? n : 1;
    if (!closed)
        return la_row_fail(reader, row, err, "not valid JSON: what begins here has no end");
    return parse_object(reader, object, n ? n : 1, row, err);
}

static la_status next_json(la_row_reader *reader, la_row *row, bool *more, la_error *err) {
    if (reader->document)
        return next_in_document(reader, row, more, err);
    do {
        reader->record_length = 0;
        LA_TRY(read_line(reader, more, err));
        row->line = la_text_source_at(reader->source);
        if (!*more)
            return LA_OK;
        strip_line_end(reader, 0);
        row->blank = is_blank(reader->record, reader->record_length);
    } while (row->blank && !reader->fields.plain_lines);
    if (!reader->started && !reader->fields.plain_lines &&
        la_json_is_document(reader->record, reader->record_length)) {
        reader->document_line = row->line;
        reader->record[reader->record_length++] = '\n';
        LA_TRY(read_document(reader, err));
        return next_in_document(reader, row, more, err);
    }
    reader->started = true;
    if (reader->fields.plain_lines && reader->record[strspn(reader->record, " \t")] != '{')
        return take_plain_line(reader, row, err);
    if (reader->fields.scan &&
        reader->fields.scan(reader->fields.user, reader->record, reader->record_length))
        return LA_OK;
    return parse_object(reader, reader->record, reader->record_length, row, err);
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
        used = la_list_add(out, size, used, ", ", key);
    }
}

/* Pairs of data sets whose second column has no usual name; the order is that of the tools that
 * train on them. */
static const char *const known_pairs[][2] = {
    {"question", "sentence"},    {"question", "passage"}, {"question", "context"},
    {"query", "document"},       {"query", "passage"},    {"title", "content"},
    {"text_a", "text_b"},        {"text1", "text2"},      {"claim", "evidence"},
    {"sentence_A", "sentence_B"}};

/* The row's known pair, or NULL: only where the usual names give no pair, and no other text. */
static const char *const *find_known_pair(const la_row_reader *reader) {
    const json_t *row = reader->row;
    const char *usual = NULL;
    if (reader->fields.text || reader->fields.pair)
        return NULL;
    for (const char *const *name = text_names; *name && !usual; name++)
        usual = json_object_get(row, *name) ? *name : NULL;
    for (const char *const *name = pair_names; *name && usual; name++)
        if (json_object_get(row, *name))
            return NULL;
    for (size_t i = 0; i < sizeof known_pairs / sizeof *known_pairs; i++) {
        const char *const *pair = known_pairs[i];
        bool text = usual && (!strcmp(usual, pair[0]) || !strcmp(usual, pair[1]));
        if (json_is_string(json_object_get(row, pair[0])) &&
            json_is_string(json_object_get(row, pair[1])) && (text || !usual))
            return pair;
    }
    return NULL;
}

/* Two words at least, or letters of a script that sets none apart. */
static bool is_prose(const json_t *value) {
    const char *text = json_string_value(value);
    const char *blank = text ? strchr(text, ' ') : NULL;
    size_t wide = 0;
    for (const char *c = text; c && *c; c++)
        wide += (unsigned char)*c >= 0xe0;
    return text && (wide >= 4 || (blank && blank > text && blank[strspn(blank, " ")]));
}

/* Logs once columns with text that nothing reads, where no option chose the columns. */
static void log_unread(la_row_reader *reader, const la_row *row, const char *text,
                       const char *pair) {
    const la_row_fields *fields = &reader->fields;
    char unread[300];
    size_t used = 0;
    const char *key;
    json_t *value;
    if (reader->logged || fields->text || fields->plain_lines || !fields->log)
        return;
    json_object_foreach(reader->row, key, value) {
        bool read = (text && !strcmp(key, text)) || (pair && !strcmp(key, pair)) ||
                    value == row->label || value == row->id || !strncmp(key, "label", 5);
        if (!read && is_prose(value))
            used = la_list_add(unread, sizeof unread, used, ", ", key);
    }
    reader->logged = used > 0;
    if (used)
        la_warn(
            fields->log,
            "%s: columns not read: %s; the text is \"%s\"%s%s%s (--text-field, --pair-field and "
            "--template choose)",
            reader->name, unread, text ? text : "", pair ? " with \"" : "", pair ? pair : "",
            pair ? "\"" : "");
}

/* Logs at the end options of fields that no row has. */
static void log_unmet(la_row_reader *reader) {
    const la_row_fields *f = &reader->fields;
    const struct {
        const char *option, *given;
        bool met;
    } texts[] = {{"--text-field", f->text, reader->met.text},
                 {"--pair-field", f->pair, reader->met.pair}},
      others[] = {{"--label-field", f->label, reader->met.label},
                  {"--id-field", f->id, reader->met.id}};
    if (reader->met.ended || !reader->index || !f->log)
        return;
    reader->met.ended = true;
    if (f->prompt && reader->n_ids)
        la_warn(f->log, "%s: the template is not applied to %lld of %lld rows: they have input_ids",
                reader->name, (long long)reader->n_ids, (long long)reader->index);
    for (int i = 0; i < 2; i++) {
        if (texts[i].given && !texts[i].met)
            la_warn(f->log, "%s: %s \"%s\": of no effect, %s", reader->name, texts[i].option,
                    texts[i].given,
                    reader->n_ids == reader->index ? "all rows have input_ids"
                    : f->tagged                    ? "the rows are lists of words"
                                                   : "the template says what is read");
        if (others[i].given && !others[i].met)
            la_warn(f->log, "%s: %s \"%s\": no row has this field", reader->name, others[i].option,
                    others[i].given);
    }
}

/* A text column: the named one, or the first usual one present. */
static la_status find_text(const la_row_reader *reader, const la_row *row, const char *wanted,
                           const char *const *usual, bool required, const char **text,
                           size_t *length, const char **name, la_error *err) {
    const char *key = wanted;
    const json_t *value = wanted ? json_object_get(reader->row, wanted) : NULL;
    for (; !wanted && *usual && !value; usual++) {
        key = *usual;
        value = json_object_get(reader->row, key);
    }
    *text = *name = NULL;
    *length = 0;
    if (!value && (required || wanted)) {
        char columns[400];
        list_columns(reader->row, columns, sizeof columns);
        bool words =
            json_object_get(reader->row, "tokens") || json_object_get(reader->row, "words");
        return la_row_fail(reader, row, err, "no field %s%s%s; %sthe row has: %s",
                           wanted ? "\"" : "with the text (text, sentence, ...)",
                           wanted ? wanted : "", wanted ? "\"" : "",
                           words ? "words are for adapters that classify tokens; " : "", columns);
    }
    if (!value || (!required && json_is_null(value)))
        return LA_OK;
    if (!json_is_string(value))
        return la_row_fail(reader, row, err, "field \"%s\" is %s, expected a string%s", key,
                           la_json_kind(value),
                           json_is_array(value) || json_is_object(value)
                               ? "; if the file holds columns, write its rows: pandas has "
                                 "to_json(orient='records', lines=True)"
                               : "");
    *text = json_string_value(value);
    *length = json_string_length(value);
    *name = key;
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
            parsed = la_json_loadb(cell, strlen(cell), 0, NULL);
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
    if (!json_is_array(value) || !n)
        LA_TRY_DONE(la_row_fail(reader, row, err,
                                "\"input_ids\" is %s, expected a list of at least one token id",
                                json_is_array(value) ? "empty" : la_json_kind(value)));
    LA_TRY_DONE(la_grow(&reader->ids, &reader->ids_capacity, n, sizeof *reader->ids, err));
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(value, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            LA_TRY_DONE(la_row_fail(reader, row, err,
                                    "input_ids[%zu] is no token id, expected an integer >= 0", i));
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
    reader->met.label |= row->label != NULL;
    reader->met.id |= row->id != NULL;
    if (row->id && reader->object_text)
        la_json_member(reader->object_text, reader->object_length, fields->id ? fields->id : "id",
                       &row->id_text, &row->id_length);
    const json_t *ids = json_object_get(reader->row, "input_ids");
    if (ids && !json_is_null(ids)) {
        reader->n_ids++;
        return take_ids(reader, row, ids, err);
    }
    reader->met.text |= fields->tagged;
    if (fields->tagged)
        return LA_OK;
    if (fields->prompt) {
        /* a line of text is the field of this name, which the template may ask for */
        reader->met.text |= !reader->object_text && !la_template_only_field(fields->prompt);
        char where[512];
        snprintf(where, sizeof where, "%s:%lld", reader->name, (long long)row->line);
        LA_TRY(la_template_fill(fields->prompt, reader->row, where, &reader->prompt,
                                &row->text_length, err));
        row->text = reader->prompt;
        return LA_OK;
    }
    reader->met.text = reader->met.pair = true;
    const char *text, *second;
    const char *const *known = find_known_pair(reader);
    if (known && !reader->logged_pair) {
        reader->logged_pair = true;
        la_warn(fields->log, "%s: the text is \"%s\" with \"%s\" as its pair", reader->name,
                known[0], known[1]);
    }
    LA_TRY(find_text(reader, row, known ? known[0] : fields->text, text_names, true, &row->text,
                     &row->text_length, &text, err));
    LA_TRY(find_text(reader, row, known ? known[1] : fields->pair, pair_names, false, &row->pair,
                     &row->pair_length, &second, err));
    log_unread(reader, row, text, second);
    return LA_OK;
}

char la_table_delimiter(const char *path) {
    size_t length = strlen(path);
    if (length > 3 && !strcasecmp(path + length - 3, ".gz"))
        length -= 3;
    if (length > 4 && !strncasecmp(path + length - 4, ".csv", 4))
        return ',';
    return length > 4 && !strncasecmp(path + length - 4, ".tsv", 4) ? '\t' : 0;
}

/* Format by the first line, which may differ from the name: JSON, or cells parted by something
 * else. */
static la_status look_at_table(la_row_reader *reader, la_error *err) {
    static const char others[] = ",;\t|";
    const char *text;
    size_t length, counts[sizeof others] = {0}, from = 0;
    bool quoted = false;
    LA_TRY(la_text_source_peek(reader->source, &text, &length, err));
    while (from < length && text[from] && strchr(" \r\n", text[from]))
        from++;
    const char *end = memchr(text + from, '\n', length - from);
    size_t to = end ? (size_t)(end - text) : length;
    bool object = from + 1 < to && text[from] == '{' && strchr("\"}", text[from + 1]);
    bool list = from < to && text[from] == '[' && (to - from < 3 || text[from + 1] == '{');
    if (object || list) {
        reader->delimiter = 0;
        return LA_OK;
    }
    bool own = false;
    for (size_t i = from; i < to; i++) {
        quoted ^= text[i] == '"';
        own |= !quoted && text[i] == reader->delimiter;
        for (size_t k = 0; k + 1 < sizeof others && !quoted; k++)
            counts[k] += text[i] == others[k];
    }
    size_t best = 0;
    for (size_t k = 1; k + 1 < sizeof others; k++)
        best = counts[k] > counts[best] ? k : best;
    if (!own && counts[best])
        reader->delimiter = others[best];
    return LA_OK;
}

la_status la_row_reader_open(const char *path, const la_row_fields *fields, la_row_reader **out,
                             la_error *err) {
    *out = NULL;
    la_row_reader *reader = la_alloc(1, sizeof *reader, err);
    if (!reader)
        return err->status;
    la_status status = LA_OK;
    bool standard = !strcmp(path, "-");
    reader->fields = *fields;
    reader->path = la_alloc(strlen(path) + 1, 1, err);
    LA_TRY_DONE(err->status);
    strcpy(reader->path, path);
    reader->name = standard ? "standard input" : reader->path;
    LA_TRY_DONE(la_text_source_open(path, fields->expected ? fields->expected : "a data file",
                                    fields->plain_lines, fields->digest, &reader->source, err));
    reader->delimiter = standard ? 0 : la_table_delimiter(path);
    if (reader->delimiter)
        LA_TRY_DONE(look_at_table(reader, err));
    if (reader->delimiter)
        LA_TRY_DONE(read_header(reader, err));
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
    la_text_source_close(reader->source);
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
    reader->object_text = NULL;
    free(reader->prompt);
    reader->prompt = NULL;
    *row = (la_row){.index = reader->index};
    *more = false;
    la_status status =
        reader->delimiter ? next_cells(reader, row, more, err) : next_json(reader, row, more, err);
    if (*more)
        reader->index++;
    if (status == LA_OK && !*more)
        log_unmet(reader);
    if (status != LA_OK || !*more)
        return status;
    row->object = reader->row;
    row->object_text = reader->object_text;
    row->object_length = reader->object_length;
    return reader->fields.objects ? LA_OK : take_fields(reader, row, err);
}

const json_t *la_row_reader_label(const la_row_reader *reader, const la_row *row,
                                  const char *field) {
    return row->label || reader->fields.label ? row->label : json_object_get(row->object, field);
}

double la_row_reader_fraction(const la_row_reader *reader) {
    return la_text_source_fraction(reader->source);
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
