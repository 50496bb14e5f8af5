#include "bayes/selection.h"
#include "output/posterior_layout.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS_MAX 100000
#define SIDE_MAX ((int64_t)1 << 24)

typedef struct reader {
    const char *path;
    hid_t group;
    la_error *err;
    const char *place; /* of the group, for messages: "" or "adue/" */
} reader;

static la_status bad(const reader *r, const char *name, const char *why) {
    return la_fail(r->err, LA_BAD_INPUT, "%s: \"%s%s\" %s; the posterior file is damaged", r->path,
                   r->place, name, why);
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

static la_status get_positive(const reader *r, const char *name, double *value) {
    LA_TRY(get_number(r, name, value));
    return *value > 0 ? LA_OK : bad(r, name, "is not positive");
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

/* Without the attribute, classes: schema 1.2 had nothing else. */
static la_status get_task(const reader *r, la_posterior *p) {
    const char *task = NULL;
    if (H5Aexists(r->group, "task") <= 0)
        return get_int(r, "n_classes", 2, 1 << 20, &p->n_classes);
    LA_TRY(get_text(r, "task", &p->pool, &task));
    if (strcmp(task, LA_TASK_REGRESSION))
        return la_fail(r->err, LA_UNSUPPORTED,
                       "%s: is of task \"%s\", which this laplora does not know; update it",
                       r->path, task);
    LA_TRY(get_int(r, "n_classes", 1, 1, &p->n_classes));
    return get_positive(r, "noise_variance", &p->noise_variance);
}

static la_status get_root(const reader *r, la_posterior *p) {
    la_pool *pool = &p->pool;
    const char *format = NULL;
    int64_t major, minor, complete = 0;
    LA_TRY(get_text(r, "format", pool, &format));
    if (strcmp(format, LA_POSTERIOR_FORMAT))
        return la_fail(r->err, LA_BAD_INPUT,
                       "%s: format \"%s\", expected \"" LA_POSTERIOR_FORMAT "\"", r->path, format);
    LA_TRY(get_int(r, "schema_major", 0, INT32_MAX, &major));
    LA_TRY(get_int(r, "schema_minor", 0, INT32_MAX, &minor));
    if (major > LA_SCHEMA_MAJOR)
        return la_fail(r->err, LA_UNSUPPORTED,
                       "%s: schema %lld.%lld is newer than the %d.%d that this laplora reads; "
                       "update it",
                       r->path, (long long)major, (long long)minor, LA_SCHEMA_MAJOR,
                       LA_SCHEMA_MINOR);
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
        LA_TRY(get_positive(r, "temperature", &p->temperature));
    LA_TRY(get_int(r, "rank", 0, SIDE_MAX, &p->rank_asked));
    LA_TRY(get_int(r, "n_rows", 1, INT64_MAX, &p->n_rows));
    LA_TRY(get_int(r, "n_tokens", 1, INT64_MAX, &p->n_tokens));
    LA_TRY(get_task(r, p));
    LA_TRY(get_int(r, "n_blocks", 1, BLOCKS_MAX, &p->n_blocks));
    LA_TRY(get_int(r, "n_inputs", la_has_factors(p->curvature), BLOCKS_MAX, &p->n_inputs));
    LA_TRY(get_number(r, "log_likelihood", &p->log_likelihood));
    LA_TRY(get_number(r, "log_marginal_likelihood", &p->log_marginal_likelihood));
    LA_TRY(get_text(r, "base_path", pool, &p->base_path));
    if (H5Aexists(r->group, "base_quant") > 0) {
        int quant = 0;
        LA_TRY(get_choice(r, "base_quant", pool, la_base_quant_names, LA_BASE_QUANTS, &quant));
        p->base_quant = (la_base_quant)quant;
    }
    LA_TRY(get_text(r, "adapter_path", pool, &p->adapter_path));
    if (H5Aexists(r->group, "adapter_name") > 0)
        LA_TRY(get_text(r, "adapter_name", pool, &p->adapter_name));
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
    if (H5Lexists(root->group, LA_GROUP_LABELS, H5P_DEFAULT) <= 0)
        return LA_OK;
    reader r = *root;
    LA_TRY(get_group(root, LA_GROUP_LABELS, &r.group));
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
    if (la_has_factors(p->curvature))
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

/* A setting is of a method that has no temperature in its name: it says its own. */
static la_status get_setting(const reader *r, la_posterior *p, la_setting *s) {
    int method = 0;
    LA_TRY(get_choice(r, "method", &p->pool, la_method_names, LA_METHOD_SCALAR + 1, &method));
    s->method = (la_method)method;
    LA_TRY(get_positive(r, "prior_scale", &s->prior_scale));
    LA_TRY(get_positive(r, "temperature", &s->temperature));
    LA_TRY(get_positive(r, "weight", &s->weight));
    if (s->method == LA_METHOD_MAP && s->temperature != 1)
        return bad(r, "temperature", "is not 1, and the method is map");
    return LA_OK;
}

/* Weights that are written sum to 1 but for rounding. */
#define WEIGHTS_ROUND 1e-9

static la_status get_settings(const reader *choice_group, la_posterior *p) {
    la_choice *choice = &p->choice;
    reader r = *choice_group;
    double sum = 0;
    char place[64];
    if (H5Lexists(choice_group->group, LA_GROUP_SETTINGS, H5P_DEFAULT) <= 0)
        return LA_OK;
    LA_TRY(get_group(choice_group, LA_GROUP_SETTINGS, &r.group));
    r.place = LA_GROUP_CHOICE "/" LA_GROUP_SETTINGS "/";
    la_status status;
    LA_TRY_DONE(get_int(&r, "n_settings", 1, LA_SETTINGS_MOST, &choice->n_settings));
    LA_TRY_DONE(get_number(&r, "shortening", &choice->shortening));
    if (choice->shortening < 0 || choice->shortening > 1)
        status = bad(&r, "shortening", "is out of range");
    for (int64_t i = 0; i < choice->n_settings && status == LA_OK; i++) {
        char name[48];
        reader one = r;
        snprintf(name, sizeof name, "%05lld", (long long)i);
        snprintf(place, sizeof place, "%s%s/", r.place, name);
        one.place = place;
        LA_TRY_DONE(get_group(&r, name, &one.group));
        status = get_setting(&one, p, &choice->settings[i]);
        H5Gclose(one.group);
        sum += choice->settings[i].weight;
    }
    if (status == LA_OK && !(fabs(sum - 1) <= WEIGHTS_ROUND))
        status = bad(&r, "weight", "does not sum to 1 over the settings");
    /* a setting's scale is told against the one in the precisions */
    if (status == LA_OK && !(choice->candidates[la_choice_laplace(choice)].prior_scale > 0))
        status = bad(&r, "prior_scale", "has no scale of the stored precisions beside it");
done:
    H5Gclose(r.group);
    return status;
}

static la_status get_choice_group(const reader *root, la_posterior *p) {
    la_choice *choice = &p->choice;
    reader r = *root;
    int method = 0;
    int64_t cross = 0;
    if (H5Lexists(root->group, LA_GROUP_CHOICE, H5P_DEFAULT) <= 0)
        return LA_OK;
    LA_TRY(get_group(root, LA_GROUP_CHOICE, &r.group));
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
        bool regression = p->noise_variance > 0;
        for (int i = 0; i < LA_CANDIDATE_FIGURES && status == LA_OK; i++)
            if (!regression || numbers[i] != &c->accuracy)
                status = get_number(&one, la_candidate_figures[i], numbers[i]);
        if (regression && status == LA_OK)
            status = get_positive(&one, "noise_variance", &c->noise_variance);
        H5Gclose(one.group);
        if (status == LA_OK && !(c->temperature > 0))
            status = bad(&r, la_method_names[k], "has a temperature that is not positive");
        if (status != LA_OK)
            goto done;
    }
    /* a regression's MAP model has a noise variance of its own there */
    if (!isfinite(choice->candidates[method].nll) ||
        (p->noise_variance > 0 && !isfinite(choice->candidates[LA_METHOD_MAP].nll)))
        status = bad(&r, "method", "names a candidate that is missing");
    if (status == LA_OK && !(p->noise_variance > 0))
        status = get_settings(&r, p);
    if (status == LA_OK && choice->method == LA_METHOD_AVERAGE && !choice->n_settings)
        status = bad(&r, LA_GROUP_SETTINGS, "is missing");
done:
    H5Gclose(r.group);
    return status;
}

/* *cols of an array [rows, cols]. */
static la_status get_cols(const reader *r, const char *name, int64_t rows, int64_t *cols) {
    hid_t set = H5Dopen2(r->group, name, H5P_DEFAULT);
    if (set < 0)
        return bad(r, name, "is missing");
    hid_t space = H5Dget_space(set);
    hsize_t shape[2] = {0};
    bool fits = H5Sget_simple_extent_ndims(space) == 2 &&
                H5Sget_simple_extent_dims(space, shape, NULL) == 2 && shape[0] == (hsize_t)rows &&
                shape[1] >= 1 && shape[1] <= (hsize_t)SIDE_MAX;
    H5Sclose(space);
    H5Dclose(set);
    *cols = (int64_t)shape[1];
    return fits ? LA_OK : bad(r, name, "has another shape than expected");
}

static la_status get_auroc(const reader *r, const char *name, double *value) {
    *value = NAN;
    if (H5Aexists(r->group, name) <= 0)
        return LA_OK;
    LA_TRY(get_number(r, name, value));
    return *value < 0 || *value > 1 ? bad(r, name, "is out of range") : LA_OK;
}

static la_status get_adue(const reader *root, la_posterior *p) {
    la_adue *head = &p->adue;
    reader r = *root;
    int outcome = 0;
    if (H5Lexists(root->group, LA_GROUP_ADUE, H5P_DEFAULT) <= 0)
        return LA_OK;
    LA_TRY(get_group(root, LA_GROUP_ADUE, &r.group));
    r.place = LA_GROUP_ADUE "/";
    la_status status;
    head->n_classes = p->n_classes;
    LA_TRY_DONE(
        get_choice(&r, "outcome", &p->pool, la_adue_outcome_names, LA_ADUE_OUTCOMES, &outcome));
    LA_TRY_DONE(get_number(&r, "smooth", &head->smooth));
    LA_TRY_DONE(get_int(&r, "epochs", 0, INT32_MAX, &head->epochs));
    LA_TRY_DONE(get_int(&r, "best_epoch", 0, head->epochs, &head->best_epoch));
    LA_TRY_DONE(get_auroc(&r, "auroc_before", &head->auroc_before));
    LA_TRY_DONE(get_auroc(&r, "auroc_after", &head->auroc_after));
    LA_TRY_DONE(get_cols(&r, "weight", p->n_classes, &head->width));
    head->outcome = (la_adue_outcome)outcome;
    int64_t weights = p->n_classes * head->width;
    head->weight =
        la_pool_take(&p->pool, (size_t)(weights + p->n_classes), sizeof *head->weight, r.err);
    if (!head->weight) {
        status = r.err->status;
        goto done;
    }
    head->bias = head->weight + weights;
    hsize_t shape[2] = {(hsize_t)p->n_classes, (hsize_t)head->width};
    LA_TRY_DONE(get_array(&r, "weight", H5T_FLOAT, H5T_NATIVE_DOUBLE, 2, shape, head->weight));
    LA_TRY_DONE(get_array(&r, "bias", H5T_FLOAT, H5T_NATIVE_DOUBLE, 1, shape, head->bias));
    if (!(head->smooth > 0))
        status = bad(&r, "smooth", "is not positive");
    for (int64_t i = 0; i < weights + p->n_classes && status == LA_OK; i++)
        if (!isfinite(head->weight[i]))
            status = bad(&r, i < weights ? "weight" : "bias", "holds a value that is not finite");
done:
    H5Gclose(r.group);
    return status;
}

static la_status get_directions(const reader *root, la_posterior *p) {
    la_directions *d = &p->directions;
    reader r = *root;
    d->width = la_posterior_width(p);
    LA_TRY(get_group(root, LA_GROUP_DIRECTIONS, &r.group));
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
    LA_TRY(get_group(root, LA_GROUP_BLOCKS, &r.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK; b++)
        status = get_block(&r, b, p);
    H5Gclose(r.group);
    LA_TRY(status);
    if (la_curvature_is_joint(p->curvature))
        LA_TRY(get_directions(root, p));
    LA_TRY(get_choice_group(root, p));
    LA_TRY(get_adue(root, p));
    LA_TRY(get_group(root, LA_GROUP_INPUTS, &r.group));
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
    LA_TRY(get_group(root, LA_GROUP_BLOCKS, &r.group));
    for (int64_t b = 0; b < p->n_blocks && status == LA_OK && la_has_spectra(p->curvature); b++)
        status = get_spectrum(&r, b, p);
    H5Gclose(r.group);
    return status;
}

la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err) {
    *posterior = (la_posterior){0};
    la_hdf5_start();
    if (access(path, R_OK))
        return la_fail(err, LA_BAD_INPUT, "%s: cannot read: %s", path, la_errno_text(errno));
    LA_TRY(la_posterior_check_seal(path, err));
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: HDF5 cannot open it: truncated, damaged, or being written", path);
    reader r = {path, file, err, ""};
    la_status status = get_all(&r, posterior);
    H5Fclose(file);
    if (status != LA_OK)
        la_posterior_free(posterior);
    return status;
}
