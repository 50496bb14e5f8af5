#include "cli/cli.h"
#include "likelihood/predictive.h"
#include "likelihood/shares.h"
#include "pipeline/predict.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* draws of logits; of networks, each of which runs all rows */
enum { SAMPLES = 1000, NETWORKS = 20 };

enum { EMIT_LOGITS = 1, EMIT_COV = 2, EMIT_OOD = 4 };
static const char *const emit_names[] = {"logits", "cov", "ood"};

typedef struct predict_given {
    la_common common;
    la_run_given run;
    const char *posterior, *data, *out, *base, *adapter, *id_field, *threshold, *keep, *shares;
    int predictive, format;
    uint64_t emit;
    int64_t samples, seed;
    bool flat, lines, skip_bad, json;
} predict_given;

static const la_option options[] = {
    {.name = "posterior",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(predict_given, posterior),
     .argument = "POSTERIOR.h5",
     .help = "posterior file written by fit"},
    {.name = "data",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(predict_given, data),
     .argument = "FILE",
     .help = "rows to answer: .jsonl, .csv, .tsv; - is JSONL on stdin"},
    {.name = "stdin",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(predict_given, lines),
     .help = "a line in, a line out, flushed; a line is text or a JSON row"},
    {.name = "out",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(predict_given, out),
     .argument = "FILE",
     .help = "where the rows go; - is stdout (default)"},
    {.name = "format",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(predict_given, format),
     LA_NAMES(la_row_format_names),
     .help = "of the rows; default: csv where --out ends so, else jsonl"},
    {.name = "base",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(predict_given, base),
     .argument = "DIR",
     .help = "folder of the base; default: where the posterior was fitted"},
    {.name = "adapter",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(predict_given, adapter),
     .argument = "DIR",
     .help = "folder of the adapter; default: where the posterior was fitted"},
    {.name = "predictive",
     .kind = LA_OPTION_CHOICE,
     .offset = offsetof(predict_given, predictive),
     LA_NAMES(la_predictive_names),
     .help = "default: what fit's guard chose. mc, probit, scalar, bridge: how logits and "
             "covariance become probabilities; weights samples networks; average, temperature, "
             "map"},
    {.name = "samples",
     .kind = LA_OPTION_INTEGER,
     .offset = offsetof(predict_given, samples),
     .argument = "N",
     .max = 100000000,
     .absent = -1,
     .help = "Monte Carlo draws (default 1000; networks of weights: 20); 0 is the closed form "
             "(probit)"},
    {.name = "seed",
     .kind = LA_OPTION_INTEGER,
     .offset = offsetof(predict_given, seed),
     .argument = "N",
     .max = INT64_MAX,
     .absent = -1,
     .help = "of the draws (default 0)"},
    {.name = "id-field",
     .kind = LA_OPTION_TEXT,
     .offset = offsetof(predict_given, id_field),
     .argument = "NAME",
     .help = "field with the id"},
    {.name = "emit",
     .kind = LA_OPTION_LIST,
     .offset = offsetof(predict_given, emit),
     LA_NAMES(emit_names),
     .help = "also write the MAP logits, the logit covariance, the share of reference rows that "
             "lie nearer to the calibration rows (after fit --ood)"},
    LA_ROW(TEXT, predict_given, threshold, "threshold", .argument = "FILE",
           .help = "of laplora threshold: each row says whether its answer may be accepted"),
    LA_ROW(TEXT, predict_given, keep, "keep", .argument = "NAME,..",
           .help = "fields of the input that the rows carry; \"\\,\" is a comma within a name"),
    LA_ROW(TEXT, predict_given, shares, "class-shares", .argument = "P,P,..|auto",
           .help = "of the rows, in class order, where they are not those of the calibration rows; "
                   "auto estimates them from all rows"),
    {.name = "flat",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(predict_given, flat),
     .help = "a line for every classified token instead of one for every row"},
    {.name = "skip-bad",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(predict_given, skip_bad),
     .help = "a bad row becomes {\"index\":..,\"error\":\"..\"} instead of an end"},
    {.name = "json",
     .kind = LA_OPTION_FLAG,
     .offset = offsetof(predict_given, json),
     .help = "with --out FILE: a summary as JSON on stdout"},
};

static void print_numbers(const char *name, int64_t n, const double *values) {
    printf(",\"%s\":[", name);
    for (int64_t c = 0; c < n; c++)
        printf(isfinite(values[c]) ? "%s%.10g" : "%snull", c ? "," : "", values[c]);
    printf("]");
}

static void print_summary(const la_predict_summary *s) {
    printf("{\"schema\":\"laplora.predict/1\",\"n_rows\":%lld,\"n_errors\":%lld,"
           "\"n_truncated\":%lld",
           (long long)s->n_rows, (long long)s->n_bad, (long long)s->n_truncated);
    if (s->n_accepted >= 0)
        printf(",\"n_accepted\":%lld,\"n_review\":%lld", (long long)s->n_accepted,
               (long long)s->n_review);
    if (s->shares.is_set) {
        print_numbers("class_shares", s->shares.n_classes, s->shares.shares);
        print_numbers("training_shares", s->shares.n_classes, s->shares.training);
    }
    if (s->shares.is_estimate)
        print_numbers("class_share_errors", s->shares.n_classes, s->shares.errors);
    printf(",\"cost\":\"%s\"", s->forward ? "forward" : "any");
    printf(",\"seconds\":{\"load\":%.6f,\"rows\":%.6f}}\n", s->seconds_load, s->seconds_rows);
}

static la_status predict(const predict_given *given, double **shares, la_error *err) {
    bool to_file = given->out && strcmp(given->out, "-"), quiet = given->common.quiet;
    la_predict_job job = {.options = {.run = la_cli_run_options(&given->common, &given->run),
                                      .posterior = given->posterior,
                                      .base = given->base,
                                      .adapter = given->adapter,
                                      .samples = given->samples,
                                      .seed = given->seed < 0 ? 0 : (uint64_t)given->seed},
                          .data = given->lines ? "-" : given->data,
                          .out = given->out,
                          .format = given->format < 0 ? NULL : la_row_formats[given->format],
                          .emit_logits = given->emit & EMIT_LOGITS,
                          .emit_cov = given->emit & EMIT_COV,
                          .emit_ood = given->emit & EMIT_OOD,
                          .threshold = given->threshold,
                          .keep = given->keep,
                          .skip_bad = given->skip_bad,
                          .flat = given->flat,
                          .lines = given->lines,
                          .samples_given = given->samples >= 0,
                          .seed_given = given->seed >= 0};
    la_predict_summary summary;
    job.options.run.id_field = given->id_field;
    LA_TRY(la_cli_no_operands(&la_command_predict, &given->common, err));
    LA_TRY(la_cli_require("predict", "posterior", given->posterior, err));
    if (given->lines && given->data && strcmp(given->data, "-"))
        return la_fail(err, LA_USAGE, "predict takes --data or --stdin, not both");
    LA_TRY(la_cli_require("predict", "data", job.data, err));
    LA_TRY(la_cli_check_run(&given->common, &given->run, err));
    if (given->predictive >= 0)
        job.options.predictive = la_predictive_names[given->predictive];
    job.estimate_shares = given->shares && !strcmp(given->shares, "auto");
    if (job.estimate_shares && given->lines)
        return la_fail(err, LA_USAGE,
                       "--class-shares auto needs all rows before it answers one, and --stdin "
                       "answers each as it comes; give --data, or the shares");
    if (given->shares && !job.estimate_shares) {
        LA_TRY(la_class_shares_parse("--class-shares", given->shares, shares,
                                     &job.options.n_class_shares, err));
        job.options.class_shares = *shares;
    }
    const la_predictive_kind *kind =
        given->predictive >= 0 ? la_class_predictives[given->predictive] : NULL;
    if (given->samples < 0)
        job.options.samples = kind && kind->networks ? NETWORKS : SAMPLES;
    LA_TRY(la_cli_join(&job.options.run, &job.ranks, err));
    if (job.ranks.size > 1 && !strcmp(job.data, "-"))
        return la_fail(err, LA_USAGE,
                       "%s: standard input has rows for one process, not for %d; give --data FILE",
                       given->lines ? "--stdin" : "--data -", job.ranks.size);
    if (given->json && !to_file && !job.ranks.rank)
        la_warn(&job.options.run.log,
                "--json: the rows go to standard output%s; the summary needs --out FILE",
                job.format == &la_row_format_csv ? "" : ", and are JSON");
    LA_TRY(la_predict_file(&job, &summary, err));
    la_cli_progress_end();
    if (job.ranks.rank)
        return LA_OK;
    double seconds = summary.seconds_rows > 0 ? summary.seconds_rows : 1;
    if (given->json && to_file)
        print_summary(&summary);
    la_class_shares_free(&summary.shares);
    if (!quiet && !given->lines)
        fprintf(stderr, "%lld rows%s%s in %.2f s (%.0f rows/s), after %.2f s of loading\n",
                (long long)summary.n_rows, summary.n_bad ? " (and bad ones)" : "",
                summary.forward ? ", forward passes alone," : "", summary.seconds_rows,
                (double)summary.n_rows / seconds, summary.seconds_load);
    if (!quiet && !given->lines && summary.n_accepted >= 0)
        fprintf(stderr, "%lld answers accepted, %lld to be reviewed\n",
                (long long)summary.n_accepted, (long long)summary.n_review);
    if (!quiet && summary.n_bad)
        fprintf(stderr, "laplora: note: %lld rows could not be used\n", (long long)summary.n_bad);
    return LA_OK;
}

static int run(const void *given) {
    la_error err = {0};
    double *shares = NULL;
    (void)predict(given, &shares, &err);
    free(shares);
    return la_cli_leave(&err);
}

const la_command la_command_predict = {
    .name = "predict",
    .summary = "answers with confidence from a posterior",
    .usage = "--posterior POSTERIOR.h5 --data FILE [--out FILE.jsonl] [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_RUN_GROUPS(predict_given)},
    .size = sizeof(predict_given),
    .run = run,
};
