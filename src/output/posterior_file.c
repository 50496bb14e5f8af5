#include "output/posterior_file.h"
#include "base/output_file.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT "laplora.posterior"
enum { SCHEMA_MAJOR = 1, SCHEMA_MINOR = 1, CHUNK_BYTES = 1 << 20, SEAL_BYTES = 512 };
/* first line of the block in front; schema, digest and length follow */
#define SEAL_MAGIC "laplora posterior"
#define BLOCKS_MAX 100000
#define SIDE_MAX ((int64_t)1 << 24)

/* No stack of its own on stderr; and no clean-up at exit, which after a full disk tries to write
 * once more and crashes. Every file is closed by who opened it. */
static void start_hdf5(void) {
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* ---- writing ---- */

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
    herr_t rc = H5Pset_chunk(plan, rank, chunk) | H5Pset_fletcher32(plan);
    hid_t set =
        rc < 0 ? -1 : H5Dcreate2(w->group, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
    rc = set < 0 ? -1 : H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (set >= 0)
        rc |= H5Dclose(set);
    H5Pclose(plan);
    H5Sclose(space);
    return rc < 0 ? write_failed(w, name) : LA_OK;
}

static la_status put_factor(const writer *w, const char *prefix, const la_factor *factor) {
    char name[64];
    hsize_t shape[2] = {(hsize_t)factor->rank, (hsize_t)factor->n};
    snprintf(name, sizeof name, "%seigenvalues", prefix);
    LA_TRY(put_array(w, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, shape, factor->values));
    snprintf(name, sizeof name, "%seigenvectors", prefix);
    return put_array(w, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, shape, factor->vectors);
}

enum { N_CANDIDATE = 6 };
static const char *const candidate_names[N_CANDIDATE] = {"prior_scale", "temperature", "nll",
                                                         "accuracy",    "gap",         "gap_error"};

/* What a posterior of a curvature holds. */
static bool has_factors(la_curvature curvature) {
    return curvature == LA_CURVATURE_KRON || curvature == LA_CURVATURE_EKFAC;
}
static bool has_spectra(la_curvature curvature) {
    return curvature == LA_CURVATURE_DIAG || curvature == LA_CURVATURE_EKFAC;
}
static bool has_directions(la_curvature curvature) {
    return curvature == LA_CURVATURE_EXACT || curvature == LA_CURVATURE_LAST_LAYER;
}

static la_status put_root(const writer *w, const la_posterior *p) {
    LA_TRY(put_text(w, "format", FORMAT));
    LA_TRY(put_int(w, "schema_major", SCHEMA_MAJOR));
    LA_TRY(put_int(w, "schema_minor", SCHEMA_MINOR));
    LA_TRY(put_text(w, "tool_version", LAPLORA_VERSION));
    LA_TRY(put_text(w, "curvature", la_curvature_names[p->curvature]));
    LA_TRY(put_text(w, "kron", la_kron_names[p->kron]));
    LA_TRY(put_text(w, "params", la_params_names[p->params]));
    LA_TRY(put_text(w, "prior", la_prior_names[p->prior]));
    LA_TRY(put_number(w, "prior_precision", p->prior_precision));
    LA_TRY(put_number(w, "temperature", p->temperature));
    LA_TRY(put_int(w, "rank", p->rank_asked));
    LA_TRY(put_int(w, "n_rows", p->n_rows));
    LA_TRY(put_int(w, "n_tokens", p->n_tokens));
    LA_TRY(put_int(w, "n_classes", p->n_classes));
    LA_TRY(put_int(w, "n_blocks", p->n_blocks));
    LA_TRY(put_int(w, "n_inputs", p->n_inputs));
    LA_TRY(put_number(w, "log_likelihood", p->log_likelihood));
    LA_TRY(put_number(w, "log_marginal_likelihood", p->log_marginal_likelihood));
    LA_TRY(put_text(w, "base_path", p->base_path));
    LA_TRY(put_text(w, "adapter_path", p->adapter_path));
    LA_TRY(put_text(w, "base_digest", p->base_digest));
    LA_TRY(put_text(w, "adapter_digest", p->adapter_digest));
    LA_TRY(put_text(w, "tokenizer_digest", p->tokenizer_digest));
    LA_TRY(put_text(w, "data_digest", p->data_digest));
    LA_TRY(put_int(w, "max_length", p->max_length));
    if (p->template_text)
        LA_TRY(put_text(w, "template", p->template_text));
    if (p->choice_ids) {
        hsize_t shape[1] = {(hsize_t)p->n_classes};
        LA_TRY(
            put_array(w, "choice_ids", H5T_STD_I32LE, H5T_NATIVE_INT32, 1, shape, p->choice_ids));
    }
    return LA_OK;
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
    LA_TRY_DONE(put_text(&w, "name", block->name));
    LA_TRY_DONE(put_int(&w, "out", block->out));
    LA_TRY_DONE(put_int(&w, "in", block->in));
    LA_TRY_DONE(put_int(&w, "input", block->input));
    LA_TRY_DONE(put_number(&w, "denominator", block->denominator));
    LA_TRY_DONE(put_number(&w, "prior_precision", block->prior_precision));
    LA_TRY_DONE(put_number(&w, "theta_square", block->theta_square));
    LA_TRY_DONE(put_number(&w, "trace_in", block->trace_in));
    LA_TRY_DONE(put_number(&w, "trace_out", block->trace_out));
    if (has_factors(posterior->curvature))
        LA_TRY_DONE(put_factor(&w, "output_", &block->output));
    if (has_spectra(posterior->curvature)) {
        la_spectrum s = la_block_spectrum(posterior, block);
        hsize_t shape[2] = {(hsize_t)s.rows, (hsize_t)s.cols};
        LA_TRY_DONE(
            put_array(&w, "spectrum", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, shape, block->spectrum));
    }
done:
    H5Gclose(w.group);
    return status;
}

/* What a guard chose and the figures it chose by. */
static la_status put_choice(const writer *root, const la_choice *choice) {
    writer w = *root;
    char name[64];
    LA_TRY(put_group(root, "choice", &w.group));
    la_status status;
    LA_TRY_DONE(put_text(&w, "method", la_method_names[choice->method]));
    LA_TRY_DONE(put_int(&w, "cross", choice->cross));
    LA_TRY_DONE(put_int(&w, "n_rows", choice->n));
    for (int k = 0; k < LA_METHODS; k++) {
        const la_candidate *c = &choice->candidates[k];
        writer one = w;
        if (!isfinite(c->nll)) /* no setting of it was admitted */
            continue;
        snprintf(name, sizeof name, "%s", la_method_names[k]);
        LA_TRY_DONE(put_group(&w, name, &one.group));
        const double numbers[] = {c->prior_scale, c->temperature, c->nll,
                                  c->accuracy,    c->gap,         c->gap_error};
        for (int i = 0; i < N_CANDIDATE && status == LA_OK; i++)
            status = put_number(&one, candidate_names[i], numbers[i]);
        H5Gclose(one.group);
        if (status != LA_OK)
            goto done;
    }
done:
    H5Gclose(w.group);
    return status;
}

static la_status put_directions(const writer *root, const la_directions *d) {
    writer w = *root;
    hsize_t shape[2] = {(hsize_t)d->rank, (hsize_t)d->width};
    LA_TRY(put_group(root, "directions", &w.group));
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
    if (p->labels.names) {
        LA_TRY(put_group(root, "labels", &w.group));
        status = put_labels(&w, &p->labels);
        H5Gclose(w.group);
        LA_TRY(status);
    }
    LA_TRY(put_group(root, "inputs", &w.group));
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
    LA_TRY(put_group(root, "blocks", &w.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK; b++)
        status = put_block(&w, b, p);
    H5Gclose(w.group);
    LA_TRY(status);
    if (has_directions(p->curvature))
        LA_TRY(put_directions(root, &p->directions));
    if (p->choice.guarded)
        LA_TRY(put_choice(root, &p->choice));
    return put_int(root, "complete", 1);
}

/* ---- the block in front ---- */

/* Digest of everything behind the block, and its length. */
static la_status digest_rest(const char *path, FILE *file, char digest[LA_DIGEST_TEXT],
                             long long *length, la_error *err) {
    char buffer[1 << 16];
    la_digest *sum = la_digest_new(err);
    if (!sum)
        return err->status;
    *length = 0;
    if (fseek(file, SEAL_BYTES, SEEK_SET)) {
        la_digest_free(sum);
        return la_fail(err, LA_RESOURCE, "%s: cannot read: %s", path, la_errno_text(errno));
    }
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, file)) > 0;) {
        la_digest_add(sum, buffer, got);
        *length += (long long)got;
    }
    la_digest_finish(sum, digest);
    if (ferror(file))
        return la_fail(err, LA_RESOURCE, "%s: cannot read: %s", path, la_errno_text(errno));
    return LA_OK;
}

la_status la_posterior_seal(const char *path, la_error *err) {
    FILE *file = fopen(path, "r+b");
    if (!file)
        return la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    char digest[LA_DIGEST_TEXT], block[SEAL_BYTES] = {0};
    long long length;
    la_status status = digest_rest(path, file, digest, &length, err);
    snprintf(block, sizeof block, SEAL_MAGIC " %d\nxxh3-128 %s\nbytes %lld\n", SCHEMA_MAJOR, digest,
             length);
    errno = 0;
    bool failed = status == LA_OK && (fseek(file, 0, SEEK_SET) ||
                                      fwrite(block, 1, sizeof block, file) != sizeof block);
    failed |= fclose(file) != 0;
    if (status == LA_OK && failed)
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", path, la_errno_text(errno));
    return status;
}

static la_status check_seal(const char *path, la_error *err) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return la_fail(err, LA_BAD_INPUT, "%s: cannot read: %s", path, la_errno_text(errno));
    char block[SEAL_BYTES + 1] = {0}, stored[LA_DIGEST_TEXT] = "", digest[LA_DIGEST_TEXT];
    long long length = 0, expected = -1;
    int schema = 0;
    la_status status = LA_OK;
    size_t got = fread(block, 1, SEAL_BYTES, file);
    if (got < SEAL_BYTES || sscanf(block, SEAL_MAGIC " %d", &schema) != 1)
        status = la_fail(
            err, LA_BAD_INPUT,
            "%s: is no posterior of laplora (an HDF5 file of its own kind), or a truncated one",
            path);
    else if (schema > SCHEMA_MAJOR)
        status = la_fail(err, LA_UNSUPPORTED,
                         "%s: schema %d is newer than the %d that this laplora reads; update it",
                         path, schema, SCHEMA_MAJOR);
    else if (sscanf(block, SEAL_MAGIC " %d\nxxh3-128 %32[0-9a-f]\nbytes %lld", &schema, stored,
                    &expected) != 3)
        status =
            la_fail(err, LA_BAD_INPUT, "%s: incomplete: its checksum is missing; fit again", path);
    if (status == LA_OK)
        status = digest_rest(path, file, digest, &length, err);
    fclose(file);
    LA_TRY(status);
    if (length != expected)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: incomplete: %lld bytes of data, expected %lld; truncated or damaged",
                       path, length, expected);
    if (strcmp(stored, digest))
        return la_fail(err, LA_BAD_INPUT, "%s: its checksum is wrong: the posterior is damaged",
                       path);
    return LA_OK;
}

la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err) {
    la_output_file out;
    start_hdf5();
    LA_TRY(la_output_open(&out, path, 0, err));
    errno = 0;
    hid_t plan = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_userblock(plan, SEAL_BYTES);
    hid_t file = H5Fcreate(out.temporary, H5F_ACC_TRUNC, plan, H5P_DEFAULT);
    H5Pclose(plan);
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
            status = la_posterior_seal(out.temporary, err);
    }
    if (status == LA_OK)
        return la_output_commit(&out, err);
    la_output_discard(&out);
    return status;
}

/* ---- reading ---- */

typedef struct reader {
    const char *path;
    hid_t group;
    la_error *err;
} reader;

static la_status bad(const reader *r, const char *name, const char *why) {
    return la_fail(r->err, LA_BAD_INPUT, "%s: \"%s\" %s; the posterior file is damaged", r->path,
                   name, why);
}

static la_status get_attribute(const reader *r, const char *name, H5T_class_t class, hid_t memory,
                               void *value) {
    if (H5Aexists(r->group, name) <= 0)
        return bad(r, name, "is missing");
    hid_t attribute = H5Aopen(r->group, name, H5P_DEFAULT);
    hid_t type = attribute < 0 ? -1 : H5Aget_type(attribute);
    hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
    herr_t rc = -1;
    if (type >= 0 && space >= 0 && H5Tget_class(type) == class &&
        H5Sget_simple_extent_npoints(space) == 1)
        rc = H5Aread(attribute, memory, value);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    return rc < 0 ? bad(r, name, "cannot be read as what it should be") : LA_OK;
}

static la_status get_int(const reader *r, const char *name, int64_t min, int64_t max,
                         int64_t *value) {
    LA_TRY(get_attribute(r, name, H5T_INTEGER, H5T_NATIVE_INT64, value));
    return *value < min || *value > max ? bad(r, name, "is out of range") : LA_OK;
}

static la_status get_number(const reader *r, const char *name, double *value) {
    LA_TRY(get_attribute(r, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, value));
    return isfinite(*value) ? LA_OK : bad(r, name, "is not finite");
}

/* A string of fixed length, of at most a MiB, from pool. */
static la_status get_text(const reader *r, const char *name, la_pool *pool, const char **text) {
    if (H5Aexists(r->group, name) <= 0)
        return bad(r, name, "is missing");
    hid_t attribute = H5Aopen(r->group, name, H5P_DEFAULT);
    hid_t type = attribute < 0 ? -1 : H5Aget_type(attribute);
    la_status status = LA_OK;
    size_t size = type < 0 ? 0 : H5Tget_size(type);
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) > 0 || !size ||
        size > 1 << 20) {
        status = bad(r, name, "is no text");
    } else {
        char *copy = la_pool_take(pool, size + 1, 1, r->err);
        if (!copy)
            status = r->err->status;
        else if (H5Aread(attribute, type, copy) < 0)
            status = bad(r, name, "cannot be read");
        else
            *text = copy;
    }
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    return status;
}

static la_status get_digest(const reader *r, const char *name, la_pool *pool,
                            char out[LA_DIGEST_TEXT]) {
    const char *text = NULL;
    LA_TRY(get_text(r, name, pool, &text));
    if (strlen(text) >= LA_DIGEST_TEXT)
        return bad(r, name, "is too long");
    strcpy(out, text);
    return LA_OK;
}

static la_status get_choice(const reader *r, const char *name, la_pool *pool,
                            const char *const *names, int n, int *out) {
    const char *text = NULL;
    LA_TRY(get_text(r, name, pool, &text));
    for (int i = 0; i < n; i++) {
        if (!strcmp(names[i], text)) {
            *out = i;
            return LA_OK;
        }
    }
    return bad(r, name, "has an unknown value");
}

/* The array must have exactly this shape: sizes were checked before any memory is asked for. */
static la_status get_array(const reader *r, const char *name, H5T_class_t class, hid_t memory,
                           int rank, const hsize_t *shape, void *data) {
    hid_t set = H5Dopen2(r->group, name, H5P_DEFAULT);
    if (set < 0)
        return bad(r, name, "is missing");
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    hsize_t found[8] = {0};
    la_status status = LA_OK;
    if (H5Sget_simple_extent_ndims(space) != rank ||
        H5Sget_simple_extent_dims(space, found, NULL) != rank || found[0] != shape[0] ||
        (rank == 2 && found[1] != shape[1]) || H5Tget_class(type) != class)
        status = bad(r, name, "has another shape than expected");
    else if (H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = bad(r, name, "fails its checksum or cannot be read");
    H5Tclose(type);
    H5Sclose(space);
    H5Dclose(set);
    return status;
}

/* Eigenvalues of a factor or of everything: *rank of them, at most `most`; the caller's pool owns
 * them. */
static la_status get_values(const reader *r, const char *name, int64_t most, la_pool *pool,
                            int64_t *rank, double **values) {
    hid_t set = H5Dopen2(r->group, name, H5P_DEFAULT);
    if (set < 0)
        return bad(r, name, "is missing");
    hid_t space = H5Dget_space(set);
    hssize_t count = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    H5Dclose(set);
    if (count < 1 || count > most)
        return bad(r, name, "has a size that makes no sense");
    *values = la_pool_take(pool, (size_t)count, sizeof **values, r->err);
    if (!*values)
        return r->err->status;
    hsize_t shape[1] = {(hsize_t)count};
    LA_TRY(get_array(r, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, 1, shape, *values));
    for (int64_t i = 0; i < count; i++)
        if (!((*values)[i] >= 0) || isinf((*values)[i]))
            return bad(r, name, "holds an eigenvalue that is negative or not finite");
    *rank = count;
    return LA_OK;
}

static la_status get_floats(const reader *r, const char *name, int64_t rows, int64_t cols,
                            la_pool *pool, float **values) {
    hsize_t shape[2] = {(hsize_t)rows, (hsize_t)cols};
    *values = la_pool_take(pool, (size_t)(rows * cols), sizeof **values, r->err);
    if (!*values)
        return r->err->status;
    return get_array(r, name, H5T_FLOAT, H5T_NATIVE_FLOAT, 2, shape, *values);
}

static la_status get_factor(const reader *r, const char *prefix, int64_t n, la_pool *pool,
                            la_factor *factor) {
    char name[64];
    *factor = (la_factor){.n = n};
    snprintf(name, sizeof name, "%seigenvalues", prefix);
    LA_TRY(get_values(r, name, n, pool, &factor->rank, &factor->values));
    snprintf(name, sizeof name, "%seigenvectors", prefix);
    return get_floats(r, name, factor->rank, n, pool, &factor->vectors);
}

static la_status get_root(const reader *r, la_posterior *p) {
    la_pool *pool = &p->pool;
    const char *format = NULL;
    int64_t major, minor, complete = 0;
    LA_TRY(get_text(r, "format", pool, &format));
    if (strcmp(format, FORMAT))
        return la_fail(r->err, LA_BAD_INPUT, "%s: format \"%s\", expected \"" FORMAT "\"", r->path,
                       format);
    LA_TRY(get_int(r, "schema_major", 0, INT32_MAX, &major));
    LA_TRY(get_int(r, "schema_minor", 0, INT32_MAX, &minor));
    if (major > SCHEMA_MAJOR)
        return la_fail(r->err, LA_UNSUPPORTED,
                       "%s: schema %lld.%lld is newer than the %d.%d that this laplora reads; "
                       "update it",
                       r->path, (long long)major, (long long)minor, SCHEMA_MAJOR, SCHEMA_MINOR);
    if (H5Aexists(r->group, "complete") <= 0)
        return la_fail(r->err, LA_BAD_INPUT,
                       "%s: incomplete: the mark that is written last is missing; fit again",
                       r->path);
    LA_TRY(get_int(r, "complete", 1, 1, &complete));
    int curvature = 0, kron = 0, params = 0, prior = 0;
    LA_TRY(get_choice(r, "curvature", pool, la_curvature_names, LA_CURVATURES, &curvature));
    LA_TRY(get_choice(r, "kron", pool, la_kron_names, LA_KRONS, &kron));
    LA_TRY(get_choice(r, "params", pool, la_params_names, LA_PARAM_SETS, &params));
    LA_TRY(get_choice(r, "prior", pool, la_prior_names, LA_PRIORS, &prior));
    p->curvature = (la_curvature)curvature;
    p->kron = (la_kron)kron;
    p->params = (la_params)params;
    p->prior = (la_prior_kind)prior;
    LA_TRY(get_number(r, "prior_precision", &p->prior_precision));
    p->temperature = 1; /* schema 1.0 had none */
    if (H5Aexists(r->group, "temperature") > 0)
        LA_TRY(get_number(r, "temperature", &p->temperature));
    if (!(p->temperature > 0))
        return bad(r, "temperature", "is not positive");
    LA_TRY(get_int(r, "rank", 0, SIDE_MAX, &p->rank_asked));
    LA_TRY(get_int(r, "n_rows", 1, INT64_MAX, &p->n_rows));
    LA_TRY(get_int(r, "n_tokens", 1, INT64_MAX, &p->n_tokens));
    LA_TRY(get_int(r, "n_classes", 2, 1 << 20, &p->n_classes));
    LA_TRY(get_int(r, "n_blocks", 1, BLOCKS_MAX, &p->n_blocks));
    LA_TRY(get_int(r, "n_inputs", has_factors(p->curvature), BLOCKS_MAX, &p->n_inputs));
    LA_TRY(get_number(r, "log_likelihood", &p->log_likelihood));
    LA_TRY(get_number(r, "log_marginal_likelihood", &p->log_marginal_likelihood));
    LA_TRY(get_text(r, "base_path", pool, &p->base_path));
    LA_TRY(get_text(r, "adapter_path", pool, &p->adapter_path));
    LA_TRY(get_digest(r, "base_digest", pool, p->base_digest));
    LA_TRY(get_digest(r, "adapter_digest", pool, p->adapter_digest));
    LA_TRY(get_digest(r, "tokenizer_digest", pool, p->tokenizer_digest));
    LA_TRY(get_digest(r, "data_digest", pool, p->data_digest));
    LA_TRY(get_int(r, "max_length", 0, INT32_MAX, &p->max_length));
    if (H5Aexists(r->group, "template") > 0)
        LA_TRY(get_text(r, "template", pool, &p->template_text));
    if (H5Lexists(r->group, "choice_ids", H5P_DEFAULT) > 0) {
        hsize_t shape[1] = {(hsize_t)p->n_classes};
        p->choice_ids = la_pool_take(pool, (size_t)p->n_classes, sizeof *p->choice_ids, r->err);
        if (!p->choice_ids)
            return r->err->status;
        LA_TRY(get_array(r, "choice_ids", H5T_INTEGER, H5T_NATIVE_INT32, 1, shape, p->choice_ids));
    }
    return LA_OK;
}

static la_status get_group(const reader *r, const char *name, hid_t *group) {
    *group = H5Gopen2(r->group, name, H5P_DEFAULT);
    return *group < 0 ? bad(r, name, "is missing") : LA_OK;
}

static la_status get_labels(const reader *root, la_posterior *p) {
    if (H5Lexists(root->group, "labels", H5P_DEFAULT) <= 0)
        return LA_OK;
    reader r = *root;
    LA_TRY(get_group(root, "labels", &r.group));
    la_status status = LA_OK;
    p->labels.names = la_alloc((size_t)p->n_classes, sizeof *p->labels.names, r.err);
    if (!p->labels.names)
        status = r.err->status;
    for (int64_t i = 0; i < p->n_classes && status == LA_OK; i++) {
        char name[48];
        const char *text = NULL;
        snprintf(name, sizeof name, "label_%lld", (long long)i);
        status = get_text(&r, name, &p->pool, &text);
        if (status != LA_OK)
            break;
        p->labels.names[i] = la_alloc(strlen(text) + 1, 1, r.err);
        if (!p->labels.names[i])
            status = r.err->status;
        else
            strcpy(p->labels.names[i], text);
        p->labels.count = i + 1;
    }
    H5Gclose(r.group);
    return status;
}

static la_status get_block(const reader *parent, int64_t number, la_posterior *p) {
    la_posterior_block *block = &p->blocks[number];
    char name[48];
    reader r = *parent;
    snprintf(name, sizeof name, "%05lld", (long long)number);
    LA_TRY(get_group(parent, name, &r.group));
    la_status status;
    LA_TRY_DONE(get_text(&r, "name", &p->pool, &block->name));
    LA_TRY_DONE(get_int(&r, "out", 1, SIDE_MAX, &block->out));
    LA_TRY_DONE(get_int(&r, "in", 1, SIDE_MAX, &block->in));
    LA_TRY_DONE(get_int(&r, "input", 0, p->n_inputs ? p->n_inputs - 1 : 0, &block->input));
    LA_TRY_DONE(get_number(&r, "denominator", &block->denominator));
    LA_TRY_DONE(get_number(&r, "prior_precision", &block->prior_precision));
    LA_TRY_DONE(get_number(&r, "theta_square", &block->theta_square));
    LA_TRY_DONE(get_number(&r, "trace_in", &block->trace_in));
    LA_TRY_DONE(get_number(&r, "trace_out", &block->trace_out));
    if (!(block->denominator > 0) || !(block->prior_precision > 0)) {
        status = bad(&r, name, "has a denominator or prior precision that is not positive");
        goto done;
    }
    if (has_factors(p->curvature))
        LA_TRY_DONE(get_factor(&r, "output_", block->out, &p->pool, &block->output));
done:
    H5Gclose(r.group);
    return status;
}

/* After the factors, which tell its shape. */
static la_status get_spectrum(const reader *parent, int64_t number, la_posterior *p) {
    la_posterior_block *block = &p->blocks[number];
    la_spectrum s = la_block_spectrum(p, block);
    char name[48];
    reader r = *parent;
    snprintf(name, sizeof name, "%05lld", (long long)number);
    LA_TRY(get_group(parent, name, &r.group));
    la_status status = get_floats(&r, "spectrum", s.rows, s.cols, &p->pool, &block->spectrum);
    for (int64_t i = 0; i < s.rows * s.cols && status == LA_OK; i++)
        if (!(block->spectrum[i] >= 0) || isinf(block->spectrum[i]))
            status = bad(&r, "spectrum", "holds a value that is negative or not finite");
    H5Gclose(r.group);
    return status;
}

static la_status get_choice_group(const reader *root, la_posterior *p) {
    la_choice *choice = &p->choice;
    reader r = *root;
    int method = 0;
    int64_t cross = 0;
    if (H5Lexists(root->group, "choice", H5P_DEFAULT) <= 0)
        return LA_OK;
    LA_TRY(get_group(root, "choice", &r.group));
    la_status status;
    LA_TRY_DONE(get_choice(&r, "method", &p->pool, la_method_names, LA_METHODS, &method));
    LA_TRY_DONE(get_int(&r, "cross", 0, 1, &cross));
    LA_TRY_DONE(get_int(&r, "n_rows", 1, INT64_MAX, &choice->n));
    choice->guarded = 1;
    choice->method = (la_method)method;
    choice->cross = (int)cross;
    for (int k = 0; k < LA_METHODS; k++) {
        la_candidate *c = &choice->candidates[k];
        double *const numbers[] = {&c->prior_scale, &c->temperature, &c->nll,
                                   &c->accuracy,    &c->gap,         &c->gap_error};
        reader one = r;
        *c = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
        if (H5Lexists(r.group, la_method_names[k], H5P_DEFAULT) <= 0)
            continue;
        LA_TRY_DONE(get_group(&r, la_method_names[k], &one.group));
        for (int i = 0; i < N_CANDIDATE && status == LA_OK; i++)
            status = get_number(&one, candidate_names[i], numbers[i]);
        H5Gclose(one.group);
        if (status == LA_OK && !(c->temperature > 0))
            status = bad(&r, la_method_names[k], "has a temperature that is not positive");
        if (status != LA_OK)
            goto done;
    }
    if (!isfinite(choice->candidates[method].nll))
        status = bad(&r, "method", "names a candidate that is missing");
done:
    H5Gclose(r.group);
    return status;
}

static la_status get_directions(const reader *root, la_posterior *p) {
    la_directions *d = &p->directions;
    reader r = *root;
    d->width = la_posterior_width(p);
    LA_TRY(get_group(root, "directions", &r.group));
    la_status status = get_values(&r, "eigenvalues", d->width, &p->pool, &d->rank, &d->values);
    if (status == LA_OK)
        status = get_floats(&r, "eigenvectors", d->rank, d->width, &p->pool, &d->vectors);
    H5Gclose(r.group);
    return status;
}

/* Blocks first: they tell the sizes of the inputs. */
static la_status get_all(const reader *root, la_posterior *p) {
    LA_TRY(get_root(root, p));
    LA_TRY(get_labels(root, p));
    p->blocks = la_pool_take(&p->pool, (size_t)p->n_blocks, sizeof *p->blocks, root->err);
    p->inputs = la_pool_take(&p->pool, (size_t)p->n_inputs, sizeof *p->inputs, root->err);
    if (!p->blocks || !p->inputs)
        return root->err->status;
    reader r = *root;
    la_status status = LA_OK;
    LA_TRY(get_group(root, "blocks", &r.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK; b++)
        status = get_block(&r, b, p);
    H5Gclose(r.group);
    LA_TRY(status);
    if (has_directions(p->curvature))
        LA_TRY(get_directions(root, p));
    LA_TRY(get_choice_group(root, p));
    LA_TRY(get_group(root, "inputs", &r.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK && p->n_inputs; b++) {
        la_factor *input = &p->inputs[p->blocks[b].input];
        if (input->n && input->n != p->blocks[b].in)
            status = bad(&r, p->blocks[b].name, "shares an input of another size");
        if (input->n || status != LA_OK)
            continue;
        char name[48];
        reader one = r;
        snprintf(name, sizeof name, "%05lld", (long long)p->blocks[b].input);
        status = get_group(&r, name, &one.group);
        if (status == LA_OK) {
            status = get_factor(&one, "", p->blocks[b].in, &p->pool, input);
            H5Gclose(one.group);
        }
    }
    H5Gclose(r.group);
    LA_TRY(status);
    LA_TRY(get_group(root, "blocks", &r.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK && has_spectra(p->curvature); b++)
        status = get_spectrum(&r, b, p);
    H5Gclose(r.group);
    return status;
}

int la_posterior_looks_like(const char *path) {
    char start[sizeof SEAL_MAGIC] = {0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t got = fread(start, 1, sizeof start - 1, file);
    fclose(file);
    return got == sizeof start - 1 && !strcmp(start, SEAL_MAGIC);
}

la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err) {
    *posterior = (la_posterior){0};
    start_hdf5();
    if (access(path, R_OK))
        return la_fail(err, LA_BAD_INPUT, "%s: cannot read: %s", path, la_errno_text(errno));
    LA_TRY(check_seal(path, err));
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: HDF5 cannot open it: truncated, damaged, or being written", path);
    reader r = {path, file, err};
    la_status status = get_all(&r, posterior);
    H5Fclose(file);
    if (status != LA_OK)
        la_posterior_free(posterior);
    return status;
}
