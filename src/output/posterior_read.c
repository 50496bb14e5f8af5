#include "bayes/selection.h"
#include "output/posterior_fields.h"
#include "output/posterior_layout.h"
#include "text/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Parameters of all blocks, so that their number and what is made of it fit 63 bits. */
#define WIDTH_MOST ((int64_t)1 << 48)

/* An object that is being read. */
typedef struct reader {
    la_h5_object object;
    const char *path;
    char place[64]; /* of it, for messages: "" or "adue/" */
    int minor;      /* of the file's schema */
    la_pool *pool;
    la_error *err;
} reader;

static la_status bad(const reader *r, const char *name, const char *why) {
    return la_fail(r->err, LA_BAD_INPUT, "%s: \"%s%s\" %s; the posterior file is damaged", r->path,
                   r->place, name, why);
}

/* ---- attributes ---- */

static la_status get_int(const reader *r, const char *name, double min, double max,
                         int64_t *value) {
    const la_h5_attribute *a = la_h5_attribute_of(&r->object, name);
    if (!a)
        return bad(r, name, "is missing");
    if (!la_h5_int(a, value))
        return bad(r, name, "cannot be read as what it should be");
    return (double)*value < min || (double)*value > max ? bad(r, name, "is out of range") : LA_OK;
}

static la_status get_number(const reader *r, const la_field *f, double *value) {
    const la_h5_attribute *a = la_h5_attribute_of(&r->object, f->name);
    if (!a)
        return bad(r, f->name, "is missing");
    if (!la_h5_number(a, value))
        return bad(r, f->name, "cannot be read as what it should be");
    if (!isfinite(*value))
        return bad(r, f->name, "is not finite");
    if (f->kind == LA_FIELD_POSITIVE && !(*value > 0))
        return bad(r, f->name, "is not positive");
    return *value < f->min || *value > f->max ? bad(r, f->name, "is out of range") : LA_OK;
}

/* A string, of the pool. */
static la_status get_text(const reader *r, const char *name, la_field_kind kind,
                          const char **text) {
    const la_h5_attribute *a = la_h5_attribute_of(&r->object, name);
    la_error unused = {0};
    if (!a)
        return bad(r, name, "is missing");
    if (a->type != LA_H5_TEXT)
        return bad(r, name, "is no text");
    const char *found = (const char *)a->value;
    size_t length = strnlen(found, a->size);
    if (kind != LA_FIELD_PATH && la_utf8_check(found, length, &unused) != LA_OK)
        return bad(r, name, "is not UTF-8");
    if (kind == LA_FIELD_WORD && !length)
        return bad(r, name, "is empty");
    for (size_t i = 0; i < length && kind == LA_FIELD_WORD; i++)
        if ((unsigned char)found[i] < ' ' || found[i] == 0x7f)
            return bad(r, name, "holds a control character");
    *text = la_pool_text(r->pool, found, length, r->err);
    return *text ? LA_OK : r->err->status;
}

static la_status get_name(const reader *r, const la_field *f, int *value) {
    const char *text = NULL;
    LA_TRY(get_text(r, f->name, LA_FIELD_TEXT, &text));
    for (*value = 0; *value < (int)f->max; ++*value)
        if (!strcmp(f->names[*value], text))
            return LA_OK;
    return bad(r, f->name, "has an unknown value");
}

static la_status get_digest(const reader *r, const char *name, char out[LA_DIGEST_TEXT]) {
    const char *text = NULL;
    LA_TRY(get_text(r, name, LA_FIELD_TEXT, &text));
    size_t length = strlen(text);
    if (length && (length != LA_DIGEST_TEXT - 1 || strspn(text, "0123456789abcdef") != length))
        return bad(r, name, "is no digest");
    memcpy(out, text, length + 1);
    return LA_OK;
}

static la_status get_field(const reader *r, const la_field *f, char *at) {
    int64_t flag = 0;
    switch (f->kind) {
    case LA_FIELD_INT:
        return get_int(r, f->name, f->min, f->max, (int64_t *)(void *)at);
    case LA_FIELD_FLAG:
        LA_TRY(get_int(r, f->name, f->min, f->max, &flag));
        *(int *)(void *)at = (int)flag;
        return LA_OK;
    case LA_FIELD_NUMBER:
    case LA_FIELD_POSITIVE:
        return get_number(r, f, (double *)(void *)at);
    case LA_FIELD_NAME:
        return get_name(r, f, (int *)(void *)at);
    case LA_FIELD_DIGEST:
        return get_digest(r, f->name, at);
    default:
        return get_text(r, f->name, f->kind, (const char **)(void *)at);
    }
}

/* What a file need not have and has not stays as it is. */
static la_status get_fields(const reader *r, la_field_list list, void *to) {
    for (const la_field *f = list.fields; f < list.fields + list.n; f++) {
        bool older = r->minor < f->since && f->since > list.since;
        if (la_h5_attribute_of(&r->object, f->name) || !(f->optional || older))
            LA_TRY(get_field(r, f, (char *)to + f->offset));
    }
    return LA_OK;
}

/* ---- groups and arrays ---- */

/* *member is what r has under that name; its place in messages follows from place, or is that of r. */
static la_status get_member(const reader *r, const char *name, const char *place, reader *member) {
    const la_h5_link *link = la_h5_link_of(&r->object, name);
    if (!link)
        return bad(r, name, "is missing");
    *member = *r;
    if (place)
        snprintf(member->place, sizeof member->place, "%s", place);
    return la_h5_open(r->object.file, link->address, &member->object);
}

static la_status get_numbered(const reader *r, const char *group, int64_t number, reader *member) {
    char name[24], place[64];
    snprintf(name, sizeof name, "%05lld", (long long)number);
    snprintf(place, sizeof place, "%s/%s/", group, name);
    return get_member(r, name, place, member);
}

static bool has(const reader *r, const char *name) {
    return la_h5_link_of(&r->object, name) != NULL;
}

/* An array of elements of that type and size, in one dimension or two. */
static la_status get_array(const reader *r, const char *name, int rank, la_h5_type type,
                           size_t size, la_h5_object *array) {
    reader member;
    LA_TRY(get_member(r, name, NULL, &member));
    *array = member.object;
    if (array->rank != rank)
        return bad(r, name, "has another shape than expected");
    return array->type == type && array->size == size
               ? LA_OK
               : bad(r, name, "is of another type than expected");
}

static la_status read_array(const reader *r, const char *name, const la_h5_object *array,
                            void *to) {
    bool finite = true;
    LA_TRY(la_h5_read(array, to, &finite));
    return finite ? LA_OK : bad(r, name, "holds a value that is not finite");
}

/* Eigenvalues of a factor or of everything: *rank of them, at most `most`. */
static la_status get_values(const reader *r, const char *name, int64_t most, int64_t *rank,
                            double **values) {
    la_h5_object array;
    LA_TRY(get_array(r, name, 1, LA_H5_FLOAT, sizeof **values, &array));
    if (array.shape[0] > most)
        return bad(r, name, "has a size that makes no sense");
    *values = la_pool_take(r->pool, (size_t)array.shape[0], sizeof **values, r->err);
    if (!*values)
        return r->err->status;
    LA_TRY(read_array(r, name, &array, *values));
    for (int64_t i = 0; i < array.shape[0]; i++)
        if (!((*values)[i] >= 0))
            return bad(r, name, "holds an eigenvalue that is negative");
    *rank = array.shape[0];
    return LA_OK;
}

static la_status get_floats(const reader *r, const char *name, int64_t rows, int64_t cols,
                            float **values) {
    la_h5_object array;
    LA_TRY(get_array(r, name, 2, LA_H5_FLOAT, sizeof **values, &array));
    if (array.shape[0] != rows || array.shape[1] != cols)
        return bad(r, name, "has another shape than expected");
    *values = la_pool_take(r->pool, (size_t)(rows * cols), sizeof **values, r->err);
    return *values ? read_array(r, name, &array, *values) : r->err->status;
}

static la_status get_factor(const reader *r, const char *prefix, int64_t n, la_factor *factor) {
    char name[64];
    *factor = (la_factor){.n = n};
    snprintf(name, sizeof name, "%seigenvalues", prefix);
    LA_TRY(get_values(r, name, n, &factor->rank, &factor->values));
    snprintf(name, sizeof name, "%seigenvectors", prefix);
    return get_floats(r, name, factor->rank, n, &factor->vectors);
}

/* ---- the parts ---- */

static la_status get_format(reader *r) {
    const char *format = NULL;
    int64_t major, minor, complete;
    LA_TRY(get_text(r, "format", LA_FIELD_TEXT, &format));
    if (strcmp(format, LA_POSTERIOR_FORMAT))
        return la_fail(r->err, LA_BAD_INPUT,
                       "%s: is no posterior of laplora: its format is not \"" LA_POSTERIOR_FORMAT
                       "\"",
                       r->path);
    LA_TRY(get_int(r, "schema_major", 0, INT32_MAX, &major));
    LA_TRY(get_int(r, "schema_minor", 0, INT32_MAX, &minor));
    if (major > LA_SCHEMA_MAJOR)
        return la_fail(r->err, LA_UNSUPPORTED,
                       "%s: schema %lld.%lld is newer than the %d.%d that this laplora reads; "
                       "update it",
                       r->path, (long long)major, (long long)minor, LA_SCHEMA_MAJOR,
                       LA_SCHEMA_MINOR);
    r->minor = (int)minor;
    if (!la_h5_attribute_of(&r->object, "complete"))
        return la_fail(r->err, LA_BAD_INPUT,
                       "%s: incomplete: the mark that is written last is missing; fit again",
                       r->path);
    return get_int(r, "complete", 1, 1, &complete);
}

/* A file without a task is of classes: schema 1.2 had nothing else. */
static la_status get_likelihood(const reader *r, la_posterior *p) {
    const char *task = NULL;
    if (la_h5_attribute_of(&r->object, "task"))
        LA_TRY(get_text(r, "task", LA_FIELD_WORD, &task));
    const la_likelihood *likelihood = p->likelihood = la_likelihood_of_task(task);
    if (!likelihood)
        return la_fail(r->err, LA_UNSUPPORTED,
                       "%s: is of a task that this laplora does not know; update it", r->path);
    if (likelihood->has_noise && !(p->noise_variance > 0))
        return bad(r, "noise_variance", "is missing");
    if (!likelihood->has_noise && p->noise_variance > 0)
        return bad(r, "noise_variance", "is of a regression, and the task is none");
    return p->n_classes < likelihood->n_least || p->n_classes > likelihood->n_most
               ? bad(r, "n_classes", "is out of range")
               : LA_OK;
}

static la_status get_root(reader *r, la_posterior *p) {
    LA_TRY(get_format(r));
    p->temperature = 1; /* schema 1.0 had none */
    LA_TRY(get_fields(r, la_posterior_fields, p));
    LA_TRY(get_likelihood(r, p));
    if (la_has_factors(p->curvature) ? p->n_inputs < 1 : p->n_inputs > 0)
        return bad(r, "n_inputs", "is out of range");
    if (la_curvature_is_joint(p->curvature) && !la_prior_is_one(p->prior))
        return bad(r, "prior", "is not of one precision, which the curvature asks for");
    if (!has(r, "choice_ids"))
        return LA_OK;
    la_h5_object array;
    int32_t **ids = &p->provenance.choice_ids;
    LA_TRY(get_array(r, "choice_ids", 1, LA_H5_INT, sizeof **ids, &array));
    if (array.shape[0] != p->n_classes)
        return bad(r, "choice_ids", "has another shape than expected");
    *ids = la_pool_take(&p->pool, (size_t)p->n_classes, sizeof **ids, r->err);
    if (!*ids)
        return r->err->status;
    LA_TRY(read_array(r, "choice_ids", &array, *ids));
    for (int64_t i = 0; i < p->n_classes; i++)
        if ((*ids)[i] < 0)
            return bad(r, "choice_ids", "holds a negative token id");
    return LA_OK;
}

static la_status get_labels(const reader *root, la_posterior *p) {
    reader r;
    la_labels *labels = &p->provenance.labels;
    if (!has(root, LA_GROUP_LABELS))
        return LA_OK;
    LA_TRY(get_member(root, LA_GROUP_LABELS, LA_GROUP_LABELS "/", &r));
    if (r.object.n_attributes < p->n_classes)
        return bad(root, LA_GROUP_LABELS, "has fewer names than there are classes");
    labels->names = la_alloc((size_t)p->n_classes, sizeof *labels->names, r.err);
    if (!labels->names)
        return r.err->status;
    for (int64_t i = 0; i < p->n_classes; i++) {
        char name[48];
        const char *text = NULL;
        snprintf(name, sizeof name, "label_%lld", (long long)i);
        LA_TRY(get_text(&r, name, LA_FIELD_TEXT, &text));
        labels->names[i] = la_alloc(strlen(text) + 1, 1, r.err);
        if (!labels->names[i])
            return r.err->status;
        strcpy(labels->names[i], text);
        labels->count = i + 1;
    }
    return LA_OK;
}

static la_status get_block(const reader *r, la_posterior *p, la_posterior_block *block) {
    LA_TRY(get_fields(r, la_block_fields, block));
    if (block->input && block->input >= p->n_inputs)
        return bad(r, "input", "is out of range");
    return la_has_factors(p->curvature) ? get_factor(r, "output_", block->out, &block->output)
                                        : LA_OK;
}

/* After the factors, which tell its shape. */
static la_status get_spectrum(const reader *r, la_posterior *p, la_posterior_block *block) {
    la_spectrum s = la_block_spectrum(p, block);
    LA_TRY(get_floats(r, "spectrum", s.rows, s.cols, &block->spectrum));
    bool negative = false;
    for (int64_t i = 0; i < s.rows * s.cols; i++)
        negative |= !(block->spectrum[i] >= 0);
    return negative ? bad(r, "spectrum", "holds a value that is negative") : LA_OK;
}

/* Blocks that read the same matrix share its factor. */
static la_status get_input(const reader *inputs, const reader *r, la_posterior *p,
                           const la_posterior_block *block) {
    la_factor *input = &p->inputs[block->input];
    reader one;
    if (input->n)
        return input->n == block->in ? LA_OK : bad(r, "input", "is shared and of another size");
    LA_TRY(get_numbered(inputs, LA_GROUP_INPUTS, block->input, &one));
    return get_factor(&one, "", block->in, input);
}

static la_status get_blocks(const reader *root, la_posterior *p) {
    reader blocks, inputs, one;
    int64_t width = 0;
    LA_TRY(get_member(root, LA_GROUP_BLOCKS, NULL, &blocks));
    LA_TRY(get_member(root, LA_GROUP_INPUTS, NULL, &inputs));
    if (blocks.object.n_links != p->n_blocks)
        return bad(root, "n_blocks", "is not the number of blocks that there are");
    if (inputs.object.n_links != p->n_inputs)
        return bad(root, "n_inputs", "is not the number of inputs that there are");
    p->blocks = la_pool_take(&p->pool, (size_t)p->n_blocks, sizeof *p->blocks, root->err);
    p->inputs = la_pool_take(&p->pool, (size_t)p->n_inputs, sizeof *p->inputs, root->err);
    if (!p->blocks || !p->inputs)
        return root->err->status;
    for (int64_t b = 0; b < p->n_blocks; b++) {
        la_posterior_block *block = &p->blocks[b];
        LA_TRY(get_numbered(&blocks, LA_GROUP_BLOCKS, b, &one));
        LA_TRY(get_block(&one, p, block));
        width += block->out * block->in;
        if (width > WIDTH_MOST)
            return bad(&one, "out", "and \"in\" make more parameters than there can be");
        if (la_has_factors(p->curvature))
            LA_TRY(get_input(&inputs, &one, p, block));
        if (la_has_spectra(p->curvature))
            LA_TRY(get_spectrum(&one, p, block));
        bool joint = la_curvature_is_joint(p->curvature);
        if (joint && block->prior_precision != p->blocks[0].prior_precision)
            return bad(&one, "prior_precision", "is not that of the other blocks");
    }
    return LA_OK;
}

static la_status get_directions(const reader *root, la_posterior *p) {
    la_directions *d = &p->directions;
    reader r;
    d->width = la_posterior_width(p);
    LA_TRY(get_member(root, LA_GROUP_DIRECTIONS, LA_GROUP_DIRECTIONS "/", &r));
    LA_TRY(get_values(&r, "eigenvalues", d->width, &d->rank, &d->values));
    return get_floats(&r, "eigenvectors", d->rank, d->width, &d->vectors);
}

/* ---- the guard's choice, the error head ---- */

/* Weights that are written sum to 1 but for rounding. */
#define WEIGHTS_ROUND 1e-9

static la_status get_settings(const reader *choice_group, la_choice *choice) {
    reader r, one;
    double sum = 0;
    if (!has(choice_group, LA_GROUP_SETTINGS))
        return LA_OK;
    LA_TRY(
        get_member(choice_group, LA_GROUP_SETTINGS, LA_GROUP_CHOICE "/" LA_GROUP_SETTINGS "/", &r));
    LA_TRY(get_fields(&r, la_settings_fields, choice));
    for (int64_t i = 0; i < choice->n_settings; i++) {
        la_setting *s = &choice->settings[i];
        char name[24];
        snprintf(name, sizeof name, "%05lld", (long long)i);
        LA_TRY(get_member(&r, name, NULL, &one));
        snprintf(one.place, sizeof one.place, "%.40s%s/", r.place, name);
        LA_TRY(get_fields(&one, la_setting_fields, s));
        if (s->method == LA_METHOD_MAP && s->temperature != 1)
            return bad(&one, "temperature", "is not 1, and the method is map");
        sum += s->weight;
    }
    if (!(fabs(sum - 1) <= WEIGHTS_ROUND))
        return bad(&r, "weight", "does not sum to 1 over the settings");
    /* a setting's scale is told against the one in the precisions */
    if (!(choice->candidates[la_choice_laplace(choice)].prior_scale > 0))
        return bad(&r, "prior_scale", "has no scale of the stored precisions beside it");
    return LA_OK;
}

static la_status get_candidate(const reader *r, bool regression, la_candidate *c) {
    LA_TRY(get_fields(r, la_candidate_fields, c));
    if (!regression && isnan(c->accuracy))
        return bad(r, "accuracy", "is missing");
    return regression && !(c->noise_variance > 0) ? bad(r, "noise_variance", "is missing") : LA_OK;
}

static la_status get_choice_group(const reader *root, la_posterior *p) {
    la_choice *choice = &p->choice;
    bool regression = p->likelihood->has_noise;
    reader r, one;
    if (!has(root, LA_GROUP_CHOICE))
        return LA_OK;
    LA_TRY(get_member(root, LA_GROUP_CHOICE, NULL, &r));
    LA_TRY(get_fields(&r, la_choice_fields, choice));
    choice->guarded = 1;
    for (int k = 0; k < LA_METHODS; k++) {
        la_candidate *c = &choice->candidates[k];
        *c = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN, .accuracy = NAN};
        if (!has(&r, la_method_names[k]))
            continue;
        char place[64];
        snprintf(place, sizeof place, LA_GROUP_CHOICE "/%s/", la_method_names[k]);
        LA_TRY(get_member(&r, la_method_names[k], place, &one));
        LA_TRY(get_candidate(&one, regression, c));
    }
    /* a regression's MAP model has a noise variance of its own there */
    if (!isfinite(choice->candidates[choice->method].nll) ||
        (regression && !isfinite(choice->candidates[LA_METHOD_MAP].nll)))
        return bad(&r, "method", "names a candidate that is missing");
    if (!regression)
        LA_TRY(get_settings(&r, choice));
    return choice->method == LA_METHOD_AVERAGE && !choice->n_settings
               ? bad(&r, LA_GROUP_SETTINGS, "is missing")
               : LA_OK;
}

static la_status get_adue(const reader *root, la_posterior *p) {
    la_adue *head = &p->adue;
    la_h5_object weight, bias;
    reader r;
    if (!has(root, LA_GROUP_ADUE))
        return LA_OK;
    if (p->likelihood->label_kind != LA_LABEL_CLASS)
        return bad(root, LA_GROUP_ADUE, "is of classes, and the task is a regression");
    LA_TRY(get_member(root, LA_GROUP_ADUE, LA_GROUP_ADUE "/", &r));
    head->n_classes = p->n_classes;
    head->auroc_before = head->auroc_after = NAN;
    LA_TRY(get_fields(&r, la_adue_fields, head));
    if (head->best_epoch > head->epochs)
        return bad(&r, "best_epoch", "is out of range");
    LA_TRY(get_array(&r, "weight", 2, LA_H5_FLOAT, sizeof *head->weight, &weight));
    if (weight.shape[0] != p->n_classes || weight.shape[1] > LA_SIDE_MOST)
        return bad(&r, "weight", "has another shape than expected");
    LA_TRY(get_array(&r, "bias", 1, LA_H5_FLOAT, sizeof *head->bias, &bias));
    if (bias.shape[0] != p->n_classes)
        return bad(&r, "bias", "has another shape than expected");
    head->width = weight.shape[1];
    int64_t weights = p->n_classes * head->width;
    head->weight =
        la_pool_take(&p->pool, (size_t)(weights + p->n_classes), sizeof *head->weight, r.err);
    if (!head->weight)
        return r.err->status;
    head->bias = head->weight + weights;
    LA_TRY(read_array(&r, "weight", &weight, head->weight));
    return read_array(&r, "bias", &bias, head->bias);
}

/* ---- all of it ---- */

static la_status get_all(la_h5_file *file, la_posterior *p) {
    reader root = {.path = file->path, .pool = &p->pool, .err = file->err};
    LA_TRY(la_posterior_check_seal(file));
    LA_TRY(la_h5_root(file, &root.object));
    LA_TRY(get_root(&root, p));
    LA_TRY(get_labels(&root, p));
    LA_TRY(get_blocks(&root, p));
    if (la_curvature_is_joint(p->curvature))
        LA_TRY(get_directions(&root, p));
    LA_TRY(get_choice_group(&root, p));
    return get_adue(&root, p);
}

static la_status load(const char *path, int fd, const void *bytes, uint64_t size,
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

la_status la_posterior_load_bytes(const char *name, const void *bytes, size_t size,
                                  la_posterior *posterior, la_error *err) {
    return load(name, -1, bytes, size, posterior, err);
}

la_status la_posterior_load(const char *path, la_posterior *posterior, la_error *err) {
    struct stat info;
    *posterior = (la_posterior){0};
    /* a FIFO must not be waited for before it is told from a file */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return la_fail(err, la_errno_status(errno), "%s: cannot read: %s", path,
                       la_errno_text(errno));
    la_status status;
    if (fstat(fd, &info))
        status =
            la_fail(err, la_errno_status(errno), "%s: cannot read: %s", path, la_errno_text(errno));
    else if (!S_ISREG(info.st_mode))
        status = la_fail(err, LA_BAD_INPUT, "%s: is no file, expected a posterior", path);
    else
        status = load(path, fd, NULL, (uint64_t)info.st_size, posterior, err);
    close(fd);
    return status;
}
