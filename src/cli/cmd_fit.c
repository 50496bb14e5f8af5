#include "bayes/posterior.h"
#include "cli/cli.h"
#include "cli/figures.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static la_status read_prior(const char *text, la_fit_options *options, la_error *err) {
    static const la_prior_kind named[] = {LA_PRIOR_MODULE, LA_PRIOR_GLOBAL, LA_PRIOR_LAYER,
                                          LA_PRIOR_KIND};
    options->prior = la_curvature_is_joint(options->curvature) ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE;
    if (!text)
        return LA_OK;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        options->prior = named[i];
        if (!strcmp(text, la_prior_names[named[i]]))
            return LA_OK;
    }
    char *end;
    options->prior = LA_PRIOR_FIXED;
    options->prior_value = strtod(text, &end);
    if (end == text || *end || !(options->prior_value > 0) || options->prior_value > 1e300)
        return la_fail(err, LA_USAGE,
                       "--prior \"%s\": expected module, global, layer, kind or a positive number",
                       text);
    return LA_OK;
}

static la_status read_noise(const char *text, double *noise, la_error *err) {
    char *end;
    if (!text)
        return LA_OK;
    *noise = strtod(text, &end);
    if (end == text || *end || !(*noise > 0) || *noise > 1e300)
        return la_fail(err, LA_USAGE, "--noise \"%s\": expected a positive variance", text);
    return LA_OK;
}

static la_status read_rank(const char *text, int64_t *rank, la_error *err) {
    *rank = 0;
    if (!text || !strcmp(text, "full"))
        return LA_OK;
    char *end;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || value < 1 || value > 1 << 24)
        return la_fail(err, LA_USAGE, "--rank \"%s\": expected full or a positive integer", text);
    *rank = value;
    return LA_OK;
}

/* Every number finite or null: JSON has no NaN. */
static json_t *summary_json(const la_fit_summary *s) {
    json_t *blocks = json_array(), *precisions = json_object();
    for (int64_t b = 0; b < s->n_blocks; b++) {
        const la_block_summary *block = &s->blocks[b];
        json_object_set_new(precisions, block->name, json_real(block->prior_precision));
        json_array_append_new(blocks,
                              json_pack("{s:s,s:[II],s:f,s:f}", "name", block->name, "shape",
                                        (json_int_t)block->out, (json_int_t)block->in, "trace_in",
                                        block->trace_in, "trace_out", block->trace_out));
    }
    bool one = la_prior_is_one(s->prior);
    json_t *value = one ? json_real(s->prior_precision) : json_null();
    json_t *root = json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:{s:s,s:o,s:o},s:o,s:s,s:o,s:o,s:{s:f,s:f,s:f,s:f,s:f,s:"
        "f,"
        "s:f},s:s,s:s,s:i}",
        "schema", "laplora.fit/1", "n_rows", (json_int_t)s->n_rows, "n_tokens",
        (json_int_t)s->n_tokens, "n_classes", (json_int_t)s->n_classes, "n_blocks",
        (json_int_t)s->n_blocks, "n_parameters", (json_int_t)s->n_parameters, "log_likelihood",
        s->log_likelihood, "log_marginal_likelihood", s->log_marginal_likelihood, "prior_precision",
        "kind", la_prior_names[s->prior], "value", value, "blocks", precisions, "blocks", blocks,
        "curvature", la_curvature_names[s->curvature], "selection", la_choice_json(&s->choice),
        "adue", la_adue_json(&s->adue), "seconds", "load", s->seconds_load, "curvature",
        s->seconds_curvature, "decompose", s->seconds_decompose, "prior", s->seconds_prior,
        "select", s->seconds_select, "adue", s->seconds_adue, "save", s->seconds_save, "device",
        s->device, "precision", s->precision, "threads", s->threads);
    if (s->noise_variance > 0)
        json_object_set_new(root, "noise_variance", json_real(s->noise_variance));
    return root;
}

static la_status print_json(const la_fit_summary *s, la_error *err) {
    json_t *root = summary_json(s);
    if (!root)
        return la_fail(err, LA_RESOURCE, "out of memory for the summary");
    int failed =
        json_dumpf(root, stdout, JSON_COMPACT) || fputc('\n', stdout) == EOF || fflush(stdout);
    json_decref(root);
    return failed ? la_fail(err, LA_RESOURCE, "standard output: cannot write") : LA_OK;
}

/* The settings of an average, the heaviest first. */
static void print_settings(const la_choice *choice) {
    fprintf(stderr, "averaged:");
    for (int64_t i = 0; i < choice->n_settings; i++) {
        const la_setting *s = &choice->settings[i];
        fprintf(stderr, "%s %.3f %s", i ? "," : "", s->weight, la_method_names[s->method]);
        if (s->method != LA_METHOD_MAP && s->method != LA_METHOD_TEMPERATURE)
            fprintf(stderr, " prior x %.3g", s->prior_scale);
        if (s->temperature != 1)
            fprintf(stderr, " T %.3g", s->temperature);
    }
    fprintf(stderr, " (in place of all, at most %.1g off)\n", choice->shortening);
}

static void print_choice(const la_choice *choice) {
    if (!choice->guarded)
        return;
    fprintf(stderr, "%lld %s rows, mean NLL:", (long long)choice->n,
            choice->cross ? "cross-fitted" : "held-out");
    for (int k = 0; k < LA_METHODS; k++)
        if (isfinite(choice->candidates[k].nll))
            fprintf(stderr, "%s %s %.4f", k ? "," : "", la_method_names[k],
                    choice->candidates[k].nll);
    const la_candidate *c = &choice->candidates[choice->method];
    fprintf(stderr, "\nchosen: %s", la_method_names[choice->method]);
    if (c->noise_variance > 0)
        fprintf(stderr, ", noise variance %.4g", c->noise_variance);
    bool one = choice->method != LA_METHOD_AVERAGE;
    if (one && choice->method != LA_METHOD_MAP && choice->method != LA_METHOD_TEMPERATURE)
        fprintf(stderr, ", prior x %.3g", c->prior_scale);
    if (c->temperature != 1)
        fprintf(stderr, ", T %.3g", c->temperature);
    if (!one)
        fprintf(stderr, " of %lld settings", (long long)choice->n_settings);
    if (!(c->noise_variance > 0))
        fprintf(stderr, " (accuracy %.4f, MAP %.4f)", c->accuracy,
                choice->candidates[LA_METHOD_MAP].accuracy);
    fputc('\n', stderr);
    if (!one)
        print_settings(choice);
}

static void print_adue(const la_fit_summary *s) {
    const la_adue_summary *adue = &s->adue;
    if (!adue->outcome)
        return;
    fprintf(stderr, "error head: %s", adue->outcome);
    if (adue->epochs)
        fprintf(stderr, ", %lld epochs, AUROC of errors %.4f, %.4f untrained",
                (long long)adue->epochs, adue->auroc_after, adue->auroc_before);
    fprintf(stderr, ", %.2f s\n", s->seconds_adue);
}

static void print_text(const la_fit_summary *s, const char *out) {
    char task[64] = "a regression";
    if (!(s->noise_variance > 0))
        snprintf(task, sizeof task, "%lld classes", (long long)s->n_classes);
    fprintf(stderr,
            "%s: %lld blocks, %lld parameters, from %lld rows (%lld tokens, %s)\n"
            "log likelihood %.2f, log marginal likelihood %.2f, ",
            out, (long long)s->n_blocks, (long long)s->n_parameters, (long long)s->n_rows,
            (long long)s->n_tokens, task, s->log_likelihood, s->log_marginal_likelihood);
    if (s->noise_variance > 0)
        fprintf(stderr, "noise variance %.4g, ", s->noise_variance);
    double least = s->blocks[0].prior_precision, most = least;
    for (int64_t b = 1; b < s->n_blocks; b++) {
        double value = s->blocks[b].prior_precision;
        least = value < least ? value : least;
        most = value > most ? value : most;
    }
    if (!la_prior_is_one(s->prior))
        fprintf(stderr, "prior precision %.3g to %.3g (one a %s)\n", least, most,
                la_prior_names[s->prior]);
    else
        fprintf(stderr, "prior precision %.4g (%s)\n", s->prior_precision,
                la_prior_names[s->prior]);
    print_choice(&s->choice);
    print_adue(s);
    fprintf(stderr,
            "seconds: load %.2f, curvature %.2f (%.0f rows/s), decompose %.2f, prior %.3f, select "
            "%.2f, save %.2f\n",
            s->seconds_load, s->seconds_curvature,
            (double)s->n_rows / (s->seconds_curvature > 0 ? s->seconds_curvature : 1),
            s->seconds_decompose, s->seconds_prior, s->seconds_select, s->seconds_save);
}

static la_status fit(const la_cli *cli, la_error *err) {
    la_fit_options options = {.run = la_cli_run_options(cli),
                              .base = cli->base,
                              .adapter = cli->adapter,
                              .data = cli->data,
                              .out = cli->out,
                              .choices = cli->choices,
                              .choice_ids = cli->choice_ids,
                              .template_path = cli->template_path};
    LA_TRY(la_cli_no_operands(&la_command_fit, cli, err));
    LA_TRY(la_cli_require("fit", "base", cli->base, err));
    LA_TRY(la_cli_require("fit", "adapter", cli->adapter, err));
    LA_TRY(la_cli_require("fit", "data", cli->data, err));
    LA_TRY(la_cli_require("fit", "out", cli->out, err));
    if (!strcmp(cli->out, "-"))
        return la_fail(err, LA_USAGE, "--out: a posterior is a file, not standard output");
    int kron, params, curvature;
    LA_TRY(la_cli_choice("curvature", cli->curvature, la_curvature_names, LA_CURVATURES, &curvature,
                         err));
    LA_TRY(la_cli_choice("kron", cli->kron, la_kron_names, LA_KRONS, &kron, err));
    LA_TRY(la_cli_choice("params", cli->params, la_params_names, LA_PARAMS_LAST, &params, err));
    options.kron = (la_kron)kron;
    options.params = (la_params)params;
    options.curvature = (la_curvature)curvature;
    LA_TRY(read_prior(cli->prior, &options, err));
    static const char *const select_names[] = {"auto", "none", "marglik", "val", "cross"};
    int select;
    LA_TRY(la_cli_choice("select", cli->select, select_names, 5, &select, err));
    options.select = (la_select_kind)select;
    options.prior_given = cli->prior != NULL;
    options.val = cli->val;
    options.heldout = cli->heldout;
    options.adue = cli->adue;
    LA_TRY(read_rank(cli->rank, &options.rank, err));
    LA_TRY(read_noise(cli->noise, &options.noise, err));
    la_fit_summary *summary;
    LA_TRY(la_fit(&options, &summary, err));
    la_cli_progress_end();
    la_status status = LA_OK;
    if (cli->json)
        status = print_json(summary, err);
    else if (!cli->quiet)
        print_text(summary, cli->out);
    la_fit_summary_free(summary);
    return status;
}

static int run(const la_cli *cli) {
    la_error err = {0};
    fit(cli, &err);
    return la_cli_exit(&err);
}

const la_command la_command_fit = {
    .name = "fit",
    .summary = "curvature and prior of an adapter -> posterior file",
    .usage = "--base DIR --adapter DIR --data FILE --out POSTERIOR.h5 [OPTION]...",
    .options = "base base-quant adapter adapter-name data out curvature kron prior noise select "
               "val heldout adue rank params "
               "choices choice-ids template device threads precision seed max-length batch-tokens "
               "text-field pair-field label-field "
               "id-field labels json quiet verbose",
    .run = run,
};
