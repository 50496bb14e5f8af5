/* The part of HDF5 that posterior files are written in, read within bounds and nothing more: the
 * HDF5 library is not safe on files made to attack, this is. Groups with symbol tables, attributes
 * of one value, arrays in one piece or in checksummed chunks of whole rows. Whatever else a file
 * holds is passed over or refused.
 *
 * Every byte that is read is charged to a budget of a few times the file's length before memory is
 * asked for, so that neither cycles nor sizes that a file claims cost more than reading it does. */
#ifndef LA_OUTPUT_HDF5_SUBSET_H
#define LA_OUTPUT_HDF5_SUBSET_H

#include "base/memory.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum la_h5_type {
    LA_H5_OTHER, /* none of those that follow */
    LA_H5_INT,   /* signed, little-endian */
    LA_H5_FLOAT, /* IEEE, little-endian */
    LA_H5_TEXT   /* of fixed length */
} la_h5_type;

/* An attribute of one value. */
typedef struct la_h5_attribute {
    const char *name;
    la_h5_type type;
    size_t size;
    const unsigned char *value; /* [size] */
} la_h5_attribute;

/* A member of a group. */
typedef struct la_h5_link {
    const char *name;
    uint64_t address;
} la_h5_link;

typedef struct la_h5_file {
    const char *path, *title; /* for messages; title: what the file is */
    int fd;
    const unsigned char *bytes; /* the file, where it is in memory; NULL: fd is read */
    uint64_t size;              /* of the file */
    uint64_t start;             /* of the HDF5 part: addresses count from here */
    uint64_t budget;            /* bytes that may still be read */
    la_pool pool;               /* of all objects */
    la_error *err;
} la_h5_file;

/* A group or an array. */
typedef struct la_h5_object {
    la_h5_file *file;
    uint64_t address;
    int64_t n_attributes, n_links;
    la_h5_attribute *attributes; /* by name */
    la_h5_link *links;           /* by name */
    /* of an array; rank 0: it is none */
    int rank;
    int64_t shape[2]; /* shape[1] is 1 where rank is 1 */
    la_h5_type type;
    size_t size; /* of an element */
    bool chunked;
    int64_t chunk_rows;
    uint64_t data; /* address: of the elements, or of the index of chunks */
} la_h5_object;

/* Begins reading behind `start` in a file that the caller opened; size is its length. bytes may be
 * NULL. */
void la_h5_begin(la_h5_file *file, const char *path, int fd, const void *bytes, uint64_t size,
                 uint64_t start, la_error *err);
/* Frees all objects; fd is the caller's. */
void la_h5_end(la_h5_file *file);

/* Bytes of the file from an offset, not charged. */
la_status la_h5_bytes(la_h5_file *file, uint64_t offset, void *to, size_t length);

la_status la_h5_root(la_h5_file *file, la_h5_object *root);
la_status la_h5_open(la_h5_file *file, uint64_t address, la_h5_object *object);

/* NULL where the object has none of that name. */
const la_h5_attribute *la_h5_attribute_of(const la_h5_object *object, const char *name);
const la_h5_link *la_h5_link_of(const la_h5_object *group, const char *name);

/* The value of an integer, or of a float, whatever its size; false: it is none. */
bool la_h5_int(const la_h5_attribute *attribute, int64_t *value);
bool la_h5_number(const la_h5_attribute *attribute, double *value);

/* Reads the elements of an array as they are stored: shape[0] * shape[1] * size bytes, no more than
 * the budget that was left when it was opened. Checksums are verified. *finite: all floats are. */
la_status la_h5_read(const la_h5_object *array, void *to, bool *finite);

#endif
