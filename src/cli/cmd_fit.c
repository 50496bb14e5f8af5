#include "base/visible.h"
#include "bayes/structure.h"
#include "cli/cli.h"
#include "output/escape.h"
#include "output/figures.h"
#include "pipeline/checkpoint.h"
#include "pipeline/part.h"
#include "pipeline/rank_sums.h"

#include <jansson.h>
#include <math.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct fit_given {
    la_common common;
    la_run_given run;
    la_prompt_given prompt;
    la_choosing_given choosing;
    const char *base, *adapter, *data, *out, *shard, *basis, *checkpoint;
    int curvature, kron, params;
    la_number checkpoint_every;
    int64_t rank;
    bool json, resume;
} fit_given;

static const char *const full_name[] = {"full"};

static const la_option options[] = {
    {.name = "base",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(fit_given, base),
     .argument = "DIR",
     .help = "folder of the Hugging Face base model"},
    {.name = "adapter",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(fit_given, adapter),
     .argument = "DIR",
     .help = "folder of the adapter"},
    {.name = "data",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(fit_given, data),
     .argument = "FILE",
     .help = "labelled rows that the adapter was trained on, or part of them: .jsonl, .csv, .tsv; "
             "- is JSONL on stdin"},
    {.name = "out",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(fit_given, out),
     .argument = "POSTERIOR.h5",
     .help = "the posterior file to write"},
    LA_ROW(TEXT, fit_given, shard, "shard", .argument = "I/N|auto",
           .help = "sums of the rows with index mod N = I - 1 alone, to a file PART.h5 at --out; "
                   "laplora merge makes the posterior. auto, auto/N: as Slurm, MPI, torchrun or an "
                   "indexed job number their processes"),
    {.name = "curvature",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(fit_given, curvature),
     LA_NAMES_FIRST(la_curvature_names, LA_CURVATURES_FITTED),
     .help = "structure of the curvature (default kron)"},
    LA_ROW(TEXT, fit_given, basis, "basis", .argument = "POSTERIOR.h5",
           .help = "of ekfac: a posterior of kron of the same rows and adapter, whose eigenvectors "
                   "are used; parts of rows need it, and so does their merge"),
    {.name = "kron",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(fit_given, kron),
     LA_NAMES(la_kron_names),
     .help = "how tokens enter the factors of kron and ekfac (default expand)"},
    {.name = "rank",
     .kind = LA_OPTION_INTEGER,
     .offset = offsetof(fit_given, rank),
     LA_NAMES(full_name),
     .argument = "K",
     .min = 1,
     .max = 1 << 24,
     .help = "eigenpairs kept of each block's larger factor, or of the exact curvature (default "
             "full); few of many are sketched"},
    {.name = "params",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(fit_given, params),
     .names = la_params_names,
     .stride = sizeof *la_params_names,
     .n_names = LA_PARAMS_LAST,
     .help = "what is Bayesian (default lora): the adapter, its trained head too, or the head "
             "alone; with DoRA's magnitudes or without"},
    LA_ROW(TEXT, fit_given, checkpoint, "checkpoint", .argument = "FILE",
           .help = "keep the sums so far in FILE, and the ones before in FILE.1, until the fit has "
                   "ended; SIGTERM and SIGINT leave the newest; process I of P keeps FILE.I-of-P"),
    LA_ROW(NUMBER, fit_given, checkpoint_every, "checkpoint-every", .argument = "SECONDS",
           .help = "between two checkpoints (default 60; more where writing one takes over a "
                   "second)"),
    LA_ROW(FLAG, fit_given, resume, "resume",
           .help = "go on with the --checkpoint where it is there: same posterior, byte for byte, "
                   "with the same threads"),
    {.name = "json",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(fit_given, json),
     .help = "the summary as JSON on stdout"},
};

json_t *la_fit_summary_json(const la_fit_summary *s, const char *schema) {
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
        "schema", schema, "n_rows", (json_int_t)s->n_rows, "n_tokens", (json_int_t)s->n_tokens,
        "n_classes", (json_int_t)s->n_classes, "n_blocks", (json_int_t)s->n_blocks, "n_parameters",
        (json_int_t)s->n_parameters, "log_likelihood", s->log_likelihood, "log_marginal_likelihood",
        s->log_marginal_likelihood, "prior_precision", "kind", la_prior_names[s->prior], "value",
        value, "blocks", precisions, "blocks", blocks, "curvature", s->curvature, "selection",
        la_choice_json(s->choice.record, s->n_classes), "adue", la_adue_json(&s->adue), "seconds",
        "load", s->seconds_load, "curvature", s->seconds_curvature, "decompose",
        s->seconds_decompose, "prior", s->seconds_prior, "select", s->seconds_select, "adue",
        s->seconds_adue, "save", s->seconds_save, "device", s->device, "precision", s->precision,
        "threads", s->threads);
    if (s->ood.n_reference)
        json_object_set_new(root, "ood",
                            json_pack("{s:s,s:I,s:I,s:f}", "reference",
                                      s->ood.held_out ? "held-out" : "calibration", "n_reference",
                                      (json_int_t)s->ood.n_reference, "rank",
                                      (json_int_t)s->ood.rank, "seconds", s->seconds_ood));
    if (s->noise_variance > 0)
        json_object_set_new(root, "noise_variance", json_real(s->noise_variance));
    return root;
}

la_status la_cli_print_object(json_t *root, la_error *err) {
    if (!root)
        return la_fail(err, LA_RESOURCE, "out of memory for the summary");
    int failed =
        la_json_write(root, JSON_COMPACT, stdout) || fputc('\n', stdout) == EOF || fflush(stdout);
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
        if (s->correction)
            fputs(choice->corrections[s->correction - 1].spread > 0 ? " weighed" : " biased",
                  stderr);
    }
    fprintf(stderr, " (in place of all, at most %.1g off)\n", choice->shortening);
}

static void print_choice(const la_choice *choice, const la_likelihood *likelihood) {
    if (!choice->guarded)
        return;
    fprintf(stderr, "%lld %s rows, mean NLL:", (long long)choice->n,
            choice->cross ? "cross-fitted" : "held-out");
    for (int k = 0; k < LA_METHODS; k++)
        if (isfinite(choice->candidates[k].nll))
            fprintf(stderr, "%s %s %.4f%s", k ? "," : "", la_method_names[k],
                    choice->candidates[k].nll,
                    k == LA_METHOD_AVERAGE ? " (each row left out of its own weights)" : "");
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
    if (likelihood->accuracy)
        fprintf(stderr, " (%s %.4f, MAP %.4f)", likelihood->accuracy, c->accuracy,
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

void la_fit_summary_print(const la_fit_summary *s, const char *out, bool merged) {
    const la_likelihood *likelihood = la_likelihood_of_task(s->task);
    char task[64];
    snprintf(task, sizeof task, "%s", likelihood->name);
    if (likelihood->counted)
        snprintf(task, sizeof task, "%lld %s", (long long)s->n_classes, likelihood->counted);
    la_visible_write(out, stderr);
    fprintf(stderr,
            ": %lld blocks, %lld parameters, from %lld rows (%lld tokens, %s)\n"
            "log likelihood %.2f, log marginal likelihood %.2f, ",
            (long long)s->n_blocks, (long long)s->n_parameters, (long long)s->n_rows,
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
    print_choice(s->choice.record, likelihood);
    print_adue(s);
    if (s->ood.n_reference)
        fprintf(stderr, "distances: %lld %s rows for reference, %lld directions, %.2f s\n",
                (long long)s->ood.n_reference, s->ood.held_out ? "held-out" : "calibration",
                (long long)s->ood.rank, s->seconds_ood);
    if (merged)
        fprintf(stderr, "seconds: load %.2f, sums %.2f, ", s->seconds_load, s->seconds_curvature);
    else
        fprintf(stderr, "seconds: load %.2f, curvature %.2f (%.0f rows/s), ", s->seconds_load,
                s->seconds_curvature,
                (double)s->n_rows / (s->seconds_curvature > 0 ? s->seconds_curvature : 1));
    fprintf(stderr, "decompose %.2f, prior %.3f, select %.2f, save %.2f\n", s->seconds_decompose,
            s->seconds_prior, s->seconds_select, s->seconds_save);
}

/* Refuses options without effect, where the table alone shows it. */
static la_status check_options(const fit_given *given, const la_structure_kind *kind,
                               la_error *err) {
    const char *structure = la_structure_name(kind);
    if (given->kron >= 0 && !kind->has_inputs)
        return la_fail(err, LA_USAGE,
                       "--kron %s: --curvature %s has no Kronecker factors; leave --kron out, or "
                       "take kron or ekfac",
                       la_kron_names[given->kron], structure);
    if (given->rank > 0 && !kind->cuts)
        return la_fail(err, LA_USAGE,
                       "--rank %lld: --curvature %s has no eigenpairs to leave out; leave --rank "
                       "out",
                       (long long)given->rank, structure);
    if (given->params >= 0 && kind->only_params)
        return la_fail(err, LA_USAGE,
                       "--params %s: --curvature %s is of the head's last layer alone; "
                       "leave --params out",
                       la_params_names[given->params], structure);
    if (!given->checkpoint && (given->resume || given->checkpoint_every.given))
        return la_fail(err, LA_USAGE, "--%s needs --checkpoint FILE",
                       given->resume ? "resume" : "checkpoint-every");
    return la_cli_check_run(&given->common, &given->run, err);
}

static la_status check_ranks(const fit_given *given, const la_ranks *ranks, la_error *err) {
    if (ranks->size > 1 && !strcmp(given->data, "-"))
        return la_fail(err, LA_USAGE,
                       "--data -: standard input has rows for one process, not for %d; give a file",
                       ranks->size);
    return LA_OK;
}

/* Each process has its own sums, and a checkpoint of them. */
static la_status name_checkpoint(const char *given, const la_ranks *ranks, char path[PATH_MAX],
                                 la_error *err) {
    int length = ranks->size > 1
                     ? snprintf(path, PATH_MAX, "%s.%d-of-%d", given, ranks->rank + 1, ranks->size)
                     : snprintf(path, PATH_MAX, "%s", given);
    return length < PATH_MAX ? LA_OK : la_fail(err, LA_USAGE, "--checkpoint: the path is too long");
}

/* With its checkpoint, where there is to be one; part: it ends with the sums of that (NULL:
 * none). */
static la_status run_fit(const fit_given *given, const la_fit_options *run, const la_ranks *ranks,
                         la_part_fit *part, la_fit_summary **summary, la_error *err) {
    la_fit_checkpoint *checkpoint = NULL;
    la_carrier list[3];
    la_carriers carriers = {.list = list, .adds = part != NULL};
    char path[PATH_MAX];
    la_fit_checkpoint_options kept = {.path = path,
                                      .seconds = given->checkpoint_every.value,
                                      .resume = given->resume,
                                      .fit = run};
    if (given->checkpoint) {
        LA_TRY(name_checkpoint(given->checkpoint, ranks, path, err));
        LA_TRY(la_fit_checkpoint_open(&kept, &checkpoint, err));
        list[carriers.n++] = la_fit_checkpoint_carrier(checkpoint);
    }
    la_rank_sums sums = {.ranks = *ranks, .options = run};
    if (ranks->size > 1)
        list[carriers.n++] = la_ranks_carrier(&sums);
    if (part)
        list[carriers.n++] = la_part_carrier(part);
    la_status status = la_fit_carried(run, carriers.n ? &carriers : NULL, summary, err);
    if (checkpoint && status == LA_OK && ranks->size > 1)
        la_ranks_wait(); /* the first has written the posterior: nobody needs what is kept */
    la_fit_checkpoint_close(checkpoint, status);
    return status;
}

/* Sums of a part of the rows: fit --shard. */
static la_status sum_part(const fit_given *given, const la_fit_options *run, la_error *err) {
    la_part_fit part = {.out = given->out, .basis = given->basis};
    const la_ranks alone = {.size = 1};
    la_fit_summary *none;
    LA_TRY(la_cli_check_unchosen(&given->choosing, err));
    LA_TRY(la_part_number_parse(given->shard, &part.part, err));
    LA_TRY(run_fit(given, run, &alone, &part, &none, err));
    la_cli_progress_end();
    if (given->json)
        return la_cli_print_object(
            json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:f}", "schema", "laplora.part/1", "part",
                      (json_int_t)part.part.number, "n_parts", (json_int_t)part.part.n, "n_rows",
                      (json_int_t)part.n_rows, "n_rows_of_all", (json_int_t)part.n_all, "n_tokens",
                      (json_int_t)part.n_tokens, "log_likelihood", part.log_likelihood),
            err);
    if (!given->common.quiet) {
        la_visible_write(given->out, stderr);
        fprintf(stderr, ": part %lld/%lld, %lld of %lld rows (%lld tokens)\n",
                (long long)part.part.number, (long long)part.part.n, (long long)part.n_rows,
                (long long)part.n_all, (long long)part.n_tokens);
    }
    return LA_OK;
}

static la_status fit(const fit_given *given, la_error *err) {
    const la_structure_kind *kind =
        la_structure_of(given->curvature < 0 ? LA_CURVATURE_KRON : (la_curvature)given->curvature);
    la_fit_options run = {.run = la_cli_run_options(&given->common, &given->run),
                          .base = given->base,
                          .adapter = given->adapter,
                          .data = given->data,
                          .out = given->out,
                          .choices = given->prompt.choices,
                          .choice_ids = given->prompt.choice_ids,
                          .template_path = given->prompt.template_path,
                          .curvature = la_structure_name(kind),
                          .kron = given->kron < 0 ? LA_KRON_EXPAND : (la_kron)given->kron,
                          .params = given->params < 0 ? LA_PARAMS_LORA : (la_params)given->params,
                          .rank = given->rank < 0 ? 0 : given->rank,
                          .basis = given->basis};
    LA_TRY(la_cli_no_operands(&la_command_fit, &given->common, err));
    LA_TRY(la_cli_require("fit", "base", given->base, err));
    LA_TRY(la_cli_require("fit", "adapter", given->adapter, err));
    LA_TRY(la_cli_require("fit", "data", given->data, err));
    LA_TRY(la_cli_require("fit", "out", given->out, err));
    if (!strcmp(given->out, "-"))
        return la_fail(err, LA_USAGE, "--out: a posterior is a file, not standard output");
    LA_TRY(check_options(given, kind, err));
    run.prior = kind->joint ? LA_PRIOR_GLOBAL : LA_PRIOR_MODULE;
    la_cli_choose(&given->choosing, &run);
    if (given->shard)
        return sum_part(given, &run, err);
    la_fit_summary *summary;
    la_ranks ranks;
    /* processes that make parts of their own (files that are merged) would not join */
    LA_TRY(la_cli_join(&run.run, &ranks, err));
    LA_TRY(check_ranks(given, &ranks, err));
    LA_TRY(run_fit(given, &run, &ranks, NULL, &summary, err));
    la_cli_progress_end();
    if (!summary) /* the first process has it */
        return LA_OK;
    la_status status = LA_OK;
    if (given->json)
        status = la_cli_print_object(la_fit_summary_json(summary, "laplora.fit/1"), err);
    else if (!given->common.quiet)
        la_fit_summary_print(summary, given->out, false);
    la_fit_summary_free(summary);
    return status;
}

static int run(const void *given) {
    la_error err = {0};
    (void)fit(given, &err);
    return la_cli_leave(&err);
}

const la_command la_command_fit = {
    .name = "fit",
    .summary = "curvature and prior of an adapter -> posterior file",
    .usage = "--base DIR --adapter DIR --data FILE --out POSTERIOR.h5 [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_choosing_rows, offsetof(fit_given, choosing)),
               LA_GROUP(la_prompt_rows, offsetof(fit_given, prompt)), LA_RUN_GROUPS(fit_given)},
    .size = sizeof(fit_given),
    .run = run,
};
