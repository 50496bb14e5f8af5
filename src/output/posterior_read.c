#include "output/fields_read.h"
#include "output/posterior_fields.h"
#include "output/posterior_layout.h"

#include <string.h>
#include <unistd.h>

/* Fills the minor version and the likelihood. */
static la_status get_head(const la_h5_object *root, int *minor, la_posterior *p) {
    la_posterior_head head = {0};
    const char *path = root->file->path;
    la_error *err = root->file->err;
    LA_TRY(la_fields_read(root, 0, p, &la_head_fields, &head));
    if (strcmp(head.format, LA_POSTERIOR_FORMAT))
        return la_fail(
            err, LA_BAD_INPUT,
            "%s: is no posterior of laplora: its format is not \"" LA_POSTERIOR_FORMAT "\"", path);
    if (head.schema_major > LA_SCHEMA_MAJOR)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: schema %lld.%lld is newer than the %d.%d that this laplora reads; "
                       "update it",
                       path, (long long)head.schema_major, (long long)head.schema_minor,
                       LA_SCHEMA_MAJOR, la_schema_minor());
    *minor = (int)head.schema_minor;
    if (!la_h5_attribute_of(root, "complete"))
        return la_fail(err, LA_BAD_INPUT,
                       "%s: incomplete: the mark that is written last is missing; fit again", path);
    LA_TRY(la_fields_read(root, *minor, p, &la_end_fields, &head));
    p->likelihood = la_likelihood_of_task(head.task);
    if (!p->likelihood)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: is of a task that this laplora does not know; update it", path);
    return LA_OK;
}

static la_status get_all(la_h5_file *file, la_posterior *p) {
    la_h5_object root;
    int minor = 0;
    LA_TRY(la_seal_check(&la_posterior_seal, file));
    LA_TRY(la_h5_root(file, &root));
    LA_TRY(get_head(&root, &minor, p));
    p->temperature = 1; /* schema 1.0 had none */
    return la_fields_read(&root, minor, p, &la_posterior_fields, p);
}

la_status la_posterior_load_from(const char *path, int fd, const void *bytes, uint64_t size,
                                 la_posterior *posterior, la_error *err) {
    la_h5_file file;
    *posterior = (la_posterior){0};
    la_h5_begin(&file, path, fd, bytes, size, LA_SEAL_BYTES, err);
    la_status status = get_all(&file, posterior);
    la_h5_end(&file);
    if (status != LA_OK)
        la_posterior_free(posterior);
    return status;
}

la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err) {
    int fd;
    uint64_t size;
    *posterior = (la_posterior){0};
    LA_TRY(la_seal_open(&la_posterior_seal, path, &fd, &size, err));
    la_status status = la_posterior_load_from(path, fd, NULL, size, posterior, err);
    close(fd);
    return status;
}
