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
int la_schema_minor(void);

/* The root group in the order in which it is written: attributes at the front of every file (of
 * la_posterior_head), the posterior (of la_posterior), the mark that is written last (of
 * la_posterior_head). */
extern const la_field_list la_head_fields, la_posterior_fields, la_end_fields;

#endif
