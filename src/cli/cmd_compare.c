#include "base/output_file.h"
#include "bayes/structure.h"
#include "cli/cli.h"
#include "pipeline/compare.h"

#include <stdlib.h>

enum { SAMPLES = 1000 };

static la_status write_table(const la_comparison *comparison, la_table_format format,
                             const char *out, la_error *err) {
    la_output_file file;
    LA_TRY(la_output_open(&file, out, LA_OUTPUT_STREAM, err));
    return la_output_finish(&file, la_comparison_write(comparison, format, file.stream, err), err);
}

typedef struct compare_given {
    la_common common;
    la_run_given run;
    la_prompt_given prompt;
    const char *base, *calib, *test, *val, *ood, *out;
    la_texts adapters;
    uint64_t methods;
    int curvature, kron, format;
    int64_t samples, seed;
    bool json;
} compare_given;

static const char *const formats[] = {"text", "json", "markdown"};

static const la_option options[] = {
    LA_ROW(TEXT, compare_given, base, "base", .argument = "DIR",
           .help = "folder of the Hugging Face base model"),
    LA_ROW(REPEATED, compare_given, adapters, "adapter", .argument = "DIR",
           .help =
               "folder of the adapter; given several times: the first is compared, all of them are "
               "an ensemble"),
    LA_ROW(TEXT, compare_given, calib, "calib", .argument = "FILE",
           .help = "labelled rows that the curvature is of"),
    LA_ROW(TEXT, compare_given, test, "test", .argument = "FILE",
           .help = "labelled rows that the table is of"),
    LA_ROW(TEXT, compare_given, val, "val", .argument = "FILE",
           .help = "held-out labelled rows, for temperature, bias, vector, stacking, guard and the "
                   "held-out choices"),
    LA_ROW(TEXT, compare_given, ood, "ood", .argument = "FILE",
           .help = "rows of other data, to be distinguished from those of --test"),
    LA_ROW(LIST, compare_given, methods, "methods", LA_NAMES(la_compare_kinds),
           .help = "rows of the table; default: all but the slow"),
    LA_ROW(CHOICE, compare_given, curvature, "curvature",
           LA_NAMES_FIRST(la_curvature_names, LA_CURVATURES_FITTED),
           .help = "structure that the guard stands over (default kron)"),
    LA_ROW(CHOICE, compare_given, kron, "kron", LA_NAMES(la_kron_names),
           .help = "how tokens enter the factors of kron and ekfac (default expand)"),
    LA_ROW(INTEGER, compare_given, samples, "samples", .argument = "N", .min = 1, .max = 100000000,
           .help = "Monte Carlo draws (default 1000)"),
    LA_ROW(INTEGER, compare_given, seed, "seed", .argument = "N", .max = INT64_MAX,
           .help = "of the draws, of tfb's networks and of adue's training (default 0)"),
    LA_ROW(CHOICE, compare_given, format, "format", LA_NAMES(formats),
           .help = "of the table (default text)"),
    LA_ROW(FLAG, compare_given, json, "json", .help = "as --format json"),
    LA_ROW(TEXT, compare_given, out, "out", .argument = "FILE",
           .help = "where the table goes; - is stdout (default)"),
};

static la_status check_out(const compare_given *given, la_error *err) {
    LA_TRY(la_output_check(given->out, err));
    LA_TRY(la_output_apart(given->out, "a file of --base", given->base, err));
    for (int i = 0; i < given->adapters.n; i++)
        LA_TRY(la_output_apart(given->out, "a file of --adapter", given->adapters.values[i], err));
    LA_TRY(la_output_apart(given->out, "--calib", given->calib, err));
    LA_TRY(la_output_apart(given->out, "--test", given->test, err));
    LA_TRY(la_output_apart(given->out, "--val", given->val, err));
    LA_TRY(la_output_apart(given->out, "--ood", given->ood, err));
    return la_output_apart(given->out, "--template", given->prompt.template_path, err);
}

/* Refuses options without effect on the methods that were asked for by name. */
static la_status check_options(const compare_given *given, la_curvature curvature, la_error *err) {
    unsigned reads = la_compare_reads(given->methods);
    bool guard = reads & LA_READS_CURVATURE, factors = reads & LA_READS_KRON;
    factors |= guard && la_structure_of(curvature)->has_inputs;
    if (given->curvature >= 0 && !guard)
        return la_fail(err, LA_USAGE,
                       "--curvature %s: is of the guard, which --methods leaves out; add guard, or "
                       "take %s for a row of its own",
                       la_curvature_names[given->curvature], la_curvature_names[given->curvature]);
    if (given->kron >= 0 && !factors)
        return la_fail(err, LA_USAGE,
                       "--kron %s: none of --methods has Kronecker factors; leave --kron out, or "
                       "add kron or ekfac",
                       la_kron_names[given->kron]);
    if (given->adapters.n > 1 && !(reads & LA_READS_ADAPTERS))
        return la_fail(err, LA_USAGE,
                       "--adapter %s: the second adapter and those behind it are for ensemble, "
                       "which --methods leaves out; add it, or give one adapter",
                       given->adapters.values[1]);
    return la_cli_check_run(&given->common, &given->run, err);
}

static la_status compare(const compare_given *given, la_error *err) {
    la_compare_options run = {.run = la_cli_run_options(&given->common, &given->run),
                              .base = given->base,
                              .adapters = given->adapters.values,
                              .n_adapters = given->adapters.n,
                              .calib = given->calib,
                              .test = given->test,
                              .val = given->val,
                              .ood = given->ood,
                              .methods = given->methods,
                              .curvature = given->curvature < 0 ? LA_CURVATURE_KRON
                                                                : (la_curvature)given->curvature,
                              .kron = given->kron < 0 ? LA_KRON_EXPAND : (la_kron)given->kron,
                              .choices = given->prompt.choices,
                              .choice_ids = given->prompt.choice_ids,
                              .template_path = given->prompt.template_path,
                              .samples = given->samples ? given->samples : SAMPLES,
                              .seed = (uint64_t)given->seed};
    int format;
    LA_TRY(la_cli_no_operands(&la_command_compare, &given->common, err));
    LA_TRY(la_cli_require("compare", "base", given->base, err));
    LA_TRY(la_cli_require("compare", "adapter", given->adapters.values[0], err));
    LA_TRY(la_cli_require("compare", "calib", given->calib, err));
    LA_TRY(la_cli_require("compare", "test", given->test, err));
    LA_TRY(la_cli_format(formats, given->format, given->json, &format, err));
    LA_TRY(check_options(given, run.curvature, err));
    LA_TRY(check_out(given, err));
    la_comparison comparison;
    LA_TRY(la_compare(&run, &comparison, err));
    la_cli_progress_end();
    la_status status = write_table(&comparison, (la_table_format)format, given->out, err);
    free(comparison.rows);
    return status;
}

static int run(const void *given) {
    la_error err = {0};
    (void)compare(given, &err);
    return la_cli_exit(&err);
}

const la_command la_command_compare = {
    .name = "compare",
    .summary = "Laplace and its rivals on the same rows, in one table",
    .usage = "--base DIR --adapter DIR --calib FILE --test FILE [--val FILE] [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_prompt_rows, offsetof(compare_given, prompt)),
               LA_RUN_GROUPS(compare_given)},
    .size = sizeof(compare_given),
    .run = run,
};
