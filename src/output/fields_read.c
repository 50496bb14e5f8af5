#include "output/fields_read.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* An object that is being read. */
typedef struct reader {
    la_h5_object object;
    const struct reader *above; /* the group that it is a member of */
    const char *name;           /* there */
    const char *path;
    char place[64]; /* for messages: "" or "adue/" */
    int minor;      /* of the file's schema */
    la_posterior *posterior;
    la_error *err;
} reader;

static la_status bad(const reader *r, const char *name, const char *why) {
    return la_fail(r->err, LA_BAD_INPUT, "%s: \"%s%s\" %s; the %s file is damaged", r->path,
                   r->place, name, why, r->object.file->title);
}

/* ---- attributes ---- */

static la_status get_int(const reader *r, const char *name, double min, double max,
                         int64_t *value) {
    const la_h5_attribute *a = la_h5_attribute_of(&r->object, name);
    if (!a)
        return bad(r, name, "is missing");
    if (!la_h5_int(a, value))
        return bad(r, name, "cannot be read as what it should be");
    return (double)*value < min || (double)*value > max ? bad(r, name, "is out of range") : LA_OK;
}

static la_status get_number(const reader *r, const la_field *f, double *value) {
    const la_h5_attribute *a = la_h5_attribute_of(&r->object, f->name);
    if (!a)
        return bad(r, f->name, "is missing");
    if (!la_h5_number(a, value))
        return bad(r, f->name, "cannot be read as what it should be");
    if (!isfinite(*value))
        return bad(r, f->name, "is not finite");
    if (f->kind == LA_FIELD_POSITIVE && !(*value > 0))
        return bad(r, f->name, "is not positive");
    return *value < f->min || *value > f->max ? bad(r, f->name, "is out of range") : LA_OK;
}

/* A string, of the pool. */
static la_status get_text(const reader *r, const char *name, la_field_kind kind,
                          const char **text) {
    const la_h5_attribute *a = la_h5_attribute_of(&r->object, name);
    la_error unused = {0};
    if (!a)
        return bad(r, name, "is missing");
    if (a->type != LA_H5_TEXT)
        return bad(r, name, "is no text");
    const char *found = (const char *)a->value;
    size_t length = strnlen(found, a->size);
    if (kind != LA_FIELD_PATH && la_utf8_check(found, length, &unused) != LA_OK)
        return bad(r, name, "is not UTF-8");
    if (kind == LA_FIELD_WORD && !length)
        return bad(r, name, "is empty");
    for (size_t i = 0; i < length && kind == LA_FIELD_WORD; i++)
        if ((unsigned char)found[i] < ' ' || found[i] == 0x7f)
            return bad(r, name, "holds a control character");
    *text = la_pool_text(&r->posterior->pool, found, length, r->err);
    return *text ? LA_OK : r->err->status;
}

static la_status get_name(const reader *r, const la_field *f, int *value) {
    const char *text = NULL;
    LA_TRY(get_text(r, f->name, LA_FIELD_TEXT, &text));
    for (*value = 0; *value < (int)f->max; ++*value)
        if (!strcmp(f->names[*value], text))
            return LA_OK;
    return bad(r, f->name, "has an unknown value");
}

static la_status get_digest(const reader *r, const char *name, char out[LA_DIGEST_TEXT]) {
    const char *text = NULL;
    LA_TRY(get_text(r, name, LA_FIELD_TEXT, &text));
    size_t length = strlen(text);
    if (length && (length != LA_DIGEST_TEXT - 1 || strspn(text, "0123456789abcdef") != length))
        return bad(r, name, "is no digest");
    memcpy(out, text, length + 1);
    return LA_OK;
}

static la_status get_field(const reader *r, const la_field *f, char *at) {
    int64_t flag = 0;
    switch (f->kind) {
    case LA_FIELD_INT:
        return get_int(r, f->name, f->min, f->max, (int64_t *)(void *)at);
    case LA_FIELD_FLAG:
        LA_TRY(get_int(r, f->name, f->min, f->max, &flag));
        *(int *)(void *)at = (int)flag;
        return LA_OK;
    case LA_FIELD_NUMBER:
    case LA_FIELD_POSITIVE:
        return get_number(r, f, (double *)(void *)at);
    case LA_FIELD_NAME:
        return get_name(r, f, (int *)(void *)at);
    case LA_FIELD_DIGEST:
        return get_digest(r, f->name, at);
    default:
        return get_text(r, f->name, f->kind, (const char **)(void *)at);
    }
}

/* ---- arrays ---- */

static bool is_older(const reader *r, const la_field *f, const la_field_list *list) {
    return r->minor < f->since && f->since > list->since;
}

/* *member is what r has under that name. */
static la_status get_member(const reader *r, const char *name, reader *member) {
    const la_h5_link *link = la_h5_link_of(&r->object, name);
    if (!link)
        return bad(r, name, "is missing");
    *member = *r;
    member->above = r;
    member->name = name;
    snprintf(member->place, sizeof member->place, "%.30s%.30s/", r->place, name);
    return la_h5_open(r->object.file, link->address, &member->object);
}

static bool has(const reader *r, const char *name) {
    return la_h5_link_of(&r->object, name) != NULL;
}

/* True where the array has this extent; one that follows from its shape is set. */
static bool fits(const reader *r, const la_array_extent *extent, int64_t shape, void *item) {
    if (extent->name && extent->from_shape)
        *(int64_t *)(void *)((char *)item + extent->offset) = shape;
    return la_array_extent_of(extent, r->posterior, item) == shape;
}

static bool is_negative(const la_field *f, const void *values, int64_t i) {
    return f->kind == LA_FIELD_I32   ? ((const int32_t *)values)[i] < 0
           : f->kind == LA_FIELD_F32 ? !(((const float *)values)[i] >= 0)
                                     : !(((const double *)values)[i] >= 0);
}

/* Shape and type are checked before memory is asked for. */
static la_status get_array(const reader *r, const la_field *f, void *item) {
    reader member;
    LA_TRY(get_member(r, f->name, &member));
    const la_h5_object *array = &member.object;
    size_t size = f->kind == LA_FIELD_F64 ? 8 : 4;
    bool finite = true, negative = false;
    if (array->rank != (f->cols.name ? 2 : 1))
        return bad(r, f->name, "has another shape than expected");
    if (array->type != (f->kind == LA_FIELD_I32 ? LA_H5_INT : LA_H5_FLOAT) || array->size != size)
        return bad(r, f->name, "is of another type than expected");
    if (!fits(r, &f->rows, array->shape[0], item) || !fits(r, &f->cols, array->shape[1], item))
        return bad(r, f->name, "has another shape than expected");
    int64_t count = array->shape[0] * array->shape[1];
    void *values = (char *)item + f->offset;
    if (f->inside && (double)count > f->max)
        return bad(r, f->name, "has another shape than expected");
    if (!f->inside) {
        void *own = la_pool_take(&r->posterior->pool, (size_t)count, size, r->err);
        if (!own)
            return r->err->status;
        *(void **)values = own;
        values = own;
    }
    LA_TRY(la_h5_read(array, values, &finite));
    if (!finite)
        return bad(r, f->name, "holds a value that is not finite");
    for (int64_t i = 0; f->negative && i < count; i++)
        negative |= is_negative(f, values, i);
    char why[64];
    snprintf(why, sizeof why, "holds %s", negative ? f->negative : "");
    return negative ? bad(r, f->name, why) : LA_OK;
}

/* Reads texts that the posterior's owner frees one by one. */
static la_status get_texts(const reader *r, const la_field *f, void *item) {
    int64_t count = la_array_extent_of(&f->rows, r->posterior, item);
    if (r->object.n_attributes < count)
        return bad(r->above, r->name, "has fewer names than there are classes");
    char **texts = la_alloc((size_t)count, sizeof *texts, r->err);
    if (!texts)
        return r->err->status;
    *(char ***)(void *)((char *)item + f->offset) = texts;
    for (int64_t i = 0; i < count; i++) {
        char name[48];
        const char *text = NULL;
        snprintf(name, sizeof name, "%s_%lld", f->name, (long long)i);
        LA_TRY(get_text(r, name, LA_FIELD_TEXT, &text));
        texts[i] = la_alloc(strlen(text) + 1, 1, r->err);
        if (!texts[i])
            return r->err->status;
        strcpy(texts[i], text);
    }
    return LA_OK;
}

/* ---- groups ---- */

static la_status get_list(const reader *r, const la_field_list *list, void *item);
static la_status get_rows(const reader *r, const la_field_list *list, void *item);

static la_status check(const reader *r, la_fields_check *one, void *item) {
    la_blame blame = one ? one(r->posterior, item) : (la_blame){0};
    return blame.why ? bad(r, blame.field, blame.why) : LA_OK;
}

static la_status get_group(const reader *r, const char *name, const la_field_list *list,
                           void *item) {
    reader member;
    LA_TRY(get_member(r, name, &member));
    LA_TRY(check(r, list->before, item));
    return get_list(&member, list, item);
}

/* Structs behind a pointer are as many as the file has groups: memory is asked for after that. */
static la_status get_groups(const reader *r, const la_field *f, char *item) {
    int64_t count = la_array_extent_of(&f->rows, r->posterior, item);
    char *structs = item + f->offset;
    if (f->pointer) {
        char why[64];
        snprintf(why, sizeof why, "is not the number of %.20s that there are", r->name);
        if (r->object.n_links != count)
            return bad(r->above, f->rows.name, why);
        structs = la_pool_take(&r->posterior->pool, (size_t)count, f->list->size, r->err);
        if (!structs)
            return r->err->status;
        *(void **)(void *)(item + f->offset) = structs;
    }
    for (int64_t i = 0; i < count; i++) {
        char number[LA_FIELD_NUMBER_TEXT];
        const char *name = la_field_group_name(f, i, number);
        char *one = structs + (size_t)i * f->list->size;
        if (has(r, name) || !f->list->is_set)
            LA_TRY(get_group(r, name, f->list, one));
        else
            LA_TRY(check(r, f->list->before, one));
    }
    return LA_OK;
}

static la_status get_part(const reader *r, const la_field_list *list, char *item, size_t offset) {
    void **part = (void **)(void *)(item + offset);
    if (list->size)
        *part = la_pool_take(&r->posterior->pool, 1, list->size, r->err);
    LA_TRY(r->err->status);
    LA_TRY(check(r, list->before, item));
    LA_TRY(get_rows(r, list, *part));
    return check(r, list->after, item);
}

static la_status get_row(const reader *r, const la_field *f, char *item) {
    switch (f->kind) {
    case LA_FIELD_TEXTS:
        return get_texts(r, f, item);
    case LA_FIELD_I32:
    case LA_FIELD_F32:
    case LA_FIELD_F64:
        return get_array(r, f, item);
    case LA_FIELD_GROUP:
        return get_group(r, f->name, f->list, item + f->offset);
    case LA_FIELD_GROUPS:
        return get_groups(r, f, item);
    case LA_FIELD_PART:
        return get_part(r, f->part(r->posterior), item, f->offset);
    default:
        return get_field(r, f, item + f->offset);
    }
}

/* A value that a file need not have and has not stays as it is, or is NaN. */
static la_status get_rows(const reader *r, const la_field_list *list, void *item) {
    for (int i = 0; i < list->n; i++) {
        const la_field *f = &list->fields[i];
        bool optional =
            f->optional || is_older(r, f, list) || (f->kind == LA_FIELD_GROUP && f->list->is_set);
        bool named = f->name && f->kind != LA_FIELD_TEXTS;
        if (!named || !optional || has(r, f->name) || la_h5_attribute_of(&r->object, f->name))
            LA_TRY(get_row(r, f, item));
        else if (f->optional && f->kind == LA_FIELD_NUMBER)
            *(double *)(void *)((char *)item + f->offset) = NAN;
    }
    return LA_OK;
}

static la_status get_list(const reader *r, const la_field_list *list, void *item) {
    LA_TRY(get_rows(r, list, item));
    return check(r, list->after, item);
}

/* ---- from the root ---- */

la_status la_fields_read(const la_h5_object *root, int minor, la_posterior *whole,
                         const la_field_list *list, void *item) {
    const reader r = {.object = *root,
                      .path = root->file->path,
                      .minor = minor,
                      .posterior = whole,
                      .err = root->file->err};
    return get_list(&r, list, item);
}
