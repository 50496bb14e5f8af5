#include "output/hdf5_write.h"
#include "base/memory.h"
#include "base/output_file.h"
#include "base/stop.h"

#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HDF5_MOST = 16 << 20, CHUNK_BYTES = 1 << 20, CHUNKS_AT_ONCE = 16 };

/* No clean-up at exit, which after a full disk tries to write once more and crashes. Every file is
 * closed by who opened it. */
static void hdf5_start(void) {
    H5dont_atexit();
}

typedef struct la_h5_writer {
    const char *path;
    la_error *err;
    bool unstopped;
    hid_t groups[LA_FIELDS_DEPTH]; /* from the file to the group that is written */
    int depth;
} writer;

static la_status write_failed(const writer *w, const char *name) {
    return la_fail(w->err, LA_RESOURCE, "%s: cannot write \"%s\": %s", w->path, name,
                   errno ? la_errno_text(errno) : "HDF5 failed");
}

static la_status put_attribute(const writer *w, const char *name, hid_t type, hid_t memory,
                               const void *value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(w->groups[w->depth], name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t rc = attribute < 0 ? -1 : H5Awrite(attribute, memory, value);
    if (attribute >= 0)
        rc |= H5Aclose(attribute);
    H5Sclose(space);
    return rc < 0 ? write_failed(w, name) : LA_OK;
}

/* A fixed-length UTF-8 string. */
static la_status put_text(const writer *w, const char *name, const char *text) {
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(text) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    la_status status = put_attribute(w, name, type, type, text);
    H5Tclose(type);
    return status;
}

/* Chunks, a few at a time, so that a stop is obeyed while gigabytes are written. */
static la_status put_rows(const writer *w, const char *name, hid_t set, hid_t type, int rank,
                          const hsize_t *shape, hsize_t rows, const void *data) {
    size_t bytes = H5Tget_size(type) * (rank == 2 ? (size_t)shape[1] : 1);
    hid_t space = H5Dget_space(set);
    herr_t rc = space < 0 ? -1 : 0;
    for (hsize_t at = 0;
         at < shape[0] && rc >= 0 && (w->unstopped || la_check_interrupt(w->err) == LA_OK);
         at += rows) {
        const hsize_t start[2] = {at, 0};
        const hsize_t count[2] = {shape[0] - at < rows ? shape[0] - at : rows, shape[1 % rank]};
        hid_t part = H5Screate_simple(rank, count, NULL);
        rc = part < 0 ? -1 : H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
        if (rc >= 0)
            rc = H5Dwrite(set, type, part, space, H5P_DEFAULT, (const char *)data + at * bytes);
        if (part >= 0)
            H5Sclose(part);
    }
    if (space >= 0)
        H5Sclose(space);
    return rc < 0 ? write_failed(w, name) : w->err->status;
}

/* A checksummed array, stored as it is in memory, little-endian (hdf5_subset.c); chunks of about a
 * MiB. */
static la_status put_array(const writer *w, const char *name, hid_t type, int rank,
                           const hsize_t *shape, const void *data) {
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[2], rows = CHUNK_BYTES / H5Tget_size(type);
    if (rank == 2)
        rows /= shape[1] ? shape[1] : 1;
    chunk[0] = rows < 1 ? 1 : rows > shape[0] ? shape[0] : rows;
    chunk[1] = rank == 2 ? shape[1] : 1;
    /* the time of an object is no part of a file */
    herr_t rc = H5Pset_chunk(plan, rank, chunk) | H5Pset_fletcher32(plan) |
                H5Pset_obj_track_times(plan, false);
    hid_t set =
        rc < 0 ? -1
               : H5Dcreate2(w->groups[w->depth], name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    la_status status =
        set < 0 ? write_failed(w, name)
                : put_rows(w, name, set, type, rank, shape, chunk[0] * CHUNKS_AT_ONCE, data);
    if (set >= 0 && H5Dclose(set) < 0 && status == LA_OK)
        status = write_failed(w, name);
    H5Pclose(plan);
    H5Sclose(space);
    return status;
}

static la_status put_value(void *state, const la_field *f, const char *name, const void *at) {
    const writer *w = state;
    switch (f->kind) {
    case LA_FIELD_INT:
        return put_attribute(w, name, H5T_STD_I64LE, H5T_NATIVE_INT64, at);
    case LA_FIELD_FLAG:
        return put_attribute(w, name, H5T_STD_I64LE, H5T_NATIVE_INT, at);
    case LA_FIELD_NUMBER:
    case LA_FIELD_POSITIVE:
        return put_attribute(w, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, at);
    case LA_FIELD_NAME:
        return put_text(w, name, f->names[*(const int *)at]);
    case LA_FIELD_DIGEST:
        return put_text(w, name, at);
    default:
        return put_text(w, name, *(const char *const *)at);
    }
}

static la_status put_elements(void *state, const la_field *f, const void *data,
                              const int64_t *shape) {
    const hsize_t extents[2] = {(hsize_t)shape[0], (hsize_t)shape[1]};
    hid_t type = f->kind == LA_FIELD_I32   ? H5T_STD_I32LE
                 : f->kind == LA_FIELD_F32 ? H5T_IEEE_F32LE
                                           : H5T_IEEE_F64LE;
    return put_array(state, f->name, type, f->cols.name ? 2 : 1, extents, data);
}

static la_status open_group(void *state, const la_field *f, const char *name) {
    writer *w = state;
    hid_t group =
        w->depth + 1 == LA_FIELDS_DEPTH
            ? -1
            : H5Gcreate2(w->groups[w->depth], name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    (void)f;
    if (group < 0)
        return write_failed(w, name);
    w->groups[++w->depth] = group;
    return LA_OK;
}

static void close_group(void *state) {
    writer *w = state;
    H5Gclose(w->groups[w->depth--]);
}

/* ---- what is put ---- */

la_status la_h5_put_fields(la_h5_writer *w, const la_posterior *whole, const la_field_list *list,
                           const void *item) {
    const la_fields_visitor visitor = {.posterior = whole,
                                       .state = w,
                                       .value = put_value,
                                       .array = put_elements,
                                       .open = open_group,
                                       .close = close_group};
    return la_fields_visit(&visitor, list, item);
}

la_status la_h5_put_doubles(la_h5_writer *w, const char *name, int64_t rows, int64_t cols,
                            const double *data) {
    const hsize_t extents[2] = {(hsize_t)rows, (hsize_t)cols};
    return put_array(w, name, H5T_IEEE_F64LE, 2, extents, data);
}

la_status la_h5_begin_group(la_h5_writer *w, const char *name) {
    return open_group(w, NULL, name);
}

void la_h5_end_group(la_h5_writer *w) {
    close_group(w);
}

la_error *la_h5_writer_error(la_h5_writer *w) {
    return w->err;
}

/* One save at a time: the HDF5 library is not for several threads. */
static pthread_mutex_t hdf5_lock = PTHREAD_MUTEX_INITIALIZER;

/* The file is ours alone until it is whole: no lock of the library's own, which some file systems
 * mistake for a conflict with the one that marks the file as in use. */
static hid_t create_file(const char *path) {
    hid_t plan = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_userblock(plan, LA_SEAL_BYTES);
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
    H5Pset_file_locking(access, 0, 1);
#endif
    errno = 0;
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, plan, access);
    H5Pclose(plan);
    H5Pclose(access);
    return file;
}

static la_status save(const char *path, const la_h5_content *content, la_error *err) {
    la_output_file out;
    LA_TRY(la_output_open(&out, path, LA_OUTPUT_SEEKABLE, err));
    hid_t file = create_file(out.temporary);
    la_status status;
    if (file < 0) {
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path,
                         errno ? la_errno_text(errno) : "HDF5 failed");
    } else {
        writer w = {.path = path, .err = err, .unstopped = content->unstopped, .groups = {file}};
        status = content->put(content->user, &w);
        errno = 0;
        if (H5Fclose(file) < 0 && status == LA_OK)
            status = write_failed(&w, "the end of the file");
        if (status == LA_OK)
            status = la_seal_stream(content->seal, out.stream, path, content->unstopped, err);
    }
    if (status == LA_OK)
        return la_output_commit(&out, err);
    la_output_discard(&out);
    return status;
}

la_status la_h5_save(const char *path, const la_h5_content *content, la_error *err) {
    H5E_auto2_t print = NULL; /* a host's handler of HDF5's errors, put back */
    void *data = NULL;
    /* the library crashes where it finds no memory: what it takes at most is tried before */
    void *all = la_alloc(HDF5_MOST, 1, err);
    if (!all)
        return err->status;
    free(all);
    pthread_mutex_lock(&hdf5_lock);
    hdf5_start();
    H5Eget_auto2(H5E_DEFAULT, &print, &data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    la_status status = save(path, content, err);
    H5Eset_auto2(H5E_DEFAULT, print, data);
    pthread_mutex_unlock(&hdf5_lock);
    return status;
}
