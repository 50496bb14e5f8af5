/* The list of a posterior file's fields as text: its documentation, and the names for a fuzzer. */
#ifndef LA_TESTS_SCHEMA_H
#define LA_TESTS_SCHEMA_H

#include <stdio.h>

/* A table in Markdown with a row a field. */
void schema_table(FILE *stream);
/* Names and named values, as lines of libFuzzer's dictionary. */
void schema_dictionary(FILE *stream);

typedef void schema_path(void *state, const char *path);
/* Path of every field, as in the table: "/blocks/00000/out". */
void schema_paths(schema_path *take, void *state);

#endif
