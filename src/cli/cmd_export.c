#include "base/output_file.h"
#include "cli/cli.h"
#include "input/json.h"
#include "monitor/threshold.h"
#include "output/export.h"
#include "output/posterior_file.h"

#include <string.h>

enum { THRESHOLD_MOST = 64 << 20 };

typedef struct export_given {
    la_common common;
    const char *posterior, *threshold, *out;
    int to;
} export_given;

static const la_option options[] = {
    LA_ROW(TEXT, export_given, posterior, "posterior", .argument = "POSTERIOR.h5",
           .help = "posterior file written by fit"),
    LA_ROW(CHOICE, export_given, to, "to", LA_NAMES(la_export_formats),
           .help = "vLLM's pooler configuration, or all of it as JSON"),
    LA_ROW(TEXT, export_given, threshold, "threshold", .argument = "FILE",
           .help = "a file of laplora threshold, to go with it"),
    LA_ROW(TEXT, export_given, out, "out", .argument = "FILE",
           .help = "where it goes; - is stdout (default)"),
};

/* The file as it is, once it is known to be one that predict reads. */
static la_status load_threshold(const char *path, const la_export *export, json_t **root,
                                la_error *err) {
    la_threshold_rule rule;
    char model[LA_MODEL_TEXT];
    int64_t n_classes = export->posterior->n_classes;
    LA_TRY(la_posterior_model(export->posterior, model, err));
    LA_TRY(la_threshold_load(path, &rule, err));
    (void)la_threshold_of_model(&rule, path, "the posterior", export->path, model, err);
    if (rule.by_class && rule.n_classes != n_classes)
        (void)la_fail(err, LA_MISMATCH, "%s: is of %lld classes, and the posterior %s of %lld",
                      path, (long long)rule.n_classes, export->path, (long long)n_classes);
    if (*rule.kind && strcmp(rule.kind, export->kind))
        la_warn(export->log, "%s: is of confidences of kind %s, the posterior's are %s", path,
                rule.kind, export->kind);
    la_threshold_rule_free(&rule);
    return err->status == LA_OK ? la_json_load(path, THRESHOLD_MOST, root, err) : err->status;
}

static la_status write_export(const la_export *export, const export_given *given, la_error *err) {
    la_output_file out;
    LA_TRY(la_output_open(&out, given->out, LA_OUTPUT_STREAM, err));
    return la_output_finish(&out, la_export_formats[given->to].write(export, out.stream, err), err);
}

static la_status export_to(const export_given *given, la_error *err) {
    la_log log = la_cli_log(&given->common);
    la_posterior posterior;
    json_t *threshold = NULL;
    LA_TRY(la_cli_no_operands(&la_command_export, &given->common, err));
    LA_TRY(la_cli_require("export", "posterior", given->posterior, err));
    LA_TRY(la_cli_require("export", "to", given->to < 0 ? NULL : "", err));
    LA_TRY(la_output_apart(given->out, "--posterior", given->posterior, err));
    LA_TRY(la_output_apart(given->out, "--threshold", given->threshold, err));
    LA_TRY(la_output_check(given->out, err));
    LA_TRY(la_posterior_load(given->posterior, &posterior, err));
    la_export export = {.path = given->posterior, .posterior = &posterior, .log = &log};
    la_status status = la_posterior_digest(given->posterior, export.digest, err);
    if (status == LA_OK)
        status = la_export_resolve(&export, err);
    if (status == LA_OK && given->threshold)
        status = load_threshold(given->threshold, &export, &threshold, err);
    export.threshold = threshold;
    if (status == LA_OK)
        status = write_export(&export, given, err);
    json_decref(threshold);
    la_posterior_free(&posterior);
    return status;
}

static int run(const void *given) {
    la_error err = {0};
    (void)export_to(given, &err);
    return la_cli_exit(&err);
}

const la_command la_command_export = {
    .name = "export",
    .summary = "a posterior's confidence for what serves models: vLLM, or JSON",
    .usage = "--posterior POSTERIOR.h5 --to vllm|json [--threshold FILE] [--out FILE]",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_common_rows, offsetof(export_given, common))},
    .size = sizeof(export_given),
    .run = run,
};
