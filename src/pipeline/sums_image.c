#include "pipeline/sums_image.h"
#include "base/machine.h"
#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char la_image_magic[LA_IMAGE_MAGIC] = "laplora sums 1\n";

/* Integers that a double holds exactly. */
#define COUNT_MOST 9007199254740992.0

static size_t padded(size_t length) {
    return (length + 7) & ~(size_t)7;
}

void la_image_free(la_sums_image *image) {
    free(image->bytes);
    *image = (la_sums_image){0};
}

/* ---- header ---- */

static la_image_header header_of(const la_sums_image *image) {
    la_image_header header;
    memcpy(&header, image->bytes, sizeof header);
    return header;
}

static void set_extent(la_sums_image *image, size_t used, int n) {
    la_image_header header = header_of(image);
    image->used = header.bytes = used;
    image->n = n;
    header.sections = (uint64_t)n;
    memcpy(image->bytes, &header, sizeof header);
}

/* Memory for so many bytes; no more is taken than is wanted. */
static la_status reserve(la_sums_image *image, size_t bytes, la_error *err) {
    size_t available, total;
    if (bytes <= image->capacity)
        return LA_OK;
    la_memory_available(&available, &total);
    char *larger = bytes - image->capacity <= available ? realloc(image->bytes, bytes) : NULL;
    image->bytes = larger ? larger : image->bytes;
    if (!larger || !la_memory_spared(bytes))
        return la_fail(err, LA_RESOURCE,
                       "--checkpoint: no memory for a second copy of the sums, %.0f MiB, of which "
                       "%.0f MiB are free; leave it out, or give a smaller --rank",
                       la_mib((double)bytes), la_mib((double)available));
    memset(larger + image->capacity, 0, bytes - image->capacity);
    image->capacity = bytes;
    return LA_OK;
}

la_status la_image_begin(la_sums_image *image, const char *identity, la_error *err) {
    size_t length = strlen(identity), used = sizeof(la_image_header) + padded(length);
    la_image_header header = {.identity = length};
    LA_TRY(reserve(image, used, err));
    memcpy(header.magic, la_image_magic, sizeof header.magic);
    memcpy(image->bytes, &header, sizeof header);
    memcpy(image->bytes + sizeof header, identity, length);
    set_extent(image, used, 0);
    return LA_OK;
}

const char *la_image_identity(const la_sums_image *image, size_t *length) {
    *length = (size_t)header_of(image).identity;
    return image->bytes + sizeof(la_image_header);
}

la_image_section la_image_section_of(const la_sums_image *image, int pass) {
    la_image_section section;
    memcpy(&section, image->bytes + image->section[pass], sizeof section);
    return section;
}

/* ---- sums ---- */

static size_t bytes_of(const la_array *array) {
    return (size_t)(array->rows * array->cols) * sizeof *array->data;
}

static la_status count(void *user, const la_array *array, la_error *err) {
    size_t *bytes = user;
    (void)err;
    *bytes += sizeof(la_image_array) + bytes_of(array);
    return LA_OK;
}

la_status la_image_add(la_sums_image *image, la_fit_state *fit, la_error *err) {
    size_t bytes = sizeof(la_image_section);
    la_array_visitor counting = {count, &bytes};
    LA_TRY(la_fit_state_visit(fit, false, &counting, err));
    if (image->n == LA_IMAGE_SECTIONS)
        return la_fail(err, LA_UNSUPPORTED, "--checkpoint: a fit of more than %d passes",
                       LA_IMAGE_SECTIONS);
    LA_TRY(reserve(image, image->used + bytes, err));
    la_image_section section = {.pass = fit->pass, .at = fit->at, .to = fit->to, .bytes = bytes};
    image->section[image->n] = image->used;
    memcpy(image->bytes + image->used, &section, sizeof section);
    set_extent(image, image->used + bytes, image->n + 1);
    return la_image_put(image, fit, err);
}

/* Place among the arrays of a section. */
typedef struct cursor {
    char *at, *end;
    double rows; /* that the sums are of; below 0: not asked */
} cursor;

static la_status put(void *user, const la_array *array, la_error *err) {
    cursor *to = user;
    la_image_array head = {.rows = array->rows, .cols = array->cols};
    size_t bytes = bytes_of(array);
    if ((size_t)(to->end - to->at) < sizeof head + bytes)
        return la_fail(err, LA_UNSUPPORTED, "--checkpoint: the sums grow during the pass");
    snprintf(head.name, sizeof head.name, "%s", array->name);
    memcpy(to->at, &head, sizeof head);
    memcpy(to->at + sizeof head, array->data, bytes);
    to->at += sizeof head + bytes;
    return LA_OK;
}

static cursor cursor_of(const la_sums_image *image, int pass) {
    char *at = image->bytes + image->section[pass];
    return (cursor){at + sizeof(la_image_section), at + la_image_section_of(image, pass).bytes, -1};
}

la_status la_image_put(la_sums_image *image, la_fit_state *fit, la_error *err) {
    la_image_section section = la_image_section_of(image, fit->pass);
    cursor to = cursor_of(image, fit->pass);
    la_array_visitor putting = {put, &to};
    LA_TRY(la_fit_state_visit(fit, false, &putting, err));
    section.at = fit->at;
    memcpy(image->bytes + image->section[fit->pass], &section, sizeof section);
    return LA_OK;
}

/* The totals of the first pass become integers. */
static bool are_totals(const la_array *array, double rows) {
    const double *totals = array->data;
    return totals[0] == rows && totals[1] >= 0 && totals[1] <= COUNT_MOST;
}

static la_status take(void *user, const la_array *array, la_error *err) {
    cursor *from = user;
    la_image_array head = {0};
    size_t bytes = bytes_of(array), left = (size_t)(from->end - from->at);
    if (left >= sizeof head)
        memcpy(&head, from->at, sizeof head);
    if (left < sizeof head + bytes || head.rows != array->rows || head.cols != array->cols ||
        strncmp(head.name, array->name, sizeof head.name))
        return la_fail(err, LA_MISMATCH, "its sums are not those of %s [%lld, %lld]", array->name,
                       (long long)array->rows, (long long)array->cols);
    memcpy(array->data, from->at + sizeof head, bytes);
    from->at += sizeof head + bytes;
    for (size_t i = 0; i < bytes / sizeof *array->data; i++)
        if (!isfinite(array->data[i]))
            return la_fail(err, LA_BAD_INPUT, "%s: has a number that is not finite", array->name);
    if (!strcmp(array->name, "totals") && !are_totals(array, from->rows))
        return la_fail(err, LA_BAD_INPUT, "totals: are not those of %.0f rows", from->rows);
    return LA_OK;
}

la_status la_image_take(const la_sums_image *image, la_fit_state *fit, la_error *err) {
    la_image_section section = la_image_section_of(image, fit->pass);
    cursor from = cursor_of(image, fit->pass);
    la_array_visitor taking = {take, &from};
    from.rows = (double)section.at;
    if (section.to != fit->to || section.at < fit->at)
        return la_fail(err, LA_MISMATCH, "its pass ends before row %lld, this one before %lld",
                       (long long)section.to, (long long)fit->to);
    LA_TRY(la_fit_state_visit(fit, true, &taking, err));
    fit->at = section.at;
    return LA_OK;
}

/* ---- what was read ---- */

static const char *check_sections(la_sums_image *image, size_t at) {
    for (int i = 0; i < image->n; i++) {
        la_image_section section;
        if (image->used - at < sizeof section)
            return "ends within a section";
        memcpy(&section, image->bytes + at, sizeof section);
        bool complete = section.at == section.to;
        if (section.bytes < sizeof section || section.bytes > image->used - at || section.bytes % 8)
            return "a section has no such length";
        if (section.pass != i || section.at < 0 || section.at > section.to ||
            (i + 1 < image->n && !complete))
            return "its passes do not follow each other";
        image->section[i] = at;
        at += (size_t)section.bytes;
    }
    return at == image->used ? NULL : "has more than its sections";
}

const char *la_image_check(la_sums_image *image) {
    if (image->used < sizeof(la_image_header))
        return "is shorter than a header";
    la_image_header header = header_of(image);
    size_t after = image->used - sizeof header;
    if (memcmp(header.magic, la_image_magic, sizeof header.magic))
        return "does not begin like a checkpoint";
    if (header.bytes != image->used)
        return "is not as long as it says";
    if (header.identity > after || padded((size_t)header.identity) > after ||
        header.sections > LA_IMAGE_SECTIONS)
        return "its header makes no sense";
    image->n = (int)header.sections;
    return check_sections(image, sizeof header + padded((size_t)header.identity));
}
