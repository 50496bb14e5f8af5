#include "output/prediction_rows.h"
#include "base/visible.h"
#include "output/escape.h"
#include "output/row_kind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const la_row_field *find_field(const la_row_kind *kind, const char *name) {
    for (const la_row_field *field = kind->fields; field < kind->fields + kind->n_fields; field++)
        if (!strcmp(field->name, name))
            return field;
    return NULL;
}

static bool is_left_out(const la_row_values *values, const la_row_field *field) {
    if (la_field_missing(values, field))
        return field->missing == LA_MISSING_OMITTED;
    return field->same_as &&
           la_field_number(values, field) ==
               la_field_number(values, find_field(values->row.shape->kind, field->same_as));
}

void la_number_write(FILE *stream, double value) {
    /* adding zero makes -0 a plain 0 */
    fprintf(stream, "%.10g", value + 0.0);
}

static void write_list(FILE *stream, const double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        fputc(i ? ',' : '[', stream);
        la_number_write(stream, values[i]);
    }
    fputc(']', stream);
}

static void write_matrix(FILE *stream, const double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        fputc(i ? ',' : '[', stream);
        write_list(stream, values + i * n, n);
    }
    fputc(']', stream);
}

/* A JSON string, whatever bytes the text holds. */
static la_status write_text(FILE *stream, const char *text, la_error *err) {
    char *clean = la_text_clean(text, err);
    if (!clean)
        return err->status;
    json_t *string = json_string_nocheck(clean);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    if (quoted)
        la_visible_json(quoted, strlen(quoted), stream);
    else
        (void)la_fail(err, LA_RESOURCE, "out of memory for a string");
    free(clean);
    free(quoted);
    json_decref(string);
    return err->status;
}

/* JSON text of one value; line ends between its tokens would break the row. */
static void write_json(FILE *stream, const char *json) {
    while (*json) {
        size_t length = strcspn(json, "\r\n");
        la_visible_json(json, length, stream);
        json += length;
        if (*json) {
            fputc(' ', stream);
            json++;
        }
    }
}

static la_status write_set(FILE *stream, const la_row_values *values, const la_row_field *field,
                           la_error *err) {
    const la_row_shape *shape = values->row.shape;
    const double *probs = la_field_pointer(values, field);
    bool names = field->type == LA_ROW_FIELD_SET_NAMES, first = true;
    fputc('[', stream);
    for (int64_t c = 0; c < shape->n_classes; c++) {
        if (probs[c] <= 0.5)
            continue;
        if (!first)
            fputc(',', stream);
        first = false;
        if (names && shape->labels)
            LA_TRY(write_text(stream, shape->labels[c], err));
        else
            fprintf(stream, names ? "\"%lld\"" : "%lld", (long long)c);
    }
    fputc(']', stream);
    return LA_OK;
}

la_status la_json_value_write(FILE *stream, const la_row_values *values, const la_row_field *field,
                              la_error *err) {
    if (la_field_missing(values, field)) {
        fputs("null", stream);
        return LA_OK;
    }
    switch (field->type) {
    case LA_ROW_FIELD_INDEX:
        fprintf(stream, "%lld", (long long)la_field_index(values, field));
        break;
    case LA_ROW_FIELD_NUMBER:
        la_number_write(stream, la_field_number(values, field));
        break;
    case LA_ROW_FIELD_VECTOR:
        write_list(stream, la_field_pointer(values, field),
                   la_field_length(values->row.shape, field));
        break;
    case LA_ROW_FIELD_MATRIX:
        write_matrix(stream, la_field_pointer(values, field), values->row.shape->n_classes);
        break;
    case LA_ROW_FIELD_TEXT:
        return write_text(stream, la_field_pointer(values, field), err);
    case LA_ROW_FIELD_JSON:
        write_json(stream, la_field_pointer(values, field));
        break;
    case LA_ROW_FIELD_LABEL:
        la_label_write(stream, la_field_label(values, field), values->row.shape->n_classes);
        break;
    case LA_ROW_FIELD_SET:
    case LA_ROW_FIELD_SET_NAMES:
        return write_set(stream, values, field, err);
    }
    return LA_OK;
}

/* Fields of the line, of the prediction, or both, behind an opening brace. */
static la_status write_fields(FILE *stream, const la_row_values *values, bool line, bool prediction,
                              la_error *err) {
    la_row_field_list lists[LA_ROW_FIELD_LISTS];
    bool first = true;
    la_row_kind_fields(values->row.shape->kind, lists);
    for (int l = 0; l < (prediction && !values->row.error ? LA_ROW_FIELD_LISTS : 1); l++)
        for (int i = 0; i < lists[l].n; i++) {
            const la_row_field *field = &lists[l].fields[i];
            if (!(field->of_line ? line : prediction) || is_left_out(values, field))
                continue;
            fprintf(stream, "%s\"%s\":", first ? "{" : ",", field->name);
            first = false;
            LA_TRY(la_json_value_write(stream, values, field, err));
        }
    return LA_OK;
}

static la_status write_nested(FILE *stream, const la_row_values *values, la_error *err) {
    const la_row_token *token = values->row.token;
    if (token->first) {
        LA_TRY(write_fields(stream, values, true, false, err));
        fputs(",\"tokens\":[", stream);
    }
    if (token->token >= 0) {
        if (!token->first)
            fputc(',', stream);
        LA_TRY(write_fields(stream, values, false, true, err));
        fputc('}', stream);
    }
    if (token->last)
        fputs("]}\n", stream);
    return LA_OK;
}

static la_status write_json_row(FILE *stream, const la_row_values *values, la_error *err) {
    const la_row_token *token = values->row.token;
    if (token && token->nested && !values->row.error)
        return write_nested(stream, values, err);
    LA_TRY(write_fields(stream, values, true, true, err));
    fputs("}\n", stream);
    return LA_OK;
}

const la_row_format la_row_format_jsonl = {.name = "jsonl", .write = write_json_row};

/* ---- all formats ---- */

#define LA_ROW_FORMAT(name) &la_row_format_##name,
const la_row_format *const la_row_formats[LA_ROW_FORMATS] = {
#include "output/row_formats.def"
};
#undef LA_ROW_FORMAT

#define LA_ROW_FORMAT(name) #name,
const char *const la_row_format_names[LA_ROW_FORMATS] = {
#include "output/row_formats.def"
};
#undef LA_ROW_FORMAT

const la_row_format *la_row_format_of(const char *path) {
    const char *extension = path ? strrchr(path, '.') : NULL;
    for (int f = 0; extension && f < LA_ROW_FORMATS; f++)
        if (!strcasecmp(extension + 1, la_row_formats[f]->name))
            return la_row_formats[f];
    return *la_row_formats;
}

static la_status finish(FILE *stream, la_error *err) {
    if (ferror(stream))
        return la_fail(err, LA_RESOURCE, "predictions: cannot write: %s", la_errno_text(errno));
    return LA_OK;
}

la_status la_prediction_header(const la_row_format *format, FILE *stream, const la_row_shape *shape,
                               la_error *err) {
    if (format->header)
        LA_TRY(format->header(stream, shape, err));
    return finish(stream, err);
}

la_status la_prediction_write(const la_row_format *format, FILE *stream,
                              const la_prediction_row *row, la_error *err) {
    const la_row_token *token = row->token;
    bool empty = token && token->token < 0 && !row->error;
    la_row_values values;
    la_row_values_fill(row, &values);
    if (!row->error && !empty)
        LA_TRY(la_row_values_check(&values, err));
    if (!empty || token->nested)
        LA_TRY(format->write(stream, &values, err));
    return finish(stream, err);
}
