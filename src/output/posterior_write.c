#include "base/memory.h"
#include "base/output_file.h"
#include "base/stop.h"
#include "output/posterior_fields.h"
#include "output/posterior_layout.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HDF5_ROOM = 16 << 20, CHUNK_BYTES = 1 << 20, CHUNKS_AT_ONCE = 16 };

/* No clean-up at exit, which after a full disk tries to write once more and crashes. Every file is
 * closed by who opened it. */
static void hdf5_start(void) {
    H5dont_atexit();
}

typedef struct writer {
    const char *path;
    hid_t group;
    la_error *err;
} writer;

static la_status write_failed(const writer *w, const char *name) {
    return la_fail(w->err, LA_RESOURCE, "%s: cannot write \"%s\": %s", w->path, name,
                   errno ? la_errno_text(errno) : "HDF5 failed");
}

static la_status put_attribute(const writer *w, const char *name, hid_t type, hid_t memory,
                               const void *value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(w->group, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t rc = attribute < 0 ? -1 : H5Awrite(attribute, memory, value);
    if (attribute >= 0)
        rc |= H5Aclose(attribute);
    H5Sclose(space);
    return rc < 0 ? write_failed(w, name) : LA_OK;
}

static la_status put_int(const writer *w, const char *name, int64_t value) {
    return put_attribute(w, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

static la_status put_number(const writer *w, const char *name, double value) {
    return put_attribute(w, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
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

/* Some chunks at a time, so that a stop is answered while gigabytes are written. */
static la_status put_rows(const writer *w, const char *name, hid_t set, hid_t memory, int rank,
                          const hsize_t *shape, hsize_t rows, const void *data) {
    size_t bytes = H5Tget_size(memory) * (rank == 2 ? (size_t)shape[1] : 1);
    hid_t space = H5Dget_space(set);
    herr_t rc = space < 0 ? -1 : 0;
    for (hsize_t at = 0; at < shape[0] && rc >= 0 && la_check_interrupt(w->err) == LA_OK;
         at += rows) {
        const hsize_t start[2] = {at, 0};
        const hsize_t count[2] = {shape[0] - at < rows ? shape[0] - at : rows, shape[1 % rank]};
        hid_t part = H5Screate_simple(rank, count, NULL);
        rc = part < 0 ? -1 : H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
        if (rc >= 0)
            rc = H5Dwrite(set, memory, part, space, H5P_DEFAULT, (const char *)data + at * bytes);
        if (part >= 0)
            H5Sclose(part);
    }
    if (space >= 0)
        H5Sclose(space);
    return rc < 0 ? write_failed(w, name) : w->err->status;
}

/* A checksummed array; chunks of about a MiB. */
static la_status put_array(const writer *w, const char *name, hid_t type, hid_t memory, int rank,
                           const hsize_t *shape, const void *data) {
    hid_t space = H5Screate_simple(rank, shape, NULL);
    hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[2], rows = CHUNK_BYTES / H5Tget_size(type);
    if (rank == 2)
        rows /= shape[1] ? shape[1] : 1;
    chunk[0] = rows < 1 ? 1 : rows > shape[0] ? shape[0] : rows;
    chunk[1] = rank == 2 ? shape[1] : 1;
    /* the time of an object is no part of a posterior */
    herr_t rc = H5Pset_chunk(plan, rank, chunk) | H5Pset_fletcher32(plan) |
                H5Pset_obj_track_times(plan, false);
    hid_t set =
        rc < 0 ? -1 : H5Dcreate2(w->group, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    la_status status =
        set < 0 ? write_failed(w, name)
                : put_rows(w, name, set, memory, rank, shape, chunk[0] * CHUNKS_AT_ONCE, data);
    if (set >= 0 && H5Dclose(set) < 0 && status == LA_OK)
        status = write_failed(w, name);
    H5Pclose(plan);
    H5Sclose(space);
    return status;
}

static la_status put_factor(const writer *w, const char *prefix, const la_factor *factor) {
    char name[64];
    hsize_t shape[2] = {(hsize_t)factor->rank, (hsize_t)factor->n};
    snprintf(name, sizeof name, "%seigenvalues", prefix);
    LA_TRY(put_array(w, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, shape, factor->values));
    snprintf(name, sizeof name, "%seigenvectors", prefix);
    return put_array(w, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, shape, factor->vectors);
}

/* Whether a field that may be absent is. */
static bool is_absent(const la_field *f, const char *at) {
    switch (f->kind) {
    case LA_FIELD_NUMBER:
        return isnan(*(const double *)(const void *)at);
    case LA_FIELD_POSITIVE:
        return !(*(const double *)(const void *)at > 0);
    case LA_FIELD_NAME:
        return *(const int *)(const void *)at == 0;
    default:
        return !*(const char *const *)(const void *)at;
    }
}

static la_status put_field(const writer *w, const la_field *f, const char *at) {
    switch (f->kind) {
    case LA_FIELD_INT:
        return put_int(w, f->name, *(const int64_t *)(const void *)at);
    case LA_FIELD_FLAG:
        return put_int(w, f->name, *(const int *)(const void *)at);
    case LA_FIELD_NUMBER:
    case LA_FIELD_POSITIVE:
        return put_number(w, f->name, *(const double *)(const void *)at);
    case LA_FIELD_NAME:
        return put_text(w, f->name, f->names[*(const int *)(const void *)at]);
    case LA_FIELD_DIGEST:
        return put_text(w, f->name, at);
    default:
        return put_text(w, f->name, *(const char *const *)(const void *)at);
    }
}

static la_status put_fields(const writer *w, la_field_list list, const void *from) {
    for (const la_field *f = list.fields; f < list.fields + list.n; f++) {
        const char *at = (const char *)from + f->offset;
        if (!f->optional || !is_absent(f, at))
            LA_TRY(put_field(w, f, at));
    }
    return LA_OK;
}

static la_status put_root(const writer *w, const la_posterior *p) {
    LA_TRY(put_text(w, "format", LA_POSTERIOR_FORMAT));
    LA_TRY(put_int(w, "schema_major", LA_SCHEMA_MAJOR));
    LA_TRY(put_int(w, "schema_minor", LA_SCHEMA_MINOR));
    LA_TRY(put_text(w, "tool_version", LAPLORA_VERSION));
    if (p->likelihood->task)
        LA_TRY(put_text(w, "task", p->likelihood->task));
    LA_TRY(put_fields(w, la_posterior_fields, p));
    hsize_t shape[1] = {(hsize_t)p->n_classes};
    return p->provenance.choice_ids ? put_array(w, "choice_ids", H5T_STD_I32LE, H5T_NATIVE_INT32, 1,
                                                shape, p->provenance.choice_ids)
                                    : LA_OK;
}

static la_status put_labels(const writer *w, const la_labels *labels) {
    char name[48];
    for (int64_t i = 0; labels->names && i < labels->count; i++) {
        snprintf(name, sizeof name, "label_%lld", (long long)i);
        LA_TRY(put_text(w, name, labels->names[i]));
    }
    return LA_OK;
}

static la_status put_group(const writer *w, const char *name, hid_t *group) {
    *group = H5Gcreate2(w->group, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    return *group < 0 ? write_failed(w, name) : LA_OK;
}

static la_status put_block(const writer *parent, int64_t number, const la_posterior *posterior) {
    const la_posterior_block *block = &posterior->blocks[number];
    char name[48];
    writer w = *parent;
    snprintf(name, sizeof name, "%05lld", (long long)number);
    LA_TRY(put_group(parent, name, &w.group));
    la_status status;
    LA_TRY_DONE(put_fields(&w, la_block_fields, block));
    if (la_has_factors(posterior->curvature))
        LA_TRY_DONE(put_factor(&w, "output_", &block->output));
    if (la_has_spectra(posterior->curvature)) {
        la_spectrum s = la_block_spectrum(posterior, block);
        hsize_t shape[2] = {(hsize_t)s.rows, (hsize_t)s.cols};
        LA_TRY_DONE(
            put_array(&w, "spectrum", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, shape, block->spectrum));
    }
done:
    H5Gclose(w.group);
    return status;
}

/* The settings of an average. */
static la_status put_settings(const writer *choice_group, const la_choice *choice) {
    writer w = *choice_group;
    char name[48];
    LA_TRY(put_group(choice_group, LA_GROUP_SETTINGS, &w.group));
    la_status status;
    LA_TRY_DONE(put_fields(&w, la_settings_fields, choice));
    for (int64_t i = 0; i < choice->n_settings; i++) {
        writer one = w;
        snprintf(name, sizeof name, "%05lld", (long long)i);
        LA_TRY_DONE(put_group(&w, name, &one.group));
        status = put_fields(&one, la_setting_fields, &choice->settings[i]);
        H5Gclose(one.group);
        if (status != LA_OK)
            goto done;
    }
done:
    H5Gclose(w.group);
    return status;
}

/* What a guard chose and the figures it chose by. */
static la_status put_choice(const writer *root, const la_choice *choice) {
    writer w = *root;
    LA_TRY(put_group(root, LA_GROUP_CHOICE, &w.group));
    la_status status;
    LA_TRY_DONE(put_fields(&w, la_choice_fields, choice));
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *c = &choice->candidates[k];
        writer one = w;
        if (!isfinite(c->nll)) /* no setting of it was admitted */
            continue;
        LA_TRY_DONE(put_group(&w, la_method_names[k], &one.group));
        status = put_fields(&one, la_candidate_fields, c);
        H5Gclose(one.group);
        if (status != LA_OK)
            goto done;
    }
    if (choice->n_settings)
        LA_TRY_DONE(put_settings(&w, choice));
done:
    H5Gclose(w.group);
    return status;
}

/* The error head; an AUROC that is undefined is left out. */
static la_status put_adue(const writer *root, const la_adue *head) {
    writer w = *root;
    hsize_t shape[2] = {(hsize_t)head->n_classes, (hsize_t)head->width};
    LA_TRY(put_group(root, LA_GROUP_ADUE, &w.group));
    la_status status;
    LA_TRY_DONE(put_array(&w, "weight", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 2, shape, head->weight));
    LA_TRY_DONE(put_array(&w, "bias", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, shape, head->bias));
    LA_TRY_DONE(put_fields(&w, la_adue_fields, head));
done:
    H5Gclose(w.group);
    return status;
}

static la_status put_directions(const writer *root, const la_directions *d) {
    writer w = *root;
    hsize_t shape[2] = {(hsize_t)d->rank, (hsize_t)d->width};
    LA_TRY(put_group(root, LA_GROUP_DIRECTIONS, &w.group));
    la_status status =
        put_array(&w, "eigenvalues", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, shape, d->values);
    if (status == LA_OK)
        status =
            put_array(&w, "eigenvectors", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, shape, d->vectors);
    H5Gclose(w.group);
    return status;
}

static la_status put_all(const writer *root, const la_posterior *p) {
    LA_TRY(put_root(root, p));
    writer w = *root;
    la_status status;
    char name[48];
    if (p->provenance.labels.names) {
        LA_TRY(put_group(root, LA_GROUP_LABELS, &w.group));
        status = put_labels(&w, &p->provenance.labels);
        H5Gclose(w.group);
        LA_TRY(status);
    }
    LA_TRY(put_group(root, LA_GROUP_INPUTS, &w.group));
    status = LA_OK;
    for (int64_t i = 0; i < p->n_inputs && status == LA_OK; i++) {
        writer one = w;
        snprintf(name, sizeof name, "%05lld", (long long)i);
        status = put_group(&w, name, &one.group);
        if (status == LA_OK) {
            status = put_factor(&one, "", &p->inputs[i]);
            H5Gclose(one.group);
        }
    }
    H5Gclose(w.group);
    LA_TRY(status);
    LA_TRY(put_group(root, LA_GROUP_BLOCKS, &w.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK; b++)
        status = put_block(&w, b, p);
    H5Gclose(w.group);
    LA_TRY(status);
    if (la_curvature_is_joint(p->curvature))
        LA_TRY(put_directions(root, &p->directions));
    if (p->choice.guarded)
        LA_TRY(put_choice(root, &p->choice));
    if (p->adue.weight)
        LA_TRY(put_adue(root, &p->adue));
    return put_int(root, "complete", 1);
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

static la_status save(const la_posterior *posterior, const char *path, la_error *err) {
    la_output_file out;
    LA_TRY(la_output_open(&out, path, LA_OUTPUT_SEEKABLE, err));
    hid_t file = create_file(out.temporary);
    la_status status;
    if (file < 0) {
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path,
                         errno ? la_errno_text(errno) : "HDF5 failed");
    } else {
        writer w = {path, file, err};
        status = put_all(&w, posterior);
        errno = 0;
        if (H5Fclose(file) < 0 && status == LA_OK)
            status = write_failed(&w, "the end of the file");
        if (status == LA_OK)
            status = la_posterior_seal_stream(out.stream, path, err);
    }
    if (status == LA_OK)
        return la_output_commit(&out, err);
    la_output_discard(&out);
    return status;
}

la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err) {
    H5E_auto2_t print = NULL; /* a host's way to be told of HDF5's errors, put back */
    void *data = NULL;
    /* the library crashes where it finds no memory: what it takes at most is tried before */
    void *room = la_alloc(HDF5_ROOM, 1, err);
    if (!room)
        return err->status;
    free(room);
    pthread_mutex_lock(&hdf5_lock);
    hdf5_start();
    H5Eget_auto2(H5E_DEFAULT, &print, &data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    la_status status = save(posterior, path, err);
    H5Eset_auto2(H5E_DEFAULT, print, data);
    pthread_mutex_unlock(&hdf5_lock);
    return status;
}
