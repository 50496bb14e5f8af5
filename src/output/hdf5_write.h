/* Sealed HDF5 files of the kind that hdf5_subset.h reads: written beside their place, synced and
 * renamed. The same content gives the same bytes. */
#ifndef LA_OUTPUT_HDF5_WRITE_H
#define LA_OUTPUT_HDF5_WRITE_H

#include "bayes/fields.h"
#include "bayes/posterior.h"
#include "output/seal.h"

typedef struct la_h5_writer la_h5_writer;

typedef struct la_h5_content {
    const la_seal *seal;
    bool unstopped; /* written to its end whatever signal or stop there is */
    la_status (*put)(void *user, la_h5_writer *writer);
    void *user;
} la_h5_content;

la_status la_h5_save(const char *path, const la_h5_content *content, la_error *err);

/* ---- for put, in the group that is open ---- */

/* Fields of a struct; whole is that of their extents. */
la_status la_h5_put_fields(la_h5_writer *writer, const la_posterior *whole,
                           const la_field_list *list, const void *item);
/* A checksummed array of f64 [rows, cols], neither 0. */
la_status la_h5_put_doubles(la_h5_writer *writer, const char *name, int64_t rows, int64_t cols,
                            const double *data);
la_status la_h5_begin_group(la_h5_writer *writer, const char *name);
void la_h5_end_group(la_h5_writer *writer);
la_error *la_h5_writer_error(la_h5_writer *writer);

#endif
