#include "output/posterior_fields.h"
#include "bayes/row_digests.h"
#include "bayes/structure.h"
#include "likelihood/selection.h"
#include "output/posterior_layout.h"
#include "base/utf8.h"

#include <math.h>
#include <string.h>

/* enumerations are kept in their struct as what an int is kept as */
_Static_assert(sizeof(la_curvature) == sizeof(int) && sizeof(la_method) == sizeof(int),
               "names are read into an int");

/* No fit finds larger ones; sums of these are finite still, and so is what they are rounded to when
 * they are printed. */
#define NUMBER_MOST 1e300
/* Parameters of all blocks, so that their number and what is made of it fit 63 bits. */
#define WIDTH_MOST ((int64_t)1 << 48)
/* Weights that are written sum to 1 but for rounding. */
#define WEIGHTS_ROUND 1e-9

static const char missing[] = "is missing", no_range[] = "is out of range",
                  of_classes[] = "is of classes, and the task is a regression";

/* Rows by kind; a field that is optional, or later than the group's first schema, says so. */
#define INT(of, member, title, least, most, ...)                                                   \
    LA_FIELD(of, member, title, LA_FIELD_INT, .min = (double)(least), .max = (double)(most),       \
             .meaning = __VA_ARGS__)
#define FLAG(of, member, title, ...)                                                               \
    LA_FIELD(of, member, title, LA_FIELD_FLAG, .max = 1, .meaning = __VA_ARGS__)
#define NUMBER(of, member, title, ...)                                                             \
    LA_FIELD(of, member, title, LA_FIELD_NUMBER, .min = -NUMBER_MOST, .max = NUMBER_MOST,          \
             .meaning = __VA_ARGS__)
#define SHARE(of, member, title, ...)                                                              \
    LA_FIELD(of, member, title, LA_FIELD_NUMBER, .min = 0, .max = 1, .meaning = __VA_ARGS__)
#define POSITIVE(of, member, title, ...)                                                           \
    LA_FIELD(of, member, title, LA_FIELD_POSITIVE, .max = NUMBER_MOST, .meaning = __VA_ARGS__)
#define CLASSES(of, member, title, below, ...)                                                     \
    LA_FIELD(of, member, title, LA_FIELD_F64, .rows = LA_EXTENT(of, n_classes, "classes"),         \
             .negative = below, .meaning = __VA_ARGS__)
#define CLASSES_SQUARE(of, member, title, below, ...)                                              \
    LA_FIELD(of, member, title, LA_FIELD_F64, .rows = LA_EXTENT(of, n_classes, "classes"),         \
             .cols = LA_EXTENT(of, n_classes, "classes"), .negative = below,                       \
             .meaning = __VA_ARGS__)
#define NAME(of, member, title, list, count, ...)                                                  \
    LA_FIELD(of, member, title, LA_FIELD_NAME, .names = list, .max = count, .meaning = __VA_ARGS__)
#define TEXT(of, member, title, type, ...) LA_FIELD(of, member, title, type, .meaning = __VA_ARGS__)
#define GROUP(of, member, title, fields, ...)                                                      \
    LA_FIELD(of, member, title, LA_FIELD_GROUP, .list = &fields, .meaning = __VA_ARGS__)
/* fields of the struct itself under a group's name */
#define INNER(title, fields, ...)                                                                  \
    { .name = title, .kind = LA_FIELD_GROUP, .list = &fields, .meaning = __VA_ARGS__ }
#define ORIGIN(member, title, type, ...)                                                           \
    TEXT(la_posterior, provenance.member, title, type, __VA_ARGS__)

/* ---- class names ---- */

static const la_field labels[] = {
    LA_FIELD(la_labels, names, "label", LA_FIELD_TEXTS,
             .rows = LA_EXTENT(la_labels, count, "classes"), .meaning = "names of the classes"),
};

static bool has_labels(const void *item) {
    return ((const la_labels *)item)->names != NULL;
}

static la_blame before_labels(la_posterior *p, void *item) {
    ((la_labels *)item)->count = p->n_classes;
    return (la_blame){0};
}

static const la_field_list labels_group = {LA_FIELDS(labels), .is_set = has_labels,
                                           .before = before_labels};

/* ---- inputs and blocks ---- */

static const la_field inputs[] = {
    LA_FIELD(la_posterior, structure, NULL, LA_FIELD_GROUPS, .list = &la_input_fields,
             .pointer = true, .rows = LA_EXTENT(la_posterior, n_inputs, "n_inputs")),
};

static la_blame before_inputs(la_posterior *p, void *item) {
    bool wanted = la_structure_of(p->curvature)->has_inputs;
    (void)item;
    return (p->n_inputs > 0) == wanted ? (la_blame){0} : (la_blame){"n_inputs", no_range};
}

static const la_field_list inputs_group = {LA_FIELDS(inputs), .before = before_inputs};

static const la_field_list *structure_of_block(const la_posterior *p) {
    return la_structure_of(p->curvature)->block_fields;
}
static const la_field_list *structure_of_all(const la_posterior *p) {
    return la_structure_of(p->curvature)->fields;
}

static const la_field block[] = {
    TEXT(la_posterior_block, name, "name", LA_FIELD_WORD, "the trained matrix"),
    INT(la_posterior_block, out, "out", 1, LA_SIDE_MOST, "its rows"),
    INT(la_posterior_block, in, "in", 1, LA_SIDE_MOST, "its columns"),
    INT(la_posterior_block, input, "input", 0, LA_BLOCKS_MOST - 1,
        "number of its input factor: blocks that read the same matrix share one"),
    POSITIVE(la_posterior_block, denominator, "denominator",
             "of the Kronecker product: tokens (expand) or rows (reduce)"),
    POSITIVE(la_posterior_block, prior_precision, "prior_precision", "lambda"),
    NUMBER(la_posterior_block, theta_square, "theta_square", "sum of its squared parameters"),
    NUMBER(la_posterior_block, trace_in, "trace_in", "of the input factor's sum, before division"),
    NUMBER(la_posterior_block, trace_out, "trace_out", "of the output factor's sum"),
    LA_FIELD(la_posterior_block, structure, NULL, LA_FIELD_PART, .part = structure_of_block),
};
static const la_field_list block_fields = {LA_FIELDS(block), .size = sizeof(la_posterior_block)};

static const la_field blocks[] = {
    LA_FIELD(la_posterior, blocks, NULL, LA_FIELD_GROUPS, .list = &block_fields, .pointer = true,
             .rows = LA_EXTENT(la_posterior, n_blocks, "n_blocks")),
};

static la_blame after_blocks(la_posterior *p, void *item) {
    int64_t width = 0;
    (void)item;
    for (int64_t b = 0; b < p->n_blocks && width <= WIDTH_MOST; b++)
        width += p->blocks[b].out * p->blocks[b].in;
    return width <= WIDTH_MOST
               ? (la_blame){0}
               : (la_blame){"out", "and \"in\" make more parameters than there can be"};
}

static const la_field_list blocks_group = {LA_FIELDS(blocks), .after = after_blocks};

/* ---- the guard's choice ---- */

/* One of classes has an accuracy, one of a regression a noise variance. */
static const la_field candidate[] = {
    NUMBER(la_candidate, prior_scale, "prior_scale",
           "factor of the precisions; the best Laplace candidate's is in them already"),
    POSITIVE(la_candidate, temperature, "temperature", "divides the logits"),
    NUMBER(la_candidate, nll, "nll", "mean over the held-out rows"),
    NUMBER(la_candidate, accuracy, "accuracy", "of classes", .optional = true),
    NUMBER(la_candidate, gap, "gap", "nll less the best candidate's"),
    NUMBER(la_candidate, gap_error, "gap_error", "standard error of the gap"),
    POSITIVE(la_candidate, noise_variance, "noise_variance", "of a regression", .since = 3,
             .optional = true),
};

static bool is_admitted(const void *item) {
    return isfinite(((const la_candidate *)item)->nll);
}

static la_blame before_candidate(la_posterior *p, void *item) {
    (void)p;
    *(la_candidate *)item = (la_candidate){.prior_scale = 1, .temperature = 1, .nll = NAN};
    ((la_candidate *)item)->accuracy = NAN;
    return (la_blame){0};
}

static la_blame after_candidate(la_posterior *p, void *item) {
    const char *lacks = p->likelihood->lacks(item);
    return lacks ? (la_blame){lacks, missing} : (la_blame){0};
}

static const la_field_list candidate_fields = {
    LA_FIELDS(candidate),         .since = 1,
    .size = sizeof(la_candidate), .is_set = is_admitted,
    .before = before_candidate,   .after = after_candidate};

static int64_t all_classes(const la_posterior *whole, const void *item) {
    (void)item;
    return whole->n_classes;
}

static const la_field correction[] = {
    POSITIVE(la_correction, scale, "scale", "deviation of the prior of a class's log odds"),
    POSITIVE(la_correction, temperature, "temperature", "fitted with the bias"),
    LA_FIELD(la_correction, bias, "bias", LA_FIELD_F64, .inside = true,
             .max = LA_CORRECTION_CLASSES_MOST, .rows = {"classes", .size = all_classes},
             .meaning = "added to the logits, before a temperature"),
    SHARE(la_correction, determined, "determined",
          "how far the rows, and not the prior, say the bias", .since = 8),
    POSITIVE(la_correction, spread, "spread", "deviation of the prior of weight", .since = 8,
             .optional = true),
    LA_FIELD(la_correction, weight, "weight", LA_FIELD_F64, .inside = true,
             .max = LA_CORRECTION_WEIGHTS_MOST, .rows = {"classes", .size = all_classes},
             .since = 8, .optional = true,
             .meaning = "of the logits less their mean, before the bias; its mean is 1"),
};

static la_blame after_correction(la_posterior *p, void *item) {
    const la_correction *of = item;
    double sum = 0, size = 1;
    if (p->n_classes > LA_CORRECTION_WEIGHTS_MOST)
        return of->spread > 0 ? (la_blame){"weight", missing} : (la_blame){0};
    for (int64_t c = 0; c < p->n_classes; c++) {
        sum += of->weight[c] / (double)p->n_classes;
        size = fmax(size, fabs(of->weight[c]));
    }
    if (fabs(sum - (of->spread > 0 ? 1 : 0)) <= WEIGHTS_ROUND * size)
        return (la_blame){0};
    return of->spread > 0 ? (la_blame){"weight", "has a mean that is not 1"}
                          : (la_blame){"spread", missing};
}

static const la_field_list correction_fields = {
    LA_FIELDS(correction), .since = 7, .size = sizeof(la_correction), .after = after_correction};

static const la_field corrections[] = {
    INT(la_choice, n_corrections, "n_corrections", 1, LA_CORRECTIONS_MOST, "number of them"),
    LA_FIELD(la_choice, centre, "centre", LA_FIELD_F64, .inside = true,
             .max = LA_CORRECTION_CLASSES_MOST, .rows = {"classes", .size = all_classes},
             .since = 8, .optional = true,
             .meaning = "mean of the held-out rows' logits less their mean"),
    LA_FIELD(la_choice, corrections, NULL, LA_FIELD_GROUPS, .list = &correction_fields,
             .rows = LA_EXTENT(la_choice, n_corrections, "n_corrections")),
};

static bool has_corrections(const void *item) {
    return ((const la_choice *)item)->n_corrections > 0;
}

static la_blame before_corrections(la_posterior *p, void *item) {
    (void)item;
    return p->likelihood->is_softmax ? (la_blame){0} : (la_blame){"corrections", of_classes};
}

static const la_field_list corrections_group = {
    LA_FIELDS(corrections), .since = 7, .is_set = has_corrections, .before = before_corrections};

/* The methods without a temperature in their name: a setting says its own. */
static const la_field setting[] = {
    NAME(la_setting, method, "method", la_method_names, LA_METHOD_SCALAR + 1, "of this setting"),
    POSITIVE(la_setting, prior_scale, "prior_scale", "beside the one in the precisions"),
    POSITIVE(la_setting, temperature, "temperature", "divides the logits"),
    POSITIVE(la_setting, weight, "weight", "all of them sum to 1"),
    INT(la_setting, correction, "correction", 0, LA_CORRECTIONS_MOST,
        "number from 1 of the one of the logits; 0: none", .since = 7),
};

static la_blame after_setting(la_posterior *p, void *item) {
    const la_setting *s = item;
    if (s->correction > p->choice.n_corrections)
        return (la_blame){"correction", "is none of those that are kept"};
    return s->method == LA_METHOD_MAP && s->temperature != 1
               ? (la_blame){"temperature", "is not 1, and the method is map"}
               : (la_blame){0};
}

static const la_field_list setting_fields = {LA_FIELDS(setting), .since = 4,
                                             .size = sizeof(la_setting), .after = after_setting};

static const la_field settings[] = {
    INT(la_choice, n_settings, "n_settings", 1, LA_SETTINGS_MOST, "number of settings"),
    SHARE(la_choice, shortening, "shortening",
          "largest distance of a held-out probability from that of all settings tried"),
    LA_FIELD(la_choice, settings, NULL, LA_FIELD_GROUPS, .list = &setting_fields,
             .rows = LA_EXTENT(la_choice, n_settings, "n_settings")),
};

static bool has_settings(const void *item) {
    return ((const la_choice *)item)->n_settings > 0;
}

static la_blame before_settings(la_posterior *p, void *item) {
    (void)item;
    return p->likelihood->averages ? (la_blame){0} : (la_blame){"settings", of_classes};
}

static la_blame after_settings(la_posterior *p, void *item) {
    const la_choice *c = item;
    double sum = 0;
    (void)p;
    for (int64_t i = 0; i < c->n_settings; i++)
        sum += c->settings[i].weight;
    if (!(fabs(sum - 1) <= WEIGHTS_ROUND))
        return (la_blame){"weight", "does not sum to 1 over the settings"};
    /* a setting's scale is relative to the one in the precisions */
    return c->candidates[la_choice_laplace(c)].prior_scale > 0
               ? (la_blame){0}
               : (la_blame){"prior_scale", "has no scale of the stored precisions beside it"};
}

static const la_field_list settings_group = {LA_FIELDS(settings), .since = 4,
                                             .is_set = has_settings, .before = before_settings,
                                             .after = after_settings};

static const la_field choice[] = {
    NAME(la_choice, method, "method", la_method_names, LA_METHODS, "the one that predicts",
         .detail = true),
    LA_FIELD(la_choice, cross, "cross", LA_FIELD_FLAG, .max = 1, .detail = true,
             .meaning = "1: by the calibration rows, cross-fitted"),
    LA_FIELD(la_choice, older, "older", LA_FIELD_FLAG, .max = 1, .since = 7, .detail = true,
             .meaning = "1: rows were added since"),
    INT(la_choice, n, "n_rows", 1, INT64_MAX, "held-out rows", .detail = true),
    NUMBER(la_choice, gain, "gain", "mean NLL of the MAP model on them less that of the method",
           .since = 7, .detail = true),
    NUMBER(la_choice, gain_error, "gain_error", "standard error of the gain", .since = 7,
           .detail = true),
    INT(la_choice, changes.n, "changed", 0, INT64_MAX,
        "answers on them that are not the MAP model's", .since = 7, .detail = true),
    INT(la_choice, changes.to_right, "to_right", 0, INT64_MAX, "of those, right ones", .since = 7,
        .detail = true),
    INT(la_choice, changes.to_wrong, "to_wrong", 0, INT64_MAX, "of those, right ones made wrong",
        .since = 7, .detail = true),
    LA_FIELD(la_choice, candidates, NULL, LA_FIELD_GROUPS, .list = &candidate_fields,
             .rows = {"methods", .fixed = LA_METHODS}, .names = la_method_names, .detail = true),
    INNER("corrections", corrections_group, "class biases of settings", .detail = true),
    INNER("settings", settings_group, "the average's settings", .detail = true),
};

static bool is_guarded(const void *item) {
    return ((const la_choice *)item)->guarded;
}

static la_blame before_choice(la_posterior *p, void *item) {
    (void)p;
    ((la_choice *)item)->guarded = 1;
    return (la_blame){0};
}

static const la_field_list choice_group = {LA_FIELDS(choice), .since = 1, .is_set = is_guarded,
                                           .before = before_choice};

/* ---- the error head ---- */

static const la_field adue[] = {
    LA_FIELD(la_adue, weight, "weight", LA_FIELD_F64,
             .rows = LA_EXTENT(la_adue, n_classes, "classes"),
             .cols = LA_FROM_SHAPE(la_adue, width, "width"), .meaning = "of the error head",
             .detail = true),
    LA_FIELD(la_adue, bias, "bias", LA_FIELD_F64, .rows = LA_EXTENT(la_adue, n_classes, "classes"),
             .meaning = "of the error head", .detail = true),
    NAME(la_adue, outcome, "outcome", la_adue_outcome_names, LA_ADUE_OUTCOMES, "of its training",
         .detail = true),
    POSITIVE(la_adue, smooth, "smooth", "lambda of its smooth maximum", .detail = true),
    INT(la_adue, epochs, "epochs", 0, INT32_MAX, "that were run", .detail = true),
    INT(la_adue, best_epoch, "best_epoch", 0, INT32_MAX, "the one kept", .detail = true),
    SHARE(la_adue, auroc_before, "auroc_before", "of errors, untrained", .optional = true,
          .detail = true),
    SHARE(la_adue, auroc_after, "auroc_after", "of errors, trained", .optional = true,
          .detail = true),
};

static bool has_head(const void *item) {
    return ((const la_adue *)item)->weight != NULL;
}

static la_blame before_adue(la_posterior *p, void *item) {
    ((la_adue *)item)->n_classes = p->n_classes;
    return p->likelihood->is_softmax ? (la_blame){0} : (la_blame){"adue", of_classes};
}

static la_blame after_adue(la_posterior *p, void *item) {
    const la_adue *head = item;
    (void)p;
    if (head->best_epoch > head->epochs)
        return (la_blame){"best_epoch", no_range};
    return head->width > LA_SIDE_MOST ? (la_blame){"weight", "has another shape than expected"}
                                      : (la_blame){0};
}

static const la_field_list adue_group = {LA_FIELDS(adue), .since = 1, .is_set = has_head,
                                         .before = before_adue, .after = after_adue};

/* ---- distances to the calibration rows ---- */

static const la_field ood[] = {
    LA_FIELD(la_ood, means, "means", LA_FIELD_F32,
             .rows = LA_FROM_SHAPE(la_ood, n_groups, "groups"),
             .cols = LA_FROM_SHAPE(la_ood, width, "width"),
             .meaning = "of the states of a class's calibration rows", .detail = true),
    LA_FIELD(la_ood, vectors, "vectors", LA_FIELD_F32, .rows = LA_FROM_SHAPE(la_ood, rank, "rank"),
             .cols = LA_EXTENT(la_ood, width, "width"), .optional = true,
             .meaning = "largest eigenvectors of their covariance", .detail = true),
    LA_FIELD(la_ood, values, "values", LA_FIELD_F64, .rows = LA_EXTENT(la_ood, rank, "rank"),
             .optional = true, .meaning = "their eigenvalues, descending", .detail = true),
    POSITIVE(la_ood, rest, "rest", "mean of the other eigenvalues", .detail = true),
    LA_FIELD(la_ood, table, "table", LA_FIELD_F64,
             .rows = LA_FROM_SHAPE(la_ood, n_table, "quantiles"), .negative = "a negative distance",
             .meaning = "distances of reference rows, ascending: all, or quantiles",
             .detail = true),
    INT(la_ood, n_reference, "n_reference", 1, INT64_MAX, "reference rows"),
    LA_FIELD(la_ood, held_out, "held_out", LA_FIELD_FLAG, .max = 1,
             .meaning = "1: they are held out; 0: calibration rows, cross-fitted"),
};

static bool has_distances(const void *item) {
    return ((const la_ood *)item)->means != NULL;
}

static la_blame after_ood(la_posterior *p, void *item) {
    const la_ood *o = item;
    (void)p;
    if (o->width > LA_SIDE_MOST || !o->n_groups || !o->width)
        return (la_blame){"means", "has another shape than expected"};
    if (o->rank > LA_OOD_RANK_MOST || (o->rank > 0) != (o->values != NULL))
        return (la_blame){"vectors", "has another shape than expected"};
    for (int64_t j = 0; j < o->rank; j++)
        if (!(o->values[j] > 0))
            return (la_blame){"values", "is not positive"};
    if (!o->n_table || o->n_table > LA_OOD_TABLE_MOST)
        return (la_blame){"table", "has another shape than expected"};
    for (int64_t i = 1; i < o->n_table; i++)
        if (o->table[i] < o->table[i - 1])
            return (la_blame){"table", "is not ascending"};
    return (la_blame){0};
}

static const la_field_list ood_group = {LA_FIELDS(ood), .since = 6, .is_set = has_distances,
                                        .after = after_ood};

/* ---- distilled variances ---- */

static int64_t weights_of(const la_posterior *whole, const void *item) {
    (void)whole;
    return ((const la_distilled *)item)->n_features + 1;
}

#define BY_FEATURE(member, text)                                                                   \
    LA_FIELD(la_distilled, member, #member, LA_FIELD_F64,                                          \
             .rows = LA_EXTENT(la_distilled, n_features, "features"), .meaning = text,             \
             .detail = true)
#define BY_SCALE(member, text)                                                                     \
    LA_FIELD(la_distilled, member, #member, LA_FIELD_F64,                                          \
             .rows = LA_EXTENT(la_distilled, n_scales, "scales"), .meaning = text, .detail = true)

static const la_field distilled[] = {
    LA_FIELD(la_distilled, mean, "mean", LA_FIELD_F32,
             .rows = LA_FROM_SHAPE(la_distilled, width, "width"), .meaning = "of the states",
             .detail = true),
    LA_FIELD(la_distilled, vectors, "vectors", LA_FIELD_F32,
             .rows = LA_FROM_SHAPE(la_distilled, rank, "rank"),
             .cols = LA_EXTENT(la_distilled, width, "width"),
             .meaning = "principal directions over the standard deviation along them",
             .detail = true),
    LA_FIELD(la_distilled, values, "values", LA_FIELD_F64,
             .rows = LA_EXTENT(la_distilled, rank, "rank"), .negative = "a negative variance",
             .meaning = "variances along them", .detail = true),
    LA_FIELD(la_distilled, centre, "centre", LA_FIELD_F64,
             .rows = LA_FROM_SHAPE(la_distilled, n_features, "features"),
             .meaning = "means of the features", .detail = true),
    BY_FEATURE(spread, "their standard deviations"),
    LA_FIELD(la_distilled, scales, "scales", LA_FIELD_F64,
             .rows = LA_FROM_SHAPE(la_distilled, n_scales, "scales"),
             .negative = "a negative scale",
             .meaning = "of the prior precisions, relative to those stored", .detail = true),
    LA_FIELD(la_distilled, weights, "weights", LA_FIELD_F64,
             .rows = LA_EXTENT(la_distilled, n_scales, "scales"),
             .cols = {.name = "features + 1", .size = weights_of},
             .meaning = "of the log variance, the intercept first", .detail = true),
    BY_SCALE(least, "least log variance that was seen"),
    BY_SCALE(most, "largest"),
    NUMBER(la_distilled, explained, "explained",
           "share of the log variance's variance, each row left out", .detail = true),
};

static bool has_variances(const void *item) {
    return ((const la_distilled *)item)->mean != NULL;
}

static la_blame before_distilled(la_posterior *p, void *item) {
    la_distilled *d = item;
    d->n_outputs = p->n_classes;
    d->n_contrasts = p->likelihood->contrasts(p->n_classes);
    return (la_blame){0};
}

static la_blame after_distilled(la_posterior *p, void *item) {
    static const char shape[] = "has another shape than expected";
    const la_distilled *d = item;
    int64_t m = d->n_contrasts;
    (void)p;
    if (d->width > LA_SIDE_MOST || !d->width)
        return (la_blame){"mean", shape};
    if (!d->rank || d->rank > LA_DISTILLED_RANK_MOST)
        return (la_blame){"vectors", shape};
    if (d->n_features != la_distilled_width(m, d->rank, false) &&
        d->n_features != la_distilled_width(m, d->rank, true))
        return (la_blame){"centre", shape};
    if (!d->n_scales || d->n_scales > LA_SELECTION_SCALES)
        return (la_blame){"scales", shape};
    for (int64_t j = 0; j < d->n_features; j++)
        if (!(d->spread[j] > 0))
            return (la_blame){"spread", "is not positive"};
    for (int64_t g = 0; g < d->n_scales; g++)
        if (!(d->scales[g] > 0) || !(d->least[g] <= d->most[g]))
            return (la_blame){d->scales[g] > 0 ? "least" : "scales", "is not in order"};
    return (la_blame){0};
}

static const la_field_list distilled_group = {LA_FIELDS(distilled), .since = 8,
                                              .is_set = has_variances, .before = before_distilled,
                                              .after = after_distilled};

/* ---- the root group ---- */

static const la_field posterior[] = {
#define LA_MEMBER(type, name, row, ...) row(la_posterior, name, __VA_ARGS__),
#define LA_FILE_ROW(...) __VA_ARGS__,
#include "bayes/posterior.def"
#undef LA_MEMBER
#undef LA_FILE_ROW
};

static la_blame after_posterior(la_posterior *p, void *item) {
    const la_choice *c = &p->choice;
    bool noisy = p->likelihood->has_noise;
    (void)item;
    if (noisy != (p->noise_variance > 0))
        return (la_blame){"noise_variance",
                          noisy ? missing : "is of a regression, and the task is none"};
    if (p->n_classes < p->likelihood->n_least || p->n_classes > p->likelihood->n_most)
        return (la_blame){"n_classes", no_range};
    if (c->guarded &&
        (!isfinite(c->candidates[c->method].nll) || !isfinite(c->candidates[LA_METHOD_MAP].nll)))
        return (la_blame){"method", "names a candidate that is missing"};
    if (p->provenance.row_digests && p->provenance.n_row_digests != p->n_rows)
        return (la_blame){"row_digests", "has another shape than expected"};
    for (int64_t i = 1; i < p->provenance.n_row_digests; i++)
        if (la_row_digest_order(&p->provenance.row_digests[i - 1], &p->provenance.row_digests[i]) >
            0)
            return (la_blame){"row_digests", "is not ascending"};
    return c->guarded && c->method == LA_METHOD_AVERAGE && !c->n_settings
               ? (la_blame){"settings", missing}
               : (la_blame){0};
}

const la_field_list la_posterior_fields = {LA_FIELDS(posterior), .after = after_posterior};

/* ---- the file ---- */

static int latest(const la_field_list *list) {
    int most = list->since;
    for (int i = 0; i < list->n; i++) {
        const la_field *f = &list->fields[i];
        most = f->since > most ? f->since : most;
        for (int c = 0; c < (f->part ? LA_CURVATURES : f->list ? 1 : 0); c++) {
            int since = latest(f->list ? f->list : f->part(&(la_posterior){.curvature = c}));
            most = since > most ? since : most;
        }
    }
    return most;
}

int la_schema_minor(void) {
    return latest(&la_posterior_fields);
}

static const la_field head[] = {
    TEXT(la_posterior_head, format, "format", LA_FIELD_TEXT, "\"" LA_POSTERIOR_FORMAT "\""),
    INT(la_posterior_head, schema_major, "schema_major", 0, INT32_MAX, "1"),
    INT(la_posterior_head, schema_minor, "schema_minor", 0, INT32_MAX, "see the column \"since\""),
    TEXT(la_posterior_head, tool_version, "tool_version", LA_FIELD_TEXT,
         "of the laplora that wrote it", .optional = true),
    TEXT(la_posterior_head, task, "task", LA_FIELD_WORD, "\"regression\"; none: classes",
         .optional = true, .since = 3),
};
static const la_field end[] = {
    INT(la_posterior_head, complete, "complete", 1, 1, "written last"),
};

const la_field_list la_head_fields = {LA_FIELDS(head)}, la_end_fields = {LA_FIELDS(end)};

la_status la_posterior_check_text(const char *what, const char *text, la_error *err) {
    size_t length = strlen(text);
    la_error unused = {0};
    if (length > LA_POSTERIOR_TEXT_MOST)
        return la_fail(err, LA_UNSUPPORTED,
                       "%s: %zu bytes of text, a posterior keeps at most %d; shorten it", what,
                       length, LA_POSTERIOR_TEXT_MOST);
    if (la_utf8_check(text, length, &unused) != LA_OK)
        return la_fail(err, LA_BAD_INPUT, "%s: is not UTF-8; save it as UTF-8", what);
    return LA_OK;
}
