#include "cli/cli.h"
#include "pipeline/refine.h"

#include <jansson.h>
#include <stdio.h>

enum { EPOCHS = 5, BATCH_ROWS = 32 };

typedef struct refine_given {
    la_common common;
    la_run_given run;
    const char *posterior, *base, *adapter, *data, *val, *out, *out_adapter;
    int method;
    int64_t epochs, batch_rows, seed;
    la_number rate;
    bool json;
} refine_given;

static const la_option options[] = {
    LA_ROW(TEXT, refine_given, posterior, "posterior", .argument = "OLD.h5",
           .help = "posterior of the last round: the prior of this one"),
    LA_ROW(TEXT, refine_given, data, "data", .argument = "FILE",
           .help = "new labelled rows to train on: .jsonl, .csv, .tsv; - is JSONL on stdin"),
    LA_ROW(TEXT, refine_given, val, "val", .argument = "FILE",
           .help = "held-out labelled rows: they choose learning rate and epoch, and guard the "
                   "confidence"),
    LA_ROW(TEXT, refine_given, out, "out", .argument = "NEW.h5",
           .help = "where the new posterior goes"),
    LA_ROW(TEXT, refine_given, out_adapter, "out-adapter", .argument = "DIR",
           .help = "new or empty folder for the new adapter, as PEFT writes it"),
    LA_ROW(TEXT, refine_given, base, "base", .argument = "DIR",
           .help = "folder of the base; default: where the posterior was fitted"),
    LA_ROW(TEXT, refine_given, adapter, "adapter", .argument = "DIR",
           .help = "folder of the old adapter; default: where the posterior was fitted"),
    LA_ROW(CHOICE, refine_given, method, "method", LA_NAMES(la_refine_method_names),
           .help = "ivon (default): variational, from the old mean and curvature; ivon-flat: with "
                   "one precision for all parameters; adam: plain fine-tuning, to compare with"),
    LA_ROW(INTEGER, refine_given, epochs, "epochs", .argument = "E", .min = 1, .max = 10000,
           .absent = EPOCHS, .help = "most passes over the rows (default 5)"),
    LA_ROW(INTEGER, refine_given, batch_rows, "batch-rows", .argument = "N", .min = 1,
           .max = INT32_MAX, .absent = BATCH_ROWS, .help = "rows of a step (default 32)"),
    LA_ROW(NUMBER, refine_given, rate, "learning-rate", .argument = "X",
           .help = "of the first step, falling to 0 at the last; default: the best of three on "
                   "the rows of --val, without them the method's own"),
    LA_ROW(INTEGER, refine_given, seed, "seed", .argument = "N", .max = INT64_MAX,
           .help = "of the rows' order and the networks (default 0)"),
    LA_ROW(FLAG, refine_given, json, "json", .help = "the summary as JSON on stdout"),
};

static la_status print_json(const la_refine_summary *s, la_error *err) {
    json_t *elbo = s->elbo ? json_array() : json_null();
    for (int64_t e = 0; s->elbo && e < s->epochs; e++)
        json_array_append_new(elbo, json_real(s->elbo[e]));
    json_t *root = json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:o,s:s,s:f,s:f,s:f,s:f,s:f,s:i}",
                             "schema", "laplora.refine/1", "n_rows", (json_int_t)s->n_rows,
                             "n_held_out", (json_int_t)s->n_held_out, "n_parameters",
                             (json_int_t)s->n_parameters, "steps", (json_int_t)s->steps, "epochs",
                             (json_int_t)s->epochs, "epoch", (json_int_t)s->epoch, "learning_rate",
                             s->rate, "elbo", elbo, "nll_of", s->n_held_out ? "val" : "data",
                             "nll_before", s->nll_before, "nll_after", s->nll_after, "kl", s->kl,
                             "temper", s->temper, "seconds", s->seconds, "threads", s->threads);
    return la_cli_print_object(root, err);
}

static void print_text(const la_refine_summary *s, const char *out, const char *adapter) {
    const char *of = s->n_held_out ? "held-out rows" : "rows";
    fprintf(
        stderr, "refined %lld parameters on %lld rows in %.1f s: %lld steps, learning rate %g\n",
        (long long)s->n_parameters, (long long)s->n_rows, s->seconds, (long long)s->steps, s->rate);
    if (s->epoch)
        fprintf(stderr, "NLL of the %s at the mean: %.4f before, %.4f after epoch %lld of %lld\n",
                of, s->nll_before, s->nll_after, (long long)s->epoch, (long long)s->epochs);
    else
        fprintf(stderr,
                "no epoch made the NLL of the held-out rows less than %.4f: the adapter is the old "
                "one, with the curvature of the new rows\n",
                s->nll_before);
    fprintf(stderr, "%.4g nats from the old posterior\nadapter in %s, posterior in %s\n", s->kl,
            adapter, out);
}

static la_status refine(const refine_given *given, la_error *err) {
    la_log log = la_cli_log(&given->common);
    la_refine_options job = {
        .run = la_cli_run_options(&given->common, &given->run),
        .posterior = given->posterior,
        .base = given->base,
        .adapter = given->adapter,
        .data = given->data,
        .val = given->val,
        .out = given->out,
        .out_adapter = given->out_adapter,
        .settings = {.method = given->method < 0 ? LA_REFINE_IVON : (la_refine_method)given->method,
                     .epochs = given->epochs,
                     .batch_rows = given->batch_rows,
                     .rate = given->rate.given ? given->rate.value : 0,
                     .seed = (uint64_t)given->seed,
                     .log = &log}};
    la_refine_summary summary;
    LA_TRY(la_cli_no_operands(&la_command_refine, &given->common, err));
    LA_TRY(la_cli_require("refine", "posterior", given->posterior, err));
    LA_TRY(la_cli_require("refine", "data", given->data, err));
    LA_TRY(la_cli_require("refine", "out", given->out, err));
    LA_TRY(la_cli_require("refine", "out-adapter", given->out_adapter, err));
    LA_TRY(la_cli_check_run(&given->common, &given->run, err));
    la_status status = la_refine(&job, &summary, err);
    la_cli_progress_end();
    LA_TRY(status);
    if (given->json)
        status = print_json(&summary, err);
    else if (!given->common.quiet)
        print_text(&summary, given->out, given->out_adapter);
    la_refine_summary_free(&summary);
    return status;
}

static int run(const void *args) {
    la_error err = {0};
    (void)refine(args, &err);
    return la_cli_exit(&err);
}

const la_command la_command_refine = {
    .name = "refine",
    .summary = "a round of training from a posterior: a new adapter and its posterior",
    .usage = "--posterior OLD.h5 --data FILE --out NEW.h5 --out-adapter DIR [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_RUN_GROUPS(refine_given)},
    .size = sizeof(refine_given),
    .run = run,
};
