/* The content of a posterior file, described once: lists of fields (bayes/fields.h). */
#ifndef LA_OUTPUT_POSTERIOR_FIELDS_H
#define LA_OUTPUT_POSTERIOR_FIELDS_H

#include "bayes/fields.h"
#include "bayes/posterior.h"

/* The file itself. */
typedef struct la_posterior_head {
    const char *format, *tool_version;
    int64_t schema_major, schema_minor;
    const char *task; /* NULL: classes */
    int64_t complete;
} la_posterior_head;

/* Minor version of the schema: the latest one that a field came with. */
extern const int la_schema_minor;

/* The root group in the order in which it is written: attributes at the front of every file (of
 * la_posterior_head), the posterior (of la_posterior), the mark that is written last (of
 * la_posterior_head). */
extern const la_field_list la_head_fields, la_posterior_fields, la_end_fields;

/* posterior_structures.c: the input factors, and what a structure of curvature keeps of all blocks
 * together (of la_posterior) and of each (of la_posterior_block). */
typedef struct la_structure_fields {
    const la_field_list *whole, *block;
} la_structure_fields;
extern const la_structure_fields la_fields_of_structure[LA_CURVATURES];
extern const la_field_list la_input_fields;

#endif
