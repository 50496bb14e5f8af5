#include "base/visible.h"
#include "cli/cli.h"
#include "pipeline/update.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

typedef struct update_given {
    la_common common;
    la_run_given run;
    const char *posterior, *data, *remove, *base, *adapter, *val, *out;
    la_number forget;
    bool json;
} update_given;

static const la_option options[] = {
    LA_ROW(TEXT, update_given, posterior, "posterior", .argument = "OLD.h5",
           .help = "the posterior to update, which stays as it is unless --out names it"),
    LA_ROW(TEXT, update_given, data, "data", .argument = "FILE",
           .help = "labelled rows to add; - is JSONL on stdin"),
    LA_ROW(TEXT, update_given, remove, "remove", .argument = "FILE",
           .help = "labelled rows to take out, which were fitted or added"),
    LA_ROW(TEXT, update_given, out, "out", .argument = "NEW.h5",
           .help = "the posterior file to write"),
    LA_ROW(TEXT, update_given, base, "base", .argument = "DIR",
           .help = "the base, where it is no longer where it was"),
    LA_ROW(TEXT, update_given, adapter, "adapter", .argument = "DIR",
           .help = "the adapter, likewise; with --data one that was trained further: the old "
                   "posterior is its prior then, about the old adapter"),
    LA_ROW(NUMBER, update_given, forget, "forget", .argument = "G",
           .help = "the old rows count G times, above 0 and at most 1 (default 1)"),
    LA_ROW(TEXT, update_given, val, "val", .argument = "FILE",
           .help = "held-out labelled rows that choose settings anew; without them the old choice "
                   "is kept when rows are added, and dropped when rows are taken out"),
    LA_ROW(FLAG, update_given, json, "json", .help = "the summary as JSON on stdout"),
};

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *summary_json(const la_update_summary *s) {
    json_t *dropped = json_array(), *older = json_array();
    if (s->choice == LA_CHOICE_CLEARED)
        json_array_append_new(dropped, json_string("choice"));
    if (s->choice == LA_CHOICE_KEPT)
        json_array_append_new(older, json_string("choice"));
    if (s->cleared_adue || s->kept_adue)
        json_array_append_new(s->kept_adue ? older : dropped, json_string("adue"));
    if (s->cleared_ood || s->kept_ood)
        json_array_append_new(s->kept_ood ? older : dropped, json_string("ood"));
    bool one = s->prior == LA_PRIOR_GLOBAL || s->prior == LA_PRIOR_FIXED;
    return json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:s,s:f,s:f,s:f,s:o,s:f,s:f,s:{s:s,s:o},s:s,s:o,s:o,"
        "s:{s:f,s:f,s:f,s:f},s:s,s:s,s:i}",
        "schema", "laplora.update/1", "n_rows_old", (json_int_t)s->n_rows_old, "n_rows_new",
        (json_int_t)s->n_rows_new, "n_rows_removed", (json_int_t)s->n_rows_removed, "n_rows_known",
        (json_int_t)s->n_rows_known, "n_rows", (json_int_t)s->n_rows, "n_tokens",
        (json_int_t)s->n_tokens, "forget", s->forget, "adapter", s->new_adapter ? "new" : "same",
        "compression_error", s->compression_error, "least_eigenvalue", s->least_eigenvalue,
        "residual", s->residual, "distance", number(s->distance), "log_likelihood",
        s->log_likelihood, "log_marginal_likelihood", s->log_marginal_likelihood, "prior_precision",
        "kind", la_prior_names[s->prior], "value",
        one ? json_real(s->prior_precision) : json_null(), "choice",
        la_update_choice_names[s->choice], "dropped", dropped, "older", older, "seconds", "load",
        s->seconds_load, "curvature", s->seconds_curvature, "select", s->seconds_select, "save",
        s->seconds_save, "device", s->device, "precision", s->precision, "threads", s->threads);
}

static la_status print_json(const la_update_summary *s, la_error *err) {
    return la_cli_print_object(summary_json(s), err);
}

static void print_text(const la_update_summary *s, const char *out) {
    la_visible_write(out, stderr);
    fprintf(stderr, ": %lld rows (%lld before, %lld added, %lld taken out)\n", (long long)s->n_rows,
            (long long)s->n_rows_old, (long long)s->n_rows_new, (long long)s->n_rows_removed);
    if (isfinite(s->distance))
        fprintf(stderr, "squared distance from the old adapter, in its precisions: %.4g\n",
                s->distance);
    fprintf(stderr, "log likelihood %.2f, log marginal likelihood %.2f\n", s->log_likelihood,
            s->log_marginal_likelihood);
    fprintf(stderr, "seconds: load %.2f, curvature %.2f, select %.2f, save %.2f\n", s->seconds_load,
            s->seconds_curvature, s->seconds_select, s->seconds_save);
}

static la_status update(const update_given *given, la_error *err) {
    la_update_options job = {.run = la_cli_run_options(&given->common, &given->run),
                             .posterior = given->posterior,
                             .out = given->out,
                             .data = given->data,
                             .remove = given->remove,
                             .base = given->base,
                             .adapter = given->adapter,
                             .val = given->val,
                             .forget = given->forget.given ? given->forget.value : 1};
    la_update_summary summary;
    LA_TRY(la_cli_no_operands(&la_command_update, &given->common, err));
    LA_TRY(la_cli_require("update", "posterior", given->posterior, err));
    LA_TRY(la_cli_require("update", "out", given->out, err));
    if (!strcmp(given->out, "-"))
        return la_fail(err, LA_USAGE, "--out: a posterior is a file, not standard output");
    LA_TRY(la_cli_check_run(&given->common, &given->run, err));
    LA_TRY(la_update(&job, &summary, err));
    la_cli_progress_end();
    if (given->json)
        return print_json(&summary, err);
    if (!given->common.quiet)
        print_text(&summary, given->out);
    return LA_OK;
}

static int run(const void *given) {
    la_error err = {0};
    (void)update(given, &err);
    return la_cli_exit(&err);
}

const la_command la_command_update = {
    .name = "update",
    .summary = "add labelled rows to a posterior, or take some out",
    .usage = "--posterior OLD.h5 (--data FILE | --remove FILE) --out NEW.h5 [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_RUN_GROUPS(update_given)},
    .size = sizeof(update_given),
    .run = run,
};
