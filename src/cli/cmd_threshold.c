#include "base/output_file.h"
#include "cli/cli.h"
#include "monitor/threshold.h"

#include <string.h>

#define DELTA 0.05
#define OOD_LIMIT 0.99

/* Scores that the option names: those of rows, then a pair of them. */
static const char *const score_names[] = {"confidence", "entropy", "mutual_information",
                                          "adue",       "ood",     "confidence+ood"};
enum { PAIR = LA_SCORES };

typedef struct threshold_given {
    la_common common;
    la_number target_error, delta, cost_error, cost_review, ood_limit, min_coverage;
    const char *out;
    int score;
    bool by_class, json;
} threshold_given;

static const la_option options[] = {
    LA_ROW(NUMBER, threshold_given, target_error, "target-error", .argument = "E",
           .help = "largest error rate of accepted answers that is promised, below 1"),
    LA_ROW(NUMBER, threshold_given, delta, "delta", .argument = "D",
           .help = "probability that the promise is broken (default 0.05)"),
    LA_ROW(NUMBER, threshold_given, cost_error, "cost-error", .argument = "X",
           .help = "instead: the cheapest threshold, where an accepted error costs X"),
    LA_ROW(NUMBER, threshold_given, cost_review, "cost-review", .argument = "Y",
           .help = "and an answer that is reviewed Y"),
    LA_ROW(CHOICE, threshold_given, score, "score", LA_NAMES(score_names),
           .help = "field that decides (default confidence); confidence+ood: rows beyond "
                   "--ood-limit are reviewed, the confidence decides on the others"),
    LA_ROW(NUMBER, threshold_given, ood_limit, "ood-limit", .argument = "X",
           .help = "largest ood that is accepted at all (default 0.99)"),
    LA_ROW(FLAG, threshold_given, by_class, "by-class",
           .help = "a threshold for each predicted class; the promise is of all of them at once"),
    LA_ROW(NUMBER, threshold_given, min_coverage, "min-coverage", .argument = "X",
           .help = "gate: fail (exit 1) when a smaller share of the rows is accepted"),
    LA_ROW(TEXT, threshold_given, out, "out", .argument = "FILE",
           .help = "where the threshold goes, as JSON for predict --threshold; - is stdout"),
    LA_ROW(FLAG, threshold_given, json, "json", .help = "JSON on stdout instead of text"),
};

static la_status check_share(const char *option, const la_number *number, la_error *err) {
    if (number->given && number->value >= 1)
        return la_fail(err, LA_USAGE, "--%s %g: expected a number between 0 and 1", option,
                       number->value);
    return LA_OK;
}

static la_status check(const threshold_given *given, la_error *err) {
    bool by_cost = given->cost_error.given || given->cost_review.given;
    if (given->common.n_operands != 1)
        return la_fail(err, LA_USAGE,
                       "threshold takes one prediction file; see laplora threshold --help");
    if (by_cost == given->target_error.given)
        return la_fail(err, LA_USAGE,
                       "threshold needs --target-error, or else --cost-error and --cost-review; "
                       "see laplora threshold --help");
    if (by_cost && !(given->cost_error.given && given->cost_review.given))
        return la_fail(err, LA_USAGE, "threshold: --cost-error and --cost-review go together");
    if (by_cost && (given->by_class || given->delta.given))
        return la_fail(err, LA_USAGE, "threshold: --%s is of --target-error",
                       given->by_class ? "by-class" : "delta");
    if (given->ood_limit.given && given->score != PAIR)
        return la_fail(err, LA_USAGE, "threshold: --ood-limit is of --score confidence+ood");
    LA_TRY(check_share("target-error", &given->target_error, err));
    LA_TRY(check_share("delta", &given->delta, err));
    if (given->min_coverage.given && given->min_coverage.value > 1)
        return la_fail(err, LA_USAGE, "--min-coverage %g: expected a share, at most 1",
                       given->min_coverage.value);
    LA_TRY(la_output_check(given->out, err));
    return la_output_apart(given->out, "the predictions", given->common.operands[0], err);
}

static la_status write_out(const char *path, bool json, const la_threshold *threshold,
                           const la_answers *answers, la_error *err) {
    la_output_file file;
    LA_TRY(la_output_open(&file, path, LA_OUTPUT_STREAM, err));
    (json ? la_threshold_json : la_threshold_text)(threshold, answers, file.stream);
    return la_output_commit(&file, err);
}

static la_status find(const threshold_given *given, double *coverage, la_error *err) {
    bool pair = given->score == PAIR, to_file = given->out && strcmp(given->out, "-");
    la_threshold threshold;
    la_answers answers;
    LA_TRY(check(given, err));
    la_threshold_options job = {
        .score = pair || given->score < 0 ? LA_SCORE_CONFIDENCE : (la_score)given->score,
        .limited = pair ? LA_SCORE_OOD : LA_SCORE_NONE,
        .limit = given->ood_limit.given ? given->ood_limit.value : OOD_LIMIT,
        .by_cost = given->cost_error.given,
        .target_error = given->target_error.value,
        .delta = given->delta.given ? given->delta.value : DELTA,
        .costs = {given->cost_error.value, given->cost_review.value},
        .by_class = given->by_class};
    LA_TRY(la_answers_read(given->common.operands[0], job.score, job.limited, &answers, err));
    la_status status = la_threshold_of(&job, &answers, &threshold, err);
    if (status == LA_OK && to_file)
        status = write_out(given->out, true, &threshold, &answers, err);
    if (status == LA_OK && !(to_file && given->common.quiet && !given->json))
        status =
            write_out(NULL, given->json || (given->out && !to_file), &threshold, &answers, err);
    if (status == LA_OK) {
        la_log log = la_cli_log(&given->common);
        for (int w = 0; w < threshold.n_warnings && (given->json || given->out); w++)
            la_warn(&log, "%s", threshold.warnings[w]);
        *coverage = la_threshold_coverage(&threshold);
        la_threshold_free(&threshold);
    }
    la_answers_free(&answers);
    return status;
}

static int run(const void *args) {
    const threshold_given *given = args;
    la_error err = {0};
    double coverage = 0;
    la_status status = find(given, &coverage, &err);
    if (status != LA_OK || !given->min_coverage.given || coverage >= given->min_coverage.value)
        return la_cli_exit(&err);
    if (!given->common.quiet)
        fprintf(stderr, "laplora: note: coverage %.4g is below --min-coverage %g\n", coverage,
                given->min_coverage.value);
    return LA_GATE;
}

const la_command la_command_threshold = {
    .name = "threshold",
    .summary = "confidence from which on answers may go without review",
    .usage =
        "PREDICTIONS.jsonl --target-error E [--delta D] [OPTION]...\n"
        "       laplora threshold PREDICTIONS.jsonl --cost-error X --cost-review Y [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_common_rows, offsetof(threshold_given, common))},
    .size = sizeof(threshold_given),
    .run = run,
};
