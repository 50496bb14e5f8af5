#include "output/part_file.h"
#include "output/posterior_layout.h"

#include <stdio.h>
#include <string.h>

enum { PARTS_MOST = 1 << 24 };
/* Rows of all parts: sums of that many are counted exactly in doubles. */
#define ROWS_MOST (1e15)

#define MEMBER(member, title, type, ...)                                                           \
    LA_FIELD(la_part, member, title, type, .meaning = "", __VA_ARGS__)
#define COUNT(member, title, least, most)                                                          \
    MEMBER(member, title, LA_FIELD_INT, .min = (double)(least), .max = (double)(most))
#define CHOICE(member, title, list, count)                                                         \
    MEMBER(member, title, LA_FIELD_NAME, .names = list, .max = count)
#define ORIGIN(member, title, type, ...) MEMBER(of.provenance.member, title, type, __VA_ARGS__)

static const la_field labels[] = {
    LA_FIELD(la_labels, count, "count", LA_FIELD_INT, .min = 1, .max = LA_CLASSES_MOST,
             .meaning = ""),
    LA_FIELD(la_labels, names, "label", LA_FIELD_TEXTS,
             .rows = LA_EXTENT(la_labels, count, "classes"), .meaning = ""),
};
static bool has_labels(const void *item) {
    return ((const la_labels *)item)->names != NULL;
}
static const la_field_list labels_group = {LA_FIELDS(labels), .is_set = has_labels};

/* Names are read into an int. */
_Static_assert(sizeof(la_curvature) == sizeof(int) && sizeof(la_precision) == sizeof(int) &&
                   sizeof(la_base_quant) == sizeof(int),
               "enumerations");

static const la_field head[] = {
    MEMBER(tool_version, "tool_version", LA_FIELD_WORD, .min = 0),
    COUNT(number, "part", 1, PARTS_MOST),
    COUNT(n_parts, "n_parts", 1, PARTS_MOST),
    COUNT(n_rows, "n_rows", 0, ROWS_MOST),
    COUNT(n_all, "n_rows_of_all", 1, ROWS_MOST),
    COUNT(n_truncated, "n_truncated", 0, ROWS_MOST),
    COUNT(n_lost, "n_lost", 0, ROWS_MOST),
    COUNT(n_absent, "n_absent", 0, LA_CLASSES_MOST),
    CHOICE(precision, "precision", la_precision_names, LA_PRECISIONS),
    MEMBER(basis_digest, "basis_digest", LA_FIELD_DIGEST, .min = 0),
    MEMBER(task, "task", LA_FIELD_WORD, .optional = true),
    CHOICE(of.curvature, "curvature", la_curvature_names, LA_CURVATURES),
    CHOICE(of.kron, "kron", la_kron_names, LA_KRONS),
    CHOICE(of.params, "params", la_params_names, LA_PARAM_SETS),
    COUNT(of.rank_asked, "rank", 0, LA_SIDE_MOST),
    COUNT(of.n_classes, "n_classes", 1, LA_CLASSES_MOST),
    ORIGIN(base_path, "base_path", LA_FIELD_PATH, .min = 0),
    ORIGIN(adapter_path, "adapter_path", LA_FIELD_PATH, .min = 0),
    ORIGIN(adapter_name, "adapter_name", LA_FIELD_PATH, .optional = true),
    ORIGIN(base_quant, "base_quant", LA_FIELD_NAME, .names = la_base_quant_names,
           .max = LA_BASE_QUANTS, .optional = true),
    ORIGIN(base_digest, "base_digest", LA_FIELD_DIGEST, .min = 0),
    ORIGIN(adapter_digest, "adapter_digest", LA_FIELD_DIGEST, .min = 0),
    ORIGIN(tokenizer_digest, "tokenizer_digest", LA_FIELD_DIGEST, .min = 0),
    ORIGIN(data_digest, "data_digest", LA_FIELD_DIGEST, .min = 0),
    ORIGIN(max_length, "max_length", LA_FIELD_INT, .max = INT32_MAX),
    ORIGIN(template_text, "template", LA_FIELD_TEXT, .optional = true),
    ORIGIN(choice_ids, "choice_ids", LA_FIELD_I32, .optional = true,
           .rows = LA_EXTENT(la_part, of.n_classes, "classes"), .negative = "a negative token id"),
    ORIGIN(labels, "labels", LA_FIELD_GROUP, .list = &labels_group),
    MEMBER(of.class_rows, "class_rows", LA_FIELD_F64, .optional = true,
           .rows = LA_EXTENT(la_part, of.n_classes, "classes"), .negative = "a negative count"),
    MEMBER(digests, "row_digests", LA_FIELD_I32, .optional = true,
           .rows = LA_FROM_SHAPE(la_part, n_digests, "rows"), .cols = {"words", .fixed = 4}),
};
static const la_field_list head_fields = {LA_FIELDS(head), .size = sizeof(la_part)};

const la_sums_kind la_part_kind = {.seal = {.magic = "laplora part",
                                            .title = "part",
                                            .again = "make it again with fit --shard",
                                            .schema = 1},
                                   .head = &head_fields};

/* ---- reading ---- */

static const char *contradiction(const la_part *p) {
    if (p->number > p->n_parts)
        return "\"part\" is above \"n_parts\"";
    if (p->n_rows != la_part_rows(p->number, p->n_parts, p->n_all))
        return "\"n_rows\" is not the number of rows that the part has of all";
    if (p->n_digests != p->n_rows)
        return "\"row_digests\" are not as many as the rows";
    if (p->of.provenance.labels.names && p->of.provenance.labels.count != p->of.n_classes)
        return "\"labels\" are not as many as the classes";
    if (p->of.n_classes < p->of.likelihood->n_least || p->of.n_classes > p->of.likelihood->n_most)
        return "\"n_classes\" is out of range";
    return NULL;
}

static la_status check(const char *path, la_part *part, la_error *err) {
    part->of.likelihood = la_likelihood_of_task(part->task);
    if (!part->of.likelihood)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: is of a task that this laplora does not know; update it", path);
    const char *why = contradiction(part);
    return why ? la_fail(err, LA_BAD_INPUT, "%s: %s; the part file is damaged", path, why) : LA_OK;
}

la_status la_part_open(const char *path, la_part *part, la_sums_file **file, la_error *err) {
    *part = (la_part){0};
    LA_TRY(la_sums_file_open(&la_part_kind, path, part, file, err));
    return check(path, part, err);
}

void la_part_close(la_part *part, la_sums_file *file) {
    la_labels_free(&part->of.provenance.labels);
    la_sums_file_close(file);
    *part = (la_part){0};
}

/* ---- of one fit ---- */

static bool same_text(const char *a, const char *b) {
    return !a || !b ? a == b : !strcmp(a, b);
}

static bool same_labels(const la_labels *a, const la_labels *b) {
    if (!a->names || !b->names)
        return !a->names && !b->names;
    for (int64_t i = 0; a->count == b->count && i < a->count; i++)
        if (strcmp(a->names[i], b->names[i]))
            return false;
    return a->count == b->count;
}

static bool same_choices(const la_part *a, const la_part *b) {
    const int32_t *x = a->of.provenance.choice_ids, *y = b->of.provenance.choice_ids;
    if (!x || !y)
        return x == y;
    return !memcmp(x, y, (size_t)a->of.n_classes * sizeof *x);
}

/* What differs between them; NULL: nothing that matters. */
static const char *difference(const la_part *a, const la_part *b) {
    const la_provenance *x = &a->of.provenance, *y = &b->of.provenance;
    const struct {
        bool same;
        const char *what;
    } fields[] = {
        {!strcmp(x->base_digest, y->base_digest) && x->base_quant == y->base_quant, "base"},
        {!strcmp(x->adapter_digest, y->adapter_digest), "adapter"},
        {!strcmp(x->tokenizer_digest, y->tokenizer_digest), "tokenizer"},
        {a->of.curvature == b->of.curvature && a->of.kron == b->of.kron &&
             a->of.params == b->of.params && a->of.rank_asked == b->of.rank_asked,
         "curvature (--curvature, --kron, --params or --rank)"},
        {a->of.n_classes == b->of.n_classes && same_text(a->task, b->task), "number of classes"},
        {a->of.n_classes == b->of.n_classes && same_choices(a, b), "answer tokens"},
        {same_labels(&x->labels, &y->labels), "class names"},
        {same_text(x->template_text, y->template_text), "prompt (--template)"},
        {x->max_length == y->max_length, "length of rows (--max-length)"},
        {a->precision == b->precision, "--precision"},
        {!strcmp(a->basis_digest, b->basis_digest), "posterior (--basis)"},
        {a->n_parts == b->n_parts, "number of parts"},
        {a->n_all == b->n_all && !strcmp(x->data_digest, y->data_digest), "rows (--data)"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!fields[i].same)
            return fields[i].what;
    return NULL;
}

la_status la_part_agree(const char *path, const la_part *part, const char *other_path,
                        const la_part *other, la_error *err) {
    const char *what = difference(part, other);
    if (!what)
        return LA_OK;
    return la_fail(err, LA_MISMATCH,
                   "%s (part %lld/%lld): is of another %s than %s (part %lld/%lld); expected parts "
                   "of one fit --shard",
                   path, (long long)part->number, (long long)part->n_parts, what, other_path,
                   (long long)other->number, (long long)other->n_parts);
}
