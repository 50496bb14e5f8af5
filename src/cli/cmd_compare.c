#include "base/output_file.h"
#include "bayes/posterior.h"
#include "cli/cli.h"
#include "pipeline/compare.h"

#include <errno.h>
#include <stdlib.h>

enum { SAMPLES = 1000 };

static la_status write_table(const la_comparison *comparison, la_table_format format,
                             const char *out, la_error *err) {
    la_output_file file;
    LA_TRY(la_output_open(&file, out, 1, err));
    la_status status = la_comparison_write(comparison, format, file.stream, err);
    if (status == LA_OK && ferror(file.stream))
        status = la_fail(err, LA_RESOURCE, "%s: cannot write: %s", out ? out : "standard output",
                         la_errno_text(errno));
    if (status == LA_OK)
        return la_output_commit(&file, err);
    la_output_discard(&file);
    return status;
}

static la_status compare(const la_cli *cli, la_error *err) {
    static const char *const formats[] = {"text", "json", "markdown"};
    la_compare_options options = {.run = la_cli_run_options(cli),
                                  .base = cli->base,
                                  .adapters = cli->adapters.values,
                                  .n_adapters = cli->adapters.n,
                                  .calib = cli->calib,
                                  .test = cli->test,
                                  .val = cli->val,
                                  .ood = cli->ood,
                                  .methods = cli->methods,
                                  .choices = cli->choices,
                                  .choice_ids = cli->choice_ids,
                                  .template_path = cli->template_path,
                                  .samples = cli->samples < 0 ? SAMPLES : cli->samples,
                                  .seed = (uint64_t)cli->seed};
    int curvature, kron, format;
    LA_TRY(la_cli_no_operands(&la_command_compare, cli, err));
    LA_TRY(la_cli_require("compare", "base", cli->base, err));
    LA_TRY(la_cli_require("compare", "adapter", cli->adapter, err));
    LA_TRY(la_cli_require("compare", "calib", cli->calib, err));
    LA_TRY(la_cli_require("compare", "test", cli->test, err));
    if (!options.samples)
        return la_fail(err, LA_USAGE, "--samples 0: the table needs Monte Carlo draws");
    LA_TRY(la_cli_choice("curvature", cli->curvature, la_curvature_names, LA_CURVATURES, &curvature,
                         err));
    LA_TRY(la_cli_choice("kron", cli->kron, la_kron_names, LA_KRONS, &kron, err));
    LA_TRY(la_cli_choice("format", cli->format, formats, 3, &format, err));
    if (cli->json)
        format = LA_TABLE_JSON;
    options.curvature = (la_curvature)curvature;
    options.kron = (la_kron)kron;
    LA_TRY(la_output_check(cli->out, err));
    la_comparison comparison;
    LA_TRY(la_compare(&options, &comparison, err));
    la_cli_progress_end();
    la_status status = write_table(&comparison, (la_table_format)format, cli->out, err);
    free(comparison.rows);
    return status;
}

static int run(const la_cli *cli) {
    la_error err = {0};
    compare(cli, &err);
    return la_cli_exit(&err);
}

const la_command la_command_compare = {
    .name = "compare",
    .summary = "Laplace and its rivals on the same rows, in one table",
    .usage = "--base DIR --adapter DIR --calib FILE --test FILE [--val FILE] [OPTION]...",
    .options = "base base-quant adapter adapter-name calib test val ood methods curvature kron "
               "samples choices "
               "choice-ids "
               "template format out device threads precision seed max-length batch-tokens "
               "text-field pair-field label-field id-field labels json quiet verbose",
    .run = run,
};
