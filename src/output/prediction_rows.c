#include "output/prediction_rows.h"
#include "base/visible.h"
#include "output/escape.h"
#include "output/row_kind.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- values of fields ---- */

static double number_at(const la_row_values *values, const la_row_field *field) {
    double number;
    memcpy(&number, (const char *)values + field->offset, sizeof number);
    return number;
}

static int64_t index_at(const la_row_values *values, const la_row_field *field) {
    int64_t index;
    memcpy(&index, (const char *)values + field->offset, sizeof index);
    return index;
}

static const void *pointer_at(const la_row_values *values, const la_row_field *field) {
    const void *pointer;
    memcpy(&pointer, (const char *)values + field->offset, sizeof pointer);
    return pointer;
}

static la_label label_at(const la_row_values *values, const la_row_field *field) {
    la_label label;
    memcpy(&label, (const char *)values + field->offset, sizeof label);
    return label;
}

static int64_t length_of(const la_row_values *values, const la_row_field *field) {
    int64_t n = values->row.n_classes;
    return field->type == LA_FIELD_MATRIX ? n * n : field->length ? field->length : n;
}

static bool is_missing(const la_row_values *values, const la_row_field *field) {
    switch (field->type) {
    case LA_FIELD_INDEX:
        return index_at(values, field) < 0;
    case LA_FIELD_NUMBER:
        return isnan(number_at(values, field));
    case LA_FIELD_LABEL:
        return la_label_is_none(label_at(values, field));
    default:
        return !pointer_at(values, field);
    }
}

static const la_row_field *find_field(const la_row_kind *kind, const char *name) {
    for (const la_row_field *field = kind->fields; field < kind->fields + kind->n_fields; field++)
        if (!strcmp(field->name, name))
            return field;
    return NULL;
}

static bool is_left_out(const la_row_values *values, const la_row_field *field) {
    if (is_missing(values, field))
        return field->missing == LA_MISSING_OMITTED;
    return field->same_as && number_at(values, field) ==
                                 number_at(values, find_field(values->row.kind, field->same_as));
}

static void fill_values(const la_prediction_row *row, la_row_values *values) {
    const la_row_token *token = row->token;
    *values = (la_row_values){.row = *row, .line_row = -1, .word = -1, .token = -1};
    if (token && !token->nested)
        values->line_row = token->row;
    if (token && !row->error) {
        values->word = token->word;
        values->token = token->token;
    }
    if (row->error)
        values->row.id_json = NULL;
    if (row->error || (token && token->token < 0))
        return;
    values->p = *row->prediction;
    if (!row->emit_logits)
        values->p.logits = NULL;
    if (!row->emit_cov)
        values->p.logit_cov = NULL;
    row->kind->derive(values);
}

/* ---- checks ---- */

static la_status check_number(const la_row_values *values, const la_row_field *field,
                              const char *index, double value, la_error *err) {
    static const char *const expected[] = {[LA_RANGE_NOT_NEGATIVE] = "0 or more",
                                           [LA_RANGE_POSITIVE] = "more than 0",
                                           [LA_RANGE_SHARE] = "0 to 1",
                                           [LA_RANGE_DISTRIBUTION] = "0 to 1"};
    /* what rounds to 1 in ten digits is 1 */
    const double least = field->range == LA_RANGE_ANY ? -HUGE_VAL : 0;
    const double most = field->range >= LA_RANGE_SHARE ? 1 + 1e-10 : HUGE_VAL;
    if (!isfinite(value))
        return la_fail(err, LA_NUMERICAL,
                       "row %lld: %s%s is %g, expected a finite number; the weights or the "
                       "posterior are out of range",
                       (long long)values->row.index, field->name, index, value);
    if (value < least || value > most || (field->range == LA_RANGE_POSITIVE && value == 0))
        return la_fail(err, LA_NUMERICAL, "row %lld: %s%s is %.10g, expected %s",
                       (long long)values->row.index, field->name, index, value,
                       expected[field->range]);
    return LA_OK;
}

static la_status check_list(const la_row_values *values, const la_row_field *field, la_error *err) {
    const double *list = pointer_at(values, field);
    double sum = 0;
    for (int64_t i = 0; i < length_of(values, field); i++) {
        char index[32];
        snprintf(index, sizeof index, "[%lld]", (long long)i);
        LA_TRY(check_number(values, field, index, list[i], err));
        sum += list[i];
    }
    if (field->range == LA_RANGE_DISTRIBUTION && fabs(sum - 1) > LA_SUM_TOLERANCE)
        return la_fail(err, LA_NUMERICAL, "row %lld: %s adds up to %.10g, expected 1",
                       (long long)values->row.index, field->name, sum);
    return LA_OK;
}

static la_status check_field(const la_row_values *values, const la_row_field *field,
                             la_error *err) {
    if (is_missing(values, field) && field->missing != LA_MISSING_REFUSED)
        return LA_OK;
    if (field->type == LA_FIELD_NUMBER)
        return check_number(values, field, "", number_at(values, field), err);
    if (field->type == LA_FIELD_VECTOR || field->type == LA_FIELD_MATRIX)
        return check_list(values, field, err);
    return LA_OK;
}

static la_status check_row(const la_row_values *values, la_error *err) {
    la_field_list lists[LA_FIELD_LISTS];
    la_row_kind_fields(values->row.kind, lists);
    for (int derived = 0; derived < 2; derived++)
        for (int l = 1; l < LA_FIELD_LISTS; l++)
            for (int i = 0; i < lists[l].n; i++)
                if (lists[l].fields[i].derived == derived)
                    LA_TRY(check_field(values, &lists[l].fields[i], err));
    return LA_OK;
}

/* ---- JSON ---- */

static void write_number(FILE *stream, double value) {
    /* adding zero makes -0 a plain 0 */
    fprintf(stream, "%.10g", value + 0.0);
}

static void write_list(FILE *stream, const double *values, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        fputc(i ? ',' : '[', stream);
        write_number(stream, values[i]);
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

/* A number in full: what was read is what is written. */
static void write_label(FILE *stream, la_label label) {
    char text[32];
    if (label.kind == LA_LABEL_CLASS) {
        fprintf(stream, "%lld", (long long)label.class);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        /* adding zero makes -0 a plain 0 */
        snprintf(text, sizeof text, "%.*g", digits, label.number + 0.0);
        if (strtod(text, NULL) == label.number)
            break;
    }
    fputs(text, stream);
}

static la_status write_value(FILE *stream, const la_row_values *values, const la_row_field *field,
                             la_error *err) {
    if (is_missing(values, field)) {
        fputs("null", stream);
        return LA_OK;
    }
    switch (field->type) {
    case LA_FIELD_INDEX:
        fprintf(stream, "%lld", (long long)index_at(values, field));
        break;
    case LA_FIELD_NUMBER:
        write_number(stream, number_at(values, field));
        break;
    case LA_FIELD_VECTOR:
        write_list(stream, pointer_at(values, field), length_of(values, field));
        break;
    case LA_FIELD_MATRIX:
        write_matrix(stream, pointer_at(values, field), values->row.n_classes);
        break;
    case LA_FIELD_TEXT:
        return write_text(stream, pointer_at(values, field), err);
    case LA_FIELD_JSON:
        write_json(stream, pointer_at(values, field));
        break;
    case LA_FIELD_LABEL:
        write_label(stream, label_at(values, field));
        break;
    }
    return LA_OK;
}

/* Fields of the line, of the prediction, or both, behind an opening brace. */
static la_status write_fields(FILE *stream, const la_row_values *values, bool line, bool prediction,
                              la_error *err) {
    la_field_list lists[LA_FIELD_LISTS];
    bool first = true;
    la_row_kind_fields(values->row.kind, lists);
    for (int l = 0; l < (prediction && !values->row.error ? LA_FIELD_LISTS : 1); l++)
        for (int i = 0; i < lists[l].n; i++) {
            const la_row_field *field = &lists[l].fields[i];
            if (!(field->of_line ? line : prediction) || is_left_out(values, field))
                continue;
            fprintf(stream, "%s\"%s\":", first ? "{" : ",", field->name);
            first = false;
            LA_TRY(write_value(stream, values, field, err));
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

la_status la_prediction_write(FILE *stream, const la_prediction_row *row, la_error *err) {
    const la_row_token *token = row->token;
    bool empty = token && token->token < 0 && !row->error;
    la_row_values values;
    fill_values(row, &values);
    if (!row->error && !empty)
        LA_TRY(check_row(&values, err));
    if (token && token->nested && !row->error) {
        LA_TRY(write_nested(stream, &values, err));
    } else if (!empty) {
        LA_TRY(write_fields(stream, &values, true, true, err));
        fputs("}\n", stream);
    }
    if (ferror(stream))
        return la_fail(err, LA_RESOURCE, "predictions: cannot write: %s", la_errno_text(errno));
    return LA_OK;
}
