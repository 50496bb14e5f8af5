#include "base/memory.h"
#include "base/visible.h"
#include "input/json.h"
#include "output/row_kind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct row_reader {
    const char *name;
    int64_t line;
    char place[LA_ENTRY_PLACE]; /* FILE:LINE, for messages */
    la_predictions *out;
    const la_prediction_watch *watch; /* NULL: none */
    size_t values_capacity, map_capacity, labels_capacity;
    int64_t n_kinds; /* rows that say their kind of confidence */
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
static la_status take_names(const row_reader *reader, const la_prediction_entry *entry,
                            la_error *err) {
    const la_predictions *out = reader->out;
    const la_json_value *classes = la_entry_member(entry, "prediction");
    const la_json_value *names = la_entry_member(entry, "prediction_label");
    la_json_value class, name;
    const char *class_at, *name_at;
    if (!out->names || !classes || classes->type != '[' || !names || names->type != '[' ||
        classes->count != names->count)
        return LA_OK;
    la_json_entries(classes, &class_at);
    la_json_entries(names, &name_at);
    while (la_json_entry(classes, &class_at, &class) && la_json_entry(names, &name_at, &name)) {
        int64_t c = -1;
        if (!la_json_value_integer(&class, &c) || c < 0 || c >= out->n_classes || out->names[c] ||
            name.type != '"')
            continue;
        char *text = la_json_value_text(&name, err);
        out->names[c] = text ? la_visible_copy(text, err) : NULL;
        free(text);
        LA_TRY(err->status);
    }
    return err->status;
}

static const char kind_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";

/* True where the row says the kind that those before it do, or none. */
static bool has_known_kind(const row_reader *reader, const la_prediction_entry *entry) {
    const la_json_value *kind = la_entry_member(entry, "confidence_kind");
    const char *known = reader->out->confidence_kind;
    return !kind || (reader->n_kinds && kind->type == '"' && kind->length == strlen(known) &&
                     !memcmp(kind->text, known, kind->length));
}

static la_status take_confidence_kind(row_reader *reader, const la_prediction_entry *entry,
                                      la_error *err) {
    const char *text = NULL;
    char kind[LA_CONFIDENCE_KIND_MAX];
    if (has_known_kind(reader, entry))
        return LA_OK;
    (void)la_entry_place(entry, reader->place);
    const json_t *row = la_entry_json(entry, err);
    LA_TRY(err->status);
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
static la_status take_kind(row_reader *reader, const la_prediction_entry *entry,
                           const la_row_kind *kind, la_error *err) {
    la_predictions *out = reader->out;
    const la_json_value *values = la_entry_member(entry, kind->values_field);
    int64_t least = kind->likelihood->n_least;
    out->kind = kind;
    out->labels.kind = kind->likelihood->label_kind;
    out->n_classes = kind->width ? least : values->type == '[' ? values->count : 0;
    out->labels.width = out->n_classes;
    if (kind->metrics->n_class)
        out->names = la_alloc((size_t)out->n_classes, sizeof *out->names, err);
    if (!kind->width && values->type == '[' && out->n_classes < least)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: \"%s\" has %lld entries, expected one for each of at least %lld "
                       "classes",
                       reader->name, (long long)reader->line, kind->values_field,
                       (long long)out->n_classes, (long long)least);
    return err->status;
}

static const la_row_kind *recognise(const la_prediction_entry *entry) {
    for (int k = 0; k < LA_ROW_KINDS; k++)
        if (la_row_kinds[k]->is(entry))
            return la_row_kinds[k];
    return NULL;
}

static la_status check_kind(row_reader *reader, const la_prediction_entry *entry, la_error *err) {
    const la_predictions *out = reader->out;
    const la_row_kind *kind = recognise(entry);
    if (kind && kind == out->kind)
        return LA_OK;
    if (out->kind && out->kind->mismatch)
        return la_fail(err, LA_BAD_INPUT, "%s:%lld: %s", reader->name, (long long)reader->line,
                       out->kind->mismatch);
    if (!kind || out->kind)
        return la_fail(err, LA_BAD_INPUT,
                       "%s:%lld: no field \"probs\"; expected rows as laplora predict writes them",
                       reader->name, (long long)reader->line);
    return take_kind(reader, entry, kind, err);
}

/* ---- values that are right ---- */

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

static bool is_missing(const la_json_value *value) {
    return !value || value->type == 'n';
}

static bool scan_number(const la_prediction_entry *entry, const la_row_field *field, double *out) {
    const la_json_value *own = la_entry_member(entry, field->name);
    if (field->same_as && is_missing(own))
        own = la_entry_member(entry, field->same_as);
    *out = NAN;
    if (is_missing(own))
        return field->into != LA_INTO_VALUES;
    if (own->type != '0')
        return false;
    *out = la_json_value_number(own);
    return field->range != LA_RANGE_POSITIVE || *out > 0;
}

/* values, map_values: of this prediction. *has_map is false where one of the latter is missing.
 * False for values that take_values refuses, which then says why. */
static bool scan_values(const row_reader *reader, const la_prediction_entry *entry, double *values,
                        double *map_values, bool *has_map) {
    const la_row_kind *kind = reader->out->kind;
    *has_map = true;
    for (const la_row_field *field = kind->fields; field < kind->fields + kind->n_fields; field++) {
        double *into = field->into == LA_INTO_MAP ? map_values : values;
        if (field->into == LA_INTO_NOTHING)
            continue;
        if (field->type == LA_ROW_FIELD_NUMBER) {
            if (!scan_number(entry, field, &into[field->at]))
                return false;
            *has_map &= !isnan(into[field->at]);
            continue;
        }
        const la_json_value *value = la_entry_member(entry, field->name);
        if (field->into == LA_INTO_MAP && is_missing(value))
            *has_map = false;
        else if (!value || !scan_vector(value, field, reader->out->n_classes, into))
            return false;
    }
    return true;
}

/* ---- predictions ---- */

static la_status grow(row_reader *reader, size_t n, size_t width, la_error *err) {
    la_predictions *out = reader->out;
    LA_TRY(la_grow(&out->values, &reader->values_capacity, n * width, sizeof *out->values, err));
    LA_TRY(
        la_grow(&out->map_values, &reader->map_capacity, n * width, sizeof *out->map_values, err));
    return la_label_list_grow(&out->labels, &reader->labels_capacity, n, err);
}

static la_status take_prediction(row_reader *reader, const la_prediction_entry *entry,
                                 la_error *err) {
    la_predictions *out = reader->out;
    size_t n = (size_t)out->n;
    bool has_map;
    reader->line = entry->line;
    LA_TRY(check_kind(reader, entry, err));
    size_t width = (size_t)(out->kind->width ? out->kind->width : out->n_classes);
    LA_TRY(grow(reader, n + 1, width, err));
    double *values = out->values + n * width, *map_values = out->map_values + n * width;
    la_label label = la_label_none(out->labels.kind);
    if (!scan_values(reader, entry, values, map_values, &has_map)) {
        (void)la_entry_place(entry, reader->place);
        const json_t *row = la_entry_json(entry, err);
        LA_TRY(err->status);
        LA_TRY(take_values(reader, row, values, map_values, &has_map, err));
    }
    LA_TRY(take_names(reader, entry, err));
    LA_TRY(take_confidence_kind(reader, entry, err));
    if (!la_label_of_value(la_entry_member(entry, "label"), out->n_classes, &label)) {
        (void)la_entry_place(entry, reader->place);
        const json_t *row = la_entry_json(entry, err);
        LA_TRY(err->status);
        LA_TRY(la_label_of_json(row, reader->place, out->n_classes, &label, err));
    }
    out->n_without_map += !has_map;
    /* a row without a label is checked like any other, then overwritten by the next one */
    la_label_list_set(&out->labels, out->n, label);
    bool labelled = !la_label_is_none(label);
    la_label_free(&label);
    if (reader->watch)
        LA_TRY(reader->watch->see(reader->watch->user, entry, labelled ? out->n : -1, err));
    out->n += labelled;
    out->n_unlabelled += !labelled;
    out->seen.n_held_out += labelled && la_entry_is(entry, "held_out");
    out->seen.n_calibration += labelled && la_entry_is(entry, "calibration");
    return LA_OK;
}

static la_status read_rows(row_reader *reader, la_prediction_file *file, la_error *err) {
    la_predictions *out = reader->out;
    la_prediction_entry entry;
    for (bool more = true;;) {
        LA_TRY(la_prediction_file_next(file, &entry, &more, err));
        if (!more)
            break;
        if (entry.failed)
            out->n_errors++;
        else
            LA_TRY(take_prediction(reader, &entry, err));
    }
    if (!out->kind && !out->n_errors && !la_prediction_file_lists(file))
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
    la_prediction_file *file = NULL;
    *predictions = (la_predictions){0};
    la_digest *digest = la_digest_new(err);
    if (!digest)
        return err->status;
    la_status status = la_prediction_file_open(path, digest, true, &file, err);
    if (status == LA_OK) {
        reader.name = la_prediction_file_name(file);
        status = read_rows(&reader, file, err);
    }
    la_prediction_file_close(file);
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
