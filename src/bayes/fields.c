#include "bayes/fields.h"

#include <math.h>
#include <stdio.h>

bool la_field_is_absent(const la_field *f, const void *item) {
    const void *at = (const char *)item + f->offset;
    if (!f->optional)
        return false;
    if (f->inside) {
        bool any = false;
        for (int64_t i = 0; i < (int64_t)f->max; i++)
            any |= ((const double *)at)[i] != 0;
        return !any;
    }
    switch (f->kind) {
    case LA_FIELD_NUMBER:
        return isnan(*(const double *)at);
    case LA_FIELD_POSITIVE:
        return !(*(const double *)at > 0);
    case LA_FIELD_NAME:
        return *(const int *)at == 0;
    default:
        return !*(const void *const *)at;
    }
}

const char *la_field_group_name(const la_field *f, int64_t number,
                                char text[LA_FIELD_NUMBER_TEXT]) {
    snprintf(text, LA_FIELD_NUMBER_TEXT, "%05lld", (long long)number);
    return f->names ? f->names[number] : text;
}

static la_status visit_group(const la_fields_visitor *v, const char *name, const la_field *f,
                             const void *item) {
    if (f->list->is_set && !f->list->is_set(item))
        return LA_OK;
    LA_TRY(v->open(v->state, f, name));
    la_status status = la_fields_visit(v, f->list, item);
    v->close(v->state);
    return status;
}

static la_status visit_many(const la_fields_visitor *v, const la_field *f, const char *item) {
    const char *at = item + f->offset;
    int64_t count = la_array_extent_of(&f->rows, v->posterior, item);
    if (f->pointer || f->kind == LA_FIELD_TEXTS)
        at = *(const char *const *)(const void *)at;
    for (int64_t i = 0; i < count; i++) {
        char name[LA_FIELD_NUMBER_TEXT];
        if (f->kind == LA_FIELD_TEXTS) {
            snprintf(name, sizeof name, "%.20s_%lld", f->name, (long long)i);
            LA_TRY(v->value(v->state, f, name, (const char *const *)(const void *)at + i));
        } else {
            LA_TRY(
                visit_group(v, la_field_group_name(f, i, name), f, at + (size_t)i * f->list->size));
        }
    }
    return LA_OK;
}

static la_status visit(const la_fields_visitor *v, const la_field *f, const char *item) {
    const int64_t shape[2] = {la_array_extent_of(&f->rows, v->posterior, item),
                              la_array_extent_of(&f->cols, v->posterior, item)};
    switch (f->kind) {
    case LA_FIELD_TEXTS:
    case LA_FIELD_GROUPS:
        return visit_many(v, f, item);
    case LA_FIELD_I32:
    case LA_FIELD_F32:
    case LA_FIELD_F64:
        item += f->offset;
        return v->array(v->state, f,
                        f->inside ? (const void *)item : *(const void *const *)(const void *)item,
                        shape);
    case LA_FIELD_GROUP:
        return visit_group(v, f->name, f, item + f->offset);
    case LA_FIELD_PART:
        return la_fields_visit(v, f->part(v->posterior),
                               *(void *const *)(const void *)(item + f->offset));
    default:
        return v->value(v->state, f, f->name, item + f->offset);
    }
}

la_status la_fields_visit(const la_fields_visitor *v, const la_field_list *list, const void *item) {
    for (int i = 0; i < list->n; i++) {
        const la_field *f = &list->fields[i];
        if (!la_field_is_absent(f, item) && (!v->skips || !v->skips(v->state, f)))
            LA_TRY(visit(v, f, item));
    }
    return LA_OK;
}
