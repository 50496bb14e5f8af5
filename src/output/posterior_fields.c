#include "output/posterior_fields.h"
#include "bayes/posterior.h"
#include "output/posterior_layout.h"
#include "text/utf8.h"

#include <string.h>

/* enumerations are kept in their struct as what an int is kept as */
_Static_assert(sizeof(la_curvature) == sizeof(int) && sizeof(la_method) == sizeof(int),
               "names are read into an int");

/* No fit finds larger ones; sums of these are finite still, and so is what they are rounded to when
 * they are printed. */
#define NUMBER_MOST 1e300

/* A row: struct, member, bounds or names; the minor version of the schema that it came with;
 * whether it may be absent. */
enum { NEEDED, OPTIONAL };
#define FIELD(of, member, title, type, least, most, list, version, absent)                         \
    {                                                                                              \
        .name = title, .kind = type, .offset = offsetof(of, member), .min = (double)(least),       \
        .max = (double)(most), .names = list, .since = version, .optional = absent                 \
    }
#define INT(of, member, least, most, ...)                                                          \
    FIELD(of, member, #member, LA_FIELD_INT, least, most, NULL, __VA_ARGS__)
#define NUMBER(of, member, ...)                                                                    \
    FIELD(of, member, #member, LA_FIELD_NUMBER, -NUMBER_MOST, NUMBER_MOST, NULL, __VA_ARGS__)
#define SHARE(of, member, ...) FIELD(of, member, #member, LA_FIELD_NUMBER, 0, 1, NULL, __VA_ARGS__)
#define POSITIVE(of, member, ...)                                                                  \
    FIELD(of, member, #member, LA_FIELD_POSITIVE, 0, NUMBER_MOST, NULL, __VA_ARGS__)
#define NAME(of, member, list, count, ...)                                                         \
    FIELD(of, member, #member, LA_FIELD_NAME, 0, count, list, __VA_ARGS__)
#define STRING(of, member, type, ...) FIELD(of, member, #member, type, 0, 0, NULL, __VA_ARGS__)
#define ORIGIN(member, type, ...)                                                                  \
    FIELD(la_posterior, provenance.member, #member, type, 0, 0, NULL, __VA_ARGS__)
#define LIST(fields, version)                                                                      \
    { fields, sizeof fields / sizeof *fields, version }

/* Not here: format, schema_major, schema_minor, tool_version, task (of a regression), complete. */
static const la_field posterior[] = {
    NAME(la_posterior, curvature, la_curvature_names, LA_CURVATURES, 0, NEEDED),
    NAME(la_posterior, kron, la_kron_names, LA_KRONS, 0, NEEDED),
    NAME(la_posterior, params, la_params_names, LA_PARAM_SETS, 0, NEEDED),
    NAME(la_posterior, prior, la_prior_names, LA_PRIORS, 0, NEEDED),
    NUMBER(la_posterior, prior_precision, 0, NEEDED),
    POSITIVE(la_posterior, temperature, 1, NEEDED),
    FIELD(la_posterior, rank_asked, "rank", LA_FIELD_INT, 0, LA_SIDE_MOST, NULL, 0, NEEDED),
    INT(la_posterior, n_rows, 1, INT64_MAX, 0, NEEDED),
    INT(la_posterior, n_tokens, 1, INT64_MAX, 0, NEEDED),
    INT(la_posterior, n_classes, 1, LA_CLASSES_MOST, 0, NEEDED),
    POSITIVE(la_posterior, noise_variance, 3, OPTIONAL),
    INT(la_posterior, n_blocks, 1, LA_BLOCKS_MOST, 0, NEEDED),
    INT(la_posterior, n_inputs, 0, LA_BLOCKS_MOST, 0, NEEDED),
    NUMBER(la_posterior, log_likelihood, 0, NEEDED),
    NUMBER(la_posterior, log_marginal_likelihood, 0, NEEDED),
    ORIGIN(base_path, LA_FIELD_PATH, 0, NEEDED),
    FIELD(la_posterior, provenance.base_quant, "base_quant", LA_FIELD_NAME, 0, LA_BASE_QUANTS,
          la_base_quant_names, 2, OPTIONAL),
    ORIGIN(adapter_path, LA_FIELD_PATH, 0, NEEDED),
    ORIGIN(adapter_name, LA_FIELD_PATH, 2, OPTIONAL),
    ORIGIN(base_digest, LA_FIELD_DIGEST, 0, NEEDED),
    ORIGIN(adapter_digest, LA_FIELD_DIGEST, 0, NEEDED),
    ORIGIN(tokenizer_digest, LA_FIELD_DIGEST, 0, NEEDED),
    ORIGIN(data_digest, LA_FIELD_DIGEST, 0, NEEDED),
    FIELD(la_posterior, provenance.max_length, "max_length", LA_FIELD_INT, 0, INT32_MAX, NULL, 0,
          NEEDED),
    FIELD(la_posterior, provenance.template_text, "template", LA_FIELD_TEXT, 0, 0, NULL, 0,
          OPTIONAL),
};

static const la_field block[] = {
    STRING(la_posterior_block, name, LA_FIELD_WORD, 0, NEEDED),
    INT(la_posterior_block, out, 1, LA_SIDE_MOST, 0, NEEDED),
    INT(la_posterior_block, in, 1, LA_SIDE_MOST, 0, NEEDED),
    INT(la_posterior_block, input, 0, LA_BLOCKS_MOST - 1, 0, NEEDED),
    POSITIVE(la_posterior_block, denominator, 0, NEEDED),
    POSITIVE(la_posterior_block, prior_precision, 0, NEEDED),
    NUMBER(la_posterior_block, theta_square, 0, NEEDED),
    NUMBER(la_posterior_block, trace_in, 0, NEEDED),
    NUMBER(la_posterior_block, trace_out, 0, NEEDED),
};

static const la_field choice[] = {
    NAME(la_choice, method, la_method_names, LA_METHODS, 1, NEEDED),
    FIELD(la_choice, cross, "cross", LA_FIELD_FLAG, 0, 1, NULL, 1, NEEDED),
    FIELD(la_choice, n, "n_rows", LA_FIELD_INT, 1, INT64_MAX, NULL, 1, NEEDED),
};

/* One of classes has an accuracy, one of a regression a noise variance. */
static const la_field candidate[] = {
    NUMBER(la_candidate, prior_scale, 1, NEEDED),
    POSITIVE(la_candidate, temperature, 1, NEEDED),
    NUMBER(la_candidate, nll, 1, NEEDED),
    NUMBER(la_candidate, accuracy, 1, OPTIONAL),
    NUMBER(la_candidate, gap, 1, NEEDED),
    NUMBER(la_candidate, gap_error, 1, NEEDED),
    POSITIVE(la_candidate, noise_variance, 3, OPTIONAL),
};

static const la_field settings[] = {
    INT(la_choice, n_settings, 1, LA_SETTINGS_MOST, 4, NEEDED),
    SHARE(la_choice, shortening, 4, NEEDED),
};

/* The methods without a temperature in their name: a setting says its own. */
static const la_field setting[] = {
    NAME(la_setting, method, la_method_names, LA_METHOD_SCALAR + 1, 4, NEEDED),
    POSITIVE(la_setting, prior_scale, 4, NEEDED),
    POSITIVE(la_setting, temperature, 4, NEEDED),
    POSITIVE(la_setting, weight, 4, NEEDED),
};

static const la_field adue[] = {
    NAME(la_adue, outcome, la_adue_outcome_names, LA_ADUE_OUTCOMES, 1, NEEDED),
    POSITIVE(la_adue, smooth, 1, NEEDED),
    INT(la_adue, epochs, 0, INT32_MAX, 1, NEEDED),
    INT(la_adue, best_epoch, 0, INT32_MAX, 1, NEEDED),
    SHARE(la_adue, auroc_before, 1, OPTIONAL),
    SHARE(la_adue, auroc_after, 1, OPTIONAL),
};

const la_field_list la_posterior_fields = LIST(posterior, 0), la_block_fields = LIST(block, 0),
                    la_choice_fields = LIST(choice, 1), la_candidate_fields = LIST(candidate, 1),
                    la_settings_fields = LIST(settings, 4), la_setting_fields = LIST(setting, 4),
                    la_adue_fields = LIST(adue, 1);

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
