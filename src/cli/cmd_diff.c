#include "base/output_file.h"
#include "cli/cli.h"
#include "pipeline/diff.h"

#include <string.h>

typedef struct diff_given {
    la_common common;
    const char *predictions[2], *out;
    int format;
    bool json, exit_code;
} diff_given;

static const la_option options[] = {
    LA_ROW(PAIR, diff_given, predictions, "predictions", .argument = "PA PB",
           .help = "prediction files of the two, of the same rows: which answers flip"),
    LA_ROW(CHOICE, diff_given, format, "format", LA_NAMES(la_difference_formats),
           .help = "of the differences (default text)"),
    LA_ROW(FLAG, diff_given, json, "json", .help = "as --format json"),
    LA_ROW(FLAG, diff_given, exit_code, "exit-code", .help = "exit 1 where the two differ"),
    LA_ROW(TEXT, diff_given, out, "out", .argument = "FILE",
           .help = "where the differences go; - is stdout (default)"),
};

static la_status check(const diff_given *given, int *format, la_error *err) {
    const char *const *operands = given->common.operands;
    if (given->common.n_operands != 2)
        return la_fail(err, LA_USAGE,
                       "diff takes two adapters or two posteriors; see laplora diff --help");
    LA_TRY(la_cli_format(la_difference_formats, given->format, given->json, format, err));
    LA_TRY(la_output_check(given->out, err));
    for (int i = 0; i < 2; i++) {
        LA_TRY(la_output_apart(given->out, "a file of an operand", operands[i], err));
        LA_TRY(la_output_apart(given->out, "--predictions", given->predictions[i], err));
    }
    return LA_OK;
}

static la_status write_out(const la_difference *d, int format, const char *path, la_error *err) {
    la_output_file file;
    LA_TRY(la_output_open(&file, path, LA_OUTPUT_STREAM, err));
    return la_output_finish(&file, la_difference_write(d, format, file.stream, err), err);
}

static la_status compare(const diff_given *given, bool *same, la_error *err) {
    la_log log = la_cli_log(&given->common);
    la_difference difference;
    int format = 0;
    LA_TRY(check(given, &format, err));
    la_diff_options job = {.a = given->common.operands[0],
                           .b = given->common.operands[1],
                           .answers = {given->predictions[0], given->predictions[1]},
                           .log = &log};
    LA_TRY(la_diff(&job, &difference, err));
    *same = difference.same;
    la_status status = write_out(&difference, format, given->out, err);
    la_difference_free(&difference);
    return status;
}

static int run(const void *args) {
    const diff_given *given = args;
    la_error err = {0};
    bool same = true;
    la_status status = compare(given, &same, &err);
    return status == LA_OK && given->exit_code && !same ? LA_GATE : la_cli_exit(&err);
}

const la_command la_command_diff = {
    .name = "diff",
    .summary = "what differs between two adapters or two posteriors, and in their answers",
    .usage = "A B [--predictions PA PB] [--exit-code] [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_common_rows, offsetof(diff_given, common))},
    .size = sizeof(diff_given),
    .run = run,
};
