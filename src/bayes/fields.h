/* Fields of a posterior as rows of lists. A row is a value, an array, or a group with a list of its
 * own. The file's writer and reader, `laplora info`, the documentation and the fuzz dictionary
 * follow. */
#ifndef LA_BAYES_FIELDS_H
#define LA_BAYES_FIELDS_H

#include "base/error.h"

#include <stdbool.h>

struct la_posterior;
struct la_field_list;

typedef enum la_field_kind {
    /* one value: an attribute of the group */
    LA_FIELD_INT,      /* int64_t, min..max */
    LA_FIELD_FLAG,     /* int, 0 or 1 */
    LA_FIELD_NUMBER,   /* double, finite, min..max */
    LA_FIELD_POSITIVE, /* double, finite, above 0 */
    LA_FIELD_NAME,     /* int, written as one of `max` names */
    LA_FIELD_WORD,     /* const char *, UTF-8 without control characters, not empty */
    LA_FIELD_TEXT,     /* const char *, UTF-8 */
    LA_FIELD_PATH,     /* const char *, any bytes */
    LA_FIELD_DIGEST,   /* char[LA_DIGEST_TEXT], hexadecimal or empty */
    LA_FIELD_TEXTS,    /* char **, UTF-8, [rows] of la_alloc: attributes NAME_0, NAME_1, ... */
    /* an array [rows] or [rows, cols] of finite elements, behind a pointer unless it is `inside` */
    LA_FIELD_I32,
    LA_FIELD_F32,
    LA_FIELD_F64,
    /* structs with lists of their own */
    LA_FIELD_GROUP,  /* a struct at offset: a group of that name */
    LA_FIELD_GROUPS, /* [rows] structs at offset, or behind a pointer: groups 00000, ... or names */
    LA_FIELD_PART /* fields of the struct behind a void *, which depend on the structure; the checks
                        of their list get the struct that has the pointer */
} la_field_kind;

/* An extent of an array, a count of texts or groups. */
typedef struct la_array_extent {
    const char *name; /* NULL: no such dimension */
    size_t offset; /* of an int64_t in the struct of the list, unless one of the last two is set */
    bool from_shape; /* a reader sets it from the shape of the array */
    int64_t fixed;
    int64_t (*size)(const struct la_posterior *whole, const void *item);
} la_array_extent;

typedef struct la_field {
    const char *name;
    la_field_kind kind;
    size_t offset; /* in the struct that the list describes */
    double min, max;
    const char *const *names;
    la_array_extent rows, cols;
    const char *negative; /* message about an element below 0 that is refused; NULL: any may be */
    const struct la_field_list *list;                                      /* of a group */
    const struct la_field_list *(*part)(const struct la_posterior *whole); /* of a PART */
    int since;     /* minor version of the schema: a file of an earlier one may lack it */
    bool optional; /* absent where it has no value: NULL, NaN, a POSITIVE of 0, a NAME of 0, an F64
                      that is `inside` and all 0 */
    bool pointer;  /* GROUPS: behind a pointer, and as many in the file as `rows` */
    bool inside;   /* array: in the struct itself, which has room for `max` elements */
    bool detail;   /* not among the lines that `laplora info` prints by default */
    const char *meaning;
} la_field;

/* A field that contradicts others; all NULL: they agree. */
typedef struct la_blame {
    const char *field, *why;
} la_blame;
typedef la_blame la_fields_check(struct la_posterior *whole, void *item);

typedef struct la_field_list {
    const la_field *fields;
    int n;
    int since;   /* of the group: what came with it is in every file that has the group */
    size_t size; /* of the struct, where there are several, and of a PART; 0 of it: no struct */
    /* the group may be absent: whether the struct has it; NULL: always */
    bool (*is_set)(const void *item);
    /* called before the fields are read: sets defaults, may blame a field of the group above */
    la_fields_check *before;
    la_fields_check *after; /* sets what follows from the fields */
} la_field_list;

/* Rows of the list of struct `of`; more members of la_field follow as designated initialisers. */
#define LA_FIELD(of, member, title, type, ...)                                                     \
    { .name = title, .kind = type, .offset = offsetof(of, member), __VA_ARGS__ }
#define LA_FIELDS(rows) .fields = rows, .n = (int)(sizeof rows / sizeof *rows)
/* Extents: a member that is known before, or that the array's shape tells. */
#define LA_EXTENT(of, member, title)                                                               \
    { .name = title, .offset = offsetof(of, member) }
#define LA_FROM_SHAPE(of, member, title)                                                           \
    { .name = title, .offset = offsetof(of, member), .from_shape = true }

static inline int64_t la_array_extent_of(const la_array_extent *extent,
                                         const struct la_posterior *whole, const void *item) {
    if (!extent->name || extent->fixed)
        return extent->name ? extent->fixed : 1;
    return extent->size ? extent->size(whole, item)
                        : *(const int64_t *)(const void *)((const char *)item + extent->offset);
}

/* True where an optional field has no value. */
bool la_field_is_absent(const la_field *field, const void *item);
/* Name of one of GROUPS. */
enum { LA_FIELD_NUMBER_TEXT = 48 };
const char *la_field_group_name(const la_field *field, int64_t number,
                                char text[LA_FIELD_NUMBER_TEXT]);

/* Depth of groups, the root's included, at most. */
enum { LA_FIELDS_DEPTH = 4 };

/* Functions that get the fields of a posterior, without those that it has not. */
typedef struct la_fields_visitor {
    const struct la_posterior *posterior;
    void *state;
    la_status (*value)(void *state, const la_field *field, const char *name, const void *at);
    /* shape[1] is 1 where the field has no cols */
    la_status (*array)(void *state, const la_field *field, const void *data, const int64_t *shape);
    la_status (*open)(void *state, const la_field *field, const char *name); /* a group */
    void (*close)(void *state);
    bool (*skips)(void *state, const la_field *field); /* NULL: none is left out */
} la_fields_visitor;

/* In the order of the list; ends at the first failure. */
la_status la_fields_visit(const la_fields_visitor *visitor, const la_field_list *list,
                          const void *item);

#endif
