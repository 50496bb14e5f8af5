/* Prediction rows as a table: a header line, then a line each, quoted as RFC 4180 has it. All
 * fields are columns, of which a row may leave some empty; vectors over the classes are a column
 * for each class, prob_NAME and the like. */
#include "base/memory.h"
#include "base/visible.h"
#include "input/json.h"
#include "output/escape.h"
#include "output/row_kind.h"

#include <stdlib.h>
#include <string.h>

static la_status write_text(FILE *stream, const char *text, la_error *err) {
    char *shown = la_visible_copy(text, err);
    if (shown)
        la_cell_write(stream, shown);
    free(shown);
    return err->status;
}

/* A string as its text, anything else as JSON. */
static void write_json(FILE *stream, const char *json) {
    json_error_t where;
    json_t *value = la_json_loadb(json, strlen(json), JSON_DECODE_ANY, &where);
    la_cell_write(stream, json_is_string(value) ? json_string_value(value) : json);
    json_decref(value);
}

/* A list as JSON text in one cell. */
static la_status write_list(FILE *stream, const la_row_values *values, const la_row_field *field,
                            la_error *err) {
    char *text = NULL;
    size_t length;
    FILE *cell = open_memstream(&text, &length);
    if (!cell)
        return la_fail(err, LA_RESOURCE, "out of memory for a cell");
    la_status status = la_json_value_write(cell, values, field, err);
    bool failed = fclose(cell) || !text;
    if (status == LA_OK && failed)
        status = la_fail(err, LA_RESOURCE, "out of memory for a cell");
    if (status == LA_OK)
        la_cell_write(stream, text);
    free(text);
    return status;
}

static int64_t columns_of(const la_row_shape *shape, const la_row_field *field) {
    if (field->flag && !*((const bool *)shape + field->flag))
        return 0;
    bool list = field->type == LA_ROW_FIELD_VECTOR || field->type == LA_ROW_FIELD_MATRIX;
    return list ? la_field_length(shape, field) : 1;
}

/* ---- header ---- */

/* Appends _NAME of the class, or _NUMBER where it has no name of its own. */
static void append_class(const la_row_shape *shape, int64_t class, char *name, size_t size) {
    const char *const *labels = shape->labels;
    size_t used = strlen(name);
    bool named = labels != NULL;
    for (int64_t c = 0; c < shape->n_classes && named; c++)
        named = c == class || strcmp(labels[c], labels[class]);
    if (named)
        snprintf(name + used, size - used, "_%s", labels[class]);
    else
        snprintf(name + used, size - used, "_%lld", (long long)class);
}

static la_status write_column(FILE *stream, const la_row_shape *shape, const la_row_field *field,
                              int64_t i, la_error *err) {
    char name[600];
    snprintf(name, sizeof name, "%s", field->column ? field->column : field->name);
    if (field->length)
        snprintf(name, sizeof name, "%s_%s", field->name, i ? "high" : "low");
    else if (field->type == LA_ROW_FIELD_VECTOR)
        append_class(shape, i, name, sizeof name);
    if (field->type == LA_ROW_FIELD_MATRIX) {
        append_class(shape, i / shape->n_classes, name, sizeof name);
        append_class(shape, i % shape->n_classes, name, sizeof name);
    }
    return write_text(stream, name, err);
}

/* ---- rows ---- */

static la_status write_value(FILE *stream, const la_row_values *values, const la_row_field *field,
                             int64_t i, la_error *err) {
    if (la_field_missing(values, field))
        return LA_OK;
    switch (field->type) {
    case LA_ROW_FIELD_INDEX:
    case LA_ROW_FIELD_NUMBER:
        return la_json_value_write(stream, values, field, err);
    case LA_ROW_FIELD_VECTOR:
    case LA_ROW_FIELD_MATRIX:
        la_number_write(stream, ((const double *)la_field_pointer(values, field))[i]);
        break;
    case LA_ROW_FIELD_TEXT:
        return write_text(stream, la_field_pointer(values, field), err);
    case LA_ROW_FIELD_JSON:
        write_json(stream, la_field_pointer(values, field));
        break;
    case LA_ROW_FIELD_LABEL:
    case LA_ROW_FIELD_SET:
    case LA_ROW_FIELD_SET_NAMES:
        return write_list(stream, values, field, err);
    }
    return LA_OK;
}

/* A line of all columns: their names, where values is NULL. */
static la_status write_line(FILE *stream, const la_row_shape *shape, const la_row_values *values,
                            la_error *err) {
    la_row_field_list lists[LA_ROW_FIELD_LISTS];
    bool first = true;
    la_row_kind_fields(shape->kind, lists);
    for (int l = 0; l < LA_ROW_FIELD_LISTS; l++)
        for (int f = 0; f < lists[l].n; f++) {
            const la_row_field *field = &lists[l].fields[f];
            for (int64_t i = 0; i < columns_of(shape, field); i++) {
                if (!first)
                    fputc(',', stream);
                first = false;
                LA_TRY(values ? write_value(stream, values, field, i, err)
                              : write_column(stream, shape, field, i, err));
            }
        }
    fputc('\n', stream);
    return LA_OK;
}

static la_status write_header(FILE *stream, const la_row_shape *shape, la_error *err) {
    return write_line(stream, shape, NULL, err);
}

static la_status write_row(FILE *stream, const la_row_values *values, la_error *err) {
    return write_line(stream, values->row.shape, values, err);
}

const la_row_format la_row_format_csv = {
    .name = "csv", .one_a_line = true, .header = write_header, .write = write_row};
