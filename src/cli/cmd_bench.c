#include "base/output_file.h"
#include "cli/cli.h"
#include "pipeline/bench.h"

#include <string.h>

enum { SAMPLES = 1000, REPEATS = 5, ROWS = 2000 };

typedef struct bench_given {
    la_common common;
    la_run_given run;
    const char *posterior, *data, *base, *adapter, *against, *out;
    int64_t samples, repeats, rows;
    bool json;
} bench_given;

static const la_option options[] = {
    LA_ROW(TEXT, bench_given, posterior, "posterior", .argument = "POSTERIOR.h5",
           .help = "posterior file written by fit"),
    LA_ROW(TEXT, bench_given, data, "data", .argument = "FILE",
           .help = "rows to time: .jsonl, .csv, .tsv; - is JSONL on stdin"),
    LA_ROW(TEXT, bench_given, against, "against", .argument = "OLD.json",
           .help = "what --json or --out wrote at another commit or on another machine: also the "
                   "ratios, new over old"),
    LA_ROW(INTEGER, bench_given, repeats, "repeats", .argument = "N", .min = 1,
           .max = LA_PASSES_MOST, .absent = REPEATS,
           .help = "timed passes over the rows, of which medians are taken (default 5)"),
    LA_ROW(INTEGER, bench_given, rows, "rows", .argument = "N", .min = 1, .max = INT64_MAX,
           .absent = ROWS, .help = "the first N rows are run (default 2000)"),
    LA_ROW(INTEGER, bench_given, samples, "samples", .argument = "N", .max = 100000000,
           .absent = SAMPLES, .help = "Monte Carlo draws of predict (default 1000)"),
    LA_ROW(TEXT, bench_given, base, "base", .argument = "DIR",
           .help = "folder of the base; default: where the posterior was fitted"),
    LA_ROW(TEXT, bench_given, adapter, "adapter", .argument = "DIR",
           .help = "folder of the adapter; default: where the posterior was fitted"),
    LA_ROW(TEXT, bench_given, out, "out", .argument = "FILE",
           .help = "where the measurement goes as JSON; - is stdout"),
    LA_ROW(FLAG, bench_given, json, "json", .help = "JSON on stdout in place of text"),
};

static la_status check(const bench_given *given, la_error *err) {
    LA_TRY(la_cli_no_operands(&la_command_bench, &given->common, err));
    LA_TRY(la_cli_require("bench", "posterior", given->posterior, err));
    LA_TRY(la_cli_require("bench", "data", given->data, err));
    LA_TRY(la_cli_check_run(&given->common, &given->run, err));
    if (given->run.label_field)
        return la_fail(err, LA_USAGE, "--label-field: bench reads no labels; leave it out");
    LA_TRY(la_output_check(given->out, err));
    LA_TRY(la_output_apart(given->out, "--data", given->data, err));
    LA_TRY(la_output_apart(given->out, "--against", given->against, err));
    return la_output_apart(given->out, "--posterior", given->posterior, err);
}

static la_status write_out(const bench_given *given, const char *path, bool json,
                           const la_measurement *m, const la_measured_before *before,
                           la_error *err) {
    la_output_file out;
    LA_TRY(la_output_open(&out, path, LA_OUTPUT_STREAM, err));
    return la_output_finish(
        &out, la_measurement_write(m, before, json, given->run.verbose, out.stream, err), err);
}

static la_status write_all(const bench_given *given, const la_measurement *m,
                           const la_measured_before *before, la_error *err) {
    bool to_file = given->out && strcmp(given->out, "-");
    if (to_file)
        LA_TRY(write_out(given, given->out, true, m, before, err));
    if (to_file && given->common.quiet && !given->json)
        return LA_OK;
    return write_out(given, NULL, given->json || (given->out && !to_file), m, before, err);
}

static la_status bench(const bench_given *given, la_error *err) {
    la_bench_job job = {.options = {.run = la_cli_run_options(&given->common, &given->run),
                                    .posterior = given->posterior,
                                    .base = given->base,
                                    .adapter = given->adapter,
                                    .samples = given->samples},
                        .data = given->data,
                        .repeats = (int)given->repeats,
                        .rows = given->rows};
    la_measured_before *before = NULL;
    la_measurement m;
    LA_TRY(check(given, err));
    /* what cannot be compared with is told before anything is measured */
    if (given->against)
        LA_TRY(la_measured_before_load(given->against, &before, err));
    la_status status = la_bench(&job, &m, err);
    la_cli_progress_end();
    if (status == LA_OK)
        status = write_all(given, &m, before, err);
    la_bench_free(&m);
    la_measured_before_free(before);
    return status;
}

static int run(const void *given) {
    la_error err = {0};
    (void)bench(given, &err);
    return la_cli_exit(&err);
}

const la_command la_command_bench = {
    .name = "bench",
    .summary = "how fast a posterior answers rows here: rate, time by operation, memory",
    .usage = "--posterior POSTERIOR.h5 --data FILE [--against OLD.json] [--out FILE] [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_RUN_GROUPS(bench_given)},
    .size = sizeof(bench_given),
    .run = run,
};
