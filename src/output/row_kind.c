#include "output/row_kind.h"

#include <math.h>
#include <string.h>

#define OF(member) .flag = offsetof(la_row_shape, member)
#define AT(member) .offset = offsetof(la_row_values, member)
static const la_row_field before[] = {
    {"index", LA_ROW_FIELD_INDEX, AT(row.index), .of_line = true},
    {"row", LA_ROW_FIELD_INDEX, AT(line_row), OF(has_tokens), .missing = LA_MISSING_OMITTED,
     .of_line = true},
    {"error", LA_ROW_FIELD_TEXT, AT(row.error), OF(has_errors), .missing = LA_MISSING_OMITTED,
     .of_line = true},
    {"word", LA_ROW_FIELD_INDEX, AT(word), OF(has_tokens), .missing = LA_MISSING_OMITTED},
    {"token", LA_ROW_FIELD_INDEX, AT(token), OF(has_tokens), .missing = LA_MISSING_OMITTED},
    {"id", LA_ROW_FIELD_JSON, AT(row.id_json), .missing = LA_MISSING_OMITTED, .of_line = true},
    {"label", LA_ROW_FIELD_LABEL, AT(row.label), .missing = LA_MISSING_OMITTED},
    {"held_out", LA_ROW_FIELD_JSON, AT(row.held_out), OF(has_held_out),
     .missing = LA_MISSING_OMITTED, .of_line = true},
    {"calibration", LA_ROW_FIELD_JSON, AT(row.calibration), OF(has_calibration),
     .missing = LA_MISSING_OMITTED, .of_line = true},
    {"fields", LA_ROW_FIELD_JSON, AT(row.fields_json), OF(has_fields),
     .missing = LA_MISSING_OMITTED, .of_line = true},
    {"action", LA_ROW_FIELD_TEXT, AT(row.action), OF(has_action), .missing = LA_MISSING_OMITTED,
     .of_error = true},
    {"reason", LA_ROW_FIELD_TEXT, AT(row.reason), OF(has_action), .missing = LA_MISSING_OMITTED,
     .of_error = true},
};
static const la_row_field behind[] = {
    {"ood", LA_ROW_FIELD_NUMBER, AT(p.ood), LA_RANGE_SHARE, OF(emit_ood),
     .missing = LA_MISSING_OMITTED},
    {"confidence_kind", LA_ROW_FIELD_TEXT, AT(confidence_kind)},
    {"model", LA_ROW_FIELD_TEXT, AT(model), OF(has_model), .missing = LA_MISSING_OMITTED},
    {"logits", LA_ROW_FIELD_VECTOR, AT(p.logits), OF(emit_logits), .column = "logit",
     .missing = LA_MISSING_OMITTED},
    {"logit_cov", LA_ROW_FIELD_MATRIX, AT(p.logit_cov), OF(emit_cov), .column = "logit_cov",
     .missing = LA_MISSING_OMITTED},
};

#define LA_ROW_KIND(name) &la_##name##_rows,
const la_row_kind *const la_row_kinds[LA_ROW_KINDS] = {
#include "output/row_kinds.def"
};
#undef LA_ROW_KIND

const la_row_kind *la_row_kind_of(const la_likelihood *likelihood) {
    int k = 0;
    while (la_row_kinds[k]->likelihood->label_kind != likelihood->label_kind)
        k++;
    return la_row_kinds[k];
}

void la_row_kind_fields(const la_row_kind *kind, la_row_field_list lists[LA_ROW_FIELD_LISTS]) {
    lists[0] = (la_row_field_list){before, sizeof before / sizeof *before};
    lists[1] = (la_row_field_list){kind->fields, kind->n_fields};
    lists[2] = (la_row_field_list){behind, sizeof behind / sizeof *behind};
}

/* ---- values of fields ---- */

double la_field_number(const la_row_values *values, const la_row_field *field) {
    double number;
    memcpy(&number, (const char *)values + field->offset, sizeof number);
    return number;
}

int64_t la_field_index(const la_row_values *values, const la_row_field *field) {
    int64_t index;
    memcpy(&index, (const char *)values + field->offset, sizeof index);
    return index;
}

const void *la_field_pointer(const la_row_values *values, const la_row_field *field) {
    const void *pointer;
    memcpy(&pointer, (const char *)values + field->offset, sizeof pointer);
    return pointer;
}

la_label la_field_label(const la_row_values *values, const la_row_field *field) {
    la_label label;
    memcpy(&label, (const char *)values + field->offset, sizeof label);
    return label;
}

int64_t la_field_length(const la_row_shape *shape, const la_row_field *field) {
    int64_t n = shape->n_classes;
    return field->type == LA_ROW_FIELD_MATRIX ? n * n : field->length ? field->length : n;
}

/* A predictive that has no such vector leaves it so. */
static bool is_nan_throughout(const la_row_values *values, const la_row_field *field) {
    const double *list = la_field_pointer(values, field);
    for (int64_t i = 0; i < la_field_length(values->row.shape, field); i++)
        if (!isnan(list[i]))
            return false;
    return true;
}

bool la_field_missing(const la_row_values *values, const la_row_field *field) {
    if (field->flag && !*((const bool *)values->row.shape + field->flag))
        return true;
    if (values->row.error && !field->of_line && !field->of_error)
        return true;
    switch (field->type) {
    case LA_ROW_FIELD_INDEX:
        return la_field_index(values, field) < 0;
    case LA_ROW_FIELD_NUMBER:
        return isnan(la_field_number(values, field));
    case LA_ROW_FIELD_LABEL:
        return la_label_is_none(la_field_label(values, field));
    default:
        return !la_field_pointer(values, field) ||
               (field->missing == LA_MISSING_NULL && is_nan_throughout(values, field));
    }
}

void la_row_values_fill(const la_prediction_row *row, la_row_values *values) {
    const la_row_token *token = row->token;
    *values = (la_row_values){.row = *row, .line_row = -1, .word = -1, .token = -1};
    if (token && !token->nested)
        values->line_row = token->row;
    if (token && !row->error) {
        values->word = token->word;
        values->token = token->token;
    }
    if (row->error)
        values->row.id_json = values->row.held_out = values->row.calibration = NULL;
    if (row->error || (token && token->token < 0))
        return;
    values->p = *row->prediction;
    values->confidence_kind = row->shape->confidence_kind;
    values->model = row->shape->model;
    if (row->shape->kind->derive)
        row->shape->kind->derive(values);
}

/* ---- checks ---- */

static la_status check_number(const la_row_values *values, const la_row_field *field,
                              const char *index, double value, la_error *err) {
    static const char *const expected[] = {[LA_RANGE_NOT_NEGATIVE] = "0 or more",
                                           [LA_RANGE_POSITIVE] = "more than 0",
                                           [LA_RANGE_SHARE] = "0 to 1",
                                           [LA_RANGE_DISTRIBUTION] = "0 to 1"};
    /* a number that rounds to 1 in ten digits is 1 */
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
    const double *list = la_field_pointer(values, field);
    double sum = 0;
    for (int64_t i = 0; i < la_field_length(values->row.shape, field); i++) {
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
    if (la_field_missing(values, field) && field->missing != LA_MISSING_REFUSED)
        return LA_OK;
    if (field->type == LA_ROW_FIELD_NUMBER)
        return check_number(values, field, "", la_field_number(values, field), err);
    if (field->type == LA_ROW_FIELD_VECTOR || field->type == LA_ROW_FIELD_MATRIX)
        return check_list(values, field, err);
    return LA_OK;
}

la_status la_row_values_check(const la_row_values *values, la_error *err) {
    la_row_field_list lists[LA_ROW_FIELD_LISTS];
    la_row_kind_fields(values->row.shape->kind, lists);
    for (int derived = 0; derived < 2; derived++)
        for (int l = 1; l < LA_ROW_FIELD_LISTS; l++)
            for (int i = 0; i < lists[l].n; i++)
                if (lists[l].fields[i].derived == derived)
                    LA_TRY(check_field(values, &lists[l].fields[i], err));
    return LA_OK;
}
