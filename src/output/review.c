#include "output/review.h"
#include "base/memory.h"
#include "base/visible.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void free_row(la_review_row *row) {
    json_t *values[] = {row->index, row->token, row->id, row->label, row->prediction, row->fields};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        json_decref(values[i]);
}

/* Place of a row with this key in the list; LA_REVIEW_ROWS: none. */
static int place_of(const la_review_list *list, double key) {
    int at = list->n;
    while (at && list->rows[at - 1].key < key)
        at--;
    return at;
}

/* A field of the prediction, or else of its row; NULL: missing. */
static json_t *take_field(const la_prediction_entry *entry, const char *name, la_error *err) {
    const la_json_value *value = la_entry_field(entry, name);
    json_t *taken = value ? la_json_value_parse(value) : NULL;
    if (value && !taken)
        (void)la_fail(err, LA_RESOURCE, "out of memory for a row");
    return taken;
}

/* Likewise, of the prediction alone. */
static json_t *take_own(const la_prediction_entry *entry, const char *name, la_error *err) {
    return la_entry_member(entry, name) ? take_field(entry, name, err) : NULL;
}

static la_status insert(la_review_list *list, int at, const la_review_row *base,
                        const la_prediction_entry *entry, la_error *err) {
    la_review_row new = *base;
    if (list->n == LA_REVIEW_ROWS)
        free_row(&list->rows[--list->n]);
    memmove(&list->rows[at + 1], &list->rows[at], (size_t)(list->n - at) * sizeof *list->rows);
    list->n++;
    new.index = take_field(entry, "row", err);
    if (!new.index)
        new.index = take_field(entry, "index", err);
    new.token = take_own(entry, "token", err);
    new.id = take_field(entry, "id", err);
    new.label = take_own(entry, "label", err);
    new.prediction = take_own(entry, "prediction_label", err);
    if (!new.prediction)
        new.prediction = take_own(entry, "prediction", err);
    new.fields = take_field(entry, "fields", err);
    list->rows[at] = new;
    return err->status;
}

static la_status take_name(la_review *review, const la_prediction_entry *entry, int64_t class,
                           la_error *err) {
    if (class < 0 || (review->names && review->names[class]))
        return LA_OK;
    const la_json_value *name = la_entry_member(entry, "prediction_label");
    if (!name || name->type != '"')
        return LA_OK;
    if (!review->names) {
        review->n_names = review->predictions->n_classes;
        review->names = la_alloc((size_t)review->n_names, sizeof *review->names, err);
        LA_TRY(err->status);
    }
    char *text = la_json_value_text(name, err);
    review->names[class] = text ? la_visible_copy(text, err) : NULL;
    free(text);
    return err->status;
}

/* The look of values[n], the row behind the last one. */
static la_look look_at(const la_predictions *p, const double *values, bool labelled) {
    int64_t width = p->kind->width ? p->kind->width : p->n_classes;
    la_label label = labelled ? la_label_list_at(&p->labels, p->n) : la_label_none(p->labels.kind);
    return p->kind->look(values + p->n * width, p->n_classes, label);
}

/* Places in the two lists. */
static void find_places(const la_review *review, const la_look *look, int *uncertain, int *wrong) {
    *uncertain = place_of(&review->uncertain, -look->certainty);
    *wrong = isnan(look->mistake) ? LA_REVIEW_ROWS : place_of(&review->wrong, look->mistake);
}

la_status la_review_see(la_review *review, const la_prediction_entry *entry, bool labelled,
                        la_look *out, la_error *err) {
    const la_predictions *p = review->predictions;
    la_look look = look_at(p, p->values, labelled);
    la_review_row base = {.look = look, .map_shown = NAN};
    int uncertain, wrong;
    *out = look;
    find_places(review, &look, &uncertain, &wrong);
    if (!p->n_without_map && (uncertain < LA_REVIEW_ROWS || wrong < LA_REVIEW_ROWS))
        base.map_shown = look_at(p, p->map_values, labelled).shown;
    base.key = -look.certainty;
    if (uncertain < LA_REVIEW_ROWS)
        LA_TRY(insert(&review->uncertain, uncertain, &base, entry, err));
    base.key = look.mistake;
    if (wrong < LA_REVIEW_ROWS)
        LA_TRY(insert(&review->wrong, wrong, &base, entry, err));
    return take_name(review, entry, look.class, err);
}

void la_review_free(la_review *review) {
    la_review_list *lists[] = {&review->uncertain, &review->wrong};
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < lists[l]->n; i++)
            free_row(&lists[l]->rows[i]);
    for (int64_t c = 0; c < review->n_names; c++)
        free(review->names[c]);
    free(review->names);
    *review = (la_review){0};
}

/* ---- as text ---- */

static void cut(const char *text, size_t length, size_t most, char out[LA_REVIEW_TEXT]) {
    char unit[LA_VISIBLE_UNIT];
    size_t used = 0, took;
    for (*out = 0; length; text += took, length -= took) {
        took = la_visible_next(text, length, unit);
        if (used + strlen(unit) > most) {
            strcpy(out + used, "…");
            return;
        }
        strcpy(out + used, unit);
        used += strlen(unit);
    }
}

void la_review_show(const json_t *value, size_t most, char out[LA_REVIEW_TEXT]) {
    char number[32];
    most = most < LA_REVIEW_TEXT - 4 ? most : LA_REVIEW_TEXT - 4;
    if (!value || json_is_null(value)) {
        strcpy(out, "-");
    } else if (json_is_string(value)) {
        cut(json_string_value(value), json_string_length(value), most, out);
    } else if (json_is_real(value)) {
        snprintf(number, sizeof number, "%.6g", json_real_value(value));
        cut(number, strlen(number), most, out);
    } else {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
        cut(text ? text : "-", text ? strlen(text) : 1, most, out);
        free(text);
    }
}

void la_review_label(char *const *names, int64_t n_names, const json_t *label, size_t most,
                     char out[LA_REVIEW_TEXT]) {
    size_t n = json_is_array(label) ? json_array_size(label) : 1, used = 0;
    most = most < LA_REVIEW_TEXT - 4 ? most : LA_REVIEW_TEXT - 4;
    strcpy(out, "none");
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_is_array(label) ? json_array_get(label, i) : label;
        int64_t class = json_is_integer(entry) ? json_integer_value(entry) : -1;
        char text[LA_REVIEW_TEXT];
        if (class >= 0 && class < n_names && names[class])
            cut(names[class], strlen(names[class]), most, text);
        else
            la_review_show(entry, most, text);
        if (i && used + strlen(text) + 2 > most) {
            snprintf(out + used, LA_REVIEW_TEXT - used, "…");
            return;
        }
        used += (size_t)snprintf(out + used, LA_REVIEW_TEXT - used, "%s%s", i ? ", " : "", text);
    }
}
