/* Rows of fields that several structures have. */
#ifndef LA_BAYES_STRUCTURE_FIELDS_H
#define LA_BAYES_STRUCTURE_FIELDS_H

#include "bayes/fields.h"

#define LA_EIGENVALUES(of, member, title, ...)                                                     \
    LA_FIELD(of, member, title, LA_FIELD_F64, .negative = "an eigenvalue that is negative",        \
             .meaning = "eigenvalues, descending", __VA_ARGS__)
#define LA_EIGENVECTORS(of, member, title, ...)                                                    \
    LA_FIELD(of, member, title, LA_FIELD_F32, .meaning = "eigenvectors, one a row", __VA_ARGS__)

/* About eigenvalues that are more than the matrix has rows. */
#define LA_NO_SENSE "has a size that makes no sense"

/* About an array whose extents follow from other fields. */
#define LA_OTHER_SHAPE "has another shape than expected"

#endif
