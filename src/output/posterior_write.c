#include "base/output_file.h"
#include "output/posterior_layout.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20 };

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

static la_status put_root(const writer *w, const la_posterior *p) {
    LA_TRY(put_text(w, "format", LA_POSTERIOR_FORMAT));
    LA_TRY(put_int(w, "schema_major", LA_SCHEMA_MAJOR));
    LA_TRY(put_int(w, "schema_minor", LA_SCHEMA_MINOR));
    LA_TRY(put_text(w, "tool_version", LAPLORA_VERSION));
    if (p->noise_variance > 0)
        LA_TRY(put_text(w, "task", LA_TASK_REGRESSION));
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
    if (p->noise_variance > 0)
        LA_TRY(put_number(w, "noise_variance", p->noise_variance));
    LA_TRY(put_int(w, "n_blocks", p->n_blocks));
    LA_TRY(put_int(w, "n_inputs", p->n_inputs));
    LA_TRY(put_number(w, "log_likelihood", p->log_likelihood));
    LA_TRY(put_number(w, "log_marginal_likelihood", p->log_marginal_likelihood));
    LA_TRY(put_text(w, "base_path", p->base_path));
    if (p->base_quant)
        LA_TRY(put_text(w, "base_quant", la_base_quant_names[p->base_quant]));
    LA_TRY(put_text(w, "adapter_path", p->adapter_path));
    if (p->adapter_name)
        LA_TRY(put_text(w, "adapter_name", p->adapter_name));
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
    LA_TRY_DONE(put_int(&w, "n_settings", choice->n_settings));
    LA_TRY_DONE(put_number(&w, "shortening", choice->shortening));
    for (int64_t i = 0; i < choice->n_settings; i++) {
        const la_setting *s = &choice->settings[i];
        writer one = w;
        snprintf(name, sizeof name, "%05lld", (long long)i);
        LA_TRY_DONE(put_group(&w, name, &one.group));
        status = put_text(&one, "method", la_method_names[s->method]);
        if (status == LA_OK)
            status = put_number(&one, "prior_scale", s->prior_scale);
        if (status == LA_OK)
            status = put_number(&one, "temperature", s->temperature);
        if (status == LA_OK)
            status = put_number(&one, "weight", s->weight);
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
    char name[64];
    LA_TRY(put_group(root, LA_GROUP_CHOICE, &w.group));
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
        for (int i = 0; i < LA_CANDIDATE_FIGURES && status == LA_OK; i++)
            if (!isnan(numbers[i])) /* a regression has no accuracy */
                status = put_number(&one, la_candidate_figures[i], numbers[i]);
        if (c->noise_variance > 0 && status == LA_OK)
            status = put_number(&one, "noise_variance", c->noise_variance);
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
    LA_TRY_DONE(put_text(&w, "outcome", la_adue_outcome_names[head->outcome]));
    LA_TRY_DONE(put_number(&w, "smooth", head->smooth));
    LA_TRY_DONE(put_int(&w, "epochs", head->epochs));
    LA_TRY_DONE(put_int(&w, "best_epoch", head->best_epoch));
    if (!isnan(head->auroc_before))
        LA_TRY_DONE(put_number(&w, "auroc_before", head->auroc_before));
    if (!isnan(head->auroc_after))
        LA_TRY_DONE(put_number(&w, "auroc_after", head->auroc_after));
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
    if (p->labels.names) {
        LA_TRY(put_group(root, LA_GROUP_LABELS, &w.group));
        status = put_labels(&w, &p->labels);
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

la_status la_posterior_save(const la_posterior *posterior, const char *path, la_error *err) {
    la_output_file out;
    la_hdf5_start();
    LA_TRY(la_output_open(&out, path, 0, err));
    errno = 0;
    hid_t plan = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_userblock(plan, LA_SEAL_BYTES);
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
