#include "output/report_slices.h"
#include "base/memory.h"
#include "base/statistics.h"
#include "base/stop.h"
#include "base/visible.h"
#include "output/row_kind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

la_status la_report_slices_open(const char *const *names, int n, la_report_slices *slices,
                                la_error *err) {
    *slices = (la_report_slices){0};
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(names[i], names[j]))
                return la_fail(err, LA_USAGE, "--by %s: is given twice", names[i]);
    slices->fields = la_alloc((size_t)n, sizeof *slices->fields, err);
    for (int i = 0; slices->fields && i < n; i++) {
        la_slice_field *field = &slices->fields[slices->n_fields++];
        field->name = names[i];
        field->shown = la_visible_copy(names[i], err);
        field->codes = json_object();
        if (!field->codes)
            (void)la_fail(err, LA_RESOURCE, "out of memory for slices");
    }
    if (err->status != LA_OK)
        la_report_slices_free(slices);
    return err->status;
}

void la_report_slices_free(la_report_slices *slices) {
    for (int i = 0; i < slices->n_fields; i++) {
        free(slices->fields[i].shown);
        free(slices->fields[i].code);
        json_decref(slices->fields[i].codes);
    }
    free(slices->fields);
    free(slices->list);
    *slices = (la_report_slices){0};
}

/* ---- values ---- */

/* Real numbers in as few digits as name them. The caller frees it; NULL: no memory. */
static char *text_of_json(const json_t *value) {
    char number[32];
    if (!json_is_real(value))
        return json_is_string(value) ? strdup(json_string_value(value))
                                     : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, json_real_value(value));
        if (strtod(number, NULL) == json_real_value(value))
            break;
    }
    return strdup(number);
}

/* Likewise; NULL of null as well. */
static char *text_of(const la_json_value *value, la_error *err) {
    if (value->type == 'n')
        return NULL;
    char *text = NULL;
    json_t *parsed = value->type == '"' ? NULL : la_json_value_parse(value);
    if (value->type == '"')
        return la_json_value_text(value, err);
    if (parsed)
        text = text_of_json(parsed);
    json_decref(parsed);
    if (!text)
        (void)la_fail(err, LA_RESOURCE, "out of memory for slices");
    return text;
}

/* *text: of a member of an object, NULL for null; false where there is none. */
static bool find_member(const la_json_value *object, const char *name, char **text, la_error *err) {
    enum { MOST = 64 };
    la_json_value members[MOST];
    int n;
    if (!object || object->type != '{')
        return false;
    if (la_json_members(object->text, object->length, members, MOST, &n)) {
        const la_json_value *found = la_json_member_of(members, n, name);
        if (found)
            *text = text_of(found, err);
        return found != NULL;
    }
    json_t *parsed = la_json_value_parse(object);
    const json_t *found = json_object_get(parsed, name);
    if (found && !json_is_null(found))
        *text = text_of_json(found);
    if (!parsed || (found && !json_is_null(found) && !*text))
        (void)la_fail(err, LA_RESOURCE, "out of memory for slices");
    json_decref(parsed);
    return found != NULL;
}

/* Text of a prediction's value; NULL: it has none. *found: the key is there, whatever its value.
 * The caller frees it. */
static char *find_text(const char *name, const la_prediction_entry *entry, bool *found,
                       la_error *err) {
    const la_json_value *own = la_entry_member(entry, "fields"), *value;
    const la_json_value *rows = la_json_member_of(entry->row, entry->n_row, "fields");
    char *text = NULL;
    if (find_member(own, name, &text, err) ||
        (rows != own && find_member(rows, name, &text, err))) {
        *found = true;
        return text;
    }
    value = la_entry_field(entry, name);
    if (!value)
        return NULL;
    *found = true;
    return text_of(value, err);
}

static la_status code_of(la_slice_field *field, const char *text, int32_t *code, la_error *err) {
    *code = -1;
    if (!text)
        return LA_OK;
    const json_t *known = json_object_get(field->codes, text);
    *code =
        (int32_t)(known ? json_integer_value(known) : (json_int_t)json_object_size(field->codes));
    bool bad = !known && json_object_set_new(field->codes, text, json_integer(*code));
    return bad ? la_fail(err, LA_RESOURCE, "out of memory for slices") : LA_OK;
}

la_status la_report_slices_see(la_report_slices *slices, const la_prediction_entry *entry,
                               int64_t number, la_error *err) {
    for (int i = 0; i < slices->n_fields && number >= 0; i++) {
        la_slice_field *field = &slices->fields[i];
        LA_TRY(la_grow(&field->code, &field->capacity, field->n + 1, sizeof *field->code, err));
        char *text = find_text(field->name, entry, &field->found, err);
        if (err->status == LA_OK)
            (void)code_of(field, text, &field->code[field->n], err);
        free(text);
        LA_TRY(err->status);
        field->n++;
    }
    return LA_OK;
}

/* ---- measuring ---- */

/* Value of a field and its rows. */
typedef struct counted_value {
    const char *text;
    int64_t n;
    int32_t code, rank; /* rank: among those shown; -1: is not */
} counted_value;

static int by_count(const void *a, const void *b) {
    const counted_value *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n ? 1 : -1) : strcmp(x->text, y->text);
}

static int by_code(const void *a, const void *b) {
    const counted_value *x = a, *y = b;
    return x->code - y->code;
}

/* Values [n_values + 1] of a field: those of codes, then that of rows without one. */
static counted_value *count_values(la_slice_field *field, la_error *err) {
    size_t n = json_object_size(field->codes);
    counted_value *values = la_alloc(n + 1, sizeof *values, err);
    const char *text;
    json_t *code;
    if (!values)
        return NULL;
    snprintf(field->none, sizeof field->none, "(none)");
    while (json_object_get(field->codes, field->none) && strlen(field->none) + 3 < 24) {
        char inner[24];
        memcpy(inner, field->none, sizeof inner);
        snprintf(field->none, sizeof field->none, "(%.20s)", inner);
    }
    json_object_foreach(field->codes, text, code) {
        int32_t c = (int32_t)json_integer_value(code);
        values[c] = (counted_value){.text = text, .code = c};
    }
    values[n] = (counted_value){.text = field->none, .code = (int32_t)n};
    for (size_t i = 0; i < field->n; i++) {
        if (field->code[i] < 0)
            field->code[i] = (int32_t)n;
        values[field->code[i]].n++;
    }
    return values;
}

/* The most frequent values become slices of the list; codes become their numbers in it, or -1. */
static la_status choose(la_report_slices *slices, int number, la_error *err) {
    la_slice_field *field = &slices->fields[number];
    size_t n = json_object_size(field->codes) + 1;
    counted_value *values = count_values(field, err);
    if (!values)
        return err->status;
    qsort(values, n, sizeof *values, by_count);
    for (size_t v = 0; v < n; v++) {
        values[v].rank = -1;
        if (values[v].n && v < LA_SLICES_MOST) {
            values[v].rank = slices->n;
            slices->list[slices->n++] =
                (la_slice){.field = number, .value = values[v].text, .n = values[v].n};
        } else if (values[v].n) {
            field->n_more++;
            field->n_more_rows += values[v].n;
        }
    }
    qsort(values, n, sizeof *values, by_code);
    for (size_t i = 0; i < field->n; i++)
        field->code[i] = values[field->code[i]].rank;
    free(values);
    return LA_OK;
}

/* The slices have no more resamples of all rows together than the report has, but the least number.
 */
static int64_t count_resamples(const la_slice *slice, int n_slices, const la_predictions *p,
                               int64_t wanted) {
    la_metric_rows rows = {.n = slice->n * n_slices, .n_classes = p->n_classes};
    if (rows.n > p->n)
        rows.n = p->n;
    return la_metrics_resamples(&rows, wanted);
}

static la_status measure_slice(la_team team, const la_slice_field *field, int number,
                               la_slice *slice, const la_predictions *p, int64_t resamples,
                               uint64_t seed, la_error *err) {
    size_t width = (size_t)(p->kind->width ? p->kind->width : p->n_classes), capacity = 0;
    la_label_list labels = {.kind = p->labels.kind, .width = p->labels.width};
    double *values = la_alloc((size_t)slice->n, width * sizeof *values, err);
    la_status status = values ? LA_OK : err->status;
    int64_t n = 0;
    LA_TRY_DONE(status);
    LA_TRY_DONE(la_label_list_grow(&labels, &capacity, (size_t)slice->n, err));
    for (int64_t i = 0; i < p->n; i++) {
        if (field->code[i] != number)
            continue;
        memcpy(values + (size_t)n * width, p->values + (size_t)i * width, width * sizeof *values);
        la_label_list_set(&labels, n++, la_label_list_at(&p->labels, i));
    }
    la_metric_rows rows = {n, p->n_classes, values, labels};
    LA_TRY_DONE(la_metrics_compute(p->kind->metrics, &rows, &slice->metrics, err));
    LA_TRY_DONE(la_metrics_intervals(team, p->kind->metrics, &rows, resamples, seed,
                                     slice->intervals, err));
done:
    free(values);
    la_label_list_free(&labels);
    return status;
}

/* Tests of all slices, of all fields: one family. */
static la_status flag(la_report_slices *slices, const la_predictions *p, la_error *err) {
    la_status status = LA_OK;
    la_row_outcome *outcomes = la_alloc((size_t)p->n, sizeof *outcomes, err);
    double *values = la_alloc((size_t)slices->n * LA_SLICE_FLAGS, sizeof *values, err);
    la_metric_rows rows = {p->n, p->n_classes, p->values, p->labels};
    LA_TRY_DONE(err->status);
    for (int64_t i = 0; i < p->n; i++)
        p->kind->metrics->outcome(&rows, i, &outcomes[i]);
    for (int f = 0, first = 0; f < slices->n_fields; f++) {
        int32_t *code = slices->fields[f].code;
        int n = 0;
        while (first + n < slices->n && slices->list[first + n].field == f)
            n++;
        for (int64_t i = 0; i < p->n; i++)
            code[i] -= code[i] < 0 ? 0 : first;
        LA_TRY_DONE(la_slice_tests(p->n, outcomes, code, n, values + first * LA_SLICE_FLAGS, err));
        first += n;
    }
    LA_TRY_DONE(la_holm(values, (size_t)slices->n * LA_SLICE_FLAGS, err));
    for (int s = 0; s < slices->n; s++)
        for (int f = 0; f < LA_SLICE_FLAGS; f++) {
            slices->list[s].p[f] = values[s * LA_SLICE_FLAGS + f];
            slices->list[s].flagged[f] = slices->list[s].p[f] <= LA_SLICE_LEVEL;
        }
done:
    free(outcomes);
    free(values);
    return status;
}

la_status la_report_slices_measure(la_report_slices *slices, la_team team, const char *file,
                                   const la_predictions *predictions, int64_t resamples,
                                   uint64_t seed, la_error *err) {
    if (!slices->n_fields)
        return LA_OK;
    slices->list = la_alloc((size_t)slices->n_fields * LA_SLICES_MOST, sizeof *slices->list, err);
    if (!slices->list)
        return err->status;
    for (int f = 0; f < slices->n_fields; f++) {
        if (!slices->fields[f].found)
            return la_fail(err, LA_BAD_INPUT,
                           "%s: no row with a label has the field \"%s\" of --by; predict --keep "
                           "carries fields of the data into predictions",
                           file, slices->fields[f].name);
        LA_TRY(choose(slices, f, err));
    }
    for (int s = 0; s < slices->n; s++) {
        la_slice *slice = &slices->list[s];
        int64_t shared = count_resamples(slice, slices->n, predictions, resamples);
        LA_TRY(measure_slice(team, &slices->fields[slice->field], s, slice, predictions, shared,
                             seed, err));
        LA_TRY(la_check_interrupt(err));
    }
    return flag(slices, predictions, err);
}

/* ---- for the formats ---- */

void la_slice_columns(const la_metric_set *set, int columns[2]) {
    int ece = la_metric_find(set, "ece"), coverage = la_metric_find(set, "coverage_90");
    columns[0] = 0;
    columns[1] = ece > 0 ? ece : coverage > 0 ? coverage : 1;
}

void la_slice_value_show(const la_slice *slice, char out[LA_SLICE_TEXT]) {
    la_visible(slice->value, out, LA_SLICE_TEXT);
}

void la_slice_flags_show(const la_slice *slice, char out[LA_SLICE_TEXT]) {
    size_t used = 0;
    *out = 0;
    for (int f = 0; f < LA_SLICE_FLAGS; f++)
        if (slice->flagged[f])
            used += (size_t)snprintf(out + used, LA_SLICE_TEXT - used, "%s%s (p %s%.2g)",
                                     used ? ", " : "", la_slice_flag_names[f],
                                     slice->p[f] < 0.001 ? "< " : "", fmax(slice->p[f], 0.001));
}

void la_slice_more_show(const la_slice_field *field, char out[LA_SLICE_TEXT]) {
    *out = 0;
    if (field->n_more)
        snprintf(out, LA_SLICE_TEXT, "%lld more value%s, %lld rows", (long long)field->n_more,
                 field->n_more == 1 ? "" : "s", (long long)field->n_more_rows);
}
