#include "cli/cli.h"
#include "pipeline/predict.h"

#include <jansson.h>
#include <string.h>

/* draws of logits; of networks, each of which runs all rows */
enum { SAMPLES = 1000, NETWORKS = 20 };

static const char *const predictive_names[] = {"mc",     "probit",      "bridge",  "map",
                                               "scalar", "temperature", "weights", "average"};

static la_status read_emit(const char *list, la_predict_job *job, la_error *err) {
    while (list && *list) {
        size_t length = strcspn(list, ",");
        if (length == 6 && !strncmp(list, "logits", 6))
            job->emit_logits = true;
        else if (length == 3 && !strncmp(list, "cov", 3))
            job->emit_cov = true;
        else
            return la_fail(err, LA_USAGE, "--emit \"%.*s\": expected logits, cov", (int)length,
                           list);
        list += length + (list[length] == ',');
    }
    return LA_OK;
}

static la_status predict(const la_cli *cli, la_error *err) {
    la_predict_job job = {.options = {.run = la_cli_run_options(cli),
                                      .posterior = cli->posterior,
                                      .base = cli->base,
                                      .adapter = cli->adapter,
                                      .samples = cli->samples,
                                      .seed = (uint64_t)cli->seed},
                          .data = cli->use_stdin ? "-" : cli->data,
                          .out = cli->out,
                          .skip_bad = cli->skip_bad,
                          .flat = cli->flat,
                          .lines = cli->use_stdin};
    la_predict_summary summary;
    int predictive;
    LA_TRY(la_cli_no_operands(&la_command_predict, cli, err));
    LA_TRY(la_cli_require("predict", "posterior", cli->posterior, err));
    if (cli->use_stdin && cli->data && strcmp(cli->data, "-"))
        return la_fail(err, LA_USAGE, "predict takes --data or --stdin, not both");
    LA_TRY(la_cli_require("predict", "data", job.data, err));
    LA_TRY(la_cli_choice("predictive", cli->predictive, predictive_names,
                         sizeof predictive_names / sizeof *predictive_names, &predictive, err));
    LA_TRY(read_emit(cli->emit, &job, err));
    job.options.predictive = cli->predictive ? (la_predictive)predictive : LA_PREDICT_STORED;
    if (cli->samples < 0)
        job.options.samples = job.options.predictive == LA_PREDICT_WEIGHTS ? NETWORKS : SAMPLES;
    LA_TRY(la_predict_file(&job, &summary, err));
    la_cli_progress_end();
    bool to_file = cli->out && strcmp(cli->out, "-");
    double seconds = summary.seconds_rows > 0 ? summary.seconds_rows : 1;
    if (cli->json && to_file)
        printf("{\"schema\":\"laplora.predict/1\",\"n_rows\":%lld,\"n_errors\":%lld,"
               "\"n_truncated\":%lld,\"seconds\":{\"load\":%.6f,\"rows\":%.6f}}\n",
               (long long)summary.n_rows, (long long)summary.n_bad, (long long)summary.n_truncated,
               summary.seconds_load, summary.seconds_rows);
    if (!cli->quiet && !cli->use_stdin)
        fprintf(stderr, "%lld rows%s in %.2f s (%.0f rows/s), after %.2f s of loading\n",
                (long long)summary.n_rows, summary.n_bad ? " (and bad ones)" : "",
                summary.seconds_rows, (double)summary.n_rows / seconds, summary.seconds_load);
    if (!cli->quiet && summary.n_bad)
        fprintf(stderr, "laplora: note: %lld rows could not be used\n", (long long)summary.n_bad);
    return LA_OK;
}

static int run(const la_cli *cli) {
    la_error err = {0};
    predict(cli, &err);
    return la_cli_exit(&err);
}

const la_command la_command_predict = {
    .name = "predict",
    .summary = "answers with confidence from a posterior",
    .usage = "--posterior POSTERIOR.h5 --data FILE [--out FILE.jsonl] [OPTION]...",
    .options = "posterior data out base base-quant adapter adapter-name samples predictive emit "
               "flat stdin skip-bad device "
               "threads precision seed max-length batch-tokens text-field pair-field label-field "
               "id-field labels json quiet verbose",
    .run = run,
};
