#include "output/sums_file.h"
#include "output/fields_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of an array's name at most. */
enum { NAME_MOST = 128 };
/* The largest sum that is believed: squares of it are finite. */
#define SUM_MOST 1e150

#define GROUP "sums"

/* Names of HDF5 have no "/". */
static void file_name(const char *name, char out[NAME_MOST]) {
    snprintf(out, NAME_MOST, "%s", name);
    for (char *c = out; *c; c++)
        if (*c == '/')
            *c = '.';
}

/* ---- writing ---- */

typedef struct writing {
    const la_sums_kind *kind;
    const la_sums_save *save;
    la_h5_writer *to;
} writing;

static la_status put_sum(void *user, const la_array *array, la_error *err) {
    const writing *w = user;
    char name[NAME_MOST];
    (void)err;
    file_name(array->name, name);
    return la_h5_put_doubles(w->to, name, array->rows, array->cols, array->data);
}

static la_status put_file(void *user, la_h5_writer *to) {
    writing *w = user;
    const la_posterior none = {0};
    la_array_visitor each = {put_sum, w};
    w->to = to;
    LA_TRY(la_h5_put_fields(to, &none, w->kind->head, w->save->head));
    LA_TRY(la_h5_begin_group(to, GROUP));
    la_status status =
        w->save->visit ? w->save->visit(w->save->user, &each, la_h5_writer_error(to)) : LA_OK;
    la_h5_end_group(to);
    return status;
}

la_status la_sums_file_write(const la_sums_kind *kind, const char *path, const la_sums_save *save,
                             la_error *err) {
    writing w = {.kind = kind, .save = save};
    const la_h5_content content = {
        .seal = &kind->seal, .unstopped = save->unstopped, .put = put_file, .user = &w};
    return la_h5_save(path, &content, err);
}

/* ---- reading ---- */

struct la_sums_file {
    la_h5_file h5;
    la_h5_object sums;
    la_posterior whole; /* its pool alone */
    char *path;
    int fd;
};

static la_status open_file(la_sums_file *file, const la_sums_kind *kind, void *head,
                           la_error *err) {
    la_h5_object root;
    LA_TRY(la_seal_check(&kind->seal, &file->h5));
    LA_TRY(la_h5_root(&file->h5, &root));
    LA_TRY(la_fields_read(&root, 0, &file->whole, kind->head, head));
    const la_h5_link *link = la_h5_link_of(&root, GROUP);
    if (!link)
        return la_fail(err, LA_BAD_INPUT, "%s: \"" GROUP "\" is missing; the %s file is damaged",
                       file->path, kind->seal.title);
    return la_h5_open(&file->h5, link->address, &file->sums);
}

la_status la_sums_file_open(const la_sums_kind *kind, const char *path, void *head,
                            la_sums_file **out, la_error *err) {
    uint64_t size = 0;
    *out = NULL;
    la_sums_file *file = la_alloc(1, sizeof *file, err);
    char *copy = la_alloc(strlen(path) + 1, 1, err);
    if (err->status != LA_OK || la_seal_open(&kind->seal, path, &file->fd, &size, err) != LA_OK) {
        free(copy);
        free(file);
        return err->status;
    }
    file->path = strcpy(copy, path);
    la_h5_begin(&file->h5, file->path, file->fd, NULL, size, LA_SEAL_BYTES, err);
    file->h5.title = kind->seal.title;
    if (open_file(file, kind, head, err) != LA_OK) {
        la_sums_file_close(file);
        return err->status;
    }
    *out = file;
    return LA_OK;
}

int64_t la_sums_file_count(const la_sums_file *file) {
    return file->sums.n_links;
}

bool la_sums_file_has(const la_sums_file *file, const char *array) {
    char name[NAME_MOST];
    file_name(array, name);
    return la_h5_link_of(&file->sums, name) != NULL;
}

static la_status check_numbers(const la_sums_file *file, const la_array *array, bool finite,
                               la_error *err) {
    for (int64_t i = 0; finite && i < array->rows * array->cols; i++)
        finite = array->data[i] <= SUM_MOST && array->data[i] >= -SUM_MOST;
    return finite ? LA_OK
                  : la_fail(err, LA_BAD_INPUT,
                            "%s: \"%s\" holds a number that no sum is; the %s file is damaged",
                            file->path, array->name, file->h5.title);
}

la_status la_sums_file_read(la_sums_file *file, const la_array *array, la_error *err) {
    char name[NAME_MOST];
    la_h5_object object;
    bool finite = true;
    file->h5.err = err;
    file_name(array->name, name);
    const la_h5_link *link = la_h5_link_of(&file->sums, name);
    if (!link)
        return la_fail(err, LA_MISMATCH,
                       "%s: has no sums \"%s\"; it is of another fit: another adapter, curvature "
                       "or number of devices",
                       file->path, array->name);
    LA_TRY(la_h5_open(&file->h5, link->address, &object));
    if (object.rank != 2 || object.type != LA_H5_FLOAT || object.size != sizeof(double))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: \"%s\" is of another type than expected; the %s file is damaged",
                       file->path, array->name, file->h5.title);
    if (object.shape[0] != array->rows || object.shape[1] != array->cols)
        return la_fail(err, LA_MISMATCH,
                       "%s: sums \"%s\" are %lld x %lld, expected %lld x %lld; it is of another "
                       "fit: another adapter, curvature or rank",
                       file->path, array->name, (long long)object.shape[0],
                       (long long)object.shape[1], (long long)array->rows, (long long)array->cols);
    LA_TRY(la_h5_read(&object, array->data, &finite));
    return check_numbers(file, array, finite, err);
}

void la_sums_file_close(la_sums_file *file) {
    if (!file)
        return;
    la_h5_end(&file->h5);
    la_posterior_free(&file->whole);
    close(file->fd);
    free(file->path);
    free(file);
}
