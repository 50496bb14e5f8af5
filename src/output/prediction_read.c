#include "base/memory.h"
#include "base/numbers.h"
#include "base/stop.h"
#include "base/visible.h"
#include "input/json.h"
#include "input/json_members.h"
#include "input/rows.h"
#include "output/row_kind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct row_reader {
    la_row_reader *rows;
    const char *name;
    int64_t line;
    char place[512]; /* FILE:LINE, for messages */
    la_predictions *out;
    const la_prediction_watch *watch; /* NULL: none */
    size_t values_capacity, map_capacity, labels_capacity;
    int64_t n_kinds; /* rows that say their kind of confidence */
    int64_t n_lists; /* lines that are lists of them */
} row_reader;

static la_status bad_value(const row_reader *reader, const char *key, const char *index,
                           const json_t *found, const char *expected, la_error *err) {
    return la_fail(err, LA_BAD_INPUT, "%s:%lld: \"%s\"%s is %s, expected %s", reader->name,
                   (long long)reader->line, key, index, la_json_kind(found), expected);
}

/* Copies a list over the classes into out. */
static la_status take_vector(const row_reader *reader, const la_row_field *field,
                             const json_t *list, double *out, la_error *err) {
    int64_t n = reader->out->n_classes;
    double sum = 0;
    if (!json_is_array(list))
        return bad_value(reader, field->name, "", list, "a list of probabilities", err);
    if (json_array_size(list) != (size_t)n)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"%s\" has %zu entries, expected %lld, one for each class",
                       reader->name, (long long)reader->line, field->name, json_array_size(list),
                       (long long)n);
    for (int64_t c = 0; c < n; c++) {
        const json_t *entry = json_array_get(list, (size_t)c);
        char index[32];
        snprintf(index, sizeof index, "[%lld]", (long long)c);
        if (!json_is_number(entry))
            return bad_value(reader, field->name, index, entry, "a number from 0 to 1", err);
        out[c] = json_number_value(entry);
        if (!(out[c] >= 0 && out[c] <= 1))
            return la_fail(err, LA_BAD_INPUT,
                           "%s:%lld: \"%s\"%s is %.10g, expected a number from 0 to 1",
                           reader->name, (long long)reader->line, field->name, index, out[c]);
        sum += out[c];
    }
    if (field->range == LA_RANGE_DISTRIBUTION && fabs(sum - 1) > LA_SUM_TOLERANCE)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"%s\" adds up to %.10g, expected 1 within 1e-6", reader->name,
                       (long long)reader->line, field->name, sum);
    return LA_OK;
}

static la_status take_number(const row_reader *reader, const json_t *row, const la_row_field *field,
                             double *out, la_error *err) {
    const json_t *own = json_object_get(row, field->name);
    const char *key = field->same_as && (!own || json_is_null(own)) ? field->same_as : field->name;
    *out = NAN;
    LA_TRY(la_json_number(row, reader->place, key, field->into == LA_INTO_VALUES, out, err));
    if (field->range == LA_RANGE_POSITIVE && *out <= 0)
        return la_fail(err, LA_BAD_INPUT, "%s: \"%s\" is %g, expected a positive number",
                       reader->place, key, *out);
    return LA_OK;
}

/* values, map_values: of this row. *has_map is false where one of the latter is missing. */
static la_status take_values(const row_reader *reader, const json_t *row, double *values,
                             double *map_values, bool *has_map, la_error *err) {
    const la_row_kind *kind = reader->out->kind;
    *has_map = true;
    for (const la_row_field *field = kind->fields; field < kind->fields + kind->n_fields; field++) {
        double *into = field->into == LA_INTO_MAP ? map_values : values;
        const json_t *value = json_object_get(row, field->name);
        if (field->into == LA_INTO_NOTHING)
            continue;
        if (field->type == LA_ROW_FIELD_NUMBER) {
            LA_TRY(take_number(reader, row, field, &into[field->at], err));
            *has_map &= !isnan(into[field->at]);
        } else if (field->into == LA_INTO_MAP && (!value || json_is_null(value))) {
            *has_map = false;
        } else {
            LA_TRY(take_vector(reader, field, value, into, err));
        }
    }
    return LA_OK;
}

/* Names of classes, from the lists "prediction" and "prediction_label", where they go together. */
static la_status take_names(const row_reader *reader, const json_t *row, la_error *err) {
    const la_predictions *out = reader->out;
    const json_t *classes = json_object_get(row, "prediction"), *class;
    const json_t *names = json_object_get(row, "prediction_label");
    size_t i;
    if (!out->names || json_array_size(classes) != json_array_size(names))
        return LA_OK;
    json_array_foreach(classes, i, class) {
        const char *name = json_string_value(json_array_get(names, i));
        int64_t c = json_is_integer(class) ? json_integer_value(class) : -1;
        if (name && c >= 0 && c < out->n_classes && !out->names[c])
            out->names[c] = la_visible_copy(name, err);
    }
    return err->status;
}

static const char kind_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";

static la_status take_confidence_kind(row_reader *reader, const json_t *row, la_error *err) {
    const char *text = NULL;
    char kind[LA_CONFIDENCE_KIND_MAX];
    LA_TRY(la_json_text(row, reader->place, "confidence_kind", false, &text, err));
    if (!text)
        return LA_OK;
    snprintf(kind, sizeof kind, "%s", text);
    /* it is shown in terminals and markup */
    for (char *c = kind; *c; c++)
        if (!strchr(kind_characters, *c))
            *c = '?';
    if (reader->n_kinds++ && strcmp(kind, reader->out->confidence_kind))
        strcpy(kind, "mixed");
    memcpy(reader->out->confidence_kind, kind, sizeof kind);
    return LA_OK;
}

/* The first row decides what the file is of. */
static la_status take_kind(row_reader *reader, const json_t *row, const la_row_kind *kind,
                           la_error *err) {
    la_predictions *out = reader->out;
    const json_t *values = json_object_get(row, kind->values_field);
    int64_t least = kind->likelihood->n_least;
    out->kind = kind;
    out->labels.kind = kind->likelihood->label_kind;
    out->n_classes = kind->width ? least : (int64_t)json_array_size(values);
    out->labels.width = out->n_classes;
    if (kind->metrics->n_class)
        out->names = la_alloc((size_t)out->n_classes, sizeof *out->names, err);
    if (!kind->width && json_is_array(values) && out->n_classes < least)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"%s\" has %lld entries, expected one for each of at least %lld "
                       "classes",
                       reader->name, (long long)reader->line, kind->values_field,
                       (long long)out->n_classes, (long long)least);
    return err->status;
}

static const la_row_kind *recognise(const json_t *row) {
    for (int k = 0; k < LA_ROW_KINDS; k++)
        if (la_row_kinds[k]->is(row))
            return la_row_kinds[k];
    return NULL;
}

/* A flag of the row, or of the line that it is in; in a table it is text. */
static bool is_flagged(const json_t *line, const json_t *row, const char *name) {
    const json_t *flag = json_object_get(row, name);
    if (!flag)
        flag = json_object_get(line, name);
    return json_is_true(flag) || (json_is_string(flag) && !strcmp(json_string_value(flag), "true"));
}

/* A prediction: a line, or an entry of a line's tokens. */
static la_status take_prediction(row_reader *reader, const json_t *line, const json_t *row,
                                 la_error *err) {
    la_predictions *out = reader->out;
    const la_row_kind *kind = recognise(row);
    size_t n = (size_t)out->n;
    la_label label;
    bool has_map;
    snprintf(reader->place, sizeof reader->place, "%.*s:%lld",
             (int)la_visible_cut(reader->name, 400), reader->name, (long long)reader->line);
    if (out->kind && out->kind->mismatch && kind != out->kind)
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: %s", reader->name, (long long)reader->line,
                       out->kind->mismatch);
    if (!kind || (out->kind && kind != out->kind))
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: no field \"probs\"; expected rows as laplora predict writes them",
                       reader->name, (long long)reader->line);
    if (!out->kind)
        LA_TRY(take_kind(reader, row, kind, err));
    size_t width = (size_t)(kind->width ? kind->width : out->n_classes);
    LA_TRY(
        la_grow(&out->values, &reader->values_capacity, (n + 1) * width, sizeof *out->values, err));
    LA_TRY(la_grow(&out->map_values, &reader->map_capacity, (n + 1) * width,
                   sizeof *out->map_values, err));
    LA_TRY(la_label_list_grow(&out->labels, &reader->labels_capacity, n + 1, err));
    LA_TRY(take_values(reader, row, out->values + n * width, out->map_values + n * width, &has_map,
                       err));
    LA_TRY(take_names(reader, row, err));
    LA_TRY(take_confidence_kind(reader, row, err));
    label = la_label_none(out->labels.kind);
    LA_TRY(la_label_of_json(row, reader->place, out->n_classes, &label, err));
    out->n_without_map += !has_map;
    /* a row without a label is checked like any other, then overwritten by the next one */
    la_label_list_set(&out->labels, out->n, label);
    bool labelled = !la_label_is_none(label);
    la_label_free(&label);
    if (reader->watch)
        LA_TRY(reader->watch->see(reader->watch->user, line, row, labelled ? out->n : -1,
                                  reader->place, err));
    out->n += labelled;
    out->n_unlabelled += !labelled;
    out->seen.n_held_out += labelled && is_flagged(line, row, "held_out");
    out->seen.n_calibration += labelled && is_flagged(line, row, "calibration");
    return LA_OK;
}

static la_status take_row(row_reader *reader, const json_t *row, la_error *err) {
    const json_t *tokens = json_object_get(row, "tokens"), *error = json_object_get(row, "error");
    size_t i;
    json_t *entry;
    if (error && !json_is_null(error)) {
        reader->out->n_errors++;
        return LA_OK;
    }
    if (!tokens || recognise(row))
        return take_prediction(reader, row, row, err);
    if (!json_is_array(tokens))
        return bad_value(reader, "tokens", "", tokens, "a list of predictions", err);
    reader->n_lists++;
    json_array_foreach(tokens, i, entry) {
        char index[32];
        snprintf(index, sizeof index, "[%zu]", i);
        if (!json_is_object(entry))
            return bad_value(reader, "tokens", index, entry, "a prediction", err);
        LA_TRY(take_prediction(reader, row, entry, err));
    }
    return LA_OK;
}

/* ---- rows taken from their text ---- */

/* Entries of a list of numbers. False for anything that take_vector refuses. */
static bool scan_vector(const la_json_value *list, const la_row_field *field, int64_t n,
                        double *out) {
    const char *at = list->text + 1;
    double sum = 0;
    if (list->type != '[' || list->count != n)
        return false;
    for (int64_t c = 0; c < n; c++) {
        at += strspn(at, " \t,");
        la_json_value entry = {.text = at, .length = strspn(at, "+-.0123456789eE")};
        if (!entry.length || entry.length >= LA_JSON_DIGITS)
            return false;
        out[c] = la_json_value_number(&entry);
        if (!(out[c] >= 0 && out[c] <= 1))
            return false;
        sum += out[c];
        at += entry.length;
    }
    return field->range != LA_RANGE_DISTRIBUTION || fabs(sum - 1) <= LA_SUM_TOLERANCE;
}

static bool scan_label(const la_json_value *value, int64_t n_classes, int64_t *class) {
    return value && la_json_value_integer(value, class) && *class >= 0 && *class < n_classes;
}

static bool scan_flag(const la_json_value *members, int n, const char *name) {
    const la_json_value *flag = la_json_member_of(members, n, name);
    return flag && flag->type == 't';
}

/* Takes a row like those before it: of classes, with a label and with values that are right. All
 * others are parsed, and judged, by take_prediction, which makes space for more rows as well. */
static bool scan(void *user, const char *text, size_t length) {
    enum { MOST = 32 };
    row_reader *reader = user;
    la_predictions *out = reader->out;
    la_json_value members[MOST];
    int n_members;
    size_t n = (size_t)out->n, width = (size_t)out->n_classes;
    int64_t class;
    bool has_map = true;
    if (!out->kind || !out->kind->scanned || (reader->watch && !reader->watch->skips) ||
        n >= reader->labels_capacity || (n + 1) * width > reader->values_capacity ||
        (n + 1) * width > reader->map_capacity ||
        !la_json_members(text, length, members, MOST, &n_members))
        return false;
    const la_json_value *kind = la_json_member_of(members, n_members, "confidence_kind");
    const la_json_value *prediction = la_json_member_of(members, n_members, "prediction");
    if (kind &&
        (!reader->n_kinds || kind->type != '"' || kind->length != strlen(out->confidence_kind) ||
         memcmp(kind->text, out->confidence_kind, kind->length)))
        return false;
    if (la_json_member_of(members, n_members, "error") || (prediction && prediction->type != '0') ||
        !scan_label(la_json_member_of(members, n_members, "label"), out->n_classes, &class))
        return false;
    for (int f = 0; f < out->kind->n_fields; f++) {
        const la_row_field *field = &out->kind->fields[f];
        double *into = (field->into == LA_INTO_MAP ? out->map_values : out->values) + n * width;
        if (field->into == LA_INTO_NOTHING)
            continue;
        const la_json_value *value = la_json_member_of(members, n_members, field->name);
        if (!value && field->into == LA_INTO_MAP)
            has_map = false;
        else if (!value || !scan_vector(value, field, out->n_classes, into))
            return false;
    }
    out->labels.classes[n] = class;
    if (reader->watch && !reader->watch->skips(reader->watch->user))
        return false;
    out->n++;
    out->n_without_map += !has_map;
    out->seen.n_held_out += scan_flag(members, n_members, "held_out");
    out->seen.n_calibration += scan_flag(members, n_members, "calibration");
    return true;
}

/* ---- tables ---- */

/* The vector that a column is an entry of; NULL: a field of its own. */
static const la_row_field *vector_of(const char *column) {
    for (int k = 0; k < LA_ROW_KINDS; k++)
        for (int f = 0; f < la_row_kinds[k]->n_fields; f++) {
            const la_row_field *field = &la_row_kinds[k]->fields[f];
            size_t stem = field->column && field->into ? strlen(field->column) : 0;
            if (stem && !strncmp(column, field->column, stem) && column[stem] == '_')
                return field;
        }
    return NULL;
}

static json_t *value_of_cell(const char *text) {
    double number;
    json_t *nested =
        *text == '[' || *text == '{' ? la_json_loadb(text, strlen(text), 0, NULL) : NULL;
    if (nested)
        return nested;
    if (!la_number_parse(text, &number))
        return json_string(text);
    bool whole = !text[strspn(text, "+-0123456789")] && fabs(number) < 1e15;
    return whole ? json_integer((json_int_t)number) : json_real(number);
}

/* The row as JSON has it. An empty cell is a missing field. The caller frees it. */
static json_t *object_of_cells(const json_t *cells, la_error *err) {
    json_t *object = json_object(), *cell, *list;
    const char *column;
    int bad = !object;
    json_object_foreach((json_t *)(uintptr_t)cells, column, cell) {
        const la_row_field *vector = vector_of(column);
        if (!json_string_length(cell))
            continue;
        json_t *value = value_of_cell(json_string_value(cell));
        if (!vector) {
            bad |= json_object_set_new(object, column, value);
            continue;
        }
        list = json_object_get(object, vector->name);
        if (!list)
            bad |= json_object_set_new(object, vector->name, list = json_array());
        bad |= json_array_append_new(list, value);
    }
    if (!bad)
        return object;
    json_decref(object);
    (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
    return NULL;
}

static la_status take_cells(row_reader *reader, const json_t *cells, la_error *err) {
    json_t *object = object_of_cells(cells, err);
    la_status status = object ? take_row(reader, object, err) : err->status;
    json_decref(object);
    return status;
}

static la_status read_rows(row_reader *reader, la_error *err) {
    la_predictions *out = reader->out;
    bool table = la_row_reader_is_table(reader->rows);
    la_row row;
    for (bool more = true;;) {
        LA_TRY(la_row_reader_next(reader->rows, &row, &more, err));
        if (!more)
            break;
        reader->line = row.line;
        if (row.object) /* else it was scanned */
            LA_TRY(table ? take_cells(reader, row.object, err) : take_row(reader, row.object, err));
        if (row.index % 1024 == 0)
            LA_TRY(la_check_interrupt(err));
    }
    if (!out->kind && !out->n_errors && !reader->n_lists)
        return la_fail(err, LA_BAD_INPUT, "%s: is empty, expected prediction rows", reader->name);
    if (!out->kind)
        out->kind = la_row_kinds[LA_ROW_KINDS - 1];
    if (out->n_without_map || !out->n) {
        free(out->map_values);
        out->map_values = NULL;
    }
    return LA_OK;
}

la_status la_predictions_read(const char *path, la_predictions *predictions, la_error *err) {
    return la_predictions_watch(path, NULL, predictions, err);
}

la_status la_predictions_watch(const char *path, const la_prediction_watch *watch,
                               la_predictions *predictions, la_error *err) {
    row_reader reader = {.out = predictions, .watch = watch};
    *predictions = (la_predictions){0};
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_row_fields fields = {.objects = true,
                            .expected = "a prediction file",
                            .scan = scan,
                            .user = &reader,
                            .digest = digest};
    la_status status = la_row_reader_open(path, &fields, &reader.rows, err);
    if (status == LA_OK) {
        reader.name = la_row_reader_name(reader.rows);
        status = read_rows(&reader, err);
    }
    la_row_reader_close(reader.rows);
    la_digest_finish(digest, predictions->digest);
    if (status != LA_OK)
        la_predictions_free(predictions);
    return status;
}

void la_predictions_free(la_predictions *predictions) {
    free(predictions->values);
    free(predictions->map_values);
    for (int64_t c = 0; predictions->names && c < predictions->n_classes; c++)
        free(predictions->names[c]);
    free(predictions->names);
    la_label_list_free(&predictions->labels);
    *predictions = (la_predictions){0};
}
