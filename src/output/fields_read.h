/* Structs whose fields are lists (bayes/fields.h), read from groups of a file within bounds. */
#ifndef LA_OUTPUT_FIELDS_READ_H
#define LA_OUTPUT_FIELDS_READ_H

#include "bayes/fields.h"
#include "bayes/posterior.h"
#include "output/hdf5_subset.h"

/* Fields of a list from a group, each held to its range, every array to the shape that the fields
 * give. minor: of the file's schema. Texts and arrays are of the pool of `whole`, which the extents
 * and checks of the list are called with. */
la_status la_fields_read(const la_h5_object *group, int minor, la_posterior *whole,
                         const la_field_list *list, void *item);

#endif
