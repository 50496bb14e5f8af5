/* The fields of a posterior file, each described once: the writer and the reader follow these
 * lists. Groups and arrays: README, "The posterior file". */
#ifndef LA_OUTPUT_POSTERIOR_FIELDS_H
#define LA_OUTPUT_POSTERIOR_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

typedef enum la_field_kind {
    LA_FIELD_INT,      /* int64_t, min..max */
    LA_FIELD_FLAG,     /* int, 0 or 1 */
    LA_FIELD_NUMBER,   /* double, finite, min..max */
    LA_FIELD_POSITIVE, /* double, finite, above 0 */
    LA_FIELD_NAME,     /* int, written as one of `max` names */
    LA_FIELD_WORD,     /* const char *, UTF-8 without control characters, not empty */
    LA_FIELD_TEXT,     /* const char *, UTF-8 */
    LA_FIELD_PATH,     /* const char *, any bytes */
    LA_FIELD_DIGEST    /* char[LA_DIGEST_TEXT], hexadecimal or empty */
} la_field_kind;

typedef struct la_field {
    const char *name;
    la_field_kind kind;
    size_t offset; /* of the value, in the struct that the list is of */
    double min, max;
    const char *const *names;
    int since;     /* minor version of the schema: a file of an earlier one may lack it */
    bool optional; /* absent where it has no value: NULL, NaN, a POSITIVE of 0, a NAME of 0 */
} la_field;

typedef struct la_field_list {
    const la_field *fields;
    int n;
    int since; /* of the group: what came with it is in every file that has the group */
} la_field_list;

/* Attributes of: the file (of la_posterior), a block (la_posterior_block), the guard's choice
 * (la_choice), one of its candidates (la_candidate), its settings (la_choice), one of these
 * (la_setting), the error head (la_adue). */
extern const la_field_list la_posterior_fields, la_block_fields, la_choice_fields,
    la_candidate_fields, la_settings_fields, la_setting_fields, la_adue_fields;

#endif
