#include "pipeline/arguments.h"
#include "base/team.h"
#include "bayes/structure.h"
#include "likelihood/predictive.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static la_status check_given(const char *what, const char *field, const void *value,
                             la_error *err) {
    return value ? LA_OK : la_fail(err, LA_USAGE, "%s: %s is NULL, and is needed", what, field);
}

/* An enum's number, which may be anything: a host is not held to the names. */
static la_status check_enum(const char *field, int value, int count, la_error *err) {
    if (value >= 0 && value < count)
        return LA_OK;
    return la_fail(err, LA_USAGE, "%s %d: expected 0 to %d, the values of its enum", field, value,
                   count - 1);
}

static la_status check_least(const char *field, int64_t value, int64_t least, la_error *err) {
    if (value >= least)
        return LA_OK;
    return la_fail(err, LA_USAGE, "%s %lld: expected %lld or more", field, (long long)value,
                   (long long)least);
}

static la_status check_run(const la_run_options *run, la_error *err) {
    if (run->threads < 0 || run->threads > LA_TEAM_MOST)
        return la_fail(err, LA_USAGE, "threads %d: expected 1 to %d, or 0 for all there are",
                       run->threads, LA_TEAM_MOST);
    LA_TRY(check_least("max_length", run->max_length, 0, err));
    return check_least("batch_tokens", run->batch_tokens, -1, err);
}

la_status la_arguments_check_fit(const la_fit_options *options, bool brought, la_error *err) {
    LA_TRY(check_given("la_fit", "options", options, err));
    if (!options->base || !options->adapter || (!options->data && !brought) || !options->out)
        return la_fail(err, LA_USAGE, "a fit needs base, adapter, data and out");
    LA_TRY(check_run(&options->run, err));
    if (options->curvature && !la_structure_named(options->curvature))
        return la_fail(err, LA_USAGE, "curvature \"%s\" is none of the known ones",
                       options->curvature);
    LA_TRY(check_enum("kron", (int)options->kron, LA_KRONS, err));
    LA_TRY(check_enum("prior", (int)options->prior, LA_PRIORS, err));
    LA_TRY(check_enum("select", (int)options->select, LA_SELECT_CROSS + 1, err));
    LA_TRY(check_enum("params", (int)options->params, LA_PARAM_SETS, err));
    LA_TRY(check_least("rank", options->rank, 0, err));
    if (options->prior == LA_PRIOR_FIXED &&
        !(options->prior_value > 0 && isfinite(options->prior_value)))
        return la_fail(err, LA_USAGE, "prior_value %g: expected a positive precision",
                       options->prior_value);
    return LA_OK;
}

static la_status check_predictive(const char *name, la_error *err) {
    int n = sizeof la_predictive_names / sizeof *la_predictive_names;
    for (int i = 0; i < n && name; i++)
        if (!strcmp(name, la_predictive_names[i]))
            return LA_OK;
    return name ? la_fail(err, LA_USAGE, "predictive \"%s\" is none of the known ones", name)
                : LA_OK;
}

la_status la_arguments_check_predict(const la_predict_options *options, la_error *err) {
    LA_TRY(check_given("la_predictor_open", "options", options, err));
    LA_TRY(check_given("la_predictor_open", "posterior", options->posterior, err));
    LA_TRY(check_run(&options->run, err));
    LA_TRY(check_predictive(options->predictive, err));
    LA_TRY(
        check_least("n_class_shares", options->n_class_shares, options->class_shares ? 1 : 0, err));
    if (options->n_class_shares && !options->class_shares)
        return la_fail(err, LA_USAGE, "class_shares is NULL, of %lld shares",
                       (long long)options->n_class_shares);
    return check_least("samples", options->samples, 0, err);
}

/* ---- rows ---- */

static la_status check_input(const la_input *in, la_error *err) {
    if (in->ids && (in->text || in->pair))
        return la_fail(err, LA_USAGE, "text and ids are both given; expected one of them");
    if (in->ids)
        return check_least("n_ids", in->n_ids, 1, err);
    if (in->n_ids)
        return la_fail(err, LA_USAGE, "n_ids is %lld and ids NULL", (long long)in->n_ids);
    if (!in->text)
        return la_fail(err, LA_USAGE, "text is NULL (of %zu bytes), and so is ids; expected one",
                       in->text_length);
    if (!in->pair && in->pair_length)
        return la_fail(err, LA_USAGE, "pair is NULL, of %zu bytes; expected 0 without a pair",
                       in->pair_length);
    return LA_OK;
}

static la_status check_output(const la_prediction *out, la_error *err) {
    LA_TRY(check_given("out", "probs", out->probs, err));
    LA_TRY(check_given("out", "map_probs", out->map_probs, err));
    LA_TRY(check_given("out", "logits", out->logits, err));
    LA_TRY(check_given("out", "logit_cov", out->logit_cov, err));
    return check_given("out", "variance", out->variance, err);
}

la_status la_arguments_check_rows(const la_input *in, int64_t n, const la_prediction *out,
                                  la_error *err) {
    LA_TRY(check_least("n", n, 0, err));
    if (!n)
        return LA_OK;
    LA_TRY(check_given("la_predictor_run", "in", in, err));
    LA_TRY(check_given("la_predictor_run", "out", out, err));
    for (int64_t i = 0; i < n; i++)
        if (check_input(&in[i], err) != LA_OK || check_output(&out[i], err) != LA_OK)
            return la_error_prefix(err, "row %lld: ", (long long)i);
    return LA_OK;
}
