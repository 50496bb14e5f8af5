#include "base/memory.h"
#include "base/output_file.h"
#include "base/team_open.h"
#include "cli/cli.h"
#include "monitor/answers.h"
#include "monitor/martingale.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALPHA 0.01

static const char *const format_names[] = {"text", "json", "markdown"};

typedef struct drift_given {
    la_common common;
    const char *reference, *current, *out;
    la_number alpha;
    int64_t seed;
    int format;
    bool follow, json;
} drift_given;

static const la_option options[] = {
    LA_ROW(TEXT, drift_given, reference, "reference", .argument = "PREDICTIONS.jsonl",
           .help = "rows as they should be"),
    LA_ROW(TEXT, drift_given, current, "current", .argument = "PREDICTIONS.jsonl",
           .help = "rows that are compared with them; - is stdin"),
    LA_ROW(NUMBER, drift_given, alpha, "alpha", .argument = "A",
           .help = "probability of a false alarm, of all tests together (default 0.01)"),
    LA_ROW(FLAG, drift_given, follow, "follow",
           .help = "read current rows as they come; a line of JSON for each alarm, at the row that "
                   "raises it; --alpha is of the whole stream, however long"),
    LA_ROW(CHOICE, drift_given, format, "format", LA_NAMES(format_names),
           .help = "of the result (default text)"),
    LA_ROW(FLAG, drift_given, json, "json", .help = "as --format json"),
    LA_ROW(TEXT, drift_given, out, "out", .argument = "FILE",
           .help = "where the result goes; - is stdout (default)"),
    LA_ROW(INTEGER, drift_given, seed, "seed", .argument = "N", .max = INT64_MAX,
           .help = "of --follow: order of rows with equal values (default 0)"),
};

/* A prediction file while it is read. */
typedef struct drift_file {
    const char *path, *name;
    la_answers answers;
    la_drift_rows rows;
    size_t capacity;
    int64_t n;                      /* predictions */
    int64_t counts[LA_DRIFT_KINDS]; /* of those, the rows that have the values of each test */
    la_answer_form form;
    la_error err;
    /* of a stream: */
    const struct drift_file *reference;
    la_watch *watch;
    FILE *stream;
    int64_t n_alarms;
} drift_file;

/* The row that tests see; counted. */
static la_drift_row take_values(drift_file *file, const la_answer_values *answer) {
    static const la_score scores[LA_DRIFT_SCORES] = {[LA_DRIFT_CONFIDENCE] = LA_SCORE_CONFIDENCE,
                                                     [LA_DRIFT_ENTROPY] = LA_SCORE_ENTROPY,
                                                     [LA_DRIFT_MUTUAL_INFORMATION] =
                                                         LA_SCORE_MUTUAL_INFORMATION,
                                                     [LA_DRIFT_OOD] = LA_SCORE_OOD};
    bool number = answer->form == LA_ANSWER_NUMBER;
    la_drift_row row = {.labelled = answer->labelled, .right = answer->right};
    for (int s = 0; s < LA_DRIFT_SCORES; s++)
        row.scores[s] = answer->scores[scores[s]];
    if (number) {
        row.scores[LA_NUMBER_PREDICTION] = answer->mean;
        row.scores[LA_NUMBER_DEVIATION] = answer->deviation;
        row.scores[LA_NUMBER_MODEL_VARIANCE] = answer->model_variance;
        row.target = answer->target;
    } else {
        row.class = answer->class;
        row.label = answer->label;
    }
    unsigned mask = la_drift_values(number, &row);
    for (int k = 0; k < LA_DRIFT_KINDS; k++)
        file->counts[k] += mask >> k & 1;
    return row;
}

static const char *const form_names[] = {
    [LA_ANSWER_CLASS] = "class", [LA_ANSWER_SET] = "list", [LA_ANSWER_NUMBER] = "number"};

static la_status check_form(drift_file *file, const la_answer_values *answer, la_error *err) {
    if (file->n++ && file->form != answer->form)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: \"prediction\" is a %s in some rows and a %s in others, expected one "
                       "kind of rows",
                       file->name, form_names[file->form], form_names[answer->form]);
    file->form = answer->form;
    return LA_OK;
}

static la_status take(void *user, const la_answer_values *answer, la_error *err) {
    drift_file *file = user;
    la_drift_rows *rows = &file->rows;
    LA_TRY(check_form(file, answer, err));
    LA_TRY(la_grow(&rows->list, &file->capacity, (size_t)rows->n + 1, sizeof *rows->list, err));
    rows->list[rows->n++] = take_values(file, answer);
    return LA_OK;
}

/* Two files, or what has been read of them. */
static la_status check_pair(const drift_file *a, const drift_file *b, la_error *err) {
    long long n[2] = {a->answers.n_classes, b->answers.n_classes};
    if (n[0] && n[1] && n[0] != n[1])
        return la_fail(err, LA_BAD_INPUT,
                       "%s: rows of %lld classes, %s: rows of %lld; expected predictions of one "
                       "model",
                       a->name, n[0], b->name, n[1]);
    if (a->form != b->form)
        return la_fail(err, LA_BAD_INPUT,
                       "%s: \"prediction\" is a %s, %s: a %s; expected predictions of one model",
                       a->name, form_names[a->form], b->name, form_names[b->form]);
    return LA_OK;
}

static void open_file(drift_file *file, const char *path) {
    *file = (drift_file){.path = path, .name = strcmp(path, "-") ? path : "standard input"};
}

static void close_file(drift_file *file) {
    free(file->rows.list);
    la_answers_free(&file->answers);
    la_watch_free(file->watch);
}

/* Scores that some rows of a file have, and the others not. */
static void note_missing(const la_log *log, const drift_file *file) {
    for (int s = 0; s < LA_DRIFT_SCORES; s++)
        if (file->counts[s] && file->counts[s] < file->n)
            la_warn(log, "%s: %lld of %lld rows have no \"%s\": tests of it leave them out",
                    file->name, (long long)(file->n - file->counts[s]), (long long)file->n,
                    la_drift_name(file->form == LA_ANSWER_NUMBER, s));
}

static void note_origins(const la_common *common, const drift_file *a, const drift_file *b) {
    la_log log = la_cli_log(common);
    char seen[LA_SEEN_TEXT];
    note_missing(&log, a);
    note_missing(&log, b);
    if (*a->answers.model && *b->answers.model && strcmp(a->answers.model, b->answers.model))
        la_warn(&log, "%s and %s are of two models: what changed may be the model", a->name,
                b->name);
    la_seen_rows_show(&a->answers.seen, a->answers.n, seen);
    if (*seen)
        la_warn(&log,
                "%s: %s: the model may do better on them than on any others, which then looks like "
                "drift",
                a->name, seen);
}

/* ---- two files ---- */

/* Both at once, on two threads. */
static la_status read_pair(la_team team, drift_file files[2], la_error *err) {
#pragma omp parallel for num_threads(team.threads)
    for (int f = 0; f < 2; f++) {
        drift_file *file = &files[f];
        (void)la_answers_each(file->path, take, file, &file->answers, &file->err);
        file->rows.n_classes = file->answers.n_classes;
        file->rows.numbers = file->form == LA_ANSWER_NUMBER;
    }
    for (int f = 0; f < 2; f++)
        if (files[f].err.status != LA_OK) {
            *err = files[f].err;
            return err->status;
        }
    return check_pair(&files[0], &files[1], err);
}

static la_status compare(const drift_given *given, la_drift_format format, bool *alarm,
                         la_error *err) {
    drift_file files[2];
    la_output_file out;
    la_drift drift;
    la_team team;
    LA_TRY(la_team_open(0, false, NULL, &team, err));
    open_file(&files[0], given->reference);
    open_file(&files[1], given->current);
    la_status status = read_pair(team, files, err);
    if (status == LA_OK) {
        note_origins(&given->common, &files[0], &files[1]);
        status = la_drift_of(team, &files[0].rows, &files[1].rows,
                             given->alpha.given ? given->alpha.value : ALPHA, &drift, err);
    }
    if (status == LA_OK)
        status = la_output_open(&out, given->out, LA_OUTPUT_STREAM, err);
    if (status == LA_OK) {
        la_drift_write(&drift, format, out.stream);
        status = la_output_commit(&out, err);
        *alarm = drift.alarm;
    }
    close_file(&files[0]);
    close_file(&files[1]);
    return status;
}

/* ---- a stream ---- */

static la_status write_alarm(drift_file *file, unsigned alarms, double e_value, la_error *err) {
    const char *between = "";
    int64_t row = file->n + file->answers.n_errors;
    fprintf(file->stream, "{\"schema\":\"laplora.drift-alarm/1\",\"row\":%lld,\"tests\":[",
            (long long)row);
    for (int k = 0; k < LA_DRIFT_KINDS; k++)
        if (alarms >> k & 1) {
            fprintf(file->stream, "%s\"%s\"", between,
                    la_drift_name(file->form == LA_ANSWER_NUMBER, k));
            between = ",";
        }
    fprintf(file->stream, "],\"e_value\":%.6g}\n", e_value);
    file->n_alarms++;
    if (fflush(file->stream))
        return la_fail(err, LA_RESOURCE, "cannot write the alarm at row %lld: %s", (long long)row,
                       la_errno_text(errno));
    return LA_OK;
}

static la_status take_next(void *user, const la_answer_values *answer, la_error *err) {
    drift_file *file = user;
    double e_value;
    LA_TRY(check_form(file, answer, err));
    LA_TRY(check_pair(file->reference, file, err));
    la_drift_row row = take_values(file, answer);
    unsigned alarms = la_watch_row(file->watch, &row, &e_value);
    return alarms ? write_alarm(file, alarms, e_value, err) : LA_OK;
}

static la_status follow(const drift_given *given, bool *alarm, la_error *err) {
    drift_file reference, current;
    la_output_file out;
    open_file(&reference, given->reference);
    open_file(&current, given->current);
    la_status status = la_answers_each(reference.path, take, &reference, &reference.answers, err);
    if (status == LA_OK) {
        reference.rows.n_classes = reference.answers.n_classes;
        reference.rows.numbers = reference.form == LA_ANSWER_NUMBER;
        status = la_watch_open(&reference.rows, given->alpha.given ? given->alpha.value : ALPHA,
                               (uint64_t)given->seed, &current.watch, err);
    }
    if (status == LA_OK)
        status = la_output_open(&out, NULL, LA_OUTPUT_STREAM, err);
    if (status == LA_OK) {
        current.reference = &reference;
        current.stream = out.stream;
        status = la_answers_each(current.path, take_next, &current, &current.answers, err);
        if (status == LA_OK)
            note_origins(&given->common, &reference, &current);
        status = la_output_finish(&out, status, err);
        *alarm = current.n_alarms > 0;
    }
    close_file(&reference);
    close_file(&current);
    return status;
}

/* ---- the command ---- */

static la_status check(const drift_given *given, la_drift_format *format, la_error *err) {
    LA_TRY(la_cli_no_operands(&la_command_drift, &given->common, err));
    LA_TRY(la_cli_require("drift", "reference", given->reference, err));
    LA_TRY(la_cli_require("drift", "current", given->current, err));
    int asked;
    LA_TRY(la_cli_format(format_names, given->format, given->json, &asked, err));
    *format = (la_drift_format)asked;
    if (given->follow && given->format >= 0 && *format != LA_DRIFT_JSON)
        return la_fail(err, LA_USAGE, "--follow writes lines of JSON; leave out --format %s",
                       format_names[*format]);
    if (given->follow && given->out && strcmp(given->out, "-"))
        return la_fail(err, LA_USAGE,
                       "--follow writes alarms to standard output as they come; leave out --out %s",
                       given->out);
    if (given->alpha.given && given->alpha.value >= 1)
        return la_fail(err, LA_USAGE, "--alpha %g: expected a number between 0 and 1",
                       given->alpha.value);
    if (!strcmp(given->reference, "-") && !strcmp(given->current, "-"))
        return la_fail(err, LA_USAGE,
                       "--reference and --current are both standard input; give one as a file");
    LA_TRY(la_output_check(given->out, err));
    LA_TRY(la_output_apart(given->out, "reference", given->reference, err));
    return la_output_apart(given->out, "current", given->current, err);
}

static int run(const void *args) {
    const drift_given *given = args;
    la_error err = {0};
    la_drift_format format;
    bool alarm = false;
    la_status status = check(given, &format, &err);
    if (status == LA_OK)
        status = given->follow ? follow(given, &alarm, &err) : compare(given, format, &alarm, &err);
    return status == LA_OK && alarm ? LA_GATE : la_cli_exit(&err);
}

const la_command la_command_drift = {
    .name = "drift",
    .summary = "whether predictions differ from earlier ones, between files or in a stream",
    .usage = "--reference PREDICTIONS.jsonl --current PREDICTIONS.jsonl|- [OPTION]...",
    .groups = {LA_GROUP(options, 0), LA_GROUP(la_common_rows, offsetof(drift_given, common))},
    .size = sizeof(drift_given),
    .run = run,
};
