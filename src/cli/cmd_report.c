#include "cli/cli.h"
#include "pipeline/report_job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static la_status report(const la_cli *cli, int *gates_failed, la_error *err) {
    if (cli->n_operands != 1)
        return la_fail(err, LA_USAGE,
                       "report takes one prediction file; see laplora report --help");
    bool to_terminal = (!cli->out || !strcmp(cli->out, "-")) && isatty(STDOUT_FILENO);
    la_report_options options = {
        .predictions = cli->operands[0],
        .format = cli->json && !cli->format ? "json" : cli->format,
        .out = cli->out,
        .gates = {.max = cli->max.values,
                  .n_max = cli->max.n,
                  .min = cli->min.values,
                  .n_min = cli->min.n,
                  .max_regression = cli->max_regression.values,
                  .n_max_regression = cli->max_regression.n,
                  .baseline = cli->baseline,
                  .min_samples = cli->min_samples},
        .colour = to_terminal && !getenv("NO_COLOR"),
    };
    return la_report_run(&options, gates_failed, err);
}

static int run(const la_cli *cli) {
    la_error err = {0};
    int gates_failed = 0;
    la_status status = report(cli, &gates_failed, &err);
    if (status == LA_OK && gates_failed && !cli->quiet)
        fprintf(stderr, "laplora: note: %d gate%s failed\n", gates_failed,
                gates_failed == 1 ? "" : "s");
    return status == LA_OK && gates_failed ? LA_GATE : la_cli_exit(&err);
}

const la_command la_command_report = {
    .name = "report",
    .summary = "calibration metrics of predictions, with gates for CI",
    .usage = "PREDICTIONS.jsonl [--format KIND] [--max METRIC=X]... [OPTION]...",
    .options = "format out max min baseline max-regression min-samples json quiet",
    .run = run,
};
