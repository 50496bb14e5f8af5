/* Files of sums of an unfinished fit (la_fit_state_visit): parts of a calibration set, checkpoints.
 *
 * A sealed HDF5 file as a posterior is one: attributes and arrays of a head, which is the user's
 * own struct with a list of fields (bayes/fields.h), and a group "sums" of f64 arrays [rows, cols],
 * one for each sum, "/" in their names written as ".". */
#ifndef LA_OUTPUT_SUMS_FILE_H
#define LA_OUTPUT_SUMS_FILE_H

#include "bayes/array.h"
#include "output/hdf5_write.h"

/* A kind of file. */
typedef struct la_sums_kind {
    la_seal seal;
    const la_field_list *head; /* no PART, no extents that look at the posterior */
} la_sums_kind;

typedef struct la_sums_save {
    const void *head; /* of the kind's list */
    /* Hands all sums to the visitor, which reads them: la_fit_state_visit. NULL: there are none. */
    la_status (*visit)(void *user, const la_array_visitor *visitor, la_error *err);
    void *user;
    bool unstopped; /* written to its end although the fit was stopped */
} la_sums_save;

/* Written beside its place, synced and renamed. The same head and sums give the same bytes. */
la_status la_sums_file_write(const la_sums_kind *kind, const char *path, const la_sums_save *save,
                             la_error *err);

typedef struct la_sums_file la_sums_file;

/* Checks the seal and reads the head; its texts and arrays live until the file is closed. Every
 * number is held to its range: whatever the file holds, the answer is an error at worst. */
la_status la_sums_file_open(const la_sums_kind *kind, const char *path, void *head,
                            la_sums_file **file, la_error *err);
/* Number of arrays. */
int64_t la_sums_file_count(const la_sums_file *file);
bool la_sums_file_has(const la_sums_file *file, const char *name);
/* Reads the array of that name into array->data. LA_MISMATCH where the file has none of that name
 * and shape: it is of another fit. */
la_status la_sums_file_read(la_sums_file *file, const la_array *array, la_error *err);
/* Safe on NULL. */
void la_sums_file_close(la_sums_file *file);

#endif
