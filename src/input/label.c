#include "input/label.h"
#include "base/memory.h"

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

void la_label_list_free(la_label_list *list) {
    free(list->kind == LA_LABEL_NUMBER ? (void *)list->numbers
         : list->kind == LA_LABEL_SET  ? (void *)list->sets
                                       : (void *)list->classes);
    *list = (la_label_list){.kind = list->kind, .width = list->width};
}
