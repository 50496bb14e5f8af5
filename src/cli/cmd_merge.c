#include "cli/cli.h"
#include "pipeline/merge.h"

#include <jansson.h>
#include <string.h>

typedef struct merge_given {
    la_common common;
    la_run_given run;
    la_choosing_given choosing;
    const char *out, *base, *adapter, *data, *basis;
    bool json;
} merge_given;

static const la_option options[] = {
    LA_ROW(TEXT, merge_given, out, "out", .argument = "POSTERIOR.h5",
           .help = "the posterior file to write"),
    LA_ROW(TEXT, merge_given, base, "base", .argument = "DIR",
           .help = "folder of the base, where it is not the one that part 1 names"),
    LA_ROW(TEXT, merge_given, adapter, "adapter", .argument = "DIR",
           .help = "folder of the adapter, likewise"),
    LA_ROW(TEXT, merge_given, data, "data", .argument = "FILE",
           .help = "the rows that the parts are of, all of them, where they are to be looked at "
                   "again: for --heldout, --adue, --ood and for signs of trouble"),
    LA_ROW(TEXT, merge_given, basis, "basis", .argument = "POSTERIOR.h5",
           .help = "of ekfac: the posterior of kron that the parts were summed with"),
    LA_ROW(FLAG, merge_given, json, "json", .help = "the summary as JSON on stdout"),
};

static la_status merge(const merge_given *given, la_error *err) {
    la_fit_summary *summary;
    la_merge_options run = {.parts = given->common.operands,
                            .n_parts = given->common.n_operands,
                            .fit = {.run = la_cli_run_options(&given->common, &given->run),
                                    .base = given->base,
                                    .adapter = given->adapter,
                                    .data = given->data,
                                    .basis = given->basis,
                                    .out = given->out}};
    if (!run.n_parts)
        return la_fail(err, LA_USAGE,
                       "merge needs the files of all parts, PART.h5...; see laplora merge --help");
    LA_TRY(la_cli_require("merge", "out", given->out, err));
    if (!strcmp(given->out, "-"))
        return la_fail(err, LA_USAGE, "--out: a posterior is a file, not standard output");
    LA_TRY(la_cli_check_run(&given->common, &given->run, err));
    la_cli_choose(&given->choosing, &run.fit);
    LA_TRY(la_merge(&run, &summary, err));
    la_cli_progress_end();
    la_status status = LA_OK;
    if (given->json) {
        json_t *root = la_fit_summary_json(summary, "laplora.merge/1");
        if (root)
            json_object_set_new(root, "n_parts", json_integer((json_int_t)run.n_parts));
        status = la_cli_print_object(root, err);
    } else if (!given->common.quiet) {
        la_fit_summary_print(summary, given->out, true);
    }
    la_fit_summary_free(summary);
    return status;
}

static int run(const void *given) {
    la_error err = {0};
    (void)merge(given, &err);
    return la_cli_exit(&err);
}

const la_command la_command_merge = {
    .name = "merge",
    .summary = "sums of all parts (fit --shard) -> posterior file",
    .usage = "PART.h5... --out POSTERIOR.h5 [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_choosing_rows, offsetof(merge_given, choosing)),
               LA_RUN_GROUPS(merge_given)},
    .size = sizeof(merge_given),
    .many = true,
    .run = run,
};
