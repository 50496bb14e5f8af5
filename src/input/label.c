#include "input/label.h"
#include "base/memory.h"
#include "input/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

la_label la_label_none(la_label_kind kind) {
    la_label none = {.kind = kind};
    if (kind == LA_LABEL_CLASS)
        none.class = -1;
    if (kind == LA_LABEL_NUMBER)
        none.number = NAN;
    return none;
}

bool la_label_equal(la_label a, la_label b, int64_t n_classes) {
    return a.kind == LA_LABEL_NUMBER ? a.number == b.number
           : a.kind == LA_LABEL_SET  ? !memcmp(a.set, b.set, (size_t)n_classes)
                                     : a.class == b.class;
}

void la_label_free(la_label *label) {
    if (label->kind == LA_LABEL_SET)
        free((void *)(uintptr_t)label->set);
    *label = la_label_none(label->kind);
}

bool la_label_is_none(la_label label) {
    if (label.kind == LA_LABEL_SET)
        return !label.set;
    return label.kind == LA_LABEL_NUMBER ? isnan(label.number) : label.class < 0;
}

/* The fewest digits of 15 to 17 that read as the number. */
static void write_number(FILE *stream, double number) {
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        /* adding zero makes -0 a plain 0 */
        snprintf(text, sizeof text, "%.*g", digits, number + 0.0);
        if (strtod(text, NULL) == number)
            break;
    }
    fputs(text, stream);
}

void la_label_write(FILE *stream, la_label label, int64_t n_classes) {
    const char *before = "[";
    if (label.kind == LA_LABEL_NUMBER)
        write_number(stream, label.number);
    else if (label.kind == LA_LABEL_CLASS)
        fprintf(stream, "%lld", (long long)label.class);
    else {
        for (int64_t c = 0; c < n_classes; c++)
            if (label.set[c]) {
                fprintf(stream, "%s%lld", before, (long long)c);
                before = ",";
            }
        fputs(*before == '[' ? "[]" : "]", stream);
    }
}

static la_status read_index(const json_t *value, const char *place, int64_t n_classes,
                            int64_t *class, la_error *err) {
    if (!json_is_integer(value))
        return la_fail(err, LA_BAD_INPUT, "%s: \"label\" is %s, expected a class index", place,
                       la_json_kind(value));
    *class = json_integer_value(value);
    return *class >= 0 && *class < n_classes
               ? LA_OK
               : la_fail(err, LA_BAD_INPUT,
                         "%s: \"label\" is %lld, expected 0 to %lld (no \"label\" where there is "
                         "none)",
                         place, (long long)*class, (long long)n_classes - 1);
}

la_status la_label_of_json(const json_t *row, const char *place, int64_t n_classes, la_label *label,
                           la_error *err) {
    const json_t *value = json_object_get(row, "label");
    if (label->kind == LA_LABEL_NUMBER)
        return la_json_number(row, place, "label", false, &label->number, err);
    if (!value || json_is_null(value))
        return LA_OK;
    if (label->kind == LA_LABEL_CLASS)
        return read_index(value, place, n_classes, &label->class, err);
    if (!json_is_array(value))
        return la_fail(err, LA_BAD_INPUT, "%s: \"label\" is %s, expected a list of class indices",
                       place, la_json_kind(value));
    unsigned char *set = la_alloc((size_t)n_classes, 1, err);
    label->set = set;
    for (size_t i = 0; i < json_array_size(value) && err->status == LA_OK; i++) {
        int64_t class = 0;
        if (read_index(json_array_get(value, i), place, n_classes, &class, err) == LA_OK)
            set[class] = 1;
    }
    if (err->status != LA_OK)
        la_label_free(label);
    return err->status;
}

bool la_label_of_value(const la_json_value *value, int64_t n_classes, la_label *label) {
    int64_t class;
    if (!value || value->type == 'n')
        return true;
    if (label->kind == LA_LABEL_SET || value->type != '0')
        return false;
    if (label->kind == LA_LABEL_NUMBER) {
        label->number = la_json_value_number(value);
        return true;
    }
    if (!la_json_value_integer(value, &class) || class < 0 || class >= n_classes)
        return false;
    label->class = class;
    return true;
}

void la_label_digest(la_digest *digest, la_label label, int64_t width) {
    if (label.kind == LA_LABEL_SET) {
        la_digest_add(digest, label.set, (size_t)width);
        return;
    }
    la_digest_add_number(digest,
                         label.kind == LA_LABEL_NUMBER ? label.number : (double)label.class);
}

la_status la_label_list_grow(la_label_list *list, size_t *capacity, size_t n, la_error *err) {
    if (list->kind == LA_LABEL_NUMBER)
        return la_grow(&list->numbers, capacity, n, sizeof *list->numbers, err);
    if (list->kind == LA_LABEL_SET)
        return la_grow(&list->sets, capacity, n, (size_t)list->width, err);
    return la_grow(&list->classes, capacity, n, sizeof *list->classes, err);
}

void la_label_list_set(la_label_list *list, int64_t i, la_label label) {
    if (list->kind == LA_LABEL_NUMBER)
        list->numbers[i] = label.number;
    else if (list->kind == LA_LABEL_SET && label.set)
        memcpy(list->sets + i * list->width, label.set, (size_t)list->width);
    else if (list->kind == LA_LABEL_SET)
        memset(list->sets + i * list->width, 0, (size_t)list->width);
    else
        list->classes[i] = label.class;
}

la_label la_label_list_at(const la_label_list *list, int64_t i) {
    la_label label = {.kind = list->kind};
    if (list->kind == LA_LABEL_NUMBER)
        label.number = list->numbers[i];
    else if (list->kind == LA_LABEL_SET)
        label.set = list->sets + i * list->width;
    else
        label.class = list->classes[i];
    return label;
}

int64_t la_label_list_absent(const la_label_list *list, int64_t n, int64_t n_classes) {
    int64_t absent = 0;
    for (int64_t c = 0; c < n_classes && list->kind == LA_LABEL_CLASS; c++) {
        bool seen = false;
        for (int64_t i = 0; i < n && !seen; i++)
            seen = list->classes[i] == c;
        absent += !seen;
    }
    return absent;
}

bool la_label_list_count(const la_label_list *list, int64_t n, int64_t n_classes, double *counts) {
    if (list->kind != LA_LABEL_CLASS)
        return false;
    for (int64_t c = 0; c < n_classes; c++)
        counts[c] = 0;
    for (int64_t i = 0; i < n; i++)
        counts[list->classes[i]]++;
    return true;
}

void la_label_list_free(la_label_list *list) {
    free(list->kind == LA_LABEL_NUMBER ? (void *)list->numbers
         : list->kind == LA_LABEL_SET  ? (void *)list->sets
                                       : (void *)list->classes);
    *list = (la_label_list){.kind = list->kind, .width = list->width};
}
